# SPDX-License-Identifier: Apache-2.0
"""The sources compile without a single complaint, in both tools, for parameters at their limits."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rtl_units import TYPICAL, chain, fixed, golden, name

from fpsim.hdl.parameters import RtlTop, rtl_top
from fpsim.hdl.simulator import Simulator
from fpsim.resources import rtl_dir
from fpsim.spec import MacSpec

EXTREMES = [
    chain("e1m2"),
    chain("e8m0f", a="e1m0", b="e1m0", rounding="rto"),
    chain("e8m23b300", a="e5m10b-900f", b="e5m10b900f"),
    fixed(4, -512),
    fixed(64, 512, overflow="saturate"),
]


def compile_only(command: list[str], simulator: Simulator) -> str:
    """Return what the tool says besides its statistics; it must end well."""
    environment = os.environ | dict(simulator.environment)
    process = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    output = process.stdout + process.stderr
    assert process.returncode == 0, output
    return "\n".join(line for line in output.splitlines() if not line.startswith("- "))


def verilator_command(top: RtlTop, *options: str) -> list[str]:
    parameters = [f"-G{key}={value}" for key, value in top.parameters.items()]
    sources = [str(path) for path in top.sources]
    return [
        "verilator",
        "--lint-only",
        "-Wall",
        "--top-module",
        top.name,
        *options,
        *parameters,
        *sources,
    ]


@pytest.mark.parametrize("spec", [*golden(), *TYPICAL, *EXTREMES], ids=name)
def test_verilator_warns_of_nothing(spec: MacSpec, verilator: Simulator) -> None:
    top = rtl_top(spec)
    assert compile_only(verilator_command(top), verilator) == ""
    # As the bench compiles it, where signals cannot be split.
    public = verilator_command(top, "--vpi", "--public-flat-rw", "--timing")
    assert compile_only(public, verilator) == ""


@pytest.mark.parametrize("spec", [*golden(), *EXTREMES], ids=name)
def test_icarus_warns_of_nothing(spec: MacSpec, icarus: Simulator, tmp_path: Path) -> None:
    top = rtl_top(spec)
    parameters = [f"-P{top.name}.{key}={value}" for key, value in top.parameters.items()]
    command = ["iverilog", "-g2012", "-Wall", "-o", str(tmp_path / "out"), "-s", top.name]
    assert compile_only([*command, *parameters, *map(str, top.sources)], icarus) == ""


@pytest.mark.parametrize("spec", golden(), ids=name)
def test_no_warning_without_the_exponent_input(spec: MacSpec, verilator: Simulator) -> None:
    top = rtl_top(spec)
    top = replace(top, parameters=top.parameters | {"SCALE_W": 0})
    assert compile_only(verilator_command(top), verilator) == ""


def test_every_source_says_its_licence_and_is_used() -> None:
    sources = {path.name for path in rtl_dir().glob("*.sv")}
    used = {path.name for spec in (chain("e5m10"), fixed(24, -2)) for path in rtl_top(spec).sources}
    assert sources == used
    for path in rtl_dir().glob("*.sv"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first == "// SPDX-License-Identifier: Apache-2.0"
