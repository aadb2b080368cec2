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

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.bridge.training.randomness import Randomness

__all__ = ["TE_SIGNS", "Rotation"]

Floats = NDArray[np.float32]
#: Elements processed at once, which stay in the cache.
CHUNK = 1 << 15
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
        """Return a matrix rotated along an axis.

        Args:
            x: (R, K); ``size`` divides the length of the axis.
            signs: (size,), from `chosen`.
            axis: 0 or 1.

        Returns:
            The matrix times the signs and the Hadamard matrix, block by block.
        """
        return self._turned(x, signs, None, axis)

    def unrotate(self, x: Floats, signs: Floats, axis: int = 1) -> Floats:
        """Undo `rotate`, up to rounding.

        Args:
            x: a rotated matrix (R, K).
            signs: the signs of the rotation.
            axis: the axis of the rotation.

        Returns:
            The matrix before the rotation.
        """
        return self._turned(x, None, signs, axis)

    def _turned(self, x: Floats, before: Floats | None, after: Floats | None, axis: int) -> Floats:
        """Multiply by signs, by the matrix, and by other signs, a few blocks at once."""
        inner = 1 if axis else x.shape[1]
        blocks = x.reshape((-1, self.size) if axis else (-1, self.size, inner))
        out = np.empty(blocks.shape, dtype=np.float32)
        many = max(1, CHUNK // (self.size * inner))
        for start in range(0, len(blocks), many):
            part = blocks[start : start + many]
            if before is not None:
                part = part * (before if axis else before[:, None])
            part = self._summed(part, inner) * np.float32(self.size**-0.5)
            if after is not None:
                part = part * (after if axis else after[:, None])
            out[start : start + many] = part
        return out.reshape(x.shape)

    def _summed(self, blocks: Floats, inner: int) -> Floats:
        flat = blocks.reshape(len(blocks), -1)
        half = inner
        while half < flat.shape[1]:
            pairs = flat.reshape(len(blocks), -1, 2, half)
            sums = np.empty_like(pairs)
            np.add(pairs[:, :, 0], pairs[:, :, 1], out=sums[:, :, 0])
            np.subtract(pairs[:, :, 0], pairs[:, :, 1], out=sums[:, :, 1])
            flat, half = sums.reshape(flat.shape), 2 * half
        return flat.reshape(blocks.shape)
