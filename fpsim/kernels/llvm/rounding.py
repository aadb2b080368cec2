# SPDX-License-Identifier: Apache-2.0
"""Rounding inside a floating-point lane: onto any format's grid, in any mode, without branches.

A float32 or float64 lane holds |x|; its bit pattern, read as an integer, counts values upward, so
rounding to fewer mantissa bits is adding below the kept bits and masking
(`fpsim.kernels.codec.rounding`). Below the smallest normal number 2^emin is added first: the lane's
own grid then is the format's subnormal grid. An odd last bit stands for the bits that the addition
drops.
"""

from __future__ import annotations

from typing import NamedTuple

from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.llvm.vector import Vec

__all__ = ["LANE_INTEGERS", "Parameters", "Rounded", "round_bits", "round_magnitude", "to_odd"]

#: Integer parameters of a format in a lane: lane bits below its last place, and whether a code's
#: parity differs from the last kept lane bit, always and in the subnormal row. (Both are 0 if the
#: format has mantissa bits; without any, that bit belongs to the exponent.)
LANE_INTEGERS = ("shift", "parity", "subnormal_parity")


class Parameters(NamedTuple):
    """Run-time parameters by name, each in all lanes."""

    reals: dict[str, Vec]
    integers: dict[str, Vec]


class Rounded(NamedTuple):
    """A rounded magnitude: ``bits`` of the value plus ``base`` (2^emin where subnormal, else 0)."""

    bits: Vec
    base: Vec
    subnormal: Vec  #: mask
    inexact: Vec  #: mask


def to_odd(magnitude: Vec, negative: Vec, error: Vec) -> Vec:
    """Move the bits of |s| to the odd neighbour where s is not exact.

    Args:
        magnitude: bits of |s|.
        negative: 1 where s < 0, else 0.
        error: the exact value minus s, signed. NaN (of an infinite s) counts as none.

    Returns:
        Bits of the magnitude rounded to odd.
    """
    inexact = error.differs(0.0).one_where_set()
    smaller = (error < 0.0).one_where_set() ^ negative  # 1: the exact magnitude is below |s|
    even = ~magnitude & 1
    return magnitude + (inexact & even) * (smaller * -2 + 1)


def round_magnitude(
    magnitude: Vec, negative: Vec, rounding: str, p: Parameters, random: Vec | None, sticky: bool
) -> Rounded:
    """Round the bits of |x| to a format.

    Args:
        magnitude: bits of |x|.
        negative: 1 where x < 0, else 0.
        rounding: mode, ``"rne"`` for example.
        p: parameters of the format, with ``smallest_normal`` and `LANE_INTEGERS`.
        random: random integers, the first bit just below the kept ones, or None.
        sticky: whether bits may be lost where 2^emin is added to subnormal magnitudes; False if the
            caller knows that none are.

    Returns:
        The magnitude, with the exponent unbounded above: the caller compares it with the largest
        value.
    """
    lanes = magnitude.lanes
    zero = lanes.constant(0, True)
    normal = p.reals["smallest_normal"]
    subnormal = normal > magnitude.as_real
    base = subnormal.where(normal, lanes.constant(0.0, False))
    if sticky and lanes.directed:
        moved = magnitude.as_real.add_toward(base, "rtz")
        lost = (moved - base).differs(magnitude.as_real)
        bits = moved.as_bits | lost.one_where_set()
    else:
        moved = magnitude.as_real + base
        bits = moved.as_bits
        if sticky:
            bits = to_odd(bits, zero, magnitude.as_real - (moved - base))

    parity = p.integers["parity"] ^ (p.integers["subnormal_parity"] & subnormal.one_where_set())
    rounded, inexact = round_bits(bits, negative, rounding, p, random, parity)
    return Rounded(rounded, base, subnormal, inexact)


def round_bits(
    bits: Vec, negative: Vec, rounding: str, p: Parameters, random: Vec | None, parity: Vec
) -> tuple[Vec, Vec]:
    """Round lane bits to the format's last place.

    Args:
        bits: bits of magnitudes.
        negative: 1 where the value is below 0, else 0.
        rounding: mode, ``"rne"`` for example.
        p: parameters of the format, with ``shift``.
        random: random integers, the first bit just below the kept ones, or None.
        parity: 1 where a code's parity differs from the last kept bit, else 0.

    Returns:
        The rounded bits, and the mask of lanes where something was dropped.
    """
    nearest, even, away_positive, away_negative, odd = mode_constants(rounding)
    lanes = bits.lanes
    shift = p.integers["shift"]
    below = (lanes.constant(1, True) << shift) - 1
    odd_code = ((bits >> shift) & 1) ^ parity
    add = lanes.constant(0, True)
    if nearest:
        add = (below >> 1) + (odd_code if even else 1)
    elif away_positive or away_negative:
        add = below * (negative if away_negative else negative ^ 1)
    elif random is not None:
        add = random
    rounded = (bits + add) & ~below
    inexact = (bits & below).differs(0)
    if odd:
        rounded = rounded + ((inexact.one_where_set() & (odd_code ^ 1)) << shift)
    return rounded, inexact
