# SPDX-License-Identifier: Apache-2.0
"""Stochastic rounding: random integers on both sides of a threshold, and the bins that they hit.

A value a fraction f of the way from one code to the next goes there when floor(f 2^n) + r >= 2^n,
so the least random integer that rounds it up is the threshold T = 2^n - floor(f 2^n). What errors
in the adder of the random bits change is seen at r = T - 1 and T, at 0 and at all ones; an exact
value, and one whose fraction lies below the random bits, stays where it is even at all ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FloatFormat
from fpsim.oracle import Node, Number
from fpsim.units.spec import exponents
from fpsim.units.stages import Block, Chain, Chunked, Exact, Fixed, Stage, stages_of
from fpsim.vectors.corners.arrangements import both_signs, exponent_rows, patterns, product_span
from fpsim.vectors.corners.beats import MAX_PRODUCTS, Beats, Codes
from fpsim.vectors.coverage.additions import BEFORE, log2
from fpsim.vectors.coverage.sums import last_stage, sums_of
from fpsim.vectors.sets.record import Columns, Shape

__all__ = ["random_bins", "random_expectations", "random_words", "word_rows"]

EXACT, BELOW = "SR:exact, all ones", "SR:fraction below the random bits, all ones"
_WORDS = ("zeros", "just below the threshold", "at the threshold", "all ones")
#: Beats that are tried in every lane.
LANE_BEATS = 8


# -- vectors -------------------------------------------------------------------------------------


def random_words(beats: Beats) -> None:
    """Random integers 0, T - 1, T and all ones, for every kind of sum and in every lane.

    The integers of the other roundings are the opposite extreme: one that is taken for another
    shows.
    """
    if beats.shape.roundings:
        beats.add(**word_rows(beats.shape))


def word_rows(shape: Shape) -> Columns:
    """Return such beats: a, b (R, k), c (R,), random (R, roundings)."""
    base = _sums(shape)
    fmt = shape.format_of("random")
    top = (1 << fmt.bits) - 1
    lane, threshold = _thresholds(shape, base, top)
    rounds = np.flatnonzero(lane >= 0)
    rows = [np.arange(lane.size)]
    words = [np.full((lane.size, shape.roundings), top, dtype=fmt.dtype)]
    picks = (np.zeros_like(threshold), threshold - 1, threshold, np.full_like(threshold, top))
    for pick, others in zip(picks, (top, top, 0, 0), strict=True):
        own = np.full((rounds.size, shape.roundings), others, dtype=fmt.dtype)
        own[np.arange(rounds.size), lane[rounds]] = pick[rounds]
        rows.append(rounds)
        words.append(own)
    order = np.concatenate(rows)
    part = {name: base[name][order] for name in ("a", "b", "c")}
    return part | {"random": np.concatenate(words)}


def _sums(shape: Shape) -> Columns:
    """Return beats with one product on addends of every exponent near it, in the first lane; some
    in all lanes. Where chunks round at random also products onto many of others, without addend."""
    beats, fmt = Beats(shape), shape.spec.initial
    # On a grid it is the product that is rounded, in a float format its sum with the addend.
    up, down = (4, 2) if isinstance(fmt, FloatFormat) else (MAX_PRODUCTS, MAX_PRODUCTS)
    palette = beats.palette
    signed = (palette.product("zero"), palette.few(up, 1), palette.few(down, -1))
    a, b = (np.concatenate([np.atleast_1d(pair[i]) for pair in signed]) for i in range(2))
    c: Codes = np.zeros(1, dtype=np.int64)
    if isinstance(fmt, FloatFormat):
        low, high = product_span(beats)
        rows = exponent_rows(fmt, low - 2, high + fmt.mantissa_bits + 2)
        magnitudes = (rows[:, None] + patterns(fmt.mantissa_bits)[::2]).reshape(-1)
        c = both_signs(fmt, np.unique(magnitudes))
    pairs = np.arange(a.size * c.size)
    products, addends = pairs % a.size, c[pairs // a.size]
    some = pairs[:: max(1, pairs.size // LANE_BEATS)]
    lanes = np.concatenate([np.zeros(pairs.size, int), np.repeat(np.arange(shape.k), some.size)])
    index = np.concatenate([products, np.tile(products[some], shape.k)])
    beats.add(
        a=beats.lane_codes("a", lanes, a[index]),
        b=beats.lane_codes("b", lanes, b[index]),
        c=np.concatenate([addends, np.tile(addends[some], shape.k)]),
    )
    last = last_stage(shape.spec.accumulate)
    if any(getattr(s, "random_bits", 0) for s in stages_of(shape.spec.accumulate) if s is not last):
        _sums_in_chunks(beats, a, b)
    return beats.columns()


def _sums_in_chunks(beats: Beats, a: Codes, b: Codes) -> None:
    """Append beats of a product in 1, 2, 4, ... lanes and another one in the next."""
    first, second = (i.reshape(-1) for i in np.indices((a.size, a.size)))
    filled = 1
    while filled < beats.shape.k:
        columns = {}
        for operand, codes in (("a", a), ("b", b)):
            lanes = beats.lane_codes(operand, np.full(first.size, filled), codes[second])
            lanes[:, :filled] = codes[first][:, None]
            columns[operand] = lanes
        beats.add(**columns)
        filled *= 2


def _thresholds(
    shape: Shape, beats: Columns, top: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which random integer of each beat changes its result, and the least that does.

    The first is -1 where none does. One product rounds at most once, and the result only goes one
    way as its integer grows, so halving finds the threshold.
    """
    count = beats["c"].size
    random = np.zeros_like(beats["random"])

    def run() -> NDArray[Any]:
        return shape.dot(beats | {"random": random}, beats["c"])

    plain, lane = run(), np.full(count, -1)
    for i in range(shape.roundings):
        random[:, i] = top
        lane[(run() != plain) & (lane < 0)] = i
        random[:, i] = 0
    low, high = np.zeros(count, dtype=np.int64), np.full(count, top)
    every = np.arange(count)
    while (high - low > 1).any():
        middle = (low + high) // 2
        random[every, lane] = np.where(lane >= 0, middle, 0)
        changed = run() != plain
        low, high = np.where(changed, low, middle), np.where(changed, middle, high)
    return lane, high


# -- coverage ------------------------------------------------------------------------------------


def random_bins(shape: Shape, row: Columns, nodes: list[Node]) -> Iterator[str]:
    """Yield the bins that the random integers of a traced dot product hit."""
    if not shape.roundings:
        return
    rounded = _fractions(shape, nodes)
    for (bits, negative, fraction), r in zip(rounded, row["random"], strict=False):
        steps = 1 << bits
        own, threshold = int(r) % steps, steps - int(fraction * steps)
        if threshold == steps:
            if own == steps - 1:
                yield BELOW if fraction else EXACT
            continue
        words = (0, threshold - 1, threshold, steps - 1)
        for name, word in zip(_WORDS, words, strict=True):
            if own == word:
                yield f"SR:{'-' if negative else '+'} {name}"


def _fractions(shape: Shape, nodes: list[Node]) -> Iterator[tuple[int, bool, Fraction]]:
    """Yield the random bits, the sign and the dropped fraction of every rounding, in order."""
    for stage, terms, own, _ in sums_of(shape.spec, nodes):
        bits, fmt = getattr(stage, "random_bits", 0), getattr(stage, "format", None)
        if not bits:
            continue
        values = [term.value for term in terms]
        if fmt is not None:
            found = (node.value for node in own if node.name == f"acc{BEFORE}")
            values = [value for value in found if isinstance(value, Number)]
        for value in values:
            if not value.magnitude:
                yield bits, False, Fraction(0)
                continue
            unit = Fraction(2) ** stage.lsb if fmt is None else _unit(value.magnitude, fmt)
            scaled = value.magnitude / unit
            yield bits, value.negative, scaled - int(scaled)


def _unit(magnitude: Fraction, fmt: FloatFormat) -> Fraction:
    """Return what the last bit of a number is worth in a format."""
    return Fraction(2) ** (max(log2(magnitude), fmt.exponent_min) - fmt.mantissa_bits)


def random_expectations(shape: Shape) -> dict[str, str | None]:
    """Return the bins of random integers, each with the reason why it is impossible or None."""
    if not shape.roundings:
        return {}
    spec = shape.spec
    formats = [spec.a, spec.b, *([spec.a_scale, spec.b_scale] if shape.group else [])]
    low = sum(exponents(fmt)[0] for fmt in formats)
    places = list(_places(spec.accumulate, low))
    never = None
    if all(count <= 0 for _, count in places):
        never = f"every sum is a multiple of 2^{low}: none rounds"
    most = max(count for _, count in places)
    short = f"fractions have at most {most} bits, as many as the random integers or fewer"
    bins: dict[str, str | None] = {EXACT: None}
    bins[BELOW] = never or (short if all(count <= bits for bits, count in places) else None)
    return bins | {f"SR:{sign} {word}": never for sign in "+-" for word in _WORDS}


def _places(stage: Stage, low: int) -> Iterator[tuple[int, int]]:
    """Yield the random bits of every stage that has some, and how many fraction bits a rounding of
    it can meet; its terms are multiples of 2^low."""
    if isinstance(stage, Chunked):
        yield from _places(stage.inner, low)
        yield from _places(stage.outer, exponents(stage.inner.result)[0])
    elif isinstance(stage, Block):
        converted = stage.convert
        yield from _places(stage.into, low if converted is None else exponents(converted)[0])
    elif isinstance(stage, Fixed) and stage.random_bits:
        yield stage.random_bits, stage.lsb - low
    elif isinstance(stage, Chain | Exact) and stage.random_bits:
        fmt = stage.format
        least = min(low, fmt.exponent_min - fmt.mantissa_bits)
        yield stage.random_bits, fmt.exponent_max - fmt.mantissa_bits - least
