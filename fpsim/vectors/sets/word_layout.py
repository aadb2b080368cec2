# SPDX-License-Identifier: Apache-2.0
"""The layout of a vector's word: its fields, their numbers of codes and their widths."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "Field", "WordLayout", "placed"]

#: Columns of a set by field name: codes (n,) or (n, lanes).
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Field:
    """A field of a vector's word: ``lanes`` codes side by side, ``width`` bits in all.

    ``lsb`` is the field's lowest bit, counted from the least significant bit of the word.
    """

    name: str
    lsb: int
    width: int
    lanes: int = 1

    @property
    def lane_width(self) -> int:
        """Bits of one code."""
        return self.width // self.lanes


def placed(layout: list[tuple[str, int, int]]) -> tuple[Field, ...]:
    """Return fields from the top of the word down, given as name, lanes and bits of a code."""
    lsb, fields = sum(lanes * bits for _, lanes, bits in layout), []
    for name, lanes, bits in layout:
        lsb -= lanes * bits
        fields.append(Field(name, lsb, lanes * bits, lanes))
    return tuple(fields)


class WordLayout(ABC):
    """Fields of a set's vectors, and the function from inputs to results.

    ``k`` and ``group`` are the elements per vector and per scale (0: no scales).
    """

    k: int
    group: int

    @property
    @abstractmethod
    def title(self) -> str:
        """Name of the unit or operation of the vectors."""

    @property
    @abstractmethod
    def fields(self) -> tuple[Field, ...]:
        """Fields from the most significant bits down."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Return the manifest's entries about the meaning of the vectors, JSON-ready."""

    @abstractmethod
    def remarks(self, header: dict[str, Any]) -> list[str]:
        """Return the lines about the vectors for the header of ``vectors.hex``."""

    @abstractmethod
    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Return the unsigned NumPy type that holds the codes of a field."""

    @abstractmethod
    def is_single(self, name: str) -> bool:
        """Whether columns of a field have one axis (n,): fields that always have one code."""

    @abstractmethod
    def results(self, columns: Columns, before: int = 0) -> Columns:
        """Return the result fields; ``before`` is the accumulator code before the first vector."""

    @cached_property
    def word_bits(self) -> int:
        """Bits of a word."""
        return sum(field.width for field in self.fields)

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """Bits of every code of a word, most significant first."""
        codes = [field.lane_width for field in self.fields for _ in range(field.lanes)]
        return np.array(codes, dtype=np.int64)

    def lanes_of(self, name: str) -> int:
        """Return the number of codes in a field."""
        return next(field.lanes for field in self.fields if field.name == name)

    def columns(self, elements: NDArray[np.uint64]) -> Columns:
        """Return words, given code by code (n, E), as columns; the inverse of `elements`."""
        columns: Columns = {}
        at = 0
        for field in self.fields:
            part = elements[:, at : at + field.lanes].astype(self.dtype_of(field.name))
            at += field.lanes
            single = self.is_single(field.name)
            columns[field.name] = part[:, 0] if single else np.ascontiguousarray(part[:, ::-1])
        return columns

    def elements(self, columns: Columns) -> NDArray[np.uint64]:
        """Return columns as words, code by code (n, E), the most significant code first."""
        parts = []
        for field in self.fields:
            column = columns[field.name]
            column = column[:, ::-1] if column.ndim == 2 else column[:, None]
            parts.append(column.astype(np.uint64))
        return np.ascontiguousarray(np.concatenate(parts, axis=1))
