# SPDX-License-Identifier: Apache-2.0
"""Rounding onto, and wrapping or saturating on, an integer grid of up to 64 bits."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fpsim.kernels.cache import inner
from fpsim.kernels.codec.codec import F64_BIAS, F64_MANTISSA, MAX_SHIFT
from fpsim.kernels.codec.rounding import round_significand
from fpsim.kernels.threads import shared, within

__all__ = ["Grid", "add", "encode_array", "round_to_grid", "to_grid"]


class Grid(NamedTuple):
    """A fixed-point format; see `fpsim.formats.floating.FixedFormat`."""

    width: int
    lsb: int
    low: int  #: smallest integer
    high: int  #: largest integer; -1 stands for 2^64 - 1
    wrap: int  #: 1: modulo 2^width, 0: saturate


@inner
def to_grid(value, grid, mode, random, random_bits):
    """Round a float64 to an integer multiple of the grid's last place.

    Args:
        value: finite float64.
        grid: `Grid`, of which only ``lsb`` counts.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: an integer of ``random_bits`` bits; unused if there are 0.
        random_bits: 0 unless rounding is stochastic.

    Returns:
        The magnitude, uint64 and exact modulo 2^64, and whether it is 2^64 or more.
    """
    bits = np.float64(value).view(np.int64)
    negative = bits < 0
    field = (bits >> F64_MANTISSA) & np.int64(0x7FF)
    sig = bits & ((np.int64(1) << F64_MANTISSA) - 1)
    if field > 0:
        sig |= np.int64(1) << F64_MANTISSA
    shift = grid.lsb - (max(field, np.int64(1)) - F64_BIAS - F64_MANTISSA)
    if shift > 0:
        if shift > MAX_SHIFT:
            drop = min(shift - MAX_SHIFT, np.int64(63))
            kept = sig >> drop
            sig = kept | np.int64((kept << drop) != sig)
            shift = np.int64(MAX_SHIFT)
        rounded = round_significand(sig, shift, np.int64(0), negative, mode, random, random_bits)
        return np.uint64(rounded), False
    left = np.uint64(min(-shift, np.int64(64)))
    if left == np.uint64(64):
        return np.uint64(0), sig != 0
    excess = left > 0 and (np.uint64(sig) >> (np.uint64(64) - left)) != 0
    return np.uint64(sig) << left, excess


@inner
def _wrapping_add(acc, magnitude, negative):
    """Return ``acc +- magnitude`` modulo 2^64 (signed overflow is undefined)."""
    bits = np.uint64(acc)
    return np.int64(bits - magnitude if negative else bits + magnitude)


@inner
def add(acc, magnitude, excess, negative, grid):
    """Add a signed magnitude to an accumulator on a signed grid, wrapped or saturated.

    The magnitude is added in two halves: each fits 63 bits, and where one overflows the other only
    takes the sum further out.

    Args:
        acc: int64 on the grid, sign-extended.
        magnitude: uint64, see `to_grid`.
        excess: whether the magnitude is 2^64 or more.
        negative: whether it is subtracted.
        grid: `Grid`.

    Returns:
        The accumulator, int64.
    """
    if grid.wrap:
        total = _wrapping_add(acc, magnitude, negative)
        unused = 64 - grid.width
        return (total << unused) >> unused
    limit = np.int64(grid.low) if negative else np.int64(grid.high)
    if excess:
        return limit
    half = magnitude >> np.uint64(1)
    for part in (half, half + (magnitude & np.uint64(1))):
        total = _wrapping_add(acc, part, negative)
        outside = total > acc if negative else total < acc
        if outside:
            return limit
        acc = total
    return min(max(acc, np.int64(grid.low)), np.int64(grid.high))


@shared(1 << 13)
def round_to_grid(values, grid, mode, random, random_bits, out, share):
    """Fill ``out`` with values rounded to multiples of 2^lsb, neither wrapped nor saturated.

    Args:
        values: finite float64 (R, T).
        grid: `Grid`, of which only ``lsb`` counts.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: integers of ``random_bits`` bits (R, T); unused if there are 0.
        random_bits: 0 unless rounding is stochastic.
        out: float64 (R, T), filled.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    for i in within(values.shape[0], share):
        for k in range(values.shape[1]):
            value = values[i, k]
            r = np.int64(random[i, k]) if random_bits else np.int64(0)
            magnitude, excess = to_grid(value, grid, mode, r, random_bits)
            # From 2^53 on nothing was rounded: a float64 that large is a multiple of the grid.
            if not excess and magnitude < np.uint64(1) << np.uint64(53):
                rounded = math.ldexp(np.float64(np.int64(magnitude)), grid.lsb)
                value = -rounded if value < 0.0 else rounded
            out[i, k] = value


@inner
def _fit_unsigned(magnitude, excess, negative, grid):
    """Return the code of one value on an unsigned grid."""
    top = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - grid.width)
    if grid.wrap:
        return (np.uint64(0) - magnitude if negative else magnitude) & top
    if negative:
        return np.uint64(0)
    return top if excess or magnitude > top else magnitude


@shared(1 << 13)
def encode_array(values, out, grid, mode, random, random_bits, share):
    """Fill ``out`` with the fixed-point codes of values, wrapped or saturated.

    Args:
        values: float64, flat. Infinities become the ends of the grid.
        out: uint64 of the same length, filled.
        grid: `Grid`.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: integers of ``random_bits`` bits, one per value; one entry in all if there are 0.
        random_bits: 0 unless rounding is stochastic.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Index of the first NaN, or -1.
    """
    used = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - grid.width)
    bad = np.int64(values.size)
    for i in within(values.size, share):
        value = values[i]
        negative = value < 0.0
        if math.isnan(value):
            bad = min(bad, i)
        if not math.isfinite(value):
            integer = np.int64(grid.low) if negative else np.int64(grid.high)
            out[i] = np.uint64(integer) & used
            continue
        r = random[i] if random_bits else np.int64(0)
        magnitude, excess = to_grid(value, grid, mode, r, random_bits)
        if grid.low == 0:
            out[i] = _fit_unsigned(magnitude, excess, negative, grid)
        else:
            out[i] = np.uint64(add(np.int64(0), magnitude, excess, negative, grid)) & used
    return -1 if bad == values.size else bad
