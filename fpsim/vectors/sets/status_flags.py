# SPDX-License-Identifier: Apache-2.0
"""Status flags of vectors, computed by the exact model.

The five bits have TestFloat's order (`fpsim.formats.rounding.Flag`): inexact 1, underflow 2,
overflow 4, infinite 8, invalid 16. A vector's flags are the OR over every rounding, alignment cut,
register and exact operation on the way to its result, as in a status register that is cleared
before each vector and only set by operations: a datapath's status logic gives these flags without
knowing which rounding is the last, and a bit lost early stays visible. Their meaning by stage:

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

__all__ = ["FLAG_BITS", "FLAG_CODES", "FLAG_TEXT", "dot_flags", "flag_names"]

Codes = NDArray[Any]
#: Width of the field of status flags.
FLAG_BITS = 5

FLAG_CODES = {flag.name.lower(): int(flag) for flag in Flag if flag.name}
FLAG_TEXT = (
    "flags: " + ", ".join(f"{code} {name}" for name, code in FLAG_CODES.items()) + "; OR over "
    "every rounding and cut on the way to acc, 0 where op is neither mac nor dot"
)


def flag_names(flags: int) -> str:
    """Return the names of the flags that are set, or ``none``."""
    return ", ".join(name for name, code in FLAG_CODES.items() if flags & code) or "none"


def dot_flags(
    spec: MacSpec,
    a: Codes,
    b: Codes,
    addends: Codes,
    options: dict[str, Any],
    acc: Codes,
    vectors: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Return the status flags of dot products, and check ``acc`` against the exact model.

    Args:
        spec: any unit.
        a: codes (n, k).
        b: codes (n, k).
        addends: codes (n,).
        options: scales and random integers, as `MacUnit.dot` takes them.
        acc: expected result codes (n,).
        vectors: numbers (n,) of the vectors, for the error.

    Returns:
        Flags (n,), sums of `fpsim.formats.rounding.Flag` bits.

    Raises:
        FpsimError: the exact model's result differs from ``acc``: a kernel is wrong.
    """
    codes, flags = oracle.dot_with_flags(spec, a, b, addends, **options)
    wrong = np.flatnonzero(codes != acc)
    if wrong.size:
        i = int(wrong[0])
        raise FpsimError(
            f"flags: vector {int(vectors[i])} has acc {int(acc[i]):x}, "
            f"the exact model of {spec.name} gives {int(codes[i]):x}"
        )
    return np.asarray(flags, dtype=np.uint8)
