# SPDX-License-Identifier: Apache-2.0
"""Areas and replays of several units: what was measured, what could not be, and whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="jinja2 is not installed")

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.rtl.synthesis import Cost
from fpsim.report import rtl
from fpsim.report.page import RtlRow, UnitFacts
from fpsim.unit import get_unit

NAMES = ["e2m1-chain-e5m10", "e2m1-fixed24q2"]
UNITS = [get_unit(name) for name in NAMES]
WITHOUT_RTL = get_unit("e2m1-split4-of-chain-e5m10-into-chain-e8m23")


def facts(name: str) -> UnitFacts:
    return UnitFacts(name, "", "", "")


def replayed(mismatches: int = 0) -> Any:
    return SimpleNamespace(
        simulator="icarus 12.0 (stable)", due=9, compared=9, mismatch_count=mismatches,
        build_seconds=0.25, run_seconds=0.5,
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of Yosys and simulators that are made up: a unit in 2 is wrong, one fails."""
    found: list[Any] = []

    def synthesise(top: Any) -> Cost:
        found.append(top.name)
        if top.name == "mac_fixed":
            raise FpsimError("synthesis: a latch\nand more lines")
        return Cost(top.name, 10, 50.5, 20.0, 7, 3)

    def verify(unit: Any, tool: str, build: Path, vectors: Path, bench: str) -> Any:
        found.append((unit.name, tool, build, vectors, bench))
        if tool == "verilator":
            raise FpsimError(f"build: {unit.name} does not compile")
        return replayed(3 if unit.name == NAMES[1] else 0)

    @contextmanager
    def here(workers: int) -> Iterator[Any]:
        yield SimpleNamespace(run=lambda work, points: ((i, work(p)) for i, p in enumerate(points)))

    monkeypatch.setattr(rtl, "synthesise", synthesise)
    monkeypatch.setattr(rtl, "verify", verify)
    monkeypatch.setattr(rtl, "executor", here)
    monkeypatch.setattr(rtl.yosys, "available", lambda: True)
    monkeypatch.setattr(rtl, "available", lambda: [Simulator("icarus", "12"), Simulator("verilator", "5")])  # fmt: skip
    return found


def test_each_unit_has_its_own_area_and_replays(asked: list[Any], tmp_path: Path) -> None:
    problems: list[str] = []
    folders = {name: tmp_path / name for name in NAMES}
    made = rtl.with_rtl({n: facts(n) for n in NAMES}, UNITS, folders, tmp_path / "build", problems)
    assert list(made) == NAMES
    chain, fixed = made.values()
    assert chain.cost == Cost("mac_chain", 10, 50.5, 20.0, 7, 3) and not chain.rtl_note
    assert fixed.cost is None
    assert fixed.rtl_note == "The RTL was not synthesised: synthesis: a latch"
    row = RtlRow(NAMES[0], "icarus", "12.0 (stable)", "mac_chain", 9, 9, 0, 0.25, 0.5)
    assert chain.rtl == (row,)
    assert [(r.unit, r.top, r.mismatches) for r in fixed.rtl] == [(NAMES[1], "mac_fixed", 3)]
    assert problems == [
        f"build: {NAMES[0]} does not compile",
        f"RTL of {NAMES[1]} on icarus: 3 mismatches",
        f"build: {NAMES[1]} does not compile",
    ]
    assert (NAMES[1], "icarus", tmp_path / "build", folders[NAMES[1]], "native") in asked


def test_without_tools_the_page_says_so(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtl.yosys, "available", lambda: False)
    monkeypatch.setattr(rtl, "available", list)
    problems: list[str] = []
    made = rtl.with_rtl({n: facts(n) for n in NAMES}, UNITS, {}, tmp_path, problems)
    assert {unit.rtl_note for unit in made.values()} == {
        "Yosys is not installed, so nothing is said of area."
    }
    assert problems == ["RTL: no simulator is installed; verilator comes with the extra 'rtl'"]
    assert asked == []


def test_a_unit_alone_has_its_area_or_why_there_is_none(asked: list[Any]) -> None:
    one = rtl.with_cost(facts(NAMES[0]), UNITS[0])
    assert one.cost is not None and one.cost.area == 50.5
    none = rtl.with_cost(facts(WITHOUT_RTL.name), WITHOUT_RTL)
    assert none.cost is None
    assert none.rtl_note.startswith("The reference RTL has no such unit: ")
    assert "parts: 4 has no reference RTL" in none.rtl_note
    assert asked == ["mac_chain"]


def test_a_row_is_data_that_a_process_can_send() -> None:
    row = rtl.replay_row(NAMES[0], "mac_chain", replayed(2))
    assert RtlRow(**asdict(row)) == row
    assert (row.simulator, row.version, row.mismatches, row.passed) == ("icarus", "12.0 (stable)", 2, False)  # fmt: skip
