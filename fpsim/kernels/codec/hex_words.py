# SPDX-License-Identifier: Apache-2.0
"""Rows of small integers to hexadecimal text and back, and the words of Philox 4x32-10."""

from __future__ import annotations

import numpy as np

from fpsim.kernels.cache import inner, kernel
from fpsim.kernels.threads import shared, within

__all__ = ["philox_chunk", "philox_words", "read_words", "write_words"]

_LOW = np.uint64(0xFFFFFFFF)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_TAKE = 32
#: Random words that a thread makes at a time; 4 divides it.
_CHUNK = 1 << 12


@shared(1 << 13)
def write_words(elements, widths, first, ends, digits, alphabet, out, share):
    """Write each field of each row as hexadecimal digits into a line of text.

    A field is the concatenation of its elements, the first in its most significant bits.

    Args:
        elements: uint64 (R, E), each below 2^width.
        widths: bits of the elements (E,).
        first: number of each field's first element, then of the element after the last (F + 1,).
        ends: column after each field's last digit (F,).
        digits: hexadecimal digits of each field (F,), at least its bits / 4; leading ones are 0.
        alphabet: uint8 (16,), the character of each digit.
        out: uint8 (R, columns), where the digits are written; other columns are left alone.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    for i in within(elements.shape[0], share):
        for f in range(ends.size):
            bits, have = np.uint64(0), 0
            place, start = ends[f] - 1, ends[f] - digits[f]
            for e in range(first[f + 1] - 1, first[f] - 1, -1):
                value, left = elements[i, e], widths[e]
                while left > 0:
                    take = min(left, _TAKE)
                    part = value & ((np.uint64(1) << np.uint64(take)) - np.uint64(1))
                    bits |= part << np.uint64(have)
                    value >>= np.uint64(take)
                    left -= take
                    have += take
                    while have >= 4:
                        out[i, place] = alphabet[bits & np.uint64(15)]
                        bits >>= np.uint64(4)
                        have -= 4
                        place -= 1
            while place >= start:
                out[i, place] = alphabet[bits & np.uint64(15)]
                bits >>= np.uint64(4)
                place -= 1


@shared(1 << 13)
def read_words(text, widths, elements, share):
    """Read lines of lower-case hexadecimal digits, each one field, into the field's elements.

    Args:
        text: uint8 (R, digits), with digits for all bits of the elements.
        widths: bits of the elements (E,), the first in the most significant bits.
        elements: uint64 (R, E), filled.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        The first row with another character or with bits above the field's, or -1.
    """
    rows, digits = text.shape
    bad = np.int64(rows)
    for i in within(rows, share):
        bits, have, place = np.uint64(0), 0, digits - 1
        for e in range(widths.size - 1, -1, -1):
            value, got = np.uint64(0), 0
            while got < widths[e]:
                if have == 0:
                    digit = _digit(text[i, place])
                    if digit < 0:
                        bad = min(bad, i)
                        digit = 0
                    bits, have = np.uint64(digit), 4
                    place -= 1
                take = min(have, widths[e] - got)
                part = bits & ((np.uint64(1) << np.uint64(take)) - np.uint64(1))
                value |= part << np.uint64(got)
                bits >>= np.uint64(take)
                have -= take
                got += take
            elements[i, e] = value
        if bits:
            bad = min(bad, i)
        for d in range(place + 1):
            if text[i, d] != 48:
                bad = min(bad, i)
    return -1 if bad == rows else bad


@kernel()
def _digit(character):
    """Return the value of a lower-case hexadecimal digit, or -1."""
    if 48 <= character <= 57:
        return np.int64(character) - 48
    if 97 <= character <= 102:
        return np.int64(character) - 87
    return np.int64(-1)


@shared(1 << 16)
def philox_words(seed, stream, start, out, share):
    """Fill ``out`` with consecutive words of a stream of Philox 4x32-10 (Salmon et al., SC 2011).

    Args:
        seed: the key, 0..2^64 - 1.
        stream: the upper half of the counter, 0..2^64 - 1.
        start: number of the first word, a multiple of 4; see `fpsim.base.philox`.
        out: uint32, filled.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    for c in within((out.size + _CHUNK - 1) // _CHUNK, share):
        first = c * _CHUNK
        philox_chunk(seed, stream, start + first, out[first : first + _CHUNK])


@inner
def philox_chunk(seed, stream, start, out):
    """Fill ``out`` with consecutive words of a stream of Philox 4x32-10, in one thread.

    A function of its own, because the compiler makes vector code of this loop and would not inside
    a `prange`.

    Args:
        seed: the key, 0..2^64 - 1.
        stream: the upper half of the counter, 0..2^64 - 1.
        start: number of the first word, a multiple of 4.
        out: uint32, filled.

    Returns:
        Nothing.
    """
    blocks = (out.size + 3) // 4
    for j in range(blocks):
        block = np.uint64(start // 4 + j)
        x0, x1 = block & _LOW, block >> np.uint64(32)
        x2, x3 = np.uint64(stream) & _LOW, np.uint64(stream) >> np.uint64(32)
        k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> np.uint64(32)
        for _ in range(10):
            p0, p1 = x0 * _M0, x2 * _M1
            x0 = (p1 >> np.uint64(32)) ^ x1 ^ k0
            x2 = (p0 >> np.uint64(32)) ^ x3 ^ k1
            x1, x3 = p1 & _LOW, p0 & _LOW
            k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
        words = (x0, x1, x2, x3)
        for w in range(4):
            if 4 * j + w < out.size:
                out[4 * j + w] = np.uint32(words[w])
