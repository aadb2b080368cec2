# SPDX-License-Identifier: Apache-2.0
"""Plans for sums that are exact, or fixed-point: any lane that holds every partial sum."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsim.compute.facts import infinite_scales
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.bounds import (
    Span,
    TermBounds,
    block_bounds,
    block_of_scales,
    format_span,
    value_span,
)
from fpsim.compute.plan.plan import (
    F32_BITS,
    F64_BITS,
    F64_RANGE,
    INT64_BITS,
    ROWS,
    Plan,
    fits_float32,
    float_shift,
)
from fpsim.formats.names import E8M0
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.lanes.steps import step_named
from fpsim.kernels.lanes.tiles import Source
from fpsim.units.spec import MacSpec, significand_bits
from fpsim.units.stages import Block, Chunked, Exact, Fixed, Stage

__all__ = [
    "plan_exact",
    "plan_fixed",
    "plan_scaled_blocks",
    "plan_slices",
    "slices_of",
    "zeros_have_signs",
]

#: Least block of products with common scales worth a lane before the limbs.
MIN_LIMB_BLOCK = 4
#: Slices beyond which limbs are as fast: each is a product of its own.
MAX_BLOCK_SLICES = 8


def plan_fixed(stage: Fixed, terms: TermBounds, length: int, start: Any) -> Plan:
    """Return the plan of a fixed-point accumulator that starts at codes (None: 0)."""
    product = terms.span
    total = product.times(length)
    integers = np.zeros(1, np.int64) if start is None else stage.initial.integers(start)
    first = max(int(integers.max()), -int(integers.min()))
    integer_bits = total.high - stage.lsb
    # What is clamped once, at the end, is so after the lanes.
    harmless = (
        stage.overflow is Overflow.WRAP
        or stage.sums_first
        or (integer_bits < 63 and (1 << max(integer_bits, 0)) + first <= stage.initial.max_integer)
    )
    if product.low >= stage.lsb and integer_bits < 63 and harmless:
        plain = _plain_sum(terms, total)
        if plain is not None:
            why = f"nothing is rounded or clamped; partial sums fit {total.bits} bits of {plain}"
            if stage.sums_first:
                why = f"partial sums fit {total.bits} bits of {plain} before they are clamped"
            return Plan.lane(step_named(plain), why)
    if sum(terms.bits) > F64_BITS:
        return ROWS
    return _plan_float_grid(stage, terms, length) or _plan_integer_grid(stage, terms, length)


def _rounded_bits(stage: Fixed, product: Span, length: int) -> int:
    """Return how many bits hold a sum of products that were rounded onto the grid."""
    return Span(stage.lsb, max(product.high, stage.lsb + 1)).times(length).bits


def _plan_float_grid(stage: Fixed, terms: TermBounds, length: int) -> Plan | None:
    """Plan the grid's integers as float64 numbers, or what float32 holds of a grid, or None."""
    product, wraps = terms.span, stage.overflow is Overflow.WRAP or stage.sums_first
    fits = not wraps or _rounded_bits(stage, product, length) < 52
    most = F64_BITS - 1 - stage.random_bits if stage.random_bits else 1000
    if not fits or stage.width > 51 or product.high - stage.lsb >= most:
        return None
    if not wraps and product.low >= stage.lsb:
        register = Span(stage.lsb, stage.lsb + stage.width - 1)
        sums = register.union(product).times(2)
        if sums.bits <= F32_BITS and _plain_sum(terms, sums) == "float":
            why = f"sums before clamping fit {sums.bits} bits of float32"
            return Plan.lane(step_named("clamped32"), why)
    step = step_named(f"fixed64-{stage.rounding}-{'wrap' if wraps else 'saturate'}")
    return Plan.lane(step, "the grid's integers below 2^52 are exact in float64 lanes")


def _plan_integer_grid(stage: Fixed, terms: TermBounds, length: int) -> Plan:
    """Plan the grid's integers as 64-bit integers: modulo 2^64, or clamped after every add.

    A product beyond 2^62 units clamps a register of 62 bits as one of 2^62 does; one beyond 2^64
    units clamps any.
    """
    product = terms.span
    inside = max(abs(product.low), abs(product.high)) + abs(stage.lsb) <= F64_RANGE
    fits = not stage.sums_first or _rounded_bits(stage, product, length) <= INT64_BITS
    if not (inside and fits):
        return ROWS
    wraps = stage.overflow is Overflow.WRAP or stage.sums_first
    wide = not wraps and min(stage.width, product.high - stage.lsb) > INT64_BITS
    suffix = "wrap" if wraps else f"saturate{'-wide' * wide}"
    step = step_named(f"integer64-{stage.rounding}-{suffix}")
    how = "modulo 2^64" if wraps else "clamped"
    return Plan.lane(step, f"float64 holds what is added; sums are 64-bit integers, {how}")


def plan_exact(stage: Exact, terms: TermBounds, length: int, start: Any) -> Plan:
    """Return the plan of an exact sum that starts at codes (None: +0)."""
    total = terms.span.times(length)
    if start is not None:
        span = value_span(stage.format.decode(start))
        if span is not None:
            total = total.union(span).times(2)
    plain = _plain_sum(terms, total)
    if plain is not None:
        why = f"partial sums fit {total.bits} bits of {plain}, in any order"
        return Plan.lane(step_named(plain), why)
    return Plan("limbs", f"partial sums span {total.bits} bits: summed in 32-bit limbs")


def zeros_have_signs(stage: Stage, start: Any) -> bool:
    """Return whether an exact zero depends on the signs of the zeros it is made of.

    IEEE 754, section 6.3: it is -0 if all of them are, or unless none is where sums round down.
    """
    if isinstance(stage, Block):
        return zeros_have_signs(stage.into, start)
    if isinstance(stage, Chunked):
        return zeros_have_signs(stage.inner, None) or zeros_have_signs(stage.outer, start)
    if not isinstance(stage, Exact):
        return False
    first = np.zeros(1) if start is None else stage.format.decode(start)
    return stage.rounding is Rounding.RDN or bool(np.any((first == 0) & np.signbit(first)))


def _plain_sum(terms: TermBounds, total: Span) -> str | None:
    """Return the lane whose own adds are exact, or None."""
    if total.bits <= F32_BITS and fits_float32(total) and float_shift(terms.a, terms.b) is not None:
        return "float"
    return "double" if total.bits <= F64_BITS else None


def plan_scaled_blocks(spec: MacSpec, args: MatmulOperands) -> Plan | None:
    """Plan an exact sum as block sums that a lane holds, then slices or limbs, or None."""
    stage, size = spec.accumulate, block_of_scales(args)
    assert isinstance(stage, Exact)
    if size < MIN_LIMB_BLOCK or spec.quadrants > 1 or infinite_scales(args):
        return None
    scales = [fmt for fmt in (spec.a_scale, spec.b_scale) if fmt != E8M0]
    bits = (significand_bits(spec.a), significand_bits(spec.b))
    products = TermBounds(format_span(spec.a), format_span(spec.b), bits)
    sums = products.span.times(size)
    plain = _plain_sum(products, sums)
    fits = sums.bits + sum(significand_bits(fmt) for fmt in scales) <= F64_BITS
    if plain is None or not fits:
        return None
    why = f"sums of {size} fit {sums.bits} bits of {plain}"
    terms, count = block_bounds(size, args), -(-args.length // size)
    slices = slices_of(terms.span, count)
    if len(slices) <= MAX_BLOCK_SLICES and _sliceable(terms):
        why = f"{why}; scaled, they are cut into {len(slices)} slices that add up exactly there"
        return Plan("block slices", why, step_named("slice"), Source(True, size))
    return Plan("block limbs", f"{why}; scaled, they are summed in limbs", step_named(plain))


def slices_of(span: Span, length: int) -> list[tuple[int, int]]:
    """Return (s, w) of slices of products whose sums of ``length`` are integers of float64.

    The slice of a product is a multiple of 2^s of at most 2^(w - 1) + 1 units.
    """
    width = F64_BITS - 1 - length.bit_length()
    return [(low, width) for low in range(span.low, span.high + 1, width)]


def plan_slices(stage: Exact, terms: TermBounds, length: int, args: MatmulOperands) -> Plan | None:
    """Plan an exact sum of wide products as sums of slices, each exact in float64, or None."""
    if not _sliceable(terms):
        return None
    count = len(slices_of(terms.span, length))
    why = f"products are cut into {count} slices whose sums are exact in float64"
    return Plan("slices", why, step_named("slice"))


def _sliceable(terms: TermBounds) -> bool:
    """Return whether float64 holds every term and its slices."""
    inside = max(abs(terms.span.low), abs(terms.span.high)) <= F64_RANGE // 2
    return inside and sum(terms.bits) <= F64_BITS and terms.finite
