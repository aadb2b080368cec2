# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that says where the suite's time goes: CPU seconds and compiled kernels.

`PYTHONPATH=tests pytest -p support.costs --costs=costs.tsv` writes a line per test as it ends: CPU seconds with
those of child processes, seconds in Numba's compiler, functions compiled, and the test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numba.core import event


class Compilations(event.Listener):
    """Counts compilations and their wall seconds; one inside another counts once in seconds."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        self._open: list[Any] = []

    def on_start(self, event: Any) -> None:
        self.count += 1
        self._open.append(os.times())

    def on_end(self, event: Any) -> None:
        started = self._open.pop()
        if not self._open:
            now = os.times()
            self.seconds += now.user + now.system - started.user - started.system


COMPILATIONS = Compilations()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", help="write CPU seconds and compilations per test")


def pytest_configure(config: pytest.Config) -> None:
    event.register("numba:compile", COMPILATIONS)
    if path := config.getoption("--costs"):
        Path(path).write_text("cpu\tcompiling\tcompiled\ttest\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    before, count, seconds = os.times(), COMPILATIONS.count, COMPILATIONS.seconds
    result = yield
    after = os.times()
    if path := item.config.getoption("--costs"):
        cpu = sum(after[:4]) - sum(before[:4])
        with Path(path).open("a") as file:
            file.write(
                f"{cpu:.2f}\t{COMPILATIONS.seconds - seconds:.2f}\t"
                f"{COMPILATIONS.count - count}\t{item.nodeid}\n"
            )
    return result
