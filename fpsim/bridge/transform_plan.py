# SPDX-License-Identifier: Apache-2.0
"""Transforms of every layer of a model, and fingerprints of the transformed weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.layer_inputs import Batch, Changes, captured_inputs
from fpsim.bridge.llmfp4.calibration import fingerprint
from fpsim.bridge.transforms import LayerTransform, Transform
from fpsim.bridge.weights import LayerWeight

__all__ = ["fingerprints", "layer_transforms"]

#: Rows of each layer's input for transforms that look at inputs.
TRANSFORM_TOKENS = 1024


def layer_transforms(
    model: nn.Module,
    layers: Mapping[str, LayerWeight],
    transforms: Sequence[Transform],
    batches: Iterable[Batch],
) -> Changes:
    """Make the transforms of each layer; each sees inputs changed by the one before.

    Args:
        model: a float model.
        layers: weights of the layers, by name.
        transforms: transforms in order of application.
        batches: forward passes, for transforms that look at inputs.

    Returns:
        The transforms of each layer, by name.

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
        seen |= {name: torch.from_numpy(picker.rows()) for name, picker in captured.items()}
    for name, layer in layers.items():
        weight, inputs = layer.matrix.detach(), seen[name]
        for transform in transforms:
            change = transform.layer(weight, inputs)
            weight = change.weight(weight)
            inputs = None if inputs is None else change.inputs(inputs)
            changes[name].append(change)
    return changes


def fingerprints(layers: Mapping[str, LayerWeight], changes: Changes) -> dict[str, str]:
    """Return the fingerprint of every layer's transformed weight."""
    prints = {}
    for name, layer in layers.items():
        # Of the weight as stored, if no transform changes it: files of earlier versions have this.
        weight = layer.matrix.detach() if changes[name] else layer.stored
        for change in changes[name]:
            weight = change.weight(weight)
        prints[name] = fingerprint(weight)
    return prints
