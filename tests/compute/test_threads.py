# SPDX-License-Identifier: Apache-2.0
"""Loops that threads share: every row is done once, by as many threads as pay."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest

from fpsim.formats.names import get_format
from fpsim.kernels import threads
from fpsim.kernels.threads import shared, within


@shared(4)
def count(seen, share):  # type: ignore[no-untyped-def]
    for i in within(seen.size, share):
        seen[i] += 1


@shared(4)
def first_odd(values, share):  # type: ignore[no-untyped-def]
    for i in within(values.size, share):
        if values[i] & 1:
            return i
    return -1


@pytest.fixture(params=[1, 2, 3, 7])
def number(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(threads, "get_num_threads", lambda: request.param)
    return int(request.param)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 8, 23, 1000])
def test_every_row_is_done_once(number: int, size: int) -> None:
    seen = np.zeros(size, np.int64)
    assert count(seen) is None
    assert (seen == 1).all()


def test_the_first_row_in_error_is_told_whichever_thread_has_it(number: int) -> None:
    values = np.zeros(100, np.int64)
    assert first_odd(values) == -1
    for row in (99, 70, 34, 33, 1, 0):
        values[row] = 1
        assert first_odd(values) == row


def test_a_thread_is_not_worth_few_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "get_num_threads", lambda: 8)
    shares: list[Any] = []

    class Recorded:
        py_func = staticmethod(count.py_func)

        def __call__(self, seen: Any, share: Any) -> None:
            shares.append((*share, threading.get_ident() == threading.main_thread().ident))

    loop = threads._Shared(Recorded(), 4)
    for size in (0, 4, 7, 8, 12, 100):
        loop(np.zeros(size))
    counts = [n for i, n, _ in shares if i == 0]
    assert counts == [1, 1, 1, 2, 3, 8]
    assert all(here == (i == 0) for i, _, here in shares)


def test_a_format_names_the_first_of_its_errors(number: int) -> None:
    """Vectors that end beside an element in error, in the first and the last thread's share."""
    fmt, size = get_format("e5m10"), (1 << 18) + 3
    values = np.ones(size, np.float32)
    expected = fmt.encode(values)
    assert (expected == fmt.encode(1.0)).all()
    signed = get_format("e2m1")
    for row in (size - 1, size // 2, 0):
        values[row] = math.nan
        with pytest.raises(ValueError, match=rf"index \({row},\)"):
            signed.encode(values)


def test_kernels_of_a_codec_agree_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    fmt = get_format("e3m2")
    values = np.random.default_rng(1).standard_normal((1 << 19) + 5)
    alone = fmt.encode(values)
    monkeypatch.setattr(threads, "get_num_threads", lambda: 3)
    assert (fmt.encode(values) == alone).all()


def test_calls_run_at_once_and_results_come_in_order() -> None:
    """More calls than the pool has threads end, too."""
    met = threading.Barrier(2)

    def work(i: int) -> int:
        if i < 2:
            met.wait(60)  # would break if the second waited for the first
        return i * i

    assert threads.on_threads(work, 100) == [i * i for i in range(100)]
    assert threads.on_threads(work, 1 + 1) == [0, 1]


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_an_error_of_one_call_is_raised_when_all_have_ended(wrong: int) -> None:
    done: list[int] = []

    def work(i: int) -> None:
        if i == wrong:
            raise ValueError(f"call {i}")
        time.sleep(0.05)
        done.append(i)

    with pytest.raises(ValueError, match=f"call {wrong}"):
        threads.on_threads(work, 4)
    assert sorted(done) == [i for i in range(4) if i != wrong]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    assert threads.on_threads(int, 2) == [0, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        child = os.fork()
    if child == 0:
        os._exit(0 if threads.on_threads(int, 2) == [0, 1] else 1)
    for _ in range(600):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child waits for threads that only its parent has")
    assert os.waitstatus_to_exitcode(status) == 0
