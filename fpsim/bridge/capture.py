# SPDX-License-Identifier: Apache-2.0
"""Real tensors of a model: what its linear layers multiply."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.convert import SKIP

__all__ = ["capture"]


@torch.no_grad()
def capture(
    model: nn.Module, tokens: NDArray[np.int64], limit: int = 1 << 20
) -> dict[str, list[NDArray[np.float32]]]:
    """Return ``weights`` and ``activations`` (inputs) of a model's linear layers, one array each.

    ``tokens`` is one window (length,). Every layer but the lm_head contributes whole rows spread
    evenly over it, flattened, a row cut to whole blocks of 32; ``limit`` values in all per kind.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith(SKIP[0])
    }
    if not layers:
        raise FpsimError("model: it has no nn.Linear layer to capture")
    share = max(limit // len(layers), 32)
    inputs: dict[str, NDArray[np.float32]] = {}

    def hook(name: str) -> Any:
        def record(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            inputs[name] = _rows(args[0], share)

        return record

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        model(input_ids=torch.as_tensor(tokens)[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return {
        "weights": [_rows(layer.weight, share) for layer in layers.values()],
        "activations": [inputs[name] for name in layers if name in inputs],
    }


def _rows(tensor: torch.Tensor, share: int) -> NDArray[np.float32]:
    matrix = tensor.detach().reshape(-1, tensor.shape[-1]).to(torch.float32)
    width = matrix.shape[1] // 32 * 32 or matrix.shape[1]
    count = max(min(share // width, matrix.shape[0]), 1)
    picked = torch.linspace(0, matrix.shape[0] - 1, count).long()
    return matrix[picked, :width].reshape(-1).numpy()
