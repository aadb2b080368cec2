# SPDX-License-Identifier: Apache-2.0
"""Turns dot products with explicit addends into operations of an accumulator."""

from __future__ import annotations

import numpy as np

from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Op, Record

__all__ = ["begun"]


def begun(record: Record, columns: Columns, start: str) -> Columns:
    """Return vectors whose sums begin with a load or a clear.

    Args:
        record: the vectors' record.
        columns: vectors without results, the first of which does not accumulate.
        start: ``load``: a dot product becomes a load of its addend and a mac. ``clear``: a dot
            product onto +0 becomes a clear and a mac; other dot products, loads, and all vectors
            that accumulate onto these, are left out.

    Returns:
        The columns of the new vectors; a load or clear has zero operands, a mac has ``c`` = 0.
    """
    if start == "clear":
        columns = _from_zero(columns)
    op = columns["op"]
    dots = op == Op.DOT
    rows = np.repeat(np.arange(op.size), 1 + dots)
    first = np.concatenate([[True], rows[1:] != rows[:-1]])[: rows.size] & dots[rows]
    out = {name: column[rows] for name, column in columns.items()}
    begin = Op.LOAD if start == "load" else Op.CLEAR
    out["op"] = np.where(first, begin, np.where(dots[rows], Op.MAC, out["op"])).astype(op.dtype)
    out["c"][dots[rows] & ~first] = 0
    neutral = neutral_codes(record)
    for name in out.keys() & neutral.keys():
        out[name][first] = neutral[name]
    return out


def neutral_codes(record: Record) -> dict[str, int]:
    """Return a code for each operand field that changes no sum: zeros, and scales of one."""
    palette = Palette(record)
    codes = {operand: palette.zero(operand) for operand in "ab"}
    if record.group:
        codes |= {f"{operand}_scale": palette.one(operand) for operand in "ab"}
    return codes | {"random": 0}


def _from_zero(columns: Columns) -> Columns:
    """Return the vectors whose sums start from +0, without loads and vectors that follow them."""
    op, index = columns["op"], np.arange(columns["op"].size)
    alone = (op != Op.MAC) & (op != Op.IDLE)
    given = (op == Op.LOAD) | ((op == Op.DOT) & (columns["c"] != 0))
    origin = np.maximum.accumulate(np.where(alone, index, 0)) if op.size else index
    keep = ~given[origin]
    out = {name: column[keep] for name, column in columns.items()}
    out["c"] = np.zeros_like(out["c"])
    return out
