# SPDX-License-Identifier: Apache-2.0
"""Sums from zero that are long enough to round, for a function that takes no addend."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from fpsim.base.philox import numpy_generator
from fpsim.formats.floating import FixedFormat
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import MAX_K, Columns, Record

__all__ = ["long_sums", "rounding_length"]

#: Sums grow to this many times the largest sum in which nothing can round.
BEYOND = 8
ROWS = 64


def rounding_length(record: Record) -> int | None:
    """Return the products of a sum that grows until its last bits are lost, or until it overflows.

    Args:
        record: the unit and its step, ``record.k`` products.

    Returns:
        A multiple of the step; None if it is above 1024 products, or if one step rounds.
    """
    products = np.abs(Palette(record).products[2])
    products = products[(products > 0) & np.isfinite(products)]
    if not products.size:
        return None
    fmt = record.spec.initial
    if isinstance(fmt, FixedFormat):
        full = fmt.max_value
    else:
        full = float(np.ldexp(_lowest_bits(products).min(), fmt.mantissa_bits + 1))
    steps = ceil(full / float(products.max()) / record.k)
    return BEYOND * steps * record.k if 1 < steps <= MAX_K // record.k // BEYOND else None


def _lowest_bits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    fraction, exponent = np.frexp(values)
    whole = np.ldexp(fraction, 53).astype(np.int64)
    bits: NDArray[np.float64] = np.ldexp((whole & -whole).astype(np.float64), exponent - 53)
    return bits


def long_sums(record: Record, seed: int) -> Columns:
    """Return operands of sums whose largest products, all of one sign, stand before mixed ones.

    Args:
        record: the unit and its products per sum; scales, where it has them, are 1.
        seed: seed of the mixed products.

    Returns:
        Codes of 64 sums by field. In the last, products of the largest size are one half.
    """
    palette, rng, k = Palette(record), numpy_generator(seed), record.k
    a, b, _ = palette.products
    mixed = rng.integers(0, a.size, (ROWS, k))
    first = rng.integers(k // 2, k + 1, ROWS)
    first[-1] = k // 2
    grows = np.arange(k) < first[:, None]
    ends = np.array([palette.product("largest"), palette.product("smallest")])[
        np.arange(ROWS) % 2, :, None
    ]
    columns = {
        name: np.where(grows, ends[:, side], table[mixed]).astype(getattr(record.spec, name).dtype)
        for side, (name, table) in enumerate((("a", a), ("b", b)))
    }
    if record.group:
        for side in "ab":
            name = f"{side}_scale"
            shape, dtype = (ROWS, record.lanes_of(name)), getattr(record.spec, name).dtype
            columns[name] = np.full(shape, palette.one(side), dtype=dtype)
    return columns
