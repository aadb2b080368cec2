# SPDX-License-Identifier: Apache-2.0
"""The demonstration does what it can, says what it could not, and its status tells."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fpsim import vectors
from fpsim.base.errors import FpsimError, ModelUnavailable
from fpsim.cli import main
from fpsim.hdl.bench.simulator import Simulator
from fpsim.report import demo, rtl
from fpsim.report.page import RtlRow

ROW = RtlRow("e2m1-chain-e5m10", "verilator", "5.0", "mac_chain", 10, 10, 0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SAMPLES", 1 << 12)
    # Two of the units, and no synthesis: the page of a unit is tested elsewhere.
    chosen = ["e2m1-chain-e5m10", "e2m1-fixed24q2"]
    monkeypatch.setattr(demo, "unit_names", lambda: chosen)
    monkeypatch.setattr("fpsim.hdl.rtl.yosys.available", lambda: False)


def rtl_rows(monkeypatch: pytest.MonkeyPatch, *rows: RtlRow) -> None:
    """Have the replays of units, on one simulator, return these rows."""
    by_unit = {row.unit: row for row in rows}
    monkeypatch.setattr(demo, "unit_names", lambda: list(by_unit))
    monkeypatch.setattr(rtl, "available", lambda: [Simulator("verilator", "5.0")])
    monkeypatch.setattr(
        rtl,
        "run_points",
        lambda work, points, pool, report: [asdict(by_unit[one["unit"]]) for one in points],
    )


def test_without_model_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rtl_rows(monkeypatch, ROW, replace(ROW, unit="e2m1-fixed24q2"))
    assert main(["demo", "--out", str(tmp_path), "--no-model", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert measured["complete"] and measured["problems"] == ["The model was left out on request."]
    assert [unit["rtl"][0]["compared"] for unit in measured["units"]] == [10, 10]
    assert {row["format"] for row in measured["sqnr"]} >= {"e2m1"} and measured["seconds"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "left out on request" in page
    assert "golden vectors for" in page
    for unit in ("e2m1-chain-e5m10", "e2m1-fixed24q2"):
        assert unit in page
        assert vectors.check(tmp_path / "vectors" / unit).count > 10_000


def test_model_that_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, everything else done, a status that says incomplete."""

    def refuse(*_: object) -> None:
        raise ModelUnavailable("model: smollm2-135m cannot be fetched (no network)")

    rtl_rows(monkeypatch, ROW)
    monkeypatch.setattr(demo, "_with_vectors", lambda facts, unit, out: facts)
    monkeypatch.setattr("fpsim.bridge.measure.models.load", refuse)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    lines = [x for x in capsys.readouterr().err.splitlines() if "cannot be fetched" in x]
    assert len(lines) == 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "cannot be fetched (no network)" in page
    assert "all match" in page


@pytest.mark.sweep
def test_rtl_mismatch_makes_it_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_with_vectors", lambda facts, unit, out: facts)
    rtl_rows(monkeypatch, replace(ROW, mismatches=3))
    assert not demo.run(tmp_path, with_model=False).complete
    assert "3 mismatches" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_no_simulator_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_with_vectors", lambda facts, unit, out: facts)
    monkeypatch.setattr(rtl, "available", list)
    assert not demo.run(tmp_path, with_model=False).complete
    assert "no simulator is installed" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_unwritable_output_fails_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(demo, "unit_names", lambda: pytest.fail("work was begun"))
    with pytest.raises(FpsimError, match="out: .* cannot be written"):
        demo.run(tmp_path / "file" / "out")
