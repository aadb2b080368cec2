# SPDX-License-Identifier: Apache-2.0
"""How long something takes, for the benchmarks."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

__all__ = ["Times", "best", "measured", "processor"]

Clock = Callable[[], float]


class Times(NamedTuple):
    """The shortest of several runs, in seconds, and by what share the middle one was longer."""

    best: float
    spread: float


def measured(
    work: Callable[[], object],
    runs: int = 7,
    seconds: float = 4.0,
    clock: Clock = time.perf_counter,
) -> Times:
    """Return the times of several runs, after one that compiles.

    Args:
        work: what is measured.
        runs: most runs.
        seconds: no run begins after so many seconds, but for the first.
        clock: returns seconds; `time.process_time` leaves out what other processes take.

    Returns:
        The shortest time, and the spread.
    """
    work()
    times: list[float] = []
    while not times or (len(times) < runs and sum(times) < seconds):
        started = clock()
        work()
        times.append(clock() - started)
    return Times(min(times), median(times) / min(times) - 1)


def best(work: Callable[[], object], runs: int = 7) -> float:
    """Return the shortest time of several runs, in seconds, after one that compiles."""
    return measured(work, runs).best


def processor() -> str:
    """Return the processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
