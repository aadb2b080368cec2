# SPDX-License-Identifier: Apache-2.0
"""Chunks of chunks, block sums in chunks, and stochastic rounding inside them.

By hand in E8M2 (8 + 1 lies halfway between 8 and 10), against their parts, and their neighbours.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from support.helpers import codes_of, dot_value, float_format, unit_of
from support.nested_cases import COARSE, E4M3, F32, STAGES, Codes, chunked, sr

from fpsim import FpsimError, MacSpec, MacUnit, Rounding, get_format, oracle
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Joins, Stage, Tree

pytestmark = pytest.mark.usefixtures("one_thread")

# -- by hand -------------------------------------------------------------------------------------


def test_random_integers_are_taken_chunk_after_chunk_then_by_the_outer_stage() -> None:
    """(8 + 1) + (8 + 1): integers 1 and 3 round the chunks, integer 5 their sum; the others none."""
    unit = chunked(sr(COARSE, 1), sr(COARSE, 1), size=2)
    assert unit.spec.roundings(4) == 6
    for bits in product((0, 1), repeat=6):
        first, second = (10.0 if bits[i] else 8.0 for i in (1, 3))
        total = (20.0 if bits[5] else 16.0) if first != second else first + second
        assert dot_value(unit, [8, 1, 8, 1], random=np.array(bits)) == total


def test_a_short_last_chunk_takes_fewer_integers() -> None:
    """8 + 1 and 2: three integers, then two for 10 + 2 = 12 or 8 + 2 = 10, and c = 16 + 1 last."""
    unit = chunked(sr(COARSE, 1), sr(COARSE, 1), size=2)
    assert unit.spec.roundings(3) == 5
    assert dot_value(unit, [8, 1, 2], random=np.array([0, 1, 0, 0, 0])) == 12.0
    assert dot_value(unit, [8, 1, 2], random=np.array([1, 0, 1, 1, 1])) == 10.0
    # 16 + 8 = 24 is a code, 24 + 2 is halfway to 28.
    last = [dot_value(unit, [8, 1, 2], c=16, random=np.array([0, 0, 0, 0, r])) for r in (0, 1)]
    assert last == [24.0, 28.0]


def test_a_stage_with_fewer_random_bits_takes_the_low_ones() -> None:
    """Nine is rounded with one bit: 2 rounds it down, 1 and 3 up; the sum with two bits."""
    unit = chunked(sr(COARSE, 1), sr(COARSE, 2), size=2)
    assert unit.spec.random_bits == 2
    for r, total in enumerate((8.0, 10.0, 8.0, 10.0)):
        assert dot_value(unit, [8, 1], random=np.array([0, r, 0])) == total
    # 16 + 9 in E8M2 is a quarter of the way to 28 from 24, 16 + 10 halfway.
    for r, total in enumerate((24.0, 24.0, 28.0, 28.0)):
        assert dot_value(unit, [8, 1], c=16, random=np.array([0, 1, r])) == total
    with pytest.raises(FpsimError, match=r"random: 4 is not a code"):
        unit.dot([0], [0], random=[4, 0])


def test_chunks_within_chunks() -> None:
    """Fives of twos: ((8+1 -> 8) + (1+1) -> 10) + 1 -> 10 or 12 at a tie, even: 12; then exact."""
    unit = chunked(Chunked(Chain(COARSE), Chain(COARSE), 2), Chain(F32), size=5)
    # 8 + 1 = 9 is a tie: 8. 8 + 2 = 10. 10 + 1 = 11 is a tie between 10 and 12: 12 is even.
    assert dot_value(unit, [8, 1, 1, 1, 1]) == 12.0
    assert dot_value(unit, [8, 1, 1, 1, 1, 8, 1]) == 20.0
    # Twos from the start on would put the fifth and the sixth product together.
    flat = chunked(Chain(COARSE), Chain(F32), size=2)
    assert dot_value(flat, [8, 1, 1, 1, 1, 8, 1]) == 8 + 2 + 8 + 1


def test_results_of_chunks_in_chunks() -> None:
    """Results 8, 1, 1, 1 in twos: 8 and 2 make 10; one after another they would stay 8."""
    unit = chunked(Chain(COARSE), Chunked(Chain(COARSE), Chain(COARSE), 2), size=1)
    assert dot_value(unit, [8, 1, 1, 1]) == 10.0
    assert dot_value(chunked(Chain(COARSE), Chain(COARSE), size=1), [8, 1, 1, 1]) == 8.0
    assert dot_value(unit, [8, 1, 1, 1], c=1) == 10.0  # 1 + 8 is a tie: 8, and 2 makes 10 of it


def test_parts_of_parts_are_of_their_own_length() -> None:
    """Seven products in two parts, four and three, each in two parts: 2, 2 and 2, 1."""
    inner = Chunked(Chain(COARSE), Chain(F32), parts=2)
    unit = chunked(inner, Chain(F32), parts=2)
    assert dot_value(unit, [8, 1, 8, 1, 8, 1, 8]) == 8 + 8 + 8 + 8
    assert dot_value(unit, [8, 1, 1, 8, 1, 8, 8]) == 8 + 8 + 8 + 8  # 1 + 8 is 8, too
    assert inner.chunk(3) == 2


def test_block_sums_in_chunks_are_scaled_and_counted_by_sign() -> None:
    """Two signs make two sums per block, 8, -1, 1 and -1: a chunk of three ends in mid-block."""
    stage = Block(2, Chunked(Chain(COARSE), Chain(F32), 3))
    unit = unit_of(stage, sign_split="a")
    scale = np.array([[128, 127], [127, 127]])
    a, b = [4, -1, 1, -1], [1, 1, 1, 1]
    assert dot_value(unit, a, b, a_scale=scale) == 7.0
    x, y = codes_of(unit.a, a), codes_of(unit.b, b)
    trace = oracle.trace(unit, x, y, None, scale)
    results = [n.text for n in trace.nodes if n.name.endswith("acc")]
    assert results == ["8", "7", "8", "-1", "8", "7"]
    assert [n.name for n in trace.nodes if n.name.endswith("acc")] == [
        *["chunk0.acc"] * 3, "chunk1.acc", "acc", "acc"
    ]  # fmt: skip
    got = unit.matmul(x[None], y[:, None], None, scale[None])
    assert F32.decode(got).item() == 7.0


def test_a_trace_names_the_chunks_around_a_node() -> None:
    inner = Chunked(Chain(E4M3), Chain(E4M3), 1)
    unit = unit_of(Chunked(inner, Chunked(Chain(E4M3), Chain(F32), 2), 2))
    trace = unit.trace([1, 2, 3], [2, 2, 2])
    names = [n.name for n in trace.nodes if n.code is not None]
    assert names == [
        "chunk0.chunk0.acc", "chunk0.chunk1.acc", "chunk0.acc", "chunk0.acc",
        "chunk1.chunk0.acc", "chunk1.acc",
        "outer.chunk0.acc", "outer.chunk0.acc", "acc",
    ]  # fmt: skip
    twice = Chunked(Chain(E4M3), Chunked(Chain(E4M3), Chunked(Chain(E4M3), Chain(F32), 2), 1), 2)
    names = [n.name for n in unit_of(twice).trace([1, 2, 3], [2, 2, 2]).nodes if n.code is not None]
    assert names == [
        "chunk0.acc", "chunk0.acc", "chunk1.acc", "outer.chunk0.acc", "outer.chunk1.acc",
        "outer.outer.chunk0.acc", "outer.outer.chunk0.acc", "acc",
    ]  # fmt: skip


# -- against their parts -------------------------------------------------------------------------


def by_parts(stage: Stage, a: Codes, fmt: Any, c: Codes | None, random: Codes | None) -> Codes:
    """Return the sums of values (R, T), codes of ``fmt``, by units without chunks.

    The results of chunks are operands of the outer stage's unit; random integers are dealt out.
    """
    one = codes_of(get_format("e2m1"), np.ones(a.shape[1]))
    if not isinstance(stage, Chunked):
        unit = MacUnit(MacSpec(fmt, get_format("e2m1"), stage))
        own: Any = random
        if not unit.spec.random_bits:
            own = None
        elif random is not None:
            own = random % (1 << unit.spec.random_bits)
        return unit.dot(a, one, c, random=own)
    size, taken, results = stage.chunk(a.shape[1]), 0, []
    for start in range(0, a.shape[1], size):
        part = a[:, start : start + size]
        count = stage.inner.roundings(part.shape[1])
        own = None if random is None else random[:, taken : taken + count]
        results.append(by_parts(stage.inner, part, fmt, None, own))
        taken += count
    left = None if random is None else random[:, taken:]
    return by_parts(stage.outer, np.stack(results, 1), stage.inner.result, c, left)


@pytest.mark.parametrize("name", [name for name in STAGES if "block" not in name])
def test_a_nested_unit_is_its_parts(name: str) -> None:
    stage = STAGES[name]
    unit = unit_of(stage, "e4m3fn", "e2m1")
    rng = np.random.default_rng(4)
    a = unit.a.encode(rng.normal(size=(40, 23)) * 4)
    one = codes_of(unit.b, np.ones(23))
    c = unit.spec.initial.encode(rng.normal(size=40) * 4)
    random = None
    if unit.spec.random_bits:
        random = rng.integers(0, 1 << unit.spec.random_bits, (40, unit.spec.roundings(23)))
    expected = by_parts(stage, a, unit.a, c, random)
    assert np.array_equal(unit.dot(a, one, c, random=random), expected)
    steps = unit.accumulate(a, one, c, random=random)
    assert np.array_equal(steps[:, -1], expected)


# -- neighbours ----------------------------------------------------------------------------------


MIDDLE, LAST = float_format("e5m2"), float_format("e8m3")
NESTED = Chunked(Chunked(sr(E4M3, 3), sr(MIDDLE, 5), 4), sr(LAST, 2), 12)
NEIGHBOURS: dict[str, Stage] = {
    "smaller chunks": replace(NESTED, size=11),
    "larger chunks": replace(NESTED, size=13),
    "smaller chunks inside": replace(NESTED, inner=replace(NESTED.inner, size=3)),
    "larger chunks inside": replace(NESTED, inner=replace(NESTED.inner, size=5)),
    "fewer bits": replace(NESTED, outer=sr(LAST, 1)),
    "fewer bits inside": replace(NESTED, inner=replace(NESTED.inner, outer=sr(MIDDLE, 4))),
    "another format": replace(NESTED, inner=replace(NESTED.inner, outer=sr(E4M3, 5))),
}  # fmt: skip


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_give_other_results(name: str) -> None:
    unit, other = unit_of(NESTED), unit_of(NEIGHBOURS[name])
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 16, (2, 500, 60)).astype(np.uint8)
    units = (unit, other)
    random = rng.integers(0, 1 << 5, (500, max(u.spec.roundings(60) for u in units)))
    codes = [
        u.dot(a, b, random=random[:, : u.spec.roundings(60)] % (1 << u.spec.random_bits))
        for u in units
    ]
    assert (codes[0] != codes[1]).mean() > 0.02


def test_random_integers_in_another_order_give_other_results() -> None:
    unit = unit_of(NESTED)
    rng = np.random.default_rng(7)
    a, b = rng.integers(0, 16, (2, 500, 60)).astype(np.uint8)
    count = unit.spec.roundings(60)
    assert count == 60 + 15 + 5
    random = rng.integers(0, 1 << 5, (500, count))
    own = unit.dot(a, b, random=random)
    assert np.array_equal(own[:5], oracle.dot(unit, a[:5], b[:5], random=random[:5]))
    by_level = np.concatenate([random[:, 15:75], random[:, :15], random[:, 75:]], 1)
    for other in (np.roll(random, 5, 1), random[:, ::-1], by_level):
        assert (unit.dot(a, b, random=other) != own).mean() > 0.1


def test_promotion_at_random_is_no_promotion_to_nearest() -> None:
    """5 000 sums of the same chunks: on average exact, where the nearest is always below."""
    unit = chunked(Chain(F32), sr(COARSE, 8), size=2)
    nearest = chunked(Chain(F32), Chain(COARSE), size=2)
    values = [8, 0, 0.25, 0.25]
    assert dot_value(nearest, values) == 8.0
    x, one = codes_of(unit.a, [values]), codes_of(unit.b, np.ones(4))
    random = np.random.default_rng(1).integers(0, 256, (5000, 2))
    sums = unit.dot(np.repeat(x, 5000, 0), one, random=random)
    mean = unit.result.decode(sums).mean()
    assert mean == pytest.approx(8.5, abs=0.06)


@pytest.mark.parametrize(
    "outer",
    [
        Chain(F32),
        Chain(F32, Rounding.RDN),
        Chunked(Chain(F32), Chain(F32), 2),
        Tree(F32, addend=Joins.FUSED),
        Aligned(2, 40, F32),
        Exact(F32),
        Fixed(62, -58),
    ],
)
def test_a_wide_register_is_exact(outer: Stage) -> None:
    """1 + 2^-52 has 53 significant bits; 1 + 2^-53 has one more than float64."""
    unit = unit_of(Chunked(Fixed(64, -60), outer, 2))
    x, one = codes_of(unit.a, [1, 1, 1, 1, -6, 1]), codes_of(unit.b, np.ones(6))
    for distance in (52, 53, 59, 60):
        scale = np.array([127, 127 - distance] * 3)
        for start in (0.0, -1.0, 5.0):
            c = codes_of(unit.spec.initial, [start])
            expected = oracle.dot(unit, x, one, c[0], scale)
            assert unit.dot(x, one, c[0], scale) == expected
            assert unit.matmul(x[None], one[:, None], c[None], scale[None])[0, 0] == expected
