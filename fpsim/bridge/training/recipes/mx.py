# SPDX-License-Identifier: Apache-2.0
"""MX formats in training: MXFP4 with stochastic rounding, and MXFP8 as the control.

mxfp4-train    arXiv 2502.20586: gradients' operands rotated, unclipped, stochastic
mxfp8-train    arXiv 2506.08027: E4M3 everywhere, scales rounded up
"""

from __future__ import annotations

from dataclasses import dataclass

from fpsim.blocks.block_format import get_block_format
from fpsim.bridge.recipe import register
from fpsim.bridge.training.casts import RANDOM_BITS, FormatCast, UnclippedMxCast
from fpsim.bridge.training.recipe import OperandCast, ProductCasts, TrainingCasts, TrainingRecipe
from fpsim.bridge.training.rotation import Rotation

__all__ = ["Mxfp4Training", "Mxfp8Training"]


@dataclass(frozen=True)
class Mxfp4Training(TrainingRecipe):
    """MXFP4 forward to nearest; both operands of both gradients stochastic and never clipped.

    ``hadamard`` is the size of the gradients' rotation with fresh signs (0: none), ``rule`` the
    forward pass's scale rule. In the paper the forward pass is wider; here all products are FP4.
    """

    hadamard: int = 64
    rule: str = "floor"
    random_bits: int = RANDOM_BITS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training("")

    def training(self, layer: str) -> TrainingCasts:
        """Return the casts, equal for every layer."""
        nearest = OperandCast(FormatCast(get_block_format("mxfp4").with_rule(self.rule)))
        stochastic = OperandCast(UnclippedMxCast(random_bits=self.random_bits))
        rotation = Rotation(self.hadamard, "fresh") if self.hadamard else None
        gradient = ProductCasts(stochastic, stochastic, rotation)
        return TrainingCasts(ProductCasts(nearest, nearest), gradient, gradient)


@dataclass(frozen=True)
class Mxfp8Training(TrainingRecipe):
    """MXFP8 to nearest in all products; ``gradient`` is the element of gradients, e4m3 or e5m2."""

    gradient: str = "e4m3"
    rule: str = "rceil"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choose("gradient", ("e4m3", "e5m2"))
        self.training("")

    def training(self, layer: str) -> TrainingCasts:
        """Return the casts, equal for every layer."""
        values, gradients = (
            OperandCast(FormatCast(get_block_format(f"mxfp8-{element}").with_rule(self.rule)))
            for element in ("e4m3", self.gradient)
        )
        backward = ProductCasts(gradients, values)
        return TrainingCasts(ProductCasts(values, values), backward, backward)


register("mxfp4-train")(Mxfp4Training)
register("mxfp8-train")(Mxfp8Training)
