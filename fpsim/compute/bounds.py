# SPDX-License-Identifier: Apache-2.0
"""Bounds on terms, as exponents of powers of two, on which proofs of exactness rest.

`fpsim.compute.facts` finds which codes operands hold; this module only calculates bounds from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.facts import all_finite, facts_of
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.values import Span, value_span, value_table
from fpsim.formats.floating import FixedFormat, Format
from fpsim.formats.names import E8M0
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.vector import Lane
from fpsim.units.operands import Operand
from fpsim.units.spec import exponents, significand_bits

__all__ = [
    "Bounds",
    "Span",
    "Start",
    "block_bounds",
    "block_of_scales",
    "element_span",
    "exact_lane",
    "fits_float32",
    "float_shift",
    "format_span",
    "half_shift",
    "inside",
    "largest_sum",
    "operand_bits",
    "operand_spans",
    "product_bounds",
    "scale_span",
    "used_block_bounds",
    "value_span",
]

#: Widest format for which the span of the whole format is used, not of the codes in use.
MAX_WHOLE_BITS = 8
#: Exponent range in which a value and a product of two stay exact, normal numbers of a lane.
F16_LOW, F16_HIGH, F16_BITS = -24, 16, 11
F16_NORMAL = -14
F32_LOW, F32_HIGH, F32_BITS = -126, 127, 24
#: Exponents of float32 operands, subnormal numbers included.
F32_LEAST, F32_MOST = -149, 128
F64_BITS = 53
#: Magnitude bits of sums in 64-bit integers, with one bit to spare.
INT64_BITS = 62
#: Exponents between which float64 sums neither overflow nor become subnormal.
F64_RANGE = 960


def format_span(fmt: Format) -> Span:
    """Return the span of a format's finite values."""
    return Span(*exponents(fmt))


def _scaled_span(operand: Operand) -> Span:
    """Return the span of an operand's finite elements times the scales in use.

    For a narrow format all its elements count, for a wide one only the elements in use.
    """
    facts, span = facts_of(operand), format_span(operand.format)
    if operand.format.bits > MAX_WHOLE_BITS:
        span = facts.elements.span or span
    if operand.scales is None or facts.scales.span is None:
        return span
    scales = facts.scales.span
    if operand.scales.format == E8M0:  # powers of two: at most 2^(high - 1)
        scales = Span(scales.low, scales.high - 1)
    return span * scales


def operand_spans(args: MatmulOperands) -> tuple[Span, Span]:
    """Return the spans of the finite values of ``a`` and of ``b``, times their scales."""
    return _scaled_span(args.a), _scaled_span(args.b)


def operand_bits(args: MatmulOperands) -> tuple[int, int]:
    """Return the significant bits that a scaled element of ``a`` and of ``b`` can have."""
    a, b = (significand_bits(operand.format) + _scale_bits(operand) for operand in args.operands)
    return a, b


def term_bits(args: MatmulOperands) -> int:
    """Return the significant bits of a product of scaled elements.

    E2M1 scaled by E4M3 has significands of up to 3 * 15: six bits, and eleven for 45^2 = 2025.
    """
    bits = [significand_bits(x.format) for x in args.operands]
    bits += [max(_scale_bits(x), 1) for x in args.operands]
    return math.prod((1 << n) - 1 for n in bits).bit_length()


def _scale_bits(operand: Operand) -> int:
    """Return the bits that a scale adds to a significand."""
    plain = operand.scales is None or operand.scales.format == E8M0
    return 0 if operand.scales is None or plain else significand_bits(operand.scales.format)


def inside(span: Span, low: int, high: int) -> bool:
    """Return whether values of a span are multiples of 2^low and below 2^high.

    Args:
        span: the span of the values.
        low: exponent of the required common factor.
        high: exponent of the required bound.

    Returns:
        True if both hold for every value.
    """
    return span.low >= low and span.high <= high


def fits_float32(span: Span) -> bool:
    """Return whether values of a span are normal float32 numbers (given few enough bits)."""
    return inside(span, F32_LOW, F32_HIGH)


def half_shift(a: Span, b: Span) -> int | None:
    """Return s such that float16 holds a * 2^s and b * 2^-s exactly, or None."""
    return _shift(a, b, F16_LOW, F16_HIGH)


def float_shift(a: Span, b: Span) -> int | None:
    """Return s such that float32 holds a * 2^s and b * 2^-s exactly, or None.

    0 if float32 holds ``a`` and ``b``; else s shifts a large operand down and a small one up.
    """
    return _shift(a, b, F32_LEAST, F32_MOST)


def _shift(a: Span, b: Span, lowest: int, highest: int) -> int | None:
    low = max(lowest - a.low, b.high - highest)
    high = min(highest - a.high, b.low - lowest)
    return None if low > high else min(max(0, low), high)


class Start:
    """Facts about initial accumulators: codes (M, N) of a format, or +0 where there are none."""

    def __init__(self, fmt: Format, codes: NDArray[Any] | None) -> None:
        self._format, self._codes = fmt, codes

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Values of the initial accumulators (M, N); a single 0 if all are +0."""
        return np.zeros(1) if self._codes is None else self._format.decode(self._codes)

    @cached_property
    def span(self) -> Span | None:
        """The span of the finite nonzero initial accumulators, None if there are none."""
        return None if self._codes is None else value_span(self.values)

    @cached_property
    def special(self) -> bool:
        """Whether an initial accumulator is -0, infinite or NaN."""
        values = self.values
        negative = np.any((values == 0) & np.signbit(values))
        return bool(not np.isfinite(values).all() or negative)

    @cached_property
    def largest_integer(self) -> int:
        """Largest magnitude of a fixed-point accumulator in units of 2^lsb; 0 for float formats."""
        if self._codes is None or not isinstance(self._format, FixedFormat):
            return 0
        integers = self._format.integers(self._codes)
        return max(int(integers.max()), -int(integers.min()))


@dataclass(frozen=True)
class Bounds:
    """Bounds on the terms of a sum, each of which is the exact product of two factors."""

    a: Span
    b: Span
    bits: tuple[int, int]  #: significant bits of the factors
    headroom: int = 2  #: a term is below 2^headroom times 2^e, with e its alignment exponent
    finite: bool = False  #: no term is NaN or infinite
    significand: float = 4.0  #: a term is at most significand * 2^(headroom - 2) * 2^e
    most: float | None = None  #: the largest magnitude, if known more closely than by ``span``
    scaled: bool = False  #: the alignment exponent is that of the scales, for zero terms too
    halves: bool = False  #: whether float16 lanes may hold the factors
    term_bits: int | None = None  #: significant bits of a term, if fewer than those of both factors
    count: int = 1  #: terms of a sum
    start: Start = field(default=Start(E8M0, None), compare=False)  #: initial accumulators of sums
    #: Returns a bound on every partial sum; a call looks at all operands.
    largest_sum: Callable[[], float] | None = field(default=None, compare=False)

    @property
    def q(self) -> int:
        """Significant bits of a term."""
        return sum(self.bits) if self.term_bits is None else self.term_bits

    def of_values(self, span: Span, bits: int) -> Bounds:
        """Return the bounds with other terms: values of a span, of so many significant bits."""
        return replace(self, a=span, b=Span(0, 0), bits=(bits, 0), term_bits=None)

    def without_halves(self) -> Bounds:
        """Return the bounds with float16 lanes ruled out."""
        return replace(self, halves=False) if self.halves else self

    @property
    def largest(self) -> float:
        """A bound on the finite terms' magnitude."""
        return math.ldexp(1.0, self.span.high) if self.most is None else self.most

    @property
    def span(self) -> Span:
        """Span of the terms."""
        return self.a * self.b

    @classmethod
    def of_format(cls, fmt: Format) -> Bounds:
        """Return the bounds of terms that are any values of a format."""
        # The second factor is one.
        return cls(format_span(fmt), Span(0, 0), (significand_bits(fmt), 0), headroom=1)


def largest_sum(args: MatmulOperands) -> float:
    """Return a bound on every partial sum of products without scales (Cauchy and Schwarz).

    Infinite if looking for the bound costs more than it can save.
    """
    if args.scaled or max(operand.format.bits for operand in args.operands) > MAX_WHOLE_BITS:
        return float("inf")
    norms = math.prod(facts_of(operand).squares for operand in args.operands)
    return math.sqrt(norms) * (1 + 1e-5)  # float32 adds the squares of a row


def block_of_scales(args: MatmulOperands) -> int:
    """Return the elements of K that share scales in both operands; 0 if there are no scales."""
    blocks = [operand.scales.block for operand in args.operands if operand.scales is not None]
    return math.gcd(*blocks) if blocks else 0


def product_bounds(args: MatmulOperands) -> Bounds:
    """Return the bounds of the products of a matrix product, each times both scales."""
    scaled = sum(_scale_bits(operand) > 0 for operand in args.operands)
    largest = [2 - 2.0 ** (1 - significand_bits(operand.format)) for operand in args.operands]
    return Bounds(
        *operand_spans(args),
        operand_bits(args),
        2 + scaled,
        all_finite(args),
        largest[0] * largest[1],
        _largest_product(args),
        halves=True,
        term_bits=term_bits(args),
        largest_sum=cache(lambda: largest_sum(args)),
    )


def _largest_product(args: MatmulOperands) -> float | None:
    """Return the largest finite product of two narrow unscaled formats, None for other operands."""
    if args.scaled or max(operand.format.bits for operand in args.operands) > MAX_WHOLE_BITS:
        return None
    tables = (value_table(operand.format) for operand in args.operands)
    return math.prod(float(np.abs(table[np.isfinite(table)]).max()) for table in tables)


def element_span(operand: Operand) -> Span:
    """Return the span of an operand's finite elements in use, scales left out."""
    return facts_of(operand).elements.span or Span(0, 1)


def scale_span(operand: Operand) -> Span:
    """Return the span of an operand's finite scales in use; of 1 if it has no scales."""
    return facts_of(operand).scales.span or Span(0, 1)


def block_bounds(size: int, args: MatmulOperands) -> Bounds:
    """Return the bounds of scaled sums of ``size`` products, and of the products of two scales."""
    sums = (format_span(args.a.format) * format_span(args.b.format)).times(size)
    scales, bits, headroom = Span(0, 0), 0, sums.high
    for operand in args.operands:
        factors = facts_of(operand).scales.span
        if factors is not None:
            scales = scales * factors
        bits += _scale_bits(operand)
        headroom += int(_scale_bits(operand) > 0)
    return Bounds(sums, scales, (sums.bits, bits), headroom, all_finite(args), scaled=True)


def used_block_bounds(size: int, args: MatmulOperands) -> Bounds:
    """Return bounds of block sums from the element codes in use, not from whole formats."""
    bounds = block_bounds(size, args)
    sums = (element_span(args.a) * element_span(args.b)).times(size)
    headroom = bounds.headroom - bounds.a.high + sums.high
    return replace(bounds, a=sums, bits=(sums.bits, bounds.bits[1]), headroom=headroom)


def exact_lane(bounds: Bounds, total: Span, machine: Machine) -> Lane | None:
    """Return the narrowest lane whose multiply-adds are exact in a sum of products.

    Args:
        bounds: bounds of the products and their factors.
        total: span of every partial sum.
        machine: the processor; some keep fewer bits of float32 sums.

    Returns:
        `Lane.F32` if it holds partial sums, and factors times 2^s and 2^-s for some s; else
        `Lane.F64` if it holds partial sums; else None.
    """
    narrow = total.bits <= machine.float32_bits and fits_float32(total)
    if narrow and float_shift(bounds.a, bounds.b) is not None:
        return Lane.F32
    return Lane.F64 if total.bits <= F64_BITS else None
