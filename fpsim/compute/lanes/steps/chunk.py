# SPDX-License-Identifier: Apache-2.0
"""Chunks: sums from +0 by one step, added by an outer step inside one loop over K."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsim.compute.bounds import Bounds
from fpsim.compute.lanes.steps.step import Numbers, Step
from fpsim.compute.lanes.steps.window import power_of
from fpsim.formats.floating import FixedFormat
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.tiles import Folding
from fpsim.kernels.llvm.vector import Lane, Vec

__all__ = ["ChunkStep", "chunk_steps"]

#: Most chunk results kept beside the loop for an outer step.
MAX_RESULTS = 64
Steps = Callable[[Any, Bounds, Machine], Iterator[Step]]


def chunk_steps(
    inner: Any, outer: Any, size: int, inside: Bounds, whole: Bounds, machine: Machine, steps: Steps
) -> Iterator[tuple[ChunkStep, str]]:
    """Yield exact steps for a sum of chunks, with their reasons.

    Args:
        inner: the stage that sums a chunk from +0.
        outer: the stage that adds the results of chunks.
        size: terms of a chunk.
        inside: bounds of the terms of a chunk.
        whole: bounds of the chunk results.
        machine: the processor.
        steps: yields the candidates for a stage, bounds and machine.

    Yields:
        A step and its reason: each inner step that takes no random integers, with the first outer
        step whose lemma holds.
    """
    for first in steps(inner, inside, machine):
        if first.random or first.direction or not first.finishes_for(inside):
            continue
        why = first.exact_for(inside, machine)
        if why is None:
            continue
        for second in steps(outer, whole, machine):
            # Vectors of another width than a register's have no instructions with rounding modes.
            same = second.lane is first.lane
            there = machine if same else machine.without("avx512f")
            if second.random or second.direction or second.lane is Lane.F16:
                continue
            if second.terms > MAX_RESULTS:
                continue
            reason = second.exact_for(whole, there)
            if reason is not None:
                text = f"chunks of {size}: {first.name} ({why}); promoted: {second.name} ({reason})"
                yield ChunkStep(outer, second.lane, first, second, size), text
                break


@dataclass(frozen=True)
class ChunkStep(Step):
    """Chunks of ``size`` terms by one step, their results added by another."""

    inner: Step
    outer: Step
    size: int

    @property
    def levels(self) -> tuple[Step, ...]:
        """The step inside chunks, and the step that adds their results."""
        return self.inner, self.outer

    @property
    def chunk(self) -> int:
        """Terms of a chunk."""
        return self.size

    @property
    def powers(self) -> bool:
        """Whether the inner step reads the terms' powers of two."""
        return self.inner.powers

    @property
    def key(self) -> tuple[Any, ...]:
        """Keys of both steps, the chunk's final conversion, and the exponents of its results."""
        exponents = self._result_exponent() if self.outer.powers else ()
        inner = (self.inner.key, self.inner.finish_key)
        return ("chunk", self.size, inner, self.outer.key, exponents)

    @property
    def name(self) -> str:
        """The name that plans print."""
        return f"chunk{self.size} {self.inner.name} into {self.outer.name}"

    def parameters(self) -> Numbers:
        """Return no numbers: each step of `levels` has its own."""
        return {}, {}

    def _result_exponent(self) -> tuple[bool, int]:
        """Return whether all nonzero results have one exponent, and that (or the least) one."""
        fmt = self.inner.stage.result
        if isinstance(fmt, FixedFormat):
            largest = max(fmt.max_integer, -fmt.min_integer)
            return True, largest.bit_length() - 1 + fmt.lsb
        return False, fmt.exponent_min

    def promote(
        self, acc: Vec, results: Callable[[int], Vec], inner: Parameters, outer: Parameters
    ) -> Vec | Folding:
        """Write the outer step over the final accumulators of chunks.

        Args:
            acc: accumulators of the outer step, one in each lane.
            results: returns the inner step's last accumulators of chunk i.
            inner: run-time numbers of the inner step, which convert its accumulators to results.
            outer: run-time numbers of the outer step.

        Returns:
            The accumulators of the outer step after these chunks, as `Step.build` returns them.
        """
        source = _Results(self, acc, results, inner)
        return self.outer.build(acc, source, outer, None)


@dataclass(frozen=True)
class _Results:
    """Results of chunks as terms; see `fpsim.kernels.llvm.tiles.TermSource`."""

    step: ChunkStep
    acc: Vec
    results: Callable[[int], Vec]
    parameters: Parameters

    def pair(self, i: int) -> tuple[Vec, Vec]:
        """Return the result of a chunk and one."""
        value = self.step.inner.finish(self.results(i), self.parameters)
        return value.as_lanes(self.acc.lanes), self.acc.lanes.constant(1.0, False)

    def power(self, i: int) -> Vec:
        """Return 2^e of a result; 0 if it does not count."""
        value, zero = self.pair(i)[0], self.acc.lanes.constant(0.0, False)
        fixed, exponent = self.step._result_exponent()
        power = self.acc.lanes.constant(float(np.ldexp(1.0, exponent)), False)
        if fixed:
            return value.equals(0.0).where(zero, power)
        return power_of(value, Parameters({"smallest_normal": power}, {}))
