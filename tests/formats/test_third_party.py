# SPDX-License-Identifier: Apache-2.0
"""Second opinions from outside: ml_dtypes and gfloat, exhaustively, wherever they are right.

Where one of them is wrong or means something else, the test leaves those inputs out and says why.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.helpers import float_format, same_floats

from fpsim import FloatFormat, get_format
from fpsim.formats.floating import NanCodes, Subnormals
from fpsim.testing.boundaries import critical_values

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
gfloat = pytest.importorskip("gfloat", reason="gfloat is not installed")
gfloat_formats = pytest.importorskip("gfloat.formats", reason="gfloat is not installed")

with np.errstate(invalid="ignore"):  # signalling NaN among them
    HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def float32_inputs(fmt: FloatFormat) -> NDArray[np.float32]:
    """Every float16 and every critical value of the format that float32 holds."""
    values = critical_values(fmt)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return np.concatenate([HALVES, narrow[narrow == values]])


# -- ml_dtypes -----------------------------------------------------------------------------------

#: ml_dtypes name: this package's name and the overflow policy that ml_dtypes follows.
ML_DTYPES = {
    "float4_e2m1fn": ("e2m1", "saturate"),
    "float6_e2m3fn": ("e2m3", "saturate"),
    "float6_e3m2fn": ("e3m2", "saturate"),
    "float8_e4m3fn": ("e4m3fn", "nan"),  # never saturates: 465 becomes NaN
    "float8_e4m3": ("e4m3", "inf"),
    "float8_e3m4": ("e3m4", "inf"),
    "float8_e5m2": ("e5m2", "inf"),
    "float8_e4m3fnuz": ("e4m3fnuz", "nan"),
    "float8_e5m2fnuz": ("e5m2fnuz", "nan"),
    "float8_e4m3b11fnuz": ("e4m3b11fnuz", "nan"),
    "bfloat16": ("e8m7", "inf"),
}


def ml_dtype(name: str) -> Any:
    return np.dtype(getattr(ml_dtypes, name))


def as_codes(array: NDArray[Any]) -> NDArray[Any]:
    return array.view(np.dtype(f"uint{8 * array.dtype.itemsize}"))


@pytest.mark.parametrize("name", [*ML_DTYPES, "float8_e8m0fnu"])
def test_every_code_means_what_ml_dtypes_says(name: str) -> None:
    fmt = float_format(ML_DTYPES.get(name, ("e8m0", ""))[0])
    dtype = ml_dtype(name)
    codes = np.arange(1 << fmt.bits, dtype=fmt.dtype)
    with np.errstate(invalid="ignore"):
        values = codes.view(dtype).astype(np.float64)
    assert same_floats(fmt.decode(codes), values)


@pytest.mark.parametrize("name", ML_DTYPES)
def test_every_float32_encodes_as_ml_dtypes_does(name: str) -> None:
    """NaN apart: ml_dtypes keeps its sign, and for E2M1, E2M3, E3M2 turns it into -0."""
    ours, overflow = ML_DTYPES[name]
    fmt = float_format(ours)
    values = float32_inputs(fmt)
    numbers = values[~np.isnan(values)]
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = as_codes(numbers.astype(ml_dtype(name)))
    codes = fmt.encode(numbers, "rne", overflow)
    if fmt.nan is NanCodes.TOP:  # E4M3FN overflows to a NaN of either sign there
        overflowed = np.isnan(fmt.decode(theirs))
        assert np.array_equal(overflowed, codes == fmt.nan_code)
        codes, theirs = codes[~overflowed], theirs[~overflowed]
    assert np.array_equal(codes, theirs)


def test_e8m0_as_ml_dtypes_rounds_it() -> None:
    """float8_e8m0fnu rounds ties away, and makes 0 and negative values NaN.

    Here the rounding is a choice (rna is theirs), and "saturate" gives 0 the smallest code.
    """
    fmt = float_format("e8m0")
    values = float32_inputs(fmt)
    positive = values[values > 0]
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = as_codes(positive.astype(ml_dtype("float8_e8m0fnu")))
    codes = fmt.encode(positive, "rna", "nan")
    assert np.array_equal(codes, theirs)


def test_int4_codes_mean_what_ml_dtypes_says() -> None:
    codes = np.arange(16, dtype=np.uint8)
    signed = np.arange(16).astype(np.uint8).view(ml_dtype("int4")).astype(np.float64)
    assert np.array_equal(get_format("int4").decode(codes), signed)
    unsigned = codes.view(ml_dtype("uint4")).astype(np.float64)
    assert np.array_equal(get_format("uint4").decode(codes), unsigned)


# -- gfloat --------------------------------------------------------------------------------------


def gfloat_info(fmt: FloatFormat) -> Any:
    """Return the same format as gfloat describes it."""
    high_nans = {NanCodes.IEEE: (1 << fmt.mantissa_bits) - 1, NanCodes.TOP: 1}.get(fmt.nan, 0)
    return gfloat.FormatInfo(
        fmt.name,
        fmt.bits,
        fmt.mantissa_bits + 1,
        bias=fmt.bias,
        is_signed=fmt.signed,
        domain=gfloat.Domain.Extended if fmt.infinity else gfloat.Domain.Finite,
        has_nz=fmt.has_negative_zero,
        num_high_nans=high_nans,
        has_subnormals=fmt.subnormals is Subnormals.GRADUAL,
        is_twos_complement=False,
    )


GFLOAT = [
    "e2m1", "e1m2", "e3m0", "e2m1b3", "e2m1b-3", "e2m1i", "e2m1fnuz", "e2m3", "e3m2",
    "e4m3fn", "e4m3f", "e4m3", "e4m3fnuz", "e5m2", "e5m2fnuz", "e3m4", "e2m5", "e4m3fnuzi",
    "ue2m2", "ue4m3", "e8m0", "e7m0fni", "e5m0fn",
    "binary4p1sf", "binary4p2sf", "binary4p3sf", "binary4p1uf", "binary4p2se", "binary8p1uf",
    "binary8p3se", "binary8p4se", "binary8p4sf", "binary6p3uf", "e5m10", "e8m7",
]  # fmt: skip

MODES = {
    "rne": "TiesToEven",
    "rna": "TiesToAway",
    "rtz": "TowardZero",
    "rup": "TowardPositive",
    "rdn": "TowardNegative",
}


@pytest.mark.parametrize("name", GFLOAT)
def test_every_code_means_what_gfloat_says(name: str) -> None:
    fmt = float_format(name)
    codes = np.arange(1 << fmt.bits)
    values = gfloat.decode_ndarray(gfloat_info(fmt), codes)
    assert same_floats(fmt.decode(codes), values.astype(np.float64))


@pytest.mark.parametrize("rounding", MODES)
@pytest.mark.parametrize("name", GFLOAT)
def test_every_value_rounds_as_gfloat_does(name: str, rounding: str) -> None:
    """All float16 values and all critical float64 values, saturating and with Inf or NaN.

    Left out: NaN, which gfloat lets through formats that have none; negative values of unsigned
    formats, which it does not define; and directed rounding of what exceeds a finite format with
    NaN, where it clamps instead of giving NaN; and 2^-1074, which it loses when it rescales.
    """
    fmt = float_format(name)
    info = gfloat_info(fmt)
    halves = HALVES[~np.isnan(HALVES)].astype(np.float64)
    values = np.concatenate([halves, critical_values(fmt), [np.inf, -np.inf]])
    values = values[(values == 0) | (np.abs(values) > 2.0**-1000)]
    if not fmt.signed:
        values = values[~np.signbit(values)]
    if not fmt.has_zero:
        values = values[values >= 2.0**fmt.exponent_min]
    mode = getattr(gfloat.RoundMode, MODES[rounding])
    theirs = gfloat.round_ndarray(info, values, mode, sat=True)
    ours = fmt.decode(fmt.encode(values, rounding, "saturate"))
    assert same_floats(ours, theirs)
    if fmt.infinity:
        theirs = gfloat.round_ndarray(info, values, mode, sat=False)
        assert same_floats(fmt.decode(fmt.encode(values, rounding, "inf")), theirs)
    elif fmt.nan_code is not None and rounding in ("rne", "rna"):
        theirs = gfloat.round_ndarray(info, values, mode, sat=False)
        assert same_floats(fmt.decode(fmt.encode(values, rounding, "nan")), theirs)


@pytest.mark.parametrize("k", range(3, 9))
def test_every_p3109_format_is_gfloats(k: int) -> None:
    """All Binary{K}p{P}{s|u}{f|e}: the tables of the standard as gfloat generates them."""
    signs = {"s": gfloat.Signedness.Signed, "u": gfloat.Signedness.Unsigned}
    domains = {"f": gfloat.Domain.Finite, "e": gfloat.Domain.Extended}
    compared = 0
    for p in range(1, k):
        for sign, signedness in signs.items():
            for letter, domain in domains.items():
                info = gfloat_formats.format_info_p3109(k, p, signedness, domain)
                fmt = get_format(f"binary{k}p{p}{sign}{letter}")
                codes = np.arange(1 << k)
                theirs = gfloat.decode_ndarray(info, codes).astype(np.float64)
                assert same_floats(fmt.decode(codes), theirs), fmt.name
                compared += 1
    assert compared == 4 * (k - 1)


@pytest.mark.parametrize("bits", [1, 3, 8, 16])
@pytest.mark.parametrize("name", ["e2m1", "e3m0", "e4m3fn", "e5m10"])
def test_stochastic_rounding_is_gfloats_fastest(name: str, bits: int) -> None:
    """gfloat's StochasticFastest is ``f + r/2^n >= 1``: equal to truncating f to n bits first.

    Its default (Stochastic) first rounds f to n bits, which P3109 calls variant A or B; the unit
    modelled here truncates, as an LFSR added below the kept bits does.
    """
    fmt = float_format(name)
    rng = np.random.default_rng(bits)
    values = rng.normal(size=5000) * fmt.max_value / 4
    values = np.concatenate([values, rng.normal(size=1000) * fmt.max_value / 5000])
    random = rng.integers(0, 1 << bits, values.size)
    mode = gfloat.RoundMode.StochasticFastest
    theirs = gfloat.round_ndarray(gfloat_info(fmt), values, mode, True, random, bits)
    codes = fmt.encode(values, "sr", "saturate", random=random, random_bits=bits)
    assert same_floats(fmt.decode(codes), theirs)
