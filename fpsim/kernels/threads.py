# SPDX-License-Identifier: Apache-2.0
"""Loops whose rows several threads share, compiled as one plain loop.

A loop that Numba shares out itself is compiled as a function of its own, at three times the cost.
It remains worth that where a kernel is called thousands of times a second; others are compiled
once for one thread and called with the share of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, update_wrapper
from typing import Any, TypeVar

import numpy as np
from numba import config, get_num_threads

from fpsim.kernels.cache import inner, kernel

__all__ = ["on_threads", "shared", "within"]

_Result = TypeVar("_Result")


@cache
def _pool() -> ThreadPoolExecutor:
    """Return threads that wait for work: to start one takes as long as a cast of many values."""
    return ThreadPoolExecutor(int(config.NUMBA_NUM_THREADS), thread_name_prefix="fpsim")  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def on_threads(work: Callable[[int], _Result], threads: int) -> list[_Result]:
    """Run ``work(0)``, ..., ``work(threads - 1)`` at once, the first on the caller's thread.

    Args:
        work: a function that lets go of the interpreter's lock, and that does not call this one.
        threads: 1 or more.

    Returns:
        What the calls return, in their order.
    """
    others = [_pool().submit(work, i) for i in range(1, threads)]
    try:
        first = work(0)
    finally:
        for other in others:
            other.exception()  # waits
    return [first, *(other.result() for other in others)]


@inner
def within(count, share):
    """Return the rows of ``range(count)`` for thread ``share[0]`` of ``share[1]`` threads."""
    return range(count * share[0] // share[1], count * (share[0] + 1) // share[1])


def shared(
    least: int, variant: str = "", sources: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Any]:
    """Compile a loop over `within`, and call it from as many threads as Numba may use.

    The function takes its share, (number of the thread, threads), as its last argument, which
    callers leave out. It returns nothing, or the first row in error (-1 if there is none).

    Args:
        least: a thread is started for so many elements of the largest array argument.
        variant: tells closures of one function apart, see `fpsim.kernels.cache.kernel`.
        sources: files outside of this package that the loop is made of.

    Returns:
        A decorator, which turns a function into an object called like it.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        return _Shared(kernel(variant, sources=sources, nogil=True)(function), least)

    return decorate


class _Shared:
    """A compiled loop, and the division of its rows among threads."""

    def __init__(self, dispatcher: Any, least: int) -> None:
        self._dispatcher, self._least = dispatcher, least
        update_wrapper(self, dispatcher.py_func)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)

    def __call__(self, *arguments: Any) -> Any:
        largest = max(one.size for one in arguments if isinstance(one, np.ndarray))
        threads = min(largest // self._least, get_num_threads()) if largest > self._least else 1
        if threads < 2:
            return self._dispatcher(*arguments, (0, 1))
        found = on_threads(lambda i: self._dispatcher(*arguments, (i, threads)), threads)
        return None if found[0] is None else min((row for row in found if row >= 0), default=-1)
