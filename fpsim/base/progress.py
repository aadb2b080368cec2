# SPDX-License-Identifier: Apache-2.0
"""Progress on standard error: one line per step, a bar while something counts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["Steps", "bar", "say", "working"]


def say(message: str) -> None:
    """Print one line of progress."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def bar(label: str) -> Iterator[Callable[..., None]]:
    """Show a bar and yield a callback that takes (done, total) and perhaps a line of figures."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("    {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task(label, total=None)

    with ExitStack() as shown:
        if progress.console.is_terminal:
            shown.enter_context(progress)

        def update(done: int, total: int, figures: str = "") -> None:
            if not progress.live.is_started:  # a log keeps silent about what fails at once
                shown.enter_context(progress)
            progress.update(task, completed=done, total=total or None)
            if figures:
                progress.console.print(f"    {figures}", highlight=False)

        yield update


@contextmanager
def working(label: str) -> Iterator[None]:
    """Show on a terminal that something is being done, and for how long, where nothing counts."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(label, total=None)
        yield


class Steps:
    """Numbers the steps of a long job, says each one and keeps how long it took."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.seconds: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, then time what runs inside."""
        say(f"[{len(self.seconds) + 1}/{self.total}] {title}")
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds.append((title, time.perf_counter() - started))
