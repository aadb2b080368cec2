# SPDX-License-Identifier: Apache-2.0
"""Which codes of a format an array has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.kernels.pack.panels import REGISTER_BITS, code_ranges, mark_used
from fpsim.units.spec import MAX_OPERAND_BITS

__all__ = ["codes_between", "marked"]

Array = NDArray[Any]


def marked(codes: Array) -> Array:
    """Return a mask of the codes in use."""
    used = np.zeros(1 << min(8 * codes.itemsize, MAX_OPERAND_BITS), dtype=bool)
    mark_used(codes.ravel(order="K")[None], used)
    return used


def codes_between(codes: Array, sign: int) -> Array:
    """Return a mask of codes: zero and what lies between those in use, of both signs."""
    kind = codes.dtype
    used = np.zeros(1 << min(8 * kind.itemsize, MAX_OPERAND_BITS), dtype=bool)
    lanes = REGISTER_BITS // (8 * kind.itemsize)
    if codes.size < lanes:
        used[codes] = True
        return used
    largest = int(np.iinfo(kind).max)
    least, nearest = (np.full(lanes, largest, kind) for _ in range(2))
    most = np.zeros(lanes, kind)
    code_ranges(codes, sign - 1 if sign else largest, sign, least, most, nearest)
    low, high = int(least.min()) + 1, int(most.max()) + 1
    for first in {0, sign}:
        used[first + low : first + high] = True
    used[0], used[sign] = True, sign == 0 or not nearest.min()
    return used
