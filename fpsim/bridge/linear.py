# SPDX-License-Identifier: Apache-2.0
"""Linear layers whose every multiply-accumulate is the simulated unit's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.blocks import Quantized
from fpsim.bridge.recipes import Recipe
from fpsim.engine import Plan
from fpsim.errors import FpsimError
from fpsim.matmul import matmul_codes
from fpsim.operands import MatmulOperands
from fpsim.unit import MacUnit

__all__ = ["CastLinear", "SimulatedLinear"]


class _QuantizedLinear(nn.Module):
    """A linear layer with weights in a block format; buffers ``codes`` (in, out), ``scales``."""

    codes: torch.Tensor
    scales: torch.Tensor

    def __init__(self, linear: nn.Linear, recipe: Recipe, name: str) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.recipe = recipe
        self.name = name
        self.bias = linear.bias
        weight = linear.weight.detach().to(torch.float32).cpu().numpy()
        try:
            quantized = recipe.weight.quantize(weight, axis=1, nan="error")
        except FpsimError as error:
            raise FpsimError(f"layer {name}: weight: {error}") from None
        # The unit reads b as (K, N): in_features first.
        self.register_buffer("codes", torch.from_numpy(np.ascontiguousarray(quantized.codes.T)))
        self.register_buffer("scales", torch.from_numpy(np.ascontiguousarray(quantized.scales.T)))

    def extra_repr(self) -> str:
        """Describe the layer where torch prints a model."""
        return f"{self.in_features}, {self.out_features}, recipe={self.recipe.name}"

    def _finish(self, out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        out = out.reshape(*x.shape[:-1], self.out_features).to(x.dtype)
        return out if self.bias is None else out + self.bias


class SimulatedLinear(_QuantizedLinear):
    """``y = x W^T + bias`` with x cast by the recipe and the product computed by a `MacUnit`.

    Scales are added to the products' exponents. The accumulator codes are decoded to the dtype of
    ``x``; the bias is added in that dtype. Inference only.
    """

    def __init__(self, linear: nn.Linear, recipe: Recipe, unit: MacUnit, name: str) -> None:
        super().__init__(linear, recipe, name)
        self.unit = unit
        self.plan: Plan | None = None  #: the engine's choice in the last forward pass

    def extra_repr(self) -> str:
        """Describe the layer where torch prints a model."""
        return f"{super().extra_repr()}, unit={self.unit.name}"

    def cast_input(self, x: torch.Tensor) -> Quantized:
        """Return the codes and scales of ``x`` (..., in_features) as rows."""
        rows = x.detach().reshape(-1, self.in_features).to(torch.float32).cpu().numpy()
        fmt = self.recipe.activation
        assert fmt is not None
        try:
            return fmt.quantize(rows, axis=1, nan="error")
        except FpsimError as error:
            raise FpsimError(f"layer {self.name}: activation: {error}") from None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for ``x`` (..., in_features)."""
        cast = self.cast_input(x)
        block = self.recipe.weight.block
        assert isinstance(block, int)
        args = MatmulOperands.check(
            self.unit.spec,
            cast.codes,
            self.codes.numpy(),
            a_scale=cast.scales,
            b_scale=self.scales.numpy(),
            block=block,
        )
        codes, self.plan = matmul_codes(self.unit.spec, args)
        return self._finish(torch.from_numpy(_as_float32(self.unit, codes)), x)


class CastLinear(_QuantizedLinear):
    """``y = x W^T + bias`` in float, with only the weights cast: no FP4 unit multiplies floats."""

    weight: torch.Tensor

    def __init__(self, linear: nn.Linear, recipe: Recipe, name: str) -> None:
        super().__init__(linear, recipe, name)
        stored = Quantized(self.codes.numpy(), self.scales.numpy(), axis=0)
        values = torch.from_numpy(recipe.weight.dequantize(stored).T.astype(np.float32))
        self.register_buffer("weight", values.contiguous(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for ``x`` (..., in_features)."""
        return self._finish(nn.functional.linear(x.to(torch.float32), self.weight), x)


def _as_float32(unit: MacUnit, codes: NDArray[Any]) -> NDArray[np.float32]:
    if unit.result.name == "e8m23":
        return codes.view(np.float32)
    if unit.result.name == "e5m10":
        return codes.view(np.float16).astype(np.float32)
    return unit.result.decode(codes).astype(np.float32)
