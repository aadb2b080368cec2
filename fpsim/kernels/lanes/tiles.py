# SPDX-License-Identifier: Apache-2.0
"""Register tiles: their shape, where their terms come from, and how many one turn takes.

A `Source` says what a term is: a product ``a * b``, or a sum of ``size`` of them times the product
of two scales, per combination of split signs. A `Step` adds terms to an accumulator, one or several
at a time. One turn of the loop over K holds whole blocks and whole steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from fpsim.kernels.lanes.steps import GroupStep, Step
from fpsim.kernels.lanes.vector import vector_bytes

__all__ = ["MAX_UNROLLED", "PRODUCTS", "AnyStep", "Source", "Tile", "tile_of", "turn"]

#: Terms whose code is unrolled at most.
MAX_UNROLLED = 64
AnyStep = Step | GroupStep


@dataclass(frozen=True)
class Source:
    """Where terms come from: products (size 1), or scaled sums of blocks of ``size``."""

    block: bool = False
    size: int = 1
    a_signs: int = 1  #: planes of ``a``: elements by sign bit, or parts of them, are apart
    b_signs: int = 1
    bytes: bool = False  #: elements are integers of a byte, four to a word, summed as integers
    paired: bool = False  #: every column has an ``a`` of its own: dot products side by side

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


def turn(step: AnyStep, source: Source) -> int:
    """Return how many elements of K one turn of the loop takes."""
    terms = math.lcm(step.terms, source.quadrants)
    return terms // source.quadrants * source.size


def tile_of(step: AnyStep, source: Source = PRODUCTS, flat: bool = False) -> Tile:
    """Return the tile for a step: cheap steps get more accumulators to hide their latency.

    ``flat`` is for products with a single row.
    """
    width = {"half": 16, "float": 32, "double": 64}[str(step.real)]
    lanes = vector_bytes() * 8 // width
    wide = vector_bytes() == 64
    if flat:
        return Tile(1, 4, lanes)
    if source.quadrants == 2 and not source.bytes:
        return Tile(4, 2 if wide else 1, lanes)
    if source.quadrants > 1:
        return Tile(4 if source.bytes else 2, 1, lanes)
    if step.name.startswith(("shifted", "masked", "slice")):
        return Tile(4, 2, lanes)
    if source.block and step.terms == 1 and not step.integers:
        return Tile(4, 3 if wide else 1, lanes)
    if isinstance(step, GroupStep) and step.terms > 1:
        rows, vectors = step.cells
        return Tile(rows, vectors if wide else min(vectors, 2), lanes)
    if step.integers:
        return Tile(2, 2, lanes)
    return Tile(4, 4 if wide else 2, lanes)
