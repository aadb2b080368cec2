# SPDX-License-Identifier: Apache-2.0
"""Draws from one stream of Philox words, in order: words, bounded integers, members of a table.

A draw of n values takes the next n words of the stream and starts at a multiple of four. A word
picks one of ``size`` members as ``word * size >> 32``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.kernels.cache import inner
from fpsim.kernels.codec.hex_words import philox_words
from fpsim.kernels.threads import shared, within

__all__ = ["CHUNK", "Draw", "bounded", "take"]

#: Entries that a thread takes at once.
CHUNK = 1 << 13


@inner
def bounded(word, size):  # type: ignore[no-untyped-def]
    """Return an integer in 0..size-1; size < 2^32, so one 32-bit multiplication suffices."""
    return (np.uint64(word) * np.uint64(np.uint32(size))) >> np.uint64(32)


# Loops over slices become vector code, because the compiler sees their ends; table look-ups do not.


@inner
def take(table, places, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with members of a table.

    Args:
        table: any array of one axis.
        places: indices into the table (n,).
        out: ``table[places]`` (n,), written in place.

    Returns:
        None.
    """
    for i in range(out.size):
        out[i] = table[places[i]]


@inner
def _bounded_all(words, bound, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = bounded(words[i], bound)


@shared(1 << 16, sources=(__file__,))
def _members(words, table, out, share):  # type: ignore[no-untyped-def]
    """Fill ``out`` with members of ``table``."""
    for c in within((out.size + CHUNK - 1) // CHUNK, share):
        low, high = c * CHUNK, min((c + 1) * CHUNK, out.size)
        places = np.empty(high - low, dtype=np.uint32)
        _bounded_all(words[low:high], table.size, places)
        take(table, places, out[low:high])


@shared(1 << 16, sources=(__file__,))
def _integers(words, bound, out, share):  # type: ignore[no-untyped-def]
    """Fill ``out`` with integers in 0..bound-1."""
    for c in within((out.size + CHUNK - 1) // CHUNK, share):
        low, high = c * CHUNK, min((c + 1) * CHUNK, out.size)
        _bounded_all(words[low:high], bound, out[low:high])


class Draw:
    """Words of one Philox stream, in order; every draw starts at a multiple of four."""

    def __init__(self, seed: int, stream: int) -> None:
        self._seed, self._stream, self._at = np.uint64(seed), np.uint64(stream), 0

    def words(self, *shape: int) -> NDArray[np.uint32]:
        """Return the stream's next 32-bit words, as an array of the given shape."""
        out = np.empty(shape, dtype=np.uint32)
        philox_words(self._seed, self._stream, self._at, out.reshape(-1))
        self._at += (out.size + 3) // 4 * 4
        return out

    def below(self, bound: int, *shape: int, dtype: Any = np.int64) -> NDArray[Any]:
        """Return uniform integers in 0..bound-1, one for each of the stream's next words.

        Args:
            bound: below 2^32.
            *shape: shape of the result.
            dtype: an integer type that holds ``bound - 1``.

        Returns:
            Integers of the shape.
        """
        out = np.empty(shape, dtype=dtype)
        _integers(self.words(*shape).reshape(-1), bound, out.reshape(-1))
        return out

    def codes(self, table: NDArray[Any], *shape: int) -> NDArray[Any]:
        """Return an array of the given shape of uniformly drawn members of a table, of its type."""
        out = np.empty(shape, dtype=table.dtype)
        _members(self.words(*shape).reshape(-1), table, out.reshape(-1))
        return out
