# SPDX-License-Identifier: Apache-2.0
"""Corner classes of dot products: operands built to reach what random ones do not.

The classes are those of CONTRIBUTING.md and of the IBM models on the accumulator (Aharoni et al.,
"FPgen", HLDVT 2003): B1 types, B3 and B8 rounding bits, B7 sticky, B10 and B14 every shift, B12 and
B16 cancellation, B18 products cancelled by the addend. Each function appends beats for *this* unit;
one that a unit cannot have appends none.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np

from fpsim.formats import FloatFormat
from fpsim.spec import exponents
from fpsim.stages import Aligned
from fpsim.vectors.beats import Beats, Codes, Palette
from fpsim.vectors.models import MODEL_SECTIONS
from fpsim.vectors.random_beats import rough_sums
from fpsim.vectors.search import search
from fpsim.vectors.shape import stages_of
from fpsim.vectors.stream import Op

__all__ = ["add_directed", "fraction_bits"]

#: Rows of accumulator codes a shift class visits at most.
MAX_ROWS = 96


def fraction_bits(beats: Beats) -> list[int]:
    """Return the F of every alignment window in the unit."""
    stages = stages_of(beats.shape.spec.accumulate)
    return [s.fraction_bits for s in stages if isinstance(s, Aligned)]


def add_directed(beats: Beats) -> None:
    """Append every corner class, one section each."""
    classes = (
        signed_zeros,
        addend_alone,
        subnormal_operands,
        largest,
        addend_shifts,
        cancellation,
        order,
        mixed_lanes,
        range_edges,
        window_edges,
        scale_corners,
        scale_shifts,
        scaled_to_ends,
        specials,
        lane_positions,
        streams,
    )
    for corner in classes:
        beats.section(corner.__name__.replace("_", "-"))
        corner(beats)
    for model, title in MODEL_SECTIONS.items():
        beats.section(f"{model.lower()}-{title}")
        for found in search(beats.shape):
            if found.bin.startswith(f"{model}:"):
                beats.add(**{name: column[None] for name, column in found.row.items()})


# -- what classes are made of --------------------------------------------------------------------


def _float(beats: Beats) -> FloatFormat | None:
    fmt = beats.shape.spec.initial
    return fmt if isinstance(fmt, FloatFormat) else None


def _lanes(beats: Beats, *terms: tuple[int, int]) -> dict[str, Codes]:
    """Return one beat with the given products in the first lanes (as many as there are)."""
    k = beats.shape.k
    row = {op: np.full((1, k), beats.palette.zero(op), dtype=np.int64) for op in "ab"}
    for lane, (a, b) in enumerate(terms[:k]):
        row["a"][0, lane], row["b"][0, lane] = a, b
    return row


def _spread(beats: Beats, term: tuple[int, int], count: int) -> list[tuple[int, int]]:
    return [term] * min(count, beats.shape.k)


def _sums(beats: Beats) -> list[dict[str, Codes]]:
    """Return beats whose sums have one, few and many significant bits, of both signs."""
    palette, k = beats.palette, beats.shape.k
    largest, smallest = palette.product("largest"), palette.product("smallest")
    tiny, one = palette.product("tiny"), palette.product("one")
    a, b = palette.few(8, 1)
    down_a, down_b = palette.few(4, -1)
    singles = [*zip(a.tolist(), b.tolist(), strict=True)]
    singles += zip(down_a.tolist(), down_b.tolist(), strict=True)
    beats_ = [_lanes(beats, term) for term in singles]
    if k > 1:
        beats_ += [
            _lanes(beats, *_spread(beats, largest, k)),
            _lanes(beats, *_spread(beats, smallest, k)),
            _lanes(beats, largest, *_spread(beats, tiny, k - 1)),
            _lanes(beats, tiny, one, *singles[: k - 2]),
            _lanes(beats, largest, smallest, tiny),
            _lanes(beats, tiny, *_spread(beats, largest, k - 1)),
        ]
    return beats_


def _rows(fmt: FloatFormat, low: int, high: int) -> Codes:
    """Return the exponent rows (first code of each) whose values reach from 2^low to 2^high."""
    m = fmt.mantissa_bits
    first = max(low - fmt.exponent_min, 0)
    last = min(max(high - fmt.exponent_min, 0) + 1, fmt.max_code >> m)
    rows = np.arange(first, last + 1, dtype=np.int64)
    if rows.size > MAX_ROWS:
        rows = rows[np.unique(np.linspace(0, rows.size - 1, MAX_ROWS).astype(np.int64))]
    return rows << m


def _patterns(m: int) -> Codes:
    """Return significands: even and odd, low, middle, alternating and full."""
    full = (1 << m) - 1
    picks = {0, 1, 2, 3, full // 3, full // 2, full // 2 + 1, full - 2, full - 1, full}
    return np.array(sorted(p for p in picks if 0 <= p <= full), dtype=np.int64)


def _both_signs(fmt: FloatFormat, magnitudes: Codes) -> Codes:
    magnitudes = magnitudes[(magnitudes >= 0) & (magnitudes <= fmt.max_code)]
    return np.concatenate([magnitudes, magnitudes + fmt.sign_bit])


def _product_span(beats: Beats) -> tuple[int, int]:
    """Return (low, high): products are multiples of 2^low and below 2^high."""
    spec = beats.shape.spec
    (a_low, a_high), (b_low, b_high) = exponents(spec.a), exponents(spec.b)
    return a_low + b_low, a_high + b_high


# -- classes -------------------------------------------------------------------------------------


def signed_zeros(beats: Beats) -> None:
    """Zero products of either sign, +-0 addends, sums that cancel: which sign survives."""
    palette, fmt = beats.palette, _float(beats)
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
        beats.add(**_lanes(beats, *_spread(beats, term, beats.shape.k)), c=c)
    for name in ("a_scale", "b_scale") if beats.shape.group else ():
        scale = getattr(beats.shape.spec, name)
        if scale.signed:
            for c in addends:
                beats.add(c=c, **{name: palette.one(name[0]) | scale.sign_bit})
    opposite = _opposite(palette, largest)
    if opposite is not None and beats.shape.k > 1:
        for c in addends:
            beats.add(**_lanes(beats, largest, opposite), c=c)
            beats.add(**_lanes(beats, opposite, largest), c=c)


def addend_alone(beats: Beats) -> None:
    """Addends of every kind with products of zero: they pass unchanged, or flushed, or cut."""
    fmt = beats.shape.spec.initial
    if isinstance(fmt, FloatFormat):
        row = 1 << fmt.mantissa_bits
        picks = np.array([1, 2, 3, row - 1, row, row + 1, fmt.max_code - 1, fmt.max_code])
        codes = _both_signs(fmt, np.concatenate([picks, fmt.max_code // 2 + np.arange(4)]))
    else:
        codes = np.array([1, 2, fmt.max_integer, (1 << fmt.width) - 1], dtype=np.uint64)
    beats.add(c=codes)


def _opposite(palette: Palette, term: tuple[int, int]) -> tuple[int, int] | None:
    """Return a product of minus the value of another."""
    a, b, values = palette.products
    spec = palette.spec
    value = spec.a.decode([term[0]])[0] * spec.b.decode([term[1]])[0]
    found = np.flatnonzero(values == -value)
    return (int(a[found[0]]), int(b[found[0]])) if found.size and value else None


def subnormal_operands(beats: Beats) -> None:
    """Subnormal codes of either operand against every corner of the other, and side by side."""
    palette, spec = beats.palette, beats.shape.spec
    for operand, other in (("a", "b"), ("b", "a")):
        fmt = getattr(spec, operand)
        if not isinstance(fmt, FloatFormat) or fmt.mantissa_bits == 0:
            continue
        row = 1 << fmt.mantissa_bits
        subnormals = np.unique([1, row >> 1, row - 1])
        for code in _both_signs(fmt, subnormals) if fmt.signed else subnormals:
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
        _spread(beats, high, k),
        _spread(beats, low, k),
        [(high, low)[i % 2] for i in range(k)],
        [(low, high)[i % 2] for i in range(k)],
        [high, *_spread(beats, tiny, k - 1)],
        [*_spread(beats, tiny, k - 1), high][:k],
        _spread(beats, tiny, k),
        [*_spread(beats, high, k - 1), tiny],
        [tiny, *_spread(beats, low, k - 1)],
        [*_spread(beats, tiny, k // 2), high, low, *_spread(beats, tiny, k)][:k],
    ]
    for row in rows:
        beats.add(**_lanes(beats, *row))


def addend_shifts(beats: Beats) -> None:
    """Addends in every row around the products', with significands that reach every combination
    of sign, last bit, guard and sticky, ties among them, and carries into the next row."""
    fmt = _float(beats)
    if fmt is None:
        return
    low, high = _product_span(beats)
    reach = max([fmt.mantissa_bits, *fraction_bits(beats)]) + 3
    rows = _rows(fmt, low - reach, high + beats.shape.k.bit_length() + reach)
    sums = _sums(beats)
    patterns = _patterns(fmt.mantissa_bits)
    for i, row in enumerate(rows.tolist()):
        chosen = [sums[(i + j) % len(sums)] for j in range(min(4, len(sums)))]
        for j, beat in enumerate(chosen):
            addends = _both_signs(fmt, row + patterns[j % 2 :: 2])
            beats.add(
                a=np.repeat(beat["a"], addends.size, axis=0),
                b=np.repeat(beat["b"], addends.size, axis=0),
                c=addends,
            )


def cancellation(beats: Beats) -> None:
    """Addends equal to minus the sum and their neighbours: every drop of the exponent."""
    palette, fmt = beats.palette, beats.shape.spec.initial
    for beat in _sums(beats):
        total = rough_sums(beats.shape, _with_scales(beats, beat))
        near = int(palette.encode_addend(-np.clip(total, -fmt.max_value, fmt.max_value))[0])
        steps = np.array([-2, -1, 0, 1, 2, *(s << j for j in range(2, 24, 3) for s in (1, -1))])
        codes = (near + steps) & ((1 << fmt.bits) - 1)
        codes = np.unique(codes)
        codes = codes[np.isfinite(fmt.decode(codes))]
        beats.add(**{n: np.repeat(x, codes.size, axis=0) for n, x in beat.items()}, c=codes)


def _with_scales(beats: Beats, beat: dict[str, Codes]) -> dict[str, Any]:
    columns: dict[str, Any] = dict(beat)
    if beats.shape.group:
        for lane in beats.shape.lanes:
            if lane.name.endswith("_scale"):
                one = beats.palette.one(lane.name[0])
                columns[lane.name] = np.full((beat["a"].shape[0], lane.lanes), one)
    return columns


def order(beats: Beats) -> None:
    """Order-dependent sums: the same products in every order, early, late and in the middle."""
    palette, k = beats.palette, beats.shape.k
    if k < 3:
        return
    high, tiny, one = (palette.product(n) for n in ("largest", "tiny", "one"))
    low = _opposite(palette, high) or palette.product("smallest")
    fmt = _float(beats)
    starts = [0]
    if fmt is not None:
        sum_row = int(palette.encode_addend(np.array([np.ldexp(1.0, fmt.mantissa_bits + 1)]))[0])
        starts += [sum_row, sum_row + fmt.sign_bit, sum_row + 1]
    for triple in ((high, low, tiny), (high, tiny, one), (one, tiny, low)):
        for terms in permutations(triple):
            for c in starts:
                beats.add(**_lanes(beats, *terms), c=c)
                gap = [(palette.zero("a"), palette.zero("b"))] * (k - 3)
                beats.add(**_lanes(beats, terms[0], *gap, terms[1], terms[2]), c=c)


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
    if _float(beats) is None:
        return
    sums = rough_sums(beats.shape, _with_scales(beats, {"a": a, "b": b}))
    for factor in (-1.0, 1.0, 1 / 3, -1 / 48, 5 / 256):  # cancelled, doubled, and bits below
        beats.add(a=a, b=b, c=palette.encode_addend(sums * factor))


def range_edges(beats: Beats) -> None:
    """Addends at and near both ends of the accumulator, pushed out, and out and back."""
    palette, k = beats.palette, beats.shape.k
    fmt = beats.shape.spec.initial
    if isinstance(fmt, FloatFormat):
        codes = _both_signs(fmt, fmt.max_code - np.arange(4, dtype=np.int64))
        row = 1 << fmt.mantissa_bits
        small = np.array([1, 2, row // 2, row - 2, row - 1, row, row + 1], dtype=np.int64)
        codes = np.concatenate([codes, _both_signs(fmt, small)])
    else:
        ends = [fmt.max_integer - i for i in range(4)] + [fmt.min_integer + i for i in range(4)]
        powers = [s * (1 << i) for i in range(fmt.width - 1) for s in (1, -1)]
        numbers = sorted({*ends, -2, -1, 0, 1, 2, *powers})
        codes = np.array([n % (1 << fmt.width) for n in numbers], dtype=np.uint64)
    high, low = palette.product("largest"), palette.product("smallest")
    tiny, minus = palette.product("tiny"), _opposite(palette, palette.product("tiny"))
    sums = [[high], [low], [tiny], [high] * k, [low] * k, [high, low] * (k // 2)]
    sums += [[low, high] * (k // 2), [minus or low], [high, high, low, low], [low, low, high, high]]
    for terms in sums:
        beat = _lanes(beats, *terms)
        beats.add(**{n: np.repeat(x, codes.size, axis=0) for n, x in beat.items()}, c=codes)


def window_edges(beats: Beats) -> None:
    """Terms that lie F - 1, F, F + 1, F + 2 places below the largest: the last kept and the first
    dropped bit, of both signs, alone and together with others that would have counted."""
    windows = fraction_bits(beats)
    if not windows:
        return
    fmt = _float(beats)
    assert fmt is not None
    powers = np.frexp(np.abs(beats.palette.products[2]))[1]
    for bits in windows:
        for distance in (bits - 2, bits - 1, bits, bits + 1, bits + 2):
            _addend_far_above(beats, fmt, distance)
            _products_apart(beats, distance, powers)


def _addend_far_above(beats: Beats, fmt: FloatFormat, distance: int) -> None:
    """An addend ``distance`` binades above each product, and the other way round."""
    a, b = beats.palette.few(6)
    spec = beats.shape.spec
    values = spec.a.decode(a) * spec.b.decode(b)
    powers = np.frexp(np.abs(values))[1] - 1
    m = fmt.mantissa_bits
    for x, y, power in zip(a.tolist(), b.tolist(), powers.tolist(), strict=True):
        for shift in (distance, distance - m, -distance, -distance + 1):
            row = power + shift - fmt.exponent_min + 1
            if not 1 <= row <= fmt.max_code >> m:
                continue
            patterns = np.unique([0, 1, (1 << m) - 1, (1 << m) // 2])
            codes = _both_signs(fmt, (row << m) + patterns)
            for terms in ([(x, y)], _spread(beats, (x, y), beats.shape.k)):
                beat = _lanes(beats, *terms)
                beats.add(**{n: np.repeat(v, codes.size, axis=0) for n, v in beat.items()}, c=codes)


def _products_apart(beats: Beats, distance: int, powers: Codes) -> None:
    """Two products ``distance`` binades apart, where the operands reach so far."""
    a, b, values = beats.palette.products
    if beats.shape.k < 2 or powers.max() - powers[values != 0].min() < distance:
        return
    ranked = np.flatnonzero(values != 0)
    ranked = ranked[np.argsort(powers[ranked], kind="stable")]
    for index in ranked[:: max(1, ranked.size // 12)].tolist():
        partners = ranked[powers[ranked] == powers[index] + distance]
        for partner in partners[:: max(1, partners.size // 3)].tolist():
            pair = [(int(a[i]), int(b[i])) for i in (index, partner)]
            beats.add(**_lanes(beats, *pair))
            beats.add(**_lanes(beats, *pair[::-1]))
            beats.add(**_lanes(beats, pair[1], *_spread(beats, pair[0], beats.shape.k - 1)))


def scale_corners(beats: Beats) -> None:
    """Every remarkable scale code on either side, with zero and nonzero blocks, and in pairs."""
    if not beats.shape.group:
        return
    palette, k = beats.palette, beats.shape.k
    one, high = palette.product("one"), palette.product("largest")
    zero = (palette.zero("a"), palette.zero("b"))
    sums = [[one], [high] * k, [palette.product("smallest"), high, high], [zero]]
    a_codes, b_codes = palette.scale_corners("a"), palette.scale_corners("b")
    for row in sums:
        beat = _lanes(beats, *row)
        beats.add(**beat, a_scale=a_codes)
        beats.add(**beat, b_scale=b_codes)
    pairs = np.array(list(product(a_codes.tolist(), b_codes.tolist())))
    for row in sums[:2]:
        beats.add(**_lanes(beats, *row), a_scale=pairs[:, 0], b_scale=pairs[:, 1])
    if beats.shape.groups > 1 or beats.shape.spec.sign_split != "none":
        _scales_side_by_side(beats, a_codes, b_codes)


def _scales_side_by_side(beats: Beats, a_codes: Codes, b_codes: Codes) -> None:
    """One scale lane differs from all others: each lane in turn, with blocks zero and not."""
    palette, k = beats.palette, beats.shape.k
    lanes = {lane.name: lane.lanes for lane in beats.shape.lanes}
    terms = [palette.product("one"), palette.product("smallest"), palette.product("largest")]
    full = _lanes(beats, *[terms[i % 3] for i in range(k)])
    sparse = _lanes(beats, *_spread(beats, terms[0], beats.shape.group))
    for name, codes in (("a_scale", a_codes), ("b_scale", b_codes)):
        for lane in range(lanes[name]):
            rows = np.full((codes.size, lanes[name]), palette.one(name[0]), dtype=np.int64)
            rows[:, lane] = codes
            for beat in (full, sparse):
                beats.add(**beat, **{name: rows})


def scale_shifts(beats: Beats) -> None:
    """Scales that move the sum across the accumulator's rows, and groups against each other."""
    if not beats.shape.group:
        return
    palette, k, spec = beats.palette, beats.shape.k, beats.shape.spec
    fmt = spec.a_scale
    one = palette.one("a")
    assert isinstance(fmt, FloatFormat)
    step = 1 << fmt.mantissa_bits
    codes = one + step * np.arange(-48, 49)
    codes = codes[(codes >= 0) & (codes <= fmt.max_code)]
    for row in ([palette.product("one")], [palette.product("largest")] * k):
        beat = _lanes(beats, *row)
        beats.add(**beat, a_scale=codes)
        beats.add(**beat, a_scale=codes, c=_addend_of_one(beats))
        beats.add(**beat, a_scale=codes, c=_addend_of_one(beats) + 1)
    if beats.shape.groups > 1 and not spec.splits("a"):
        rows = np.full((codes.size, beats.shape.groups), one, dtype=np.int64)
        rows[:, -1] = codes
        terms = [palette.product("one"), palette.product("tiny"), palette.product("largest")]
        for turn in permutations(terms):
            beat = _lanes(beats, *[turn[i % 3] for i in range(k)])
            beats.add(**beat, a_scale=rows)
            beats.add(**beat, a_scale=rows[:, ::-1])


def scaled_to_ends(beats: Beats) -> None:
    """Scales that put the sum at the smallest subnormal and at the largest value of the
    accumulator: results that are rounded to zero of either sign, subnormals rounded once or twice,
    and overflow, from addends that decide ties."""
    fmt = _float(beats)
    if not beats.shape.group or fmt is None:
        return
    m = fmt.mantissa_bits
    small = _both_signs(fmt, np.array([0, 1, 2, 3, (1 << m) - 1, 1 << m], dtype=np.int64))
    big = _both_signs(fmt, fmt.max_code - np.arange(3, dtype=np.int64))
    palette, k = beats.palette, beats.shape.k
    one, low = palette.product("one"), palette.product("smallest")
    a, b = palette.few(6)
    sums = [[one], [low], [one, one, palette.product("tiny")]]
    sums += [[pair] for pair in zip(a.tolist(), b.tolist(), strict=True)]
    sums += [[palette.product("largest")] * k]
    lowest = fmt.exponent_min - m
    for addends, places in (
        (small, range(lowest - 7, lowest + 4)),
        (big, range(fmt.exponent_max - m - 6, fmt.exponent_max + 2)),
    ):
        for exponent in places:
            scales = _scales_of(beats, exponent)
            if scales is None:
                continue
            for terms in sums:
                beat = _lanes(beats, *terms)
                # In the last lanes: a block of zeros after it would turn a -0 into +0.
                rows = {n: np.repeat(x[:, ::-1], addends.size, axis=0) for n, x in beat.items()}
                a_scale, b_scale = (np.full(addends.size, scale) for scale in scales)
                beats.add(**rows, a_scale=a_scale, b_scale=b_scale, c=addends)


def _scales_of(beats: Beats, exponent: int) -> tuple[int, int] | None:
    """Return scale codes whose product is 2^exponent, or None where they do not reach."""
    spec, codes = beats.shape.spec, []
    half = exponent // 2
    for operand, wanted in (("a", half), ("b", exponent - half)):
        fmt = getattr(spec, f"{operand}_scale")
        if not fmt.exponent_min <= wanted <= fmt.exponent_max:
            return None
        codes.append(int(fmt.encode([np.ldexp(1.0, wanted)])[0]))
    return codes[0], codes[1]


def _addend_of_one(beats: Beats) -> int:
    return int(beats.palette.encode_addend(np.array([1.0]))[0])


def specials(beats: Beats) -> None:
    """Infinities and NaN patterns in addend and operands, against finite and each other."""
    palette = beats.palette
    fmt = _float(beats)
    if fmt is None or not palette.nan:
        return
    one, low = palette.product("one"), palette.product("smallest")
    top = np.arange(fmt.max_code + 1, 1 << fmt.magnitude_bits, dtype=np.int64)
    top = top if top.size <= 8 else top[[0, 1, top.size // 2, -1]]
    addends = np.concatenate([top, top + fmt.sign_bit, [0]]).astype(np.int64)
    for terms in ([one], [low], [one] * beats.shape.k):
        beat = _lanes(beats, *terms)
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
            beats.add(**_lanes(beats, one), c=addends)
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
    high = _lanes(beats, *[palette.product("largest")] * k)
    low = _lanes(beats, *[palette.product("smallest")] * k)
    tiny = _lanes(beats, palette.product("tiny"))
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
