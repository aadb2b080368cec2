# SPDX-License-Identifier: Apache-2.0
"""What an accumulator meets on its way, exactly: step sums and partial sums of rows of terms."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from fpsim.kernels.cache import inner, kernel
from fpsim.kernels.scalar.chain_and_fixed import add_to_odd
from fpsim.kernels.scalar.limbs import LIMBS, sum_to_odd
from fpsim.kernels.threads import shared, within

__all__ = ["Account", "bounds", "chain_account", "partial_sums", "step_sums"]

#: Columns looked at together, whose running sums stay in the cache.
WIDTH = 256


class Account(NamedTuple):
    """What `chain_account` fills, per column and added up over what is looked at."""

    low: np.ndarray  #: the smallest partial sum, int64 (N,); `high` and `sizes` alike
    high: np.ndarray
    sizes: np.ndarray  #: the sum of all magnitudes of terms
    total: np.ndarray  #: the last sum
    seen: np.ndarray  #: the bitwise or of all magnitudes
    most: np.ndarray  #: int64 (panels,): the most significant bits of any sum of these columns
    inexact: np.ndarray  #: steps whose result is not the exact sum, int64 (N,)
    swamped: np.ndarray  #: steps that did not move although the term is not zero
    beyond: np.ndarray  #: bool (panels,): a step sum was larger than ``largest``, or not finite

    @classmethod
    def of(cls, columns: int) -> Account:
        """Return an account of nothing yet."""
        panels, own = -(-columns // WIDTH), [np.zeros(columns, np.int64) for _ in range(7)]
        low, high, sizes, total, seen, inexact, swamped = own
        most, beyond = np.zeros(panels, np.int64), np.zeros(panels, np.bool_)
        return cls(low, high, sizes, total, seen, most, inexact, swamped, beyond)


@kernel(parallel=True)
def chain_account(after, a, b, per_unit, largest, account):
    """Account for the steps of chains that start from +0, a column each.

    ``after`` (K, N) has the accumulators after each step, as values; the terms are ``a[k]`` times
    ``b[k, n]``, float64 integers once multiplied by ``per_unit``, whose sums fit 53 bits. What lies
    beyond ``largest`` is only found, not counted.
    """
    low, high, sizes, total, seen, most, inexact, swamped, beyond = account
    for p in prange(most.size):
        first, stop = p * WIDTH, min((p + 1) * WIDTH, after.shape[1])
        sums = (
            low[first:stop], high[first:stop], sizes[first:stop], total[first:stop],
            seen[first:stop],
        )  # fmt: skip
        counts = inexact[first:stop], swamped[first:stop]
        # Numba 0.68 loses numbers that a parallel loop gets from a function and stores itself.
        ends = most[p : p + 1], beyond[p : p + 1]
        _account((first, stop), after, a, b, per_unit, largest, sums, counts, ends)


@inner
def _account(part, after, a, b, per_unit, largest, sums, counts, ends):
    """Account for some columns, whose most significant bits and whether one is beyond are ends."""
    low, high, sizes, total, seen = sums
    inexact, swamped = counts
    first, stop = part
    width, most, outside = stop - first, np.int64(0), np.int64(0)
    before = np.zeros(width)
    for k in range(after.shape[0]):
        scale, own, now, wider = a[k], b[k, first:stop], after[k, first:stop], np.int64(0)
        for j in range(width):
            term, was, value = scale * own[j], before[j], np.float64(now[j])
            exact = was + term
            moved = exact - was
            error = (was - (exact - moved)) + (term - moved)
            inexact[j] += np.int64((value != exact) | (error != 0.0))
            swamped[j] += np.int64((value == was) & (term != 0.0))
            outside |= np.int64(not abs(exact) <= largest)
            before[j] = value
            unit = np.int64(term * per_unit)
            reached = total[j] + unit
            total[j] = reached
            low[j], high[j] = min(low[j], reached), max(high[j], reached)
            size = abs(reached)
            sizes[j] += abs(unit)
            seen[j] |= size
            # Of more significant bits than any before: the last bit, moved up, is not beyond.
            wider |= np.int64((((size & -size) << most) <= size) & (size != 0))
        if wider:
            for j in range(width):
                size = abs(total[j])
                if size:
                    most = max(most, np.int64(_bit_length(size // (size & -size))))
    ends[0][0], ends[1][0] = most, outside != 0


@inner
def _bit_length(magnitude):
    length = 0
    while magnitude:
        magnitude >>= 1
        length += 1
    return length


@shared(1 << 14)
def bounds(values, out, share):
    """Fill ``out`` (R, 2): nonzero ``values`` (R, T) are multiples of 2^low and below 2^high."""
    for r in within(values.shape[0], share):
        low, high = np.int64(1 << 20), np.int64(-(1 << 20))
        for k in range(values.shape[1]):
            if values[r, k] != 0.0:
                fraction, exponent = math.frexp(values[r, k])
                integer = np.int64(abs(math.ldexp(fraction, 53)))
                last = math.frexp(np.float64(integer & -integer))[1] - 1
                low = min(low, np.int64(exponent - 53 + last))
                high = max(high, np.int64(exponent))
        out[r, 0], out[r, 1] = low, high


@shared(1 << 12)
def step_sums(terms, group, before, out, share):
    """Fill ``out`` (R, S) with ``before`` plus the terms of each step, exactly, rounded to odd.

    Step s has the terms ``group * s`` up to ``group * (s + 1) - 1``; the last may have fewer.
    """
    for r in within(out.shape[0], share):
        limbs = np.zeros(LIMBS, dtype=np.int64)
        ones = np.ones(group)
        for s in range(out.shape[1]):
            if group == 1:
                out[r, s] = add_to_odd(before[r, s], terms[r, s], False)
            else:
                part = terms[r, group * s : group * (s + 1)]
                out[r, s] = sum_to_odd(limbs, part, ones[: part.size], before[r, s], False)


@shared(1 << 14)
def partial_sums(terms, start, per_unit, out, share):
    """Fill ``out`` (R, 5) int64 with what is true of every ``start + terms[0] + ... + terms[k]``.

    ``terms`` (R, T) and ``start`` (R,) are float64 integers once multiplied by ``per_unit``, a
    power of two; no sum of their magnitudes exceeds 2^62. Columns: the smallest and the largest
    sum, the bitwise or of all magnitudes, the most significant bits of any of them, and the sum of
    all magnitudes of start and terms.
    """
    for r in within(terms.shape[0], share):
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
