# SPDX-License-Identifier: Apache-2.0
"""Systems that treat outliers separately: QUIK's columns, SpQR's weights, OCC's activations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.bridge.cast import Cast
from fpsim.bridge.product import float_rows
from fpsim.bridge.recipe import Recipe, register
from fpsim.bridge.recipes.gptq import SEARCH, weight_cast
from fpsim.bridge.systems.casts import input_cast
from fpsim.bridge.systems.forms import Clamp, FloatColumns, LayerForm, Segment, SparseWeights
from fpsim.bridge.systems.gptq import gptq, inverse_factor
from fpsim.bridge.systems.grids import FrozenGrid
from fpsim.bridge.systems.recipe import BlockData, GroupData, SystemRecipe
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.names import get_format
from fpsim.units.operands import Operand, Scales

__all__ = ["OccRecipe", "QuikRecipe", "SpqrGrid", "SpqrRecipe"]


# -- QUIK ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QuikRecipe(SystemRecipe):
    """QUIK: input channels of the largest magnitudes stay FP16, the others are INT4 times INT4.

    Source: arXiv 2310.09259 and its code. A layer's columns are sorted by their largest calibration
    input; the last ``columns`` (default: a sixteenth of K, as 256 of 4096) stay FP16. GPTQ runs in
    that order, so these columns take up the error of all others. The other weights have a symmetric
    scale per output channel with a search for a clipped range, the other inputs a zero point per
    token, both found without the FP16 columns. Layers that end an MLP are 8 by 8 bits, with columns
    times K / width in whole numbers (``wide=false``: 4 by 4). Equation: y = s_x s_w (sum q_x q_w -
    z sum q_w) + X_O W_O^T.

    Deviations: integer zero points (the kernels keep the float minimum); calibration on the given
    batches, not on two data sets.
    """

    inputs: str = "int4-asym"
    element: str = "int4"
    columns: int = 0
    wide: bool = True
    apart: bool = True
    damping: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.columns < 0:
            raise FpsimError(f"recipe: columns: {self.columns!r} is not a number from 0 on")
        weight_cast(self.element)

    def begin_block(self, data: BlockData) -> dict[str, Any]:
        """Return the width of the residual stream."""
        return {"width": int(data.states[0].shape[-1])}

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form per layer with a segment and FP16 columns."""
        width = int(group.shared.get("width", group.width))
        count = self.columns or max(width // 16, 1)
        wide = self.wide and group.ends_mlp and group.number >= 0
        if group.ends_mlp:
            count *= max(group.width // width, 1)
        if not self.apart:
            count = 0
        count = min(count, group.width)
        return {name: self._layer(group, name, count, wide) for name in group.names}

    def _layer(self, group: GroupData, name: str, count: int, wide: bool) -> LayerForm:
        statistics, weight = group.statistics[name], group.weights[name]
        order = np.argsort(statistics.maxima, kind="stable")
        end = group.width - count
        columns, outliers = order[:end], order[end:]
        sides: tuple[Any, ...] = ()
        cast = weight_cast("int8" if wide else self.element, SEARCH)
        grid = FrozenGrid(cast, weight[:, columns] if end else weight[:, :1])
        hessian = statistics.hessian[np.ix_(order, order)]
        found = gptq(weight[:, order], hessian, grid, damping=self.damping, keep=count)
        if count:
            sides = (FloatColumns(outliers, found.values[:, end:].astype(np.float32)),)
        inputs = input_cast("int8-asym") if wide else self.input_cast()
        if not end:  # the unit has only a column of zeros
            grid.codes[:] = grid.nearest.format.encode(0.0)
            columns = order[:1]
        segment = Segment(grid.operand(), inputs, columns)
        return LayerForm((segment,), sides=sides)


# -- SpQR ----------------------------------------------------------------------------------------

#: Steps of zero points per quantization step: eighths, so that code minus zero is one fixed-point
#: element.
_ZERO_LSB = -3


class SpqrGrid:
    """SpQR's grid: groups of g columns, scale and zero point of 3 bits each, by 16 rows.

    A group's range is fitted without the values that harm the others most: leaving out such a value
    lowers the error of the others, weighted by 1 / U_jj^2, by more than ``threshold``. Scales and
    zero points are then rounded to 3 bits, asymmetrically over 16 consecutive rows; scales once
    more to FP16, zero points to eighths of a step.

    Args:
        shape: shape of the weight, (N, K).
        group: columns per scale.
        bits: bits of codes.
        threshold: threshold of the gain; infinite: no outliers.
        second: bits of scales and zero points; 0: they are not rounded to so few bits.
    """

    def __init__(
        self, shape: tuple[int, int], group: int, bits: int, threshold: float, second: int = 3
    ) -> None:
        if group < 1 or shape[1] % group:
            raise FpsimError(f"recipe: group: {group} columns do not divide the layer's {shape[1]}")
        self.group, self.bits, self.threshold, self.second = group, bits, threshold, second
        count = shape[1] // group
        self.scale, self.zero = np.ones((shape[0], count)), np.zeros((shape[0], count))
        self.values = np.zeros(shape)  #: code minus zero
        self.format = get_format("e5m10")

    @property
    def levels(self) -> int:
        """Steps of a range."""
        return (1 << self.bits) - 1

    def start(
        self, first: int, values: NDArray[np.float64], importance: NDArray[np.float64]
    ) -> None:
        """Fit a group without the values that harm the others most.

        Args:
            first: the group's first column.
            values: the group's updated columns, (N, g).
            importance: 1 / U_jj^2 of the columns, (g,).
        """
        outlier = leave_one_out(values, importance, self.levels) > self.threshold
        kept = np.where(outlier, 0, values)
        rest = kept.sum(1, keepdims=True) / np.maximum((~outlier).sum(1, keepdims=True), 1)
        scale, zero = _float_range(np.where(outlier, rest, values), self.levels)
        if self.second:
            scale = _in_few_bits(scale, self.second)
            zero = _in_few_bits(zero, self.second)
        scale = self.format.decode(self.format.encode(scale, "rne", "saturate"))
        at = first // self.group
        self.scale[:, at] = np.where(scale > 0, scale, 1.0)[:, 0]
        self.zero[:, at] = np.rint(np.ldexp(zero, -_ZERO_LSB))[:, 0] * 2.0**_ZERO_LSB

    def round(self, column: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the nearest values."""
        at = column // self.group
        scale, zero = self.scale[:, at], self.zero[:, at]
        found = np.clip(np.rint(values / scale + zero), 0, self.levels) - zero
        self.values[:, column] = found
        return np.asarray(found * scale)

    def forget(self, column: int, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Set some rows of a column to the values nearest to zero, and return the column."""
        at = column // self.group
        found = self.round(column, np.zeros(self.values.shape[0]))
        self.values[~rows, column] = 0  # the caller rounds the other rows again
        return np.where(rows, found, 0 * self.scale[:, at])

    def operand(self) -> Operand:
        """Return the dense part as an operand."""
        largest = max(float(np.abs(self.values).max()), 1.0)
        width = int(np.ceil(np.log2(largest + 1))) + 1 - _ZERO_LSB
        element = FixedFormat(width, _ZERO_LSB)
        assert isinstance(self.format, FloatFormat)
        codes = element.encode(self.values)
        if self.group == self.values.shape[1]:
            return Operand(codes, element, factor=self.scale.astype(np.float32))
        scales = Scales.of_rows(self.format.encode(self.scale), self.format, self.group)
        return Operand(codes, element, scales)


def _float_range(
    values: NDArray[np.float64], levels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and float zero point of rows (..., g) without zero in the range, (..., 1)."""
    low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
    scale = (high - low) / levels
    scale = np.where(scale > 0, scale, np.maximum(np.abs(high), 1e-12) / levels)
    return scale, -low / scale


def leave_one_out(
    values: NDArray[np.float64], importance: NDArray[np.float64], levels: int
) -> NDArray[np.float64]:
    """Return the gain of leaving out each value of a group, (N, g).

    Args:
        values: (N, g).
        importance: weights of squared errors, (g,).
        levels: steps of the range.

    Returns:
        Error of all values, minus the error of the others with a range fitted to the others alone.
    """

    def error(part: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        scale, zero = _float_range(part, levels)
        back = (np.clip(np.rint(part / scale + zero), 0, levels) - zero) * scale
        return np.asarray(((back - part) ** 2 * weights).sum(-1))

    width = values.shape[1]
    whole = error(values, importance)
    gains = np.zeros_like(values)
    for j in range(width):
        others = np.arange(width) != j
        gains[:, j] = whole - error(values[:, others], importance[others])
    return gains


def _in_few_bits(values: NDArray[np.float64], bits: int, rows: int = 16) -> NDArray[np.float64]:
    """Round (N, 1) to ``bits`` bits, asymmetric over so many consecutive rows."""
    out = values.copy()
    for first in range(0, len(values), rows):
        part = values[first : first + rows].T
        scale, zero = _float_range(part, (1 << bits) - 1)
        out[first : first + rows] = (
            (np.clip(np.rint(part / scale + zero), 0, (1 << bits) - 1) - zero) * scale
        ).T
    return out


@dataclass(frozen=True)
class SpqrRecipe(SystemRecipe):
    """SpQR: small groups whose scales have 3 bits, and about 1 % of the weights kept sparse.

    Source: arXiv 2306.03078 and its code. ``threshold`` tau: a weight is an outlier if its squared
    error over U_jj^2 exceeds tau times the mean over columns of var(W_:j) / U_jj^2; it is kept in
    FP16, and its error is not passed to later columns. Groups as in `SpqrGrid`. Weights only:
    ``inputs`` is the cast of inputs for the unit. ``sparse=false``: no outliers.

    Deviations: columns in natural order, so groups are blocks; GPTQ's usual damping share of 1 is
    added before unused inputs are repaired; zero points in eighths; sparse values are added to the
    dense ones and do not replace them.
    """

    inputs: str = "fp16"
    bits_per_code: int = 4
    group: int = 16
    threshold: float = 0.2
    second: int = 3
    damping: float = 1.0
    sparse: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.bits_per_code <= 8:
            raise FpsimError(f"recipe: bits_per_code: {self.bits_per_code!r} is not in 2..8")

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form per layer with a segment and a sparse side path."""
        return {name: self._layer(group, name) for name in group.names}

    def _layer(self, group: GroupData, name: str) -> LayerForm:
        weight, hessian = group.weights[name], group.statistics[name].hessian
        alive = hessian.copy()
        dead = np.diag(alive) == 0
        alive[dead, dead] = 1
        factor, _ = inverse_factor(alive, self.damping)
        spread = float((weight.var(axis=0) / np.diag(factor) ** 2).mean())
        limit = self.threshold * spread if self.sparse else np.inf
        shape = (weight.shape[0], weight.shape[1])
        grid = SpqrGrid(shape, self.group, self.bits_per_code, limit, self.second)
        outliers = np.zeros(shape, bool)
        exact = np.zeros(shape)

        def keep(
            column: int, values: NDArray[np.float64], found: NDArray[np.float64], pivot: float
        ) -> NDArray[np.float64]:
            far = ((values - found) / pivot) ** 2 > limit
            outliers[:, column], exact[:, column] = far, np.where(far, values, 0)
            return np.where(far, values, found)

        gptq(weight, hessian, grid, damping=self.damping, hook=keep)
        dense = grid.values * np.repeat(grid.scale, self.group, axis=1)
        rows, columns = np.nonzero(outliers)
        missing = (exact - dense)[rows, columns].astype(np.float32)
        side = SparseWeights(rows, columns, missing, shape)
        return LayerForm(
            (Segment(grid.operand(), self.input_cast()),), sides=(side,) if len(rows) else ()
        )


# -- OCC -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OccRecipe(Recipe):
    """FP4 training's forward pass: inputs clamped at quantiles, the rest beside the unit.

    Source: arXiv 2501.17116 (section 3.2) and MS-AMP. Inputs are clamped at the quantiles 1 - alpha
    and alpha of the whole tensor; the residual, about 2 (1 - alpha) of the values, is multiplied in
    ``residual`` precision (FP8; ``none``: it is lost, as in the released code by default). Clamped
    inputs have a scale per token, weights per output channel. By default the residual is multiplied
    by the cast weight (``exact_weight=true``: by the float weight, as in the paper). ``alpha=1``:
    no clamping. ``by_token``: quantiles of each token, as in the code, so that tokens are
    independent.

    Deviations: ties go to even; the released look-up rounds them up.
    """

    element: str = "e2m1"
    alpha: float = 0.99
    residual: str = "e4m3fn"
    exact_weight: bool = False
    by_token: bool = False
    _cast: Any = field(default=None, init=False, repr=False, compare=False)

    has_forms: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.5 < self.alpha <= 1:
            raise FpsimError(f"recipe: alpha: {self.alpha!r} is not above 0.5 and at most 1")
        if self.residual != "none":
            get_format(self.residual)
        object.__setattr__(self, "_cast", weight_cast(self.element))

    def weight(self, layer: str) -> Cast | None:
        """Return the cast of weights."""
        cast: Cast = self._cast
        return cast

    def activation(self, layer: str) -> Cast | None:
        """Return the cast of clamped inputs."""
        cast: Cast = self._cast
        return cast

    def form(self, layer: str, weight: torch.Tensor) -> LayerForm:
        """Return the layer's form."""
        rows = float_rows(weight)
        operand = self._cast.quantize(rows)
        beside = rows if self.exact_weight else operand.dequantize().astype(np.float32)
        sides: tuple[Any, ...] = ()
        if self.alpha < 1:
            kept = None if self.residual == "none" else beside
            precision = "e8m23" if kept is None else self.residual
            sides = (Clamp(self.alpha, kept, precision, self.by_token),)
        return LayerForm((Segment(operand, self._cast),), sides=sides)


register("quik")(QuikRecipe)
register("spqr")(SpqrRecipe)
register("fp4-train-infer")(OccRecipe)
