# SPDX-License-Identifier: Apache-2.0
"""Random sequences of single products, cut into blocks that any process can make.

Sequences take words of the Philox stream 0 of the seed, one after the other: its length, how it
starts, how far its exponents spread, the code that LOAD takes if it has one, then for every product
whether the clock is idle instead, its exponent if there are any, its operands, and its random
integer if the unit takes any. Where a sequence starts depends on all before it, so a scan finds the
first sequence of every block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fpsim.kernels.cache import kernel
from fpsim.kernels.codec.hex_words import philox_chunk, philox_words
from fpsim.units.spec import MacSpec
from fpsim.vectors.random.draws import bounded, sources_hash
from fpsim.vectors.sets.codes import finite_codes
from fpsim.vectors.sets.stream import EXPONENT_BITS, EXPONENT_MAX, EXPONENT_MIN, Op

__all__ = ["Sequences"]

_SOURCES = sources_hash(__file__)
#: Sequences have 1..MAX_LENGTH products.
MAX_LENGTH = 64
#: Least vectors of a block.
BLOCK = 1 << 16
_HEAD, _PRESET = 3, 2  # words of a sequence, and of the code that LOAD takes
_IDLE, _CLEAR, _MAC, _LOAD = (int(op) for op in (Op.IDLE, Op.CLEAR, Op.MAC, Op.LOAD))
_EXPONENTS = EXPONENT_MAX - EXPONENT_MIN + 1


@njit
def _head(words, load):  # type: ignore[no-untyped-def]
    """Return the products of a sequence and whether it starts with a LOAD, from its words."""
    return np.int64(bounded(words[0], MAX_LENGTH)) + 1, load and bounded(words[1], 4) == 3


@kernel(_SOURCES)
def _scan(seed, load, per_product, count, places):  # type: ignore[no-untyped-def]
    """Fill ``places`` (blocks + 1, 2) with first word and vector of each block and of the end.

    Returns the number of blocks; sequences follow until there are ``count`` vectors.
    """
    word, row, blocks = 0, 0, 0
    words = np.empty(8, dtype=np.uint32)
    while row < count:
        if row >= blocks * BLOCK:
            places[blocks, 0], places[blocks, 1] = word, row
            blocks += 1
        philox_chunk(seed, np.uint64(0), word // 4 * 4, words)
        length, preset = _head(words[word % 4 :], load)
        word += _HEAD + _PRESET * preset + per_product * length
        row += 1 + length
    places[blocks, 0], places[blocks, 1] = word, row
    return blocks


@kernel(_SOURCES)
def _fill(words, load, exponents, bits, a_codes, b_codes, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (6, n): op, a, b, exp, c, random, from the words of whole sequences.

    ``bits``: of the code that LOAD takes, and of a random integer.
    """
    preset_bits, random_bits = bits
    at, row = 0, 0
    unused = np.uint64(64 - preset_bits)
    while row < out.shape[1]:
        length, preset = _head(words[at:], load)
        spread = bounded(words[at + 2], 4)
        at += _HEAD
        out[0, row] = _CLEAR
        if preset:
            high = np.uint64(words[at + 1]) << np.uint64(32)
            out[0, row], out[4, row] = _LOAD, (high | np.uint64(words[at])) >> unused
            at += _PRESET
        for i in range(row + 1, row + 1 + length):
            out[0, i] = _IDLE if bounded(words[at], 16) == 0 else _MAC
            at += 1
        if exponents:
            for i in range(row + 1, row + 1 + length):
                out[3, i] = _exponent(words[at], spread)
                at += 1
        for i in range(row + 1, row + 1 + length):
            out[1, i] = a_codes[bounded(words[at], a_codes.size)]
            out[2, i] = b_codes[bounded(words[at + length], b_codes.size)]
            at += 1
        at += length
        if random_bits:
            for i in range(row + 1, row + 1 + length):
                out[5, i] = words[at] >> np.uint32(32 - random_bits)
                at += 1
        row += 1 + length


@njit
def _exponent(word, spread):  # type: ignore[no-untyped-def]
    """Return an exponent: near 0 mostly, over the whole range in one sequence of four."""
    width = (1, 9, 25, _EXPONENTS)[np.int64(spread)]
    low = EXPONENT_MIN if spread == 3 else -(width // 2)
    return np.int64(bounded(word, width)) + low


@dataclass(frozen=True)
class Sequences:
    """Sequences that start with CLEAR (or LOAD), then products with idle clocks between.

    There are at least ``count`` vectors. ``bounds`` are the first vectors of the blocks, and the
    number of all.
    """

    spec: MacSpec
    seed: int
    count: int
    exponents: bool
    load: bool

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """First word and vector of every block, and of the end."""
        places = np.empty((self.count // BLOCK + 2, 2), dtype=np.int64)
        per_product = 3 + self.exponents + bool(self.spec.random_bits)
        blocks = _scan(np.uint64(self.seed), self.load, per_product, self.count, places)
        return places[: blocks + 1]

    @property
    def bounds(self) -> NDArray[np.int64]:
        """First vector of every block, and the number of all vectors."""
        return self._places[:, 1]

    def block(self, index: int) -> dict[str, NDArray[Any]]:
        """Return the columns of one block, without results."""
        (first, start), (last, stop) = self._places[index : index + 2].tolist()
        words = np.empty(last - first // 4 * 4, dtype=np.uint32)
        philox_words(np.uint64(self.seed), np.uint64(0), first // 4 * 4, words)
        rows = np.zeros((6, stop - start), dtype=np.int64)
        codes = [finite_codes(fmt) for fmt in (self.spec.a, self.spec.b)]
        bits = (self.spec.result.bits, self.spec.random_bits)
        _fill(words[first % 4 :], self.load, self.exponents, bits, *codes, rows)
        op, a, b, exp, c, random = rows.view(np.uint64)
        columns = {"op": op, "a": a, "b": b, "c": c}
        if self.exponents:
            columns["exp"] = exp & np.uint64((1 << EXPONENT_BITS) - 1)
        if self.spec.random_bits:
            columns["random"] = random
        return columns
