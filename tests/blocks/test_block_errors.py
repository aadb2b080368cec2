# SPDX-License-Identifier: Apache-2.0
"""Block formats of one's own, in TOML and Python, and one clear sentence for what cannot be."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from support.block_cases import check_against_oracle, wide_values

from fpsim import BlockFormat, FpsimError, Quantized, get_block_format
from fpsim.blocks.block_format import BLOCK_FORMATS, ScaleRule
from fpsim.blocks.describe import find_block_format

MX = get_block_format("mxfp4")

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


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "fields",
    [
        {"element": "e3m0", "block": 16, "scale": "ue4m3", "tensor_range": 448},
        {"element": "int4s", "block": 16, "scale": "e4m3fn", "tensor_range": 448},
        {"element": "e2m1", "block": 16, "scale": "e4m3fn", "tensor_range": 448, "signs": True},
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
    check_against_oracle(fmt, -np.abs(wide_values(11, (9, 130), spread=3)))
    check_against_oracle(fmt, wide_values(10, (3, 30), spread=0))


BASE: dict[str, Any] = {"name": "x", "element": "e2m1", "block": 16}
RAZOR = {"element": "int4s", "rule": "razor", "base_bits": 8, "scale": "ue4m0b0_nozero"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blok": 3}, "blok: not a field"),
        ({"block": 0}, "block: 0 is not"),
        ({"block": [0, 4]}, "block: "),
        ({"block": [1, 10**102]}, "is not in 1..65536"),
        (
            {"block": "rows"},
            "block: 'rows' is not a positive integer, 'row' or 'tensor'; did you mean 'row'",
        ),
        ({"block": True}, "block: True"),
        ({"element": "e2m9x"}, "element: format"),
        ({"scale": "int8"}, "scale: int8 is not a floating-point format"),
        ({"rule": "best"}, "rule: 'best' is not one of"),
        ({"rule": "absmax"}, "rule: 'absmax' does not fit scale e8m0"),
        ({"rule": "even", "scale": "e5m2"}, "rule: 'even' gives powers of two"),
        ({"rule": "range", "scale": "e5m2"}, "rule: 'range' needs"),
        ({"rule": "razor"}, "base_bits: 0 does not fit"),
        ({"base_bits": 8}, "base_bits: 8 does not fit"),
        ({"rounding": "rup", "scale": "e5m2"}, "rounding: 'rup' is possible only in MX"),
        ({"tensor_range": -1}, "tensor_range: -1"),
        ({"tensor_range": 448}, "tensor_range: needs"),
        ({"tensor_range": "448", "scale": "e4m3fn"}, "tensor_range: '448' is not a number"),
        ({"choice": "mse"}, "choice: 'mse' needs variants"),
        ({"choice": "best", "scale": "e4m3fn"}, "choice: 'best' is not one of"),
        ({"arithmetic": "ratio", "scale": "e4m3fn"}, "arithmetic: 'ratio' needs a tensor_range"),
        (
            {
                "variants": [{"element": "int4s"}],
                "stored": "scale",
                "choice": "mse",
                "scale": "ue5m3fn",
            },
            "stored: the choice of 2 grids does not fit in a byte beside 8 bits",
        ),
        ({"signs": True, "element": "int4"}, "signs: needs"),
        ({"signs": 1}, "signs: 1 is not true or false"),
        ({"nan": "scale", "scale": "ue4m3f"}, "nan: 'scale' is not possible"),
        ({"block": [4, 4], "rounding": "sr"}, "rounding: 'sr' needs blocks along one axis"),
        (
            {"rule": "range-floor", "element": "int4", "scale": "e5m2"},
            "rule: 'range-floor' gives powers of two; scale e5m2 is not e8m0",
        ),
        ({"scale": "ue4m3b7_nozero"}, "scale: ue4m3_nozero has no zero; allowed without"),
        ({"element": "ue2m2", "scale": "e5m2"}, "element: ue2m2 is unsigned"),
        (RAZOR | {"element": "e2m1"}, "element: e2m1 is not a symmetric integer such as int4s"),
        (RAZOR | {"base_bits": 3}, r"base_bits: 3 is not in 4\.\.24"),
        (RAZOR | {"scale": "e5m2"}, r"scale: 'razor' needs powers of two from 2\^0 to 2\^4"),
        ({"signs": True, "scale": "real"}, "signs: needs a scale format and a rule on the largest"),
        ({"special": [5], "scale": "real"}, "element: the codes of x need one scale per block"),
        ({"special": [5], "element": "e4m4", "scale": "e5m2"}, "element: e4m4 has 9 bits"),
        ({"special": [5], "element": "e4m3fn"}, "element: e4m3fn has NaN; every code must be"),
        ({"special": [5, 5], "choice": "mse"}, r"special: \[5\.?0?, 5\.?0?\] has a value twice"),
        ({"special": [5], "element": "int4s"}, "special: int4s has no code of -0"),
        ({"special": [0]}, r"special: 0\S* is not a finite number other than 0"),
        ({"expansions": [0, 1], "choice": "mse"}, r"expansions: 0\S* is not a positive number"),
        ({"expansions": [1, 1.5], "choice": "mse"}, "expansions: 1.5 is not a power of two"),
        (
            {"expansions": [2.0**-i for i in range(65)], "choice": "mse"},
            "expansions: 65 candidates; allowed: 1 to 64",
        ),
        ({"expansions": [1, 0.5]}, "choice: 2 candidates need one of mse"),
        ({"levels": [{"block": 5, "ratios": [0.5, 1]}]}, "levels: block 5 of level 0 does not"),
        ({"levels": [{"block": 4, "ratios": [1, 0.5]}]}, r"levels: ratios \[1\S*, 0.5\] are not"),
        ({"levels": [{"block": 4, "ratios": [0.5, 1], "by": "max"}]}, "by 'max' needs a limit"),
        (
            {"levels": [{"block": 4, "ratios": [0.3, 1], "by": "max", "limit": 6}]},
            r"by 'max' needs powers of two, not \[0\.3, 1",
        ),
        ({"top": {"block": 3, "base": 8, "step": 1}}, "top: block 3 does not divide 16"),
        (
            {"top": {"block": 4, "element": "e2m3"}},
            "top: takes base and step, or element and offsets",
        ),
        ({"top": {"block": 4, "base": -1, "step": 1}}, r"top: base -1\S* and step 1\S* make no"),
        (
            {"top": {"block": 4, "element": "e2m3", "offsets": [1, 2]}},
            r"top: offsets \[1, 2\] are not consecutive around 0",
        ),
        (
            {"top": {"block": 4, "element": "e3m3", "offsets": [0]}},
            "top: e3m3 does not refine e2m1",
        ),
        (
            {"element": "int4", "top": {"block": 4, "base": 8, "step": 1}},
            "top: needs a signed floating-point element, not int4",
        ),
        ({"macro": {"block": 24, "bits": 4, "target": 4}}, "macro: block 24 is no multiple of 16"),
        ({"macro": {"block": 32, "bits": 9, "target": 4}}, r"macro: 9 bits, target 4\S*; allowed"),
        ({"scale_rounding": "rna"}, "scale_rounding: needs a scale format that a rule rounds to"),
        ({"factor": "one"}, "factor: 'one' is not a positive number, or text such as"),
        ({"factor": 1e30}, r"factor: 1e\+30 is not between 2\^-64 and 2\^64"),
        ({"top": 4}, "top: 4 is not a table of block"),
    ],
)
def test_impossible_formats_are_one_clear_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FpsimError, match=message) as error:
        BlockFormat.from_dict({**BASE, **change})
    assert "\n" not in str(error.value)


def test_missing_field_and_unreadable_file(tmp_path: Any) -> None:
    with pytest.raises(FpsimError, match="element: missing"):
        BlockFormat.from_dict({"name": "x", "block": 16})
    with pytest.raises(FpsimError, match="cannot be read"):
        get_block_format(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(FpsimError, match=r"bad\.toml"):
        get_block_format(tmp_path / "bad.toml")


def test_names_that_are_not_enough_or_no_rules_say_so() -> None:
    with pytest.raises(FpsimError, match=r"any4 has 16 values of its own .* recipe any4"):
        get_block_format("any4")
    with pytest.raises(FpsimError, match=r"block format: 'razer-activations' .* 'razer-a'\?"):
        get_block_format("razer-activations")
    with pytest.raises(FpsimError, match=r"rule: 'foo' is not one of floor"):
        get_block_format("mxfp4-foo")
    assert find_block_format("razer-activations") is None
    with pytest.raises(FpsimError, match=r"any4 has 16 values"):
        find_block_format("Any4")


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


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": np.ones((2, 3)), "axis": 2}, ["axis", "2", "2 dimensions"]),
        ({"x": np.ones((2, 3)), "axis": -3}, ["axis", "-3", "2 dimensions"]),
        ({"x": np.ones((2, 3)), "axis": 1.0}, ["axis", "1.0"]),
        ({"x": np.ones((2, 3)), "axis": None}, ["axis", "None"]),
        ({"x": np.float64(1)}, ["axis", "0 dimensions"]),
        ({"x": np.ones(3, dtype=int)}, ["x", "int64", "floating point"]),
        ({"x": ["1.0"]}, ["x", "floating point"]),
        ({"x": [None]}, ["x", "object"]),
        ({"x": np.ones(3, dtype=np.longdouble)}, ["x", str(np.dtype(np.longdouble))]),
        ({"x": np.ones(3), "nan": "zero"}, ["nan", "'zero'", "error, saturate, scale"]),
        ({"x": [1.0, np.inf], "nan": "error"}, ["x", "infinity", "row 0", "mxfp4"]),
    ],
    ids=lambda x: str(x)[:50],
)
def test_bad_input(arguments: dict[str, Any], words: list[str]) -> None:
    if str(arguments["x"] if isinstance(arguments["x"], list) else arguments["x"].dtype) == "float64" == str(np.dtype(np.longdouble)):  # fmt: skip
        pytest.skip("long double is float64 here")
    with pytest.raises(FpsimError) as error:
        MX.quantize(**arguments)
    for word in words:
        assert word in str(error.value)


def test_numpy_integers_are_axes() -> None:
    x = np.ones((4, 40))
    assert MX.quantize(x, axis=np.int64(1)).scales.shape == (4, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mxfp5", ["'mxfp5'", "mxfp4", "did you mean"]),
        ("mxfp4-round", ["'round'", "floor, rceil, ceil, even"]),
        ("mxfp4-", ["''", "floor"]),
        ("", ["''", "mxfp4"]),
        (4, ["4", "mxfp4"]),
    ],
)
def test_unknown_block_formats(name: Any, words: list[str]) -> None:
    with pytest.raises(FpsimError) as error:
        get_block_format(name)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"block": 0}, ["block", "0"]),
        ({"block": 2.0}, ["block", "2.0"]),
        ({"block": True}, ["block", "True"]),
        ({"rounding": "nearest"}, ["rounding", "nearest"]),
        ({"rule": "round"}, ["rule", "round", "floor"]),
    ],
    ids=str,
)
def test_block_formats_that_cannot_be(change: dict[str, Any], words: list[str]) -> None:
    arguments: dict[str, Any] = {"name": "mine", "element": MX.element, "block": 32} | change
    with pytest.raises(FpsimError) as error:
        BlockFormat(**arguments)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("codes", "scales"),
    [
        (np.full(3, 16), np.array([127])),
        (np.zeros(3), np.array([127])),
        (np.zeros(3, dtype=int), np.array([256])),
        (np.zeros(33, dtype=int), np.array([127])),  # two blocks, one scale
        (np.zeros((2, 3), dtype=int), np.array([127])),
    ],
)
def test_dequantize_refuses_what_does_not_fit(codes: Any, scales: Any) -> None:
    with pytest.raises(FpsimError):
        MX.dequantize(Quantized(codes, scales, codes.ndim - 1))


def test_named_formats_and_their_sizes() -> None:
    bits = {"mxfp4": 4.25, "mxfp6-e2m3": 6.25, "mxfp6-e3m2": 6.25, "mxfp8-e4m3": 8.25}
    for name, expected in bits.items():
        assert get_block_format(name).bits_per_element == expected
        assert get_block_format(name.upper()) == get_block_format(name)
    assert get_block_format("mxfp4-rceil").rule is ScaleRule.RCEIL
    assert get_block_format("mxfp8-e4m3-even").rule is ScaleRule.EVEN
    assert get_block_format(MX) is MX


@pytest.mark.parametrize("name", list(BLOCK_FORMATS))
def test_a_named_format_passes_the_checks_of_any_other(name: str) -> None:
    """They are made without checks, which take the time of a command."""
    fmt = BLOCK_FORMATS[name]
    again = BlockFormat.from_dict(fmt.to_dict() | {"source": fmt.source})
    for field in fields(fmt):
        assert getattr(again, field.name) == getattr(fmt, field.name), field.name


def test_codes_less_their_zero_point_are_integers_of_8_bits() -> None:
    fields = {"name": "x", "element": "int8", "block": 4, "rule": "range", "scale": "e5m10"}
    fmt = BlockFormat.from_dict(fields)
    made = fmt.quantize(np.ones((1, 4), np.float32))

    def widened(code: int, zero: int) -> int:
        codes = np.array([[code, 0, 0, 0]], dtype=np.uint8)
        zeros = np.array([[zero]], dtype=np.int8)
        return int(fmt.widen(replace(made, codes=codes, zero_points=zeros)).codes[0, 0])

    assert (widened(0x7F, 0), widened(0x80, 0)) == (0x7F, 0x80)
    assert (widened(0x7E, -1), widened(0x81, 1)) == (0x7F, 0x80)
    for code, zero in ((0x7F, -1), (0x80, 1)):
        with pytest.raises(FpsimError, match=f"zero_points: {zero} leaves no 8-bit integer in x"):
            widened(code, zero)
