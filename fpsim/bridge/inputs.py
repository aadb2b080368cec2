# SPDX-License-Identifier: Apache-2.0
"""Inputs of a model's linear layers, as rows spread over batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.product import float_rows

__all__ = ["Batch", "RowPicker", "captured_inputs", "kept_rows", "row_step"]

#: What a model is called with.
Batch = Mapping[str, torch.Tensor]


class RowPicker:
    """Keeps every n-th row of what passes, over all batches."""

    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0
        self.parts: list[NDArray[np.float32]] = []

    def add(self, x: torch.Tensor) -> None:
        """Take a batch (..., K)."""
        rows = float_rows(x)
        first = -self.seen % self.step
        self.parts.append(rows[first :: self.step].copy())
        self.seen += rows.shape[0]

    def rows(self) -> NDArray[np.float32]:
        """Return what was kept, (T, K)."""
        return np.concatenate(self.parts)


def _positions(batches: Sequence[Batch]) -> int:
    """Return how many tokens (or images) the batches hold."""
    return sum(max(1, int(_first(batch).shape[:2].numel())) for batch in batches)


def _first(batch: Batch) -> torch.Tensor:
    tensor = next(iter(batch.values()))
    return tensor if tensor.dim() < 3 else tensor[:, 0, 0]  # images count as one row here


def row_step(batches: Sequence[Batch], tokens: int) -> int:
    """Return n such that every n-th row makes about ``tokens``."""
    return max(1, _positions(batches) // tokens)


def kept_rows(batches: Sequence[Batch], tokens: int) -> int:
    """Return at most how many rows are kept."""
    return min(tokens, _positions(batches)) + 1


@torch.no_grad()
def captured_inputs(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Iterable[Batch], tokens: int
) -> dict[str, NDArray[np.float32]]:
    """Return inputs (T, in_features) of layers, about ``tokens`` rows spread over the batches.

    Raises:
        FpsimError: NaN or infinity in an input, or a layer that was never called, naming it.
    """
    batches = list(batches)
    pickers: dict[str, RowPicker] = {name: RowPicker(row_step(batches, tokens)) for name in layers}
    handles = [
        layer.register_forward_pre_hook(_recorder(pickers[name])) for name, layer in layers.items()
    ]
    try:
        for batch in batches:
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for name, picker in pickers.items():
        if not picker.parts:
            raise FpsimError(f"layer {name}: no batch reached it; skip it by pattern")
        found[name] = picker.rows()
        if not np.isfinite(found[name]).all():
            raise FpsimError(f"layer {name}: its calibration input holds NaN or infinity")
    return found


def _recorder(picker: RowPicker) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
    def record(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        picker.add(args[0])

    return record
