# SPDX-License-Identifier: Apache-2.0
"""What corner classes are made of: beats of chosen products, addends in chosen rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsim.formats.floating import FloatFormat
from fpsim.units.spec import exponents
from fpsim.vectors.corners.beats import Beats, Codes, Palette

__all__ = [
    "both_signs",
    "exponent_rows",
    "float_format",
    "one_beat",
    "opposite",
    "patterns",
    "product_span",
    "repeated",
    "typical_sums",
    "with_unit_scales",
]

#: Rows of accumulator codes a shift class visits at most.
MAX_ROWS = 96


def float_format(beats: Beats) -> FloatFormat | None:
    """Return the format of a float accumulator, else None."""
    fmt = beats.shape.spec.initial
    return fmt if isinstance(fmt, FloatFormat) else None


def one_beat(beats: Beats, *terms: tuple[int, int]) -> dict[str, Codes]:
    """Return one beat with the given products in the first lanes (as many as there are)."""
    k = beats.shape.k
    row = {op: np.full((1, k), beats.palette.zero(op), dtype=np.int64) for op in "ab"}
    for lane, (a, b) in enumerate(terms[:k]):
        row["a"][0, lane], row["b"][0, lane] = a, b
    return row


def repeated(beats: Beats, term: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Return a product for each of some lanes, as many as there are."""
    return [term] * min(count, beats.shape.k)


def typical_sums(beats: Beats) -> list[dict[str, Codes]]:
    """Return beats whose sums have one, few and many significant bits, of both signs."""
    palette, k = beats.palette, beats.shape.k
    largest, smallest = palette.product("largest"), palette.product("smallest")
    tiny, one = palette.product("tiny"), palette.product("one")
    a, b = palette.few(8, 1)
    down_a, down_b = palette.few(4, -1)
    singles = [*zip(a.tolist(), b.tolist(), strict=True)]
    singles += zip(down_a.tolist(), down_b.tolist(), strict=True)
    beats_ = [one_beat(beats, term) for term in singles]
    if k > 1:
        beats_ += [
            one_beat(beats, *repeated(beats, largest, k)),
            one_beat(beats, *repeated(beats, smallest, k)),
            one_beat(beats, largest, *repeated(beats, tiny, k - 1)),
            one_beat(beats, tiny, one, *singles[: k - 2]),
            one_beat(beats, largest, smallest, tiny),
            one_beat(beats, tiny, *repeated(beats, largest, k - 1)),
        ]
    return beats_


def exponent_rows(fmt: FloatFormat, low: int, high: int) -> Codes:
    """Return the exponent rows (first code of each) whose values reach from 2^low to 2^high."""
    m = fmt.mantissa_bits
    first = max(low - fmt.exponent_min, 0)
    last = min(max(high - fmt.exponent_min, 0) + 1, fmt.max_code >> m)
    rows = np.arange(first, last + 1, dtype=np.int64)
    if rows.size > MAX_ROWS:
        rows = rows[np.unique(np.linspace(0, rows.size - 1, MAX_ROWS).astype(np.int64))]
    return rows << m


def patterns(m: int) -> Codes:
    """Return significands: even and odd, low, middle, alternating and full."""
    full = (1 << m) - 1
    picks = {0, 1, 2, 3, full // 3, full // 2, full // 2 + 1, full - 2, full - 1, full}
    return np.array(sorted(p for p in picks if 0 <= p <= full), dtype=np.int64)


def both_signs(fmt: FloatFormat, magnitudes: Codes) -> Codes:
    """Return finite codes of both signs."""
    magnitudes = magnitudes[(magnitudes >= 0) & (magnitudes <= fmt.max_code)]
    return np.concatenate([magnitudes, magnitudes + fmt.sign_bit])


def product_span(beats: Beats) -> tuple[int, int]:
    """Return (low, high): products are multiples of 2^low and below 2^high."""
    spec = beats.shape.spec
    (a_low, a_high), (b_low, b_high) = exponents(spec.a), exponents(spec.b)
    return a_low + b_low, a_high + b_high


def opposite(palette: Palette, term: tuple[int, int]) -> tuple[int, int] | None:
    """Return a product of minus the value of another."""
    a, b, values = palette.products
    spec = palette.spec
    value = spec.a.decode([term[0]])[0] * spec.b.decode([term[1]])[0]
    found = np.flatnonzero(values == -value)
    return (int(a[found[0]]), int(b[found[0]])) if found.size and value else None


def with_unit_scales(beats: Beats, beat: dict[str, Codes]) -> dict[str, Any]:
    """Return a beat with scales of one, for `rough_sums`."""
    columns: dict[str, Any] = dict(beat)
    if beats.shape.group:
        for lane in beats.shape.lanes:
            if lane.name.endswith("_scale"):
                one = beats.palette.one(lane.name[0])
                columns[lane.name] = np.full((beat["a"].shape[0], lane.lanes), one)
    return columns
