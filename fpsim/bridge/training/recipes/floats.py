# SPDX-License-Identifier: Apache-2.0
"""Operands without scales: bfloat16 as reference for low precision, float32 for everything."""

from __future__ import annotations

from dataclasses import dataclass

from fpsim.base.errors import FpsimError
from fpsim.bridge.recipe import register
from fpsim.bridge.training.casts import ElementCast
from fpsim.bridge.training.recipe import OperandCast, ProductCasts, TrainingCasts, TrainingRecipe
from fpsim.formats.floating import FloatFormat

__all__ = ["FloatTraining"]


@dataclass(frozen=True)
class FloatTraining(TrainingRecipe):
    """All six operands in one floating-point ``element``, rounded to nearest."""

    element: str = "e8m7"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(ElementCast(self.element).element, FloatFormat):
            raise FpsimError(f"recipe: element: {self.element!r} is no floating-point format")

    def training(self, layer: str) -> TrainingCasts:
        """Return the casts, equal for every layer."""
        operand = OperandCast(ElementCast(self.element))
        casts = ProductCasts(operand, operand)
        return TrainingCasts(casts, casts, casts)


register("bf16-train", element="e8m7")(FloatTraining)
register("float32-train", element="e8m23")(FloatTraining)
