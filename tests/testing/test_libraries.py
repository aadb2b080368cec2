# SPDX-License-Identifier: Apache-2.0
"""Other libraries as they are: their known mistakes are found by name, right ones are left alone.

Run with ``-m libraries``; a library that is not installed is skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fpsim import testing

pytestmark = [pytest.mark.libraries, pytest.mark.filterwarnings("ignore")]


def names(result: testing.CheckResult) -> set[str]:
    assert not result
    return {mistake.name for mistake in result.mistakes}


def right(result: testing.CheckResult) -> None:
    assert result, str(result)
    assert not result.mistakes


@pytest.mark.parametrize(
    ("dtype", "fmt", "overflow"),
    [
        ("float4_e2m1fn", "e2m1", None),
        ("float6_e2m3fn", "e2m3", None),
        ("float6_e3m2fn", "e3m2", None),
        ("float8_e4m3fn", "e4m3fn", "nan"),
        ("float8_e5m2", "e5m2", "inf"),
        ("bfloat16", "e8m7", "inf"),
    ],
)
def test_ml_dtypes_is_right(dtype: str, fmt: str, overflow: str | None) -> None:
    kind = getattr(pytest.importorskip("ml_dtypes"), dtype)
    right(testing.check_rounding(lambda x: x.astype(kind), fmt, "rne", overflow=overflow))


def test_ml_dtypes_turns_nan_into_minus_zero() -> None:
    kind = pytest.importorskip("ml_dtypes").float4_e2m1fn
    result = testing.check_rounding(lambda x: x.astype(kind), "e2m1", nan="zero")
    assert names(result) == {"NaN became -0, and -NaN its negative"}


@pytest.mark.parametrize(
    ("mode", "theirs"),
    [
        ("rne", "TiesToEven"),
        ("rna", "TiesToAway"),
        ("rtz", "TowardZero"),
        ("rup", "TowardPositive"),
    ],
)
def test_gfloat_is_right(mode: str, theirs: str) -> None:
    gfloat = pytest.importorskip("gfloat")
    formats = pytest.importorskip("gfloat.formats")
    rounding = getattr(gfloat.RoundMode, theirs)

    def convert(x: Any) -> Any:
        return gfloat.round_ndarray(
            formats.format_info_ocp_e2m1, x.astype(np.float64), rounding, sat=True
        )

    right(testing.check_rounding(convert, "e2m1", mode))


def test_torch_casts_of_float8_are_right() -> None:
    torch = pytest.importorskip("torch")
    right(
        testing.check_rounding(
            lambda x: x.to(torch.float8_e5m2), "e5m2", overflow="inf", arrays="torch"
        )
    )


def test_apytypes_has_ieee_formats_only() -> None:
    apytypes = pytest.importorskip("apytypes")

    def convert(bits: tuple[int, int]) -> Any:
        return lambda x: apytypes.APyFloatArray.from_float(x.astype(np.float64), *bits).to_numpy()

    right(testing.check_rounding(convert((5, 10)), "e5m10"))
    wrong = names(testing.check_rounding(convert((2, 1)), "e2m1"))
    assert wrong == {
        "the codes of the top exponent were infinity and NaN (as in IEEE 754), overflow to infinity"
    }


def test_custom_float_quant_has_ieee_formats_only() -> None:
    library = pytest.importorskip("custom_float_quant")
    fmt = library.CustomFloat.mxfp4_e2m1()

    def convert(x: Any) -> Any:
        return np.asarray(fmt.quantize_array(x), dtype=np.float32)

    wrong = names(testing.check_rounding(convert, "e2m1", signed_zero=False))
    assert any("top exponent were infinity and NaN (as in IEEE 754)" in name for name in wrong)


def test_qtorch_rounds_ties_away_and_loses_minus_zero() -> None:
    quant = pytest.importorskip("qtorch.quant")

    def convert(x: Any) -> Any:
        return quant.float_quantize(x, exp=2, man=1, rounding="nearest")

    assert names(testing.check_rounding(convert, "e2m1", arrays="torch")) == {
        "the sign of zero results were lost",
        "half a step were added in float32 and the sum truncated",
    }


def test_pychop_loses_the_top_exponent() -> None:
    pychop = pytest.importorskip("pychop")

    def convert(x: Any) -> Any:
        return np.asarray(pychop.Chop(exp_bits=2, sig_bits=1, rmode=1)(x.astype(np.float64)))

    wrong = names(testing.check_rounding(convert, "e2m1", signed_zero=False))
    assert any("top exponent became zero" in name for name in wrong)


def test_breccia_takes_the_first_of_equals() -> None:
    formats = pytest.importorskip("breccia._formats")
    wrong = names(testing.check_rounding(formats.encode_e2m1, "e2m1"))
    assert any("nearest entry of a table" in name or "toward zero" in name for name in wrong)


def test_compressed_tensors_is_right() -> None:
    utils = pytest.importorskip("compressed_tensors.quantization.utils.fp4_utils")
    right(testing.check_rounding(utils.cast_to_fp4, "e2m1", arrays="torch", signed_zero=False))


def test_torchao_turns_nan_into_numbers() -> None:
    kernels = pytest.importorskip("torchao.prototype.mx_formats.kernels")
    right(testing.check_rounding(kernels.f32_to_f4_unpacked, "e2m1", arrays="torch"))
    result = testing.check_rounding(kernels.f32_to_f4_unpacked, "e2m1", nan="zero", arrays="torch")
    assert [p.name for p in result.properties if p.failed] == ["NaN"]  # by its payload


FLOOR = {"elements were divided by no less than 2^-126"}


@pytest.mark.parametrize(
    ("mode", "fmt", "mistakes"),
    [
        ("FLOOR", "mxfp4", FLOOR),
        ("CEIL", "mxfp4-ceil", FLOOR),
        ("EVEN", "mxfp4-even", FLOOR),
        (
            "RCEIL",
            "mxfp4-rceil",
            {
                "the exponent were ceil(log2) in float32",
                "elements were not divided by the smallest scale",
            },
        ),
    ],
)
def test_torchao_does_not_divide_by_the_smallest_scale(
    mode: str, fmt: str, mistakes: set[str]
) -> None:
    torch = pytest.importorskip("torch")
    tensors = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")
    config = pytest.importorskip("torchao.prototype.mx_formats.config")
    scaling = getattr(config.ScaleCalculationMode, mode)

    def cast(x: Any) -> Any:
        scales, codes = tensors.to_mx(x, torch.float4_e2m1fn_x2, 32, scaling_mode=scaling)
        return tuple(part.view(torch.uint8).reshape(x.shape[0], -1) for part in (codes, scales))

    result = testing.check_block_cast(cast, fmt, arrays="torch", packing="low-first")
    assert names(result) == mistakes, str(result)


def test_gguf_writes_ties_toward_zero() -> None:
    """Its MXFP4 takes the nearest entry of a table, the first of equals, and never code 8."""
    quants = pytest.importorskip("gguf.quants")

    def cast(x: Any) -> Any:
        packed = quants.MXFP4.quantize(x)
        return quants.MXFP4.dequantize(packed).astype(np.float32).reshape(x.shape)

    wrong = names(testing.check_block_cast(cast, "mxfp4", signed_zero=False))
    assert any("ties went toward zero" in name or "of equals" in name for name in wrong)
