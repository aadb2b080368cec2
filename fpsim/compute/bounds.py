# SPDX-License-Identifier: Apache-2.0
"""Between which powers of two terms lie: the bounds that proofs of exactness rest on.

What operands really hold comes from `fpsim.compute.facts`; this module only calculates with it.
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

#: Formats of so few bits are bounded as a whole.
MAX_WHOLE_BITS = 8
#: Exponent range in which a value and a product of two stay exact, normal numbers of a lane.
F16_LOW, F16_HIGH, F16_BITS = -24, 16, 11
F16_NORMAL = -14
F32_LOW, F32_HIGH, F32_BITS = -126, 127, 24
#: The same without "normal": what a float32 operand can be.
F32_LEAST, F32_MOST = -149, 128
F64_BITS = 53
#: Magnitude bits of sums in 64-bit integers, one to spare.
INT64_BITS = 62
#: Exponents whose float64 sums neither overflow nor lose what is below the normal numbers.
F64_RANGE = 960


def format_span(fmt: Format) -> Span:
    """Return the span of a format's finite values."""
    return Span(*exponents(fmt))


def _scaled_span(operand: Operand) -> Span:
    """Return the span of an operand's finite elements times the scales in use.

    Of a wide format the elements in use count, else all that the format has.
    """
    facts, span = facts_of(operand), format_span(operand.format)
    if operand.format.bits > MAX_WHOLE_BITS:
        span = facts.elements.span or span
    if operand.scales is None or facts.scales.span is None:
        return span
    scales = facts.scales.span
    if operand.scales.format == E8M0:  # powers of two: the largest is reached, not only approached
        scales = Span(scales.low, scales.high - 1)
    return span * scales


def operand_spans(args: MatmulOperands) -> tuple[Span, Span]:
    """Return the spans of the finite values of ``a`` and of ``b``, times their scales."""
    return _scaled_span(args.a), _scaled_span(args.b)


def operand_bits(args: MatmulOperands) -> tuple[int, int]:
    """Return how many significant bits a scaled element of each operand can have."""
    a, b = (significand_bits(operand.format) + _scale_bits(operand) for operand in args.operands)
    return a, b


def _scale_bits(operand: Operand) -> int:
    """Return how many bits a scale adds to a significand."""
    plain = operand.scales is None or operand.scales.format == E8M0
    return 0 if operand.scales is None or plain else significand_bits(operand.scales.format)


def inside(span: Span, low: int, high: int) -> bool:
    """Return whether a span lies between two powers of two.

    Args:
        span: of values.
        low: values must be multiples of 2^low.
        high: values must be below 2^high.

    Returns:
        True if both hold.
    """
    return span.low >= low and span.high <= high


def fits_float32(span: Span) -> bool:
    """Return whether values of a span are normal float32 numbers (given few enough bits)."""
    return inside(span, F32_LOW, F32_HIGH)


def half_shift(a: Span, b: Span) -> int | None:
    """Return s such that a * 2^s and b * 2^-s are exact in float16, or None."""
    return _shift(a, b, F16_LOW, F16_HIGH)


def float_shift(a: Span, b: Span) -> int | None:
    """Return s such that a * 2^s and b * 2^-s are exact in float32, or None.

    It is 0 where both are already, else it undoes opposite scales.
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
        """Values of the initial accumulators (M, N); a single 0 where all are +0."""
        return np.zeros(1) if self._codes is None else self._format.decode(self._codes)

    @cached_property
    def span(self) -> Span | None:
        """The span of the finite ones other than zero, None if there are none."""
        return None if self._codes is None else value_span(self.values)

    @cached_property
    def special(self) -> bool:
        """Whether an initial accumulator is -0, infinite or NaN."""
        values = self.values
        negative = np.any((values == 0) & np.signbit(values))
        return bool(not np.isfinite(values).all() or negative)

    @cached_property
    def largest_integer(self) -> int:
        """Largest magnitude in units of 2^lsb; 0 for other formats than fixed point."""
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
    significand: float = 4.0  #: a term is at most this times 2^(headroom - 2) times 2^e
    most: float | None = None  #: the largest magnitude, where more is known than its power of two
    scaled: bool = False  #: the alignment exponent is that of scales, which a zero term has, too
    halves: bool = False  #: whether float16 lanes may hold the factors
    count: int = 1  #: how many terms a sum has
    start: Start = field(default=Start(E8M0, None), compare=False)  #: what sums start from
    #: A bound on every partial sum that costs a look at all operands.
    largest_sum: Callable[[], float] | None = field(default=None, compare=False)

    def without_halves(self) -> Bounds:
        """Return the bounds of terms that float16 lanes must not take."""
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
        """Return the bounds of terms that are values of a format."""
        # The other factor is one.
        return cls(format_span(fmt), Span(0, 0), (significand_bits(fmt), 0), headroom=1)


def largest_sum(args: MatmulOperands) -> float:
    """Return a bound on every partial sum of products without scales (Cauchy and Schwarz).

    Infinite where it would cost more than it can save.
    """
    if args.scaled or max(operand.format.bits for operand in args.operands) > MAX_WHOLE_BITS:
        return float("inf")
    norms = math.prod(facts_of(operand).squares for operand in args.operands)
    return math.sqrt(norms) * (1 + 1e-6)


def block_of_scales(args: MatmulOperands) -> int:
    """Return how many elements of K have the same scales on both sides; 0 without scales."""
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
        largest_sum=cache(lambda: largest_sum(args)),
    )


def _largest_product(args: MatmulOperands) -> float | None:
    """Return the largest finite product of two narrow formats without scales, None for others."""
    if args.scaled or max(operand.format.bits for operand in args.operands) > MAX_WHOLE_BITS:
        return None
    tables = (value_table(operand.format) for operand in args.operands)
    return math.prod(float(np.abs(table[np.isfinite(table)]).max()) for table in tables)


def element_span(operand: Operand) -> Span:
    """Return the span of an operand's finite elements in use, without scales."""
    return facts_of(operand).elements.span or Span(0, 1)


def scale_span(operand: Operand) -> Span:
    """Return the span of an operand's finite scales in use; that of one without scales."""
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
    """Return bounds of block sums that count only the element codes in use."""
    bounds = block_bounds(size, args)
    sums = (element_span(args.a) * element_span(args.b)).times(size)
    headroom = bounds.headroom - bounds.a.high + sums.high
    return replace(bounds, a=sums, bits=(sums.bits, bounds.bits[1]), headroom=headroom)


def exact_lane(bounds: Bounds, total: Span, machine: Machine) -> Lane | None:
    """Return the narrowest lane whose own multiply-adds round nothing in a sum of products.

    Args:
        bounds: of the products and their factors.
        total: span of every partial sum.
        machine: the processor, which says how many bits of float32 sums it keeps.

    Returns:
        `Lane.F32` if it holds partial sums, and factors times 2^s and 2^-s for some s; else
        `Lane.F64` if it holds partial sums; else None.
    """
    narrow = total.bits <= machine.float32_bits and fits_float32(total)
    if narrow and float_shift(bounds.a, bounds.b) is not None:
        return Lane.F32
    return Lane.F64 if total.bits <= F64_BITS else None
