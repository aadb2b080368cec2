# SPDX-License-Identifier: Apache-2.0
"""any4 (arXiv 2507.04610): weights with a table of 16 learned values per output channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.bridge.recipe import register
from fpsim.bridge.systems.forms import LayerForm, Segment
from fpsim.bridge.systems.recipe import GroupData, SystemRecipe
from fpsim.bridge.systems.tables import learn_tables

__all__ = ["AnyFourRecipe"]


@dataclass(frozen=True)
class AnyFourRecipe(SystemRecipe):
    """any4: weights scaled per group and clustered per row; inputs stay float16.

    Source: arXiv 2507.04610 and its code; equations at `fpsim.bridge.systems.tables`. ``group``
    columns share a scale and an offset. ``weighted=false`` clusters without weighting by mean
    magnitudes of inputs from calibration. ``inputs`` is any cast that a unit multiplies; the paper
    has float16. Offsets are added to the unit's sums exactly.
    """

    inputs: str = "fp16"
    group: int = 128
    weighted: bool = True

    keeps_hessian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group < 2:
            raise FpsimError(f"recipe: group: {self.group!r} is not an integer of at least 2")

    @property
    def reads_inputs(self) -> bool:
        """Whether calibration needs inputs at all."""
        return self.weighted

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form with one segment per layer."""
        return {name: self._layer(group, name) for name in group.names}

    def _layer(self, group: GroupData, name: str) -> LayerForm:
        found = group.statistics.get(name)
        importance = found.mean_magnitude if self.weighted and found is not None else None
        weight = group.weights[name].astype(np.float32)
        tables = learn_tables(weight, self.group, importance)
        return LayerForm((Segment(tables.operand(), self.input_cast()),))


register("any4")(AnyFourRecipe)
