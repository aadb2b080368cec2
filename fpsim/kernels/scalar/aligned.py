# SPDX-License-Identifier: Apache-2.0
"""The aligned stage in scalar code: one dot product after another, in 64-bit integers.

Terms are exact float64 values with their alignment exponents; the equations are in
`fpsim.units.stages.aligned`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fpsim.kernels.cache import inner
from fpsim.kernels.codec.codec import encode_value, round_to_code
from fpsim.kernels.codec.layout import Layout, Limits
from fpsim.kernels.codec.rounding import ModeConstants, round_significand
from fpsim.kernels.scalar.chain_and_fixed import add_to_odd, decode_code
from fpsim.kernels.threads import shared, within

__all__ = [
    "EARLY",
    "JOINED",
    "LATE",
    "NO_EXPONENT",
    "AlignedSettings",
    "Numbers",
    "aligned_steps",
]

EARLY, LATE, JOINED = 0, 1, 2
#: Exponent of a term that does not count; sums of it and an exponent stay below its half.
NO_EXPONENT = -(1 << 14)
MAX_SHIFT = 62


class Numbers(NamedTuple):
    """The integers among the settings of `fpsim.units.stages.Aligned`."""

    products: int
    fraction_bits: int
    addend: int  #: EARLY, LATE or JOINED
    exponent_floor: int  #: NO_EXPONENT if there is none
    normalised: int
    width: int  #: 0 if S is wide enough
    wrap: int
    signed_zero: int
    nan: int  #: -1: an error
    product_limit: float  #: products at or above it are infinite
    lanes: int
    join_sum_bits: int
    join_addend_bits: int
    join_reach: int  #: -1 if there is none
    parts: int = 1  #: float64 numbers of one sign that make a term, the largest first


class AlignedSettings(NamedTuple):
    """All settings of an aligned stage; a parallel loop takes its fields one by one, not nested."""

    n: Numbers
    align: ModeConstants
    rounding: ModeConstants
    late_rounding: ModeConstants
    join_rounding: ModeConstants
    layout: Layout
    limits: Limits
    container: Layout
    container_limits: Limits


@inner
def _exponent(value):
    """Return floor(log2 |value|) of a nonzero float64."""
    _, exponent = math.frexp(value)
    return exponent - 1


@inner
def _to_integer(value, lsb, mode):
    """Return a finite float64 as an integer multiple of 2^lsb, rounded; below 2^62."""
    bits = np.float64(value).view(np.int64)
    negative = bits < 0
    field = (bits >> 52) & np.int64(0x7FF)
    sig = bits & ((np.int64(1) << 52) - 1)
    if field > 0:
        sig |= np.int64(1) << 52
    if sig == 0:
        return np.int64(0)
    shift = lsb - (max(field, np.int64(1)) - 1075)
    if shift < 0:
        magnitude = sig << -shift
    else:
        if shift > MAX_SHIFT:
            sig = np.int64(1)  # only that something is left counts
            shift = np.int64(MAX_SHIFT)
        magnitude = round_significand(sig, shift, np.int64(0), negative, mode, np.int64(0), 0)
    return -magnitude if negative else magnitude


@inner
def _term_integer(values, at, parts, lsb, mode):
    """Return a term of several float64 parts as an integer multiple of 2^lsb, rounded.

    Each of the ``parts`` numbers from ``at`` on lies below the last place of the one before. Parts
    above 2^lsb add up exactly; the first that reaches below is rounded with two more bits, the
    second of which stands for all parts that follow.
    """
    if parts == 1:
        return _to_integer(values[at], lsb, mode)
    negative = math.copysign(1.0, values[at]) < 0.0
    whole = np.int64(0)
    for i in range(at, at + parts):
        value = abs(values[i])
        if value == 0.0:
            break
        fraction, exponent = math.frexp(value)
        sig = np.int64(math.ldexp(fraction, 53))
        shift = lsb - (exponent - 53)
        if shift <= 0:
            whole += sig << -shift
            continue
        rest = i + 1 < at + parts and values[i + 1] != 0.0
        if shift > MAX_SHIFT - 2:
            sig, shift, rest = np.int64(0), np.int64(MAX_SHIFT - 2), True
        sig = (sig << 2) | np.int64(rest)
        none = np.int64(0)
        whole = round_significand(sig, shift + 2, whole, negative, mode, none, 0)
        break
    return -whole if negative else whole


@inner
def _shifted(integer, left, mode):
    """Return ``integer * 2^left`` rounded to an integer."""
    if left >= 0:
        return integer << left
    magnitude = abs(integer)
    shift = min(-left, np.int64(MAX_SHIFT))
    if -left > MAX_SHIFT and magnitude != 0:
        magnitude = np.int64(1)
    magnitude = round_significand(magnitude, shift, np.int64(0), integer < 0, mode, np.int64(0), 0)
    return -magnitude if integer < 0 else magnitude


@inner
def _window(values, exponents, start, stride, count, c, c_exponent, s):
    """Return (S, E, whether a zero S is -0) of ``count`` terms and, if it counts, c."""
    e = np.int64(s.n.exponent_floor)
    parts = s.n.parts
    for i in range(count):
        j = start + i * stride
        if j < exponents.size:
            exponent = np.int64(exponents[j])
            if s.n.normalised and values[j * parts] != 0.0:
                exponent = np.int64(_exponent(values[j * parts]))
            if exponent > NO_EXPONENT // 2:
                e = max(e, exponent)
    if s.n.addend == EARLY:
        e = max(e, c_exponent)
    lsb = e - s.n.fraction_bits  # where nothing counts, of zeros only
    total = np.int64(0)
    plus = minus = nonzero = False
    for i in range(count + (s.n.addend == EARLY)):
        j = start + i * stride
        value = 0.0
        integer = np.int64(0)
        if i == count:
            value = c
            integer = _to_integer(c, lsb, s.align)
        elif j < exponents.size:
            value = values[j * parts]
            integer = _term_integer(values, j * parts, parts, lsb, s.align)
        total += integer
        nonzero = nonzero or integer != 0
        negative = math.copysign(1.0, value) < 0.0
        minus = minus or negative
        plus = plus or not negative
    if s.n.width:
        half = np.int64(1) << (s.n.width - 1)
        if s.n.wrap:
            total = ((total + half) & ((half << 1) - 1)) - half if s.n.width < 64 else total
        else:
            total = min(max(total, -half), half - 1)
    toward_negative = s.rounding[3] == 1
    mixed = nonzero or (plus and minus)
    negative_zero = (mixed and toward_negative) or (minus and not plus and not nonzero)
    return total, e, negative_zero


@inner
def _widened(code, s):
    """Return a code of the narrow format in the container format; -1, an error, stays -1."""
    if code < 0:
        return np.int64(-1)
    negative = s.layout.sign_bit != 0 and code >= s.layout.sign_bit
    magnitude = code - s.layout.sign_bit if negative else code
    magnitude <<= s.container.mantissa_bits - s.layout.mantissa_bits
    return magnitude | s.container.sign_bit if negative else magnitude


@inner
def _encode_integer(total, lsb, negative_zero, s):
    """Return the container's code of ``total * 2^lsb``, or -1."""
    negative = total < 0 or (total == 0 and negative_zero)
    code = round_to_code(abs(total), lsb, negative, s.layout, s.rounding, np.int64(0), 0)
    if code > s.layout.max_code:
        code = np.int64(s.limits.over_negative if negative else s.limits.over_positive)
    elif negative and (code != 0 or s.layout.negative_zero):
        code |= s.layout.sign_bit
    return _widened(code, s)


@inner
def _joined(values, exponents, c, c_exponent, s):
    """Return (integer, exponent of its last bit) of the sum in the second window."""
    total = np.int64(0)
    e = np.int64(0)
    if s.n.lanes == 1:
        total, e, _ = _window(values, exponents, 0, 1, s.n.products, c, c_exponent, s)
    else:
        s0, e0, _ = _window(values, exponents, 0, 2, (s.n.products + 1) // 2, c, c_exponent, s)
        s1, e1, _ = _window(values, exponents, 1, 2, s.n.products // 2, c, c_exponent, s)
        e = max(e0, e1)
        total = _shifted(s0, e0 - e, s.join_rounding) + _shifted(s1, e1 - e, s.join_rounding)
    second = max(e, c_exponent)
    if second == NO_EXPONENT:
        second = np.int64(0)
    left = (e - s.n.fraction_bits) - (second - s.n.join_sum_bits)
    total = _shifted(total, left, s.join_rounding)
    addend = np.int64(0)
    near = s.n.join_reach < 0 or c_exponent >= second - s.n.join_reach
    if c_exponent > NO_EXPONENT and near:
        addend = _to_integer(c, second - s.n.join_addend_bits, s.join_rounding)
    if s.n.join_sum_bits >= s.n.join_addend_bits:
        return total + (
            addend << (s.n.join_sum_bits - s.n.join_addend_bits)
        ), second - s.n.join_sum_bits
    total <<= s.n.join_addend_bits - s.n.join_sum_bits
    return total + addend, second - s.n.join_addend_bits


@inner
def _step(values, exponents, code, s):
    """Return the code after one step, or -1."""
    c = decode_code(code, s.container)
    special = 0.0 if math.isfinite(c) else c
    for i in range(values.size):
        if abs(values[i]) >= s.n.product_limit:
            special += math.copysign(np.inf, values[i])
        elif not math.isfinite(values[i]):
            special += values[i]
    if math.isnan(special):
        return np.int64(s.n.nan)
    if special != 0.0:
        code = s.limits.inf_negative if special < 0.0 else s.limits.inf_positive
        return _widened(np.int64(code), s)
    c_exponent = np.int64(NO_EXPONENT)
    if c != 0.0:
        c_exponent = max(np.int64(_exponent(c)), np.int64(s.container.exponent_min))
    if s.n.addend == JOINED:
        total, lsb = _joined(values, exponents, c, c_exponent, s)
        code = _encode_integer(total, lsb, False, s)
    else:
        total, e, zero = _window(values, exponents, 0, 1, s.n.products, c, c_exponent, s)
        code = _encode_integer(total, e - s.n.fraction_bits, zero, s)
        if s.n.addend == LATE and code >= 0:
            value = add_to_odd(decode_code(code, s.container), c, s.late_rounding[3] == 1)
            if math.isnan(value):
                return np.int64(s.n.nan)
            code = encode_value(
                value, s.container, s.container_limits, s.late_rounding, np.int64(0), 0
            )
    negative_zero = s.container.negative_zero and code == s.container.sign_bit
    if negative_zero and not s.n.signed_zero:
        code = np.int64(0)
    return code


@shared(1 << 12)
def aligned_steps(
    values,
    exponents,
    c,
    n,
    align,
    rounding,
    late,
    join,
    layout,
    limits,
    outer,
    outer_limits,
    out,
    share,
):
    """Accumulate rows of terms in steps of N, see `fpsim.units.stages.aligned` for the equations.

    Args:
        values: float64 (R, T * parts): the exact terms, each of ``n.parts`` neighbours.
        exponents: int32 (R, T): alignment exponents; below `NO_EXPONENT` / 2 a term does not count.
        c: accumulator codes at the start (R,), of the container format.
        n: `Numbers`.
        align: `ModeConstants` of the alignment shifts.
        rounding: `ModeConstants` of a step's result.
        late: `ModeConstants` of the addition of a late addend.
        join: `ModeConstants` of the shifts into a second window.
        layout: `Layout` of the format that a step rounds to.
        limits: `Limits` of that format.
        outer: `Layout` of the container, the format of the accumulator.
        outer_limits: `Limits` of the container.
        out: codes (R, S), filled with the accumulators after the last S steps.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        The first row with a result that has no code, or -1.
    """
    rows, length = exponents.shape
    steps = (length + n.products - 1) // n.products
    keep = out.shape[1]
    bad = np.int64(rows)
    for r in within(rows, share):
        s = AlignedSettings(n, align, rounding, late, join, layout, limits, outer, outer_limits)
        code = np.int64(c[r])
        for step in range(steps):
            first = step * n.products
            last = min(first + n.products, length)
            part = values[r, first * n.parts : last * n.parts]
            code = _step(part, exponents[r, first:last], code, s)
            if code < 0:
                bad = min(bad, r)
                code = np.int64(0)
            if step >= steps - keep:
                out[r, step - (steps - keep)] = code
    return -1 if bad == rows else bad
