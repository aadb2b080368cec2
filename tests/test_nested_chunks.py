# SPDX-License-Identifier: Apache-2.0
"""Chunks of chunks, block sums in chunks, and stochastic rounding inside them.

By hand in E8M2 (8 + 1 lies halfway between 8 and 10), against their parts, and against the oracle.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import codes_of, dot_value, float_format, oracle_matmul, unit_of
from numpy.typing import NDArray

from fpsim import FpsimError, MacSpec, MacUnit, RandomBits, Rounding, get_format, get_unit, oracle
from fpsim.engine import with_chunks_of_blocks
from fpsim.order import study as order_study
from fpsim.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Stage, Tree, random_bits_of
from fpsim.vectors.dotfiles import check_dots, write_dots
from fpsim.vectors.dots import plan_dots
from fpsim.vectors.mutants import mutants_of
from fpsim.vectors.mutation import kills
from fpsim.vectors.shape import Shape

pytestmark = pytest.mark.usefixtures("one_thread")

F32 = float_format("e8m23")
COARSE = float_format("e8m2")
E4M3, E5M10 = float_format("e4m3"), float_format("e5m10")
Codes = NDArray[Any]


def sr(fmt: Any, bits: int) -> Chain:
    return Chain(fmt, Rounding.SR, None, bits)


def chunked(inner: Stage, outer: Stage, a: str = "e8m7", **more: Any) -> MacUnit:
    return unit_of(Chunked(inner, outer, **more), a)


#: Every place that a stage may have, with and without random integers; of several widths.
STAGES: dict[str, Stage] = {
    "inner": Chunked(sr(E4M3, 3), Chain(F32), 4),
    "inner, seeds in mid-word": Chunked(sr(E5M10, 5), Tree(E5M10), 4),
    "outer": Chunked(Chain(E4M3), sr(E5M10, 9), 3),
    "both": Chunked(sr(E4M3, 4), Exact(E5M10, Rounding.SR, random_bits=11), 5),
    "grids": Chunked(Fixed(12, 0, "saturate", "sr", 6), Fixed(9, 1, "wrap", "sr", 2), parts=4),
    "saturated at the end": Chunked(
        Fixed(12, 0, "saturate", "sr", 5, "end", E4M3, Rounding.RTZ), sr(E5M10, 5), 7
    ),
    "chunks of chunks": Chunked(Chunked(sr(E4M3, 3), sr(E5M10, 7), 2), sr(E5M10, 4), 5),
    "results in chunks": Chunked(Chain(E4M3), Chunked(sr(E4M3, 4), Chain(F32), 2), parts=7),
    "windows in chunks of chunks": Chunked(
        Chunked(Aligned(2, 4, E5M10), Aligned(3, 3, E5M10), 4),
        Chunked(Tree(E4M3), Chain(F32), 2),
        8,
    ),
    "three deep": Chunked(
        Chunked(Chunked(sr(E4M3, 1), Chain(E4M3), 2), sr(E4M3, 2), parts=3), sr(E4M3, 6), 9
    ),
    "blocks": Chunked(Block(2, sr(E4M3, 5)), sr(E5M10, 6), 6),
    "block sums in chunks": Block(2, Chunked(sr(E4M3, 3), sr(E5M10, 4), 3)),
    "chunks of block sums in chunks": Chunked(
        Block(2, Chunked(Chain(E5M10), sr(E4M3, 3), 2), E4M3), sr(E5M10, 8), 8
    ),
}


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


# -- against the oracle --------------------------------------------------------------------------


def case(stage: Stage, k: int, **more: Any) -> tuple[MacUnit, dict[str, Any]]:
    """Return a unit and scaled operands of a matrix product 3 x K x 9."""
    unit = unit_of(stage, **more)
    rng = np.random.default_rng(k)
    size = unit.spec.block.size if unit.spec.block else 4
    groups = -(-k // size)

    def scales(operand: str, *shape: int) -> Codes:
        shape = (*shape, 2) if unit.spec.splits(operand) else shape
        return rng.integers(125, 130, shape).astype(np.uint8)

    return unit, {
        "a": rng.integers(0, 16, (3, k)).astype(np.uint8),
        "b": rng.integers(0, 16, (k, 9)).astype(np.uint8),
        "c": unit.spec.initial.encode(rng.normal(size=(3, 9)) * 8),
        "a_scale": scales("a", 3, groups),
        "b_scale": scales("b", groups, 9),
        "block": size,
    }


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("k", [23, 40])
def test_matrix_products_equal_the_oracle(name: str, k: int) -> None:
    """With random integers as an array, and as the seed that they are of."""
    unit, args = case(STAGES[name], k)
    spec = unit.spec
    random, seed = {}, {}
    if spec.random_bits:
        count, bits = spec.roundings(k), RandomBits(9)
        integers = bits.integers(27, count, spec.random_bits).reshape(3, 9, count)
        random, seed = {"random": integers}, {"random": bits}
    expected = oracle_matmul(unit, **args, **random)
    assert np.array_equal(unit.matmul(**args, **random), expected)
    assert np.array_equal(unit.matmul(**args, **seed), expected)
    assert unit.plan(**args, **seed).kernel == "chunks"
    dots = args | {"a": args["a"][:, None], "b": args["b"].T[None],
                   "a_scale": args["a_scale"][:, None], "b_scale": args["b_scale"].T[None]}  # fmt: skip
    assert np.array_equal(unit.dot(**dots, **random), expected)
    assert np.array_equal(unit.dot(**dots, **seed), expected)
    if not seed:
        return
    part = args | {n: args[n][1:] for n in ("a", "c", "a_scale")}
    assert np.array_equal(unit.matmul(**part, random=RandomBits(9).after(9)), expected[1:])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("split", ["a", "both"])
def test_block_sums_by_sign_in_chunks(split: str, size: int) -> None:
    """Chunks of two sums are whole blocks of one split operand; others cut blocks."""
    stage = Block(4, Chunked(sr(E4M3, 3), sr(E5M10, 4), size))
    unit, args = case(stage, 18, sign_split=split)
    count = unit.spec.roundings(18)
    bits = RandomBits(2)
    integers = bits.integers(27, count, 4).reshape(3, 9, count)
    expected = oracle_matmul(unit, **args, random=integers)
    assert np.array_equal(unit.matmul(**args, random=integers), expected)
    assert np.array_equal(unit.matmul(**args, random=bits), expected)


def test_a_plan_says_how_every_part_runs() -> None:
    unit = unit_of(
        Chunked(Chunked(sr(E4M3, 8), Tree(E5M10), 4), Chunked(Chain(F32), sr(F32, 8), 2), 8)
    )
    a = np.ones((2, 32), np.uint8)
    why = unit.plan(a, a.T, random=RandomBits(1)).why
    assert why.startswith("chunks of 8: chunks (chunks of 4: ")
    assert "promoted: chunks (chunks of 2: float (" in why
    assert why.count("-sr") >= 2


def test_chunks_of_block_sums_are_chunks_of_blocks() -> None:
    """Five blocks of four in parts of ceil(5 / 2) sums; two sums per block where a is split."""
    chunks = Chunked(Chain(E5M10), Chain(F32), parts=2)
    spec = unit_of(Block(4, chunks)).spec
    flat = with_chunks_of_blocks(spec, 20)
    assert flat is not None
    assert flat.accumulate == Chunked(Block(4, Chain(E5M10)), Chain(F32), 12)
    split = replace(spec, sign_split="a", name="")
    flat = with_chunks_of_blocks(split, 16)  # eight sums, four per part
    assert flat is not None
    assert flat.accumulate == Chunked(Block(4, Chain(E5M10)), Chain(F32), 8)
    assert with_chunks_of_blocks(split, 20) is None  # ten sums, five per part


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


# -- as data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_names_are_read_back(name: str) -> None:
    spec = unit_of(STAGES[name]).spec
    assert MacSpec.from_name(spec.canonical_name) == spec
    assert MacSpec.from_dict(spec.to_dict()) == spec
    assert get_unit(spec.canonical_name).spec.equation == spec.equation


def test_a_name_belongs_to_one_unit_only() -> None:
    """Without brackets: every ``into`` ends the last ``of`` that is open."""
    left = Chunked(Chunked(Chain(E4M3), Chain(E5M10), 2), Chain(F32), 4)
    right = Chunked(Chain(E4M3), Chunked(Chain(E5M10), Chain(F32), 2), 4)
    names = [unit_of(stage).spec.canonical_name for stage in (left, right)]
    inner, middle, outer = "chain-e4m3", "chain-e5m10", "chain-e8m23"
    assert names[0] == f"e2m1-chunked4-of-chunked2-of-{inner}-into-{middle}-into-{outer}"
    assert names[1] == f"e2m1-chunked4-of-{inner}-into-chunked2-of-{middle}-into-{outer}"


@pytest.mark.parametrize(
    "name",
    [
        "e2m1-chunked4-of-chain-e5m10",
        "e2m1-chunked4-of-chain-e5m10-into",
        "e2m1-chunked4-into-chain-e5m10",
        "e2m1-chunked4-of-into-chain-e5m10",
        "e2m1-chunked4-of-chunked2-of-chain-e5m10-into-chain-e8m23",
        "e2m1-chunked4-of-chain-e5m10-into-chain-e8m23-into-chain-e8m23",
        "e2m1-chain-e5m10-into-chain-e8m23",
        "e2m1-block4-into",
        "e2m1-block4-of-chain-e5m10-into-chain-e8m23",
    ],
)
def test_what_looks_like_a_name_is_none(name: str) -> None:
    with pytest.raises(FpsimError, match="neither a published unit"):
        get_unit(name)


def test_random_integers_are_counted() -> None:
    for stage in STAGES.values():
        spec = unit_of(stage).spec
        assert spec.random_bits == random_bits_of(stage)
    three = STAGES["three deep"]  # per nine: parts of three, each in twos of one bit and a sum
    assert three.roundings(20) == 20 + (3 + 3 + 2) + 3
    split = unit_of(Block(4, Chunked(sr(E4M3, 3), sr(E5M10, 4), 3)), sign_split="both").spec
    assert split.roundings(18) == 20 + 7  # five blocks of four sums, in threes
    assert Chunked(Block(4, sr(E4M3, 3)), Chain(F32), 8).roundings(18, 4) == 20


# -- studies and vectors -------------------------------------------------------------------------


def test_sizing_counts_the_steps_of_the_last_sum() -> None:
    """Chunks lose a half at random; the sum of their three pairs is watched, with its integers."""
    stage = Chunked(sr(COARSE, 1), Chunked(Chain(F32), sr(COARSE, 1), 2), 2)
    unit = chunked(stage.inner, stage.outer, size=2)
    x, one = codes_of(unit.a, [[8, 1, 8, 0, 1, 1]]), codes_of(unit.b, np.ones((6, 1)))
    assert unit.spec.roundings(6) == 6 + 2
    random = np.array([0, 1, 0, 0, 0, 0, 0, 1])[None, None]
    got = unit.size(x, one, random=random)
    # 10 + 8 = 18 becomes 16 with the 0, 16 + 2 = 18 becomes 20 with the 1: both steps are inexact.
    assert (got.dots, got.steps, got.inexact, got.swamped) == (1, 2, 2, 0)
    assert got.max_relative_error == pytest.approx(1 / 19)
    assert got.largest == 19.0


def test_sizing_of_block_sums_in_chunks_knows_the_exact_sums() -> None:
    unit = unit_of(Block(2, Chunked(Chain(COARSE), Chain(F32), 2)))
    got = unit.size(codes_of(unit.a, [[6, 2, 1, 0, 0.5, 0]]), codes_of(unit.b, np.ones((6, 1))))
    assert (got.steps, got.inexact) == (2, 0)
    assert got.max_relative_error == pytest.approx(1 / 9.5)


def test_orders_of_nested_units() -> None:
    unit = unit_of(Chunked(Chunked(Chain(COARSE), Chain(COARSE), 2), Chain(F32), 4))
    a = codes_of(unit.a, [6, 0.5, 1, 0.5, 0.5, 4, 1, 0.5])
    assert order_study(unit, a, codes_of(unit.b, np.ones(8)), random_orders=20).depends
    exact = unit_of(Chunked(Chunked(Exact(F32), Exact(F32), 2), Exact(F32), 4))
    assert not order_study(exact, a, codes_of(exact.b, np.ones(8)), random_orders=20).depends


def test_vectors_find_integers_in_the_wrong_order(tmp_path: Any) -> None:
    """The set is written and checked, and every mutant of the random integers dies."""
    unit = unit_of(Chunked(Chunked(sr(E4M3, 3), sr(E4M3, 5), 2), sr(float_format("e8m7"), 4), 4))
    plan = plan_dots(unit, count=300)
    columns, shape = plan.columns(), plan.shape
    found = [m for m in mutants_of(shape) if "random" in m.name and not m.slow]
    names = {m.name for m in found}
    assert names >= {
        "outer stage's random integers first",
        "every chunk followed by its outer random integer",
        "high bits of wider random integers",
        "random integer of the next rounding",
        "inner.inner: one random bit fewer",
    }
    assert not [kill.mutant for kill in kills(shape, columns, found) if kill.alive]
    chunk = [m for m in mutants_of(shape) if "chunks" in m.name]
    assert len(chunk) >= 8
    assert not [kill.mutant for kill in kills(shape, columns, chunk) if kill.alive]
    write_dots(plan, tmp_path / "set")
    assert check_dots(tmp_path / "set") is not None


def test_a_chunk_that_holds_all_products_may_be_larger() -> None:
    """The one lemma of chunk sizes, and where it fails: at K = 5 chunks of four differ."""
    stage = Chunked(Chain(E4M3), Chain(F32), 4)
    for k, equal in ((4, True), (5, False)):
        shape = Shape(unit_of(stage).spec, k)
        wider = [m for m in mutants_of(shape) if m.name == "chunks of 5"]
        columns = plan_dots(shape.spec, strategy="random", count=500, k=k).columns()
        [kill] = kills(shape, columns, wider)
        assert (kill.equivalent is not None) == equal
        assert (kill.vector is None) == equal
