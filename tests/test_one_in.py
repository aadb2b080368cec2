# SPDX-License-Identifier: Apache-2.0
"""Tests that leave cases to the sweep run the stated share of them, and the sweep the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.one_in import mark_sweeps

CASES = """
import pytest

@pytest.mark.one_in(3)
@pytest.mark.parametrize("x", [0, 1, 2, 3, pytest.param(4, marks=pytest.mark.sweep), 5, 6, 7])
def test_thinned(x): pass

@pytest.mark.parametrize("x", [0, 1])
def test_whole(x): pass
"""


class Seen:
    """Collects tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.swept: dict[str, bool] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        mark_sweeps(items, self.folder)
        self.swept = {item.name: item.get_closest_marker("sweep") is not None for item in items}


@pytest.mark.sweep
def test_every_third_case_stays(tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text(CASES)
    seen = Seen(tmp_path)
    command = ["--collect-only", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)]
    assert pytest.main(command, plugins=[seen]) == 0
    kept = [name for name, swept in seen.swept.items() if not swept]
    assert kept == ["test_thinned[0]", "test_thinned[3]", "test_thinned[7]", "test_whole[0]",
                    "test_whole[1]"]  # fmt: skip
    elsewhere = Seen(tmp_path / "other")
    assert pytest.main(command, plugins=[elsewhere]) == 0
    assert sum(elsewhere.swept.values()) == 1
