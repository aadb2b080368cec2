# SPDX-License-Identifier: Apache-2.0
"""The exact terms of a stage, from operand codes and scales."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from fpsim.formats.floating import FixedFormat, Format
from fpsim.formats.rounding import Flag, Overflow, Rounding
from fpsim.oracle import numbers
from fpsim.oracle.numbers import NAN, Number, multiply
from fpsim.oracle.trace import Trace
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Block, NanScale

__all__ = ["Element", "Scale", "Term", "block_terms", "exponent_of", "product_terms", "scale_of"]


class Term(NamedTuple):
    """A number to add, and its alignment exponent (None: it does not count in an alignment)."""

    value: Number
    exponent: int | None


class Scale(NamedTuple):
    """A scale: its number and exponent."""

    value: Number
    exponent: int | None


ONE = Scale(Number(False, Fraction(1)), 0)


class Element(NamedTuple):
    """A pair of operand codes, each with scales for a clear and for a set sign bit."""

    a: int
    b: int
    a_scales: tuple[Scale, Scale] = (ONE, ONE)
    b_scales: tuple[Scale, Scale] = (ONE, ONE)


def floor_log2(value: Fraction) -> int:
    """Return floor(log2(value)) of a positive number."""
    estimate = value.numerator.bit_length() - value.denominator.bit_length()
    return estimate if numbers.two_to(estimate) <= value else estimate - 1


def exponent_of(number: Number, fmt: Format) -> int | None:
    """Return e(x) = max(floor(log2 |x|), emin); None for zero, infinity and NaN.

    Every fixed-point number has the exponent of its format's largest magnitude.
    """
    if not number.magnitude:
        return None
    if isinstance(fmt, FixedFormat):
        return max(fmt.max_integer, -fmt.min_integer).bit_length() - 1 + fmt.lsb
    return max(floor_log2(number.magnitude), fmt.exponent_min)


def scale_of(code: int, fmt: Format) -> Scale:
    """Return a scale: the number of its code, and its exponent."""
    number = numbers.decode(code, fmt)
    return Scale(number, exponent_of(number, fmt))


def _sign(code: int, fmt: Format) -> int:
    return int(fmt.signed and code >> (fmt.bits - 1))


def _plus(*exponents: int | None) -> int | None:
    return None if None in exponents else sum(e for e in exponents if e is not None)


def _times(trace: Trace, x: Number, y: Number) -> Number:
    """Return an exact product; zero times infinity is an invalid operation."""
    product = multiply(x, y)
    trace.flag(Flag.INVALID, product.is_nan and not (x.is_nan or y.is_nan))
    return product


def product_terms(spec: MacSpec, elements: Sequence[Element], trace: Trace) -> list[Term]:
    """Multiply elements, with their scales.

    Args:
        spec: the unit.
        elements: pairs of operand codes with their scales.
        trace: receives a node ``p[i]`` per product.

    Returns:
        The scaled products, exact.
    """
    terms = []
    for i, element in enumerate(elements):
        a, b = numbers.decode(element.a, spec.a), numbers.decode(element.b, spec.b)
        sa = element.a_scales[_sign(element.a, spec.a)]
        sb = element.b_scales[_sign(element.b, spec.b)]
        value = _times(trace, _times(trace, a, sa.value), _times(trace, b, sb.value))
        parts = (exponent_of(a, spec.a), exponent_of(b, spec.b), sa.exponent, sb.exponent)
        terms.append(Term(value, _plus(*parts)))
        trace.add(f"p[{i}]", value, terms[-1].exponent)
    return terms


def block_terms(
    spec: MacSpec, stage: Block, elements: Sequence[Element], trace: Trace
) -> list[Term]:
    """Add the products of blocks, and scale the sums.

    Args:
        spec: the unit.
        stage: its block stage.
        elements: pairs of operand codes with their scales; the last block may be partial.
        trace: receives sums ``s[g]``, scaled sums ``p[g]`` and converted sums ``r[g]``.

    Returns:
        The scaled sums, by block and combination of split signs.
    """
    terms = []
    for start in range(0, len(elements), stage.size):
        block = elements[start : start + stage.size]
        for a_sign in (0, 1) if spec.splits("a") else (None,):
            for b_sign in (0, 1) if spec.splits("b") else (None,):
                name = f"g{start // stage.size}"
                for sign in (a_sign, b_sign):
                    name += "" if sign is None else "+-"[sign]
                terms.append(_block_term(spec, stage, block, (a_sign, b_sign), name, trace))
    return terms


def _block_term(
    spec: MacSpec,
    stage: Block,
    block: Sequence[Element],
    signs: tuple[int | None, int | None],
    name: str,
    trace: Trace,
) -> Term:
    total = Number(False, Fraction(0))
    for element in block:
        a_fits = signs[0] in (None, _sign(element.a, spec.a))
        b_fits = signs[1] in (None, _sign(element.b, spec.b))
        if a_fits and b_fits:
            a, b = numbers.decode(element.a, spec.a), numbers.decode(element.b, spec.b)
            product = _times(trace, a, b)
            arises = not (total.is_nan or product.is_nan)
            total = numbers.add(total, product, Rounding.RNE)
            trace.flag(Flag.INVALID, arises and total.is_nan)
    trace.add(f"s[{name}]", total)
    sa, sb = block[0].a_scales[signs[0] or 0], block[0].b_scales[signs[1] or 0]
    if stage.nan_scale is NanScale.ZERO and (sa.value.is_nan or sb.value.is_nan):
        trace.flag(Flag.INVALID)
        return Term(Number(False, Fraction(0)), None)
    value = _times(trace, total, _times(trace, sa.value, sb.value))
    exponent = _plus(sa.exponent, sb.exponent)
    trace.add(f"p[{name}]", value, exponent)
    if stage.convert is not None:
        overflow = Overflow(stage.convert.default_overflow)
        conversion = (value, stage.convert, stage.convert_rounding, overflow)
        code = numbers.encode(*conversion, round_up=trace.round_up)
        flags = None
        if not trace.silent:
            flags = numbers.flags(*conversion, round_up=trace.round_up)
        value = numbers.decode(code, stage.convert)
        trace.add(f"r[{name}]", value, exponent, code, stage.convert, flags)
    return Term(NAN if value.is_nan else value, exponent)
