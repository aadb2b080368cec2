# SPDX-License-Identifier: Apache-2.0
"""Sources of vectors for a design: a directory, or a set made for the design's ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.dut.dut import Dut
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chain, Fixed
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.operations.operation import Operation, Quantize
from fpsim.vectors.operations.operation_plan import OperationPlan, plan_operation
from fpsim.vectors.plans.exhaustive import every_case
from fpsim.vectors.plans.planner import block_size, plan, unloaded_sections
from fpsim.vectors.sets.record import Columns, Op, Record, natural_k
from fpsim.vectors.sets.vector_set import (
    Section,
    VectorPlan,
    section_of,
)
from fpsim.vectors.sets.word_layout import Field

__all__ = [
    "VectorSource", "accumulates", "begun_with_products", "drawn", "from_directory",
    "made_for", "made_for_operation", "shape_for", "with_told_codes",
]  # fmt: skip

#: Elements of a dot product at least, where the unit sums one by one.
LEAST_K = 4
Blocks = Callable[[], Iterator[tuple[int, Columns]]]


@dataclass(frozen=True)
class VectorSource:
    """Vectors of a unit, or of an operation, block by block, as often as needed.

    ``blocks()`` yields (index of the first vector, columns): codes (n,) or (n, lanes). Vectors of
    an operation have the columns ``op`` and ``c`` of dot products without addend beside their own.
    """

    record: Record
    count: int
    strategy: str
    seed: int
    start: str
    sections: tuple[Section, ...]
    blocks: Blocks
    head_lines: int | None = None  #: of vectors.hex, where there is one

    @property
    def spec(self) -> MacSpec:
        """The unit."""
        return self.record.spec

    @property
    def k(self) -> int:
        """Elements per vector."""
        return self.record.k

    @property
    def group(self) -> int:
        """Elements per scale; 0: no scales."""
        return self.record.group

    @property
    def equation(self) -> str:
        """The equation that the vectors follow, in one line."""
        return self.spec.equation if self.operation is None else self.operation.equation

    @property
    def operation(self) -> Operation | None:
        """The operation; None: the vectors are of a unit."""
        return self.record if isinstance(self.record, Operation) else None

    def answers(self, dut: Dut) -> tuple[Field, ...]:
        """Return the fields that a design answers, in the order of the word."""
        names = dut.output.results or {"acc"}
        return tuple(f for f in self.record.fields if f.name in names)

    def section_of(self, index: int) -> str:
        """Return the name of the section that a vector stands in."""
        return section_of(self.sections, index)

    def line_of(self, index: int) -> int | None:
        """Return the line of a vector in vectors.hex, from 1."""
        return None if self.head_lines is None else self.head_lines + index + 1


def from_plan(made: VectorPlan, addends: bool = True) -> VectorSource:
    """Return a set that is made block by block; without ``addends``, dot products add onto 0."""
    record = made.record

    def blocks() -> Iterator[tuple[int, Columns]]:
        start = 0
        for columns in made:
            yield start, columns if addends else _without_addends(record, columns)
            start += columns["op"].size

    return VectorSource(
        record, made.count, made.strategy, made.seed, made.start, made.sections, blocks
    )


def from_directory(directory: str | Path) -> VectorSource:
    """Return the vectors of a directory.

    Raises:
        FpsimError: files that are missing or damaged; the lines are read later.
    """
    opened = open_set(Path(directory))
    blocks = opened.blocks
    if isinstance(opened.record, Operation):
        blocks = partial(_alone, opened.blocks)
    return VectorSource(
        opened.record, opened.count, opened.strategy, opened.seed, opened.start, opened.sections,
        blocks, opened.head_lines,
    )  # fmt: skip


def made_for_operation(
    dut: Dut, operation: Operation, strategy: str = "mixed", count: int = 4096, seed: int = 1
) -> VectorSource:
    """Return vectors of an operation; of a quantizer without a tensor scale where no port has one.

    Args:
        dut: the design.
        operation: the operation that it computes.
        strategy: see `fpsim.vectors.plan_operation`.
        count: number of random vectors.
        seed: of the random vectors.

    Returns:
        The vectors, made block by block.

    Raises:
        FpsimError: an unknown strategy, a count or seed out of range, or more cases than
            ``exhaustive`` takes.
    """
    made = plan_operation(operation, strategy=strategy, count=count, seed=seed)
    if isinstance(operation, Quantize) and not dut.carries("tensor_scale"):
        made = made.with_inputs(operation.without_tensor_scale)
    return from_operation(made)


def from_operation(made: OperationPlan) -> VectorSource:
    """Return a set of an operation."""

    def blocks() -> Iterator[tuple[int, Columns]]:
        start = 0
        for part, block in made.jobs():
            yield start, made.block(part, block)
            start += made.rows(part, block)

    return VectorSource(
        made.record, made.count, made.strategy, made.seed, made.start, made.sections,
        partial(_alone, blocks),
    )  # fmt: skip


def _alone(blocks: Blocks) -> Iterator[tuple[int, Columns]]:
    """Yield vectors that stand alone as dot products without addend."""
    for start, columns in blocks():
        count = len(next(iter(columns.values())))
        op = np.full(count, Op.DOT, dtype=np.uint8)
        yield start, columns | {"op": op, "c": np.zeros(count, dtype=np.uint8)}


def made_for(
    dut: Dut, spec: MacSpec, strategy: str = "mixed", count: int = 4096, seed: int = 1
) -> VectorSource:
    """Return vectors of a unit that fit a design: its lanes, scales and operations.

    A design that accumulates is told sums that accumulate, whatever ``count``; one that cannot load
    its accumulator also sums that grow to the ends of its range.

    Args:
        dut: the design.
        spec: the unit.
        strategy: see `fpsim.vectors.plan`.
        count: number of random vectors.
        seed: of the random vectors.

    Returns:
        The vectors, made block by block.

    Raises:
        FpsimError: an unknown strategy, or a count or seed out of range.
    """
    k, group = shape_for(dut, spec)
    start, addends = "dot", True
    if accumulates(dut, spec):
        start = _start(dut)
    else:
        addends = dut.adapter is not None or dut.carries("c")
    wanted = {"strategy": strategy, "count": count, "seed": seed, "start": start}
    made = plan(spec, k=k, group=group, allowed=_told_operands(dut, spec, k, group), **wanted)  # type: ignore[arg-type]
    if strategy == "exhaustive" and not addends:
        cases = every_case(made.record, block_size(made.record), addends=False)
        made = made if cases is None else replace(made, parts=(cases,))
    if dut.adapter is None and "mac" not in dut.known_ops:
        # Sections that accumulate only could not be told to a design without accumulator.
        told = (p for p in made.parts if (p.make(0)["op"] == Op.DOT).any())
        made = replace(made, parts=tuple(told))
    if strategy in ("directed", "mixed") and (start != "dot" or not addends):
        more = unloaded_sections(made.record, start, _told_operands(dut, spec, k, group))
        made = replace(made, parts=(*made.parts, *more))
    source = from_plan(made, addends)
    return begun_with_products(source, dut) if dut.adapter is None else source


def _told_operands(dut: Dut, spec: MacSpec, k: int, group: int) -> dict[str, NDArray[np.int64]]:
    """Return the codes that a design can be told, of operands with codes that it cannot be told."""
    if dut.adapter is not None:
        return {}
    told = Serialiser(dut, spec, k, group).told_codes()
    some = {n: told[n] for n in "ab" if n in told and told[n].size < 1 << getattr(spec, n).bits}
    return {name: codes.astype(np.int64) for name, codes in some.items() if codes.size}


def with_told_codes(source: VectorSource, told: Mapping[str, NDArray[Any]]) -> VectorSource:
    """Return vectors in which codes that a design can be told replace all others.

    ``told`` has the codes that it can be told, by field, of some fields. So a domain of few codes
    leaves all vectors, not only the few that happen to lie inside.
    """
    record = source.record
    tables: dict[str, NDArray[Any]] = {}
    for field in record.fields:
        allowed = told.get(field.name)
        if allowed is not None and 0 < allowed.size < 1 << field.lane_width:
            codes = np.arange(1 << field.lane_width, dtype=np.uint64)
            other = allowed[codes % np.uint64(allowed.size)]
            tables[field.name] = np.where(np.isin(codes, allowed), codes, other)
    if not tables:
        return source

    def blocks() -> Iterator[tuple[int, Columns]]:
        for first, columns in source.blocks():
            edits = {
                name: table[columns[name]].astype(columns[name].dtype)
                for name, table in tables.items()
                if name in columns
            }
            changed = columns | edits
            yield first, changed | record.results(changed)

    return replace(source, blocks=blocks)


def begun_with_products(source: VectorSource, dut: Dut) -> VectorSource:
    """Return vectors whose sums begin as a design begins them: with their first product.

    A design without the operation ``clear`` (or ``load``) and with ``dot`` is told a clear and the
    product after it as one ``dot`` onto +0. The clear stays in its place, and is not told.
    """
    known = dut.known_ops
    merged = [] if "clear" in known else [Op.CLEAR]
    merged += [] if "load" in known or not dut.carries("c") else [Op.LOAD]
    if not {"dot", "mac"} <= known or not merged:
        return source

    def blocks() -> Iterator[tuple[int, Columns]]:
        for first, columns in source.blocks():
            yield first, _with_first_products(columns, merged)

    return replace(source, blocks=blocks)


def drawn(dut: Dut, source: VectorSource) -> VectorSource:
    """Return vectors with the random integers that a design draws itself, and their results.

    A design with `Dut.lfsr` is told no integers: each vector finds the integers that follow those
    of the vector before it, so that vectors must all be told, in this order.
    """
    lfsr, record = dut.lfsr, source.record
    if lfsr is None or not record.roundings:
        return source

    def blocks() -> Iterator[tuple[int, Columns]]:
        register, before = lfsr, 0
        for first, columns in source.blocks():
            rows = np.flatnonzero(np.isin(columns["op"], (Op.MAC, Op.DOT)))
            count = rows.size * record.roundings
            integers, register = register.integers(count, record.spec.random_bits)
            random = np.zeros_like(columns["random"])
            random[rows] = integers.reshape(rows.size, -1)
            columns = columns | {"random": random}
            columns = columns | record.results(columns, before)
            before = int(columns["acc"][-1])
            yield first, columns

    return replace(source, blocks=blocks)


def _with_first_products(columns: Columns, merged: Sequence[Op]) -> Columns:
    op = columns["op"]
    index = np.arange(op.size)
    begins = np.isin(op, merged)
    # The last vector before each that is no idle clock.
    last = np.maximum.accumulate(np.where(op == Op.IDLE, -1, index)) if op.size else index
    before = np.concatenate([[-1], last[:-1]])[: op.size]
    rows = np.flatnonzero((op == Op.MAC) & (before >= 0) & begins[before])
    op, c = op.copy(), columns["c"].copy()
    op[rows] = Op.DOT
    c[rows] = columns["acc"][before[rows]]
    return columns | {"op": op, "c": c}


def _without_addends(record: Record, columns: Columns) -> Columns:
    """Return dot products onto 0; all other vectors stay."""
    dots = np.flatnonzero(columns["op"] == Op.DOT)
    if not dots.size:
        return columns
    part = {name: column[dots] for name, column in columns.items()}
    acc, c = columns["acc"].copy(), columns["c"].copy()
    c[dots] = 0
    acc[dots] = record.dot(part, c[dots])
    return columns | {"c": c, "acc": acc}


def shape_for(dut: Dut, spec: MacSpec) -> tuple[int, int]:
    """Return the elements of a vector for a design, and the elements per scale (0: no scales)."""
    k = dut.k if dut.k is not None else _elements(dut, spec)
    return k, _group(dut, spec, k)


def accumulates(dut: Dut, spec: MacSpec) -> bool:
    """Return whether the design adds onto its own results, beginning from zero or from a load."""
    begins = {"clear", "dot", "load"} & dut.known_ops
    return spec.result == spec.initial and "mac" in dut.known_ops and bool(begins)


def _start(dut: Dut) -> str:
    """Return how the sums of a design that accumulates get their addend."""
    if not dut.carries("c"):
        return "clear"
    return "dot" if "dot" in dut.known_ops else "load" if "load" in dut.known_ops else "clear"


def _elements(dut: Dut, spec: MacSpec) -> int:
    """Return the elements of a step of the unit, made up to whole beats and scales."""
    unit = max([b.elements for b in dut.input.beats if b.elements is not None], default=1)
    # A dot product whose beats are marked, or told apart from later ones, has several.
    marked = dut.input.first or dut.input.last or "next" in dut.ops
    one_by_one = accumulates(dut, spec) and isinstance(spec.accumulate, Chain | Fixed)
    one_by_one = one_by_one and not (marked and "dot" in dut.ops)
    natural = 1 if one_by_one else max(natural_k(spec), LEAST_K)
    return -(-natural // unit) * unit


def _group(dut: Dut, spec: MacSpec, k: int) -> int:
    """Return the elements per scale that the design is told; 0 where no port carries scales."""
    if dut.adapter is None and not any(dut.carries(n) for n in ("a_scale", "b_scale", "exp")):
        if dut.group:
            raise FpsimError("group: given, but no beat carries a_scale, b_scale or exp")
        return 0
    if dut.group is not None:
        return dut.group
    natural = Record.of(spec, k, None).group
    return natural if natural or dut.adapter is not None else k
