# SPDX-License-Identifier: Apache-2.0
"""Operands in lanes whose products have more than 53 bits: each becomes several narrower ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.lanes.pack import Packed
from fpsim.compute.plan.choose import Split

__all__ = ["split_products", "split_values"]

Array = NDArray[Any]


def split_products(packed: Packed, split: Split) -> Packed:
    """Return operands with the parts of every product side by side along K."""
    a, b = split_values(packed.a, packed.b, split)
    return replace(packed, a=a, b=b)


def split_values(a: Array, b: Array, split: Split, axis: int = 2) -> tuple[Array, Array]:
    """Return scaled elements with the parts of every product side by side along K, an axis."""
    return _pairs(
        _leading_parts(a, split.counts[0], split.bits[0]),
        _leading_parts(b, split.counts[1], split.bits[1]),
        axis,
    )


def _pairs(a: list[Array], b: list[Array], axis: int) -> tuple[Array, Array]:
    """Return every part of one beside every part of the other."""
    pairs = list(product(a, b))
    return _beside([x for x, _ in pairs], axis), _beside([y for _, y in pairs], axis)


def _beside(parts: list[Array], axis: int) -> Array:
    """Return arrays of one shape side by side along an axis: the first of each, and so on."""
    stacked = np.stack(parts, axis=axis + 1)
    shape = parts[0].shape
    return stacked.reshape(*shape[:axis], -1, *shape[axis + 1 :])


def _leading_parts(values: Array, count: int, bits: int) -> list[Array]:
    """Return finite values cut after so many significant bits, and again; zeros keep the sign.

    NaN is in the first part.
    """
    parts, rest = [], values
    mask = ~np.int64((1 << (53 - bits)) - 1)
    for _ in range(count - 1):
        head = np.where(np.isnan(rest), rest, (rest.view(np.int64) & mask).view(np.float64))
        parts.append(head)
        rest = np.copysign(np.where(np.isnan(rest), 0.0, rest - head), values)
    return [*parts, rest]
