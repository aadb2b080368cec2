# SPDX-License-Identifier: Apache-2.0
"""Between which powers of two values lie: the bounds that the engine's proofs rest on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.operands import MatmulOperands
from fpsim.compute.values import value_table, values_of
from fpsim.formats.floating import Format
from fpsim.formats.names import E8M0
from fpsim.units.spec import MacSpec, exponents, significand_bits

__all__ = [
    "Span",
    "TermBounds",
    "all_finite",
    "block_bounds",
    "block_of_scales",
    "elements_finite",
    "finite_elements",
    "format_span",
    "infinite_scales",
    "infinities",
    "known_by_formats",
    "largest_sum",
    "operand_bits",
    "operand_spans",
    "product_bounds",
    "used_block_bounds",
    "used_scales",
    "used_span",
    "value_span",
    "zero_scales",
]

#: Formats of so few bits are bounded as a whole.
MAX_WHOLE_BITS = 8
E8M0_BIAS = 127
E8M0_NAN = 255


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


def _scaled_span(spec: MacSpec, args: MatmulOperands, name: str) -> Span:
    """Return the span of an operand's finite elements times the scales in use.

    Of a wide format the elements in use count, else all that the format has.
    """
    fmt, scale_format = getattr(spec, name), getattr(spec, f"{name}_scale")
    scale = getattr(args, f"{name}_scale")
    span = format_span(fmt)
    if fmt.bits > MAX_WHOLE_BITS:
        span = value_span(_used_values(fmt, args.used[name])) or span
    if scale is None or not scale.size:
        return span
    if scale_format == E8M0:  # powers of two: tighter than the span of their values
        codes = scale[scale != E8M0_NAN] if scale.max() == E8M0_NAN else scale
        if not codes.size:
            return span
        low, high = int(codes.min()) - E8M0_BIAS, int(codes.max()) - E8M0_BIAS
        return Span(span.low + low, span.high + high)
    factors = value_span(used_scales(spec, args, name))
    return span if factors is None else span * factors


def operand_spans(spec: MacSpec, args: MatmulOperands) -> tuple[Span, Span]:
    """Return the spans of both operands with their scales."""
    return _scaled_span(spec, args, "a"), _scaled_span(spec, args, "b")


def operand_bits(spec: MacSpec, args: MatmulOperands) -> tuple[int, int]:
    """Return how many significant bits a scaled element of each operand can have."""
    bits = []
    for name in ("a", "b"):
        scaled = getattr(args, f"{name}_scale") is not None
        bits.append(significand_bits(getattr(spec, name)) + scaled * _scale_bits(spec, name))
    return bits[0], bits[1]


def _scale_bits(spec: MacSpec, name: str) -> int:
    """Return how many bits a scale adds to a significand."""
    scale_format = getattr(spec, f"{name}_scale")
    return 0 if scale_format == E8M0 else significand_bits(scale_format)


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


def largest_sum(spec: MacSpec, args: MatmulOperands) -> float:
    """Return a bound on every partial sum of products without scales (Cauchy and Schwarz).

    Infinite where it would cost more than it can save.
    """
    scaled = args.a_scale is not None or args.b_scale is not None
    if scaled or max(spec.a.bits, spec.b.bits) > MAX_WHOLE_BITS:
        return float("inf")
    squares = [value_table(fmt).astype(np.float32) ** 2 for fmt in (spec.a, spec.b)]
    rows = squares[0][args.a].sum(axis=1, dtype=np.float64).max()
    columns = squares[1][args.b].sum(axis=0, dtype=np.float64).max()
    return float(np.sqrt(rows * columns) * (1 + 1e-6))


def block_of_scales(args: MatmulOperands) -> int:
    """Return how many elements of K have the same scales on both sides; 0 without scales."""
    blocks = [
        block
        for scale, block in ((args.a_scale, args.a_block), (args.b_scale, args.b_block))
        if scale is not None
    ]
    return math.gcd(*blocks) if blocks else 0


def product_bounds(spec: MacSpec, args: MatmulOperands) -> TermBounds:
    """Return the bounds of scaled products."""
    scaled = sum(
        _scale_bits(spec, name) > 0
        for name in ("a", "b")
        if getattr(args, f"{name}_scale") is not None
    )
    largest = [2 - 2.0 ** (1 - significand_bits(fmt)) for fmt in (spec.a, spec.b)]
    return TermBounds(
        *operand_spans(spec, args),
        operand_bits(spec, args),
        2 + scaled,
        all_finite(spec, args),
        largest[0] * largest[1],
        _largest_product(spec, args),
    )


def _largest_product(spec: MacSpec, args: MatmulOperands) -> float | None:
    """Return the largest finite product of two narrow formats without scales, None for others."""
    scaled = args.a_scale is not None or args.b_scale is not None
    if scaled or max(spec.a.bits, spec.b.bits) > MAX_WHOLE_BITS:
        return None
    tables = (value_table(fmt) for fmt in (spec.a, spec.b))
    return math.prod(float(np.abs(table[np.isfinite(table)]).max()) for table in tables)


def known_by_formats(spec: MacSpec, args: MatmulOperands) -> bool:
    """Return whether the bounds of products are those of the formats, whatever the codes."""
    scaled = args.a_scale is not None or args.b_scale is not None
    formats = (spec.a, spec.b)
    narrow = max(fmt.bits for fmt in formats) <= MAX_WHOLE_BITS
    return narrow and not scaled and all(np.isfinite(value_table(f)).all() for f in formats)


def all_finite(spec: MacSpec, args: MatmulOperands) -> bool:
    """Return whether no operand and no scale is NaN or infinite."""
    values = []
    for name in ("a", "b"):
        fmt, scale = getattr(spec, name), getattr(args, f"{name}_scale")
        if not np.isfinite(value_table(fmt)).all():
            values.append(_used_values(fmt, args.used[name]))
        if scale is not None:
            values.append(used_scales(spec, args, name))
    return all(np.isfinite(array).all() for array in values)


def elements_finite(spec: MacSpec, args: MatmulOperands) -> bool:
    """Return whether no element is NaN or infinite."""
    pairs = [(getattr(spec, name), args.used[name]) for name in ("a", "b")]
    return all(np.isfinite(_used_values(fmt, used)).all() for fmt, used in pairs)


def finite_elements(spec: MacSpec, args: MatmulOperands) -> MatmulOperands:
    """Return operands with code 0 in place of NaN and infinite elements."""
    codes = {}
    for name in ("a", "b"):
        finite = np.isfinite(value_table(getattr(spec, name)))
        codes[name] = np.where(finite[getattr(args, name)], getattr(args, name), 0)
    a, b = (codes[name].astype(getattr(args, name).dtype, copy=False) for name in ("a", "b"))
    return replace(args, a=a, b=b)


def infinities(spec: MacSpec, args: MatmulOperands) -> bool:
    """Return whether an element or a scale is infinite."""
    pairs = [(getattr(spec, name), args.used[name]) for name in ("a", "b")]
    elements = any(np.isinf(_used_values(fmt, used)).any() for fmt, used in pairs)
    return elements or infinite_scales(spec, args)


def used_span(spec: MacSpec, args: MatmulOperands, name: str) -> Span:
    """Return the span of an operand's finite elements in use, without scales."""
    fmt = getattr(spec, name)
    return value_span(_used_values(fmt, args.used[name])) or Span(0, 1)


def infinite_scales(spec: MacSpec, args: MatmulOperands) -> bool:
    """Return whether a scale is infinite: it makes NaN of an element of 0, not of its block."""
    return any(np.isinf(scales).any() for scales in _all_used_scales(spec, args))


def zero_scales(spec: MacSpec, args: MatmulOperands) -> bool:
    """Return whether a scale is zero."""
    return any((scales == 0).any() for scales in _all_used_scales(spec, args))


def _all_used_scales(spec: MacSpec, args: MatmulOperands) -> list[NDArray[np.float64]]:
    names = [name for name in ("a", "b") if getattr(args, f"{name}_scale") is not None]
    return [used_scales(spec, args, name) for name in names]


def _used_values(fmt: Format, used: NDArray[np.bool_]) -> NDArray[np.float64]:
    table = value_table(fmt)
    return table[used[: table.size]]


def block_bounds(spec: MacSpec, size: int, args: MatmulOperands) -> TermBounds:
    """Return the bounds of scaled sums of ``size`` products, and of the products of two scales."""
    sums = (format_span(spec.a) * format_span(spec.b)).times(size)
    scales, bits, headroom = Span(0, 0), 0, sums.high
    for name in ("a", "b"):
        if getattr(args, f"{name}_scale") is None:
            continue
        factors = value_span(used_scales(spec, args, name))
        if factors is not None:
            scales = scales * factors
        bits += _scale_bits(spec, name)
        headroom += int(_scale_bits(spec, name) > 0)
    finite = all_finite(spec, args)
    return TermBounds(sums, scales, (sums.bits, bits), headroom, finite, scaled=True)


def used_block_bounds(spec: MacSpec, size: int, args: MatmulOperands) -> TermBounds:
    """Return the same for the elements in use."""
    bounds = block_bounds(spec, size, args)
    sums = (used_span(spec, args, "a") * used_span(spec, args, "b")).times(size)
    headroom = bounds.headroom - bounds.a.high + sums.high
    return replace(bounds, a=sums, bits=(sums.bits, bounds.bits[1]), headroom=headroom)


def used_scales(spec: MacSpec, args: MatmulOperands, name: str) -> NDArray[np.float64]:
    """Return the values of an operand's scales in use, in any order."""
    fmt = getattr(spec, f"{name}_scale")
    used = args.used.get(f"{name}_scale")
    if used is None:
        return values_of(np.unique(getattr(args, f"{name}_scale")), fmt)
    return _used_values(fmt, used)


def value_span(values: NDArray[np.float64]) -> Span | None:
    """Return the span of the finite nonzero entries of an array, None if there are none."""
    used = np.abs(values[np.isfinite(values) & (values != 0)])
    if not used.size:
        return None
    fraction, exponent = np.frexp(used)
    integers = np.ldexp(fraction, 53).astype(np.int64)
    lowest_bits = np.ldexp((integers & -integers).astype(np.float64), exponent - 53)
    return Span(int(np.frexp(lowest_bits)[1].min()) - 1, int(exponent.max()))
