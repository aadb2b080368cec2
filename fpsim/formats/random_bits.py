# SPDX-License-Identifier: Apache-2.0
"""Random integers for stochastic rounding, made from a seed where they are needed.

A matrix product takes one random integer per rounding: as an array they would outweigh its operands
by far, so kernels make them from counters. With all arithmetic modulo 2^32, result r (counted in
row-major order) has the words

    word(r, j) = mix(stream(r) + j * 0x9E3779B9),   stream(r) = mix(mix(r) ^ seed)

where mix is Wellons's 32-bit hash "lowbias32" (Prospecting for hash functions, 2018). A word is cut
into n = 32 // bits integers, from its low bits up: rounding k of result r takes

    (word(r, k // n) >> (k % n) * bits) % 2^bits

A stage with fewer random bits than another stage of its unit takes the low bits of the wider
integers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError

__all__ = ["Random", "RandomBits", "integers_per_word", "part_of"]

WORD_BITS = 32

STEP = 0x9E3779B9
#: Most streams (one per result) that are kept for later calls.
KEPT = 1 << 20


@dataclass(frozen=True)
class RandomBits:
    """A seed from which kernels make random integers, in place of an array of integers.

    Raises:
        FpsimError: a seed that is not an integer from 0 to 2^32 - 1.
    """

    seed: int
    first: int = 0  #: the number of the first result
    start: int = 0  #: the number of every result's first rounding
    width: int = 0  #: bits of the integers made, of which roundings take low ones; 0: as many

    def __post_init__(self) -> None:
        for name in ("seed", "first", "start", "width"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
                raise FpsimError(f"{name}: {value!r} is not a whole number from 0 on")
        if self.seed >= 1 << 32:
            raise FpsimError(f"seed: {self.seed} is not below 2^32")

    def after(self, results: int) -> RandomBits:
        """Return the random bits of the results after the first ``results``."""
        return replace(self, first=self.first + results)

    def past(self, roundings: int) -> RandomBits:
        """Return the random bits after ``roundings`` roundings of each result."""
        return replace(self, start=self.start + roundings)

    @property
    def begun(self) -> int:
        """Number of integers before ``start`` in its word; streams begin at whole words."""
        return self.start % integers_per_word(self.width) if self.start else 0

    def streams(self, results: int) -> NDArray[np.uint32]:
        """Return the streams (results,) from which kernels count, if ``start`` begins a word."""
        assert not self.begun
        make = _kept_streams if results <= KEPT else _kept_streams.__wrapped__
        words = self.start // integers_per_word(self.width) if self.start else 0
        return make(self.seed, self.first, results) + np.uint32(words * STEP % (1 << 32))

    def integers(self, results: int, roundings: int, bits: int) -> NDArray[Any]:
        """Return the random integers of ``results`` results, from number `first` on.

        Args:
            results: number of results.
            roundings: number of integers per result.
            bits: bits of each integer.

        Returns:
            Integers (results, roundings), unsigned.
        """
        width = self.width or bits
        count = integers_per_word(width)
        skipped, place = divmod(self.start, count)
        steps = np.arange(skipped, skipped - (-(place + roundings) // count), dtype=np.uint32)
        streams = replace(self, start=0).streams(results)
        words = _mixed(streams[:, None] + steps * np.uint32(STEP))
        places = np.arange(count, dtype=np.uint32) * np.uint32(width)
        integers = (words[:, :, None] >> places) & np.uint32((1 << bits) - 1)
        return integers.reshape(results, -1)[:, place : place + roundings]


#: Random integers (..., roundings), a seed's integers, or None.
Random = NDArray[Any] | RandomBits | None


def part_of(random: Random, start: int, count: int, bits: int) -> Random:
    """Return a range of each result's random integers, reduced to their low bits.

    Args:
        random: integers (..., roundings), perhaps wider; or a `RandomBits`; or None.
        start: number of the first rounding of the range.
        count: number of roundings in the range.
        bits: number of low bits to keep.

    Returns:
        Random integers of the kind of ``random``.
    """
    if random is None or not count:
        return None
    if isinstance(random, RandomBits):
        return random.past(start)
    part = random[..., start : start + count]
    return np.ascontiguousarray(part & part.dtype.type((1 << bits) - 1))


@lru_cache(maxsize=1)
def _kept_streams(seed: int, first: int, results: int) -> NDArray[np.uint32]:
    """Return streams of results, cached because all chunks of a sum use them."""
    numbers = np.arange(first, first + results, dtype=np.uint64).astype(np.uint32)
    return _mixed(_mixed(numbers) ^ np.uint32(seed))


def integers_per_word(bits: int) -> int:
    """Return the number of integers of ``bits`` bits in a 32-bit word."""
    return WORD_BITS // bits


def _mixed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    words = words ^ (words >> np.uint32(16))
    words = words * np.uint32(0x7FEB352D)
    words = words ^ (words >> np.uint32(15))
    words = words * np.uint32(0x846CA68B)
    return words ^ (words >> np.uint32(16))
