# SPDX-License-Identifier: Apache-2.0
"""JSON Schemas of TOML files: what fpsim reads is valid, what it refuses for its keys is not."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import fpsim
from fpsim import FpsimError, MacSpec
from fpsim.blocks.block_format import BLOCK_FORMATS, BlockFormat
from fpsim.cli import main
from fpsim.cli.schema import KINDS
from fpsim.explore.space import Space
from fpsim.hdl.dut.dut_toml import read_dut

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "golden").glob("*.toml"))


def validator(kind: str) -> Any:
    schema = KINDS[kind]()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_unit_that_is_shipped_is_valid() -> None:
    check = validator("unit")
    assert GOLDEN
    for path in GOLDEN:
        check.validate(tomllib.loads(path.read_text("utf-8")))
    for name in fpsim.preset_names():
        check.validate(tomllib.loads(fpsim.get_unit(name).spec.to_toml()))


@pytest.mark.parametrize(
    "name",
    ["e2m1.e5m2.splitxe2m1-chunked8-of-chain-e5m10-into-chain-e8m23", "e2m1-tree8-e5m10-rtz",
     "e2m1-block32-into-aligned4f13-e8m13", "e2m1-chain-e4m3-sr4", "e2m1-fixed14q6-to-e5m10"],
)  # fmt: skip
def test_every_kind_of_stage_is_valid(name: str) -> None:
    validator("unit").validate(tomllib.loads(fpsim.get_unit(name).spec.to_toml()))


@pytest.mark.parametrize("fmt", BLOCK_FORMATS.values(), ids=lambda fmt: fmt.name)
def test_every_named_block_format_is_valid(fmt: BlockFormat) -> None:
    validator("block").validate(tomllib.loads(fmt.to_toml()))


UNIT: dict[str, Any] = {
    "operands": {"a": "e2m1", "b": "e2m1"},
    "accumulate": {"kind": "block", "size": 32, "into": {"kind": "chain", "format": "e8m23"}},
}
BLOCK: dict[str, Any] = {
    "name": "mine", "element": "e2m1", "block": 32, "special": 5.0,
}  # fmt: skip


def changed(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with one value replaced, or taken out where it is None."""
    copy: dict[str, Any] = json.loads(json.dumps(data))
    *outer, last = path.split(".")
    inner = copy
    for key in outer:
        inner = inner[key]
    inner.pop(last, None)
    if value is not None:
        inner[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("operands.a", None), ("operands.a", 7), ("operands.q", "e2m1"), ("operands", None),
        ("accumulate.kind", "chian"), ("accumulate.kind", None), ("accumulate.size", "32"),
        ("accumulate.into.format", None), ("accumulate.into.rounding", "up"),
        ("accumulate.into.width", 24), ("schema", 2), ("evidence", "guessed"),
        ("operands.sign_split", "c"), ("descripton", "x"), ("accumulate", "chain"),
    ],
)  # fmt: skip
def test_a_unit_with_a_wrong_key_is_refused_by_both(path: str, value: Any) -> None:
    broken_by_both("unit", UNIT, MacSpec.from_dict, path, value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", None), ("element", None), ("block", 3.5), ("block", "rows"), ("scales", "e8m0"),
        ("rule", "flor"), ("signs", 1), ("levels", {"block": 8}), ("levels", [{"blok": 8}]),
        ("top", {"offsets": [0.5]}), ("element", {"table": [1.0, 2.0]}), ("special", "5"),
        ("tensor_range", "448"), ("macro", {"blok": 64}), ("outer", "block"),
    ],
)  # fmt: skip
def test_a_block_format_with_a_wrong_key_is_refused_by_both(path: str, value: Any) -> None:
    broken_by_both("block", BLOCK, BlockFormat.from_dict, path, value)


DUTS = sorted([*(ROOT / "rtl_tests").rglob("*.toml"), *(ROOT / "examples").rglob("dut.toml")])
DUT: dict[str, Any] = {
    "top": "mac",
    "sources": ["*.sv"],
    "clock": {"port": "clk"},
    "reset": {"port": "rst", "active": "low"},
    "input": {
        "beats": [
            {"elements": 1, "op": "cmd", "a": "a", "b": {"port": ["b0", "b1"], "signed": True}}
        ]
    },
    "ops": {"mac": 1, "clear": "reset", "idle": {"en": 0}},
    "output": {"acc": "acc[13:0]", "latency": 1},
}


@pytest.mark.parametrize("path", DUTS, ids=lambda path: path.stem)
def test_every_design_that_is_shipped_is_valid(path: Path) -> None:
    validator("dut").validate(tomllib.loads(path.read_text("utf-8")))
    assert len(DUTS) >= 6


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("top", None), ("output", None), ("clocks", {}), ("clock.port", None), ("clock.edge", "up"),
        ("reset.active", "hi"), ("reset.kind", "late"), ("input.per", "beat"), ("input.valid", 1),
        ("input.beats", {"a": "a"}), ("input.beats", [{"a": {"prot": "a"}}]), ("ops.add", 1),
        ("output.latency", "auto"), ("output.answers", ["next"]), ("defines", {"A": [1]}),
        ("input.beats", [{"a": {"port": "a", "encoding": "grey"}}]), ("compare", {"nan": "all"}),
        ("simulator", {"questa": {}}), ("domain", {"a": [1]}), ("waive", "x"),
    ],
)  # fmt: skip
def test_a_design_with_a_wrong_key_is_refused_by_both(
    path: str, value: Any, tmp_path: Path
) -> None:
    (tmp_path / "mac.sv").write_text("module mac; endmodule")

    def read(data: dict[str, Any]) -> None:
        (tmp_path / "dut.toml").write_text(tomli_w.dumps(data))
        read_dut(tmp_path / "dut.toml")

    broken_by_both("dut", DUT, read, path, value)


SPACE: dict[str, Any] = {
    "recipes": ["mxfp4"],
    "stage": [
        {"kind": "chain", "format": ["e5m10", "e8m7"], "rounding": "rne"},
        {
            "kind": "chunked",
            "size": [32, 128],
            "inner": {"kind": "chain", "format": ["e5m10"]},
            "outer": {"kind": "chain", "format": "e8m23"},
        },
        {"unit": ["e2m1-chain-e5m10"]},
    ],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("recipes", None), ("recipes", "mxfp4"), ("stage", []), ("stages", []),
        ("stage", [{"kind": "chian"}]), ("stage", [{"kind": "chain", "format": []}]),
        ("stage", [{"kind": "chain", "format": ["e5m10"], "size": 3}]),
        ("stage", [{"unit": "e2m1-chain-e5m10", "rounding": "rtz"}]), ("stage", [{"unit": 3}]),
    ],
)  # fmt: skip
def test_a_space_with_a_wrong_key_is_refused_by_both(path: str, value: Any, tmp_path: Path) -> None:
    def read(data: dict[str, Any]) -> None:
        (tmp_path / "space.toml").write_text(tomli_w.dumps(data))
        Space.from_toml(tmp_path / "space.toml")

    broken_by_both("space", SPACE, read, path, value)


def broken_by_both(
    kind: str, data: dict[str, Any], read: Callable[[Any], Any], path: str, value: Any
) -> None:
    validator(kind).validate(data)
    read(data)
    broken = changed(data, path, value)
    assert not validator(kind).is_valid(broken)
    with pytest.raises(FpsimError):
        read(broken)


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_prints_it(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", kind]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(json.dumps(KINDS[kind]()))
    assert found["title"].startswith("fpsim ")
