# SPDX-License-Identifier: Apache-2.0
"""Corner class of stochastic rounding: random integers on both sides of every threshold.

A value a fraction f of the way from one code to the next goes there when floor(f 2^n) + r >= 2^n,
so the least random integer that rounds it up is the threshold T = 2^n - floor(f 2^n). What errors
Errors in the adder of the random bits show at r = T - 1 and T, at 0 and at all ones; a value that
is exact, or whose fraction lies below the random bits, does not move even at all ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FloatFormat
from fpsim.units.stages import stages_of
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.chosen_products import (
    both_signs,
    exponent_rows,
    patterns,
    product_span,
)
from fpsim.vectors.coverage.traced_sums import last_stage
from fpsim.vectors.sets.palette import MAX_PRODUCTS, Codes
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["random_words", "word_rows"]

#: Sums tried in every lane.
SUMS_IN_LANES = 8


def random_words(builder: VectorBuilder) -> None:
    """Random integers 0, T - 1, T and all ones, for every kind of sum and in every lane.

    The integers of all other roundings are the opposite extreme, so that a mix-up shows.
    """
    if builder.record.roundings:
        builder.add(**word_rows(builder.record))


def word_rows(record: Record) -> Columns:
    """Return the columns of `random_words`: a, b (R, k), c (R,), random (R, roundings)."""
    base = _sums(record)
    fmt = record.format_of("random")
    top = (1 << fmt.bits) - 1
    lane, threshold = _thresholds(record, base, top)
    rounds = np.flatnonzero(lane >= 0)
    rows = [np.arange(lane.size)]
    words = [np.full((lane.size, record.roundings), top, dtype=fmt.dtype)]
    picks = (np.zeros_like(threshold), threshold - 1, threshold, np.full_like(threshold, top))
    for pick, others in zip(picks, (top, top, 0, 0), strict=True):
        own = np.full((rounds.size, record.roundings), others, dtype=fmt.dtype)
        own[np.arange(rounds.size), lane[rounds]] = pick[rounds]
        rows.append(rounds)
        words.append(own)
    order = np.concatenate(rows)
    part = {name: base[name][order] for name in ("a", "b", "c")}
    return part | {"random": np.concatenate(words)}


def _sums(record: Record) -> Columns:
    """Return a builder with one product in the first lane, on addends of every exponent near it;
    some in all lanes; and, if chunks round at random, products onto many others without addend."""
    builder, fmt = VectorBuilder(record), record.spec.initial
    # A fixed-point unit rounds the product, a float unit the sum of product and addend.
    up, down = (4, 2) if isinstance(fmt, FloatFormat) else (MAX_PRODUCTS, MAX_PRODUCTS)
    palette = builder.palette
    signed = (palette.product("zero"), palette.few(up, 1), palette.few(down, -1))
    a, b = (np.concatenate([np.atleast_1d(pair[i]) for pair in signed]) for i in range(2))
    c: Codes = np.zeros(1, dtype=np.int64)
    if isinstance(fmt, FloatFormat):
        low, high = product_span(builder)
        rows = exponent_rows(fmt, low - 2, high + fmt.mantissa_bits + 2)
        magnitudes = (rows[:, None] + patterns(fmt.mantissa_bits)[::2]).reshape(-1)
        c = both_signs(fmt, np.unique(magnitudes))
    pairs = np.arange(a.size * c.size)
    products, addends = pairs % a.size, c[pairs // a.size]
    some = pairs[:: max(1, pairs.size // SUMS_IN_LANES)]
    lanes = np.concatenate([np.zeros(pairs.size, int), np.repeat(np.arange(record.k), some.size)])
    index = np.concatenate([products, np.tile(products[some], record.k)])
    builder.add(
        a=builder.lane_codes("a", lanes, a[index]),
        b=builder.lane_codes("b", lanes, b[index]),
        c=np.concatenate([addends, np.tile(addends[some], record.k)]),
    )
    last = last_stage(record.spec.accumulate)
    if any(
        getattr(s, "random_bits", 0) for s in stages_of(record.spec.accumulate) if s is not last
    ):
        _sums_in_chunks(builder, a, b)
    return builder.columns()


def _sums_in_chunks(builder: VectorBuilder, a: Codes, b: Codes) -> None:
    """Append vectors with a product in 1, 2, 4, ... lanes and another product in the next lane."""
    first, second = (i.reshape(-1) for i in np.indices((a.size, a.size)))
    filled = 1
    while filled < builder.record.k:
        columns = {}
        for operand, codes in (("a", a), ("b", b)):
            lanes = builder.lane_codes(operand, np.full(first.size, filled), codes[second])
            lanes[:, :filled] = codes[first][:, None]
            columns[operand] = lanes
        builder.add(**columns)
        filled *= 2


def _thresholds(
    record: Record, builder: Columns, top: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, per row, the number of the integer that changes its result, and the threshold.

    The number is -1 if no integer does. One product rounds at most once, and its result moves in
    one direction as the integer grows, so bisection finds the threshold.
    """
    count = builder["c"].size
    random = np.zeros_like(builder["random"])

    def run() -> NDArray[Any]:
        return record.dot(builder | {"random": random}, builder["c"])

    plain, lane = run(), np.full(count, -1)
    for i in range(record.roundings):
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
