# SPDX-License-Identifier: Apache-2.0
"""Quantization error by format, scaling and data, as signal-to-quantization-noise ratio.

    SQNR = 10 log10(sum x^2 / sum (x - x_hat)^2) dB

A format has a scale ``s``: ``x_hat = s * decode(encode(x / s))``, round to nearest even,
saturating. The clip ratio ``r`` is the share of the largest magnitude that the format's largest
value represents: ``s = r * max|x| / max_value``. At r = 1 (absmax) nothing saturates; below 1 large
values are clipped, and small ones get finer steps. `Scaling` lists the choices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.progress import counted
from fpsim.blocks.block_format import BlockFormat
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.names import get_format
from fpsim.studies.clipping import (
    ClipScan,
    best_clip,
    clip_curve,
    clip_ratios,
    decibels,
    finite_values,
    largest_value,
    levels,
)
from fpsim.studies.distributions import gaussian, laplace, samples

__all__ = [
    "BLOCK",
    "DISTRIBUTIONS",
    "FORMATS",
    "Scaling",
    "SqnrRow",
    "best_clip",
    "clip_curve",
    "clip_ratios",
    "data_label",
    "format_label",
    "gaussian",
    "laplace",
    "levels",
    "measure",
    "quantize",
    "samples",
    "sqnr_db",
]

#: The 4-bit formats of the study; ``int4s`` is INT4 without -8.
FORMATS: tuple[str, ...] = ("int4s", "e1m2", "e2m1", "e3m0")
#: The distributions of the study.
DISTRIBUTIONS: tuple[str, ...] = ("gaussian", "laplace")
#: Elements per scale of a block.
BLOCK = 32


class Scaling(StrEnum):
    """Kinds of a format's scales."""

    TENSOR_ABSMAX = "tensor-absmax"  #: one real scale, s = max|x| / max_value
    TENSOR_BEST = "tensor-best"  #: one real scale, at the clip ratio with the highest SQNR
    BLOCK_ABSMAX = "block-absmax"  #: a real scale per block of 32, s = max|block| / max_value
    BLOCK_E8M0 = "block-e8m0"  #: a power of two per block of 32, by the floor rule of OCP MX

    @property
    def label(self) -> str:
        """The scaling in words."""
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

    For several ``tensors``, the clip ratio and the SQNR are medians.
    """

    data: str
    samples: int
    format: str
    scaling: Scaling
    clip_ratio: float | None  #: None for E8M0 scales, each of which has its own
    sqnr_db: float
    tensors: int = 1


def format_label(name: str) -> str:
    """Return a format name as in figures: ``e2m1`` as E2M1, ``int4s`` as INT4."""
    upper = name.upper()
    return upper.removesuffix("S") if upper.startswith("INT") else upper


def data_label(name: str) -> str:
    """Return a data name as a heading: a plain word gets a capital letter."""
    return name.capitalize() if name.isalpha() else name


# -- quantizing ----------------------------------------------------------------------------------


def sqnr_db(x: ArrayLike, x_hat: ArrayLike) -> float:
    """Return the SQNR of ``x_hat`` in dB: inf if it equals ``x``, -inf if only ``x`` is zero.

    Raises:
        FpsimError: different shapes, or no values.
    """
    signal, other = np.asarray(x, dtype=np.float64), np.asarray(x_hat, dtype=np.float64)
    if signal.shape != other.shape or not signal.size:
        raise FpsimError(f"x_hat: shape {other.shape} does not fit x of shape {signal.shape}")
    return float(decibels(np.square(signal).sum(), np.square(signal - other).sum()))


def quantize(x: ArrayLike, fmt: str | Format, clip_ratio: float = 1.0) -> NDArray[np.float64]:
    """Round values to a format with one scale for all.

    Args:
        x: finite values of any shape.
        fmt: element format, or its name.
        clip_ratio: share of max |x| that the format's largest value represents.

    Returns:
        Rounded values of the shape of ``x``.

    Raises:
        FpsimError: values that are not finite, or a clip ratio that is not above zero.
    """
    target, values = get_format(fmt), finite_values(x)
    if not 0.0 < clip_ratio < math.inf:
        raise FpsimError(f"clip_ratio: {clip_ratio!r} is not a number above zero")
    largest = np.max(np.abs(values), initial=0.0)
    return _round(values, target, clip_ratio * largest / largest_value(target))


def _round(
    values: NDArray[np.float64], fmt: Format, scale: NDArray[np.float64] | np.float64
) -> NDArray[np.float64]:
    """Return the values rounded with given scales; a zero scale stands beside zeros only."""
    safe = np.where(scale > 0.0, scale, 1.0)
    return fmt.decode(fmt.encode(values / safe)) * safe


def _mx(rows: NDArray[np.float64], fmt: Format) -> NDArray[np.float64]:
    """Return rows, one block each, rounded with E8M0 scales by the floor rule."""
    element = _element(fmt)
    mx = BlockFormat(f"mx-{element.name}", element, rows.shape[1])
    return mx.dequantize(mx.quantize(rows))


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
        data: by name, an array, or a list of arrays such as the layers of a model. Each array has
            its own scales, and a row holds the median over a list: the power of all layers together
            may come from a few outliers. All-zero arrays of a list are left out. Blocks are
            consecutive values of a flattened array.
        formats: names or formats of at most 8 bits; integers must be symmetric.

    Raises:
        FpsimError: data that is empty, not finite or all zero, or a format of more than 8 bits or
            of asymmetric integers.
    """
    targets = [get_format(fmt) for fmt in formats]
    rows: list[SqnrRow] = []
    for name, value in counted(data.items()):
        try:
            tensors = _tensors(value)
            scans = [ClipScan(x) for x in tensors]
        except FpsimError as error:
            raise FpsimError(f"data {name!r}: {error}") from None
        blocks = _Blocks(tensors)
        for fmt in targets:
            rows += _rows(name, blocks, fmt, np.array([scan.best(fmt) for scan in scans]))
    return tuple(rows)


def _tensors(value: ArrayLike | Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    if isinstance(value, list | tuple) and value and isinstance(value[0], np.ndarray):
        arrays = [finite_values(array).reshape(-1) for array in value]
        return [array for array in arrays if array.any()] or arrays[:1]
    return [finite_values(value).reshape(-1)]


class _Blocks:
    """Tensors as rows, one block each, processed in one pass."""

    def __init__(self, tensors: Sequence[NDArray[np.float64]]) -> None:
        self.sizes = [x.size for x in tensors]
        counts = [-(-size // BLOCK) for size in self.sizes]
        self._starts = np.cumsum([0, *counts[:-1]])
        self._owner = np.repeat(np.arange(len(tensors)), counts)
        self.rows = np.zeros((sum(counts), BLOCK))
        self._padding = np.ones(self.rows.shape, dtype=bool)
        for x, start in zip(tensors, self._starts * BLOCK, strict=True):
            self.rows.reshape(-1)[start : start + x.size] = x
            self._padding.reshape(-1)[start : start + x.size] = False
        self.largest = np.abs(self.rows).max(axis=1, keepdims=True)
        self._signal = self._sums(self.rows)

    def of_tensor(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one value per tensor as a column with one value per row."""
        return values[self._owner, None]

    @property
    def tensor_largest(self) -> NDArray[np.float64]:
        """The largest magnitude of each tensor."""
        return np.maximum.reduceat(self.largest[:, 0], self._starts)

    def quality(self, x_hat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the SQNR of each tensor in dB."""
        return decibels(self._signal, self._sums(np.where(self._padding, 0.0, self.rows - x_hat)))

    def _sums(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.add.reduceat(np.square(rows).sum(axis=1), self._starts)


def _rows(name: str, blocks: _Blocks, fmt: Format, best: NDArray[np.float64]) -> list[SqnrRow]:
    x, largest = blocks.rows, largest_value(fmt)
    absmax = blocks.tensor_largest
    results: list[tuple[Scaling, float | None, NDArray[np.float64]]] = [
        (Scaling.TENSOR_ABSMAX, 1.0, _round(x, fmt, blocks.of_tensor(absmax / largest))),
        (
            Scaling.TENSOR_BEST,
            float(np.median(best)),
            _round(x, fmt, blocks.of_tensor(best * absmax / largest)),
        ),
        (Scaling.BLOCK_ABSMAX, 1.0, _round(x, fmt, blocks.largest / largest)),
        (Scaling.BLOCK_E8M0, None, _mx(x, fmt)),
    ]
    count, tensors = sum(blocks.sizes), len(blocks.sizes)
    return [
        SqnrRow(
            name, count, fmt.name, scaling, ratio, float(np.median(blocks.quality(x_hat))), tensors
        )
        for scaling, ratio, x_hat in results
    ]
