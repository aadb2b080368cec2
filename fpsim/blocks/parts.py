# SPDX-License-Identifier: Apache-2.0
"""Arrays that casting rows to a block format takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parts", "RandomIntegers", "Tall"]


@dataclass
class Parts:
    """Codes (R, K), scales (R, G) and other parts that the format stores.

    ``bad`` marks blocks that hold NaN or an infinity: their codes are 0 and their scale is NaN
    where there is one.
    """

    codes: NDArray[Any]
    scales: NDArray[Any]
    bad: NDArray[np.bool_]
    negative_scales: NDArray[Any] | None = None
    zero_points: NDArray[np.int32] | None = None
    tensor_scale: Any = None
    variants: NDArray[np.uint8] | None = None
    ratios: NDArray[np.uint8] | None = None
    tops: NDArray[np.uint8] | None = None
    macros: NDArray[np.uint8] | None = None


class Tall(NamedTuple):
    """Blocks of several rows of one matrix: rows (R, K) hold matrices of ``rows`` rows."""

    rows: int
    high: int  #: rows of a block; those of the last one of a matrix may be fewer

    def over(self, join: np.ufunc, each: NDArray[Any]) -> NDArray[Any]:
        """Return the values (R, G) of the rows of each block joined, for every row."""
        matrices = each.reshape(-1, self.rows, each.shape[1])
        joined = join.reduceat(matrices, np.arange(0, self.rows, self.high), axis=1)
        return np.repeat(joined, self.high, axis=1)[:, : self.rows].reshape(each.shape)

    def first(self, each: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the first row of each block, of (R, G)."""
        return each.reshape(-1, self.rows, each.shape[1])[:, :: self.high]


class RandomIntegers(NamedTuple):
    """Random integers for stochastic rounding: of elements (R, K) and of scales (R, G)."""

    elements: NDArray[Any] | None
    scales: NDArray[Any] | None
    bits: int
