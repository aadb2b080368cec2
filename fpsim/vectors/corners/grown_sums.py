# SPDX-License-Identifier: Apache-2.0
"""Sums that grow from a cleared accumulator, as far as adding alone can bring them.

A design that cannot load its accumulator meets rounding, ties and the ends of its range only so.
"""

from __future__ import annotations

from math import frexp

import numpy as np

from fpsim.formats.floating import FixedFormat, Format
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.chosen_products import one_vector, product_span
from fpsim.vectors.sets.palette import Codes
from fpsim.vectors.sets.record import Op

__all__ = ["grown_sums"]

#: Most products of one sign, and most vectors if they are computed one by one.
MOST_PRODUCTS, MOST_TURNS = 1 << 17, 1 << 10
#: Vectors of mixed products in each binade, and beyond the range.
TAIL, BEYOND = 48, 12


def grown_sums(builder: VectorBuilder) -> None:
    """Append one sum of largest products of either sign, with mixed products in every binade in
    which a sum may round, then out of the range and back."""
    record, palette = builder.record, builder.palette
    if not record.feeds_back:
        return
    for sign in ("largest", "smallest"):
        term = palette.product(sign)
        step = abs(float(np.prod([_value(record.spec.a, term[0]), _value(record.spec.b, term[1])])))
        if not step:
            continue
        grow = one_vector(builder, *[term] * record.k)
        back = one_vector(
            builder, *[palette.product("smallest" if sign == "largest" else "largest")] * record.k
        )
        builder.add(op=Op.CLEAR)
        done = 0
        for mark in _marks(builder, step):
            length = min(mark, _most(builder)) - done
            if length > 0:
                builder.add(op=np.full(length, int(Op.MAC)), **grow)
                done += length
            _tail(builder, TAIL)
        builder.add(op=np.full(BEYOND, int(Op.MAC)), **grow)
        _tail(builder, BEYOND)
        builder.add(op=np.full(BEYOND, int(Op.MAC)), **back)


def _value(fmt: Format, code: int) -> float:
    return float(fmt.decode(np.array([code]))[0])


def _most(builder: VectorBuilder) -> int:
    """Return the largest number of vectors in a sum."""
    if builder.record.adds_in_a_row:
        return max(1, MOST_PRODUCTS // builder.record.k)
    return MOST_TURNS


def _marks(builder: VectorBuilder, step: float) -> list[int]:
    """Return the numbers of vectors with products of size ``step`` after which a sum enters each
    binade in which it may round, or leaves the range, ascending."""
    fmt, step = builder.record.spec.initial, step * builder.record.k
    low, _ = product_span(builder)
    most = _most(builder)
    if isinstance(fmt, FixedFormat):
        ends = [fmt.max_value]
    else:
        # No product moves a larger sum, so it does not leave its binade.
        stops = frexp(step / builder.record.k)[1] + fmt.mantissa_bits + 1
        ends = [2.0**e for e in range(low + fmt.mantissa_bits, min(fmt.exponent_max, stops) + 1)]
        ends += [float(fmt.max_value)] * (stops > fmt.exponent_max)
    counts = sorted({int(end / step) for end in ends if end / step <= most})
    return [count for count in counts if count] or [min(16, most)]


def _tail(builder: VectorBuilder, count: int) -> None:
    """Append vectors of mixed products, a different product in each lane."""
    a, b, _ = builder.palette.products
    place = (np.arange(count)[:, None] * 7 + np.arange(builder.record.k) * 5) % a.size
    parts: dict[str, Codes] = {"a": a[place], "b": b[place]}
    builder.add(op=np.full(count, int(Op.MAC)), **parts)
