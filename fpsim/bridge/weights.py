# SPDX-License-Identifier: Apache-2.0
"""The weight matrices of a model's linear layers and experts, and which can be simulated.

Linear layers (`nn.Linear`, GPT-2's `Conv1D`) hold one matrix each; experts hold the matrices of all
experts in one parameter of three dimensions.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from fpsim.base.errors import FpsimError
from fpsim.bridge.checkpoints.coded import CodedTensor
from fpsim.bridge.checkpoints.stored import StoredMatrix

__all__ = ["LayerWeight", "expert_weights", "linear_weight", "reason_to_leave", "weights_of"]

_EXPERTS = re.compile(r"Experts")
_REPLACED = "something else has replaced its forward"
_DATA = (nn.Parameter, torch.Tensor, CodedTensor)


@dataclass(frozen=True)
class LayerWeight:
    """One weight matrix: the ``index``-th of ``parameter`` of ``module``, or the whole parameter.

    ``transposed`` says whether it is stored as (in_features, out_features).
    """

    module: nn.Module
    parameter: str = "weight"
    index: int | None = None
    transposed: bool = False

    @property
    def stored(self) -> torch.Tensor:
        """The matrix as the module stores it now."""
        tensor = getattr(self.module, self.parameter)
        assert isinstance(tensor, torch.Tensor)
        return tensor if self.index is None else tensor[self.index]

    @property
    def matrix(self) -> torch.Tensor:
        """The matrix as (out_features, in_features)."""
        return self.stored.t() if self.transposed else self.stored

    @property
    def given(self) -> StoredMatrix | None:
        """Codes and scales of a checkpoint, if the module holds some."""
        tensor = self.module._parameters.get(self.parameter)
        if not isinstance(tensor, CodedTensor):
            return None
        return tensor.matrices[self.index or 0]

    @property
    def bias(self) -> torch.Tensor | None:
        """Bias of a linear layer; experts add their biases themselves."""
        return getattr(self.module, "bias", None) if self.index is None else None

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of in_features and out_features."""
        rows, columns = getattr(self.module, self.parameter).shape[-2:]
        return (rows, columns) if self.transposed else (columns, rows)

    @property
    def version(self) -> tuple[Any, ...]:
        """A key that changes whenever the matrix changes; only equality of keys has a meaning.

        The key of a computed weight (by a parametrization or a hook) changes with every parameter
        and buffer of the module.
        """
        tensor = getattr(self.module, self.parameter)
        own = self.module._parameters.get(self.parameter)
        if own is not None and own is tensor:
            return _version(own)
        sources = [*self.module.parameters(), *self.module.buffers()]
        if self.parameter in self.module.__dict__:  # a weight computed by a hook
            sources.append(tensor)
        return tuple(_version(source) for source in sources)

    @property
    def elements(self) -> int:
        """Number of elements; 0 while a lazy layer has no weight."""
        tensor = getattr(self.module, self.parameter)
        if isinstance(tensor, nn.UninitializedParameter):
            return 0
        return int(tensor.numel()) // (1 if self.index is None else tensor.shape[0])

    def check_data(self, name: str) -> None:
        """Raise `FpsimError` if the matrix has no data in this process."""
        if getattr(self.module, self.parameter).is_meta:
            raise FpsimError(
                f"layer {name}: its {self.parameter} is on the device meta (offloaded, or never "
                "loaded); load the whole model into memory first"
            )


def _version(tensor: torch.Tensor) -> tuple[Any, ...]:
    if isinstance(tensor, CodedTensor):  # it is never written to
        return (id(tensor.matrices),)
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.dtype, tensor.device


def linear_weight(module: nn.Module) -> LayerWeight:
    """Return the weight of a linear layer."""
    return LayerWeight(module, transposed=isinstance(module, Conv1D))


def reason_to_leave(module: nn.Module) -> str | None:
    """Return why a linear layer's product cannot be simulated, or None if it can be.

    It can be if the layer computes like `nn.Linear` or `Conv1D`. Hooks, parametrizations and
    buffers do not count as the layer's arithmetic.
    """
    kind = type(module)
    # MultiheadAttention reads its out_proj's weight itself and never calls the layer.
    if kind.__name__ == "NonDynamicallyQuantizableLinear":
        return "MultiheadAttention reads its weight and never calls it"
    base = Conv1D if isinstance(module, Conv1D) else nn.Linear
    if "forward" in module.__dict__:
        return _REPLACED
    if kind.forward is not base.forward or kind.__call__ is not nn.Module.__call__:
        return f"{kind.__name__} computes in a way of its own"
    if type(module.weight) not in _DATA:
        return f"its weight is of type {type(module.weight).__name__}"
    return None


def expert_weights(module: nn.Module) -> dict[str, LayerWeight]:
    """Return the matrices of a module of experts, by ``parameter.index``; empty for other modules.

    Experts are modules with a class named so that hold parameters (experts, rows, columns).
    """
    if not _EXPERTS.search(type(module).__name__):
        return {}
    transposed = _is_transposed(module)
    return {
        f"{parameter}.{index}": LayerWeight(module, parameter, index, transposed)
        for parameter, tensor in module.named_parameters(recurse=False)
        if tensor.dim() == 3 and min(tensor.shape[1:]) > 1  # other parameters are biases
        for index in range(tensor.shape[0])
    }


def _is_transposed(module: nn.Module) -> bool:
    """Whether experts store their matrices as (in_features, out_features).

    Most modules of transformers state it; others multiply by `bmm`, which needs (experts, in, out),
    or by `linear`, which needs (experts, out, in).
    """
    known = getattr(module, "is_transposed", None)
    if isinstance(known, bool):
        return known
    return "bmm" in inspect.unwrap(type(module).forward).__code__.co_names


def weights_of(
    model: nn.Module,
) -> tuple[dict[str, LayerWeight], dict[str, tuple[LayerWeight, str]], dict[str, str]]:
    """Return matrices that can be simulated, matrices that cannot with reasons, and aliases.

    Matrices are by name; an alias is a further name of a layer, with its first name: a layer with
    two names is one layer.
    """
    weights: dict[str, LayerWeight] = {}
    others: dict[str, tuple[LayerWeight, str]] = {}
    aliases: dict[str, str] = {}
    first: dict[nn.Module, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        linear = isinstance(module, nn.Linear | Conv1D)
        experts = {} if linear else expert_weights(module)
        if not (linear or experts):
            continue
        if module in first:
            aliases[name] = first[module]
            continue
        first[module] = name
        if experts:
            reason = _REPLACED if "forward" in module.__dict__ else None
            parts = {f"{name}.{part}": weight for part, weight in experts.items()}
        else:
            reason, parts = reason_to_leave(module), {name: linear_weight(module)}
        if reason is None:
            weights |= parts
        else:
            others |= {part: (weight, reason) for part, weight in parts.items()}
    return weights, others, aliases
