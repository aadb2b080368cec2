# SPDX-License-Identifier: Apache-2.0
"""A latency that is tried: the least with which results are right, or one sentence that none is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.replay import SimulationFailed
from fpsim.hdl.dut.adapter import beat_writer
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.verify import find_latency
from fpsim.hdl.verify.find_latency import MOST_LATENCY, VECTORS, found_latency
from fpsim.hdl.verify.vector_source import made_for

MAC = """top = "mac"
sources = ["mac.sv"]
[clock]
port = "clk"
[[input.beats]]
elements = 1
a = "a"
b = "b"
c = "c"
[output]
acc = "y"
latency = "find"
"""
#: Wrong results of 100, or an error; -1: nothing was compared.
Outcome = Callable[[int], int | Exception]


def found(
    outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[int], Any]:
    """Return the latency that is found, those that were tried, and the vectors that tried them."""
    tried: list[int] = []
    sources: list[Any] = []

    def run_source(simulation: Any, source: Any, writer: Any) -> Any:
        latency = simulation.dut.output.latency
        tried.append(latency)
        sources.append(source)
        made = outcome(latency)
        if isinstance(made, Exception):
            raise made
        return SimpleNamespace(mismatch_count=max(made, 0), compared=100 if made >= 0 else 0)

    monkeypatch.setattr(find_latency, "run_source", run_source)
    (tmp_path / "mac.sv").write_text("")
    (tmp_path / "dut.toml").write_text(MAC)
    dut = read_dut(tmp_path / "dut.toml")
    source = made_for(dut, fpsim.get_unit("e2m1-fixed24q2").spec, count=400)
    simulation: Any = SimpleNamespace(dut=dut)
    latency = found_latency(simulation, source, beat_writer(dut, source))
    return latency, tried, sources[0]


def test_the_first_with_which_all_is_right_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latency, tried, source = found(lambda n: 0 if n >= 3 else 40, tmp_path, monkeypatch)
    assert (latency, tried) == (3, [0, 1, 2, 3])
    blocks = [columns for _, columns in source.blocks()]
    sums = np.concatenate([columns["acc"] for columns in blocks])
    assert source.count == sums.size == VECTORS
    assert [(s.start, s.count) for s in source.sections] == [(0, VECTORS)]
    assert np.unique(sums).size > VECTORS / 8  # a wrong latency would show


def test_a_design_with_a_mistake_has_the_latency_that_is_mostly_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latency, tried, _ = found(lambda n: {5: 10, 6: 40}.get(n, 95), tmp_path, monkeypatch)
    assert latency == 5
    assert tried == list(range(MOST_LATENCY + 1))


def test_a_latency_with_which_a_simulation_fails_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(n: int) -> int | Exception:
        return SimulationFailed("run: no result came") if n < 4 else 0

    assert found(outcome, tmp_path, monkeypatch)[:2] == (4, [0, 1, 2, 3, 4])


def test_a_latency_with_which_nothing_is_compared_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(lambda n: -1 if n < 2 else 0, tmp_path, monkeypatch)[:2] == (2, [0, 1, 2])


def test_a_design_that_does_not_build_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def outcome(n: int) -> Exception:
        tried.append(n)
        return SimulationFailed("build: syntax error")

    with pytest.raises(SimulationFailed, match="syntax error"):
        found(outcome, tmp_path, monkeypatch)
    assert tried == [0]


@pytest.mark.parametrize(
    ("outcome", "best"),
    [(lambda n: 51 if n == 7 else 99, "best 7, 49%"), (lambda n: SimulationFailed("run"), "best 0, 0%")],
)  # fmt: skip
def test_no_latency_is_better_than_a_guess(
    outcome: Outcome, best: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = rf"output.latency: none of 0..64 gives results that are mostly right \({best}\); say"
    with pytest.raises(FpsimError, match=words):
        found(outcome, tmp_path, monkeypatch)
