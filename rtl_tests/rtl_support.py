# SPDX-License-Identifier: Apache-2.0
"""What the RTL tests share: the simulators of this machine, and vectors cut to a test's size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fpsim import vectors
from fpsim.base.errors import SimulatorMissing
from fpsim.hdl.bench.simulator import Simulator, find
from fpsim.units.spec import MacSpec
from fpsim.vectors import Op, Section, VectorSet

HERE = Path(__file__).parent

WriteVectors = Callable[[VectorSet], Path]


def installed(name: str) -> Simulator:
    """Return the simulator, or skip the test with the reason why it is not there."""
    try:
        return find(name)
    except SimulatorMissing as missing:
        pytest.skip(str(missing))


def sample(spec: MacSpec, limit: int, *, exponents: bool) -> VectorSet:
    """Return about ``limit`` vectors of a unit: whole sequences, drawn from all classes."""
    small = spec.a.bits + spec.b.bits <= 8
    stream = vectors.generate(
        spec, strategy="mixed" if small else "random", count=limit // 2, exponents=exponents
    )
    op = stream.columns["op"]
    starts = np.flatnonzero((op == Op.CLEAR) | (op == Op.LOAD))
    lengths = np.diff(np.append(starts, stream.count))
    order = np.random.default_rng(1).permutation(starts.size)
    chosen = np.sort(order[: 1 + np.searchsorted(np.cumsum(lengths[order]), limit)])
    rows = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in chosen])
    columns = {name: values[rows] for name, values in stream.columns.items()}
    sections = (Section("sample", 0, rows.size),)
    return VectorSet(spec, stream.seed, "random", columns, sections)
