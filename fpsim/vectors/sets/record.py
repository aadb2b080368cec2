# SPDX-License-Identifier: Apache-2.0
"""The word of a set of dot products: which fields, how many lanes, how wide.

One vector is one beat: ``k`` elements of each operand, their scale codes, an addend and the result.
From the most significant bits down a word holds

    op, a[k-1..0], b[k-1..0], [a_scale[..0], b_scale[..0]], c, [random[..0]], acc, [flags]

Element 0 of a field is in its low bits. A scale covers ``group`` consecutive elements; an operand
that `MacSpec.sign_split` names has two per group, the one for elements without sign bit below.
``random``, of units with stochastic rounding, holds the random integers in the order in which the
roundings of the dot product take them, the first in the low bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.names import E8M0
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Aligned, Block, Chunked, Stage, Tree, stages_of
from fpsim.vectors.random.fills import ranks
from fpsim.vectors.sets.flags import dot_flags
from fpsim.vectors.sets.stream import FLAG_BITS, Op
from fpsim.vectors.sets.words import Columns, Lanes, Words

__all__ = ["Columns", "Shape", "natural_k", "takes_nan"]

OP_BITS = 3
MAX_K = 1024


@dataclass(frozen=True)
class Shape(Words):
    """A unit and how its dot products are cut into words.

    Args:
        spec: any unit.
        k: elements per vector, 1..1024.
        group: elements per scale; 0 leaves the scale fields out.
        flags: whether words have status flags (`fpsim.vectors.sets.flags`), from the exact model.

    Raises:
        FpsimError: lengths that do not fit the unit.
    """

    spec: MacSpec
    k: int
    group: int = 0
    flags: bool = False
    schema: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for name, value, low in (("k", self.k, 1), ("group", self.group, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MAX_K:
                raise FpsimError(f"{name}: {value!r} is not an integer in {low}..{MAX_K}")
        block = self.spec.block
        if block is not None and self.group % block.size:
            raise FpsimError(
                f"group: {self.group} elements per scale, but {self.spec.name} sums blocks of "
                f"{block.size}; a multiple is needed"
            )

    @classmethod
    def of(
        cls, spec: MacSpec, k: int | None = None, group: int | None = None, flags: bool = False
    ) -> Shape:
        """Return a shape with what is natural for the unit where nothing is given."""
        if k is None:
            k = natural_k(spec)
        if group is None:
            if spec.block is not None:
                group = spec.block.size
            else:
                scaled = (spec.a_scale, spec.b_scale) != (E8M0, E8M0) or spec.sign_split != "none"
                group = k if scaled else 0
        return cls(spec, k, group, flags)

    @cached_property
    def groups(self) -> int:
        """Scales per operand, not counting signs; 0 without scales."""
        return -(-self.k // self.group) if self.group else 0

    @cached_property
    def roundings(self) -> int:
        """Random integers that a vector takes; 0 without stochastic rounding."""
        return self.spec.roundings(self.k)

    @cached_property
    def lanes(self) -> tuple[Lanes, ...]:
        """Fields from the most significant bits down."""
        spec = self.spec
        fields = [Lanes("op", 1, OP_BITS), Lanes("a", self.k, spec.a.bits)]
        fields.append(Lanes("b", self.k, spec.b.bits))
        if self.group:
            for name, fmt in (("a", spec.a_scale), ("b", spec.b_scale)):
                count = self.groups * (1 + spec.splits(name))
                fields.append(Lanes(f"{name}_scale", count, fmt.bits))
        fields.append(Lanes("c", 1, spec.initial.bits))
        if self.roundings:
            fields.append(Lanes("random", self.roundings, spec.random_bits))
        fields.append(Lanes("acc", 1, spec.result.bits))
        fields += [Lanes("flags", 1, FLAG_BITS)] * self.flags
        return tuple(fields)

    @property
    def feeds_back(self) -> bool:
        """Whether a result can be the next addend, so that there are streams."""
        return self.spec.result == self.spec.initial

    def format_of(self, name: str) -> Format:
        """Return the format of a field's codes."""
        spec = self.spec
        if name == "random":
            return FixedFormat(spec.random_bits, signed=False)
        formats = {"a": spec.a, "b": spec.b, "a_scale": spec.a_scale, "b_scale": spec.b_scale}
        return formats.get(name) or (spec.initial if name == "c" else spec.result)

    def columns(self, elements: NDArray[np.uint64]) -> Columns:
        """Return elements of words as columns: codes (n,) or (n, lanes)."""
        columns: Columns = {}
        at = 0
        for lane in self.lanes:
            part = elements[:, at : at + lane.lanes]
            at += lane.lanes
            small = lane.name in ("op", "flags")
            part = part.astype(np.uint8 if small else self.format_of(lane.name).dtype)
            plain = lane.name in ("op", "c", "acc", "flags")
            columns[lane.name] = part[:, 0] if plain else np.ascontiguousarray(part[:, ::-1])
        return columns

    def dot(self, columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
        """Return the unit's results for the operands of ``columns`` and addends ``c``."""
        with np.errstate(invalid="ignore"):  # zero times an infinite scale is NaN, as it should be
            unit = MacUnit(self.spec)
            return np.asarray(unit.dot(columns["a"], columns["b"], c, **self.options(columns)))

    def trace(self, row: Columns, c: int) -> oracle.Trace:
        """Return the exact model's trace of one vector that finds the accumulator ``c``."""
        addend = np.asarray(c, dtype=self.spec.initial.dtype)
        return oracle.trace(self.spec, row["a"], row["b"], addend, **self.options(row))

    def scales(self, columns: Columns) -> dict[str, Any]:
        """Return the scale arguments of `MacUnit.dot`."""
        if not self.group:
            return {}
        scales: dict[str, Any] = {"block": self.group}
        for name in ("a", "b"):
            codes = columns[f"{name}_scale"]
            if self.spec.splits(name):
                codes = codes.reshape(*codes.shape[:-1], self.groups, 2)
            scales[f"{name}_scale"] = codes
        return scales

    def options(self, columns: Columns) -> dict[str, Any]:
        """Return the scale arguments of `MacUnit.dot`, and the random integers if it takes any."""
        random = {"random": columns["random"]} if self.roundings else {}
        return self.scales(columns) | random

    def results(self, columns: Columns, start: int = 0) -> Columns:
        """Return the fields that the unit gives, for vectors the first of which finds ``start``."""
        acc = self.expected(columns, start)
        if not self.flags:
            return {"acc": acc}
        return {"acc": acc, "flags": dot_flags(self, columns, acc, start)}

    def expected(self, columns: Columns, start: int = 0) -> NDArray[Any]:
        """Return the accumulator after every vector, the first of which finds ``start``.

        Raises:
            FpsimError: a result that has no code, or a stream of a unit whose results are no
                addends.
        """
        op = columns["op"]
        alone = op == Op.DOT
        if alone.all():
            acc = self.dot(columns, columns["c"])
            return acc.astype(self.spec.result.dtype, copy=False)
        out = np.zeros(op.size, dtype=self.spec.result.dtype)
        dots = np.flatnonzero(alone)
        if dots.size:
            out[dots] = self.dot({k: v[dots] for k, v in columns.items()}, columns["c"][dots])
        if not self.feeds_back:
            raise FpsimError(f"op: {self.spec.name} has no streams; its results are no addends")
        out[op == Op.LOAD] = columns["c"][op == Op.LOAD]
        rank = _ranks((op == Op.MAC) | (op == Op.IDLE))
        order = np.argsort(rank, kind="stable")
        part = {n: column[order] for n, column in columns.items() if n not in ("c", "acc")}
        ends = np.cumsum(np.bincount(rank))
        for low, high in pairwise(ends.tolist()):
            rows = order[low:high]
            before = out[rows - 1]
            if rows[0] == 0:
                before[0] = start
            mac = np.flatnonzero(part["op"][low:high] == Op.MAC)
            if mac.size:
                some = {name: column[low:high][mac] for name, column in part.items()}
                before[mac] = self.dot(some, before[mac])
            out[rows] = before
        return out


def _ranks(holds: NDArray[np.bool_]) -> NDArray[Any]:
    """Return how many vectors back the last one is that does not depend on the one before it."""
    rank = np.empty(holds.size, dtype=np.int64)
    # Stable sorts of 16-bit integers take linear time.
    return rank.astype(np.uint16) if ranks(holds, rank) < 1 << 16 else rank


def natural_k(spec: MacSpec) -> int:
    """Return the elements of one beat: a step of the unit, or a few products."""
    return min(_natural(spec.accumulate), MAX_K)


def _natural(stage: Stage) -> int:
    if isinstance(stage, Block):
        into = stage.into
        per_step = into.products if isinstance(into, Aligned | Tree) else None
        return stage.size * (per_step or 1)
    if isinstance(stage, Chunked):
        return 2 * (stage.size or 2 * (stage.parts or 1))
    if isinstance(stage, Aligned):
        return stage.products
    if isinstance(stage, Tree):
        return stage.products or 8
    return 4


def takes_nan(spec: MacSpec) -> bool:
    """Return whether every format that a NaN may reach has a code for it."""
    for stage in stages_of(spec.accumulate):
        for name in ("format", "convert"):
            fmt = getattr(stage, name, None)
            if isinstance(fmt, FloatFormat) and fmt.nan_code is None:
                return False
        if isinstance(getattr(stage, "initial", None), FixedFormat):
            return False
    return True
