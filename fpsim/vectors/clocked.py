# SPDX-License-Identifier: Apache-2.0
"""Streams of single products read as dot products of one element, for coverage and mutants."""

from __future__ import annotations

import numpy as np

from fpsim.vectors.shape import Columns, Shape
from fpsim.vectors.stream import VectorSet

__all__ = ["as_dots"]

_BIAS = 127


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
    if scaled:
        exponents = vectors.exponents
        first = np.clip(exponents, -_BIAS, _BIAS)
        for name, part in (("a_scale", first), ("b_scale", exponents - first)):
            found[name] = (part + _BIAS).astype(shape.format_of(name).dtype)[:, None]
    return shape, found
