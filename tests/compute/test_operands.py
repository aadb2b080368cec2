# SPDX-License-Identifier: Apache-2.0
"""Operands that do not fit: one clear error each, from `dot`, `matmul` and the oracle alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.helpers import chain, exact, fixed

from fpsim import FpsimError, MacUnit, get_unit, oracle

UNIT = get_unit("e2m1-chain-e5m10")
A = np.zeros((2, 4), dtype=np.uint8)
B = np.zeros((4, 3), dtype=np.uint8)

#: changed argument, words of the error; for a product of (2, 4) and (4, 3) codes
WRONG_MATMUL: list[tuple[dict[str, Any], list[str]]] = [
    ({"a": A.astype(np.float32)}, ["a", "float32", "e2m1", "unsigned integers"]),
    ({"b": B.astype(bool)}, ["b", "bool", "e2m1"]),
    ({"a": [["1"]]}, ["a", "e2m1"]),
    ({"a": A + 16}, ["a", "16", "e2m1", "0..15"]),
    ({"b": B.astype(np.int64) - 1}, ["b", "-1", "e2m1", "0..15"]),
    ({"a": A[0]}, ["a", "(4,)", "matrix"]),
    ({"b": B[None]}, ["b", "(1, 4, 3)", "matrix"]),
    ({"a": A[:, :0]}, ["a", "(2, 0)", "matrix"]),
    ({"b": B[:, :0]}, ["b", "(4, 0)", "matrix"]),
    ({"a": A[:0]}, ["a", "(0, 4)", "matrix"]),
    ({"b": B[:3]}, ["b", "K is 3", "4 in a"]),
    ({"c": np.zeros((2, 3))}, ["c", "float64", "e5m10"]),
    ({"c": np.zeros((3, 2), dtype=np.uint16)}, ["c", "(3, 2)", "(2, 3)"]),
    ({"c": np.zeros(3, dtype=np.uint16)}, ["c", "(3,)", "(2, 3)"]),
    ({"c": np.full((2, 3), 1 << 16)}, ["c", "65536", "e5m10", "0..65535"]),
    ({"a_scale": np.full((2, 1), 1.0)}, ["a_scale", "float64", "e8m0"]),
    ({"a_scale": np.full((2, 1), 256)}, ["a_scale", "256", "e8m0", "0..255"]),
    ({"a_scale": np.full((1, 1), 127)}, ["a_scale", "(1, 1)", "(2, G)"]),
    ({"a_scale": np.full(2, 127)}, ["a_scale", "(2,)", "(2, G)"]),
    ({"b_scale": np.full((3, 1), 127)}, ["b_scale", "(3, 1)", "(G, 3)"]),
    ({"a_scale": np.full((2, 3), 127)}, ["a_scale", "3 groups", "K = 4", "block="]),
    ({"a_scale": np.full((2, 0), 127)}, ["a_scale", "0 groups", "K = 4"]),
    ({"b_scale": np.full((5, 3), 127)}, ["b_scale", "5 groups", "K = 4"]),
    ({"a_scale": np.full((2, 2), 127), "block": 3.0}, ["block", "3.0", "positive integer"]),
    ({"a_scale": np.full((2, 2), 127), "block": 0}, ["block", "0", "positive integer"]),
    ({"a_scale": np.full((2, 2), 127), "block": -2}, ["block", "-2", "positive integer"]),
    ({"a_scale": np.full((2, 2), 127), "block": 4}, ["a_scale", "2 groups", "blocks of 4", "1 are"]),
    ({"b_scale": np.full((1, 3), 127), "block": 3}, ["b_scale", "1 groups", "blocks of 3", "2 are"]),
    ({"random": np.zeros((2, 3, 4), dtype=int)}, ["random", "no random bits"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), WRONG_MATMUL, ids=lambda x: str(list(x))[:40])
def test_matmul_refuses(change: dict[str, Any], words: list[str]) -> None:
    arguments = {"a": A, "b": B, **change}
    for compute in (UNIT.matmul, UNIT.plan):
        with pytest.raises(FpsimError) as error:
            compute(**arguments)
        for word in words:
            assert word in str(error.value)


WRONG_DOT: list[tuple[dict[str, Any], list[str]]] = [
    ({"a": A.astype(np.float32)}, ["a", "float32", "e2m1"]),
    ({"a": A + 16}, ["a", "16", "0..15"]),
    ({"b": np.zeros((2, 5), dtype=np.uint8)}, ["b", "K is 5", "4 in a"]),
    ({"a": np.uint8(3)}, ["a", "()", "along K"]),
    ({"a": A[:, :0], "b": A[:, :0]}, ["a", "(2, 0)", "along K"]),
    ({"b": np.zeros((3, 4), dtype=np.uint8)}, ["(2,)", "(3,)", "broadcast"]),
    ({"c": np.zeros(5, dtype=np.uint16)}, ["(2,)", "(5,)", "broadcast"]),
    ({"c": np.full(2, -1)}, ["c", "-1", "e5m10"]),
    ({"a_scale": np.full((2, 3), 127)}, ["a_scale", "3 groups", "K = 4"]),
    ({"a_scale": np.full((5, 2), 127)}, ["(2,)", "(5,)", "broadcast"]),
    ({"b_scale": np.uint8(127)}, ["b_scale", "0 groups", "K = 4"]),
    ({"b_scale": np.full(2, 300)}, ["b_scale", "300", "e8m0"]),
    ({"a_scale": np.full((2, 2), 127), "block": 4}, ["a_scale", "2 groups", "blocks of 4"]),
    ({"a_scale": np.full((2, 2), 127), "block": "2"}, ["block", "'2'", "positive integer"]),
    ({"random": np.zeros(4, dtype=int)}, ["random", "no random bits"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), WRONG_DOT, ids=lambda x: str(list(x))[:40])
def test_dot_refuses(change: dict[str, Any], words: list[str]) -> None:
    arguments = {"a": A, "b": A, **change}
    for compute in (UNIT.dot, UNIT.accumulate, lambda **kw: oracle.dot(UNIT, **kw)):
        with pytest.raises(FpsimError) as error:
            compute(**arguments)
        for word in words:
            assert word in str(error.value)


@pytest.mark.parametrize("method", ["dot", "accumulate", "matmul", "plan"])
def test_a_misspelt_argument_is_not_ignored(method: str) -> None:
    """``blok=2`` would otherwise compute with another block size, and say nothing."""
    b = B if method in ("matmul", "plan") else A
    with pytest.raises(TypeError, match="blok"):
        getattr(UNIT, method)(A, b, blok=2)
    with pytest.raises(TypeError, match="blok"):
        oracle.dot(UNIT, A, A, blok=2)


STOCHASTIC = [
    (chain("e5m10", "sr", random_bits=8), 4),
    (fixed(16, 0, rounding="sr", random_bits=8), 4),
    (exact("e5m10", "sr", random_bits=8), 1),
]


@pytest.mark.parametrize(("unit", "steps"), STOCHASTIC, ids=lambda x: str(getattr(x, "name", x)))
def test_random_integers(unit: MacUnit, steps: int) -> None:
    """One integer per rounding; an exact unit rounds once."""
    good = np.zeros((2, 3, steps), dtype=np.uint8)
    assert unit.matmul(A, B, random=good).shape == (2, 3)
    assert unit.dot(A, A, random=good[:, 0]).shape == (2,)
    wrong: list[tuple[Any, list[str]]] = [
        (None, ["random", "stochastically"]),
        (good + 0.5, ["random", "float"]),
        (good.astype(int) - 1, ["random", "-1", "0..255"]),
        (good.astype(int) + 256, ["random", "256", "0..255"]),
        (np.zeros((2, 3, steps + 1), dtype=int), ["random", f"(2, 3, {steps})"]),
        (np.zeros((3, 3, steps), dtype=int), ["random", "(3, 3"]),
    ]
    for random, words in wrong:
        with pytest.raises(FpsimError) as error:
            unit.matmul(A, B, random=random)
        for word in words:
            assert word in str(error.value)


# -- what does fit -------------------------------------------------------------------------------


def random_codes(*shape: int, top: int = 16, seed: int = 7) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, top, shape)


def test_leading_shapes_broadcast() -> None:
    a, b, c = random_codes(3, 1, 5), random_codes(4, 5), random_codes(2, 1, 1, top=30000)
    scale = 120 + random_codes(4, 5)
    result = UNIT.dot(a, b, c, a_scale=scale)
    assert result.shape == (2, 3, 4)
    assert np.array_equal(result, oracle.dot(UNIT, a, b, c, a_scale=scale))
    for i, j, k in np.ndindex(2, 3, 4):
        one = UNIT.dot(a[j, 0], b[k], c[i, 0, 0], a_scale=scale[k])
        assert one == result[i, j, k]


def test_one_dot_product_is_a_scalar() -> None:
    assert UNIT.dot([7, 7], [7, 1]).shape == ()
    assert UNIT.dot([7, 7], [7, 1], 0).shape == ()
    assert UNIT.accumulate([7, 7], [7, 1]).shape == (2,)
    assert oracle.dot(UNIT, [7, 7], [7, 1]).shape == ()


def test_results_have_the_accumulators_dtype() -> None:
    for unit in (UNIT, chain("e4m3fn"), fixed(24, -2), fixed(40, -2), exact("e8m23")):
        assert unit.matmul(A, B).dtype == unit.result.dtype
        assert unit.dot(A, A).dtype == unit.result.dtype
        assert unit.accumulate(A, A).dtype == unit.result.dtype
        assert oracle.dot(unit, A, A).dtype == unit.result.dtype


def test_memory_layout_does_not_matter() -> None:
    a, b = random_codes(6, 8), random_codes(8, 10)
    c = random_codes(6, 10, top=30000)
    scale = 120 + random_codes(6, 8)
    expected = UNIT.matmul(a, b, c, scale)
    views = UNIT.matmul(
        np.asfortranarray(a),
        b.T.copy().T,
        np.repeat(c, 2, axis=1)[:, ::2],
        scale.astype(">i4"),
    )
    assert np.array_equal(views, expected)
    read_only = a.copy()
    read_only.flags.writeable = False
    assert np.array_equal(UNIT.matmul(read_only, b, c, scale), expected)


def test_inputs_are_left_alone() -> None:
    a, b = random_codes(3, 4).astype(np.uint8), random_codes(4, 5).astype(np.uint8)
    c, scale = random_codes(3, 5, top=30000).astype(np.uint16), np.full((3, 2), 130, dtype=np.uint8)
    before = [x.copy() for x in (a, b, c, scale)]
    UNIT.matmul(a, b, c, scale)
    UNIT.dot(a[:, None], b.T[None], c, scale[:, None])
    assert all(np.array_equal(x, y) for x, y in zip((a, b, c, scale), before, strict=True))


@pytest.mark.parametrize("unit", [UNIT, fixed(20, -1, "saturate"), exact("e8m10"), fixed(60, -1, "saturate")])  # fmt: skip
@pytest.mark.parametrize("block", [1, 2, 3, 5, 7, 32])
def test_blocks_of_scales_and_a_partial_last_one(unit: MacUnit, block: int) -> None:
    """Scale g covers elements g * block up to the next; the last block may be short."""
    a, b = random_codes(2, 7), random_codes(7, 3, seed=8)
    groups = -(-7 // block)
    a_scale = 122 + random_codes(2, groups, top=10)
    b_scale = 122 + random_codes(groups, 3, top=10, seed=9)
    spread = np.arange(7) // block
    expected = unit.matmul(a, b, None, a_scale[:, spread], b_scale[spread])
    assert np.array_equal(unit.matmul(a, b, None, a_scale, b_scale, block=block), expected)
    dots = unit.dot(a[:, None], b.T[None], None, a_scale[:, None], b_scale.T[None], block=block)
    assert np.array_equal(dots, expected)
    if 7 % groups == 0:
        assert np.array_equal(unit.matmul(a, b, None, a_scale, b_scale), expected)


def test_sides_may_have_different_blocks() -> None:
    a, b = random_codes(2, 12), random_codes(12, 3, seed=8)
    a_scale = 122 + random_codes(2, 3, top=10)
    b_scale = 122 + random_codes(4, 3, top=10, seed=9)
    expected = UNIT.matmul(a, b, None, np.repeat(a_scale, 4, 1), np.repeat(b_scale, 3, 0))
    assert np.array_equal(UNIT.matmul(a, b, None, a_scale, b_scale), expected)
    dots = UNIT.dot(a[:, None], b.T[None], None, a_scale[:, None], b_scale.T[None])
    assert np.array_equal(dots, expected)


@pytest.mark.parametrize("name", ["e2m1-chain-e5m10", "nvidia-h100-e4m3", "exact"])
def test_no_dot_products_are_no_codes(name: str) -> None:
    unit = get_unit(name)
    a, b = np.zeros((0, 4), unit.a.dtype), np.zeros((3, 1, 4), unit.b.dtype)
    codes = unit.dot(a, b)
    assert codes.shape == (3, 0) and codes.dtype == unit.result.dtype


def test_many_dot_products_equal_few() -> None:
    """From about four million products on they run in vector code; fewer are scalar code."""
    unit, rows, length = get_unit("e2m1-chain-e5m10"), 1 << 16, 65
    rng = np.random.default_rng(6)
    a, b = (rng.integers(0, 16, (rows, length), dtype=np.uint8) for _ in range(2))
    c = rng.integers(0, 1 << 15, rows, dtype=np.uint16)
    many = unit.dot(a, b, c)
    parts = [slice(start, start + 4096) for start in range(0, rows, 4096)]
    few = np.concatenate([unit.dot(a[part], b[part], c[part]) for part in parts])
    assert np.array_equal(many, few)
