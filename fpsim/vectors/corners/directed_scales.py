# SPDX-License-Identifier: Apache-2.0
"""Corner classes of scales: remarkable codes, shifts of the sum, both ends of the accumulator."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from fpsim.formats.floating import FloatFormat
from fpsim.vectors.corners.arrangements import both_signs, float_format, one_beat, repeated
from fpsim.vectors.corners.beats import Beats, Codes

__all__ = ["scale_corners", "scale_shifts", "scaled_to_ends"]


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
        beat = one_beat(beats, *row)
        beats.add(**beat, a_scale=a_codes)
        beats.add(**beat, b_scale=b_codes)
    pairs = np.array(list(product(a_codes.tolist(), b_codes.tolist())))
    for row in sums[:2]:
        beats.add(**one_beat(beats, *row), a_scale=pairs[:, 0], b_scale=pairs[:, 1])
    if beats.shape.groups > 1 or beats.shape.spec.sign_split != "none":
        _scales_side_by_side(beats, a_codes, b_codes)


def _scales_side_by_side(beats: Beats, a_codes: Codes, b_codes: Codes) -> None:
    """One scale lane differs from all others: each lane in turn, with blocks zero and not."""
    palette, k = beats.palette, beats.shape.k
    lanes = {lane.name: lane.lanes for lane in beats.shape.lanes}
    terms = [palette.product("one"), palette.product("smallest"), palette.product("largest")]
    full = one_beat(beats, *[terms[i % 3] for i in range(k)])
    sparse = one_beat(beats, *repeated(beats, terms[0], beats.shape.group))
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
        beat = one_beat(beats, *row)
        beats.add(**beat, a_scale=codes)
        beats.add(**beat, a_scale=codes, c=_addend_of_one(beats))
        beats.add(**beat, a_scale=codes, c=_addend_of_one(beats) + 1)
    if beats.shape.groups > 1 and not spec.splits("a"):
        rows = np.full((codes.size, beats.shape.groups), one, dtype=np.int64)
        rows[:, -1] = codes
        terms = [palette.product("one"), palette.product("tiny"), palette.product("largest")]
        for turn in permutations(terms):
            beat = one_beat(beats, *[turn[i % 3] for i in range(k)])
            beats.add(**beat, a_scale=rows)
            beats.add(**beat, a_scale=rows[:, ::-1])


def scaled_to_ends(beats: Beats) -> None:
    """Scales that put the sum at the smallest subnormal and at the largest value of the
    accumulator: results that are rounded to zero of either sign, subnormals rounded once or twice,
    and overflow, from addends that decide ties."""
    fmt = float_format(beats)
    if not beats.shape.group or fmt is None:
        return
    m = fmt.mantissa_bits
    small = both_signs(fmt, np.array([0, 1, 2, 3, (1 << m) - 1, 1 << m], dtype=np.int64))
    big = both_signs(fmt, fmt.max_code - np.arange(3, dtype=np.int64))
    infinite = np.array([], dtype=np.int64)
    if fmt.inf_code is not None:  # which an overflow of the other sign must not touch
        infinite = np.array([fmt.inf_code, fmt.inf_code | fmt.sign_bit])
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
        (infinite, (fmt.exponent_max + 1, fmt.exponent_max + 8)),
    ):
        for exponent in places:
            scales = _scales_of(beats, exponent)
            if scales is None:
                continue
            for terms in sums:
                beat = one_beat(beats, *terms)
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
