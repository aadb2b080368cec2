# SPDX-License-Identifier: Apache-2.0
"""Statistics of a layer's inputs: second moments, extremes, means, some rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["InputStatistics"]


class InputStatistics:
    """Sums over all rows (T, K) so far; memory does not grow with their number.

    Args:
        width: K.
        hessian: whether second moments are kept, (K, K).
        step: every ``step``-th row is kept; 0: none.
    """

    def __init__(self, width: int, hessian: bool = True, step: int = 0) -> None:
        self.width, self.step = width, step
        self.count = self.sequences = 0
        self.moments = np.zeros((width, width)) if hessian else None
        self.sum, self.absolute = np.zeros(width), np.zeros(width)
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        self._parts: list[NDArray[np.float32]] = []

    def add(self, rows: NDArray[np.float32], sequences: int = 1) -> None:
        """Add rows (T, K) of ``sequences`` sequences."""
        if not rows.size:
            return
        if self.step:
            self._parts.append(rows[-self.count % self.step :: self.step].copy())
        self.count += rows.shape[0]
        self.sequences += sequences
        if self.moments is not None:
            self.moments += rows.T @ rows
        self.sum += rows.sum(axis=0, dtype=np.float64)
        self.absolute += np.abs(rows).sum(axis=0, dtype=np.float64)
        self.low = np.minimum(self.low, rows.min(axis=0))
        self.high = np.maximum(self.high, rows.max(axis=0))

    @property
    def hessian(self) -> NDArray[np.float64]:
        """2 sum x x^T over the number of sequences, as in GPTQ's code."""
        assert self.moments is not None
        return np.asarray(self.moments * (2 / max(self.sequences, 1)))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each channel."""
        return np.asarray(self.sum / self.count)

    @property
    def mean_magnitude(self) -> NDArray[np.float64]:
        """Mean magnitude of each channel."""
        return np.asarray(self.absolute / self.count)

    @property
    def maxima(self) -> NDArray[np.float64]:
        """Largest magnitude of each channel."""
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)))

    @property
    def rows(self) -> NDArray[np.float32]:
        """The kept rows, (T', K)."""
        return np.concatenate(self._parts)

    @property
    def is_finite(self) -> bool:
        """Whether no input was NaN or infinite."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())
