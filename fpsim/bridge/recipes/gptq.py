# SPDX-License-Identifier: Apache-2.0
"""GPTQ (arXiv 2210.17323) on integers and on any grid; MR-GPTQ (arXiv 2509.23202, FP-Quant)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.blocks.block_format import BLOCK_FORMATS, get_block_format
from fpsim.bridge.cast import BlockCast, Cast
from fpsim.bridge.recipe import register
from fpsim.bridge.systems.casts import GridCast, RangeCast
from fpsim.bridge.systems.forms import BlockHadamard, LayerForm, Segment
from fpsim.bridge.systems.gptq import gptq
from fpsim.bridge.systems.grids import FrozenGrid, GroupGrid
from fpsim.bridge.systems.hadamard import hadamard_size
from fpsim.bridge.systems.recipe import GroupData, SystemRecipe
from fpsim.formats.names import get_format
from fpsim.units.operands import Operand

__all__ = ["GptqRecipe", "MrGptqRecipe", "WeightOptions", "rounded", "weight_cast"]

#: Steps of GPTQ's search for a clipped range.
SEARCH = 80


def weight_cast(element: str, search: int = 0) -> Cast:
    """Return the cast of weights, per output channel or in blocks, named by a recipe's option.

    Args:
        element: ``int4`` (symmetric, max / 7), ``int4-asym``, another element format, or a block
            format.
        search: number of shares of each row's range to try, for scales per row.

    Returns:
        The cast.

    Raises:
        FpsimError: another text.
    """
    if element in BLOCK_FORMATS:
        return BlockCast(get_block_format(element))
    if element.endswith("-asym") and element[:-5].removeprefix("int").isdecimal():
        return RangeCast(int(element[3:-5]))
    name = f"{element}s" if element.removeprefix("int").isdecimal() else element
    return GridCast(get_format(name), search=search)


def rounded(
    weight: NDArray[np.float64],
    hessian: NDArray[np.float64] | None,
    cast: Cast,
    options: WeightOptions,
) -> tuple[Operand, str]:
    """Round a weight (N, K) by GPTQ or, if the options say so, to nearest.

    Args:
        weight: (N, K).
        hessian: (K, K); None: round to nearest.
        cast: the cast whose scales are fixed.
        options: solver, order and damping.

    Returns:
        The operand and, if more damping was needed than requested, a remark.
    """
    if hessian is None or not options.solver:
        return cast.quantize(weight.astype(np.float32)), ""
    grid = FrozenGrid(cast, weight)
    order = options.order_of(hessian)
    found = gptq(weight, hessian, grid, damping=options.damping, order=order)
    more = found.damping > options.damping
    return grid.operand(), f"damped by {found.damping:g}" if more else ""


@dataclass(frozen=True)
class WeightOptions:
    """Rounding of a weight: ``solver`` (false: to nearest), ``order``, ``damping``."""

    solver: bool = True
    order: str = "natural"
    damping: float = 0.01

    def order_of(self, hessian: NDArray[np.float64]) -> NDArray[np.int64] | None:
        """Return the order of columns: None, or by falling second moment."""
        if self.order == "natural":
            return None
        return np.argsort(-np.diag(hessian), kind="stable")


@dataclass(frozen=True)
class GptqRecipe(SystemRecipe):
    """GPTQ: weights rounded column by column against the inputs' second moments.

    Source: arXiv 2210.17323 and its code; equations at `fpsim.bridge.systems.gptq`. The paper's
    setting is INT4 with a zero point per output channel and FP16 inputs; here ``element`` may be
    any element (``int4`` symmetric, ``int4-asym``, ``e2m1``) or block format (``mxfp4``, ``nvfp4``,
    ...), and ``inputs`` any cast that a unit multiplies. ``group``: integers with a scale and zero
    point per so many columns, fitted at the group's first column from the weights updated by then
    (the official code reads weights that are up to 127 columns old). ``order``: ``natural``, or
    ``activation``: by falling second moment, with all scales fixed first ("static groups").
    ``solver=false`` rounds to nearest on the same grid. A singular second moment is damped ten
    times more, with a note.
    """

    inputs: str = "fp16"
    element: str = "int4-asym"
    group: int = 0
    order: str = "natural"
    damping: float = 0.01
    search: bool = False
    solver: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in ("natural", "activation"):
            raise not_one_of("recipe: order", self.order, ("natural", "activation"))
        if not 0 <= self.damping <= 10:
            raise FpsimError(f"recipe: damping: {self.damping!r} is not in 0..10")
        if self.group and not self.element.startswith("int"):
            raise FpsimError("recipe: group: only integers are fitted in groups")
        if self.group and self.order != "natural" and self.solver:
            raise FpsimError("recipe: order: groups that are fitted on the way need natural order")
        weight_cast(self.element)

    @property
    def reads_inputs(self) -> bool:
        """Whether calibration needs inputs at all; not for rounding to nearest."""
        return self.solver

    @property
    def options(self) -> WeightOptions:
        """Options of the rounding."""
        return WeightOptions(self.solver, self.order, self.damping)

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form with one segment per layer."""
        return {name: self._layer(group, name) for name in group.names}

    def _layer(self, group: GroupData, name: str) -> LayerForm:
        weight, hessian = group.weights[name], group.hessian(name)
        if self.group:
            operand, note = self._grouped(weight, hessian)
        else:
            cast = weight_cast(self.element, SEARCH if self.search else 0)
            operand, note = rounded(weight, hessian, cast, self.options)
        if note:
            group.notes.append(f"{name}: {note}")
        return LayerForm((Segment(operand, self.input_cast()),))

    def _grouped(
        self, weight: NDArray[np.float64], hessian: NDArray[np.float64] | None
    ) -> tuple[Operand, str]:
        text = self.element.removesuffix("-asym")
        shape = (weight.shape[0], weight.shape[1])
        grid = GroupGrid(
            shape, self.group, int(text[3:]), not self.element.endswith("-asym"),
            SEARCH if self.search else 0,
        )  # fmt: skip
        if hessian is None or not self.solver:
            grid.round_all(weight)
            return grid.operand(), ""
        found = gptq(weight, hessian, grid, damping=self.damping)
        more = found.damping > self.damping
        return grid.operand(), f"damped by {found.damping:g}" if more else ""


@dataclass(frozen=True)
class MrGptqRecipe(GptqRecipe):
    """MR-GPTQ: GPTQ on MXFP4 or NVFP4 behind block Hadamards on both operands.

    Source: arXiv 2509.23202 and the code of FP-Quant. Inputs of every layer are rotated in blocks
    of ``rotation`` elements (the largest power of two up to it that divides K; 1: none) before
    their cast, weights once; scales come from the rotated weight and stay fixed; inputs are cast
    while second moments are collected. ``element``: ``nvfp4``, ``mxfp4-div3`` (the paper's MXFP4
    scale 2^floor(log2 max) / 3, which never clips), ``mxfp4``, ...; inputs have this format unless
    ``inputs`` names another. Layers fused in vLLM do not share an NVFP4 tensor scale here, which
    changes values only if their tensors differ by orders of magnitude.
    """

    inputs: str = ""
    element: str = "nvfp4"
    rotation: int = 128

    casts_inputs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.inputs:
            object.__setattr__(self, "inputs", self.element)
        super().__post_init__()
        if self.rotation < 1:
            raise FpsimError(f"recipe: rotation: {self.rotation!r} is not a positive number")

    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return a form per layer with one segment after a block Hadamard."""
        size = hadamard_size(group.width, self.rotation)
        turn = BlockHadamard(size)
        forms = {}
        for name in group.names:
            weight, hessian = group.mapped(name, (turn,))
            operand, note = rounded(weight, hessian, weight_cast(self.element), self.options)
            if note:
                group.notes.append(f"{name}: {note}")
            form = LayerForm((Segment(operand, self.input_cast()),))
            forms[name] = form if size == 1 else replace(form, maps=(turn,))
        return forms


register("gptq")(GptqRecipe)
register("mr-gptq")(MrGptqRecipe)
