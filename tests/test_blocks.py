# SPDX-License-Identifier: Apache-2.0
"""Block formats: every named one against exact rationals, and figures printed in their sources."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fpsim import BlockFormat, FpsimError, Quantized, get_block_format, get_format
from fpsim.blocks import BLOCK_FORMATS, Span
from fpsim.oracle_blocks import quantize_block, tensor_scale
from fpsim.preshift import preshift, real_bias

NAMES = list(BLOCK_FORMATS)
VARIANTS = [
    *NAMES,
    *(f"mxfp4-{rule}" for rule in ("rceil", "ceil", "even")),
    *(f"amxfp4-pot-{rule}" for rule in ("rceil", "ceil")),
]
F32 = np.finfo(np.float32)
#: Ends of ranges, ties, powers of two and their neighbours.
EDGES = [0.0, -0.0, 1e-45, -1e-45, 2.0**-126, 4.6e-5, F32.max, -F32.max, 6.0, 7.0, -7.0, 448 * 6.0]
EDGES += [np.nextafter(np.float32(8), np.float32(0)), 0.25, 0.75, 1.25, -1.75, 2.5, -3.5, 5.0]


def check_against_oracle(fmt: BlockFormat, x: NDArray[Any]) -> None:
    """Compare codes, scales and the rest of finite rows with the oracle, block by block."""
    q = fmt.quantize(x)
    largest = Fraction(float(np.abs(x.astype(np.float64)).max()))
    rows = x.reshape(1, -1) if fmt.block is Span.TENSOR else x
    codes = q.codes.reshape(rows.shape)
    size = rows.shape[1] if isinstance(fmt.block, Span) else fmt.block
    if q.tensor_scale is not None:
        assert float(q.tensor_scale) == float(tensor_scale(fmt, largest))
    for r, row in enumerate(rows):
        for g, start in enumerate(range(0, len(row), size)):
            block = [float(v) for v in row[start : start + size]]
            expected = quantize_block(fmt, block, largest)
            where = (fmt.name, block)
            assert codes[r, start : start + size].tolist() == expected.codes, where
            if fmt.scale is not None:
                assert int(q.scales.reshape(len(rows), -1)[r, g]) == expected.scale, where
            else:
                top = max(abs(Fraction(v)) for v in block)
                scale = float(top / Fraction(fmt.limit)) if top else 1.0
                assert float(q.scales.reshape(len(rows), -1)[r, g]) == scale, where
            if q.negative_scales is not None:
                assert int(q.negative_scales[r, g]) == expected.negative_scale, where
            if q.zero_points is not None:
                assert int(q.zero_points[r, g]) == expected.zero_point, where


def wide_values(seed: int, shape: tuple[int, ...], spread: int = 12) -> NDArray[np.float32]:
    """Return values of many magnitudes, many of them on few bits so that ties occur."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-96, 97, shape) / 8.0
    fine = rng.standard_normal(shape) * 3
    x = np.where(rng.random(shape) < 0.5, coarse, fine)
    blocks = np.exp2(rng.integers(-spread, spread + 1, (*shape[:-1], 1)))
    return np.asarray(x * blocks, dtype=np.float32)


# -- every named format against exact rationals ---------------------------------------------------


def mixed_rows(seed: int, rows: int, length: int, narrow: bool) -> NDArray[np.float32]:
    """Return finite float32 bit patterns, sixteenths and edges, mixed or (``narrow``) without ends.

    Drawn from a seed: Hypothesis takes milliseconds per element to draw floats one by one.
    """
    rng = np.random.default_rng(seed)
    shape = (rows, length)
    bits = rng.integers(0, 1 << 32, shape, dtype=np.uint32).view(np.float32)
    bits = np.where(np.isfinite(bits), bits, np.float32(1))
    sixteenths = (rng.integers(-200, 201, shape) / 16).astype(np.float32)
    edges = rng.choice(np.array(EDGES, np.float32), shape)
    kind = rng.integers(0, 3, shape)
    normal = rng.standard_normal(shape).astype(np.float32)
    ends = (normal, normal) if narrow else (bits, edges)
    return np.asarray(np.select([kind == 0, kind == 1], [sixteenths, ends[0]], ends[1]))


arrays = st.builds(
    mixed_rows, st.integers(0, 1 << 32), st.integers(1, 2), st.integers(1, 50), st.booleans()
)


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=10)
@given(x=arrays)
def test_any_rows_are_cast_as_the_oracle_says(name: str, x: NDArray[np.float32]) -> None:
    check_against_oracle(get_block_format(name), x)


@pytest.mark.parametrize("name", VARIANTS)
def test_whole_blocks_are_cast_as_the_oracle_says(name: str) -> None:
    """Enough elements for the vector kernels."""
    check_against_oracle(get_block_format(name), wide_values(1, (8, 128)))


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-torchao", "amxfp4", "amxfp4-rne", "amxfp4-pot"])
def test_vector_and_plain_paths_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fmt = get_block_format(name)
    x = wide_values(2, (512, 128), spread=40)
    x[3, :16], x[5, 0], x[6, 1] = -0.0, 1e-45, F32.max
    x[7, 7], x[8, 8], x[9, :] = np.nan, -np.inf, 0
    fast = fmt.quantize(x)
    monkeypatch.setattr("fpsim.casts.VECTOR_MINIMUM", 1 << 40)
    plain = fmt.quantize(x)
    for part in ("codes", "scales", "negative_scales", "tensor_scale"):
        np.testing.assert_array_equal(getattr(fast, part), getattr(plain, part))


# -- figures from the sources ---------------------------------------------------------------------


def test_amxfp4_example() -> None:
    x = np.array([10, 3.1, -0.7, 0.2, -0.05, 0, 1.3, -0.4], np.float32)
    fmt = get_block_format("amxfp4")
    q = fmt.quantize(x)
    assert q.negative_scales is not None
    assert get_format("e5m2").decode(q.scales) == [1.75]
    assert get_format("e5m2").decode(q.negative_scales) == [0.109375]
    assert fmt.element.decode(q.codes).tolist() == [6, 2, -6, 0, -0.5, 0, 0.5, -4]
    values = fmt.dequantize(q)
    assert values.tolist() == [10.5, 3.5, -0.65625, 0, -0.0546875, 0, 0.875, -0.4375]
    assert np.mean((values - x) ** 2) == pytest.approx(0.0792, abs=5e-5)
    mx = get_block_format("mxfp4")
    assert np.mean((mx.dequantize(mx.quantize(x)) - x) ** 2) == pytest.approx(0.549, abs=5e-4)


def test_amxfp4_side_that_rounds_to_zero_is_no_nan() -> None:
    """The reference computes 0 / 0 for the exact zero beside a negative side below 6 * 2^-17."""
    fmt = get_block_format("amxfp4")
    q = fmt.quantize(np.array([1.0, 0.0, -1e-5, 0.5], np.float32))
    assert q.negative_scales is not None
    assert get_format("e5m2").decode(q.negative_scales) == [1.0]
    assert (q.codes & 7).tolist()[1:3] == [0, 0]
    assert np.isfinite(fmt.dequantize(q)).all()


def test_amxfp4_ties_of_elements_and_scales() -> None:
    # 6 * 1.125 puts the scale halfway between the E5M2 neighbours 1 and 1.25.
    x = np.array([6.75, -6.75, 0.25, -0.25], np.float32)
    away = get_block_format("amxfp4").quantize(x)
    even = get_block_format("amxfp4-rne").quantize(x)
    assert get_format("e5m2").decode(away.scales) == [1.25]
    assert get_format("e5m2").decode(even.scales) == [1.0]
    assert away.codes.tolist() == [7, 15, 0, 8]
    assert even.codes.tolist() == [7, 15, 0, 8]  # 0.25 / 1 is a tie, and 0 is even
    ties = np.array([6, 0.25, 1.25, 2.5, -0.25, -6], np.float32)
    assert get_block_format("amxfp4").quantize(ties).codes.tolist() == [7, 1, 3, 5, 9, 15]
    assert get_block_format("amxfp4-rne").quantize(ties).codes.tolist() == [7, 0, 2, 4, 8, 15]


def test_amxfp4_powers_of_two_by_sign() -> None:
    x = np.array([7, 1, -15, -1], np.float32)
    floor, even = (get_block_format(f"amxfp4-{name}").quantize(x) for name in ("pot", "pot-r"))
    assert floor.negative_scales is not None
    assert even.negative_scales is not None
    assert (floor.scales - 127.0, floor.negative_scales - 127.0) == ([0], [1])
    assert (even.scales - 127.0, even.negative_scales - 127.0) == ([1], [2])


def test_amxint4_zero_point() -> None:
    fmt = get_block_format("amxint4")
    x = np.array([-3, 12, 0, 1], np.float32)  # s = 15 / 15, z = 3 - 8
    q = fmt.quantize(x)
    assert q.zero_points is not None
    assert q.zero_points.tolist() == [-5]
    assert q.codes.tolist() == [8, 7, 11, 12]
    assert fmt.dequantize(q).tolist() == x.tolist()


def test_nvfp4_scales() -> None:
    x = np.zeros((2, 16), np.float32)
    x[0, 0], x[1, 0] = 2688, 1
    for name in ("nvfp4", "nvfp4-torchao"):
        q = get_block_format(name).quantize(x)
        assert q.tensor_scale == 1
        # 1/6 lies between 0.15625 and 0.171875.
        assert get_format("e4m3fn").decode(q.scales)[:, 0].tolist() == [448, 0.171875]


def test_nvfp4_zero_scale_recipes() -> None:
    x = np.zeros((3, 16), np.float32)
    x[0, 0], x[1, 1] = 2688, 1e-4  # the second scale rounds to zero, the third is zero
    one, clamped = (get_block_format(name).quantize(x) for name in ("nvfp4", "nvfp4-torchao"))
    assert get_format("e4m3fn").decode(one.scales)[:, 0].tolist() == [448, 1, 1]
    assert get_format("e4m3fn").decode(clamped.scales)[:, 0].tolist() == [448, 2**-6, 2**-6]
    assert not one.codes[1:].any()
    assert not clamped.codes[1:].any()


def test_nvfp4_recipes_follow_their_float32_operations() -> None:
    """The recipes as numpy spells them; they differ in a few codes of many."""
    x = np.random.default_rng(3).standard_normal((4096, 16)).astype(np.float32)
    e4m3, e2m1 = get_format("e4m3fn"), get_format("e2m1")
    amax = np.abs(x).max(axis=1, keepdims=True)
    s_t = amax.max() / np.float32(2688)
    model = e4m3.encode(amax / (np.float32(6) * s_t))
    torch = e4m3.encode(np.clip(amax / np.float32(6) / s_t, 2**-6, 448))
    divided = x / (e4m3.decode(model).astype(np.float32) * s_t)
    multiplied = x * (np.float32(1) / s_t / e4m3.decode(torch).astype(np.float32))
    assert divided.dtype == multiplied.dtype == np.float32
    one, other = (get_block_format(name).quantize(x) for name in ("nvfp4", "nvfp4-torchao"))
    np.testing.assert_array_equal(one.scales, model)
    np.testing.assert_array_equal(other.scales, torch)
    np.testing.assert_array_equal(one.codes, e2m1.encode(divided))
    np.testing.assert_array_equal(other.codes, e2m1.encode(multiplied))


@pytest.mark.parametrize(
    ("largest", "amax"),
    [
        (5.246450424194336, 1.4521424770355225),
        (6.106475830078125, 0.024705329909920692),
        (7.545506954193115, 0.12210921198129654),
    ],
)
def test_nvfp4_order_of_operations_in_the_scale(largest: float, amax: float) -> None:
    """amax / (6 s_t) and (amax / 6) / s_t fall on different sides of an E4M3 midpoint."""
    x = np.zeros((2, 16), np.float32)
    x[:, 0] = largest, amax
    s_t = x[0, 0] / np.float32(2688)
    e4m3, six = get_format("e4m3fn"), np.float32(6)
    model, torch = e4m3.encode(np.array([x[1, 0] / (six * s_t), x[1, 0] / six / s_t]))
    assert model != torch
    assert get_block_format("nvfp4").quantize(x).scales[1, 0] == model
    clamped = get_block_format("nvfp4-torchao").quantize(x).scales[1, 0]
    assert clamped == max(torch, e4m3.encode(np.array(2.0**-6)))


@pytest.mark.parametrize(
    ("values", "four", "errors"),
    [
        ((6, 5, -5, 4.8, 1, 0.5, -2.5, 3), True, (0.361, 0.097)),
        ((4, 3, 2, 1.5, -6, 0.5, 1, 0), False, (0.0, None)),
    ],
)
def test_four_over_six_examples(
    values: tuple[float, ...], four: bool, errors: tuple[float, float | None]
) -> None:
    """One block whose tensor scale puts its scale at a power of two, as the figures assume."""
    x = np.zeros((2, 16), np.float32)
    x[0, :8] = values
    x[1, 0] = 6 * 256  # s_t = 1
    chosen = get_block_format("fouroversix").quantize(x)
    assert chosen.tensor_scale == 1
    assert get_format("e4m3fn").decode(chosen.scales)[0, 0] == (1.5 if four else 1.0)
    fmt = get_block_format("fouroversix")
    error = np.mean((fmt.dequantize(chosen)[0, :8] - x[0, :8]) ** 2)
    expected = errors[1] if four else errors[0]
    assert error == pytest.approx(expected, abs=5e-4)
    never = replace(fmt, choice=None)
    assert np.mean((never.dequantize(never.quantize(x))[0, :8] - x[0, :8]) ** 2) == pytest.approx(
        errors[0], abs=5e-4
    )


def test_if4_marks_integer_blocks_in_the_sign_of_the_scale() -> None:
    x = np.zeros((2, 16), np.float32)
    x[0, :8] = np.arange(-7, 8, 2) * 6 / 7 * 448  # the stretched integers
    x[1, :8] = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6]) * 448
    fmt = get_block_format("if4")
    q = fmt.quantize(x)
    assert q.scales[:, 0].tolist() == [0xFE, 0x7E]
    assert q.codes[0, :8].tolist() == [i % 16 for i in range(-7, 8, 2)]
    np.testing.assert_allclose(fmt.dequantize(q), x, rtol=1e-6)


def test_llmfp4_ties_are_decided_on_the_step() -> None:
    x = np.array([16, 12, 6, 0.375, 0.125, -0.125, -0.375, 1.5], np.float32)
    fmt = get_block_format("llmfp4-e3m0-row")  # values 0 .25 .5 1 2 4 8 16
    assert fmt.dequantize(fmt.quantize(x)).tolist() == [16, 16, 8, 0.5, 0, 0, -0.5, 2]
    assert get_block_format("llmfp4-e2m1-row").quantize(
        np.array([12, 0.5, 2.5, -10.0], np.float32)
    ).codes.tolist() == [7, 0, 2, 14]


def test_llmfp4_reproduces_the_largest_value() -> None:
    fmt = get_block_format("llmfp4-e2m1-row")
    q = fmt.quantize(np.array([10.0, 1.0], np.float32))
    assert fmt.dequantize(q)[0] == 10
    # Element values lie on 2^-bias times the paper's grid.
    b = -np.log2(q.scales[0]) + get_format("e2m1").bias
    assert b == pytest.approx(np.log2(1.2), abs=1e-14)
    assert real_bias(get_format("e2m1"), 10) == pytest.approx(np.log2(1.2), abs=1e-14)


def test_qrazor_keeps_three_bits_below_the_leading_one() -> None:
    fmt = get_block_format("qrazor-w4-g8")
    x = np.array([127, -64, 3, 0, 8, 100, -7, 24], np.float32)  # the integers themselves
    q = fmt.quantize(x)
    assert q.tensor_scale == 1
    assert q.scales.tolist() == [4]
    # 127 / 16 would be 8 and stays 7; 8 / 16 is a tie, away from zero.
    assert q.codes.tolist() == [7, 12, 0, 0, 1, 6, 0, 2]
    assert fmt.dequantize(q).tolist() == [112, -64, 0, 0, 16, 96, 0, 32]
    assert [get_block_format(f"qrazor-w4-g{g}").bits_per_element for g in (8, 16)] == [
        4.375,
        4.1875,
    ]


@pytest.mark.parametrize(
    ("amax", "floor", "rceil", "ceil", "even"),
    [(4, 0, 0, 0, 0), (5, 0, 0, 1, 0), (6.01, 0, 1, 1, 0), (7, 0, 1, 1, 1), (8, 1, 1, 1, 1)],
)
def test_mx_scale_rules(amax: float, floor: int, rceil: int, ceil: int, even: int) -> None:
    x = np.array([amax], np.float32)
    for rule, exponent in (("floor", floor), ("rceil", rceil), ("ceil", ceil), ("even", even)):
        assert int(get_block_format(f"mxfp4-{rule}").quantize(x).scales[0]) - 127 == exponent


def test_mx_just_below_a_power_of_two() -> None:
    x = np.array([7.9999995, 1, 1], np.float32)
    fmt = get_block_format("mxfp4")
    q = fmt.quantize(x)
    assert q.scales.tolist() == [127]
    x = np.array([15.999999, 1, 1], np.float32)
    q = fmt.quantize(x)
    assert q.scales.tolist() == [128]
    assert fmt.element.decode(q.codes).tolist() == [6, 0.5, 0.5]


# -- LLM-FP4's pre-shifted bias -------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["paper", "code"])
def test_preshift_example(reading: str) -> None:
    fmt = get_format("e2m1")
    maxima = np.array([12, 6, 3, 0.75, 96])
    assert real_bias(fmt, maxima).tolist() == [0, 1, 2, 4, -3]
    shifted = preshift(fmt, maxima, reading)
    assert shifted.rho == -3
    assert shifted.shifts.tolist() == [3, 3, 3, 3, 0]
    # Channels keep a too coarse step where the integer is clipped, and never overflow.
    assert shifted.dequantize(shifted.quantize(maxima)).tolist() == [12, 6, 3, 1, 96]


def test_preshift_readings_differ_by_at_most_one() -> None:
    fmt = get_format("e3m0")
    maxima = np.exp2(np.random.default_rng(0).uniform(-4, 4, 500))
    paper, code = (preshift(fmt, maxima, r).shifts for r in ("paper", "code"))
    assert set(np.unique(paper - code)) == {-1, 0}
    assert paper.min() == 0
    assert max(paper.max(), code.max()) == 7
    b = real_bias(fmt, maxima)
    np.testing.assert_array_equal(paper, np.clip(np.rint(b - b.min()), 0, 7))
    np.testing.assert_array_equal(code, np.clip(np.rint(b) - np.rint(b.min()), 0, 7))


def test_preshift_identity() -> None:
    """Folding the shifts into the product changes nothing in exact arithmetic."""
    rng = np.random.default_rng(1)
    fmt = get_format("e2m1")
    x = rng.standard_normal((6, 5)) * np.array([1, 2, 4, 0.5, 9])
    shifted = preshift(fmt, np.abs(x).max(axis=0), rho=-1.0)
    codes = shifted.quantize(x)
    folded = 2.0 * fmt.decode(codes) * 2.0**fmt.bias * 2.0**-shifted.shifts
    np.testing.assert_array_equal(shifted.dequantize(codes), folded)


def test_bad_preshift() -> None:
    fmt = get_format("e2m1")
    with pytest.raises(FpsimError, match="reading: 'both' is not one of paper, code"):
        preshift(fmt, [1.0], "both")
    with pytest.raises(FpsimError, match="clip: every value must be positive"):
        preshift(fmt, [1.0, 0.0])
    with pytest.raises(FpsimError, match="element: e4m3fn is not"):
        real_bias(get_format("e4m3fn"), 1)
    with pytest.raises(FpsimError, match="x: shape"):
        preshift(fmt, [1.0, 2.0]).quantize(np.zeros(3))
    with pytest.raises(FpsimError, match="x: NaN"):
        preshift(fmt, [1.0]).quantize(np.array([np.nan]))


# -- special values, axes, shapes -----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
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
    # The other blocks are those of a tensor with nothing in the bad one.
    clean = np.where(isnan, np.float32(0), x)
    np.testing.assert_array_equal(values[~isnan], fmt.dequantize(fmt.quantize(clean))[~isnan])


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_all_zero(name: str) -> None:
    fmt = get_block_format(name)
    x = np.zeros((2, 40), np.float32)
    x[0] = -0.0
    values = fmt.dequantize(fmt.quantize(x))
    np.testing.assert_array_equal(values, x)


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_empty(name: str, shape: tuple[int, ...]) -> None:
    fmt = get_block_format(name)
    q = fmt.quantize(np.zeros(shape, np.float32))
    assert q.codes.shape == shape
    assert q.scales.size == 0
    assert fmt.dequantize(q).shape == shape


@pytest.mark.parametrize("name", NAMES)
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

SYMMETRIC = [n for n in NAMES if "int4" not in n and n != "if4"]


@pytest.mark.parametrize("name", SYMMETRIC)
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


# -- a format of one's own, and bad input ---------------------------------------------------------

TOML = """
name = "fp4-e5m10"
element = "e1m2"
block = 8
scale = "e5m10"
signs = true
"""


def test_a_format_from_toml(tmp_path: Any) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    fmt = get_block_format(str(path))
    assert fmt == get_block_format(path) == BlockFormat.from_toml(path)
    assert fmt.rule == "absmax"
    check_against_oracle(fmt, wide_values(8, (4, 21), spread=3))


@pytest.mark.parametrize(
    "fields",
    [
        {"element": "e3m0", "block": 16, "scale": "ue4m3", "tensor_range": 448},
        {"element": "int4s", "block": 16, "scale": "e4m3fn", "tensor_range": 448},
        {"element": "int8q6", "block": 32},
        {"element": "e0m3", "block": 24, "scale": "e8m23"},
        {"element": "int8", "block": 5, "rule": "range", "scale": "e5m10"},
        {"element": "e2m3", "block": "row", "scale": "e8m7", "rounding": "rna"},
        {"element": "e2m1", "block": "tensor", "scale": "e4m3fn", "zero": "one"},
        {"element": "int3s", "block": "row", "scale": "real"},
    ],
)
def test_formats_of_ones_own_follow_the_oracle(fields: dict[str, Any]) -> None:
    fmt = BlockFormat.from_dict({"name": "mine", **fields})
    check_against_oracle(fmt, wide_values(9, (9, 130), spread=3))
    check_against_oracle(fmt, wide_values(10, (3, 30), spread=0))


BASE: dict[str, Any] = {"name": "x", "element": "e2m1", "block": 16}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blok": 3}, "blok: not a field"),
        ({"block": 0}, "block: 0 is not"),
        ({"block": "rows"}, "block: 'rows' is not one of row, tensor"),
        ({"block": True}, "block: True"),
        ({"element": "e2m9x"}, "element: format"),
        ({"scale": "int8"}, "scale: int8 is not a floating-point format"),
        ({"rule": "best"}, "rule: 'best' is not one of"),
        ({"rule": "absmax"}, "rule: 'absmax' does not fit scale e8m0"),
        ({"rule": "even", "scale": "e5m2"}, "rule: 'even' gives powers of two"),
        ({"rule": "range", "scale": "e5m2"}, "rule: 'range' needs"),
        ({"rule": "razor"}, "base_bits: 0 does not fit"),
        ({"base_bits": 8}, "base_bits: 8 does not fit"),
        ({"rounding": "sr"}, "rounding: .* not 'sr'"),
        ({"rounding": "rup", "scale": "e5m2"}, "rounding: 'rup' is possible only in MX"),
        ({"tensor_range": -1}, "tensor_range: -1"),
        ({"tensor_range": 448}, "tensor_range: needs"),
        ({"tensor_range": "448", "scale": "e4m3fn"}, "tensor_range: '448' is not a float"),
        ({"choice": "mse"}, "choice: needs"),
        ({"choice": "best", "scale": "e4m3fn"}, "choice: 'best' is not one of"),
        ({"arithmetic": "ratio", "scale": "e4m3fn"}, "arithmetic: 'ratio' needs a tensor_range"),
        ({"alternative": "int4s", "scale": "e4m3fn"}, "alternative: needs a choice"),
        (
            {"alternative": "int4s", "choice": "mse", "scale": "ue4m3"},
            "alternative: needs a scale with a sign",
        ),
        ({"signs": True, "element": "int4"}, "signs: needs"),
        ({"signs": 1}, "signs: 1 is not a bool"),
        ({"nan": "scale", "scale": "ue4m3f"}, "nan: 'scale' is not possible"),
    ],
)
def test_impossible_formats_are_one_clear_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FpsimError, match=message):
        BlockFormat.from_dict({**BASE, **change})


def test_missing_field_and_unreadable_file(tmp_path: Any) -> None:
    with pytest.raises(FpsimError, match="element: missing"):
        BlockFormat.from_dict({"name": "x", "block": 16})
    with pytest.raises(FpsimError, match="cannot read"):
        get_block_format(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(FpsimError, match=r"bad\.toml"):
        get_block_format(tmp_path / "bad.toml")


@pytest.mark.parametrize("name", ["mxfp5", "nvfp4-floor", "mxfp4-absmax", "amxfp4-even", ""])
def test_unknown_names_and_rules(name: str) -> None:
    with pytest.raises(FpsimError, match=r"^(rule|block format): "):
        get_block_format(name)


@pytest.mark.parametrize("axis", [2, -3, 1.0, "0"])
def test_axis_that_does_not_exist(axis: Any) -> None:
    with pytest.raises(FpsimError, match="axis"):
        get_block_format("nvfp4").quantize(np.zeros((2, 2), np.float32), axis=axis)


def test_other_bad_arguments() -> None:
    fmt = get_block_format("amxfp4")
    with pytest.raises(FpsimError, match="x: dtype int64"):
        fmt.quantize(np.zeros(3, np.int64))
    with pytest.raises(FpsimError, match="axis"):
        fmt.quantize(np.float32(3))
    with pytest.raises(FpsimError, match="nan: 'zero' is not one of error, saturate, scale"):
        fmt.quantize(np.zeros(3, np.float32), nan="zero")
    q = fmt.quantize(np.zeros(3, np.float32))
    with pytest.raises(FpsimError, match="negative_scales: missing"):
        fmt.dequantize(Quantized(q.codes, q.scales, q.axis))
    with pytest.raises(FpsimError, match="codes: 16"):
        fmt.dequantize(replace(q, codes=q.codes + 16))


def test_layers_run_only_what_they_can_run_exactly() -> None:
    """A product of codes and scales has no zero points and one grid; the rest is not faked."""
    operand = pytest.importorskip("fpsim.bridge.operand")
    for name, message in (("amxint4", "zero points"), ("if4", "changes its element grid")):
        with pytest.raises(FpsimError, match=message):
            operand.BlockCast(get_block_format(name))
