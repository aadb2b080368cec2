# SPDX-License-Identifier: Apache-2.0
"""The best clip ratio: the SQNR of a format at every scale, from sums over sorted data.

The clip ratio ``r`` is the share of the largest magnitude that a format's largest value represents:
``s = r * max|x| / max_value`` and ``x_hat = s * decode(encode(x / s))``.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import Format
from fpsim.formats.names import get_format

__all__ = [
    "ClipScan",
    "best_clip",
    "clip_curve",
    "clip_ratios",
    "decibels",
    "finite_values",
    "largest_value",
    "levels",
]

#: Most bits of a format whose values are listed.
MAX_SCAN_BITS = 8
# 14 octaves reach clip points below a ten-thousandth of an outlier; at 64 points an octave one lies
# within 0.6 % of the optimum, where the curve is flat.
_OCTAVES, _PER_OCTAVE = 14, 64


def levels(fmt: str | Format) -> NDArray[np.float64]:
    """Return the values of a format's codes, ascending, with one zero.

    Raises:
        FpsimError: a format of more than 8 bits.
    """
    return _levels(get_format(fmt)).copy()


@cache
def _levels(fmt: Format) -> NDArray[np.float64]:
    if fmt.bits > MAX_SCAN_BITS:
        raise FpsimError(
            f"format: {fmt.name} has {fmt.bits} bits; values are listed up to {MAX_SCAN_BITS}"
        )
    values = fmt.decode(np.arange(1 << fmt.bits, dtype=fmt.dtype))
    finite = values[np.isfinite(values)]
    return np.unique(fmt.decode(fmt.encode(finite)) + 0.0)


@cache
def largest_value(fmt: Format) -> float:
    """Return the format's largest value; cached."""
    return fmt.max_value


def clip_ratios(octaves: int = _OCTAVES, per_octave: int = _PER_OCTAVE) -> NDArray[np.float64]:
    """Return the clip ratios of a scan, from 1 down to 2^-octaves in equal log steps."""
    return np.exp2(-np.arange(octaves * per_octave + 1) / per_octave)


def clip_curve(
    x: ArrayLike, fmt: str | Format, ratios: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the signal-to-quantization-noise ratio (SQNR) at each clip ratio.

    Args:
        x: finite values of any shape, not all zero; all share one scale.
        fmt: element format of at most 8 bits, or its name.
        ratios: clip ratios above 0; None: `clip_ratios`.

    Returns:
        SQNRs in dB, one per ratio, equal to those of `fpsim.studies.sqnr.quantize`.

    Raises:
        FpsimError: no values, values not finite or all zero, or a format of more than 8 bits.
    """
    visited = clip_ratios() if ratios is None else np.asarray(ratios, dtype=np.float64)
    return ClipScan(x).curve(get_format(fmt), visited)


def best_clip(x: ArrayLike, fmt: str | Format) -> float:
    """Return the clip ratio in `clip_ratios` with the highest SQNR.

    Raises:
        FpsimError: no values, values not finite or all zero, or a format of more than 8 bits.
    """
    return ClipScan(x).best(get_format(fmt))


class ClipScan:
    """Sorted data with running sums, from which a few look-ups give the SQNR of a clip ratio.

    Rounding to nearest maps each interval between two midpoints to one level ``v``, so the noise is
    sum x^2 - 2 sum_v v S1(v) + sum_v n(v) v^2, with n(v) and S1(v) the count and sum of an
    interval. A value on a midpoint is equally far from both levels: the tie rule does not matter.
    """

    def __init__(self, x: ArrayLike) -> None:
        self._sorted = np.sort(finite_values(x).reshape(-1))
        if not self._sorted.size or not (self._sorted[0] or self._sorted[-1]):
            raise FpsimError("x: no value differs from zero, so there is nothing to quantize")
        self._sums = np.concatenate([[0.0], np.cumsum(self._sorted)])
        self._power = np.square(self._sorted).sum()
        self._largest = max(-self._sorted[0], self._sorted[-1])

    def curve(self, fmt: Format, ratios: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the SQNR in dB at each clip ratio."""
        values = _levels(fmt)
        scales = ratios * self._largest / largest_value(fmt)
        middles = np.multiply.outer(scales, (values[1:] + values[:-1]) / 2.0)
        ends = np.empty((ratios.size, values.size + 1), dtype=np.int64)
        ends[:, 0], ends[:, -1] = 0, self._sorted.size
        ends[:, 1:-1] = np.searchsorted(self._sorted, middles)
        cross = np.diff(self._sums[ends], axis=1) @ values
        square = np.diff(ends, axis=1) @ values**2
        noise = self._power - 2.0 * scales * cross + scales**2 * square
        return decibels(self._power, noise)

    def best(self, fmt: Format) -> float:
        """Return the clip ratio with the highest SQNR."""
        ratios = clip_ratios()
        return float(ratios[np.argmax(self.curve(fmt, ratios))])


def finite_values(x: ArrayLike) -> NDArray[np.float64]:
    """Return ``x`` as float64; raise `FpsimError` for NaN and infinity."""
    array = np.asarray(x, dtype=np.float64)
    if not np.isfinite(array).all():
        raise FpsimError("x: it holds NaN or infinity")
    return array


def decibels(
    signal: NDArray[np.float64] | np.float64, noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return power ratios in dB; noise that rounding made zero or negative counts as none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10.0 * np.log10(signal / noise)
    return np.where(noise > 0.0, ratio, np.inf)
