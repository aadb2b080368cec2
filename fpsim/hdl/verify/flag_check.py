# SPDX-License-Identifier: Apache-2.0
"""Status flags of a design, compared with the exact model on some of the vectors that it was told.

The exact model takes a few milliseconds for each vector, so the results of all vectors are compared
first, without flags, and then some vectors of every section again with flags.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.hdl.bench.replay import Simulation, run_source
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.dut.domain import Comparison
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.hdl.verify.vector_window import starts_afresh
from fpsim.vectors.sets.record import Columns, Op
from fpsim.vectors.sets.status_flags import FLAG_CODES
from fpsim.vectors.sets.vector_set import Section

__all__ = ["FlagReport", "check_flags"]

#: Vectors whose flags are compared, of a block at least, and mismatches that a report shows.
MOST, LEAST, SHOWN = 1 << 11, 16, 5


@dataclass(frozen=True)
class FlagReport:
    """The outcome of a comparison of flags."""

    names: tuple[str, ...]  #: flags that have a wire
    compared: int
    mismatch_count: int
    mismatches: tuple[tuple[int, str, str], ...]  #: vector, flags expected, flags seen
    error: str = ""  #: why the run ended early

    @property
    def passed(self) -> bool:
        """Whether flags were compared, and all were right."""
        return self.compared > 0 and not self.mismatch_count and not self.error

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        keys = ("vector", "expected", "seen")
        rows = [dict(zip(keys, row, strict=True)) for row in self.mismatches]
        return {
            "names": list(self.names),
            "compared": self.compared,
            "mismatches": self.mismatch_count,
            "first": rows,
            "error": self.error or None,
        }

    def __str__(self) -> str:
        verdict = f"{self.mismatch_count} differ" if self.mismatch_count else "all match"
        lines = [f"flags ({', '.join(self.names)}): {self.compared} results compared, {verdict}"]
        lines += [f"the run ended early: {self.error}"] if self.error else []
        lines += [f"  vector {i}: expected {due}, seen {seen}" for i, due, seen in self.mismatches]
        return "\n".join(lines)


def check_flags(simulation: Simulation, source: VectorSource) -> FlagReport:
    """Run some vectors through a design again and compare its flags.

    Args:
        simulation: the design; its outputs have wires of flags.
        source: vectors that were told without flags.

    Returns:
        The outcome.

    Raises:
        SimulationFailed: the design does not compile, or the simulation crashed, hung or stuck.
    """
    flagged, indices = _with_flags(source)
    dut = simulation.dut
    writer = Serialiser(dut, source.spec, source.k, source.group, flags=True)
    simulation.dut = replace(dut, comparison=Comparison())  # equal results can have other flags
    try:
        result = run_source(simulation, flagged, writer)
    finally:
        simulation.dut = dut
    names = tuple(dut.output.flags)
    mask = sum(FLAG_CODES[name] for name in names)
    rows = []
    for wrong in result.kept:
        due, seen = wrong.fields["flags"] & mask, writer.seen_flags(wrong.wires)
        if due != seen:
            rows.append((int(indices[wrong.index]), _said(due, names), _said(seen, names)))
    return FlagReport(names, result.compared, len(rows), tuple(rows[:SHOWN]), result.error)


def _said(flags: int | None, names: tuple[str, ...]) -> str:
    if flags is None:
        return "unknown bits"
    return ", ".join(name for name in names if flags & FLAG_CODES[name]) or "none"


def _with_flags(source: VectorSource) -> tuple[VectorSource, NDArray[np.int64]]:
    """Return some vectors with their flags, and which of the source's they are."""
    record = replace(source.record, flags=True)
    parts: list[Columns] = []
    indices: list[NDArray[np.int64]] = []
    for start, columns in source.blocks():
        rows = _chosen(columns["op"], source.count)
        if rows.size:
            part = {name: column[rows] for name, column in columns.items()}
            parts.append(part | record.results(part))
            indices.append(rows + start)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = np.concatenate(indices)

    def blocks() -> Iterator[tuple[int, Columns]]:
        yield 0, whole

    sections = (Section("flags", 0, found.size),)
    flagged = replace(source, record=record, count=int(found.size), sections=sections,
                      blocks=blocks, head_lines=None)  # fmt: skip
    return flagged, found


def _chosen(op: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return rows of a block: some that stand alone, or a sum from its beginning on."""
    quota = max(LEAST, MOST * op.size // count)
    if (op == Op.DOT).all():
        random = np.random.default_rng(op.size)
        return np.sort(random.permutation(op.size)[:quota])
    starts = np.flatnonzero(starts_afresh(op))
    return np.arange(starts[0], min(op.size, starts[0] + quota)) if starts.size else starts
