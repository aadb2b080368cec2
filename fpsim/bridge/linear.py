# SPDX-License-Identifier: Apache-2.0
"""Linear layers whose every multiply-accumulate is the simulated unit's.

A layer keeps the parameters of the one it replaces, so state dicts, optimizers and
``save_pretrained`` see the model as it was. Codes are made once and again only when the weight has
changed. The backward pass is straight through: casts count as the identity.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.pytorch_utils import Conv1D

from fpsim.base.errors import FpsimError
from fpsim.bridge.operand import Cast, Operand
from fpsim.bridge.product import Product, float_rows, replace_values, straight_through
from fpsim.bridge.recipe import Recipe
from fpsim.bridge.transforms import LayerTransform
from fpsim.compute.plan import Plan
from fpsim.unit import MacUnit

__all__ = [
    "CastEmbedding",
    "InputCasts",
    "SimulatedLinear",
    "is_linear",
    "layer_sizes",
    "weight_matrix",
]


def is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies its input by a weight matrix and could be replaced."""
    # MultiheadAttention reads its out_proj's weight itself and never calls the layer.
    unused = type(module).__name__ == "NonDynamicallyQuantizableLinear"
    return isinstance(module, nn.Linear | Conv1D) and not unused


def layer_sizes(module: nn.Module) -> tuple[int, int]:
    """Return in_features and out_features; GPT-2's Conv1D stores its weight transposed."""
    assert isinstance(module.weight, torch.Tensor)
    rows, columns = module.weight.shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def weight_matrix(module: nn.Module) -> torch.Tensor:
    """Return a linear layer's weight as (out_features, in_features)."""
    assert isinstance(module.weight, torch.Tensor)
    return module.weight.t() if isinstance(module, Conv1D) else module.weight


class InputCasts:
    """The last input that was cast: layers that read one tensor with one cast share its codes.

    Queries, keys and values of a transformer do, and the two halves of a gated MLP.
    """

    def __init__(self) -> None:
        self._last: tuple[weakref.ref[torch.Tensor], int, Cast, Operand] | None = None

    def __reduce__(self) -> tuple[type[InputCasts], tuple[()]]:
        """Leave the input behind in copies and pickles."""
        return InputCasts, ()

    def operand(self, x: torch.Tensor, cast: Cast) -> Operand:
        """Return ``x`` (..., K) as rows of codes."""
        if x.is_inference():  # it has no version: changes in place would go unseen
            return cast.quantize(float_rows(x))
        if self._last is not None:
            tensor, version, by, operand = self._last
            if tensor() is x and version == x._version and by is cast:
                return operand
        operand = cast.quantize(float_rows(x))
        self._last = weakref.ref(x), x._version, cast, operand
        return operand


class SimulatedLinear(nn.Module):
    """``y = x W^T + bias`` with operands cast by a recipe and the product computed by a unit.

    The bias is added in float, in the dtype of ``x``. An operand whose cast is None stays float;
    the product is then an ordinary float32 one: no unit multiplies floats.

    Raises:
        FpsimError: a weight that has no codes, scale blocks that the unit does not sum, or, on a
            forward pass, an input that has no codes; all name the layer, the last also the pass,
            counted from 1.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        linear: nn.Module,
        recipe: Recipe,
        unit: MacUnit,
        name: str,
        transforms: Sequence[LayerTransform] = (),
        casts: InputCasts | None = None,
    ) -> None:
        super().__init__()
        self.transforms = tuple(transforms)
        self.in_features, self.out_features = layer_sizes(linear)
        self.transposed = isinstance(linear, Conv1D)
        self.recipe, self.unit, self.name = recipe, unit, name
        self.weight = linear.weight  # type: ignore[assignment]
        self.bias = linear.bias  # type: ignore[assignment]
        self.weight_cast, self.input_cast = recipe.weight(name), recipe.activation(name)
        self.casts = casts or InputCasts()
        self.plan: Plan | None = None  #: the engine's choice in the last forward pass
        self.passes = 0
        self._cached: tuple[tuple[Any, ...], Any] | None = None
        self._check_unit(self._cast_weight())

    def __getstate__(self) -> dict[str, Any]:
        """Leave the codes behind in copies and pickles: an address elsewhere proves nothing."""
        return self.__dict__ | {"_cached": None}

    def extra_repr(self) -> str:
        """Describe the layer where torch prints a model."""
        return (
            f"{self.in_features}, {self.out_features}, recipe={self.recipe.name}, "
            f"unit={self.unit.name}"
        )

    @property
    def matrix(self) -> torch.Tensor:
        """The weight as (out_features, in_features)."""
        return self.weight.t() if self.transposed else self.weight

    def operand(self) -> Operand:
        """Return the weight as cast: rows are output channels."""
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for ``x`` (..., in_features)."""
        self.passes += 1
        whole, matrix, beside = x, self.matrix, None
        for transform in self.transforms:
            if transform.apart is not None:
                part = whole[..., transform.apart].float() @ matrix[:, transform.apart].float().T
                beside = part if beside is None else beside + part
            whole, matrix = transform.inputs(whole), transform.weight(matrix)
        weight = self._cast_weight()
        if isinstance(weight, Operand) and self.input_cast is not None:
            out = self._simulate(whole, matrix, weight)
        else:
            out = self._float(whole, matrix, weight)
        if beside is not None:
            out = out + beside.reshape(out.shape)
        out = out.reshape(*x.shape[:-1], self.out_features).to(x.dtype)
        return out if self.bias is None else out + self.bias

    def _check_unit(self, weight: Operand | torch.Tensor | None) -> None:
        """Refuse casts that the unit cannot multiply, before any input is there."""
        if isinstance(weight, Operand) and self.input_cast is not None:
            inputs = self.input_cast.quantize(np.zeros((1, weight.codes.shape[1]), np.float32))
            try:
                Product(self.unit, self.name).checked(inputs, weight.rows(slice(0, 1)))
            except FpsimError as error:
                raise FpsimError(f"layer {self.name}: {error}") from None

    def _simulate(self, x: torch.Tensor, matrix: torch.Tensor, weight: Operand) -> torch.Tensor:
        if not x.numel():
            return x.new_zeros((0, self.out_features))
        cast = self.cast_input(x)
        values, self.plan = Product(self.unit, self.name).run(cast, weight)
        out = torch.from_numpy(values).to(x.device)[None]
        rows = x.reshape(1, -1, self.in_features)
        return straight_through(rows, matrix[None], out, [(cast, weight)])[0]

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
        """Return the weight's codes or, for a float product, its values; made anew on a change."""
        if self.weight_cast is None:
            return None
        weight = self.weight
        version = 0 if weight.is_inference() else weight._version
        key = (weight.data_ptr(), version, weight.dtype, weight.device)
        if self._cached is None or self._cached[0] != key:
            matrix = self.matrix.detach()
            for transform in self.transforms:
                matrix = transform.weight(matrix)
            try:
                cast = self.weight_cast.quantize(float_rows(matrix))
            except FpsimError as error:
                raise FpsimError(f"layer {self.name}: weight: {error}") from None
            kept = cast if self.input_cast is not None else _dense(cast).to(weight.device)
            self._cached = (key, kept)
        kept = self._cached[1]
        assert isinstance(kept, Operand | torch.Tensor)
        return kept


class CastEmbedding(nn.Module):
    """An embedding whose table was cast; it keeps its parameters and whatever else it computes."""

    def __init__(self, embedding: nn.Embedding, cast: Cast, name: str) -> None:
        super().__init__()
        self.inner = embedding
        try:
            operand = cast.quantize(float_rows(embedding.weight))
        except FpsimError as error:
            raise FpsimError(f"layer {name}: weight: {error}") from None
        values = _dense(operand).to(embedding.weight.dtype)
        self.register_buffer("values", values, persistent=False)

    @property
    def weight(self) -> nn.Parameter:
        """The parameter as it was; transformers ties output embeddings to it."""
        weight: nn.Parameter = self.inner.weight  # type: ignore[assignment]
        return weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of the cast table."""
        table = {"weight": replace_values(self.inner.weight, self.values)}  # type: ignore[arg-type]
        out: torch.Tensor = torch.func.functional_call(self.inner, table, (ids,))
        return out


def _dense(operand: Operand) -> torch.Tensor:
    values: NDArray[np.float32] = operand.dequantize().astype(np.float32)
    return torch.from_numpy(values)
