# SPDX-License-Identifier: Apache-2.0
"""Recipes of systems, whose constants come from calibration block by block.

A subclass states the statistics it needs (`keeps_hessian`, `kept_rows`) and turns a group of layers
that read one tensor into forms (`prepare`). `fpsim.bridge.systems.calibrator` does everything else,
from running the model to the file.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.bridge.cast import Cast
from fpsim.bridge.recipe import Bits, Recipe
from fpsim.bridge.systems.casts import input_cast
from fpsim.bridge.systems.file import SystemCalibration
from fpsim.bridge.systems.forms import LayerForm
from fpsim.bridge.systems.statistics import InputStatistics
from fpsim.bridge.systems.stream import Block, Hidden

__all__ = ["BlockData", "GroupData", "StreamModel", "SystemRecipe", "rms_gain"]


@dataclass
class GroupData:
    """Layers of a block that read one tensor, with the statistics of the tensor.

    ``norm`` is the norm of the block that made the tensor, or None. ``module_loss`` runs the
    innermost module with all these layers with other weights, and returns the squared error of its
    output.
    """

    names: tuple[str, ...]
    weights: dict[str, NDArray[np.float64]]  #: transformed weights (N, K)
    statistics: dict[str, InputStatistics]
    norm: torch.nn.Module | None
    block: Block
    number: int  #: number of the block
    shared: dict[str, Any]
    module_loss: Callable[[dict[str, LayerForm]], float]
    notes: list[str] = field(default_factory=list)

    def hessian(self, name: str) -> NDArray[np.float64] | None:
        """Return the second moments of a layer's inputs, if they were kept."""
        found = self.statistics.get(name)
        return None if found is None or found.moments is None else found.hessian

    @property
    def reads_norm(self) -> bool:
        """Whether the layers read the output of a norm of the block."""
        return self.norm is not None

    @property
    def ends_attention(self) -> bool:
        """Whether a layer mixes attention's heads."""
        return self.block.ends_attention(self.names)

    @property
    def ends_mlp(self) -> bool:
        """Whether a layer reads the hidden values of an MLP."""
        return not self.reads_norm and not self.ends_attention

    @property
    def width(self) -> int:
        """K, the width of the tensor."""
        return int(next(iter(self.weights.values())).shape[1])

    def mapped(
        self, name: str, maps: tuple[Any, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return weight and second moments (or None) of a layer, changed by linear maps."""
        weight, turn = self.weights[name], np.eye(self.width, dtype=np.float32)
        for step in maps:
            weight, turn = step.weight(weight), step.inputs(turn)
        matrix, hessian = turn.astype(np.float64), self.hessian(name)
        return weight, None if hessian is None else matrix.T @ hessian @ matrix

    @cached_property
    def joint(self) -> NDArray[np.float64]:
        """All weights of the group, one below the other."""
        return np.concatenate(list(self.weights.values()))


@dataclass
class BlockData:
    """A block before any of its groups is cast.

    ``states`` are the block's inputs in the model cast so far, a tensor a batch. If the recipe
    reads the float model, ``outputs`` are the float block's outputs, and ``statistics`` those of
    its layers' inputs, by name.
    """

    block: Block
    states: Hidden
    outputs: Hidden
    statistics: dict[str, InputStatistics]


@dataclass
class StreamModel:
    """The float model, for `SystemRecipe.begin` and `SystemRecipe.finish`."""

    model: torch.nn.Module
    blocks: list[Block]
    first: Hidden
    batches: list[Any]


@dataclass(frozen=True)
class SystemRecipe(Recipe):
    """A system. ``inputs`` names the cast of inputs, see `fpsim.bridge.systems.casts.input_cast`.

    ``zeros`` says where zero points are added: ``correct`` (exactly, after the accumulator) or
    ``unit`` (in further columns of K that the unit multiplies).
    """

    inputs: str = "int4"
    zeros: str = "correct"
    constants: SystemCalibration | None = field(default=None, repr=False, compare=False)

    needs_calibration: ClassVar[bool] = True
    has_forms: ClassVar[bool] = True
    #: Whether second moments of inputs are kept; number of rows kept; and whether inputs come from
    #: the float model, not from the model cast so far.
    keeps_hessian: ClassVar[bool] = True
    kept_rows: ClassVar[int] = 0
    reads_float: ClassVar[bool] = False
    #: Whether inputs are cast while later layers are calibrated.
    casts_inputs: ClassVar[bool] = False
    #: Whether the blocks must have norms, to fold something into.
    needs_norms: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.zeros not in ("correct", "unit"):
            raise not_one_of("recipe: zeros", self.zeros, ("correct", "unit"))
        self.input_cast()

    def input_cast(self, clip: float = 1.0) -> Cast | None:
        """Return the cast named by ``inputs``."""
        return input_cast(self.inputs, clip)

    @property
    def reads_inputs(self) -> bool:
        """Whether calibration needs inputs at all."""
        return True

    # -- calibration -------------------------------------------------------------------------------

    def begin(self, stream: StreamModel) -> dict[str, Any]:
        """Return arrays for all layers, found on the float model before any block is cast."""
        return {}

    def begin_block(self, data: BlockData) -> dict[str, Any]:
        """Return arrays and forms for the groups of a block, before any group is cast."""
        return {}

    @abstractmethod
    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return the forms of a group's layers, by name."""

    def finish(self, stream: StreamModel, forms: dict[str, LayerForm]) -> dict[str, LayerForm]:
        """Return the forms of all layers, refined where the system trains the whole model.

        Forms that are refined have no error; the calibrator measures it on the float model's
        inputs.
        """
        return forms

    def description(self) -> dict[str, Any]:
        """Return the options on which a calibration depends, and the system's class."""
        about = {
            f.name: str(value) if isinstance(value := getattr(self, f.name), Bits) else value
            for f in fields(self)
            if f.name not in ("name", "constants", "zeros")
        }
        return {"system": type(self).__name__, **about}

    # -- use -------------------------------------------------------------------------------------

    @property
    def is_calibrated(self) -> bool:
        """Whether the recipe has a calibration."""
        return self.constants is not None

    @property
    def weights_only(self) -> bool:
        """Whether activations stay float."""
        return self.inputs == "float"

    def calibrated(self, calibration: Any) -> Self:
        """Return the recipe with a `SystemCalibration` or the path of one.

        Raises:
            FpsimError: a calibration with other options; the message names the first.
        """
        found = SystemCalibration.load(calibration)
        found.check_about(self.description(), "calibration: it", f"recipe {self.name}")
        return replace(self, constants=found)

    def check_layers(self, prints: dict[str, str]) -> None:
        """Raise `FpsimError` unless the calibration covers the layers with their weights."""
        assert self.constants is not None
        self.constants.check_layers(prints, "calibration: it")

    def weight(self, layer: str) -> Cast | None:
        """Return None: `form` describes layers."""
        return None

    def activation(self, layer: str) -> Cast | None:
        """Return None: `form` describes layers."""
        return None

    def form(self, layer: str, weight: torch.Tensor) -> LayerForm:
        """Return the layer's form.

        Raises:
            FpsimError: a layer that the calibration does not cover.
        """
        if self.constants is None or layer not in self.constants.layers:
            raise FpsimError(f"calibration: it has no layer {layer}")
        return self.constants.layers[layer]


def rms_gain(norm: torch.nn.Module, width: int) -> NDArray[np.float64]:
    """Return the gain (K,) of a norm x / rms(x) * gain.

    Raises:
        FpsimError: a norm with another function.
    """
    torch.manual_seed(0)
    rows = torch.randn(2, width) * torch.tensor([[1.0], [3.0]])
    with torch.no_grad():
        out = norm(rows.to(next(norm.parameters()).dtype)).double()
    unit = rows.double() / rows.double().square().mean(1, keepdim=True).sqrt()
    gains = out / unit
    if not torch.allclose(gains[0], gains[1], rtol=1e-2, atol=1e-3):
        raise FpsimError(f"model: {type(norm).__name__} is not x / rms(x) * gain, which is needed")
    return np.asarray(gains.mean(0).numpy())
