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


@inner
def _mixed(word: Any) -> Any:
    """Wellons's lowbias32."""
    word = np.uint32(word ^ (word >> np.uint32(16)))
    word = np.uint32(word * np.uint32(0x7FEB352D))
    word = np.uint32(word ^ (word >> np.uint32(15)))
    word = np.uint32(word * np.uint32(0x846CA68B))
    return np.uint32(word ^ (word >> np.uint32(16)))


@cache
def _compiled() -> Any:
    # The loop over a row has no branches and keeps nothing from one element to the next, so that
    # LLVM takes as many elements at once as the processor has lanes.
    @kernel("stochastic e2m1", sources=(__file__,), parallel=True, error_model="numpy")
    def run(
        x: Any, before: Any, factor: Any, block: Any, bits: Any, seed: Any, steps: Any, places: Any,
        codes: Any,
    ) -> None:  # fmt: skip
        mask, one, shift = np.uint32((1 << bits) - 1), np.float32(1 << bits), np.int32(bits)
        columns = x.shape[1]
        for r in prange(x.shape[0]):
            y = np.empty(columns, dtype=np.float32)
            for group in range(factor.shape[1]):
                divisor = factor[r, group]
                for k in range(group * block, min((group + 1) * block, columns)):
                    y[k] = x[r, k] * before / divisor
            sign = y.view(np.int32)
            stream = _mixed(np.uint32(_mixed(np.uint32(r)) ^ np.uint32(seed)))
            row = codes[r]
            for k in range(columns):
                word = _mixed(np.uint32(stream + steps[k]))
                random = np.int32((word >> places[k]) & mask)
                m = abs(y[k])
                m = m if m < np.float32(6) else np.float32(6)
                s = np.float32(2) if m < 2 else np.float32(1) if m < 4 else np.float32(0.5)
                base = np.int32(0) if m < 2 else np.int32(2) if m < 4 else np.int32(4)
                code = np.int32((np.int32(m * s * one) + random) >> shift) + base
                row[k] = np.uint8(code | (np.int32(sign[k] >> np.int32(28)) & np.int32(8)))

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
    words, within = np.divmod(np.arange(x.shape[1], dtype=np.uint32), np.uint32(WORD_BITS // bits))
    steps, places = words * np.uint32(STEP), within * np.uint32(bits)
    _compiled()(x, np.float32(before), factor, block, bits, seed, steps, places, codes)
    return codes
