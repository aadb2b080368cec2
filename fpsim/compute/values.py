# SPDX-License-Identifier: Apache-2.0
"""Values and alignment exponents of operand and scale codes, in float64, for the kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat, Format
from fpsim.kernels.codec.codec import look_up
from fpsim.kernels.scalar.aligned import NO_EXPONENT
from fpsim.kernels.scalar.wide_terms import block_parts, product_parts
from fpsim.units.operands import DotOperands, Operand
from fpsim.units.spec import F64_BITS, MacSpec
from fpsim.units.stages import Block, NanScale

__all__ = [
    "MAX_TABLE_BITS",
    "Rows",
    "Span",
    "compact",
    "decoded",
    "exponents_of",
    "value_span",
    "value_table",
    "values_of",
]

Array = NDArray[Any]
#: Widest format that gets a table of all values; products of wider operands run as scalar code.
MAX_TABLE_BITS = 19
#: Least codes that threads share.
LEAST_SHARED = 1 << 13
#: Magnitude bits of a 64-bit integer beyond float64's.
SPARE_BITS = 11


@dataclass(frozen=True)
class Span:
    """Nonzero values are multiples of 2^low and smaller than 2^high."""

    low: int
    high: int

    def __mul__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def union(self, other: Span) -> Span:
        """Return the least span that holds the values of both spans."""
        return Span(min(self.low, other.low), max(self.high, other.high))

    def times(self, count: int) -> Span:
        """Return the span of every partial sum of ``count`` values."""
        return replace(self, high=self.high + (count - 1).bit_length())

    @property
    def bits(self) -> int:
        """Significant bits that hold every value."""
        return self.high - self.low


@lru_cache(maxsize=64)
def value_table(fmt: Format) -> NDArray[np.float64]:
    """Return the value of every code of a format, in float64 and in the order of codes."""
    table = fmt.decode(np.arange(1 << fmt.bits, dtype=fmt.dtype))
    table.flags.writeable = False
    return table


def compact(codes: Array, fmt: Format) -> tuple[Array, NDArray[np.float64]]:
    """Return indices and a table with ``table[indices]`` the values of codes.

    The table holds the values of all codes; for a wide format, of the codes in use.
    """
    if fmt.bits <= MAX_TABLE_BITS:
        return codes, value_table(fmt)
    used, indices = np.unique(codes, return_inverse=True)
    return indices.reshape(codes.shape), fmt.decode(used)


def values_of(codes: Array, fmt: Format) -> NDArray[np.float64]:
    """Return the values of codes of a format, in float64."""
    return _entries(*compact(codes, fmt))


def decoded(codes: Array, fmt: Format) -> NDArray[np.float64]:
    """Return the values of codes, like `Format.decode`, from a cached table."""
    if fmt.bits > MAX_TABLE_BITS:
        return fmt.decode(codes)
    return _entries(codes, value_table(fmt))


def _entries(codes: Array, table: Array) -> Array:
    """Return ``table[codes]``; threads take part only if they save time."""
    if codes.size < LEAST_SHARED:
        return table.take(codes)
    out = np.empty(codes.shape, dtype=table.dtype)
    look_up(codes.reshape(-1), table, out.reshape(-1))
    return out


def result_parts(codes: Array, fmt: Format) -> NDArray[np.float64]:
    """Return the values of chunk results, in two parts if float64 does not hold them.

    Codes of a float format, or of a register of up to 54 bits, become values (R, C). If a wider
    register holds a result beyond float64, they become parts (R, C, 2): float64's value, the rest.
    """
    if isinstance(fmt, FixedFormat) and fmt.width > F64_BITS + 1:
        integers = fmt.integers(codes)
        sizes = np.where(integers < 0, -integers, integers).view(np.uint64)
        rest = np.where(sizes >> np.uint64(F64_BITS), sizes & np.uint64((1 << SPARE_BITS) - 1), 0)
        if rest.any():
            parts = np.stack([sizes - rest, rest], axis=-1).astype(np.float64)
            return np.ldexp(np.where(integers[..., None] < 0, -parts, parts), fmt.lsb)
    return fmt.decode(codes)


def value_span(values: NDArray[np.float64]) -> Span | None:
    """Return the span of the finite nonzero entries of an array, None if there are none."""
    used = np.abs(values[np.isfinite(values) & (values != 0)])
    if not used.size:
        return None
    fraction, exponent = np.frexp(used)
    integers = np.ldexp(fraction, 53).astype(np.int64)
    lowest_bits = np.ldexp((integers & -integers).astype(np.float64), exponent - 53)
    return Span(int(np.frexp(lowest_bits)[1].min()) - 1, int(exponent.max()))


def exponents_of(values: Array, fmt: Format) -> NDArray[np.int32]:
    """Return e(x) = max(floor(log2 |x|), emin) of values of a format.

    Zeros, infinities and NaN get `NO_EXPONENT`, which does not count in an alignment. Every
    fixed-point value has the exponent of the format's largest magnitude.
    """
    counts = np.isfinite(values) & (values != 0)
    if isinstance(fmt, FixedFormat):
        largest = max(fmt.max_integer, -fmt.min_integer)
        exponents = np.full(values.shape, largest.bit_length() - 1 + fmt.lsb)
    else:
        exponents = np.maximum(np.frexp(np.where(counts, values, 1.0))[1] - 1, fmt.exponent_min)
    return np.where(counts, exponents, NO_EXPONENT).astype(np.int32)


@lru_cache(maxsize=64)
def exponent_table(fmt: Format) -> NDArray[np.int32]:
    """Return the alignment exponent e(x) of every code of a format, in the order of codes."""
    table = exponents_of(value_table(fmt), fmt)
    table.flags.writeable = False
    return table


def sum_exponents(*exponents: Array) -> NDArray[np.int32]:
    """Return the exponents of products: `NO_EXPONENT` if a factor has none."""
    total = exponents[0].astype(np.int32)
    for part in exponents[1:]:
        total = total + part
    return np.maximum(total, NO_EXPONENT)


@dataclass(frozen=True)
class Rows:
    """R dot products side by side, which can be cut along K."""

    a: Operand
    b: Operand
    splits: tuple[bool, bool]  #: whether ``a`` and ``b`` have scales apart by sign
    parts: int = 1  #: float64 parts of a term; see `fpsim.kernels.scalar.wide_terms`

    @classmethod
    def of(cls, spec: MacSpec, args: DotOperands) -> Rows:
        """Return the dot products of checked operands, leading axes flattened."""
        splits = (spec.splits("a"), spec.splits("b"))
        a, b = (replace(x, codes=np.ascontiguousarray(x.codes)) for x in (args.a, args.b))
        return cls(a.flat(), b.flat(), splits, spec.term_parts)

    @property
    def length(self) -> int:
        """Products per dot product."""
        return self.a.length

    def cut(self, start: int, stop: int) -> Rows:
        """Return the products ``start..stop - 1`` of every dot product."""
        return replace(self, a=self.a.cut(start, stop), b=self.b.cut(start, stop))

    def products(self) -> NDArray[np.float64]:
        """Return the scaled products (R, K), or their parts (R, K, P)."""
        if self.parts == 1:
            return _times(_values(self.a), _values(self.b))
        shape = (*self.a.codes.shape, self.parts)
        return _filled(product_parts, shape, _values(self.a), _values(self.b))

    def product_exponents(self) -> NDArray[np.int32]:
        """Return the products' alignment exponents (R, K)."""
        return sum_exponents(_exponents(self.a), _exponents(self.b))

    def block_terms(self, stage: Block) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Return scaled block sums and their exponents (R, groups * quadrants).

        Sums of more than 53 bits come as parts (R, groups * quadrants, P).
        """
        both = (self.a, self.b)
        products = _times(*(decoded(x.codes, x.format) for x in both))
        terms, exponents = [], []
        for a_sign in (0, 1) if self.splits[0] else (None,):
            for b_sign in (0, 1) if self.splits[1] else (None,):
                part = products
                for operand, sign in zip(both, (a_sign, b_sign), strict=True):
                    if sign is not None:
                        part = np.where(operand.signs == sign, part, 0.0)
                shape = (len(part), -(-self.length // stage.size))
                scale, exponent = self._block_scale(stage, a_sign, b_sign, shape)
                dropped = np.isnan(scale) if stage.nan_scale is NanScale.ZERO else None
                terms.append(self._scaled_sums(part, stage.size, scale, dropped))
                exponents.append(exponent)
        order = np.stack(exponents, axis=-1)
        values = np.stack(terms, axis=2)
        return values.reshape(len(order), order[0].size, *values.shape[3:]), order.reshape(
            len(order), -1
        )

    def _scaled_sums(
        self, products: Array, size: int, scale: Array, dropped: Array | None
    ) -> NDArray[np.float64]:
        """Return block sums times scales, or their parts; +0 where a scale drops the block."""
        if self.parts == 1:
            sums = _block_sums(products, size)
            if dropped is not None:
                sums, scale = (np.where(dropped, 0.0, x) for x in (sums, scale))
            return _times(sums, scale)
        terms = _filled(block_parts, (*scale.shape, self.parts), products, scale, size)
        return terms if dropped is None else np.where(dropped[..., None], 0.0, terms)

    def _block_scale(
        self, stage: Block, a_sign: int | None, b_sign: int | None, shape: tuple[int, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Return the product of both scales of every block, and the product's exponent."""
        value = np.ones(shape)
        exponent = np.zeros(shape, dtype=np.int32)
        for operand, sign in ((self.a, a_sign), (self.b, b_sign)):
            if operand.scales is not None:
                codes = operand.scales.spread(stage.size, self.length)[..., sign or 0]
                indices, table = compact(codes, operand.scales.format)
                value = _times(value, table[indices])
                powers = exponents_of(table, operand.scales.format)[indices]
                exponent = sum_exponents(exponent, powers)
        return value, exponent


def _values(operand: Operand) -> NDArray[np.float64]:
    """Return the scaled values of rows (R, K)."""
    values, codes = decoded(operand.codes, operand.format), operand.element_scales()
    if operand.scales is None or codes is None:
        return values
    return _times(values, values_of(codes, operand.scales.format))


def _exponents(operand: Operand) -> NDArray[np.int32]:
    """Return e(x) + e(scale) of every element of rows (R, K)."""
    codes = operand.element_scales()
    own = operand.format
    if own.bits <= MAX_TABLE_BITS:
        exponents = _entries(operand.codes, exponent_table(own))
    else:
        exponents = exponents_of(own.decode(operand.codes), own)
    if operand.scales is None or codes is None:
        return exponents
    fmt = operand.scales.format
    return sum_exponents(exponents, exponents_of(values_of(codes, fmt), fmt))


def _filled(kernel: Any, shape: tuple[int, ...], *args: Any) -> NDArray[np.float64]:
    """Return an array that a kernel has filled."""
    out = np.empty(shape)
    kernel(*args, out)
    return out


def _times(x: Array, y: Array) -> NDArray[np.float64]:
    """Return exact products; zero times infinity is NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(x * y)


def _block_sums(products: Array, size: int) -> NDArray[np.float64]:
    """Return the exact sums of blocks of K (R, groups); a zero sum is +0."""
    rows, length = products.shape
    groups = -(-length // size)
    padded = np.zeros((rows, groups * size))
    padded[:, :length] = products
    with np.errstate(invalid="ignore"):  # infinities of both signs sum to NaN
        return np.asarray(padded.reshape(rows, groups, size).sum(axis=-1) + 0.0)
