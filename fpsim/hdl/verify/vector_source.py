# SPDX-License-Identifier: Apache-2.0
"""Where vectors for a design come from: a directory, or a set made for what the design can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fpsim import vectors
from fpsim.base.errors import FpsimError
from fpsim.hdl.dut.dut import Dut
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chain, Fixed
from fpsim.vectors import Op, Section, VectorSet
from fpsim.vectors.files.files import head_lines
from fpsim.vectors.files.manifests import schema_of
from fpsim.vectors.files.writer import SCHEMA as DOT_SCHEMA
from fpsim.vectors.files.writer import open_dots
from fpsim.vectors.sets.dots import DotPlan, plan_dots
from fpsim.vectors.sets.record import Columns, Shape

__all__ = ["VectorSource", "from_directory", "from_stream", "made_for"]

BLOCK = 1 << 16
#: Random vectors that a stream has at most; more come as dot products, which are made faster.
MAX_STREAM = 1 << 16
Blocks = Callable[[], Iterator[tuple[int, Columns]]]


@dataclass(frozen=True)
class VectorSource:
    """Vectors of a unit, block by block, as often as needed.

    ``blocks()`` yields (index of the first vector, columns): codes (n,), or (n, lanes) of a set of
    dot products.

    Raises:
        FpsimError: a unit with stochastic rounding.
    """

    spec: MacSpec
    k: int  #: elements per vector
    group: int  #: elements per scale; 0: no scales
    count: int
    strategy: str
    seed: int
    sections: tuple[Section, ...]
    blocks: Blocks
    head_lines: int | None = None  #: of vectors.hex, where there is one
    stream: bool = False  #: single products with exponents (`fpsim.vectors.sets.stream`)

    def __post_init__(self) -> None:
        if self.spec.random_bits:
            raise FpsimError(
                f"accumulate.rounding: {self.spec.name} takes random integers, and no port of a "
                "design can carry them; use a unit without 'sr'"
            )

    def section_of(self, index: int) -> str:
        """Return the name of the section that a vector stands in."""
        return next((s.name for s in self.sections if s.start <= index < s.start + s.count), "")

    def line_of(self, index: int) -> int | None:
        """Return the line of a vector in vectors.hex, from 1."""
        return None if self.head_lines is None else self.head_lines + index + 1


def from_stream(stream: VectorSet, head_lines: int | None = None) -> VectorSource:
    """Return a stream of single products as a source."""

    def blocks() -> Iterator[tuple[int, Columns]]:
        for start in range(0, stream.count, BLOCK):
            yield start, {n: c[start : start + BLOCK] for n, c in stream.columns.items()}

    return VectorSource(
        stream.spec, 1, 0, stream.count, stream.strategy, stream.seed, stream.sections, blocks,
        head_lines, stream=True,
    )  # fmt: skip


def from_plan(plan: DotPlan[Shape], addends: bool = True) -> VectorSource:
    """Return a set of dot products that is made block by block; the addends 0 if not wanted."""
    shape = plan.shape

    def blocks() -> Iterator[tuple[int, Columns]]:
        start = 0
        for columns in plan:
            yield start, columns if addends else _without_addends(shape, columns)
            start += columns["op"].size

    return VectorSource(
        shape.spec, shape.k, shape.group, plan.count, plan.strategy, plan.seed, plan.sections,
        blocks,
    )  # fmt: skip


def from_directory(directory: str | Path) -> VectorSource:
    """Return the vectors of a directory.

    Raises:
        FpsimError: files that are missing or damaged; of dot products the lines are read later.
    """
    path = Path(directory)
    if schema_of(path) != DOT_SCHEMA:
        stream = vectors.read(path)
        return from_stream(stream, head_lines(path))
    opened = open_dots(path)
    shape = opened.shape
    return VectorSource(
        shape.spec, shape.k, shape.group, opened.count, opened.strategy, opened.seed,
        opened.sections, opened.blocks, opened.head_lines,
    )  # fmt: skip


def made_for(
    dut: Dut, spec: MacSpec, strategy: str = "mixed", count: int = 4096, seed: int = 1
) -> VectorSource:
    """Return vectors of a unit that fit a design: its lanes, scales and operations.

    Raises:
        FpsimError: as `fpsim.vectors.generate` and `fpsim.vectors.sets.dots.plan_dots`.
    """
    if _takes_streams(dut, spec) and count <= MAX_STREAM:
        stream = vectors.generate(
            spec, strategy=strategy, count=count, seed=seed, exponents=dut.carries("exp"),
            load="load" in dut.known_ops and dut.carries("c"),
        )  # fmt: skip
        return from_stream(stream)
    k = dut.k if dut.k is not None else _elements(dut, spec)
    group = _group(dut, spec, k)
    plan = plan_dots(spec, strategy=strategy, count=count, seed=seed, k=k, group=group)
    return from_plan(plan, addends=dut.adapter is not None or dut.carries("c"))


def _without_addends(shape: Shape, columns: Columns) -> Columns:
    """Return dot products onto 0; what else there is stays."""
    dots = np.flatnonzero(columns["op"] == Op.DOT)
    if not dots.size:
        return columns
    part = {name: column[dots] for name, column in columns.items()}
    acc, c = columns["acc"].copy(), columns["c"].copy()
    c[dots] = 0
    acc[dots] = shape.dot(part, c[dots])
    return columns | {"c": c, "acc": acc}


def _takes_streams(dut: Dut, spec: MacSpec) -> bool:
    """Return whether a clock is a product and the design has the operations of a stream."""
    singles = all(beats.elements in (1, None) for beats in dut.input.beats)
    scales = any(dut.carries(name) for name in ("a_scale", "b_scale"))
    return (
        isinstance(spec.accumulate, Chain | Fixed)
        and dut.k in (1, None)
        and singles
        and not scales
        and {"clear", "mac"} <= dut.known_ops
    )


def _elements(dut: Dut, spec: MacSpec) -> int:
    """Return the elements of a step of the unit, made up to whole beats and scales."""
    natural = 1 if _takes_streams(dut, spec) else Shape.of(spec, None, dut.group).k
    unit = max([b.elements for b in dut.input.beats if b.elements is not None], default=1)
    return -(-natural // unit) * unit


def _group(dut: Dut, spec: MacSpec, k: int) -> int:
    """Return the elements per scale that the design is told; 0 where no port carries scales."""
    if dut.adapter is None and not any(dut.carries(n) for n in ("a_scale", "b_scale", "exp")):
        if dut.group:
            raise FpsimError("group: given, but no beat carries a_scale, b_scale or exp")
        return 0
    if dut.group is not None:
        return dut.group
    natural = Shape.of(spec, k, None).group
    return natural if natural or dut.adapter is not None else k
