# SPDX-License-Identifier: Apache-2.0
"""Status flags of vectors: a field of its own, from the exact model.

The five bits have TestFloat's order (`fpsim.formats.rounding.Flag`): inexact 1, underflow 2,
overflow 4, infinite 8, invalid 16. A vector's flags are the OR over every rounding, alignment cut,
register and exact operation on the way to its result, as in a status register that is cleared
before each vector and that every operation can only set: that is what a datapath's status logic
gives without knowing which rounding is the last, and a bit lost early stays visible. What they mean
by stage:

    chain, tree, exact   every rounding of a sum (and of a product, where those are rounded)
    fixed                INEXACT: a product off the grid; OVERFLOW: a sum that wraps or saturates
                         (where the unit does that: at every add, or at the end); the conversion
    aligned              INEXACT: a term cut at the window or a rounded sum; OVERFLOW also of the
                         window's register and of products beyond their limit
    chunked, block       everything inside and outside; a block's exact sum raises nothing
    all                  INVALID: infinity - infinity, 0 * infinity, NaN or infinity made a number

NaN operands and scales are quiet. INFINITE is never set. Vectors without a dot product (idle,
clear, load) have no flags.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.rounding import Flag
from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.stream import Op, signed_exponents

__all__ = ["FLAG_CODES", "FLAG_TEXT", "clock_flags", "dot_flags", "flag_names"]

FLAG_CODES = {flag.name.lower(): int(flag) for flag in Flag if flag.name}
FLAG_TEXT = (
    "flags: " + ", ".join(f"{code} {name}" for name, code in FLAG_CODES.items()) + "; OR over "
    "every rounding and cut on the way to acc, 0 where op is neither mac nor dot"
)


def flag_names(flags: int) -> str:
    """Return the names of the flags that are set, or ``none``."""
    return ", ".join(name for name, code in FLAG_CODES.items() if flags & code) or "none"


def dot_flags(
    shape: Any, columns: dict[str, NDArray[Any]], acc: NDArray[Any], start: int = 0
) -> NDArray[np.uint8]:
    """Return the flags of every vector, whose results are ``acc``; the first finds ``start``.

    Raises:
        FpsimError: the exact model has another result, which would be an error of a kernel.
    """
    op = columns["op"]
    rows = np.flatnonzero((op == Op.DOT) | (op == Op.MAC))
    flags = np.zeros(op.size, dtype=np.uint8)
    if not rows.size:
        return flags
    part = {name: column[rows] for name, column in columns.items()}
    addends = columns["c"][rows]
    if shape.feeds_back:
        before = np.concatenate([np.array([start], dtype=acc.dtype), acc[:-1]])
        addends = np.where(op[rows] == Op.MAC, before[rows], addends)
    codes, flags[rows] = oracle.dot_with_flags(
        shape.spec, part["a"], part["b"], addends, **shape.options(part)
    )
    _agree(shape.spec, rows, codes, acc[rows])
    return flags


def clock_flags(
    spec: MacSpec, columns: dict[str, NDArray[Any]], acc: NDArray[Any], start: int = 0
) -> NDArray[np.uint64]:
    """Return the flags of every vector of a stream of single products; as `dot_flags`."""
    flags = np.zeros(acc.size, dtype=np.uint64)
    before = np.concatenate([np.array([start], dtype=np.uint64), acc[:-1]])
    rows = np.flatnonzero(columns["op"] == Op.MAC)
    codes = np.zeros(rows.size, dtype=np.uint64)
    exponents = signed_exponents(columns["exp"]) if "exp" in columns else np.zeros(acc.size, int)
    for i, row in enumerate(rows.tolist()):
        operands = (int(columns["a"][row]), int(columns["b"][row]), int(before[row]))
        random = [int(columns["random"][row])] if spec.random_bits else []
        codes[i], flags[row] = oracle.step_with_flags(spec, *operands, int(exponents[row]), random)
    _agree(spec, rows, codes, acc[rows])
    return flags


def _agree(spec: MacSpec, rows: NDArray[np.int64], codes: NDArray[Any], acc: NDArray[Any]) -> None:
    """Compare the exact model's results with the kernels'."""
    wrong = np.flatnonzero(codes != acc)
    if wrong.size:
        i = int(wrong[0])
        raise FpsimError(
            f"flags: vector {int(rows[i])} has acc {int(acc[i]):x}, "
            f"the exact model of {spec.name} gives {int(codes[i]):x}"
        )
