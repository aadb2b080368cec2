# SPDX-License-Identifier: Apache-2.0
"""Blocks with a shared power-of-two scale (OCP MX): scale exponents and element codes."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from fpsim.kernels.cache import kernel
from fpsim.kernels.codec import encode_value

__all__ = ["CEIL", "EVEN", "FLOOR", "RCEIL", "mx_quantize"]

FLOOR, RCEIL, CEIL, EVEN = range(4)
E8M0_BIAS = 127
E8M0_MAX = 254
E8M0_NAN = 255


@njit
def shared_exponent(amax, rule, exponent_max, largest, mantissa_bits):
    """Return the unclamped scale exponent of a block whose largest magnitude is ``amax`` > 0."""
    fraction, exponent = math.frexp(amax)
    floor = exponent - 1
    significand = 2.0 * fraction  # in [1, 2)
    bump = False
    if rule == RCEIL:
        bump = significand > math.ldexp(largest, -exponent_max)
    elif rule == CEIL:
        bump = significand > 1.0
    elif rule == EVEN:
        bump = significand >= 2.0 - math.ldexp(1.0, -mantissa_bits - 1)
    return floor - exponent_max + (1 if bump else 0)


@kernel(parallel=True)
def mx_quantize(x, block, rule, exponent_max, largest, layout, limits, mode, codes, scales):
    """Quantize rows of ``x`` (R, K) in blocks along K into ``codes`` (R, K) and ``scales`` (R, G).

    A block with a NaN or an infinity gets scale 255 and codes 0; an all-zero block scale 0. Returns
    the first row with a NaN or an infinity, or -1.
    """
    rows, length = x.shape
    groups = scales.shape[1]
    bad = np.full(rows, rows, dtype=np.int64)
    for r in prange(rows):
        for g in range(groups):
            start = g * block
            stop = min(start + block, length)
            amax = 0.0
            finite = True
            for k in range(start, stop):
                magnitude = abs(np.float64(x[r, k]))
                if magnitude > amax:
                    amax = magnitude
                finite = finite and math.isfinite(magnitude)
            if not finite:
                bad[r] = r
                scales[r, g] = E8M0_NAN
                for k in range(start, stop):
                    codes[r, k] = 0
                continue
            code = 0
            if amax > 0.0:
                exponent = shared_exponent(amax, rule, exponent_max, largest, layout.mantissa_bits)
                code = min(max(exponent + E8M0_BIAS, 0), E8M0_MAX)
            scales[r, g] = code
            inverse = math.ldexp(1.0, E8M0_BIAS - code)
            for k in range(start, stop):
                value = np.float64(x[r, k]) * inverse
                codes[r, k] = encode_value(value, layout, limits, mode, np.int64(0), 0)
    first = bad.min()
    return -1 if first == rows else first
