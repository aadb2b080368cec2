# SPDX-License-Identifier: Apache-2.0
"""Steps of chains, ``acc = R(acc + a * b)`` with one rounding, in the lane's arithmetic.

The lane holds the value of the accumulator's code. Double rounding is harmless where the sum is
rounded to odd first, in two bits more than the format has (Boldo and Melquiond, IEEE Trans. Comp.
57(4), 2008), or to nearest with q <= P and 2 P <= L - 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fpsim.compute.bounds import (
    F16_BITS,
    F16_HIGH,
    F16_LOW,
    F16_NORMAL,
    F32_BITS,
    F32_HIGH,
    F32_LOW,
    F64_BITS,
    F64_RANGE,
    Bounds,
    Span,
    fits_float32,
    format_span,
    half_shift,
    inside,
    value_span,
)
from fpsim.compute.lanes.steps.step import (
    DIRECTED,
    NEAREST,
    Numbers,
    Step,
    first_exact,
    is_ieee,
)
from fpsim.formats.floating import FloatFormat, Subnormals
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.llvm.exact_add import Sum, clamped, fused_to_odd, odd_sum, round_sum
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.tiles import Folding, TermSource
from fpsim.kernels.llvm.vector import HALF, Lane, Vec, WordBytes
from fpsim.units.stages import Chain, ProductRounding

__all__ = ["General", "add_pair", "adder", "adding_steps", "chain_steps", "round_pair"]


def chain_steps(stage: Chain, bounds: Bounds, machine: Machine) -> Iterator[Step]:
    """Yield the steps of a chain, fastest first.

    Args:
        stage: any chain.
        bounds: bounds of the terms, also for a stage that rounds products first.
        machine: the processor.

    Yields:
        Candidate steps; the planner asks their lemmas.
    """
    if stage.product is ProductRounding.ROUNDED:
        yield from Separate.of(stage, bounds, machine)
        return
    if stage.rounding is Rounding.SR:
        for lane in (Lane.F32, Lane.F64):
            for normal, inside_range in ((True, True), (True, False), (False, False)):
                yield from _either_way(MaskedRandom(stage, lane, normal, inside_range))
    elif stage.rounding in DIRECTED:
        yield _Native(stage, Lane.F16)
        yield _ThroughHalf(stage, Lane.F32, True)
        yield from _either_way(_Magic(stage, Lane.F32, False))
        yield from _either_way(_Native(stage, Lane.F32))
        yield from _either_way(_Shifted(stage, Lane.F32, False))
    else:
        yield from _half_steps(stage)
        yield _Magic(stage, Lane.F32, False)
        yield _Magic(stage, Lane.F32, True)
    yield from adding_steps(stage)


def _either_way(step: Step) -> Iterator[Step]:
    """Yield the step with modes in its instructions, then with the mode set in the processor."""
    yield step
    yield _OneWay(step.stage, step.lane, step)


def _half_steps(stage: Chain) -> Iterator[Step]:
    """Yield the steps of float16 lanes, the fastest."""
    yield _Native(stage, Lane.F16)
    yield _Shifted(stage, Lane.F16, False)


def adding_steps(stage: Chain) -> Iterator[Step]:
    """Yield the steps that add any term to any accumulator, of chains and of a tree's nodes."""
    yield from _half_steps(stage)
    yield _ThroughHalf(stage, Lane.F32)
    yield _ThroughHalf(stage, Lane.F32, odd=True)
    yield _Native(stage, Lane.F32)
    for odd in (False, True):
        yield _Masked(stage, Lane.F32, odd)
        yield _Shifted(stage, Lane.F32, odd)
    for lane in (Lane.F32, Lane.F64):
        yield General(stage, lane, False)
        yield General(stage, lane, True)


def _saturates(stage: Chain) -> str:
    return "saturate" if stage.overflow is Overflow.SATURATE else ""


def _flushes(stage: Chain) -> str:
    return "flush" if stage.format.subnormals is Subnormals.FLUSH else ""


def _in_float32(bounds: Bounds) -> bool:
    """Return whether factors and products are normal float32 numbers."""
    spans = (bounds.a, bounds.b, bounds.span)
    return all(fits_float32(span) for span in spans) and max(bounds.bits) <= F32_BITS


def _lane_holds(stage: Chain) -> bool:
    """Return whether float32 holds every finite result; a larger sum overflows the format too."""
    fmt = stage.format
    top = F32_HIGH if stage.rounding in NEAREST else F32_HIGH - 2
    return fmt.exponent_min >= F32_LOW and fmt.exponent_max <= top


def _rounds_once(stage: Chain, bounds: Bounds, bits: int) -> bool:
    """Return whether rounding to nearest in ``bits`` bits first gives the format's rounding."""
    p, q = stage.format.mantissa_bits + 1, bounds.q
    return q <= p and 2 * p <= bits - 1


@dataclass(frozen=True)
class _Native(Step):
    """The lane's own fused multiply-add; results are clamped or flushed as the stage does."""

    @property
    def flags(self) -> tuple[Any, ...]:
        """The mode, if not to nearest even, and the treatment of results out of range."""
        mode = "" if self.stage.rounding is Rounding.RNE else self.stage.rounding
        return mode, _saturates(self.stage), _flushes(self.stage)

    @property
    def cells(self) -> tuple[int, int]:  # type: ignore[override]
        """More accumulators than for other steps, to hide the latency of a cheap step."""
        return (4, 4)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why the lane's multiply-add is the stage's."""
        stage, fmt = self.stage, self.stage.format
        nearest = stage.rounding is Rounding.RNE
        policy = stage.overflow is Overflow.INF or (nearest and _saturates(stage))
        if not policy or not (nearest or (stage.rounding in DIRECTED and machine.directed)):
            return None
        if self.lane is Lane.F16:
            fits = bounds.halves and max(bounds.bits) <= F16_BITS and machine.half_lanes
            if not fits or half_shift(bounds.a, bounds.b) is None or not is_ieee(fmt, 5, 10, 15):
                return None
            how = "" if nearest else ", in its direction"
            return f"float16 fused multiply-add is this unit's step{how}"
        factors = fits_float32(bounds.a) and fits_float32(bounds.b)
        if not factors or max(bounds.bits) > machine.float32_bits:
            return None
        if nearest and is_ieee(replace(fmt, subnormals=Subnormals.GRADUAL), 8, 23, 127):
            if not _flushes(stage):
                return "float32 fused multiply-add is this unit's step"
            if stage.overflow is Overflow.INF:
                return "float32 fused multiply-add, its subnormals flushed, is this unit's step"
        if not nearest and fits_float32(bounds.span) and is_ieee(fmt, 8, 23, 127):
            return "float32 fused multiply-add in the unit's direction is this unit's step"
        return None

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write one multiply-add, and the comparisons of its result with the format's range."""
        a, b = source.pair(0)
        mode, saturates, flushes = self.flags
        if mode:
            return a.fma_toward(b, acc, str(mode))
        s = a.intrinsic("fma", b, acc)
        if flushes:
            small = p.reals["smallest_normal"] > s.magnitude_bits.as_real
            return small.where(s.sign_bits.as_real, s)
        return clamped(s, p) if saturates else s


@dataclass(frozen=True)
class _ThroughHalf(Step):
    """A float32 add, then the processor's rounding to float16: 24 >= 2 * 11 + 2 is innocuous.

    With ``sets_mode`` the processor's mode is the stage's directed mode for both, which amounts to
    one rounding. With ``odd`` the sum is rounded to odd first: its 13 spare bits, and more below
    2^emin, tell the processor on which side of a tie it is.
    """

    sets_mode: bool = False
    odd: bool = False

    kind = "via-half"
    cells = (4, 4)

    @property
    def direction(self) -> str:
        """The stage's mode if the processor is set to it."""
        return str(self.stage.rounding) if self.sets_mode else ""

    @property
    def flags(self) -> tuple[Any, ...]:
        """The mode set in the processor, how the sum is rounded, and what large values become."""
        return self.direction, "odd" * self.odd, _saturates(self.stage)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why rounding to float32 first gives the stage's rounding."""
        stage, fmt, q = self.stage, self.stage.format, bounds.q
        policy = stage.overflow in (Overflow.INF, Overflow.SATURATE)
        fits = machine.converts_half and policy and is_ieee(fmt, 5, 10, 15)
        held = _in_float32(bounds) and max(bounds.bits) <= machine.float32_bits
        if self.sets_mode:
            if not (fits and held and stage.rounding in DIRECTED):
                return None
            return f"float32 fused multiply-add, then float16, both {stage.rounding}: rounding once"
        if not fits or stage.rounding is not Rounding.RNE:
            return None
        if self.odd:
            return _rounded_first(stage, bounds, machine, True) if held else None
        p = fmt.mantissa_bits + 1
        if not fits_float32(bounds.span) or q > p:
            return None
        return f"float32 add then float16: 24 >= 2 * {p} + 2 and q = {q} <= {p}"

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write a sum, a conversion to float16 and one back."""
        a, b = source.pair(0)
        total = fused_to_odd(a, b, acc) if self.odd else a.intrinsic("fma", b, acc)
        s = total.through(HALF)
        return clamped(s, p) if _saturates(self.stage) else s


@dataclass(frozen=True)
class _Masked(Step):
    """A format with the lane's exponent field: the lane's sum rounded to nearest even on its bits.

    With ``odd`` the lane's sum is first rounded to odd, if it may be a tie.
    """

    odd: bool

    kind = "masked"
    cells = (4, 2)

    @property
    def flags(self) -> tuple[Any, ...]:
        """How the lane's sum is rounded, and the treatment of too large values."""
        return "odd" * self.odd, _saturates(self.stage)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why rounding to float32 first gives the stage's rounding."""
        stage, fmt, p = self.stage, self.stage.format, self.stage.format.mantissa_bits + 1
        held = _in_float32(bounds) and max(bounds.bits) <= machine.float32_bits
        if stage.rounding is not Rounding.RNE or not is_ieee(fmt, 8, fmt.mantissa_bits, 127):
            return None
        return _rounded_first(stage, bounds, machine, self.odd) if held and p > 1 else None

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write a sum, and the rounding of its bit pattern as an integer."""
        a, b = source.pair(0)
        s = fused_to_odd(a, b, acc) if self.odd else a.intrinsic("fma", b, acc)
        shift = p.integers["shift"]
        below = (s.lanes.constant(1, True) << shift) - 1
        add = (below >> 1) + ((s.as_bits >> shift) & 1)
        result = ((s.as_bits + add) & ~below).as_real
        if _saturates(self.stage):
            result = clamped(result, p)
        return s.equals(s).where(result, s)


def _rounded_first(stage: Chain, bounds: Bounds, machine: Machine, odd: bool) -> str | None:
    """Return why a float32 sum may be rounded again to nearest even, or None."""
    lane, p, q = machine.float32_bits, stage.format.mantissa_bits + 1, bounds.q
    if not odd and _rounds_once(stage, bounds, lane):
        return f"nearest with q = {q} <= P = {p} and 2P <= {lane - 1}: no harmful double rounding"
    if odd and machine.directed and p <= lane - 2:
        return f"sum rounded to odd in {lane} >= {p} + 2 bits first"
    return None


@dataclass(frozen=True)
class _Shifted(Step):
    """Rounding by adding a number M whose last place in the lane is the format's.

    With 2^e the power of two at or below |s| (at least 2^emin), the lane's last place next to
    M = 1.5 * 2^e * 2^(lane mantissa - m) is 2^(e - m), so (s + M) - M is s rounded to m mantissa
    bits, subnormals included; ties go to even because M / 2^(e - m) is even. A directed mode rounds
    both the multiply-add and the add in its direction, which is rounding once. With ``odd`` the
    first sum is rounded to odd, which with two spare bits makes rounding it to nearest exact.
    """

    odd: bool

    kind = "shifted"
    cells = (4, 2)

    @property
    def flags(self) -> tuple[Any, ...]:
        """Both rounding modes, and the treatment of results out of range."""
        odd = "odd" * self.odd
        return self.stage.rounding, odd, _flushes(self.stage), _saturates(self.stage)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why M and every sum are normal numbers of the lane, rounded once."""
        stage, fmt, p = self.stage, self.stage.format, self.stage.format.mantissa_bits + 1
        if self.lane is Lane.F16:
            fits = bounds.halves and max(bounds.bits) <= F16_BITS and machine.half_lanes
            if not fits or half_shift(bounds.a, bounds.b) is None:
                return None
            once = stage.rounding is Rounding.RNE and _rounds_once(stage, bounds, F16_BITS)
            top = fmt.exponent_max + F16_BITS - p
            # Sums below the normal float16 numbers are exact.
            low = bounds.span.low < F16_LOW or fmt.exponent_min < F16_NORMAL or top >= F16_HIGH
            if self.odd or not once or low or fmt.mantissa_bits == 0:
                return None
            q = bounds.q
            return f"nearest with q = {q} <= P = {p} and 2P <= 10: no harmful double rounding"
        lane = machine.float32_bits
        held = _in_float32(bounds) and max(bounds.bits) <= lane
        # The last place of a format without mantissa bits is its exponent's, whose parity M
        # ignores; 1.5 * 2^e * 2^(24 - P) + s must stay in its binade with s up to 2^(e + 1).
        top = fmt.exponent_max + F32_BITS + 1 - p
        reachable = _lane_holds(stage) and top < F32_HIGH and 1 < p <= lane - 2
        if not held or not reachable:
            return None
        if stage.rounding in DIRECTED and machine.directed and not self.odd:
            how = "float32 fused multiply-add in the unit's direction"
            return f"{how}, then again to P = {p} bits: rounding once"
        if stage.rounding is not Rounding.RNE:
            return None
        return _rounded_first(stage, bounds, machine, self.odd)

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write a sum, its sum with M, and the subtraction of M."""
        a, b = source.pair(0)
        mode = str(self.stage.rounding)
        directed, magic = mode != "rne", p.reals["magic"]
        if self.odd:
            s = fused_to_odd(a, b, acc)
        else:
            s = a.fma_toward(b, acc, mode) if directed else a.intrinsic("fma", b, acc)
        sign = s.sign_bits
        power = s.power
        power = (power > p.reals["smallest_normal"]).where(power, p.reals["smallest_normal"])
        power = (power > p.reals["top_power"]).where(p.reals["top_power"], power)
        x = s.magnitude_bits.as_real if mode == "rtz" else s
        moved = power.fma_toward(magic, x, mode) if directed else power.intrinsic("fma", magic, x)
        result = power.intrinsic("fma", p.reals["minus_magic"], moved)  # exact
        if _flushes(self.stage):
            zero = s.lanes.constant(0.0, False)
            below = p.reals["flush_below"] > result.magnitude_bits.as_real
            result = below.where(zero, result)
        # A result that became zero keeps the sign of s; in a mode that rounds down, M - M is -0.
        bits = result.magnitude_bits if mode == "rdn" else result.as_bits
        result = (bits | sign).as_real
        if _saturates(self.stage):
            return clamped(result, p)
        is_negative = sign.differs(0)
        over = is_negative.where(p.reals["over_negative"], p.reals["over_positive"])
        result = (result.magnitude_bits.as_real > p.reals["largest"]).where(over, result)
        if directed:
            infinity = is_negative.where(p.reals["inf_negative"], p.reals["inf_positive"])
            infinite = s.magnitude_bits.as_real.equals(float("inf"))
            result = infinite.where(infinity, result)
        return result


@dataclass(frozen=True)
class _Magic(Step):
    """`_Shifted` without its care for the format's ends, if no sum meets them or it saturates.

    No sum may be -0, subnormal in the lane, or so large that M * 2^e is infinite. The power of two
    has the sign of the sum, so that rounding toward zero works. A format with a smaller exponent
    field than the lane's saturates, and sums are multiples of its least number, so that those below
    2^emin have no bit to round.
    """

    odd: bool

    kind = "magic"
    cells = (4, 4)

    @property
    def _wide(self) -> bool:
        fmt = self.stage.format
        return is_ieee(fmt, 8, fmt.mantissa_bits, 127)

    @property
    def flags(self) -> tuple[Any, ...]:
        """Both rounding modes, and whether results are clamped."""
        return self.stage.rounding, "odd" * self.odd, "" if self._wide else "saturate"

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why no sum is -0, subnormal or too large."""
        stage, fmt, mode = self.stage, self.stage.format, self.stage.rounding
        lane, p = machine.float32_bits, fmt.mantissa_bits + 1
        twice = p <= lane - 2 and machine.directed
        if mode is Rounding.RNE:
            once = _rounds_once(stage, bounds, lane)
            rounds = once != self.odd and (once or twice)
        else:
            rounds = mode is Rounding.RTZ and twice and not self.odd
        factors = fits_float32(bounds.a) and fits_float32(bounds.b) and max(bounds.bits) <= lane
        if not rounds or not factors or not bounds.finite or p < 2 or bounds.start.special:
            return None
        if not (self._wide or self._meets_clamps(bounds)):
            return None
        sums = self._sums(bounds)
        if not fits_float32(replace(sums, high=sums.high + 2 + F32_BITS - p)):
            return None
        why = f"|sums| < 2^{sums.high + 1} are normal float32 numbers: so is what rounds them to"
        return f"{why} P = {p} bits{', to odd first' * self.odd}"

    def _meets_clamps(self, bounds: Bounds) -> bool:
        """Return whether clamping is all that the format's ends need."""
        fmt = self.stage.format
        grid = bounds.span.low >= fmt.exponent_min - fmt.mantissa_bits
        gradual = fmt.subnormals is Subnormals.GRADUAL and fmt.exponent_bits > 0
        return grid and gradual and self.stage.overflow is Overflow.SATURATE

    def _sums(self, bounds: Bounds) -> Span:
        """Return the span of an accumulator and a term, in a lane with any exponent.

        An accumulator beyond 2^(P + 1) times the largest product does not change any more.
        """
        p = self.stage.format.mantissa_bits + 1
        if not self._wide:
            return format_span(self.stage.format).union(bounds.span)
        high = bounds.span.high + p + 1
        return replace(bounds.span, high=high).union(bounds.start.span or Span(0, 0))

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write a sum, its sum with M, and the subtraction of M."""
        a, b = source.pair(0)
        mode = str(self.stage.rounding)
        directed = mode != "rne"
        if self.odd:
            s = fused_to_odd(a, b, acc)
        else:
            s = a.fma_toward(b, acc, mode) if directed else a.intrinsic("fma", b, acc)
        power = (s.as_bits & (s.lanes.exponent_mask | s.lanes.sign_mask)).as_real
        m = p.reals["magic"]
        moved = power.fma_toward(m, s, mode) if directed else power.intrinsic("fma", m, s)
        result = power.intrinsic("fma", p.reals["minus_magic"], moved)  # exact
        return result if self._wide else clamped(result, p)


@dataclass(frozen=True)
class _OneWay(Step):
    """A step whose instructions round in the mode that is set in the processor for the whole tile.

    The mode is set before the tile and reset after it. Nothing else in the tile rounds. This is
    faster than rounding to nearest and correcting by the error.
    """

    inner: Step

    @property
    def cells(self) -> tuple[int, int]:  # type: ignore[override]
        """Accumulators of the inner step."""
        return self.inner.cells

    @property
    def random(self) -> bool:
        """Whether rounding is stochastic."""
        return self.inner.random

    @property
    def direction(self) -> str:
        """The mode set in the processor; a stochastic rounding truncates first."""
        return "rtz" if self.random else str(self.stage.rounding)

    @property
    def name(self) -> str:
        """The name that plans print."""
        return f"{self.inner.name}-mode"

    @property
    def flags(self) -> tuple[Any, ...]:
        """The inner step's key, and the mode."""
        return (self.inner.key, self.direction)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why the inner step is exact on a processor that rounds in the set mode."""
        if machine.directed:
            return None
        why = self.inner.exact_for(bounds, machine.with_mode)
        return why and f"{why}; the processor rounds {self.direction} meanwhile"

    def parameters(self) -> Numbers:
        """Return the parameters of the inner step."""
        return self.inner.parameters()

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec | Folding:
        """Write the inner step."""
        return self.inner.build(acc, source, p, random)


@dataclass(frozen=True)
class General(Step):
    """Any format and mode: a sum of the lane, rounded by `fpsim.kernels.llvm.rounding` on its bits.

    With ``sticky`` the sum is rounded to odd first; else it is exact, or its error cannot matter.
    """

    sticky: bool

    kind = "lane"

    @property
    def random(self) -> bool:
        """Whether rounding is stochastic."""
        return self.stage.rounding is Rounding.SR

    @property
    def flags(self) -> tuple[Any, ...]:
        """The rounding mode, and whether the sum is rounded to odd first."""
        return self.stage.rounding, "sticky" * self.sticky

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why the lane's sum has enough bits below the format's last place."""
        stage, p, q = self.stage, self.stage.format.mantissa_bits + 1, bounds.q
        lane = F64_BITS
        if self.lane is Lane.F32:
            lane = machine.float32_bits
            held = _in_float32(bounds) and max(bounds.bits) <= lane and _lane_holds(stage)
            if not held:
                return None
        if stage.rounding is Rounding.SR and lane < p + stage.random_bits + 1:
            return None
        if not self.sticky:
            if stage.rounding not in NEAREST or not _rounds_once(stage, bounds, lane):
                return None
            return (
                f"nearest with q = {q} <= P = {p} and 2P <= {lane - 1}: no harmful double rounding"
            )
        if lane < p + 2 or q > lane:
            return None
        return f"sum rounded to odd in {lane} >= {p} + 2 bits first"

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write a sum and its rounding to the format, on the lane's bits.

        Args:
            acc: accumulators, one in each lane.
            source: hands out the term.
            p: limits and shifts of the format, in every lane.
            random: a random integer in each lane, for stochastic rounding; else None.

        Returns:
            The accumulators after the term, values of the format.
        """
        a, b = source.pair(0)
        rounding = str(self.stage.rounding)
        away_negative = mode_constants(rounding)[3]
        if self.sticky:
            term = a * b
            total = Sum.exact(odd_sum(acc, term, acc.lanes.directed))
        else:
            term = a * b if away_negative else a
            total = Sum(a.intrinsic("fma", b, acc), None)
        cancelled = None
        if away_negative:  # toward -infinity, x + (-x) is -0
            cancelled = acc.as_bits ^ term.as_bits
        return round_sum(total, rounding, p, random, opposite=cancelled)

    def rounded(self, a: Vec, b: Vec, p: Parameters) -> Vec:
        """Write the rounding of a product alone, which costs less than adding it to zero.

        Args:
            a, b: factors, whose product the lane holds exactly.
            p: limits and shifts of the format, in every lane.

        Returns:
            The products, rounded once to the format, in any mode but ``sr``.
        """
        return round_sum(Sum.exact(a * b), str(self.stage.rounding), p)


@dataclass(frozen=True)
class MaskedRandom(Step):
    """Stochastic rounding: random bits are added below the last place, then lower bits are masked.

    The sum is truncated to the lane's bits first, which drops nothing above the random bits' last
    place; truncating once more, at the format's last place, is truncating once. With ``normal``
    sums below 2^emin have no bit below the format's last place there, and are kept as they are;
    with ``inside`` no sum is too large.
    """

    normal: bool
    inside: bool

    kind = "masked"
    cells = (4, 2)

    @property
    def random(self) -> bool:
        """Always true: every rounding takes a random integer."""
        return True

    @property
    def flags(self) -> tuple[Any, ...]:
        """Whether small sums are exact and large ones absent, and how other sums end."""
        flush = "" if self.normal else _flushes(self.stage)
        end = "inside" if self.inside else _saturates(self.stage)
        return "sr", "normal" * self.normal, flush, end

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why the lane truncates only bits below the random bits."""
        stage, fmt, p = self.stage, self.stage.format, self.stage.format.mantissa_bits + 1
        # The last place of a format without mantissa bits is its exponent's.
        if fmt.mantissa_bits == 0 or not machine.directed:
            return None
        last = fmt.exponent_min - fmt.mantissa_bits
        if self.normal and (bounds.span.low < last or fmt.subnormals is Subnormals.FLUSH):
            return None
        if self.inside and not _stays_inside(fmt, bounds):
            return None
        bits = p + stage.random_bits
        if self.normal:
            bits = min(bits, _sum_bits(fmt, bounds))
        if self.lane is Lane.F32:
            fits = bits <= machine.float32_bits and _in_float32(bounds)
            fits = fits and fmt.exponent_min >= F32_LOW and (self.inside or _lane_holds(stage))
        else:
            spans = (bounds.a, bounds.b, bounds.span)
            far = all(inside(span, -F64_RANGE, F64_RANGE) for span in spans)
            fits = far and max(bits, *bounds.bits) <= F64_BITS
        if not fits:
            return None
        why = f"{self.lane} truncates, random bits are added, and P = {p} bits are kept"
        if self.normal:
            why = f"{why}; sums are multiples of 2^{last}, so small ones are exact"
        if self.inside:
            why = f"{why}; {bounds.count} terms stay below {fmt.max_value:g}"
        return why

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write a truncated sum, the addition of random bits, and a mask.

        Args:
            acc: accumulators, one in each lane.
            source: hands out the term.
            p: limits and shifts of the format, in every lane.
            random: a random integer in each lane, its top bit just below the format's last bit; or
                words whose bytes a dot instruction adds there.

        Returns:
            The accumulators after the term, values of the format.
        """
        a, b = source.pair(0)
        s = a.fma_toward(b, acc, "rtz")
        result = _masked_sum(s, random, p) if self.normal else self._by_magnitude(s, random, p)
        if self.inside:
            return result
        if _saturates(self.stage):
            return clamped(result, p)
        beyond = (p.reals["over_positive"].as_bits | s.sign_bits).as_real
        return (result.magnitude_bits.as_real > p.reals["largest"]).where(beyond, result)

    def _by_magnitude(self, s: Vec, random: Vec | WordBytes, p: Parameters) -> Vec:
        """Write |s| on the grid of normal numbers, or 2^emin + |s| below 2^emin, with its sign."""
        magnitude = s.magnitude_bits.as_real
        zero, one = (s.lanes.constant(value, False) for value in (0.0, 1.0))
        base = (p.reals["smallest_normal"] > magnitude).where(p.reals["smallest_normal"], zero)
        moved = magnitude.fma_toward(one, base, "rtz")
        result = _masked_sum(moved, random, p) - base  # exact
        if _flushes(self.stage):
            result = (p.reals["flush_below"] > result).where(zero, result)
        return (result.as_bits | s.sign_bits).as_real


def _masked_sum(x: Vec, random: Vec | WordBytes, p: Parameters) -> Vec:
    """Return lanes with random integers added to their bits, cut to the format's bits."""
    bits = x.as_bits
    total = random.added_to(bits) if isinstance(random, WordBytes) else bits + random
    return (total & ~((x.lanes.constant(1, True) << p.integers["shift"]) - 1)).as_real


def _stays_inside(fmt: FloatFormat, bounds: Bounds) -> bool:
    """Return whether no sum, rounded in any direction, is beyond the largest number.

    With |t| <= T and u = 2^-m, |s_k| <= (|s_(k-1)| + T) (1 + u): a geometric series.
    """
    unit = 2.0**-fmt.mantissa_bits
    growth = math.exp(min(bounds.count * math.log1p(unit), 100.0))
    first = np.abs(bounds.start.values).max()
    bound = first * growth + bounds.largest * (1 + unit) * (growth - 1) / unit
    return bounds.finite and bool(bound * (1 + 1e-9) <= fmt.max_value)


def _sum_bits(fmt: FloatFormat, bounds: Bounds) -> int:
    """Return the bits that hold the exact sum of any accumulator and a term."""
    start = value_span(bounds.start.values) or bounds.span
    largest = max(fmt.exponent_max + 1, bounds.span.high, start.high) + 1
    return largest - min(bounds.span.low, start.low)


def adder(stage: Any, bounds: Bounds, machine: Machine) -> tuple[Step, str] | None:
    """Return a step that adds terms, and accumulators, to accumulators, with its reason; or None.

    Args:
        stage: a chain or a tree; its format, rounding and overflow count.
        bounds: bounds of the terms.
        machine: the processor.

    Returns:
        The fastest step whose lemma holds for terms and for values of the format, with its reason.
    """
    fmt = stage.format
    chain, bounds = Chain(fmt, stage.rounding, stage.overflow), bounds.without_halves()
    found = first_exact(adding_steps(chain), bounds, machine)
    # A float32 lane holds a float32 accumulator; the first product must be exact there too.
    if found and isinstance(found[0], _Native) and not found[0].flags[0]:
        return found if bounds.q <= F32_BITS and fits_float32(bounds.span) else None
    # Another lane must hold each term exactly: a product, or an accumulator times one.
    own = Bounds.of_format(fmt)
    widest = bounds.of_values(bounds.span.union(own.span), max(bounds.q, own.q))
    return first_exact(adding_steps(chain), widest, machine)


@dataclass(frozen=True)
class _One:
    """A source of a single term; see `fpsim.kernels.llvm.tiles.TermSource`."""

    x: Vec
    y: Vec

    def pair(self, i: Any) -> tuple[Vec, Vec]:
        """Return the term's factors."""
        return self.x, self.y


def add_pair(step: Step, acc: Vec, x: Vec, y: Vec | None, p: Parameters) -> Vec:
    """Write the step of one term: a product, or a value if there is no second factor.

    Args:
        step: of one term, from `adding_steps`.
        acc: accumulators, one in each lane.
        x, y: factors of the term; ``y`` None: the term is ``x``.
        p: the step's run-time numbers, in every lane.

    Returns:
        The accumulators after the term.
    """
    one = x.lanes.constant(1.0, False)
    found = step.build(acc, _One(x, one if y is None else y), p, None)  # type: ignore[arg-type]
    assert isinstance(found, Vec)  # no term is folded
    return found


def round_pair(step: Step, x: Vec, y: Vec | None, p: Parameters) -> Vec:
    """Write the rounding of one term to the format.

    Args:
        step: of one term, from `adding_steps`.
        x, y: factors of the term; ``y`` None: the term is ``x``.
        p: the step's run-time numbers, in every lane.

    Returns:
        The rounded terms; a zero keeps its sign.
    """
    if isinstance(step, General) and step.sticky:
        return step.rounded(x, x.lanes.constant(1.0, False) if y is None else y, p)
    # Adding this zero to x gives x for every x, zeros included.
    down = step.stage.rounding is Rounding.RDN
    return add_pair(step, x.lanes.constant(0.0 if down else -0.0, False), x, y, p)


@dataclass(frozen=True)
class Separate(Step):
    """A multiplier that rounds its product, then an adder: one step rounds both."""

    inner: Step

    @classmethod
    def of(cls, stage: Chain, bounds: Bounds, machine: Machine) -> Iterator[Separate]:
        """Yield the step for a chain that rounds products first, if there is one.

        Args:
            stage: a chain with a separate multiplier.
            bounds: bounds of the products.
            machine: the processor.

        Yields:
            One step, or none if no step rounds both products and sums.
        """
        found = cls._inner(stage, bounds, machine)
        if found:
            yield cls(stage, found[0].lane, found[0])

    @staticmethod
    def _inner(stage: Chain, bounds: Bounds, machine: Machine) -> tuple[Step, str] | None:
        """Return a step for exact float32 products and values; else any adding step; or None."""
        fused = replace(stage, product=ProductRounding.FUSED)
        if stage.rounding is Rounding.SR:
            return None
        if bounds.q <= machine.float32_bits and _in_float32(bounds):
            p = stage.format.mantissa_bits + 1
            rounded = bounds.without_halves().of_values(bounds.span, p)
            found = first_exact(adding_steps(fused), rounded, machine)
            if found and isinstance(found[0], _Masked | _Shifted | _ThroughHalf):
                return found
        return adder(fused, bounds, machine)

    @property
    def name(self) -> str:
        """The name that plans print."""
        return f"separate-{self.inner.name}"

    @property
    def flags(self) -> tuple[Any, ...]:
        """Key of the step that rounds products and sums."""
        return (self.inner.key,)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why the inner step is exact for products, and for sums of rounded products."""
        found = self._inner(self.stage, bounds, machine)
        ours = found is not None and found[0] == self.inner
        return f"products rounded first; {found[1]}" if found and ours else None

    def parameters(self) -> Numbers:
        """Return the parameters of the step that rounds."""
        return self.inner.parameters()

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write two roundings: of the product, then of its sum with the accumulator.

        Args:
            acc: accumulators, one in each lane.
            source: hands out the term.
            p: the run-time numbers of the step that rounds, in every lane.
            random: not used; these steps never round at random.

        Returns:
            The accumulators after the term.
        """
        product = round_pair(self.inner, *source.pair(0), p)
        return add_pair(self.inner, acc, product, None, p)
