# SPDX-License-Identifier: Apache-2.0
"""Quartet (arXiv 2505.14669) on MXFP4 and Quartet II (2601.22813) on NVFP4.

Both compute the gradients of the numbers that the forward pass multiplied: w of dgrad and x of
wgrad are the forward FP4 values, rotated along the new axis and cast once more.
"""

from __future__ import annotations

from dataclasses import dataclass

from fpsim.blocks.block_format import get_block_format
from fpsim.bridge.recipe import register
from fpsim.bridge.training.casts import (
    RANDOM_BITS,
    EdenCast,
    FormatCast,
    QuestCast,
    UnclippedMxCast,
)
from fpsim.bridge.training.recipe import OperandCast, ProductCasts, TrainingCasts, TrainingRecipe
from fpsim.bridge.training.rotation import Rotation
from fpsim.bridge.training.slopes import TrustMask

__all__ = ["QuartetSecondTraining", "QuartetTraining"]


@dataclass(frozen=True)
class QuartetTraining(TrainingRecipe):
    """Quartet: Hadamard 32 and QuEST scales forward; gradients with fresh signs, stochastic.

    Gradients are never clipped, the forward casts round to nearest.

    ``mask`` stops the gradient of elements that the forward cast clipped, which are not below 6
    over their scale.
    """

    mask: bool = True
    random_bits: int = RANDOM_BITS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training("")

    def training(self, layer: str) -> TrainingCasts:
        """Return the casts, equal for every layer."""
        quest, stochastic = QuestCast(), UnclippedMxCast(random_bits=self.random_bits)
        forward = ProductCasts(OperandCast(quest), OperandCast(quest), Rotation(32))
        gradient = ProductCasts(
            OperandCast(stochastic), OperandCast(stochastic, "forward"), Rotation(32, "fresh")
        )
        slope = TrustMask() if self.mask else None
        return TrainingCasts(forward, gradient, gradient, slope, slope)


@dataclass(frozen=True)
class QuartetSecondTraining(TrainingRecipe):
    """Quartet II: Four Over Six forward; gradients by EDEN behind Hadamards with fresh signs.

    ``group`` is the width of the Hadamard matrix; gradients round to nearest.
    """

    group: int = 128
    random_bits: int = RANDOM_BITS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training("")

    def training(self, layer: str) -> TrainingCasts:
        """Return the casts, equal for every layer."""
        four = OperandCast(FormatCast(get_block_format("fouroversix")))
        eden = EdenCast(self.group, random_bits=self.random_bits)
        gradient = ProductCasts(
            OperandCast(eden), OperandCast(eden, "forward"), Rotation(self.group, "fresh")
        )
        return TrainingCasts(ProductCasts(four, four), gradient, gradient)


register("quartet")(QuartetTraining)
register("quartet-ii")(QuartetSecondTraining)
