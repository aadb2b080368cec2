# SPDX-License-Identifier: Apache-2.0
"""Register tiles: their shape, the source of their terms, and how many terms one turn takes.

A `Source` describes a term: a product ``a * b``, or a sum of ``size`` products times the product of
two scales, per combination of split signs. A step adds terms to an accumulator, one or several at a
time. One turn of the loop over K holds whole blocks and whole steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.vector import Vec

__all__ = [
    "PRODUCTS", "Fold", "Folding", "RandomSource", "Source", "TermSource", "Tile", "period",
    "tile_of", "turn",
]  # fmt: skip


class TermSource(Protocol):
    """Hands out the terms of one step; each call emits the code that loads or computes them.

    A number ``i`` is a Python integer, or an LLVM index inside a `Fold`.
    """

    def pair(self, i: Any) -> tuple[Vec, Vec]:
        """Return two vectors whose product is term ``i``."""
        ...

    def power(self, i: Any) -> Vec:
        """Return 2^e of term ``i``; 0 if it does not count in an alignment."""
        ...


class Fold(NamedTuple):
    """A request of a step: add terms to values, one term after another."""

    terms: range
    start: tuple[Vec, ...]  #: the values before the first term
    #: Called as ``add(i, *values)``, returns the values after term i.
    add: Callable[..., tuple[Vec, ...]]


#: The code of a step that asks for folds and is sent the values after the last term of each: cells
#: of a tile that ask together share a loop, and the loads in it.
Folding = Generator[Fold, tuple[Vec, ...], Vec]


class RandomSource(StrEnum):
    """Source of a step's random integers."""

    NONE = ""
    LOADED = "loaded"  #: an array
    SEEDED = "seeded"  #: streams that a seed starts
    BYTES = "seeded-bytes"  #: the same, of eight bits: a dot instruction adds them


@dataclass(frozen=True)
class Source:
    """Where terms come from: products (size 1), or scaled sums of blocks of ``size`` products."""

    block: bool = False
    size: int = 1
    a_signs: int = 1  #: planes of ``a``: elements by sign bit, or parts of them, are apart
    b_signs: int = 1
    bytes: bool = False  #: elements are integers of a byte, four to a word, summed as integers
    paired: bool = False  #: every column has an ``a`` of its own: dot products side by side
    random: RandomSource = RandomSource.NONE

    @property
    def per_word(self) -> int:
        """Elements along K in an entry of ``a`` and ``b``."""
        return 4 if self.bytes else 1

    @property
    def quadrants(self) -> int:
        """Terms per block."""
        return self.a_signs * self.b_signs


PRODUCTS = Source()


class Tile(NamedTuple):
    """Shape of a register tile, in rows and columns of the result."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Columns of a tile."""
        return self.vectors * self.lanes


def turn(step: Any, source: Source) -> int:
    """Return how many elements of K one turn of the loop over K takes."""
    terms = math.lcm(step.levels[0].terms, source.quadrants)
    return terms // source.quadrants * source.size


def period(step: Any, source: Source) -> int:
    """Return how many elements of K a step takes: a turn, or the chunks that it adds."""
    if not step.chunk:
        return turn(step, source)
    return step.chunk // source.quadrants * source.size * step.levels[1].terms


def tile_of(step: Any, source: Source, machine: Machine, flat: bool = False) -> Tile:
    """Return the tile for a step: cheap steps get more accumulators to hide their latency.

    Args:
        step: `fpsim.compute.lanes.steps.step.Step`.
        source: where its terms come from.
        machine: the processor.
        flat: whether products have a single row.

    Returns:
        The tile.
    """
    inner, wide = step.levels[0], machine.register_bits == 512
    lanes = machine.register_bits // inner.lane.bits
    if flat:
        return Tile(1, 4, lanes)
    if source.quadrants == 2 and not source.bytes:
        return Tile(4, 2 if wide else 1, lanes)
    if source.quadrants > 1:
        rows = 4 if wide else 4 // source.quadrants  # sixteen registers hold no more sums
        return Tile(rows if source.bytes else 2, 1, lanes)
    rows, vectors = inner.cells
    if source.block and inner.terms == 1 and vectors == 4:
        return Tile(4, 3 if wide else 1, lanes)
    return Tile(rows, vectors if wide else min(vectors, 2), lanes)
