# SPDX-License-Identifier: Apache-2.0
"""Compiled loops that fill the columns of random vectors; `seeded.random_vectors` calls them.

Every loop takes random words as arrays, one word per entry, and runs over rows in parallel: a row
depends only on its own words.
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
#: Kinds of addends: zero, any bits, near minus the sum, or with an exponent near the sum's.
ZERO, ANY, OPPOSITE, EXPONENT = range(4)


@inner
def _of_rows(mode, length):  # type: ignore[no-untyped-def]
    """Return the mode of every entry, for rows of a length."""
    if length == 1:
        return mode
    found = np.empty(mode.size * length, dtype=mode.dtype)
    for i in range(mode.size):
        found[i * length : (i + 1) * length] = mode[i]
    return found


@inner
def _places(words, others, mode, mask, value, first, rest, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        other = np.uint32(mode[i] & mask == value)  # random, so a branch would be mispredicted
        word = words[i] ^ ((words[i] ^ others[i]) * other)
        out[i] = other * first + np.uint32(bounded(word, first + other * (rest - first)))


@shared(1 << 16, sources=_SOURCES)
def choose(words, others, mode, mask, value, tables, first, out, share):  # type: ignore[no-untyped-def]
    """Fill ``out`` with random members of a table, or of a second table in some rows.

    R rows of L entries lie one after the other in ``words``, ``others`` and ``out`` (R L,).

    Args:
        words: 32-bit draws, for rows of the first table.
        others: 32-bit draws, for rows of the second table.
        mode: of each row (R,), uint8.
        mask, value: the second table serves rows whose ``mode & mask`` is ``value``.
        tables: codes of both tables, one after the other.
        first: size of the first table; the second begins there.
        out: codes, of the type of ``tables``.
        share: this thread's number and the number of threads, given by `shared`.

    Returns:
        None.
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
    """Replace about one entry of ``out`` in ``rarity`` by a random member of a table.

    Args:
        words: 32-bit draws (R, L) that decide which entries are replaced.
        picks: 32-bit draws (R, L) that choose the members.
        rarity: entries per replaced one, below 2^32.
        table: codes to choose from.
        out: codes (R, L), changed in place.
        share: this thread's number and the number of threads, given by `shared`.

    Returns:
        None.
    """
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
    """Replace about three entries of four by zero in rows of mode 2 and 3.

    Args:
        words: 32-bit draws (R L,), an entry each.
        mode: of each row (R,), uint8.
        zero: code of zero, of the type of ``out``.
        out: R rows of L codes, one after the other (R L,), changed in place.
        share: this thread's number and the number of threads, given by `shared`.

    Returns:
        None.
    """
    length = out.size // mode.size
    rows = max(1, CHUNK // length)
    for c in within((mode.size + rows - 1) // rows, share):
        top, end = c * rows, min((c + 1) * rows, mode.size)
        low, high = top * length, end * length
        _thin(words[low:high], _of_rows(mode[top:end], length), zero, out[low:high])


@inner
def _scale(value, scales, group, split):  # type: ignore[no-untyped-def]
    """Return the scale of an element of a row, by the element's sign if scales are split."""
    if split:
        return scales[2 * group + (1 if math.copysign(1.0, value) < 0.0 else 0)]
    return scales[group]


@shared(1 << 15, sources=_SOURCES)
def rough_sums(a, b, a_scale, b_scale, group, a_split, b_split, out, share):  # type: ignore[no-untyped-def]
    """Fill ``out`` with sums of scaled products in float64, added one after the other.

    A product that is not finite, and a final sum that is not finite, count as zero.

    Args:
        a, b: values of the operands (R, K), float64.
        a_scale, b_scale: values of the scales (R, lanes); of an operand split by sign two per
            group, first the one for elements with a clear sign bit.
        group: elements that share a scale; 0: no scales.
        a_split, b_split: whether the operand has a scale per sign.
        out: sums (R,), float64.
        share: this thread's number and the number of threads, given by `shared`.

    Returns:
        None.
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
    """Fill ``out`` with values near which addends lie: minus a sum, or a sum times a power of two.

    Args:
        mode: of each row (R,): `OPPOSITE`, `EXPONENT`, or another mode, whose aim is 0.
        sums: finite sums of products (R,), float64.
        words: 32-bit draws (R,) that choose the power.
        powers: factors of a sum, for `EXPONENT`.
        limit: largest magnitude of an aim.
        out: aims (R,), float64.
        share: this thread's number and the number of threads, given by `shared`.

    Returns:
        None.
    """
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
    """Fill ``out`` with addend codes: 0, any code, a code within 2 of an aim, or its exponent.

    Args:
        mode: of each row (R,): `ZERO`, `ANY`, `OPPOSITE` or `EXPONENT`.
        low, high: 32-bit draws (R,), the halves of any code. For `EXPONENT` they also flip the two
            low bits of every second code.
        steps: 32-bit draws (R,): distances from -2 to 2, for `OPPOSITE`.
        near: codes of the aims (R,).
        bits: width of a code, at most 64.
        finite: mask of a magnitude, the largest finite magnitude, and a code that is no number
            (uint64); codes that are not finite become 0. A mask of 0 allows every code.
        out: codes (R,).
        share: this thread's number and the number of threads, given by `shared`.

    Returns:
        None.
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
    """Fill ``out`` with operations: sums of a CLEAR or LOAD and then 1 to ``most`` products.

    One product in 12 is an IDLE instead. Draws are 32-bit words.

    Args:
        lengths: draws (n,); draw i gives sum i its number of products.
        idle: draws (n,); draw i decides about vector i.
        load: draws (n,); draw i decides about vector i: one sum in 4 starts with a LOAD.
        ops: codes of CLEAR, LOAD, MAC and IDLE, then ``most``.
        loads: whether sums may start with a LOAD.
        out: codes of operations (n,), uint8.

    Returns:
        None.
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
