# SPDX-License-Identifier: Apache-2.0
"""Recipes of systems: their constants come from calibration block after block.

A subclass says what is kept of inputs (`keeps_hessian`, `kept_rows`) and turns a group of layers
that read one tensor into forms (`prepare`). Everything else, from running the model to the file, is
done for it by `fpsim.bridge.systems.calibrator`.
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
    """Layers of a block that read one tensor, with what calibration kept of it.

    ``norm`` is the module that made the tensor, if it is a norm of the block. ``module_loss`` runs
    the innermost module that holds all these layers with other weights, and returns the squared
    error of its output.
    """

    names: tuple[str, ...]
    weights: dict[str, NDArray[np.float64]]  #: (N, K), as transforms leave them
    statistics: dict[str, InputStatistics]
    norm: torch.nn.Module | None
    block: Block
    number: int  #: of the block
    shared: dict[str, Any]
    module_loss: Callable[[dict[str, LayerForm]], float]
    notes: list[str] = field(default_factory=list)

    def hessian(self, name: str) -> NDArray[np.float64] | None:
        """Return the second moments of a layer's inputs, if they were kept."""
        found = self.statistics.get(name)
        return None if found is None or found.moments is None else found.hessian

    @property
    def reads_norm(self) -> bool:
        """Whether the layers read what a norm of the block made."""
        return self.norm is not None

    @property
    def ends_attention(self) -> bool:
        """Whether this is the layer that mixes attention's heads."""
        first = self.block.groups[:1]
        if self.reads_norm or (first and self.names[0] in first[0].names):
            return False
        return "att" in self.names[0].removeprefix(self.block.name)

    @property
    def ends_mlp(self) -> bool:
        """Whether this layer reads what is between the layers of an MLP."""
        return not self.reads_norm and not self.ends_attention

    @property
    def width(self) -> int:
        """K."""
        return int(next(iter(self.weights.values())).shape[1])

    def mapped(
        self, name: str, maps: tuple[Any, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return a layer's weight and its inputs' second moments, if kept, behind linear maps."""
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

    ``exact`` are the float model's hidden states (where the recipe reads them), ``states`` those of
    the model cast so far, of every batch.
    """

    block: Block
    exact: Hidden
    states: Hidden
    number: int


@dataclass
class StreamModel:
    """The float model as `SystemRecipe.begin` may look at it."""

    model: torch.nn.Module
    blocks: list[Block]
    first: Hidden
    batches: list[Any]


@dataclass(frozen=True)
class SystemRecipe(Recipe):
    """A system. ``inputs`` casts activations, see `fpsim.bridge.systems.casts.input_cast`.

    ``zeros`` says where zero points are added: ``correct`` (after the accumulator, exactly) or
    ``unit`` (further columns of K that the unit multiplies).
    """

    inputs: str = "int4"
    zeros: str = "correct"
    constants: SystemCalibration | None = field(default=None, repr=False, compare=False)

    needs_calibration: ClassVar[bool] = True
    has_forms: ClassVar[bool] = True
    #: Whether second moments of inputs are kept, how many rows, and whether the float model's
    #: inputs are looked at instead of those of the model cast so far.
    keeps_hessian: ClassVar[bool] = True
    kept_rows: ClassVar[int] = 0
    reads_float: ClassVar[bool] = False
    #: Whether inputs are cast while later layers are calibrated.
    casts_inputs: ClassVar[bool] = False
    #: Whether the norms of blocks are needed, to fold something into them.
    needs_norms: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.zeros not in ("correct", "unit"):
            raise not_one_of("recipe: zeros", self.zeros, ("correct", "unit"))
        self.input_cast()

    def input_cast(self, clip: float = 1.0) -> Cast | None:
        """Return the cast of inputs that ``inputs`` says."""
        return input_cast(self.inputs, clip)

    @property
    def reads_inputs(self) -> bool:
        """Whether calibration looks at inputs at all."""
        return True

    # -- calibration -------------------------------------------------------------------------------

    def begin(self, stream: StreamModel) -> dict[str, Any]:
        """Return arrays that all layers share, found on the float model before a block is cast."""
        return {}

    def begin_block(self, data: BlockData) -> dict[str, Any]:
        """Return arrays and forms that the groups of a block share, before any of them is cast."""
        return {}

    @abstractmethod
    def prepare(self, group: GroupData) -> dict[str, LayerForm]:
        """Return the forms of a group's layers, by name."""

    def description(self) -> dict[str, Any]:
        """Return the options that decide a calibration, and the system's class."""
        about = {
            f.name: str(value) if isinstance(value := getattr(self, f.name), Bits) else value
            for f in fields(self)
            if f.name not in ("name", "constants", "zeros")
        }
        return {"system": type(self).__name__, **about}

    # -- use -------------------------------------------------------------------------------------

    @property
    def is_calibrated(self) -> bool:
        """Whether a calibration is there."""
        return self.constants is not None

    @property
    def weights_only(self) -> bool:
        """Whether activations stay float."""
        return self.inputs == "float"

    def calibrated(self, calibration: Any) -> Self:
        """Return the recipe with a `SystemCalibration` or the path of one.

        Raises:
            FpsimError: a calibration made with other options, naming the first.
        """
        found = SystemCalibration.load(calibration)
        found.check_about(self.description(), "calibration: it", f"recipe {self.name}")
        return replace(self, constants=found)

    def check_layers(self, prints: dict[str, str]) -> None:
        """Raise `FpsimError` unless the calibration is of these layers."""
        assert self.constants is not None
        self.constants.check_layers(prints, "calibration: it")

    def weight(self, layer: str) -> Cast | None:
        """Return None: `form` says what a layer computes."""
        return None

    def activation(self, layer: str) -> Cast | None:
        """Return None: `form` says what a layer computes."""
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
        FpsimError: a norm that computes something else.
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
