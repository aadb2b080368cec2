# SPDX-License-Identifier: Apache-2.0
"""The vectors that a design need take, and the differences of a result that do not count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import not_one_of
from fpsim.formats.floating import FloatFormat, Format
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["Comparison", "Domain"]

#: Fields that a domain can bound, and kinds of numbers that it can leave out.
BOUNDED = ("a", "b", "a_scale", "b_scale", "c", "acc", "x", "tensor_scale", "y")
KINDS = ("nan", "infinity", "subnormal", "negative_zero")


@dataclass(frozen=True)
class Domain:
    """The vectors that a design is told; all others are left out.

    ``codes`` has the codes of fields as ranges, both ends included; ``without`` names kinds of
    numbers that no operand, scale, addend or result may be.

    Raises:
        FpsimError: an unknown field or kind.
    """

    codes: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, names, known in (("", self.codes, BOUNDED), (".without", self.without, KINDS)):
            for name in names:
                if name not in known:
                    raise not_one_of(f"domain{what}", name, known)

    def __bool__(self) -> bool:
        return bool(self.codes or self.without)

    def holds(self, record: Record, columns: Columns) -> NDArray[np.bool_]:
        """Return which vectors lie inside."""
        inside = np.ones(columns["op"].size, dtype=bool)
        for name in BOUNDED:
            if name in columns:
                fmt = record.format_of(name)
                inside &= self.takes(name, fmt, columns[name]).reshape(inside.size, -1).all(axis=1)
        return inside

    def takes(self, name: str, fmt: Format, codes: NDArray[Any]) -> NDArray[np.bool_]:
        """Find the codes of a field that lie inside.

        Args:
            name: the field.
            fmt: format of its codes.
            codes: the codes, of any shape.

        Returns:
            Booleans of that shape.
        """
        inside = np.ones(codes.shape, dtype=bool)
        if name in self.codes:
            ranges = self.codes[name]
            inside &= np.any([(codes >= low) & (codes <= high) for low, high in ranges], axis=0)
        if self.without and isinstance(fmt, FloatFormat):
            values = fmt.decode(codes.astype(fmt.dtype))
            least = 2.0**fmt.exponent_min
            kinds = {
                "nan": np.isnan(values),
                "infinity": np.isinf(values),
                "subnormal": (values != 0) & (np.abs(values) < least),
                "negative_zero": (values == 0) & np.signbit(values),
            }
            for kind in self.without:
                inside &= ~kinds[kind]
        return inside

    def __str__(self) -> str:
        parts = []
        for name, ranges in self.codes.items():
            shown = [f"{low} to {high}" if low < high else f"{low}" for low, high in ranges]
            parts.append(f"{name} {' or '.join(shown)}")
        parts += [f"no {kind.replace('_', ' ')}" for kind in self.without]
        return ", ".join(parts)


@dataclass(frozen=True)
class Comparison:
    """Differences of a result that do not count."""

    any_nan: bool = False  #: one NaN is as good as another
    any_zero: bool = False  #: the sign of a zero

    def __bool__(self) -> bool:
        return self.any_nan or self.any_zero

    def canonical(self, fmt: Format, codes: NDArray[Any]) -> NDArray[Any]:
        """Return codes with one representative for all codes that count as equal."""
        if not self or not isinstance(fmt, FloatFormat):
            return codes
        values = fmt.decode(codes)
        if self.any_nan and fmt.nan_code is not None:
            codes = np.where(np.isnan(values), np.array(fmt.nan_code, codes.dtype), codes)
        if self.any_zero:
            codes = np.where(values == 0, np.zeros_like(codes), codes)
        return codes

    def __str__(self) -> str:
        parts = ["NaN payloads"] * self.any_nan + ["signs of zeros"] * self.any_zero
        return f"equal, {' and '.join(parts)} apart" if parts else "equal"
