# SPDX-License-Identifier: Apache-2.0
"""Corner classes of scales: special codes, shifts of the sum, both ends of the accumulator."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from fpsim.formats.floating import FloatFormat
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.chosen_products import (
    both_signs,
    float_format,
    one_vector,
    repeated,
    typical_sums,
)
from fpsim.vectors.sets.palette import Codes, Palette

__all__ = ["scale_corners", "scale_shifts", "scaled_to_ends"]


def scale_corners(builder: VectorBuilder) -> None:
    """Every corner code of either operand's scale, with zero and nonzero blocks, and in pairs."""
    if not builder.record.group:
        return
    palette, k = builder.palette, builder.record.k
    one, high = palette.product("one"), palette.product("largest")
    zero = (palette.zero("a"), palette.zero("b"))
    sums = [[one], [high] * k, [palette.product("smallest"), high, high], [zero]]
    a_codes, b_codes = palette.scale_corners("a"), palette.scale_corners("b")
    for row in sums:
        operands = one_vector(builder, *row)
        builder.add(**operands, a_scale=a_codes)
        builder.add(**operands, b_scale=b_codes)
    pairs = np.array(list(product(a_codes.tolist(), b_codes.tolist())))
    for row in sums[:2]:
        builder.add(**one_vector(builder, *row), a_scale=pairs[:, 0], b_scale=pairs[:, 1])
    if builder.record.groups > 1 or builder.record.spec.sign_split != "none":
        _scales_side_by_side(builder, a_codes, b_codes)
    fmt = float_format(builder)
    for name in ("a_scale", "b_scale") if fmt is not None and fmt.has_negative_zero else ():
        scale = getattr(builder.record.spec, name)
        if not scale.signed and not scale.decode([0])[0]:  # a negative sum under 0 is -0
            low, gap = palette.product("smallest"), repeated(builder, zero, max(k - 2, 0))
            assert fmt is not None
            for row in ([low] * k, [high] * k, [palette.product("tiny"), *gap, low]):
                operands = one_vector(builder, *row)
                builder.add(**operands, **{name: 0}, c=both_signs(fmt, np.array([0])))


def _scales_side_by_side(builder: VectorBuilder, a_codes: Codes, b_codes: Codes) -> None:
    """One scale that differs from all others, in each lane in turn, beside zero blocks and not."""
    palette, k = builder.palette, builder.record.k
    terms = [palette.product("one"), palette.product("smallest"), palette.product("largest")]
    full = one_vector(builder, *[terms[i % 3] for i in range(k)])
    sparse = one_vector(builder, *repeated(builder, terms[0], builder.record.group))
    for name, codes in (("a_scale", a_codes), ("b_scale", b_codes)):
        lanes = builder.record.lanes_of(name)
        for lane in range(lanes):
            rows = np.full((codes.size, lanes), palette.one(name[0]), dtype=np.int64)
            rows[:, lane] = codes
            for operands in (full, sparse):
                builder.add(**operands, **{name: rows})


def scale_shifts(builder: VectorBuilder) -> None:
    """Scales that move the sum across the accumulator's exponents, or groups against others."""
    if not builder.record.group:
        return
    palette, k, spec = builder.palette, builder.record.k, builder.record.spec
    fmt = spec.a_scale
    one = palette.one("a")
    assert isinstance(fmt, FloatFormat)
    step = 1 << fmt.mantissa_bits
    codes = one + step * np.arange(-48, 49)
    codes = codes[(codes >= 0) & (codes <= fmt.max_code)]
    for operands in typical_sums(builder) if k == 1 else ():
        builder.add(**operands, a_scale=codes)
    for row in ([palette.product("one")], [palette.product("largest")] * k):
        operands = one_vector(builder, *row)
        builder.add(**operands, a_scale=codes)
        builder.add(**operands, a_scale=codes, c=_addend_of_one(builder))
        builder.add(**operands, a_scale=codes, c=_addend_of_one(builder) + 1)
    if builder.record.groups > 1 and not spec.splits("a"):
        rows = np.full((codes.size, builder.record.groups), one, dtype=np.int64)
        rows[:, -1] = codes
        terms = [palette.product("one"), palette.product("tiny"), palette.product("largest")]
        for turn in permutations(terms):
            operands = one_vector(builder, *[turn[i % 3] for i in range(k)])
            builder.add(**operands, a_scale=rows)
            builder.add(**operands, a_scale=rows[:, ::-1])


def scaled_to_ends(builder: VectorBuilder) -> None:
    """Scales that put the sum at the smallest subnormal and at the largest value of the
    accumulator: results rounded to zero of either sign, subnormals rounded once or twice, and
    overflow, with addends that decide ties."""
    fmt = float_format(builder)
    if not builder.record.group or fmt is None:
        return
    m = fmt.mantissa_bits
    small = both_signs(fmt, np.array([0, 1, 2, 3, (1 << m) - 1, 1 << m], dtype=np.int64))
    big = both_signs(fmt, fmt.max_code - np.arange(3, dtype=np.int64))
    infinite = np.array([], dtype=np.int64)
    if fmt.inf_code is not None:  # an addend that an overflow of the other sign must not touch
        infinite = np.array([fmt.inf_code, fmt.inf_code | fmt.sign_bit])
    palette, k = builder.palette, builder.record.k
    one, low = palette.product("one"), palette.product("smallest")
    a, b = palette.few(6)
    sums = [[one], [low], [one, one, palette.product("tiny")]]
    sums += [[pair] for pair in zip(a.tolist(), b.tolist(), strict=True)]
    sums += [[palette.product("largest")] * k]
    lowest = fmt.exponent_min - m
    for addends, places in (
        (small, range(lowest - 7, lowest + 4)),
        (big, range(fmt.exponent_max - m - 6, fmt.exponent_max + 2)),
        (infinite, (fmt.exponent_max + 1, fmt.exponent_max + 8)),
    ):
        for exponent in places:
            reached, *scales = _scales_of(builder, exponent)
            near = sums if reached == exponent else _products_at(palette, exponent - reached)
            for terms in near:
                operands = one_vector(builder, *terms)
                # In the last lanes: a block of zeros behind them would turn a -0 into +0.
                rows = {n: np.repeat(x[:, ::-1], addends.size, axis=0) for n, x in operands.items()}
                a_scale, b_scale = (np.full(addends.size, scale) for scale in scales)
                builder.add(**rows, a_scale=a_scale, b_scale=b_scale, c=addends)


def _scales_of(builder: VectorBuilder, exponent: int) -> tuple[int, int, int]:
    """Return the exponent nearest to ``exponent`` that a product of scales has, and both codes."""
    a, b = builder.record.spec.a_scale, builder.record.spec.b_scale
    (a_low, a_high), (b_low, b_high) = ((s.exponent_min, s.exponent_max) for s in (a, b))  # type: ignore[union-attr]
    exponent = min(max(exponent, a_low + b_low), a_high + b_high)
    first = min(max(exponent // 2, a_low, exponent - b_high), a_high, exponent - b_low)
    codes = (fmt.encode([np.ldexp(1.0, e)]) for fmt, e in ((a, first), (b, exponent - first)))
    return exponent, *(int(code[0]) for code in codes)  # type: ignore[return-value]


def _products_at(palette: Palette, exponent: int) -> list[list[tuple[int, int]]]:
    """Return one-product sums with an exponent, of either sign; empty if no product has it."""
    a, b, values = palette.products
    found = []
    for sign in (1, -1):
        at = np.flatnonzero((sign * values > 0) & (np.frexp(values)[1] == exponent + 1))
        found += [[(int(a[i]), int(b[i]))] for i in at[:: max(at.size - 1, 1)]]
    return found


def _addend_of_one(builder: VectorBuilder) -> int:
    return int(builder.palette.encode_addend(np.array([1.0]))[0])
