# SPDX-License-Identifier: Apache-2.0
"""Calibration of LLM-FP4: every layer's inputs in the float model, a search per layer, one file.

Layers are searched independently against the float model ("parallel quantization" in the paper), as
points of an executor (`fpsim.base.executor`). The file is rewritten after every layer; an
interrupted calibration goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.base.executor import Executor, Work, executor
from fpsim.bridge.convert import attention_layers, check_model, layers_to_convert
from fpsim.bridge.layer_inputs import (
    Batch,
    RowPicker,
    captured_inputs,
    check_batches,
    kept_rows,
    row_step,
    watched,
    without_padding,
)
from fpsim.bridge.llmfp4.attention_search import PRODUCTS, recorded_products, searched_product
from fpsim.bridge.llmfp4.calibration import Calibration
from fpsim.bridge.llmfp4.search import SearchSettings, search_embedding, searched
from fpsim.bridge.product import float_rows
from fpsim.bridge.recipe import Recipe, get_recipe
from fpsim.bridge.systems.calibrator import calibrate_system
from fpsim.bridge.systems.file import SystemCalibration
from fpsim.bridge.systems.recipe import SystemRecipe
from fpsim.bridge.transform_plan import fingerprints, layer_transforms
from fpsim.bridge.transforms import LayerTransform, Transform, get_transforms
from fpsim.bridge.weights import LayerWeight

__all__ = ["Batch", "Loss", "Searched", "calibrate", "captured_inputs", "data_digest"]

#: Loss of a model on a batch, for the Fisher objective.
Loss = Callable[[nn.Module, Batch], torch.Tensor]
#: Called with layers done, layers in all, and one line of figures.
Report = Callable[[int, int, str], None]


@runtime_checkable
class Searched(Protocol):
    """A recipe with constants that `calibrate` searches."""

    @property
    def settings(self) -> SearchSettings:
        """Settings of the search of a layer."""

    def description(self) -> dict[str, Any]:
        """Return the options on which a calibration depends, with ``objective`` (l2, fisher) and,
        if attention is searched too, ``quantize_attention``."""


#: Most bytes of inputs held at once.
BUDGET = 1 << 30


def calibrate(
    model: nn.Module,
    batches: Sequence[Batch],
    recipe: str | Recipe = "llm-fp4",
    *,
    out: str | Path | None = None,
    tokens: int = 1024,
    skip: Sequence[str] | None = None,
    only: Sequence[str] = ("*",),
    transforms: str | Sequence[str | Transform] = (),
    loss: Loss | None = None,
    report: Report | None = None,
    pool: Executor | None = None,
) -> Calibration | SystemCalibration:
    """Search the constants of every layer that ``recipe`` would cast, on ``batches``.

    Systems, such as ``quarot``, are calibrated block by block on all tokens of the batches; see
    `fpsim.bridge.systems.calibrator`.

    Args:
        model: a float model in eval mode, not converted.
        batches: keyword arguments of forward passes; padded positions are left out.
        recipe: a recipe that needs calibration, such as ``llm-fp4@4/4/8``.
        out: a safetensors file, rewritten after each layer; an incomplete file of the same model,
            data and settings is resumed.
        tokens: rows of each layer's input to keep, spread evenly over the batches.
        skip, only: patterns of layers, as in `convert`.
        transforms: transforms; `convert` must get equal ones, with equal ``batches``. The search
            sees transformed weights and inputs.
        loss: loss for the objective ``fisher``; default: the model's, with its most likely labels.
        report: called after each layer.
        pool: executor for the layers; None: this process. The file does not depend on it. Systems
            run in this process, since each block needs those before it.

    Returns:
        The constants of every layer.

    Raises:
        FpsimError: a recipe without a search, a converted model, batches that are no mappings of
            tensors, an input with NaN (the message names the layer), or a file of another
            calibration or without the suffix .safetensors.
    """
    chosen = get_recipe(recipe)
    if not isinstance(chosen, Searched | SystemRecipe):
        raise FpsimError(f"recipe: {chosen.name} needs no calibration")
    if out is not None:
        Calibration.check_path(out)
    if tokens < 1:
        raise FpsimError(f"tokens: {tokens!r} is not a positive number")
    check_batches(batches)
    check_model(model)
    if model.training:
        raise FpsimError("model: it is in training mode; call model.eval() first")
    if isinstance(chosen, SystemRecipe):
        return calibrate_system(
            model, batches, chosen, out=out, skip=skip, only=only, transforms=transforms,
            data=data_digest(batches), report=report,
        )  # fmt: skip
    settings = chosen.settings
    batches = without_padding(batches)
    linears, table = layers_to_convert(model, chosen, skip, only)
    about = {**chosen.description(), "tokens": tokens, "data": data_digest(batches)}
    given = get_transforms(transforms)
    if given:
        about["transforms"] = [repr(transform) for transform in given]
    changes = layer_transforms(model, linears, given, batches)
    prints = fingerprints(linears, changes)
    found = Calibration.start(out, about, prints)
    attention = (
        attention_layers(model, chosen, skip, only) if about.get("quantize_attention") else {}
    )
    total = len(linears) + len(PRODUCTS) * len(attention) + bool(table)
    for name, embedding in table.items():
        if name not in found.embeddings:
            fmt, bias = search_embedding(
                float_rows(embedding.weight), chosen.bits.embedding, settings.grid, settings.method
            )
            found.embeddings[name] = fmt, bias
            found.save(out)
    todo = [name for name in linears if name not in found.layers]
    if report:
        report(len(found.layers) + bool(table), total, "")

    def run(work: Work, names: Sequence[str], points: Sequence[Any]) -> None:
        with executor() if pool is None else nullcontext(pool) as there:
            for place, constants in there.run(work, points):
                found.layers[names[place]] = constants
                found.save(out)
                if report:
                    said = _figures(names[place], found)
                    report(len(found.layers) + bool(table), total, said)

    fisher = about["objective"] == "fisher"
    held = kept_rows(batches, tokens)
    for group in _groups(linears, todo, held, fisher):
        part = {name: linears[name] for name in group}
        inputs = captured_inputs(model, part, batches, tokens, changes)
        gradients = _gradients(model, part, batches, tokens, loss) if fisher else {}
        points: list[Any] = []
        for name in group:
            weight, met = _changed(linears[name], changes[name]), inputs.pop(name)
            points.append((weight, met.rows(), settings, gradients.get(name), met.maxima))
        run(searched, group, points)
    pairs = recorded_products(model, attention, batches) if attention else {}
    left = [name for name in pairs if name not in found.layers]
    run(searched_product, left, [(pairs[name], settings) for name in left])
    # An executor may have finished layers in another order.
    found.layers = {name: found.layers[name] for name in [*linears, *pairs]}
    found.finish(out)
    return found


def _changed(layer: LayerWeight, changes: Sequence[LayerTransform]) -> NDArray[np.float32]:
    """Return a layer's transformed weight (N, K)."""
    weight = layer.matrix.detach()
    for change in changes:
        weight = change.weight(weight)
    return float_rows(weight)


def _figures(name: str, found: Calibration) -> str:
    layer = found.layers[name]
    formats = [
        "float" if fmt is None else fmt.name.removesuffix("b0")
        for fmt in (layer.weight_format, layer.input_format)
    ]
    return f"{name}: W {formats[0]}, A {formats[1]}, error {100 * layer.error:.2f} %"


def _groups(
    linears: dict[str, LayerWeight], todo: list[str], rows: int, fisher: bool
) -> Iterator[list[str]]:
    """Yield groups of layers whose inputs fit the budget together."""
    group: list[str] = []
    held = 0
    for name in todo:
        inside, outside = linears[name].sizes
        size = 4 * rows * (inside + (outside if fisher else 0))
        if group and held + size > BUDGET:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group


def _gradients(
    model: nn.Module,
    layers: Mapping[str, LayerWeight],
    batches: Sequence[Batch],
    tokens: int,
    loss: Loss | None,
) -> dict[str, NDArray[np.float32]]:
    """Return squared gradients (T, out_features) of the loss by each layer's output.

    Rows are in the order of the forward pass, as in `captured_inputs`, also if a layer runs more
    than once. Layers without influence on the loss, such as an unused pooler, are left out; a call
    of another layer without influence has zeros.
    """
    pickers = {name: RowPicker(row_step(batches, tokens)) for name in layers}
    calls: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, _: torch.Tensor, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.retain_grad()
        calls.setdefault(name, []).append(output)

    with watched(layers, keep):
        for batch in batches:
            calls.clear()
            with torch.enable_grad():
                value = (loss or _own_loss)(model, batch)
            value.backward()  # type: ignore[no-untyped-call]
            model.zero_grad(set_to_none=True)
            for name, outputs in calls.items():
                if any(output.grad is not None for output in outputs):
                    for output in outputs:
                        there = output.grad
                        pickers[name].add(torch.zeros_like(output) if there is None else there)
    # Scaled to a mean of 1: only ratios matter, and squares of gradients would underflow.
    met = {name: picker for name, picker in pickers.items() if picker.parts}
    return {name: _normalised(picker.rows()) for name, picker in met.items()}


def _normalised(gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    square = np.square(gradient.astype(np.float64))
    mean = max(float(square.mean()), 1e-300)
    return np.asarray(square / mean, dtype=np.float32)


def _own_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return -log p of the most likely labels or, without logits, half the squared output."""
    output = model(**batch)
    if hasattr(output, "logits"):
        logits = output.logits.flatten(0, -2).float()
        return nn.functional.cross_entropy(logits, logits.argmax(-1), reduction="sum")
    hidden: torch.Tensor = output.last_hidden_state
    return hidden.float().square().sum() / 2


def data_digest(batches: Sequence[Batch]) -> str:
    """Return 16 hexadecimal digits that identify calibration data."""
    digest = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            tensor = batch[name].detach().cpu().contiguous()
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
