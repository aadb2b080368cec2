# SPDX-License-Identifier: Apache-2.0
"""What a log shows of long work: nothing at first, then lines with an estimate, ever rarer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fpsim.base import progress
from fpsim.base.progress import bar, counted, current

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    yield now


def test_a_log_is_silent_for_two_seconds_and_then_estimates(
    clock: list[float], capsys: Capture
) -> None:
    with bar("mutants") as update:
        for done in range(1, 61):
            clock[0] += 0.5
            update(done, 60)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "    mutants: 4 of 60, about 28 s left"
    assert lines[1] == "    mutants: 8 of 60, about 26 s left"
    assert len(lines) == 4  # after 2, 4, 8 and 16 seconds


def test_a_first_piece_that_compiles_is_no_measure_of_the_others(
    clock: list[float], capsys: Capture
) -> None:
    for first, line in ((30.0, "2 of 18, about 16 s left"), (70.0, "1 of 18, about 20 min left")):
        with bar("RTL") as update:
            clock[0] += first
            for done in range(1, 19):
                update(done, 18)
                clock[0] += 1.0
        assert capsys.readouterr().err.splitlines()[0] == f"    RTL: {line}"


def test_without_a_total_there_is_no_estimate(clock: list[float], capsys: Capture) -> None:
    with bar("tests") as update:
        clock[0] = 3.0
        update(7, 0)
        clock[0] = 9000.0
        update(8, 80)
    err = capsys.readouterr().err
    assert err == "    tests: 7\n    tests: 8 of 80, about 22.5 h left\n"


def test_counted_loops_tell_the_bar_that_is_shown(clock: list[float], capsys: Capture) -> None:
    with bar("units"):
        for _ in counted(["a", "b", "c", "d"]):
            clock[0] += 3.0
            assert list(counted([1, 2])) == [1, 2]  # a loop inside does not count
        current()(9, 10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "    units: 1 of 4, about 9 s left"
    assert all(" of 4, " in line or " of 10, " in line for line in lines)


def test_without_a_bar_nothing_is_said(capsys: Capture) -> None:
    assert list(counted(iter("xyz"), 3)) == ["x", "y", "z"]
    current()(1, 2)
    assert capsys.readouterr().err == ""


def test_an_error_in_a_counted_loop_leaves_the_bar(clock: list[float], capsys: Capture) -> None:
    with bar("units"):
        with pytest.raises(ValueError, match="b"):
            for item in counted("abc"):
                if item == "b":
                    raise ValueError(item)
        for _ in counted("xy"):
            clock[0] += 5.0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["    units: 1 of 2, about 5 s left"]  # nothing is said of what is done


def test_figures_are_printed_at_once(clock: list[float], capsys: Capture) -> None:
    with bar("calibrating") as update:
        update(1, 3, "layer 0: 1.5 %")
    assert capsys.readouterr().err == "    layer 0: 1.5 %\n"


def test_a_loop_is_silent_where_the_bar_is_told_otherwise(
    clock: list[float], capsys: Capture
) -> None:
    with bar("layers") as update:
        for layer in range(1, 5):
            clock[0] += 3.0
            update(layer, 8)
            for _ in counted("ab"):
                clock[0] += 3.0
        current()(0, 2)  # another part of the job, with a count and a time of its own
        clock[0] += 5.0
        current()(1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "    layers: 1 of 2, about 5 s left"
    assert all(" of 8, " in line for line in lines[:-1])
