# SPDX-License-Identifier: Apache-2.0
"""Optimizing LLM training using FP4 quantization (arXiv 2501.17116): DGE and OCC.

Forward: w and x in E2M1 with a real scale per output channel and per token; x is clamped at
quantiles first and the rest multiplied beside it. Backward: E5M2 gradients times E4M3, one scale
per tensor; the gradient of w is multiplied by the derivative of a smooth function that stands for
its cast.

Each deviation of MS-AMP's code from the paper is an option, and ``fp4-dge-occ-msamp`` sets all:

    scale=power             powers of two, which leave the largest magnitude in (3, 6]
    weight_scale=input      scales of w per input channel; they vary along the sum, so w is then
                            multiplied as E4M3 (through)
    clamp=token             quantiles of each token, from its sorted elements
    residual=false          the residual of the clamp is lost
    compare=bfloat16        elements are compared with midpoints in bfloat16
    through=e4m3fn          the FP4 values are cast to E4M3 with one scale per tensor and multiplied
                            so (which scale is not said; here amax / 448)
    beyond=last-interval    slopes outside of the grid, see `DifferentiableGradient`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.bridge.recipe import FLOAT_BITS, register
from fpsim.bridge.training.casts import (
    E2M1,
    ElementCast,
    FormatCast,
    RowMaximumCast,
    TrainingCast,
    scaled_rows,
)
from fpsim.bridge.training.outliers import OutlierClamp, per_tensor
from fpsim.bridge.training.randomness import Randomness
from fpsim.bridge.training.recipe import OperandCast, ProductCasts, TrainingCasts, TrainingRecipe
from fpsim.bridge.training.slopes import DifferentiableGradient, grid_values
from fpsim.formats.floating import Format
from fpsim.units.operands import Operand

__all__ = ["DgeOccTraining", "ThroughCast"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ThroughCast:
    """FP4 values cast to a wider element with one scale per tensor, as MS-AMP does.

    ``columns`` gives the FP4 scales to the columns of the rows.
    """

    inner: RowMaximumCast
    through: str = "e4m3fn"
    columns: bool = False
    along: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    @property
    def element(self) -> Format:
        """Element format of the codes."""
        return self._wide.element

    @property
    def _wide(self) -> FormatCast:
        return FormatCast(per_tensor(self.through))

    def quantize(self, rows: Floats, randomness: Randomness) -> Operand:
        """Return rows as an operand."""
        cast = self.inner.quantize(self._turned(rows), randomness).dequantize().astype(np.float32)
        return self._wide.quantize(self._turned(cast), randomness)

    def grid_units(self, rows: Floats, operand: Operand) -> Floats:
        """Return rows over the scales of their FP4 values."""
        turned = self._turned(rows)
        return self._turned(scaled_rows(turned, self.inner.factor(turned)))

    def _turned(self, rows: Floats) -> Floats:
        return np.ascontiguousarray(rows.T) if self.columns else rows


@dataclass(frozen=True)
class DgeOccTraining(TrainingRecipe):
    """FP4 training by a differentiable gradient estimator (DGE) and clamped outliers (OCC).

    Source: arXiv 2501.17116; deviations of its code in MS-AMP are options.

    ``k`` and ``cap`` are parameters of the estimator (``estimator=ste``: none), ``share`` the
    quantile of the clamp (1: no clamp), ``residual_weight`` the residual's second operand: the
    weight as ``cast``, or the ``master`` in E4M3. The bits are E/W/A: ``fp4-dge-occ@16/4/16``
    leaves inputs in bfloat16 and ``@16/16/4`` weights.
    """

    k: int = 5
    cap: float = 3.0
    estimator: str = "dge"
    share: float = 0.99
    residual: bool = True
    residual_weight: str = "cast"
    scale: str = "max"
    weight_scale: str = "output"
    clamp: str = "tensor"
    compare: str = "float32"
    through: str = "none"
    beyond: str = "zero"
    gradient: str = "e5m2"

    uses_bits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choose("estimator", ("dge", "ste"))
        self.choose("scale", ("max", "power"))
        self.choose("weight_scale", ("output", "input"))
        self.choose("compare", ("float32", "bfloat16"))
        self.choose("through", ("none", "e4m3fn"))
        self.choose("gradient", ("e5m2", "e4m3fn"))
        for width in (self.bits.weight, self.bits.activation):
            if width != 4 and width not in FLOAT_BITS:
                raise FpsimError(f"bits: {width!r} is not one of 4, 16 (bfloat16)")
        if self.weight_scale == "input" and self.through == "none":
            raise FpsimError("recipe: weight_scale: 'input' needs through=e4m3fn")
        self.training("")

    def training(self, layer: str) -> TrainingCasts:
        """Return the casts, equal for every layer."""
        wide_x, wide_w = (w in FLOAT_BITS for w in (self.bits.activation, self.bits.weight))
        x, w = self._cast(wide_x, False), self._cast(wide_w, self.weight_scale == "input")
        e = OperandCast(FormatCast(per_tensor(self.gradient)))
        values = FormatCast(per_tensor("e4m3fn"))
        slope = outliers = None
        if self.estimator == "dge" and not wide_w:
            slope = DifferentiableGradient(grid_values(E2M1), self.k, self.cap, self.beyond)
        if self.share < 1 and not wide_x:
            more: dict[str, Any] = {"weight": self.residual_weight}
            outliers = OutlierClamp(self.share, self.clamp, self.residual, **more)
        return TrainingCasts(
            forward=ProductCasts(OperandCast(x), OperandCast(w)),
            dgrad=ProductCasts(e, OperandCast(values, "forward")),
            wgrad=ProductCasts(e, OperandCast(values)),
            weight_slope=slope,
            outliers=outliers,
        )

    def _cast(self, wide: bool, columns: bool) -> TrainingCast:
        if wide:
            return ElementCast("e8m7")
        inner = RowMaximumCast(self.scale == "power", self.compare == "bfloat16")
        return inner if self.through == "none" else ThroughCast(inner, self.through, columns)


register("fp4-dge-occ")(DgeOccTraining)
register(
    "fp4-dge-occ-msamp", scale="power", weight_scale="input", clamp="token", residual=False,
    compare="bfloat16", through="e4m3fn", beyond="last-interval",
)(DgeOccTraining)  # fmt: skip
