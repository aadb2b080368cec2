# SPDX-License-Identifier: Apache-2.0
"""Exact sums of float64 products of any exponents: a Kulisch accumulator of 32-bit limbs.

A sum is kept in three float64 by error-free additions, as long as they hold it. A sum of more bits
is kept as signed limbs, ``sum limb[j] * 2^(32 j + LOWEST)``; each product adds to three of them and
carries are resolved once at the end, which is safe for up to 2^30 products. The result is a float64
rounded to odd, from which every rounding to at most 51 bits is exact.
"""

from __future__ import annotations

import math

import numpy as np

from fpsim.kernels.cache import inner
from fpsim.kernels.threads import shared, within

__all__ = [
    "LIMBS",
    "accumulate",
    "exact_columns",
    "exact_dots",
    "exact_sums",
    "leading",
    "normalise",
    "sum_to_odd",
]

#: Exponent of bit 0: below the smallest bit of a product of two operands and two E8M0 scales.
LOWEST = -1152
LIMBS = 72  # 72 * 32 = 2304 bits: up to 2^1152
#: Columns that `exact_columns` adds at once: what it keeps of them stays in the cache.
COLUMNS = 256


@inner
def accumulate(limbs, value):
    """Add a finite float64 other than 0 to limbs."""
    fraction, exponent = math.frexp(abs(value))
    sig = np.uint64(math.ldexp(fraction, 53))
    position = exponent - 53 - LOWEST
    index = position // 32
    offset = np.uint64(position % 32)
    low = (sig & np.uint64(0xFFFFFFFF)) << offset  # below 2^63
    high = (sig >> np.uint64(32)) << offset
    mask = np.uint64(0xFFFFFFFF)
    parts = (
        np.int64(low & mask),
        np.int64((low >> np.uint64(32)) + (high & mask)),
        np.int64(high >> np.uint64(32)),
    )
    for j in range(3):
        limbs[index + j] += -parts[j] if value < 0 else parts[j]


@inner
def normalise(limbs):
    """Turn limbs into the digits 0..2^32 - 1 of the sum's magnitude; return whether it was < 0."""
    carry = np.int64(0)
    for j in range(LIMBS):
        total = limbs[j] + carry
        limbs[j] = total & 0xFFFFFFFF
        carry = total >> 32
    negative = carry < 0
    if negative:
        carry = np.int64(1)
        for j in range(LIMBS):
            total = (np.int64(0xFFFFFFFF) - limbs[j]) + carry
            limbs[j] = total & 0xFFFFFFFF
            carry = total >> 32
    return negative


@inner
def leading(limbs):
    """Return (s, e, rest) of normalised limbs: the first 53 significant bits are s, times 2^e.

    ``rest`` says whether anything is left below them. Of a sum of zero s is 0.
    """
    top = LIMBS - 1
    while top > 0 and limbs[top] == 0:
        top -= 1
    # 96 bits from the top limb down hold at least 65 significant ones.
    head = np.uint64(limbs[top]) << np.uint64(32)
    if top >= 1:
        head |= np.uint64(limbs[top - 1])
    rest = np.uint64(limbs[top - 2]) if top >= 2 else np.uint64(0)
    sticky = False
    for j in range(top - 2):
        sticky = sticky or limbs[j] != 0
    exponent = (top - 1) * 32 + LOWEST
    if head == 0:
        return np.int64(0), exponent, False
    while head < np.uint64(1) << np.uint64(63):
        head = (head << np.uint64(1)) | (rest >> np.uint64(31))
        rest = (rest << np.uint64(1)) & np.uint64(0xFFFFFFFF)
        exponent -= 1
    sticky = sticky or rest != 0 or (head & np.uint64(0x7FF)) != 0
    return np.int64(head >> np.uint64(11)), exponent + 11, sticky


@inner
def _rounded_to_odd(limbs):
    """Return the sum as a float64 rounded to odd (exact if it has at most 53 bits)."""
    negative = normalise(limbs)
    sig, exponent, sticky = leading(limbs)
    if sticky:
        sig |= 1
    value = math.ldexp(np.float64(sig), exponent)
    return -value if negative else value


@inner
def _two_sum(x, y):
    """Return x + y as float64 rounds it, and the error (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


@inner
def _three_to_odd(x, y, z):
    """Return x + y + z rounded to odd.

    Two errors add up to less than a few units of the sum's last place: if the second is not zero
    nothing was cancelled that the first could meet. So what is left of their sum changes no more
    than the sign of the rest.
    """
    total, first = _two_sum(x, y)
    total, second = _two_sum(total, z)
    errors, below = _two_sum(first, second)
    head, rest = _two_sum(total, errors)
    rest += below
    code = np.float64(head).view(np.int64)
    step = np.int64(1 if (rest > 0.0) == (head > 0.0) else -1)
    odd = code + (step if rest != 0.0 and code & 1 == 0 else np.int64(0))
    return np.int64(odd).view(np.float64)


@inner
def sum_to_odd(limbs, a, b, c, toward_negative):
    """Return ``c + sum a * b``, rounded to odd where it is inexact.

    Args:
        limbs: int64 (`LIMBS`,), working space.
        a: float64 (K,).
        b: float64 (K,); each product is exact.
        c: float64.
        toward_negative: whether a sum of zero that has nonzero addends, or zeros of both signs, is
            -0.

    Returns:
        The sum, float64. NaN and infinities follow IEEE 754; a sum of only -0 is -0.
    """
    special = x = y = z = 0.0
    plus = minus = nonzero = False
    kept = True
    for k in range(-1, a.size):
        value = c if k < 0 else a[k] * b[k]
        if value == 0.0:
            plus = plus or math.copysign(1.0, value) > 0
            minus = minus or math.copysign(1.0, value) < 0
        elif math.isfinite(value):
            nonzero = True
            # Three numbers hold most sums: what one cannot, is its error, and goes to the next.
            x, value = _two_sum(x, value)
            y, value = _two_sum(y, value)
            z, value = _two_sum(z, value)
            kept = kept and value == 0.0
        else:
            special += value
    if special != 0.0:
        return special
    if kept:
        total = _three_to_odd(x, y, z)
    else:
        limbs[:] = 0
        for k in range(-1, a.size):
            value = c if k < 0 else a[k] * b[k]
            if value != 0.0:
                accumulate(limbs, value)
        total = _rounded_to_odd(limbs)
    if total == 0.0:
        mixed = nonzero or (plus and minus)
        negative = toward_negative if mixed else minus
        total = -0.0 if negative else 0.0
    return total


@shared(1 << 12)
def exact_sums(a, b, c, toward_negative, out, share):
    """Fill ``out`` with ``c[m, n] + sum_k a[m, k] * b[n, k]``, rounded to odd where inexact.

    Args:
        a: float64 (M, K).
        b: float64 (N, K); each product is exact and within 2^+-1000.
        c: float64 (M, N).
        toward_negative: whether a sum of zero is -0 unless every addend is +0; else it is -0 only
            if every addend is.
        out: float64 (M, N), filled; NaN and infinities follow IEEE 754.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    limbs = np.empty(LIMBS, dtype=np.int64)
    for m in within(a.shape[0], share):
        for n in range(b.shape[0]):
            out[m, n] = sum_to_odd(limbs, a[m], b[n], c[m, n], toward_negative)


@shared(1 << 12)
def exact_dots(a, b, c, toward_negative, out, share):
    """Fill ``out`` with ``c[r] + sum_k a[r, k] * b[r, k]``, rounded to odd where inexact.

    Args:
        a: float64 (R, K).
        b: float64 (R, K); each product is exact and within 2^+-1000.
        c: float64 (R,).
        toward_negative: whether a sum of zero is -0 unless every addend is +0; else it is -0 only
            if every addend is.
        out: float64 (R,), filled; NaN and infinities follow IEEE 754.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    limbs = np.empty(LIMBS, dtype=np.int64)
    for r in within(a.shape[0], share):
        out[r] = sum_to_odd(limbs, a[r], b[r], c[r], toward_negative)


@shared(1 << 12)
def exact_columns(terms, c, toward_negative, out, share):
    """Fill ``out`` with ``c[n] + sum_k terms[k, n]``, rounded to odd where inexact.

    Args:
        terms: float64 (K, N), finite, within 2^+-1000.
        c: float64 (N,).
        toward_negative: whether a sum of zero is -0 unless every addend is +0; else it is -0 only
            if every addend is.
        out: float64 (N,), filled; NaN and infinities follow IEEE 754.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    limbs, ones = np.empty(LIMBS, dtype=np.int64), np.ones(len(terms))
    y, z, lost = np.empty(COLUMNS), np.empty(COLUMNS), np.empty(COLUMNS)
    parts = -(-out.size // COLUMNS)
    for part in within(parts, share):
        first = part * COLUMNS
        count = min(COLUMNS, out.size - first)
        y[:], z[:], lost[:] = 0.0, 0.0, 0.0
        for n in range(count):
            out[first + n] = c[first + n]
        for k in range(len(terms)):
            for n in range(count):
                out[first + n], value = _two_sum(out[first + n], terms[k, first + n])
                y[n], value = _two_sum(y[n], value)
                z[n], value = _two_sum(z[n], value)
                lost[n] += abs(value)
        for n in range(count):
            total = _three_to_odd(out[first + n], y[n], z[n])
            if lost[n] != 0.0 or total == 0.0 or not math.isfinite(total):
                total = sum_to_odd(limbs, terms[:, first + n], ones, c[first + n], toward_negative)
            out[first + n] = total
