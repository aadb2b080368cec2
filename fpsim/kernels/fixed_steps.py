# SPDX-License-Identifier: Apache-2.0
"""Fixed-point accumulator steps in vector lanes: ``acc + R(p / 2^lsb)``, wrapped or clamped.

Accumulators are the grid's integers: held in float64 while they and the sums stay below 2^52, else
in the 64 bits of a lane, as integers. Products are exact in a lane.
"""

from __future__ import annotations

from collections.abc import Callable

from fpsim.kernels.lanes import Parameters
from fpsim.kernels.sums import round_integer
from fpsim.kernels.vector import Vec

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
#: Products that a step on integers takes as they are; beyond, clamping comes to the same.
LARGEST_TERM = 2.0**62


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


def integer_sum_step(rounding: str, saturate: bool) -> Callable[..., Vec]:
    """Build ``acc + R(p / 2^lsb)`` on the integers that the bits of a lane are.

    A rounded product is an integer that float64 holds. Where the accumulator wraps, it counts
    modulo 2^64; where it clamps, one beyond `LARGEST_TERM` has the effect of that, in registers of
    up to 62 bits (`fpsim.engine` gives wider ones no such products).
    """

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
        x = a * b * p.reals["per_lsb"]
        return _added(acc, round_integer(x, rounding), p, saturate)

    return step


def integer_random_step(saturate: bool) -> Callable[..., Vec]:
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
        return _added(acc, (whole + carry).intrinsic("copysign", x), p, saturate)

    return step


def _added(acc: Vec, integer: Vec, p: Parameters, saturate: bool) -> Vec:
    """Add an integer held in float64 to one that the lane's bits are."""
    lanes = acc.lanes
    if not saturate:
        return (acc.as_bits + _modulo(integer).truncated).as_real
    most, least = (lanes.constant(sign * LARGEST_TERM, False) for sign in (1.0, -1.0))
    integer = (integer > most).where(most, integer)
    integer = (least > integer).where(least, integer)
    total = acc.as_bits.saturating_add(integer.truncated)
    most, least = p.integers["most"], p.integers["least"]
    total = (total > most).where(most, total)
    return (total < least).where(least, total).as_real


def _modulo(integer: Vec) -> Vec:
    """Return integers modulo 2^64, from -2^63 to 2^63 - 1: all steps are exact."""
    turns = (integer * 2.0**-64).intrinsic("roundeven")
    rest = integer - turns * 2.0**64
    return (rest >= 2.0**63).where(rest - 2.0**64, rest)
