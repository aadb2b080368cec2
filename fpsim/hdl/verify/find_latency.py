# SPDX-License-Identifier: Apache-2.0
"""The latency of a design, found by trying: the least one with which its results are right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.replay import Simulation, SimulationFailed, run_source
from fpsim.hdl.bench.stimulus import BeatWriter, selected
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.vectors.sets.record import Columns
from fpsim.vectors.sets.vector_set import Section

__all__ = ["MOST_LATENCY", "found_latency"]

#: Latencies that are tried, and vectors on each.
MOST_LATENCY, VECTORS = 64, 192
#: Share of results that must be right with the best latency, and how much more than the next.
LEAST_RIGHT = 0.5


def found_latency(simulation: Simulation, source: VectorSource, writer: BeatWriter) -> int:
    """Return the latency with which most of some vectors are right.

    Args:
        simulation: the design; its latency is left as the last one tried.
        source: vectors, of which the first few distinct results are taken.
        writer: writes their beats.

    Returns:
        Clock edges: the first latency with which all results are right, else the best.

    Raises:
        FpsimError: no latency with which at least half of the results are right.
    """
    few = _first(source, writer)
    shares: dict[int, float] = {}
    for latency in range(MOST_LATENCY + 1):
        simulation.dut = simulation.dut.with_latency(latency)
        try:
            result = run_source(simulation, few, writer)
        except SimulationFailed as failed:
            if str(failed).startswith("build"):
                raise
            continue
        if not result.compared:
            continue
        shares[latency] = 1 - result.mismatch_count / result.compared
        if shares[latency] == 1:
            return latency
    best = max(shares, key=lambda latency: shares[latency], default=0)
    if shares.get(best, 0.0) < LEAST_RIGHT:
        raise FpsimError(
            f"output.latency: none of 0..{MOST_LATENCY} gives results that are mostly right "
            f"(best {best}, {shares.get(best, 0.0):.0%}); say which it is"
        )
    return best


def _first(source: VectorSource, writer: BeatWriter) -> VectorSource:
    """Return vectors that can be told, chosen so that neighbours have different results."""
    parts: list[Columns] = []
    left = VECTORS
    for _, columns in selected(source, writer):
        if columns["op"].size:
            parts.append({name: column[:left] for name, column in columns.items()})
            left -= parts[-1]["op"].size
        if not left:
            break
    whole = {n: np.concatenate([part[n] for part in parts]) for n in parts[0]} if parts else {}
    count = int(whole["op"].size) if whole else 0

    def blocks() -> Iterator[tuple[int, Columns]]:
        if whole:
            yield 0, whole

    sections = (Section("first", 0, count),)
    return replace(source, count=count, sections=sections, blocks=blocks, head_lines=None)
