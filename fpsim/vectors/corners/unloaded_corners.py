# SPDX-License-Identifier: Apache-2.0
"""Corner classes for designs that are given no addend, and meet what other vectors show with one.

Where another class has an addend far above or below the products, here products of a vector cancel,
or a few vectors bring the accumulator there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from fpsim.formats.floating import FloatFormat, Format, Subnormals
from fpsim.units.stages import Addend, Aligned, stages_of
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.chosen_products import (
    float_format,
    one_vector,
    opposite,
    power_of_two,
    powers_of_two,
    product_span,
    repeated,
)
from fpsim.vectors.seeded.philox_draws import Draw
from fpsim.vectors.sets.palette import Codes
from fpsim.vectors.sets.record import Op

__all__ = [
    "cancelled_blocks",
    "cancelled_windows",
    "flushed_sums",
    "full_sums",
    "joined_windows",
    "near_streams",
    "near_sums",
]

#: Binades around 1 of operands, vectors in each, and vectors of a sum that accumulates.
SPANS, NEAR, TURNS = (1, 6, 12), 64, 8
#: Vectors of the class `full_sums` of either sign.
FULL = 256
#: The stream of `near_sums` in the words of a seed.
_NEAR = 5 << 48
Term = tuple[int, int]


def near_sums(builder: VectorBuilder) -> None:
    """Operands of any significand around 1 in all lanes: sums are rounded, and some are ties."""
    for parts in _near_one(builder):
        builder.add(**parts)


def full_sums(builder: VectorBuilder) -> None:
    """Largest products of one sign in most lanes and any in the others: sums in the highest binades
    that lose the least bits of a product."""
    k, draw = builder.record.k, Draw(2, _NEAR)
    a, b, values = builder.palette.products
    for largest in (values.argmax(), values.argmin()):
        pick = draw.codes(np.arange(a.size), FULL, k)
        full = draw.codes(np.arange(4), FULL, k) > 0
        pick = np.where(full, largest, pick)
        builder.add(a=a[pick], b=b[pick])


def near_streams(builder: VectorBuilder) -> None:
    """Vectors of `near_sums` that accumulate."""
    op = np.full(NEAR, int(Op.MAC))
    op[::TURNS] = int(Op.DOT)  # onto +0
    for parts in _near_one(builder):
        builder.add(op=op, **parts)


def _near_one(builder: VectorBuilder) -> Iterator[dict[str, Codes]]:
    palette, draw = builder.palette, Draw(1, _NEAR)
    for span in SPANS:
        parts = {}
        for operand in "ab":
            codes: Codes = getattr(palette, operand)
            sizes = np.abs(getattr(palette.spec, operand).decode(codes))
            near = codes[(sizes >= np.ldexp(1.0, -span)) & (sizes < np.ldexp(1.0, span))]
            parts[operand] = draw.codes(near if near.size else codes, NEAR, builder.record.k)
        yield parts


def cancelled_windows(builder: VectorBuilder) -> None:
    """Two products that cancel, and one around the last bit of the window that they open."""
    fmt, k = float_format(builder), builder.record.k
    if fmt is None or builder.record.group or k < 3:
        return
    low, high = product_span(builder)
    least = max(low, fmt.exponent_min - fmt.mantissa_bits)
    for stage in stages_of(builder.record.spec.accumulate):
        if not isinstance(stage, Aligned):
            continue
        bits, top = stage.fraction_bits, min(high, fmt.exponent_max) - 3
        for exponent in sorted({0, top, bits + least + 3}):
            pairs = [_signed(builder, exponent, wide) for wide in (False, True)]
            for pair, place in product(pairs, range(exponent - bits - 3, exponent - bits + 3)):
                for small in (*_signed(builder, place, False), *_signed(builder, place, True)):
                    if len(pair) == 2 and exponent <= top:
                        builder.add(**one_vector(builder, *pair, small))
                        builder.add(**one_vector(builder, pair[0], small, pair[1], small))


def _signed(builder: VectorBuilder, exponent: int, wide: bool) -> list[Term]:
    """Return products 2^exponent of both signs, or of factors that are 3/2 times as large each."""
    found = []
    for sign in (1, -1):
        term = power_of_two(builder, exponent, sign)
        if term is not None and wide:
            term = _wider(builder, term)
        found += [term] * (term is not None)
    return found  # type: ignore[return-value]


def _wider(builder: VectorBuilder, term: Term) -> Term | None:
    """Return the factors of a product with the highest bit of their significands set."""
    codes = []
    for operand, code in zip("ab", term, strict=True):
        fmt: Format = getattr(builder.record.spec, operand)
        if not isinstance(fmt, FloatFormat) or not fmt.mantissa_bits:
            return None
        codes.append(code | 1 << (fmt.mantissa_bits - 1))
        if codes[-1] not in getattr(builder.palette, operand):
            return None
    return codes[0], codes[1]


def cancelled_blocks(builder: VectorBuilder) -> None:
    """Two blocks that cancel (or one and the addend), and one whose scale puts it around the last
    bit of the window that they open."""
    record, palette = builder.record, builder.palette
    fmt, spec = float_format(builder), builder.record.spec
    windows = [s for s in stages_of(spec.accumulate) if isinstance(s, Aligned)]
    split = str(spec.sign_split) != "none"
    if fmt is None or spec.block is None or record.groups < 2 or split or not windows:
        return
    ends = [powers_of_two(f) for f in (spec.a_scale, spec.b_scale)]
    top = ends[0][1] + ends[1][1]
    tiny = palette.product("tiny")
    minus = opposite(palette, tiny)
    value = float(spec.a.decode([tiny[0]])[0] * spec.b.decode([tiny[1]])[0])
    place = int(np.frexp(value)[1]) - 1
    for stage, distance in product(windows, range(-2, 4)):
        bits = stage.fraction_bits
        small = max(min(0, top - bits - place - 1), ends[0][0] + ends[1][0])
        large = small + place + bits + distance
        if large > top:
            continue
        for big, term, count in product(
            (palette.product("one"), palette.product("largest")), (tiny, minus), (1, 2, 3)
        ):
            other = opposite(palette, big)
            if other is None or term is None:
                continue
            parts = [[other], repeated(builder, term, count)]
            powers, c = [large, small], 0
            if record.groups > 2:
                parts, powers = [[big], *parts], [large, *powers]
            else:
                size = float(spec.a.decode([big[0]])[0] * spec.b.decode([big[1]])[0])
                c = int(palette.encode_addend(np.array([np.ldexp(size, large)]))[0])
            _add_blocks(builder, parts, powers, c)


def _add_blocks(builder: VectorBuilder, parts: list[list[Term]], powers: list[int], c: int) -> None:
    """Append a vector of groups of products, each with a product of scales 2^power."""
    record, spec = builder.record, builder.record.spec
    row = {op: np.full((1, record.k), builder.palette.zero(op), dtype=np.int64) for op in "ab"}
    scales = {n: np.full((1, record.groups), builder.palette.one(n)) for n in "ab"}
    for group, (terms, power) in enumerate(zip(parts, powers, strict=True)):
        for i, term in enumerate(terms):
            for operand, code in zip("ab", term, strict=True):
                row[operand][0, group * record.group + i] = code
        for name, code in zip("ab", _scale_pair(spec.a_scale, spec.b_scale, power), strict=True):
            scales[name][0, group] = code
    builder.add(**row, a_scale=scales["a"], b_scale=scales["b"], c=c)


def _scale_pair(a: Format, b: Format, power: int) -> tuple[int, int]:
    """Return codes of scales whose product is 2^power."""
    (a_low, a_high), (b_low, b_high) = powers_of_two(a), powers_of_two(b)
    first = min(max(power // 2, a_low, power - b_high), a_high, power - b_low)
    codes = [f.encode([np.ldexp(1.0, e)])[0] for f, e in ((a, first), (b, power - first))]
    return int(codes[0]), int(codes[1])


def joined_windows(builder: VectorBuilder) -> None:
    """Of windows in which a sum is joined with the accumulator: bits around the last one that is
    kept of the sum, beside a tie, and an accumulator around the last exponent that is in reach."""
    fmt, low = float_format(builder), product_span(builder)[0]
    if fmt is None or builder.record.group:
        return
    for stage in stages_of(builder.record.spec.accumulate):
        if not isinstance(stage, Aligned) or stage.addend is not Addend.JOINED:
            continue
        bits, m = stage.join_sum_bits, fmt.mantissa_bits
        for above, distance, sign in product(range(4), range(-1, 3), (1, -1)):
            exponent = max(0, low + bits + above)
            tie = power_of_two(builder, exponent - m - 1, 1)
            last = power_of_two(builder, exponent - bits + 1 - distance, sign)
            c = builder.palette.encode_addend(np.array([np.ldexp(1.0, exponent)]))
            if tie is not None and last is not None:
                builder.add(**one_vector(builder, tie, last), c=np.concatenate([c, c + 1]))
        for distance, sign in product(range(-2, 3), (1, -1)):
            if stage.join_reach is not None:
                exponent = max(0, low + stage.join_reach + 2)
                term = power_of_two(builder, exponent, sign)
                c = np.ldexp(-float(sign), exponent - stage.join_reach + distance)
                if term is not None:
                    addend = builder.palette.encode_addend(np.array([c]))
                    builder.add(**one_vector(builder, term), c=addend)


def flushed_sums(builder: VectorBuilder) -> None:
    """Sums that fall below the least normal number, where that makes them a zero of their sign, and
    what a -0 in the accumulator becomes."""
    fmt, record = float_format(builder), builder.record
    if fmt is None or fmt.subnormals is not Subnormals.FLUSH or not record.feeds_back:
        return
    spec, ends = record.spec, []
    for sign in (1, -1):
        term = power_of_two(builder, fmt.exponent_min, sign)
        back = power_of_two(builder, fmt.exponent_min, -sign)
        if term is None or back is None or not isinstance(spec.a, FloatFormat):
            return
        below = (back[0] | 1 << (spec.a.mantissa_bits - 1), back[1])  # by half
        if spec.a.mantissa_bits and below[0] in builder.palette.a:
            ends.append((term, below))
    palette = builder.palette
    one, tiny = palette.product("one"), palette.product("tiny")
    least = opposite(palette, tiny) or tiny  # becomes -0 in each lane of its own
    zeros = [(spec.a.sign_bit, one[1]), (0, one[1])] if isinstance(spec.a, FloatFormat) else []
    for (term, below), zero in product(ends, zeros):
        if zero[0] not in builder.palette.a:
            continue
        for last in ([zero] * record.k, [one], [least] * record.k):
            builder.add(op=Op.CLEAR)
            for terms in ([term], [below], last, last):
                builder.add(op=Op.MAC, **one_vector(builder, *terms))
