# SPDX-License-Identifier: Apache-2.0
"""Linear layers and experts whose multiply-accumulates run on a simulated unit.

A module remains the same object, with its parameters, buffers, hooks and parametrizations; only its
``forward`` is replaced (`attach`) and restored (`detach`). State dicts, optimizers and
``save_pretrained`` see an ordinary model. Codes are made again only when the weight has changed.
The backward pass is straight through: casts count as the identity.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.cast import Cast
from fpsim.bridge.checkpoints.stored import StoredMatrix, given_inputs
from fpsim.bridge.experts import run_experts
from fpsim.bridge.product import (
    Product,
    float_rows,
    is_recomputing,
    replace_values,
    straight_through,
)
from fpsim.bridge.recipe import Recipe
from fpsim.bridge.transforms import LayerTransform, apply_transforms
from fpsim.bridge.weights import LayerWeight
from fpsim.compute.plan import Plan
from fpsim.unit import MacUnit
from fpsim.units.operands import Operand

__all__ = [
    "CastEmbedding",
    "InputCasts",
    "SimulatedExperts",
    "SimulatedLinear",
    "attach",
    "attached",
    "detach",
    "simulated_layers",
]


class InputCasts:
    """The last cast input, whose codes are shared by layers that read one tensor with one cast.

    Queries, keys and values of a transformer share an input, and so do both halves of a gated MLP.
    """

    def __init__(self) -> None:
        self._last: tuple[weakref.ref[torch.Tensor], int, Cast, Operand] | None = None

    def __reduce__(self) -> tuple[type[InputCasts], tuple[()]]:
        """Leave the input out of copies and pickles."""
        return InputCasts, ()

    def operand(self, x: torch.Tensor, cast: Cast) -> Operand:
        """Return ``x`` (..., K) as rows of codes."""
        if x.is_inference():  # it has no version counter to show changes in place
            return cast.quantize(float_rows(x))
        if self._last is not None:
            tensor, version, by, operand = self._last
            if tensor() is x and version == x._version and by is cast:
                return operand
        operand = cast.quantize(float_rows(x))
        self._last = weakref.ref(x), x._version, cast, operand
        return operand


class SimulatedLinear:
    """``y = x W^T + bias`` with operands cast by a recipe and the product computed by a unit.

    The bias is added in float, in the dtype of ``x``. An operand whose cast is None stays float;
    the product is then an ordinary float32 product, because no unit multiplies floats.

    Args:
        weight: the layer's weight.
        recipe: gives the casts of weight and inputs.
        unit: the unit of products.
        name: name of the layer, for the recipe, messages and stochastic rounding.
        transforms: transforms of both operands, applied before the casts.
        casts: casts of inputs, shared with other layers.
        seed: seed of a unit with stochastic rounding, see `Product`.

    Raises:
        FpsimError: a weight without codes, scale blocks that the unit does not sum, or, on a call,
            an input without codes; the message names the layer, and on a call the pass, from 1.
    """

    def __init__(
        self,
        weight: LayerWeight,
        recipe: Recipe,
        unit: MacUnit,
        name: str,
        transforms: Sequence[LayerTransform] = (),
        casts: InputCasts | None = None,
        seed: int = 0,
    ) -> None:
        self.weight, self.recipe, self.unit, self.name = weight, recipe, unit, name
        self.transforms, self.seed = tuple(transforms), seed
        self.in_features, self.out_features = weight.sizes
        self.weight_cast, self.input_cast = recipe.weight(name), recipe.activation(name)
        if self.transforms and self.given is not None:
            raise FpsimError(
                f"transforms: layer {name} has the codes of a checkpoint, which none can change"
            )
        self.casts = casts or InputCasts()
        self.ran_on: MacUnit | None = None  #: the unit with the operands' formats; None: float
        self.plan: Plan | None = None  #: plan of the last forward pass
        self.passes = 0
        self.training_step = 0  #: set by `fpsim.bridge.training.begin_step`
        self.macs = 0  #: multiply-accumulates on the unit, over all passes
        self.inputs: dict[str, Operand] | None = None  #: if not None, gets the last cast input
        self._cached: tuple[tuple[Any, ...], Any] | None = None
        weight.check_data(name)
        given = self.given
        self._check_unit(self._cast_weight() if given is None else given.operand(few=True))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the codes out of copies and pickles: they are identified by address."""
        return self.__dict__ | {"_cached": None}

    @property
    def number(self) -> int:
        """Number of the pass, unique within a training run."""
        return (self.training_step << 32) + self.passes

    @property
    def given(self) -> StoredMatrix | None:
        """Codes of a checkpoint, if products use them as weight."""
        return self.weight.given if self.recipe.takes_given and self.input_cast else None

    def extra_repr(self) -> str:
        """Describe the layer, for torch's print of a model."""
        return (
            f"{self.in_features}, {self.out_features}, recipe={self.recipe.name}, "
            f"unit={self.unit.name}"
        )

    def operand(self) -> Operand:
        """Return the cast weight; its rows are output channels."""
        cast = self._cast_weight()
        if not isinstance(cast, Operand):
            raise FpsimError(f"layer {self.name}: its weight stays float under {self.recipe.name}")
        return cast

    def cast_input(self, x: torch.Tensor) -> Operand:
        """Return ``x`` (..., in_features) as an operand of rows."""
        assert self.input_cast is not None
        try:
            return self.casts.operand(x, self.input_cast)
        except FpsimError as error:
            raise FpsimError(
                f"layer {self.name}: forward pass {self.passes}: activation: {error}"
            ) from None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for ``x`` (..., in_features)."""
        self._begin(x)
        given = self.given
        whole = x if given is None else given_inputs(given.inputs, x)
        matrix = self.weight.matrix if given is None else whole.new_empty(0)  # not trained
        whole, matrix, beside = apply_transforms(self.transforms, whole, matrix)
        weight = self._cast_weight()
        if isinstance(weight, Operand) and self.input_cast is not None:
            out = self._simulate(whole, matrix, weight)
        else:
            out = self._float(whole, matrix, weight)
        if beside is not None:
            out = out + beside.reshape(out.shape)
        out = out.reshape(*x.shape[:-1], self.out_features).to(x.dtype)
        bias = self.weight.bias
        return out if bias is None else out + bias

    def _begin(self, x: torch.Tensor) -> None:
        """Count a pass whose input the layer can take."""
        if torch.compiler.is_exporting():
            raise FpsimError(
                f"layer {self.name}: it is simulated, which no torch operator says; restore() the "
                "model before exporting it"
            )
        if x.shape[-1:] != (self.in_features,):
            raise FpsimError(
                f"layer {self.name}: its input has shape {tuple(x.shape)}; the last axis must have "
                f"{self.in_features} features"
            )
        if not is_recomputing():
            self.passes += 1

    def _product(self) -> Product:
        return Product(self.unit, self.name, self.seed, self.number)

    def _check_unit(self, weight: Operand | torch.Tensor | None) -> None:
        """Refuse casts that the unit cannot multiply, before the first input."""
        if isinstance(weight, Operand) and self.input_cast is not None:
            inputs = self.input_cast.quantize(np.zeros((1, weight.codes.shape[1]), np.float32))
            try:
                self.ran_on, _ = self._product().checked(inputs, weight.at(slice(0, 1)))
            except FpsimError as error:
                raise FpsimError(f"layer {self.name}: {error}") from None

    def _simulate(self, x: torch.Tensor, matrix: torch.Tensor, weight: Operand) -> torch.Tensor:
        if not x.numel():
            return x.new_zeros((0, self.out_features))
        cast = self.cast_input(x)
        values, self.plan = self._product().run(cast, weight)
        self.macs += values.size * self.in_features
        if self.inputs is not None:
            self.inputs[self.name] = cast
        out = torch.from_numpy(values).to(x.device)
        if not torch.is_grad_enabled():
            return out
        rows = x.reshape(1, -1, self.in_features)
        return straight_through(rows, matrix[None], out[None], [(cast, weight)])[0]

    def _float(
        self, x: torch.Tensor, matrix: torch.Tensor, weight: Operand | torch.Tensor | None
    ) -> torch.Tensor:
        x = x.to(torch.float32)
        if self.input_cast is not None:
            cast = torch.from_numpy(self.cast_input(x).dequantize().astype(np.float32))
            x = replace_values(x, cast.reshape(x.shape).to(x.device))
        matrix = matrix.to(torch.float32)
        if isinstance(weight, torch.Tensor):
            matrix = replace_values(matrix, weight)
        return nn.functional.linear(x, matrix)

    def _cast_weight(self) -> Operand | torch.Tensor | None:
        """Return the weight's codes or, for a float product, values; made again if it changed."""
        given, key = self.given, self.weight.version
        if given is not None and self.weight.index is not None:
            return given.operand()  # kept for all experts, operands would double the file's memory
        if given is None and self.weight_cast is None:
            return None
        if given is not None and (self._cached is None or self._cached[0] != key):
            self._cached = (key, given.operand().columns)
        elif self._cached is None or self._cached[0] != key:
            assert self.weight_cast is not None
            matrix = self.weight.matrix.detach()
            for transform in self.transforms:
                matrix = transform.weight(matrix)
            try:
                cast = self.weight_cast.quantize(float_rows(matrix))
            except FpsimError as error:
                raise FpsimError(f"layer {self.name}: weight: {error}") from None
            floats = self.input_cast is None
            kept = _dense(cast).to(matrix.device) if floats else cast.columns
            self._cached = (key, kept)
        kept = self._cached[1]
        assert isinstance(kept, Operand | torch.Tensor)
        return kept


class SimulatedExperts:
    """A module of experts whose products are computed by `SimulatedLinear`.

    Args:
        module: the module.
        weights: all matrices of the module, by parameter and expert.
        layers: simulated products; other products remain the module's.
    """

    def __init__(
        self,
        module: nn.Module,
        weights: Mapping[tuple[str, int], LayerWeight],
        layers: Mapping[tuple[str, int], SimulatedLinear],
    ) -> None:
        self.module, self.weights, self.layers = module, dict(weights), dict(layers)

    def extra_repr(self) -> str:
        """Describe the module, for torch's print of a model."""
        first = next(iter(self.layers.values()))
        return (
            f"{len(self.layers)} of {len(self.weights)} products, recipe={first.recipe.name}, "
            f"unit={first.unit.name}"
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's forward with the simulated products."""
        return run_experts(self.module, self.weights, self._product, args, kwargs)

    def _product(self, key: tuple[str, int], x: torch.Tensor) -> torch.Tensor | None:
        layer = self.layers.get(key)
        return None if layer is None else layer(x)


class CastEmbedding:
    """An embedding whose table is cast, and cast again whenever it has changed.

    Further computation of the module, such as a factor, uses the cast table.

    Raises:
        FpsimError: a table with values without codes; the message names the layer.
    """

    def __init__(self, embedding: nn.Embedding, cast: Cast, name: str) -> None:
        self.module, self.cast, self.name = embedding, cast, name
        self.weight = LayerWeight(embedding)
        self._cached: tuple[tuple[Any, ...], torch.Tensor] | None = None
        self.weight.check_data(name)
        self.values()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the values out of copies and pickles: they are identified by address."""
        return self.__dict__ | {"_cached": None}

    def extra_repr(self) -> str:
        """Describe the embedding, for torch's print of a model."""
        return f"{nn.Embedding.extra_repr(self.module)}, cast"

    def values(self) -> torch.Tensor:
        """Return the cast table."""
        key = self.weight.version
        if self._cached is None or self._cached[0] != key:
            table = self.weight.stored
            try:
                operand = self.cast.quantize(float_rows(table))
            except FpsimError as error:
                raise FpsimError(f"layer {self.name}: weight: {error}") from None
            self._cached = key, _dense(operand).to(table.device, table.dtype)
        return self._cached[1]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the embedding's forward on the cast table."""
        parameters = self.module._parameters
        table = parameters["weight"]
        assert table is not None
        parameters["weight"] = replace_values(table, self.values())  # type: ignore[assignment]
        try:
            return type(self.module).forward(self.module, *args, **kwargs)
        finally:
            parameters["weight"] = table


def _dense(operand: Operand) -> torch.Tensor:
    values: NDArray[np.float32] = operand.dequantize().astype(np.float32)
    return torch.from_numpy(values)


# -- replacing a module's forward ----------------------------------------------------------------

#: Simulations that can replace a module's forward.
Simulated = SimulatedLinear | SimulatedExperts | CastEmbedding
_NAMES = ("forward", "extra_repr")


def attach(module: nn.Module, simulated: Simulated) -> None:
    """Let ``simulated`` compute the forward pass of ``module``.

    ``simulated`` is kept in the module's ``__dict__``, so that copies and pickles include it.
    """
    module.__dict__.update(zip(_NAMES, (simulated, simulated.extra_repr), strict=True))


def detach(module: nn.Module) -> None:
    """Undo `attach`."""
    if attached(module) is not None:
        for name in _NAMES:
            del module.__dict__[name]


def attached(module: nn.Module) -> Simulated | None:
    """Return the simulation that replaces a module's forward, or None."""
    found = module.__dict__.get("forward")
    return found if isinstance(found, Simulated) else None


def simulated_layers(model: nn.Module) -> dict[str, SimulatedLinear]:
    """Return the simulated products of a model's linear layers and experts, by name."""
    found: dict[str, SimulatedLinear] = {}
    for module in model.modules():
        simulated = attached(module)
        if isinstance(simulated, SimulatedLinear):
            found[simulated.name] = simulated
        elif isinstance(simulated, SimulatedExperts):
            found |= {layer.name: layer for layer in simulated.layers.values()}
    return found
