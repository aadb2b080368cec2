# SPDX-License-Identifier: Apache-2.0
"""Sets that have not been made yet: sections, each cut into blocks.

A block depends on nothing but the unit, the seed and its place: any process can make any block, in
any order, and the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, nearest
from fpsim.base.philox import Philox
from fpsim.vectors.sets.stream import Section
from fpsim.vectors.sets.words import Columns, Words, WordsT, keep_freed_memory

__all__ = ["STRATEGIES", "DotPlan", "Part", "Stored", "check_request", "fixed_parts"]

#: Vectors of a block of those that are there already.
STORED_BLOCK = 1 << 16
STRATEGIES = ("exhaustive", "directed", "random", "mixed")


def check_request(strategy: str, count: int, most: int, seed: int) -> None:
    """Check what every kind of set is asked for; FpsimError names the argument."""
    if strategy not in STRATEGIES:
        raise FpsimError(
            f"strategy: {strategy!r} is not one of {', '.join(STRATEGIES)}"
            f"{nearest(strategy, STRATEGIES)}"
        )
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= most:
        raise FpsimError(f"count: {count!r} is not an integer in 1..{most}")
    Philox(seed)


@dataclass(frozen=True)
class Part:
    """A section that is made block by block: ``make(i)`` gives the beats of block i."""

    name: str
    bounds: NDArray[np.int64]  #: first vector of every block, and the number of all
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
class DotPlan(Generic[WordsT]):
    """A set that has not been made yet."""

    shape: WordsT
    strategy: str
    seed: int
    parts: tuple[Part, ...]

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

    def jobs(self) -> list[tuple[int, int]]:
        """Return (part, block) of every block, in order."""
        return [(p, b) for p, part in enumerate(self.parts) for b in range(part.blocks)]

    @property
    def extra(self) -> dict[str, Any]:
        """What else the manifest says: nothing."""
        return {}

    def rows(self, part: int, block: int) -> int:
        """Return the number of vectors in one block."""
        first, stop = self.parts[part].bounds[block : block + 2].tolist()
        return int(stop - first)

    def block(self, part: int, block: int) -> Columns:
        """Return one block with the results that the unit gives."""
        keep_freed_memory()
        columns = self.parts[part].make(block)
        return columns | self.shape.results(columns)

    def __iter__(self) -> Iterator[Columns]:
        """Yield the blocks in order."""
        for job in self.jobs():
            yield self.block(*job)

    def columns(self) -> Columns:
        """Return the whole set in memory."""
        blocks = list(self)
        return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


@dataclass(frozen=True)
class Stored:
    """Vectors that are there already, with their results, as what can be written."""

    shape: Words
    strategy: str
    seed: int
    columns: Columns
    sections: tuple[Section, ...]

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.columns["op"].size)

    @property
    def extra(self) -> dict[str, Any]:
        """What else the manifest says: nothing."""
        return {}

    def jobs(self) -> list[tuple[int, int]]:
        """Return the blocks, in order."""
        return [(0, start) for start in range(0, self.count, STORED_BLOCK)]

    def rows(self, part: int, block: int) -> int:
        """Return the number of vectors in the block that starts at vector ``block``."""
        return min(STORED_BLOCK, self.count - block)

    def block(self, part: int, block: int) -> Columns:
        """Return that block."""
        return {name: c[block : block + STORED_BLOCK] for name, c in self.columns.items()}


def fixed_parts(columns: Columns, sections: Iterable[Section]) -> list[Part]:
    """Return sections of beats that are there already, each as one block."""
    return [
        Part(s.name, np.array([0, s.count]), partial(_slice, columns, s.start, s.start + s.count))
        for s in sections
    ]


def _slice(columns: Columns, start: int, stop: int, _: int) -> Columns:
    return {name: column[start:stop] for name, column in columns.items()}
