# SPDX-License-Identifier: Apache-2.0
"""Exact ranges of sums of rows of terms, from which widths of accumulators are found."""

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
    """Arrays that `chain_account` fills, per column and added up over its calls.

    Partial sums and terms are counted in units of ``1 / per_unit``.
    """

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
        """Return an account of no steps."""
        panels, own = -(-columns // WIDTH), [np.zeros(columns, np.int64) for _ in range(7)]
        low, high, sizes, total, seen, inexact, swamped = own
        most, beyond = np.zeros(panels, np.int64), np.zeros(panels, np.bool_)
        return cls(low, high, sizes, total, seen, most, inexact, swamped, beyond)


@kernel(parallel=True)
def chain_account(after, a, b, per_unit, largest, account):
    """Account for the steps of chains that start from +0, one chain per column.

    Args:
        after: floats (K, N), the accumulators after each step.
        a: float64 (K,).
        b: float64 (K, N); term k of column n is ``a[k] * b[k, n]``.
        per_unit: power of two that makes every term an integer; sums of terms fit 53 bits.
        largest: largest finite magnitude of the accumulator; a larger sum sets ``beyond``.
        account: `Account`, to which the steps are added.

    Returns:
        Nothing.
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
    """Account for the columns of one part; ``ends`` are one entry of ``most`` and of ``beyond``."""
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
            # More significant bits than any before: the last bit, moved up, is not above the first.
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
    """Find the bits that each row of values takes.

    Args:
        values: finite float64 (R, T).
        out: int64 (R, 2), filled with (low, high): the row's nonzero values are multiples of 2^low
            and below 2^high in magnitude. A row of zeros has low 2^20 and high -2^20.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
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
    """Fill ``out`` with each step's exact sum of its accumulator and terms, rounded to odd.

    Args:
        terms: float64 (R, T).
        group: terms of a step; the last step may have fewer.
        before: float64 (R, S), the accumulator before each step.
        out: float64 (R, S), filled; exact where float64 holds the sum.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
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
    """Find the range and the widths of the partial sums ``start + terms[0] + ... + terms[k]``.

    Args:
        terms: float64 (R, T).
        start: float64 (R,).
        per_unit: power of two that makes every term and start an integer; the sum of a row's
            magnitudes is then at most 2^62.
        out: int64 (R, 5), filled for each row, in units of ``1 / per_unit``: the smallest and the
            largest partial sum, the bitwise or of the partial sums' magnitudes, the most
            significant bits that any of them has, and the sum of the magnitudes of start and terms.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
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
