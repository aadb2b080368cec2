# SPDX-License-Identifier: Apache-2.0
"""Accumulator steps in vector lanes: ``acc = R(acc + a * b)`` with exactly one rounding.

The accumulator lives in a lane as the value of its code. Each step states why it is exact.
Products of codes are exact in the lane (or inside its fused multiply-add).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fpsim.kernels.lanes import LANE_INTEGERS, Parameters, round_magnitude, to_odd
from fpsim.kernels.rounding import mode_constants
from fpsim.kernels.vector import DOUBLE, FLOAT, HALF, Vec

__all__ = ["FIXED_REALS", "LANE_REALS", "STEPS", "Step", "step_named"]


#: Float parameters of a lane step, in the order of the array that carries them.
LANE_REALS = (
    "smallest_normal",
    "flush_below",
    "largest",
    "over_positive",
    "over_negative",
    "inf_positive",
    "inf_negative",
)
#: Float parameters of a fixed-point step: 2^-lsb and the range in units of the LSB.
FIXED_REALS = ("per_lsb", "low", "high")


@dataclass(frozen=True)
class Step:
    """One way to compute a step: the lane type, the parameters it reads, the code it builds."""

    name: str
    real: Any
    build: Callable[[Vec, Vec, Vec, Parameters, Vec | None], Vec]
    reals: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    random: bool = False


# -- what processors do themselves ---------------------------------------------------------------


def _native(acc: Vec, a: Vec, b: Vec, _: Parameters, __: Vec | None) -> Vec:
    """IEEE fused multiply-add of the lane's own format (nearest even, overflow to infinity)."""
    return a.intrinsic("fma", b, acc)


def _clamped(result: Vec, p: Parameters) -> Vec:
    largest = p.reals["largest"]
    result = (result > largest).where(largest, result)
    lowest = p.reals["over_negative"]
    return (lowest > result).where(lowest, result)


def _native_saturating(acc: Vec, a: Vec, b: Vec, p: Parameters, r: Vec | None) -> Vec:
    """The same, with results beyond the largest finite value replaced by it."""
    return _clamped(_native(acc, a, b, p, r), p)


def _converted_half(acc: Vec, a: Vec, b: Vec, _: Parameters, __: Vec | None) -> Vec:
    """float32 add, then hardware float16 rounding: 24 >= 2 * 11 + 2 makes it innocuous."""
    return a.intrinsic("fma", b, acc).through_half()


def _converted_half_saturating(acc: Vec, a: Vec, b: Vec, p: Parameters, r: Vec | None) -> Vec:
    """The same, with results beyond the largest finite value replaced by it."""
    return _clamped(_converted_half(acc, a, b, p, r), p)


# -- any float format, any rounding --------------------------------------------------------------


def _lane_step(rounding: str, sticky: bool) -> Callable[..., Vec]:
    """Build the general step: one native add, then `fpsim.kernels.lanes.round_magnitude`.

    With ``sticky`` the error of the add is recovered exactly (Knuth's TwoSum) and the sum moved to
    its odd neighbour if there is one. Rounding to odd with two spare bits makes the second rounding
    exact (Boldo and Melquiond, IEEE Trans. Comp. 57(4), 2008). Without it the caller must know
    that the sum is exact, or that the mode is to nearest and the error cannot matter
    (`fpsim.engine` states the bound).
    """
    nearest, _, _, away_negative, _ = mode_constants(rounding)
    inward = not nearest and rounding != "sr"  # an overflow may stay finite, an infinity may not

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, random: Vec | None) -> Vec:
        sign_shift = acc.lanes.bits - 1
        if sticky:
            product = a * b
            s = acc + product
            t = s - acc
            error = (acc - (s - t)) + (product - t)
        else:
            product = a * b if away_negative else a
            s = a.intrinsic("fma", b, acc)
        negative = s.as_bits >> sign_shift
        magnitude = s.magnitude_bits
        if sticky:
            magnitude = to_odd(magnitude, negative, error)
        rounded = round_magnitude(magnitude, negative, rounding, p, random, sticky)
        value = rounded.bits.as_real - rounded.base
        zero = acc.lanes.constant(0.0, False)
        value = (p.reals["flush_below"] > value).where(zero, value)

        sign = negative << sign_shift
        if away_negative:  # toward -infinity, x + (-x) is -0
            opposite = (acc.as_bits ^ product.as_bits) >> sign_shift
            cancelled = s.equals(0.0).one_where_set() & opposite
            sign = sign | (cancelled << sign_shift)
        signed = (value.as_bits | sign).as_real
        is_negative = negative.equals(1)
        over = is_negative.where(p.reals["over_negative"], p.reals["over_positive"])
        result = (value > p.reals["largest"]).where(over, signed)
        if inward:
            infinity = is_negative.where(p.reals["inf_negative"], p.reals["inf_positive"])
            result = magnitude.as_real.equals(float("inf")).where(infinity, result)
        # A NaN's bits must survive the integer arithmetic above.
        return s.equals(s).where(result, s)

    return step


# -- fixed point in float64 lanes ----------------------------------------------------------------


def _round_integer(x: Vec, rounding: str) -> Vec:
    """Round to an integer; ``x`` is exact and the result below 2^52."""
    if rounding == "rne":
        return x.intrinsic("roundeven")
    if rounding == "rna":
        return x.intrinsic("round")
    if rounding == "rup":
        return x.intrinsic("ceil")
    if rounding == "rdn":
        return x.intrinsic("floor")
    truncated = x.intrinsic("trunc")
    if rounding == "rtz":
        return truncated
    one = x.lanes.constant(1.0, False)
    half = truncated * 0.5
    even = half.intrinsic("trunc").equals(half)
    away = truncated + one.intrinsic("copysign", x)
    nudged = even.where(away, truncated)
    return truncated.differs(x).where(nudged, truncated)  # to odd


def _fixed_step(rounding: str, saturate: bool) -> Callable[..., Vec]:
    """Build ``acc + R(p / 2^lsb)`` on integers held in float64, clamped or left to wrap later."""

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
        total = acc + _round_integer(a * b * p.reals["per_lsb"], rounding)
        if not saturate:
            return total
        total = (total > p.reals["high"]).where(p.reals["high"], total)
        return (p.reals["low"] > total).where(p.reals["low"], total)

    return step


def _all_steps() -> dict[str, Step]:
    clamp = ("largest", "over_negative")
    steps = [
        Step("half", HALF, _native),
        Step("half-saturate", HALF, _native_saturating, clamp),
        Step("float", FLOAT, _native),
        Step("double", DOUBLE, _native),
        Step("float-saturate", FLOAT, _native_saturating, clamp),
        Step("via-half", FLOAT, _converted_half),
        Step("via-half-saturate", FLOAT, _converted_half_saturating, clamp),
    ]
    for rounding in ("rne", "rna", "rtz", "rup", "rdn", "rto", "sr"):
        for real, width in ((FLOAT, 32), (DOUBLE, 64)):
            for sticky in (False, True):
                name = f"lane{width}-{rounding}{'-sticky' if sticky else ''}"
                build = _lane_step(rounding, sticky)
                random = rounding == "sr"
                steps.append(Step(name, real, build, LANE_REALS, LANE_INTEGERS, random))
        if rounding != "sr":
            for overflow in ("wrap", "saturate"):
                name = f"fixed64-{rounding}-{overflow}"
                build = _fixed_step(rounding, overflow == "saturate")
                steps.append(Step(name, DOUBLE, build, FIXED_REALS))
    return {step.name: step for step in steps}


#: Every step by name; `fpsim.engine` picks one.
STEPS: dict[str, Step] = _all_steps()


def step_named(name: str) -> Step:
    """Return the step called ``name``."""
    return STEPS[name]
