# SPDX-License-Identifier: Apache-2.0
"""Turns blocks of a set into lines of text, in this process or in workers, in order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from fpsim.vectors.files.file_formats import TEXT_FORMATS, Lines
from fpsim.vectors.sets.record import Record
from fpsim.vectors.sets.vector_set import BlockSource, Job

__all__ = ["in_order", "lines_of", "rendered"]

#: Blocks that workers make ahead of the reader.
AHEAD = 4

T = TypeVar("T")
R = TypeVar("R")
_context: Any = None


def in_order(
    work: Callable[[Any, T], R], context: Any, items: Iterable[T], jobs: int
) -> Iterator[R]:
    """Apply a function to every item in processes, and yield the results in order.

    Args:
        work: called as ``work(context, item)``; for several processes, a function of a module.
        context: sent to each process once.
        items: read only a few ahead of the results, so memory stays bounded.
        jobs: number of processes; 1: this process.

    Yields:
        The result of each item.
    """
    if jobs == 1:
        for item in items:
            yield work(context, item)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=_install, initargs=(context,)) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(_call, work, item))
                if len(waiting) > AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _install(context: Any) -> None:
    global _context
    _context = context


def _call(work: Callable[[Any, T], R], item: T) -> R:
    return work(_context, item)


def rendered(
    source: BlockSource, texts: tuple[str, ...], work: Iterable[Job], jobs: int
) -> Iterator[list[bytes]]:
    """Yield the lines of blocks in several text formats.

    Args:
        source: the set.
        texts: names of text formats.
        work: blocks, in order.
        jobs: number of processes.

    Returns:
        An iterator over the blocks: for each, the lines of every format, as bytes without a header.
    """
    return in_order(_render, (source, texts), work, jobs)


def _render(context: tuple[BlockSource, tuple[str, ...]], job: Job) -> list[bytes]:
    source, texts = context
    elements = source.record.elements(source.block(*job))
    return [lines_of(name, source.record).text(elements) for name in texts]


@lru_cache(maxsize=16)
def lines_of(name: str, record: Record) -> Lines:
    """Return the `Lines` of a text format by name, such as ``readmemh``; cached."""
    return Lines(TEXT_FORMATS[name], record)
