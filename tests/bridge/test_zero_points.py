# SPDX-License-Identifier: Apache-2.0
"""Zero points of operands: added as integers, or as columns that the unit multiplies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from fpsim import get_unit  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge.product import Product, zero_columns, zero_correction  # noqa: E402
from fpsim.bridge.systems.casts import GridCast, GroupCast, RangeCast, RazorCast, input_cast  # noqa: E402
from fpsim.formats.floating import FixedFormat  # noqa: E402
from fpsim.formats.names import E8M0, get_format  # noqa: E402
from fpsim.units.operands import Operand, Scales  # noqa: E402


def drawn(rows: int, width: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.standard_normal((rows, width)) + random.uniform(-2, 2, (rows, 1))
    return values.astype(np.float32)


def integers(operand: Operand) -> np.ndarray:
    """Two's complement codes minus zeros, by hand."""
    width = operand.format.bits
    codes = operand.codes.astype(np.int64)
    signed = codes - (codes >> (width - 1) << width)
    return signed - (0 if operand.zeros is None else operand.zeros)


@pytest.mark.parametrize("on_unit", [False, True])
@pytest.mark.parametrize(("a", "b"), [(1, 0), (0, 1), (1, 1)])
def test_products_are_those_of_codes_minus_zeros(a: int, b: int, on_unit: bool) -> None:
    plain, ranged = GridCast(get_format("int4")), RangeCast(4)
    x = (plain, ranged)[a].quantize(drawn(5, 70, 1))
    w = (plain, ranged)[b].quantize(drawn(3, 70, 2))
    exact = integers(x) @ integers(w).T
    wanted = exact.astype(np.float32) * x.factor * w.factor.T
    found, _ = Product(get_unit("exact"), zeros_on_unit=on_unit).run(x, w)
    np.testing.assert_array_equal(found, wanted)


def test_columns_hold_the_correction() -> None:
    x = RangeCast(4, zero_in_range=False).quantize(drawn(5, 70, 1) + 9)
    w = RangeCast(4).quantize(drawn(3, 70, 2))
    assert np.abs(x.zeros).max() > 16  # no 4-bit integer: it takes more than one column
    columns = zero_columns(x, w)
    found = columns[0].dequantize() @ columns[1].dequantize().T
    np.testing.assert_array_equal(found, zero_correction(x, w))
    exact = integers(x) @ integers(w).T
    bare = integers(replace(x, zeros=None)) @ integers(replace(w, zeros=None)).T
    np.testing.assert_array_equal(exact - bare, found)


def test_rows_keep_their_zeros() -> None:
    x = RangeCast(4).quantize(drawn(6, 20, 3))
    part = x.at(slice(2, 4))
    np.testing.assert_array_equal(part.dequantize(), x.dequantize()[2:4])


def test_zeros_need_integers_without_block_scales() -> None:
    zeros = np.ones((1, 1), np.int64)
    with pytest.raises(FpsimError, match="zeros: .* not e2m1"):
        Operand(np.zeros((1, 4), np.uint8), get_format("e2m1"), zeros=zeros)
    scales = Scales(np.full((1, 1, 1), 127, np.uint8), E8M0, 4)
    with pytest.raises(FpsimError, match="zeros"):
        Operand(np.zeros((1, 4), np.uint8), FixedFormat(4), scales, zeros=zeros)


# -- the casts themselves, by independent formulas -----------------------------------------------


def test_a_range_with_zero_in_it() -> None:
    """A(4) of GPTQ's code: lo = min(x, 0), hi = max(x, 0), z = round(-lo / s)."""
    x = drawn(7, 33, 4)
    found = RangeCast(4).quantize(x)
    low, high = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0)
    scale = ((high - low) / np.float32(15)).astype(np.float32)[:, None]
    zero = np.rint(-low[:, None].astype(float) / scale)
    wanted = (np.clip(np.rint(x.astype(float) / scale) + zero, 0, 15) - zero) * scale
    np.testing.assert_array_equal(found.dequantize(), wanted)
    assert (np.abs(found.dequantize() - x) <= 0.51 * scale).all()
    empty = RangeCast(4).quantize(np.zeros((1, 4), np.float32))
    assert (empty.dequantize() == 0).all()
    assert empty.factor[0, 0] == np.float32(2 / 15)


def test_a_range_without_zero_may_have_far_zero_points() -> None:
    x = drawn(3, 16, 5) * 0.1 + 7
    found = RangeCast(4, zero_in_range=False).quantize(x)
    assert (found.zeros < -8).all()
    np.testing.assert_allclose(found.dequantize(), x, atol=0.05)


def test_symmetric_scales_clip_and_search() -> None:
    x = drawn(4, 50, 6)
    whole, cut = (GridCast(get_format("int4s"), clip).quantize(x) for clip in (1.0, 0.9))
    np.testing.assert_allclose(cut.factor, whole.factor * 0.9, rtol=1e-6)
    np.testing.assert_allclose(whole.factor[:, 0], np.abs(x).max(1) / 7, rtol=1e-6)
    best = GridCast(get_format("int4s"), search=80).quantize(x)
    shares = best.factor / whole.factor
    assert (shares <= 1).all()
    assert (shares < 1).any()
    for share in 1 - np.arange(80) / 100:  # none of those tried is better
        scale = (whole.factor * np.float32(share)).astype(float)
        back = np.clip(np.rint(x / scale), -7, 7) * scale
        error = (np.abs(back - x) ** 2.4).sum(1)
        least = (np.abs(best.dequantize() - x) ** 2.4).sum(1)
        assert (least <= error * (1 + 1e-5)).all()


@pytest.mark.parametrize("symmetric", [False, True])
def test_groups_have_half_precision_scales(symmetric: bool) -> None:
    x = drawn(4, 50, 7)
    found = GroupCast(4, 16, symmetric=symmetric).quantize(x)
    assert found.scales.codes.shape == (4, 4, 1)
    for group in range(4):
        part = x[:, 16 * group : 16 * group + 16].astype(float)
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        step = np.maximum(high, -low) / 7 if symmetric else (high - low) / 15
        step = step.astype(np.float16).astype(float)[:, None]
        zero = 0 if symmetric else np.rint(-low[:, None] / step)
        bounds = (-8, 7) if symmetric else (0, 15)
        wanted = (np.clip(np.rint(part / step) + zero, *bounds) - zero) * step
        np.testing.assert_array_equal(found.dequantize()[:, 16 * group : 16 * group + 16], wanted)


@pytest.mark.parametrize("half_up", [False, True])
def test_razor_by_a_loop_over_integers(half_up: bool) -> None:
    x = drawn(5, 21, 8) * np.array([[1], [1e-3], [10], [0], [1]], np.float32)
    found = RazorCast(16, 8, half_up=half_up).quantize(x)
    scale = np.float32(np.abs(x).max() / np.float32(32767))
    for row in range(5):
        for first in range(0, 21, 8):
            base = [round(float(v) / float(scale)) for v in x[row, first : first + 8]]
            drop = max(max(abs(q) for q in base).bit_length() - 3, 0)
            for at, q in enumerate(base):
                size, odd = divmod(abs(q), 1 << drop)
                twice = 2 * odd - (1 << drop)
                up = drop > 0 and (twice > 0 or (twice == 0 and (half_up or size % 2)))
                kept = min(size + up, 7) << drop
                wanted = float(np.copysign(kept, q)) * float(scale)
                assert found.dequantize()[row, first + at] == pytest.approx(wanted, rel=1e-6)


def test_inputs_by_name() -> None:
    assert input_cast("float") is None
    half = input_cast("fp16").quantize(drawn(2, 8, 9))
    np.testing.assert_array_equal(half.dequantize(), drawn(2, 8, 9).astype(np.float16))
    assert input_cast("int4").quantize(drawn(2, 8, 9)).codes.max() < 16
    assert input_cast("int8-asym").bits == 8
    assert input_cast("mxfp4").fmt.name == "mxfp4"
    with pytest.raises(FpsimError, match="inputs: 'int4-odd' is not one of"):
        input_cast("int4-odd")
    for cast in (GridCast(get_format("int4s")), RangeCast(4), RazorCast(), GroupCast()):
        with pytest.raises(FpsimError, match="NaN or infinity"):
            cast.quantize(np.array([[1, np.nan]], np.float32))
