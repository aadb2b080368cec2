# SPDX-License-Identifier: Apache-2.0
"""Operands for corner classes: chosen products, and addends in chosen exponent rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsim.formats.floating import FixedFormat, FloatFormat, Format, Subnormals
from fpsim.units.spec import exponents
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.sets.palette import Codes, Palette

__all__ = [
    "both_signs",
    "exponent_rows",
    "float_format",
    "one_vector",
    "opposite",
    "patterns",
    "power_of_two",
    "powers_of_two",
    "product_span",
    "repeated",
    "typical_sums",
    "with_unit_scales",
]

#: Most rows of accumulator codes in a class of shifts.
MAX_ROWS = 96
#: Most products, for vectors of one product, that meet every addend of a class.
MAX_SINGLES = 64


def float_format(builder: VectorBuilder) -> FloatFormat | None:
    """Return the format of a float accumulator, None for another."""
    fmt = builder.record.spec.initial
    return fmt if isinstance(fmt, FloatFormat) else None


def powers_of_two(fmt: Format) -> tuple[int, int]:
    """Return the exponents of the least and the largest power of two among a format's numbers."""
    if isinstance(fmt, FixedFormat):
        return fmt.lsb, fmt.lsb + fmt.bits - 1 - fmt.signed
    gradual = fmt.subnormals is Subnormals.GRADUAL
    return fmt.exponent_min - gradual * fmt.mantissa_bits, fmt.exponent_max


def one_vector(builder: VectorBuilder, *terms: tuple[int, int]) -> dict[str, Codes]:
    """Return the operands (1, k) of one vector with the given products in the first lanes.

    Products beyond the ``k`` lanes are left out; further lanes are zero.
    """
    k = builder.record.k
    row = {op: np.full((1, k), builder.palette.zero(op), dtype=np.int64) for op in "ab"}
    for lane, (a, b) in enumerate(terms[:k]):
        row["a"][0, lane], row["b"][0, lane] = a, b
    return row


def repeated(builder: VectorBuilder, term: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Return one product for several lanes.

    Args:
        builder: the builder; its record has ``k`` lanes.
        term: codes of ``a`` and ``b``.
        count: number of lanes, cut to ``k``.

    Returns:
        Pairs of codes, as `one_vector` takes them.
    """
    return [term] * min(count, builder.record.k)


def typical_sums(builder: VectorBuilder) -> list[dict[str, Codes]]:
    """Return operands of vectors whose sums have one, few and many significant bits, both signs.

    For vectors of one product: every distinct product, or `MAX_SINGLES` spread over them.
    """
    palette, k = builder.palette, builder.record.k
    if k == 1:
        a, b, _ = palette.products
        if a.size > MAX_SINGLES:
            places = np.linspace(0, a.size - 1, MAX_SINGLES).astype(np.int64)
            a, b = a[places], b[places]
        return [one_vector(builder, term) for term in zip(a.tolist(), b.tolist(), strict=True)]
    largest, smallest = palette.product("largest"), palette.product("smallest")
    tiny, one = palette.product("tiny"), palette.product("one")
    a, b = palette.few(8, 1)
    down_a, down_b = palette.few(4, -1)
    singles = [*zip(a.tolist(), b.tolist(), strict=True)]
    singles += zip(down_a.tolist(), down_b.tolist(), strict=True)
    rows = [[term] for term in singles]
    rows += [
        repeated(builder, largest, k),
        repeated(builder, smallest, k),
        [largest, *repeated(builder, tiny, k - 1)],
        [tiny, one, *singles[: k - 2]],
        [largest, smallest, tiny],
        [tiny, *repeated(builder, largest, k - 1)],
    ]
    return [one_vector(builder, *row) for row in rows]


def exponent_rows(fmt: FloatFormat, low: int, high: int) -> Codes:
    """Return the codes of exponents of a format between 2^low and 2^high.

    Args:
        fmt: format of an accumulator.
        low, high: exponents of two, cut to the format's range.

    Returns:
        The code without sign and mantissa bits of each exponent field, ascending; of more than
        `MAX_ROWS` an even choice with both ends.
    """
    m = fmt.mantissa_bits
    first = max(low - fmt.exponent_min, 0)
    last = min(max(high - fmt.exponent_min, 0) + 1, fmt.max_code >> m)
    rows = np.arange(first, last + 1, dtype=np.int64)
    if rows.size > MAX_ROWS:
        rows = rows[np.unique(np.linspace(0, rows.size - 1, MAX_ROWS).astype(np.int64))]
    return rows << m


def patterns(m: int) -> Codes:
    """Return significands: even and odd, small, middle, alternating and all ones."""
    full = (1 << m) - 1
    picks = {0, 1, 2, 3, full // 3, full // 2, full // 2 + 1, full - 2, full - 1, full}
    return np.array(sorted(p for p in picks if 0 <= p <= full), dtype=np.int64)


def both_signs(fmt: FloatFormat, magnitudes: Codes) -> Codes:
    """Return the finite codes among magnitudes, positive ones first, then negative ones."""
    magnitudes = magnitudes[(magnitudes >= 0) & (magnitudes <= fmt.max_code)]
    return np.concatenate([magnitudes, magnitudes + fmt.sign_bit])


def product_span(builder: VectorBuilder) -> tuple[int, int]:
    """Return (low, high): products are multiples of 2^low and below 2^high."""
    spec = builder.record.spec
    (a_low, a_high), (b_low, b_high) = exponents(spec.a), exponents(spec.b)
    return a_low + b_low, a_high + b_high


def power_of_two(builder: VectorBuilder, exponent: int, sign: int) -> tuple[int, int] | None:
    """Return operand codes whose product is a power of two or minus one.

    Args:
        builder: the builder; only codes that its palette may choose are taken.
        exponent: of the product.
        sign: 1 or -1.

    Returns:
        Codes of ``a`` and ``b``; None if no product is ``sign`` times 2^exponent.
    """
    spec, palette = builder.record.spec, builder.palette
    ends = [exponents(fmt) for fmt in (spec.a, spec.b)]
    low, high = max(ends[0][0], exponent - ends[1][1]), min(ends[0][1], exponent - ends[1][0])
    for first in sorted(range(low, high + 1), key=lambda e: abs(2 * e - exponent)):
        pair = []
        for fmt, codes, value in (
            (spec.a, palette.a, np.ldexp(sign, first)),
            (spec.b, palette.b, np.ldexp(1.0, exponent - first)),
        ):
            code = int(fmt.encode([value], "rtz", "saturate")[0])
            if fmt.decode([code])[0] == value and code in codes:
                pair.append(code)
        if len(pair) == 2:
            return pair[0], pair[1]
    return None


def opposite(palette: Palette, term: tuple[int, int]) -> tuple[int, int] | None:
    """Return operand codes whose product is minus that of ``term``; None if there are none."""
    a, b, values = palette.products
    spec = palette.spec
    value = spec.a.decode([term[0]])[0] * spec.b.decode([term[1]])[0]
    found = np.flatnonzero(values == -value)
    return (int(a[found[0]]), int(b[found[0]])) if found.size and value else None


def with_unit_scales(builder: VectorBuilder, operands: dict[str, Codes]) -> dict[str, Any]:
    """Return operands (n, k) with scales of one, as `rough_sums` takes them."""
    columns: dict[str, Any] = dict(operands)
    for operand in "ab" if builder.record.group else "":
        name = f"{operand}_scale"
        size = (operands["a"].shape[0], builder.record.lanes_of(name))
        columns[name] = np.full(size, builder.palette.one(operand))
    return columns
