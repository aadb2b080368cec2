# SPDX-License-Identifier: Apache-2.0
"""Other libraries as they are: their known mistakes are found by name, right ones are left alone.

Run with ``-m libraries``; a library that is not installed is skipped.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fpsim import get_block_format, testing

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


def _fouroversix(dtype: str, rule: str) -> Any:
    """Return fouroversix's reference cast in PyTorch: packed codes and scales."""
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("fouroversix.quantize.pytorch.reference")
    kinds = pytest.importorskip("fouroversix.utils")

    def cast(x: Any) -> Any:
        codes, scales, _ = reference.quantize_to_fp4(
            x, fp4_format=kinds.DataType(dtype), scale_rule=kinds.ScaleRule(rule),
            use_blackwell_scale_layout=False,
        )  # fmt: skip
        rows = x.shape[0]
        return codes.view(torch.uint8).reshape(rows, -1), scales.reshape(rows, -1)

    return cast


def _codes(cast: Any, fmt: str) -> testing.CheckResult:
    return testing.check_block_cast(
        cast, fmt, returns="codes", packing="low-first", arrays="torch", signed_zero=False
    )


def test_fouroversix_with_scales_to_4_is_right() -> None:
    right(_codes(_fouroversix("nvfp4", "static_4"), "fouroversix-static-4"))


def test_fouroversix_turns_7_into_zero() -> None:
    """What is 7 or more after scaling rounds to 8, whose packed code is that of zero."""
    result = _codes(_fouroversix("nvfp4", "static_6"), "fouroversix-static-6")
    assert names(result) == {"in elements, what overflows became zero"}
    assert [p.name for p in result.properties if p.failed] == ["elements, where the scale is right"]


@pytest.mark.parametrize(
    ("rule", "fmt"),
    [("mse", "fouroversix"), ("mae", "fouroversix-mae"), ("abs_max", "fouroversix-abs-max")],
)
def test_fouroversix_chooses_otherwise_only_where_errors_are_close(rule: str, fmt: str) -> None:
    """Errors are sums in float32, whose order is PyTorch's; at most one block in fifty differs."""
    result = _codes(_fouroversix("nvfp4", rule), fmt)
    assert not result.mistakes
    assert result.failed < result.tried / 50


@pytest.mark.parametrize(
    ("rule", "fmt"),
    [("mse", "fouroversix"), ("mae", "fouroversix-mae"), ("abs_max", "fouroversix-abs-max")],
)
def test_fouroversix_chooses_as_errors_in_float32_do(rule: str, fmt: str) -> None:
    """Where no scale is subnormal, so that nothing rounds to 8."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(-96, 97, (256, 512)).astype(np.float32)
    x *= np.float32(0.1)
    codes, scales = _fouroversix("nvfp4", rule)(torch.from_numpy(x))
    own = replace(get_block_format(fmt), errors="float32").quantize(x)  # type: ignore[arg-type]
    np.testing.assert_array_equal(scales.view(torch.uint8).numpy(), own.scales)
    magnitudes = np.stack([codes.numpy() & 7, codes.numpy() >> 4 & 7], axis=-1)
    np.testing.assert_array_equal(magnitudes.reshape(x.shape), own.codes & 7)


def test_transformer_engine_rounds_a_sixth_into_its_scales(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its reference multiplies by a sixth of the tensor's scale, where others divide by 6.

    The package cannot be imported without its CUDA libraries; its reference is PyTorch alone.
    """
    pytest.importorskip("torch")
    found = importlib.util.find_spec("transformer_engine")
    if found is None or not found.submodule_search_locations:
        pytest.skip("transformer_engine is not installed; pip install --no-deps transformer_engine")
    place = Path(found.submodule_search_locations[0])

    def package(name: str, path: Path | None = None, **contents: Any) -> None:
        module = ModuleType(name)
        vars(module).update(contents)
        if path is not None:
            module.__path__ = [str(path)]
        monkeypatch.setitem(sys.modules, name, module)

    inner = "transformer_engine.pytorch.custom_recipes"
    package("transformer_engine", place)
    package("transformer_engine.pytorch", place / "pytorch")
    package(inner, place / "pytorch" / "custom_recipes")
    package("transformer_engine.pytorch.quantized_tensor", Quantizer=object,
            QuantizedTensorStorage=object)  # fmt: skip
    package(f"{inner}.gemm", GEMMType=SimpleNamespace(FPROP=0), MMParams=object)
    vars(sys.modules[inner])["gemm"] = sys.modules[f"{inner}.gemm"]
    reference = importlib.import_module(f"{inner}.reference_nvfp4")

    def cast(x: Any) -> Any:
        quantize = reference.NVFP4QuantizerRef._quantize_blockwise_reference
        return quantize(x, x.abs().amax(), 16, 1, pow_2_scales=False, eps=0.0)

    # Its -0 is +0. Elements are right under its scales, which are up to a code off at midpoints.
    file = tmp_path / "te.toml"
    file.write_text(
        'name = "te"\nelement = "e2m1"\nblock = 16\nrule = "absmax"\nrounding = "rne"\n'
        'scale = "e4m3fn"\ntensor_range = 448\nzero = "keep"\narithmetic = "ratio"\n'
    )
    result = _codes(cast, str(file))
    assert [p.name for p in result.properties if p.failed] == ["scales"]
    assert result.failed < result.tried / 10
