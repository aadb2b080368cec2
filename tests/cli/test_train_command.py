# SPDX-License-Identifier: Apache-2.0
"""`fpsim train`: what it prints and draws, how it is interrupted, its table on a terminal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

import rich.console

from fpsim.bridge.training.run import StepRow, TrainingSettings
from fpsim.cli import main, train

Capture = pytest.CaptureFixture[str]
ROWS = [StepRow(i, 5.5 - i / 4, 1e-3, 0.25 * i, 2.0 + i, i == 3) for i in range(16)]
SUMMARY = {
    "parameters": 1234, "steps": 16, "final_loss": 1.75, "validation_loss": 2.125,
    "seconds": {"backward": 2.5, "forward": 12.25},
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks a run for, which reports rows that are made up and writes its log."""
    found: dict[str, Any] = {}

    def open_run(
        out: Path, settings: TrainingSettings, save_every: int, report: Callable[[StepRow], None]
    ) -> dict[str, Any]:
        found.update(settings=settings, save_every=save_every)
        for row in ROWS:
            report(row)
        out.mkdir(exist_ok=True)
        (out / "log.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in ROWS))
        return SUMMARY

    monkeypatch.setattr("fpsim.bridge.training.run.open_run", open_run)
    return found


def test_options_that_are_not_given_are_those_of_the_settings(
    tmp_path: Path, asked: dict[str, Any], capsys: Capture
) -> None:
    out = tmp_path / "run"
    given = ["--steps", "16", "--learning-rate", "0.5", "--text", "words.txt", "--wgrad", "exact"]
    assert main(["train", "--out", str(out), "--save-every", "7", *given]) == 0
    assert asked == {
        "settings": TrainingSettings(steps=16, learning_rate=0.5, text="words.txt", wgrad="exact"),
        "save_every": 7,
    }
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 1234 parameters, 16 steps, loss 1.7500, held out 2.1250",
        "        2.5 s  backward",
        "       12.2 s  forward",
        f"  {out / 'loss.svg'}",
    ]
    assert (out / "loss.svg").read_text().startswith("<?xml")


def test_without_matplotlib_there_is_no_picture(
    tmp_path: Path, asked: dict[str, Any], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [n for n in sys.modules if n.startswith("fpsim.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("fpsim.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["train", "--out", str(tmp_path / "run"), "--steps", "16"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "       12.2 s  forward"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.jsonl"]


def test_an_interrupted_run_says_that_it_goes_on(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fpsim.bridge.training.run.open_run", stop)
    assert main(["train", "--out", str(tmp_path / "run")]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert f"what is done is kept in {tmp_path / 'run'}; the same command goes on" in err


def test_a_terminal_shows_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr("rich.console.Console", lambda **options: console)
    with train._shown(40) as report:
        for row in ROWS:
            report(row)
    last = screen.getvalue()
    last = last[last.rindex("\u250f") :]  # the table as it stood at the end
    lines = [[c.strip() for c in line.split("\u2502")[1:-1]] for line in last.splitlines()]
    rows = [cells for cells in lines if cells]
    assert [row[0] for row in rows] == [str(i) for i in range(4, 16)]
    assert rows[-1] == ["15", "1.7500", "1.00e-03", "3.750", "17.00"]
    # 16 steps took 2 + ... + 17 = 152 s, so 24 more take 228 s.
    assert "step 16 of 40, about 4 min left" in last


def test_a_log_has_some_lines_and_every_step_that_was_skipped(capsys: Capture) -> None:
    with train._shown(160) as report:
        for row in ROWS:
            report(row)
    lines = capsys.readouterr().err.splitlines()
    steps = [line.split("  ")[-6].split()[-1] for line in lines]
    assert steps == ["3", "7", "15"]
    assert "4.7500  1.00e-03  skipped  5.00" in lines[0]
