# SPDX-License-Identifier: Apache-2.0
"""Aligned windows in vector lanes: N terms at once, shifted to one exponent and added as integers.

A term times 2^(F - E), rounded to an integer, is exact in a lane that holds the whole window, and
so is their sum (`fpsim.compute.plan.choose` states the bounds); the integers are held in floats, or
as integers where a processor converts in the mode of alignment. Powers of two stand for exponents:
their largest is found by comparison, and 2^(F - E) is a subtraction of bit patterns.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.lanes.exact_add import LANE_REALS, Sum, exact_sum, round_integer, round_sum
from fpsim.kernels.lanes.rounding import LANE_INTEGERS, Parameters
from fpsim.kernels.lanes.steps import GroupStep, TermSource
from fpsim.kernels.lanes.vector import DOUBLE, FLOAT, Vec

__all__ = [
    "ALIGNED_INTEGERS",
    "ALIGNED_REALS",
    "LANES",
    "aligned_step",
    "integer_step",
    "is_finite",
    "larger",
    "largest_power",
    "power_of",
    "whole_step",
]

LANES = {32: FLOAT, 64: DOUBLE}

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
#: Beyond those of a lane step: the bits of 2^F plus the lane's bias once more.
ALIGNED_INTEGERS = (*LANE_INTEGERS, "unit_bits")


@cache
def aligned_step(
    real: Any,
    terms: int,
    align: str,
    rounding: str,
    late: str | None = None,
    width: str | None = None,
    normalised: bool = False,
    signed_zero: bool = False,
    scaled: bool = False,
) -> GroupStep:
    """Return the step of an aligned window whose integers are floats of a lane.

    ``scaled`` says that terms of zero have powers although they are ``normalised``, ``late`` is the
    rounding of an addend that joins after the window, else it joins early; ``width`` is ``wrap`` or
    ``saturate`` where the sum has a width.
    """
    any_sign = mode_constants(rounding)[3] == 1  # toward -infinity, only +0 + +0 is +0

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        zero = acc.lanes.constant(0.0, False)
        top = largest_power(source, terms, p, normalised, scaled)
        if late is None:
            top = larger(power_of(acc, p), top)
        per_power = (p.integers["unit_bits"] - top.as_bits).as_real  # 2^(F - E)

        def add(i: Any, total: Vec, *signs: Vec) -> tuple[Vec, ...]:
            x, y = source.pair(i)
            return joined(x * y, total, *signs)

        def joined(term: Vec, total: Vec, *signs: Vec) -> tuple[Vec, ...]:
            total = total + round_integer(term * per_power, align)
            return total, *(s | term.as_bits if any_sign else s & term.as_bits for s in signs)

        sums: tuple[Vec, ...] = (zero,)
        if signed_zero:
            sums = (zero, acc.lanes.constant(0 if any_sign else -1, True))
        sums = source.fold(range(terms), sums, add)
        if late is None:
            sums = joined(acc, *sums)
        value = total = sums[0]
        if width is not None:
            value = _fit(total, width, p)
        value = value * (top * p.reals["per_unit"])
        if signed_zero:
            value = _signed_zero(value, total, sums[1], any_sign)
        result = round_sum(Sum(value, zero), rounding, p, ieee=False)
        if late is not None:
            opposite = acc.as_bits ^ result.as_bits if signed_zero else None
            away = opposite if mode_constants(late)[3] else None
            result = round_sum(Sum(*exact_sum(acc, result)), late, p, opposite=away, ieee=False)
            # What becomes infinite by rounding does not meet an infinite c.
            result = is_finite(acc).where(result, acc + value)
        return result if signed_zero else result + zero  # -0 becomes +0

    lane = "64" if real is DOUBLE else "32"
    suffix = f"{'' if late is None else f'-late-{late}'}{'' if width is None else f'-{width}'}"
    suffix += "-normalised" * normalised + "-scaled" * scaled
    suffix += "-signed" * signed_zero
    return GroupStep(
        f"aligned{lane}-{terms}-{align}-{rounding}{suffix}",
        real,
        terms,
        step,
        ALIGNED_REALS,
        ALIGNED_INTEGERS,
        powers=scaled or not normalised,
    )


@cache
def integer_step(
    terms: int,
    align: str,
    rounding: str,
    native: bool,
    normalised: bool = False,
    split: bool = False,
    scaled: bool = False,
) -> GroupStep:
    """Return the step of an aligned window whose sum is a 32-bit integer; terms are float32.

    With ``native`` float32 itself is the result's format and rounds the integer; else the integer
    has no more bits than float32, or truncating it twice is truncating once. With ``split`` only
    the sum of the products fits 32 bits; it meets ``c`` in halves. No term is NaN or infinite, and
    neither a result, unless ``c`` is.
    """

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        top = larger(power_of(acc, p), largest_power(source, terms, p, normalised, scaled))
        per_power = (p.integers["unit_bits"] - top.as_bits).as_real  # 2^(F - E)

        def add(i: Any, total: Vec) -> tuple[Vec, ...]:
            x, y = source.pair(i)
            return (total + (x * y * per_power).to_integers(align),)

        own = (acc * per_power).to_integers(align)
        nothing = acc.lanes.constant(0, True)
        (total,) = source.fold(range(terms), (nothing if split else own,), add)
        mode = rounding if native else "rtz"
        value = _sum_of_halves(total, own, mode) if split else total.to_reals(mode)
        value = value * (top * p.reals["per_unit"])
        if not native:
            zero = acc.lanes.constant(0.0, False)
            value = round_sum(Sum(value, zero), rounding, p, ieee=False) + zero
        return is_finite(acc).where(value, acc)

    suffix = "-native" * native + "-split" * split + "-normalised" * normalised
    suffix += "-scaled" * scaled
    name = f"integer32-{terms}-{align}-{rounding}{suffix}"
    powers = scaled or not normalised
    return GroupStep(name, FLOAT, terms, step, ALIGNED_REALS, ALIGNED_INTEGERS, powers)


def _sum_of_halves(x: Vec, y: Vec, mode: str) -> Vec:
    """Return x + y of 32-bit integers as float32, rounded once."""
    low, high = 0xFFFF, 0xFFFF0000
    one = x.lanes.constant(1.0, False)
    upper = (x & high).to_reals(mode) + (y & high).to_reals(mode)  # 17 bits: exact
    lower = (x & low).to_reals(mode) + (y & low).to_reals(mode)
    return upper.fma_toward(one, lower, mode)


@cache
def whole_step(real: Any, terms: int, rounding: str) -> GroupStep:
    """Return the step of a window that cuts nothing off: an exact sum, rounded."""

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        def add(i: Any, total: Vec) -> tuple[Vec, ...]:
            x, y = source.pair(i)
            return (x.intrinsic("fma", y, total),)

        (total,) = source.fold(range(terms), (acc,), add)
        zero = acc.lanes.constant(0.0, False)
        return round_sum(Sum(total, zero), rounding, p, ieee=False) + zero

    name = f"whole{'64' if real is DOUBLE else '32'}-{terms}-{rounding}"
    return GroupStep(name, real, terms, step, LANE_REALS, LANE_INTEGERS)


def largest_power(
    source: TermSource,
    terms: range | int,
    p: Parameters,
    normalised: bool = False,
    scaled: bool = False,
) -> Vec:
    """Return 2^E of terms and floor; with ``scaled`` zeros keep powers, others get new ones."""

    def next_larger(i: Any, top: Vec) -> tuple[Vec, ...]:
        if not normalised:
            return (larger(source.power(i), top),)
        x, y = source.pair(i)
        power = (x * y).power
        if scaled:
            power = (x * y).equals(0.0).where(source.power(i), power)
        return (larger(power, top),)

    numbers = range(terms) if isinstance(terms, int) else terms
    (top,) = source.fold(numbers, (p.reals["least_power"],), next_larger)
    return top


def _signed_zero(value: Vec, total: Vec, sign: Vec, any_sign: bool) -> Vec:
    """Give a zero value its sign: that of ``sign``, unless terms cancelled or a register wrapped.

    ``sign`` has the sign bits of all terms, combined by OR toward -infinity (where a sum that is
    zero without being one of +0 alone is -0), else by AND (-0 only from -0 alone).
    """
    bit = 1 << (value.lanes.bits - 1)
    cancelled = value.lanes.constant(bit if any_sign else 0, True)
    signed = total.equals(0.0).where(sign & bit, cancelled)
    return value.equals(0.0).where(signed.as_real, value)


def is_finite(x: Vec) -> Vec:
    """Return the mask of lanes that are neither infinite nor NaN."""
    return x.magnitude_bits.as_real < float("inf")


def larger(x: Vec, y: Vec) -> Vec:
    """Return the larger of two lanes, ``y`` if there is a NaN."""
    return (x > y).where(x, y)


def power_of(acc: Vec, p: Parameters) -> Vec:
    """Return 2^e of an accumulator: 0 for zero; what is not finite does not count."""
    power = acc.power
    zero = acc.lanes.constant(0.0, False)
    power = acc.equals(0.0).where(zero, larger(power, p.reals["smallest_normal"]))
    return power.equals(float("inf")).where(zero, power)


def _fit(total: Vec, width: str, p: Parameters) -> Vec:
    """Saturate or wrap an integer sum to its width; what is not finite stays."""
    low, high, modulus = (p.reals[name] for name in ("sum_low", "sum_high", "modulus"))
    if width == "saturate":
        fitted = (total > high).where(high, total)
        fitted = (low > fitted).where(low, fitted)
    else:
        turns = ((total - low) * p.reals["per_modulus"]).intrinsic("floor")
        fitted = total - turns * modulus
    return is_finite(total).where(fitted, total)
