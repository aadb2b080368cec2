# SPDX-License-Identifier: Apache-2.0
"""The RTL agrees with the model on every bit: golden vectors through real simulators."""

from __future__ import annotations

from pathlib import Path

import pytest
from rtl_support import WriteVectors, installed, sample
from rtl_units import TYPICAL, chain, macs, name, wide
from support.helpers import by_default

from fpsim import vectors
from fpsim.hdl.bench.replay import replay
from fpsim.hdl.bench.simulator import SIMULATORS, Simulator
from fpsim.units.spec import MacSpec

SAMPLE = 1500


def run(spec: MacSpec, directory: Path, simulator: Simulator, build_dir: Path) -> None:
    result = replay(spec, directory, simulator.name, build_dir=build_dir)
    assert result.passed, "\n".join([str(result), *map(str, result.mismatches)])


#: Units of `TYPICAL` that run by default: one per module and kind of rounding.
QUICK = TYPICAL[::3]


@pytest.mark.one_in(9)
@pytest.mark.parametrize("tool", by_default(SIMULATORS, ["icarus"], "sweep"))
@pytest.mark.parametrize("spec", macs(), ids=name)
def test_golden_unit_matches_on_all_vectors(
    spec: MacSpec, tool: str, builds: Path, write_vectors: WriteVectors
) -> None:
    directory = write_vectors(vectors.plan(spec, start="load"))
    run(spec, directory, installed(tool), builds / f"{tool}-{spec.name}")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("spec", by_default(TYPICAL, QUICK, "sweep"), ids=name)
def test_typical_unit_matches(
    spec: MacSpec, icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    directory = write_vectors(sample(spec, SAMPLE, exponents=True))
    run(spec, directory, icarus, tmp_path / "build")


@pytest.mark.sweep
def test_run_time_exponents_match_on_verilator(
    verilator: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    spec = chain("e8m23", a="e3m0b5", b="e1m2b-2", rounding="rdn")
    directory = write_vectors(sample(spec, 10 * SAMPLE, exponents=True))
    run(spec, directory, verilator, tmp_path / "build")


@pytest.mark.slow
@pytest.mark.parametrize("spec", wide(), ids=name)
def test_every_format_rounding_and_overflow_matches(
    spec: MacSpec, icarus: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    directory = write_vectors(sample(spec, 4 * SAMPLE, exponents=True))
    run(spec, directory, icarus, tmp_path / "build")


@pytest.mark.slow
@pytest.mark.parametrize("spec", TYPICAL, ids=name)
def test_typical_unit_matches_on_verilator(
    spec: MacSpec, verilator: Simulator, tmp_path: Path, write_vectors: WriteVectors
) -> None:
    directory = write_vectors(sample(spec, 20 * SAMPLE, exponents=True))
    run(spec, directory, verilator, tmp_path / "build")
