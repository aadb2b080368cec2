# SPDX-License-Identifier: Apache-2.0
"""The cocotb library in a bench of one's own (designs/user_bench.py)."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rtl_support import HERE

from fpsim.hdl import Mismatch, Scoreboard, unknown_bits
from fpsim.hdl.bench.simulator import Simulator

TESTS = 6
SCRIPT = """
import sys
from cocotb_tools.runner import get_runner
simulator, build, source = sys.argv[1:]
runner = get_runner(simulator)
runner.build(sources=[source], hdl_toplevel="serial_mx", build_dir=build, always=True,
             timescale=("1ns", "1ps"),
             build_args=["-Wno-fatal"] if simulator == "verilator" else [])
runner.test(test_module="user_bench", hdl_toplevel="serial_mx", build_dir=build, test_dir=build,
            results_xml=build + "/results.xml")
"""


@pytest.mark.parametrize(
    "stall",
    [pytest.param(0.0, marks=pytest.mark.slow), pytest.param(0.4, marks=pytest.mark.sweep)],
)
def test_a_bench_of_ones_own(stall: float, icarus: Simulator, tmp_path: Path) -> None:
    run_bench(stall, icarus, tmp_path)


@pytest.mark.sweep
def test_a_bench_of_ones_own_on_verilator(verilator: Simulator, tmp_path: Path) -> None:
    run_bench(0.4, verilator, tmp_path)


def run_bench(stall: float, simulator: Simulator, directory: Path) -> None:
    """Run user_bench.py in a process of its own; all of its tests must end as they should."""
    path = os.pathsep.join([str(HERE / "designs"), str(HERE.parent), *sys.path])
    environment = os.environ | dict(simulator.environment)
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, simulator.name, str(directory),
         str(HERE / "designs" / "serial_mx.sv")],
        env=environment | {"PYTHONPATH": path, "STALL": str(stall)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-2000:]
    cases = ET.parse(directory / "results.xml").getroot().findall(".//testcase")
    assert len(cases) == TESTS
    assert not [c.get("name") for c in cases if c.find("failure") is not None]


def test_unknown_bits_are_named() -> None:
    assert unknown_bits("1X0z") == ["bit 2 is x", "bit 0 is z"]
    shown = str(Mismatch("vector 3", {"y": 5}, {"y": "01X1"}))
    assert shown == "vector 3: y is 01X1 (unknown: bit 1 is x), expected 0101"


def test_only_masked_bits_count() -> None:
    board = Scoreboard(["y"], {"y": 0b0110})
    for i, bits in enumerate(("0010", "101x", "x01X", "0000", "0x10")):
        board.expect([0b0010], i)
        board.check([bits])
    assert (board.compared, [m.tag for m in board.mismatches]) == (5, [3, 4])


def test_a_result_nobody_expected_is_kept() -> None:
    board = Scoreboard(["y"])
    board.check(["1"])
    with pytest.raises(AssertionError, match="nobody expected"):
        board.verdict()
