# SPDX-License-Identifier: Apache-2.0
"""The record of a vector: its operation, its fields, their lanes and widths.

A vector is one operation on an accumulator, with ``k`` elements of each operand, their scale codes,
an addend, and the accumulator after it. From the most significant bits down its word holds

    op, a[k-1..0], b[k-1..0], [a_scale[..0], b_scale[..0]], c, [random[..0]], acc, [flags]

Element 0 of a field is in its low bits. A scale covers ``group`` consecutive elements; an operand
that `MacSpec.sign_split` names has two per group, the one for elements without sign bit below.
``random``, of units with stochastic rounding, holds the random integers in the order in which the
roundings of the dot product take them, the first in the low bits.

The operation says which addend the products meet: ``dot`` has an addend ``c``; ``mac`` takes the
result of the vector before. So one kind of record holds dot products that stand alone and streams
that accumulate; one clock of a multiply-accumulate unit is a record with ``k`` = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.names import E8M0
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Fixed, Stage, Tree, stages_of
from fpsim.vectors.sets.status_flags import FLAG_BITS, FLAG_TEXT, dot_flags
from fpsim.vectors.sets.word_layout import Columns, Field, WordLayout, placed

__all__ = [
    "OPS",
    "Columns",
    "Field",
    "Op",
    "Record",
    "accumulators_before",
    "natural_k",
    "takes_nan",
]

OP_BITS = 3
MAX_K = 1024


class Op(IntEnum):
    """Operation of a vector on the accumulator; its value is the code of the field ``op``."""

    IDLE = 0  #: acc stays
    CLEAR = 1  #: acc = +0
    MAC = 2  #: acc = dot(a, b, acc)
    LOAD = 3  #: acc = c
    DOT = 4  #: acc = dot(a, b, c)


#: Codes of the field ``op`` by name.
OPS = {op.name.lower(): int(op) for op in Op}


@dataclass(frozen=True)
class Record(WordLayout):
    """A unit, and the layout of its vectors in words.

    Args:
        spec: any unit.
        k: elements per vector, 1..1024.
        group: elements per scale; 0 leaves the scale fields out.
        flags: whether words have status flags (`fpsim.vectors.sets.status_flags`), from the exact
            model.

    Raises:
        FpsimError: ``k`` or ``group`` out of range, or a group that cuts the unit's blocks.
    """

    spec: MacSpec
    k: int
    group: int = 0
    flags: bool = False

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
    ) -> Record:
        """Return a record with the natural lengths of a unit, except for those given.

        Args:
            spec: any unit.
            k: elements per vector; None: a step of the unit (`natural_k`).
            group: elements per scale; None: the unit's blocks, all ``k`` if scales are not plain
                E8M0 or differ by sign, else no scales.
            flags: whether words have status flags.

        Returns:
            A record of the unit.

        Raises:
            FpsimError: ``k`` or ``group`` out of range, or a group that cuts the unit's blocks.
        """
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
        """Scales per operand, each pair of signs counted once; 0 without scales."""
        return -(-self.k // self.group) if self.group else 0

    @cached_property
    def roundings(self) -> int:
        """Random integers that a vector takes; 0 without stochastic rounding."""
        return self.spec.roundings(self.k)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Fields from the most significant bits down."""
        spec = self.spec
        layout = [("op", 1, OP_BITS), ("a", self.k, spec.a.bits), ("b", self.k, spec.b.bits)]
        for operand in "ab" if self.group else "":
            lanes = self.groups * (1 + spec.splits(operand))
            name = f"{operand}_scale"
            layout.append((name, lanes, getattr(spec, name).bits))
        layout.append(("c", 1, spec.initial.bits))
        if self.roundings:
            layout.append(("random", self.roundings, spec.random_bits))
        layout.append(("acc", 1, spec.result.bits))
        layout += [("flags", 1, FLAG_BITS)] * self.flags
        return placed(layout)

    @property
    def title(self) -> str:
        """Name of the unit."""
        return self.spec.name

    def described(self) -> dict[str, Any]:
        """Return the manifest's entries about the unit, and the codes of its operations."""
        return {
            "unit": self.spec.to_dict(),
            "canonical": self.spec.canonical_name,
            "equation": self.spec.equation,
            "ops": OPS,
        }

    def remarks(self, header: dict[str, Any]) -> list[str]:
        """Return the lines of the header of ``vectors.hex`` that explain a word."""
        splits = bool(self.group) and (self.spec.splits("a") or self.spec.splits("b"))
        lines = [
            f"unit {header['canonical']}",
            header["equation"],
            f"strategy {header['strategy']}, seed {header['seed']}, sums start with "
            f"{header['start']}, {self.k} elements per vector, "
            + (f"{self.group} per scale, " if self.group else "no scales, ")
            + f"{self.word_bits} bits per word",
            "op: 0 idle (hold), 1 clear (+0), 2 mac (acc = dot(a, b, acc)), 3 load (acc = c), "
            "4 dot (acc = dot(a, b, c)); acc is expected after the clock",
            "element 0 of a field is in its low bits"
            + ("; the first rounding takes element 0 of random" if self.spec.random_bits else "")
            + ("; of two scales per group the one without sign is the lower" if splits else ""),
        ]
        return lines + [FLAG_TEXT] * self.flags

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Return the unsigned NumPy type that holds the codes of a field."""
        small = name in ("op", "flags")
        return np.dtype(np.uint8) if small else self.format_of(name).dtype

    def is_single(self, name: str) -> bool:
        """Whether columns of a field have one axis (n,): ``op``, ``c``, ``acc`` and ``flags``."""
        return name in ("op", "c", "acc", "flags")

    @property
    def feeds_back(self) -> bool:
        """Whether results have the addend's format, so that vectors can accumulate."""
        return self.spec.result == self.spec.initial

    def format_of(self, name: str) -> Format:
        """Return the format of a field's codes; of ``random``, unsigned integers."""
        spec = self.spec
        if name == "random":
            return FixedFormat(spec.random_bits, signed=False)
        formats = {"a": spec.a, "b": spec.b, "a_scale": spec.a_scale, "b_scale": spec.b_scale}
        return formats.get(name) or (spec.initial if name == "c" else spec.result)

    def dot(self, columns: Columns, c: NDArray[Any]) -> NDArray[Any]:
        """Return the unit's results for the operands of ``columns`` and addends ``c``."""
        with np.errstate(invalid="ignore"):  # zero times an infinite scale is rightly NaN
            unit = MacUnit(self.spec)
            return np.asarray(unit.dot(columns["a"], columns["b"], c, **self.options(columns)))

    def trace(self, row: Columns, c: int) -> oracle.Trace:
        """Return the exact model's trace of one vector onto the accumulator code ``c``."""
        addend = np.asarray(c, dtype=self.spec.initial.dtype)
        return oracle.trace(self.spec, row["a"], row["b"], addend, **self.options(row))

    def scales(self, columns: Columns) -> dict[str, Any]:
        """Return scale codes and elements per scale as `MacUnit.dot` takes them, if any."""
        if not self.group:
            return {}
        scales: dict[str, Any] = {"block": self.group}
        for name in ("a", "b"):
            codes = columns[f"{name}_scale"]
            if self.spec.splits(name):
                codes = codes.reshape(*codes.shape[:-1], -1, 2)
            scales[f"{name}_scale"] = codes
        return scales

    def options(self, columns: Columns) -> dict[str, Any]:
        """Return the scale arguments of `MacUnit.dot`, and the random integers if it takes any."""
        random = {"random": columns["random"]} if self.roundings else {}
        return self.scales(columns) | random

    def results(self, columns: Columns, before: int = 0) -> Columns:
        """Return the result fields: ``acc``, and ``flags`` if the record has them.

        ``before`` is the accumulator code before the first vector.

        Raises:
            FpsimError: a result without a code, or vectors that accumulate in a unit whose results
                are no addends.
        """
        acc = self.expected(columns, before)
        if not self.flags:
            return {"acc": acc}
        return {"acc": acc, "flags": self._flags(columns, acc, before)}

    def _flags(self, columns: Columns, acc: NDArray[Any], before: int) -> NDArray[np.uint8]:
        op = columns["op"]
        rows = np.flatnonzero((op == Op.DOT) | (op == Op.MAC))
        flags = np.zeros(op.size, dtype=np.uint8)
        if rows.size:
            addends = accumulators_before(columns | {"acc": acc}, before)[rows]
            part = {name: column[rows] for name, column in columns.items()}
            options = self.options(part)
            flags[rows] = dot_flags(
                self.spec, part["a"], part["b"], addends, options, acc[rows], rows
            )
        return flags

    def expected(self, columns: Columns, before: int = 0) -> NDArray[Any]:
        """Return the accumulator code after every vector; ``before`` is the code before the first.

        Raises:
            FpsimError: a result without a code, or vectors that accumulate in a unit whose results
                are no addends.
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
            raise FpsimError(
                f"op: vectors of {self.spec.name} cannot accumulate; its results are no addends"
            )
        out[op == Op.LOAD] = columns["c"][op == Op.LOAD]
        fill = self._fill_runs if self.adds_in_a_row else self._fill_turns
        fill(columns, before, out)
        return out

    @cached_property
    def adds_in_a_row(self) -> bool:
        """Whether a run of accumulating vectors is one sum, added product by product."""
        stage = self.spec.accumulate
        one_by_one = isinstance(stage, Chain) or (
            isinstance(stage, Fixed) and not stage.sums_first and stage.convert is None
        )
        return one_by_one and (not self.group or self.k % self.group == 0)

    def _fill_runs(self, columns: Columns, before: int, out: NDArray[Any]) -> None:
        """Fill ``out`` for accumulating vectors: each run is one sum, computed with all its steps.

        Runs of similar length are computed together, shorter ones filled up with zeros.
        """
        op = columns["op"]
        index = np.arange(op.size)
        alone = (op != Op.MAC) & (op != Op.IDLE)
        macs = np.flatnonzero(op == Op.MAC)
        start = np.maximum.accumulate(np.where(alone, index, -1))  # -1: before the first vector
        firsts, lengths = np.unique(start[macs], return_counts=True)
        offsets = np.cumsum(lengths) - lengths
        classes = np.ceil(np.log2(lengths)).astype(np.int64)
        for size in np.unique(classes).tolist():
            runs = np.flatnonzero(classes == size)
            steps = np.arange(1 << size)
            there = steps < lengths[runs, None]
            rows = macs[offsets[runs, None] + np.where(there, steps, 0)]
            c = np.where(firsts[runs] < 0, before, out[firsts[runs]])
            out[rows[there]] = self._sums(columns, rows, there, c)[there]
        last = np.maximum.accumulate(np.where(op == Op.IDLE, -1, index))
        out[:] = np.where(last < 0, before, out[last])

    def _sums(
        self, columns: Columns, rows: NDArray[Any], there: NDArray[Any], c: NDArray[Any]
    ) -> NDArray[Any]:
        """Return the accumulator (R, L) after each vector of runs ``rows`` (R, L) onto ``c`` (R,).

        Rows of ``rows`` that are not ``there`` have zero operands.
        """
        part = {n: columns[n][rows] for n in columns if n not in ("op", "c", "acc", "flags")}
        for operand in "ab":
            fmt = getattr(self.spec, operand)
            part[operand][~there] = fmt.encode(np.zeros(1), "rtz", "saturate")[0]
        whole = {n: codes.reshape(codes.shape[0], -1) for n, codes in part.items()}
        options = self.options(whole)
        unit = MacUnit(self.spec)
        with np.errstate(invalid="ignore"):  # zero times an infinite scale is NaN
            codes = unit.accumulate(
                whole["a"], whole["b"], c.astype(self.spec.initial.dtype), **options
            )
        return np.asarray(codes)[:, self.k - 1 :: self.k]

    def _fill_turns(self, columns: Columns, before: int, out: NDArray[Any]) -> None:
        """Fill ``out`` for accumulating vectors: the first of each run, then the second, ..."""
        op = columns["op"]
        rank = _ranks((op == Op.MAC) | (op == Op.IDLE))
        order = np.argsort(rank, kind="stable")
        part = {n: column[order] for n, column in columns.items() if n not in ("c", "acc")}
        ends = np.cumsum(np.bincount(rank))
        for low, high in pairwise(ends.tolist()):
            rows = order[low:high]
            found = out[rows - 1]
            if rows[0] == 0:
                found[0] = before
            mac = np.flatnonzero(part["op"][low:high] == Op.MAC)
            if mac.size:
                some = {name: column[low:high][mac] for name, column in part.items()}
                found[mac] = self.dot(some, found[mac])
            out[rows] = found


def accumulators_before(columns: Columns, before: int = 0) -> NDArray[Any]:
    """Return the addend of every vector: the result before it if it accumulates, else ``c``.

    ``before`` is the accumulator code before the first vector.
    """
    acc, op = columns["acc"], columns["op"]
    found = np.concatenate([np.array([before], dtype=acc.dtype), acc[:-1]])
    holds = (op == Op.MAC) | (op == Op.IDLE)
    return np.where(holds, found.astype(columns["c"].dtype), columns["c"])


def _ranks(holds: NDArray[np.bool_]) -> NDArray[Any]:
    """Return, per vector, the distance back to the vector that its run accumulates onto."""
    index = np.arange(holds.size)
    rank = index - np.maximum.accumulate(np.where(holds, -1, index))
    # Stable sorts of 16-bit integers take linear time.
    return rank.astype(np.uint16) if not rank.size or rank.max() < 1 << 16 else rank


def natural_k(spec: MacSpec) -> int:
    """Return the elements of a step of a unit: 1 for a chain, a block, a window, or a few."""
    return min(_natural(spec.accumulate), MAX_K)


def _natural(stage: Stage) -> int:
    if isinstance(stage, Block):
        into = stage.into
        per_step = into.products if isinstance(into, Aligned | Tree) else None
        return stage.size * (_natural(into) if isinstance(into, Chunked) else per_step or 1)
    if isinstance(stage, Chunked):
        return 2 * (stage.size or 2 * (stage.parts or 1))
    if isinstance(stage, Aligned):
        return stage.products
    if isinstance(stage, Tree):
        return stage.products or 8
    converts = getattr(stage, "convert", None) is not None  # the register itself is not a result
    return 1 if isinstance(stage, Chain | Fixed) and not converts else 4


def takes_nan(spec: MacSpec) -> bool:
    """Return whether every format that a NaN may reach has a code for NaN."""
    for stage in stages_of(spec.accumulate):
        for name in ("format", "convert"):
            fmt = getattr(stage, name, None)
            if isinstance(fmt, FloatFormat) and fmt.nan_code is None:
                return False
        if isinstance(getattr(stage, "initial", None), FixedFormat):
            return False
    return True
