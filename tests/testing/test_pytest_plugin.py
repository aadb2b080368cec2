# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin: a page of every check, and a fixture that fails tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from fpsim import testing
from fpsim.testing.page import page, svg_line
from fpsim.testing.result import CheckResult, NumberLine

TESTS = """
from fpsim import get_format, testing

def away(x):
    return get_format("e2m1").encode(x, "rna")

def test_right(fpsim_check):
    fpsim_check.rounding(lambda x: get_format("e2m1").encode(x), "e2m1", inputs="e4m3fn")

def test_wrong(fpsim_check):
    fpsim_check.rounding(away, "e2m1", inputs="e4m3fn")

def test_called():
    assert not testing.check_rounding(away, "e2m1", inputs="e4m3fn")
"""


def test_page_and_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "fpsim.testing.pytest_plugin"]
    command += ["-p", "no:cacheprovider", "--fpsim-report=out/checks.html", "test_mine.py"]
    # Options of the run around this one, such as a plugin of its own, mean nothing to it.
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 2 passed" in done.stdout
    assert "as if ties went away from zero" in done.stdout
    text = (tmp_path / "out" / "checks.html").read_text(encoding="utf-8")
    assert "3 checks, 1 held, 2 did not; 762 inputs were tried." in text
    assert text.count("<svg") == 2
    assert "test_mine.py::test_wrong" in text
    assert "http" not in text, "the page needs nothing but itself"


def test_nothing_that_ran_is_no_success() -> None:
    nothing = CheckResult("rounding", "f", "e2m1", "none", 0, 0)
    assert not nothing
    assert "nothing was tried" in str(nothing)
    assert "No check ran" in page([])


def test_number_lines_hold_every_result() -> None:
    marks = ((1.0, "1"), (2.0, "2"))
    for seen in (1.0, 2.0, 40.0, -np.inf, np.nan):
        drawn = svg_line(NumberLine(marks, 1.5, 2.0, seen))
        assert drawn.count("<circle") == 3
        assert "nan" not in drawn
        assert "inf" not in drawn


def test_results_are_told_to_observers() -> None:
    kept: list[CheckResult] = []
    testing.result.observers.append(kept.append)
    try:
        result = testing.check_rounding(lambda x: x, "e8m23", inputs="e4m3fn")
    finally:
        testing.result.observers.remove(kept.append)
    assert kept == [result]
    assert result
