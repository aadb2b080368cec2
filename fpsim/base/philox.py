# SPDX-License-Identifier: Apache-2.0
"""Philox 4x32-10, a counter-based random generator with equal numbers on every computer.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Word ``i`` of a stream is a
pure function of (seed, stream, i), so vectors never depend on a library's generator, on the order
they are drawn in, or on how the work is divided.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError

__all__ = ["Philox", "check_seed", "numpy_generator", "philox4x32"]

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Return the four output words for each 4-word ``counter``; both have shape (n, 4)."""
    x0, x1, x2, x3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    low = np.uint64(_MASK)
    for _ in range(_ROUNDS):
        p0, p1 = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]
        x0 = (p1 >> np.uint64(32)) ^ x1 ^ np.uint64(k0)
        x2 = (p0 >> np.uint64(32)) ^ x3 ^ np.uint64(k1)
        x1, x3 = p1 & low, p0 & low
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return np.stack([x0, x1, x2, x3], axis=1).astype(np.uint32)


class Philox:
    """A stream of 32-bit words: key = 64-bit seed, counter = (block index, stream number).

    Args:
        seed: 0..2^64 - 1.
        stream: 0..2^64 - 1; different streams of one seed are independent.
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        check_seed(seed)
        check_seed(stream, "stream")
        self._key = (seed & _MASK, seed >> 32)
        self._stream = (stream & _MASK, stream >> 32)
        self._position = 0

    def words(self, count: int) -> NDArray[np.uint32]:
        """Return the next ``count`` words."""
        start, skip = divmod(self._position, 4)
        blocks = np.arange(start, (self._position + count + 3) // 4, dtype=np.uint64)
        counter = np.empty((blocks.size, 4), dtype=np.uint32)
        counter[:, 0] = blocks & np.uint64(_MASK)
        counter[:, 1] = blocks >> np.uint64(32)
        counter[:, 2], counter[:, 3] = self._stream
        self._position += count
        return philox4x32(counter, self._key).reshape(-1)[skip : skip + count]

    def below(self, bound: int, count: int) -> NDArray[np.int64]:
        """Return ``count`` integers in 0..bound-1, bound <= 2^32: the high word of word * bound."""
        return ((self.words(count).astype(np.uint64) * np.uint64(bound)) >> np.uint64(32)).astype(
            np.int64
        )

    def bits(self, width: int, count: int) -> NDArray[np.uint64]:
        """Return ``count`` integers of ``width`` uniform bits, 1..64."""
        pairs = self.words(2 * count).astype(np.uint64).reshape(-1, 2)
        return ((pairs[:, 1] << np.uint64(32)) | pairs[:, 0]) >> np.uint64(64 - width)


def check_seed(seed: int, name: str = "seed") -> None:
    """Raise `FpsimError`, beginning with ``name``, unless a seed is an integer in 0..2^64 - 1."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 64:
        raise FpsimError(f"{name}: {seed!r} is not an integer in 0..2^64 - 1")


def numpy_generator(seed: int) -> np.random.Generator:
    """Return NumPy's own generator, for numbers that no file holds.

    Raises:
        FpsimError: a seed that is not an integer in 0..2^64 - 1.
    """
    check_seed(seed)
    return np.random.default_rng(seed)
