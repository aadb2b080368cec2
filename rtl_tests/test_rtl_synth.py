# SPDX-License-Identifier: Apache-2.0
"""Every top maps onto gates without latches or warnings, and its cost is counted right."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from rtl_support import HERE, runs_yosys
from rtl_units import (
    aligned,
    block,
    blocks,
    chain,
    chunked,
    exact,
    fixed,
    golden,
    name,
    scaled,
    tree,
)

from fpsim import get_unit
from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.hdl.rtl import yosys
from fpsim.hdl.rtl.cell_library import CELLS, FLIPFLOPS, liberty
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top
from fpsim.hdl.rtl.synthesis import synthesise
from fpsim.units.spec import MacSpec

SMALL = [
    chain("e4m3"),
    fixed(12, -2, overflow="saturate"),
    aligned(2, 6, "e4m3", "e2m1", "e2m1", addend="late"),
    block(2, "e4m3", "e2m1", "e2m1", split="a"),
    tree(2, "e4m3", "e2m1", "e2m1"),
]
#: What stages are composed to, and flip-flops besides those of the result: of sums within a vector.
COMPOSED = [
    (exact("e4m3"), 16 + 9 + 1),  # carries, the products' range, and that one was not negative
    (chain("e4m3_flush", rounding="sr", random_bits=4), 0),
    (chunked(4, chain("e4m3"), "e5m3"), 8 + 2),
    (tree(3, "e4m3", "e2m1", "e2m1", radix=3, addend="fused"), 0),
    (tree(4, "e4m3", "e2m1", "e2m1", lanes=2, addend="leaf", product="rounded"), 0),
    (blocks(2, scaled(aligned(2, 5, "e4m3", "e2m1", "e2m1"), "ue3m1f", "ue3m1f")), 0),
    (fixed(8, -2, convert="e4m3"), 0),
]
#: Published units, AMXFP4 with blocks of 4: four sums of 32 products take Yosys over nine minutes.
PUBLISHED = [spec for spec in golden() if not (spec.splits("a") or spec.splits("b"))]
PUBLISHED.append(get_unit("e2m1.e5m2.split-block4-into-chain-e8m23").spec)
AREAS = Path("analysis/results/area.csv")


@runs_yosys
@pytest.mark.parametrize(
    ("spec", "stream"), [*((spec, True) for spec in SMALL), *((spec, False) for spec in SMALL[:2])]
)
def test_every_top_maps(spec: MacSpec, stream: bool, tmp_path: Path) -> None:
    top = rtl_top(spec, stream=stream, pipeline=0)
    cost = synthesise(top, tmp_path)
    valid = int("valid_o" in top.outputs)
    assert cost.flipflops == spec.result.bits + valid
    assert cost.register_area == 6.0 * cost.flipflops  # all have a reset
    assert cost.cells > cost.flipflops and cost.logic_area > cost.depth > 5


@runs_yosys
@pytest.mark.sweep
@pytest.mark.parametrize(("spec", "within"), COMPOSED)
def test_composed_stages_map(spec: MacSpec, within: int, tmp_path: Path) -> None:
    cost = synthesise(rtl_top(spec, stream=True, pipeline=0), tmp_path)
    assert cost.flipflops == spec.initial.bits + 1 + within
    assert cost.depth > 5


@runs_yosys
@pytest.mark.slow
@pytest.mark.parametrize("spec", PUBLISHED, ids=name)
def test_every_published_unit_maps(spec: MacSpec, tmp_path: Path) -> None:
    assert synthesise(rtl_top(spec, stream=True), tmp_path).flipflops > spec.result.bits


@runs_yosys
def test_area_is_the_sum_of_the_stated_cells(tmp_path: Path) -> None:
    cost = synthesise(rtl_top(fixed(8, -2)), tmp_path)
    netlist = json.loads((tmp_path / "netlist.json").read_text())["modules"]["mac_fixed"]
    areas = {cell.name: cell.area for cell in CELLS} | FLIPFLOPS
    assert cost.area == sum(areas[cell["type"]] for cell in netlist["cells"].values())
    assert all(f"cell({name}) {{ area: {area};" in liberty() for name, area in areas.items())


@runs_yosys
def test_depth_counts_cells_in_a_row(tmp_path: Path) -> None:
    source = tmp_path / "parity.sv"
    source.write_text("module parity(input a, b, c, d, output y); assign y = a^b^c^d; endmodule\n")
    cost = synthesise(RtlTop("parity", {}, (source,), {}), tmp_path / "work")
    assert (cost.cells, cost.area, cost.depth, cost.flipflops) == (3, 7.5, 2, 0)


@pytest.mark.sweep
@runs_yosys
def test_a_pipeline_adds_registers_and_shortens_paths(tmp_path: Path) -> None:
    spec = tree(4, "e4m3", "e2m1", "e2m1")
    flat, piped = (
        synthesise(rtl_top(spec, pipeline=depth), tmp_path / str(depth)) for depth in (0, 1)
    )
    assert piped.flipflops > flat.flipflops and piped.depth < flat.depth


@runs_yosys
def test_a_latch_is_refused(tmp_path: Path) -> None:
    top = RtlTop("latch", {}, (HERE / "designs" / "latch.sv",), {})
    with pytest.raises(FpsimError, match=r"^yosys: failed:\nERROR: .*D latches are not supported"):
        synthesise(top, tmp_path)


@runs_yosys
def test_a_design_that_does_not_parse_is_shown(tmp_path: Path) -> None:
    source = tmp_path / "broken.sv"
    source.write_text("module broken(input a, output y); assign y = ; endmodule\n")
    with pytest.raises(
        FpsimError, match=r"(?s)^yosys: failed:\n.*broken\.sv:1: ERROR: syntax error"
    ):
        synthesise(RtlTop("broken", {}, (source,), {}), tmp_path / "work")


def test_missing_yosys_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yosys, "available", lambda: False)
    with pytest.raises(yosys.YosysMissing, match=r"^yosys: not installed; pip install 'fpsim\[rtl"):
        synthesise(rtl_top(SMALL[0]), tmp_path)


@runs_yosys
def test_the_command_reports_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "e2m1-fixed8q2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["top"], found["flipflops"]) == ("mac_fixed", 8)
    assert found["area"] == found["register_area"] + found["logic_area"]


def test_the_published_areas_are_ratios_to_int4() -> None:
    rows = list(csv.DictReader(AREAS.open(encoding="utf-8")))
    first = rows[0]
    assert first["format"] == "int4"
    for row in rows:
        for part in ("adder", "multiplier", "mac"):
            ratio = float(row[f"{part}_nand2"]) / float(first[f"{part}_nand2"])
            assert row[f"{part}_to_int4"] == f"{ratio:.2f}"
        assert float(row["mac_nand2"]) > float(row["adder_nand2"]) + float(row["multiplier_nand2"])
