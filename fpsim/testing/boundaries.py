# SPDX-License-Identifier: Apache-2.0
"""Values at and beside every rounding boundary of a format, where encoders go wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.rounding import Overflow

__all__ = ["critical_values", "overflows", "sampled_codes"]


def overflows(fmt: Format) -> list[Overflow]:
    """Return the overflow policies for which a format has codes."""
    if isinstance(fmt, FixedFormat):
        return [Overflow.SATURATE, Overflow.WRAP]
    policies = [Overflow.SATURATE]
    if fmt.infinity:
        policies.append(Overflow.INF)
    if fmt.nan_code is not None:
        policies.append(Overflow.NAN)
    return policies


def sampled_codes(fmt: FloatFormat, limit: int = 1 << 9) -> NDArray[np.int64]:
    """Return finite magnitude codes: all, or both ends of every row and a sample."""
    top = fmt.max_code
    if top < limit:
        return np.arange(top + 1)
    m = fmt.mantissa_bits
    rows = np.arange(0, (top >> m) + 1, max(1, (top >> m) // 24)) << m
    ends = (rows[:, None] + np.array([-2, -1, 0, 1, 2])).reshape(-1)
    sample = np.random.default_rng(1).integers(0, top + 1, 64)
    codes = np.concatenate([np.arange(4), ends, sample, top - np.arange(4)])
    return np.unique(codes[(codes >= 0) & (codes <= top)])


def critical_values(fmt: FloatFormat) -> NDArray[np.float64]:
    """Return values at and beside every rounding boundary, of both signs.

    They are every code's value, every midpoint, the numbers one float64 and one float32 step beside
    these, the first numbers that overflow, powers of two far beyond both ends, and zeros.
    """
    codes = sampled_codes(fmt)
    values = fmt.decode(codes)
    after = fmt.decode(np.minimum(codes + 1, fmt.max_code))
    step = values[-1] - fmt.decode([fmt.max_code - 1])[0]
    after[-1] = values[-1] + step  # the value of a next code, if there were one
    edge = after[-1]
    low, high = fmt.exponent_min - fmt.mantissa_bits - 40, fmt.exponent_max + 6
    powers = np.ldexp(1.0, np.arange(max(low, -1074), min(high, 1023)))
    lowest_row = np.ldexp(np.arange(64.0), fmt.exponent_min - fmt.mantissa_bits - 1)
    beyond = [edge, edge + step / 2, edge + step, edge * 2, 0.0]
    points = np.concatenate([values, (values + after) / 2, powers, lowest_row, beyond])
    points = np.unique(points)
    near = [points, np.nextafter(points, np.inf), np.nextafter(points, 0.0)]
    inside = points[(points > 2.0**-120) & (points < 2.0**120)].astype(np.float32)
    near += [np.nextafter(inside, np.float32(to)).astype(np.float64) for to in (np.inf, 0.0)]
    positive = np.unique(np.concatenate(near))
    return np.concatenate([positive, -positive])
