# SPDX-License-Identifier: Apache-2.0
"""Random integers and signs of casts, made from a seed.

A cast of rows (R, K) takes one integer of `fpsim.RandomBits` per element: row r is result r,
element k rounding k. The integers depend only on the seed, so neither threads nor the order of
layers changes them, and a training step can be computed again from its number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.random_bits import RandomBits

__all__ = ["SOURCES", "Randomness", "lfsr16_states"]

SOURCES = ("counter", "lfsr16")


@dataclass(frozen=True)
class Randomness:
    """The random integers of one cast; ``label`` names the cast and determines every bit.

    The seed of the integers is the CRC-32 of ``label``, that for a further purpose the CRC-32 of
    ``label/purpose``. ``source`` is ``counter``, or ``lfsr16``: a register of 16 bits as in
    hardware, see `lfsr16_states`, with state number ``seed mod 65535`` at the start; it is shifted
    once per element, row after row, and gives its low bits.
    """

    label: str
    source: str = "counter"

    def of(self, purpose: str) -> Randomness:
        """Return the random integers for a further purpose of this cast."""
        return replace(self, label=f"{self.label}/{purpose}")

    @property
    def seed(self) -> int:
        """The seed of the integers."""
        return crc32(self.label.encode())

    def integers(self, shape: tuple[int, int], bits: int) -> NDArray[Any]:
        """Return integers of ``bits`` bits, one per element of rows."""
        if self.source == "counter":
            return RandomBits(self.seed).integers(*shape, bits)
        states = lfsr16_states()
        places = (np.arange(shape[0] * shape[1]) + self.seed % states.size) % states.size
        return (states[places] & np.uint16((1 << bits) - 1)).reshape(shape)

    def signs(self, count: int) -> NDArray[np.float32]:
        """Return ``count`` numbers 1 or -1."""
        bits = self.integers((1, count), 1)[0]
        signs: NDArray[np.float32] = (1 - 2 * bits.astype(np.int64)).astype(np.float32)
        return signs


@cache
def lfsr16_states() -> NDArray[np.uint16]:
    """Return the 65535 states of a Fibonacci register of 16 bits in order, from 1 on.

    Its polynomial is x^16 + x^14 + x^13 + x^11 + 1; a shift to the right brings the exclusive or of
    bits 0, 2, 3 and 5 in at the top.
    """
    state, states = 1, []
    for _ in range((1 << 16) - 1):
        states.append(state)
        bit = (state ^ (state >> 2) ^ (state >> 3) ^ (state >> 5)) & 1
        state = (state >> 1) | (bit << 15)
    return np.array(states, dtype=np.uint16)
