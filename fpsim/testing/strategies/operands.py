# SPDX-License-Identifier: Apache-2.0
"""Strategies for operands of units and block formats: dot products, streams, block tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from fpsim.blocks.block_format import BlockFormat, get_block_format
from fpsim.blocks.grids import Table
from fpsim.blocks.scale_rules import element_exponent
from fpsim.formats.floating import FloatFormat, Format
from fpsim.testing.boundaries import critical_values
from fpsim.testing.strategies.formats import codes, finite_codes
from fpsim.unit import MacUnit, get_unit
from fpsim.units.spec import MacSpec

__all__ = ["Dots", "block_tensors", "dots", "streams"]

#: Elements of a tensor whose format has one block per tensor or row.
SPAN_LENGTH = 24


class Dots(NamedTuple):
    """Operand codes and addend of one dot product."""

    a: NDArray[Any]  #: (K,)
    b: NDArray[Any]  #: (K,)
    c: NDArray[Any]  #: (), the addend


@st.composite
def dots(
    draw: st.DrawFn, unit: str | MacSpec | MacUnit, max_k: int = 8, special: bool = False
) -> Dots:
    """Draw dot products where accumulators go wrong, for one unit.

    Cases are: one large product among tiny ones (swamping), products that cancel, neighbours of any
    exponent difference (the ends of an alignment window), reordered products, and any codes.

    Args:
        draw: Hypothesis's function that draws from a strategy.
        unit: a unit or its name.
        max_k: most products.
        special: whether to draw NaN and infinities too.

    Returns:
        A strategy for single dot products.
    """
    spec = get_unit(unit).spec
    k = draw(st.integers(1, max_k))
    pick = codes if special else finite_codes
    kind = draw(st.sampled_from(["any", "swamping", "cancelling", "two exponents"]))
    if kind == "any" or k == 1:
        rows = [draw(st.tuples(pick(spec.a), pick(spec.b))) for _ in range(k)]
    elif kind == "swamping":
        rows = [draw(_products(spec, 1.0)), *(draw(_products(spec, 0.0)) for _ in range(k - 1))]
    elif kind == "cancelling":
        first = draw(_products(spec, None))
        rows = [first, (_negated(spec.a, first[0]), first[1])]
        rows += [draw(_products(spec, None)) for _ in range(k - 2)]
    else:
        ends = [draw(_products(spec, None)), draw(_products(spec, None))]
        rows = [draw(st.sampled_from(ends)) for _ in range(k)]
    rows = list(draw(st.permutations(rows)))
    a, b = zip(*rows, strict=True)
    addend = draw(st.one_of(st.just(0), pick(spec.initial)))
    return Dots(
        np.array(a, dtype=spec.a.dtype),
        np.array(b, dtype=spec.b.dtype),
        np.array(addend, dtype=spec.initial.dtype),
    )


def streams(
    unit: str | MacSpec | MacUnit, max_length: int = 12, max_k: int = 4, special: bool = False
) -> st.SearchStrategy[list[Dots]]:
    """Draw beats that one accumulator takes in turn, for one unit.

    The first addend is the initial accumulator; replace every other addend by the result of the
    beat before.

    Args:
        unit: a unit or its name.
        max_length: most beats.
        max_k: most products of a beat.
        special: whether to draw NaN and infinities too.

    Returns:
        A strategy for lists of beats.
    """
    return st.lists(dots(unit, max_k, special), min_size=1, max_size=max_length)


def _products(spec: MacSpec, end: float | None) -> st.SearchStrategy[tuple[int, int]]:
    """Draw operand pairs: of the largest magnitudes (1), of the smallest (0), or any finite."""
    sides = []
    for fmt in (spec.a, spec.b):
        if end is None:
            sides.append(finite_codes(fmt))
            continue
        listed = np.arange(1 << min(fmt.bits, 16))
        values = np.abs(fmt.decode(listed))
        listed = listed[np.isfinite(values) & (values > 0)]
        order = listed[np.argsort(np.abs(fmt.decode(listed)), kind="stable")]
        few = order[-6:] if end else order[:6]
        sides.append(st.sampled_from(few.tolist()))
    return st.tuples(*sides)


def _negated(fmt: Format, code: int) -> int:
    """Return the code of minus the value; the code itself if there is none."""
    if not fmt.signed:
        return code
    if isinstance(fmt, FloatFormat):
        other = code ^ fmt.sign_bit
        return other if np.isfinite(fmt.decode([other])[0]) else code
    return -code % (1 << fmt.width)


@st.composite
def block_tensors(
    draw: st.DrawFn,
    fmt: str | BlockFormat,
    max_blocks: int = 3,
    rows: int = 1,
    exponents: tuple[int, int] = (-20, 20),
) -> NDArray[np.float32]:
    """Draw float32 tensors (rows, K) for a block format, with the boundary cases of its scales.

    The largest magnitude of a block is a power of two, the largest element value times one, a
    boundary of a scale rule, or the float32 number beside one. Other elements are values and
    midpoints of the element format at the block's scale, numbers one step beside them, zeros of
    both signs, or any numbers. The last block may be short.

    Args:
        draw: Hypothesis's function that draws from a strategy.
        fmt: a block format or its name.
        max_blocks: most blocks along K.
        rows: rows of the tensor.
        exponents: lowest and highest exponent of the largest magnitudes.

    Returns:
        A strategy for tensors.
    """
    block_format = get_block_format(fmt)
    element = block_format.element
    size = block_format.block if isinstance(block_format.block, int) else SPAN_LENGTH
    length = draw(st.integers(1, size * max_blocks))
    tops = _scale_boundaries(block_format)
    inside = critical_values(element) if isinstance(element, FloatFormat) else _integers(element)
    inside = inside[np.abs(inside) <= tops.max()]
    out = np.zeros((rows, length), dtype=np.float32)
    for row in range(rows):
        for start in range(0, length, size):
            count = min(size, length - start)
            unit = 2.0 ** draw(st.integers(*exponents))
            top = draw(st.sampled_from(tops.tolist()))
            step = draw(st.sampled_from([0, 0, 1, -1]))
            pick = st.one_of(st.sampled_from(inside.tolist()), st.floats(-top, top))
            values = np.array(draw(st.lists(pick, min_size=count, max_size=count)))
            values = np.clip(values, -top, top)
            place = draw(st.integers(0, count - 1))
            values[place] = np.copysign(_beside(top, step), values[place])
            out[row, start : start + count] = values * unit
    return out


def _beside(value: float, step: int) -> float:
    single = np.float32(value)
    return float(np.nextafter(single, np.float32(step * np.inf)) if step else single)


def _integers(element: Format | Table) -> NDArray[np.float64]:
    codes_ = np.arange(1 << min(element.bits, 8))
    values = element.decode(codes_)
    if isinstance(element, Table):
        values = np.unique(values)
        return np.concatenate([values, (values[1:] + values[:-1]) / 2])
    return np.concatenate([values, values + 0.5 * 2.0**element.lsb])  # type: ignore[union-attr]


def _scale_boundaries(fmt: BlockFormat) -> NDArray[np.float64]:
    """Return largest magnitudes at which scale rules change, in [2^E, 2^(E + 1))."""
    power = 2.0 ** element_exponent(fmt.element)
    ratios = [1.0, 1.25, 1.5, 1.75, fmt.limit / power, 2.0 - 2.0**-23]
    if isinstance(fmt.element, FloatFormat):
        ratios.append(2.0 - 2.0 ** -(fmt.element.mantissa_bits + 1))
    return power * np.unique([r for r in ratios if 1.0 <= r < 2.0])
