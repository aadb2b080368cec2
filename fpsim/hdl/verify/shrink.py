# SPDX-License-Identifier: Apache-2.0
"""A minimal reproducer: fewer vectors, then fewer operands, each step simulated to still fail.

Every trial starts from an operation that does not depend on earlier ones, so that one simulation
runs many trials, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.replay import Simulation, SimulationFailed, run_source
from fpsim.hdl.bench.stimulus import BeatWriter, selected
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.hdl.verify.vector_window import VectorRun, fetch, starts_afresh
from fpsim.vectors import Op
from fpsim.vectors.sets.palette import Palette

__all__ = ["Reproducer", "shrink"]

#: Simulations at most, and vectors in one.
MAX_ROUNDS, MAX_VECTORS = 24, 1 << 15
#: Vectors kept before the failing one where it does not fail alone.
MAX_PREFIX = 4096


@dataclass(frozen=True)
class Reproducer:
    """Vectors that fail by themselves, in the order to apply them."""

    run: VectorRun
    rounds: int  #: simulations that it took
    alone: bool  #: False: it did not fail again; the vectors up to the first mismatch, unchanged

    def __str__(self) -> str:
        if not self.alone:
            return f"{self.run.count} vectors up to the first mismatch; fewer did not fail again"
        plural = "s" * (self.run.count > 1)
        return f"{self.run.count} vector{plural}, simulated to fail ({self.rounds} simulations)"


class _Trials:
    """Runs candidates and says which still fail."""

    def __init__(self, simulation: Simulation, writer: BeatWriter) -> None:
        self.simulation, self.writer = simulation, writer
        self.rounds = 0

    def failing(self, candidates: Iterable[VectorRun]) -> list[tuple[int, VectorRun]]:
        """Return the places of candidates that fail, and each up to its first wrong vector.

        Those that no simulation has room for are not made.
        """
        chosen: list[tuple[int, VectorRun]] = []
        total = 0
        for place, run in enumerate(candidates if self.rounds < MAX_ROUNDS else ()):
            if total + run.count > MAX_VECTORS:
                break
            applied, _ = self.writer.select(run.columns, False)
            if applied.all():
                chosen.append((place, run))
                total += run.count
        if not chosen:
            return []
        self.rounds += 1
        joined = VectorRun.joined([run for _, run in chosen])
        try:
            result = run_source(self.simulation, joined.source(), self.writer)
        except (SimulationFailed, FpsimError):
            return []
        wrong = np.array([m.index for m in result.kept], dtype=np.int64)
        failed, start = [], 0
        for place, run in chosen:
            inside = wrong[(wrong >= start) & (wrong < start + run.count)] - start
            if inside.size:
                failed.append((place, run.take(slice(0, int(inside[0]) + 1))))
            start += run.count
        return failed


def shrink(
    simulation: Simulation, source: VectorSource, writer: BeatWriter, index: int
) -> Reproducer:
    """Find a short sequence of vectors that fails like a given vector.

    Args:
        simulation: the design.
        source: the vectors.
        writer: writes their beats.
        index: number of a vector of the source whose result was wrong.

    Returns:
        The sequence; if the vector does not fail again, the vectors up to it, unchanged.
    """
    trials = _Trials(simulation, writer)
    prefix = _prefix(source, writer, index)
    run = _shortest(trials, prefix)
    if run is None:
        return Reproducer(prefix, trials.rounds, alone=False)
    run = _reduced(trials, run, list(range(1, run.count)), _without_rows)
    run = _reduced(trials, run, list(_operands(run)), _simplified)
    return Reproducer(run, trials.rounds, alone=True)


def _prefix(source: VectorSource, writer: BeatWriter, index: int) -> VectorRun:
    """Return the vectors that were applied up to ``index``, the last `MAX_PREFIX` of them."""
    applied: list[int] = []
    for indices, _ in selected(source, writer):
        applied += indices[indices <= index].tolist()
        if indices.size and indices[-1] >= index:
            break
    run = fetch(source, applied[-MAX_PREFIX:])
    starts = np.flatnonzero(starts_afresh(run.columns["op"]))
    return run if not starts.size else run.take(slice(int(starts[0]), None))


def _shortest(trials: _Trials, prefix: VectorRun) -> VectorRun | None:
    """Return the shortest end of ``prefix`` that fails by itself."""
    starts = np.flatnonzero(starts_afresh(prefix.columns["op"]))[::-1]
    candidates = list(_single(prefix))
    step = 1
    while step <= starts.size:
        candidates.append(prefix.take(slice(int(starts[step - 1]), None)))
        step *= 2
    failing = trials.failing(sorted(candidates, key=lambda run: run.count))
    return min((run for _, run in failing), key=lambda run: run.count, default=None)


def _single(prefix: VectorRun) -> Iterator[VectorRun]:
    """Yield the last vector with its accumulator loaded, or given as the addend."""
    last = {name: column[-1:].copy() for name, column in prefix.columns.items()}
    if last["op"][0] != Op.MAC or prefix.count < 2:
        return
    before = prefix.columns["acc"][-2:-1].astype(last["c"].dtype)
    indices = prefix.indices[-1:]
    if prefix.like.start == "dot":
        dot = last | {"op": np.full_like(last["op"], Op.DOT), "c": before}
        yield VectorRun(prefix.like, dot, indices).computed()
    load = {n: np.zeros_like(column) for n, column in last.items()}
    load |= {"op": np.full_like(last["op"], Op.LOAD), "c": before}
    pair = {n: np.concatenate([load[n], last[n]]) for n in last}
    yield VectorRun(prefix.like, pair, np.repeat(indices, 2)).computed()


Change = Callable[[VectorRun, Sequence[Any]], VectorRun]


def _reduced(trials: _Trials, run: VectorRun, parts: list[Any], change: Change) -> VectorRun:
    """Return the run without as many ``parts`` as can go while it still fails (delta debugging)."""
    size = len(parts)
    while parts and size:
        chunks = [parts[i : i + size] for i in range(0, len(parts), size)]
        failing = trials.failing(change(run, chunk) for chunk in chunks)
        if not failing:
            size //= 2
            continue
        gone = [chunks[place] for place, _ in failing]
        together = [part for chunk in gone for part in chunk]
        both = trials.failing([change(run, together)]) if len(gone) > 1 else []
        run, removed = (both[0][1], together) if both else (failing[0][1], gone[0])
        without = set(removed)
        left = [part for part in parts if part not in without]
        if change is _simplified:
            parts = [part for part in left if part[1] < run.count]  # others went with their rows
        else:
            parts = list(range(1, run.count))
        size = min(size, len(parts))
    return run


def _without_rows(run: VectorRun, rows: Sequence[int]) -> VectorRun:
    return run.take(np.setdiff1d(np.arange(run.count), rows))


def _operands(run: VectorRun) -> Iterator[tuple[str, int, int]]:
    """Yield (field, vector, lane) of every code that is not neutral already."""
    neutral = _neutral(run)
    for name, value in neutral.items():
        codes = run.columns[name].reshape(run.count, -1)
        for row, lane in np.argwhere(codes != value).tolist():
            yield name, row, lane


def _neutral(run: VectorRun) -> dict[str, int]:
    """Return the neutral code of each field: zero operands, scales of one."""
    source = run.like
    if source.operation is not None:
        return source.operation.neutral
    palette = Palette(source.record)
    codes = {"a": palette.zero("a"), "b": palette.zero("b"), "c": 0}
    for operand in "ab":
        if source.group:
            codes[f"{operand}_scale"] = palette.one(operand)
    return codes


def _simplified(run: VectorRun, parts: Sequence[tuple[str, int, int]]) -> VectorRun:
    neutral = _neutral(run)
    columns = {name: run.columns[name].copy() for name in {name for name, _, _ in parts}}
    for name, row, lane in parts:
        if columns[name].ndim == 1:
            columns[name][row] = neutral[name]
        else:
            columns[name][row, lane] = neutral[name]
    return run.changed(columns)
