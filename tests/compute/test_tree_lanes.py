# SPDX-License-Identifier: Apache-2.0
"""Tree nodes in vector lanes: exact sums, plain sums, products cut in two.

Expected codes are the oracle's, or the scalar kernels' where a space is exhausted.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from support.helpers import DETERMINISTIC, HOST, by_default, float_format, oracle_matmul, unit_of
from support.lane_cases import operands, runs_as
from support.machines import MACHINES, On

from fpsim import get_unit, oracle
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.llvm.machine import Machine
from fpsim.units.stages import Block, Chain, Joins, ProductRounding, Tree

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.one_in(4)
@pytest.mark.parametrize("rounding", ["rne", "rdn", "rto"])
@pytest.mark.parametrize(
    "settings",
    [
        {"products": 4, "radix": 4, "addend": Joins.FUSED},  # CDNA1
        {"products": 8, "radix": 3},
        {"products": 5, "addend": Joins.FUSED},
        {"products": 6, "lanes": 2, "radix": 3, "addend": Joins.LEAF},
        {"products": 7, "radix": 4, "product": ProductRounding.ROUNDED},
    ],
)
def test_nodes_round_exact_sums(rounding: str, settings: dict[str, Any]) -> None:
    """Fields of 80 bits: neither products nor sums fit a float64."""
    unit = unit_of(Tree(float_format("e8m23"), Rounding(rounding), **settings), "e5m10")
    runs_as(unit, 14, binades=12)
    a, b, c = operands(unit, 14, 12)
    c[0, 0] = unit.result.encode(-0.0)  # whose sign two parts of a product would lose
    kernel = unit.plan(a, b, c=c).kernel
    assert any(name in kernel for name in ("-exact-", "-split-special"))
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("directed", by_default([True, False], [True]))
@pytest.mark.parametrize(
    ("settings", "operand", "kernel"),
    [
        ({"products": 4, "radix": 4, "addend": Joins.FUSED}, "e5m10", "wide-float{}-split"),
        ({"products": 16, "radix": 4}, "e5m10", "wide-float{}-split"),
        ({"products": 16, "radix": 4}, "e4m3fn", "root-wide-float{}"),
        ({"products": 9, "radix": 3, "addend": Joins.LEAF}, "e4m3fn", "leaf-wide-float{}"),
    ],
)
def test_nodes_add_in_float64(
    settings: dict[str, Any], operand: str, kernel: str, directed: bool
) -> None:
    if directed and "avx512f" not in HOST:
        pytest.skip("needs AVX-512F")
    unit = unit_of(Tree(float_format("e8m23"), **settings), operand)
    on = On(unit, Machine.host() if directed else MACHINES["f16c"])
    a, b, c = operands(unit, 35, 11)
    c[c == unit.result.encode(-0.0)] = 0
    a[1] |= unit.a.sign_bit  # type: ignore[union-attr]
    for addend in (None, c):
        assert kernel.format("-directed" * directed) in on.plan(a, b, c=addend).kernel
        assert np.array_equal(on.matmul(a, b, addend), oracle_matmul(unit, a, b, addend))


@pytest.mark.parametrize(
    "rounding", by_default(["rne", "rup", "rdn", "rtz", "rto"], ["rne", "rup"])
)
@pytest.mark.parametrize("directed", [True, False])
def test_a_bit_below_float64_breaks_a_tie(rounding: str, directed: bool) -> None:
    """2^36 + 2^12 is halfway between two float32 numbers; 2^-18 more or less decides."""
    if directed and "avx512f" not in HOST:
        pytest.skip("needs AVX-512F")
    tree = Tree(float_format("e8m23"), Rounding(rounding), products=4, radix=4)
    unit = unit_of(tree, "e4m3fn")
    low = 2.0**-9
    a = unit.a.encode([[64.0, low, 0, 0], [64.0, -low, 0, 0], [0, low, 0, 0], [64.0, 0, 0, 0]])
    b = unit.b.encode(np.repeat([[64.0], [low], [0.0], [0.0]], 4, 1))
    c = unit.result.encode(np.array([[1.0, 1 + 2.0**-23, -1.0, -1 - 2.0**-23]] * 4) * 2.0**36)
    on = On(unit, Machine.host() if directed else MACHINES["f16c"])
    assert "wide" in on.plan(a, b, c=c).kernel
    assert np.array_equal(on.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_a_bit_below_the_parts_of_products_breaks_a_tie() -> None:
    """As above, with 2^-40: c is far above the sum of products, and below it."""
    unit = get_unit("amd-cdna1b")
    low = 2.0**-20
    a = unit.a.encode([[64.0, low, 0, 0], [64.0, -low, 0, 0], [-64.0, low, 0, 0]])
    b = unit.b.encode(np.repeat([[64.0], [low], [0.0], [0.0]], 4, 1))
    c = unit.result.encode([[2.0**36, 2.0**36 + 2.0**13, -(2.0**36), 2.0**-12]] * 3)
    assert "split" in unit.plan(a, b, c=c).kernel
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("addend", [Joins.FUSED, Joins.ROOT, Joins.LEAF])
def test_addends_that_are_special_stay_in_lanes(addend: Joins) -> None:
    """-0 meets zeros of both signs and sums that cancel; infinities and NaN meet anything."""
    unit = unit_of(Tree(float_format("e8m23"), products=4, radix=4, addend=addend), "e5m10")
    a = unit.a.encode([[0.0] * 8, [-0.0] * 8, [0.0, -0.0] * 4, [3.0, -3.0] * 4, [2.0**-24] * 8])
    b = unit.b.encode(np.full((8, 7), 2.0**-24))
    b[:, 6] = unit.b.encode(60000.0)
    starts = [-0.0, 0.0, np.inf, -np.inf, np.nan, -(2.0**-140), -0.0]
    c = unit.result.encode([starts] * 5, "rne", "inf")
    assert unit.plan(a, b, c=c).kernel.endswith("split-special")
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("rounding", by_default(DETERMINISTIC, [Rounding.RTZ, Rounding.RDN]))
@pytest.mark.parametrize(
    ("result", "operand", "settings"),
    [
        ("e8m23", "e5m10", {"products": 32, "radix": 32, "addend": Joins.FUSED}),
        ("e8m23", "e8m7", {"products": 34, "radix": 17}),
        ("e4m3fn", "e8m7", {"products": 24, "radix": 8, "addend": Joins.LEAF}),
        ("e5m10_flush", "e5m10", {"radix": 64, "product": ProductRounding.ROUNDED}),
    ],
)
def test_nodes_of_many_children_are_scalar_code(
    result: str, operand: str, settings: dict[str, Any], rounding: Rounding
) -> None:
    unit = unit_of(Tree(float_format(result), rounding, **settings), operand)
    assert runs_as(unit, 50, 14) == "scalar"


def test_parts_of_products_cancel() -> None:
    """5 - 2.5 - 2.5 is 8 - 8 in parts cut at 2^3: nothing is left but c, or what is far below."""
    unit = get_unit("amd-cdna1b")
    low = 2.0**-24
    a = unit.a.encode([[5.0, -2.5, -2.5, 0.0], [5.0, -2.5, -2.5, low], [4096.0, -4096.0, 5.0, low]])
    b = unit.b.encode(np.array([[1.0, 1, 1, 1], [1, 1, 1, low], [4096, 4096, 1, low]]).T)
    tiny = 2.0**-60 * (1 + 2.0**-23)
    c = unit.result.encode(np.array([[tiny, -tiny, -5.0]] * 3))
    plan = unit.plan(a, b, c=c)
    assert "split" in plan.kernel and "2^3:" in plan.why
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))
    assert unit.result.decode(unit.matmul(a, b, c))[0, 0] == tiny


@pytest.mark.parametrize(
    "rounding", by_default(["rne", "rtz", "rup", "rdn", "rna", "rto"], ["rne"])
)
@pytest.mark.parametrize(
    ("result", "products", "settings", "kernel"),
    [
        ("e8m23", 16, {"radix": 4}, "free16"),
        ("e5m10", 32, {"radix": 4}, "free4"),  # 16 * 36 in quarters has 12 bits
        ("e5m10", 20, {"radix": 2}, "free8"),  # 8 * 36 has 11
        ("e4m3fn", 16, {"radix": 4, "addend": Joins.FUSED}, "fused"),
        ("e4m3", 12, {"radix": 3, "addend": Joins.LEAF}, "leaf"),
        ("e5m10", 16, {"radix": 4, "product": ProductRounding.ROUNDED}, "separate"),
    ],
)
def test_trees_add_up_what_no_node_rounds(
    rounding: str, result: str, products: int, settings: dict[str, Any], kernel: str
) -> None:
    tree = Tree(float_format(result), Rounding(rounding), products=products, **settings)
    unit = unit_of(tree)
    plan = runs_as(unit, 2 * products + 3)
    assert "exact" not in plan
    if rounding != "rdn":  # toward -infinity a sum that cancels is -0, which a plain sum is not
        assert kernel in plan
    # The largest sums, all but one product of one sign.
    a = np.full((2, products), 7, np.uint8)
    a[:, 1], a[1, 5] = 1, 15
    b = np.full((products, 2), 7, np.uint8)
    b[1] = 1
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))


def test_sums_beyond_the_format_are_not_plain() -> None:
    """6 * 6 * 2^11 is infinite in float16, whatever is subtracted from it later."""
    unit = unit_of(Tree(float_format("e5m10"), products=8))
    a = np.array([[7, 7, 7, 15, 15, 15, 1, 1], [7, 1, 7, 1, 7, 1, 7, 1]])
    b = np.full((8, 2), 7)
    for shift, kernel in ((7, "free8"), (8, "free4"), (9, "free2"), (10, "via-half")):
        scale = np.full((2, 1), 127 + shift)
        assert kernel in unit.plan(a, b, a_scale=scale).kernel
        for finer in (scale, scale + 1):
            expected = oracle_matmul(unit, a, b, a_scale=finer)
            assert np.array_equal(unit.matmul(a, b, a_scale=finer), expected)


def test_addends_near_the_end_are_not_cut() -> None:
    """Three numbers are added in parts only where no sum can be infinite."""
    unit = get_unit("amd-cdna1b")
    a = unit.a.encode([[4096.0, 2.0**-24, 3.0, 0.0] * 2] * 2)
    b = unit.b.encode([[4096.0], [2.0**-20], [-5.0], [1.0]] * 2)
    for power, kernel in ((125, "split"), (126, "exact"), (127, "exact")):
        c = unit.result.encode([[2.0**power], [-(2.0**power) * (2 - 2.0**-23)]])
        assert kernel in unit.plan(a, b, c=c).kernel
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_nodes_toward_negative_infinity_keep_the_sign_of_zero() -> None:
    test_trees_add_up_what_no_node_rounds("rdn", "e4m3", 12, {"radix": 3}, "wide-rdn")
    unit = unit_of(Tree(float_format("e4m3"), Rounding.RDN, products=4, radix=4))
    a = np.array([[0, 0, 0, 0], [8, 8, 8, 8], [0, 8, 8, 8], [7, 15, 0, 0], [7, 15, 8, 8]])
    b = np.ones((4, 2), np.uint8)
    for start in (0.0, -0.0):
        c = unit.result.encode(np.full((5, 2), start))
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("e2m1-tree16-e8m23-radix4", "free16"),
        ("amd-cdna1b", "float-split"),
        ("e2m1-chain-e8m7", "magic32-rne"),
    ],
)
def test_sums_on_narrow_registers(name: str, kernel: str) -> None:
    unit = get_unit(name)
    on = On(unit, MACHINES["f16c"])
    a, b, c = operands(unit, 19, 11)
    c[c == unit.result.encode(-0.0)] = 0
    assert kernel in on.plan(a, b, c=c).kernel
    assert np.array_equal(on.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_nodes_that_round_up_to_the_smallest_value() -> None:
    """Sums of 2^-40 become the smallest subnormal toward +infinity, and add up from there."""
    unit = unit_of(Tree(float_format("e4m3"), Rounding.RUP, products=16, radix=4), "e2m1b30")
    a, b, c = operands(unit, 16)
    a[0], b[:, 0] = 1, 7
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))


def test_a_node_sees_what_is_far_below() -> None:
    """2^24 + 2^-24 is above 2^24, which a sum of rounded parts forgets."""
    unit = unit_of(Tree(float_format("e8m23"), Rounding.RUP, products=4, radix=4), "e5m10")
    a = unit.a.encode([[4096.0, 2.0**-12, 0.0, 0.0], [4096.0, -4096.0, 2.0**-12, 2.0**-24]])
    b = unit.b.encode(np.ones((4, 1)))
    b[0] = unit.b.encode([4096.0])
    a[1, 1] = unit.a.encode([-4096.0])[0]
    b2 = unit.b.encode([[4096.0], [4096.0], [2.0**-12], [2.0**-24]])
    for columns in (b, b2):
        assert np.array_equal(unit.matmul(a, columns), oracle_matmul(unit, a, columns))
    decoded = unit.result.decode(unit.matmul(a, b2))
    assert decoded[0, 0] == 2.0**24 + 2 and decoded[1, 0] == 2.0**-24 + 2.0**-47


@pytest.mark.parametrize(
    ("addend", "rounding", "k", "radix", "products"),
    by_default(
        product(Joins, ["rne", "rdn"], [130], [2], [None]),
        quick=[(Joins.LEAF, "rne", 130, 2, None), (Joins.ROOT, "rdn", 130, 2, None)],
    )
    + by_default(
        product(Joins, ["rne", "rdn"], [136], [4], [68]),
        quick=[(Joins.FUSED, "rdn", 136, 4, 68)],
    ),
)
def test_large_trees_of_every_join(
    addend: Joins, rounding: str, k: int, radix: int, products: int | None
) -> None:
    fmt = float_format("e5m10")
    stage = Tree(fmt, Rounding(rounding), products=products, radix=radix, addend=addend)
    assert runs_as(unit_of(stage), k) == "scalar"


@pytest.mark.one_in(12)
@pytest.mark.parametrize("rounding", by_default(DETERMINISTIC, [Rounding.RNE, Rounding.RDN]))
@pytest.mark.parametrize("result", ["e8m23", "e5m10", "e4m3fn", "e4m3_flush"])
@pytest.mark.parametrize(
    ("k", "settings"),
    [
        (80, {"lanes": 16}),
        (66, {"lanes": 3, "radix": 3, "addend": Joins.FUSED}),
        (72, {"lanes": 2, "product": ProductRounding.ROUNDED}),
        (96, {}),
        (81, {"radix": 3, "addend": Joins.FUSED}),
        (68, {"radix": 4, "product": ProductRounding.ROUNDED}),
    ],
)
def test_trees_over_all_products_add_chunks(
    k: int, settings: dict[str, Any], result: str, rounding: Rounding
) -> None:
    """Lanes are chunks of products that are not neighbours; subtrees are chunks that are."""
    unit = unit_of(Tree(float_format(result), rounding, **settings), "e4m3fn")
    a, b, c = operands(unit, k, 6)
    c[c == unit.result.encode(-0.0)] = 0
    b[:, 0] = a[1] = 8  # subnormals of both operands, whose sums some formats round to zero
    scale = np.random.default_rng(k).integers(120, 132, (4, k)).astype(np.uint8)
    for addend, scales in ((None, None), (c, None), (c, scale)):
        expected = oracle_matmul(unit, a, b, addend, scales)
        for machine in (MACHINES["this"], MACHINES["f16c"]):
            assert np.array_equal(On(unit, machine).matmul(a, b, addend, scales), expected)
    if rounding in ("rne", "rna") and result != "e4m3_flush":
        assert unit.plan(a, b, c=c).kernel.startswith("chunk")


@pytest.mark.parametrize("rounding", by_default(["rne", "rdn", "rtz", "rup"], ["rne", "rdn"]))
@pytest.mark.parametrize("settings", [{"lanes": 4}, {"radix": 4}])
def test_zeros_of_chunks_of_a_tree(settings: dict[str, Any], rounding: str) -> None:
    """Zeros of both signs in lanes and subtrees, and sums that round to a zero of either sign."""
    a = np.zeros((6, 80), np.uint8)
    a[0], a[1, :40], a[2, ::2] = 8, 8, 8
    a[3], a[4, ::4], a[5, 0], a[5, 1] = 9, 9, 7, 15
    unit = unit_of(Tree(float_format("e4m3"), Rounding(rounding), **settings))
    b = np.ones((80, 2), np.uint8)
    tiny = np.full((6, 1), 127 - 60, np.uint8)  # a sum below the least number of the format
    for start in (0.0, -0.0):
        c = unit.result.encode(np.full((6, 2), start))
        for scale in (None, tiny):
            expected = oracle_matmul(unit, a, b, c, scale)
            assert np.array_equal(unit.matmul(a, b, c, scale), expected)
    assert unit.plan(a, b).kernel.startswith("chunk")


def test_lanes_of_unequal_length_are_scalar_code() -> None:
    unit = unit_of(Tree(float_format("e5m10"), lanes=16))
    assert runs_as(unit, 79) == "scalar"
    assert runs_as(unit, 80).startswith("chunk5 ")


def test_infinite_products_in_chunks_of_a_tree() -> None:
    """They end in infinity, in NaN, or in the largest number; other results stay in lanes."""
    for lanes, overflow in product((1, 8), ("inf", "saturate")):
        stage = Tree(float_format("e5m10"), overflow=Overflow(overflow), lanes=lanes)
        unit = unit_of(stage, "e5m2")
        a, b, c = operands(unit, 128)
        a[0, 5], a[1, 3], a[1, 90], b[7, 1] = 0x7C, 0x7C, 0xFC, 0x7C
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))
        assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))


@pytest.mark.parametrize("rounding", by_default(["rne", "rdn"], ["rne"]))
@pytest.mark.parametrize(
    "settings",
    [
        {"products": 68, "radix": 4},
        {"products": 66, "lanes": 3, "addend": Joins.LEAF},
        {"lanes": 2, "addend": Joins.LEAF},
    ],
)
def test_large_trees_end_with_zeros_and_start_with_c(
    settings: dict[str, Any], rounding: str
) -> None:
    unit = unit_of(Tree(float_format("e5m10"), Rounding(rounding), **settings))
    scale = np.random.default_rng(3).integers(125, 130, (4, 12)).astype(np.uint8)
    assert runs_as(unit, 90, a_scale=scale, block=8) == "scalar"
    a = np.full((1, 90), 8, np.uint8)  # -0
    for start in (0.0, -0.0):
        c = unit.result.encode(np.full((1, 5), start))
        b = np.full((90, 5), 1, np.uint8)
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("result", ["e8m23", "e5m10", "e4m3fn"])
def test_rounded_products_toward_negative_infinity(result: str) -> None:
    """Zeros of both signs, alone and added: a lone product keeps its sign."""
    for stage in (
        Chain(float_format(result), Rounding.RDN, product=ProductRounding.ROUNDED),
        Tree(float_format(result), Rounding.RDN, products=3, product=ProductRounding.ROUNDED),
    ):
        unit = unit_of(stage)
        assert runs_as(unit, 7) != "scalar"
        a = np.array([[0, 0, 0], [8, 8, 8], [0, 8, 0], [7, 15, 0], [7, 15, 8], [8, 7, 15]])
        b = np.array([[1, 9]] * 3)
        for start in (0.0, -0.0):
            c = unit.result.encode(np.full((6, 2), start))
            assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("rounding", by_default(list(Rounding)[:-1], [Rounding.RNE, Rounding.RDN]))
@pytest.mark.parametrize("far", [-127, -66])
@pytest.mark.parametrize("addend", [Joins.FUSED, Joins.ROOT])
def test_subnormal_results_see_what_is_far_below(
    rounding: Rounding, far: int, addend: Joins
) -> None:
    """Every float16 subnormal, half of one or nothing, and what no float64 holds beside 2^-14."""
    unit = unit_of(Tree(float_format("e5m10"), rounding, radix=3, addend=addend), "e2m1")
    half = 0.0 if far == -127 else 2.0**-25
    c = np.arange(1 << 11, dtype=np.uint16)
    c = np.concatenate([c, c | 0x8000])[None].repeat(6, 0)
    a = np.stack([unit.a.encode([x, y, 0.0]) for x in (1.0, -1.0, 0.0) for y in (0.5, -0.5)])
    b = unit.b.encode([[float(half > 0)], [1.0], [0.0]]).repeat(c.shape[1], 1)
    scale = np.tile([127 - 25 if half else 127 + far, 127 + far, 127 + far], (len(a), 1))
    assert "wide" in unit.plan(a, b, c=c, a_scale=scale).kernel
    dots = unit.dot(a[:, None], b.T[None], c, a_scale=scale[:, None])
    assert np.array_equal(unit.matmul(a, b, c, a_scale=scale), dots)


def test_saturated_infinities_are_no_small_terms() -> None:
    unit = get_unit("e2m1xe5m2-tree3-e8m13-rdn-radix4-leaf-rounded-saturate")
    rng = np.random.default_rng(4)
    a = rng.integers(0, 16, (1, 16), dtype=np.uint8)
    b = rng.integers(0, 0x7D, (16, 60), dtype=np.uint8)
    b[2] = np.where(a[0, 2] & 7, 0x7C, b[2])
    expected = oracle.dot(unit, np.repeat(a, 60, 0), b.T)
    np.testing.assert_array_equal(unit.matmul(a, b)[0], expected)


@pytest.mark.parametrize(
    ("settings", "leaves", "rounding"),
    [
        ({}, 64, Rounding.RDN),
        ({"addend": Joins.LEAF}, 64, Rounding.RNE),
        ({"radix": 4, "addend": Joins.FUSED}, 64, Rounding.RNE),
        ({"radix": 3}, 27, Rounding.RNE),
    ],
)
def test_trees_over_more_block_sums_than_are_unrolled_are_scalar_code(
    settings: dict[str, Any], leaves: int, rounding: Rounding
) -> None:
    """Sums that overflow, cancel and are zeros of either sign; the last block is not whole."""
    tree = Tree(float_format("e5m10"), rounding, **settings)
    unit = unit_of(Block(4, tree), "e4m3fn")
    rng = np.random.default_rng(6)
    k = 4 * (max(2 * leaves, 70) + 9) - 1
    a, b = rng.integers(0, 120, (5, k)), rng.integers(0, 248, (k, 4))
    b = np.where(np.isfinite(unit.b.decode(b)), b, 0)
    a[0], a[1], b[:, 0] = 0, 0x80, np.abs(b[:, 0]) & 0x7F
    a[2, : k - k % 2], b[1 : k - k % 2 : 2, 1] = 0x38, b[: k - k % 2 : 2, 1] ^ 0x80  # cancel
    scale = rng.integers(118, 126, (5, -(-k // 8)))
    for start in (1.5, 0.0, -0.0):
        c = unit.result.encode(np.full((5, 4), start))
        plan = unit.plan(a, b, c=c, a_scale=scale, block=8)
        assert plan.kernel == "scalar"
        expected = oracle_matmul(unit, a, b, c, a_scale=scale, block=8)
        assert np.array_equal(unit.matmul(a, b, c, a_scale=scale, block=8), expected)
    assert {0, 0x8000} & set(expected.reshape(-1).tolist())
