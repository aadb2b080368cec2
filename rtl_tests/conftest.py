# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the RTL tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from rtl_support import HERE, WriteVectors, installed
from support.one_in import mark_sweeps

from fpsim import vectors
from fpsim.hdl.bench.simulator import SIMULATORS, Simulator
from fpsim.vectors.sets.vector_set import VectorPlan, VectorSet

NEEDS = {"simulator", "icarus", "verilator"}


@pytest.hookimpl(tryfirst=True)  # before markers select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a simulator; without one, such a test skips with the reason.

    Some cases of tests that are ``one_in(n)`` are left to the sweep.
    """
    mark_sweeps(items, HERE)
    for item in items:
        if HERE in item.path.parents and NEEDS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.rtl)


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.sweep] * (name != "icarus")) for name in SIMULATORS
    ]
)
def simulator(request: pytest.FixtureRequest) -> Simulator:
    """Every simulator in turn; those that take long to compile in the sweep."""
    return installed(request.param)


@pytest.fixture
def icarus() -> Simulator:
    """The simulator that compiles in no time, for tests that any one would do for."""
    return installed("icarus")


@pytest.fixture
def verilator() -> Simulator:
    return installed("verilator")


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for builds that tests share."""
    return tmp_path_factory.mktemp("builds")


@pytest.fixture
def write_vectors(tmp_path: Path) -> WriteVectors:
    """Writes a set of vectors and returns its directory."""

    def write(made: VectorSet | VectorPlan) -> Path:
        return vectors.write(made, tmp_path / "vectors")

    return write
