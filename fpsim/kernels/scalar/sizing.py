# SPDX-License-Identifier: Apache-2.0
"""What an accumulator meets on its way, exactly: step sums and partial sums of rows of terms."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from fpsim.kernels.cache import kernel
from fpsim.kernels.scalar.chain_and_fixed import add_to_odd
from fpsim.kernels.scalar.limbs import LIMBS, sum_to_odd

__all__ = ["bounds", "partial_sums", "step_sums"]


@njit
def _bit_length(magnitude):
    length = 0
    while magnitude:
        magnitude >>= 1
        length += 1
    return length


@kernel(parallel=True)
def bounds(values, out):
    """Fill ``out`` (R, 2): nonzero ``values`` (R, T) are multiples of 2^low and below 2^high."""
    for r in prange(values.shape[0]):
        low, high = np.int64(1 << 20), np.int64(-(1 << 20))
        for k in range(values.shape[1]):
            if values[r, k] != 0.0:
                fraction, exponent = math.frexp(values[r, k])
                integer = np.int64(abs(math.ldexp(fraction, 53)))
                last = math.frexp(np.float64(integer & -integer))[1] - 1
                low = min(low, np.int64(exponent - 53 + last))
                high = max(high, np.int64(exponent))
        out[r, 0], out[r, 1] = low, high


@kernel(parallel=True)
def step_sums(terms, group, before, out):
    """Fill ``out`` (R, S) with ``before`` plus the terms of each step, exactly, rounded to odd.

    Step s has the terms ``group * s`` up to ``group * (s + 1) - 1``; the last may have fewer.
    """
    for r in prange(out.shape[0]):
        limbs = np.zeros(LIMBS, dtype=np.int64)
        ones = np.ones(group)
        for s in range(out.shape[1]):
            if group == 1:
                out[r, s] = add_to_odd(before[r, s], terms[r, s], False)
            else:
                part = terms[r, group * s : group * (s + 1)]
                out[r, s] = sum_to_odd(limbs, part, ones[: part.size], before[r, s], False)


@kernel(parallel=True)
def partial_sums(terms, start, per_unit, out):
    """Fill ``out`` (R, 5) int64 with what is true of every ``start + terms[0] + ... + terms[k]``.

    ``terms`` (R, T) and ``start`` (R,) are float64 integers once multiplied by ``per_unit``, a
    power of two; no sum of their magnitudes exceeds 2^62. Columns: the smallest and the largest
    sum, the bitwise or of all magnitudes, the most significant bits of any of them, and the sum of
    all magnitudes of start and terms.
    """
    for r in prange(terms.shape[0]):
        total = np.int64(start[r] * per_unit)
        magnitude = abs(total)
        low = high = total
        seen = magnitude
        most = np.int64(0)
        sizes = magnitude
        if magnitude:
            most = np.int64(_bit_length(magnitude // (magnitude & -magnitude)))
        for k in range(terms.shape[1]):
            term = np.int64(terms[r, k] * per_unit)
            total += term
            sizes += abs(term)
            low, high = min(low, total), max(high, total)
            magnitude = abs(total)
            seen |= magnitude
            if magnitude:
                odd = magnitude // (magnitude & -magnitude)
                if odd >> most:
                    most = np.int64(_bit_length(odd))
        out[r, 0], out[r, 1], out[r, 2], out[r, 3], out[r, 4] = low, high, seen, most, sizes
