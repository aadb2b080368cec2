# SPDX-License-Identifier: Apache-2.0
"""Random integers of a linear feedback shift register, as hardware makes them.

A step of a Galois register shifts the low bit out; if that is 1, the taps are inverted:

    bit = s mod 2,   s <- floor(s / 2) xor (taps if bit else 0)

The register of the reference RTL has 32 bits, for x^32 + x^31 + x^30 + x^10 + 1. That is primitive:
from any state but 0 it takes 2^32 - 1 steps to come back. (It is the reciprocal of the polynomial
with the taps 32, 22, 2, 1 of Xilinx XAPP052.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError

__all__ = ["GaloisLfsr", "LfsrOutput"]

MAX_WIDTH = 64


class LfsrOutput(StrEnum):
    """How a random integer of n bits is taken from a register."""

    BITS = "bits"  #: n steps; the first bit that is shifted out is the integer's lowest
    STATE = "state"  #: the low n bits of the state; then one step


@dataclass(frozen=True)
class GaloisLfsr:
    """A Galois register: its state, taps and way to give random integers.

    Args:
        state: 1..2^width - 1.
        width: bits of the register, 2 to 64.
        taps: the bits that are inverted after a 1 has left, the register's highest bit among them.
        draw: how a random integer is taken.

    Raises:
        FpsimError: a state, width, taps or draw that is not allowed.
    """

    state: int
    width: int = 32
    taps: int = 0x80200003
    draw: LfsrOutput = LfsrOutput.BITS

    def __post_init__(self) -> None:
        if not _is_int(self.width) or not 2 <= self.width <= MAX_WIDTH:
            raise FpsimError(f"width: {self.width!r} is not an integer in 2..{MAX_WIDTH}")
        if not _is_int(self.state) or not 1 <= self.state < 1 << self.width:
            raise FpsimError(f"lfsr: {self.state!r} is not a seed in 1..{(1 << self.width) - 1}")
        if not _is_int(self.taps) or self.taps >> (self.width - 1) != 1:
            raise FpsimError(
                f"taps: {self.taps!r} is not an integer of {self.width} bits whose highest is 1"
            )

    def integers(self, count: int, bits: int) -> tuple[NDArray[np.uint64], GaloisLfsr]:
        """Return the next integers, and the register after them.

        Args:
            count: number of integers.
            bits: bits of each integer.

        Returns:
            Integers (count,), and the register.

        Raises:
            FpsimError: ``bits`` above the width of a register with `LfsrOutput.STATE`.
        """
        if self.draw is LfsrOutput.STATE and bits > self.width:
            raise FpsimError(
                f"draw: {str(self.draw)!r} of {self.width} bits, but integers have {bits}"
            )
        state, out = self.state, np.empty(count, dtype=np.uint64)
        for i in range(count):
            value = state % (1 << bits)
            if self.draw is LfsrOutput.STATE:
                state = self._after(state)
            else:
                value = 0
                for k in range(bits):
                    value |= (state & 1) << k
                    state = self._after(state)
            out[i] = value
        return out, replace(self, state=state)

    def _after(self, state: int) -> int:
        return (state >> 1) ^ (self.taps if state & 1 else 0)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
