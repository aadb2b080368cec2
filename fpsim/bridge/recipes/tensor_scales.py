# SPDX-License-Identifier: Apache-2.0
"""NVFP4 with a tensor scale of inputs other than that of a whole pass: static, or one per token.

A scale over all tokens of a pass makes each token depend on its batch, on padding and on later
tokens. Deployed models take the scale from calibration (``nvfp4-static``, arXiv 2509.25149 and
ModelOpt: amax / (6 448)); ``nvfp4-token`` finds one per token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat
from fpsim.blocks.fields import Span
from fpsim.bridge.cast import BlockCast, Cast
from fpsim.bridge.layer_inputs import Batch, captured_inputs, check_batches, without_padding
from fpsim.bridge.recipe import FLOAT_BITS, AttentionCasts, register
from fpsim.bridge.recipes.blocks import FormatRecipe
from fpsim.bridge.weights import weights_of

__all__ = ["StaticRecipe", "TokenRecipe", "input_maxima"]


def input_maxima(model: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
    """Return the largest magnitude of every linear layer's and expert's inputs in a float model.

    It is the calibration of the recipe ``nvfp4-static``. Padded positions are left out.

    Args:
        model: a float model in eval mode, not converted.
        batches: keyword arguments of forward passes.

    Returns:
        Maxima by name of the layer; experts without any routed tokens are left out.

    Raises:
        FpsimError: no batches, or one that is no mapping of tensors.
    """
    check_batches(batches)
    given = without_padding(batches)
    weights, _, _ = weights_of(model)
    met = captured_inputs(model, weights, given, tokens=1)
    return {n: float(p.maxima.max()) for n, p in met.items() if p.maxima is not None}


@dataclass(frozen=True)
class StaticRecipe(FormatRecipe):
    """A block format with a tensor scale, static for inputs: ``calibration=input_maxima(...)``."""

    maxima: dict[str, float] = field(default_factory=dict, repr=False)

    needs_calibration: ClassVar[bool] = True

    @property
    def is_calibrated(self) -> bool:
        """Whether the recipe has maxima."""
        return bool(self.maxima)

    def calibrated(self, calibration: Any) -> Self:
        """Return the recipe with the maxima of `input_maxima`."""
        if not isinstance(calibration, Mapping):
            raise FpsimError(
                f"calibration: {type(calibration).__name__} is not what "
                f"fpsim.bridge.input_maxima returns, which {self.name} needs"
            )
        return replace(self, maxima=dict(calibration))

    def activation(self, layer: str) -> Cast | None:
        """Return the cast of a layer's inputs with the layer's static scale."""
        if self.bits.activation in FLOAT_BITS:
            return None
        fmt = self.format(self.bits.activation)
        largest = self.maxima.get(layer)
        if largest is None:
            raise FpsimError(
                f"layer {layer}: the calibration never reached it; give more batches, or skip it"
            )
        span = np.float32(fmt.limit * fmt.tensor_range)
        return BlockCast(fmt, float(np.float32(largest) / span) if largest else 1.0)

    def attention(self, layer: str) -> AttentionCasts | None:
        """Return None: only inputs of layers have static scales."""
        if self.quantize_attention:
            raise FpsimError(
                f"quantize_attention: {self.name} has static scales for layers only; allowed: false"
            )
        return None


@dataclass(frozen=True)
class TokenRecipe(FormatRecipe):
    """A block format with a tensor scale, one per token for inputs."""

    def activation(self, layer: str) -> Cast | None:
        """Return the cast of inputs."""
        if self.bits.activation in FLOAT_BITS:
            return None
        return BlockCast(per_token(self.format(self.bits.activation)))


def per_token(fmt: BlockFormat) -> BlockFormat:
    """Return a format with one tensor scale per row."""
    return replace(fmt, name=f"{fmt.name}-token", outer=Span.ROW)


register("nvfp4-static", block_format="nvfp4")(StaticRecipe)
register("nvfp4-token", block_format="nvfp4")(TokenRecipe)
