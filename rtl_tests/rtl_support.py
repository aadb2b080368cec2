# SPDX-License-Identifier: Apache-2.0
"""What the RTL tests share: the tools of this machine, and vectors cut to a test's size."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpsim.base.errors import SimulatorMissing
from fpsim.hdl.bench.simulator import Simulator, find
from fpsim.hdl.rtl import yosys
from fpsim.hdl.rtl.parameters import RtlTop
from fpsim.hdl.rtl.rtl_codes import is_table, parameter_text
from fpsim.units.spec import MacSpec
from fpsim.vectors import VectorPlan, plan
from fpsim.vectors.sets.record import Op
from fpsim.vectors.sets.vector_set import Section, VectorSet

HERE = Path(__file__).parent

WriteVectors = Callable[[VectorSet | VectorPlan], Path]


HAS_YOSYS = pytest.mark.skipif(
    not yosys.available(), reason="yosys is not installed; pip install 'fpsim[rtl]'"
)


def runs_yosys(test: Any) -> Any:
    """Leave a test to the sweep: Yosys compiles itself for a minute when it first runs."""
    return pytest.mark.sweep(HAS_YOSYS(test))


def installed(name: str) -> Simulator:
    """Return the simulator, or skip the test with the reason why it is not there."""
    try:
        return find(name)
    except SimulatorMissing as missing:
        pytest.skip(str(missing))


def sample(spec: MacSpec, limit: int, *, exponents: bool) -> VectorSet:
    """Return about ``limit`` vectors of a unit: whole sums, drawn from all classes.

    With ``exponents`` every product has two scales, whose sum a design is told.
    """
    small = spec.a.bits + spec.b.bits <= 8
    made = plan(
        spec, strategy="mixed" if small else "random", count=limit // 2, k=1,
        group=int(exponents), start="load",
    ).made()  # fmt: skip
    op = made.columns["op"]
    starts = np.flatnonzero((op == Op.CLEAR) | (op == Op.LOAD))
    lengths = np.diff(np.append(starts, made.count))
    order = np.random.default_rng(1).permutation(starts.size)
    chosen = np.sort(order[: 1 + np.searchsorted(np.cumsum(lengths[order]), limit)])
    rows = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in chosen])
    columns = {name: values[rows] for name, values in made.columns.items()}
    sections = (Section("sample", 0, rows.size),)
    return VectorSet(made.record, columns, sections, "random", made.seed, made.start)


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
    values = {k: parameter_text(k, v) if is_table(k) else v for k, v in top.parameters.items()}
    parameters = [f"-G{key}={value}" for key, value in values.items()]
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
