# SPDX-License-Identifier: Apache-2.0
"""Rounding of arrays onto a fixed-point grid whose integers float64 holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.rounding import Rounding

__all__ = ["MAX_WIDTH", "grid_integers"]

#: Arrays with fewer values are rounded faster by scalar code.
MANY = 1 << 10
#: Bits of a grid integer whose sums with a result of `grid_integers` fit 64 bits.
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
        rounding: the rounding mode.

    Returns:
        Integers in the shape of ``values``. None for few values, a NaN or a too large value, a
        rounding that numpy lacks, or a grid coarser than 1, to which float64 numbers do not scale
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
