# SPDX-License-Identifier: Apache-2.0
"""The steps of a search as functions for executors: points in, figures out, both as plain data.

A worker loads the model once, by name, and refuses a model of another digest.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.explore.layers import LayerSample, layer_rows, sample_layers
from fpsim.explore.silicon import silicon
from fpsim.explore.storage import storage_bits
from fpsim.unit import MacUnit, get_unit
from fpsim.units.spec import MacSpec

if TYPE_CHECKING:
    from torch import nn

    from fpsim.bridge.measure.models import LoadedModel
    from fpsim.units.operands import Operand

__all__ = ["cheap", "cost", "model_digest", "score"]

Plain = Mapping[str, Any]


def model_digest(model: nn.Module) -> str:
    """Return a SHA-256 of a model's parameters and buffers (names, shapes, types, bits)."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(flat.numpy()))
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _loaded(name: str, digest: str) -> LoadedModel:
    from fpsim.bridge.measure import models

    loaded = models.load(name)
    found = model_digest(loaded.model)
    if digest and found != digest:
        raise FpsimError(f"model: {name} has digest {found[:16]} here, but {digest[:16]} is wanted")
    return loaded


def _task(loaded: LoadedModel, point: Plain) -> Any:
    from fpsim.bridge.measure.tasks import task_for

    return task_for(loaded, count=point["windows"], length=point["window"])


@lru_cache(maxsize=1)
def _samples(
    name: str, digest: str, windows: int, window: int, layers: int
) -> dict[str, LayerSample]:
    loaded = _loaded(name, digest)
    batches = _task(loaded, {"windows": windows, "window": window}).calibration()[:1]
    every = sample_layers(loaded.model, batches)
    names = list(every)
    places = np.linspace(0, len(names) - 1, min(layers, len(names))).astype(int)
    return {names[place]: every[names[place]] for place in dict.fromkeys(places.tolist())}


def _samples_of(point: Plain) -> dict[str, LayerSample]:
    return _samples(
        point["model"], point["digest"], point["windows"], point["window"], point["layers"]
    )


def _unit(point: Plain) -> MacUnit:
    return MacUnit(MacSpec.from_dict(point["unit"]))


def cheap(point: Plain) -> dict[str, Any]:
    """Measure the effects of a recipe and a unit on a few sampled layers.

    Args:
        point: ``model``, ``digest``, ``windows``, ``window``, ``layers``, ``recipe``, ``unit``.

    Returns:
        ``lossless`` (whether no step of the accumulator lost anything), ``cast_db``, ``unit_db``
        and ``output_db`` of the worst layer, ``swamped`` and ``overflows`` over all layers; or
        ``error``.
    """
    try:
        rows = layer_rows(_samples_of(point), point["recipe"], _unit(point))
    except FpsimError as error:
        return {"error": str(error)}
    if not rows:
        return {"error": f"recipe {point['recipe']} casts none of the sampled layers"}
    worst = min(rows, key=lambda row: row.output_db)
    noise = [row.unit_db for row in rows]
    return {
        "lossless": all(math.isinf(db) and db > 0 for db in noise),
        "finite": not any(math.isnan(db) for db in noise),
        "layer": worst.layer,
        "cast_db": _plain(worst.cast_db),
        "unit_db": _plain(min(noise, default=math.inf)),
        "output_db": _plain(worst.output_db),
        "swamped": float(np.mean([row.swamped for row in rows])),
        "overflows": float(np.mean([row.overflows for row in rows])),
        "fixed_bits": max(row.fixed_bits for row in rows),
    }


def _plain(value: float) -> float | None:
    """Return a number, or None for an infinite or NaN one, which JSON lacks."""
    return value if math.isfinite(value) else None


def operands_of(point: Plain) -> tuple[MacUnit, tuple[Operand, Operand]]:
    """Return the unit with a recipe's operand formats, and the operands of a sampled layer."""
    from fpsim.bridge.cast import same_blocks
    from fpsim.bridge.product import derived_unit
    from fpsim.bridge.recipe import get_recipe

    recipe = get_recipe(point["recipe"])
    samples = list(_samples_of(point).values())
    sample = samples[len(samples) // 2]
    input_cast, weight_cast = recipe.activation(sample.name), recipe.weight(sample.name)
    if input_cast is None or weight_cast is None:
        raise FpsimError(f"recipe: {recipe.name} leaves layer {sample.name} in float")
    a, b = same_blocks(input_cast.quantize(sample.inputs), weight_cast.quantize(sample.weight))
    return derived_unit(_unit(point), a, b), (a, b)


def cost(point: Plain) -> dict[str, Any]:
    """Return the hardware costs of a unit with a recipe's operands, and its storage bits.

    Args:
        point: a point, as for `cheap`, with ``energy`` (whether to measure energy).

    Returns:
        `fpsim.explore.silicon.Silicon` as data, with ``unit`` and ``equation`` (with the recipe's
        operands) and ``bits`` (storage per element, the mean of weights and activations, scales
        included).
    """
    unit, pair = operands_of(point)
    scaled = any(operand.scales is not None for operand in pair)
    found = silicon(unit, pair if point["energy"] else None, scaled).to_dict()
    bits = storage_bits(point["recipe"])
    return found | {
        "unit": unit.spec.to_dict(),
        "equation": unit.spec.equation,
        "bits": sum(bits) / len(bits),
    }


def score(point: Plain) -> dict[str, Any]:
    """Return the figures of the model's whole task on a unit.

    Args:
        point: a point, as for `cheap`; ``recipe`` None: the float model. ``transforms``, if
            present, as for `fpsim.bridge.evaluate_task`.

    Returns:
        The task's figures, or ``error``.
    """
    from fpsim.bridge import evaluate_task

    loaded = _loaded(point["model"], point["digest"])
    recipe = point["recipe"]
    unit = get_unit("exact") if recipe is None else _unit(point)
    try:
        figures = evaluate_task(
            loaded, _task(loaded, point), recipe, unit, transforms=point.get("transforms", "")
        )
    except FpsimError as error:
        return {"error": str(error)}
    return {
        name: _plain(float(value))
        for name, value in figures.items()
        if isinstance(value, float) and name != "seconds"
    }
