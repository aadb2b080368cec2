# SPDX-License-Identifier: Apache-2.0
"""Arrays that casting rows to a block format takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parts", "RandomIntegers"]


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


class RandomIntegers(NamedTuple):
    """Random integers for stochastic rounding: of elements (R, K) and of scales (R, G)."""

    elements: NDArray[Any] | None
    scales: NDArray[Any] | None
    bits: int
