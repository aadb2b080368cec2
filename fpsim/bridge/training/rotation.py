# SPDX-License-Identifier: Apache-2.0
"""Random Hadamard transforms of both operands of a product, along the summed axis.

Blocks x of ``size`` elements become H (s x) / sqrt(size), with Sylvester's matrix H and signs s.
The matrix is orthogonal, so the product of two rotated operands equals the product of the two. Each
of the log2(size) passes of sums and differences rounds to float32, and so does the final product
with fl(1 / sqrt(size)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.bridge.training.randomness import Randomness
from fpsim.kernels.threads import shared, within

__all__ = ["TE_SIGNS", "Rotation"]

Floats = NDArray[np.float32]
#: Rows processed at once, which stay in the cache; least elements that threads share.
WIDTH, LEAST_SHARED = 64, 1 << 16
#: Transformer Engine's fixed signs for blocks of 16.
TE_SIGNS = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)


@dataclass(frozen=True)
class Rotation:
    """A Hadamard transform of blocks of ``size`` elements, a power of two.

    ``signs`` are ``size`` numbers 1 and -1, or ``none``, or ``fresh``: drawn in every pass, equal
    for all layers, so that layers with one input share its cast.

    Raises:
        FpsimError: a size that is no power of two, or other signs.
    """

    size: int
    signs: str | Sequence[int] = "none"

    def __post_init__(self) -> None:
        if self.size < 2 or self.size & (self.size - 1):
            raise FpsimError(f"recipe: hadamard: {self.size!r} is not a power of two from 2 on")
        if isinstance(self.signs, str):
            if self.signs not in ("none", "fresh"):
                raise not_one_of("recipe: signs", self.signs, ("none", "fresh"))
        elif len(self.signs) != self.size or {*self.signs} - {1, -1}:
            raise FpsimError(f"recipe: signs: they must be {self.size} numbers 1 or -1")

    @property
    def fresh(self) -> bool:
        """Whether every pass draws new signs."""
        return self.signs == "fresh"

    def chosen(self, randomness: Randomness) -> Floats:
        """Return the signs (size,)."""
        if self.signs == "none":
            return np.ones(self.size, dtype=np.float32)
        if isinstance(self.signs, str):
            return randomness.signs(self.size)
        return np.array(self.signs, dtype=np.float32)

    def rotate(self, x: Floats, signs: Floats, axis: int = 1) -> Floats:
        """Return a matrix rotated along an axis, which becomes the last one in memory.

        Args:
            x: (R, K); ``size`` divides the length of the axis.
            signs: (size,), from `chosen`.
            axis: 0 or 1.

        Returns:
            The matrix times the signs and the Hadamard matrix, block by block.
        """
        return self._turned(x, signs, np.ones_like(signs), axis)

    def unrotate(self, x: Floats, signs: Floats, axis: int = 1) -> Floats:
        """Undo `rotate`, up to rounding.

        Args:
            x: a rotated matrix (R, K).
            signs: the signs of the rotation.
            axis: the axis of the rotation.

        Returns:
            The matrix before the rotation.
        """
        return self._turned(x, np.ones_like(signs), signs, axis)

    def _turned(self, x: Floats, before: Floats, after: Floats, axis: int) -> Floats:
        """Multiply by signs, by the matrix, and by other signs."""
        columns = x if axis else x.T
        out = np.empty(columns.shape, dtype=np.float32)
        places = [y.reshape(len(y), -1, self.size).transpose(1, 2, 0) for y in (columns, out)]
        _turn()(places[0], before, after * np.float32(self.size**-0.5), places[1])
        return out if axis else out.T


@cache
def _turn() -> Any:
    @shared(LEAST_SHARED, "hadamard", (__file__,))
    def run(x: Any, before: Any, after: Any, out: Any, share: Any) -> None:
        blocks, size, rows = x.shape
        wide = (rows + WIDTH - 1) // WIDTH
        part = np.empty((size, WIDTH), np.float32)
        for task in within(blocks * wide, share):
            b, first = task % blocks, task // blocks * WIDTH
            many = min(WIDTH, rows - first)
            for i in range(size):
                for r in range(many):
                    part[i, r] = x[b, i, first + r] * before[i]
            half = 1
            while half < size:
                for pair in range(size // 2):
                    i = pair // half * 2 * half + pair % half
                    for r in range(WIDTH):
                        above, below = part[i, r], part[i + half, r]
                        part[i, r], part[i + half, r] = above + below, above - below
                half *= 2
            for r in range(many):
                for i in range(size):
                    out[b, i, first + r] = part[i, r] * after[i]

    return run
