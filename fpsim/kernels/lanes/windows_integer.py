# SPDX-License-Identifier: Apache-2.0
"""Aligned windows of any settings in vector lanes of 64-bit integers.

Terms are float64 numbers times 2^(F - E), rounded to integers there; sums, registers and the second
window are integers of up to 62 bits, as in `fpsim.kernels.scalar.aligned`. The last integer becomes
a float64 rounded to odd, at least two bits wider than the result, which is rounded once more.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.lanes.exact_add import Sum, odd_sum, round_integer, round_sum
from fpsim.kernels.lanes.rounding import Parameters
from fpsim.kernels.lanes.steps import GroupStep, TermSource
from fpsim.kernels.lanes.vector import DOUBLE, Vec
from fpsim.kernels.lanes.windows_float import (
    ALIGNED_INTEGERS,
    is_finite,
    larger,
    largest_power,
    power_of,
)
from fpsim.kernels.lanes.windows_joined import JOINED_REALS, binades, overflowed

__all__ = ["IntegerWindow", "window_step"]

#: Limits of the container, which an addend that joins late is rounded to, and 2^-U of the second
#: window's finer grid.
_CONTAINER_REALS = ("largest", "over_positive", "over_negative")
_REALS = (*JOINED_REALS, *(f"container_{name}" for name in _CONTAINER_REALS), "per_joined_unit")
#: The container's `shift`; how far sums and addends move up into the second window; how many bits
#: a register that wraps lacks of 64, and the range of one that saturates.
_INTEGERS = (
    *ALIGNED_INTEGERS,
    "container_shift",
    "addend_unit_bits",
    "sum_rise",
    "sum_up",
    "addend_up",
    "unused_bits",
    "least_sum",
    "most_sum",
)
#: Shifts of 64-bit integers beyond this one leave nothing but what rounds.
_MAX_SHIFT = 62


class IntegerWindow(NamedTuple):
    """What the code of a window depends on; see `fpsim.units.stages.Aligned`."""

    terms: int
    align: str
    rounding: str
    addend: str = "early"
    second: str = ""  #: rounding of an addend that is late, or of the window that it joins in
    lanes: int = 1
    reach: bool = False
    width: str = ""  #: ``wrap`` or ``saturate``
    normalised: bool = False
    signed_zero: bool = False
    limited: bool = False  #: a product may be too large
    finite: bool = False  #: no operand is NaN or infinite
    scaled: bool = False  #: terms of zero have powers, although normalised

    @property
    def name(self) -> str:
        """A name that says everything."""
        flags = ("reach", "normalised", "scaled", "signed_zero", "limited", "finite")
        named = [flag.split("_")[0] for flag in flags if getattr(self, flag)]
        texts = [self.align, self.rounding, self.addend, self.second, self.width, *named]
        return "-".join(["window64", str(self.terms), str(self.lanes), *filter(None, texts)])


@cache
def window_step(w: IntegerWindow) -> GroupStep:
    """Return the step of a window whose sums have at most 62 bits."""
    any_sign = mode_constants(w.rounding)[3] == 1

    def window(acc: Vec, source: TermSource, p: Parameters, first: int) -> tuple[Vec, ...]:
        """Return the sum of every ``lanes``-th term, 2^E, the plain sum, and the zero's sign."""
        lanes, own = acc.lanes, range(first, w.terms, w.lanes)
        top = largest_power(source, own, p, w.normalised, w.scaled)
        if w.addend == "early":
            top = larger(power_of(acc, p), top)
        per_power = (p.integers["unit_bits"] - top.as_bits).as_real

        def add(i: Any, *sums: Vec) -> tuple[Vec, ...]:
            x, y = source.pair(i)
            term = overflowed(x * y, p.reals["product_limit"]) if w.limited else x * y
            return joined(term, *sums)

        def joined(term: Vec, total: Vec, special: Vec, sign: Vec) -> tuple[Vec, ...]:
            total = total + _integer(term * per_power, w.align)
            special = special if w.finite and not w.limited else special + term
            if w.signed_zero:
                sign = sign | term.as_bits if any_sign else sign & term.as_bits
            return total, special, sign

        nothing = lanes.constant(0, True)
        start = (nothing, acc.lanes.constant(0.0, False), lanes.constant(-(not any_sign), True))
        total, special, sign = source.fold(own, start, add)
        if w.addend == "early":
            total, _, sign = joined(acc, total, special, sign)
        return _fitted(total, w.width, p), top, special, _zero_sign(total, sign, any_sign)

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        zero = acc.lanes.constant(0.0, False)
        total, top, special, sign = window(acc, source, p, 0)
        unit = p.reals["per_unit"]
        if w.addend == "joined":
            if w.lanes == 2:
                other, power, more, _ = window(acc, source, p, 1)
                total, top = _both(total, top, other, power, w.second)
                special = special + more
            total, top = _second_window(total, top, acc, w, p)
            unit = p.reals["per_joined_unit"]
        value = _odd_real(total) * (top * unit)
        if w.signed_zero and w.addend != "joined":
            value = value.equals(0.0).where(sign.as_real, value)
        result = round_sum(Sum(value, zero), w.rounding, p, ieee=False)
        if w.addend == "late":
            opposite = acc.as_bits ^ result.as_bits if w.signed_zero else None
            away = opposite if mode_constants(w.second)[3] else None
            outer = _container(p)
            both = odd_sum(acc, result, acc.lanes.directed)
            result = round_sum(Sum(both, zero), w.second, outer, opposite=away, ieee=False)
        special = special + acc
        infinite = (special > 0.0).where(p.reals["inf_positive"], p.reals["inf_negative"])
        infinite = special.equals(special).where(infinite, special)
        result = is_finite(special).where(result, infinite)
        return result if w.signed_zero else result + zero  # -0 becomes +0

    powers = w.scaled or not w.normalised
    return GroupStep(w.name, DOUBLE, w.terms, step, _REALS, _INTEGERS, powers)


def _integer(x: Vec, rounding: str) -> Vec:
    """Return a float64 below 2^63 as an integer; what is not finite does not matter."""
    return (x if rounding == "rtz" else round_integer(x, rounding)).truncated


def _odd_real(x: Vec) -> Vec:
    """Return an integer as float64, rounded to odd."""
    half = x.lanes.constant(32, True)
    upper = x.floor_shifted(half).signed_reals * 2.0**32
    return odd_sum(upper, (x & 0xFFFFFFFF).signed_reals, x.lanes.directed)


def _fitted(total: Vec, width: str, p: Parameters) -> Vec:
    """Return a sum as a register holds it."""
    if width == "wrap":
        return (total << p.integers["unused_bits"]).floor_shifted(p.integers["unused_bits"])
    if width == "saturate":
        most, least = p.integers["most_sum"], p.integers["least_sum"]
        total = (total > most).where(most, total)
        return (total < least).where(least, total)
    return total


def _zero_sign(total: Vec, sign: Vec, any_sign: bool) -> Vec:
    """Return the sign bit that a zero gets; see `window_steps`."""
    bit = 1 << (total.lanes.bits - 1)
    cancelled = total.lanes.constant(bit if any_sign else 0, True)
    return total.equals(0).where(sign & bit, cancelled)


def _both(x: Vec, x_top: Vec, y: Vec, y_top: Vec, rounding: str) -> tuple[Vec, Vec]:
    """Return the sum of two windows aligned to the larger power, and that."""
    top = larger(x_top, y_top)
    x = _shifted_down(x, binades(top, x_top), rounding)
    return x + _shifted_down(y, binades(top, y_top), rounding), top


def _second_window(
    total: Vec, top: Vec, acc: Vec, w: IntegerWindow, p: Parameters
) -> tuple[Vec, Vec]:
    """Return the sum of a window's sum and the addend on the finer one of their grids, and 2^E."""
    zero = total.lanes.constant(0, True)
    power = power_of(acc, p)
    second = larger(power, top)
    rise = p.integers["sum_rise"] - binades(second, top)
    down = (rise < zero).where(zero - rise, zero)
    total = _shifted_down(total << (rise > zero).where(rise, zero), down, w.second)
    per_addend = (p.integers["addend_unit_bits"] - second.as_bits).as_real
    addend = _integer(acc * per_addend, w.second)
    if w.reach:
        addend = (power >= second * p.reals["reach"]).where(addend, zero)
    total = (total << p.integers["sum_up"]) + (addend << p.integers["addend_up"])
    return total, second


def _shifted_down(x: Vec, distance: Vec, rounding: str) -> Vec:
    """Return x / 2^distance, rounded to an integer."""
    most = x.lanes.constant(_MAX_SHIFT, True)
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


def _container(p: Parameters) -> Parameters:
    """Return the parameters of the container."""
    reals = {name: p.reals[f"container_{name}"] for name in _CONTAINER_REALS}
    return Parameters(p.reals | reals, p.integers | {"shift": p.integers["container_shift"]})
