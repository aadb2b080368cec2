# SPDX-License-Identifier: Apache-2.0
"""Terms of more than 53 bits, as sums of float64 numbers: their *parts*.

The parts of a term have its sign. The first is the term cut to 53 bits, the second the remainder
cut to 53 bits, and so on; the parts of a zero are zeros of its sign. If a term is NaN or infinite,
so is its first part, and the others are +0.
"""

from __future__ import annotations

import math

import numpy as np

from fpsim.kernels.cache import inner
from fpsim.kernels.scalar.limbs import LIMBS, accumulate, leading, normalise
from fpsim.kernels.threads import shared, within

__all__ = ["block_parts", "product_parts"]

#: Splits a float64 into halves of 26 bits (Dekker, Numer. Math. 18, 1971).
_SPLITTER = 134217729.0


@inner
def _halves(x):
    scaled = _SPLITTER * x
    high = scaled - (scaled - x)
    return high, x - high


@inner
def _product(x, y):
    """Return the product of two finite numbers and its error, exactly (Dekker)."""
    p = x * y
    x_high, x_low = _halves(x)
    y_high, y_low = _halves(y)
    error = ((x_high * y_high - p) + x_high * y_low + x_low * y_high) + x_low * y_low
    return p, error


@inner
def _fill(limbs, zero, out):
    """Write the parts of a sum of limbs, or ``zero`` to all of them if the sum is zero."""
    negative = normalise(limbs)
    out[:] = 0.0
    for i in range(out.size):
        sig, exponent, rest = leading(limbs)
        if sig == 0:
            out[:] = zero
            return
        value = math.ldexp(np.float64(sig), exponent)
        out[i] = -value if negative else value
        if not rest:
            return
        accumulate(limbs, -value)
        normalise(limbs)


@shared(1 << 12)
def product_parts(x, y, out, share):
    """Fill ``out`` with the parts of products.

    Args:
        x: float64 (R, T).
        y: float64 (R, T).
        out: float64 (R, T, P), filled.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    for r in within(x.shape[0], share):
        limbs = np.zeros(LIMBS, dtype=np.int64)
        for k in range(x.shape[1]):
            p, error = x[r, k] * y[r, k], 0.0
            finite = math.isfinite(p)
            if finite:
                p, error = _product(x[r, k], y[r, k])
            if error == 0.0:
                out[r, k] = p if p == 0.0 else 0.0
                out[r, k, 0] = p
                continue
            limbs[:] = 0
            accumulate(limbs, p)
            accumulate(limbs, error)
            _fill(limbs, p, out[r, k])


@shared(1 << 12)
def block_parts(products, scales, size, out, share):
    """Fill ``out`` with the parts of the block sums of products times their scales.

    Args:
        products: float64 (R, K).
        scales: float64 (R, G), one per block.
        size: products of a block; the last block may have fewer.
        out: float64 (R, G, P), filled. A block sum of zero is +0 before it is scaled.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    rows, length = products.shape
    for r in within(rows, share):
        limbs = np.zeros(LIMBS, dtype=np.int64)
        for g in range(scales.shape[1]):
            scale = scales[r, g]
            plain = math.isfinite(scale) and scale != 0.0
            factor = scale if plain else 1.0
            limbs[:] = 0
            special = 0.0
            for k in range(g * size, min((g + 1) * size, length)):
                value = products[r, k]
                if not math.isfinite(value):
                    special += value
                elif value != 0.0:
                    p, error = _product(value, factor)
                    accumulate(limbs, p)
                    if error != 0.0:
                        accumulate(limbs, error)
            if special != 0.0:
                out[r, g] = 0.0
                out[r, g, 0] = special * scale
                continue
            _fill(limbs, 0.0 * factor, out[r, g])
            if not plain:
                first = out[r, g, 0] * scale
                out[r, g] = first if first == 0.0 else 0.0
                out[r, g, 0] = first
