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
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.blocks import BlockFormat
from fpsim.clip import (
    ClipScan,
    best_clip,
    clip_curve,
    clip_ratios,
    decibels,
    finite_values,
    levels,
    power,
)
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
    """One measurement: ``samples`` values of ``data`` in ``format`` under ``scaling``.

    Of several ``tensors``, the clip ratio and the SQNR are medians.
    """

    data: str
    samples: int
    format: str
    scaling: Scaling
    clip_ratio: float | None  #: None where every block has its own (E8M0)
    sqnr_db: float
    tensors: int = 1


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
    return decibels(power(signal), power(signal - other))


def quantize(x: ArrayLike, fmt: str | Format, clip_ratio: float = 1.0) -> NDArray[np.float64]:
    """Return ``x`` (any shape) rounded to a format at one scale for all of it.

    Raises:
        FpsimError: values that are not finite, or a clip ratio that is not above zero.
    """
    target, values = get_format(fmt), finite_values(x)
    if not 0.0 < clip_ratio < math.inf:
        raise FpsimError(f"clip_ratio: {clip_ratio!r} is not a number above zero")
    largest = float(np.max(np.abs(values), initial=0.0))
    scale = clip_ratio * largest / target.max_value
    return _round(values, target, scale or 1.0)


def quantize_blocks(x: ArrayLike, fmt: str | Format, block: int = BLOCK) -> NDArray[np.float64]:
    """Return ``x``, flattened, at a real absmax scale per ``block`` consecutive values."""
    target, values = get_format(fmt), finite_values(x).reshape(-1)
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
    return mx.dequantize(mx.quantize(finite_values(x).reshape(-1), nan="error"))


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


# -- the study -----------------------------------------------------------------------------------


def measure(
    data: Mapping[str, ArrayLike | Sequence[NDArray[Any]]],
    formats: Iterable[str | Format] = FORMATS,
) -> tuple[SqnrRow, ...]:
    """Return the SQNR of every data set in every format under every `Scaling`, in that order.

    Args:
        data: by name, an array, or a list of arrays such as the layers of a model. Each array is
            quantized by itself, with its own scales, and a row holds the median over them: the
            power of all layers together may sit in a handful of outliers. All-zero arrays of a list
            are left out. Blocks run over consecutive values of a flattened array.
        formats: names or formats of at most 8 bits.

    Raises:
        FpsimError: data that is empty, not finite or all zero; formats as `best_clip` and
            `quantize_mx`.
    """
    targets = [get_format(fmt) for fmt in formats]
    rows: list[SqnrRow] = []
    for name, value in data.items():
        try:
            tensors = _tensors(value)
            scans = [ClipScan(x) for x in tensors]
        except FpsimError as error:
            raise FpsimError(f"data {name!r}: {error}") from None
        for fmt in targets:
            best = [scan.best(fmt) for scan in scans]
            rows += _rows(name, tensors, fmt, best)
    return tuple(rows)


def _tensors(value: ArrayLike | Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    if isinstance(value, list | tuple) and value and isinstance(value[0], np.ndarray):
        arrays = [finite_values(array).reshape(-1) for array in value]
        return [array for array in arrays if array.any()] or arrays[:1]
    return [finite_values(value).reshape(-1)]


def _rows(
    name: str, tensors: list[NDArray[np.float64]], fmt: Format, best: list[float]
) -> list[SqnrRow]:
    count = sum(x.size for x in tensors)
    ratios = {
        Scaling.TENSOR_ABSMAX: 1.0,
        Scaling.TENSOR_BEST: statistics.median(best),
        Scaling.BLOCK_ABSMAX: 1.0,
        Scaling.BLOCK_E8M0: None,
    }
    quality: dict[Scaling, list[float]] = {scaling: [] for scaling in ratios}
    for x, ratio in zip(tensors, best, strict=True):
        quality[Scaling.TENSOR_ABSMAX].append(sqnr_db(x, quantize(x, fmt)))
        quality[Scaling.TENSOR_BEST].append(sqnr_db(x, quantize(x, fmt, ratio)))
        quality[Scaling.BLOCK_ABSMAX].append(sqnr_db(x, quantize_blocks(x, fmt)))
        quality[Scaling.BLOCK_E8M0].append(sqnr_db(x, quantize_mx(x, fmt)))
    return [
        SqnrRow(name, count, fmt.name, s, ratios[s], statistics.median(quality[s]), len(tensors))
        for s in ratios
    ]
