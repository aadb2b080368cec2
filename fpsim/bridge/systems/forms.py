# SPDX-License-Identifier: Apache-2.0
"""Forms: the computation of a linear layer in a system, as data.

    x' = maps(x)                                          in float32
    y' = sum_s unit(cast_s(x'[:, s]), W_s)                segments, added in their order in float32
       + sum side paths of x'                             in their order in float32
    y  = y' back + bias                                   in float32

A map with ``static`` true costs nothing at run time in the system's model, where it is folded into
a norm or into the layer before; here it is applied to the layer's input, with equal values up to
float32 roundings of the fold. The same holds for ``back``, which undoes a rotation of the output
that the system folds into the layer's weight and into the layers that read the output. Side paths
round their operands to ``precision`` and sum in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fpsim.bridge.cast import Cast
from fpsim.bridge.systems.hadamard import hadamard
from fpsim.formats.names import get_format
from fpsim.units.operands import Operand

__all__ = [
    "BlockHadamard",
    "Clamp",
    "Columns",
    "Divide",
    "Flatten",
    "FloatColumns",
    "InputMap",
    "LayerForm",
    "LowRank",
    "Matrix",
    "Segment",
    "SegmentProduct",
    "SidePath",
    "SparseWeights",
    "float_product",
]

Rows = NDArray[np.float32]


# -- maps of the input ---------------------------------------------------------------------------


class InputMap(Protocol):
    """A map of a layer's input and weight that does not change the output in real arithmetic."""

    linear: ClassVar[bool]  #: whether it is affine in the input

    @property
    def static(self) -> bool:
        """Whether the system folds the map into the modules before the layer."""

    def inputs(self, x: Rows) -> Rows:
        """Return mapped rows, (T, K) to (T, K')."""

    def weight(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weight for mapped inputs, (N, K) to (N, K')."""


@dataclass(frozen=True)
class Divide:
    """x' = (x - shift) / scale, W' = W diag(scale); W shift goes into the bias. Scales are (K,)."""

    scale: NDArray[np.float32]
    shift: NDArray[np.float32] | None = None
    static: bool = True

    linear: ClassVar[bool] = True

    def inputs(self, x: Rows) -> Rows:
        """Return shifted and scaled rows."""
        moved = x if self.shift is None else x - self.shift
        return np.asarray(moved / self.scale, np.float32)

    def weight(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weight's columns scaled."""
        return weight * self.scale


@dataclass(frozen=True)
class Matrix:
    """x' = x M with M (K, K'), W' = W M', where M M'^T = 1; M' is M unless ``dual`` is given.

    Matrices with fewer than K rows are applied to every part of so many columns, such as heads.
    """

    matrix: NDArray[np.float32]
    dual: NDArray[np.float32] | None = None
    static: bool = True

    linear: ClassVar[bool] = True

    def inputs(self, x: Rows) -> Rows:
        """Return rows times M."""
        parts = x.reshape(-1, len(self.matrix)) @ self.matrix
        return np.asarray(parts, np.float32).reshape(len(x), -1)

    def weight(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weight times M'."""
        dual = self.matrix if self.dual is None else self.dual
        parts = weight.reshape(-1, len(dual)) @ dual.astype(np.float64)
        return np.asarray(parts.reshape(len(weight), -1))


@dataclass(frozen=True)
class BlockHadamard:
    """Both operands times the normalised Hadamard matrix of ``size`` in blocks along K."""

    size: int
    static: bool = False

    linear: ClassVar[bool] = True

    def inputs(self, x: Rows) -> Rows:
        """Return rows rotated in blocks."""
        return self._turned(x, hadamard(self.size).astype(np.float32))

    def weight(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weight rotated in blocks."""
        return self._turned(weight, hadamard(self.size))

    def _turned(self, x: NDArray[Any], matrix: NDArray[Any]) -> NDArray[Any]:
        # As one product of many rows: numpy would multiply a stack of matrices one by one.
        return np.asarray((x.reshape(-1, self.size) @ matrix).reshape(x.shape))


@dataclass(frozen=True)
class Columns:
    """x'_j = x_columns[j]; W'_j = W_columns[j] share_j: a column may be dropped or repeated.

    Repeated columns have equal values, and their shares of the weight add up to one. ``dropped``
    columns are missing in the output: their mean goes into the bias.
    """

    columns: NDArray[np.int64]
    share: NDArray[np.float32]
    static: bool = True

    linear: ClassVar[bool] = True

    def inputs(self, x: Rows) -> Rows:
        """Return the columns of rows."""
        return np.ascontiguousarray(x[:, self.columns])

    def weight(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the columns' shares of the weight."""
        return np.asarray(weight[:, self.columns] * self.share)


@dataclass(frozen=True)
class Flatten:
    """FlattenQuant: column k becomes parts with sum x_k, all but the last within +-threshold.

    Part i of a value v is sign(v) min(max(|v| - i T, 0), T); the last part is not limited.
    """

    columns: NDArray[np.int64]
    part: NDArray[np.int64]
    last: NDArray[np.bool_]
    threshold: float
    static: bool = False

    linear: ClassVar[bool] = False

    def inputs(self, x: Rows) -> Rows:
        """Return the parts of rows."""
        values = x[:, self.columns]
        rest = np.maximum(np.abs(values) - self.part * np.float32(self.threshold), 0)
        cut = np.where(self.last, rest, np.minimum(rest, np.float32(self.threshold)))
        return np.asarray(np.copysign(cut, values), np.float32)

    def weight(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weight with each column repeated for the parts of its input."""
        return np.asarray(weight[:, self.columns])


# -- side paths ----------------------------------------------------------------------------------


class SidePath(Protocol):
    """A part of the output beside the unit."""

    linear: ClassVar[bool]  #: whether x' is unchanged and the part is linear in it

    def main(self, x: Rows) -> Rows:
        """Return x' (T, K') for the unit."""

    def output(self, x: Rows) -> Rows:
        """Return the side path's part of the output for x' (T, K'), (T, N)."""

    @property
    def macs(self) -> float:
        """Multiply-accumulates per row."""


def _rounded(x: NDArray[Any], precision: str) -> Rows:
    if precision == "e8m23":
        return np.asarray(x, np.float32)
    fmt = get_format(precision)
    return fmt.decode(fmt.encode(np.asarray(x), "rne", "saturate")).astype(np.float32)


@dataclass(frozen=True)
class FloatColumns:
    """Columns of x' times their weight (N, r) in a wider format."""

    columns: NDArray[np.int64]
    weight: NDArray[np.float32]
    precision: str = "e5m10"

    linear: ClassVar[bool] = True

    def main(self, x: Rows) -> Rows:
        """Return x': the segments leave these columns out."""
        return x

    def output(self, x: Rows) -> Rows:
        """Return x'[:, columns] weight^T."""
        part = _rounded(x[:, self.columns], self.precision)
        return np.asarray(part @ self._weight.T, np.float32)

    @cached_property
    def _weight(self) -> Rows:
        return _rounded(self.weight, self.precision)

    @property
    def macs(self) -> float:
        """Multiply-accumulates per row: all of the weight."""
        return self.weight.size


@dataclass(frozen=True)
class SparseWeights:
    """A few weights, added to the unit's weights: value at (row, column) of (N, K')."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]
    shape: tuple[int, int]
    precision: str = "e5m10"

    linear: ClassVar[bool] = True

    def main(self, x: Rows) -> Rows:
        """Return x' unchanged."""
        return x

    def output(self, x: Rows) -> Rows:
        """Return x' times the sparse weight."""
        return np.asarray(_rounded(x, self.precision) @ self._dense.T, np.float32)

    @cached_property
    def _dense(self) -> Rows:
        dense = np.zeros(self.shape, np.float32)
        dense[self.rows, self.columns] = _rounded(self.values, self.precision)
        return dense

    @property
    def macs(self) -> float:
        """Multiply-accumulates per row: one per weight."""
        return self.values.size


@dataclass(frozen=True)
class LowRank:
    """(x' down) up, with down (K', r) and up (r, N)."""

    down: NDArray[np.float32]
    up: NDArray[np.float32]
    precision: str = "e5m10"

    linear: ClassVar[bool] = True

    def main(self, x: Rows) -> Rows:
        """Return x' unchanged."""
        return x

    def output(self, x: Rows) -> Rows:
        """Return the product with both matrices."""
        middle = _rounded(x, self.precision) @ _rounded(self.down, self.precision)
        return np.asarray(
            _rounded(middle, self.precision) @ _rounded(self.up, self.precision), np.float32
        )

    @property
    def macs(self) -> float:
        """Multiply-accumulates of both products."""
        return self.down.size + self.up.size


@dataclass(frozen=True)
class Clamp:
    """Outlier clamping with compensation (arXiv 2501.17116): the unit gets x' within quantiles.

    The quantiles 1 - alpha and alpha are of the whole tensor, or with ``by_row`` of each row. The
    part beyond them is multiplied by ``weight`` (N, K') sparsely, beside the unit; without
    ``weight`` it is lost.
    """

    alpha: float
    weight: NDArray[np.float32] | None
    precision: str = "e4m3fn"
    by_row: bool = False

    linear: ClassVar[bool] = False

    def main(self, x: Rows) -> Rows:
        """Return clamped x'."""
        axis = 1 if self.by_row else None
        low, high = (
            np.quantile(x, q, axis=axis, keepdims=True) for q in (1 - self.alpha, self.alpha)
        )
        return np.asarray(np.clip(x, low, high), np.float32)

    def output(self, x: Rows) -> Rows:
        """Return the residual times the weight, or zeros without a weight."""
        if self.weight is None:
            return np.float32(0) * x[:, :1]
        rest = _rounded(x - self.main(x), self.precision)
        return np.asarray(rest @ self._weight.T, np.float32)

    @cached_property
    def _weight(self) -> Rows:
        assert self.weight is not None
        return _rounded(self.weight, self.precision)

    @property
    def macs(self) -> float:
        """Multiply-accumulates: one per value beyond the quantiles and output."""
        return 0 if self.weight is None else 2 * (1 - self.alpha) * self.weight.size


# -- the layer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """One product on the unit: columns of x' (None: all), cast, times codes; float if not cast.

    Raises:
        FpsimError: from `LayerForm.output`, an input that the cast refuses.
    """

    weight: Operand
    cast: Cast | None
    columns: NDArray[np.int64] | None = None

    def inputs(self, x: Rows) -> Rows:
        """Return the segment's columns of x'."""
        return x if self.columns is None else np.ascontiguousarray(x[:, self.columns])

    @cached_property
    def dense(self) -> Rows:
        """The weight's values in float32, (N, K)."""
        return self.weight.dequantize().astype(np.float32)


#: Multiplies a segment's inputs (T, K) by its weight: (number of the segment, segment, inputs).
SegmentProduct = Callable[[int, Segment, Rows], Rows]


def float_product(cast_inputs: bool = True) -> SegmentProduct:
    """Return float32 products of cast weights with cast inputs, or with float inputs."""

    def product(_: int, segment: Segment, x: Rows) -> Rows:
        if cast_inputs and segment.cast is not None:
            x = segment.cast.quantize(x).dequantize().astype(np.float32)
        return np.asarray(x @ segment.dense.T, np.float32)

    return product


@dataclass(frozen=True)
class LayerForm:
    """The computation of a layer; ``error`` is the output's squared error over its power."""

    segments: tuple[Segment, ...]
    maps: tuple[Any, ...] = ()  #: each an `InputMap`
    sides: tuple[Any, ...] = ()  #: each a `SidePath`
    bias: NDArray[np.float32] | None = None
    back: NDArray[np.float32] | None = None
    error: float = 0.0

    def without_caches(self) -> LayerForm:
        """Return an equal form whose weights are not held in float32 beside their codes."""
        segments, sides = (tuple(map(replace, part)) for part in (self.segments, self.sides))
        return replace(self, segments=segments, sides=sides)

    def mapped(self, x: Rows) -> Rows:
        """Return x' of rows (T, K)."""
        for step in self.maps:
            x = step.inputs(x)
        return x

    def output(self, x: Rows, product: SegmentProduct) -> Rows:
        """Return the output (T, N) for rows (T, K); ``product`` multiplies the segments."""
        mapped = main = self.mapped(x)
        for side in self.sides:
            main = side.main(main)
        out: Rows | None = None
        for number, segment in enumerate(self.segments):
            part = product(number, segment, segment.inputs(main))
            out = part if out is None else out + part
        assert out is not None
        for side in self.sides:
            out = out + side.output(mapped)
        if self.back is not None:
            out = np.asarray(out @ self.back, np.float32)
        return out if self.bias is None else out + self.bias

    @property
    def macs(self) -> tuple[float, float]:
        """Multiply-accumulates per row: on the unit, and in side paths."""
        unit = sum(segment.weight.codes.size for segment in self.segments)
        return unit, sum(side.macs for side in self.sides)
