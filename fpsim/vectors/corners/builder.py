# SPDX-License-Identifier: Apache-2.0
"""Collects vectors in named sections; fields without a value are neutral."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fpsim.vectors.sets.palette import Codes, Palette
from fpsim.vectors.sets.record import Columns, Op, Record
from fpsim.vectors.sets.vector_set import Section

__all__ = ["VectorBuilder"]


class VectorBuilder:
    """Vectors in order, in named sections; a field without a value is neutral.

    ``allowed``: codes that the operands may have, as in `Palette`.
    """

    def __init__(self, record: Record, allowed: Mapping[str, Codes] | None = None) -> None:
        self.record = record
        self.palette = Palette(record, allowed)
        self._parts: list[Columns] = []
        self._names: list[tuple[str, int]] = []
        self.count = 0

    def section(self, name: str) -> None:
        """Start a section; every vector until the next call belongs to it."""
        self._names.append((name, self.count))

    def sections(self) -> tuple[Section, ...]:
        """Return the sections that have vectors."""
        ends = [start for _, start in self._names[1:]] + [self.count]
        pairs = zip(self._names, ends, strict=True)
        return tuple(Section(n, start, end - start) for (n, start), end in pairs if end > start)

    def neutral(self) -> dict[str, Any]:
        """Return zero operands, unit scales, a zero addend, and random integers of zero."""
        palette = self.palette
        row: dict[str, Any] = {"op": Op.DOT, "c": 0}
        if self.record.roundings:
            row["random"] = 0
        for operand in "ab":
            row[operand] = palette.zero(operand)
            if self.record.group:
                row[f"{operand}_scale"] = palette.one(operand)
        return row

    def add(self, **given: Any) -> None:
        """Append vectors; the longest field says how many.

        Every field is a code, codes (n,), (lanes,) as a tuple, or (n, lanes).
        """
        given = self.neutral() | given
        lanes = {field.name: field.lanes for field in self.record.fields}
        arrays = {}
        for name, value in given.items():
            array = np.asarray(value, dtype=np.int64 if name != "c" else None)
            if name in ("op", "c"):
                arrays[name] = array.reshape(-1)
            else:
                array = (
                    array[:, None] if array.ndim == 1 and not isinstance(value, tuple) else array
                )
                arrays[name] = np.broadcast_to(
                    array, (array.shape[0] if array.ndim == 2 else 1, lanes[name])
                )
        sizes = {array.shape[0] for array in arrays.values()}
        if 0 in sizes:
            return
        count = max(sizes)
        columns: Columns = {}
        for name, array in arrays.items():
            dtype = np.uint8 if name == "op" else self.record.format_of(name).dtype
            columns[name] = np.broadcast_to(array, (count, *array.shape[1:])).astype(dtype)
        self._parts.append(columns)
        self.count += count

    def lane_codes(self, operand: str, lane: Any, codes: Any) -> Codes:
        """Return operands that are zero except in one lane of every vector.

        Args:
            operand: ``a`` or ``b``.
            lane: lane of each code (n,), or one lane for all vectors; taken modulo ``k``.
            codes: one per vector (n,), or a single one.

        Returns:
            Codes (n, k), element 0 first.
        """
        codes = np.atleast_1d(codes)
        out = np.full((codes.size, self.record.k), self.palette.zero(operand), dtype=np.int64)
        out[np.arange(codes.size), np.broadcast_to(lane, codes.shape) % self.record.k] = codes
        return out

    def columns(self) -> Columns:
        """Return all vectors as columns of codes, (n,) or (n, lanes), without results."""
        names = [f.name for f in self.record.fields if f.name not in ("acc", "flags")]
        return {name: np.concatenate([part[name] for part in self._parts]) for name in names}
