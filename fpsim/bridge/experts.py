# SPDX-License-Identifier: Apache-2.0
"""Products of a module of experts, intercepted in the module's own forward.

Models route tokens to experts, gate, weigh and sum in different ways. So the module's forward runs
unchanged, and only its products are replaced: every call of `linear`, `matmul` or `bmm` whose
second operand lies in one of the module's expert parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from fpsim.base.errors import FpsimError
from fpsim.bridge.checkpoints.coded import CodedTensor
from fpsim.bridge.weights import LayerWeight

__all__ = ["ExpertProduct", "run_experts"]

#: Computes the product of an expert: (parameter, expert), inputs (T, K) -> outputs (T, N), or None
#: to leave the product to the module.
ExpertProduct = Callable[[tuple[str, int], torch.Tensor], torch.Tensor | None]

_PRODUCTS = ("linear", "matmul", "__matmul__", "bmm", "mm")
#: Keyword names of the products' second operand.
_SECOND = ("weight", "other", "mat2")
#: Fused products of all experts; transformers' loop over experts is used in their place.
_FUSED = ("_grouped_mm", "grouped_mm")
_IMPLEMENTATION = "_experts_implementation_internal"


def _key(tensor: torch.Tensor) -> int:
    """Return a number that identifies a parameter and its views."""
    if isinstance(tensor, CodedTensor):
        return id(tensor.matrices)
    return tensor.untyped_storage().data_ptr()


class _Intercept(TorchFunctionMode):
    """Passes products by the given parameters to ``product``."""

    def __init__(
        self, weights: Mapping[tuple[str, int], LayerWeight], product: ExpertProduct
    ) -> None:
        super().__init__()
        self.product = product
        module = next(iter(weights.values())).module
        self.name = type(module).__name__
        self.parameters = {_key(getattr(module, parameter)): parameter for parameter, _ in weights}
        self.weights = weights
        self.met: set[str] = set()  #: parameters whose products were passed on

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _PRODUCTS:
            named = (kwargs[key] for key in _SECOND if key in kwargs)
            matrix = args[1] if len(args) > 1 else next(named, None)
            parameter = self._parameter(matrix)
            if parameter is not None and matrix is not None:
                bias = kwargs.get("bias", args[2] if len(args) > 2 else None)
                x = args[0] if args else kwargs["input"]
                out = self._run(parameter, x, matrix, name == "linear")
                return out if bias is None else out + bias
        elif any(self._parameter(a) for a in args if name in _FUSED):
            raise FpsimError(f"layer {self.name}: it multiplies by {name}, which is not simulated")
        return func(*args, **kwargs)

    def _parameter(self, tensor: Any) -> str | None:
        if not isinstance(tensor, torch.Tensor) or not self.parameters or tensor.is_meta:
            return None
        return self.parameters.get(_key(tensor))

    def _run(
        self, parameter: str, x: torch.Tensor, matrix: torch.Tensor, linear: bool
    ) -> torch.Tensor:
        if matrix.dim() == 3:  # all experts at once, each with its rows
            if x.dim() != 3 or x.shape[0] != matrix.shape[0]:
                raise FpsimError(
                    f"layer {self.name}: inputs {tuple(x.shape)} by {parameter} "
                    f"{tuple(matrix.shape)} are no product of each expert"
                )
            parts = [self._run(parameter, x[i], matrix[i], linear) for i in range(x.shape[0])]
            return torch.stack(parts)
        stored = self.weights[parameter, 0].module._parameters[parameter]
        assert stored is not None
        if isinstance(matrix, CodedTensor) and isinstance(stored, CodedTensor):
            index, rest = matrix.which or 0, 0
            turned = matrix.transposed != stored.transposed
        else:
            offset = int(matrix.storage_offset()) - int(stored.storage_offset())
            index, rest = divmod(offset, int(stored.stride(0)))
            turned = matrix.stride() != stored.stride()[1:]
        weight = self.weights.get((parameter, index))
        if weight is None or rest or matrix.shape != stored.shape[1:]:
            swapped = weight is not None and not rest and matrix.T.shape == stored.shape[1:]
            if not swapped:
                raise FpsimError(f"layer {self.name}: it multiplies by a part of {parameter}")
        assert weight is not None
        # x @ W sums over W's rows, linear(x, W) over its columns, and W may be a transposed view.
        if (not linear) != (weight.transposed != turned):
            raise FpsimError(
                f"layer {self.name}: {parameter} is multiplied along its other axis than told"
            )
        self.met.add(parameter)
        out = self.product((parameter, index), x)
        if out is None:
            out = nn.functional.linear(x, matrix) if linear else x @ matrix
        return out


def run_experts(
    module: nn.Module,
    weights: Mapping[tuple[str, int], LayerWeight],
    product: ExpertProduct,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Run a module of experts with ``product`` in place of its products.

    Transformers' loop over experts runs, whichever implementation the model is set to.

    Args:
        module: the module of experts.
        weights: the module's matrices, by parameter and expert.
        product: computes one expert's product.
        args: arguments of the module's forward.
        kwargs: keyword arguments of the module's forward.

    Returns:
        Whatever the module's forward returns.

    Raises:
        FpsimError: products of an unknown kind, or a parameter that is never multiplied.
    """
    mode = _Intercept(weights, product)
    with _eager(module), mode:
        out = type(module).forward(module, *args, **kwargs)
    unmet = [parameter for parameter in mode.parameters.values() if parameter not in mode.met]
    if unmet and any(isinstance(x, torch.Tensor) and x.numel() for x in (*args, *kwargs.values())):
        raise FpsimError(
            f"layer {mode.name}: it was to multiply by {', '.join(unmet)}, but "
            "its forward did so in no way that is known; skip it by pattern"
        )
    return out


@contextmanager
def _eager(module: nn.Module) -> Iterator[None]:
    """Let transformers compute experts one by one within a context."""
    config = getattr(module, "config", None)
    before = getattr(config, _IMPLEMENTATION, None)
    if config is None or before is None:
        yield
        return
    setattr(config, _IMPLEMENTATION, "eager")
    try:
        yield
    finally:
        setattr(config, _IMPLEMENTATION, before)
