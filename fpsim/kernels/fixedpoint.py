# SPDX-License-Identifier: Apache-2.0
"""Rounding onto, and wrapping or saturating on, an integer grid of up to 64 bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from fpsim.kernels.codec import F64_BIAS, F64_MANTISSA, MAX_SHIFT
from fpsim.kernels.rounding import round_significand

__all__ = ["Grid", "clamp", "encode_array", "to_grid"]


class Grid(NamedTuple):
    """A fixed-point format; see `fpsim.formats.FixedFormat`."""

    width: int
    lsb: int
    low: int  #: smallest integer
    high: int  #: largest integer; -1 stands for 2^64 - 1
    wrap: int  #: 1: modulo 2^width, 0: saturate


@njit(inline="always")
def to_grid(sig, lsb, negative, grid, mode, random, random_bits):  # type: ignore[no-untyped-def]
    """Return (integer, excess): ``+-sig * 2^lsb`` on the grid, before wrapping or saturating.

    ``sig`` is non-negative below 2^54. The integer is exact modulo 2^64; ``excess`` is 1 if its
    magnitude does not fit 62 bits.
    """
    shift = grid.lsb - lsb
    if shift > 0:
        if shift > MAX_SHIFT:
            drop = min(shift - MAX_SHIFT, np.int64(63))
            kept = sig >> drop
            sig = kept | np.int64((kept << drop) != sig)
            shift = np.int64(MAX_SHIFT)
        magnitude = round_significand(sig, shift, np.int64(0), negative, mode, random, random_bits)
        return (-magnitude if negative else magnitude), np.int64(0)
    left = min(-shift, np.int64(64))
    excess = np.int64(sig != 0 and (left > 62 or (sig >> (62 - left)) != 0))
    magnitude = sig << left if left < 64 else np.int64(0)
    return (-magnitude if negative else magnitude), excess


@njit(inline="always")
def clamp(value, excess, negative, grid):  # type: ignore[no-untyped-def]
    """Wrap or saturate an int64 onto the grid's range; a wrapped result is sign-extended."""
    if grid.wrap:
        unused = 64 - grid.width
        if grid.low < 0:
            return (value << unused) >> unused
        return np.int64((np.uint64(value) << np.uint64(unused)) >> np.uint64(unused))
    high = np.int64(0x7FFFFFFFFFFFFFFF) if grid.high < 0 else np.int64(grid.high)
    if excess:
        return np.int64(grid.low) if negative else np.int64(grid.high)
    return min(max(value, np.int64(grid.low)), high)


@njit(cache=True)
def encode_array(values, out, grid, mode, random, random_bits):  # type: ignore[no-untyped-def]
    """Fill ``out`` (uint64) with codes; return the flat index of the first NaN, or -1."""
    used = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - grid.width)
    first = np.int64(-1)
    for i in range(values.size):
        bits = values[i].view(np.int64)
        negative = bits < 0
        magnitude = bits & np.int64(0x7FFFFFFFFFFFFFFF)
        r = random[i] if random_bits else np.int64(0)
        if magnitude >= np.int64(0x7FF0000000000000):
            if magnitude > np.int64(0x7FF0000000000000) and first < 0:
                first = i
            integer = np.int64(grid.low) if negative else np.int64(grid.high)
        else:
            field = magnitude >> F64_MANTISSA
            sig = magnitude & ((np.int64(1) << F64_MANTISSA) - 1)
            if field > 0:
                sig |= np.int64(1) << F64_MANTISSA
            lsb = max(field, np.int64(1)) - F64_BIAS - F64_MANTISSA
            exact, excess = to_grid(sig, lsb, negative, grid, mode, r, random_bits)
            integer = clamp(exact, excess, negative, grid)
        out[i] = np.uint64(integer) & used
    return first
