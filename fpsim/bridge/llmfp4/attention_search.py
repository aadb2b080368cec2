# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4's search for attention's two products, for BERT and ViT in the paper.

Both operands are activations: calibration gives each layer one format and one real bias per
operand. The paper describes the pre-shift only for products with a weight, so it is not used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.base.powers import exp2
from fpsim.bridge.attention import SimulatedAttention, attach, detach
from fpsim.bridge.convert import dispatched
from fpsim.bridge.layer_inputs import Batch
from fpsim.bridge.llmfp4.fpq import (
    LayerConstants,
    Method,
    Order,
    bias_candidates,
    initial_biases,
    start_format,
)
from fpsim.bridge.llmfp4.search import SearchSettings, choices
from fpsim.bridge.recipe import AttentionCasts
from fpsim.formats.floating import FloatFormat
from fpsim.kernels.codec.fake_quantize import fake_quantize
from fpsim.studies.clipping import largest_value

__all__ = ["PRODUCTS", "recorded_products", "search_product"]

#: Names of the two products, appended to the attention layer's name.
PRODUCTS = ("scores", "values")
#: Matrices kept per product: heads, spread over batches.
_MATRICES = 48

Pair = tuple[torch.Tensor, torch.Tensor]


class _Recorder(SimulatedAttention):
    """Attention in float that keeps its operands."""

    def __init__(self, name: str, share: int) -> None:
        super().__init__(AttentionCasts(None, None, None, None), None, name)  # type: ignore[arg-type]
        self.share = share
        self.seen: dict[str, list[Pair]] = {product: [] for product in PRODUCTS}

    def _product(self, x: torch.Tensor, w: torch.Tensor, names: tuple[str, str]) -> torch.Tensor:
        product = PRODUCTS[names[0] == "probability"]
        step = max(1, x.shape[0] // self.share)
        self.seen[product].append((x[::step].float().clone(), w[::step].float().clone()))
        return x.float() @ w.float().transpose(1, 2)


@torch.no_grad()
def recorded_products(
    model: nn.Module, layers: dict[str, nn.Module], batches: Sequence[Batch]
) -> dict[str, list[Pair]]:
    """Run the float model and keep operands of attention's products.

    Args:
        model: with transformers' attention interface.
        layers: attention layers by name.
        batches: keyword arguments of forward passes.

    Returns:
        Operands (B, M, K) and (B, N, K) of each layer's products, by ``layer/product``.

    Raises:
        FpsimError: an operand with NaN or infinity, or a layer that is never called; the message
            names the layer.
    """
    share = max(1, _MATRICES // len(batches))
    recorders = {name: _Recorder(name, share) for name in layers}
    with dispatched(model):
        for name, layer in layers.items():
            attach(layer, recorders[name])
        try:
            for batch in batches:
                model(**batch)
        finally:
            for layer in layers.values():
                detach(layer)
    found = {}
    for name, recorder in recorders.items():
        for product, pairs in recorder.seen.items():
            if not pairs:
                raise FpsimError(f"layer {name}: no batch reached it; skip it by pattern")
            if not all(torch.isfinite(t).all() for pair in pairs for t in pair):
                raise FpsimError(f"layer {name}: its {product} hold NaN or infinity")
            found[f"{name}/{product}"] = pairs
    return found


def search_product(pairs: Sequence[Pair], settings: SearchSettings) -> LayerConstants:
    """Return formats and biases of both operands that minimize the products' squared error.

    The order is that of a layer's search, with the first operand as inputs and the second as
    weight; ``weight_bias`` of the result has one entry.
    """
    both = settings.input_bits
    return _ProductSearch(pairs, replace(settings, weight_bits=both)).run()


def searched_product(point: tuple[Sequence[Pair], SearchSettings]) -> LayerConstants:
    """Search one product for an executor: ``point`` has the arguments of `search_product`."""
    return search_product(*point)


class _Operand:
    """State of one operand: a bias per format, and the current format."""

    def __init__(self, tensors: list[torch.Tensor], settings: SearchSettings) -> None:
        self.tensors = tensors
        self.formats = choices(settings.input_bits, settings.method)
        largest = np.array([max(float(t.abs().max()) for t in tensors)])
        self.start = {f: initial_biases(f, largest) for f in self.formats}
        self.bias = {f: float(start[0]) for f, start in self.start.items()}
        self.format = start_format(settings.input_bits)

    def cast(self, fmt: FloatFormat, bias: float) -> list[torch.Tensor]:
        return [_fake(tensor, fmt, bias) for tensor in self.tensors]

    def current(self) -> list[torch.Tensor]:
        return self.cast(self.format, self.bias[self.format])


class _ProductSearch:
    def __init__(self, pairs: Sequence[Pair], settings: SearchSettings) -> None:
        self.settings = settings
        self.x = _Operand([x.contiguous() for x, _ in pairs], settings)
        self.w = _Operand([w.contiguous() for _, w in pairs], settings)
        self.target = [x @ w.transpose(1, 2) for x, w in pairs]

    def run(self) -> LayerConstants:
        for _ in range(0 if self.settings.method is Method.MINMAX else self.settings.rounds):
            state = self._state()
            if self.settings.order is Order.PAPER:
                self._biases(self.x, self.w)
                self._format(self.x, self.w)
                self._biases(self.w, self.x)
                self._format(self.w, self.x)
            else:
                self._biases(self.w, self.x)
                if self.settings.method is Method.BASELINE:
                    self._format(self.w, self.x)
                self._biases(self.x, self.w)
                if self.settings.method is Method.FPQ:
                    self._format(self.w, self.x)
                self._format(self.x, self.w)
            if state == self._state():
                break
        power = sum(float(t.square().sum(dtype=torch.float64)) for t in self.target)
        error = self._error(self.x.current(), self.w.current())
        return LayerConstants(
            weight_format=self.w.format,
            weight_bias=np.array([self.w.bias[self.w.format]]),
            input_format=self.x.format,
            rho=self.x.bias[self.x.format],
            shifts=None,
            error=error / max(power, 1e-300),
        )

    def _state(self) -> tuple[object, ...]:
        return tuple((o.format, tuple(o.bias.values())) for o in (self.x, self.w))

    def _biases(self, operand: _Operand, other: _Operand) -> None:
        fixed = other.current()
        for fmt in operand.formats:
            tried = bias_candidates(operand.start[fmt], self.settings.grid)[:, 0]
            errors = [self._mixed(operand, operand.cast(fmt, bias), fixed) for bias in tried]
            operand.bias[fmt] = float(tried[int(np.argmin(errors))])

    def _format(self, operand: _Operand, other: _Operand) -> None:
        fixed = other.current()
        errors = [
            self._mixed(operand, operand.cast(fmt, operand.bias[fmt]), fixed)
            for fmt in operand.formats
        ]
        operand.format = operand.formats[int(np.argmin(errors))]

    def _mixed(
        self, operand: _Operand, cast: list[torch.Tensor], fixed: list[torch.Tensor]
    ) -> float:
        x, w = (cast, fixed) if operand is self.x else (fixed, cast)
        return self._error(x, w)

    def _error(self, x: list[torch.Tensor], w: list[torch.Tensor]) -> float:
        total = 0.0
        for a, b, wanted in zip(x, w, self.target, strict=True):
            error = a @ b.transpose(1, 2) - wanted
            total += float(error.square_().sum(dtype=torch.float64))
        return total


def _fake(tensor: torch.Tensor, fmt: FloatFormat, bias: float) -> torch.Tensor:
    rows = tensor.reshape(-1, tensor.shape[-1]).numpy()
    out = np.empty_like(rows)
    scale = np.full(rows.shape[0], exp2(bias), np.float32)
    ones = np.ones(rows.shape[1], np.float32)
    fake_quantize(rows, scale, ones, fmt.mantissa_bits, largest_value(fmt), out)
    return torch.from_numpy(out).reshape(tensor.shape)
