# SPDX-License-Identifier: Apache-2.0
"""Blocks on grids of arbitrary values: nearest codes, and the best of several candidates.

A grid is a list of thresholds: the index of a value is how many of them it has reached. Float32
compares as an integer once the magnitude bits of negative numbers are flipped, and then -0 lies
below +0. Loops over the elements of a block stand inside loops over thresholds, so that compilers
make vectors of them.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from fpsim.kernels.cache import kernel

__all__ = ["ABS_MAX", "MAE", "MSE", "NO_CHOICE", "choose_blocks"]

NO_CHOICE, MSE, MAE, ABS_MAX = range(4)
#: Longest list of thresholds that is compared one by one; longer ones are bisected.
LINEAR = 40
FLIP = np.int32(0x7FFFFFFF)


@njit(error_model="numpy")
def ranks_of(y, count, keys, ranks):
    """Fill ``ranks[:count]`` with the indices of float32 ``y`` among ``keys``."""
    bits = y.view(np.int32)
    if keys.size <= LINEAR:
        for k in range(count):
            b = bits[k]
            bits[k] = b ^ ((b >> np.int32(31)) & FLIP)
            ranks[k] = 0
        for t in range(keys.size):
            key = keys[t]
            for k in range(count):
                ranks[k] += np.int32(bits[k] >= key)
        return
    for k in range(count):
        b = bits[k]
        b = b ^ ((b >> np.int32(31)) & FLIP)
        low, high = 0, keys.size
        while low < high:
            middle = (low + high) >> 1
            if b >= keys[middle]:
                low = middle + 1
            else:
                high = middle
        ranks[k] = low


@njit(error_model="numpy")
def error_of(x, count, ranks, values, scale, divisor, outer, kind):
    """Return the error of decoded values, in float64 and in the order of the elements."""
    total = 0.0
    for k in range(count):
        deviation = abs(values[ranks[k]] * scale / divisor * outer - np.float64(x[k]))
        if kind == MSE:
            total += deviation * deviation
        elif kind == MAE:
            total += deviation
        else:
            total = max(total, deviation)
    return total


@kernel(parallel=True, error_model="numpy")
def choose_blocks(
    x, block, sub, multiply, factors, scales, outer, grids, keys, sizes, values, ratios, given,
    fixed, kind, ratio_kind, divisor, codes_of, codes, chosen, picked,
):  # fmt: skip
    """Cast whole blocks of float32 rows ``x`` (R, K) to the best of C candidates.

    Args:
        x: finite values; K is a multiple of ``block``, ``block`` one of ``sub``.
        block: elements of a block.
        sub: elements of a sub-block.
        multiply: whether values are multiplied by ``factors`` or divided.
        factors: (C, R, G) float32.
        scales: (C, R, G) float64, the decoded scales.
        outer: (R,) float64, the tensor's scale, in each row.
        grids: (C,) the grid of a candidate.
        keys: (V, n - 1) int32 thresholds.
        sizes: (V,) how many values a grid has.
        values: (V, n) float64.
        ratios: (Q,) float32 ratios of sub-blocks.
        given: (C, R, S) uint8 ratio of each sub-block where it is not searched.
        fixed: (R, G) int8 candidate that a rule has chosen; -1: the best.
        kind: error that decides between candidates.
        ratio_kind: error that decides between ratios, `NO_CHOICE` if they are given.
        divisor: what values are divided by.
        codes_of: (V, n) uint8 storage code of each index.
        codes: (R, K) uint8, filled.
        chosen: (R, G) uint8, filled with candidates.
        picked: (R, S) uint8, filled with ratios.
    """
    rows, length = x.shape
    groups, parts, candidates = length // block, block // sub, grids.size
    searched = ratio_kind != NO_CHOICE
    for r in prange(rows):
        y = np.empty(sub, dtype=np.float32)
        ranks = np.empty(sub, dtype=np.int32)
        kept = np.empty(sub, dtype=np.int32)
        whole = np.empty(block, dtype=np.uint8)
        local = np.empty(parts, dtype=np.uint8)
        for g in range(groups):
            best = np.inf
            only = fixed[r, g]
            for c in range(candidates):
                if only >= 0 and c != only:
                    continue
                v = grids[c]
                own = keys[v, : sizes[v] - 1]
                factor, scale = factors[c, r, g], scales[c, r, g]
                total = 0.0
                for s in range(parts):
                    at = g * block + s * sub
                    values_here = x[r, at : at + sub]
                    first, last = np.int64(0), np.int64(ratios.size)
                    if not searched:
                        first = np.int64(given[c, r, g * parts + s])
                        last = first + 1
                    least = np.inf
                    for q in range(first, last):
                        if multiply:
                            step = np.float32(factor / ratios[q])
                            for k in range(sub):
                                y[k] = values_here[k] * step
                        else:
                            step = np.float32(factor * ratios[q])
                            if step == 0:  # it underflowed, and flushes as such scales do
                                step = np.float32(np.inf)
                            for k in range(sub):
                                y[k] = values_here[k] / step
                        ranks_of(y, sub, own, ranks)
                        if not searched:
                            local[s] = q
                            for k in range(sub):
                                kept[k] = ranks[k]
                            continue
                        error = error_of(
                            values_here, sub, ranks, values[v], scale * ratios[q], divisor,
                            outer[r], ratio_kind,
                        )  # fmt: skip
                        if q == first or error < least:
                            least = error
                            local[s] = q
                            for k in range(sub):
                                kept[k] = ranks[k]
                    if kind != NO_CHOICE:
                        error = error_of(
                            values_here, sub, kept, values[v], scale * ratios[local[s]], divisor,
                            outer[r], kind,
                        )  # fmt: skip
                        total = max(total, error) if kind == ABS_MAX else total + error
                    for k in range(sub):
                        whole[s * sub + k] = codes_of[v, kept[k]]
                if c == 0 or only >= 0 or total < best:
                    best = total
                    chosen[r, g] = c
                    start = g * block
                    for k in range(block):
                        codes[r, start + k] = whole[k]
                    for s in range(parts):
                        picked[r, g * parts + s] = local[s]
