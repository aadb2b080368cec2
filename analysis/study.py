# SPDX-License-Identifier: Apache-2.0
"""What the studies share: numbers are measured once and kept; figures are drawn from them.

A study is a module with ``NAME``, ``measure(run)`` (JSON-ready data), ``draw(data)`` and, where
there are many figures, ``table(data)`` (Markdown). Its numbers are ``results/NAME.json``, its
picture is ``results/NAME.svg``, its table ``results/NAME.md``. Every finished point is kept
under ``out/studies``, so a study that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import fpsim
from fpsim import plots
from fpsim.base.atomic_files import write_atomic
from fpsim.base.executor import Executor, PointCache, executor, run_points
from fpsim.base.progress import bar, say

__all__ = [
    "MODEL", "NUDGES", "RECIPES", "TOKENS", "WINDOW", "WINDOWS", "Array", "Run", "about", "change",
    "converted", "effects", "layer_points", "layer_tensors", "loaded_model", "main", "noise",
    "score", "score_points", "score_windows", "token_losses",
]  # fmt: skip

Array = np.ndarray[Any, Any]
MODEL = "smollm2-135m"
#: Text of the studies: 2 windows of 512 tokens of CPython's help topics, the first of those that
#: `recipes.py` measures on.
WINDOWS, WINDOW = 2, 512
#: Predicted tokens, and those whose mean negative log likelihood is kept: 14 parts of 73.
TOKENS, PART = WINDOWS * (WINDOW - 1), 73
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Run:
    """Where points of a study run, and what has been finished."""

    pool: Executor
    cache: PointCache

    def points(self, title: str, work: Callable[[Any], Any], points: Sequence[Any]) -> list[Any]:
        """Return the results of all points, in their order."""
        with bar(title) as update:
            return run_points(
                work, points, self.pool, self.cache, lambda done, total, _: update(done, total)
            )


def about(**more: Any) -> dict[str, Any]:
    """Return what a caption says: version, text and whatever a study adds."""
    return {
        "version": fpsim.__version__, "python": platform.python_version(), "tokens": TOKENS,
    } | more  # fmt: skip


#: Seeds that move embeddings by one unit in the last place, to see what is chance.
NUDGES = (1, 2, 3, 4, 5)


# -- perplexity ----------------------------------------------------------------------------------


def score_points(
    run: Run, cells: Sequence[tuple[str | None, str]], model: str = MODEL, **more: Any
) -> list[Any]:
    """Return perplexities for pairs of recipe (None: float32) and unit; see `score`."""
    points = [_data(recipe, unit, model=model) | more for recipe, unit in cells]
    return run.points(model, score, points)


def score(point: dict[str, Any]) -> dict[str, Any]:
    """Measure perplexity, as work for an executor.

    Args:
        point: ``model``, ``windows``, ``window``, ``recipe``, ``unit`` (data), and if wanted
            ``transforms``, ``seed`` (of random bits) and ``nudge``, a seed that moves embeddings
            by one unit in the last place: what differs then is chance.

    Returns:
        ``perplexity``, and ``nll`` by parts of 73 tokens; or ``error``.
    """
    from fpsim.bridge import evaluate_task

    loaded = loaded_model(point["model"])
    try:
        with _nudged(loaded.model, point.get("nudge", 0)):
            figures = evaluate_task(
                loaded,
                _parts_task(point),
                point["recipe"],
                fpsim.MacUnit(fpsim.MacSpec.from_dict(point["unit"])),
                transforms=point.get("transforms", ""),
                seed=point.get("seed", 0),
            )
    except fpsim.FpsimError as error:
        return {"error": str(error)}
    return _scored(figures["nll"])


def score_windows(model: Any, cut: Array) -> dict[str, Any]:
    """Return what `score` does, of a model as it is on windows of 512 tokens, (count, 512)."""
    return _scored(_parts(model, cut))


def _parts(model: Any, cut: Array) -> list[float]:
    losses = [token_losses(model, window).reshape(-1, PART).mean(1) for window in cut]
    return [float(value) for value in np.concatenate(losses)]


def _scored(nll: list[float]) -> dict[str, Any]:
    if not np.isfinite(nll).all():
        return {"error": "the loss is not finite"}
    mean = float(np.mean(nll))
    perplexity = math.exp(mean) if mean < 700 else None
    return {"perplexity": perplexity, "nll": [round(value, 5) for value in nll]}


#: What the tasks on language compare: a title, the recipe and its transforms. NVFP4 has a scale per
#: token here, so that no token sees a later one through its scale.
RECIPES: dict[str, tuple[str | None, str]] = {
    "float32": (None, ""),
    "NVFP4": ("nvfp4-token", ""),
    "AMXFP4": ("amxfp4-linear", ""),
    "MXFP4": ("mxfp4", ""),
    "INT4, rotated": ("int4", "hadamard"),
}


@contextmanager
def converted(name: str, recipe: str | None, transforms: str = "") -> Iterator[Any]:
    """Yield a model with the products of its linear layers added exactly, or in float32 (None)."""
    from fpsim.bridge import convert, restore
    from fpsim.bridge.transforms import get_transforms

    model = loaded_model(name).model
    if recipe is None:
        yield model
        return
    convert(model, recipe, "exact", transforms=get_transforms(transforms))
    try:
        yield model
    finally:
        restore(model)


@lru_cache(maxsize=1)
def loaded_model(name: str) -> Any:
    """Return a model by name, loaded once."""
    from fpsim.bridge.measure import models

    return models.load(name, say)


def _parts_task(point: dict[str, Any]) -> Any:
    from fpsim.bridge.measure.tasks import PerplexityTask

    class Parts(PerplexityTask):
        """Perplexity that keeps the loss of parts of the windows."""

        def measure(self, model: Any, progress: Any = None) -> dict[str, Any]:
            return {"nll": _parts(model, self.windows())}

    return Parts(loaded_model(point["model"]), count=point["windows"], length=point["window"])


def token_losses(model: Any, window: Any) -> Array:
    """Return -log p of every token of a window but the first, in nats (float64)."""
    import torch

    tokens = torch.as_tensor(window, dtype=torch.long)
    with torch.no_grad():
        logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1].float()
        chosen = logits.gather(1, tokens[1:, None]).squeeze(1)
        return (logits.logsumexp(1).double() - chosen.double()).numpy()


@contextmanager
def _nudged(model: Any, seed: int) -> Iterator[None]:
    """Move every value of the input embeddings by one unit in the last place, by chance."""
    if not seed:
        yield
        return
    import torch

    weight = model.get_input_embeddings().weight
    kept = weight.detach().clone()
    up = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    with torch.no_grad():
        weight.copy_(
            torch.where(up, torch.nextafter(kept, kept * 2), torch.nextafter(kept, 0 * kept))
        )
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def change(row: dict[str, Any], base: dict[str, Any]) -> tuple[float, float]:
    """Return how much larger a perplexity is than another, and its standard error, in per cent.

    Both were measured on the same tokens: the error is that of the mean difference of their parts.
    """
    if "nll" not in row:
        return math.inf, 0.0
    difference = np.asarray(row["nll"]) - np.asarray(base["nll"])
    mean = float(difference.mean())
    error = float(difference.std(ddof=1)) / math.sqrt(difference.size)
    if mean > 50:
        return math.inf, 0.0
    return 100 * math.expm1(mean), 100 * math.exp(mean) * error


# -- layers --------------------------------------------------------------------------------------


def layer_points(run: Run, cells: Sequence[tuple[str, str]], layers: int = 8) -> list[Any]:
    """Return what pairs of recipe and unit do to a few of SmolLM2's layers; see `effects`."""
    points = [
        _data(recipe, unit, windows=2, window=128) | {"layers": layers} for recipe, unit in cells
    ]
    return run.points(f"layers of {MODEL}", effects, points)


def effects(point: dict[str, Any]) -> dict[str, Any]:
    """Measure a recipe's casts and a unit's sums on some layers, as work for an executor.

    Args:
        point: as `score` takes it, with ``layers``, how many, spread evenly over the model.

    Returns:
        Lists with a value per layer: ``cast_db`` and ``unit_db`` (None: nothing was lost),
        ``swamped`` and ``overflows`` (shares of steps), ``fixed_bits``; or ``error``.
    """
    from fpsim.explore.layers import layer_rows

    unit = fpsim.MacUnit(fpsim.MacSpec.from_dict(point["unit"]))
    samples = _samples(point["model"], point["windows"], point["window"], point["layers"])
    try:
        rows = layer_rows(samples, point["recipe"], unit)
    except fpsim.FpsimError as error:
        return {"error": str(error)}
    if any(math.isnan(row.unit_db) for row in rows):
        return {"error": "results that are not finite"}
    return {
        "layer": [row.layer for row in rows],
        "cast_db": [round(row.cast_db, 3) for row in rows],
        "unit_db": [None if math.isinf(row.unit_db) else round(row.unit_db, 3) for row in rows],
        "swamped": [round(row.swamped, 6) for row in rows],
        "overflows": [round(row.overflows, 6) for row in rows],
        "fixed_bits": [row.fixed_bits for row in rows],
    }


@lru_cache(maxsize=1)
def _samples(name: str, windows: int, window: int, layers: int) -> dict[str, Any]:
    from fpsim.bridge.measure.tasks import task_for

    task = task_for(loaded_model(name), count=windows, length=window)
    return _spread_layers(loaded_model(name), task, layers, 16, 32)


def _spread_layers(loaded: Any, task: Any, layers: int, rows: int, columns: int) -> dict[str, Any]:
    from fpsim.explore.layers import sample_layers

    every = sample_layers(loaded.model, task.calibration()[:1], rows=rows, columns=columns)
    names = list(every)
    places = np.linspace(0, len(names) - 1, min(layers, len(names))).astype(int)
    return {names[place]: every[names[place]] for place in places.tolist()}


def layer_tensors(name: str, layers: int = 6) -> dict[str, list[Array]]:
    """Return weights and inputs of a few of a model's layers, some rows of each, as they are."""
    from fpsim.bridge.measure.tasks import task_for

    loaded = loaded_model(name)
    samples = _spread_layers(loaded, task_for(loaded), layers, 64, 64).values()
    return {
        f"{name} weights": [sample.weight for sample in samples],
        f"{name} inputs": [sample.inputs for sample in samples],
    }


def noise(result: dict[str, Any]) -> float:
    """Return the power of a unit's noise over that of the casts, in dB, mean of the layers.

    -inf: nothing was lost. NaN: results were not finite.
    """
    if "error" in result:
        return math.nan
    ratios = [
        0.0 if unit is None else 10 ** ((cast - unit) / 10)
        for cast, unit in zip(result["cast_db"], result["unit_db"], strict=True)
    ]
    mean = float(np.mean(ratios))
    return 10 * math.log10(mean) if mean else -math.inf


def _data(recipe: str | None, unit: str, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL, "windows": WINDOWS, "window": WINDOW, "recipe": recipe,
        "unit": fpsim.get_unit(unit).spec.to_dict(),
    } | more  # fmt: skip


# -- running -------------------------------------------------------------------------------------


def main(*modules: Any) -> int:
    """Draw studies from their kept numbers, and measure ``--fresh``.

    One study alone is measured if it has no numbers yet; of several those without are named.
    """
    parser = argparse.ArgumentParser(description=(modules[0].__doc__ or "").splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="measure anew")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--cache", type=Path, default=Path("out/studies"), help="finished points")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--dask", action="store_true")
    parser.add_argument("--scheduler")
    args = parser.parse_args()
    for module in modules:
        path = args.out / f"{module.NAME}.json"
        if len(modules) > 1 and not args.fresh and not path.exists():
            say(f"{module.NAME}: not measured yet; python analysis/{module.NAME}.py measures it")
            continue
        if args.fresh or not path.exists():
            say(f"{module.NAME}: measuring")
            cache = PointCache(args.cache, fpsim.__version__)
            with executor(args.workers, args.scheduler, args.dask) as pool:
                rows = module.measure(Run(pool, cache))
            write_atomic(path, dumps(rows).encode())
        rows = json.loads(path.read_text(encoding="utf-8"))
        plots.save(module.draw(rows), path.with_suffix(".svg"))
        if hasattr(module, "table"):
            write_atomic(path.with_suffix(".md"), module.table(rows).encode())
        print(path.with_suffix(".svg"), file=sys.stderr)
    return 0


def dumps(data: Any) -> str:
    """Return JSON whose lowest lists and tables stand in a line each."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    lines: list[str] = []
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if depth > 3 and lines:
            lines[-1] += line.strip() if line.strip()[0] in "]}" else " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"
