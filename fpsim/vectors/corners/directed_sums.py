# SPDX-License-Identifier: Apache-2.0
"""Corner classes of sums: zeros, subnormals, ends of the range, shifts, order, streams."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from fpsim.formats.floating import FloatFormat
from fpsim.vectors.corners.arrangements import (
    both_signs,
    exponent_rows,
    float_format,
    one_beat,
    opposite,
    patterns,
    product_span,
    repeated,
    typical_sums,
    with_unit_scales,
)
from fpsim.vectors.corners.beats import Beats, Codes
from fpsim.vectors.corners.directed_windows import fraction_bits
from fpsim.vectors.random.random_beats import rough_sums
from fpsim.vectors.sets.stream import Op

__all__ = [
    "addend_alone",
    "addend_shifts",
    "cancellation",
    "lane_positions",
    "largest",
    "mixed_lanes",
    "order",
    "range_edges",
    "signed_zeros",
    "specials",
    "streams",
    "subnormal_operands",
]


def signed_zeros(beats: Beats) -> None:
    """Zero products of either sign, +-0 addends, sums that cancel: which sign survives."""
    palette, fmt = beats.palette, float_format(beats)
    zeros = {}
    for operand in "ab":
        form = getattr(beats.shape.spec, operand)
        codes = getattr(palette, operand)
        found = codes[form.decode(codes) == 0]  # many where subnormals are flushed
        zeros[operand] = (found if found.size <= 4 else found[[0, 1, found.size // 2, -1]]).tolist()
    addends = [0] + ([fmt.sign_bit] if fmt is not None and fmt.has_negative_zero else [])
    one, largest = palette.product("one"), palette.product("largest")
    others = [one, palette.product("smallest")]
    terms = [(x, y) for x, y in product(zeros["a"], zeros["b"])]
    terms += [(x, o[1]) for x in zeros["a"] for o in others]
    terms += [(o[0], y) for y in zeros["b"] for o in others]
    for term, c in product(terms, addends):
        beats.add(**one_beat(beats, *repeated(beats, term, beats.shape.k)), c=c)
    for name in ("a_scale", "b_scale") if beats.shape.group else ():
        scale = getattr(beats.shape.spec, name)
        if scale.signed:
            for c in addends:
                beats.add(c=c, **{name: palette.one(name[0]) | scale.sign_bit})
    minus = opposite(palette, largest)
    if minus is not None and beats.shape.k > 1:
        for c in addends:
            beats.add(**one_beat(beats, largest, minus), c=c)
            beats.add(**one_beat(beats, minus, largest), c=c)


def addend_alone(beats: Beats) -> None:
    """Addends of every kind with products of zero: they pass unchanged, or flushed, or cut."""
    fmt = beats.shape.spec.initial
    if isinstance(fmt, FloatFormat):
        row = 1 << fmt.mantissa_bits
        picks = np.array([1, 2, 3, row - 1, row, row + 1, fmt.max_code - 1, fmt.max_code])
        codes = both_signs(fmt, np.concatenate([picks, fmt.max_code // 2 + np.arange(4)]))
    else:
        codes = np.array([1, 2, fmt.max_integer, (1 << fmt.width) - 1], dtype=np.uint64)
    beats.add(c=codes)


def subnormal_operands(beats: Beats) -> None:
    """Subnormal codes of either operand against every corner of the other, and side by side."""
    palette, spec = beats.palette, beats.shape.spec
    for operand, other in (("a", "b"), ("b", "a")):
        fmt = getattr(spec, operand)
        if not isinstance(fmt, FloatFormat) or fmt.mantissa_bits == 0:
            continue
        row = 1 << fmt.mantissa_bits
        subnormals = np.unique([1, row >> 1, row - 1])
        for code in both_signs(fmt, subnormals) if fmt.signed else subnormals:
            others = palette.corner_codes(other)
            lanes = {
                operand: beats.lane_codes(
                    operand, np.arange(others.size), np.full(others.size, code)
                ),
                other: beats.lane_codes(other, np.arange(others.size), others),
            }
            beats.add(**lanes)
            beats.add(**{operand: (code,), other: others})


def largest(beats: Beats) -> None:
    """All largest, of one sign and alternating; one large among many tiny, first and last."""
    palette, k = beats.palette, beats.shape.k
    high, low = palette.product("largest"), palette.product("smallest")
    tiny = palette.product("tiny")
    rows = [
        repeated(beats, high, k),
        repeated(beats, low, k),
        [(high, low)[i % 2] for i in range(k)],
        [(low, high)[i % 2] for i in range(k)],
        [high, *repeated(beats, tiny, k - 1)],
        [*repeated(beats, tiny, k - 1), high][:k],
        repeated(beats, tiny, k),
        [*repeated(beats, high, k - 1), tiny],
        [tiny, *repeated(beats, low, k - 1)],
        [*repeated(beats, tiny, k // 2), high, low, *repeated(beats, tiny, k)][:k],
    ]
    for row in rows:
        beats.add(**one_beat(beats, *row))


def addend_shifts(beats: Beats) -> None:
    """Addends in every row around the products', with significands that reach every combination
    of sign, last bit, guard and sticky, ties among them, and carries into the next row."""
    fmt = float_format(beats)
    if fmt is None:
        return
    low, high = product_span(beats)
    reach = max([fmt.mantissa_bits, *fraction_bits(beats)]) + 3
    rows = exponent_rows(fmt, low - reach, high + beats.shape.k.bit_length() + reach)
    sums = typical_sums(beats)
    tails = patterns(fmt.mantissa_bits)
    for i, row in enumerate(rows.tolist()):
        chosen = [sums[(i + j) % len(sums)] for j in range(min(4, len(sums)))]
        for j, beat in enumerate(chosen):
            addends = both_signs(fmt, row + tails[j % 2 :: 2])
            beats.add(
                a=np.repeat(beat["a"], addends.size, axis=0),
                b=np.repeat(beat["b"], addends.size, axis=0),
                c=addends,
            )


def cancellation(beats: Beats) -> None:
    """Addends equal to minus the sum and their neighbours: every drop of the exponent."""
    palette, fmt = beats.palette, beats.shape.spec.initial
    for beat in typical_sums(beats):
        total = rough_sums(beats.shape, with_unit_scales(beats, beat))
        near = int(palette.encode_addend(-np.clip(total, -fmt.max_value, fmt.max_value))[0])
        steps = np.array([-2, -1, 0, 1, 2, *(s << j for j in range(2, 24, 3) for s in (1, -1))])
        codes = (near + steps) & ((1 << fmt.bits) - 1)
        codes = np.unique(codes)
        codes = codes[np.isfinite(fmt.decode(codes))]
        beats.add(**{n: np.repeat(x, codes.size, axis=0) for n, x in beat.items()}, c=codes)


def order(beats: Beats) -> None:
    """Order-dependent sums: the same products in every order, early, late and in the middle."""
    palette, k = beats.palette, beats.shape.k
    if k < 3:
        return
    high, tiny, one = (palette.product(n) for n in ("largest", "tiny", "one"))
    low = opposite(palette, high) or palette.product("smallest")
    fmt = float_format(beats)
    starts = [0]
    if fmt is not None:
        sum_row = int(palette.encode_addend(np.array([np.ldexp(1.0, fmt.mantissa_bits + 1)]))[0])
        starts += [sum_row, sum_row + fmt.sign_bit, sum_row + 1]
    for triple in ((high, low, tiny), (high, tiny, one), (one, tiny, low)):
        for terms in permutations(triple):
            for c in starts:
                beats.add(**one_beat(beats, *terms), c=c)
                gap = [(palette.zero("a"), palette.zero("b"))] * (k - 3)
                beats.add(**one_beat(beats, terms[0], *gap, terms[1], terms[2]), c=c)


def mixed_lanes(beats: Beats) -> None:
    """Large, small and negative products in many arrangements of the lanes: where nodes of a tree
    or chunks are rounded, which lanes share one shows."""
    palette, k = beats.palette, beats.shape.k
    names = ("largest", "tiny", "one", "smallest", "largest", "largest", "tiny", "largest")
    terms = [palette.product(name) for name in names]
    pattern = np.arange(1, 97)[:, None] * 2654435761 + np.arange(k) * 40503
    pick = (pattern ^ (pattern >> 13)) >> 7 & 7
    a, b = (np.array([term[i] for term in terms])[pick] for i in (0, 1))
    beats.add(a=a, b=b)
    if float_format(beats) is None:
        return
    sums = rough_sums(beats.shape, with_unit_scales(beats, {"a": a, "b": b}))
    for factor in (-1.0, 1.0, 1 / 3, -1 / 48, 5 / 256):  # cancelled, doubled, and bits below
        beats.add(a=a, b=b, c=palette.encode_addend(sums * factor))


def range_edges(beats: Beats) -> None:
    """Addends at and near both ends of the accumulator, pushed out, and out and back."""
    palette, k = beats.palette, beats.shape.k
    fmt = beats.shape.spec.initial
    if isinstance(fmt, FloatFormat):
        codes = both_signs(fmt, fmt.max_code - np.arange(4, dtype=np.int64))
        row = 1 << fmt.mantissa_bits
        small = np.array([1, 2, row // 2, row - 2, row - 1, row, row + 1], dtype=np.int64)
        codes = np.concatenate([codes, both_signs(fmt, small)])
    else:
        ends = [fmt.max_integer - i for i in range(4)] + [fmt.min_integer + i for i in range(4)]
        powers = [s * (1 << i) for i in range(fmt.width - 1) for s in (1, -1)]
        numbers = sorted({*ends, -2, -1, 0, 1, 2, *powers})
        codes = np.array([n % (1 << fmt.width) for n in numbers], dtype=np.uint64)
    high, low = palette.product("largest"), palette.product("smallest")
    tiny, minus = palette.product("tiny"), opposite(palette, palette.product("tiny"))
    sums = [[high], [low], [tiny], [high] * k, [low] * k, [high, low] * (k // 2)]
    sums += [[low, high] * (k // 2), [minus or low], [high, high, low, low], [low, low, high, high]]
    for terms in sums:
        beat = one_beat(beats, *terms)
        beats.add(**{n: np.repeat(x, codes.size, axis=0) for n, x in beat.items()}, c=codes)


def specials(beats: Beats) -> None:
    """Infinities and NaN patterns in addend and operands, against finite and each other."""
    palette = beats.palette
    fmt = float_format(beats)
    if fmt is None or not palette.nan:
        return
    one, low = palette.product("one"), palette.product("smallest")
    top = np.arange(fmt.max_code + 1, 1 << fmt.magnitude_bits, dtype=np.int64)
    top = top if top.size <= 8 else top[[0, 1, top.size // 2, -1]]
    addends = np.concatenate([top, top + fmt.sign_bit, [0]]).astype(np.int64)
    for terms in ([one], [low], [one] * beats.shape.k):
        beat = one_beat(beats, *terms)
        beats.add(**{n: np.repeat(x, addends.size, axis=0) for n, x in beat.items()}, c=addends)
    for operand, other in (("a", "b"), ("b", "a")):
        others = np.concatenate([palette.corner_codes(other), palette.special(other)])
        for code in palette.special(operand).tolist():
            beats.add(
                **{
                    operand: beats.lane_codes(
                        operand, np.arange(others.size), np.full(others.size, code)
                    ),
                    other: beats.lane_codes(other, np.arange(others.size), others),
                }
            )
            beats.add(**one_beat(beats, one), c=addends)
            pair = {operand: (code,), other: (one[operand == "a"],)}
            beats.add(
                **{n: np.full((addends.size, beats.shape.k), v[0]) for n, v in pair.items()},
                c=addends,
            )


def lane_positions(beats: Beats) -> None:
    """One product in each lane, and each lane left out: no lane is dropped, swapped or doubled."""
    palette, k = beats.palette, beats.shape.k
    one, high = palette.product("one"), palette.product("largest")
    lanes = np.arange(k)
    beats.add(
        a=beats.lane_codes("a", lanes, np.full(k, high[0])),
        b=beats.lane_codes("b", lanes, np.full(k, high[1])),
    )
    full_a, full_b = np.full((k, k), one[0]), np.full((k, k), one[1])
    full_a[lanes, lanes] = palette.zero("a")
    beats.add(a=full_a, b=full_b)
    a, b, _ = palette.products
    order = (np.arange(k) * 7) % a.size
    rows_a = np.stack([np.roll(a[order], i) for i in range(min(k, 8))])
    rows_b = np.stack([np.roll(b[order], i) for i in range(min(k, 8))])
    beats.add(a=rows_a, b=rows_b)
    beats.add(a=rows_a, b=rows_b[:, ::-1])


def streams(beats: Beats) -> None:
    """Beats that accumulate: to the end of the range, alternating, idle clocks, clear and load."""
    shape, palette, k = beats.shape, beats.palette, beats.shape.k
    if not shape.feeds_back:
        return
    high = one_beat(beats, *[palette.product("largest")] * k)
    low = one_beat(beats, *[palette.product("smallest")] * k)
    tiny = one_beat(beats, palette.product("tiny"))
    load = int(palette.encode_addend(np.array([np.ldexp(1.0, 12)]))[0])

    def run(ops: list[int], parts: list[dict[str, Codes]], c: int = 0) -> None:
        for op, part in zip(ops, parts, strict=True):
            beats.add(op=op, **part, c=c)

    fmt = shape.spec.initial
    top = fmt.max_code - 1 if isinstance(fmt, FloatFormat) else fmt.max_integer - 1
    mac, idle = int(Op.MAC), int(Op.IDLE)
    run([Op.CLEAR, *[mac] * 8], [high] * 9)
    run([Op.CLEAR, *[mac] * 8], [low] * 9)
    run(
        [Op.CLEAR, mac, idle, mac, idle, idle, mac, mac],
        [tiny, high, low, low, high, tiny, tiny, high],
    )
    run([Op.LOAD, *[mac] * 4], [low, tiny, high, tiny, low], load)
    run([Op.LOAD, *[mac] * 6], [low, high, high, low, low, low, high], top)
    run(
        [Op.CLEAR, mac, Op.CLEAR, idle, mac, Op.LOAD, mac, idle],
        [high, tiny, high, high, tiny, low, tiny, high],
        load,
    )
