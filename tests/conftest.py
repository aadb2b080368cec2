# SPDX-License-Identifier: Apache-2.0
"""Shared settings and fixtures of the test suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numba
import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings
from support.one_in import mark_sweeps

from fpsim.compute import dot
from fpsim.kernels.codec import encode

# Side by side, workers that each start a thread per core only get into each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
    numba.set_num_threads(1)
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)

# Reproducible by default; FPSIM_HYPOTHESIS=explore looks further with fresh random examples.
# There is no deadline because the first example of a kernel variant compiles it.
_COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("reproducible", derandomize=True, max_examples=100, **_COMMON)
settings.register_profile("explore", max_examples=2000, **_COMMON)
settings.load_profile(os.environ.get("FPSIM_HYPOTHESIS", "reproducible"))


@pytest.hookimpl(tryfirst=True)  # before markers select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave some cases of tests that are ``one_in(n)`` to the sweep."""
    mark_sweeps(items, Path(__file__).parent)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Save what a worker measured: xdist kills a worker ten seconds after its last test."""
    measured = Coverage.current()
    if measured is not None and hasattr(session.config, "workerinput"):
        measured.stop()
        measured.save()


@pytest.fixture(scope="module")
def dots_in_lanes() -> Iterator[None]:
    """Let `dot` run in lanes, however few products there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dot, "PRODUCTS_MINIMUM", 1)
        patch.setattr(dot, "ROWS_MINIMUM", 1)
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Run kernels on one thread: for many tiny calls, waiting for a second one is all they do."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.fixture
def narrow_vectors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Encode in 32-byte registers, as on a processor without AVX-512."""
    encode.encoder.cache_clear()
    monkeypatch.setattr(encode, "lanes_of", lambda wide: 32 // (8 if wide else 4))
    yield
    encode.encoder.cache_clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a pip that sees only the wheels in tmp_path/index."""
    monkeypatch.setenv("FPSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "cache"
