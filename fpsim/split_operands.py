# SPDX-License-Identifier: Apache-2.0
"""Operands in lanes whose terms have more than 53 bits: each term becomes several narrower ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.engine import Split
from fpsim.lane_operands import Packed

__all__ = ["split_blocks", "split_products", "split_values"]

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


def split_blocks(packed: Packed, split: Split, size: int) -> Packed:
    """Return operands with the parts of every block one after the other."""
    assert split.lows is not None
    groups = packed.a.shape[2] // size
    a = packed.a.reshape(*packed.a.shape[:2], groups, size)
    b = packed.b.reshape(*packed.b.shape[:2], groups, size, -1)
    a, b = _pairs(
        _even_parts(a, split.lows[0], split.counts[0], split.bits[0]),
        _even_parts(b, split.lows[1], split.counts[1], split.bits[1]),
        2,
    )
    return replace(
        packed,
        a=a.reshape(*packed.a.shape[:2], -1),
        b=b.reshape(*packed.b.shape[:2], -1, packed.b.shape[3]),
        x=np.repeat(packed.x, split.parts, axis=1),
        y=np.repeat(packed.y, split.parts, axis=1),
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


def _even_parts(values: Array, low: int, count: int, bits: int) -> list[Array]:
    """Return multiples of 2^low cut at 2^(low + bits), 2^(low + 2 bits), ...; NaN is in all."""
    below = [np.fmod(values, np.ldexp(1.0, low + i * bits)) for i in range(1, count)]
    edges = [np.zeros_like(values), *below, values]
    return [high - less for less, high in zip(edges, edges[1:], strict=False)]


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
