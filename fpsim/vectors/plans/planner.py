# SPDX-License-Identifier: Apache-2.0
"""Plans a set of any unit: operand pairs, corner classes, random vectors, or every case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product as pairs
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.base.philox import Philox
from fpsim.unit import MacUnit, get_unit
from fpsim.units.spec import MacSpec
from fpsim.vectors.corners import unloaded_corners as unloaded
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.corner_classes import add_corner_classes
from fpsim.vectors.corners.grown_sums import grown_sums
from fpsim.vectors.plans.brought_addends import Brought
from fpsim.vectors.plans.exhaustive import every_case
from fpsim.vectors.plans.sum_starts import begun
from fpsim.vectors.seeded.random_vectors import random_dots, random_streams
from fpsim.vectors.sets.choices import STARTS, STRATEGIES
from fpsim.vectors.sets.record import Columns, Record
from fpsim.vectors.sets.vector_set import (
    PlannedSection,
    Section,
    VectorPlan,
    planned_sections,
)

__all__ = ["plan", "unloaded_sections"]

#: Elements per operand in a block of a random section, and least vectors in a block.
BLOCK_ELEMENTS, LEAST_BLOCK = 1 << 17, 1 << 12
#: Vectors that accumulate are this share of the random ones, if results can be addends.
STREAM_SHARE = 8
MAX_COUNT = 1 << 40
#: Most operand pairs of a set (to divide by the elements of a vector), and least.
MAX_PAIRS, LEAST_PAIRS = 1 << 16, 1 << 12


def plan(
    unit: MacUnit | MacSpec | str | Path,
    *,
    strategy: str = "mixed",
    count: int = 4096,
    seed: int = 1,
    k: int | None = None,
    group: int | None = None,
    flags: bool = False,
    start: str = "dot",
    allowed: Mapping[str, NDArray[np.int64]] | None = None,
) -> VectorPlan:
    """Plan a set of vectors of a unit; equal arguments give equal sets on every computer.

    Nothing is computed yet: `fpsim.vectors.write` makes the set block by block, `VectorPlan.made`
    in memory.

    Args:
        unit: any unit, its name, or a path to its TOML.
        strategy: ``exhaustive`` (all elements, scales, addends and random integers of a vector
            where these are at most 2^24 cases; else every operand pair in a lane of its own, onto
            0), ``directed`` (corner classes), ``random``, or ``mixed`` (operand pairs, corner
            classes and random).
        count: number of random vectors.
        seed: of the random vectors, 0..2^64 - 1.
        k: elements per vector; None: a step of the unit, which is 1 for a chain or a register.
        group: elements per scale; 0: no scales. None: the unit's blocks, or all ``k`` for a unit
            whose scales are not plain E8M0.
        flags: also the status flags of every vector, from the exact model: some hundred vectors a
            second, not millions.
        start: where a sum takes its addend from: ``dot``, its own vector; ``load``, a load before
            it; ``clear``, products: sums start from +0, and vectors onto an addend that a few
            products do not sum up to are left out. ``load`` and ``clear`` use only the
            operations idle, clear, mac (and load), as a multiply-accumulate unit has them.
        allowed: codes that operand pairs and corner classes choose from, by ``a`` and ``b``; all
            codes of an operand that is not in it. Random vectors take any code.

    Returns:
        The plan: ``count``, ``sections``, ``record`` (the fields of a vector), and its blocks.

    Raises:
        FpsimError: an unknown strategy or start, a number out of range, or ``start`` other than
            ``dot`` for a unit whose results are no addends.
    """
    spec = unit if isinstance(unit, MacSpec) else get_unit(unit).spec
    record = Record.of(spec, k, group, flags)
    _check(record, strategy, count, seed, start)
    parts: list[PlannedSection] = []
    every = None
    if strategy == "exhaustive" and start != "clear":
        every = every_case(record, block_size(record), loaded=start == "load")
    if every is not None:
        return VectorPlan(record, strategy, seed, (every,), start)
    if strategy in ("exhaustive", "mixed"):
        parts += _made_here(record, start, add_products, allowed)
    if strategy in ("directed", "mixed"):
        parts += _made_here(record, start, add_corner_classes, allowed)
    if strategy in ("random", "mixed"):
        streams = count if start != "dot" else count // STREAM_SHARE if record.feeds_back else 0
        for name, total, make in (
            ("random", count - streams, random_dots),
            ("random-streams", streams, random_streams),
        ):
            if total:
                size = block_size(record)
                bounds = np.minimum(np.arange(-(-total // size) + 1) * size, total)
                made = _RandomBlocks(record, seed, bounds, make, start != "clear")
                parts.append(PlannedSection(name, bounds, made))
    return VectorPlan(record, strategy, seed, tuple(parts), start)


def _check(record: Record, strategy: str, count: int, seed: int, start: str) -> None:
    for name, value, known in (("strategy", strategy, STRATEGIES), ("start", start, STARTS)):
        if value not in known:
            raise not_one_of(name, value, known)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_COUNT:
        raise FpsimError(f"count: {count!r} is not an integer in 1..{MAX_COUNT}")
    Philox(seed)
    if start != "dot" and not record.feeds_back:
        raise FpsimError(
            f"start: {start!r} accumulates, but results of {record.spec.name} are no addends; "
            "only 'dot' is left"
        )


def block_size(record: Record) -> int:
    """Return the vectors per block of a random section."""
    return max(LEAST_BLOCK, BLOCK_ELEMENTS // record.k)


@dataclass(frozen=True)
class _RandomBlocks:
    """Makes blocks of a random section."""

    record: Record
    seed: int
    bounds: NDArray[np.int64]
    make: Callable[[Record, int, int, int, bool], Columns]
    load: bool  #: whether streams may start with a load

    def __call__(self, block: int) -> Columns:
        size = int(self.bounds[block + 1] - self.bounds[block])
        return self.make(self.record, self.seed, block, size, self.load)


def _made_here(
    record: Record,
    start: str,
    add: Callable[[VectorBuilder], None],
    allowed: Mapping[str, NDArray[np.int64]] | None,
) -> list[PlannedSection]:
    """Return the sections that a function appends, with sums begun as ``start`` says."""
    builder = VectorBuilder(record, allowed)
    add(builder)
    columns, sections = builder.columns(), builder.sections()
    if start == "dot":
        return planned_sections(columns, sections)
    parts = []
    ways = Brought.to_addends(record, columns, allowed) if start == "clear" else None
    for section in sections:
        rows = slice(section.start, section.start + section.count)
        part = begun(record, {n: column[rows] for n, column in columns.items()}, ways)
        if part["op"].size:
            whole = Section(section.name, 0, part["op"].size)
            parts += planned_sections(part, [whole])
    return parts


def unloaded_sections(
    record: Record, start: str, allowed: Mapping[str, NDArray[np.int64]] | None = None
) -> list[PlannedSection]:
    """Return more corner classes, for designs that are not given every addend.

    Args:
        record: the vectors' record.
        start: as in `plan`; ``dot``: the design does not accumulate, and adds onto 0.
        allowed: codes that operands may have, as in `plan`.

    Returns:
        The sections, begun as ``start`` says.
    """
    classes = [unloaded.near_sums if start == "dot" else unloaded.near_streams]
    if start != "load":
        classes += [unloaded.full_sums, unloaded.cancelled_windows, unloaded.cancelled_blocks]
    if start == "clear":
        classes += [unloaded.joined_windows, unloaded.flushed_sums, grown_sums]

    def add(builder: VectorBuilder) -> None:
        for corner in classes:
            builder.section(corner.__name__.replace("_", "-"))
            corner(builder)

    return _made_here(record, start, add, allowed)


def add_products(builder: VectorBuilder) -> None:
    """Append every operand pair (of wide operands an even choice), one per vector, lane by lane."""
    builder.section("products")
    palette, k = builder.palette, builder.record.k
    if palette.a.size * palette.b.size <= max(MAX_PAIRS // k, LEAST_PAIRS):
        a, b = np.array(list(pairs(palette.a.tolist(), palette.b.tolist()))).T
    else:
        a, b, _ = palette.products
    lane = np.arange(a.size)
    builder.add(a=builder.lane_codes("a", lane, a), b=builder.lane_codes("b", lane, b))
