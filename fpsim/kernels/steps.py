# SPDX-License-Identifier: Apache-2.0
"""Accumulator steps in vector lanes: ``acc = R(acc + a * b)`` with exactly one rounding.

The accumulator lives in a lane as the value of its code. Each step states why it is exact.
Products of codes are exact in the lane (or inside its fused multiply-add).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from fpsim.kernels.rounding import mode_constants
from fpsim.kernels.vector import DOUBLE, FLOAT, HALF, Vec

__all__ = ["FIXED_REALS", "LANE_INTEGERS", "LANE_REALS", "STEPS", "Step", "step_named"]


class Parameters(NamedTuple):
    """Run-time parameters of a step, splatted: see `LANE_REALS`, `LANE_INTEGERS`."""

    reals: dict[str, Vec]
    integers: dict[str, Vec]


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
#: Integer parameters: lane bits below the format's last one, the same less the random bits, and
#: how a code's parity differs from the last kept lane bit: always, and in the subnormal row. (Both
#: are 0 unless the format has no mantissa bits, where that bit belongs to the exponent.)
LANE_INTEGERS = ("shift", "random_shift", "parity", "subnormal_parity")
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


def _to_odd(magnitude: Vec, negative: Vec, error: Vec) -> Vec:
    """Move the bits of |s| to the odd neighbour where ``s`` missed the exact sum by ``error``."""
    inexact = error.differs(0.0).one_where_set()
    beyond = (error < 0.0).one_where_set() ^ negative  # 1: the exact magnitude is smaller
    even = ~magnitude & 1
    return magnitude + (inexact & even) * (beyond * -2 + 1)


def _lane_step(rounding: str, sticky: bool) -> Callable[..., Vec]:
    """Build the general step.

        s = acc + p            one native add; with ``sticky`` its error is recovered exactly
                               (Knuth's TwoSum) and s moved to its odd neighbour if there is one
        |s| + 2^emin           where |s| < 2^emin: the lane's grid becomes the subnormal grid
        (bits + add) & ~below  the mode's rounding (see `kernels.rounding`)

    Rounding to odd with two spare bits makes the second rounding exact (Boldo and Melquiond, IEEE
    Trans. Comp. 57(4), 2008). Without ``sticky`` the caller must know that s is exact, or that
    the mode is to nearest and the error cannot matter (`fpsim.engine` states the bound).
    """
    nearest, even, away_positive, away_negative, odd = mode_constants(rounding)
    stochastic = rounding == "sr"
    inward = not nearest and not stochastic  # an overflow may stay finite, an infinity may not

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, random: Vec | None) -> Vec:
        lanes = acc.lanes
        sign_shift = lanes.bits - 1
        magnitude_mask = (1 << sign_shift) - 1
        if sticky:
            product = a * b
            s = acc + product
            t = s - acc
            error = (acc - (s - t)) + (product - t)
        else:
            product = a * b if away_negative else a
            s = a.intrinsic("fma", b, acc)
        negative = s.as_bits >> sign_shift
        magnitude = s.as_bits & magnitude_mask
        if sticky:
            magnitude = _to_odd(magnitude, negative, error)

        normal = p.reals["smallest_normal"]
        zero = lanes.constant(0.0, False)
        subnormal = normal > magnitude.as_real
        base = subnormal.where(normal, zero)
        moved = magnitude.as_real + base
        bits = moved.as_bits
        if sticky:
            lost = magnitude.as_real - (moved - base)
            bits = _to_odd(bits, lanes.constant(0, True), lost)

        one = lanes.constant(1, True)
        shift = p.integers["shift"]
        below = (one << shift) - 1
        parity = ((bits >> shift) & 1) ^ p.integers["parity"]
        parity = parity ^ (p.integers["subnormal_parity"] & subnormal.one_where_set())
        add = lanes.constant(0, True)
        if nearest:
            add = (below >> 1) + (parity if even else 1)
        elif away_positive or away_negative:
            toward = negative if away_negative else negative ^ 1
            add = below * toward
        elif stochastic:
            assert random is not None
            add = random << p.integers["random_shift"]
        rounded = (bits + add) & ~below
        if odd:
            inexact = (bits & below).differs(0).one_where_set()
            rounded = rounded + ((inexact & (parity ^ 1)) << shift)
        value = rounded.as_real - base
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
