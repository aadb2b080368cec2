# SPDX-License-Identifier: Apache-2.0
"""Progress on standard error: steps, the share done and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Steps", "Update", "bar", "counted", "current", "say", "span"]

T = TypeVar("T")
#: Takes the count done, the count in all (0: unknown), and perhaps a line of figures.
Update = Callable[..., None]
#: Seconds before the first line of a log, and most seconds between two lines.
FIRST, RAREST = 2.0, 60.0
#: Jobs of more pieces take no estimate from the first piece, which may compile or load.
FEW = 8


def say(message: str) -> None:
    """Print one line of progress."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def bar(label: str) -> Iterator[Update]:
    """Show the share of a job that is done and the time left.

    Yields a callback that takes (done, total) and perhaps a line of figures; loops over `counted`
    inside call it by themselves. A terminal shows a bar; a log gets lines, ever rarer, if the job
    takes more than two seconds.
    """
    with (_Bar if sys.stderr.isatty() else _Lines)(label) as update:
        shown = _Shown(update)

        def told(done: int, total: int, figures: str = "") -> None:
            shown.counting = False  # the caller counts, not the loops inside
            update(done, total, figures)

        _shown.append(shown)
        try:
            yield told
        finally:
            _shown.remove(shown)


def counted(items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """Yield items and report to the open `bar` how many are done.

    Nothing is reported without a bar, if the bar's callback is called otherwise, or inside another
    counted loop.

    Args:
        items: any iterable.
        total: number of items; None: ``len(items)``.
    """
    shown = _shown[-1] if _shown else None
    if shown is None or shown.inside or not shown.counting:
        yield from items
        return
    count = len(items) if total is None and isinstance(items, Sized) else total or 0
    shown.inside = True
    try:
        for done, item in enumerate(items):
            shown.update(done, count)
            yield item
        shown.update(count, count)
    finally:
        shown.inside = False


def current() -> Update:
    """Return the callback of the innermost open `bar`, or one that does nothing."""
    if not _shown or _shown[-1].inside:
        return lambda done, total, figures="": None
    return _shown[-1].update


@dataclass
class _Shown:
    """An open bar, and whether loops count for it."""

    update: Update
    counting: bool = True  #: whether loops report to the bar
    inside: bool = False  #: whether a counted loop is running


#: Open bars, the innermost last.
_shown: list[_Shown] = []


class _Bar:
    """A bar on a terminal."""

    def __init__(self, label: str) -> None:
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
        self.progress = Progress(*columns, console=Console(stderr=True))
        self.task = self.progress.add_task(label, total=None)

    def __enter__(self) -> Update:
        self.progress.start()
        return self.update

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, done: int, total: int, figures: str = "") -> None:
        self.progress.update(self.task, completed=done, total=total or None)
        if figures:
            self.progress.console.print(f"    {figures}", highlight=False)


class _Lines:
    """A log: its first line after two seconds, each later one after twice the time.

    Of more than `FEW` pieces the first may compile or load something: no line follows it, and the
    estimate counts from the second piece on.
    """

    def __init__(self, label: str) -> None:
        self.label, self.total = label, 0
        self._begin()

    def _begin(self) -> None:
        self.started, self.due = time.monotonic(), FIRST
        self.first: tuple[int, float] | None = None

    def __enter__(self) -> Update:
        return self.update

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, done: int, total: int, figures: str = "") -> None:
        if figures:
            say(f"    {figures}")
        if self.total not in (0, total):  # a new part of the job
            self._begin()
        self.total = total
        gone = time.monotonic() - self.started
        if not done or done == total:
            return
        if self.first is None:
            self.first = (done, gone) if total > FEW else (0, 0.0)
        before, then = self.first
        if done == before and gone > RAREST:  # better than nothing
            before, then = 0, 0.0
        if gone < self.due or done == before:
            return
        self.due = min(2 * gone, gone + RAREST)
        rest = (gone - then) / (done - before) * (total - done)
        left = f" of {total}, about {span(rest)} left" if total else ""
        say(f"    {self.label}: {done}{left}")


def span(seconds: float) -> str:
    """Return seconds as text: ``40 s``, ``3 min`` or ``2.5 h``."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Steps:
    """Numbers the steps of a long job, announces each one and keeps its time."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.seconds: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, then time the code inside."""
        say(f"[{len(self.seconds) + 1}/{self.total}] {title}")
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds.append((title, time.perf_counter() - started))
