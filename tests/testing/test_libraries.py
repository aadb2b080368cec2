# SPDX-License-Identifier: Apache-2.0
"""Other libraries as they are: their known mistakes are found by name, right ones are left alone.

Run with ``-m libraries``; a library that is not installed is skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fpsim import testing

pytestmark = pytest.mark.libraries


def names(result: testing.CheckResult) -> str:
    return "; ".join(mistake.name for mistake in result.mistakes)


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
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = getattr(ml_dtypes, dtype)

    def convert(x: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return x.astype(kind)

    result = testing.check_rounding(convert, fmt, "rne", overflow=overflow)
    assert result, str(result)
    assert not result.mistakes


def test_ml_dtypes_turns_nan_into_minus_zero() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")

    def convert(x: Any) -> Any:
        with np.errstate(invalid="ignore"):
            return x.astype(ml_dtypes.float4_e2m1fn)

    result = testing.check_rounding(convert, "e2m1", nan="zero")
    assert not result
    assert names(result) == "NaN became -0"


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

    result = testing.check_rounding(convert, "e2m1", mode)
    assert result, str(result)


def test_torch_casts_of_float8_are_right() -> None:
    torch = pytest.importorskip("torch")

    def e5m2(x: Any) -> Any:
        return x.to(torch.float8_e5m2)

    result = testing.check_rounding(e5m2, "e5m2", overflow="inf", arrays="torch")
    assert result, str(result)


def test_qtorch_rounds_ties_away() -> None:
    quant = pytest.importorskip("qtorch.quant")

    def convert(x: Any) -> Any:
        return quant.float_quantize(x, exp=2, man=1, rounding="nearest")

    result = testing.check_rounding(convert, "e2m1", arrays="torch")
    assert not result
    assert "ties went away from zero" in names(result)


def test_pychop_has_another_largest_value() -> None:
    pychop = pytest.importorskip("pychop")

    def convert(x: Any) -> Any:
        return np.asarray(pychop.Chop(exp_bits=2, sig_bits=1, rmode=1)(x.astype(np.float64)))

    assert not testing.check_rounding(convert, "e2m1")


def test_gguf_writes_ties_toward_zero() -> None:
    """Its MXFP4 takes the nearest entry of a table, the first of equals, and never code 8."""
    quants = pytest.importorskip("gguf.quants")

    def cast(x: Any) -> Any:
        packed = quants.MXFP4.quantize(x)
        return quants.MXFP4.dequantize(packed).astype(np.float32).reshape(x.shape)

    with np.errstate(all="ignore"):
        result = testing.check_block_cast(cast, "mxfp4", signed_zero=False)
    assert not result
    assert "in elements, ties went toward zero" in names(result) or "smallest of equals" in names(
        result
    ), str(result)
