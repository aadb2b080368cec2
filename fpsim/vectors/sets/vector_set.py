# SPDX-License-Identifier: Apache-2.0
"""Sets of vectors: in memory, or as plans of sections whose blocks are made on demand.

A block depends only on the unit, the seed and its place: any process can make any block, in any
order, and the bytes are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.record import Columns, Record

__all__ = [
    "BlockSource",
    "Job",
    "PlannedSection",
    "Progress",
    "Section",
    "VectorPlan",
    "VectorSet",
    "keep_freed_memory",
    "planned_sections",
    "section_of",
]

#: Vectors per block of a set in memory.
MEMORY_BLOCK = 1 << 16
#: A size in bytes, the largest that makes glibc raise its thresholds.
MAPPED = 31 << 20

#: A block: the number of its section, and the number of the block in the section.
Job = tuple[int, int]
#: Takes vectors done and vectors in all.
Progress = Callable[[int, int], None]


@cache
def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next block: fresh pages take a third of a run.

    Freeing a large piece makes glibc raise the sizes from which it maps pieces and returns memory
    (mallopt(3), M_MMAP_THRESHOLD); other C libraries do nothing.
    """
    np.empty(MAPPED, dtype=np.uint8)


@dataclass(frozen=True)
class Section:
    """A named run of consecutive vectors: a corner class, a kind of random vectors, a tile."""

    name: str
    start: int
    count: int


def section_of(sections: Iterable[Section], index: int) -> str:
    """Return the name of the section of a vector; empty if it has none."""
    return next((s.name for s in sections if s.start <= index < s.start + s.count), "")


class BlockSource(Protocol):
    """A set that can be written block by block: a `VectorPlan`, a `VectorSet`, tiles of a model."""

    @property
    def record(self) -> Record:
        """The unit and the fields of a vector."""
        ...

    @property
    def strategy(self) -> str:
        """How the vectors were chosen."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the random vectors."""
        ...

    @property
    def start(self) -> str:
        """Where a sum takes its addend from: one of `STARTS`."""
        ...

    @property
    def count(self) -> int:
        """Number of vectors."""
        ...

    @property
    def sections(self) -> tuple[Section, ...]:
        """Named runs of vectors, in order, that cover the set."""
        ...

    @property
    def extra(self) -> dict[str, Any]:
        """Further entries of the manifest: JSON-ready, empty for most sets."""
        ...

    def jobs(self) -> list[Job]:
        """Return the blocks, in order."""
        ...

    def rows(self, part: int, block: int) -> int:
        """Return the number of vectors in one block."""
        ...

    def block(self, part: int, block: int) -> Columns:
        """Return one block with results."""
        ...


@dataclass(frozen=True)
class VectorSet:
    """Vectors in memory, with results.

    ``columns`` maps each field of the record to codes: (n,) for ``op``, ``c``, ``acc``, ``flags``,
    (n, lanes) for other fields, element 0 first.
    """

    record: Record
    columns: Columns
    sections: tuple[Section, ...]
    strategy: str = "selected"
    seed: int = 1
    start: str = "dot"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> MacSpec:
        """The unit."""
        return self.record.spec

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.columns["op"].size)

    def section_of(self, index: int) -> str:
        """Return the name of the section of a vector."""
        return section_of(self.sections, index)

    def jobs(self) -> list[Job]:
        """Return the blocks, in order."""
        return [(0, start) for start in range(0, self.count, MEMORY_BLOCK)]

    def rows(self, part: int, block: int) -> int:
        """Return the number of vectors in the block that starts at vector ``block``."""
        return min(MEMORY_BLOCK, self.count - block)

    def block(self, part: int, block: int) -> Columns:
        """Return the vectors of the block that starts at vector ``block``."""
        return {name: c[block : block + MEMORY_BLOCK] for name, c in self.columns.items()}


@dataclass(frozen=True)
class PlannedSection:
    """A section that is made block by block: ``make(i)`` gives the vectors of block i."""

    name: str
    bounds: NDArray[np.int64]  #: first vector of every block, and the count of vectors
    make: Callable[[int], Columns]

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.bounds[-1])

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.bounds.size - 1


@dataclass(frozen=True)
class VectorPlan:
    """A set as a plan; iterating makes its blocks, `made` makes the whole set."""

    record: Record
    strategy: str
    seed: int
    parts: tuple[PlannedSection, ...]
    start: str = "dot"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> MacSpec:
        """The unit."""
        return self.record.spec

    @property
    def count(self) -> int:
        """Number of vectors."""
        return sum(part.count for part in self.parts)

    @property
    def sections(self) -> tuple[Section, ...]:
        """Named runs of vectors."""
        starts = np.cumsum([0, *(part.count for part in self.parts)]).tolist()
        return tuple(
            Section(p.name, start, p.count) for p, start in zip(self.parts, starts, strict=False)
        )

    def jobs(self) -> list[Job]:
        """Return (section, block) of every block, in order."""
        return [(p, b) for p, part in enumerate(self.parts) for b in range(part.blocks)]

    def rows(self, part: int, block: int) -> int:
        """Return the number of vectors in one block."""
        first, stop = self.parts[part].bounds[block : block + 2].tolist()
        return int(stop - first)

    def block(self, part: int, block: int) -> Columns:
        """Return one block with results."""
        keep_freed_memory()
        columns = self.parts[part].make(block)
        return columns | self.record.results(columns)

    def __iter__(self) -> Iterator[Columns]:
        """Yield the blocks in order."""
        for job in self.jobs():
            yield self.block(*job)

    def columns(self) -> Columns:
        """Return all vectors, made in memory."""
        blocks = list(self)
        names = [f.name for f in self.record.fields]
        return {name: np.concatenate([b[name] for b in blocks]) for name in names}

    def made(self) -> VectorSet:
        """Return the set in memory."""
        return VectorSet(
            self.record, self.columns(), self.sections, self.strategy, self.seed, self.start,
            self.extra,
        )  # fmt: skip


def planned_sections(columns: Columns, sections: Iterable[Section]) -> list[PlannedSection]:
    """Return sections of existing vectors, each as one block without results."""
    return [
        PlannedSection(
            s.name,
            np.array([0, s.count]),
            partial(_slice, columns, s.start, s.start + s.count),
        )
        for s in sections
    ]


def _slice(columns: Columns, start: int, stop: int, _: int) -> Columns:
    return {name: column[start:stop] for name, column in columns.items()}
