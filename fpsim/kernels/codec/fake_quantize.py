# SPDX-License-Identifier: Apache-2.0
"""Fake quantization for searches: float32 in, float32 out, one multiplication per scale.

A search visits hundreds of scales and needs the error of each, not codes. Ties and the last bit may
differ from an exact cast, since scales and quotients are rounded to float32; the scales that a
search finds are then used in an exact cast.
"""

from __future__ import annotations

import numpy as np

from fpsim.kernels.cache import kernel

__all__ = ["fake_quantize"]

#: (m + 1.5 * 2^23 * step) - 1.5 * 2^23 * step rounds m to a multiple of step, half to even.
_MAGIC_BITS = 23
EXPONENT = np.int32(0x7F800000)


@kernel()
def fake_quantize(x, rows, columns, mantissa, top, out):
    """Fill ``out`` with Q(x * s) / s, where s = rows[r] * columns[k].

    Q rounds to nearest, half to even, onto an ExMy format of exponent bias 0: onto multiples of
    2^(1 - mantissa), from 2 on onto multiples of 2^-mantissa times the power of two at or below the
    value; magnitudes above ``top`` become ``top``.

    Args:
        x: finite float32 (R, K).
        rows: float32 (R,).
        columns: float32 (K,).
        mantissa: mantissa bits of Q.
        top: largest magnitude of Q.
        out: float32 (R, K), filled.

    Returns:
        Nothing.
    """
    magic = np.float32(1.5 * 2.0 ** (_MAGIC_BITS - mantissa))
    lowest, highest = np.float32(2.0), np.float32(top)
    back = (np.float32(1.0) / columns).astype(np.float32)
    for r in range(x.shape[0]):
        row = rows[r]
        unrow = np.float32(np.float32(1.0) / row)
        for k in range(x.shape[1]):
            value = np.float32(x[r, k] * np.float32(row * columns[k]))
            size = np.float32(abs(value))
            magnitude = np.float32(size if size < highest else highest)
            power = np.int32(np.float32(magnitude).view(np.int32) & EXPONENT).view(np.float32)
            shift = np.float32((power if power > lowest else lowest) * magic)
            rounded = np.float32(np.float32(magnitude + shift) - shift)
            signed = rounded if value >= np.float32(0.0) else -rounded
            out[r, k] = np.float32(signed * np.float32(unrow * back[k]))
