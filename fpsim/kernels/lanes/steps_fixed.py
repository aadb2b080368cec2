# SPDX-License-Identifier: Apache-2.0
"""Fixed-point accumulator steps in vector lanes: ``acc + R(p / 2^lsb)``, wrapped or clamped.

Accumulators are the grid's integers: held in float64 while they and the sums stay below 2^52, else
in the 64 bits of a lane, as integers. Products are exact in a lane.
"""

from __future__ import annotations

from collections.abc import Callable

from fpsim.kernels.lanes.exact_add import round_integer
from fpsim.kernels.lanes.rounding import Parameters
from fpsim.kernels.lanes.vector import Vec

__all__ = [
    "CLAMPED_REALS",
    "FIXED_REALS",
    "INTEGER_RANGE",
    "RANDOM_REALS",
    "clamped_sum",
    "fixed_random_step",
    "fixed_step",
    "integer_random_step",
    "integer_sum_step",
]

#: Float parameters of a fixed-point step: 2^-lsb and the range in units of the LSB.
FIXED_REALS = ("per_lsb", "low", "high")
#: Those of one on values: the range.
CLAMPED_REALS = ("low_value", "high_value")
#: Those of random integers of n bits: 2^n and its inverse.
RANDOM_REALS = ("random_places", "per_random_place")
#: Integer parameters of a step on integers that clamps: the range.
INTEGER_RANGE = ("least", "most")
#: Products that a step on integers takes as they are; beyond, clamping comes to the same in
#: registers of up to 62 bits. Wider ones take products of up to four times that in quarters.
LARGEST_TERM = 2.0**62
QUARTERS = 4


def fixed_step(rounding: str, saturate: bool) -> Callable[..., Vec]:
    """Build ``acc + R(p / 2^lsb)`` on integers held in float64, clamped or left to wrap later."""

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
        return _onto(acc, round_integer(a * b * p.reals["per_lsb"], rounding), p, saturate)

    return step


def fixed_random_step(saturate: bool) -> Callable[..., Vec]:
    """Build the same with stochastic rounding: |x| + r 2^-bits, truncated, all of it exact."""

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, random: Vec | None) -> Vec:
        assert random is not None
        x = a * b * p.reals["per_lsb"]
        places = (x.magnitude_bits.as_real * p.reals["random_places"]).intrinsic("trunc")
        integer = ((places + random.unsigned_reals) * p.reals["per_random_place"]).intrinsic(
            "trunc"
        )
        return _onto(acc, integer.intrinsic("copysign", x), p, saturate)

    return step


def _onto(acc: Vec, integer: Vec, p: Parameters, saturate: bool) -> Vec:
    """Add an integer, clamped or left to wrap later."""
    total = acc + integer
    if not saturate:
        return total
    total = (total > p.reals["high"]).where(p.reals["high"], total)
    return (p.reals["low"] > total).where(p.reals["low"], total)


def clamped_sum(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
    """Add a product of the grid to a value of the register, and clamp: the lane holds the sum."""
    total = a.intrinsic("fma", b, acc)
    total = (total > p.reals["high_value"]).where(p.reals["high_value"], total)
    return (p.reals["low_value"] > total).where(p.reals["low_value"], total)


def integer_sum_step(rounding: str, saturate: bool, wide: bool = False) -> Callable[..., Vec]:
    """Build ``acc + R(p / 2^lsb)`` on the integers that the bits of a lane are.

    A rounded product is an integer that float64 holds. Where the accumulator wraps, it counts
    modulo 2^64; where it clamps, one beyond `LARGEST_TERM` has the effect of that, unless the
    register is ``wide``.
    """

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
        x = a * b * p.reals["per_lsb"]
        return _added(acc, round_integer(x, rounding), p, saturate, wide)

    return step


def integer_random_step(saturate: bool, wide: bool = False) -> Callable[..., Vec]:
    """Build the same with stochastic rounding of the fraction, whose places the lane holds.

    Random integers below the fraction's last place in use never carry.
    """

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, random: Vec | None) -> Vec:
        assert random is not None
        x = a * b * p.reals["per_lsb"]
        magnitude = x.magnitude_bits.as_real
        whole = magnitude.intrinsic("trunc")
        places = ((magnitude - whole) * p.reals["random_places"]).intrinsic("trunc")
        carry = ((places + random.unsigned_reals) * p.reals["per_random_place"]).intrinsic("trunc")
        return _added(acc, (whole + carry).intrinsic("copysign", x), p, saturate, wide)

    return step


def _added(acc: Vec, integer: Vec, p: Parameters, saturate: bool, wide: bool) -> Vec:
    """Add an integer held in float64 to one that the lane's bits are."""
    if not saturate:
        return (acc.as_bits + _modulo(integer).truncated).as_real
    total = acc.as_bits
    if wide:
        total = _with_quarters(total, _within(integer, QUARTERS * LARGEST_TERM))
    else:
        total = total.saturating_add(_within(integer, LARGEST_TERM).truncated)
    most, least = p.integers["most"], p.integers["least"]
    total = (total > most).where(most, total)
    return (total < least).where(least, total).as_real


def _within(x: Vec, largest: float) -> Vec:
    """Return x clamped to both signs of a number."""
    most, least = (x.lanes.constant(sign * largest, False) for sign in (1.0, -1.0))
    x = (x > most).where(most, x)
    return (least > x).where(least, x)


def _with_quarters(total: Vec, integer: Vec) -> Vec:
    """Return integers of 64 bits plus up to 2^64, clamped: parts of one sign are clamped as one.

    Numbers beyond 2^62 are multiples of four, and 2^64 takes any integer beyond 2^63 - 1.
    """
    large = integer.magnitude_bits.as_real > LARGEST_TERM
    quarter = integer * (1 / QUARTERS)
    first = large.where(quarter, integer).truncated
    others = large.where(quarter, integer.lanes.constant(0.0, False)).truncated
    for part in (first, *[others] * (QUARTERS - 1)):
        total = total.saturating_add(part)
    return total


def _modulo(integer: Vec) -> Vec:
    """Return integers modulo 2^64, from -2^63 to 2^63 - 1: all steps are exact."""
    turns = (integer * 2.0**-64).intrinsic("roundeven")
    rest = integer - turns * 2.0**64
    return (rest >= 2.0**63).where(rest - 2.0**64, rest)
