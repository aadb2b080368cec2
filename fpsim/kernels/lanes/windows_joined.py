# SPDX-License-Identifier: Apache-2.0
"""Aligned windows whose sum meets the addend in a second window (AMD CDNA3), in vector lanes."""

from __future__ import annotations

from functools import cache
from typing import Any

from fpsim.kernels.lanes.exact_add import Sum, round_integer, round_sum
from fpsim.kernels.lanes.rounding import Parameters
from fpsim.kernels.lanes.steps import GroupStep, TermSource
from fpsim.kernels.lanes.vector import DOUBLE, FLOAT, Vec
from fpsim.kernels.lanes.windows_float import (
    ALIGNED_INTEGERS,
    ALIGNED_REALS,
    is_finite,
    larger,
    largest_power,
    power_of,
)

__all__ = ["JOINED_REALS", "binades", "joined_integer_step", "joined_step", "overflowed"]

#: Beyond those of an aligned step: units and their inverses of the second window's two grids, how
#: far c may lie below, and the product that overflows.
JOINED_REALS = (
    *ALIGNED_REALS,
    "per_sum_unit",
    "per_addend_unit",
    "reach",
    "product_limit",
)
#: Those of its form on 32-bit integers.
JOINED32_REALS = (*ALIGNED_REALS, "reach")
JOINED_INTEGERS = (*ALIGNED_INTEGERS, "sum_unit_bits", "addend_unit_bits")


@cache
def joined_step(
    terms: int,
    lanes: int,
    align: str,
    join: str,
    rounding: str,
    reach: bool,
    limited: bool,
    signed_zero: bool = False,
) -> GroupStep:
    """Return the step of an aligned window that a second one joins with ``c``, in float64 lanes.

    ``reach`` says that ``c`` may be dropped, ``limited`` that products may overflow.
    """

    def window(acc: Vec, source: TermSource, p: Parameters, first: int) -> tuple[Vec, Vec]:
        """Return the sum of every ``lanes``-th term, and its power of two."""
        own = range(first, terms, lanes)
        top = largest_power(source, own, p)
        per_power = (p.integers["unit_bits"] - top.as_bits).as_real

        def add(i: Any, total: Vec) -> tuple[Vec, ...]:
            x, y = source.pair(i)
            product = x * y
            if limited:
                product = overflowed(product, p.reals["product_limit"])
            return (total + round_integer(product * per_power, align),)

        (total,) = source.fold(own, (acc.lanes.constant(0.0, False),), add)
        return total * (top * p.reals["per_unit"]), top

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        zero = acc.lanes.constant(0.0, False)
        total, top = window(acc, source, p, 0)
        for first in range(1, lanes):
            other, power = window(acc, source, p, first)
            joint = larger(top, power)
            per_power = (p.integers["unit_bits"] - joint.as_bits).as_real
            whole = round_integer(total * per_power, join) + round_integer(other * per_power, join)
            total, top = whole * (joint * p.reals["per_unit"]), joint
        power = power_of(acc, p)
        second = larger(power, top)
        per_sum = (p.integers["sum_unit_bits"] - second.as_bits).as_real
        per_addend = (p.integers["addend_unit_bits"] - second.as_bits).as_real
        total = round_integer(total * per_sum, join) * (second * p.reals["per_sum_unit"])
        addend = round_integer(acc * per_addend, join) * (second * p.reals["per_addend_unit"])
        if reach:
            near = power >= second * p.reals["reach"]
            addend = near.where(addend, zero)
            # What is not finite has no power, but counts.
            addend = is_finite(acc).where(addend, acc)
        total = (
            total + addend + zero
        )  # an exact zero is +0, also where a rounded one keeps its sign
        result = round_sum(Sum(total, zero), rounding, p, ieee=False)
        return result if signed_zero else result + zero

    flags = f"{'-reach' * reach}{'-limited' * limited}{'-signed' * signed_zero}"
    name = f"joined64-{terms}-{lanes}-{align}-{join}-{rounding}{flags}"
    return GroupStep(name, DOUBLE, terms, step, JOINED_REALS, JOINED_INTEGERS, powers=True)


def overflowed(product: Vec, limit: Vec) -> Vec:
    """Return infinity of its sign for a product that reaches the limit."""
    infinity = product.lanes.constant(float("inf"), False).intrinsic("copysign", product)
    return (product.magnitude_bits.as_real >= limit).where(infinity, product)


@cache
def joined_integer_step(
    terms: int,
    lanes: int,
    align: str,
    rounding: str,
    spare: tuple[int, int],
    reach: bool,
) -> GroupStep:
    """Return the same step on 32-bit integers, where c is aligned to F bits and joins by floor.

    With d = e(c) - E > 0 the sum S of the products is floor(S 2^-d) in units of c, with J - F more
    bits. ``spare`` = (k, l) are those bits: c and S are added with min(d, k) of them, and the l
    bits below only say whether something was lost, as rounding to odd: they are there only where
    d > k, so c keeps the sum too large for a bit of them to be rounded to
    (`fpsim.compute.plan.choose` states the bounds). Terms are finite and exact in float32, which is
    the result's format.
    """
    kept, lost = spare

    def window(source: TermSource, p: Parameters, first: int) -> tuple[Vec, Vec]:
        """Return the sum of every ``lanes``-th term as an integer, and its power of two."""
        own = range(first, terms, lanes)
        top = largest_power(source, own, p)
        per_power = (p.integers["unit_bits"] - top.as_bits).as_real

        def add(i: Any, total: Vec) -> tuple[Vec, ...]:
            x, y = source.pair(i)
            return (total + (x * y * per_power).to_integers(align),)

        (total,) = source.fold(own, (top.lanes.constant(0, True),), add)
        return total, top

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        total, top = window(source, p, 0)
        for first in range(1, lanes):
            other, power = window(source, p, first)
            joint = larger(top, power)
            total = total.shifted_down(binades(joint, top))
            total = total + other.shifted_down(binades(joint, power))
            top = joint
        power = power_of(acc, p)
        second = larger(power, top)
        per_power = (p.integers["unit_bits"] - second.as_bits).as_real
        addend = (acc * per_power).to_integers("rdn")
        if reach:
            near = power >= second * p.reals["reach"]
            addend = near.where(addend, acc.lanes.constant(0, True))
        distance = binades(second, top)
        more = (distance > kept).where(acc.lanes.constant(kept, True), distance)
        value = (addend << more) + _floor_to_odd(total, distance - more, lost)
        unit = (second.as_bits - (more << acc.lanes.mantissa_bits)).as_real * p.reals["per_unit"]
        return is_finite(acc).where(value.to_reals(rounding) * unit, acc)

    name = f"joined32-{terms}-{lanes}-{align}-{rounding}-{kept}-{lost}{'-reach' * reach}"
    return GroupStep(name, FLOAT, terms, step, JOINED32_REALS, ALIGNED_INTEGERS, powers=True)


def binades(upper: Vec, lower: Vec) -> Vec:
    """Return the distance of the exponents of two powers of two."""
    return (upper.as_bits - lower.as_bits) >> upper.lanes.mantissa_bits


def _floor_to_odd(total: Vec, distance: Vec, lost: int) -> Vec:
    """Return floor(x / 2^distance) with an odd last bit if a bit of the ``lost`` ones below is set.

    What is below those is cut off.
    """
    if not lost:
        return total.shifted_down(distance)
    zero = total.lanes.constant(0, True)
    first = (distance > lost).where(distance - lost, zero)
    then = distance - first
    fine = total.shifted_down(first)
    coarse = fine.shifted_down(then)
    return coarse | (coarse << then).differs(fine).one_where_set()
