# SPDX-License-Identifier: Apache-2.0
"""Corner classes of sums: zeros, subnormals, ends of the range, shifts, order, accumulation."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from fpsim.formats.floating import FloatFormat
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.chosen_products import (
    both_signs,
    exponent_rows,
    float_format,
    one_vector,
    opposite,
    patterns,
    product_span,
    repeated,
    typical_sums,
    with_unit_scales,
)
from fpsim.vectors.corners.window_corners import fraction_bits
from fpsim.vectors.seeded.random_vectors import rough_sums
from fpsim.vectors.sets.palette import Codes
from fpsim.vectors.sets.record import Op

__all__ = [
    "addend_alone",
    "addend_shifts",
    "cancellation",
    "infinities",
    "lane_positions",
    "largest",
    "mixed_lanes",
    "order",
    "range_edges",
    "reachable",
    "signed_zeros",
    "specials",
    "streams",
    "subnormal_operands",
]

#: Most products of one sign in the class `reachable`, and most vectors if they are computed one
#: after another.
GROWTH, TURNS = 2048, 128


def signed_zeros(builder: VectorBuilder) -> None:
    """Zero products of either sign, +-0 addends, sums that cancel: which sign survives."""
    palette, fmt = builder.palette, float_format(builder)
    zeros = {}
    for operand in "ab":
        form = getattr(builder.record.spec, operand)
        codes = getattr(palette, operand)
        found = codes[form.decode(codes) == 0]  # many codes if subnormals are flushed
        zeros[operand] = (found if found.size <= 4 else found[[0, 1, found.size // 2, -1]]).tolist()
    addends = [0] + ([fmt.sign_bit] if fmt is not None and fmt.has_negative_zero else [])
    one, largest = palette.product("one"), palette.product("largest")
    others = [one, palette.product("smallest")]
    terms = [(x, y) for x, y in product(zeros["a"], zeros["b"])]
    terms += [(x, o[1]) for x in zeros["a"] for o in others]
    terms += [(o[0], y) for y in zeros["b"] for o in others]
    for term, c in product(terms, addends):
        builder.add(**one_vector(builder, *repeated(builder, term, builder.record.k)), c=c)
    for name in ("a_scale", "b_scale") if builder.record.group else ():
        scale = getattr(builder.record.spec, name)
        if scale.signed:
            for c in addends:
                builder.add(c=c, **{name: palette.one(name[0]) | scale.sign_bit})
    minus = opposite(palette, largest)
    if minus is not None and builder.record.k > 1:
        for c in addends:
            builder.add(**one_vector(builder, largest, minus), c=c)
            builder.add(**one_vector(builder, minus, largest), c=c)


def addend_alone(builder: VectorBuilder) -> None:
    """Addends of every kind with products of zero: the addend passes, perhaps flushed or cut."""
    fmt = builder.record.spec.initial
    if isinstance(fmt, FloatFormat):
        row = 1 << fmt.mantissa_bits
        picks = np.array([1, 2, 3, row - 1, row, row + 1, fmt.max_code - 1, fmt.max_code])
        codes = both_signs(fmt, np.concatenate([picks, fmt.max_code // 2 + np.arange(4)]))
    else:
        codes = np.array([1, 2, fmt.max_integer, (1 << fmt.width) - 1], dtype=np.uint64)
    builder.add(c=codes)


def subnormal_operands(builder: VectorBuilder) -> None:
    """Subnormal codes of either operand against every corner of the other, and side by side."""
    palette, spec = builder.palette, builder.record.spec
    for operand, other in (("a", "b"), ("b", "a")):
        fmt = getattr(spec, operand)
        if not isinstance(fmt, FloatFormat) or fmt.mantissa_bits == 0:
            continue
        row = 1 << fmt.mantissa_bits
        subnormals = np.unique([1, row >> 1, row - 1])
        for code in both_signs(fmt, subnormals) if fmt.signed else subnormals:
            others = palette.corner_codes(other)
            lanes = {
                operand: builder.lane_codes(
                    operand, np.arange(others.size), np.full(others.size, code)
                ),
                other: builder.lane_codes(other, np.arange(others.size), others),
            }
            builder.add(**lanes)
            builder.add(**{operand: (code,), other: others})


def largest(builder: VectorBuilder) -> None:
    """All products largest, of one sign and alternating; one large among tiny, first and last."""
    palette, k = builder.palette, builder.record.k
    high, low = palette.product("largest"), palette.product("smallest")
    tiny = palette.product("tiny")
    rows = [
        repeated(builder, high, k),
        repeated(builder, low, k),
        [(high, low)[i % 2] for i in range(k)],
        [(low, high)[i % 2] for i in range(k)],
        [high, *repeated(builder, tiny, k - 1)],
        [*repeated(builder, tiny, k - 1), high][:k],
        repeated(builder, tiny, k),
        [*repeated(builder, high, k - 1), tiny],
        [tiny, *repeated(builder, low, k - 1)],
        [*repeated(builder, tiny, k // 2), high, low, *repeated(builder, tiny, k)][:k],
    ]
    for row in rows:
        builder.add(**one_vector(builder, *row))


def addend_shifts(builder: VectorBuilder) -> None:
    """Addends in every row around the products', with significands that reach every combination
    of sign, last bit, guard and sticky, ties among them, and carries into the next row."""
    fmt = float_format(builder)
    if fmt is None:
        return
    low, high = product_span(builder)
    reach = max([fmt.mantissa_bits, *fraction_bits(builder)]) + 3
    rows = exponent_rows(fmt, low - reach, high + builder.record.k.bit_length() + reach)
    sums = typical_sums(builder)
    tails = patterns(fmt.mantissa_bits)
    for i, row in enumerate(rows.tolist()):
        few = len(sums) if builder.record.k == 1 else min(4, len(sums))
        chosen = [sums[(i + j) % len(sums)] for j in range(few)]
        for j, operands in enumerate(chosen):
            addends = both_signs(fmt, row + tails[j % 2 :: 2])
            builder.add(**operands, c=addends)


def cancellation(builder: VectorBuilder) -> None:
    """Addends equal to minus the sum, and their neighbours: every drop of the exponent."""
    palette, fmt = builder.palette, builder.record.spec.initial
    for operands in typical_sums(builder):
        total = rough_sums(builder.record, with_unit_scales(builder, operands))
        near = int(palette.encode_addend(-np.clip(total, -fmt.max_value, fmt.max_value))[0])
        steps = [-2, -1, 0, 1, 2, *(s << j for j in range(2, 24, 3) for s in (1, -1))]
        near_codes = {(near + step) % (1 << fmt.bits) for step in steps}  # codes of 64 bits too
        codes = np.array(sorted(near_codes), dtype=np.uint64)
        codes = codes[np.isfinite(fmt.decode(codes))]
        builder.add(**operands, c=codes)


def order(builder: VectorBuilder) -> None:
    """Sums that depend on order: equal products in many orders, the large one at every place."""
    palette, k = builder.palette, builder.record.k
    if k < 3:
        return
    high, tiny, one = (palette.product(n) for n in ("largest", "tiny", "one"))
    low = opposite(palette, high) or palette.product("smallest")
    fmt = float_format(builder)
    starts = [0]
    if fmt is not None:
        sum_row = int(palette.encode_addend(np.array([np.ldexp(1.0, fmt.mantissa_bits + 1)]))[0])
        starts += [sum_row, sum_row + fmt.sign_bit, sum_row + 1]
    for triple in ((high, low, tiny), (high, tiny, one), (one, tiny, low)):
        for terms in permutations(triple):
            for c in starts:
                builder.add(**one_vector(builder, *terms), c=c)
                gap = [(palette.zero("a"), palette.zero("b"))] * (k - 3)
                builder.add(**one_vector(builder, terms[0], *gap, terms[1], terms[2]), c=c)


def mixed_lanes(builder: VectorBuilder) -> None:
    """Large, small and negative products in many arrangements of the lanes, which show where nodes
    of a tree or chunks round, and which lanes share one."""
    palette, k = builder.palette, builder.record.k
    names = ("largest", "tiny", "one", "smallest", "largest", "largest", "tiny", "largest")
    terms = [palette.product(name) for name in names]
    pattern = np.arange(1, 97)[:, None] * 2654435761 + np.arange(k) * 40503
    pick = (pattern ^ (pattern >> 13)) >> 7 & 7
    a, b = (np.array([term[i] for term in terms])[pick] for i in (0, 1))
    builder.add(a=a, b=b)
    if float_format(builder) is None:
        return
    sums = rough_sums(builder.record, with_unit_scales(builder, {"a": a, "b": b}))
    for factor in (-1.0, 1.0, 1 / 3, -1 / 48, 5 / 256):  # cancel, double, and add lower bits
        builder.add(a=a, b=b, c=palette.encode_addend(sums * factor))


def range_edges(builder: VectorBuilder) -> None:
    """Addends at and near both ends of the accumulator, around the least subnormal and normal
    numbers, at zero and powers of two on a grid: pushed out, and out and back."""
    palette, k = builder.palette, builder.record.k
    fmt = builder.record.spec.initial
    if isinstance(fmt, FloatFormat):
        codes = both_signs(fmt, fmt.max_code - np.arange(4, dtype=np.int64))
        row = 1 << fmt.mantissa_bits
        small = np.array([[1], [row // 2], [row]]) + np.arange(-2, 3)
        codes = np.concatenate([codes, both_signs(fmt, np.unique(small))])
    else:
        ends = [fmt.max_integer - i for i in range(4)] + [fmt.min_integer + i for i in range(4)]
        powers = [s * (1 << i) for i in range(fmt.width - 1) for s in (1, -1)]
        numbers = sorted({*ends, -2, -1, 0, 1, 2, *powers})
        codes = np.array([n % (1 << fmt.width) for n in numbers], dtype=np.uint64)
    high, low = palette.product("largest"), palette.product("smallest")
    tiny, minus = palette.product("tiny"), opposite(palette, palette.product("tiny"))
    sums = [[high], [low], [tiny], [high] * k, [low] * k, [high, low] * (k // 2)]
    sums += [[low, high] * (k // 2), [minus or low], [high, high, low, low], [low, low, high, high]]
    rows = typical_sums(builder) if k == 1 else [one_vector(builder, *terms) for terms in sums]
    for operands in rows:
        builder.add(**operands, c=codes)


def specials(builder: VectorBuilder) -> None:
    """Infinities and NaN patterns in addend and operands, against finite values and each other."""
    palette = builder.palette
    fmt = float_format(builder)
    if fmt is None or not palette.nan_addend:
        return
    one, low = palette.product("one"), palette.product("smallest")
    top = np.arange(fmt.max_code + 1, 1 << fmt.magnitude_bits, dtype=np.int64)
    top = top if top.size <= 8 else top[[0, 1, top.size // 2, -1]]
    addends = np.concatenate([top, top + fmt.sign_bit, [0]]).astype(np.int64)
    for terms in ([one], [low], [one] * builder.record.k):
        operands = one_vector(builder, *terms)
        builder.add(**operands, c=addends)
    for operand, other in (("a", "b"), ("b", "a")) if palette.nan else ():
        others = np.concatenate([palette.corner_codes(other), palette.special(other)])
        for code in palette.special(operand).tolist():
            builder.add(
                **{
                    operand: builder.lane_codes(
                        operand, np.arange(others.size), np.full(others.size, code)
                    ),
                    other: builder.lane_codes(other, np.arange(others.size), others),
                }
            )
            builder.add(**one_vector(builder, one), c=addends)
            pair = {operand: (code,), other: (one[operand == "a"],)}
            builder.add(
                **{n: np.full((addends.size, builder.record.k), v[0]) for n, v in pair.items()},
                c=addends,
            )


def infinities(builder: VectorBuilder) -> None:
    """One, both infinities and NaN in every order, as the addend and in three lanes of a vector.

    A sum with infinities of both signs is NaN wherever they are: in one exact sum, in two registers
    of it, or in separate blocks or chunks.
    """
    palette, fmt, k = builder.palette, float_format(builder), builder.record.k
    (operand, other), own = _infinite_operand(builder)
    if fmt is None or not palette.nan or own is None or own.inf_code is None:
        return
    one = palette.product("one")
    kinds = [one[operand == "b"], own.inf_code]
    kinds += [own.inf_code | own.sign_bit] * own.signed
    kinds += [own.nan_code] if own.nan_code is not None else []
    infinite = [] if fmt.inf_code is None else [fmt.inf_code, fmt.inf_code | fmt.sign_bit]
    addends = [0, *infinite, fmt.nan_code]
    lanes = sorted({0, k // 2, k - 1})
    for codes in product(kinds, repeat=len(lanes)):
        row = np.full((1, k), palette.zero(operand), dtype=np.int64)
        row[0, lanes] = codes
        builder.add(**{operand: row, other: np.full((1, k), one[other == "b"])}, c=addends)


def _infinite_operand(builder: VectorBuilder) -> tuple[tuple[str, str], FloatFormat | None]:
    """Return an operand that can be infinite, the other operand, and the first one's format."""
    for names in (("a", "b"), ("b", "a")):
        fmt = getattr(builder.record.spec, names[0])
        if isinstance(fmt, FloatFormat) and fmt.infinity:
            return names, fmt
    return ("a", "b"), None


def lane_positions(builder: VectorBuilder) -> None:
    """One product in each lane, and each lane left out: no lane is dropped, swapped or doubled."""
    palette, k = builder.palette, builder.record.k
    one, high = palette.product("one"), palette.product("largest")
    lanes = np.arange(k)
    builder.add(
        a=builder.lane_codes("a", lanes, np.full(k, high[0])),
        b=builder.lane_codes("b", lanes, np.full(k, high[1])),
    )
    full_a, full_b = np.full((k, k), one[0]), np.full((k, k), one[1])
    full_a[lanes, lanes] = palette.zero("a")
    builder.add(a=full_a, b=full_b)
    a, b, _ = palette.products
    order = (np.arange(k) * 7) % a.size
    rows_a = np.stack([np.roll(a[order], i) for i in range(min(k, 8))])
    rows_b = np.stack([np.roll(b[order], i) for i in range(min(k, 8))])
    builder.add(a=rows_a, b=rows_b)
    builder.add(a=rows_a, b=rows_b[:, ::-1])


def streams(builder: VectorBuilder) -> None:
    """Vectors that accumulate: out at either end of the range and back, alternating, with idle
    clocks, clears and loads between."""
    record, palette, k = builder.record, builder.palette, builder.record.k
    if not record.feeds_back:
        return
    high = one_vector(builder, *[palette.product("largest")] * k)
    low = one_vector(builder, *[palette.product("smallest")] * k)
    tiny = one_vector(builder, palette.product("tiny"))
    load = int(palette.encode_addend(np.array([np.ldexp(1.0, 12)]))[0])

    def run(ops: list[int], parts: list[dict[str, Codes]], c: int = 0) -> None:
        for op, part in zip(ops, parts, strict=True):
            builder.add(op=op, **part, c=c)

    fmt = record.spec.initial
    if isinstance(fmt, FloatFormat):
        top, bottom = fmt.max_code - 1, fmt.max_code - 1 + fmt.sign_bit
    else:
        top, bottom = fmt.max_integer - 1, (fmt.min_integer + 1) % (1 << fmt.bits)
    mac, idle = int(Op.MAC), int(Op.IDLE)
    run([Op.CLEAR, *[mac] * 8], [high] * 9)
    run([Op.CLEAR, *[mac] * 8], [low] * 9)
    run(
        [Op.CLEAR, mac, idle, mac, idle, idle, mac, mac],
        [tiny, high, low, low, high, tiny, tiny, high],
    )
    run([Op.LOAD, *[mac] * 4], [low, tiny, high, tiny, low], load)
    run([Op.LOAD, *[mac] * 6], [low, high, high, low, low, low, high], top)
    run([Op.LOAD, *[mac] * 6], [high, low, low, high, high, high, low], bottom)
    run(
        [Op.CLEAR, mac, Op.CLEAR, idle, mac, Op.LOAD, mac, idle],
        [high, tiny, high, high, tiny, low, tiny, high],
        load,
    )


def reachable(builder: VectorBuilder) -> None:
    """Long sums from a cleared accumulator, for units without a load.

    Up to `GROWTH` products of one sign, large products that swamp tiny ones, alternation, and
    triples whose sum depends on their order.
    """
    if not builder.record.feeds_back:
        return
    palette, k = builder.palette, builder.record.k
    names = ("largest", "smallest", "tiny")
    largest, smallest, tiny = (one_vector(builder, *[palette.product(name)] * k) for name in names)

    def run(*parts: tuple[dict[str, Codes], int]) -> None:
        builder.add(op=Op.CLEAR)
        for operands, products in parts:
            length = -(-products // k)
            length = length if builder.record.adds_in_a_row else min(length, TURNS)
            builder.add(op=np.full(length, int(Op.MAC)), **operands)

    run((largest, GROWTH))
    run((smallest, GROWTH))
    run((largest, 64), (tiny, 64), (smallest, 64))
    run((tiny, 64), (largest, 64), (tiny, 64))
    for _ in range(2):
        run((largest, 1), (smallest, 1), (tiny, 1))
    run((tiny, 1), (largest, 32), (smallest, 32))
