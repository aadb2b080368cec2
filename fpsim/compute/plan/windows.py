# SPDX-License-Identifier: Apache-2.0
"""Plans for aligned windows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fpsim.compute.plan.bounds import TermBounds, value_span
from fpsim.compute.plan.plan import (
    ALIGNED32_HIGH,
    ALIGNED32_LOW,
    F32_BITS,
    F32_HIGH,
    F32_LOW,
    F64_BITS,
    F64_RANGE,
    INT64_BITS,
    ROWS,
    Plan,
    fits_float32,
    float_shift,
    is_ieee,
)
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.lanes.vector import host_features
from fpsim.kernels.lanes.windows_float import LANES, aligned_step, integer_step, whole_step
from fpsim.kernels.lanes.windows_integer import IntegerWindow, window_step
from fpsim.kernels.lanes.windows_joined import joined_integer_step, joined_step
from fpsim.units.stages import Addend, Aligned

__all__ = ["plan_aligned", "plan_whole"]

#: Bits of an integer lane without its sign.
INT32_BITS = 31
#: Roundings that conversions between float32 and integers have.
CONVERSIONS = (Rounding.RNE, Rounding.RTZ, Rounding.RUP, Rounding.RDN)


def plan_aligned(stage: Aligned, terms: TermBounds, start: Any) -> Plan:
    """Return the plan of an aligned window that starts at codes (None: +0)."""
    if sum(terms.bits) > F64_BITS:
        return ROWS
    limited = stage.product_limit is not None and terms.span.high > stage.product_limit
    if stage.addend is Addend.JOINED:
        plan = _plan_joined_integers(stage, terms, start) or _plan_joined(stage, terms, limited)
    else:
        plan = None if limited else _plan_floats(stage, terms, start)
    return plan or _plan_wide_integers(stage, terms, limited)


def _plan_floats(stage: Aligned, terms: TermBounds, start: Any) -> Plan | None:
    """Plan a window whose addend is early or late and whose integers floats hold, or None."""
    late = stage.addend is Addend.LATE
    # An infinite product makes the result; one that is saturated would meet the addend.
    saturates = not terms.finite and stage.overflow is Overflow.SATURATE
    if late and (stage.format != stage.container or saturates):
        return None
    bits = stage.fraction_bits + terms.headroom + (stage.products + 1).bit_length()
    if stage.width is not None:
        bits = max(bits, stage.width)
    in_float32 = not late and _aligned_in_float32(stage, terms, start, stage.fraction_bits)
    plan = _plan_integers(stage, terms, bits) if in_float32 else None
    if plan is not None:
        return plan
    for width, lane in ((32, F32_BITS), (64, F64_BITS)):
        narrow = width == 32 and stage.format.mantissa_bits + 1 < F32_BITS
        if bits > lane or (width == 32 and not (in_float32 and narrow)):
            continue
        step = aligned_step(
            LANES[width],
            stage.products,
            str(stage.align),
            str(stage.rounding),
            str(stage.late_rounding) if late else None,
            None if stage.width is None else str(stage.width_overflow),
            stage.normalised,
            stage.signed_zero,
            stage.normalised and terms.scaled,
        )
        return Plan.lane(step, f"the window's {bits} <= {lane} bits are exact integers of a lane")
    return None


def _plan_wide_integers(stage: Aligned, terms: TermBounds, limited: bool) -> Plan:
    """Plan a window of any settings in 64-bit integers, rounded to odd in float64 at last."""
    joined = stage.addend is Addend.JOINED
    finest = stage.fraction_bits
    if joined:
        finest = max(finest, stage.join_sum_bits, stage.join_addend_bits)
    bits = finest + terms.headroom + (stage.products + 1).bit_length()
    inside = max(abs(terms.span.low), abs(terms.span.high)) <= F64_RANGE // 2
    spare = F64_BITS - (stage.result.mantissa_bits + 1)
    if bits > INT64_BITS or not inside or spare < 2:
        return ROWS
    second = {Addend.LATE: str(stage.late_rounding), Addend.JOINED: str(stage.join_rounding)}
    window = IntegerWindow(
        stage.products,
        str(stage.align),
        str(stage.rounding),
        str(stage.addend),
        second.get(stage.addend, ""),
        stage.lanes,
        joined and stage.join_reach is not None,
        "" if stage.width is None else str(stage.width_overflow),
        stage.normalised,
        stage.signed_zero,
        limited,
        terms.finite,
        stage.normalised and terms.scaled,
    )
    why = f"sums fit {bits} <= {INT64_BITS} bits of an integer, then are rounded to odd in"
    return Plan.lane(window_step(window), f"{why} {F64_BITS} bits")


def _plan_integers(stage: Aligned, terms: TermBounds, bits: int) -> Plan | None:
    """Plan a window of float32 terms whose sum is a 32-bit integer, or None."""
    plain = stage.width is None and not stage.signed_zero and terms.finite
    converts = stage.align in CONVERSIONS and "avx512f" in host_features()
    native = stage.rounding in CONVERSIONS and is_ieee(stage.format, 8, 23, 127)
    once = native or bits <= F32_BITS or stage.rounding is Rounding.RTZ
    # Half of the last place is added as an integer, of which a float32 must have some bits.
    halves = stage.rounding is not Rounding.RNA or stage.format.mantissa_bits + 1 < F32_BITS
    if not (plain and converts and once and halves):
        return None
    step = partial(
        integer_step,
        stage.products,
        str(stage.align),
        str(stage.rounding),
        native,
        stage.normalised,
        scaled=stage.normalised and terms.scaled,
    )
    why = "terms are exact in float32, the window's"
    if bits <= INT32_BITS:
        return Plan.lane(step(), f"{why} {bits} <= {INT32_BITS} bits in an integer")
    own = stage.fraction_bits + terms.headroom + (stage.products - 1).bit_length()
    if native and own <= INT32_BITS:
        why = f"{why} {own} <= {INT32_BITS} bits of products in an integer"
        return Plan.lane(step(split=True), f"{why}, added to the addend in halves")
    return None


def _aligned_in_float32(stage: Aligned, terms: TermBounds, start: Any, bits: int) -> bool:
    """Return whether every term, window (of ``bits`` fraction bits) and sum is a normal float32.

    Or zero.
    """
    span = terms.span
    lowest = span.low - bits
    if start is not None:
        first = value_span(stage.result.decode(start))
        if first is not None:
            lowest = min(lowest, first.low - bits)
            span = span.union(first)
    floor = stage.exponent_floor
    return (
        max(terms.bits) <= F32_BITS
        and sum(terms.bits) <= F32_BITS
        and lowest >= ALIGNED32_LOW
        and span.high + stage.fraction_bits <= ALIGNED32_HIGH
        and float_shift(terms.a, terms.b) is not None
        and (floor is None or floor <= ALIGNED32_HIGH)
        and stage.format.exponent_min >= F32_LOW
    )


def plan_whole(
    stage: Aligned, terms: TermBounds, count: int, start: Any, largest: Callable[[], float]
) -> Plan | None:
    """Plan a window that cuts nothing off: its last place never rises above that of a product.

    With low the terms' last place and |sum| < 2^top for every partial sum, E - F <= low. Rounding
    sums to `format` doubles them at most, unless there are too many steps for its precision.
    """
    first = None if start is None else value_span(stage.result.decode(start))
    low, fraction = terms.span.low, stage.fraction_bits
    floor = stage.exponent_floor
    plain = stage.addend is Addend.EARLY and stage.width is None and not stage.signed_zero
    starts_on_grid = first is None or first.low >= low
    product_exponent = terms.a.high - 1 + terms.b.high - 1
    fmt = stage.format
    steps = -(-count // stage.products)
    grows_little = stage.rounding is Rounding.RTZ or 2 * steps <= 1 << fmt.mantissa_bits
    if (
        not plain
        or not grows_little
        or fmt.exponent_min - fmt.mantissa_bits > low
        or stage.product_limit is not None
        or not starts_on_grid
        or (floor is not None and floor - fraction > low)
    ):
        return None
    extra = int(stage.rounding is not Rounding.RTZ) + (first is not None)
    start_high = 1 + product_exponent if first is None else max(first.high, 1 + product_exponent)
    highest = low + fraction + 1  # |sum| < 2^(low + F + 1) has E <= low + F
    top = max(terms.span.times(count).high, start_high) + extra
    if top > highest and start_high + extra <= highest:
        bound = largest()
        if np.isfinite(bound):
            top = max(math.frexp(bound)[1], start_high) + extra
    if top > highest:
        return None
    lane = F32_BITS if top - low <= F32_BITS and _whole_in_float32(stage, terms) else F64_BITS
    if top - low > lane or max(terms.bits) > lane:
        return None
    width = 32 if lane == F32_BITS else 64
    step = whole_step(LANES[width], stage.products, str(stage.rounding))
    return Plan.lane(step, f"|sums| < 2^{top}: no term loses a bit above 2^{low}")


def _whole_in_float32(stage: Aligned, terms: TermBounds) -> bool:
    return (
        fits_float32(terms.span)
        and float_shift(terms.a, terms.b) is not None
        and stage.format.exponent_min >= F32_LOW
        and stage.format.exponent_max <= F32_HIGH
        and stage.format.mantissa_bits + 1 < F32_BITS
    )


def _plan_joined_integers(stage: Aligned, terms: TermBounds, start: Any) -> Plan | None:
    """Plan a window joined with c by floor, both in 32-bit integers, or None.

    Sums of products are below S, c is below 2^(F + 1) and, aligned to itself, at least 2^F. Where
    bits below the integer's last are summed up in it, c outweighs the products, of which at least
    half is shifted out: the result has two bits more than float32.
    """
    fraction, more = stage.fraction_bits, stage.join_sum_bits - stage.fraction_bits
    plain = stage.width is None and not stage.normalised and terms.finite
    converts = stage.align in CONVERSIONS and stage.rounding in CONVERSIONS
    native = is_ieee(stage.format, 8, 23, 127) and "avx512f" in host_features()
    floors = stage.join_rounding is Rounding.RDN and stage.join_addend_bits == fraction
    if not (plain and converts and native and floors and fraction >= F32_BITS - 1 and more >= 0):
        return None
    if not _aligned_in_float32(stage, terms, start, stage.join_sum_bits):
        return None
    unit = math.ldexp(terms.significand, terms.headroom - 2 + fraction)
    largest = stage.products * (math.ceil(unit) + 1)
    kept = min(more, INT32_BITS - fraction - 1)
    while kept >= 0 and (2 << fraction + kept) + largest >= 1 << INT32_BITS:
        kept -= 1
    lost = more - kept
    if kept < 0 or (lost and (1 << fraction + kept) - largest // 2 - 1 < 1 << F32_BITS + 1):
        return None
    reach = stage.join_reach is not None
    modes = (str(stage.align), str(stage.rounding))
    step = joined_integer_step(stage.products, stage.lanes, *modes, (kept, lost), reach)
    why = f"terms are exact in float32, both windows and {kept} bits between them in an integer"
    return Plan.lane(step, f"{why}, {lost} more as its odd last bit" if lost else why)


def _plan_joined(stage: Aligned, terms: TermBounds, limited: bool) -> Plan | None:
    """Plan a window joined with c in a second one, whose two grids must fit a lane together."""
    grown = terms.headroom + (stage.products + 1).bit_length()
    finest = max(stage.fraction_bits, stage.join_sum_bits, stage.join_addend_bits)
    bits = finest + grown + 1
    if stage.width is not None or stage.normalised or bits > F64_BITS:
        return None
    modes = (str(stage.align), str(stage.join_rounding), str(stage.rounding))
    reach = stage.join_reach is not None
    step = joined_step(stage.products, stage.lanes, *modes, reach, limited, stage.signed_zero)
    return Plan.lane(step, f"both windows' {bits} <= {F64_BITS} bits are exact in a lane")
