# SPDX-License-Identifier: Apache-2.0
"""Turns dot products with explicit addends into operations of an accumulator."""

from __future__ import annotations

import numpy as np

from fpsim.vectors.plans.brought_addends import Brought
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Op, Record

__all__ = ["begun"]


def begun(record: Record, columns: Columns, ways: Brought | None = None) -> Columns:
    """Return vectors whose sums begin with a load, or with a clear and products.

    Args:
        record: the vectors' record.
        columns: vectors without results, the first of which does not accumulate.
        ways: None: a dot product becomes a load of its addend and a mac. Else a dot product becomes
            a clear, macs that bring its addend, and a mac; a load a clear and such macs. Vectors
            onto an addend to which there is no way, and all that accumulate onto them, are left
            out.

    Returns:
        The columns of the new vectors; a load or clear has zero operands, a mac has ``c`` = 0.
    """
    if ways is not None:
        columns = _within_reach(columns, ways)
    op, c = columns["op"], columns["c"]
    dots, brings = op == Op.DOT, np.zeros(op.size, dtype=np.int64)
    begins = dots
    if ways is not None:
        begins = dots | (op == Op.LOAD)
        brings[begins] = ways.lengths(c[begins])
    rows = np.repeat(np.arange(op.size), 1 + dots + brings)
    turn = np.arange(rows.size) - np.searchsorted(rows, rows)
    first, bring = begins[rows] & (turn == 0), (turn > 0) & (turn <= brings[rows])
    out = {name: column[rows] for name, column in columns.items()}
    begin = Op.LOAD if ways is None else Op.CLEAR
    out["op"] = np.where(first, begin, np.where(turn > 0, Op.MAC, out["op"])).astype(op.dtype)
    out["c"][dots[rows] & ~first if ways is None else slice(None)] = 0
    for name, code in neutral_codes(record).items():
        if name in out:
            out[name][first] = code
    if ways is not None:
        for name, codes in ways.taken(c[rows][bring], turn[bring] - 1).items():
            out[name][bring] = codes
    return out


def neutral_codes(record: Record) -> dict[str, int]:
    """Return a code for each operand field that changes no sum: zeros, and scales of one."""
    palette = Palette(record)
    codes = {operand: palette.zero(operand) for operand in "ab"}
    if record.group:
        codes |= {f"{operand}_scale": palette.one(operand) for operand in "ab"}
    return codes | {"random": 0}


def _within_reach(columns: Columns, ways: Brought) -> Columns:
    """Return the vectors whose sums start from +0 or an addend that +0 can be brought to."""
    op, c, index = columns["op"], columns["c"], np.arange(columns["op"].size)
    alone = (op != Op.MAC) & (op != Op.IDLE)
    lost = ((op == Op.LOAD) | (op == Op.DOT)) & (c != 0) & (ways.lengths(c) == 0)
    origin = np.maximum.accumulate(np.where(alone, index, 0)) if op.size else index
    keep = ~lost[origin]
    return {name: column[keep] for name, column in columns.items()}
