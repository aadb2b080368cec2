# SPDX-License-Identifier: Apache-2.0
"""A stream of vectors: what a testbench drives each clock, and the accumulator after it.

One vector is one clock: an operation, the operand codes, an exponent that is added to the
product's (if the set has one), the code that LOAD takes, the random integer of a unit with
stochastic rounding, and the accumulator code after the clock.
Streams start from reset (+0) and state carries from line to line, so the first wrong line is the
first divergence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.scalar import chain_and_fixed
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Chain, Fixed

__all__ = [
    "EXPONENT_BITS",
    "FLAG_BITS",
    "Field",
    "Op",
    "Section",
    "Stimulus",
    "VectorSet",
    "check_clocked",
    "expected",
    "signed_exponents",
    "word_fields",
]

#: Width of the exponent field, two's complement: the sum of two E8M0 exponents.
EXPONENT_BITS = 9
EXPONENT_MIN, EXPONENT_MAX = -254, 254
#: Width of the field of status flags (`fpsim.vectors.sets.flags`).
FLAG_BITS = 5


class Op(IntEnum):
    """What the unit does in a clock."""

    IDLE = 0  #: hold the accumulator
    CLEAR = chain_and_fixed.CLEAR  #: accumulator = +0
    MAC = chain_and_fixed.MAC  #: accumulator = step(accumulator, a * b * 2^exp)
    LOAD = chain_and_fixed.LOAD  #: accumulator = c
    DOT = 4  #: accumulator = dot(a, b, c); sets of dot products only (`fpsim.vectors.sets.record`)


@dataclass(frozen=True)
class Field:
    """A field of a vector word, ``lsb`` counted from bit 0 of the word."""

    name: str
    lsb: int
    width: int


@dataclass(frozen=True)
class Section:
    """A named run of consecutive vectors: one corner class, or one kind of sequence."""

    name: str
    start: int
    count: int


class Stimulus:
    """Collects operations in order, in named sections."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.int64]] = []
        self._names: list[tuple[str, int]] = []

    def section(self, name: str) -> None:
        """Start a section; it lasts until the next one."""
        self._names.append((name, self.count))

    @property
    def count(self) -> int:
        """Vectors so far."""
        return sum(len(rows) for rows in self._rows)

    def add(
        self, op: Any, a: Any = 0, b: Any = 0, exp: Any = 0, c: Any = 0, random: Any = 0
    ) -> None:
        """Append vectors; scalars repeat to the length of the arrays."""
        columns = np.broadcast_arrays(
            *(np.atleast_1d(x).astype(np.int64) for x in (op, a, b, exp, c, random))
        )
        self._rows.append(np.stack(columns, axis=1))

    def columns(self) -> dict[str, NDArray[np.uint64]]:
        """Return all vectors by field, the exponent as its field holds it."""
        rows = np.concatenate(self._rows) if self._rows else np.empty((0, 6), dtype=np.int64)
        fields = np.ascontiguousarray(rows.T).view(np.uint64)
        columns = dict(zip(("op", "a", "b", "exp", "c", "random"), fields, strict=True))
        return columns | {"exp": columns["exp"] & np.uint64((1 << EXPONENT_BITS) - 1)}

    def sections(self) -> tuple[Section, ...]:
        """Return the sections that have vectors."""
        ends = [*(start for _, start in self._names), self.count][1:]
        pairs = zip(self._names, ends, strict=True)
        return tuple(
            Section(name, start, end - start) for (name, start), end in pairs if end > start
        )


@dataclass(frozen=True)
class VectorSet:
    """Stimulus and expected accumulators of one unit.

    ``columns`` maps field names to uint64 arrays of bit patterns, all of one length.
    """

    spec: MacSpec
    seed: int
    strategy: str
    columns: dict[str, NDArray[np.uint64]]
    sections: tuple[Section, ...]

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.columns["op"].size)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Fields from the top down: op, a, b, [exp], c, [random], acc, [flags]."""
        return word_fields(self.spec, "exp" in self.columns, "flags" in self.columns)

    @property
    def exponents(self) -> NDArray[np.int64]:
        """The exponent added to each product; zeros without that field."""
        if "exp" not in self.columns:
            return np.zeros(self.count, dtype=np.int64)
        return signed_exponents(self.columns["exp"])

    def __iter__(self) -> Iterator[dict[str, int]]:
        """Yield vectors as dicts of integers."""
        names = [f.name for f in self.fields]
        for row in zip(*(self.columns[name].tolist() for name in names), strict=True):
            yield dict(zip(names, row, strict=True))


def word_fields(spec: MacSpec, exponents: bool, flags: bool = False) -> tuple[Field, ...]:
    """Return the fields of a vector word of a unit."""
    widths = [("op", 2), ("a", spec.a.bits), ("b", spec.b.bits)]
    widths += [("exp", EXPONENT_BITS)] * exponents
    widths.append(("c", spec.result.bits))
    widths += [("random", spec.random_bits)] * bool(spec.random_bits)
    widths.append(("acc", spec.result.bits))
    widths += [("flags", FLAG_BITS)] * flags
    fields = []
    lsb = sum(width for _, width in widths)
    for name, width in widths:
        lsb -= width
        fields.append(Field(name, lsb, width))
    return tuple(fields)


def check_clocked(spec: MacSpec) -> Chain | Fixed:
    """Return the stage of a unit that has streams.

    Raises:
        FpsimError: a unit that has no per-clock accumulator.
    """
    stage = spec.accumulate
    if not isinstance(stage, Chain | Fixed):
        raise FpsimError(
            f"accumulate.kind: {stage.kind!r} has no accumulator to compare after every clock; "
            "vectors need chain or fixed"
        )
    return stage


def signed_exponents(fields: NDArray[Any]) -> NDArray[np.int64]:
    """Return the exponents that fields of `EXPONENT_BITS` bits hold in two's complement."""
    unused = 64 - EXPONENT_BITS
    return (fields.astype(np.uint64).view(np.int64) << unused) >> unused


def expected(spec: MacSpec, columns: dict[str, NDArray[Any]], start: int = 0) -> NDArray[np.uint64]:
    """Return the accumulator codes (uint64) of a stream, one per vector; the first finds ``start``.

    Raises:
        FpsimError: as `check_clocked`, or a result without a code.
    """
    stage = check_clocked(spec)
    op, c = columns["op"].astype(np.int64), columns["c"].astype(np.uint64)
    product = spec.a.decode(columns["a"]) * spec.b.decode(columns["b"])
    if "exp" in columns:
        product = np.ldexp(product, signed_exponents(columns["exp"]))
    mode, random = mode_constants(stage.rounding), (np.zeros(1, dtype=np.int64), 0)
    if stage.random_bits:
        random = columns["random"].astype(np.int64), stage.random_bits
    out = np.empty(op.shape, dtype=np.uint64)
    if isinstance(stage, Fixed):
        if not np.isfinite(product).all():
            raise FpsimError("operands: a NaN or infinite operand has no fixed-point product")
        loads, fmt = stage.initial.integers(c), stage.initial
        first = int(fmt.integers(np.array([start], dtype=fmt.dtype))[0])
        chain_and_fixed.fixed_stream(
            op, product, loads, first, fmt.grid(stage.overflow), mode, *random, out
        )
        return out
    assert stage.overflow is not None
    limits = stage.format.limits(stage.rounding, stage.overflow)
    bad = chain_and_fixed.chain_stream(
        op, product, c, start, stage.format.layout, limits, mode, *random, out
    )
    if bad >= 0:
        raise FpsimError(
            f"vector {bad}: the result is NaN, which has no code in {spec.result.name}"
        )
    return out
