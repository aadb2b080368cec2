# SPDX-License-Identifier: Apache-2.0
"""How long something takes, for the benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["best"]


def best(work: Callable[[], object], runs: int = 7) -> float:
    """Return the shortest time of several runs, in seconds, after one that compiles."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
