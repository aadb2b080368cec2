# SPDX-License-Identifier: Apache-2.0
"""Vectors told to a closed design, clock by clock, and where its registers may begin.

A proof of one step begins with registers that hold anything. Registers that a reset sets, and that
every operation leaves as the reset left them, keep those values instead: an invariant that is
proved here by induction over vectors (after C. Flanagan, K. R. M. Leino: Houdini, FME 2001).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from fpsim.hdl.prove.closed import ClosedDesign
from fpsim.hdl.prove.netlist import State
from fpsim.hdl.prove.words import Algebra, Word

__all__ = ["Deadline", "Stepper", "Told"]

#: Clocks in which a design answers a vector, besides one for each of its beats.
PATIENCE = 64
#: Seconds for a question about control alone.
CONTROL_SECONDS = 20.0


class Deadline:
    """A moment until which work may go on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until it."""
        return max(0.0, self._end - time.monotonic())


@dataclass(frozen=True)
class Told:
    """A vector that was told."""

    codes: Mapping[str, Word]  #: inputs of the closed design
    outputs: Mapping[str, Word]  #: after its result
    after: State  #: registers where the next vector may begin
    watched: Mapping[str, Word]  #: nets inside, in the clock of its last beat
    done: Word  #: one bit: whether a result came


@dataclass
class Stepper:
    """Tells vectors to a closed design."""

    closed: ClosedDesign
    algebra: Algebra
    deadline: Deadline
    fixed: dict[int, Word] = field(default_factory=dict)  #: registers that an invariant fixes
    invariant: bool = False  #: whether they were proved to stay so

    def codes(self, given: Mapping[str, Word]) -> dict[str, Word]:
        """Return inputs for the codes of a vector; inputs that are not given can be anything."""
        return {
            name: given[name] if name in given else self.algebra.free(bits, name)
            for name, (_, bits) in self.closed.fields.items()
        }

    def begin(self) -> dict[int, Word]:
        """Return registers as any sequence of vectors may leave them, or more."""
        return self.closed.netlist.free_state(self.algebra) | self.fixed

    def tell(
        self,
        state: State,
        way: str,
        codes: Mapping[str, Word],
        before: Word | None = None,
        after: Word | None = None,
    ) -> Told:
        """Tell one vector and wait for its result.

        Args:
            state: the registers before.
            way: the operation.
            codes: inputs of the closed design; see `codes`.
            before: the code that counts as right for the accumulator before; None: any.
            after: the code that counts as right for the result; None: any.

        Returns:
            The outputs and the registers after it.
        """
        closed, algebra = self.closed, self.algebra
        width = closed.plan.widths["acc"]
        entries = closed.entries[way]
        latency = closed.latency
        waits = latency is None or closed.dut.input.ready is not None
        clocks = entries + (latency or 0)
        most = clocks + PATIENCE + 4 * entries if waits else clocks
        inputs = dict(codes) | {
            "fp_clock": Word(1, 0),
            "fp_op": Word(8, closed.ways.index(way)),
            "fp_reset": Word(1, 0),
            "fp_before": before or algebra.free(width, "before"),
            "fp_after": after or algebra.free(width, "after"),
        }
        boundary: State = state
        watched: Mapping[str, Word] = {}
        outputs: dict[str, Word] = {}
        for clock in range(most + 1):
            given = inputs | {"fp_start": Word(1, int(clock == 0))} | self._loose()
            outputs, following = closed.netlist.step(algebra, state, given)
            if clock == entries - 1:
                watched = {name: outputs[name] for name in closed.watched}
            if clock == entries:
                boundary = state
            if clock >= clocks and self._answered(outputs["fp_done"], waits):
                break
            state = following
        if waits:
            boundary = state
        return Told(codes, outputs, self._own(boundary), watched, outputs["fp_done"])

    def _loose(self) -> dict[str, Word]:
        return {name: self.algebra.free(bits, name) for name, bits in self.closed.loose.items()}

    def _answered(self, done: Word, waits: bool) -> bool:
        """Return whether a result is surely there."""
        if done.known or not waits:
            return bool(done.value) or not waits
        never = self.algebra.solve([self.algebra.opposite(done)], self._control())
        return never.holds is False

    def _control(self) -> float:
        return min(CONTROL_SECONDS, self.deadline.left)

    def _own(self, state: State) -> dict[int, Word]:
        return {n: w for n, w in state.items() if n in self.closed.netlist.registers}

    def quiet(self, state: State) -> dict[int, Word]:
        """Return the registers after a clock without a beat."""
        return self._own(self._stepped(state, held=False))

    def _stepped(self, state: State, held: bool) -> dict[int, Word]:
        closed, algebra = self.closed, self.algebra
        width = closed.plan.widths["acc"]
        inputs = self.codes({}) | self._loose() | {
            "fp_clock": Word(1, 0), "fp_op": Word(8, len(closed.ways)),
            "fp_reset": Word(1, int(held)), "fp_start": Word(1, 1),
            "fp_before": Word(width, 0), "fp_after": Word(width, 0),
        }  # fmt: skip
        return closed.netlist.step(algebra, state, inputs)[1]

    # -- where registers begin ------------------------------------------------------------------

    def after_reset(self) -> dict[int, Word]:
        """Return the registers after a reset; registers that it does not set hold anything."""
        state = self.closed.netlist.free_state(self.algebra)
        reset = self.closed.dut.reset
        for _ in range(reset.clocks if reset else 0):
            state = self._stepped(state, held=True)
        return self._own(state)

    def find_invariant(self) -> None:
        """Fix the registers that every operation, and an idle clock, leave as a reset does."""
        reset = self.after_reset()
        fixed = {n: word for n, word in reset.items() if word.known}
        ways = [way for way in self.closed.ways if "+" not in way]
        while fixed:
            self.fixed = fixed
            left = dict(fixed)
            reached = [self.tell(self.begin(), way, self.codes({})).after for way in ways]
            if self.closed.dut.input.valid is not None:
                reached.append(self.quiet(self.begin()))
            for state in reached:
                left = {n: w for n, w in left.items() if self._stays(state[n], w)}
            if left == fixed:
                break
            fixed = left
        self.fixed, self.invariant = fixed, bool(fixed)

    def _stays(self, found: Word, wanted: Word) -> bool:
        same = self.algebra.same(found, wanted)
        if same.known:
            return bool(same.value)
        seconds = self._control()
        return self.algebra.solve([self.algebra.opposite(same)], seconds).holds is False
