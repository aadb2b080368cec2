# SPDX-License-Identifier: Apache-2.0
"""Scales and shifts folded into a float model's weights, without a change of its function.

    a norm and its readers        gain / s, (bias - d) / s;  W diag(s), b + W d
    values and attention's output    rows of W_v and b_v / s;   W_o diag(s repeated)
    one linear layer and the next rows of W and b / s;       W diag(s)
    queries and keys              rows of W_q / s; rows of W_k s

Under grouped-query attention one scale serves all query heads that read a head of keys and values;
rotary positions mix channels j and j + D/2 of a head, so both have one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.layer_inputs import Batch
from fpsim.bridge.systems.file import SystemCalibration
from fpsim.bridge.systems.forms import Divide
from fpsim.bridge.systems.stream import blocks_of, first_inputs
from fpsim.bridge.weights import LayerWeight, weights_of

__all__ = ["fold_calibration", "fold_norm", "fold_queries", "fold_values", "tied_pairs"]


def _scaled(module: nn.Module, factor: torch.Tensor, rows: bool) -> None:
    """Multiply rows (and the bias) or columns of a linear layer's weight."""
    weight: Any = module.weight
    wide = weight.double() * (factor[:, None] if rows else factor)
    weight.copy_(wide.to(weight.dtype))
    bias: Any = getattr(module, "bias", None)
    if rows and bias is not None:
        bias.copy_((bias.double() * factor).to(bias.dtype))


@torch.no_grad()
def fold_norm(
    norm: nn.Module,
    readers: Sequence[nn.Module],
    scale: torch.Tensor,
    shift: torch.Tensor | None = None,
) -> None:
    """Let a norm make (x - shift) / scale in place of x, and its readers expect it, in place.

    Args:
        norm: x / rms(x) * gain, perhaps with a bias.
        readers: all layers that read the norm's output; nothing else may read it.
        scale: (K,), without zeros.
        shift: (K,), or None. It needs a norm with a bias and readers with biases.

    Raises:
        FpsimError: a shift without a bias in norm or readers, or a norm whose output is not its
            weight times the normalised input.
    """
    s = scale.double()
    weight: Any = norm.weight
    probe = torch.randn(3, len(s), dtype=weight.dtype, generator=torch.Generator().manual_seed(0))
    before = norm(probe).double()
    if shift is not None:
        missing = [m for m in (norm, *readers) if getattr(m, "bias", None) is None]
        if missing:
            raise FpsimError(f"fold: {type(missing[0]).__name__} has no bias to take a shift")
    old = weight.clone()
    weight.copy_((weight.double() / s).to(weight.dtype))
    bias: Any = getattr(norm, "bias", None)
    if bias is not None:
        moved = bias.double() if shift is None else bias.double() - shift.double()
        bias.copy_((moved / s).to(bias.dtype))
    elif not torch.allclose(norm(probe).double() * s, before, rtol=1e-3, atol=1e-4):
        weight.copy_(old)  # for example Gemma's, whose gain is 1 + weight
        raise FpsimError(f"fold: {type(norm).__name__} does not multiply by its weight")
    for reader in readers:
        own: Any = reader.weight
        if shift is not None:
            extra: Any = reader.bias
            extra.copy_((extra.double() + own.double() @ shift.double()).to(extra.dtype))
        _scaled(reader, s, rows=False)


@torch.no_grad()
def fold_values(value: nn.Module, reader: nn.Module, scale: torch.Tensor, head: int = 0) -> None:
    """Divide the rows of one layer by scales and multiply the columns of the next, in place.

    Args:
        value: makes the channels; only sums over tokens are between it and the reader.
        reader: reads the channels, each head of ``head`` channels as often as its width requires.
        scale: (rows of ``value``,).
        head: channels of a head; 0: the reader reads every channel once.

    Raises:
        FpsimError: widths that do not fit.
    """
    s = scale.double()
    wide_weight: Any = reader.weight
    made, read = len(s), int(wide_weight.shape[1])
    if read % made or (read != made and (not head or made % head)):
        raise FpsimError(f"fold: {read} channels are read, but {made} are made")
    wide = s if read == made else s.reshape(-1, head).repeat_interleave(read // made, 0).flatten()
    _scaled(value, 1 / s, rows=True)
    _scaled(reader, wide, rows=False)


def tied_pairs(scale: torch.Tensor, head: int) -> torch.Tensor:
    """Return scales (heads * head,) with equal values for channels that rotary positions mix.

    Channels j and j + head/2 of a head both get the geometric mean of their scales.
    """
    halves = scale.reshape(-1, 2, head // 2)
    return halves.log().mean(1, keepdim=True).exp().expand_as(halves).reshape(-1)


@torch.no_grad()
def fold_queries(query: nn.Module, key: nn.Module, scale: torch.Tensor, head: int) -> None:
    """Divide queries and multiply keys by scales per channel, in place; scores do not change.

    Args:
        query: the layer that makes queries; groups of its heads read one head of ``key``.
        key: the layer that makes keys.
        scale: (rows of ``key``,).
        head: channels of a head.

    Raises:
        FpsimError: scales that differ between channels that rotary positions mix.
    """
    if not torch.allclose(scale, tied_pairs(scale, head).to(scale.dtype), rtol=1e-5):
        raise FpsimError(
            f"fold: scales of channels j and j + {head // 2} of a head differ, which rotary "
            "positions do not allow; see tied_pairs"
        )
    s = scale.double()
    weight: Any = query.weight
    repeats = int(weight.shape[0]) // len(s)
    wide = s.reshape(-1, head).repeat_interleave(repeats, 0).flatten()
    _scaled(query, 1 / wide, rows=True)
    _scaled(key, s, rows=True)


@torch.no_grad()
def fold_calibration(model: nn.Module, calibration: SystemCalibration, batch: Batch) -> list[str]:
    """Fold the scales of a system's calibration into a float model's norms, in place.

    The model's function does not change; weights and norms are those that SmoothQuant, AWQ or AQAS
    would store before rounding.

    Args:
        model: the calibrated model.
        calibration: a calibration with layers that begin with scales.
        batch: one forward pass, which shows which layers read which norm.

    Returns:
        The names of the changed norms.

    Raises:
        FpsimError: a calibration of another model, or one without scales that norms can take.
    """
    layers = weights_of(model)[0]
    known = {name: weight for name, weight in layers.items() if name in calibration.layers}
    blocks, _ = blocks_of(model, known)
    states = first_inputs(model, blocks, [batch])
    todo: list[tuple[str, list[nn.Module], Divide]] = []
    for block in blocks:
        block.find_groups(states)
        for group in block.groups:
            first = calibration.layers[group.names[0]].maps[:1]
            if group.norm is not None and first and isinstance(first[0], Divide):
                todo.append((group.norm, _modules(layers, group.names), first[0]))
        states = [block.run(0, states[0])]
    if not todo:
        raise FpsimError("calibration: it has no scales that norms could take")
    for norm, readers, divide in todo:
        shift = None if divide.shift is None else torch.from_numpy(divide.shift)
        fold_norm(model.get_submodule(norm), readers, torch.from_numpy(divide.scale), shift)
    return [norm for norm, _, _ in todo]


def _modules(layers: Mapping[str, LayerWeight], names: Sequence[str]) -> list[nn.Module]:
    return [layers[name].module for name in names]
