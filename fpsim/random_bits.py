# SPDX-License-Identifier: Apache-2.0
"""Random integers for stochastic rounding, made from a seed where they are needed.

A matrix product takes one random integer per rounding: as an array they would outweigh its operands
by far, so kernels make them from counters. With all arithmetic modulo 2^32, result r (counted in
row-major order) has the words

    word(r, j) = mix(stream(r) + j * 0x9E3779B9),   stream(r) = mix(mix(r) ^ seed)

where mix is Wellons's 32-bit hash "lowbias32" (Prospecting for hash functions, 2018). A word is cut
into n = 32 // bits integers, from its low bits up: rounding k of result r takes

    (word(r, k // n) >> (k % n) * bits) % 2^bits
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.errors import FpsimError

__all__ = ["RandomBits", "integers_per_word"]

WORD_BITS = 32

STEP = 0x9E3779B9


@dataclass(frozen=True)
class RandomBits:
    """Random integers of a seed, in place of an array of them.

    Raises:
        FpsimError: a seed that is not an integer from 0 to 2^32 - 1.
    """

    seed: int
    first: int = 0  #: the number of the first result

    def __post_init__(self) -> None:
        for name in ("seed", "first"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
                raise FpsimError(f"{name}: {value!r} is not a whole number from 0 on")
        if self.seed >= 1 << 32:
            raise FpsimError(f"seed: {self.seed} is not below 2^32")

    def after(self, results: int) -> RandomBits:
        """Return those of the results that follow."""
        return replace(self, first=self.first + results)

    def streams(self, results: int) -> NDArray[np.uint32]:
        """Return the streams (results,) that kernels count on from."""
        numbers = np.arange(self.first, self.first + results, dtype=np.uint64).astype(np.uint32)
        return _mixed(_mixed(numbers) ^ np.uint32(self.seed))

    def integers(self, results: int, roundings: int, bits: int) -> NDArray[Any]:
        """Return integers of ``bits`` bits (results, roundings)."""
        count = integers_per_word(bits)
        steps = np.arange(-(-roundings // count), dtype=np.uint32) * np.uint32(STEP)
        words = _mixed(self.streams(results)[:, None] + steps)
        places = np.arange(count, dtype=np.uint32) * np.uint32(bits)
        integers = (words[:, :, None] >> places) & np.uint32((1 << bits) - 1)
        return integers.reshape(results, -1)[:, :roundings]


def integers_per_word(bits: int) -> int:
    """Return how many roundings with ``bits`` random bits a word serves."""
    return WORD_BITS // bits


def _mixed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    words = words ^ (words >> np.uint32(16))
    words = words * np.uint32(0x7FEB352D)
    words = words ^ (words >> np.uint32(15))
    words = words * np.uint32(0x846CA68B)
    return words ^ (words >> np.uint32(16))
