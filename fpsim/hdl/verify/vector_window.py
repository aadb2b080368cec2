# SPDX-License-Identifier: Apache-2.0
"""A few vectors of a source in memory: fetched, changed, recomputed, and written as a directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.vectors.files.writer import write
from fpsim.vectors.operations.operation_plan import OperationPlan
from fpsim.vectors.sets.record import Columns, Op
from fpsim.vectors.sets.vector_set import Section, VectorSet

__all__ = ["REPRODUCER", "VectorRun", "fetch", "starts_afresh"]

#: Strategy of vectors that were shrunk from a failure.
REPRODUCER = "reproducer"


@dataclass(frozen=True)
class VectorRun:
    """Vectors that start from an operation that clears, loads or takes an addend.

    ``columns`` are as in the source; ``indices`` are the numbers of its vectors.
    """

    like: VectorSource
    columns: Columns
    indices: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.indices.size)

    def take(self, rows: Sequence[int] | NDArray[Any] | slice) -> VectorRun:
        """Return some of the vectors, with the results that the unit then gives."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, columns=columns, indices=self.indices[rows]).computed()

    def changed(self, columns: Columns) -> VectorRun:
        """Return the vectors with other columns, and the results that the unit then gives."""
        return replace(self, columns=self.columns | columns).computed()

    def computed(self) -> VectorRun:
        """Return the vectors with the results that the unit gives from the start."""
        operation = self.like.operation
        if operation is not None:
            inputs = {name: self.columns[name] for name in operation.inputs}
            return replace(self, columns=self.columns | operation.results(inputs))
        acc = self.like.record.expected(self.columns)
        return replace(self, columns=self.columns | {"acc": acc})

    def source(self, strategy: str = REPRODUCER) -> VectorSource:
        """Return the vectors as a source of their own."""
        sections = (Section(strategy, 0, self.count),)

        def blocks() -> Iterator[tuple[int, Columns]]:
            yield 0, self.columns

        return replace(
            self.like, count=self.count, strategy=strategy, sections=sections, blocks=blocks,
            head_lines=None,
        )  # fmt: skip

    def write(self, directory: Path) -> Path:
        """Write a vector directory that `fpsim verify --vectors` takes, and return it."""
        operation = self.like.operation
        if operation is not None:
            inputs = {name: self.columns[name] for name in operation.inputs}
            alone = OperationPlan(operation, REPRODUCER, self.like.seed, ((REPRODUCER, inputs),))
            return write(alone, directory, ("readmemh",))
        made = VectorSet(
            self.like.record, self.columns, (Section(REPRODUCER, 0, self.count),),
            REPRODUCER, self.like.seed, self.like.start,
        )  # fmt: skip
        return write(made, directory, ("readmemh",))

    @staticmethod
    def joined(runs: Sequence[VectorRun]) -> VectorRun:
        """Return runs one after the other."""
        names = runs[0].columns
        columns = {n: np.concatenate([run.columns[n] for run in runs]) for n in names}
        return VectorRun(runs[0].like, columns, np.concatenate([run.indices for run in runs]))


def fetch(source: VectorSource, indices: Iterable[int]) -> VectorRun:
    """Return vectors of a source by index, in rising order, with the results that it states."""
    wanted = np.unique(np.fromiter(indices, dtype=np.int64))
    parts: list[Columns] = []
    for start, columns in source.blocks():
        stop = start + columns["op"].size
        rows = wanted[(wanted >= start) & (wanted < stop)] - start
        if rows.size:
            parts.append({name: column[rows] for name, column in columns.items()})
        if not wanted.size or wanted[-1] < stop:
            break
    columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return VectorRun(source, columns, wanted)


def starts_afresh(op: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which operations do not depend on the accumulator before them."""
    return np.asarray((op != Op.MAC) & (op != Op.IDLE))
