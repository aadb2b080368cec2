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

from fpsim.formats import FloatFormat
from fpsim.oracle import Node, Number
from fpsim.spec import exponents
from fpsim.vectors.adds import BEFORE, last_stage, log2
from fpsim.vectors.arrangements import both_signs, exponent_rows, patterns, product_span
from fpsim.vectors.beats import MAX_PRODUCTS, Beats, Codes
from fpsim.vectors.shape import Columns, Shape

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
    in all lanes."""
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
    return beats.columns()


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
    steps = 1 << shape.spec.random_bits
    for (negative, fraction), r in zip(_fractions(shape, nodes), row["random"], strict=False):
        threshold = steps - int(fraction * steps)
        if threshold == steps:
            if int(r) == steps - 1:
                yield BELOW if fraction else EXACT
            continue
        words = (0, threshold - 1, threshold, steps - 1)
        for name, word in zip(_WORDS, words, strict=True):
            if int(r) == word:
                yield f"SR:{'-' if negative else '+'} {name}"


def _fractions(shape: Shape, nodes: list[Node]) -> Iterator[tuple[bool, Fraction]]:
    """Yield sign and dropped fraction at every rounding that takes an integer, in order."""
    stage = last_stage(shape.spec.accumulate)
    fmt = getattr(stage, "format", None)
    terms = ("r[",) if any(n.name.startswith("r[") for n in nodes) else ("p[", "s[")
    for node in nodes:
        value = node.value
        if fmt is None:
            wanted, unit = node.name.startswith(terms), Fraction(2) ** stage.lsb
        else:
            wanted, unit = node.name == f"acc{BEFORE}", Fraction(1)
        if not wanted or not isinstance(value, Number):
            continue
        if not value.magnitude:
            yield False, Fraction(0)
            continue
        if fmt is not None:
            exponent = max(log2(value.magnitude), fmt.exponent_min)
            unit = Fraction(2) ** (exponent - fmt.mantissa_bits)
        scaled = value.magnitude / unit
        yield value.negative, scaled - int(scaled)


def random_expectations(shape: Shape) -> dict[str, str | None]:
    """Return the bins of random integers, each with the reason why it is impossible or None."""
    if not shape.roundings:
        return {}
    spec = shape.spec
    formats = [spec.a, spec.b, *([spec.a_scale, spec.b_scale] if shape.group else [])]
    low = sum(exponents(fmt)[0] for fmt in formats)
    stage, fmt = last_stage(spec.accumulate), spec.initial
    if isinstance(fmt, FloatFormat):
        low = min(low, fmt.exponent_min - fmt.mantissa_bits)
        top = fmt.exponent_max - fmt.mantissa_bits
    else:
        top = stage.lsb
    places = top - low  # fraction bits that a rounding can meet
    never = f"every sum is a multiple of 2^{low}: none rounds" if places <= 0 else None
    short = f"fractions have at most {places} bits, as many as the random integers or fewer"
    bins: dict[str, str | None] = {EXACT: None}
    bins[BELOW] = never or (short if places <= spec.random_bits else None)
    return bins | {f"SR:{sign} {word}": never for sign in "+-" for word in _WORDS}
