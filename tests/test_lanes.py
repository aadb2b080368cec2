# SPDX-License-Identifier: Apache-2.0
"""Lanes that do unusual things: integers in windows, exact nodes, slices, float16, random bits.

Expected codes are the oracle's, or the scalar kernels' where a space is exhausted.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import HOST, chain, float_format, oracle_matmul, sweep, unit_of
from numpy.typing import NDArray

from fpsim import FpsimError, MacUnit, RandomBits, get_format, get_unit
from fpsim.rounding import Rounding
from fpsim.stages import Aligned, Block, Chain, Exact, Fixed, Joins, ProductRounding, Stage, Tree

pytestmark = pytest.mark.usefixtures("one_thread")

Codes = NDArray[Any]
AVX512 = pytest.mark.skipif("avx512f" not in HOST, reason="needs AVX-512F")


def spread(fmt: Any, shape: tuple[int, ...], seed: int, binades: int) -> Codes:
    """Return codes of numbers over many binades, with zeros of both signs and cancellation."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) * np.exp2(rng.integers(-binades, binades + 1, shape))
    values[rng.random(shape) < 0.15] = 0.0
    values[rng.random(shape) < 0.1] = -0.0
    values[..., 1::2] = np.where(
        rng.random(values[..., 1::2].shape) < 0.3,
        -values[..., :-1:2] if values.shape[-1] % 2 else -values[..., ::2],
        values[..., 1::2],
    )
    codes: Codes = fmt.encode(values)
    return codes


def operands(unit: MacUnit, k: int, binades: int = 4, seed: int = 2) -> tuple[Codes, Codes, Codes]:
    """Return a (4, K), b (K, 5) and c (4, 5)."""
    a = spread(unit.a, (4, k), seed, binades)
    b = np.abs(unit.b.decode(spread(unit.b, (5, k), seed + 1, binades)))
    c = spread(unit.result, (4, 5), seed + 2, binades + 2)
    return a, unit.b.encode(b.T), c


def runs_as(unit: MacUnit, k: int, binades: int = 4, **options: Any) -> str:
    """Return the kernel, after comparing it with the oracle, with an addend and without."""
    a, b, c = operands(unit, k, binades)
    for addend in (None, c):
        expected = oracle_matmul(unit, a, b, addend, **options)
        assert np.array_equal(unit.matmul(a, b, addend, **options), expected)
    return unit.plan(a, b, c=c, **options).kernel


# -- windows -------------------------------------------------------------------------------------


@AVX512
@pytest.mark.parametrize(
    ("products", "bits", "result", "rounding", "align", "kernel"),
    [
        (8, 24, "e8m23", "rtz", "rtz", "integer32-8-rtz-rtz-native"),  # A100
        (8, 25, "e8m23", "rne", "rne", "integer32-8-rne-rne-native"),  # 25 + 2 + 4 = 31 bits
        (8, 26, "e8m23", "rup", "rdn", "integer32-8-rdn-rup-native-split"),  # products alone: 31
        (8, 27, "e8m23", "rtz", "rtz", "aligned64"),
        (16, 25, "e8m23", "rtz", "rtz", "integer32-16-rtz-rtz-native-split"),  # H100
        (8, 24, "e8m13", "rtz", "rtz", "integer32-8-rtz-rtz"),  # truncated twice is once
        (8, 24, "e8m13", "rne", "rtz", "aligned64"),
        (8, 13, "e8m13", "rne", "rup", "integer32-8-rup-rne"),  # float32 holds the integer
        (8, 24, "e8m23", "rna", "rtz", "aligned64"),  # no conversion rounds so
    ],
)
def test_integer_windows(
    products: int, bits: int, result: str, rounding: str, align: str, kernel: str
) -> None:
    stage = Aligned(products, bits, float_format(result), Rounding(rounding), Rounding(align))
    assert runs_as(unit_of(stage, "e5m10"), 19).startswith(kernel)


@AVX512
def test_integer_windows_take_finite_terms_only() -> None:
    unit = unit_of(Aligned(8, 24, float_format("e8m23")), "e5m10")
    a, b, c = operands(unit, 16)
    for special in (0x7C00, 0xFC00, 0x7E00):
        a[1, 3] = special
        assert unit.plan(a, b, c=c).kernel.startswith("aligned64")
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))
    a[1, 3] = 0
    c[0] = 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFFFFFFF, 0x80000000
    assert unit.plan(a, b, c=c).kernel.startswith("integer32")
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@AVX512
def test_halves_of_a_sum_meet_at_their_largest() -> None:
    """16 of the largest bfloat16 products and c: 65.5 * 2^25 does not fit an int32."""
    unit = unit_of(Aligned(16, 25, float_format("e8m23")), "e8m7")
    for sign in (1, -1):
        a = unit.a.encode(np.full((1, 16), sign * (2 - 2**-7)))
        b = unit.b.encode(np.full((16, 1), 2 - 2**-7))
        c = unit.result.encode(np.full((1, 1), sign * (4 - 2**-22)))
        assert unit.plan(a, b, c=c).kernel.endswith("split")
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("rounding", ["rne", "rdn", "rtz"])
@pytest.mark.parametrize("more", [{}, {"width": 9}, {"addend": "late", "late_rounding": "rdn"}])
def test_zeros_keep_their_sign(rounding: str, more: dict[str, Any]) -> None:
    """All -0; mixed; cancelled; all too small to be seen; a sum that a register wraps to zero."""
    fmt = float_format("e8m13")
    unit = unit_of(Aligned(4, 4, fmt, Rounding(rounding), signed_zero=True, **more))
    rows = [[-0.0] * 4, [0.0] * 4, [-0.0, 0.0, -0.0, -0.0], [2.0, -2.0, 0.0, -0.0], [-6.0] * 4]
    rows += [[-0.5, -0.5, -0.5, -0.5], [4.0, 4.0, 4.0, 4.0], [-4.0, -4.0, -4.0, -4.0]]
    a = unit.a.encode(rows)
    b = unit.b.encode(np.array([[1.0, 0.0, 4.0]] * 4))
    for start in (0.0, -0.0, 0.5, -64.0, 2.0**-40):
        c = fmt.encode(np.full((len(rows), 3), start))
        assert unit.plan(a, b, c=c).kernel != "rows"
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_infinite_addends_pass_registers_and_late_additions() -> None:
    fmt = float_format("e5m10")
    late = Aligned(2, 10, fmt, addend="late")  # type: ignore[arg-type]
    for stage in (late, Aligned(2, 4, fmt, width=8),
                  Aligned(2, 4, fmt, width=8, width_overflow="saturate")):  # type: ignore[arg-type]  # fmt: skip
        unit = unit_of(stage, "e5m2")
        a = unit.a.encode([[57344.0, 57344.0], [1.0, 1.0]])  # the first overflows
        b = unit.b.encode([[57344.0, 1.0], [57344.0, 1.0]])
        c = np.array([[0xFC00, 0x7C00], [0xFC00, 0x7C00]], np.uint16)
        assert unit.plan(a, b, c=c).kernel != "rows"
        assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_windows_of_many_products_are_loops() -> None:
    for stage in (
        Aligned(75, 13, float_format("e8m13")),
        Aligned(75, 13, float_format("e8m13"), Rounding.RDN, signed_zero=True),
        Aligned(75, 13, float_format("e8m23"), Rounding.RNE, Rounding.RNA, normalised=True),
        Aligned(66, 24, float_format("e8m23"), addend="joined", lanes=2),  # type: ignore[arg-type]
    ):
        assert runs_as(unit_of(stage, "e4m3fn"), 160) != "rows"


def test_windows_of_zeros_are_zero() -> None:
    """2^(F - E) of a window without any exponent must stay finite, whatever F is."""
    for bits in (27, 28, 29):
        unit = unit_of(Aligned(1, bits, float_format("e8m23")), "e5m10")
        zeros = np.zeros((2, 2), np.uint16)
        assert not unit.matmul(zeros, zeros).any()


# -- windows joined with the addend --------------------------------------------------------------

CDNA3 = {
    "fp16": "joined32-8-1-rtz-rne-5-2",
    "bf16": "joined32-8-1-rtz-rne-5-2",
    "xf32": "joined32-4-1-rtz-rne-5-2",
    "e4m3": "joined32-16-2-rtz-rne-5-2-reach",
    "e5m2": "joined32-16-2-rtz-rne-5-2-reach",
}


@AVX512
@pytest.mark.parametrize("operand", CDNA3)
def test_joined_windows_are_integers(operand: str) -> None:
    unit = get_unit(f"amd-cdna3-{operand}")
    assert runs_as(unit, 35) == CDNA3[operand]


def test_joined_windows_without_the_conversions(processor: Any) -> None:
    processor("f16c")
    assert runs_as(get_unit("amd-cdna3-e4m3"), 35).startswith("joined64")


@AVX512
@pytest.mark.parametrize(
    ("settings", "kernel"),
    [
        ({}, "rtz-rne-5-2"),
        ({"join_sum_bits": 24}, "rtz-rne-0-0"),
        ({"join_sum_bits": 29, "align": "rdn"}, "rdn-rne-5-0"),
        ({"join_sum_bits": 37, "rounding": "rup"}, "rtz-rup-5-8"),
        ({"lanes": 2, "join_reach": 9}, "rtz-rne-5-2-reach"),
        ({"products": 16}, "joined64"),  # 16 * 4 half shifted out are as large as c
        ({"join_rounding": "rtz"}, "joined64"),
        ({"join_addend_bits": 25}, "joined64"),
        ({"fraction_bits": 22, "join_addend_bits": 22}, "joined64"),  # c would lose bits
    ],
)
def test_joined_windows_at_every_distance(settings: dict[str, Any], kernel: str) -> None:
    """Every exponent of c, with sums that nearly cancel it, and their last bits at every place."""
    fields = {"products": 8, "fraction_bits": 24, "rounding": "rne", "addend": "joined"} | settings
    unit = unit_of(Aligned(format=float_format("e8m23"), **fields), "e5m10")
    a = unit.a.encode(np.array([
        [1.9990234375] * 8,
        [-1.9990234375] * 8,
        [1.0, 2.0**-11, 0, 0, 0, 0, 0, -(2.0**-12)],
        [-1.0, 3 * 2.0**-12, 0, 0, 0, 2.0**-11, 0, 2.0**-12],
        [1.5, -1.5, 2.0**-11, 0, 0, 0, 0, 0],
        [2.0**-12, 0, 0, 0, 0, 0, 0, 0],
    ]))  # fmt: skip
    b = np.full(8, 1.9990234375)
    b[-1] = 2.0**-11
    rng = np.random.default_rng(7)
    powers = np.exp2(np.arange(-30, 46))
    significands = [1.0, 2 - 2.0**-23, 1 + rng.integers(0, 1 << 23) / (1 << 23)]
    starts = np.concatenate([powers * s for s in significands])
    exact_sums = unit.a.decode(a) @ b
    starts = np.concatenate([starts, -starts, -exact_sums, [0.0, -0.0]])
    specials = np.array([0x7F800000, 0xFF800000, 0x7FC00000], np.uint32)
    codes = np.concatenate([unit.result.encode(starts), specials])
    c = np.repeat(codes[None], len(a), 0)
    columns = np.repeat(unit.b.encode(b)[:, None], codes.size, 1)
    assert kernel in unit.plan(a, columns, c=c).kernel
    if kernel == "joined64":
        return
    assert np.array_equal(unit.matmul(a, columns, c), oracle_matmul(unit, a, columns, c))


# -- trees ---------------------------------------------------------------------------------------


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
    assert "exact" in unit.plan(a, b, c=c).kernel
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


@pytest.mark.parametrize("directed", sweep([True, False], [True]))
@pytest.mark.parametrize(
    ("settings", "operand", "kernel"),
    [
        ({"products": 4, "radix": 4, "addend": Joins.FUSED}, "e5m10", "wide-float{}-split"),
        ({"products": 16, "radix": 4}, "e5m10", "wide-float{}-split"),
        ({"products": 16, "radix": 4}, "e4m3fn", "root-wide-float{}"),
        ({"products": 9, "radix": 3, "addend": Joins.LEAF}, "e4m3fn", "leaf-wide-float{}"),
        ({"products": 20, "radix": 20, "addend": Joins.FUSED}, "e5m10", "wide-float{}-split"),
    ],
)
def test_nodes_add_in_float64(
    settings: dict[str, Any], operand: str, kernel: str, directed: bool, processor: Any
) -> None:
    if directed and "avx512f" not in HOST:
        pytest.skip("needs AVX-512F")
    processor(*HOST - ({"avx512f"} if not directed else set()))
    unit = unit_of(Tree(float_format("e8m23"), **settings), operand)
    a, b, c = operands(unit, 35, 11)
    c[c == unit.result.encode(-0.0)] = 0
    a[1] |= unit.a.sign_bit  # type: ignore[union-attr]
    for addend in (None, c):
        assert kernel.format("-directed" * directed) in unit.plan(a, b, c=addend).kernel
        assert np.array_equal(unit.matmul(a, b, addend), oracle_matmul(unit, a, b, addend))


@pytest.mark.parametrize("rounding", sweep(["rne", "rup", "rdn", "rtz", "rto"], ["rne", "rup"]))
@pytest.mark.parametrize("directed", [True, False])
def test_a_bit_below_float64_breaks_a_tie(rounding: str, directed: bool, processor: Any) -> None:
    """2^36 + 2^12 is halfway between two float32 numbers; 2^-18 more or less decides."""
    if directed and "avx512f" not in HOST:
        pytest.skip("needs AVX-512F")
    processor(*HOST - ({"avx512f"} if not directed else set()))
    tree = Tree(float_format("e8m23"), Rounding(rounding), products=4, radix=4)
    unit = unit_of(tree, "e4m3fn")
    low = 2.0**-9
    a = unit.a.encode([[64.0, low, 0, 0], [64.0, -low, 0, 0], [0, low, 0, 0], [64.0, 0, 0, 0]])
    b = unit.b.encode(np.repeat([[64.0], [low], [0.0], [0.0]], 4, 1))
    c = unit.result.encode(np.array([[1.0, 1 + 2.0**-23, -1.0, -1 - 2.0**-23]] * 4) * 2.0**36)
    assert "wide" in unit.plan(a, b, c=c).kernel
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


def test_a_bit_below_the_parts_of_products_breaks_a_tie() -> None:
    """As above, with 2^-40: c is far above the sum of products, and below it."""
    unit = get_unit("amd-cdna1b")
    low = 2.0**-20
    a = unit.a.encode([[64.0, low, 0, 0], [64.0, -low, 0, 0], [-64.0, low, 0, 0]])
    b = unit.b.encode(np.repeat([[64.0], [low], [0.0], [0.0]], 4, 1))
    c = unit.result.encode([[2.0**36, 2.0**36 + 2.0**13, -(2.0**36), 2.0**-12]] * 3)
    assert "split" in unit.plan(a, b, c=c).kernel
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


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


@pytest.mark.parametrize("rounding", sweep(["rne", "rtz", "rup", "rdn", "rna", "rto"], ["rne"]))
@pytest.mark.parametrize(
    ("result", "products", "settings", "kernel"),
    [
        ("e8m23", 16, {"radix": 4}, "free16"),
        ("e5m10", 32, {"radix": 4}, "free4"),  # 16 * 36 in quarters has 12 bits
        ("e5m10", 20, {"radix": 2}, "free8"),  # 8 * 36 has 11
        ("e4m3fn", 16, {"radix": 4, "addend": Joins.FUSED}, "fused"),
        ("e4m3", 12, {"radix": 3, "addend": Joins.LEAF}, "leaf"),
        ("e5m10", 16, {"radix": 4, "product": ProductRounding.ROUNDED}, "separate"),
        ("e5m10_flush", 16, {"radix": 8}, "free8"),
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


@pytest.mark.usefixtures("narrow_vectors")
@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("e2m1-tree16-e8m23-radix4", "free16"),
        ("amd-cdna1b", "float-split"),
        ("e2m1-chain-e8m7", "magic32-rne"),
    ],
)
def test_sums_on_narrow_registers(name: str, kernel: str, processor: Any) -> None:
    processor("f16c")
    unit = get_unit(name)
    a, b, c = operands(unit, 19, 11)
    c[c == unit.result.encode(-0.0)] = 0
    assert kernel in unit.plan(a, b, c=c).kernel
    assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


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
    sweep(
        product(Joins, ["rne", "rdn"], [130], [2], [None]),
        quick=[(Joins.LEAF, "rne", 130, 2, None), (Joins.ROOT, "rdn", 130, 2, None)],
    )
    + sweep(
        product(Joins, ["rne", "rdn"], [136], [4], [68]),
        quick=[(Joins.FUSED, "rdn", 136, 4, 68)],
    ),
)
def test_large_trees_of_every_join(
    addend: Joins, rounding: str, k: int, radix: int, products: int | None
) -> None:
    fmt = float_format("e5m10")
    stage = Tree(fmt, Rounding(rounding), products=products, radix=radix, addend=addend)
    assert runs_as(unit_of(stage), k) == "subtrees"


@pytest.mark.parametrize("rounding", sweep(["rne", "rdn"], ["rne"]))
@pytest.mark.parametrize(
    ("settings", "kernel"),
    [
        ({"products": 68, "radix": 4}, "subtrees"),
        ({"products": 66, "lanes": 3, "addend": Joins.LEAF}, "lanes"),
        ({"lanes": 2, "addend": Joins.LEAF}, "lanes"),
    ],
)
def test_large_trees_end_with_zeros_and_start_with_c(
    settings: dict[str, Any], kernel: str, rounding: str
) -> None:
    unit = unit_of(Tree(float_format("e5m10"), Rounding(rounding), **settings))
    scale = np.random.default_rng(3).integers(125, 130, (4, 12)).astype(np.uint8)
    assert runs_as(unit, 90, a_scale=scale, block=8) == kernel
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
        assert runs_as(unit, 7) != "rows"
        a = np.array([[0, 0, 0], [8, 8, 8], [0, 8, 0], [7, 15, 0], [7, 15, 8], [8, 7, 15]])
        b = np.array([[1, 9]] * 3)
        for start in (0.0, -0.0):
            c = unit.result.encode(np.full((6, 2), start))
            assert np.array_equal(unit.matmul(a, b, c), oracle_matmul(unit, a, b, c))


# -- magic numbers -------------------------------------------------------------------------------


@AVX512
@pytest.mark.parametrize(
    ("result", "rounding", "kernel"),
    [
        ("e8m7", "rne", "magic32-rne"),
        ("e8m7", "rtz", "magic32-rtz"),
        ("e8m10", "rne", "magic32-rne"),  # 2P = 22
        ("e8m11", "rne", "magic32-rne-odd"),
        ("e8m2", "rne", "magic32-rne-odd"),  # q = P + 1
        ("e8m21", "rne", "magic32-rne-odd"),  # P + 2 = 24
        ("e8m21", "rtz", "magic32-rtz"),
        ("e8m22", "rne", "lane64-rne"),
        ("e8m22", "rtz", "lane64-rtz-sticky"),
    ],
)
def test_magic_numbers_round_at_every_distance(result: str, rounding: str, kernel: str) -> None:
    unit = chain(result, rounding)
    fmt = unit.result
    rng = np.random.default_rng(4)
    one = int(fmt.encode([1.0])[0])
    m = one & -one
    codes = {one, one + 1, one + 2, one + 3, one - 1, one + m - 1, one + m // 2}
    near = fmt.decode(np.array(sorted(codes)))
    starts = np.outer(np.exp2(np.arange(-34, 35)), near).reshape(-1)
    c = fmt.encode(np.concatenate([starts, -starts, [0.0]]))
    a = np.array([[1, 1, 9], [3, 0, 11], [7, 15, 2], [13, 2, 6]])
    b = rng.integers(0, 16, (3, c.size))
    c = np.repeat(c[None], 4, 0)
    assert unit.plan(a, b, c=c).kernel == kernel
    assert np.array_equal(unit.matmul(a, b, c), unit.dot(a[:, None], b.T[None], c))


@AVX512
def test_magic_numbers_end_where_a_lane_does() -> None:
    """Starts that are -0, special, or so large that M times them is infinite; tiny products."""
    unit = chain("e8m7")
    fmt = unit.result
    a, b = np.array([[1, 7, 15, 0]]), np.array([[7], [1], [3], [0]])

    def kernel(start: float, shift: int = 0) -> str:
        c = fmt.encode(np.full((1, 1), start), overflow="inf")
        scale = np.full((1, 1), 127 + shift)
        expected = oracle_matmul(unit, a, b, c, scale)
        assert np.array_equal(unit.matmul(a, b, c, scale), expected)
        return unit.plan(a, b, c=c, a_scale=scale).kernel

    assert kernel(-0.0) == kernel(np.inf) == kernel(np.nan) == "masked32"
    assert kernel(2.0**-133) == "masked32"
    assert kernel(2.0**-119) == "magic32-rne"
    assert kernel(2.0**108 * (2 - 2.0**-7)) == "magic32-rne"
    assert kernel(2.0**109) == "masked32"
    assert kernel(0.0, -124) == "magic32-rne"  # products are multiples of 2^-126
    assert kernel(0.0, -125) == "lane64-rne"
    assert kernel(0.0, 94) == "magic32-rne"
    assert kernel(0.0, 95) == "masked32"
    grown = np.full((1, 4000), 7)
    assert np.array_equal(unit.matmul(grown, grown.T), unit.dot(grown, grown)[:, None])


# -- exact sums ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("operand", "binades"), [("e5m10", 8), ("e8m7", 60), ("e5m2", 14)])
def test_slices_add_up(operand: str, binades: int) -> None:
    unit = unit_of(Exact(float_format("e8m23")), operand)
    assert runs_as(unit, 41, binades) == "slices"


def test_slices_cancel() -> None:
    """The largest and smallest products of float16, then the largest again, negative."""
    unit = unit_of(Exact(float_format("e8m23"), Rounding.RUP), "e5m10")
    tiny = 2.0**-24
    a = unit.a.encode([[65504.0, tiny, -65504.0], [65504.0, tiny, -65472.0], [tiny, tiny, -tiny]])
    b = unit.b.encode([[65504.0, tiny], [tiny, tiny], [65504.0, tiny]])
    assert unit.plan(a, b).kernel == "slices"
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))


# -- float16 -------------------------------------------------------------------------------------


@pytest.mark.skipif("avx512fp16" not in HOST, reason="needs AVX512-FP16")
@pytest.mark.parametrize("policy", ["saturate", None])
@pytest.mark.parametrize("result", ["e4m3fn", "e4m3", "e3m3", "e2m4", "e4m3fn_flush"])
def test_narrow_accumulators_in_float16(result: str, policy: str | None) -> None:
    """Every accumulator and every product of two E2M1 numbers."""
    unit = chain(result, "rne", policy)
    c = np.repeat(np.arange(1 << unit.result.bits, dtype=unit.result.dtype)[:, None], 16, 1)
    b = np.arange(16, dtype=np.uint8)[None]
    for code in range(16):
        a = np.full((len(c), 1), code, np.uint8)
        assert unit.plan(a, b, c=c).kernel.startswith("shifted16")
        assert np.array_equal(unit.matmul(a, b, c), unit.dot(a[:, None], b.T[None], c))


@pytest.mark.skipif("avx512fp16" not in HOST, reason="needs AVX512-FP16")
def test_float16_lanes_end_where_sums_would_be_rounded_twice() -> None:
    def kernel(shift: int, result: str = "e4m3fn") -> str:
        unit = chain(result)
        scale = np.full((4, 1), 127 + shift, np.uint8)
        a, b, c = operands(unit, 8)
        expected = oracle_matmul(unit, a, b, c, a_scale=scale)
        assert np.array_equal(unit.matmul(a, b, c, a_scale=scale), expected)
        return unit.plan(a, b, c=c, a_scale=scale).kernel.split("-")[0]

    assert kernel(-22) == "shifted16"  # products are multiples of 2^-24
    assert kernel(-23) == "shifted32"
    assert kernel(0, "e5m4b14") != "shifted16"  # 1.5 * 2^6 above its largest power overflows
    assert kernel(0, "e4m5") == "shifted32"  # 2P = 12 > 10


@pytest.mark.skipif("avx512fp16" not in HOST, reason="needs AVX512-FP16")
@pytest.mark.parametrize("rounding", ["rtz", "rup", "rdn"])
def test_float16_rounds_in_its_own_direction(rounding: str) -> None:
    unit = chain("e5m10", rounding)
    rng = np.random.default_rng(3)
    a = rng.integers(0, 16, (64, 3)).astype(np.uint8)
    b = rng.integers(0, 16, (3, 64)).astype(np.uint8)
    c = rng.integers(0, 1 << 16, (64, 64)).astype(np.uint16)
    assert unit.plan(a, b, c=c).kernel == f"half-{rounding}"
    assert np.array_equal(unit.matmul(a, b, c), unit.dot(a[:, None], b.T[None], c))


# -- random bits ---------------------------------------------------------------------------------


def _sr(result: str, bits: int, policy: str | None = None) -> Stage:
    return chain(result, "sr", policy, random_bits=bits).spec.accumulate


def test_the_random_integers_are_these() -> None:
    """As the definition says, computed once by hand with unbounded integers."""

    def mix(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    bits = RandomBits(0xDEADBEEF, first=3)
    for count in (1, 3, 8, 10, 13, 16, 17, 32):
        each = 32 // count
        expected = [
            [
                mix((mix(mix(r) ^ 0xDEADBEEF) + k // each * 0x9E3779B9) % 2**32) >> k % each * count
                & 2**count - 1
                for k in range(35)
            ]
            for r in (3, 4)
        ]
        assert bits.integers(2, 35, count).tolist() == expected
    assert RandomBits(0xDEADBEEF).after(3) == bits


@pytest.mark.parametrize("bits", [1, 4, 8, 10])
def test_random_integers_look_random(bits: int) -> None:
    """Every value as often, in every field of a word; neighbours of both kinds uncorrelated."""
    drawn = RandomBits(1).integers(256, 240, bits).astype(np.int64)
    values, fields = 1 << min(bits, 4), 32 // bits
    for field in range(fields):
        counts = np.bincount(drawn[:, field::fields].reshape(-1) % values, minlength=values)
        mean = counts.sum() / values
        assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)
    centred = drawn - ((1 << bits) - 1) / 2
    variance = ((1 << 2 * bits) - 1) / 12
    for lag in (1, 2, fields):
        for shifted in (centred[lag:] * centred[:-lag], centred[:, lag:] * centred[:, :-lag]):
            assert abs(shifted.mean()) < 5 * variance / np.sqrt(shifted.size)


@pytest.mark.parametrize(("result", "bits"), [("e5m10", 8), ("e4m3fn", 8), ("e5m10", 10)])
def test_stochastic_sums_are_right_on_average(result: str, bits: int) -> None:
    """300 products that a nearest sum would mostly lose: the mean of many sums is the exact one.

    Random bits are cut off, not rounded, which makes a sum smaller by up to 2^-bits of its last
    place per step.
    """
    unit = chain(result, "sr", random_bits=bits)
    k, count, m = 300, 4096, float_format(result).mantissa_bits
    a = unit.a.encode(np.full((1, k), 0.5))
    b = unit.b.encode(np.tile([[0.5], [1.0], [1.5]], (k // 3, count)))
    scale = np.full((1, k), 127 - m, np.uint8)
    c = unit.result.encode(np.full((1, count), 16.0))
    sums = unit.result.decode(unit.matmul(a, b, c, a_scale=scale, random=RandomBits(3)))
    error = sums.mean() - (16 + k * 0.5 * 2.0**-m)
    deviation = 5 * sums.std() / np.sqrt(count)
    assert -k * 2.0 ** (5 - m - bits) - deviation < error < deviation
    assert sums.std() > 0


@pytest.mark.parametrize("seed", [-1, 1 << 32, 1.5, True, "x"])
def test_bad_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(FpsimError, match="seed"):
        RandomBits(seed)


@pytest.mark.parametrize(
    ("stage", "kernel"),
    [
        (_sr("e4m3fn", 5), "masked32-sr-normal-saturate-seeded"),
        (_sr("e5m10", 13, "saturate"), "masked32-sr-normal-inside-seeded"),
        (_sr("e5m10", 8), "masked32-sr-normal-inside-seeded-bytes"),
        (_sr("e5m10", 14), "lane64-sr-sticky-seeded"),
        (_sr("e5m10", 31), "lane64-sr-sticky-seeded"),
        (_sr("e4m3fn_flush", 3), "masked32-sr-flush-saturate-seeded"),
        (Fixed(12, 1, rounding=Rounding.SR, random_bits=4), "fixed64-sr-wrap-seeded"),
        (Fixed(12, 1, rounding=Rounding.SR, random_bits=32), "fixed64-sr-wrap-seeded"),
        (Block(4, _sr("e5m10", 10)), "bytes block4 masked32-sr-normal-inside-seeded"),
        (Block(4, _sr("e5m10", 8)), "bytes block4 masked32-sr-normal-inside-seeded-bytes"),
        (Exact(float_format("e4m3fn"), Rounding.SR, random_bits=6), "bytes block64 float"),
    ],
)
def test_a_seed_stands_for_its_integers(stage: Stage, kernel: str) -> None:
    unit = unit_of(stage)
    spec, k = unit.spec, 44
    rng = np.random.default_rng(5)
    a, b = (rng.integers(0, 16, shape).astype(np.uint8) for shape in ((3, k), (k, 35)))
    c = np.arange(105).reshape(3, 35).astype(spec.initial.dtype)
    bits = RandomBits(77)
    integers = bits.integers(105, spec.roundings(k), spec.random_bits).reshape(3, 35, -1)
    expected = oracle_matmul(unit, a, b, c, random=integers)
    assert np.array_equal(unit.matmul(a, b, c, random=integers), expected)
    assert np.array_equal(unit.matmul(a, b, c, random=bits), expected)
    assert np.array_equal(unit.dot(a[:, None], b.T[None], c, random=bits), expected)
    if {"avx512f", "avx512vnni"} <= HOST:
        assert unit.plan(a, b, c=c, random=bits).kernel == kernel
    part = unit.matmul(a[1:], b, c[1:], random=bits.after(35))
    assert np.array_equal(part, expected[1:])


@AVX512
def test_stochastic_sums_small_enough_for_each_step() -> None:
    """Both sides of the bounds: sums below the smallest normal number, and the largest sum."""

    def kernel(result: str, shift: int, k: int, start: float, bits: int = 7) -> str:
        unit = chain(result, "sr", random_bits=bits)
        a = unit.a.encode(np.array([[6.0] * k, [-6.0] * k, [0.5] * k]))
        b = unit.b.encode(np.repeat([[6.0, 0.5]], k, 0))
        scale = np.full((3, 1), 127 + shift, np.uint8)
        more: dict[str, Any] = {} if shift == 0 else {"a_scale": scale}
        c = unit.result.encode(np.full((3, 2), start))
        random = np.full((3, 2, k), (1 << bits) - 1)  # away from zero where it can
        got = unit.matmul(a, b, c, random=random, **more)
        assert np.array_equal(got, oracle_matmul(unit, a, b, c, random=random, **more))
        return unit.plan(a, b, c=c, random=random, **more).kernel

    assert kernel("e5m10", -22, 5, 2.0**-24) == "masked32-sr-normal-inside"
    assert kernel("e5m10", -23, 5, 2.0**-24) == "masked32-sr"
    assert kernel("e4m3fn", -7, 5, 2.0**-9) == "masked32-sr-normal-inside"
    assert kernel("e4m3fn", -8, 5, 2.0**-9) == "masked32-sr-saturate"
    # 36 (u + 1) ((1 + u)^K - 1) / u with u = 2^-10 is 65432 at K = 1045, 65532 at 1046.
    assert kernel("e5m10", 0, 1045, 0.0) == "masked32-sr-normal-inside"
    assert kernel("e5m10", 0, 1046, 0.0) == "masked32-sr-normal"
    assert kernel("e5m10", 0, 1, 65376.0) == "masked32-sr-normal-inside"
    assert kernel("e5m10", 0, 1, 65408.0) == "masked32-sr-normal"
    assert kernel("e5m10", 0, 1, 65472.0) == "masked32-sr-normal"  # becomes infinite


@AVX512
@pytest.mark.parametrize(
    ("result", "bits", "kernel"),
    [
        ("e5m10", 16, "masked32-sr-normal-inside"),  # sums of 19 bits: nothing below float32's
        ("e5m10", 32, "masked32-sr-normal-inside"),
        ("e6m9", 16, "lane64-sr-sticky"),  # of 36 bits
        ("e8m7", 8, "masked32-sr-normal-inside"),  # bfloat16 overflows where float32 does
        ("e8m7", 16, "masked32-sr-normal-inside"),
        ("e8m7", 17, "lane64-sr-sticky"),
    ],
)
def test_many_random_bits(result: str, bits: int, kernel: str) -> None:
    """More than a float32 has below the last place, where it holds every sum exactly."""
    unit = chain(result, "sr", random_bits=bits)
    rng = np.random.default_rng(8)
    a, b = rng.integers(0, 16, (3, 40)), rng.integers(0, 16, (40, 5))
    c = unit.result.encode(rng.integers(-900, 900, (3, 5)) / 4.0)
    integers = RandomBits(2).integers(15, 40, bits).reshape(3, 5, 40)
    expected = oracle_matmul(unit, a, b, c, random=integers)
    assert unit.plan(a, b, c=c, random=RandomBits(2)).kernel == f"{kernel}-seeded"
    assert np.array_equal(unit.matmul(a, b, c, random=RandomBits(2)), expected)
    assert np.array_equal(unit.matmul(a, b, c, random=integers), expected)
    c[1, 1] = unit.result.encode([unit.result.max_value])[0]  # type: ignore[union-attr]
    c[2, 2] = unit.result.encode([2.0**-14])[0]
    expected = oracle_matmul(unit, a, b, c, random=integers)
    assert np.array_equal(unit.matmul(a, b, c, random=integers), expected)


@pytest.mark.skipif("avx512vnni" not in HOST, reason="needs AVX512-VNNI")
@pytest.mark.parametrize(("result", "bits", "adds"), [("e5m9", 8, True), ("e5m8", 8, False),
                                                      ("e5m9", 9, False), ("e5m15", 8, True)])  # fmt: skip
def test_random_bytes_that_a_dot_instruction_adds(result: str, bits: int, adds: bool) -> None:
    """Its factors are signed bytes: 2^6 at most."""
    unit = chain(result, "sr", random_bits=bits)
    a, b, c = operands(unit, 23)
    seed = RandomBits(5)
    kernel = unit.plan(a, b, c=c, random=seed).kernel
    assert kernel.endswith("-bytes") == adds
    expected = unit.dot(a[:, None], b.T[None], c, random=seed)
    assert np.array_equal(unit.matmul(a, b, c, random=seed), expected)


@AVX512
@pytest.mark.parametrize("policy", ["saturate", None])
def test_stochastic_rounding_in_float32_lanes_is_exhausted(policy: str | None) -> None:
    """Every accumulator, a product of each magnitude, every random integer of three bits."""
    unit = chain("e4m3fn", "sr", policy, random_bits=3)
    a = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 8, 0)
    c = np.repeat(a, 16, 1)
    random = np.tile(np.arange(8, dtype=np.uint8), 256)[:, None, None]
    random = np.broadcast_to(random, (2048, 16, 1))
    b = np.arange(16, dtype=np.uint8)[None]
    for code in (1, 7):
        a = np.full((2048, 1), code, np.uint8)
        for shift in (0, -6, -10):
            scale = np.full((2048, 1), 127 + shift, np.uint8)
            got = unit.matmul(a, b, c, a_scale=scale, random=random)
            dots = unit.dot(a[:, None], b.T[None], c, a_scale=scale[:, None], random=random)
            assert np.array_equal(got, dots)
    assert unit.plan(a, b, c=c, random=random).kernel.startswith("masked32-sr-normal")
    kernel = unit.plan(a, b, c=c, a_scale=scale, random=random).kernel
    assert kernel.startswith("masked32-sr") and "normal" not in kernel
    assert get_format("e4m3fn").bits == 8
