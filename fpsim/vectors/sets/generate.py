# SPDX-License-Identifier: Apache-2.0
"""Streams of single products: exhaustive products, directed corners, seeded random sequences."""

from __future__ import annotations

from typing import TypedDict, Unpack

from fpsim.base.errors import FpsimError
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec
from fpsim.vectors.corners.streams import add_products, directed
from fpsim.vectors.random.sequences import Sequences
from fpsim.vectors.sets.clocked import ClockShape
from fpsim.vectors.sets.exhaustive import MAX_CASES, every_clock
from fpsim.vectors.sets.plans import DotPlan, Part, check_request, fixed_parts
from fpsim.vectors.sets.stream import Stimulus, VectorSet, check_clocked

__all__ = ["generate", "plan_stream"]

DEFAULT_COUNT = 4096
#: Random vectors of a stream, and of one that is made in memory.
MAX_COUNT, MAX_IN_MEMORY = 1 << 34, 1 << 22


class StreamOptions(TypedDict, total=False):
    """Further arguments of a stream; see `plan_stream`."""

    strategy: str
    seed: int
    exponents: bool
    load: bool
    flags: bool


def plan_stream(
    unit: MacUnit | MacSpec,
    *,
    strategy: str = "mixed",
    count: int = DEFAULT_COUNT,
    seed: int = 1,
    exponents: bool = False,
    load: bool = True,
    flags: bool = False,
    cases: int = MAX_CASES,
) -> DotPlan[ClockShape]:
    """Return the stream of a unit; the same arguments give the same vectors everywhere.

    Args:
        unit: a chain or fixed unit.
        strategy: ``exhaustive`` (every product and random integer onto every accumulator, by a
            LOAD and a MAC, where there is a LOAD and these are at most ``cases``; else every
            operand pair onto 0), ``directed`` (corner classes), ``random`` (sequences of uniform
            codes), or ``mixed`` (operand pairs, corner classes and random).
        count: least number of random vectors.
        seed: 0..2^64 - 1.
        exponents: also drive the run-time exponent of the product (field ``exp``).
        load: also use the LOAD operation, which presets the accumulator.
        flags: also the status flags of every vector, from the exact model: some thousand vectors
            a second, not millions.
        cases: most cases that ``exhaustive`` enumerates.

    Raises:
        FpsimError: an argument outside these, or a unit that vectors cannot describe.
    """
    spec = unit.spec if isinstance(unit, MacUnit) else unit
    check_request(strategy, count, MAX_COUNT, seed)
    check_clocked(spec)
    shape = ClockShape(spec, exponents, flags)
    every = every_clock(shape, cases) if strategy == "exhaustive" and load else None
    if every is not None:
        return DotPlan(shape, strategy, seed, (every,))
    stimulus = Stimulus()
    if strategy in ("exhaustive", "mixed"):
        add_products(spec, stimulus)
    if strategy in ("directed", "mixed"):
        directed(spec, stimulus, exponents, load)
    columns = stimulus.columns()
    if not exponents:
        del columns["exp"]
    if not spec.random_bits:
        del columns["random"]
    parts = fixed_parts(columns, stimulus.sections())
    if strategy in ("random", "mixed"):
        sequences = Sequences(spec, seed, count, exponents, load)
        parts.append(Part("random", sequences.bounds, sequences.block))
    return DotPlan(shape, strategy, seed, tuple(parts))


def generate(
    unit: MacUnit | MacSpec, *, count: int = DEFAULT_COUNT, **options: Unpack[StreamOptions]
) -> VectorSet:
    """Return what `plan_stream` describes, made in memory.

    ``exhaustive`` enumerates what `MAX_IN_MEMORY` vectors hold; of more it is operand pairs onto 0.

    Raises:
        FpsimError: as `plan_stream`, or more vectors than should be in memory.
    """
    if isinstance(count, int) and MAX_IN_MEMORY < count <= MAX_COUNT:
        raise FpsimError(
            f"count: {count} is more than {MAX_IN_MEMORY} vectors in memory; write_dots(plan_"
            "stream(...)) makes a set of any size block by block"
        )
    plan = plan_stream(unit, count=count, cases=MAX_IN_MEMORY // 2, **options)
    columns = plan.columns()
    ordered = {lane.name: columns[lane.name] for lane in plan.shape.lanes}
    return VectorSet(plan.shape.spec, plan.seed, plan.strategy, ordered, plan.sections)
