# SPDX-License-Identifier: Apache-2.0
"""`fpsim rtl`, `synth` and `verify` of systolic arrays: text, files, speed, reports and refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import fpsim
from fpsim.cli import main
from fpsim.hdl.bench.array_bench import ArrayReport
from fpsim.hdl.bench.stream_bench import StreamRun
from fpsim.hdl.rtl.array import Dataflow, ProductShape, SystolicArray
from fpsim.hdl.rtl.array_text import array_parts, array_text
from fpsim.hdl.rtl.synthesis import Cost

Capture = pytest.CaptureFixture[str]
UNIT = "e2m1-chain-e5m10"
ARRAY = [UNIT, "--array", "2x2"]
#: 4 beats, the pipeline's register, 2 rows twice, 2 columns, and the result: 12 clocks, in which
#: 4 MACs could multiply 48 pairs and multiply 16.
SHAPE = ["--shape", "2x2x4"]
SPEED = "2x2x4: 12 clocks, utilization 33.3 %"


def array(dataflow: Dataflow = Dataflow.OUTPUT_STATIONARY) -> SystolicArray:
    return SystolicArray(fpsim.get_unit(UNIT).spec, 2, 2, dataflow)


def text_of(dataflow: Dataflow) -> str:
    return array_text(array(dataflow))


def test_the_module_is_printed_below_its_speed(capsys: Capture) -> None:
    assert main(["rtl", *ARRAY]) == 0
    assert capsys.readouterr().out == text_of(Dataflow.OUTPUT_STATIONARY)
    assert main(["rtl", *ARRAY, "--dataflow", "weight-stationary"]) == 0
    assert capsys.readouterr().out == text_of(Dataflow.WEIGHT_STATIONARY)
    assert main(["rtl", *ARRAY, *SHAPE]) == 0
    assert capsys.readouterr().out == f"// {SPEED}\n{text_of(Dataflow.OUTPUT_STATIONARY)}"
    assert main(["rtl", *ARRAY, *SHAPE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "unit": UNIT, "array": "2x2", "dataflow": "output-stationary", "shape": "2x2x4",
        "clocks": 12, "utilization": 16 / 48, "text": text_of(Dataflow.OUTPUT_STATIONARY),
    }  # fmt: skip


def test_an_array_is_written_with_every_source(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "rtl"
    assert main(["rtl", *ARRAY, *SHAPE, "--out", str(out)]) == 0
    printed, said = capsys.readouterr()
    files = printed.splitlines()
    assert sorted(files) == sorted(str(path) for path in out.iterdir())
    assert Path(files[-1]).read_text() == text_of(Dataflow.OUTPUT_STATIONARY)
    sources = "\n".join(path.read_text() for path in out.iterdir())
    for module in array_parts(array()):
        assert re.search(rf"^module {module}\b", sources, re.MULTILINE), module
    assert SPEED in said
    assert main(["rtl", *ARRAY, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "unit": UNIT, "array": "2x2", "dataflow": "output-stationary", "files": files,
    }  # fmt: skip


def test_the_cost_of_an_array(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A synthesis that is made up says that cells were mapped apart, as they must be."""
    asked: list[Any] = []

    def made_up(top: Any, apart: Any = ()) -> Cost:
        asked.extend([top.name, apart[0], all(path.is_file() for path in top.sources)])
        return Cost("top", 400, 1234.25, 400.0, 37, 68)

    monkeypatch.setattr("fpsim.hdl.rtl.synthesis.synthesise", made_up)
    assert main(["synth", *ARRAY, *SHAPE]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{UNIT}, 2x2 output-stationary: 400 cells, 1234 NAND2 equivalents (400 in 68 flip-flops), "
        "37 cells deep",
        f"  {SPEED}",
    ]
    assert asked[1:] == [array_parts(array())[0], True]
    assert main(["synth", *ARRAY, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["area"], data["logic_area"], data["array"]) == (1234.25, 834.25, "2x2")
    assert "clocks" not in data


def report(mismatches: int) -> ArrayReport:
    run = StreamRun(6, 6, 0, mismatches, (3, 1, "2") if mismatches else None, 99)
    words = "tile 1, row 1: expects 1, sees 2" if mismatches else ""
    return ArrayReport(
        UNIT, "2x2", Dataflow.OUTPUT_STATIONARY, "icarus", 3, ProductShape(2, 2, 4), run, words
    )


@pytest.mark.parametrize("mismatches", [0, 2])
def test_a_report_of_tiles_decides_the_exit_status(
    mismatches: int, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def made_up(array: Any, vectors: Path, tool: Any, build: Path, **options: Any) -> ArrayReport:
        asked.update(options, size=array.size, vectors=vectors, tool=tool.name)
        return report(mismatches)

    monkeypatch.setattr("fpsim.hdl.bench.array_bench.run_tiles", made_up)
    monkeypatch.setattr(
        "fpsim.hdl.bench.simulator.find", lambda name: type("Tool", (), {"name": name})()
    )
    command = ["verify", *ARRAY, "--vectors", str(tmp_path), "--stall", "0.5", "--stall-seed", "7"]
    assert main([*command, "--simulator", "icarus"]) == (1 if mismatches else 0)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{UNIT}, 2x2 output-stationary, icarus: 3 tiles of 2x2x4, 6 of 6")
    assert ("all match" in printed) == (not mismatches)
    assert ("2 rows differ\n  first: tile 1, row 1: expects 1, sees 2" in printed) == bool(
        mismatches
    )
    assert asked == {"stall": 0.5, "seed": 7, "size": "2x2", "vectors": tmp_path, "tool": "icarus"}
    assert main([*command, "--json"]) == (1 if mismatches else 0)
    data = json.loads(capsys.readouterr().out)
    assert (data["passed"], data["mismatches"], data["rows"]) == (not mismatches, mismatches, 6)
    assert asked["tool"] == "verilator"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["rtl", *ARRAY, "--package"], "package: an array has no parameters; leave --package out"),
        (["rtl", *ARRAY, "--shape", "2x2"], "shape: '2x2' is not MxNxK, such as 128x576x1536"),
        (["rtl", *ARRAY, "--shape", "2x0x2"], "shape: N is 0, not in 1..16777216"),
        (["rtl", UNIT, "--array", "2by2"], "array: '2by2' is not ROWSxCOLUMNS, such as 8x8"),
        (["synth", UNIT, "--array", "0x2"], "array: 0 rows are not in 1..256"),
        (["rtl", UNIT, "--shape", "2x2x2"], "shape: only with --array ROWSxCOLUMNS"),
        (["verify", *ARRAY, "--waves"], "waves: not for arrays, which are fpsim's own"),
        (["verify", *ARRAY], f"give --vectors DIR, as fpsim vectors {UNIT} --tile 2x2 --out DIR"),
        (["verify", UNIT, "--pipeline", "2"], "pipeline: only with --array ROWSxCOLUMNS"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(argv: list[str], said: str, capsys: Capture) -> None:
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
