# SPDX-License-Identifier: Apache-2.0
"""Many values on a fixed-point grid at a time, where float64 holds their integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.rounding import Rounding

__all__ = ["MAX_WIDTH", "grid_integers"]

#: Fewer values than this are quicker one at a time.
MANY = 1 << 10
#: Bits of a grid whose sums with the result of `grid_integers` 64-bit integers hold.
MAX_WIDTH = 52
_BEYOND = 2.0**52
_ROUNDINGS = {
    Rounding.RNE: np.rint,
    Rounding.RTZ: np.trunc,
    Rounding.RUP: np.ceil,
    Rounding.RDN: np.floor,
}


def grid_integers(
    values: NDArray[np.float64], lsb: int, rounding: Rounding
) -> NDArray[np.int64] | None:
    """Return ``values`` rounded to multiples of 2^lsb as their integers, below 2^52.

    Args:
        values: numbers of any shape.
        lsb: the exponent of the grid.
        rounding: how to round to it.

    Returns:
        Integers in the shape of ``values``. None for few values, one that is NaN or larger, another
        rounding than numpy has, or a grid above 1, to which float64 numbers cannot be scaled
        exactly.
    """
    if values.size < MANY or lsb > 0 or rounding not in _ROUNDINGS:
        return None
    with np.errstate(over="ignore"):
        scaled = values * np.ldexp(1.0, -lsb)
    _ROUNDINGS[rounding](scaled, out=scaled)
    if not (scaled.max() < _BEYOND and scaled.min() > -_BEYOND):
        return None
    integers: NDArray[np.int64] = scaled.astype(np.int64)
    return integers
