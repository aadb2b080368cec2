# SPDX-License-Identifier: Apache-2.0
"""Chains and exact sums in vector lanes: magic numbers, slices, float16.

Expected codes are the oracle's, or the scalar kernels' where a space is exhausted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.helpers import HOST, chain, float_format, oracle_matmul, unit_of
from support.lane_cases import AVX512, operands, runs_as
from support.machines import On

from fpsim import MacUnit, get_format
from fpsim.formats.rounding import Rounding
from fpsim.kernels.llvm.machine import Machine
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Block, Chain, Chunked, Exact, ProductRounding

pytestmark = pytest.mark.usefixtures("one_thread")

HALF_BY_CONVERSION = Machine(frozenset({"f16c", "avx512f"}))


# -- magic numbers -------------------------------------------------------------------------------


@pytest.mark.one_in(2)
@pytest.mark.one_in(3)
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


@AVX512
def test_magic_numbers_saturate_where_sums_are_on_the_formats_grid() -> None:
    """Starts that are -0 or special, products below the least number, sums beyond a lane."""
    unit = chain("e5m10", overflow="saturate")
    on, fmt, rng = On(unit, HALF_BY_CONVERSION), unit.result, np.random.default_rng(6)
    a, b = rng.integers(0, 16, (6, 60)), rng.integers(0, 16, (60, 20))
    a[0], b[:, :10] = 7, 7
    b[:, 5:10] = 15

    def kernel(start: float, shift: int = 0) -> str:
        c = fmt.encode(rng.normal(size=(6, 20)) * 2.0 ** rng.integers(-24, 15, (6, 20)))
        c[fmt.decode(c) == 0] = 0  # no -0
        c[0, 0] = fmt.encode([start], overflow="inf")[0]
        scale = np.full((6, 1), 127 + shift)
        expected = oracle_matmul(unit, a, b, c, scale)
        assert np.array_equal(on.matmul(a, b, c, scale), expected)
        return on.plan(a, b, c=c, a_scale=scale).kernel

    for shift, found in ((-22, "magic32-rne-saturate"), (-23, "via-half-saturate"),
                         (0, "magic32-rne-saturate"), (9, "magic32-rne-saturate"),
                         (106, "magic32-rne-saturate"), (107, "via-half-saturate")):  # fmt: skip
        assert kernel(0.0, shift) == found, shift
    for start in (-0.0, np.inf, np.nan):
        assert kernel(start) == "via-half-saturate"
    flushed = chain("e5m10_flush", overflow="saturate")
    assert "magic" not in On(flushed, HALF_BY_CONVERSION).plan(a, b).kernel


# -- float16 by conversion -----------------------------------------------------------------------


@AVX512
@pytest.mark.parametrize(
    ("operand", "kernel"),
    [
        ("e2m1", "via-half"),  # 3 * 15, squared: 2025 has 11 bits, though factors have 6 each
        ("e2m2", "via-half-odd"),  # 7 * 15 times 3 * 15: 13 bits
    ],
)
def test_products_of_scaled_elements_have_the_bits_of_the_largest_one(
    operand: str, kernel: str
) -> None:
    """Every significand of an element and an E4M3 scale, beside accumulators that break ties."""
    spec = MacSpec(get_format(operand), get_format("e2m1"), Chain(float_format("e5m10")))
    scale = get_format("e4m3fn")
    unit = MacUnit(replace(spec, a_scale=scale, b_scale=scale))
    on, rng = On(unit, HALF_BY_CONVERSION), np.random.default_rng(7)
    elements = np.arange(1, 1 << (unit.a.bits - 1))
    a_scale = scale.encode(np.outer(2.0 ** np.arange(-9, 9, 4), np.arange(8, 16)).reshape(-1))
    a = np.repeat(elements, a_scale.size)[:, None]
    a_scale = np.tile(a_scale, elements.size)[:, None]
    b = np.repeat(np.array([2, 3]), 24)[None]
    b_scale = np.tile(scale.encode(np.arange(8.0, 16.0)), 6)[None]
    signs, shape = rng.choice([-1, 1], (a.size, b.size)), (a.size, b.size)
    c = unit.result.encode(signs * 2.0 ** rng.integers(-24, 8, shape))
    given = {"c": c, "a_scale": a_scale, "b_scale": b_scale}
    assert on.plan(a, b, **given).kernel == kernel
    assert np.array_equal(on.matmul(a, b, **given), oracle_matmul(unit, a, b, **given))


@AVX512
def test_a_tie_of_float16_beside_its_least_number() -> None:
    unit = chain("e5m10", a="int12")
    tiny = unit.result.encode([[2.0**-24, -(2.0**-24), 0.0]])
    on = On(unit, HALF_BY_CONVERSION)
    a, b = np.array([[3]]), np.array([[683] * 3])  # 2049
    assert on.plan(a, b, c=tiny).kernel == "via-half-odd"
    assert unit.result.decode(on.matmul(a, b, tiny)).tolist() == [[2050.0, 2048.0, 2048.0]]


# -- exact sums ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("operand", "binades"), [("e5m10", 8), ("e8m7", 60), ("e5m2", 14)])
def test_slices_add_up(operand: str, binades: int) -> None:
    unit = unit_of(Exact(float_format("e8m23")), operand)
    assert runs_as(unit, 41, binades) == "slice64"


def test_slices_cancel() -> None:
    """The largest and smallest products of float16, then the largest again, negative."""
    unit = unit_of(Exact(float_format("e8m23"), Rounding.RUP), "e5m10")
    tiny = 2.0**-24
    a = unit.a.encode([[65504.0, tiny, -65504.0], [65504.0, tiny, -65472.0], [tiny, tiny, -tiny]])
    b = unit.b.encode([[65504.0, tiny], [tiny, tiny], [65504.0, tiny]])
    assert unit.plan(a, b).kernel == "slice64"
    assert np.array_equal(unit.matmul(a, b), oracle_matmul(unit, a, b))


@pytest.mark.one_in(11)
@pytest.mark.parametrize("accumulate", ["rdn", "rne", "block", "inner", "outer"])
@pytest.mark.parametrize("operand", ["e2m1", "e4m3fn", "e4m6"])
def test_exact_zeros_have_the_sign_of_what_adds_up_to_them(operand: str, accumulate: str) -> None:
    """Zeros of one sign and of both, sums that cancel, and sums that are rounded to zero."""
    fmt = float_format("e4m3")
    down = Exact(fmt, Rounding.RDN)
    stages = {
        "rdn": down,
        "rne": Exact(fmt),
        "block": Block(4, down),
        "inner": Chunked(down, Chain(fmt), 4),
        "outer": Chunked(Chain(fmt), down, 4),
    }
    unit = unit_of(stages[accumulate], operand)
    fours = [(0.0,) * 4, (-0.0,) * 4, (1.0, -1.0, 0.0, 0.0), (0.0, 0.0, 0.0, -0.0)]
    values = [(*x, *y) for x in fours for y in fours]
    values += [(*x, y, 0.0, 0.0, 0.0) for x in fours for y in (1.0, -1.0)]
    a = unit.a.encode(values)
    b = unit.b.encode(np.array([[1.0, -1.0, 0.0, -0.0]]).repeat(8, 0))
    far = 2.0**-12  # times 1.0 is rounded to zero
    scale = get_format("e8m0").encode([[1.0, 1.0], [1.0, far], [far, far]])
    starts = fmt.encode([0.0, -0.0])
    for scales in (np.repeat(scale[:1], len(a), 0), np.repeat(scale, -(-len(a) // 3), 0)[: len(a)]):
        for c in (None, starts[[0, 0, 0, 0]], starts[[0, 1, 1, 1]], starts[[1, 1, 1, 1]]):
            addend = None if c is None else np.repeat(c[None], len(a), 0)
            assert unit.plan(a, b, c=addend, a_scale=scales).kernel not in ("scalar", "limbs")
            expected = oracle_matmul(unit, a, b, addend, scales)
            assert np.array_equal(unit.matmul(a, b, addend, scales), expected)


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


# -- separate multipliers --------------------------------------------------------------------------


@pytest.mark.one_in(3)
@AVX512
@pytest.mark.parametrize(
    ("a", "b", "result", "kernel"),
    [
        ("e5m10", "e5m10", "e8m7", "masked32"),
        ("e8m7", "e8m7", "e8m7_flush", "lane64-rne-sticky"),
        ("e5m10", "e5m10", "e8m13", "masked32-odd"),  # 2P = 28
        # Products of 24 bits, and of 25.
        pytest.param("e5m10", "e5m12", "e8m13", "masked32-odd", marks=pytest.mark.sweep),
        pytest.param("e5m10", "e5m13", "e8m13", "lane64-rne-sticky", marks=pytest.mark.sweep),
        ("e5m10", "e5m10", "e5m10", "via-half"),
        ("e5m10", "e5m10", "e5m9", "shifted32-rne"),
        ("e5m10", "e5m10", "e5m9_flush", "shifted32-rne-flush"),
        ("e4m3fn", "e5m10", "e4m3fn", "shifted32-rne-saturate"),
    ],
)
def test_products_are_rounded_where_float32_holds_them(
    a: str, b: str, result: str, kernel: str
) -> None:
    """Overflow, subnormal results, zeros of both signs, and every tie between bfloat16 numbers."""
    stage = Chain(float_format(result), product=ProductRounding.ROUNDED)
    unit = unit_of(stage, a, b)
    for binades in (4, 13):
        assert runs_as(unit, 40, binades) == f"separate-{kernel}"
    odd = 1 + 2 * np.arange(256)
    rows, columns = unit.a.encode(odd[:, None] / 64), unit.b.encode([[1.0, 0.5, 3.0]])
    start = unit.result.encode(np.full((256, 3), -0.0))
    expected = oracle_matmul(unit, rows, columns, start)
    assert np.array_equal(unit.matmul(rows, columns, start), expected)
