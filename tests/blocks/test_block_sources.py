# SPDX-License-Identifier: Apache-2.0
"""Block formats: figures printed in their sources, and their recipes as numpy spells them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fpsim import get_block_format, get_format
from fpsim.blocks.preshift import real_bias

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
    never = replace(fmt, choice=None, expansions=(1.0,))
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
    [
        (4, 0, 0, 0, 0),
        (5, 0, 0, 1, 0),
        (6, 0, 0, 1, 0),
        (6.01, 0, 1, 1, 0),
        (7, 0, 1, 1, 1),
        (8, 1, 1, 1, 1),
    ],
)
def test_mx_scale_rules(amax: float, floor: int, rceil: int, ceil: int, even: int) -> None:
    x = np.array([amax], np.float32)
    for rule, exponent in (("floor", floor), ("rceil", rceil), ("ceil", ceil), ("even", even)):
        assert int(get_block_format(f"mxfp4-{rule}").quantize(x).scales[0]) - 127 == exponent
        by_sign = get_block_format(f"amxfp4-pot-{rule}").quantize(np.append(x, -x / 2))
        assert by_sign.negative_scales is not None
        assert (int(by_sign.scales[0]), int(by_sign.negative_scales[0])) == (
            127 + exponent,
            126 + exponent,
        )


def test_mx_just_below_a_power_of_two() -> None:
    x = np.array([7.9999995, 1, 1], np.float32)
    fmt = get_block_format("mxfp4")
    q = fmt.quantize(x)
    assert q.scales.tolist() == [127]
    x = np.array([15.999999, 1, 1], np.float32)
    q = fmt.quantize(x)
    assert q.scales.tolist() == [128]
    assert fmt.element.decode(q.codes).tolist() == [6, 0.5, 0.5]
