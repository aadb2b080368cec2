# SPDX-License-Identifier: Apache-2.0
"""A cocotb library for designs that take beats and give results: Driver, Monitor, Scoreboard.

    from fpsim.hdl import Driver, Monitor, Scoreboard, apply_reset

    board = Scoreboard(["acc_o"])
    driver = Driver(dut, ["op_i", "a_i"], clock=dut.clk_i, valid="valid_i", ready="ready_o",
                    stall=0.3, seed=7)
    monitor = Monitor(dut, ["acc_o"], clock=dut.clk_i, valid="valid_o", ready="ready_i",
                      stall=0.3, seed=8, scoreboard=board)
    driver.start()
    monitor.start()
    board.expect([0x3C00], tag="vector 0")
    await driver.send({"op_i": 2, "a_i": 5})
    await board.drained(dut.clk_i)
    board.verdict()

Inputs change on the falling clock edge; handshakes and results are read when they have settled,
before the rising edge that acts on them, so nothing races. Stalls and back-pressure are random but
depend on the seed alone. Handshake ports are active high, or low if written ``!port``. A port has
unknown bits where a simulator says X, Z or anything but 0 and 1: such a result is a mismatch.

This module imports nothing of fpsim: a simulation starts at once.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import Event, FallingEdge, ReadOnly

__all__ = ["Driver", "Mismatch", "Monitor", "Scoreboard", "apply_reset", "unknown_bits"]


@dataclass(frozen=True)
class Mismatch:
    """A result that differs from the expectation."""

    tag: Any  #: of the expectation; None: no result was expected
    expected: dict[str, int]  #: by port
    seen: dict[str, str]  #: by port: bits, the most significant first

    def __str__(self) -> str:
        if self.tag is None:
            return f"a result that nobody expected: {self.seen}"
        parts = []
        for port, bits in self.seen.items():
            unknown = unknown_bits(bits)
            note = f" (unknown: {', '.join(unknown)})" if unknown else ""
            expected = self.expected.get(port)
            wanted = "" if expected is None else f", expected {expected:0{len(bits)}b}"
            parts.append(f"{port} is {bits}{note}{wanted}")
        return f"{self.tag}: {'; '.join(parts)}"


def unknown_bits(bits: str) -> list[str]:
    """Return texts like ``bit 3 is x`` for every bit that is neither 0 nor 1."""
    top = len(bits) - 1
    return [f"bit {top - i} is {bit.lower()}" for i, bit in enumerate(bits) if bit not in "01"]


class _Flag:
    """A one-bit handshake port, perhaps active low; an absent one is always on."""

    def __init__(self, dut: Any, name: str | None) -> None:
        self.name = name
        self.handle = None if name is None else getattr(dut, name.removeprefix("!"))
        low = name is not None and name.startswith("!")
        self._on, self._codes = ("0", (1, 0)) if low else ("1", (0, 1))
        self._last: bool | None = None
        self.unknown = False  #: it was neither 0 nor 1 when last read

    def set(self, on: bool) -> None:
        """Drive the port."""
        if self.handle is not None and on is not self._last:
            self.handle.value = self._codes[on]
            self._last = on

    def read(self) -> bool:
        """Return whether the port is on; unknown is off."""
        if self.handle is None:
            return True
        bit = str(self.handle.value)
        self.unknown = bit not in "01"
        return bit == self._on

    def __str__(self) -> str:
        if self.name is None or self.handle is None:
            return ""
        return f"{self.name.removeprefix('!')}={self.handle.value!s}"


class _Agent(ABC):
    """Acts once per clock: `present` after the falling edge, `settle` before the rising."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    @abstractmethod
    def present(self) -> None:
        """Drive inputs of the design."""

    @abstractmethod
    def settle(self) -> Any:
        """Look at the outputs of the design."""

    def check(self) -> None:  # noqa: B027 (a hook that most leave as it is)
        """Fail if the agent has waited too long."""

    def start(self) -> Any:
        """Act on every clock from now on; returns the cocotb task."""
        return cocotb.start_soon(self._run())

    async def _run(self) -> None:
        falling, settled = FallingEdge(self._clock), ReadOnly()
        while True:
            await falling
            self.present()
            await settled
            self.settle()
            self.check()


class Driver(_Agent):
    """Puts beats on ports, one per clock, and stalls at random.

    Args:
        dut: handle of the design.
        ports: names of the ports that a beat sets.
        clock: handle of the clock; needed for `start` and `send`.
        valid: port that says a beat is there; None: every clock is one.
        ready: port by which the design takes it; None: it always does.
        stall: share of clocks without a beat. The data ports are random then.
        seed: of the stalls and of the random data meanwhile.
        quiet: values of ports that are not random while no beat is there.
        patience: clocks that a beat may wait; after `start`, the test fails then.
    """

    def __init__(
        self,
        dut: Any,
        ports: Sequence[str],
        *,
        clock: Any = None,
        valid: str | None = None,
        ready: str | None = None,
        stall: float = 0.0,
        seed: int = 1,
        quiet: Mapping[str, int] | None = None,
        patience: int = 10_000,
    ) -> None:
        super().__init__(clock)
        self._quiet = [(quiet or {}).get(name) for name in ports]
        self.ports = tuple(ports)
        self._handles = [getattr(dut, name) for name in ports]
        self._widths = [len(handle) for handle in self._handles]
        self._last: Sequence[int | None] = [None] * len(self._handles)
        self.valid, self.ready = _Flag(dut, valid), _Flag(dut, ready)
        self._stall = stall if valid is not None else 0.0
        self._random = random.Random(seed)
        self._queue: deque[tuple[Sequence[int], Any]] = deque()
        self._shown = False
        self._patience, self._waited = patience, 0
        self._events: deque[Event] = deque()
        self._followers: list[Monitor] = []
        self.taken = 0  #: beats that the design took

    @property
    def idle(self) -> bool:
        """Whether every beat was taken."""
        return not self._queue

    def offer(self, values: Sequence[int], tag: Any = None) -> None:
        """Queue a beat: a value per port, in the order of the ports."""
        self._queue.append((values, tag))

    async def send(self, beat: Mapping[str, int]) -> None:
        """Queue a beat and wait until the design took it; ports it does not name are 0."""
        unknown = set(beat) - set(self.ports)
        if unknown:
            raise ValueError(f"beat: {', '.join(sorted(unknown))} is no port of this driver")
        event = Event()
        self._events.append(event)
        self.offer([beat.get(name, 0) for name in self.ports])
        await event.wait()

    def present(self) -> None:
        """Show the next beat, go on showing one that was not taken, or stall."""
        if self._queue and (self._shown or not self._stall or self._random.random() >= self._stall):
            self._shown = True
            self.valid.set(True)
            self.put(self._queue[0][0])
        elif self.valid.handle is not None:
            self.valid.set(False)
            self.put(self._held([self._random.getrandbits(width) for width in self._widths]))
        elif any(held is not None for held in self._quiet) and None not in self._last:
            self.put(self._held(self._last))

    def _held(self, values: Sequence[Any]) -> list[Any]:
        """Return values with the fixed values of quiet ports in place."""
        pairs = zip(values, self._quiet, strict=True)
        return [value if held is None else held for value, held in pairs]

    def check(self) -> None:
        """Fail if the beat that is shown has waited too long."""
        self._waited = self._waited + 1 if self._shown else 0
        if self._waited > self._patience:
            raise AssertionError(
                f"a beat was not taken in {self._patience} clocks; last seen "
                f"{self.valid}, {self.ready}; {self.taken} beats taken"
            )

    def settle(self) -> tuple[Sequence[int], Any] | None:
        """Return the beat and tag that the next rising edge takes, if it takes one."""
        if not self._shown or not self.ready.read():
            return None
        self._shown = False
        self.taken += 1
        for monitor in self._followers:
            monitor.due()
        if self._events:
            self._events.popleft().set()
        return self._queue.popleft()

    def drop(self) -> None:
        """Forget every beat that was not taken."""
        self._queue.clear()
        self._events.clear()
        self._shown = False

    def quiet(self) -> None:
        """Take the beat away at once, as for a reset."""
        self.valid.set(False)

    def put(self, values: Sequence[int]) -> None:
        """Drive the data ports that change."""
        for handle, value, last in zip(self._handles, values, self._last, strict=True):
            if value != last:
                handle.value = value
        self._last = values


class Monitor(_Agent):
    """Reads results: when a valid port says so, or a fixed time after a beat was taken.

    Args:
        dut: handle of the design.
        ports: names of the ports that a result stands on.
        clock: handle of the clock; needed for `start`.
        valid: port that says a result is there.
        ready: port that takes it; None: it lasts one clock.
        latency: clock edges from the one that takes a beat, that one included, to its result,
            where there is no ``valid``; the driver to follow is given by `follow`.
        stall: share of clocks in which results are not taken (back-pressure).
        seed: of the back-pressure.
        scoreboard: told every result.
    """

    def __init__(
        self,
        dut: Any,
        ports: Sequence[str],
        *,
        clock: Any = None,
        valid: str | None = None,
        ready: str | None = None,
        latency: int | None = None,
        stall: float = 0.0,
        seed: int = 2,
        scoreboard: Scoreboard | None = None,
    ) -> None:
        super().__init__(clock)
        if (valid is None) == (latency is None):
            raise ValueError("Monitor: give either valid or latency")
        self.ports = tuple(ports)
        self._handles = [getattr(dut, name) for name in ports]
        self.valid, self.ready = _Flag(dut, valid), _Flag(dut, ready)
        self._latency = latency
        self._due: deque[int] = deque()
        self._time = 0
        self._stall = stall if ready is not None else 0.0
        self._random = random.Random(seed)
        self._takes = True
        self._scoreboard = scoreboard
        self.results = 0  #: that were taken

    def follow(self, driver: Driver) -> None:
        """Expect a result a fixed time after every beat that ``driver`` sends; start it first."""
        driver._followers.append(self)

    def due(self) -> None:
        """Say that the beat of this clock was taken and will have a result."""
        if self._latency is not None:
            self._due.append(self._time + self._latency)

    def present(self) -> None:
        """Choose whether a result is taken in this clock."""
        self._time += 1
        self._takes = not self._stall or self._random.random() >= self._stall
        self.ready.set(self._takes)

    def settle(self) -> list[str] | None:
        """Return the result of this clock as bits per port, if there is one."""
        if self._latency is not None:
            if not self._due or self._due[0] != self._time:
                return None
            self._due.popleft()
        elif not self._takes or not self.valid.read():
            return None
        self.results += 1
        seen = self.sample()
        if self._scoreboard is not None:
            self._scoreboard.check(seen)
        return seen

    def sample(self) -> list[str]:
        """Return the bits on the ports."""
        return [str(handle.value) for handle in self._handles]

    def forget(self) -> None:
        """Forget results that are under way, as after a reset."""
        self._due.clear()


class Scoreboard:
    """Compares results with expectations, in order.

    Args:
        ports: names of the ports of a result, as the monitor has them.
        masks: bits that count, by port; of others all do.
        keep: mismatches kept in full.
    """

    def __init__(
        self, ports: Sequence[str], masks: Mapping[str, int] | None = None, keep: int = 1000
    ) -> None:
        self.ports = tuple(ports)
        self._masks = [None if masks is None else masks.get(port) for port in ports]
        self._keep = keep
        self._waiting: deque[tuple[Sequence[int] | None, Any]] = deque()
        self.compared = 0
        self.mismatch_count = 0
        self.mismatches: list[Mismatch] = []
        self.unexpected: Mismatch | None = None  #: the first result that nobody expected
        self.on_mismatch: Any = None  #: called with the tag and what was seen, of those kept

    @property
    def waiting(self) -> int:
        """Results that are expected and have not come."""
        return len(self._waiting)

    @property
    def owed(self) -> bool:
        """Whether a result that matters is expected and has not come."""
        return any(result is not None for result, _ in self._waiting)

    def expect(self, result: Sequence[int] | None, tag: Any) -> None:
        """Expect a result, a value per port; None: one comes and does not matter."""
        self._waiting.append((result, tag))

    def check(self, seen: Sequence[str]) -> None:
        """Compare the next result, given as bits per port."""
        if not self._waiting:
            shown = dict(zip(self.ports, seen, strict=True))
            self.unexpected = self.unexpected or Mismatch(None, {}, shown)
            return
        expected, tag = self._waiting.popleft()
        if expected is not None:
            self.judge(expected, seen, tag)

    def judge(self, expected: Sequence[int], seen: Sequence[str], tag: Any) -> None:
        """Compare a result with its expectation, and note a mismatch.

        Args:
            expected: a value per port.
            seen: bits per port, the most significant first.
            tag: of the expectation.
        """
        self.compared += 1
        for bits, value, mask in zip(seen, expected, self._masks, strict=True):
            try:
                if int(bits, 2) == value:
                    continue
            except ValueError:  # X or Z somewhere
                pass
            if mask is None or not _equal(bits, value, mask):
                self._differs(expected, seen, tag)
                return

    def _differs(self, expected: Sequence[int], seen: Sequence[str], tag: Any) -> None:
        self.mismatch_count += 1
        if len(self.mismatches) < self._keep:
            wanted = dict(zip(self.ports, expected, strict=True))
            shown = dict(zip(self.ports, seen, strict=True))
            self.mismatches.append(Mismatch(tag, wanted, shown))
            if self.on_mismatch is not None:
                self.on_mismatch(tag, shown)

    async def drained(self, clock: Any, limit: int = 10_000) -> None:
        """Wait until every expected result has come.

        Raises:
            AssertionError: they did not within ``limit`` clocks.
        """
        for _ in range(limit):
            if not self._waiting:
                return
            await FallingEdge(clock)
        raise AssertionError(f"{self.waiting} results did not come within {limit} clocks")

    def verdict(self) -> None:
        """Raise AssertionError unless results were compared and all were right."""
        if self.unexpected is not None:
            raise AssertionError(str(self.unexpected))
        if self.mismatches:
            raise AssertionError(
                f"{self.mismatch_count} of {self.compared} results differ; {self.mismatches[0]}"
            )
        if not self.compared:
            raise AssertionError("no result was compared")


def _equal(bits: str, expected: int, mask: int) -> bool:
    """Compare the bits that a mask selects; all others do not count."""
    top = len(bits) - 1
    chosen = [(top - i, bit) for i, bit in enumerate(bits) if mask >> (top - i) & 1]
    return all(bit == str(expected >> place & 1) for place, bit in chosen)


async def apply_reset(
    reset: Any, clock: Any, *, active_low: bool = True, synchronous: bool = False, clocks: int = 2
) -> None:
    """Reset a design; it works from the next falling clock edge on.

    An asynchronous reset begins between clock edges, a synchronous one on a falling edge.

    Args:
        reset: handle of the reset port.
        clock: handle of the clock.
        active_low: whether 0 resets; else 1.
        synchronous: whether the reset acts on clock edges.
        clocks: falling edges for which it is held.
    """
    falling = FallingEdge(clock)
    if synchronous:
        await falling
    reset.value = int(not active_low)
    for _ in range(clocks):
        await falling
    reset.value = int(active_low)
