# SPDX-License-Identifier: Apache-2.0
"""Sets of dot products of any unit: exhaustive products, corner classes, streams, random beats.

A set is a list of sections, each cut into blocks that depend on nothing but the unit, the seed and
their place: any process can make any block, in any order, and the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product as pairs
from typing import Any

import numpy as np

from fpsim.errors import FpsimError, nearest
from fpsim.spec import MacSpec
from fpsim.unit import MacUnit
from fpsim.vectors.beats import Beats
from fpsim.vectors.directed import add_directed
from fpsim.vectors.generate import STRATEGIES
from fpsim.vectors.philox import Philox
from fpsim.vectors.random_beats import random_dots, random_streams
from fpsim.vectors.shape import Columns, Shape
from fpsim.vectors.stream import Section

__all__ = ["DotPlan", "Part", "plan_dots"]

#: Elements of an operand in a block of a random section, and the least vectors there.
BLOCK_ELEMENTS, LEAST_BLOCK = 1 << 17, 1 << 12
#: Streams are this part of the random vectors where results can be addends.
STREAM_SHARE = 8
MAX_COUNT = 1 << 40
#: Operand pairs that are exhausted; of more, one for each distinct product.
MAX_PAIRS = 1 << 12


@dataclass(frozen=True)
class Part:
    """A section that is made block by block: ``make(i)`` gives the beats of block i."""

    name: str
    count: int
    size: int  #: vectors of a block; the last may have fewer
    make: Callable[[int], Columns]

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // self.size)


@dataclass(frozen=True)
class DotPlan:
    """A set that has not been made yet."""

    shape: Shape
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
        made = self.parts[part]
        return min(made.size, made.count - block * made.size)

    def block(self, part: int, block: int) -> Columns:
        """Return one block with the results that the unit gives."""
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


def plan_dots(
    unit: MacUnit | MacSpec,
    *,
    strategy: str = "mixed",
    count: int = 4096,
    seed: int = 1,
    k: int | None = None,
    group: int | None = None,
    flags: bool = False,
) -> DotPlan:
    """Return the set of dot products of a unit; the same arguments give the same set everywhere.

    Args:
        unit: any unit with deterministic rounding.
        strategy: ``exhaustive`` (every operand pair in a lane of its own), ``directed`` (corner
            classes), ``random``, or ``mixed`` (all three).
        count: number of random vectors.
        seed: 0..2^64 - 1.
        k: elements per vector; a step of the unit if absent.
        group: elements per scale; 0: no scales. If absent, the unit's blocks, or all ``k`` for a
            unit whose scales are not plain E8M0.
        flags: also the status flags of every vector, from the exact model: some hundred vectors a
            second, not millions.

    Raises:
        FpsimError: an argument outside these, or a unit with stochastic rounding.
    """
    spec = unit.spec if isinstance(unit, MacUnit) else unit
    if strategy not in STRATEGIES:
        raise FpsimError(
            f"strategy: {strategy!r} is not one of {', '.join(STRATEGIES)}"
            f"{nearest(strategy, STRATEGIES)}"
        )
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_COUNT:
        raise FpsimError(f"count: {count!r} is not an integer in 1..{MAX_COUNT}")
    Philox(seed)
    shape = Shape.of(spec, k, group, flags)
    parts: list[Part] = []
    if strategy in ("exhaustive", "mixed"):
        beats = Beats(shape)
        add_products(beats)
        parts += _fixed_parts(beats)
    if strategy in ("directed", "mixed"):
        beats = Beats(shape)
        add_directed(beats)
        parts += _fixed_parts(beats)
    if strategy in ("random", "mixed"):
        streams = count // STREAM_SHARE if shape.feeds_back else 0
        for name, total, make in (
            ("random", count - streams, random_dots),
            ("random-streams", streams, random_streams),
        ):
            if total:
                make_block = partial(_random, shape, seed, total, make)
                parts.append(Part(name, total, block_size(shape), make_block))
    return DotPlan(shape, strategy, seed, tuple(parts))


def block_size(shape: Shape) -> int:
    """Return the vectors per block of a random section."""
    return max(LEAST_BLOCK, BLOCK_ELEMENTS // shape.k)


def _fixed_parts(beats: Beats) -> list[Part]:
    columns = beats.columns()
    return [
        Part(s.name, s.count, s.count, partial(_slice, columns, s.start, s.start + s.count))
        for s in beats.sections()
    ]


def _slice(columns: Columns, start: int, stop: int, _: int) -> Columns:
    return {name: column[start:stop] for name, column in columns.items()}


def _random(
    shape: Shape,
    seed: int,
    total: int,
    make: Callable[[Shape, int, int, int], Columns],
    block: int,
) -> Columns:
    size = block_size(shape)
    return make(shape, seed, block, min(size, total - block * size))


def add_products(beats: Beats) -> None:
    """Append every operand pair (an even choice of wide operands), one per beat, lane by lane."""
    beats.section("products")
    palette = beats.palette
    if palette.a.size * palette.b.size <= MAX_PAIRS:
        a, b = np.array(list(pairs(palette.a.tolist(), palette.b.tolist()))).T
    else:
        a, b, _ = palette.products
    lane = np.arange(a.size)
    beats.add(a=beats.lane_codes("a", lane, a), b=beats.lane_codes("b", lane, b))
