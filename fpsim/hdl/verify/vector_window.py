# SPDX-License-Identifier: Apache-2.0
"""A few vectors of a source in memory: fetched, changed, recomputed, and written as a directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import vectors
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.vectors import Op, Section, VectorSet
from fpsim.vectors.files.writer import write_dots
from fpsim.vectors.sets.plans import Stored
from fpsim.vectors.sets.record import Columns, Shape
from fpsim.vectors.sets.stream import expected, signed_exponents

__all__ = ["VectorRun", "dot_form", "fetch"]

#: Sum of the exponents of an E8M0 pair that means 1.
_E8M0_ONE = 127


@dataclass(frozen=True)
class VectorRun:
    """Vectors that start from an operation that clears, loads or takes an addend.

    ``columns`` are as in the source; ``indices`` say which of its vectors they were.
    """

    like: VectorSource
    columns: Columns
    indices: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.indices.size)

    def take(self, rows: Sequence[int] | NDArray[Any] | slice) -> VectorRun:
        """Return some of the vectors, with what the unit then gives."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return VectorRun(self.like, columns, self.indices[rows]).computed()

    def changed(self, columns: Columns) -> VectorRun:
        """Return the vectors with other columns, and what the unit then gives."""
        return replace(self, columns=self.columns | columns).computed()

    def computed(self) -> VectorRun:
        """Return the vectors with the results that the unit gives from the start."""
        acc = _expected(self.like, self.columns)
        return replace(self, columns=self.columns | {"acc": acc})

    def source(self, strategy: str = "reproducer") -> VectorSource:
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
        source = self.source()
        if self.like.stream:
            stream = VectorSet(
                source.spec, source.seed, source.strategy, self.columns, source.sections
            )
            return vectors.write(stream, directory)
        shape = Shape(source.spec, source.k, source.group)
        stored = Stored(shape, source.strategy, source.seed, self.columns, source.sections)
        return write_dots(stored, directory, ("readmemh",))

    @staticmethod
    def joined(runs: Sequence[VectorRun]) -> VectorRun:
        """Return runs one after the other."""
        names = runs[0].columns
        columns = {n: np.concatenate([run.columns[n] for run in runs]) for n in names}
        return VectorRun(runs[0].like, columns, np.concatenate([run.indices for run in runs]))


def _expected(source: VectorSource, columns: Columns) -> NDArray[Any]:
    if not source.stream:
        return Shape(source.spec, source.k, source.group).expected(columns)
    return expected(source.spec, columns)


def exponents(columns: Columns) -> NDArray[np.int64]:
    """Return the exponents of a stream as signed integers; 0 where it has none."""
    if "exp" not in columns:
        return np.zeros(columns["op"].size, dtype=np.int64)
    return signed_exponents(columns["exp"])


def dot_form(run: VectorRun) -> tuple[Shape, Columns]:
    """Return vectors as dot products with a shape: those of a stream have one product each."""
    source, columns = run.like, run.columns
    if not source.stream:
        return Shape(source.spec, source.k, source.group), columns
    spec = source.spec
    dtypes = {"a": spec.a.dtype, "b": spec.b.dtype, "c": spec.initial.dtype}
    made: Columns = {n: columns[n].astype(dtype) for n, dtype in dtypes.items()}
    made |= {n: made[n][:, None] for n in "ab"}
    made |= {"op": columns["op"].astype(np.uint8), "acc": columns["acc"].astype(spec.result.dtype)}
    exponent = exponents(columns)
    if not exponent.any():
        return Shape(spec, 1), made
    first = np.clip(exponent, -_E8M0_ONE, _E8M0_ONE)
    for name, part in (("a_scale", first), ("b_scale", exponent - first)):
        made[name] = (part + _E8M0_ONE).astype(np.uint8)[:, None]
    return Shape(spec, 1, 1), made


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
