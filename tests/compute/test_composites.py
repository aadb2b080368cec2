# SPDX-License-Identifier: Apache-2.0
"""Chunks and blocks by hand, in E8M2 (8 + 1 is 8, 10 + 1 is 12), and against their parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.helpers import codes_of, dot_code, dot_value, float_format, unit_of

from fpsim import MacUnit, get_format, get_unit, oracle
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Exact, Fixed, Stage, Tree

F32 = float_format("e8m23")
COARSE = float_format("e8m2")
NAN = float("nan")


def chunked(inner: Stage, outer: Stage, a: str = "e8m7", **more: Any) -> MacUnit:
    return unit_of(Chunked(inner, outer, **more), a)


def block(size: int, into: Stage, **more: Any) -> MacUnit:
    """Return an E2M1 unit that sums blocks."""
    scales = {k: more.pop(k) for k in ("a_scale", "b_scale", "sign_split") if k in more}
    return unit_of(Block(size, into, **more), **scales)


# -- chunks --------------------------------------------------------------------------------------


def test_chunks_are_promoted_into_a_wider_accumulator() -> None:
    """(8+1 -> 8) + (1+1) = 10, then 11 with c; one coarse chain stays at 8."""
    unit = chunked(Chain(COARSE), Chain(F32), size=2)
    assert dot_value(unit, [8, 1, 1, 1]) == 10.0
    assert dot_value(unit, [8, 1, 1, 1], c=1) == 11.0
    assert dot_value(get_unit("e8m7-chain-e8m2"), [8, 1, 1, 1]) == 8.0


def test_a_chunk_starts_from_positive_zero() -> None:
    """Not from c, which is a code of the outer accumulator; -0 products leave no trace."""
    unit = chunked(Chain(COARSE), Chain(F32), size=2)
    assert dot_code(unit, [-0.0, -0.0], c=-0.0) == 0
    assert dot_value(unit, [1, 1, 1, 1], c=8) == 12.0
    wide = chunked(Chain(COARSE), Chain(COARSE), size=4)
    assert dot_value(wide, [1, 1, 1, 1], c=8) == 12.0  # 4 + 8, not 8 + 1 + 1 + 1 + 1


def test_the_last_chunk_may_be_short() -> None:
    unit = chunked(Chain(COARSE), Chain(F32), size=2)
    assert dot_value(unit, [8, 1, 1]) == 9.0
    assert dot_value(unit, [8]) == 8.0


def test_split_k_has_parts_of_equal_length() -> None:
    """Five products in two parts: three and two."""
    unit = chunked(Chain(COARSE), Chain(F32), parts=2)
    assert dot_value(unit, [8, 1, 1, 1, 1]) == 10.0
    assert dot_value(unit, [8, 1, 1, 4, 8]) == 20.0
    assert dot_value(chunked(Chain(COARSE), Chain(F32), parts=1), [8, 1, 1, 1, 1]) == 8.0
    assert dot_value(chunked(Chain(COARSE), Chain(F32), parts=9), [8, 1, 1, 1, 1]) == 12.0


def test_split_k_serial_is_not_pairwise() -> None:
    """Parts 8, 1, 1, 1: one after another all of them are lost, in pairs 8 + 2 is 10."""
    serial = chunked(Chain(COARSE), Chain(COARSE), parts=4)
    pairwise = chunked(Chain(COARSE), Tree(COARSE), parts=4)
    assert dot_value(serial, [8, 1, 1, 1]) == 8.0
    assert dot_value(pairwise, [8, 1, 1, 1]) == 10.0


def test_parts_of_blocks_are_whole_blocks() -> None:
    """Six products in blocks of two and two parts: four and two, not three and three."""
    stage = Chunked(Block(2, Chain(COARSE)), Chain(F32), parts=2)
    assert stage.chunk(6) == 4
    unit = unit_of(stage)
    scales = np.array([127, 128, 126])
    assert dot_value(unit, [6, 2, 0.5, 0.5, 1, 1], a_scale=scales) == 11.0


def test_a_promoted_tensor_core_is_its_parts() -> None:
    """Thirteen fraction bits for 128 products, promoted to float32: by the unit, and by hand."""
    inner = get_unit("nvidia-h100-e4m3")
    unit = unit_of(Chunked(inner.spec.accumulate, Chain(F32), size=128), "e4m3fn")
    rng = np.random.default_rng(3)
    a, b = (get_format("e4m3fn").encode(rng.normal(size=(5, 500)) * 4) for _ in "ab")
    total = np.zeros(5, dtype=np.float32)
    for k in range(0, 500, 128):
        part = inner.dot(a[:, k : k + 128], b[:, k : k + 128])
        total = part.view(np.float32) + total
    assert np.array_equal(unit.dot(a, b).view(np.float32), total)
    assert np.array_equal(np.diag(unit.matmul(a, b.T)).view(np.float32), total)
    exact = (get_format("e4m3fn").decode(a) * get_format("e4m3fn").decode(b)).sum(1)
    alone = inner.dot(a, b).view(np.float32)
    assert np.abs(total - exact).mean() < np.abs(alone - exact).mean()


# -- blocks: early and late scales ----------------------------------------------------------------


def test_scales_apply_early_with_one_rounding_or_late_with_two() -> None:
    """The block's 9 into E8M2: added to 1 exactly it makes 10; converted first it is 8, then 8."""
    assert dot_value(block(2, Chain(COARSE)), [6, 3], c=1) == 10.0
    assert dot_value(block(2, Chain(COARSE), convert=COARSE), [6, 3], c=1) == 8.0
    upward = block(2, Chain(COARSE), convert=COARSE, convert_rounding="rup")
    assert dot_value(upward, [6, 3], c=1) == 12.0  # 10 + 1 -> 12


def test_a_block_sum_itself_never_rounds() -> None:
    """E8M2 has 32, 40, ...: 36.25 lies above their middle and -35.75 does not reach it."""
    unit = block(4, Chain(COARSE))
    assert dot_value(unit, [6, 6, 6, 0.5], [6, 6, -6, 0.5]) == 40.0
    assert dot_value(unit, [6, 6, -6, 0.5], [6, -6, 6, 0.5]) == -32.0
    assert dot_value(unit, [6, -6, 0.5, 0], [6, 6, 0.5, 0]) == 0.25


def test_scales_of_powers_of_two_shift_a_block() -> None:
    unit = block(2, Exact(F32))
    scales = np.array([127 + 3, 127 - 2])
    assert dot_value(unit, [1, 2, 3, 4], a_scale=scales) == 3 * 8 + 7 / 4
    assert dot_value(unit, [1, 2, 3, 4], a_scale=scales, b_scale=scales) == 3 * 64 + 7 / 16
    one = np.array([127])
    assert dot_value(unit, [1, 2, 3, 4], a_scale=one, b_scale=scales) == 3 * 8 + 7 / 4


def test_a_scale_may_have_a_significand() -> None:
    unit = block(2, Exact(F32), a_scale="ue4m3fn", b_scale="e5m2")
    a_scale = codes_of(unit.spec.a_scale, [1.125, 448])
    b_scale = codes_of(unit.spec.b_scale, [1.25, -0.5])
    got = dot_value(unit, [1, 2, 3, 4], a_scale=a_scale, b_scale=b_scale)
    assert got == 3 * 1.125 * 1.25 - 7 * 224


def test_a_nan_scale_spoils_the_sum_or_drops_its_block() -> None:
    scales = np.array([255, 127])
    strict, lenient = block(2, Chain(F32)), block(2, Chain(F32), nan_scale="zero")
    assert np.isnan(dot_value(strict, [1, 2, 3, 4], c=1, a_scale=scales))
    assert dot_value(lenient, [1, 2, 3, 4], c=1, a_scale=scales) == 8.0
    assert dot_value(lenient, [0, 0, 3, 4], c=1, b_scale=scales) == 8.0
    assert np.isnan(dot_value(strict, [0, 0, 3, 4], c=1, b_scale=scales)), "zero times NaN"
    for unit, first in ((strict, NAN), (lenient, 8.0)):
        a, b = unit.a.encode([[1.0, 2, 3, 4]]), unit.a.encode(np.ones((4, 1)))
        c = codes_of(F32, [[1.0]])
        values = F32.decode(unit.matmul(a, b, c, scales[None]))
        assert np.array_equal(values, [[first]], equal_nan=True)


# -- blocks inside a window ----------------------------------------------------------------------


def test_a_block_aligns_by_its_scales_and_not_by_its_sum() -> None:
    """s = 72 does not raise E from 0, so units of 1/2 keep the other block's 0.5."""
    unit = block(2, Aligned(2, 1, F32))
    assert dot_value(unit, [6, 6, 0.5, 0], [6, 6, 1, 0]) == 72.5
    assert dot_value(unit, [6, 6, 0.5, 0], [6, 6, 0.5, 0]) == 72.0  # 0.25 is below it


def test_a_zero_block_still_raises_the_exponent() -> None:
    """Its scale 2^4 makes units of 8: the other block's 1 is gone."""
    unit = block(2, Aligned(2, 1, F32))
    scales = np.array([127 + 4, 127])
    assert dot_value(unit, [0, 0, 1, 0], a_scale=scales) == 0.0
    assert dot_value(unit, [0, 0, 6, 2], a_scale=scales) == 8.0


def test_nvfp4_scales_have_significands_in_the_window() -> None:
    """s = 0.25 times 1.5 * 1.5 is 0.5625, one unit of 1/2; E comes from exponents alone."""
    unit = block(2, Aligned(2, 1, F32), a_scale="ue4m3fn", b_scale="ue4m3fn")
    scales = codes_of(unit.spec.a_scale, [1.5])
    assert dot_value(unit, [0.5, 0], [0.5, 0], a_scale=scales, b_scale=scales) == 0.5


def test_blackwell_nvf4_adds_four_groups_and_c_in_one_window() -> None:
    """Per step 64 products; 35 fraction bits below the largest scale, then truncated to float32."""
    unit = get_unit("nvidia-b200-nvf4")
    a = np.zeros(64)
    a[[0, 16]] = 1, 0.5
    scales = codes_of(unit.spec.a_scale, [256, 2.0**-9, 1, 1])
    # 2^8 + 2^-10 needs 18 bits: kept. With both operands scaled 2^16 + 2^-19 is 35 bits: truncated.
    assert dot_value(unit, a, np.ones(64), a_scale=scales) == 256 + 2.0**-10
    both = {"a_scale": scales, "b_scale": scales}
    assert dot_value(unit, a, np.ones(64), **both) == 65536.0
    assert dot_value(unit, a, np.ones(64), c=-65536.0, **both) == 2.0**-19
    a[16] = 0.5
    b = np.ones(64)
    b[16] = 0.5  # 2^-20 is below 2^(16 - 35)
    assert dot_value(unit, a, b, c=-65536.0, **both) == 0.0
    nan = np.full(4, 0x7F)
    assert dot_code(unit, a, b, a_scale=nan) == 0x7FFFFFFF


def test_mxdotp_rounds_a_block_and_the_accumulator_once() -> None:
    """2^24 + 1 + 1 in float32: both ones together survive."""
    unit = get_unit("pulp-mxdotp-e2m1")
    a = np.zeros(16)
    a[:2] = 1
    assert dot_value(unit, a, c=2.0**24) == 2.0**24 + 2
    assert dot_value(get_unit("e2m1-chain-e8m23"), a, c=2.0**24) == 2.0**24


# -- AMXFP4 --------------------------------------------------------------------------------------


def test_amxfp4_scales_each_quadrant_of_signs() -> None:
    """a scaled 1 and 2, b scaled 1 and 4: 1*1*1, -2*1*4, -1*2*1, 2*2*4 add up to 7."""
    unit = block(4, Exact(F32), a_scale="e5m2", b_scale="e5m2", sign_split="both")
    scale = unit.spec.a_scale
    a_scale, b_scale = codes_of(scale, [[1, 2]]), codes_of(scale, [[1, 4]])
    a, b = [1, 2, -1, -2], [1, -1, 1, -1]
    assert dot_value(unit, a, b, a_scale=a_scale, b_scale=b_scale) == 7.0
    x, y = codes_of(unit.a, a), codes_of(unit.b, b)
    trace = oracle.trace(unit, x, y, None, a_scale, b_scale)
    sums = [(n.name, n.text) for n in trace.nodes if n.name.startswith("s[")]
    assert sums == [("s[g0++]", "1"), ("s[g0+-]", "-2"), ("s[g0-+]", "-1"), ("s[g0--]", "2")]
    scaled = [n.text for n in trace.nodes if n.name.startswith("p[")]
    assert scaled == ["1", "-8", "-2", "16"]
    codes = unit.matmul(x[None], y[:, None], None, a_scale[None], b_scale[:, None])
    assert F32.decode(codes).item() == 7.0


def test_quadrants_are_added_in_order() -> None:
    """The positive 9 first, which E8M2 makes 8, then -1; the other way round it would be 8."""
    unit = block(4, Chain(COARSE), sign_split="a")
    a_scale = np.array([[127, 127]])
    assert dot_value(unit, [6, 3, -1, 0], a_scale=a_scale) == 7.0


def test_split_scales_without_a_split_product_of_signs() -> None:
    """Only a is split: b's sign stays in the products."""
    unit = block(2, Exact(F32), a_scale="e5m2", sign_split="a")
    a_scale = codes_of(unit.spec.a_scale, [[1, 4]])
    assert dot_value(unit, [2, -3], [-1, -1], a_scale=a_scale) == -2 + 12


def test_products_may_have_scales_by_sign_without_blocks() -> None:
    unit = unit_of(Exact(F32), a_scale="e5m2", sign_split="a")
    a_scale = codes_of(unit.spec.a_scale, [[1, 4], [2, 0.5]])
    assert dot_value(unit, [2, -3, 1, -4], a_scale=a_scale) == 2 - 12 + 2 - 2


def test_a_block_into_a_fixed_accumulator() -> None:
    """Scaled sums on a grid of 1/4, saturated at 31.75."""
    unit = block(2, Fixed(8, -2, "saturate"))
    assert dot_value(unit, [6, 6, 0.5, 0], [6, 6, 0.5, 0]) == 32.0 - 0.25
    assert dot_value(unit, [6, 1, 0.5, 0], [1, 1, 0.5, 0], a_scale=np.array([127, 126])) == 7.0


@pytest.mark.parametrize("nan_scale", ["nan", "zero"])
def test_a_nan_scale_has_no_place_on_a_grid(nan_scale: str) -> None:
    unit = block(2, Fixed(8, -2), nan_scale=nan_scale)
    x = unit.a.encode([1.0, 1])
    if nan_scale == "zero":
        assert unit.dot(x, x, a_scale=[255]) == 0
    else:
        with pytest.raises(ValueError, match="has no code"):
            unit.dot(x, x, a_scale=[255])


def test_a_scale_may_be_a_float32() -> None:
    """Without a table of all 2^32 values; the products keep all of their 2 * 24 + 4 bits."""
    rng = np.random.default_rng(7)
    a, b = rng.integers(0, 16, (2, 3, 8)).astype(np.uint8)
    for stage in (Exact(F32), Chain(F32), Block(4, Chain(F32)), Block(4, Aligned(2, 20, F32))):
        other = "e5m2" if isinstance(stage, Block) else "e8m23"
        unit = unit_of(stage, a_scale="e8m23", b_scale=other)
        x, y = (
            fmt.encode(rng.normal(size=(3, 2))) for fmt in (unit.spec.a_scale, unit.spec.b_scale)
        )
        given = {"a_scale": x[:, None], "b_scale": y[None]}
        expected = oracle.dot(unit, a[:, None], b[None], **given)
        assert np.array_equal(unit.dot(a[:, None], b[None], **given), expected)
        assert np.array_equal(unit.matmul(a, b.T, None, x, y.T), expected)
