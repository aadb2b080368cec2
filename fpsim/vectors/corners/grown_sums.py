# SPDX-License-Identifier: Apache-2.0
"""Sums that grow from a cleared accumulator, as far as adding alone can bring them.

A design that cannot load its accumulator meets rounding, ties and the ends of its range only so.
"""

from __future__ import annotations

from math import ceil, frexp

import numpy as np

from fpsim.formats.floating import FixedFormat, Format
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.corners.chosen_products import one_vector, product_span
from fpsim.vectors.seeded.philox_draws import Draw
from fpsim.vectors.sets.palette import Codes
from fpsim.vectors.sets.record import Op

__all__ = ["grown_sums"]

#: Most products of one sign, most positive ones for what shows nowhere else, and most vectors if
#: they are computed one by one.
MOST_PRODUCTS, MOST_POSITIVE, MOST_TURNS = 1 << 17, 1 << 19, 1 << 10
#: Bits that a sum loses when it is rounded, of which each is another mistake: a guard and a sticky.
LOST_BITS = 3
#: The stream of mixed products in the words of a seed.
_MIXED = 5 << 48
#: Vectors of mixed products in each binade, and beyond the range.
TAIL, BEYOND = 128, 12


def grown_sums(builder: VectorBuilder) -> None:
    """Append one sum of largest products of either sign, with mixed products in every binade in
    which a sum may round, then out of the range and back."""
    record, palette, draw = builder.record, builder.palette, Draw(3, _MIXED)
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
        step, total, mark = step * record.k, 0.0, 0.0
        for mark in _marks(builder, step, sign == "largest"):
            length = max(0, ceil((mark - total) / step))
            builder.add(op=np.full(length, int(Op.MAC)), **grow)
            total += length * step
            total += _tail(builder, draw, TAIL) * (1 if sign == "largest" else -1)
        # Rounded tails may have led elsewhere than their sum: by a sixteenth more.
        length = max(0, ceil((mark * 17 / 16 - total) / step)) + BEYOND
        builder.add(op=np.full(length, int(Op.MAC)), **grow)
        _tail(builder, draw, BEYOND)
        builder.add(op=np.full(BEYOND, int(Op.MAC)), **back)


def _value(fmt: Format, code: int) -> float:
    return float(fmt.decode(np.array([code]))[0])


def _marks(builder: VectorBuilder, step: float, positive: bool) -> list[float]:
    """Return the sums of vectors of size ``step`` at which mixed products are added, ascending: in
    each binade in which a sum may round, and at the end of the range."""
    record, fmt = builder.record, builder.record.spec.initial
    low, _ = product_span(builder)
    most = last = MOST_TURNS
    if record.adds_in_a_row:
        most = max(1, MOST_PRODUCTS // record.k)
        last = max(1, MOST_POSITIVE // record.k) if positive else most
    marks = set()
    if isinstance(fmt, FixedFormat):
        marks.add(fmt.max_value)
    else:
        # No product moves a larger sum, so it does not leave its binade.
        stops = frexp(step / record.k)[1] + fmt.mantissa_bits + 1
        first = low + fmt.mantissa_bits
        ends = [2.0**e for e in range(first, min(fmt.exponent_max, stops) + 1)]
        ends = [end for i, end in enumerate(ends) if i <= LOST_BITS or end / step <= most]
        # Into the binade, so that mixed products do not leave it.
        marks |= {end + step * min(TAIL, int(end / step) // 8) for end in ends}
        if stops > fmt.exponent_max:
            marks.add(fmt.max_value)
    return sorted(mark for mark in marks if step <= mark <= last * step) or [min(16, most) * step]


def _tail(builder: VectorBuilder, draw: Draw, count: int) -> float:
    """Append vectors of mixed products, and return their sum."""
    a, b, values = builder.palette.products
    place = draw.codes(np.arange(a.size), count, builder.record.k)
    parts: dict[str, Codes] = {"a": a[place], "b": b[place]}
    builder.add(op=np.full(count, int(Op.MAC)), **parts)
    return float(values[place].sum())
