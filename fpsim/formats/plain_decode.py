# SPDX-License-Identifier: Apache-2.0
"""Values of a few codes without compiled code, whose loading would delay tables and messages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.kernels.codec.layout import Layout

__all__ = ["decode_plainly"]


def decode_plainly(codes: NDArray[Any], layout: Layout) -> NDArray[np.float64]:
    """Return the exact values of codes (float64, same shape), as `FloatFormat.decode` does."""
    wide = codes.astype(np.int64)
    sign = layout.sign_bit
    negative = (wide & sign) != 0
    magnitude = wide & (sign - 1) if sign else wide
    fraction = magnitude & ((1 << layout.mantissa_bits) - 1)
    field = magnitude >> layout.mantissa_bits
    # Exponent fields count from 1 on, or from 0 if the format has no subnormals.
    plain = layout.hidden_row == 1
    normal = (field > 0) | plain
    exponent = layout.exponent_min + np.maximum(field - (not plain), 0)
    significand = fraction + (normal.astype(np.int64) << layout.mantissa_bits)
    if layout.hidden_row == 2:
        significand = np.where(normal, significand, 0)
    values = np.ldexp(significand.astype(np.float64), exponent - layout.mantissa_bits)
    values = np.where(magnitude > layout.max_code, np.nan, values)
    values = np.where(magnitude == layout.inf_code, np.inf, values)
    if not layout.negative_zero:
        values = np.where(negative & (magnitude == 0), np.nan, values)
    return np.asarray(np.where(negative & ~np.isnan(values), -values, values))
