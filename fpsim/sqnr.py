# SPDX-License-Identifier: Apache-2.0
"""Quantization error against format, scaling and data, as signal-to-quantization-noise ratio.

    SQNR = 10 log10(sum x^2 / sum (x - x_hat)^2) dB

A format is used at a scale ``s``: ``x_hat = s * decode(encode(x / s))``, round to nearest even,
saturating. The clip ratio ``r`` says which share of the largest magnitude the format's largest
value covers: ``s = r * max|x| / max_value``. At r = 1 (absmax) nothing saturates; below it large
values are clipped so that small ones get finer steps. `Scaling` lists the choices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.blocks import BlockFormat
from fpsim.distributions import DISTRIBUTIONS, gaussian, laplace, samples
from fpsim.errors import FpsimError
from fpsim.formats import FloatFormat, Format
from fpsim.names import get_format

__all__ = [
    "BLOCK",
    "DISTRIBUTIONS",
    "FORMATS",
    "Scaling",
    "SqnrRow",
    "best_clip",
    "clip_curve",
    "clip_ratios",
    "format_label",
    "gaussian",
    "laplace",
    "levels",
    "measure",
    "quantize",
    "quantize_blocks",
    "quantize_mx",
    "samples",
    "sqnr_db",
]

#: The 4-bit formats of the study; ``int4s`` is INT4 without -8.
FORMATS: tuple[str, ...] = ("int4s", "e1m2", "e2m1", "e3m0")
#: Elements that share a scale.
BLOCK = 32
#: Widest format whose values are listed.
MAX_SCAN_BITS = 8
# A scan of 14 octaves reaches clip points below a ten-thousandth of an outlier, and at 64 points
# an octave the nearest one is within 0.6 % of the optimum, where the curve is flat.
_OCTAVES, _PER_OCTAVE = 14, 64


class Scaling(StrEnum):
    """Where a format's scale comes from."""

    TENSOR_ABSMAX = "tensor-absmax"  #: one real scale, s = max|x| / max_value
    TENSOR_BEST = "tensor-best"  #: one real scale, at the clip ratio with the highest SQNR
    BLOCK_ABSMAX = "block-absmax"  #: a real scale per block of 32, s = max|block| / max_value
    BLOCK_E8M0 = "block-e8m0"  #: a power of two per block of 32, by the floor rule of OCP MX

    @property
    def label(self) -> str:
        """Words for a person."""
        return _SCALING_LABELS[self.value]


_SCALING_LABELS = {
    "tensor-absmax": "tensor, absmax",
    "tensor-best": "tensor, best clip",
    "block-absmax": f"{BLOCK}-block, real absmax",
    "block-e8m0": f"{BLOCK}-block, E8M0 (MX)",
}


@dataclass(frozen=True)
class SqnrRow:
    """One measurement: ``samples`` values of ``data`` in ``format`` under ``scaling``."""

    data: str
    samples: int
    format: str
    scaling: Scaling
    clip_ratio: float | None  #: None where every block has its own (E8M0)
    sqnr_db: float


def format_label(name: str) -> str:
    """Return a format name as people write it: ``e2m1`` as E2M1, ``int4s`` as INT4."""
    upper = name.upper()
    return upper.removesuffix("S") if upper.startswith("INT") else upper


# -- quantizing ----------------------------------------------------------------------------------


def sqnr_db(x: ArrayLike, x_hat: ArrayLike) -> float:
    """Return the SQNR of ``x_hat`` in dB: inf if it equals ``x``, -inf if ``x`` alone is zero.

    Raises:
        FpsimError: shapes that differ, or no values.
    """
    signal, other = np.asarray(x, dtype=np.float64), np.asarray(x_hat, dtype=np.float64)
    if signal.shape != other.shape or not signal.size:
        raise FpsimError(f"x_hat: shape {other.shape} does not fit x of shape {signal.shape}")
    return _db(_power(signal), _power(signal - other))


def quantize(x: ArrayLike, fmt: str | Format, clip_ratio: float = 1.0) -> NDArray[np.float64]:
    """Return ``x`` (any shape) rounded to a format at one scale for all of it.

    Raises:
        FpsimError: values that are not finite, or a clip ratio that is not above zero.
    """
    target, values = get_format(fmt), _finite(x)
    if not 0.0 < clip_ratio < math.inf:
        raise FpsimError(f"clip_ratio: {clip_ratio!r} is not a number above zero")
    largest = float(np.max(np.abs(values), initial=0.0))
    scale = clip_ratio * largest / target.max_value
    return _round(values, target, scale or 1.0)


def quantize_blocks(x: ArrayLike, fmt: str | Format, block: int = BLOCK) -> NDArray[np.float64]:
    """Return ``x``, flattened, at a real absmax scale per ``block`` consecutive values."""
    target, values = get_format(fmt), _finite(x).reshape(-1)
    padded = np.zeros(-(-values.size // block) * block)
    padded[: values.size] = values
    rows = padded.reshape(-1, block)
    scales = np.max(np.abs(rows), axis=1, keepdims=True) / target.max_value
    return _round(rows, target, np.where(scales, scales, 1.0)).reshape(-1)[: values.size]


def quantize_mx(x: ArrayLike, fmt: str | Format, block: int = BLOCK) -> NDArray[np.float64]:
    """Return ``x``, flattened, in the MX block format with elements of ``fmt``: floor-rule E8M0.

    Raises:
        FpsimError: a fixed-point format whose range is not symmetric.
    """
    element = _element(get_format(fmt))
    mx = BlockFormat(f"mx-{element.name}", element, block)
    return mx.dequantize(mx.quantize(_finite(x).reshape(-1), nan="error"))


def _round(
    values: NDArray[np.float64], fmt: Format, scale: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    return fmt.decode(fmt.encode(values / scale)) * scale


def _element(fmt: Format) -> FloatFormat:
    """Return a format as MX elements: symmetric integers are E0My, sign and magnitude."""
    if isinstance(fmt, FloatFormat):
        return fmt
    if not fmt.symmetric:
        raise FpsimError(
            f"format: {fmt.name} is not symmetric, and MX elements have a sign and a magnitude; "
            f"allowed: any ExMy, or {fmt.name}s"
        )
    magnitude = fmt.width - 1
    return FloatFormat(0, magnitude, bias=1 - magnitude - fmt.lsb)


def levels(fmt: str | Format) -> NDArray[np.float64]:
    """Return the values that encoding can produce, ascending, with one zero.

    Raises:
        FpsimError: a format of more than 8 bits.
    """
    fmt = get_format(fmt)
    if fmt.bits > MAX_SCAN_BITS:
        raise FpsimError(
            f"format: {fmt.name} has {fmt.bits} bits; values are listed up to {MAX_SCAN_BITS}"
        )
    values = fmt.decode(np.arange(1 << fmt.bits, dtype=fmt.dtype))
    finite = values[np.isfinite(values)]
    return np.unique(fmt.decode(fmt.encode(finite)) + 0.0)


# -- the best clip ratio -------------------------------------------------------------------------


def clip_ratios(octaves: int = _OCTAVES, per_octave: int = _PER_OCTAVE) -> NDArray[np.float64]:
    """Return the clip ratios a scan visits, from 1 down to 2^-octaves in equal log steps."""
    return np.exp2(-np.arange(octaves * per_octave + 1) / per_octave)


def clip_curve(
    x: ArrayLike, fmt: str | Format, ratios: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the SQNR in dB that `quantize` has at each clip ratio (`clip_ratios` if None).

    Raises:
        FpsimError: as `best_clip`.
    """
    visited = clip_ratios() if ratios is None else np.asarray(ratios, dtype=np.float64)
    return _Scan(x).curve(get_format(fmt), visited)


def best_clip(x: ArrayLike, fmt: str | Format) -> float:
    """Return the clip ratio in `clip_ratios` with the highest SQNR.

    Raises:
        FpsimError: no values, values not finite or all zero, or a format of more than 8 bits.
    """
    return _Scan(x).best(get_format(fmt))


class _Scan:
    """Sorted data and its running sums, from which any clip ratio costs a few look-ups.

    Rounding to nearest maps each interval between two midpoints to one level ``v``, so the noise is
    sum x^2 - 2 sum_v v S1(v) + sum_v n(v) v^2, with n(v) and S1(v) the count and sum of an
    interval. A value on a midpoint is equally far from both levels: the tie rule does not matter.
    """

    def __init__(self, x: ArrayLike) -> None:
        self._sorted = np.sort(_finite(x).reshape(-1))
        if not self._sorted.size or not (self._sorted[0] or self._sorted[-1]):
            raise FpsimError("x: no value differs from zero, so there is nothing to quantize")
        self._sums = np.concatenate([[0.0], np.cumsum(self._sorted)])
        self._power = _power(self._sorted)
        self._largest = max(-self._sorted[0], self._sorted[-1])

    def curve(self, fmt: Format, ratios: NDArray[np.float64]) -> NDArray[np.float64]:
        values = levels(fmt)
        scales = ratios * self._largest / fmt.max_value
        middles = np.multiply.outer(scales, (values[1:] + values[:-1]) / 2.0)
        ends = np.empty((ratios.size, values.size + 1), dtype=np.int64)
        ends[:, 0], ends[:, -1] = 0, self._sorted.size
        ends[:, 1:-1] = np.searchsorted(self._sorted, middles)
        cross = np.diff(self._sums[ends], axis=1) @ values
        square = np.diff(ends, axis=1) @ values**2
        noise = self._power - 2.0 * scales * cross + scales**2 * square
        return np.array([_db(self._power, float(n)) for n in noise])

    def best(self, fmt: Format) -> float:
        ratios = clip_ratios()
        return float(ratios[np.argmax(self.curve(fmt, ratios))])


# -- the study -----------------------------------------------------------------------------------


def measure(
    data: Mapping[str, ArrayLike], formats: Iterable[str | Format] = FORMATS
) -> tuple[SqnrRow, ...]:
    """Return the SQNR of every data set in every format under every `Scaling`, in that order.

    Args:
        data: arrays by name; blocks run over consecutive values of the flattened array.
        formats: names or formats of at most 8 bits.

    Raises:
        FpsimError: data that is empty, not finite or all zero; formats as `best_clip` and
            `quantize_mx`.
    """
    targets = [get_format(fmt) for fmt in formats]
    rows: list[SqnrRow] = []
    for name, array in data.items():
        try:
            x = _finite(array).reshape(-1)
            scan = _Scan(x)
        except FpsimError as error:
            raise FpsimError(f"data {name!r}: {error}") from None
        for fmt in targets:
            rows.extend(_rows(name, x, fmt, scan.best(fmt)))
    return tuple(rows)


def _rows(name: str, x: NDArray[np.float64], fmt: Format, best: float) -> list[SqnrRow]:
    results: list[tuple[Scaling, float | None, NDArray[np.float64]]] = [
        (Scaling.TENSOR_ABSMAX, 1.0, quantize(x, fmt)),
        (Scaling.TENSOR_BEST, best, quantize(x, fmt, best)),
        (Scaling.BLOCK_ABSMAX, 1.0, quantize_blocks(x, fmt)),
        (Scaling.BLOCK_E8M0, None, quantize_mx(x, fmt)),
    ]
    return [
        SqnrRow(name, x.size, fmt.name, scaling, ratio, sqnr_db(x, x_hat))
        for scaling, ratio, x_hat in results
    ]


def _finite(x: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(x, dtype=np.float64)
    if not np.isfinite(array).all():
        raise FpsimError("x: it holds NaN or infinity")
    return array


def _power(x: NDArray[np.float64]) -> float:
    return float(np.square(x).sum())


def _db(signal: float, noise: float) -> float:
    """Return a power ratio in dB; noise that is no more than rounding below zero counts as none."""
    if noise <= 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal else -math.inf
