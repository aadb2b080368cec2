# SPDX-License-Identifier: Apache-2.0
"""Options of encode and decode: status flags, flushing, policies for NaN and Inf, array types."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.helpers import DETERMINISTIC, by_default, float_format

from fpsim import FixedFormat, FloatFormat, FpsimError, Overflow, Rounding, get_format, oracle
from fpsim.formats.floating import Format, Subnormals
from fpsim.formats.inputs import SMALL_FLOATS
from fpsim.formats.rounding import Flag
from fpsim.oracle import Number
from fpsim.testing.boundaries import critical_values, overflows
from fpsim.testing.strategies import float_formats

FORMATS = [
    "e2m1", "e1m2", "e3m0", "e0m3", "e2m1i", "e2m1b-3", "e2m3", "e3m2", "e3m2fni", "ue2m2",
    "e3m2_flush", "e3m0_flush", "ue2m1_nozero", "e8m0",
    "e4m3fn", "e4m3", "e4m3fnuz", "e5m2", "ue4m3",
    "binary4p1sf", "binary4p2se", "binary4p1uf", "e1m1fni", "e5m10", "e8m7", "e8m23", "e2m1b126",
    "e2m1b125", "e3m0b127",
]  # fmt: skip
SPECIALS = np.array([0.0, -0.0, np.inf, -np.inf, 5e-324, -5e-324, 1.7e308, -1.7e308])


def number(value: float) -> Number:
    if np.isnan(value):
        return Number(False, None)
    if np.isinf(value):
        return Number(value < 0, None, infinite=True)
    return Number(bool(np.signbit(value)), abs(Fraction(float(value))))


def near_normals(fmt: FloatFormat) -> NDArray[np.float64]:
    """Eighths of the gap below the smallest normal value, where tininess is decided."""
    unit = 2.0 ** (fmt.exponent_min - fmt.mantissa_bits)
    points = 2.0**fmt.exponent_min - unit * np.arange(-20, 21) / 8
    points = np.concatenate([points, np.nextafter(points, 0), np.nextafter(points, np.inf)])
    return np.concatenate([points, -points])


def check_flags(
    values: NDArray[Any], fmt: Format, rounding: Rounding, overflow: Overflow, **options: Any
) -> None:
    codes, flags = fmt.encode(values, rounding, overflow, nan="saturate", flags=True, **options)
    plain = fmt.encode(values, rounding, overflow, nan="saturate", **options)
    assert np.array_equal(codes, plain)
    assert flags.dtype == np.uint8
    flush = options.pop("ftz", False)
    target = replace(fmt, subnormals=Subnormals.FLUSH) if flush else fmt
    random = np.broadcast_to(options.get("random", 0), values.shape).tolist()
    bits = options.get("random_bits", 0)
    check_vector_flags(values, fmt, rounding, overflow, flags, np.array(random), bits, flush)
    for value, flag, r in zip(values.tolist(), flags.tolist(), random, strict=True):
        wanted = oracle.flags(number(value), target, rounding, overflow, r, bits)
        assert flag == wanted, (fmt.name, rounding, overflow, value.hex(), Flag(flag), wanted)


def check_vector_flags(
    values: NDArray[Any],
    fmt: Format,
    rounding: Rounding,
    overflow: Overflow,
    flags: NDArray[np.uint8],
    random: NDArray[Any],
    bits: int,
    flush: bool,
) -> None:
    """Arrays long enough for the vector kernels raise the same flags, from either input type."""
    options: dict[str, Any] = {"nan": "saturate", "flags": True, **({"ftz": True} if flush else {})}
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
    exact = (single == values) | np.isnan(values)
    for x, wanted, r in (
        (values, flags, random),
        (single[exact], flags[exact], random[exact]),
    ):
        size = max(x.size, (1 << 10) + 5)
        if bits:
            options |= {"random": np.resize(r, size), "random_bits": bits}
        raised = fmt.encode(np.resize(x, size), rounding, overflow, **options)[1][: x.size]
        wrong = np.flatnonzero(raised != wanted)
        where = f"{fmt.name} {rounding} {overflow} {x.dtype}"
        assert not wrong.size, f"{where}: {x[wrong[0]]} {raised[wrong[0]]} {wanted[wrong[0]]}"


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "name", by_default(FORMATS, {f for f in FORMATS if get_format(f).bits < 8})
)
def test_flags_are_those_of_the_oracle(name: str) -> None:
    fmt = float_format(name)
    critical = critical_values(fmt)
    critical = critical[:: max(1, critical.size // 150)]
    values = np.concatenate([critical, near_normals(fmt), SPECIALS, [np.nan]])
    beyond = values[~(np.abs(values) < fmt.max_value)]
    for rounding in DETERMINISTIC:
        check_flags(values, fmt, rounding, Overflow.SATURATE)
        for overflow in overflows(fmt):
            if overflow is not Overflow.INF or fmt.signed or fmt.nan_code is not None:
                check_flags(beyond, fmt, rounding, overflow)


@pytest.mark.parametrize(
    "name", ["e2m1", "e3m0", "ue2m2", "e4m3fn", "e2m1_nozero", "ue2m1_nozero", "e8m0"]
)
def test_flags_of_stochastic_rounding(name: str) -> None:
    fmt = float_format(name)
    base = near_normals(fmt)
    values, random = np.repeat(base, 8), np.tile(np.arange(8), base.size)
    check_flags(values, fmt, Rounding.SR, Overflow.SATURATE, random=random, random_bits=3)


@pytest.mark.parametrize("name", ["e2m1", "e1m2", "e3m0", "e4m3fn", "ue2m2"])
def test_flags_when_flushing(name: str) -> None:
    fmt = float_format(name)
    critical = critical_values(fmt)
    critical = critical[:: max(1, critical.size // 150)]
    values = np.concatenate([critical, near_normals(fmt), SPECIALS])
    for rounding in DETERMINISTIC:
        check_flags(values, fmt, rounding, Overflow.SATURATE, ftz=True)


@pytest.mark.sweep
@settings(max_examples=40)
@given(float_formats(max_bits=16), st.lists(st.floats(allow_nan=False), min_size=1, max_size=4))
def test_flags_of_any_format(fmt: FloatFormat, far: list[float]) -> None:
    """Vector kernels included: every layout, lanes of both widths."""
    values = np.concatenate([near_normals(fmt)[::13], far])
    for rounding in DETERMINISTIC:
        check_flags(values, fmt, rounding, Overflow.SATURATE)


@pytest.mark.parametrize(
    "fmt",
    [
        FixedFormat(4), FixedFormat(4, symmetric=True), FixedFormat(4, signed=False),
        FixedFormat(8, -6), FixedFormat(5, 3), FixedFormat(64, -3), FixedFormat(64, signed=False),
        FixedFormat(1, signed=False),
    ],
    ids=lambda fmt: fmt.name,
)  # fmt: skip
def test_flags_in_fixed_point(fmt: FixedFormat) -> None:
    ends = [fmt.min_integer, fmt.max_integer, 0, 1 << fmt.width]
    points = np.ldexp([float(end) + i / 4 for end in ends for i in range(-9, 10)], fmt.lsb)
    powers = [sign * 2.0**e for sign in (1, -1) for e in (-1074, -600, -1, 0, 62, 63, 64, 65, 600)]
    near = [points, np.nextafter(points, 0), np.nextafter(points, np.inf)]
    values = np.concatenate([*near, powers, SPECIALS, [np.nan]])
    for rounding in DETERMINISTIC:
        for overflow in overflows(fmt):
            check_flags(values, fmt, rounding, overflow)


def test_flags_are_what_float32_hardware_raises() -> None:
    """To float16 in round to nearest: the flags IEEE 754 defines, on values chosen by hand."""
    cases = {
        1.0: 0, 1 + 2.0**-11: 1, 65504.0: 0, 65519.0: 1, 65520.0: 5, np.inf: 0, np.nan: 0,
        2.0**-24: 0, 2.0**-25: 3, 2.0**-14: 0, 2.0**-14 - 2.0**-24: 0, 2.0**-14 - 2.0**-25: 3,
        # Rounds to 2^-14 from the coarse subnormal grid, not from the fine unbounded one: tiny.
        2.0**-14 - 2.0**-26 - 2.0**-30: 3, 2.0**-14 - 2.0**-26: 1,
    }  # fmt: skip
    _, flags = get_format("e5m10").encode(list(cases), "rne", "inf", flags=True)
    assert flags.tolist() == list(cases.values())


@pytest.mark.parametrize("name", ["e2m1", "e3m0", "e1m2", "e4m3fn", "e5m2", "ue2m2", "e4m3fnuz"])
def test_flushing_is_encoding_into_the_format_that_flushes(name: str) -> None:
    fmt = float_format(name)
    flushing = replace(fmt, subnormals=Subnormals.FLUSH)
    values = np.concatenate([critical_values(fmt), SPECIALS, np.linspace(-4, 4, 2001)])
    for rounding in DETERMINISTIC:
        expected = flushing.encode(values, rounding)
        assert np.array_equal(fmt.encode(values, rounding, ftz=True), expected)
        row = expected & ((1 << fmt.magnitude_bits) - 1)
        if name != "e4m3fnuz":
            assert not ((row > 0) & (row < 1 << fmt.mantissa_bits)).any()
    codes = np.arange(1 << fmt.bits)
    daz, plain = fmt.decode(codes, daz=True), fmt.decode(codes)
    subnormal = (codes & ((1 << fmt.magnitude_bits) - 1)) < 1 << fmt.mantissa_bits
    subnormal &= ~np.isnan(plain)
    assert (daz[subnormal] == 0).all()
    assert np.array_equal(np.signbit(daz), np.signbit(plain))
    assert np.array_equal(daz[~subnormal], plain[~subnormal], equal_nan=True)


def test_flushing_needs_subnormals_to_flush() -> None:
    with pytest.raises(FpsimError, match="ftz: e0m3"):
        get_format("e0m3").encode([1.0], ftz=True)
    with pytest.raises(FpsimError, match="daz: e0m3"):
        get_format("e0m3").decode([1], daz=True)
    assert get_format("e8m0").encode([0.0], ftz=True) == 0


def test_nan_follows_the_named_policy() -> None:
    values = np.array([1.0, np.nan, -np.nan])
    e2m1 = float_format("e2m1")
    with pytest.raises(FpsimError, match=r"nan at index \(1,\) has no code in e2m1"):
        e2m1.encode(values)
    assert e2m1.encode(values, nan="saturate").tolist() == [2, 7, 7]
    assert e2m1.encode(values, nan="zero").tolist() == [2, 0, 0]
    assert float_format("e4m3fn").encode(values, nan="zero").tolist() == [0x38, 0x7F, 0x7F]
    int4 = get_format("int4")
    with pytest.raises(FpsimError, match=r"nan at index \(1,\) has no code in int4"):
        int4.encode(values)
    assert int4.encode(values, nan="saturate").tolist() == [1, 7, 7]
    assert int4.encode(values, nan="zero").tolist() == [1, 0, 0]
    many = np.full(5000, np.nan, dtype=np.float32)
    assert set(e2m1.encode(many, nan="saturate").tolist()) == {7}
    with pytest.raises(FpsimError, match="did you mean 'zero'"):
        e2m1.encode(values, nan="zeros")
    with pytest.raises(FpsimError, match="no zero"):
        get_format("e2m1_nozero").encode(values, nan="zero")


@pytest.mark.parametrize("name", ["e2m1", "ue2m2", "int4", "e8m0", "e4m3"])
def test_infinities_are_refused_on_request(name: str) -> None:
    fmt = get_format(name)
    for size in (2, 5000):
        values = np.ones(size, dtype=np.float32)
        values[1] = np.inf
        assert fmt.decode(fmt.encode(values))[1] == fmt.max_value
        with pytest.raises(FpsimError, match=r"inf at index \(1,\)"):
            fmt.encode(values, inf="error")
    if isinstance(fmt, FloatFormat) and fmt.infinity:
        assert fmt.encode([np.inf], overflow="inf", inf="error") == fmt.inf_code
    with pytest.raises(FpsimError, match="inf: 'never'"):
        fmt.encode([1.0], inf="never")


@pytest.mark.parametrize("kind", SMALL_FLOATS)
def test_every_value_of_a_small_type_arrives(kind: str) -> None:
    """As values of every ml_dtypes type, exhaustively: the bits are those of float64 input."""
    dtype = np.dtype(getattr(ml_dtypes, kind))
    bits = 16 if dtype.itemsize == 2 else int(kind[5])
    values = np.arange(1 << bits).astype(f"u{dtype.itemsize}").view(dtype)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        wide = values.astype(np.float64)
    for name in ("e4m3fn", "e5m10", "e5m2"):
        codes = get_format(name).encode(values, "rna", "nan")
        assert np.array_equal(codes, get_format(name).encode(wide, "rna", "nan"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_torch_values_arrive(dtype: torch.dtype) -> None:
    x = torch.linspace(-9, 9, 4001, dtype=torch.float64).to(dtype).requires_grad_()
    codes = get_format("e2m1").encode(x, "rtz")
    assert np.array_equal(codes, get_format("e2m1").encode(x.detach().double().numpy(), "rtz"))


def test_values_that_float64_cannot_hold_are_refused() -> None:
    fmt = FixedFormat(64)
    assert fmt.encode([1 << 60, -(1 << 63)]).tolist() == [1 << 60, 1 << 63]
    for value in ((1 << 53) + 1, (1 << 63) - 1, -(1 << 62) - 1):
        with pytest.raises(FpsimError, match=r"index \(1,\) is not exact"):
            fmt.encode(np.array([0, value], dtype=np.int64))
    with pytest.raises(FpsimError, match="not exact"):
        fmt.encode(np.array([(1 << 64) - 1], dtype=np.uint64))
    if np.finfo(np.longdouble).nmant > 52:
        with pytest.raises(FpsimError, match="not exact"):
            get_format("e8m23").encode(np.array([1, 1 + 2.0 ** np.longdouble(-60)]))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("e2m1", np.float32), ("e2m1", np.float16), ("e2m1", ml_dtypes.bfloat16),
        ("e4m3fn", ml_dtypes.bfloat16), ("e5m2", np.float16), ("e8m7", np.float32),
        ("e8m0", ml_dtypes.bfloat16), ("e4m3fn", ml_dtypes.float8_e4m3fn),
        ("e2m1", ml_dtypes.float4_e2m1fn),
    ],
)  # fmt: skip
def test_decode_to_a_type_that_holds_every_value(name: str, dtype: Any) -> None:
    fmt = get_format(name)
    codes = np.arange(1 << fmt.bits)
    decoded = fmt.decode(codes, dtype)
    assert decoded.dtype == dtype
    assert np.array_equal(decoded.astype(np.float64), fmt.decode(codes), equal_nan=True)


@pytest.mark.parametrize("name", ["e2m1", "e4m3fn", "e8m0", "e5m2_flush", "e8m7", "e4m3b150"])
@pytest.mark.parametrize("dtype", [None, np.float32, np.float64])
def test_long_arrays_decode_as_short_ones(name: str, dtype: Any) -> None:
    fmt = float_format(name)
    codes = np.tile(np.arange(1 << fmt.bits, dtype=fmt.dtype), 3).reshape(3, -1)
    if dtype is np.float32 and name == "e4m3b150":
        with pytest.raises(FpsimError, match="float32 does not hold"):
            fmt.decode(codes, dtype)
        return
    for daz in (False, True):
        long = fmt.decode(codes, dtype, daz=daz)
        short = fmt.decode(codes[1], daz=daz)
        assert long.dtype == (np.float64 if dtype is None else dtype)
        assert np.array_equal(long, np.tile(short, (3, 1)), equal_nan=True)
        assert np.array_equal(np.signbit(long[2]), np.signbit(short))


def test_decode_to_a_type_that_does_not() -> None:
    with pytest.raises(FpsimError, match=r"float16 does not hold 1\.2207e-04|float16 does not"):
        get_format("e8m7").decode([0x3F80, 0x0080], np.float16)
    with pytest.raises(FpsimError, match="float4_e2m1fn does not hold 448"):
        get_format("e4m3fn").decode([0x7E], ml_dtypes.float4_e2m1fn)
    with pytest.raises(FpsimError, match="int32 is not a floating-point type"):
        get_format("e2m1").decode([1], np.int32)
    with pytest.raises(FpsimError, match="does not hold -0"):
        get_format("e2m1").decode([8], ml_dtypes.float8_e4m3fnuz)
    with pytest.raises(FpsimError, match="not exact"):
        FixedFormat(64).decode([(1 << 63) - 1], np.float64)
    assert FixedFormat(64).decode([1 << 63], np.float32) == -(2.0**63)


@pytest.mark.parametrize(
    ("name", "info"),
    [
        ("e2m1", gfloat.formats.format_info_ocp_e2m1),
        ("e4m3fn", gfloat.formats.format_info_ocp_e4m3),
        ("e5m2", gfloat.formats.format_info_ocp_e5m2),
    ],
)
def test_inexact_is_where_gfloat_changes_the_value(name: str, info: Any) -> None:
    fmt = float_format(name)
    values = critical_values(fmt)[::3]
    _, flags = fmt.encode(values, flags=True)
    for value, flag in zip(values.tolist(), flags.tolist(), strict=True):
        rounded = gfloat.round_float(info, value, gfloat.RoundMode.TiesToEven, sat=True)
        assert bool(flag & Flag.INEXACT) == (rounded != value), value


def test_command_line_shows_flags(capsys: pytest.CaptureFixture[str]) -> None:
    from fpsim.cli import main

    assert main(["encode", "e2m1", "0.3", "9", "nan", "1", "--flags", "--nan=zero", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    expected = ["inexact, underflow", "inexact, overflow", "invalid", ""]
    assert [row["flags"] for row in rows] == expected
    assert main(["encode", "e2m1", "0.6", "--ftz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["code"] == 0
    assert main(["decode", "e2m1", "9", "--daz", "--json"]) == 0
    assert str(json.loads(capsys.readouterr().out)[0]["value"]) == "-0.0"
    assert main(["decode", "int4", "9", "--daz"]) == 2
    assert "no subnormals" in capsys.readouterr().err
