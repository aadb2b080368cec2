# SPDX-License-Identifier: Apache-2.0
"""Which transforms every layer of a model gets, and its weight under them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.inputs import Batch, captured_inputs
from fpsim.bridge.linear import weight_matrix
from fpsim.bridge.llmfp4.calibration import fingerprint
from fpsim.bridge.transforms import LayerTransform, Transform

__all__ = ["Changes", "fingerprints", "layer_transforms"]

#: Transforms by the layer's name, in the order in which they are applied.
Changes = Mapping[str, Sequence[LayerTransform]]
#: Rows of each layer's input that transforms look at.
TRANSFORM_TOKENS = 1024


def layer_transforms(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    transforms: Sequence[Transform],
    batches: Iterable[Batch],
) -> Changes:
    """Return the transforms of each layer; each sees inputs as the one before it leaves them.

    Raises:
        FpsimError: no batches, though a transform looks at inputs.
    """
    changes: dict[str, list[LayerTransform]] = {name: [] for name in layers}
    if not transforms:
        return changes
    seen: dict[str, torch.Tensor | None] = dict.fromkeys(layers)
    if any(transform.needs_inputs for transform in transforms):
        batches = list(batches)
        if not batches:
            raise FpsimError("batches: these transforms look at inputs, but none were given")
        captured = captured_inputs(model, layers, batches, TRANSFORM_TOKENS)
        seen |= {name: torch.from_numpy(rows) for name, rows in captured.items()}
    for name, layer in layers.items():
        weight, inputs = weight_matrix(layer).detach(), seen[name]
        for transform in transforms:
            change = transform.layer(weight, inputs)
            weight = change.weight(weight)
            inputs = None if inputs is None else change.inputs(inputs)
            changes[name].append(change)
    return changes


def fingerprints(layers: Mapping[str, nn.Module], changes: Changes) -> dict[str, str]:
    """Return the fingerprint of every layer's weight as its transforms leave it."""
    prints = {}
    for name, layer in layers.items():
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        if changes[name]:
            weight = weight_matrix(layer).detach()
            for change in changes[name]:
                weight = change.weight(weight)
        prints[name] = fingerprint(weight)
    return prints
