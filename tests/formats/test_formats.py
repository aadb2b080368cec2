# SPDX-License-Identifier: Apache-2.0
"""What codes mean: decode against the oracle and printed tables, names, and impossible formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import as_float, float_format, same_floats

from fpsim import FixedFormat, FloatFormat, FpsimError, get_format, oracle
from fpsim.formats.floating import NanCodes, Subnormals
from fpsim.formats.names import ALIASES, NAMED_FORMATS
from fpsim.testing.strategies import fixed_formats, float_formats

pytestmark = pytest.mark.usefixtures("one_thread")

NAN, INF = float("nan"), float("inf")

#: Beyond the named ones: every combination of special codes and lowest rows.
OTHERS = [
    "e2m1i", "e2m1fn", "e2m1fni", "e2m1fnuz", "e2m1fnuzi", "e2m1fi", "e2m1b3", "e2m1b-3",
    "e3m2_flush", "e4m3_flush", "e3m0_nozero", "e2m2fn_nozero", "ue2m1_nozero", "ue2m2",
    "ue4m3b8i", "e0m1", "e0m7f", "e0m3b5", "e1m0", "e7m0fni", "e5m0fn", "ue8m0fn", "e1m6",
    "uint4", "uint8q3", "int6q-2", "int12q6s", "binary5p2ue", "binary8p1uf", "binary8p3se",
    "binary8p4se", "binary6p3sf", "binary15p8se",
]  # fmt: skip
ALL = [*NAMED_FORMATS, *OTHERS]
SMALL = [name for name in ALL if get_format(name).bits <= 16]
LARGE = [name for name in ALL if get_format(name).bits > 16]


# -- decode --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_every_code_decodes_as_the_oracle_says(name: str) -> None:
    fmt = get_format(name)
    codes = np.arange(1 << fmt.bits, dtype=fmt.dtype)
    expected = np.array([as_float(oracle.decode(int(code), fmt)) for code in codes])
    assert same_floats(fmt.decode(codes), expected)


@pytest.mark.parametrize("name", LARGE)
def test_codes_of_wide_formats_decode_as_the_oracle_says(name: str) -> None:
    fmt = float_format(name)
    random = np.random.default_rng(3).integers(0, 1 << fmt.bits, 3000)
    edges = [0, 1, 1 << fmt.mantissa_bits, fmt.max_code, fmt.max_code + 1, fmt.max_code + 2]
    codes = np.concatenate([random, edges, np.array(edges) + fmt.sign_bit]).astype(fmt.dtype)
    expected = np.array([as_float(oracle.decode(int(code), fmt)) for code in codes])
    assert same_floats(fmt.decode(codes), expected)


@given(float_formats(), st.data())
def test_any_float_format_decodes_as_the_oracle_says(fmt: FloatFormat, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, (1 << fmt.bits) - 1), min_size=1, max_size=20))
    expected = np.array([as_float(oracle.decode(code, fmt)) for code in codes])
    assert same_floats(fmt.decode(codes), expected)


@given(fixed_formats(), st.data())
def test_any_fixed_format_decodes_as_the_oracle_says(fmt: FixedFormat, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, (1 << fmt.bits) - 1), min_size=1, max_size=20))
    expected = np.array([as_float(oracle.decode(code, fmt)) for code in codes])
    assert same_floats(fmt.decode(codes), expected)


def test_ieee_formats_decode_as_numpy_reads_them() -> None:
    """An opinion that shares nothing with this package: IEEE 754 as numpy and C know it."""
    halves = np.arange(1 << 16, dtype=np.uint16)
    words = np.random.default_rng(5).integers(0, 1 << 32, 20000).astype(np.uint32)
    with np.errstate(invalid="ignore"):  # signalling NaN
        half = halves.view(np.float16).astype(float)
        single = words.view(np.float32).astype(float)
        brain = (halves.astype(np.uint32) << 16).view(np.float32).astype(float)
    assert same_floats(get_format("e5m10").decode(halves), half)
    assert same_floats(get_format("e8m23").decode(words), single)
    assert same_floats(get_format("e8m7").decode(halves), brain)


#: Tables printed in the standards: OCP MX 1.0, IEEE P3109 interim report 3.2.2, FNUZ.
TABLES: dict[str, list[float]] = {
    "e2m1": [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6],
    "e2m1b3": [x / 4 for x in (0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6)],
    "e1m2": [x / 2 for x in (*range(8), -0.0, *range(-1, -8, -1))],
    "e3m0": [0, 0.25, 0.5, 1, 2, 4, 8, 16, -0.0, -0.25, -0.5, -1, -2, -4, -8, -16],
    "e0m3": [x / 4 for x in (*range(8), -0.0, *range(-1, -8, -1))],
    "e2m1i": [0, 0.5, 1, 1.5, 2, 3, INF, NAN, -0.0, -0.5, -1, -1.5, -2, -3, -INF, NAN],
    "e2m1fn": [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6],
    "e2m1_nozero": [x / 4 for x in (2, 3, 4, 6, 8, 12, 16, 24, -2, -3, -4, -6, -8, -12, -16, -24)],
    "e2m1_flush": [0, 0, 1, 1.5, 2, 3, 4, 6, -0.0, -0.0, -1, -1.5, -2, -3, -4, -6],
    "int4": [*range(8), *range(-8, 0)],
    "int4s": [*range(8), *range(-8, 0)],
    "uint4": list(range(16)),
    "binary4p1sf": [0, *(2.0**e for e in range(-3, 4)), NAN, *(-(2.0**e) for e in range(-3, 4))],
    "binary4p2sf": [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, NAN, -0.25, -0.5, -0.75, -1, -1.5, -2, -3],
    "binary4p3sf": [x / 4 for x in (*range(8), NAN, *range(-1, -8, -1))],
    "binary4p2se": [0, 0.25, 0.5, 0.75, 1, 1.5, 2, INF, NAN, -0.25, -0.5, -0.75, -1, -1.5, -2, -INF],
    "binary4p1uf": [0, *(2.0**e for e in range(-7, 7)), NAN],
    "binary4p1ue": [0, *(2.0**e for e in range(-7, 6)), INF, NAN],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_four_bit_tables(name: str) -> None:
    table = np.array(TABLES[name], dtype=float)
    assert same_floats(get_format(name).decode(np.arange(16)), table)


#: Largest, smallest normal and smallest positive value, and the codes of largest, Inf and NaN.
LIMITS = {
    "e2m3": (7.5, 1.0, 2.0**-3, 0x1F, None, None),
    "e3m2": (28.0, 2.0**-2, 2.0**-4, 0x1F, None, None),
    "e4m3fn": (448.0, 2.0**-6, 2.0**-9, 0x7E, None, 0x7F),
    "e4m3f": (480.0, 2.0**-6, 2.0**-9, 0x7F, None, None),
    "e4m3": (240.0, 2.0**-6, 2.0**-9, 0x77, 0x78, 0x7C),
    "e4m3fnuz": (240.0, 2.0**-7, 2.0**-10, 0x7F, None, 0x80),
    "e5m2": (57344.0, 2.0**-14, 2.0**-16, 0x7B, 0x7C, 0x7E),
    "e5m2fnuz": (57344.0, 2.0**-15, 2.0**-17, 0x7F, None, 0x80),
    "ue4m3": (448.0, 2.0**-6, 2.0**-9, 0x7E, None, 0x7F),
    "e8m0": (2.0**127, 2.0**-127, 2.0**-127, 0xFE, None, 0xFF),
    "binary8p1uf": (2.0**126, 2.0**-127, 2.0**-127, 0xFE, None, 0xFF),
    "binary8p4se": (224.0, 2.0**-7, 2.0**-10, 0x7E, 0x7F, 0x80),
    "binary8p3se": (49152.0, 2.0**-15, 2.0**-17, 0x7E, 0x7F, 0x80),
    "e5m10": (65504.0, 2.0**-14, 2.0**-24, 0x7BFF, 0x7C00, 0x7E00),
    "e8m23": (float(np.finfo(np.float32).max), 2.0**-126, 2.0**-149, 0x7F7FFFFF, 0x7F800000, 0x7FC00000),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_limits_printed_in_the_standards(name: str) -> None:
    largest, normal, smallest, max_code, inf_code, nan_code = LIMITS[name]
    fmt = float_format(name)
    assert (fmt.max_code, fmt.inf_code, fmt.nan_code) == (max_code, inf_code, nan_code)
    assert fmt.max_value == largest
    assert fmt.exponent_max == int(np.floor(np.log2(largest)))
    assert 2.0**fmt.exponent_min == normal
    values = fmt.decode(np.arange(fmt.max_code + 1)) if fmt.bits <= 16 else fmt.decode([0, 1])
    assert values[values > 0].min() == smallest


def test_e8m0_has_neither_zero_nor_sign_and_one_nan() -> None:
    e8m0 = get_format("e8m0")
    values = e8m0.decode(np.arange(256))
    assert np.array_equal(values[:255], np.ldexp(1.0, np.arange(255) - 127))
    assert np.isnan(values[255])


def test_p3109_unsigned_scale_is_e8m0_one_exponent_down_with_a_zero() -> None:
    p3109, e8m0 = get_format("binary8p1uf"), get_format("e8m0")
    codes = np.arange(1, 255)
    assert np.array_equal(p3109.decode(codes) * 2, e8m0.decode(codes))
    assert p3109.decode([0])[0] == 0


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 0, 3)])
@pytest.mark.parametrize("name", ["e2m1", "int4"])
def test_shapes_are_kept(name: str, shape: tuple[int, ...]) -> None:
    """A scalar stays a scalar: np.ascontiguousarray alone would make it one-dimensional."""
    fmt = get_format(name)
    assert fmt.decode(np.zeros(shape, dtype=np.uint8)).shape == shape
    assert fmt.encode(np.zeros(shape)).shape == shape


def test_memory_order_of_codes_does_not_matter() -> None:
    codes = np.arange(16, dtype=np.uint8).reshape(4, 4)
    fmt = get_format("e2m1")
    assert np.array_equal(fmt.decode(codes.T), fmt.decode(codes).T)
    assert np.array_equal(fmt.decode(codes[::2, ::-1]), fmt.decode(codes)[::2, ::-1])
    assert np.array_equal(fmt.decode(codes.astype(">u2")), fmt.decode(codes))


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_named_formats_print_back(name: str) -> None:
    fmt = get_format(name)
    assert get_format(fmt.name) == fmt
    assert get_format(name.upper()) == fmt
    assert get_format(fmt) is fmt


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_are_what_they_point_to(alias: str) -> None:
    assert get_format(alias) == get_format(ALIASES[alias])


@given(float_formats(max_bits=32))
def test_float_names_parse_back(fmt: FloatFormat) -> None:
    assert get_format(fmt.name) == fmt


@pytest.mark.parametrize(
    "fmt",
    [
        FloatFormat(2, 1, 1, nan=NanCodes.TOP),
        FloatFormat(2, 3, 1, nan=NanCodes.TOP),
        FloatFormat(3, 2, 3, nan=NanCodes.TOP),
        FloatFormat(4, 3, 7, nan=NanCodes.NEGATIVE_ZERO),
        FloatFormat(5, 2, 15, nan=NanCodes.NEGATIVE_ZERO),
        FloatFormat(4, 3, 7, signed=False, nan=NanCodes.IEEE, infinity=True),
    ],
    ids=lambda fmt: fmt.name,
)
def test_names_that_an_alias_has_taken_still_parse_back(fmt: FloatFormat) -> None:
    """``e4m3fnuz`` means bias 8 to everyone, so bias 7 must print as something else."""
    assert get_format(fmt.name) == fmt


@given(fixed_formats(max_width=64, max_lsb=512))
def test_fixed_names_parse_back(fmt: FixedFormat) -> None:
    assert get_format(fmt.name) == fmt


@given(st.lists(float_formats(max_bits=10), min_size=2, max_size=8))
def test_different_formats_have_different_names(formats: list[FloatFormat]) -> None:
    names = {fmt.name for fmt in formats}
    assert len(names) == len(set(formats))


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("e4m3fnuz", "e4m3b8fnuz"),
        ("e5m2fnuz", "e5m2b16fnuz"),
        ("binary4p2sf", "e2m1b2fnuz"),
        ("binary8p4se", "e4m3b8fnuzi"),
        ("e8m0", "ue8m0b127fn_nozero"),
        ("fp16", "e5m10i"),
        ("e2m1fn", "e2m1"),
    ],
)
def test_names_of_one_format(name: str, same: str) -> None:
    assert get_format(name) == get_format(same)


@pytest.mark.parametrize(
    "name", ["", "e2", "m1", "e2m1x", "e2m1b", "e2m1b1.5", "int", "int4q", "binary4", "e2m1 e2m1", "2m1e"]
)  # fmt: skip
def test_unknown_names_are_one_clear_error(name: str) -> None:
    with pytest.raises(FpsimError, match="is not a format name") as error:
        get_format(name)
    assert repr(name) in str(error.value)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(FpsimError, match="did you mean 'e4m3fn'"):
        get_format("e4m3fnn")


@pytest.mark.parametrize("thing", [None, 3, 2.0, ["e2m1"], b"e2m1"])
def test_things_that_are_no_name(thing: Any) -> None:
    with pytest.raises(FpsimError, match="format"):
        get_format(thing)


# -- formats that cannot exist -------------------------------------------------------------------

IMPOSSIBLE_FLOATS: list[tuple[dict[str, Any], list[str]]] = [
    ({"exponent_bits": 12}, ["exponent_bits", "12", "0..11"]),
    ({"exponent_bits": -1}, ["exponent_bits", "-1", "0..11"]),
    ({"exponent_bits": 2.0}, ["exponent_bits", "2.0"]),
    ({"exponent_bits": "2"}, ["exponent_bits", "'2'"]),
    ({"exponent_bits": True}, ["exponent_bits", "True"]),
    ({"mantissa_bits": 24}, ["mantissa_bits", "24", "0..23"]),
    ({"mantissa_bits": None}, ["mantissa_bits", "None"]),
    ({"bias": 2001}, ["bias", "2001", "-2000..2000"]),
    ({"bias": 1.5}, ["bias", "1.5"]),
    ({"bias": 1100}, ["bias", "1100", "2^-1022"]),
    ({"bias": -1100}, ["bias", "-1100", "2^1024"]),
    ({"exponent_bits": 0, "mantissa_bits": 0}, ["E0M0", "1 bits"]),
    ({"exponent_bits": 10, "mantissa_bits": 22}, ["E10M22", "33", "32"]),
    ({"nan": NanCodes.IEEE}, ["nan", "ieee"]),
    ({"mantissa_bits": 0, "nan": NanCodes.IEEE, "infinity": True}, ["nan", "ieee", "mantissa"]),
    ({"exponent_bits": 0, "nan": NanCodes.IEEE, "infinity": True}, ["nan", "ieee", "exponent"]),
    ({"signed": False, "nan": NanCodes.NEGATIVE_ZERO}, ["nan", "negative-zero", "signed"]),
    ({"exponent_bits": 0, "subnormals": Subnormals.FLUSH}, ["subnormals", "flush"]),
    ({"exponent_bits": 0, "subnormals": Subnormals.NONE}, ["subnormals", "none"]),
    ({"exponent_bits": 1, "mantissa_bits": 0, "infinity": True}, ["e1m0", "finite"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), IMPOSSIBLE_FLOATS, ids=lambda x: str(x)[:60])
def test_impossible_float_formats_name_field_and_value(
    change: dict[str, Any], words: list[str]
) -> None:
    arguments: dict[str, Any] = {"exponent_bits": 2, "mantissa_bits": 1, "bias": 1} | change
    with pytest.raises(FpsimError) as error:
        FloatFormat(**arguments)
    for word in words:
        assert word in str(error.value)


def test_flush_format_whose_finite_codes_all_flush_is_refused() -> None:
    """E1M2 with IEEE specials has only its subnormal row left: flushed, nothing above zero."""
    with pytest.raises(FpsimError, match="no finite code above zero"):
        get_format("e1m2i_flush")


def test_format_without_zero_cannot_spend_its_lowest_code_on_nan() -> None:
    """With NaN in place of -smallest, a small negative value would saturate to NaN."""
    with pytest.raises(FpsimError, match="negative-zero"):
        get_format("e3m0fnuz_nozero")


IMPOSSIBLE_FIXED: list[tuple[dict[str, Any], list[str]]] = [
    ({"width": 1}, ["width", "1", "2..64"]),
    ({"width": 0, "signed": False}, ["width", "0", "1..64"]),
    ({"width": 65}, ["width", "65"]),
    ({"width": "4"}, ["width", "'4'"]),
    ({"width": True, "signed": False}, ["width", "True"]),
    ({"lsb": 513}, ["lsb", "513", "-512..512"]),
    ({"lsb": 0.5}, ["lsb", "0.5"]),
    ({"signed": False, "symmetric": True}, ["symmetric", "signed"]),
]


@pytest.mark.parametrize(("change", "words"), IMPOSSIBLE_FIXED, ids=lambda x: str(x)[:60])
def test_impossible_fixed_formats_name_field_and_value(
    change: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(FpsimError) as error:
        FixedFormat(**({"width": 4} | change))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "name",
    ["e12m1", "e2m24", "e2m1b5000", "e0m0", "e20m20", "int1", "int65", "int0", "binary4p4sf",
     "binary16p4sf", "binary1p1sf", "binary4p0sf", "ue2m1fnuz", "uint4s", "e99999999999m1"],
)  # fmt: skip
def test_names_of_impossible_formats(name: str) -> None:
    with pytest.raises(FpsimError) as error:
        get_format(name)
    assert "\n" not in str(error.value)


# -- bad codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ([16], ["codes", "16", "e2m1", "0..15"]),
        ([3, -1], ["codes", "-1", "e2m1", "0..15"]),
        (np.array([255], dtype=np.uint8), ["codes", "255", "0..15"]),
        (np.array([1 << 40]), ["codes", str(1 << 40), "0..15"]),
        ([1.0], ["codes", "float64", "uint8"]),
        (["1"], ["codes", "uint8"]),
        ([True], ["codes", "bool"]),
        ([1 << 70], ["codes", "object"]),
        ([None], ["codes", "object"]),
        ([1 + 2j], ["codes", "complex"]),
    ],
)
def test_bad_codes(codes: Any, words: list[str]) -> None:
    with pytest.raises(FpsimError) as error:
        get_format("e2m1").decode(codes)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])
def test_any_integer_dtype_carries_codes(dtype: str) -> None:
    codes = np.arange(16).astype(dtype)
    assert np.array_equal(get_format("e2m1").decode(codes), get_format("e2m1").decode(range(16)))


def test_codes_have_the_smallest_dtype() -> None:
    widths = {"e2m1": 8, "e4m3": 8, "e4m4": 16, "e5m10": 16, "e8m10": 32, "e8m23": 32}
    for name, bits in widths.items():
        assert get_format(name).encode([1.0]).dtype == np.dtype(f"uint{bits}")
    assert FixedFormat(33).encode([1.0]).dtype == np.uint64
