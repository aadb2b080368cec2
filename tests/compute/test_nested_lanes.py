# SPDX-License-Identifier: Apache-2.0
"""Matrix products of nested units, with arrays of random integers and with seeds: scalar code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.helpers import oracle_matmul, unit_of
from support.nested_cases import E4M3, E5M10, F32, STAGES, Codes, sr

from fpsim import FloatFormat, MacSpec, MacUnit, Overflow, RandomBits
from fpsim.formats.floating import Subnormals
from fpsim.units.stages import Block, Chain, Chunked, Fixed, Stage

pytestmark = pytest.mark.usefixtures("one_thread")


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
    assert unit.plan(**args, **seed).back_end == "scalar"
    dots = args | {"a": args["a"][:, None], "b": args["b"].T[None],
                   "a_scale": args["a_scale"][:, None], "b_scale": args["b_scale"].T[None]}  # fmt: skip
    assert np.array_equal(unit.dot(**dots, **random), expected)
    assert np.array_equal(unit.dot(**dots, **seed), expected)
    if not seed:
        return
    part = args | {n: args[n][1:] for n in ("a", "c", "a_scale")}
    assert np.array_equal(unit.matmul(**part, random=RandomBits(9).after(9)), expected[1:])


@pytest.mark.parametrize(
    "outer",
    [
        sr(E4M3, 5),
        Fixed(10, 0, "saturate", "sr", 3),
        Fixed(8, 0, "saturate", overflow_at="end"),
        Fixed(8, 0, "saturate", convert=E4M3),
    ],
    ids=lambda stage: stage.short_name,
)
def test_more_results_than_are_kept_at_a_time(outer: Stage) -> None:
    """A serial sum goes on from its last code, with its next integer; others get all results."""
    inner = Chain(E4M3, overflow=Overflow.SATURATE)
    unit, args = case(Chunked(inner, outer, 2), 83)
    random = {}
    if unit.spec.random_bits:
        random = {"random": RandomBits(3).integers(27, 42, unit.spec.random_bits).reshape(3, 9, 42)}
    expected = oracle_matmul(unit, **args, **random)
    assert np.array_equal(unit.matmul(**args, **random), expected)
    if random:
        assert np.array_equal(unit.matmul(**args, random=RandomBits(3)), expected)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("split", ["a", "b", "both"])
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


@pytest.mark.parametrize("code", [0x7C, 0x7D], ids=["infinite", "nan"])
@pytest.mark.parametrize("nan_scale", ["nan", "zero"])
def test_a_chunk_in_mid_word_may_begin_with_any_scale(nan_scale: str, code: int) -> None:
    """Three chunks of two terms, five integers to a word: what comes before must not show."""
    block = Block(2, sr(E5M10, 6), nan_scale=nan_scale)  # type: ignore[arg-type]
    for stage, groups in (
        (Chunked(block, Chain(F32), 4), 6),
        (Chunked(block.into, Chain(F32), 4), 12),
    ):
        unit = unit_of(stage, a_scale="e5m2")
        rng = np.random.default_rng(3)
        a, b = rng.integers(1, 7, (2, 3, 12)).astype(np.uint8)
        scale = rng.integers(0x38, 0x44, (3, groups)).astype(np.uint8)
        scale[1, groups // 3] = scale[2, groups // 3 + 1] = code
        bits = RandomBits(4)
        integers = bits.integers(9, unit.spec.roundings(12), 6).reshape(3, 3, -1)
        expected = oracle_matmul(unit, a, b.T, a_scale=scale, random=integers)
        assert np.array_equal(unit.matmul(a, b.T, a_scale=scale, random=bits), expected)


def test_chunks_in_mid_word_without_terms_of_zero() -> None:
    """Four sums to a block take integers of one word and the next; elements may have no zero.

    Products whose scales differ by sign are one term each.
    """
    split, args = case(Chunked(Block(2, sr(E4M3, 6)), Chain(F32), 4), 18, sign_split="both")
    plain = {name: args[name] for name in ("a", "b", "c")}
    none = FloatFormat(2, 1, 1, subnormals=Subnormals.NONE)
    signs, products = case(Chunked(sr(E4M3, 6), Chain(F32), 4), 18, sign_split="both")
    zeroless = MacUnit(MacSpec(none, none, Chunked(sr(E4M3, 6), Chain(F32), 4)))
    assert (none.decode(np.arange(16)) != 0).all()
    for unit, given in ((split, args), (signs, products), (zeroless, plain)):
        bits = RandomBits(4)
        integers = bits.integers(27, unit.spec.roundings(18), 6).reshape(3, 9, -1)
        expected = oracle_matmul(unit, **given, random=integers)
        assert np.array_equal(unit.matmul(**given, random=bits), expected)
