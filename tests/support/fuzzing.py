# SPDX-License-Identifier: Apache-2.0
"""Mutated inputs, and what a parser may do with them: take one, or refuse it in one sentence.

Every input is made from a seed and its number alone, so that a failure can be run again.
``FPSIM_FUZZ_SECONDS`` (CPU seconds of each fuzzer), ``FPSIM_FUZZ_COUNT`` (inputs of each, instead
of seconds) and ``FPSIM_FUZZ_SEED`` choose how far a run goes.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fpsim.base.errors import MAX_MESSAGE, FpsimError

SECONDS = float(os.environ.get("FPSIM_FUZZ_SECONDS", "30"))
COUNT = int(os.environ.get("FPSIM_FUZZ_COUNT", "0"))
SEED = int(os.environ.get("FPSIM_FUZZ_SEED", "1"))
#: CPU seconds, and bytes more than before, that one input may take.
SLOW, MEMORY = 10, 3 << 30
#: Characters that a message may have: those that it keeps, and what says how many it left out.
LONGEST = MAX_MESSAGE + 100

#: What stands in files where it should not.
TOKENS: tuple[bytes, ...] = (
    b"", b"0", b"-1", b"1", b"2", b"64", b"65", b"255", b"1e400", b"-0.0", b"nan", b"inf", b"0x10",
    b"9" * 19, b"9" * 400, b"9" * 5000, b"1_0", b"true", b"null", b'""', b"''", b"[]", b"{}", b"[[",
    b"]]", b"{", b"}", b"=", b",", b".", b"-", b":", b"#", b'"', b"'", b'"""', b"\\", b"\n", b"\r\n",
    b"\t", b" ", b"\0", b"\x7f", b"\xff", b"\xed\xb2\x80", "é".encode(), "²".encode(), "٣".encode(),
    "\u2028".encode(), b"../", b"/", b"~", b"$(x)", b"%n", b"a" * 3000, b"a." * 400, b"[" * 2000,
    b"x={a=" * 500, b"1979-05-27T07:32:00Z", b"inf", b"sr", b"block", b"chunk", b"into", b"e2m1",
    b"e8m0", b"e8m23", b"int4", b"e0m3", b"e2m1b-99", b"nozero",
)  # fmt: skip


class Hang(Exception):
    """An input that took longer than `SLOW` seconds."""


def mutated(corpus: Sequence[bytes], random: Random) -> bytes:
    """Return one of the inputs with some changes."""
    data = bytearray(random.choice(corpus))
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 5, 20)))
        kind = random.randrange(8)
        if kind == 0:
            del data[at:end]
        elif kind == 1:
            data[at:at] = random.choice(TOKENS)
        elif kind == 2:
            data[at:end] = random.choice(TOKENS)
        elif kind == 3 and at < len(data):
            data[at] = random.randrange(256)
        elif kind == 4:
            data[at:at] = data[at:end] * random.choice((1, 2, 50))
        elif kind == 5:
            other = random.choice(corpus)
            start = random.randrange(len(other) + 1)
            data[at:end] = other[start : start + random.choice((2, 8, 40))]
        else:
            data = _line_changed(data, random)
    return bytes(data)


def _line_changed(data: bytearray, random: Random) -> bytearray:
    """Return text with a line gone, twice, elsewhere, or with another value."""
    lines = data.split(b"\n")
    i, j = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.randrange(4)
    if kind == 0:
        del lines[i]
    elif kind == 1:
        lines.insert(j, lines[i])
    elif kind == 2:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        key, sign, _ = lines[i].partition(b"=")
        value = random.choice((*TOKENS, lines[j].partition(b"=")[2]))
        lines[i] = bytearray(key + sign + b" " + value)
    return bytearray(b"\n").join(lines)


def inputs(corpus: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield numbered inputs until the time, or the count, is used up."""
    begun = time.process_time()
    for number in count():
        if number >= COUNT if COUNT else time.process_time() - begun > SECONDS:
            return
        yield number, mutated(corpus, Random(f"{SEED}/{number}"))


@contextmanager
def bounded() -> Iterator[None]:
    """Raise `Hang` or MemoryError inside the context where an input takes too much."""

    def hang(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, hang)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, SLOW)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def taken(feed: Callable[[bytes], object], number: int, data: bytes) -> bool:
    """Feed one input; return whether it was taken, and fail unless it was refused in one sentence.

    Args:
        feed: gives the input to a parser.
        number: of the input, to run it again.
        data: the input.
    """
    again = f"FPSIM_FUZZ_SEED={SEED}, input {number}: {data[:300]!r}"
    try:
        with bounded():
            feed(data)
    except FpsimError as error:
        said = str(error)
        if "\n" in said or not said or len(said) > LONGEST:
            pytest.fail(f"no sentence: {said[:600]!r}; {again}")
        return False
    except Hang:
        pytest.fail(f"more than {SLOW} s; {again}")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | pytest.fail.Exception):
            raise
        pytest.fail(f"{type(error).__name__}: {str(error)[:300]}; {again}")
    return True


def fuzz(corpus: Sequence[bytes], feed: Callable[[bytes], object]) -> None:
    """Feed mutated inputs to a parser, and say how many there were and how many it took.

    The inputs themselves go first, so that what is compiled or cached once costs no mutant time.
    """
    for data in corpus:
        with suppress(FpsimError):
            feed(data)
    tried = good = 0
    for number, data in inputs(corpus):
        good += taken(feed, number, data)
        tried += 1
    print(f"{tried} inputs of seed {SEED}, {good} taken")
    assert tried > 0
