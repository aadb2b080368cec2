# SPDX-License-Identifier: Apache-2.0
"""Values become codes: every rounding and overflow policy, at every value where encoders go wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.helpers import (
    DETERMINISTIC,
    LONG,
    by_default,
    encodings,
    float_format,
    oracle_codes,
    same_floats,
)

from fpsim import FixedFormat, FloatFormat, FpsimError, Overflow, Rounding, get_format
from fpsim.formats.floating import Format
from fpsim.testing.boundaries import critical_values, overflows
from fpsim.testing.strategies import fixed_formats, float_formats

pytestmark = pytest.mark.usefixtures("one_thread")

#: One of each kind of layout: special codes, lowest rows, signs, no mantissa, no exponent.
SMALL = [
    "e2m1", "e1m2", "e3m0", "e0m3", "e2m1i", "e2m1b-3", "e0m3b4", "e1m0",
    "e2m3", "e3m2", "e3m2fni", "ue2m2", "ue3m1i", "e3m2_flush", "ue2m1_nozero", "e2m1f_nozero",
    "binary4p1sf", "binary4p2sf", "binary4p2se", "binary4p1uf",
]  # fmt: skip
EIGHT = [
    "e4m3fn", "e4m3f", "e4m3", "e4m3fnuz", "e5m2", "e5m2fnuz", "e3m4", "e2m5", "e4m3_flush",
    "e4m3fnuzi", "e8m0", "ue4m3", "ue4m3b8i", "e7m0fni", "binary8p1uf", "binary8p3se",
]  # fmt: skip
WIDE = ["e5m10", "e8m7", "e8m10", "e8m13", "e8m23", "e8m23_flush", "e10m21"]
FIXED = [
    FixedFormat(4), FixedFormat(4, symmetric=True), FixedFormat(4, signed=False),
    FixedFormat(8, -6), FixedFormat(5, 3), FixedFormat(24, -2), FixedFormat(52, -20),
    FixedFormat(63), FixedFormat(64, -3), FixedFormat(64, signed=False), FixedFormat(1, signed=False),
]  # fmt: skip


def check(values: NDArray[Any], fmt: Format, rounding: Rounding) -> None:
    """Compare `encode` with the oracle under every overflow policy.

    Where the oracle has no code, expect an error. The policy cannot matter within the range, so
    the oracle is asked once there.
    """
    inside = np.abs(values) < fmt.max_value
    if isinstance(fmt, FixedFormat) or not fmt.signed:
        inside &= values >= 0
    common = oracle_codes(values[inside], fmt, rounding, Overflow.SATURATE)
    for overflow in overflows(fmt):
        expected = np.empty(values.size, dtype=object)
        expected[inside] = common
        expected[~inside] = oracle_codes(values[~inside], fmt, rounding, overflow)
        possible = np.array([code is not None for code in expected])
        given, wanted = values[possible], expected[possible].astype(np.uint64)
        for way, codes, mask in encodings(given, fmt, rounding, overflow):
            wrong = np.flatnonzero(codes != wanted[mask])
            where = f"{fmt.name} {rounding} {overflow}, {way}: {wrong.size} differ"
            assert not wrong.size, (
                f"{where}; {given[mask][wrong[0]].hex()} gives {codes[wrong[0]]:#x}, "
                f"not {wanted[mask][wrong[0]]:#x}"
            )
        for value in values[~possible][:10]:
            for size in (1, LONG):
                with pytest.raises(FpsimError):
                    fmt.encode(np.full(size, value), rounding, overflow)


SPECIALS = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1.7e308, -1.7e308])


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("name", "rounding"),
    by_default(
        [(name, rounding) for name in SMALL + EIGHT + WIDE for rounding in DETERMINISTIC],
        [(name, rounding) for name in SMALL for rounding in DETERMINISTIC]
        + [(name, Rounding.RNE) for name in EIGHT + WIDE],
    ),
)
def test_encode_at_every_critical_value(name: str, rounding: Rounding) -> None:
    """Midpoints, one ulp beside them, codes, powers of two, zeros, limits: every overflow policy."""
    fmt = float_format(name)
    values = np.concatenate([critical_values(fmt), SPECIALS])
    check(values, fmt, rounding)


@pytest.mark.parametrize(
    "rounding", [Rounding.RNE, pytest.param(Rounding.RDN, marks=pytest.mark.sweep)]
)
@pytest.mark.usefixtures("narrow_vectors")
def test_encode_on_narrow_registers(rounding: Rounding) -> None:
    """Other vector lengths, other tails, the same codes."""
    for name in ("e2m1", "e4m3fn", "e5m10"):
        fmt = float_format(name)
        check(np.concatenate([critical_values(fmt), SPECIALS]), fmt, rounding)


def fixed_critical_values(fmt: FixedFormat) -> NDArray[np.float64]:
    ends = [fmt.min_integer, fmt.max_integer, 0, 1 << fmt.width]
    integers = [float(end) + i / 4 for end in ends for i in range(-12, 13)]
    if fmt.width <= 8:
        integers += [i / 4 for i in range(-(5 << fmt.width), 5 << fmt.width)]
    integers += [sign * 2.0**e for sign in (1, -1) for e in range(-70, 140)]
    points = np.ldexp(np.array(integers), fmt.lsb)
    return np.unique(
        np.concatenate([points, np.nextafter(points, 0), np.nextafter(points, np.inf)])
    )


@pytest.mark.one_in(3)
@pytest.mark.parametrize("fmt", FIXED, ids=lambda fmt: fmt.name)
def test_fixed_encode_at_every_critical_value(fmt: FixedFormat) -> None:
    """Every quarter of an LSB, both ends of the range, and up to 2^140 beyond it."""
    values = np.concatenate([fixed_critical_values(fmt), SPECIALS])
    for rounding in DETERMINISTIC:
        check(values, fmt, rounding)


def test_symmetric_format_never_produces_its_most_negative_code() -> None:
    fmt = FixedFormat(4, symmetric=True)
    for rounding in DETERMINISTIC:
        codes = fmt.encode(np.linspace(-40, 40, 801), rounding, "saturate")
        assert 8 not in codes


finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.sweep
@settings(max_examples=30)
@given(float_formats(max_bits=32), st.data())
def test_any_float_format_encodes_as_the_oracle_says(fmt: FloatFormat, data: st.DataObject) -> None:
    low, high = fmt.exponent_min - fmt.mantissa_bits - 3, fmt.exponent_max + 3
    near = st.builds(
        lambda m, e: float(np.ldexp(m, e - 30)),
        st.integers(-(1 << 31), 1 << 31),
        st.integers(max(low, -1000), min(high, 990)),
    )
    values = data.draw(st.lists(st.one_of(near, finite), min_size=1, max_size=12))
    for rounding in DETERMINISTIC:
        check(np.array(values), fmt, rounding)


@given(fixed_formats(max_width=64), st.data())
def test_any_fixed_format_encodes_as_the_oracle_says(fmt: FixedFormat, data: st.DataObject) -> None:
    near = st.builds(
        lambda m, e: float(np.ldexp(m, e - 30 + fmt.lsb)),
        st.integers(-(1 << 31), 1 << 31),
        st.integers(-2, fmt.width + 3),
    )
    values = data.draw(st.lists(st.one_of(near, finite), min_size=1, max_size=12))
    for rounding in DETERMINISTIC:
        check(np.array(values), fmt, rounding)


# -- figures from the standards, without the oracle ----------------------------------------------

TIES = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])


@pytest.mark.parametrize(
    ("rounding", "results"),
    [
        ("rne", [0, 1, 1, 2, 2, 4, 4]),
        ("rna", [0.5, 1, 1.5, 2, 3, 4, 6]),
        ("rtz", [0, 0.5, 1, 1.5, 2, 3, 4]),
        ("rup", [0.5, 1, 1.5, 2, 3, 4, 6]),
        ("rdn", [0, 0.5, 1, 1.5, 2, 3, 4]),
        ("rto", [0.5, 0.5, 1.5, 1.5, 3, 3, 6]),
    ],
)
def test_e2m1_ties(rounding: str, results: list[float]) -> None:
    """The seven ties of OCP E2M1; implementations that round half away fail four of them in RNE."""
    fmt = float_format("e2m1")
    assert fmt.decode(fmt.encode(TIES, rounding)).tolist() == results
    mirrored = {"rup": "rdn", "rdn": "rup"}.get(rounding, rounding)
    assert fmt.decode(fmt.encode(-TIES, mirrored)).tolist() == [-r for r in results]


def test_e2m1_beside_its_ties() -> None:
    """One float32 ulp decides: adding 0.5 in float32 and truncating would lose it."""
    fmt = float_format("e2m1")
    ties = TIES.astype(np.float32)
    above = fmt.decode(fmt.encode(np.nextafter(ties, np.float32(np.inf))))
    below = fmt.decode(fmt.encode(np.nextafter(ties, np.float32(0))))
    assert above.tolist() == [0.5, 1, 1.5, 2, 3, 4, 6]
    assert below.tolist() == [0, 0.5, 1, 1.5, 2, 3, 4]


def test_overflow_policies_of_half_precision() -> None:
    """65520 is the tie between the largest number and infinity; directed modes stay finite."""
    fmt = float_format("e5m10")
    values = [65504.0, 65519.99, 65520.0, -65520.0, 1e6, -1e6, np.inf, -np.inf]
    big, inf, nan = 0x7BFF, 0x7C00, 0x7E00
    sign = 0x8000
    expected = {
        ("rne", "inf"): [big, big, inf, sign + inf, inf, sign + inf, inf, sign + inf],
        ("rtz", "inf"): [big, big, big, sign + big, big, sign + big, inf, sign + inf],
        ("rup", "inf"): [big, inf, inf, sign + big, inf, sign + big, inf, sign + inf],
        ("rdn", "inf"): [big, big, big, sign + inf, big, sign + inf, inf, sign + inf],
        ("rne", "saturate"): [big, big, big, sign + big, big, sign + big, big, sign + big],
        ("rne", "nan"): [big, big, nan, nan, nan, nan, nan, nan],
    }
    for (rounding, overflow), codes in expected.items():
        assert fmt.encode(values, rounding, overflow).tolist() == codes


def test_e4m3fn_overflow_edge() -> None:
    """464 is the tie between 448 and the slot of NaN: 448 is even, so the tie stays finite."""
    fmt = float_format("e4m3fn")
    assert fmt.encode([464.0, np.nextafter(464.0, 500)], "rne", "nan").tolist() == [0x7E, 0x7F]
    assert fmt.encode([464.0, 1e9, np.inf], "rne", "saturate").tolist() == [0x7E] * 3


def test_signed_zeros_survive_where_the_format_has_them() -> None:
    assert float_format("e2m1").encode([0.0, -0.0, -0.1]).tolist() == [0, 8, 8]
    assert float_format("e4m3fnuz").encode([0.0, -0.0, -1e-9]).tolist() == [0, 0, 0]
    assert float_format("binary4p2sf").encode([-0.0]).tolist() == [0]
    assert get_format("int4").encode([-0.0, -0.4]).tolist() == [0, 0]
    assert float_format("ue4m3").encode([-0.0, -1e-9]).tolist() == [0, 0]


def test_negative_values_in_unsigned_formats_overflow_below() -> None:
    fmt = float_format("ue4m3")
    assert fmt.encode([-1.0, -np.inf], "rne", "saturate").tolist() == [0, 0]
    assert fmt.encode([-1.0, -np.inf], "rne", "nan").tolist() == [0x7F, 0x7F]
    e8m0 = float_format("e8m0")
    assert e8m0.encode([0.0, 2.0**-200, -1.0], "rne", "saturate").tolist() == [0, 0, 0]


def test_flushed_results_keep_their_sign() -> None:
    fmt = float_format("e4m3_flush")
    normal = 2.0**-6
    tie = normal * (1 - 2.0**-4)  # between the largest subnormal's slot and the smallest normal
    values = [normal, tie, np.nextafter(tie, 0), normal / 2, -normal / 2]
    assert fmt.encode(values, "rne").tolist() == [0x08, 0x08, 0x00, 0x00, 0x80]


def test_nan_without_a_code_is_an_error_that_names_the_index() -> None:
    values = np.zeros((3, 4))
    values[1, 2] = np.nan
    with pytest.raises(FpsimError, match=r"values: nan at index \(1, 2\) has no code in e2m1"):
        float_format("e2m1").encode(values)
    with pytest.raises(FpsimError, match=r"values: nan at index \(1, 2\) has no code in int4"):
        get_format("int4").encode(values)


def test_the_first_of_many_bad_values_is_named() -> None:
    values = np.zeros(1 << 16)
    values[[40000, 20001]] = np.nan
    for array in (values, values.astype(np.float32)):
        with pytest.raises(FpsimError, match=r"index \(20001,\)"):
            float_format("e2m1").encode(array)


def test_nan_takes_the_canonical_code() -> None:
    payload = np.array([0x7FF0000000000001, 0xFFF8000000000000], dtype=np.uint64).view(np.float64)
    for name, code in (("e5m10", 0x7E00), ("e4m3fn", 0x7F), ("e4m3fnuz", 0x80), ("e8m0", 0xFF)):
        assert float_format(name).encode(payload).tolist() == [code, code]


# -- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "i8", "u4"])
def test_input_types(dtype: str) -> None:
    values = np.array([0, 1, 2, 3, 6]).astype(dtype)
    assert float_format("e2m1").encode(values).tolist() == [0, 2, 4, 5, 7]


def test_float128_is_refused_rather_than_rounded_twice() -> None:
    """Just above the tie at 0.25; through float64 it would become the tie and round to 0."""
    if np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("long double is float64 here")
    value = np.array([np.longdouble(0.25) + np.longdouble(2) ** -60])
    with pytest.raises(FpsimError, match="values: .* not exact in float64"):
        float_format("e2m1").encode(value)


@pytest.mark.parametrize("values", [["1"], [None], [True], [1j]])
def test_things_that_are_no_real_numbers(values: Any) -> None:
    for fmt in (get_format("e2m1"), get_format("int4")):
        with pytest.raises(FpsimError, match="values: dtype"):
            fmt.encode(values)


def test_strided_input_and_large_arrays() -> None:
    """More than one chunk of the parallel loop, and memory that is not contiguous."""
    fmt = float_format("e4m3fn")
    values = np.random.default_rng(0).normal(size=(300, 400))
    rows = np.stack([fmt.encode(row) for row in values])
    assert np.array_equal(fmt.encode(values), rows)
    assert np.array_equal(fmt.encode(values.T), rows.T)
    assert np.array_equal(fmt.encode(values[::3, ::-1]), rows[::3, ::-1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rounding": "nearest"}, ["rounding", "nearest", "rne", "sr"]),
        ({"rounding": "rnE"}, ["rounding", "did you mean 'rne'"]),
        ({"rounding": 3}, ["rounding", "3"]),
        ({"overflow": "clip"}, ["overflow", "clip", "saturate"]),
        ({"overflow": "inf"}, ["overflow", "inf", "e2m1", "allowed: saturate"]),
        ({"overflow": "nan"}, ["overflow", "nan", "e2m1", "allowed: saturate"]),
        ({"overflow": "wrap"}, ["overflow", "wrap", "e2m1", "allowed: saturate"]),
        ({"rounding": "sr"}, ["random_bits", "0", "1..32"]),
        ({"rounding": "sr", "random_bits": 33}, ["random_bits", "33", "1..32"]),
        ({"rounding": "sr", "random_bits": 4}, ["random", "sr"]),
        ({"rounding": "sr", "random_bits": 4, "random": [16]}, ["random", "2^4"]),
        ({"rounding": "sr", "random_bits": 4, "random": [-1]}, ["random", "2^4"]),
        ({"rounding": "sr", "random_bits": 4, "random": [0.5]}, ["random", "float64"]),
        ({"rounding": "sr", "random_bits": 4, "random": [1, 2]}, ["random", "(2,)", "(1,)"]),
        ({"rounding": "rne", "random": [1]}, ["random", "sr", "rne"]),
        ({"rounding": "rne", "random_bits": 3}, ["random", "sr", "rne"]),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(FpsimError) as error:
        float_format("e2m1").encode([1.0], **arguments)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("overflow", ["inf", "nan"])
def test_overflow_policies_fixed_point_does_not_have(overflow: str) -> None:
    with pytest.raises(FpsimError, match=f"overflow: '{overflow}'.*int4.*saturate, wrap"):
        get_format("int4").encode([1.0], overflow=overflow)


def test_codes_survive_a_round_trip_through_values() -> None:
    """Encoding what decoding gave returns the code: -0 and infinities too."""
    for name in SMALL + EIGHT + ["e5m10", "e8m7"]:
        fmt = float_format(name)
        codes = np.arange(1 << fmt.bits)
        values = fmt.decode(codes)
        overflow = "inf" if fmt.infinity else "saturate"
        kept = ~np.isnan(values)
        again = fmt.encode(values[kept], "rne", overflow)
        assert same_floats(fmt.decode(again), values[kept])
        if "flush" not in name:  # flushed rows hold several zeros; encoding picks the canonical one
            assert np.array_equal(again, codes[kept])
