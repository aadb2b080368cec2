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

from fpsim.base.cache_dir import cache_dir
from fpsim.base.executor import Executor
from fpsim.base.notebook import html_pairs
from fpsim.blocks.block_format import BlockFormat
from fpsim.bridge.convert import conversion_of, convert, restore
from fpsim.bridge.linear import simulated_layers
from fpsim.bridge.llmfp4.calibrate import calibrate, data_digest
from fpsim.bridge.measure.macs import MacShare, counted
from fpsim.bridge.measure.models import LoadedModel
from fpsim.bridge.measure.perplexity import PerplexityResult, Progress, perplexity
from fpsim.bridge.measure.tasks import Task
from fpsim.bridge.recipe import Recipe, get_recipe
from fpsim.bridge.recipes.tensor_scales import StaticRecipe, input_maxima
from fpsim.bridge.stored import AnyCalibration
from fpsim.bridge.transforms import get_transforms
from fpsim.unit import MacUnit, get_unit
from fpsim.units.spec import MacSpec

__all__ = ["Evaluation", "calibrate_for", "evaluate", "evaluate_task"]


@dataclass(frozen=True)
class Evaluation:
    """Perplexity of one model under one recipe (None: float32), and the units of its products.

    ``unit`` names the units with the operands' formats. ``baseline`` is the model's perplexity in
    float32 on the same windows, ``causal`` the recipe's with tokens passed one by one; None: not
    measured.
    """

    model: str
    recipe: str | None
    unit: str | None
    result: PerplexityResult
    replaced: int
    kernel: str  #: kernel of the first layer; `why` says why it is exact
    why: str
    baseline: PerplexityResult | None = None
    causal: PerplexityResult | None = None
    macs: MacShare | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        data: dict[str, Any] = {
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
            "notes": list(self.notes),
        }
        if self.baseline is not None:
            data["float_perplexity"] = self.baseline.perplexity
            data["float_seconds"] = self.baseline.seconds
        if self.causal is not None:
            data["causal_perplexity"] = self.causal.perplexity
        if self.macs is not None:
            data["macs"] = self.macs.as_dict()
        return data

    def _repr_html_(self) -> str:
        data = self.as_dict()
        share = None if self.macs is None else f"{100 * self.macs.share:.1f} %"
        return html_pairs(
            f"{self.model}, {self.recipe or 'float32'}",
            (
                ("unit", self.unit),
                ("perplexity", f"{self.result.perplexity:.4f}"),
                ("in float32", data.get("float_perplexity")),
                ("token by token", data.get("causal_perplexity")),
                ("multiply-accumulates on the unit", share),
                ("tokens", self.result.tokens),
                ("kernel", self.kernel),
                ("why it is exact", self.why),
                ("notes", "; ".join(self.notes)),
            ),
        )

    def __str__(self) -> str:
        """Return the measurement in a few lines of text."""
        where = f" on {self.unit}" if self.unit else ""
        beside = ""
        if self.baseline is not None:
            ratio = self.result.perplexity / self.baseline.perplexity
            beside = f" (float32 {self.baseline.perplexity:.4f}, ratio {ratio:.4f})"
        lines = [
            f"{self.model}, {self.recipe or 'float32'}{where}: "
            f"perplexity {self.result.perplexity:.4f}{beside}"
        ]
        if self.causal is not None:
            lines.append(f"  token by token: perplexity {self.causal.perplexity:.4f}")
        if self.macs is not None:
            lines.append(f"  {self.macs}")
        took = f"{self.result.tokens} tokens in {self.result.seconds:.1f} s"
        lines.append(f"  {took}; {self.kernel}: {self.why}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def evaluate(
    loaded: LoadedModel,
    windows: NDArray[np.int64],
    recipe: str | Recipe | BlockFormat | None = None,
    unit: str | MacSpec | MacUnit = "exact",
    progress: Progress | None = None,
    calibration: Any = None,
    *,
    baseline: bool = False,
    causal: bool = False,
    seed: int = 0,
) -> Evaluation:
    """Measure perplexity over windows; the model is restored afterwards.

    Args:
        loaded: the model.
        windows: (count, length).
        recipe: a recipe, as in `convert`; None: the model runs in float32.
        unit: a unit, as in `convert`.
        progress: called with windows done and in all, over all measurements.
        calibration: a calibration, as in `convert`.
        baseline: whether to measure the model in float32 too.
        causal: whether to measure with tokens passed one by one too, see `perplexity`.
        seed: seed of stochastic rounding, as in `convert`.

    Returns:
        The perplexities with recipe, units, kernels and remarks.

    Raises:
        FpsimError: arguments that `convert` or `perplexity` refuses.
    """
    runs = 1 + causal + (baseline and recipe is not None)
    count = windows.shape[0] if windows.ndim else 0
    done = 0

    def step() -> Progress | None:
        nonlocal done
        before, done = done, done + 1
        if progress is None:
            return None
        return lambda i, n: progress(before * count + i, runs * n)

    if recipe is None:
        result = _warm(loaded, windows, step())
        slow = perplexity(loaded.model, windows, step(), True) if causal else None
        why = "float32 as loaded"
        return Evaluation(loaded.name, None, None, result, 0, "torch", why, causal=slow)
    chosen, mac = get_recipe(recipe), get_unit(unit)
    plain = _warm(loaded, windows, step()) if baseline else None
    convert(loaded.model, chosen, mac, calibration=calibration, seed=seed)
    try:
        record = conversion_of(loaded.model)
        with counted(loaded.model) as macs:
            result = perplexity(loaded.model, windows, step())
        slow = perplexity(loaded.model, windows, step(), True) if causal else None
        kernel, why = _plan(loaded)
    finally:
        restore(loaded.model)
    return Evaluation(
        loaded.name, chosen.name, ", ".join(record.units) or None, result, len(record.replaced),
        kernel, why, plain, slow, macs, record.notes,
    )  # fmt: skip


def _warm(
    loaded: LoadedModel, windows: NDArray[np.int64], progress: Progress | None
) -> PerplexityResult:
    """Measure the float model after an untimed pass: set-up by torch would distort the ratio of
    seconds to a simulation's."""
    perplexity(loaded.model, np.atleast_1d(windows)[:1])
    return perplexity(loaded.model, windows, progress)


def calibrate_for(
    loaded: LoadedModel,
    task: Task,
    recipe: str | Recipe,
    *,
    rows: int = 1024,
    out: str | Path | None = None,
    transforms: str = "",
    report: Callable[[int, int, str], None] | None = None,
    pool: Executor | None = None,
) -> AnyCalibration | dict[str, float]:
    """Calibrate a model on its task's calibration data.

    Args:
        loaded: the model.
        task: the task that will measure the model.
        recipe: a recipe that needs calibration.
        rows: rows of each layer's input to keep.
        out: a safetensors file; default: a file in the cache, named by model, recipe and data,
            which is used again.
        transforms: transforms by name, as in `evaluate_task`.
        report: called after each layer, as in `calibrate`.
        pool: executor for the layers, as in `calibrate`.

    Returns:
        The constants of every layer or, for a static recipe, the maxima of its inputs.

    Raises:
        FpsimError: arguments that `calibrate` refuses.
    """
    chosen, batches = get_recipe(recipe), task.calibration()
    if isinstance(chosen, StaticRecipe):
        return input_maxima(loaded.model, batches)
    if out is None:
        digest = hashlib.sha256(repr((rows, chosen, data_digest(batches))).encode())
        digest.update(transforms.encode())
        digest.update(repr(list(loaded.model.state_dict())).encode())
        name = loaded.name.replace("/", "_").strip("._")
        out = cache_dir() / "calibrations" / f"{name}-{digest.hexdigest()[:16]}.safetensors"
    return calibrate(
        loaded.model, batches, chosen, out=out, tokens=rows, transforms=transforms, report=report,
        pool=pool,
    )  # fmt: skip


def evaluate_task(
    loaded: LoadedModel,
    task: Task,
    recipe: str | Recipe | None = None,
    unit: str | MacSpec | MacUnit = "exact",
    progress: Progress | None = None,
    calibration: Any = None,
    transforms: str = "",
    *,
    baseline: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a model by a task; the model is restored afterwards.

    Args:
        loaded: the model.
        task: the task.
        recipe: a recipe, as in `convert`; None: the model runs in float32.
        unit: a unit, as in `convert`.
        progress: called with steps done and in all.
        calibration: a calibration, as in `convert`.
        transforms: names, as in `fpsim.bridge.transforms`; they look at the task's calibration
            data.
        baseline: whether to measure the model in float32 too; these figures are called
            ``float_...``.
        seed: seed of stochastic rounding, as in `convert`.

    Returns:
        The task's figures, with model, recipe, unit, seconds, notes and multiply-accumulates, as
        JSON-ready data.

    Raises:
        FpsimError: arguments that `convert` refuses.
    """
    started = time.perf_counter()
    if recipe is None:
        figures = task.measure(loaded.model, progress)
        about: dict[str, Any] = {"model": loaded.name, "recipe": None, "unit": None, "layers": 0}
        return about | figures | {"seconds": time.perf_counter() - started}
    chosen, mac = get_recipe(recipe), get_unit(unit)
    given = get_transforms(transforms)
    batches = task.calibration() if any(t.needs_inputs for t in given) else ()
    plain = task.measure(loaded.model, progress) if baseline else {}
    convert(
        loaded.model, chosen, mac, calibration=calibration, transforms=given, batches=batches,
        seed=seed,
    )  # fmt: skip
    try:
        record = conversion_of(loaded.model)
        with counted(loaded.model) as macs:
            figures = task.measure(loaded.model, progress)
    finally:
        restore(loaded.model)
    about = {
        "model": loaded.name, "recipe": chosen.name, "unit": ", ".join(record.units) or None,
        "layers": len(record.replaced),
    }  # fmt: skip
    figures |= {f"float_{name}": value for name, value in plain.items()}
    more = {"macs": macs.as_dict(), "notes": list(record.notes)}
    if transforms:
        about["transforms"] = transforms
    return about | figures | {"seconds": time.perf_counter() - started} | more


def _plan(loaded: LoadedModel) -> tuple[str, str]:
    """Return the kernel of the first simulated layer, and the reason why it is exact."""
    for layer in simulated_layers(loaded.model).values():
        if layer.plan is not None:
            return layer.plan.kernel, layer.plan.why
    return "torch", "float product with cast weights"
