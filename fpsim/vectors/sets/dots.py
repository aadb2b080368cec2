# SPDX-License-Identifier: Apache-2.0
"""Sets of dot products of any unit: exhaustive products, corner classes, streams, random beats."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product as pairs

import numpy as np
from numpy.typing import NDArray

from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec
from fpsim.vectors.corners.beats import Beats
from fpsim.vectors.corners.directed import add_directed
from fpsim.vectors.random.random_beats import random_dots, random_streams
from fpsim.vectors.sets.exhaustive import every_dot
from fpsim.vectors.sets.plans import DotPlan, Part, check_request, fixed_parts
from fpsim.vectors.sets.record import Shape
from fpsim.vectors.sets.words import Columns

__all__ = ["DotPlan", "plan_dots"]

#: Elements of an operand in a block of a random section, and the least vectors there.
BLOCK_ELEMENTS, LEAST_BLOCK = 1 << 17, 1 << 12
#: Streams are this part of the random vectors where results can be addends.
STREAM_SHARE = 8
MAX_COUNT = 1 << 40
#: Operand pairs that are exhausted; of more, one for each distinct product.
MAX_PAIRS = 1 << 12


def plan_dots(
    unit: MacUnit | MacSpec,
    *,
    strategy: str = "mixed",
    count: int = 4096,
    seed: int = 1,
    k: int | None = None,
    group: int | None = None,
    flags: bool = False,
) -> DotPlan[Shape]:
    """Return the set of dot products of a unit; the same arguments give the same set everywhere.

    Args:
        unit: any unit.
        strategy: ``exhaustive`` (all elements, scales, addends and random integers of a vector
            where these are at most 2^24 cases; else every operand pair in a lane of its own, onto
            0), ``directed`` (corner classes), ``random``, or ``mixed`` (operand pairs, corner
            classes and random).
        count: number of random vectors.
        seed: 0..2^64 - 1.
        k: elements per vector; a step of the unit if absent.
        group: elements per scale; 0: no scales. If absent, the unit's blocks, or all ``k`` for a
            unit whose scales are not plain E8M0.
        flags: also the status flags of every vector, from the exact model: some hundred vectors a
            second, not millions.

    Raises:
        FpsimError: an argument outside these.
    """
    spec = unit.spec if isinstance(unit, MacUnit) else unit
    check_request(strategy, count, MAX_COUNT, seed)
    shape = Shape.of(spec, k, group, flags)
    parts: list[Part] = []
    every = every_dot(shape, block_size(shape)) if strategy == "exhaustive" else None
    if every is not None:
        parts.append(every)
    elif strategy in ("exhaustive", "mixed"):
        beats = Beats(shape)
        add_products(beats)
        parts += fixed_parts(beats.columns(), beats.sections())
    if strategy in ("directed", "mixed"):
        beats = Beats(shape)
        add_directed(beats)
        parts += fixed_parts(beats.columns(), beats.sections())
    if strategy in ("random", "mixed"):
        streams = count // STREAM_SHARE if shape.feeds_back else 0
        for name, total, make in (
            ("random", count - streams, random_dots),
            ("random-streams", streams, random_streams),
        ):
            if total:
                size = block_size(shape)
                bounds = np.minimum(np.arange(-(-total // size) + 1) * size, total)
                parts.append(Part(name, bounds, partial(_random, shape, seed, bounds, make)))
    return DotPlan(shape, strategy, seed, tuple(parts))


def block_size(shape: Shape) -> int:
    """Return the vectors per block of a random section."""
    return max(LEAST_BLOCK, BLOCK_ELEMENTS // shape.k)


def _random(
    shape: Shape,
    seed: int,
    bounds: NDArray[np.int64],
    make: Callable[[Shape, int, int, int], Columns],
    block: int,
) -> Columns:
    return make(shape, seed, block, int(bounds[block + 1] - bounds[block]))


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
