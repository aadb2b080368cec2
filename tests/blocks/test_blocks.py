# SPDX-License-Identifier: Apache-2.0
"""Block formats: every named one against exact rationals, special values, axes, properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from support.block_cases import (
    F32,
    KINDS,
    NAMES,
    VARIANTS,
    arrays,
    check_against_oracle,
    wide_values,
)
from support.helpers import by_default

from fpsim import BlockFormat, FpsimError, get_block_format
from fpsim.blocks import casts
from fpsim.blocks.block_format import Span

pytestmark = pytest.mark.usefixtures("one_thread")


# -- every named format against exact rationals ---------------------------------------------------


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", by_default(VARIANTS, KINDS))
@settings(max_examples=10)
@given(x=arrays)
def test_any_rows_are_cast_as_the_oracle_says(name: str, x: NDArray[np.float32]) -> None:
    check_against_oracle(get_block_format(name), x)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", by_default(VARIANTS, KINDS))
def test_whole_blocks_are_cast_as_the_oracle_says(name: str) -> None:
    """Enough elements for the vector kernels."""
    check_against_oracle(get_block_format(name), wide_values(1, (8, 128)))


@pytest.mark.parametrize("rule", ["floor", "rceil", "ceil", "even"])
def test_largest_scale_in_whole_blocks(rule: str) -> None:
    """E1M2's exponent is small enough for scale 2^127, whose reciprocal is subnormal."""
    fmt = BlockFormat.from_dict({"name": "mine", "element": "e1m2", "block": 32, "rule": rule})
    x = np.linspace(-1, 1, 2048, dtype=np.float32).reshape(-1, 64) * F32.max
    check_against_oracle(fmt, x)
    assert int(fmt.quantize(x).scales.max()) == (253 if rule == "floor" else 254)


@pytest.mark.parametrize("name", by_default(NAMES, KINDS))
def test_tiny_and_huge_tensors(name: str) -> None:
    """Scales, their products and reciprocals leave float32's range on both sides."""
    fmt = get_block_format(name)
    for top in (1e-45, 3e-45, 1e-41, 2.0**-126, 1e-37, 1e-30, 1e30, 3e38, float(F32.max)):
        x = np.array([[top, -top / 2, 0, -0.0, top / 7, 1e-45, -1e-45, top / 1e5]], np.float32)
        check_against_oracle(fmt, x)
        assert np.isfinite(fmt.dequantize(fmt.quantize(x))).all()


@pytest.mark.parametrize("name", ["amxfp4", "amxfp4-rne", "amxfp4-pot"])
def test_vector_and_plain_paths_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fmt = get_block_format(name)
    x = wide_values(2, (512, 128), spread=40)
    x[3, :16], x[5, 0], x[6, 1] = -0.0, 1e-45, F32.max
    x[7, 7], x[8, 8], x[9, :] = np.nan, -np.inf, 0
    calls, kernel = [], casts.kernels.block_elements
    monkeypatch.setattr(
        casts.kernels, "block_elements", lambda *args: calls.append(args) or kernel(*args)
    )
    fast = fmt.quantize(x)
    assert calls
    calls.clear()
    monkeypatch.setattr(casts, "VECTOR_MINIMUM", 1 << 40)
    plain = fmt.quantize(x)
    assert not calls
    for part in ("codes", "scales", "negative_scales", "tensor_scale"):
        np.testing.assert_array_equal(getattr(fast, part), getattr(plain, part))


# -- special values, axes, shapes -----------------------------------------------------------------


@pytest.mark.parametrize("name", by_default(NAMES, KINDS))
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [64, 4096])
def test_nan_and_infinity_never_become_a_number(name: str, bad: float, size: int) -> None:
    fmt = get_block_format(name)
    x = wide_values(4, (2, size))
    x[1, 40] = bad
    with pytest.raises(FpsimError, match=f"row.* {name}"):
        fmt.quantize(x, nan="error")
    if fmt.scale is not None and fmt.scale.nan_code is None:
        assert fmt.default_nan == "error"
        with pytest.raises(FpsimError, match="nan: 'scale' is not possible"):
            fmt.quantize(x, nan="scale")
        return
    values = fmt.dequantize(fmt.quantize(x))
    block = size if isinstance(fmt.block, Span) else fmt.block
    start = 40 // block * block
    isnan = np.zeros(x.shape, dtype=bool)
    isnan[1, start : start + block] = True
    if fmt.block is Span.TENSOR:
        isnan[:] = True
    np.testing.assert_array_equal(np.isnan(values), isnan)
    q = fmt.quantize(x)
    for scales in (q.scales, q.negative_scales):
        if scales is not None:  # of both signs, whatever the sign of the bad value
            marked = scales if fmt.scale is None else fmt.scale.decode(scales)
            assert np.isnan(marked).sum() == 1
    assert not q.codes[isnan].any()
    # The other blocks are those of a tensor with nothing in the bad one.
    clean = np.where(isnan, np.float32(0), x)
    np.testing.assert_array_equal(values[~isnan], fmt.dequantize(fmt.quantize(clean))[~isnan])


@pytest.mark.parametrize("name", by_default(NAMES, KINDS))
def test_infinities_saturate_on_request_and_nan_does_not(name: str) -> None:
    fmt = get_block_format(name)
    x = wide_values(5, (2, 64))
    x[0, 3], x[1, 4] = np.inf, -np.inf
    q = fmt.quantize(x, nan="saturate")
    values = fmt.dequantize(q)
    rest = np.isfinite(x)
    assert np.isfinite(values).all()
    same = fmt.dequantize(fmt.quantize(np.where(rest, x, np.float32(0))))
    np.testing.assert_array_equal(values[rest], same[rest])
    assert values[0, 3] > 0
    assert values[0, 3] >= values[0, : 16 if fmt.block != 8 else 8].max()
    assert values[1, 4] < 0
    x[0, 3] = np.nan
    with pytest.raises(FpsimError, match="NaN"):
        fmt.quantize(x, nan="saturate")


@pytest.mark.parametrize("name", by_default(NAMES, KINDS))
def test_all_zero(name: str) -> None:
    fmt = get_block_format(name)
    x = np.zeros((2, 40), np.float32)
    x[0] = -0.0
    values = fmt.dequantize(fmt.quantize(x))
    np.testing.assert_array_equal(values, x)
    check_against_oracle(fmt, x)


@pytest.mark.parametrize("name", by_default(NAMES, KINDS))
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_axis(name: str, axis: int) -> None:
    fmt = get_block_format(name)
    x = wide_values(6, (5, 33, 7))
    q = fmt.quantize(x, axis=axis)
    rows = fmt.quantize(np.moveaxis(x, axis, -1))
    assert q.codes.shape == x.shape
    np.testing.assert_array_equal(np.moveaxis(q.codes, axis, -1), rows.codes)
    np.testing.assert_array_equal(np.moveaxis(q.scales, axis, -1), rows.scales)
    values = fmt.dequantize(q)
    np.testing.assert_array_equal(np.moveaxis(values, axis, -1), fmt.dequantize(rows))


@pytest.mark.parametrize("name", by_default(NAMES, KINDS))
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_empty(name: str, shape: tuple[int, ...]) -> None:
    fmt = get_block_format(name)
    q = fmt.quantize(np.zeros(shape, np.float32))
    assert q.codes.shape == shape
    assert q.scales.size == 0
    assert fmt.dequantize(q).shape == shape


@pytest.mark.parametrize("name", by_default(NAMES, KINDS))
def test_float16_is_taken_as_its_value(name: str) -> None:
    x = wide_values(7, (3, 50), spread=3).astype(np.float16)
    fmt = get_block_format(name)
    half, full = fmt.quantize(x), fmt.quantize(x.astype(np.float32))
    np.testing.assert_array_equal(half.codes, full.codes)
    np.testing.assert_array_equal(half.scales, full.scales)


@pytest.mark.parametrize("fields", [{"scale": "e4m3fn"}, {"element": "int8q6"}])
def test_float64_beyond_float32_counts_as_infinite(fields: dict[str, Any]) -> None:
    fmt = BlockFormat.from_dict({"name": "x", "element": "e2m1", "block": 16, **fields})
    x = np.array([1e300, -1e300, 1.0])
    assert np.isnan(fmt.dequantize(fmt.quantize(x))).all()
    values = fmt.dequantize(fmt.quantize(x, nan="saturate"))
    assert np.isfinite(values).all()
    assert values[0] >= values[2] > 0 > values[1]
    mx = get_block_format("mxfp4")
    assert mx.quantize(x).scales.tolist() == [254]


# -- properties -----------------------------------------------------------------------------------

SYMMETRIC = [n for n in NAMES if "int" not in n and not n.endswith("if4")]


@pytest.mark.parametrize("name", by_default(SYMMETRIC, KINDS))
@settings(max_examples=12)
@given(x=arrays)
def test_sign_symmetry(name: str, x: NDArray[np.float32]) -> None:
    """-x swaps the scales of the signs and negates the values."""
    fmt = get_block_format(name)
    plus, minus = fmt.quantize(x), fmt.quantize(-x)
    np.testing.assert_array_equal(fmt.dequantize(plus), -fmt.dequantize(minus))
    other = plus.negative_scales if fmt.signs else plus.scales
    np.testing.assert_array_equal(other, minus.scales)


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8-e4m3", "amxfp4-pot", "mxfp4-rceil"])
@settings(max_examples=30)
@given(x=arrays)
def test_power_of_two_formats_are_idempotent(name: str, x: NDArray[np.float32]) -> None:
    fmt = get_block_format(name)
    values = fmt.dequantize(fmt.quantize(x))
    with np.errstate(over="ignore"):
        again = values.astype(np.float32)
    if np.array_equal(again, values):
        np.testing.assert_array_equal(fmt.dequantize(fmt.quantize(again)), values)


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "amxfp4", "llmfp4-e2m1-row", "fouroversix"])
@settings(max_examples=12)
@given(x=arrays)
def test_values_of_a_block_keep_their_order(name: str, x: NDArray[np.float32]) -> None:
    fmt = get_block_format(name)
    values = fmt.dequantize(fmt.quantize(x))
    size = x.shape[1] if isinstance(fmt.block, Span) else fmt.block
    for start in range(0, x.shape[1], size):
        order = np.argsort(x[:, start : start + size], axis=1, kind="stable")
        ranked = np.take_along_axis(values[:, start : start + size], order, axis=1)
        assert (np.diff(ranked, axis=1) >= 0).all()
