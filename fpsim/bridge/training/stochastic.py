# SPDX-License-Identifier: Apache-2.0
"""Stochastic rounding of scaled rows to E2M1 in one loop, which makes its random integers.

Codes equal those of `FloatFormat.encode` with the integers of `fpsim.RandomBits`. Steps of E2M1 are
1/2 below 2, 1 below 4 and 2 above, so y times s = 2, 1 or 1/2 has the grid at integers; with n
random bits (floor(y s 2^n) + r) >> n is the rounded integer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fpsim.formats.random_bits import STEP, WORD_BITS
from fpsim.kernels.cache import inner, kernel

__all__ = ["stochastic_e2m1"]

_MASK = np.uint64(0xFFFFFFFF)


@inner
def _mixed(word: Any) -> Any:
    """Wellons's lowbias32 on the low half of a 64-bit word."""
    word = word ^ (word >> np.uint64(16))
    word = (word * np.uint64(0x7FEB352D)) & _MASK
    word = word ^ (word >> np.uint64(15))
    word = (word * np.uint64(0x846CA68B)) & _MASK
    return word ^ (word >> np.uint64(16))


@cache
def _compiled() -> Any:
    @kernel("stochastic e2m1", sources=(__file__,), parallel=True)
    def run(x: Any, before: Any, factor: Any, block: Any, bits: Any, seed: Any, codes: Any) -> None:
        each = WORD_BITS // bits
        mask, one = (1 << bits) - 1, np.float32(1 << bits)
        for r in prange(x.shape[0]):
            stream = _mixed(_mixed(np.uint64(r)) ^ np.uint64(seed))
            word, left, count = np.uint64(0), 0, 0
            for group in range(factor.shape[1]):
                divisor = factor[r, group]
                for k in range(group * block, min((group + 1) * block, x.shape[1])):
                    if left == 0:
                        word = _mixed((stream + np.uint64(count) * np.uint64(STEP)) & _MASK)
                        left, count = each, count + 1
                    random = np.int64(word & np.uint64(mask))
                    word, left = word >> np.uint64(bits), left - 1
                    y = x[r, k] * before / divisor
                    m = abs(y)
                    if m < np.float32(2):
                        code = (np.int64(m * np.float32(2) * one) + random) >> bits
                    elif m < np.float32(4):
                        code = ((np.int64(m * one) + random) >> bits) + 2
                    elif m < np.float32(6):
                        code = ((np.int64(m * np.float32(0.5) * one) + random) >> bits) + 4
                    else:
                        code = 7
                    codes[r, k] = code | (np.int64(np.signbit(y)) << 3)

    return run


def stochastic_e2m1(
    x: NDArray[np.float32],
    factor: NDArray[np.float32],
    block: int,
    bits: int,
    seed: int,
    before: float = 1.0,
) -> NDArray[np.uint8]:
    """Return the codes of fl(fl(x before) / factor), saturating.

    Args:
        x: finite rows (R, K), contiguous.
        factor: (R, G), positive or infinite, one per ``block`` elements.
        block: elements per factor.
        bits: random bits, 1..16.
        seed: seed of the random integers: row r is result r, element k its rounding k.
        before: factor of x, applied first.

    Returns:
        The codes (R, K).
    """
    codes = np.empty(x.shape, dtype=np.uint8)
    _compiled()(x, np.float32(before), factor, block, bits, seed, codes)
    return codes
