# SPDX-License-Identifier: Apache-2.0
"""Steps of aligned windows: N terms shifted to one exponent and added as integers.

A term times 2^(F - E), rounded to an integer, is exact in a carrier that holds the whole window,
and so is their sum. Carriers are the lane's floats, and integers of 32 or 64 bits. Powers of two
stand for exponents: their largest is found by comparison, and 2^(F - E) is a subtraction of bit
patterns. A second window may join the sum with the addend (AMD CDNA3).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from fpsim.compute.bounds import (
    F32_BITS,
    F32_HIGH,
    F32_LOW,
    F64_BITS,
    F64_RANGE,
    INT64_BITS,
    Bounds,
    fits_float32,
    float_shift,
)
from fpsim.compute.lanes.steps.step import Numbers, Step, float_parameters, is_ieee
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.llvm.exact_add import Sum, odd_sum, round_integer, round_sum
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.tiles import Fold, Folding, TermSource
from fpsim.kernels.llvm.vector import FLOAT, Lane, Vec
from fpsim.units.stages import Addend, Aligned

__all__ = ["Carrier", "WholeWindow", "Window", "power_of", "window_steps"]

#: Bits of an integer lane without the sign.
INT32_BITS = 31
#: Rounding modes of conversions between float32 and integers.
CONVERSIONS = (Rounding.RNE, Rounding.RTZ, Rounding.RUP, Rounding.RDN)
#: Exponents of aligned terms in float32 lanes: 2^(F - E) and its inverse must be normal numbers.
ALIGNED32_LOW, ALIGNED32_HIGH = -90, 90
#: Exponents 2^floor for a stage without a floor: below every alignment exponent of a lane, yet
#: 2^(F - E) and its inverse are normal for every F that the lane's windows have.
LEAST_POWERS = {Lane.F32: -95, Lane.F64: -900}
#: Largest shift of a 64-bit integer that matters: further shifts only round.
MAX_SHIFT = 62


class Carrier(StrEnum):
    """Type of the numbers that hold the integers of a window."""

    FLOATS = "floats"  #: floats of the lane
    INT32 = "int32"  #: 32-bit integers beside float32 terms
    INT64 = "int64"  #: 64-bit integers beside float64 terms


def window_steps(stage: Aligned, bounds: Bounds) -> Iterator[Step]:
    """Yield the steps of an aligned window, fastest first."""
    yield WholeWindow(stage, Lane.F32)
    yield WholeWindow(stage, Lane.F64)
    limited = stage.product_limit is not None and bounds.span.high > stage.product_limit
    scaled = stage.normalised and bounds.scaled
    if stage.addend is Addend.JOINED:
        spare = _spare_bits(stage, bounds)
        if spare is not None:
            joined = Window(stage, Lane.F32, Carrier.INT32, True, scaled, spare=spare)
            yield from (joined, replace(joined, sets_mode=True))
    elif not limited:
        native = stage.rounding in CONVERSIONS and is_ieee(stage.format, 8, 23, 127)
        for split in (False, True):
            own = Window(stage, Lane.F32, Carrier.INT32, native, scaled, split=split)
            yield from (own, replace(own, sets_mode=True))
        yield Window(stage, Lane.F32, Carrier.FLOATS, False, scaled)
    yield Window(stage, Lane.F64, Carrier.FLOATS, False, scaled, limited)
    yield Window(stage, Lane.F64, Carrier.INT64, False, scaled, limited, bounds.finite)


def _spare_bits(stage: Aligned, bounds: Bounds) -> tuple[int, int] | None:
    """Return (k, l) for a joined window in 32-bit integers, or None if they do not fit.

    Sums of products are below S; c is below 2^(F + 1) and, aligned to itself, at least 2^F. c and
    the sum are added with k more bits; l bits below only record whether a bit was lost. If there
    are such bits, c outweighs the products, at least half of which is shifted out: the result has
    two bits more than float32.
    """
    fraction, more = stage.fraction_bits, stage.join_sum_bits - stage.fraction_bits
    unit = math.ldexp(bounds.significand, bounds.headroom - 2 + fraction)
    largest = stage.products * (math.ceil(unit) + 1)
    kept = min(more, INT32_BITS - fraction - 1)
    while kept >= 0 and (2 << fraction + kept) + largest >= 1 << INT32_BITS:
        kept -= 1
    lost = more - kept
    if kept < 0 or (lost and (1 << fraction + kept) - largest // 2 - 1 < 1 << F32_BITS + 1):
        return None
    return kept, lost


def _window_bits(stage: Aligned, bounds: Bounds, finest: int) -> int:
    """Return the bits that hold the sum of a step's terms and an addend, on the grid 2^finest."""
    return finest + bounds.headroom + (stage.products + 1).bit_length()


def _aligned_in_float32(stage: Aligned, bounds: Bounds, bits: int, machine: Machine) -> bool:
    """Return whether terms, windows (of ``bits`` fraction bits) and sums are 0 or normal float32.

    Exponents near the ends of float32 are ruled out.
    """
    span = bounds.span
    lowest = span.low - bits
    first = bounds.start.span
    if first is not None:
        lowest = min(lowest, first.low - bits)
        span = span.union(first)
    floor = stage.exponent_floor
    return (
        sum(bounds.bits) <= machine.float32_bits
        and lowest >= ALIGNED32_LOW
        and span.high + stage.fraction_bits <= ALIGNED32_HIGH
        and float_shift(bounds.a, bounds.b) is not None
        and (floor is None or floor <= ALIGNED32_HIGH)
        and stage.format.exponent_min >= F32_LOW
    )


@dataclass(frozen=True)
class WholeWindow(Step):
    """A window that cuts nothing off: an exact sum of the lane, then one rounding."""

    kind = "whole"

    @property
    def terms(self) -> int:
        """Products of the window."""
        return int(self.stage.products)

    @property
    def flags(self) -> tuple[Any, ...]:
        """The way sums are rounded."""
        return (self.stage.rounding,)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why the window's last place never rises above a product's last place.

        With low the terms' last place and |sum| < 2^top for every partial sum, E - F <= low.
        Rounding sums to ``format`` doubles them at most, unless there are too many steps for its
        precision.
        """
        stage, fmt, first = self.stage, self.stage.format, bounds.start.span
        low, fraction, floor = bounds.span.low, stage.fraction_bits, stage.exponent_floor
        plain = stage.addend is Addend.EARLY and stage.width is None and not stage.signed_zero
        rtz = stage.rounding is Rounding.RTZ
        steps = -(-bounds.count // stage.products)
        grows_little = rtz or 2 * steps <= 1 << fmt.mantissa_bits
        if (
            not (plain and grows_little)
            or fmt.exponent_min - fmt.mantissa_bits > low
            or stage.product_limit is not None
            or (first is not None and first.low < low)
            or (floor is not None and floor - fraction > low)
        ):
            return None
        extra = int(not rtz) + (first is not None)
        start_high = 1 + bounds.a.high - 1 + bounds.b.high - 1
        if bounds.scaled:  # the exponents are the scales', whatever the sums are
            start_high = max(start_high, 1 + bounds.b.high - 1)
        if first is not None:
            start_high = max(first.high, start_high)
        highest = low + fraction + 1  # |sum| < 2^(low + F + 1) has E <= low + F
        top = max(bounds.span.times(bounds.count).high, start_high) + extra
        if top > highest and start_high + extra <= highest and bounds.largest_sum is not None:
            bound = bounds.largest_sum()
            if np.isfinite(bound):
                top = max(math.frexp(bound)[1], start_high) + extra
        if top > highest or self.lane is not self._lane(bounds, top - low, machine):
            return None
        return f"|sums| < 2^{top}: no term loses a bit above 2^{low}"

    def _lane(self, bounds: Bounds, bits: int, machine: Machine) -> Lane | None:
        """Return the narrowest lane that holds sums of ``bits`` bits, or None."""
        fmt = self.stage.format
        narrow = (
            bits <= machine.float32_bits
            and fits_float32(bounds.span)
            and float_shift(bounds.a, bounds.b) is not None
            and fmt.exponent_min >= F32_LOW
            and fmt.exponent_max <= F32_HIGH
            and fmt.mantissa_bits + 1 < F32_BITS
        )
        if narrow:
            return Lane.F32 if max(bounds.bits) <= F32_BITS else None
        return Lane.F64 if max(bits, *bounds.bits) <= F64_BITS else None

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Folding:
        """Write multiply-adds and one rounding.

        Args:
            acc: accumulators, one in each lane.
            source: the terms of the window.
            p: limits and shifts of the format, in every lane.
            random: not used; windows do not round at random.

        Yields:
            The fold over the terms.

        Returns:
            The accumulators after the step; zeros are +0.
        """

        def add(i: Any, total: Vec) -> tuple[Vec, ...]:
            x, y = source.pair(i)
            return (x.intrinsic("fma", y, total),)

        (total,) = yield Fold(range(self.terms), (acc,), add)
        zero = acc.lanes.constant(0.0, False)
        return round_sum(Sum.exact(total), str(self.stage.rounding), p, ieee=False) + zero


@dataclass(frozen=True)
class Window(Step):
    """A window with any settings, in a carrier that holds it; see `fpsim.units.stages.Aligned`."""

    carrier: Carrier
    native: bool  #: float32 itself is the result's format and rounds a 32-bit integer
    scaled: bool  #: zero terms have powers of two, although products are normalised
    limited: bool = False  #: whether a product may reach the product limit
    finite: bool = False  #: whether no operand is NaN or infinite
    split: bool = False  #: only the sum of products fits 32 bits; halves of it and of c are added
    spare: tuple[int, int] = (0, 0)  #: bits of a joined window in 32-bit integers
    sets_mode: bool = False  #: the processor's mode is set to convert integers of many bits

    @property
    def kind(self) -> str:  # type: ignore[override]
        """First word of the printed name."""
        if self.stage.addend is Addend.JOINED and self.carrier is not Carrier.INT64:
            return "joined"
        names = {Carrier.FLOATS: "aligned", Carrier.INT32: "integer", Carrier.INT64: "window"}
        return names[self.carrier]

    @property
    def terms(self) -> int:
        """Products of the window."""
        return int(self.stage.products)

    @property
    def cells(self) -> tuple[int, int]:  # type: ignore[override]
        """Rows that share a vector of columns, more of them where windows are short."""
        return (6 if self.terms < 8 else 4, 1)

    @property
    def powers(self) -> bool:
        """Whether the step reads the power of two 2^e of each term, for alignment."""
        return self.scaled or not self.stage.normalised

    @property
    def direction(self) -> str:
        """Mode set in the processor for conversions of 32-bit integers; all else is exact."""
        return self._conversion if self.sets_mode else ""

    @property
    def _conversion(self) -> str:
        """Rounding of 32-bit integers to floats: the result's, or truncation with bits to spare."""
        return str(self.stage.rounding) if self.native else "rtz"

    @property
    def flags(self) -> tuple[Any, ...]:
        """Every setting on which the code depends."""
        stage = self.stage
        joined, late = stage.addend is Addend.JOINED, stage.addend is Addend.LATE
        second = stage.join_rounding if joined else stage.late_rounding if late else ""
        return (
            stage.align,
            stage.rounding,
            "" if stage.addend is Addend.EARLY else stage.addend,
            second,
            f"lanes{stage.lanes}" * (stage.lanes > 1),
            "reach" * (joined and stage.join_reach is not None),
            "" if stage.width is None else stage.width_overflow,
            "normalised" * stage.normalised,
            "scaled" * self.scaled,
            "signed" * stage.signed_zero,
            "limited" * self.limited,
            "finite" * self.finite,
            "native" * self.native,
            "{}+{}".format(*self.spare) * any(self.spare),
            "split" * self.split,
            "mode" * self.sets_mode,
        )

    # -- lemma -------------------------------------------------------------------------------------

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why the carrier holds every window, and the lane its sum's value."""
        stage = self.stage
        if sum(bounds.bits) > F64_BITS or (self.scaled and not bounds.scaled):
            return None
        if self.carrier is Carrier.INT64:
            return self._in_int64(bounds)
        if stage.addend is Addend.JOINED:
            return self._joined(bounds, machine)
        late = stage.addend is Addend.LATE
        # An infinite product gives an infinite result; a saturated one would meet the addend.
        saturates = not bounds.finite and stage.overflow is Overflow.SATURATE
        if self.limited or (late and (stage.format != stage.container or saturates)):
            return None
        bits = max(_window_bits(stage, bounds, stage.fraction_bits), stage.width or 0)
        if self.lane is Lane.F32:
            narrow = not late and _aligned_in_float32(stage, bounds, stage.fraction_bits, machine)
            if not narrow:
                return None
        if self.carrier is Carrier.INT32:
            return self._in_int32(bounds, bits, machine)
        lane = machine.float32_bits if self.lane is Lane.F32 else F64_BITS
        if bits > lane or (self.lane is Lane.F32 and stage.format.mantissa_bits + 1 >= F32_BITS):
            return None
        return f"the window's {bits} <= {lane} bits are exact integers of a lane"

    def _in_int32(self, bounds: Bounds, bits: int, machine: Machine) -> str | None:
        """Return why a 32-bit integer holds the sum of a window, or of its products, or None."""
        stage = self.stage
        plain = stage.width is None and not stage.signed_zero and bounds.finite
        converts = stage.align in CONVERSIONS and self._converts(
            not self.split and bits <= F32_BITS, machine
        )
        # The lane rounds the integer once, or truncates it with more bits than the result has.
        once = self.native or bits <= F32_BITS or stage.rounding is Rounding.RTZ
        # Rounding adds half of the last place to the integer, which float32 must have bits for.
        halves = stage.rounding is not Rounding.RNA or stage.format.mantissa_bits + 1 < F32_BITS
        if not (plain and converts and once and halves):
            return None
        why = "terms are exact in float32, the window's"
        if not self.split:
            fits = bits <= INT32_BITS
            return f"{why} {bits} <= {INT32_BITS} bits in an integer" if fits else None
        own = stage.fraction_bits + bounds.headroom + (stage.products - 1).bit_length()
        if not self.native or own > INT32_BITS:
            return None
        why = f"{why} {own} <= {INT32_BITS} bits of products in an integer"
        return f"{why}, added to the addend in halves"

    def _converts(self, exact: bool, machine: Machine) -> bool:
        """Return whether the conversion of 32-bit integers rounds as the stage, or is exact."""
        plain = exact or self._conversion == Rounding.RNE
        return not (plain or machine.directed) if self.sets_mode else plain or machine.directed

    def _in_int64(self, bounds: Bounds) -> str | None:
        """Return why 64-bit integers hold the windows, and float64 two bits beyond the result."""
        stage, finest = self.stage, self.stage.fraction_bits
        if stage.addend is Addend.JOINED:
            finest = max(finest, stage.join_sum_bits, stage.join_addend_bits)
        bits = _window_bits(stage, bounds, finest)
        inside = max(abs(bounds.span.low), abs(bounds.span.high)) <= F64_RANGE // 2
        spare = F64_BITS - (stage.result.mantissa_bits + 1)
        if bits > INT64_BITS or not inside or spare < 2 or self.finite > bounds.finite:
            return None
        why = f"sums fit {bits} <= {INT64_BITS} bits of an integer, then are rounded to odd in"
        return f"{why} {F64_BITS} bits"

    def _joined(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why a window, and the second window that joins the addend, are exact."""
        stage, fraction = self.stage, self.stage.fraction_bits
        if stage.width is not None or stage.normalised:
            return None
        if self.carrier is Carrier.FLOATS:
            finest = max(fraction, stage.join_sum_bits, stage.join_addend_bits)
            bits = _window_bits(stage, bounds, finest) + 1
            both = f"both windows' {bits} <= {F64_BITS} bits are exact in a lane"
            return both if bits <= F64_BITS else None
        converts = stage.align in CONVERSIONS and stage.rounding in CONVERSIONS
        native = is_ieee(stage.format, 8, 23, 127) and self._converts(False, machine)
        floors = stage.join_rounding is Rounding.RDN and stage.join_addend_bits == fraction
        enough = fraction >= F32_BITS - 1 and stage.join_sum_bits >= fraction
        if not (bounds.finite and converts and native and floors and enough):
            return None
        if not _aligned_in_float32(stage, bounds, stage.join_sum_bits, machine):
            return None
        if _spare_bits(stage, bounds) != self.spare:
            return None
        kept, lost = self.spare
        why = f"terms are exact in float32, both windows and {kept} bits between them in an integer"
        return f"{why}, {lost} more as its odd last bit" if lost else why

    # -- code --------------------------------------------------------------------------------------

    def parameters(self) -> Numbers:
        """Return limits of both formats, and units, ranges and shifts of both windows."""
        stage, lane = self.stage, self.lane
        reals, integers = float_parameters(stage, lane)
        least = LEAST_POWERS[lane]
        if stage.exponent_floor is not None:
            least = max(least, stage.exponent_floor)
        half = 1 << ((stage.width or 1) - 1)
        sum_bits, addend_bits = stage.join_sum_bits, stage.join_addend_bits
        powers = {
            "least_power": least,
            "per_unit": -stage.fraction_bits,
            "per_sum_unit": -sum_bits,
            "per_addend_unit": -addend_bits,
            "per_joined_unit": -max(sum_bits, addend_bits),
            "reach": -(stage.join_reach or 0),
        }
        reals |= {name: float(np.ldexp(1.0, power)) for name, power in powers.items()}
        limit = stage.product_limit
        reals |= {
            "sum_low": -float(half),
            "sum_high": float(half) - 1.0,
            "modulus": 2.0 * half,
            "per_modulus": 0.5 / half,
            "product_limit": np.inf if limit is None else float(np.ldexp(1.0, limit)),
        }
        units = {"": stage.fraction_bits, "sum_": sum_bits, "addend_": addend_bits}
        for name, bits in units.items():
            integers[f"{name}unit_bits"] = (bits + 2 * lane.bias) << lane.mantissa_bits
        integers |= {
            "sum_rise": sum_bits - stage.fraction_bits,
            "sum_up": max(addend_bits - sum_bits, 0),
            "addend_up": max(sum_bits - addend_bits, 0),
            "unused_bits": 64 - (stage.width or 64),
            "least_sum": -half,
            "most_sum": half - 1,
        }
        # The container of an addend that is added late.
        fmt = stage.result
        codes = np.array(fmt.limits(Rounding.RNE, stage.overflow)[:2], dtype=fmt.dtype)
        positive, negative = fmt.decode(codes)
        reals |= {
            "container_largest": fmt.max_value,
            "container_over_positive": float(positive),
            "container_over_negative": float(negative),
        }
        return reals, integers | {"container_shift": lane.mantissa_bits - fmt.mantissa_bits}

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Folding:
        """Write the window, the second window if there is one, and the rounding of its sum.

        Args:
            acc: accumulators, one in each lane.
            source: the terms of the window and their alignment powers.
            p: limits, shifts and grid of the window, in every lane.
            random: not used; windows do not round at random.

        Yields:
            Folds over the terms of a window: their largest power, then their sum.

        Returns:
            The accumulators after the step.
        """
        stage, zero = self.stage, acc.lanes.constant(0.0, False)
        total, top, special, sign = yield from self._window(acc, source, p, 0)
        for lane in range(1, stage.lanes):
            other, power, more, _ = yield from self._window(acc, source, p, lane)
            joint = larger(top, power)
            total = self._moved(total, joint, top, p) + self._moved(other, joint, power, p)
            top, special = joint, special + more
        rounding, late = str(stage.rounding), str(stage.late_rounding)
        if self.carrier is Carrier.INT32:
            value = self._value_of_int32(total, top, acc, source, p)
            if not self.native:
                value = round_sum(Sum.exact(value), rounding, p, ieee=False) + zero
            return is_finite(acc).where(value, acc)
        if stage.addend is Addend.JOINED:
            value = self._second_window(total, top, acc, p)
        else:
            whole = total if self.carrier is Carrier.FLOATS else _odd_real(total)
            value = whole * (top * p.reals["per_unit"])
            if stage.signed_zero:
                value = value.equals(0.0).where(sign.as_real, value)
        result = round_sum(Sum.exact(value), rounding, p, ieee=False)
        if stage.addend is Addend.LATE:
            opposite = acc.as_bits ^ result.as_bits if stage.signed_zero else None
            away = opposite if mode_constants(late)[3] else None
            both = Sum.exact(odd_sum(acc, result, acc.lanes.directed))
            result = round_sum(both, late, _container(p), opposite=away, ieee=False)
            if self.carrier is Carrier.FLOATS:
                # A sum that becomes infinite by rounding does not meet an infinite c.
                result = is_finite(acc).where(result, acc + value)
        if self.carrier is Carrier.INT64:
            special = special + acc
            infinite = (special > 0.0).where(p.reals["inf_positive"], p.reals["inf_negative"])
            infinite = special.equals(special).where(infinite, special)
            result = is_finite(special).where(result, infinite)
        return result if stage.signed_zero else result + zero  # -0 becomes +0

    def _window(
        self, acc: Vec, source: TermSource, p: Parameters, first: int
    ) -> Generator[Fold, tuple[Vec, ...], tuple[Vec, Vec, Vec, Vec]]:
        """Return the terms' sum, 2^E, the plain float sum, and the sign of a zero sum.

        A zero's sign is that of the terms, unless they cancelled or the register wrapped: the
        terms' sign bits are combined by OR toward -infinity (-0 unless all terms are +0), else by
        AND (-0 only if all terms are -0).
        """
        stage, lanes = self.stage, acc.lanes
        own, early = range(first, self.terms, stage.lanes), stage.addend is Addend.EARLY
        any_sign = mode_constants(str(stage.rounding))[3] == 1
        top = yield from self._largest_power(source, own, p)
        if early:
            top = larger(power_of(acc, p), top)
        per_power = (p.integers["unit_bits"] - top.as_bits).as_real  # 2^(F - E)
        watches = self.carrier is Carrier.INT64 and (self.limited or not self.finite)

        def add(i: Any, *sums: Vec) -> tuple[Vec, ...]:
            x, y = source.pair(i)
            product = x * y
            return joined(
                overflowed(product, p.reals["product_limit"]) if self.limited else product, *sums
            )

        def joined(term: Vec, total: Vec, *rest: Vec) -> tuple[Vec, ...]:
            found = [total + self._integer(term * per_power, str(stage.align))]
            if watches:
                found.append(rest[0] + term)
            if stage.signed_zero:
                sign = rest[-1]
                found.append(sign | term.as_bits if any_sign else sign & term.as_bits)
            return tuple(found)

        zero = lanes.constant(0.0, False)
        start = [zero if self.carrier is Carrier.FLOATS else lanes.constant(0, True)]
        start += [zero] * watches + [lanes.constant(-(not any_sign), True)] * stage.signed_zero
        sums = yield Fold(own, tuple(start), add)
        special = sums[1] if watches else zero
        if early and not self.split:
            sums = joined(acc, *sums)
        total, sign = sums[0], sums[-1]
        if stage.signed_zero:
            cancelled = lanes.constant(lanes.sign_mask if any_sign else 0, True)
            nothing = total.equals(0 if total.integer else 0.0)
            sign = nothing.where(sign & lanes.sign_mask, cancelled)
        return total if stage.width is None else self._fitted(total, p), top, special, sign

    def _largest_power(self, source: TermSource, own: range, p: Parameters) -> Folding:
        """Return 2^E of terms and floor; with ``scaled`` zero terms keep their powers."""

        def next_larger(i: Any, top: Vec) -> tuple[Vec, ...]:
            if not self.stage.normalised:
                return (larger_power(source.power(i), top),)
            x, y = source.pair(i)
            power = (x * y).power
            if self.scaled:
                power = (x * y).equals(0.0).where(source.power(i), power)
            return (larger(power, top),)

        (top,) = yield Fold(own, (p.reals["least_power"],), next_larger)
        return top

    def _integer(self, x: Vec, rounding: str) -> Vec:
        """Return a float as an integer of the carrier; only a carrier of floats needs it finite."""
        if self.carrier is Carrier.INT32:
            return x.to_integers(rounding)
        if self.carrier is Carrier.FLOATS:
            return round_integer(x, rounding)
        return (x if rounding == "rtz" else round_integer(x, rounding)).truncated

    def _fitted(self, total: Vec, p: Parameters) -> Vec:
        """Return a sum wrapped or clamped to the register; NaN and infinite floats stay."""
        saturates = self.stage.width_overflow is Overflow.SATURATE
        if self.carrier is Carrier.INT64:
            if saturates:
                most, least = p.integers["most_sum"], p.integers["least_sum"]
                total = (total > most).where(most, total)
                return (total < least).where(least, total)
            unused = p.integers["unused_bits"]
            return (total << unused).floor_shifted(unused)
        low, high = p.reals["sum_low"], p.reals["sum_high"]
        if saturates:
            fitted = (total > high).where(high, total)
            fitted = (low > fitted).where(low, fitted)
        else:
            turns = ((total - low) * p.reals["per_modulus"]).intrinsic("floor")
            fitted = total - turns * p.reals["modulus"]
        return is_finite(total).where(fitted, total)

    def _moved(self, total: Vec, joint: Vec, top: Vec, p: Parameters) -> Vec:
        """Return a window's sum aligned to a larger power, rounded to an integer again."""
        rounding = str(self.stage.join_rounding)
        if self.carrier is Carrier.INT32:  # by floor
            return total.shifted_down(binades(joint, top))
        if self.carrier is Carrier.INT64:
            return _shifted_down(total, binades(joint, top), rounding)
        per_power = (p.integers["unit_bits"] - joint.as_bits).as_real
        return round_integer(total * (top * p.reals["per_unit"]) * per_power, rounding)

    def _second_window(self, total: Vec, top: Vec, acc: Vec, p: Parameters) -> Vec:
        """Return the value of a window's sum plus the addend, each cut on its grid."""
        stage, zero = self.stage, acc.lanes.constant(0.0, False)
        join, reach = str(stage.join_rounding), stage.join_reach is not None
        power = power_of(acc, p)
        second = larger(power, top)
        per_addend = (p.integers["addend_unit_bits"] - second.as_bits).as_real
        addend = self._integer(acc * per_addend, join)
        if self.carrier is Carrier.FLOATS:
            per_sum = (p.integers["sum_unit_bits"] - second.as_bits).as_real
            value = round_integer(total * (top * p.reals["per_unit"]) * per_sum, join)
            value = value * (second * p.reals["per_sum_unit"])
            addend = addend * (second * p.reals["per_addend_unit"])
            if reach:
                near = power >= second * p.reals["reach"]
                # NaN and infinity have no power, but take part.
                addend = is_finite(acc).where(near.where(addend, zero), acc)
            # An exact zero is +0, even if a rounded zero keeps its sign.
            return value + addend + zero
        nothing = acc.lanes.constant(0, True)
        rise = p.integers["sum_rise"] - binades(second, top)
        down = (rise < nothing).where(nothing - rise, nothing)
        total = _shifted_down(total << (rise > nothing).where(rise, nothing), down, join)
        if reach:
            addend = (power >= second * p.reals["reach"]).where(addend, nothing)
        total = (total << p.integers["sum_up"]) + (addend << p.integers["addend_up"])
        return _odd_real(total) * (second * p.reals["per_joined_unit"])

    def _value_of_int32(
        self, total: Vec, top: Vec, acc: Vec, source: TermSource, p: Parameters
    ) -> Vec:
        """Return the value of a 32-bit sum, rounded by a conversion.

        A joined addend is aligned to F bits and joins by floor. With d = e(c) - E > 0 the sum S of
        the products is floor(S 2^-d) in units of c, with J - F more bits. Of these min(d, k) are
        added, and l only record whether a bit was lost, as in rounding to odd: they exist only if
        d > k, when c keeps the sum too large for rounding to reach any of them.
        """
        mode = self._conversion
        if self.stage.addend is not Addend.JOINED:
            if self.split:
                per_power = (p.integers["unit_bits"] - top.as_bits).as_real
                own = (acc * per_power).to_integers(str(self.stage.align))
                return _sum_of_halves(total, own, mode) * (top * p.reals["per_unit"])
            return total.to_reals(mode) * (top * p.reals["per_unit"])
        kept, lost = self.spare
        power = power_of(acc, p)
        second = larger(power, top)
        per_power = (p.integers["unit_bits"] - second.as_bits).as_real
        addend = (acc * per_power).to_integers("rdn")
        if self.stage.join_reach is not None:
            near = power >= second * p.reals["reach"]
            addend = near.where(addend, acc.lanes.constant(0, True))
        distance = binades(second, top)
        more = (distance > kept).where(acc.lanes.constant(kept, True), distance)
        value = (addend << more) + _floor_to_odd(total, distance - more, lost)
        unit = (second.as_bits - (more << acc.lanes.mantissa_bits)).as_real * p.reals["per_unit"]
        return value.to_reals(mode) * unit


def is_finite(x: Vec) -> Vec:
    """Return the mask of finite lanes."""
    return x.magnitude_bits.as_real < float("inf")


def larger(x: Vec, y: Vec) -> Vec:
    """Return the larger of two numbers, lane by lane; ``y`` if either is NaN."""
    return (x > y).where(x, y)


def larger_power(x: Vec, y: Vec) -> Vec:
    """Return the larger of two powers of two, or zeros, lane by lane."""
    if x.lanes.real != FLOAT:
        return larger(x, y)
    # Not in the pipes that multiply, and in any order; of 64 bits only AVX-512 compares integers.
    return larger(x.as_bits, y.as_bits).as_real


def power_of(acc: Vec, p: Parameters) -> Vec:
    """Return 2^e of an accumulator, at least 2^emin; 0 for zero, infinity and NaN."""
    power = acc.power
    zero = acc.lanes.constant(0.0, False)
    power = acc.equals(0.0).where(zero, larger(power, p.reals["smallest_normal"]))
    return power.equals(float("inf")).where(zero, power)


def binades(upper: Vec, lower: Vec) -> Vec:
    """Return the difference of the exponents of two powers of two."""
    return (upper.as_bits - lower.as_bits) >> upper.lanes.mantissa_bits


def overflowed(product: Vec, limit: Vec) -> Vec:
    """Return a product, or infinity of its sign if it reaches the limit."""
    infinity = product.lanes.constant(float("inf"), False).intrinsic("copysign", product)
    return (product.magnitude_bits.as_real >= limit).where(infinity, product)


def _container(p: Parameters) -> Parameters:
    """Return the parameters of the container format."""
    names = ("largest", "over_positive", "over_negative")
    reals = p.reals | {name: p.reals[f"container_{name}"] for name in names}
    return Parameters(reals, p.integers | {"shift": p.integers["container_shift"]})


def _odd_real(x: Vec) -> Vec:
    """Return a 64-bit integer as float64, rounded to odd."""
    upper = x.floor_shifted(x.lanes.constant(32, True)).signed_reals * 2.0**32
    return odd_sum(upper, (x & 0xFFFFFFFF).signed_reals, x.lanes.directed)


def _sum_of_halves(x: Vec, y: Vec, mode: str) -> Vec:
    """Return x + y of 32-bit integers as float32, rounded once; a zero sum is +0."""
    low, high = 0xFFFF, 0xFFFF0000
    zero, one = (x.lanes.constant(value, False) for value in (0.0, 1.0))
    upper = (x & high).to_reals(mode) + (y & high).to_reals(mode)  # 17 bits: exact
    lower = (x & low).to_reals(mode) + (y & low).to_reals(mode)
    total = upper.fma_toward(one, lower, mode)
    return total.equals(0.0).where(zero, total) if mode == "rdn" else total


def _floor_to_odd(total: Vec, distance: Vec, lost: int) -> Vec:
    """Return floor(x / 2^distance), its last bit set if any of the ``lost`` bits below is set.

    Bits below the ``lost`` bits are cut off.
    """
    if not lost:
        return total.shifted_down(distance)
    zero = total.lanes.constant(0, True)
    first = (distance > lost).where(distance - lost, zero)
    then = distance - first
    fine = total.shifted_down(first)
    coarse = fine.shifted_down(then)
    return coarse | (coarse << then).differs(fine).one_where_set()


def _shifted_down(x: Vec, distance: Vec, rounding: str) -> Vec:
    """Return x / 2^distance, rounded to an integer."""
    most = x.lanes.constant(MAX_SHIFT, True)
    far = distance > most
    sign = x.floor_shifted(x.lanes.constant(63, True)) | x.differs(0).one_where_set()
    x, distance = far.where(sign, x), far.where(most, distance)
    floor = x.floor_shifted(distance)
    if rounding == "rdn":
        return floor
    rest = x - (floor << distance)
    lost = rest.differs(0)
    if rounding == "rto":
        return floor | lost.one_where_set()
    up = lost
    if rounding == "rtz":
        up = lost & (x < 0)
    elif rounding != "rup":
        half = (x.lanes.constant(1, True) << distance) >> 1
        tie = (floor & 1).differs(0) if rounding == "rne" else x > 0
        up = lost & ((rest > half) | (rest.equals(half) & tie))
    return floor + up.one_where_set()
