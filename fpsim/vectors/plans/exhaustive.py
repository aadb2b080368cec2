# SPDX-License-Identifier: Apache-2.0
"""All cases of a unit, block by block: operands, scales, addends and random integers.

Case i is i written in mixed radix: the last input field of a word is the fastest digit, and in a
field of several elements element 0. A digit is a place in a list of the format's codes: all codes,
or only the finite ones if the unit has no code for a NaN (`takes_nan`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import Format
from fpsim.vectors.plans.sum_starts import begun
from fpsim.vectors.sets.code_lists import Codes, finite_count, nth_finite
from fpsim.vectors.sets.record import Columns, Op, Record, takes_nan
from fpsim.vectors.sets.vector_set import PlannedSection

__all__ = ["MAX_CASES", "every_case"]

#: Most cases of a set that enumerates all of them.
MAX_CASES = 1 << 24


@dataclass(frozen=True)
class Digit:
    """One element of an input field, which takes ``size`` codes."""

    field: str
    size: int
    fmt: Format
    finite: bool

    def codes(self, place: Codes) -> Codes:
        """Return the codes at places 0..size-1."""
        return nth_finite(self.fmt, place) if self.finite else place


@dataclass(frozen=True)
class Cases:
    """All cases of a unit; the last digit is the fastest, and element 0 of its field."""

    digits: tuple[Digit, ...]

    @classmethod
    def of(cls, record: Record, addends: bool = True) -> Cases:
        """Return the cases of the input fields of a record, with or without addends."""
        nan, digits = takes_nan(record.spec), []
        left_out = ("op", "acc", "flags", *(() if addends else ("c",)))
        for field in record.fields:
            if field.name not in left_out:
                fmt = record.format_of(field.name)
                size = 1 << fmt.bits if nan else finite_count(fmt)
                digits += [Digit(field.name, size, fmt, not nan)] * field.lanes
        return cls(tuple(digits))

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


@dataclass(frozen=True)
class _CaseBlocks:
    """Makes blocks of cases: a dot product each, or a load of the addend and a mac."""

    record: Record
    cases: Cases
    bounds: NDArray[np.int64]
    loaded: bool

    def __call__(self, block: int) -> Columns:
        columns = {
            name: codes.astype(self.record.format_of(name).dtype)
            for name, codes in self.cases.codes(*self.bounds[block : block + 2].tolist()).items()
        }
        count = columns["a"].shape[0]
        zeros = np.zeros((count, 1), dtype=self.record.spec.initial.dtype)
        columns["c"] = columns.get("c", zeros)[:, 0]
        columns["op"] = np.full(count, Op.DOT, dtype=np.uint8)
        return begun(self.record, columns) if self.loaded else columns


def every_case(
    record: Record,
    block: int,
    *,
    loaded: bool = False,
    addends: bool = True,
    most: int = MAX_CASES,
) -> PlannedSection | None:
    """Return every case of a record as a section.

    Args:
        record: the unit and its fields.
        block: cases in a block.
        loaded: each case is a load of its addend and a mac, not a dot product.
        addends: whether addends are enumerated; else all are +0.
        most: most cases allowed.

    Returns:
        The section; None if there are more cases than ``most``.
    """
    cases = Cases.of(record, addends)
    if cases.count > most:
        return None
    bounds = np.minimum(np.arange(-(-cases.count // block) + 1) * block, cases.count)
    made = _CaseBlocks(record, cases, bounds, loaded)
    return PlannedSection("exhaustive", bounds * (1 + loaded), made)
