# SPDX-License-Identifier: Apache-2.0
"""Loops that threads share: every row is done once, by as many threads as pay."""

from __future__ import annotations

import math
import threading
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
    assert sorted({(n, i) for i, n, here in shares if here}) == [(1, 0)]


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
