# SPDX-License-Identifier: Apache-2.0
"""Accumulator steps in vector lanes: ``acc = R(acc + a * b)`` with exactly one rounding.

The accumulator lives in a lane as the value of its code. Each step states why it is exact.
Products of codes are exact in the lane (or inside its fused multiply-add).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple, Protocol

from fpsim.kernels.lanes import LANE_INTEGERS, Parameters, round_magnitude, to_odd
from fpsim.kernels.rounding import mode_constants
from fpsim.kernels.vector import DOUBLE, FLOAT, HALF, Vec

__all__ = [
    "FIXED_REALS",
    "LANE_REALS",
    "SLICE_REALS",
    "STEPS",
    "GroupStep",
    "Step",
    "TermSource",
    "step_named",
]


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
#: Parameters of a shifted step: beyond those of a lane step, 2^emax and +-M / 2^e.
SHIFTED_REALS = (*LANE_REALS, "top_power", "magic", "minus_magic")
#: Those of a stochastic one: beyond them, 2^-(m + random bits).
SHIFTED_RANDOM_REALS = (*SHIFTED_REALS, "random_unit")
#: Float parameters of a slice: 2^-s, and 2^w with its inverse.
SLICE_REALS = ("per_last", "slice", "per_slice")
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
    seeded: bool = False  #: the random bits are made of streams instead of loaded

    @property
    def terms(self) -> int:
        """Terms per step."""
        return 1


class TermSource(Protocol):
    """Hands out the terms of one step; each call emits the code that loads or computes them.

    A number ``i`` is a Python integer, or what `fold` passes on.
    """

    def pair(self, i: Any) -> tuple[Vec, Vec]:
        """Return two vectors whose product is term ``i``."""
        ...

    def power(self, i: Any) -> Vec:
        """Return 2^e of term ``i``; 0 if it does not count."""
        ...

    def fold(
        self, terms: range, start: tuple[Vec, ...], add: Callable[..., tuple[Vec, ...]]
    ) -> tuple[Vec, ...]:
        """Return what ``add(i, *values)`` makes of the values at the start, term after term.

        Many terms become a loop in the code.
        """
        ...


@dataclass(frozen=True)
class GroupStep:
    """A step over several terms at once; see `fpsim.kernels.window_steps` and `tree_steps`."""

    name: str  #: says everything that the code depends on
    real: Any
    terms: int
    build: Callable[[Vec, TermSource, Parameters], Vec]
    reals: tuple[str, ...]
    integers: tuple[str, ...]
    powers: bool = False  #: whether it asks for powers

    @property
    def random(self) -> bool:
        """Whether it takes random bits: no group step does."""
        return False

    @property
    def seeded(self) -> bool:
        """Whether it makes random bits."""
        return False


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


def _native_flushing(acc: Vec, a: Vec, b: Vec, p: Parameters, r: Vec | None) -> Vec:
    """The same, with results below the smallest normal value replaced by a zero of their sign."""
    s = _native(acc, a, b, p, r)
    sign = (s.as_bits & (1 << (s.lanes.bits - 1))).as_real
    return (p.reals["smallest_normal"] > s.magnitude_bits.as_real).where(sign, s)


def _converted_half(acc: Vec, a: Vec, b: Vec, _: Parameters, __: Vec | None) -> Vec:
    """float32 add, then hardware float16 rounding: 24 >= 2 * 11 + 2 makes it innocuous."""
    return a.intrinsic("fma", b, acc).through_half()


def _converted_half_saturating(acc: Vec, a: Vec, b: Vec, p: Parameters, r: Vec | None) -> Vec:
    """The same, with results beyond the largest finite value replaced by it."""
    return _clamped(_converted_half(acc, a, b, p, r), p)


# -- by the lane's own rounding ------------------------------------------------------------------


def _directed(mode: str) -> Callable[..., Vec]:
    """Build a fused multiply-add of the lane's own format in a directed mode."""

    def step(acc: Vec, a: Vec, b: Vec, _: Parameters, __: Vec | None) -> Vec:
        return a.fma_toward(b, acc, mode)

    return step


def _shifted(mode: str, saturate: bool, flush: bool) -> Callable[..., Vec]:
    """Build a step that lets the lane round: adding M puts the format's last place in the lane's.

    With 2^e the power of two at or below |s| (at least 2^emin), the lane's last place next to
    M = 1.5 * 2^e * 2^(lane mantissa - m) is 2^(e - m), so (s + M) - M is s rounded to m mantissa
    bits, subnormals included; ties go to even because M / 2^(e - m) is even. A directed mode rounds
    both the multiply-add and the add in its direction, which is rounding once.
    """
    directed = mode != "rne"

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
        magic = p.reals["magic"]
        s = a.fma_toward(b, acc, mode) if directed else a.intrinsic("fma", b, acc)
        sign = s.as_bits & (1 << (s.lanes.bits - 1))
        power = s.power
        power = (power > p.reals["smallest_normal"]).where(power, p.reals["smallest_normal"])
        power = (power > p.reals["top_power"]).where(p.reals["top_power"], power)
        x = s.magnitude_bits.as_real if mode == "rtz" else s
        moved = power.fma_toward(magic, x, mode) if directed else power.intrinsic("fma", magic, x)
        result = power.intrinsic("fma", p.reals["minus_magic"], moved)  # exact
        if flush:
            zero = s.lanes.constant(0.0, False)
            below = p.reals["flush_below"] > result.magnitude_bits.as_real
            result = below.where(zero, result)
        result = (result.as_bits | sign).as_real  # a result that became zero keeps the sign of s
        if saturate:
            return _clamped(result, p)
        is_negative = sign.differs(0)
        over = is_negative.where(p.reals["over_negative"], p.reals["over_positive"])
        result = (result.magnitude_bits.as_real > p.reals["largest"]).where(over, result)
        if directed:
            infinity = is_negative.where(p.reals["inf_negative"], p.reals["inf_positive"])
            infinite = s.magnitude_bits.as_real.equals(float("inf"))
            result = infinite.where(infinity, result)
        return result

    return step


def _shifted_random(saturate: bool, flush: bool) -> Callable[..., Vec]:
    """Build the same for stochastic rounding: random bits below the last place, then truncation.

    The sum is truncated to the lane's bits first, which drops nothing above the random bits' last
    place; truncating once more, at the format's last place, is truncating once.
    """

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, random: Vec | None) -> Vec:
        assert random is not None
        s = a.fma_toward(b, acc, "rtz")
        sign = s.as_bits & (1 << (s.lanes.bits - 1))
        power = s.power
        power = (power > p.reals["smallest_normal"]).where(power, p.reals["smallest_normal"])
        power = (power > p.reals["top_power"]).where(p.reals["top_power"], power)
        units = random.to_reals("rtz") * p.reals["random_unit"]
        x = power.fma_toward(units, s.magnitude_bits.as_real, "rtz")
        moved = power.fma_toward(p.reals["magic"], x, "rtz")
        result = power.intrinsic("fma", p.reals["minus_magic"], moved)  # exact
        if flush:
            below = p.reals["flush_below"] > result
            result = below.where(s.lanes.constant(0.0, False), result)
        result = (result.as_bits | sign).as_real
        if saturate:
            return _clamped(result, p)
        over = sign.differs(0).where(p.reals["over_negative"], p.reals["over_positive"])
        return (result.magnitude_bits.as_real > p.reals["largest"]).where(over, result)

    return step


def _masked(saturate: bool) -> Callable[..., Vec]:
    """Build a step for a format with the lane's exponent field: round to even in the bits."""

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
        s = a.intrinsic("fma", b, acc)
        shift = p.integers["shift"]
        below = (s.lanes.constant(1, True) << shift) - 1
        add = (below >> 1) + ((s.as_bits >> shift) & 1)
        result = ((s.as_bits + add) & ~below).as_real
        if saturate:
            result = _clamped(result, p)
        return s.equals(s).where(result, s)

    return step


# -- any float format, any rounding --------------------------------------------------------------


def _lane_step(rounding: str, sticky: bool) -> Callable[..., Vec]:
    """Build the general step: one native add, then `fpsim.kernels.lanes.round_magnitude`.

    With ``sticky`` the error of the add is recovered exactly (Knuth's TwoSum) and the sum moved to
    its odd neighbour if there is one. Rounding to odd with two spare bits makes the second rounding
    exact (Boldo and Melquiond, IEEE Trans. Comp. 57(4), 2008). Without it the caller must know
    that the sum is exact, or that the mode is to nearest and the error cannot matter
    (`fpsim.engine` states the bound).
    """
    away_negative = mode_constants(rounding)[3]

    def step(acc: Vec, a: Vec, b: Vec, p: Parameters, random: Vec | None) -> Vec:
        if sticky:
            term = a * b
            total = Sum(*exact_sum(acc, term))
        else:
            term = a * b if away_negative else a
            total = Sum(a.intrinsic("fma", b, acc), None)
        cancelled = None
        if away_negative:  # toward -infinity, x + (-x) is -0
            cancelled = acc.as_bits ^ term.as_bits
        return round_sum(total, rounding, p, random, opposite=cancelled)

    return step


class Sum(NamedTuple):
    """A rounded sum and what it missed, or None where that cannot matter."""

    value: Vec
    error: Vec | None


def exact_sum(x: Vec, y: Vec) -> tuple[Vec, Vec]:
    """Return x + y and its error, exactly (Knuth's TwoSum)."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


def round_sum(
    total: Sum,
    rounding: str,
    p: Parameters,
    random: Vec | None = None,
    *,
    opposite: Vec | None = None,
    ieee: bool = True,
) -> Vec:
    """Round a sum to the format of ``p`` (`LANE_REALS`, `LANE_INTEGERS`).

    ``opposite`` has the sign bit set where the addends' signs differ, if the mode needs to know.
    With ``ieee`` a finite value may stay finite beyond the largest one, as in IEEE 754's directed
    modes; the parameters say which.
    """
    s, error = total
    nearest = mode_constants(rounding)[0]
    inward = ieee and not nearest and rounding != "sr"  # infinities must not become finite
    sign_shift = s.lanes.bits - 1
    negative = s.as_bits >> sign_shift
    magnitude = s.magnitude_bits
    if error is not None:
        magnitude = to_odd(magnitude, negative, error)
    rounded = round_magnitude(magnitude, negative, rounding, p, random, error is not None)
    value = rounded.bits.as_real - rounded.base
    zero = s.lanes.constant(0.0, False)
    value = (p.reals["flush_below"] > value).where(zero, value)
    sign = negative << sign_shift
    if opposite is not None:
        cancelled = s.equals(0.0).one_where_set() & (opposite >> sign_shift)
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


# -- fixed point in float64 lanes ----------------------------------------------------------------


def round_integer(x: Vec, rounding: str) -> Vec:
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
        return _onto(acc, round_integer(a * b * p.reals["per_lsb"], rounding), p, saturate)

    return step


def _fixed_random_step(saturate: bool) -> Callable[..., Vec]:
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


def _slice(acc: Vec, a: Vec, b: Vec, p: Parameters, _: Vec | None) -> Vec:
    """Add a slice of the exact product, as an integer: the part between 2^s and 2^(s + w).

    With R_s(x) the multiple of 2^s next to x, slices R_s - R_(s+w) of all levels add up to x.
    """
    units = a * b * p.reals["per_last"]
    above = (units * p.reals["per_slice"]).intrinsic("roundeven")
    own = units.intrinsic("roundeven") - above * p.reals["slice"]
    return acc + own


def _all_steps() -> dict[str, Step]:
    clamp = ("largest", "over_negative")
    steps = [
        Step("half", HALF, _native),
        Step("half-saturate", HALF, _native_saturating, clamp),
        Step("float", FLOAT, _native),
        Step("double", DOUBLE, _native),
        Step("float-saturate", FLOAT, _native_saturating, clamp),
        Step("float-flush", FLOAT, _native_flushing, ("smallest_normal",)),
        Step("slice", DOUBLE, _slice, SLICE_REALS),
        Step("masked32", FLOAT, _masked(False), (), ("shift",)),
        Step("masked32-saturate", FLOAT, _masked(True), clamp, ("shift",)),
        Step("via-half", FLOAT, _converted_half),
        Step("via-half-saturate", FLOAT, _converted_half_saturating, clamp),
    ]
    for mode in ("rtz", "rup", "rdn"):
        steps.append(Step(f"float-{mode}", FLOAT, _directed(mode)))
        steps.append(Step(f"half-{mode}", HALF, _directed(mode)))
    for mode in ("rne", "rtz", "rup", "rdn"):
        for saturate, flush in product((False, True), repeat=2):
            suffix = f"{mode}{'-flush' * flush}{'-saturate' * saturate}"
            build = _shifted(mode, saturate, flush)
            steps.append(Step(f"shifted32-{suffix}", FLOAT, build, SHIFTED_REALS))
            if mode == "rne":
                steps.append(Step(f"shifted16-{suffix}", HALF, build, SHIFTED_REALS))
    for saturate, flush in product((False, True), repeat=2):
        name = f"shifted32-sr{'-flush' * flush}{'-saturate' * saturate}"
        build = _shifted_random(saturate, flush)
        steps.append(Step(name, FLOAT, build, SHIFTED_RANDOM_REALS, random=True))
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
    for overflow in ("wrap", "saturate"):
        build = _fixed_random_step(overflow == "saturate")
        reals = (*FIXED_REALS, "random_places", "per_random_place")
        steps.append(Step(f"fixed64-sr-{overflow}", DOUBLE, build, reals, random=True))
    drop = ("random_drop",)
    for step in [step for step in steps if step.random]:
        name, integers = f"{step.name}-seeded", (*step.integers, *drop)
        steps.append(replace(step, name=name, integers=integers, seeded=True))
    return {step.name: step for step in steps}


#: Every step by name; `fpsim.engine` picks one.
STEPS: dict[str, Step] = _all_steps()


def step_named(name: str) -> Step:
    """Return the step called ``name``."""
    return STEPS[name]
