# SPDX-License-Identifier: Apache-2.0
"""Compiled loops that fill the columns of random vectors; `seeded.random_vectors` calls them.

Every loop takes the words of its draws as arrays, one word per entry, and runs over rows in
parallel: a row is a function of its own words alone.
"""

from __future__ import annotations

import math

import numpy as np

from fpsim.kernels.cache import inner, kernel
from fpsim.kernels.threads import shared, within
from fpsim.vectors.seeded import philox_draws
from fpsim.vectors.seeded.philox_draws import CHUNK, bounded, take

__all__ = [
    "ANY",
    "EXPONENT",
    "OPPOSITE",
    "ZERO",
    "addends",
    "aims",
    "choose",
    "rough_sums",
    "sprinkle",
    "stream_ops",
    "thin",
]

_SOURCES = (__file__, philox_draws.__file__)
#: How an addend is drawn: zero, any bits, near minus the sum, or with an exponent near the sum's.
ZERO, ANY, OPPOSITE, EXPONENT = range(4)


@inner
def _of_rows(mode, length):  # type: ignore[no-untyped-def]
    """Return the mode of every entry of rows of a length."""
    if length == 1:
        return mode
    found = np.empty(mode.size * length, dtype=mode.dtype)
    for i in range(mode.size):
        found[i * length : (i + 1) * length] = mode[i]
    return found


@inner
def _places(words, others, mode, mask, value, first, rest, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        other = np.uint32(mode[i] & mask == value)  # no branch on it: it is random
        word = words[i] ^ ((words[i] ^ others[i]) * other)
        out[i] = other * first + np.uint32(bounded(word, first + other * (rest - first)))


@shared(1 << 16, sources=_SOURCES)
def choose(words, others, mode, mask, value, tables, first, out, share):  # type: ignore[no-untyped-def]
    """Fill ``out`` (R, L) with members of a table, in rows whose mode & mask is value of another.

    ``tables`` holds both, the other from entry ``first`` on, and ``others`` are its words; arrays
    of entries are flat.
    """
    length = out.size // mode.size
    rows = max(1, CHUNK // length)
    sizes = np.uint32(first), np.uint32(tables.size - first)
    for c in within((mode.size + rows - 1) // rows, share):
        top, end = c * rows, min((c + 1) * rows, mode.size)
        low, high = top * length, end * length
        places = np.empty(high - low, dtype=np.uint32)
        modes = _of_rows(mode[top:end], length)
        _places(words[low:high], others[low:high], modes, mask, value, *sizes, places)
        take(tables, places, out[low:high])


@shared(1 << 16, sources=_SOURCES)
def sprinkle(words, picks, rarity, table, out, share):  # type: ignore[no-untyped-def]
    """Replace one entry of ``out`` (R, L) in ``rarity`` by a member of ``table``."""
    for i in within(out.shape[0], share):
        for k in range(out.shape[1]):
            if bounded(words[i, k], rarity) == 0:
                out[i, k] = table[bounded(picks[i, k], table.size)]


@inner
def _thin(words, mode, zero, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        kept = out[i]
        out[i] = zero if mode[i] >> 1 == 1 and bounded(words[i], 4) > 0 else kept


@shared(1 << 16, sources=_SOURCES)
def thin(words, mode, zero, out, share):  # type: ignore[no-untyped-def]
    """Replace three entries of four by zero in rows of mode 2 and 3; arrays as in `choose`."""
    length = out.size // mode.size
    rows = max(1, CHUNK // length)
    for c in within((mode.size + rows - 1) // rows, share):
        top, end = c * rows, min((c + 1) * rows, mode.size)
        low, high = top * length, end * length
        _thin(words[low:high], _of_rows(mode[top:end], length), zero, out[low:high])


@inner
def _scale(value, scales, group, split):  # type: ignore[no-untyped-def]
    """Return the scale of an element of a row, by its sign where there are two per group."""
    if split:
        return scales[2 * group + (1 if math.copysign(1.0, value) < 0.0 else 0)]
    return scales[group]


@shared(1 << 15, sources=_SOURCES)
def rough_sums(a, b, a_scale, b_scale, group, a_split, b_split, out, share):  # type: ignore[no-untyped-def]
    """Fill ``out`` (R,) with sums of products in float64, one after the other, finite.

    ``a``, ``b`` (R, K) and the scales (R, lanes) are values; ``group`` elements share a scale, two
    where the operand is split by sign. 0: there are none. What is not finite counts as zero.
    """
    for i in within(a.shape[0], share):
        total = 0.0
        for k in range(a.shape[1]):
            x, y = a[i, k], b[i, k]
            if group:
                x *= _scale(x, a_scale[i], k // group, a_split)
                y *= _scale(y, b_scale[i], k // group, b_split)
            if math.isfinite(x * y):
                total += x * y
        out[i] = total if math.isfinite(total) else 0.0


@shared(1 << 16, sources=_SOURCES)
def aims(mode, sums, words, powers, limit, out, share):  # type: ignore[no-untyped-def]
    """Fill ``out`` with what addends aim at: minus the sum, or the sum times one of ``powers``."""
    for i in within(out.size, share):
        value = 0.0
        if mode[i] == OPPOSITE:
            value = -sums[i]
        elif mode[i] == EXPONENT:
            value = sums[i] * powers[bounded(words[i], powers.size)]
        out[i] = min(max(value, -limit), limit)


@inner
def _is_finite(code, magnitude, largest, hole):  # type: ignore[no-untyped-def]
    """Return whether a code has a finite value; see `addends`."""
    return magnitude == 0 or (code & magnitude <= largest and code != hole)


@shared(1 << 15, sources=_SOURCES)
def addends(mode, low, high, steps, near, bits, finite, out, share):  # type: ignore[no-untyped-def]
    """Fill ``out`` with addend codes of ``bits`` bits; ``near`` are the codes aimed at.

    ``finite`` says which codes may be there, others become 0: (bits of a magnitude, largest
    magnitude, a code that is none); no bits of a magnitude: all of them.
    """
    unused = np.uint64(64 - bits)
    top = np.uint64(0xFFFFFFFFFFFFFFFF) >> unused
    magnitude, largest, hole = np.uint64(finite[0]), np.uint64(finite[1]), np.uint64(finite[2])
    for i in within(out.size, share):
        anything = ((np.uint64(high[i]) << np.uint64(32)) | np.uint64(low[i])) >> unused
        if not _is_finite(anything, magnitude, largest, hole):
            anything = np.uint64(0)
        code = np.uint64(0)
        if mode[i] == ANY:
            code = anything
        elif mode[i] == OPPOSITE:
            code = (np.uint64(near[i]) + bounded(steps[i], 5) - np.uint64(2)) & top
        elif mode[i] == EXPONENT:
            code = np.uint64(near[i])
            if anything & np.uint64(1) == 0:
                code ^= np.uint64(low[i]) & np.uint64(3)
        out[i] = code if _is_finite(code, magnitude, largest, hole) else np.uint64(0)


@kernel(sources=_SOURCES)
def stream_ops(lengths, idle, load, ops, loads, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with sums: a CLEAR, or a LOAD in 4 if ``loads``, then 1 to ``most`` products.

    One vector in 12 is idle instead of a product. ``ops``: the codes of CLEAR, LOAD, MAC and IDLE,
    then ``most``. Sum n takes the n-th word of ``lengths``.
    """
    clear, load_op, mac, hold, most = ops
    left, stream = np.int64(0), 0
    for i in range(out.size):
        if left:
            left -= 1
            out[i] = hold if bounded(idle[i], 12) == 0 else mac
        else:
            left = np.int64(bounded(lengths[stream], most)) + 1
            stream += 1
            out[i] = load_op if loads and bounded(load[i], 4) == 0 else clear
