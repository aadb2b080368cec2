# SPDX-License-Identifier: Apache-2.0
"""The cocotb test that replays a file of beats; it runs inside the simulator and only moves bits.

Every value it compares with was computed before the simulation; `fpsim.hdl.bench.serialise` wrote
the lines. It writes mismatches, or an error, to the job's result file.
"""

from __future__ import annotations

import difflib
import json
import os
import random
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, Timer
from fpsim_cocotb import Driver, Monitor, Scoreboard, apply_reset

PROGRESS_EVERY = 2048
#: Clocks after the last result in which no other may come.
TAIL = 16
#: Clocks in which a vector is begun before a reset cuts it off.
CUT_CLOCKS = 3

# The marks of a line, as `fpsim.hdl.bench.beat_plan.Mark`.
ANSWER, COMPARE, FREE, RESET = 1, 2, 4, 8
PAUSE, WAIT = 12, 9


class Stuck(Exception):
    """The design cannot be run any further; the text says why."""


@cocotb.test()
async def replay(dut: Any) -> None:
    """Apply every line of the job's file and write the result file."""
    job = json.loads(Path(os.environ["FPSIM_BENCH_JOB"]).read_text(encoding="utf-8"))
    started = time.perf_counter()
    masks = {port: mask for port, _, _, mask, _, _ in job["outputs"]}
    board = Scoreboard(list(masks), masks, job["max_mismatches"])
    board.on_mismatch = partial(_note, Path(job["seen"]))
    result: dict[str, Any] = {"error": None, "clocks": 0, "resets": 0}
    try:
        await check_ports(dut, job)
        design = _Design(dut, job["prefix"])
        if job["clock"] is None:
            await _combinational(design, job, board, result)
        else:
            bench = _Bench(design, job, board)
            try:
                await bench.run()
            finally:
                result |= {"clocks": bench.clocks, "resets": bench.resets}
    except Stuck as stuck:
        result["error"] = str(stuck)
    result |= {
        "compared": board.compared,
        "mismatch_count": board.mismatch_count,
        "mismatches": [[m.tag, m.seen] for m in board.mismatches],
        "seconds": time.perf_counter() - started,
    }
    _replace(Path(job["result"]), json.dumps(result))


async def check_ports(dut: Any, job: dict[str, Any]) -> None:
    """Compare the ports that the job names with the ports of the elaborated design."""
    if job["widths"]:  # a module around the design tells them
        await Timer(1, unit="ns")
        for probe, port, width, exact in job["widths"]:
            _check_width(job["design"], port, int(getattr(dut, probe).value), width, exact)
        return
    for port, width, exact, *_ in (*job["inputs"], *job["outputs"]):
        _check_port(dut, port, width, exact)
    reset = [job["reset"]["port"]] if job["reset"] else []
    flags = [job[k] for k in ("clock", "in_valid", "in_ready", "out_valid", "out_ready") if job[k]]
    for port in [*reset, *flags]:
        _check_port(dut, port.removeprefix("!"), 1, True)


def _check_port(dut: Any, port: str, width: int, exact: bool) -> None:
    handle = getattr(dut, port, None)
    if handle is None:
        near = difflib.get_close_matches(port, [h._name for h in dut], n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise Stuck(f"port: {dut._name} has no port {port!r}{hint}")
    _check_width(dut._name, port, len(handle), width, exact)


def _check_width(design: str, port: str, have: int, width: int, exact: bool) -> None:
    if have < width or (exact and have != width):
        need = "" if exact else "at least "
        raise Stuck(f"port: {port} of {design} has {have} bits, the mapping {need}{width}")


def _note(path: Path, tag: Any, seen: dict[str, str]) -> None:
    """Keep a mismatch where a simulation that the design ends does not lose it."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([tag, seen]) + "\n")


class _Design:
    """A design whose ports have the names that its user gave them.

    Inside the module around a design each name has a prefix.
    """

    def __init__(self, dut: Any, prefix: str) -> None:
        self._dut, self._prefix = dut, prefix

    def __getattr__(self, port: str) -> Any:
        return getattr(self._dut, self._prefix + port.replace(".", "__"))


class Line:
    """A beat as the file has it."""

    __slots__ = ("expected", "marks", "ordinal", "values")

    def __init__(self, marks: int, values: list[int], expected: Any, ordinal: int) -> None:
        self.marks, self.values = marks, values
        self.expected, self.ordinal = expected, ordinal


def read_lines(job: dict[str, Any]) -> Iterator[Line]:
    """Yield the beats of the job's file; ``ordinal`` counts the compared ones."""
    inputs = [(start, stop) for *_, start, stop in job["inputs"]]
    outputs = [(start, stop) for *_, start, stop in job["outputs"]]
    ordinal = 0
    with Path(job["stimulus"]).open(encoding="ascii") as file:
        for text in file:
            marks = int(text[0], 16)
            values = [int(text[start:stop], 16) for start, stop in inputs]
            expected = None
            if marks & COMPARE:
                expected = [int(text[start:stop], 16) for start, stop in outputs]
            yield Line(marks, values, expected, ordinal)
            ordinal += expected is not None


async def _combinational(
    dut: Any, job: dict[str, Any], board: Scoreboard, result: dict[str, Any]
) -> None:
    ports = [port for port, *_ in job["inputs"]]
    driver = Driver(dut, ports)
    monitor = Monitor(dut, [port for port, *_ in job["outputs"]], latency=0)
    settle = Timer(1, unit="ns")
    for line in read_lines(job):
        driver.offer(line.values)
        driver.present()
        driver.settle()
        await settle
        board.expect(line.expected, line.ordinal)
        board.check(monitor.sample())
        if board.compared % PROGRESS_EVERY == 0:
            _replace(Path(job["progress"]), str(board.compared))
    result["clocks"] = driver.taken


class _Bench:
    """A clocked design, its agents, and the lines that are left."""

    def __init__(self, dut: Any, job: dict[str, Any], board: Scoreboard) -> None:
        self.dut, self.job, self.board = dut, job, board
        self.clock = getattr(dut, job["clock"])
        self.driver = Driver(
            dut, [port for port, *_ in job["inputs"]], valid=job["in_valid"],
            ready=job["in_ready"], stall=job["stall"], seed=job["seed"], quiet=job["quiet"],
        )  # fmt: skip
        self.monitor = Monitor(
            dut, [port for port, *_ in job["outputs"]], valid=job["out_valid"],
            ready=job["out_ready"], latency=job["latency"], stall=job["stall"],
            seed=job["seed"] + 1, scoreboard=board,
        )  # fmt: skip
        self.random = random.Random(job["seed"] + 2)
        # Nothing settles where inputs cannot change what is read: one look per clock does.
        self.looks_once = not job["in_ready"] and not job["out_valid"] and job["latency"] > 0
        self.lines = read_lines(job)
        self.next = next(self.lines, None)
        self.decided = self.cut = False  # whether a reset will cut the next line off
        self.results = self.clocks = self.resets = 0
        self.quiet = 0  # clocks without any progress

    async def run(self) -> None:
        """Run every line, then look whether more comes than was asked for."""
        job, driver, monitor, board = self.job, self.driver, self.monitor, self.board
        driver.offer([job["quiet"].get(port, 0) for port in driver.ports])
        driver.present()
        driver.drop()
        driver.quiet()
        monitor.ready.set(True)
        Clock(self.clock, 10, unit="ns").start(start_high=False)
        falling, settled = FallingEdge(self.clock), ReadOnly()
        if job["reset"]:
            await self._reset()
        else:
            await falling
        if job["turns"]:
            await self._every_clock(job["turns"])
            return
        tail = TAIL
        while tail:
            if driver.idle and self.next is not None:
                await self._feed()
            monitor.present()
            if self.looks_once:
                monitor.settle()
            driver.present()
            if not self.looks_once:
                await settled
            beat = driver.settle()
            if beat is not None:
                self._taken(beat[1])
            if not self.looks_once:
                monitor.settle()
            self.clocks += 1
            self.quiet += 1
            if monitor.results != self.results:
                self._progress()
            if not self.looks_once or self.quiet > job["patience"]:
                self._watch()
            if self.next is None and driver.idle and not board.owed:
                tail -= 1
            await falling
        self._watch()

    async def _every_clock(self, turns: int) -> None:
        """Run designs that take a beat and answer on every clock: many beats in one call.

        The module around the design gives it one a clock and gathers the answers.
        """
        dut, board = self.dut, self.board
        ((*_, start, stop),) = self.job["inputs"]
        last, told = FallingEdge(dut.fpsim_last), 0
        with Path(self.job["stimulus"]).open(encoding="ascii") as file:
            while lines := list(islice(file, turns)):
                beats = [line[start:stop] for line in lines]
                beats += beats[-1:] * (turns - len(beats))
                dut.fpsim_beat.value = int("".join(reversed(beats)), 16)
                dut.fpsim_go.value = 1
                try:
                    await last
                except BaseException:  # the design ends the simulation: what it answered counts
                    self._judge(lines[: int(dut.fpsim_turn.value)])
                    raise
                self._judge(lines)
                if board.compared - told >= PROGRESS_EVERY:
                    told = board.compared
                    _replace(Path(self.job["progress"]), str(told))

    def _judge(self, lines: list[str]) -> None:
        """Compare answers with the lines that they are of: all at once, or each if that differs."""
        board, outputs = self.board, self.job["outputs"]
        start, stop = outputs[0][-2], outputs[-1][-1]
        width = 4 * (stop - start)
        seen = str(self.dut.fpsim_seen.value)[-width * len(lines) :]
        self.clocks += len(lines)
        if all(int(line[0], 16) & COMPARE for line in lines):
            wanted = "".join(line[start:stop] for line in reversed(lines))
            if set(seen) <= {"0", "1"} and int(seen, 2) == int(wanted, 16):
                board.compared += len(lines)
                self.results += len(lines)
                return
        for i, line in enumerate(lines):
            if int(line[0], 16) & COMPARE:
                end = len(seen) - width * i  # of the line's last digit
                places = [(end - 4 * (stop - to), bits) for _, bits, *_, to in outputs]
                bits = [seen[to - bits : to] for to, bits in places]
                board.judge([int(line[at:to], 16) for *_, at, to in outputs], bits, self.results)
                self.results += 1

    async def _feed(self) -> None:
        """Give the driver the next beat, or reset the design, wait or pause where that is due."""
        while self.next is not None:
            line = self.next
            asked = line.marks == RESET
            if not self.decided:
                self.decided = True
                starts = bool(line.marks & FREE) and line.marks != PAUSE
                self.cut = starts and self.random.random() < self.job["resets"]
            if (asked or self.cut or line.marks == WAIT) and self.board.waiting:
                return
            if asked or self.cut:
                if self.cut:
                    await self._cut_off(line)
                await self._reset()
                self.resets += 1
                self.cut = False
            beat = not line.marks & RESET
            if beat:
                self.driver.offer(line.values, line)
            self.next = next(self.lines, None)
            self.decided = False
            if line.marks == PAUSE:
                self.quiet = 0
            if beat or line.marks == PAUSE:
                return

    async def _cut_off(self, line: Line) -> None:
        """Begin a vector that a reset will cut off, without looking at its answers."""
        falling = FallingEdge(self.clock)
        for _ in range(self.random.randrange(1, CUT_CLOCKS + 1)):
            self.driver.offer(line.values)
            self.driver.present()
            await falling
        self.driver.drop()

    async def _reset(self) -> None:
        reset = self.job["reset"]
        self.driver.quiet()
        await apply_reset(
            getattr(self.dut, reset["port"]), self.clock, active_low=reset["active_low"],
            synchronous=reset["synchronous"], clocks=reset["clocks"],
        )  # fmt: skip
        self.monitor.forget()

    def _taken(self, line: Line) -> None:
        self.quiet = 0
        if line.marks & ANSWER:
            self.board.expect(line.expected, line.ordinal)
            self.monitor.due()

    def _progress(self) -> None:
        self.results, self.quiet = self.monitor.results, 0
        if self.results % PROGRESS_EVERY == 0:
            _replace(Path(self.job["progress"]), str(self.board.compared))

    def _watch(self) -> None:
        """Give up on an unknown handshake, an unexpected result, or a silence that is too long."""
        for flag in (self.driver.ready, self.monitor.valid):
            if flag.unknown:
                raise Stuck(f"handshake: {flag} in clock {self.clocks}; {self._state()}")
        if self.board.unexpected is not None:
            raise Stuck(f"{self.board.unexpected} in clock {self.clocks}; {self._state()}")
        if self.quiet > self.job["patience"]:
            raise Stuck(f"no answer for {self.job['patience']} clocks; {self._state()}")

    def _state(self) -> str:
        driver, monitor = self.driver, self.monitor
        flags = (driver.valid, driver.ready, monitor.valid, monitor.ready)
        shown = ", ".join(str(flag) for flag in flags if flag.handle is not None)
        return (
            f"last seen {shown or 'no handshake'}; {driver.taken} beats taken, "
            f"{monitor.results} results, {self.board.waiting} under way"
        )


def _replace(path: Path, text: str) -> None:
    """Write a file that readers see whole or not at all."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
