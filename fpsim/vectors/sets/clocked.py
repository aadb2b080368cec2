# SPDX-License-Identifier: Apache-2.0
"""Streams of single products: their words, and the same read as dot products of one element."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.flags import clock_flags
from fpsim.vectors.sets.record import Shape
from fpsim.vectors.sets.stream import VectorSet, expected, word_fields
from fpsim.vectors.sets.words import Columns, Lanes, Words

__all__ = ["ClockShape", "as_dots"]

_BIAS = 127


@dataclass(frozen=True)
class ClockShape(Words):
    """The word of a stream of single products (`vectors.sets.stream`); columns are uint64 (n,)."""

    spec: MacSpec
    exponents: bool = False  #: whether words have an exponent that is added to the product's
    flags: bool = False
    k: int = field(default=1, init=False)
    group: int = field(default=0, init=False)
    schema: ClassVar[int] = 1

    @cached_property
    def lanes(self) -> tuple[Lanes, ...]:
        """Fields from the most significant bits down, of one lane each."""
        fields = word_fields(self.spec, self.exponents, self.flags)
        return tuple(Lanes(f.name, 1, f.width) for f in fields)

    def columns(self, elements: NDArray[np.uint64]) -> Columns:
        """Return elements of words as columns; the inverse of `elements`."""
        return {f.name: elements[:, i].copy() for i, f in enumerate(self.lanes)}

    def results(self, columns: Columns, start: int = 0) -> Columns:
        """Return the fields that the unit gives, for vectors the first of which finds ``start``."""
        acc = expected(self.spec, columns, start)
        if not self.flags:
            return {"acc": acc}
        return {"acc": acc, "flags": clock_flags(self.spec, columns, acc, start)}


def as_dots(vectors: VectorSet) -> tuple[Shape, Columns]:
    """Return the same vectors with k = 1; a run-time exponent becomes two E8M0 scales."""
    spec, columns = vectors.spec, vectors.columns
    scaled = "exp" in columns
    shape = Shape(spec, 1, int(scaled))
    found: Columns = {"op": columns["op"].astype(np.uint8)}
    for name in "ab":
        found[name] = columns[name].astype(shape.format_of(name).dtype)[:, None]
    for name in ("c", "acc"):
        found[name] = columns[name].astype(shape.format_of(name).dtype)
    if shape.roundings:
        found["random"] = columns["random"].astype(shape.format_of("random").dtype)[:, None]
    if scaled:
        exponents = vectors.exponents
        first = np.clip(exponents, -_BIAS, _BIAS)
        for name, part in (("a_scale", first), ("b_scale", exponents - first)):
            found[name] = (part + _BIAS).astype(shape.format_of(name).dtype)[:, None]
    return shape, found
