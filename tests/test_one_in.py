# SPDX-License-Identifier: Apache-2.0
"""Tests with many cases run the stated share of them by default, in the sweep, and with the slow ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.one_in import mark_sweeps

CASES = """
import pytest

@pytest.mark.one_in(3)
@pytest.mark.parametrize("x", [0, 1, 2, 3, pytest.param(4, marks=pytest.mark.sweep), 5, 6, 7])
def test_thinned(x): pass

@pytest.mark.one_in(6, sweep=4)
@pytest.mark.parametrize("x", range(9))
def test_thinned_twice(x): pass

@pytest.mark.parametrize("x", [0, 1])
def test_whole(x): pass
"""


class Seen:
    """Collects tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marks: dict[str, set[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        mark_sweeps(items, self.folder)
        self.marks = {item.name: {mark.name for mark in item.iter_markers()} for item in items}

    def run_with(self, *marks: str) -> list[str]:
        return [name for name, own in self.marks.items() if own & {"sweep", "slow"} == set(marks)]


@pytest.mark.sweep
def test_stated_shares_of_cases_run(tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text(CASES)
    seen = Seen(tmp_path)
    command = ["--collect-only", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)]
    assert pytest.main(command, plugins=[seen]) == 0
    assert seen.run_with() == [
        *(f"test_thinned[{x}]" for x in (0, 3, 7)),
        *(f"test_thinned_twice[{x}]" for x in (0, 6)),
        *(f"test_whole[{x}]" for x in (0, 1)),
    ]
    assert seen.run_with("slow") == [f"test_thinned_twice[{x}]" for x in (1, 2, 3, 5, 7)]
    elsewhere = Seen(tmp_path / "other")
    assert pytest.main(command, plugins=[elsewhere]) == 0
    assert elsewhere.run_with("sweep") == ["test_thinned[4]"] and not elsewhere.run_with("slow")
