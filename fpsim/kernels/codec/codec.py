# SPDX-License-Identifier: Apache-2.0
"""Codes from and to float64, for any floating-point layout of up to 32 bits.

Formats come as `fpsim.kernels.codec.layout.Layout`. A magnitude code counts the non-negative values
upward from code 0, so rounding carries into the exponent by itself and "too large" is one
comparison.
"""

from __future__ import annotations

import numpy as np

from fpsim.kernels.cache import inner
from fpsim.kernels.codec.rounding import round_significand
from fpsim.kernels.threads import shared, within

__all__ = [
    "decode_array",
    "decode_magnitude",
    "encode_array",
    "encode_value",
    "look_up",
]

F64_MANTISSA = 52
F64_BIAS = 1023
#: Shifts are capped here; one sticky bit stands for the bits below.
MAX_SHIFT = 62


@inner
def decode_magnitude(code, layout):
    """Return (significand, exponent) of a finite magnitude code: its value is s * 2^e."""
    m = layout.mantissa_bits
    row = code >> m
    fraction = code & ((np.int64(1) << m) - 1)
    lowest = layout.exponent_min - m
    if layout.hidden_row == 1:
        return fraction | (np.int64(1) << m), row + lowest
    if row == 0:
        return (fraction if layout.hidden_row == 0 else np.int64(0)), lowest
    return fraction | (np.int64(1) << m), row - 1 + lowest


@inner
def encode_value(value, layout, limits, mode, random, random_bits):
    """Round one float64 to a code of a format.

    Args:
        value: any float64.
        layout: `Layout` of the format.
        limits: `Limits`, the codes of values that the format does not hold.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: a random integer of ``random_bits`` bits; unused if there are 0.
        random_bits: 0 unless rounding is stochastic.

    Returns:
        The code, int64; -1 where ``limits`` calls the value an error. -0 and negative values that
        round to zero become -0, or 0 where the format has none.
    """
    bits = np.float64(value).view(np.int64)
    negative = bits < 0
    magnitude = bits & np.int64(0x7FFFFFFFFFFFFFFF)
    if magnitude > np.int64(0x7FF0000000000000):
        return np.int64(limits.nan)
    if magnitude == np.int64(0x7FF0000000000000):
        return np.int64(limits.inf_negative if negative else limits.inf_positive)

    field = magnitude >> F64_MANTISSA
    fraction = magnitude & ((np.int64(1) << F64_MANTISSA) - 1)
    exponent = max(field, np.int64(1)) - F64_BIAS
    sig = fraction | ((np.int64(1) << F64_MANTISSA) if field > 0 else np.int64(0))

    code = round_to_code(sig, exponent - F64_MANTISSA, negative, layout, mode, random, random_bits)
    if code > layout.max_code:
        return np.int64(limits.over_negative if negative else limits.over_positive)
    if negative:
        if code == 0 and layout.hidden_row != 1:
            return np.int64(layout.sign_bit * layout.negative_zero)
        if layout.sign_bit == 0 and sig == 0:
            return code
        if layout.sign_bit == 0:
            return np.int64(limits.over_negative)
        return code + layout.sign_bit
    return code


@inner
def round_to_code(sig, lsb, negative, layout, mode, random, random_bits):
    """Round ``sig * 2^lsb`` to a magnitude code.

    Args:
        sig: int64 from 0 to 2^62 - 1.
        lsb: exponent of its last bit.
        negative: whether the value is below zero, for directed modes.
        layout: `Layout` of the format.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: a random integer of ``random_bits`` bits; unused if there are 0.
        random_bits: 0 unless rounding is stochastic.

    Returns:
        The code, int64. The exponent is unbounded above: a code beyond ``layout.max_code`` is that
        of an overflow. In a format without zero, values below the smallest one have its code, 0.
    """
    m = layout.mantissa_bits
    width = np.int64(0)
    rest = sig
    for step in (32, 16, 8, 4, 2, 1):
        if rest >> step:
            rest >>= step
            width += step
    top = lsb + width  # exponent of the leading one (meaningless for 0)
    row = max(top, np.int64(layout.exponent_min))
    shift = row - m - lsb
    if sig == 0:
        return np.int64(0)
    if layout.hidden_row == 1 and top < layout.exponent_min:
        return np.int64(0)
    if shift < 0:
        sig <<= -shift
        shift = np.int64(0)
    if shift > MAX_SHIFT:
        drop = min(shift - MAX_SHIFT, np.int64(63))
        kept = sig >> drop
        sig = kept | np.int64((kept << drop) != sig)
        shift = np.int64(MAX_SHIFT)
    base = (row - layout.exponent_min) << m
    if layout.hidden_row == 1:
        base -= np.int64(1) << m
    code = round_significand(sig, shift, base, negative, mode, random, random_bits)
    if layout.hidden_row == 2 and code < (np.int64(1) << m):
        return np.int64(0)
    return code


@shared(1 << 13)
def encode_array(values, out, layout, limits, mode, random, random_bits, share):
    """Fill ``out`` with the codes of values.

    Args:
        values: float64, flat.
        out: unsigned integers of the same length, filled; 0 for values in error.
        layout: `Layout` of the format.
        limits: `Limits`, the codes of values that the format does not hold.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: integers of ``random_bits`` bits, one per value; one entry in all if there are 0.
        random_bits: 0 unless rounding is stochastic.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Index of the first value that ``limits`` calls an error, or -1.
    """
    bad = np.int64(values.size)
    for i in within(values.size, share):
        r = np.int64(random[i]) if random_bits else np.int64(0)
        code = encode_value(values[i], layout, limits, mode, r, random_bits)
        if code < 0:
            bad = min(bad, i)
            code = np.int64(0)
        out[i] = code
    return -1 if bad == values.size else bad


@shared(1 << 14)
def decode_array(codes, out, layout, share):
    """Fill ``out`` with the exact values of codes.

    Args:
        codes: unsigned integers, flat.
        out: float64 of the same length, filled; NaN for every code of a NaN.
        layout: `Layout` of the format.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    for i in within(codes.size, share):
        code = np.int64(codes[i])
        negative = layout.sign_bit != 0 and code >= layout.sign_bit
        magnitude = code - layout.sign_bit if negative else code
        if negative and magnitude == 0 and layout.negative_zero == 0:
            out[i] = np.nan
        elif magnitude > layout.max_code:
            out[i] = np.inf if magnitude == layout.inf_code else np.nan
            if negative and magnitude == layout.inf_code:
                out[i] = -np.inf
        else:
            sig, exponent = decode_magnitude(magnitude, layout)
            value = np.ldexp(np.float64(sig), exponent)
            out[i] = -value if negative else value


@shared(1 << 17)
def look_up(codes, table, out, share):
    """Fill ``out`` with the entries of a table at codes.

    Args:
        codes: unsigned integers below the table's length, flat.
        table: one entry per code.
        out: of the table's type and the length of ``codes``, filled.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    for i in within(codes.size, share):
        out[i] = table[codes[i]]
