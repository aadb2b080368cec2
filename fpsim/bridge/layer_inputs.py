# SPDX-License-Identifier: Apache-2.0
"""Inputs of a float model's linear layers and experts, as rows spread over batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.experts import run_experts
from fpsim.bridge.product import float_rows
from fpsim.bridge.recipe import SKIP
from fpsim.bridge.transforms import LayerTransform
from fpsim.bridge.weights import LayerWeight, expert_weights, weights_of

__all__ = [
    "Batch",
    "Changes",
    "LayerCall",
    "RowPicker",
    "capture",
    "captured_inputs",
    "check_batches",
    "kept_rows",
    "row_step",
    "watched",
    "without_padding",
]

#: Keyword arguments of a model's forward.
Batch = Mapping[str, torch.Tensor]
#: Transforms by name of the layer, in order of application.
Changes = Mapping[str, Sequence[LayerTransform]]
#: Called as (layer's name, its input, its output) after each product.
LayerCall = Callable[[str, torch.Tensor, torch.Tensor], None]


# -- batches -------------------------------------------------------------------------------------

#: Arguments that are cut like the mask along their first two axes, (sequences, positions).
_MASKED = {
    "attention_mask": ("input_ids", "inputs_embeds", "token_type_ids", "position_ids", "labels"),
    "decoder_attention_mask": ("decoder_input_ids", "decoder_inputs_embeds"),
}


#: Right batches, for messages.
_BATCHES = "[{'input_ids': ids}]"


def check_batches(batches: Sequence[Batch]) -> None:
    """Check that ``batches`` are a model's keyword arguments, one mapping of tensors per pass.

    Raises:
        FpsimError: no batches, or one that is none; the message shows a right one.
    """
    if isinstance(batches, torch.Tensor | Mapping | str):
        raise FpsimError(
            f"batches: a {type(batches).__name__} is one batch or none; a list is needed, such as "
            f"{_BATCHES}"
        )
    if not batches:
        raise FpsimError("batches: none were given")
    for i, batch in enumerate(batches):
        _check_mapping(i, batch)
        for name, value in batch.items():
            if not isinstance(value, torch.Tensor):
                raise FpsimError(
                    f"batches: {name!r} of number {i} is a {type(value).__name__}, not a tensor as "
                    f"in {_BATCHES}"
                )


def _check_mapping(i: int, batch: Batch) -> None:
    if not isinstance(batch, Mapping) or not batch:
        raise FpsimError(
            f"batches: number {i} is a {type(batch).__name__}; each is a mapping of the "
            f"model's arguments to tensors, as in {_BATCHES}"
        )


def without_padding(batches: Iterable[Batch]) -> list[Batch]:
    """Return the batches with every sequence cut to the positions that its mask lets through.

    Sequences of unlike lengths go into separate batches, in order, so padded positions take no part
    in any computation.

    Raises:
        FpsimError: a batch that is no mapping, a mask with holes, or one that hides every position.
    """
    found: list[Batch] = []
    for i, batch in enumerate(batches):
        _check_mapping(i, batch)
        spans = {mask: _spans(batch, mask) for mask in _MASKED if _is_mask(batch.get(mask))}
        if all(span is None for span in spans.values()):
            found.append(batch)
            continue
        count = next(iter(batch.values())).shape[0]
        parts: dict[tuple[Any, ...], list[int]] = {}
        for row in range(count):
            parts.setdefault(tuple(s and s[row] for s in spans.values()), []).append(row)
        for cuts, rows in parts.items():
            found.append(_cut(batch, dict(zip(spans, cuts, strict=True)), rows))
    return found


def _is_mask(tensor: torch.Tensor | None) -> bool:
    return tensor is not None and tensor.dim() == 2


def _spans(batch: Batch, name: str) -> list[tuple[int, int]] | None:
    """Return start and end of each sequence's visible positions; None if all are visible."""
    mask = batch[name].bool()
    if bool(mask.all()):
        return None
    spans = []
    for row in mask:
        there = row.nonzero()[:, 0]
        if not len(there) or int(there[-1]) - int(there[0]) + 1 != len(there):
            raise FpsimError(
                f"batches: {name} lets {len(there)} positions of a sequence through, which are not "
                "one after another; calibration needs sequences of at least one token without holes"
            )
        spans.append((int(there[0]), int(there[-1]) + 1))
    return spans


def _cut(batch: Batch, spans: Mapping[str, tuple[int, int] | None], rows: list[int]) -> Batch:
    ends = {name: span for mask, span in spans.items() if span for name in (mask, *_MASKED[mask])}
    return {
        name: tensor[rows] if name not in ends else tensor[rows, slice(*ends[name])]
        for name, tensor in batch.items()
    }


def _positions(batches: Sequence[Batch]) -> int:
    """Return the number of tokens (or images) in the batches."""
    return sum(max(1, int(_first(batch).shape[:2].numel())) for batch in batches)


def _first(batch: Batch) -> torch.Tensor:
    tensor = next(iter(batch.values()))
    return tensor if tensor.dim() < 3 else tensor[:, 0, 0]  # an image counts as one row


# -- rows ----------------------------------------------------------------------------------------


class RowPicker:
    """Keeps every n-th row over all batches, and the largest magnitude per channel of all rows."""

    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0
        self.parts: list[NDArray[np.float32]] = []
        self.maxima: NDArray[np.float32] | None = None  #: (K,)

    def add(self, x: torch.Tensor) -> None:
        """Take a batch (..., K)."""
        rows = float_rows(x)
        if not rows.size:
            return
        first = -self.seen % self.step
        self.parts.append(rows[first :: self.step].copy())
        self.seen += rows.shape[0]
        largest = np.abs(rows).max(axis=0)
        self.maxima = largest if self.maxima is None else np.maximum(self.maxima, largest)

    def rows(self) -> NDArray[np.float32]:
        """Return the kept rows, (T, K)."""
        return np.concatenate(self.parts)


def row_step(batches: Sequence[Batch], tokens: int) -> int:
    """Return n such that every n-th row gives about ``tokens`` rows."""
    return max(1, _positions(batches) // tokens)


def kept_rows(batches: Sequence[Batch], tokens: int) -> int:
    """Return the most rows that are kept."""
    return min(tokens, _positions(batches)) + 1


@contextmanager
def watched(layers: Mapping[str, LayerWeight], call: LayerCall) -> Iterator[None]:
    """Call ``call`` with input and output of every product of the layers, within a context.

    Outputs of linear layers include the bias, outputs of experts do not.
    """
    linears = {name: w for name, w in layers.items() if w.index is None}
    experts: dict[nn.Module, dict[tuple[str, int], str]] = {}
    for name, weight in layers.items():
        if weight.index is not None:
            experts.setdefault(weight.module, {})[weight.parameter, weight.index] = name
    handles = [
        weight.module.register_forward_hook(_linear_hook(name, call))
        for name, weight in linears.items()
    ]
    try:
        for module, names in experts.items():
            module.__dict__["forward"] = _WatchedExperts(module, names, call)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in experts:
            module.__dict__.pop("forward", None)


def _linear_hook(name: str, call: LayerCall) -> Callable[[nn.Module, Any, torch.Tensor], None]:
    def record(_: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        call(name, args[0], output)

    return record


class _WatchedExperts:
    """A module of experts that calls ``call`` with every product."""

    def __init__(
        self, module: nn.Module, names: Mapping[tuple[str, int], str], call: LayerCall
    ) -> None:
        self.module, self.names, self.call = module, names, call
        self.weights = {(w.parameter, w.index or 0): w for w in expert_weights(module).values()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return run_experts(self.module, self.weights, self._product, args, kwargs)

    def _product(self, key: tuple[str, int], x: torch.Tensor) -> torch.Tensor | None:
        if key not in self.names:
            return None
        out = nn.functional.linear(x, self.weights[key].matrix)
        self.call(self.names[key], x, out)
        return out


@torch.no_grad()
def captured_inputs(
    model: nn.Module,
    layers: Mapping[str, LayerWeight],
    batches: Iterable[Batch],
    tokens: int,
    changes: Changes = MappingProxyType({}),
) -> dict[str, RowPicker]:
    """Run the float model and keep rows of layers' inputs, spread over the batches.

    Padded positions are left out, see `without_padding`.

    Args:
        model: the float model.
        layers: the layers, by name.
        batches: keyword arguments of the model's forward passes.
        tokens: approximate number of rows to keep per layer.
        changes: transforms of the inputs by layer, applied first.

    Returns:
        The rows (T, in_features) and largest magnitudes of each layer's input, by name.

    Raises:
        FpsimError: NaN or infinity in an input, or a layer or expert that is never called.
    """
    batches = without_padding(batches)
    pickers = {name: RowPicker(row_step(batches, tokens)) for name in layers}

    def add(name: str, x: torch.Tensor, _: torch.Tensor) -> None:
        for change in changes.get(name, ()):
            x = change.inputs(x)
        pickers[name].add(x)

    with watched(layers, add):
        for batch in batches:
            model(**batch)
    for name, picker in pickers.items():
        if picker.maxima is None:
            raise FpsimError(
                f"layer {name}: no batch reached it; give more batches or skip it by pattern"
            )
        if not np.isfinite(picker.maxima).all():
            raise FpsimError(f"layer {name}: its calibration input holds NaN or infinity")
    return pickers


@torch.no_grad()
def capture(
    model: nn.Module, tokens: NDArray[np.int64], limit: int = 1 << 20
) -> dict[str, list[NDArray[np.float32]]]:
    """Sample a model's weights and its linear layers' inputs.

    Every layer and expert except lm_head gives whole rows, evenly spread and flattened, each cut to
    whole blocks of 32.

    Args:
        model: a language model.
        tokens: one window (length,).
        limit: most values of all weights, and of all activations.

    Returns:
        ``weights`` and ``activations`` (inputs), each with an array per layer.

    Raises:
        FpsimError: a model without linear layers.
    """
    layers = {
        name: weight for name, weight in weights_of(model)[0].items() if not name.endswith(SKIP[0])
    }
    if not layers:
        raise FpsimError("model: it has no nn.Linear layer to capture")
    share = max(limit // len(layers), 32)
    inputs: dict[str, NDArray[np.float32]] = {}

    def record(name: str, x: torch.Tensor, _: torch.Tensor) -> None:
        inputs[name] = _spread(x, share)

    with watched(layers, record):
        model(input_ids=torch.as_tensor(tokens)[None], use_cache=False)
    return {
        "weights": [_spread(weight.matrix, share) for weight in layers.values()],
        "activations": [inputs[name] for name in layers if name in inputs],
    }


def _spread(tensor: torch.Tensor, share: int) -> NDArray[np.float32]:
    matrix = tensor.detach().reshape(-1, tensor.shape[-1]).to(torch.float32)
    width = matrix.shape[1] // 32 * 32 or matrix.shape[1]
    count = max(min(share // width, matrix.shape[0]), 1)
    picked = torch.linspace(0, matrix.shape[0] - 1, count).long()
    return matrix[picked, :width].reshape(-1).numpy()
