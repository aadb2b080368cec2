# SPDX-License-Identifier: Apache-2.0
"""Tests of many like cases: a few of them by default, more in the sweep, all with the slow ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest


def mark_sweeps(items: list[pytest.Item], below: Path) -> None:
    """Mark all but every n-th case of tests that have the marker ``one_in(n)`` with ``sweep``.

    With ``one_in(n, sweep=m)`` every m-th of them is left to the sweep and the others are ``slow``.
    Choose n and m so that no parameter has a multiple of n or m values: then all of them occur.

    Args:
        items: that were collected, before markers select among them.
        below: the folder of the tests to mark.
    """
    seen: Counter[str] = Counter()
    for item in items:
        mark = item.get_closest_marker("one_in")
        if mark is None or below not in item.path.parents:
            continue
        if any(item.iter_markers("sweep")) or any(item.iter_markers("slow")):
            continue
        test = item.nodeid.split("[")[0]
        if seen[test] % mark.args[0]:
            swept = seen[test] % mark.kwargs.get("sweep", 1) == 0
            item.add_marker(pytest.mark.sweep if swept else pytest.mark.slow)
        seen[test] += 1
