# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a model with its linear layers on a simulated unit."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.bridge.convert import conversion_of, convert, restore
from fpsim.bridge.linear import SimulatedLinear
from fpsim.bridge.llmfp4.calibrate import calibrate, data_digest
from fpsim.bridge.llmfp4.calibration import Calibration
from fpsim.bridge.measure.models import LoadedModel
from fpsim.bridge.measure.perplexity import PerplexityResult, Progress, perplexity
from fpsim.bridge.measure.tasks import Task
from fpsim.bridge.measure.wheels import cache_dir
from fpsim.bridge.recipe import Recipe, get_recipe
from fpsim.bridge.transforms import get_transforms
from fpsim.unit import MacUnit, get_unit
from fpsim.units.spec import MacSpec

__all__ = ["Evaluation", "calibrate_for", "evaluate", "evaluate_task"]


@dataclass(frozen=True)
class Evaluation:
    """Perplexity of one model under one recipe and unit (None: float32)."""

    model: str
    recipe: str | None
    unit: str | None
    result: PerplexityResult
    replaced: int
    kernel: str  #: the engine's choice for the first layer, with `why` it is exact
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "model": self.model,
            "recipe": self.recipe,
            "unit": self.unit,
            "perplexity": self.result.perplexity,
            "tokens": self.result.tokens,
            "seconds": self.result.seconds,
            "window_nll": list(self.result.nll),
            "layers": self.replaced,
            "kernel": self.kernel,
            "why": self.why,
        }


def evaluate(
    loaded: LoadedModel,
    windows: NDArray[np.int64],
    recipe: str | Recipe | None = None,
    unit: str | MacSpec | MacUnit = "exact",
    progress: Progress | None = None,
    calibration: Any = None,
) -> Evaluation:
    """Measure perplexity over ``windows`` (count, length); the model is restored afterwards.

    Without a recipe the model runs as it is, in float32. ``calibration`` is as in `convert`.
    """
    if recipe is None:
        result = perplexity(loaded.model, windows, progress)
        return Evaluation(loaded.name, None, None, result, 0, "torch", "float32 as loaded")
    chosen, mac = get_recipe(recipe), get_unit(unit)
    convert(loaded.model, chosen, mac, calibration=calibration)
    try:
        replaced = len(conversion_of(loaded.model).replaced)
        result = perplexity(loaded.model, windows, progress)
        kernel, why = _plan(loaded)
    finally:
        restore(loaded.model)
    name = None if chosen.weights_only else mac.name
    return Evaluation(loaded.name, chosen.name, name, result, replaced, kernel, why)


def calibrate_for(
    loaded: LoadedModel,
    task: Task,
    recipe: str | Recipe,
    *,
    rows: int = 1024,
    out: str | Path | None = None,
    transforms: str = "",
    report: Callable[[int, int, str], None] | None = None,
) -> Calibration:
    """Calibrate a model on the data that its task keeps apart for that.

    ``rows`` of each layer's input are kept. Without ``out`` the file goes to the cache, by model,
    recipe and data, and is used again.
    """
    chosen, batches = get_recipe(recipe), task.calibration()
    if out is None:
        digest = hashlib.sha256(repr((rows, chosen, data_digest(batches))).encode())
        digest.update(transforms.encode())
        digest.update(repr(list(loaded.model.state_dict())).encode())
        name = loaded.name.replace("/", "_").strip("._")
        out = cache_dir() / "calibrations" / f"{name}-{digest.hexdigest()[:16]}.safetensors"
    return calibrate(
        loaded.model, batches, chosen, out=out, tokens=rows, transforms=transforms, report=report
    )


def evaluate_task(
    loaded: LoadedModel,
    task: Task,
    recipe: str | Recipe | None = None,
    unit: str | MacSpec | MacUnit = "exact",
    progress: Progress | None = None,
    calibration: Any = None,
    transforms: str = "",
) -> dict[str, Any]:
    """Return what a task measures, with model, recipe, unit and seconds, as data for JSON.

    The model is restored afterwards; without a recipe it runs in float32. ``transforms`` are named
    as in `fpsim.bridge.transforms` and look at the task's calibration data.
    """
    started = time.perf_counter()
    if recipe is None:
        figures = task.measure(loaded.model, progress)
        about: dict[str, Any] = {"model": loaded.name, "recipe": None, "unit": None, "layers": 0}
        return about | figures | {"seconds": time.perf_counter() - started}
    chosen, mac = get_recipe(recipe), get_unit(unit)
    given = get_transforms(transforms)
    batches = task.calibration() if any(t.needs_inputs for t in given) else ()
    convert(
        loaded.model, chosen, mac, calibration=calibration, transforms=given, batches=batches
    )  # fmt: skip
    try:
        replaced = len(conversion_of(loaded.model).replaced)
        figures = task.measure(loaded.model, progress)
    finally:
        restore(loaded.model)
    name = None if chosen.weights_only else mac.name
    about = {"model": loaded.name, "recipe": chosen.name, "unit": name, "layers": replaced}
    if transforms:
        about["transforms"] = transforms
    return about | figures | {"seconds": time.perf_counter() - started}


def _plan(loaded: LoadedModel) -> tuple[str, str]:
    """Return the kernel of the first simulated layer and the reason it is exact."""
    for module in loaded.model.modules():
        if isinstance(module, SimulatedLinear) and module.plan is not None:
            return module.plan.kernel, module.plan.why
    return "torch", "float product with cast weights"
