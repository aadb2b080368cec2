# SPDX-License-Identifier: Apache-2.0
"""Rounding inside a floating-point lane: onto any format's grid, in any mode, without branches.

A float32 or float64 lane holds |x|; its bit pattern, read as an integer, counts values upward, so
rounding to fewer mantissa bits is adding below the kept bits and masking (`kernels.rounding`).
Below the smallest normal number 2^emin is added first: the lane's own grid then is the format's
subnormal grid. What that addition drops is kept as an odd last bit.
"""

from __future__ import annotations

from typing import NamedTuple

from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.llvm.vector import Vec

__all__ = ["LANE_INTEGERS", "Parameters", "Rounded", "round_bits", "round_magnitude", "to_odd"]

#: Integer parameters of a format in a lane: lane bits below its last one, and how a code's parity
#: differs from the last kept lane bit: always, and in the subnormal row. (Both are 0 unless the
#: format has no mantissa bits: that bit then belongs to the exponent.)
LANE_INTEGERS = ("shift", "parity", "subnormal_parity")


class Parameters(NamedTuple):
    """Run-time parameters by name, splatted over the lanes."""

    reals: dict[str, Vec]
    integers: dict[str, Vec]


class Rounded(NamedTuple):
    """A rounded magnitude: ``bits`` of the value plus ``base`` (2^emin where subnormal, else 0)."""

    bits: Vec
    base: Vec
    subnormal: Vec  #: mask
    inexact: Vec  #: mask


def to_odd(magnitude: Vec, negative: Vec, error: Vec) -> Vec:
    """Move the bits of |s| to the odd neighbour where ``s`` missed the exact value by ``error``.

    ``negative`` is 1 where s < 0; ``error`` is the exact value minus s, signed. NaN errors (of
    infinite sums) count as none.
    """
    inexact = error.differs(0.0).one_where_set()
    smaller = (error < 0.0).one_where_set() ^ negative  # 1: the exact magnitude is below |s|
    even = ~magnitude & 1
    return magnitude + (inexact & even) * (smaller * -2 + 1)


def round_magnitude(
    magnitude: Vec, negative: Vec, rounding: str, p: Parameters, random: Vec | None, sticky: bool
) -> Rounded:
    """Round the bits of |x| to the format of ``p`` (``smallest_normal`` and `LANE_INTEGERS`).

    Without ``sticky`` the caller knows that nothing is lost where 2^emin is added. The exponent is
    unbounded above: the caller compares with the largest value.
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
    """Round lane bits to the kept ones; return them and the mask of where something was dropped.

    ``parity`` is how a code's parity differs from the last kept bit; ``random`` holds the random
    bits, the first one just below that bit.
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
