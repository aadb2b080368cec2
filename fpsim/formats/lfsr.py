# SPDX-License-Identifier: Apache-2.0
"""Random integers of a linear feedback shift register, as hardware makes them.

A Galois register of 32 bits for x^32 + x^31 + x^30 + x^10 + 1, which is primitive: from any state
but 0 it takes 2^32 - 1 steps to come back. (It is the reciprocal of the polynomial with the taps
32, 22, 2, 1 of Xilinx XAPP052.) A step shifts the low bit out; if that is 1, the taps are inverted:

    bit = s mod 2,   s <- floor(s / 2) xor (0x80200003 if bit else 0)

An integer of n bits takes n steps; the first bit that comes out is its lowest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError

__all__ = ["GaloisLfsr"]


@dataclass(frozen=True)
class GaloisLfsr:
    """A register and its state.

    Raises:
        FpsimError: a state that is not an integer in 1..2^32 - 1.
    """

    state: int

    WIDTH = 32
    TAPS = 0x80200003

    def __post_init__(self) -> None:
        if isinstance(self.state, bool) or not 1 <= self.state < 1 << self.WIDTH:
            raise FpsimError(f"lfsr: {self.state!r} is not a seed in 1..{(1 << self.WIDTH) - 1}")

    def integers(self, count: int, bits: int) -> tuple[NDArray[np.uint64], GaloisLfsr]:
        """Return the next integers, and the register after them.

        Args:
            count: how many.
            bits: bits of each.

        Returns:
            Integers (count,), and the register.
        """
        state = self.state
        out = np.empty(count, dtype=np.uint64)
        for i in range(count):
            value = 0
            for k in range(bits):
                bit = state & 1
                value |= bit << k
                state = (state >> 1) ^ (self.TAPS if bit else 0)
            out[i] = value
        return out, GaloisLfsr(state)
