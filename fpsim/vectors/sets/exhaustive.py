# SPDX-License-Identifier: Apache-2.0
"""Every case of a unit, block by block: operands, scales, addends and random integers.

Case i is i written in mixed radix: the last input field of a word is the fastest digit, and of a
field of several elements element 0. A digit is a place in the list of a format's codes, which are
all of them, but the finite ones where the unit has no code for a NaN (`takes_nan`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat, Format
from fpsim.vectors.sets.clocked import ClockShape
from fpsim.vectors.sets.codes import Codes, finite_count, nth_finite
from fpsim.vectors.sets.plans import Part
from fpsim.vectors.sets.record import Shape, takes_nan
from fpsim.vectors.sets.stream import EXPONENT_BITS, EXPONENT_MAX, EXPONENT_MIN, Op
from fpsim.vectors.sets.words import Columns

__all__ = ["MAX_CASES", "every_clock", "every_dot"]

#: Cases of the largest space that is enumerated.
MAX_CASES = 1 << 24
#: Cases of a block of a stream.
BLOCK = 1 << 16


@dataclass(frozen=True)
class Digit:
    """One element of an input field, which takes ``size`` codes."""

    field: str
    size: int
    fmt: Format | None  #: None: the exponent of a stream
    finite: bool

    def codes(self, place: Codes) -> Codes:
        """Return the codes at places 0..size-1."""
        if self.fmt is None:
            return (place + EXPONENT_MIN) & ((1 << EXPONENT_BITS) - 1)
        return nth_finite(self.fmt, place) if self.finite else place


@dataclass(frozen=True)
class Cases:
    """All cases of a unit; the last digit is the fastest, and element 0 of its field."""

    digits: tuple[Digit, ...]

    @property
    def count(self) -> int:
        """Number of cases."""
        return prod(digit.size for digit in self.digits)

    def codes(self, start: int, stop: int) -> dict[str, Codes]:
        """Return the codes (n, elements) of every field of the cases ``start`` to ``stop - 1``."""
        index = np.arange(start, stop, dtype=np.int64)
        elements: dict[str, list[Codes]] = {}
        for digit in reversed(self.digits):
            index, place = np.divmod(index, digit.size)
            elements.setdefault(digit.field, []).append(digit.codes(place))
        return {field: np.stack(codes, axis=1) for field, codes in elements.items()}


def _digits(lanes: Iterable[tuple[str, int, Format | None]], nan: bool) -> tuple[Digit, ...]:
    """Return the digits of fields, given as name, elements and format."""
    digits = []
    for name, count, fmt in lanes:
        size = EXPONENT_MAX - EXPONENT_MIN + 1
        if fmt is not None:
            size = 1 << fmt.bits if nan else finite_count(fmt)
        digits += [Digit(name, size, fmt, not nan)] * count
    return tuple(digits)


@dataclass(frozen=True)
class _Dots:
    """Makes blocks of dot products."""

    shape: Shape
    cases: Cases
    bounds: NDArray[np.int64]

    def __call__(self, block: int) -> Columns:
        found = self.cases.codes(*self.bounds[block : block + 2].tolist())
        columns: Columns = {
            name: codes.astype(self.shape.format_of(name).dtype) for name, codes in found.items()
        }
        columns["c"] = columns["c"][:, 0]
        return columns | {"op": np.full(columns["c"].size, Op.DOT, dtype=np.uint8)}


def every_dot(shape: Shape, block: int, most: int = MAX_CASES) -> Part | None:
    """Return every vector of a shape, ``block`` in a block; None if they are more than ``most``."""
    lanes = [lane for lane in shape.lanes if lane.name not in ("op", "acc", "flags")]
    fields = [(lane.name, lane.lanes, shape.format_of(lane.name)) for lane in lanes]
    cases = Cases(_digits(fields, takes_nan(shape.spec)))
    if cases.count > most:
        return None
    bounds = _bounds(cases.count, block)
    return Part("exhaustive", bounds, _Dots(shape, cases, bounds))


@dataclass(frozen=True)
class _Clocks:
    """Makes blocks of a stream: for every case a LOAD of its addend, then a MAC."""

    cases: Cases
    bounds: NDArray[np.int64]

    def __call__(self, block: int) -> Columns:
        start, stop = (self.bounds[block : block + 2] // 2).tolist()
        op = np.tile(np.array([Op.LOAD, Op.MAC], dtype=np.uint64), stop - start)
        columns: Columns = {"op": op}
        for name, codes in self.cases.codes(start, stop).items():
            column: NDArray[Any] = np.zeros(op.size, dtype=np.uint64)
            column[int(name != "c") :: 2] = codes[:, 0]
            columns[name] = column
        return columns


def every_clock(shape: ClockShape, most: int = MAX_CASES) -> Part | None:
    """Return every product onto every accumulator; None if they are more than ``most``."""
    spec = shape.spec
    formats: dict[str, Format | None] = {
        "a": spec.a, "b": spec.b, "exp": None, "c": spec.initial,
        "random": FixedFormat(max(spec.random_bits, 1), signed=False),
    }  # fmt: skip
    lanes = [lane for lane in shape.lanes if lane.name in formats]
    cases = Cases(_digits([(n.name, 1, formats[n.name]) for n in lanes], takes_nan(spec)))
    if cases.count > most:
        return None
    bounds = 2 * _bounds(cases.count, BLOCK)
    return Part("exhaustive", bounds, _Clocks(cases, bounds))


def _bounds(count: int, block: int) -> NDArray[np.int64]:
    """Return the first case of every block, and the number of all."""
    return np.minimum(np.arange(-(-count // block) + 1) * block, count)
