# SPDX-License-Identifier: Apache-2.0
"""Formats as text: tables of codes, block formats as TOML, equations and worked examples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim import BlockFormat, FpsimError, get_block_format, get_format
from fpsim.blocks.block_format import BLOCK_FORMATS
from fpsim.blocks.describe import block_example, code_rows, equations, find_block_format
from fpsim.cli import main
from fpsim.formats.names import NAMED_FORMATS

Capture = pytest.CaptureFixture[str]


def test_table_of_e2m1() -> None:
    lines = [line.split() for line in fpsim.format_table("e2m1").splitlines()]
    assert lines[0] == ["code", "bits", "value", "next_ulp"]
    assert lines[1] == ["0", "0000", "0.0", "0.5"]
    assert lines[7] == ["6", "0110", "4.0", "2.0"]
    assert lines[8] == ["7", "0111", "6.0"]
    assert lines[16] == ["15", "1111", "-6.0", "2.0"]


@pytest.mark.parametrize("name", [n for n in NAMED_FORMATS if get_format(n).bits <= 16])
def test_tables_of_named_formats(name: str) -> None:
    fmt = get_format(name)
    rows = code_rows(fmt)
    assert [row["code"] for row in rows] == list(range(1 << fmt.bits))
    values = np.array([float(row["value"]) for row in rows])
    np.testing.assert_array_equal(values, fmt.decode(np.arange(1 << fmt.bits)))
    steps = np.array([np.nan if row["next_ulp"] is None else row["next_ulp"] for row in rows])
    known = np.isfinite(steps)
    assert set(values[known] + steps[known]) <= set(values)
    assert (steps[known] > 0).all()
    assert (~known).sum() == (~np.isfinite(values)).sum() + (values == fmt.max_value).sum()


def test_a_format_too_wide_for_a_table() -> None:
    with pytest.raises(FpsimError, match="e8m10 has 19 bits; tables are for up to 16"):
        fpsim.format_table("e8m10")


# -- block formats -------------------------------------------------------------------------------

OWN = [
    {"element": "e3m0", "block": 16, "scale": "ue4m3", "tensor_range": 448, "nan": "error"},
    {"element": "int8", "block": "tensor", "rule": "range", "scale": "e5m10"},
    {"element": "e2m1", "block": 8, "scale": "e4m3fn", "choice": "mae", "expansions": [1, 1.25]},
    {"element": "binary4p2sf", "block": 8, "scale": "e8m7", "signs": True, "target": 2.5},
]


@pytest.mark.parametrize(
    "fmt",
    [*BLOCK_FORMATS.values(), *(BlockFormat.from_dict({"name": "own", **f}) for f in OWN)],
    ids=lambda fmt: fmt.name,
)
def test_toml_round_trip(fmt: BlockFormat, tmp_path: Path) -> None:
    path = tmp_path / "format.toml"
    path.write_text(fmt.to_toml())
    assert get_block_format(path) == fmt
    assert BlockFormat.from_dict(fmt.to_dict()) == fmt
    assert BlockFormat.from_dict(json.loads(json.dumps(fmt.to_dict()))) == fmt


def test_toml_says_what_matters_and_no_more() -> None:
    assert get_block_format("mxfp4").to_dict() == {
        "name": "mxfp4", "element": "e2m1", "block": 32, "scale": "e8m0", "rule": "floor",
        "rounding": "rne", "source": "OCP MX v1.0",
    }  # fmt: skip
    changed = replace(get_block_format("nvfp4"), nan="error", name="mine").to_dict()
    assert changed["nan"] == "error"
    assert changed["zero"] == "one"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("mxfp4", ["s = 2^(floor(log2 amax) - 2)", "P = e2m1[rne](x / s)", "x^ = P * s"]),
        (
            "nvfp4",
            [
                "s_t = max|x| of the tensor / (6 * 448)",
                "s = e4m3fn[rne](amax / (6 * s_t)); where that is 0: 1",
                "P = e2m1[rne](x / (s * s_t))",
                "x^ = P * s * s_t",
            ],
        ),
        (
            "amxint4",
            [
                "s = e5m2[rna]((max - min) / 15)",
                "z = -round(min / s) - 8;  P = int4[rna](x / s + z)",
                "x^ = (P - z) * s",
            ],
        ),
        (
            "qrazor-w4-g8",
            [
                "s_t = max|x| of the tensor / 127;  i = rne(x / s_t)",
                "s = 2^max(bits of the OR of all |i| - 3, 0)",
                "P = int4s[rna](i / s)",
                "x^ = P * s * s_t",
            ],
        ),
    ],
)
def test_equations(name: str, lines: list[str]) -> None:
    assert equations(get_block_format(name)) == lines


@pytest.mark.parametrize("name", [*BLOCK_FORMATS, "mxfp4-rceil", "mxfp4-ceil", "mxfp4-even"])
def test_every_format_explains_itself(name: str) -> None:
    """The figures of the example follow from one another as the last equation says."""
    fmt = get_block_format(name)
    assert equations(fmt)[-1].startswith("x^ = ")
    for row in block_example(fmt):
        if fmt.is_coded:
            exact = row["w"] * row["scale"] * row.get("tensor_scale", 1.0)
            assert row["value"] == pytest.approx(exact, rel=1e-15)
            continue
        element = fmt.element.decode(row["code"])
        if "zero_point" in row:
            element = element - row["zero_point"]
        macro = 1 + row.get("macro", 0) / 256
        assert row["value"] == element * row["scale"] * macro * row.get("tensor_scale", 1.0)


def test_amxfp4_example_is_the_one_of_its_notes() -> None:
    rows = block_example(get_block_format("amxfp4"))
    assert [row["value"] for row in rows] == [
        10.5, 3.5, -0.65625, 0, -0.0546875, 0, 0.875, -0.4375,
    ]  # fmt: skip


def test_names_of_blocks_and_of_elements_do_not_overlap() -> None:
    for name in NAMED_FORMATS:
        assert find_block_format(name) is None
    for name in BLOCK_FORMATS:
        assert find_block_format(name) is BLOCK_FORMATS[name]
        with pytest.raises(FpsimError):
            get_format(name)


def test_command_line_lists_and_shows_block_formats(capsys: Capture, tmp_path: Path) -> None:
    def run(*argv: str) -> Any:
        assert main(["formats", *argv, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    kinds = {row["name"]: row["kind"] for row in run()}
    assert kinds == dict.fromkeys(NAMED_FORMATS, "element") | dict.fromkeys(BLOCK_FORMATS, "block")
    shown = run("mxfp4-even")
    assert shown["fields"]["rule"] == "even"
    assert shown["example"][0] == {
        "x": 10.0, "code": 6, "bits": "0110", "scale_code": 128, "scale": 2.0, "value": 8.0,
    }  # fmt: skip
    (tmp_path / "mine.toml").write_text(get_block_format("nvfp4").to_toml())
    assert run(str(tmp_path / "mine.toml"))["fields"] == run("nvfp4")["fields"]
    for argv in (["formats"], ["formats", "nvfp4"]):
        assert main(argv) == 0
        assert "nvfp4" in capsys.readouterr().out
    assert main(["formats", "mxpf4"]) == 2
    assert "did you mean 'mxfp4'?" in capsys.readouterr().err
    assert main(["formats", "nvfp4-floor"]) == 2
    assert "rule: 'floor'" in capsys.readouterr().err
