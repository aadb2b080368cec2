# SPDX-License-Identifier: Apache-2.0
"""The word of a vector: fields of lanes, and what they have in common in every kind of set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.stream import Field

__all__ = ["Columns", "Lanes", "Words", "WordsT", "keep_freed_memory"]

#: Columns of a set by field name: codes (n,) or (n, lanes).
Columns = dict[str, NDArray[Any]]
#: Bytes; glibc takes no larger piece as a sign that such pieces are common.
MAPPED = 31 << 20


@cache
def keep_freed_memory() -> None:
    """Let the C library keep what one block frees for the next: fresh pages take a third of a run.

    Freeing a large piece makes glibc raise the sizes from which on it maps pieces and gives memory
    back (mallopt(3), M_MMAP_THRESHOLD); elsewhere nothing happens.
    """
    np.empty(MAPPED, dtype=np.uint8)


@dataclass(frozen=True)
class Lanes:
    """A field as lanes of equal width."""

    name: str
    lanes: int
    width: int


class Words(ABC):
    """A unit and how its vectors are cut into words."""

    schema: ClassVar[int]  #: of the files
    spec: MacSpec
    k: int  #: elements per vector
    group: int  #: elements per scale; 0: no scales
    flags: bool  #: whether words have status flags

    @property
    @abstractmethod
    def lanes(self) -> tuple[Lanes, ...]:
        """Fields from the most significant bits down."""

    @abstractmethod
    def columns(self, elements: NDArray[np.uint64]) -> Columns:
        """Return elements of words as columns; the inverse of `elements`."""

    @abstractmethod
    def results(self, columns: Columns, start: int = 0) -> Columns:
        """Return the fields that the unit gives, for vectors the first of which finds ``start``."""

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The same as bit positions in the word."""
        lsb = self.word_bits
        fields = []
        for lane in self.lanes:
            lsb -= lane.lanes * lane.width
            fields.append(Field(lane.name, lsb, lane.lanes * lane.width))
        return tuple(fields)

    @cached_property
    def word_bits(self) -> int:
        """Bits of a word."""
        return sum(lane.lanes * lane.width for lane in self.lanes)

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """Bits of every element of a word, most significant first."""
        return np.array([f.width for f in self.lanes for _ in range(f.lanes)], dtype=np.int64)

    def elements(self, columns: Columns) -> NDArray[np.uint64]:
        """Return columns as elements of words (n, E)."""
        parts = []
        for lane in self.lanes:
            column = columns[lane.name]
            column = column[:, ::-1] if column.ndim == 2 else column[:, None]
            parts.append(column.astype(np.uint64))
        return np.ascontiguousarray(np.concatenate(parts, axis=1))


WordsT = TypeVar("WordsT", bound=Words, covariant=True)
