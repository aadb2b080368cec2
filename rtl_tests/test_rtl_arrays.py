# SPDX-License-Identifier: Apache-2.0
"""Arrays agree with tiles on every bit, their clocks with the formula; faults are found."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from faults.array_faults import ARRAY_FAULTS, MODULE
from faults.faults import Fault, inject
from rtl_support import runs_yosys
from rtl_units import aligned, block, chain, fixed, name, tree

from fpsim import get_unit, vectors
from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.hdl.bench.array_bench import ArrayReport, run_tiles
from fpsim.hdl.bench.build_dir import SimulationFailed
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.rtl.array import Dataflow, ProductShape, SystolicArray
from fpsim.hdl.rtl.array_text import array_name, array_parts, array_top
from fpsim.hdl.rtl.parameters import RtlTop
from fpsim.hdl.rtl.synthesis import synthesise
from fpsim.units.spec import MacSpec
from fpsim.vectors.plans.tiles import TileSize, random_tiles
from fpsim.vectors.sets.record import Record

OS, WS = Dataflow.OUTPUT_STATIONARY, Dataflow.WEIGHT_STATIONARY
MX4 = block(4, "e8m7", "e2m1", "e2m1")
#: Units of every kind with their elements per vector and per scale (None: what is natural).
UNITS: list[tuple[MacSpec, int | None, int | None]] = [
    (chain("e4m3"), None, None),
    (chain("e5m10", a="e5m2", b="e4m3fn"), 4, 2),
    (fixed(12, -2, overflow="saturate"), 3, None),
    (aligned(4, 5, "e8m7", "e2m1", "e4m3fn", width=9), None, None),
    (MX4, 8, 8),
    (block(2, "e8m13", "e3m2f", "e2m1", ("e5m2", "ue4m3fn"), "both"), None, None),
    (tree(3, "e5m10", "e5m2", "e4m3fn"), None, None),
]
#: Rows, columns, registers, then M, N, K: tiles smaller, larger and as large as the array, one row,
#: one column, one beat; sums that come back before the next strip and after.
TIMED = [
    (2, 3, 1, 2, 3, 8), (3, 2, 0, 7, 5, 9), (1, 1, 1, 1, 1, 1), (4, 1, 2, 1, 6, 4),
    (5, 4, 1, 3, 9, 2), (2, 4, 3, 9, 3, 13), (3, 3, 0, 1, 3, 12), (4, 4, 1, 20, 8, 4),
]  # fmt: skip


def label(value: object) -> str:
    if isinstance(value, MacSpec):
        return name(value)
    if isinstance(value, Fault):
        return f"{value.file}: {value.name}"
    return " ".join(value) if isinstance(value, list) else str(value)


def tiles_of(
    spec: MacSpec,
    directory: Path,
    size: tuple[int, int, int],
    k: int | None = None,
    group: int | None = None,
    count: int = 1,
) -> Path:
    plan = random_tiles(Record.of(spec, k, group), TileSize(*size), count, 3)
    return vectors.write(plan, directory / "tiles")


def array_of(
    spec: MacSpec, flow: Dataflow, group: int | None = None, **given: int
) -> SystolicArray:
    size = {"rows": 2, "columns": 3, "pipeline": 1} | given
    scaled = bool(group) and spec.block is None
    return SystolicArray(spec, dataflow=flow, scaled=scaled, **size)


def passes(report: ArrayReport) -> None:
    assert report.passed, str(report)


@pytest.mark.parametrize("flow", Dataflow)
def test_a_tile_comes_out_right(flow: Dataflow, icarus: Simulator, tmp_path: Path) -> None:
    tiles = tiles_of(MX4, tmp_path, (3, 4, 12), count=1 if flow is OS else 2)
    report = run_tiles(array_of(MX4, flow), tiles, icarus, tmp_path / "build", stall=0.2, hold=0.8)
    passes(report)
    assert report.run.results == report.run.wanted == {OS: 8, WS: 24}[flow]


@pytest.mark.sweep
@pytest.mark.parametrize("flow", Dataflow)
@pytest.mark.parametrize(("spec", "k", "group"), UNITS, ids=label)
def test_tiles_of_every_kind_of_unit_come_out_right(
    spec: MacSpec,
    k: int | None,
    group: int | None,
    flow: Dataflow,
    icarus: Simulator,
    tmp_path: Path,
) -> None:
    kind(spec, k, group, flow, icarus, tmp_path)


@pytest.mark.sweep
@pytest.mark.parametrize("flow", Dataflow)
@pytest.mark.parametrize(("spec", "k", "group"), [UNITS[1], UNITS[4]], ids=label)
def test_tiles_come_out_right_on_verilator(
    spec: MacSpec,
    k: int | None,
    group: int | None,
    flow: Dataflow,
    verilator: Simulator,
    tmp_path: Path,
) -> None:
    kind(spec, k, group, flow, verilator, tmp_path)


def kind(
    spec: MacSpec,
    k: int | None,
    group: int | None,
    flow: Dataflow,
    tool: Simulator,
    directory: Path,
) -> None:
    natural = Record.of(spec, k, group).k
    tiles = tiles_of(spec, directory, (5, 4, 3 * natural), k, group, 1 if flow is OS else 2)
    array = array_of(spec, flow, group)
    passes(run_tiles(array, tiles, tool, directory / "build", stall=0.25, hold=0.7))


@pytest.mark.sweep
@pytest.mark.parametrize("flow", Dataflow)
@pytest.mark.parametrize("timed", TIMED, ids=lambda t: "x".join(map(str, t)))
def test_clocks_are_those_of_the_simulation(
    timed: tuple[int, ...], flow: Dataflow, icarus: Simulator, tmp_path: Path
) -> None:
    rows, columns, pipeline, *size = timed
    spec = fixed(24, -2)
    array = array_of(spec, flow, rows=rows, columns=columns, pipeline=pipeline)
    tiles = tiles_of(spec, tmp_path, (size[0], size[1], size[2]), k=1)
    report = run_tiles(array, tiles, icarus, tmp_path / "build")
    passes(report)
    shape = ProductShape(*size)
    assert report.run.clocks == array.clocks(shape)
    used = shape.m * shape.n * shape.k
    assert array.utilization(shape) == used / (rows * columns * report.run.clocks)


@pytest.fixture(scope="module")
def model_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "set"
    command = ["vectors", "mxfp4-block32-e8m23", "--from-model", "smollm2-135m", "--out", str(out)]
    command += ["--layer", "*layers.3.self_attn.[qk]_proj", "--tile", "4x6", "--window", "16"]
    assert main(command) == 0
    return out


@pytest.mark.sweep
@pytest.mark.model
@pytest.mark.parametrize("flow", Dataflow)
def test_tiles_of_a_language_model_come_out_right(
    flow: Dataflow, model_tiles: Path, simulator: Simulator, tmp_path: Path
) -> None:
    command = ["verify", "mxfp4-block32-e8m23", "--array", "2x2", "--dataflow", flow]
    command += ["--vectors", str(model_tiles), "--simulator", simulator.name]
    assert main([*command, "--build", str(tmp_path / "build")]) == 0


def faulty_top(array: SystolicArray, fault: Fault, directory: Path) -> RtlTop:
    top = array_top(array, directory / "array")
    if fault.file == MODULE:
        fault = replace(fault, file=top.sources[-1].name)
    return replace(top, sources=inject(fault, top.sources, directory / "faulty"))


@pytest.mark.sweep
@pytest.mark.parametrize(("flow", "fault"), ARRAY_FAULTS, ids=label)
def test_a_fault_of_an_array_is_found(
    flow: Dataflow, fault: Fault, icarus: Simulator, tmp_path: Path
) -> None:
    array = array_of(block(2, "e8m7", "e4m3fn", "e4m3fn"), flow, rows=3, columns=3)
    top = faulty_top(array, fault, tmp_path)
    for k, stall, hold in ((2, 0.2, 0.85), (14, 0.3, 0.3), (14, 0.1, 0.85), (14, 0.0, 0.0)):
        tiles = tiles_of(array.spec, tmp_path / f"{k}-{stall}", (7, 8, k))
        try:
            report = run_tiles(
                array, tiles, icarus, tmp_path / "build", stall=stall, hold=hold, top=top
            )
        except SimulationFailed as failed:
            assert not str(failed).startswith("build"), str(failed)
            return
        if not report.passed or (not stall and report.run.clocks != array.clocks(report.shape)):
            return
    pytest.fail("no tile shows it")


@pytest.mark.parametrize(("flow", "fault"), ARRAY_FAULTS, ids=label)
def test_a_fault_of_an_array_fits_its_source(flow: Dataflow, fault: Fault, tmp_path: Path) -> None:
    faulty_top(array_of(MX4, flow), fault, tmp_path)


@pytest.mark.sweep
def test_a_design_that_no_longer_answers_is_told(icarus: Simulator, tmp_path: Path) -> None:
    (fault,) = (f for _, f in ARRAY_FAULTS if f.name == "the north's beat is never taken")
    tiles = tiles_of(MX4, tmp_path, (2, 3, 16))
    array = array_of(MX4, OS)
    top = faulty_top(array, fault, tmp_path)
    report = run_tiles(array, tiles, icarus, tmp_path / "build", top=top)
    assert not report.passed and "rows of results" in str(report)


LINTED = [(spec, group) for spec, _, group in UNITS]


@pytest.mark.sweep
@pytest.mark.parametrize("flow", Dataflow)
@pytest.mark.parametrize(("spec", "group"), LINTED, ids=label)
def test_no_tool_warns_of_an_array(
    spec: MacSpec,
    group: int | None,
    flow: Dataflow,
    verilator: Simulator,
    icarus: Simulator,
    tmp_path: Path,
) -> None:
    for size in ((2, 3), (1, 1)):
        top = array_top(array_of(spec, flow, group, rows=size[0], columns=size[1]), tmp_path)
        assert lint(["verilator", "--lint-only", "-Wall", "--top-module"], top, verilator) == ""
        command = ["iverilog", "-g2012", "-Wall", "-o", str(tmp_path / "out"), "-s"]
        assert lint(command, top, icarus) == ""


def lint(command: list[str], top: RtlTop, tool: Simulator) -> str:
    process = subprocess.run(
        [*command, top.name, *map(str, top.sources)], env=os.environ | dict(tool.environment),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    output = process.stdout + process.stderr
    assert process.returncode == 0, output
    return "\n".join(line for line in output.splitlines() if not line.startswith("- "))


@runs_yosys
@pytest.mark.parametrize("flow", Dataflow)
def test_an_array_maps_onto_gates(flow: Dataflow, tmp_path: Path) -> None:
    array = array_of(fixed(8, -2), flow, rows=2, columns=2)
    whole = synthesise(array_top(array, tmp_path), tmp_path / "work", array_parts(array))
    one = synthesise(array.mac, tmp_path / "one")
    assert whole.area > 4 * one.logic_area and whole.flipflops > 4 * one.flipflops
    assert whole.area < 10 * one.area


# -- without a simulator ---------------------------------------------------------------------------


def test_clocks_of_a_layer() -> None:
    """Counted by hand: the skew, the tile or the strip, the way through the MACs, the way out."""
    spec = chain("e5m10")
    array = array_of(spec, OS, rows=8, columns=8)
    # K beats; a register at the edge, 2 of the MAC, one beside it, 8 down, 7 of skew; 7 more rows.
    assert array.clocks(ProductShape(8, 8, 100)) == 100 + 1 + 2 + 1 + 8 + 7 + 7
    assert array.clocks(ProductShape(16, 8, 100)) - array.clocks(ProductShape(8, 8, 100)) == 100
    array = array_of(spec, WS, rows=8, columns=8, pipeline=0)
    # 8 rows of weights and a register, 20 rows of A, 8 MACs of a clock, 7 columns of skew.
    assert array.clocks(ProductShape(20, 8, 8)) == 8 + 1 + 20 + 8 + 7
    assert array.clocks(ProductShape(20, 24, 8)) == 8 + 1 + 60 + 8 + 7
    assert 0.99 < array.utilization(ProductShape(4096, 4096, 4096)) < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, r"array: 0 rows are not in 1\.\.256"),
        ({"columns": 257}, r"array: 257 columns are not in 1\.\.256"),
        ({"rows": 200, "columns": 200}, "array: 200x200 are 40000 MACs; at most 16384"),
        ({"pipeline": 65}, r"pipeline: 65 is not in 0\.\.64"),
    ],
)
def test_a_size_that_is_not_possible_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(FpsimError, match=message):
        array_of(chain("e5m10"), OS, **change)


def test_the_command_prints_the_module_and_its_speed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rtl", "e2m1-chain-e5m10", "--array", "4x2", "--shape", "128x576x1536"]) == 0
    text = capsys.readouterr().out
    spec = get_unit("e2m1-chain-e5m10").spec
    array = SystolicArray(spec, 4, 2, OS)
    clocks = array.clocks(ProductShape(128, 576, 1536))
    assert text.startswith(f"// 128x576x1536: {clocks} clocks, utilization 100.0 %\n")
    assert f"module {array_name(array)} (" in text and text.count("dot #(") == 1


def test_the_command_writes_an_array_with_its_sources(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["rtl", "mxfp4-block32-e8m23", "--array", "2x2", "--dataflow", "weight-stationary"]
    assert main([*command, "--out", str(tmp_path / "out"), "--shape", "4x4x64"]) == 0
    shown = capsys.readouterr()
    written = [Path(line) for line in shown.out.splitlines()]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in written}
    assert re.fullmatch(r"4x4x64: \d+ clocks, utilization [\d.]+ %\n", shown.err)
    modules = {path.stem for path in written}
    assert {"dot", "array_weight", "mxfp4_block32_e8m23_ws_2x2"} <= modules


BAD = [
    (["rtl", "e2m1-chain-e5m10", "--array", "8"], "array: '8' is not ROWSxCOLUMNS, such as 8x8"),
    (["rtl", "e2m1-chain-e5m10", "--array", "8x8", "--shape", "8x8"], "shape: '8x8' is not MxNxK"),
    (["rtl", "e2m1-chain-e5m10", "--array", "8x8", "--shape", "0x8x1"], "shape: M is 0, not in"),
    (["rtl", "e2m1-chain-e5m10", "--shape", "8x8x8"], "shape: only with --array"),
    (["rtl", "e2m1-chain-e5m10", "--array", "2x2", "--package"], "package: an array has no"),
    (["synth", "e2m1-chain-e5m10", "--dataflow", "weight-stationary"], "dataflow: only with"),
    (["rtl", "e2m1-chain-e5m10", "--out", "x"], "out: only with --array"),
    (["verify", "e2m1-chain-e5m10", "--array", "2x2"], "vectors: an array takes tiles; give"),
    (["verify", "e2m1-chain-e5m10", "--array", "2x2", "--dut", "x"], "dut: not for arrays"),
    (["verify", "e2m1-chain-e5m10", "--pipeline", "2"], "pipeline: only with --array"),
]


@pytest.mark.parametrize(("command", "message"), BAD, ids=label)
def test_a_wrong_command_is_told_in_a_sentence(
    command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"fpsim: {message}") and shown.err.count("\n") == 1
    assert shown.out == ""


def test_tiles_that_do_not_fit_are_refused(
    icarus: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(unit: str, tiles: Path, *options: str) -> str:
        command = ["verify", unit, "--array", "2x2", "--vectors", str(tiles), *options]
        assert main([*command, "--simulator", "icarus", "--build", str(tmp_path / "b")]) == 2
        return capsys.readouterr().err

    plain = get_unit("e2m1-chain-e5m10").spec
    tiles = tiles_of(plain, tmp_path / "1", (2, 2, 4), count=2)
    assert "c: tile-1 has addends, but sums of an output-st" in told(plain.name, tiles)
    assert "is of e2m1-chain-e5m10" in told("e2m1-fixed24q2", tiles)
    assert "has no scales, which" in told(plain.name, tiles, "--scaled")
    scaled = tiles_of(plain, tmp_path / "2", (2, 2, 4), k=4, group=2)
    assert "has scales, and MACs of this array take none; add --scaled" in told(plain.name, scaled)
    wide = tiles_of(get_unit("fp4-aligned32-f13").spec, tmp_path / "3", (2, 2, 16), k=16)
    assert "k: vectors of 16 elements are no whole beats of 32" in told("fp4-aligned32-f13", wide)
    no_tiles = vectors.write(vectors.plan(plain, count=4, strategy="random"), tmp_path / "4")
    assert "has no tiles; fpsim vectors e2m1-chain-e5m10 --tile" in told(plain.name, no_tiles)


def test_a_wrong_array_is_reported(
    icarus: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = array_of(MX4, OS)
    tiles = tiles_of(MX4, tmp_path, (2, 3, 8))
    (fault,) = (f for flow, f in ARRAY_FAULTS if flow is OS and f.name.startswith("rows are told"))
    top = faulty_top(array, fault, tmp_path)
    report = run_tiles(array, tiles, icarus, tmp_path / "build", top=top)
    assert not report.passed
    assert re.search(
        r"first: tile-0, row 0, columns from 0, column \d of it: expected 0x", str(report)
    )
    assert json.loads(json.dumps(report.to_dict()))["mismatches"] == 2
