# SPDX-License-Identifier: Apache-2.0
"""Between which powers of two terms lie: the bounds that proofs of exactness rest on.

What operands really hold comes from `fpsim.compute.facts`; this module only calculates with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.facts import all_finite, facts_of
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.values import value_table
from fpsim.formats.floating import Format
from fpsim.formats.names import E8M0
from fpsim.units.operands import Operand
from fpsim.units.spec import exponents, significand_bits

__all__ = [
    "Span",
    "TermBounds",
    "block_bounds",
    "block_of_scales",
    "element_span",
    "format_span",
    "known_by_formats",
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


@dataclass(frozen=True)
class Span:
    """Nonzero values are multiples of 2^low and smaller than 2^high."""

    low: int
    high: int

    def __mul__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def union(self, other: Span) -> Span:
        """Return the span that holds both."""
        return Span(min(self.low, other.low), max(self.high, other.high))

    def times(self, count: int) -> Span:
        """Return the span of every partial sum of ``count`` values."""
        return replace(self, high=self.high + (count - 1).bit_length())

    @property
    def bits(self) -> int:
        """Significant bits that hold every value."""
        return self.high - self.low


def format_span(fmt: Format) -> Span:
    """Return the span of a format's finite values."""
    return Span(*exponents(fmt))


def _scaled_span(operand: Operand) -> Span:
    """Return the span of an operand's finite elements times the scales in use.

    Of a wide format the elements in use count, else all that the format has.
    """
    facts, span = facts_of(operand), format_span(operand.format)
    if operand.format.bits > MAX_WHOLE_BITS:
        span = value_span(facts.values) or span
    if operand.scales is None:
        return span
    scales = value_span(facts.scale_values)
    if scales is None:
        return span
    if operand.scales.format == E8M0:  # powers of two: the largest is reached, not only approached
        scales = Span(scales.low, scales.high - 1)
    return span * scales


def operand_spans(args: MatmulOperands) -> tuple[Span, Span]:
    """Return the spans of both operands with their scales."""
    return _scaled_span(args.a), _scaled_span(args.b)


def operand_bits(args: MatmulOperands) -> tuple[int, int]:
    """Return how many significant bits a scaled element of each operand can have."""
    a, b = (significand_bits(operand.format) + _scale_bits(operand) for operand in args.operands)
    return a, b


def _scale_bits(operand: Operand) -> int:
    """Return how many bits a scale adds to a significand."""
    plain = operand.scales is None or operand.scales.format == E8M0
    return 0 if operand.scales is None or plain else significand_bits(operand.scales.format)


@dataclass(frozen=True)
class TermBounds:
    """What is known of the terms of a sum: each is the exact product of two factors."""

    a: Span
    b: Span
    bits: tuple[int, int]  #: significant bits of the factors
    headroom: int = 2  #: a term is below 2^headroom times 2^e, with e its alignment exponent
    finite: bool = False  #: no term is NaN or infinite
    significand: float = 4.0  #: a term is at most this times 2^(headroom - 2) times 2^e
    most: float | None = None  #: the largest magnitude, where more is known than its power of two
    scaled: bool = False  #: the alignment exponent is that of scales, which a zero term has, too

    @property
    def largest(self) -> float:
        """A bound on the finite terms' magnitude."""
        return math.ldexp(1.0, self.span.high) if self.most is None else self.most

    @property
    def span(self) -> Span:
        """Span of the terms."""
        return self.a * self.b

    @classmethod
    def of_format(cls, fmt: Format) -> TermBounds:
        """Return the bounds of terms that are values of a format."""
        # The other factor is one.
        return cls(format_span(fmt), Span(0, 0), (significand_bits(fmt), 0), headroom=1)


def largest_sum(args: MatmulOperands) -> float:
    """Return a bound on every partial sum of products without scales (Cauchy and Schwarz).

    Infinite where it would cost more than it can save.
    """
    if args.scaled or max(operand.format.bits for operand in args.operands) > MAX_WHOLE_BITS:
        return float("inf")
    norms = 1.0
    for operand in args.operands:
        squares = value_table(operand.format).astype(np.float32) ** 2
        norms *= squares[operand.codes].sum(axis=1, dtype=np.float64).max()
    return float(np.sqrt(norms) * (1 + 1e-6))


def block_of_scales(args: MatmulOperands) -> int:
    """Return how many elements of K have the same scales on both sides; 0 without scales."""
    blocks = [operand.scales.block for operand in args.operands if operand.scales is not None]
    return math.gcd(*blocks) if blocks else 0


def product_bounds(args: MatmulOperands) -> TermBounds:
    """Return the bounds of scaled products."""
    scaled = sum(_scale_bits(operand) > 0 for operand in args.operands)
    largest = [2 - 2.0 ** (1 - significand_bits(operand.format)) for operand in args.operands]
    return TermBounds(
        *operand_spans(args),
        operand_bits(args),
        2 + scaled,
        all_finite(args),
        largest[0] * largest[1],
        _largest_product(args),
    )


def _largest_product(args: MatmulOperands) -> float | None:
    """Return the largest finite product of two narrow formats without scales, None for others."""
    if args.scaled or max(operand.format.bits for operand in args.operands) > MAX_WHOLE_BITS:
        return None
    tables = (value_table(operand.format) for operand in args.operands)
    return math.prod(float(np.abs(table[np.isfinite(table)]).max()) for table in tables)


def known_by_formats(args: MatmulOperands) -> bool:
    """Return whether the bounds of products are those of the formats, whatever the codes."""
    formats = [operand.format for operand in args.operands]
    narrow = max(fmt.bits for fmt in formats) <= MAX_WHOLE_BITS
    return narrow and not args.scaled and all(np.isfinite(value_table(f)).all() for f in formats)


def element_span(operand: Operand) -> Span:
    """Return the span of an operand's finite elements in use, without scales."""
    return value_span(facts_of(operand).values) or Span(0, 1)


def scale_span(operand: Operand) -> Span:
    """Return the span of an operand's finite scales in use; that of one without scales."""
    return value_span(facts_of(operand).scale_values) or Span(0, 1)


def block_bounds(size: int, args: MatmulOperands) -> TermBounds:
    """Return the bounds of scaled sums of ``size`` products, and of the products of two scales."""
    sums = (format_span(args.a.format) * format_span(args.b.format)).times(size)
    scales, bits, headroom = Span(0, 0), 0, sums.high
    for operand in args.operands:
        factors = value_span(facts_of(operand).scale_values)
        if factors is not None:
            scales = scales * factors
        bits += _scale_bits(operand)
        headroom += int(_scale_bits(operand) > 0)
    return TermBounds(sums, scales, (sums.bits, bits), headroom, all_finite(args), scaled=True)


def used_block_bounds(size: int, args: MatmulOperands) -> TermBounds:
    """Return what `block_bounds` returns, with sums of the elements in use only."""
    bounds = block_bounds(size, args)
    sums = (element_span(args.a) * element_span(args.b)).times(size)
    headroom = bounds.headroom - bounds.a.high + sums.high
    return replace(bounds, a=sums, bits=(sums.bits, bounds.bits[1]), headroom=headroom)


def value_span(values: NDArray[np.float64]) -> Span | None:
    """Return the span of the finite nonzero entries of an array, None if there are none."""
    used = np.abs(values[np.isfinite(values) & (values != 0)])
    if not used.size:
        return None
    fraction, exponent = np.frexp(used)
    integers = np.ldexp(fraction, 53).astype(np.int64)
    lowest_bits = np.ldexp((integers & -integers).astype(np.float64), exponent - 53)
    return Span(int(np.frexp(lowest_bits)[1].min()) - 1, int(exponent.max()))
