# SPDX-License-Identifier: Apache-2.0
"""The engine's reasons, on both sides of their boundaries, over the data that strains them most.

Each case is computed by the kernel that the engine chose, by the one it would choose next (its
bound made smaller for the test), and by the oracle.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.helpers import float_format, oracle_matmul, unit_of
from support.machines import On, cut_windows

from fpsim import MacSpec, MacUnit, get_format
from fpsim.compute.bounds import largest_sum
from fpsim.compute.operands import MatmulOperands
from fpsim.formats.rounding import Rounding
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.vector import Lane
from fpsim.units.stages import (
    Addend,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Joins,
    ProductRounding,
    Stage,
    Tree,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Codes = NDArray[Any]


def straining(unit: MacUnit, k: int, seed: int = 5) -> tuple[Codes, Codes]:
    """Return operands (4, K), (K, 5): all of the largest magnitude, alternating, tiny, random."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 1 << unit.a.bits, (4, k)).astype(unit.a.dtype)
    b = rng.integers(0, 1 << unit.b.bits, (k, 5)).astype(unit.b.dtype)
    a[~np.isfinite(unit.a.decode(a))] = 1
    b[~np.isfinite(unit.b.decode(b))] = 1
    a[0], a[1] = (unit.a.encode([value])[0] for value in (unit.a.max_value, 1e-30))
    b[:, 0] = b[:, 1] = unit.b.encode([unit.b.max_value])[0]
    b[1::2, 1] = unit.b.encode([-unit.b.max_value])[0]
    a[1, 0], b[0, 2] = a[0, 0], b[0, 0]
    a[1, 1:] = 1
    return a, b


#: Lanes of float32 that hold hardly anything.
NARROW = replace(Machine.host(), float32_bits=1)


def lane(unit: MacUnit, k: int, allowed: Any = lambda _: True, **operands: Any) -> str:
    """Return the lane of the chosen step after comparing three ways to compute the product."""
    a, b = straining(unit, k)
    on, wide = On(unit, Machine.host(), allowed), On(unit, NARROW, allowed)
    plan = on.plan(a, b, **operands)
    codes = on.matmul(a, b, **operands)
    assert np.array_equal(codes, oracle_matmul(unit, a, b, **operands)), plan
    wider = wide.plan(a, b, **operands)
    assert wider.lane in (None, Lane.F64)
    assert np.array_equal(wide.matmul(a, b, **operands), codes), wider
    return str(plan.lane or plan.back_end)


# -- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("products", "bits", "expected"),
    [
        (8, 18, "float"),  # 18 + 2 + 4 = 24
        (8, 19, "double"),
        (6, 19, "float"),  # six products and c: one bit less
        (8, 47, "double"),  # 53
    ],
)
def test_a_window_is_exact_in_lanes_that_hold_it(products: int, bits: int, expected: str) -> None:
    unit = unit_of(Aligned(products, bits, float_format("e8m10")))
    assert lane(unit, 19, cut_windows) == expected
    plan = On(unit, Machine.host(), cut_windows).plan(*straining(unit, 19))
    assert "bits are exact integers" in plan.why


@pytest.mark.parametrize(
    ("products", "bits", "kernel"),
    [
        (8, 47, "aligned64-8-rtz-rtz"),
        (8, 48, "window64-8-rtz-rtz-finite"),
        (8, 56, "window64-8-rtz-rtz-finite"),  # 56 + 2 + 4 = 62
        (15, 56, "scalar"),
    ],
)
def test_a_window_is_exact_in_integers_that_hold_it(products: int, bits: int, kernel: str) -> None:
    unit = unit_of(Aligned(products, bits, float_format("e8m22")), "e4m3fn")
    a, b = straining(unit, 19)
    on = On(unit, Machine.host(), cut_windows)
    assert on.plan(a, b).kernel == kernel
    assert np.array_equal(on.matmul(a, b), oracle_matmul(unit, a, b))


def test_a_register_wider_than_the_window_counts() -> None:
    narrow = Aligned(8, 10, float_format("e8m10"), width=24)
    wide = Aligned(8, 10, float_format("e8m10"), width=25)
    assert lane(unit_of(narrow), 9, cut_windows) == "float"
    assert lane(unit_of(wide), 9, cut_windows) == "double"


@pytest.mark.parametrize(
    ("shift", "expected"), [(-78, "float"), (-79, "double"), (74, "float"), (75, "double")]
)
def test_a_window_stays_within_the_exponents_of_float32(shift: int, expected: str) -> None:
    """Products are multiples of 2^-2 below 2^6; with F = 10 units and sums stay in 2^+-90."""
    unit = unit_of(Aligned(4, 10, float_format("e8m10"), align=Rounding.RNE))
    scale = np.full((4, 1), 127 + shift, dtype=np.uint8)
    assert lane(unit, 9, cut_windows, a_scale=scale) == expected


def test_scales_with_a_significand_take_a_bit_of_the_window() -> None:
    """A term is then below 8 * 2^e."""
    scale = np.full((4, 1), 0x3F, dtype=np.uint8)  # 1.875
    for bits, expected in ((17, "float"), (18, "double")):
        stage = Aligned(8, bits, float_format("e8m10"))
        unit = unit_of(stage, a_scale="ue4m3fn", b_scale="ue4m3fn")
        assert lane(unit, 16, cut_windows, a_scale=scale) == expected


def test_the_bound_on_the_window_is_not_idle() -> None:
    """Lanes three bits too narrow lose the one unit that cancellation should leave."""
    unit = unit_of(Aligned(8, 21, float_format("e8m22")), "e4m3fn")
    values = np.array([[448, 448, 448, 2.0**-5, -448, -448, -448, 0]])
    a, b = unit.a.encode(values), unit.b.encode(np.minimum(np.abs(values.T) + 1, 448))
    b[3] = unit.b.encode([1.0])
    exact = oracle_matmul(unit, a, b)
    assert unit.result.decode(exact).item() == 2.0**-5
    assert np.array_equal(unit.matmul(a, b), exact)
    wrong = On(unit, replace(Machine.host(), float32_bits=27), cut_windows)
    assert wrong.plan(a, b).lane is Lane.F32
    assert not np.array_equal(wrong.matmul(a, b), exact)


@pytest.mark.parametrize(
    "changes",
    [
        {"addend": Addend.JOINED, "normalised": True},
        {"addend": Addend.LATE, "container": float_format("e8m23")},
        {"product_limit": 3},
    ],
    ids=["joined", "late into a container", "limited products"],
)
def test_what_floats_cannot_do_runs_in_integers(changes: dict[str, Any]) -> None:
    settings = {"products": 4, "fraction_bits": 10, "format": float_format("e8m10")} | changes
    unit = unit_of(Aligned(**settings))
    assert lane(unit, 9) == "double"
    assert unit.plan(*straining(unit, 9)).kernel.startswith("window64")


@pytest.mark.parametrize(
    ("bits", "k", "whole"),
    [
        (13, 32, True),  # 32 products stay below 2^11 = 2^(13 - 2): in whatever data
        (13, 8192, False),
        (8, 32, False),
    ],
)
def test_a_window_that_cuts_nothing_is_an_exact_sum(bits: int, k: int, whole: bool) -> None:
    """E2M1 products are multiples of 2^-2: with |sum| < 2^top the window is whole to F = top + 3."""
    unit = unit_of(Aligned(8, bits, float_format("e8m10")))
    a, b = straining(unit, k)
    plan = unit.plan(a, b)
    assert plan.kernel.startswith("whole") == whole, plan
    part = slice(0, min(k, 256))
    a, b = a[:, part], b[part]
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))


@pytest.mark.parametrize(("last", "whole"), [(4, True), (5, False)])
def test_the_bound_on_whole_windows_is_not_idle(last: int, whole: bool) -> None:
    """F = 6 holds sums below 2^5 to the quarter; one more product of 6 and the quarter is lost.

    Products of 6 grow to 24 or 30 below, or 36 above, 2^5; then comes a quarter.
    """
    unit = unit_of(Aligned(1, 6, float_format("e8m10")))
    values = np.array([[6.0] * last + [6.0 * (last == 5), 0.5]])
    a = unit.a.encode(values)
    b = unit.b.encode(np.where(values == 0.5, 0.5, 1.0).T)
    plan = unit.plan(a, b)
    assert plan.kernel.startswith("whole") == whole, plan
    result = unit.result.decode(unit.matmul(a, b)).item()
    assert result == values.sum() - 0.25 - (0.25 if not whole else 0.0)
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))


# -- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bias", "whole"), [(1, True), (12, False)])
def test_a_window_of_blocks_is_aligned_by_their_scales(bias: int, whole: bool) -> None:
    """Sums of 2^-24 beside scales of one are cut off by a window of 20 bits, however narrow."""
    unit = unit_of(Block(4, Aligned(2, 20, float_format("e8m23"))), f"e2m1b{bias}")
    a, b = straining(unit, 8)
    scale = np.full((4, 2), 127, dtype=np.uint8)
    plan = unit.plan(a, b, a_scale=scale)
    assert plan.step is not None and (plan.step.kind == "whole") == whole, plan
    assert np.array_equal(unit.matmul(a, b, a_scale=scale), oracle_matmul(unit, a, b, None, scale))


@pytest.mark.parametrize(("size", "expected"), [(64, "float"), (65, "double")])
def test_block_sums_are_exact_in_lanes_that_hold_them(size: int, expected: str) -> None:
    """E3M2 products are multiples of 2^-8 below 2^10: 64 of them fit 24 bits, 65 may not."""
    unit = unit_of(Block(size, Chain(float_format("e8m10"))), "e3m2")
    assert lane(unit, 2 * size) == expected
    assert unit.plan(*straining(unit, 2 * size)).kernel.startswith(f"block{size} ")


@pytest.mark.parametrize(("scale", "expected"), [("e8m6", "float"), ("e8m7", "double")])
def test_scales_add_their_bits_to_a_block(scale: str, expected: str) -> None:
    """A block of 32 E2M1 products has 13 bits, its scales 7 or 8 and 4 more: 24 or 25."""
    stage = Block(32, Aligned(4, 8, float_format("e8m10")))
    unit = unit_of(stage, a_scale=scale, b_scale="ue4m3fn")
    scales = {
        "a_scale": unit.spec.a_scale.encode(np.full((4, 2), 1.75)),
        "b_scale": unit.spec.b_scale.encode(np.full((2, 5), 1.25)),
    }
    assert lane(unit, 64, **scales) == expected


# -- trees and chunks ----------------------------------------------------------------------------


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("operand", "expected"),
    [("e5m10", "float"), ("e5m11", "float"), ("e5m12", "double"), ("e8m7", "double")],
)
def test_a_float32_tree_needs_products_that_float32_holds(operand: str, expected: str) -> None:
    """Two significands of 12 bits fit 24; bfloat16 products overflow float32."""
    unit = unit_of(Tree(float_format("e8m23"), products=4), operand)
    assert lane(unit, 10) == expected


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        (Tree(float_format("e5m10")), "tree"),
        (Tree(float_format("e5m10"), addend=Joins.LEAF), "tree"),
        (Tree(float_format("e5m10"), addend=Joins.FUSED), "free8-fused-plain"),
        (Tree(float_format("e5m10"), radix=4), "free4-root-plain"),
        (Tree(float_format("e5m10"), lanes=4), "tree-11-lanes4"),
        (Tree(float_format("e5m10"), lanes=4, products=8), "tree-8-lanes4"),
        (Tree(float_format("e5m10"), lanes=4, addend=Joins.LEAF), "tree-11-lanes4-leaf"),
        (Chunked(Chain(float_format("e4m3")), Chain(float_format("e8m23")), size=4), "chunk4"),
        (Chunked(Exact(float_format("e4m3")), Tree(float_format("e8m7")), parts=3), "chunk4"),
    ],
    ids=lambda value: getattr(value, "short_name", value),
)
def test_every_path_of_composites(stage: Stage, name: str) -> None:
    unit = unit_of(stage)
    a, b = straining(unit, 11)
    c = get_format(unit.result.name).encode(np.linspace(-3, 3, 20).reshape(4, 5))
    plan = unit.plan(a, b, c=c)
    assert name in plan.kernel
    assert plan.why
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize(("k", "kernel"), [(64, "tree-64"), (65, "scalar")])
@pytest.mark.parametrize("product", ["fused", "rounded"])
def test_trees_are_unrolled_up_to_64_leaves(k: int, kernel: str, product: str) -> None:
    unit = unit_of(Tree(float_format("e5m10"), product=ProductRounding(product)))
    a, b = straining(unit, k)
    c = get_format("e5m10").encode(np.linspace(-3, 3, 20).reshape(4, 5))
    assert unit.plan(a, b, c=c).kernel.startswith(kernel)
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_a_subtree_of_zeros_keeps_their_sign() -> None:
    """-0 is what leaves a sum of negative zeros negative: no +0 may slip in between."""
    unit = unit_of(Tree(float_format("e5m10")))
    a, b = np.full((1, 130), 8), np.full((130, 1), 3)  # -0 * 1.5
    c = np.full((1, 1), 0x8000)
    assert unit.matmul(a, b, c).item() == 0x8000


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("operand", "rounding", "scale", "reach", "block", "kernel"),
    [
        ("e4m3fn", "rne", "e8m0", 1, 0, "double"),  # 16 products of 36 bits, scaled: 44
        ("e4m3fn", "rne", "e8m0", 5, 0, "block16 slice64"),
        ("e4m3fn", "rup", "e8m0", 20, 0, "block16 slice64"),
        ("e4m3fn", "rto", "e8m0", 90, 0, "block16 slice64"),  # eight
        ("e4m3fn", "rne", "e8m0", 125, 0, "slice64"),  # too many to be worth it
        ("e5m2", "rne", "e8m0", 90, 0, "slice64"),  # of 64 bits
        ("e4m3fn", "rne", "e8m7", 90, 0, "slice64"),  # 40 and twice 8 for the scales: 56
        ("e4m3fn", "rdn", "e8m0", 90, 0, "block16 slice64"),  # zeros are done again
        ("e4m3fn", "rne", "e8m0", 5, 16, "block16 slice64"),
        ("e4m3fn", "rdn", "e8m0", 90, 16, "block16 slice64"),
        ("e4m3fn", "rne", "e8m0", 125, 16, "slice64"),
    ],
)
def test_scaled_blocks_are_summed_in_lanes_that_hold_them(
    operand: str, rounding: str, scale: str, reach: int, block: int, kernel: str
) -> None:
    stage = Exact(float_format("e8m23"), Rounding(rounding))
    unit = unit_of(Block(block, stage) if block else stage, operand, a_scale=scale, b_scale=scale)
    a, b = straining(unit, 48)
    rng = np.random.default_rng(2)
    scales = {
        "a_scale": unit.spec.a_scale.encode(np.exp2(rng.integers(-reach, reach + 1, (4, 3)))),
        "b_scale": unit.spec.b_scale.encode(np.exp2(rng.integers(-reach, reach + 1, (3, 5)))),
    }
    assert unit.plan(a, b, **scales).kernel.removeprefix("bytes ") == kernel
    c = unit.result.encode(np.exp2(rng.integers(-reach, reach + 1, (4, 5))))
    for start in (None, c):
        expected = oracle_matmul(unit, a, b, start, **scales)
        assert np.array_equal(unit.matmul(a, b, start, **scales), expected)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(("reach", "limit"), [(None, None), (3, 5)])
def test_joined_windows_run_in_lanes(lanes: int, reach: int | None, limit: int | None) -> None:
    stage = Aligned(
        6, 12, float_format("e8m10"), rounding=Rounding.RNE, addend=Addend.JOINED, lanes=lanes,
        join_sum_bits=15, join_addend_bits=9, join_reach=reach, product_limit=limit,
    )  # fmt: skip
    unit = unit_of(stage)
    a, b = straining(unit, 20)
    # Rounded down, an addend far below the products is a unit less, unless it is out of reach.
    far = -np.exp2(-np.arange(10.0))
    c = unit.result.encode(np.concatenate([np.linspace(-900, 900, 10), far]).reshape(4, 5))
    assert unit.plan(a, b, c=c).kernel.startswith("joined64")
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("biases", [(1, 1), (-60, 79), (100, -59)])
def test_no_sum_is_beyond_the_bound_of_cauchy_and_schwarz(biases: tuple[int, int]) -> None:
    """Squares of numbers near 2^-76 are zero in float32, and must count beside those near 2^63."""
    a, b = (get_format(f"e2m1b{bias}") for bias in biases)
    spec = MacSpec(a=a, b=b, accumulate=Exact(get_format("e8m23")))
    codes = np.arange(4096) % 8
    args = MatmulOperands.check(spec, codes[None], codes[:, None])
    sums = float(np.dot(*(np.abs(fmt.decode(codes)) for fmt in (a, b))))
    # Both rows are multiples of each other, so that the bound is the sum but for its slack.
    assert sums <= largest_sum(args) <= sums * 1.0001
