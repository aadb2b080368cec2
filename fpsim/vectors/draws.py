# SPDX-License-Identifier: Apache-2.0
"""Draws from one Philox stream, in order: words, bounded integers, members of a table."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.kernels.cache import kernel
from fpsim.kernels.words import philox_words

__all__ = ["Draw"]

#: The cache of kernels looks at the sources of `fpsim.kernels` only.
_SELF = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


@kernel(_SELF)
def _members(words, table, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with ``table[word * size >> 32]``."""
    size = np.uint64(table.size)
    for i in range(out.size):
        out[i] = table[np.int64((np.uint64(words[i]) * size) >> np.uint64(32))]


class Draw:
    """Words of one Philox stream, in order; every draw starts at a multiple of four."""

    def __init__(self, seed: int, stream: int) -> None:
        self._seed, self._stream, self._at = np.uint64(seed), np.uint64(stream), 0

    def _words(self, count: int) -> NDArray[np.uint32]:
        out = np.empty(count, dtype=np.uint32)
        philox_words(self._seed, self._stream, self._at, out)
        self._at += (count + 3) // 4 * 4
        return out

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next words."""
        return self._words(count).astype(np.uint64)

    def below(self, bound: int, *shape: int) -> NDArray[np.int64]:
        """Return integers in 0..bound-1."""
        words = self.words(int(np.prod(shape)))
        words *= np.uint64(bound)
        words >>= np.uint64(32)
        return words.view(np.int64).reshape(shape)

    def codes(self, table: NDArray[Any], *shape: int) -> NDArray[Any]:
        """Return members of a table, of its type."""
        words = self._words(int(np.prod(shape)))
        out = np.empty(words.size, dtype=table.dtype)
        _members(words, table, out)
        return out.reshape(shape)
