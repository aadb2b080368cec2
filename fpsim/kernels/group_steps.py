# SPDX-License-Identifier: Apache-2.0
"""Steps over several terms at once in vector lanes: aligned windows, trees, separate multipliers.

An aligned window works on integers held in floats: a term times 2^(F - E), rounded to an integer,
is exact in a lane that holds the whole window, and so is their sum (`fpsim.engine` states the
bound). Powers of two stand for exponents: their largest is found by comparison, and 2^(F - E) is a
subtraction of bit patterns.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fpsim.kernels.lanes import LANE_INTEGERS, Parameters
from fpsim.kernels.steps import (
    LANE_REALS,
    GroupStep,
    Step,
    Sum,
    TermSource,
    exact_sum,
    round_integer,
    round_sum,
)
from fpsim.kernels.vector import DOUBLE, FLOAT, Vec

__all__ = [
    "LANES",
    "aligned_step",
    "joined_step",
    "separate_step",
    "tree_step",
    "whole_step",
]

#: Beyond those of a lane step: 2^floor, 2^-F, and the range and modulus of S.
ALIGNED_REALS = (
    *LANE_REALS,
    "least_power",
    "per_unit",
    "sum_low",
    "sum_high",
    "modulus",
    "per_modulus",
)
#: Beyond those of a lane step: the bits of 2^F plus the lane's bias once more, and where an
#: exponent stands in a lane.
ALIGNED_INTEGERS = (*LANE_INTEGERS, "unit_bits", "exponent_mask")


@cache
def aligned_step(
    real: Any,
    terms: int,
    align: str,
    rounding: str,
    late: str | None = None,
    width: str | None = None,
    normalised: bool = False,
) -> GroupStep:
    """Return the step of an aligned window in a lane.

    ``late`` is the rounding of an addend that joins after the window, else it joins early;
    ``width`` is ``wrap`` or ``saturate`` where the sum has a width.
    """

    def power(terms: TermSource, i: int, p: Parameters) -> Vec:
        if not normalised:
            return terms.power(i)
        x, y = terms.pair(i)
        return ((x * y).as_bits & p.integers["exponent_mask"]).as_real

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        top = p.reals["least_power"]
        for i in range(terms):
            top = _larger(power(source, i, p), top)
        if late is None:
            top = _larger(_power_of(acc, p), top)
        per_power = (p.integers["unit_bits"] - top.as_bits).as_real  # 2^(F - E)
        total = acc.lanes.constant(0.0, False)
        for i in range(terms):
            x, y = source.pair(i)
            total = total + round_integer(x * y * per_power, align)
        if late is None:
            total = total + round_integer(acc * per_power, align)
        if width is not None:
            total = _fit(total, width, p)
        value = total * (top * p.reals["per_unit"])
        zero = acc.lanes.constant(0.0, False)
        exact = Sum(value, zero)
        result = round_sum(exact, rounding, p, ieee=False)
        if late is not None:
            result = round_sum(exact_sum(acc, result), late, p, ieee=False)
        return result + zero  # -0 becomes +0

    lane = "64" if real is DOUBLE else "32"
    suffix = f"{'' if late is None else f'-late-{late}'}{'' if width is None else f'-{width}'}"
    suffix += "-normalised" if normalised else ""
    return GroupStep(
        f"aligned{lane}-{terms}-{align}-{rounding}{suffix}",
        real,
        terms,
        step,
        ALIGNED_REALS,
        ALIGNED_INTEGERS,
        powers=not normalised,
    )


@cache
def whole_step(real: Any, terms: int, rounding: str) -> GroupStep:
    """Return the step of a window that cuts nothing off: an exact sum, rounded."""

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        total = acc
        for i in range(terms):
            x, y = source.pair(i)
            total = x.intrinsic("fma", y, total)
        zero = acc.lanes.constant(0.0, False)
        return round_sum(Sum(total, zero), rounding, p, ieee=False) + zero

    name = f"whole{'64' if real is DOUBLE else '32'}-{terms}-{rounding}"
    return GroupStep(name, real, terms, step, LANE_REALS, LANE_INTEGERS)


#: Beyond those of an aligned step: units and their inverses of the second window's two grids, how
#: far c may lie below, and the product that overflows.
JOINED_REALS = (
    *ALIGNED_REALS,
    "per_sum_unit",
    "per_addend_unit",
    "reach",
    "product_limit",
)
JOINED_INTEGERS = (*ALIGNED_INTEGERS, "sum_unit_bits", "addend_unit_bits")


@cache
def joined_step(
    terms: int, lanes: int, align: str, join: str, rounding: str, reach: bool, limited: bool
) -> GroupStep:
    """Return the step of an aligned window that a second one joins with ``c``, in float64 lanes.

    ``reach`` says that ``c`` may be dropped, ``limited`` that products may overflow.
    """

    def window(acc: Vec, source: TermSource, p: Parameters, first: int) -> tuple[Vec, Vec]:
        """Return the sum of every ``lanes``-th term, and its power of two."""
        top = p.reals["least_power"]
        for i in range(first, terms, lanes):
            top = _larger(source.power(i), top)
        per_power = (p.integers["unit_bits"] - top.as_bits).as_real
        total = acc.lanes.constant(0.0, False)
        for i in range(first, terms, lanes):
            x, y = source.pair(i)
            product = x * y
            if limited:
                product = _overflowed(product, p.reals["product_limit"])
            total = total + round_integer(product * per_power, align)
        return total * (top * p.reals["per_unit"]), top

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        zero = acc.lanes.constant(0.0, False)
        total, top = window(acc, source, p, 0)
        for first in range(1, lanes):
            other, power = window(acc, source, p, first)
            joint = _larger(top, power)
            per_power = (p.integers["unit_bits"] - joint.as_bits).as_real
            whole = round_integer(total * per_power, join) + round_integer(other * per_power, join)
            total, top = whole * (joint * p.reals["per_unit"]), joint
        power = _power_of(acc, p)
        second = _larger(power, top)
        per_sum = (p.integers["sum_unit_bits"] - second.as_bits).as_real
        per_addend = (p.integers["addend_unit_bits"] - second.as_bits).as_real
        total = round_integer(total * per_sum, join) * (second * p.reals["per_sum_unit"])
        addend = round_integer(acc * per_addend, join) * (second * p.reals["per_addend_unit"])
        if reach:
            near = power >= second * p.reals["reach"]
            addend = near.where(addend, zero)
            # What is not finite has no power, but counts.
            finite = acc.magnitude_bits.as_real < float("inf")
            addend = finite.where(addend, acc)
        result = round_sum(Sum(total + addend, zero), rounding, p, ieee=False)
        return result + zero

    flags = f"{'-reach' * reach}{'-limited' * limited}"
    name = f"joined64-{terms}-{lanes}-{align}-{join}-{rounding}{flags}"
    return GroupStep(name, DOUBLE, terms, step, JOINED_REALS, JOINED_INTEGERS, powers=True)


def _overflowed(product: Vec, limit: Vec) -> Vec:
    """Return infinity of its sign for a product that reaches the limit."""
    infinity = product.lanes.constant(float("inf"), False).intrinsic("copysign", product)
    return (product.magnitude_bits.as_real >= limit).where(infinity, product)


def _larger(x: Vec, y: Vec) -> Vec:
    return (x > y).where(x, y)


def _power_of(acc: Vec, p: Parameters) -> Vec:
    """Return 2^e of an accumulator: 0 for zero; what is not finite does not count."""
    power = (acc.as_bits & p.integers["exponent_mask"]).as_real
    zero = acc.lanes.constant(0.0, False)
    power = acc.equals(0.0).where(zero, _larger(power, p.reals["smallest_normal"]))
    return power.equals(float("inf")).where(zero, power)


def _fit(total: Vec, width: str, p: Parameters) -> Vec:
    """Saturate or wrap an integer sum to its width."""
    low, high, modulus = (p.reals[name] for name in ("sum_low", "sum_high", "modulus"))
    if width == "saturate":
        total = (total > high).where(high, total)
        return (low > total).where(low, total)
    turns = ((total - low) * p.reals["per_modulus"]).intrinsic("floor")
    return total - turns * modulus


@cache
def tree_step(node: Step, terms: int, joins: str, separate: bool) -> GroupStep:
    """Return the step of a binary tree over ``terms`` products, its nodes computed by ``node``.

    ``joins`` is ``root`` or ``leaf``; with ``separate`` each product is rounded first.
    """

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        one = acc.lanes.constant(1.0, False)
        nothing = acc.lanes.constant(-0.0, False)  # -0 + x is x, whatever x is

        def rounded(x: Vec, y: Vec) -> Vec:
            return node.build(nothing, x, y, p, None)

        leaves: list[tuple[Vec, Vec | None]] = [(acc, None)] if joins == "leaf" else []
        leaves += [source.pair(i) for i in range(terms)]
        if separate:
            leaves = [(x, None) if y is None else (rounded(x, y), None) for x, y in leaves]
        level = 0
        while level == 0 or len(leaves) > 1:
            above: list[tuple[Vec, Vec | None]] = []
            for i in range(0, len(leaves), 2):
                x, y = leaves[i]
                if i + 1 == len(leaves):
                    above.append((rounded(x, one if y is None else y), None))
                    continue
                first = x if y is None else x * y
                second, factor = leaves[i + 1]
                above.append(
                    (node.build(first, second, one if factor is None else factor, p, None), None)
                )
            leaves = above
            level += 1
        total = leaves[0][0]
        return total if joins == "leaf" else node.build(acc, total, one, p, None)

    name = f"tree-{terms}-{joins}{'-separate' * separate}-{node.name}"
    return GroupStep(name, node.real, terms, step, node.reals, node.integers)


@cache
def separate_step(node: Step) -> GroupStep:
    """Return a chain step that rounds the product before it adds it."""

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        one, nothing = acc.lanes.constant(1.0, False), acc.lanes.constant(-0.0, False)
        product = node.build(nothing, *source.pair(0), p, None)
        return node.build(acc, product, one, p, None)

    return GroupStep(f"separate-{node.name}", node.real, 1, step, node.reals, node.integers)


LANES = {32: FLOAT, 64: DOUBLE}
