# SPDX-License-Identifier: Apache-2.0
"""`check_block_cast` finds wrong scales and wrong elements by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fpsim import BlockFormat, FpsimError, get_block_format, testing

MX, NV = get_block_format("mxfp4"), get_block_format("nvfp4")
Function = Callable[[Any], Any]


def quantizer(fmt: BlockFormat | str, values: bool = False, order: str = "") -> Function:
    made = get_block_format(fmt)

    def quantize(x: Any) -> Any:
        quantized = made.quantize(x)
        if values:
            with np.errstate(over="ignore"):
                return made.dequantize(quantized).astype(np.float32)
        codes = quantized.codes
        first, second = codes[..., ::2], codes[..., 1::2]
        if order == "low-first":
            codes = first | second << 4
        elif order == "high-first":
            codes = second | first << 4
        return codes, quantized.scales

    return quantize


def log2_scales(x: Any) -> Any:
    blocks = x.reshape(-1, 32)
    top = np.abs(blocks).max(axis=1)
    with np.errstate(divide="ignore"):
        exponent = np.clip(np.floor(np.log2(top)) - 2, -127, 127)
    exponent[top == 0] = -127
    codes = MX.element.encode(blocks / 2.0 ** exponent[:, None])
    scales = (exponent + 127).astype(np.uint8)
    return codes.reshape(x.shape), scales.reshape(x.shape[0], -1)


def ceil_log2_scales(x: Any) -> Any:
    blocks = x.reshape(-1, 32)
    with np.errstate(divide="ignore"):
        exponent = np.ceil(np.log2(np.abs(blocks).max(axis=1) / np.float32(6)))
    exponent = np.clip(exponent, -127, 127)
    codes = MX.element.encode(blocks / 2.0 ** exponent[:, None])
    return codes.reshape(x.shape), (exponent + 127).astype(np.uint8).reshape(x.shape[0], -1)


def undivided(least: float, otherwise: float) -> Function:
    """Divide by ``otherwise`` where a scale is below ``least``."""

    def quantize(x: Any) -> Any:
        scales = MX.quantize(x).scales
        divisor = np.repeat(2.0 ** (scales.astype(np.float64) - 127), 32, axis=1)
        return MX.element.encode(x / np.where(divisor < least, otherwise, divisor)), scales

    return quantize


@pytest.mark.parametrize("name", ["mxfp4", "mxfp4-rceil", "nvfp4", "fouroversix"])
def test_right_quantizers_hold(name: str) -> None:
    for values in (False, True):
        result = testing.check_block_cast(quantizer(name, values), name)
        assert result
        assert result.tried > 5000
        assert not result.mistakes


@pytest.mark.parametrize(
    "name",
    ["amxfp4", "amxint4", "if4", "llmfp4-e2m1-row", "qrazor-w4-g16", "nf4", "hif4", "mxfp4+"],
)
def test_formats_of_more_parts_are_checked_by_their_values(name: str) -> None:
    assert testing.check_block_cast(quantizer(name, values=True), name)
    with pytest.raises(FpsimError, match="more than a code and a scale"):
        testing.check_block_cast(quantizer(name), name, returns="codes")


def test_tiles_are_not_checked_row_by_row() -> None:
    with pytest.raises(FpsimError, match="nvfp4-2d has tiles"):
        testing.check_block_cast(quantizer("nvfp4-2d", values=True), "nvfp4-2d")


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("function", "name", "options", "words"),
    [
        (quantizer("mxfp4-rceil"), "mxfp4", {}, "rounded up so that nothing saturates"),
        (quantizer("mxfp4-rceil", True), "mxfp4", {}, "rounded up so that nothing saturates"),
        (quantizer("mxfp4-even"), "mxfp4", {}, "rounded to an element first (even)"),
        (log2_scales, "mxfp4", {}, "the exponent were floor(log2) in float32"),
        (ceil_log2_scales, "mxfp4-rceil", {}, "the exponent were ceil(log2) in float32"),
        (undivided(2.0**-126, 2.0**-126), "mxfp4", {}, "divided by no less than 2^-126"),
        (undivided(2.0**-126, 1.0), "mxfp4", {}, "not divided by the smallest scale"),
        (quantizer(replace(MX, rounding="rna")), "mxfp4", {}, "ties away"),
        (quantizer(replace(MX, block=16), True), "mxfp4", {}, "blocks had 16 elements"),
        (quantizer(MX, order="high-first"), "mxfp4", {"packing": "low-first"}, "other half of"),
        (quantizer(replace(NV, scale_rounding="rup")), "nvfp4", {}, "the scale were rounded up"),
        (quantizer(replace(NV, rounding="rna"), True), "nvfp4", {}, "ties away"),
        (quantizer("amxfp4-rne", True), "amxfp4", {}, "elements and scales were rounded to near"),
    ],
)
def test_mistakes_are_named(function: Function, name: str, options: Any, words: str) -> None:
    result = testing.check_block_cast(function, name, **options)
    assert not result
    assert words in result.mistakes[0].name, str(result)


def test_both_orders_of_nibbles() -> None:
    for order in ("low-first", "high-first"):
        assert testing.check_block_cast(quantizer(MX, order=order), "mxfp4", packing=order)


def test_the_counterexample_keeps_only_what_it_takes() -> None:
    result = testing.check_block_cast(log2_scales, "mxfp4")
    case = result.counterexample
    assert case is not None
    assert case.given.count("x[") == 1
    printed: list[Any] = []
    exec(case.replay, {"function": log2_scales, "print": printed.append})
    (codes, scales), right = printed
    assert not np.array_equal(scales, right.scales)
    assert codes.shape == right.codes.shape
    named = testing.check_block_cast(log2_scales, "mxfp4-rceil").counterexample
    assert named is not None
    assert "get_block_format('mxfp4-rceil')" in named.replay


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (lambda x: MX.quantize(x).codes, {}, "codes need their scales beside them"),
        (lambda x: (x[:, ::2], x), {}, r"returned shape \(\d+, 64\); it must return codes and"),
        (quantizer(MX, values=True), {"returns": "codes"}, "it was to return codes and scales"),
        (quantizer(MX), {"returns": "values"}, "one array of dequantized values"),
        (quantizer(MX), {"packing": "low-first"}, r"it must return codes and scales, low-first"),
    ],
)
def test_broken_contracts(function: Function, options: Any, words: str) -> None:
    with pytest.raises(testing.ContractError, match=words):
        testing.check_block_cast(function, "mxfp4", **options)


def test_bad_arguments() -> None:
    with pytest.raises(FpsimError, match="packing: 'big'"):
        testing.check_block_cast(quantizer(MX), "mxfp4", packing="big")  # type: ignore[arg-type]
    with pytest.raises(FpsimError, match="block format: 'mxfp5'"):
        testing.check_block_cast(quantizer(MX), "mxfp5")
