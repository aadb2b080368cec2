# SPDX-License-Identifier: Apache-2.0
"""What does each recipe cost a whole model, and how much of it is the accumulator's fault?

One model per run; one cell per recipe, E/W/A setting and unit. Cells that the results file already
holds for the same model, text and version are not measured again, so a run can be interrupted.

    python analysis/recipes.py --model smollm2-135m --out analysis/results
    python analysis/recipes.py --model vit-digits --units exact e2m1-chain-e5m10
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import fpsim
from fpsim.base.atomic_files import write_atomic
from fpsim.base.executor import executor
from fpsim.base.progress import bar, say
from fpsim.bridge import calibrate_for, evaluate_task, get_recipe
from fpsim.bridge.measure import models
from fpsim.bridge.measure.tasks import PerplexityTask, RetrievalTask, task_for

#: Rows of the table: title and the recipe of each E/W/A setting that the method has.
ROWS: dict[str, dict[str, str]] = {
    "float32": {"16/16/16": "none"},
    "INT4": {"16/4/16": "int4@16/4/16", "16/4/4": "int4", "16/8/8": "int8"},
    "MinMax FP": {
        "4/4/16": "llm-fp4-minmax@4/4/16",
        "4/4/4": "llm-fp4-minmax",
        "4/4/8": "llm-fp4-minmax@4/4/8",
        "8/8/8": "llm-fp4-minmax@8/8/8",
    },
    **{
        f"MXFP4 {rule}": {
            "16/4/16": f"mxfp4{tail}@16/4/16",
            "16/4/4": f"mxfp4{tail}",
            "16/4/8": f"mxfp4{tail}@16/4/8",
            "16/8/8": f"mxfp4{tail}@16/8/8",
        }
        for rule, tail in (("floor", ""), ("rceil", "-rceil"), ("ceil", "-ceil"), ("even", "-even"))
    },
    "NVFP4": {"16/4/16": "nvfp4@16/4/16", "16/4/4": "nvfp4"},
    "Four Over Six": {"16/4/16": "four-over-six@16/4/16", "16/4/4": "four-over-six"},
    "AMXFP4, linears": {"16/4/16": "amxfp4-linear@16/4/16", "16/4/4": "amxfp4-linear"},
    "AMXFP4": {"16/4/4": "amxfp4"},
    "FPQ baseline": {
        "4/4/4": "llm-fp4-baseline",
        "4/4/8": "llm-fp4-baseline@4/4/8",
        "8/8/8": "llm-fp4-baseline@8/8/8",
    },
    "FPQ": {"4/4/4": "llm-fp4", "4/4/8": "llm-fp4@4/4/8", "8/8/8": "llm-fp4@8/8/8"},
    "FPQ, corrected grid": {"4/4/4": "llm-fp4:grid=corrected"},
    "FPQ, folded": {"4/4/4": "llm-fp4:fold=true"},
    "FPQ, attention too": {
        "4/4/4": "llm-fp4:quantize_attention=true",
        "8/8/8": "llm-fp4@8/8/8:quantize_attention=true",
    },
    "FPQ, Fisher": {"4/4/4": "llm-fp4:objective=fisher"},
}
#: Transforms of INT4 and MXFP4 that the last rows of the table compare.
TRANSFORMS = ("hadamard", "smoothquant", "outliers:count=16")
UNITS = ("exact", "e2m1-chain-e8m23", "e2m1-chain-e5m10", "nvidia-h100-e4m3")


def cells(rows: list[str], settings: list[str], units: list[str]) -> list[tuple[str, str]]:
    """Return recipe and unit of every cell to measure, cheap ones first."""
    recipes = [
        recipe
        for title, by_setting in ROWS.items()
        if title in rows
        for setting, recipe in by_setting.items()
        if not settings or setting in settings
    ]
    found = []
    for unit in units:
        for recipe in recipes:
            floats = recipe == "none" or get_recipe(recipe).weights_only
            if not (floats and unit != units[0]):  # no unit multiplies floats
                found.append((recipe, unit))
    return found


def transformed(rows: list[str]) -> list[str]:
    """Return ``recipe + transforms`` of every row that transforms were asked for."""
    bases = {"INT4": "int4", "MXFP4 floor": "mxfp4", "NVFP4": "nvfp4", "FPQ": "llm-fp4"}
    return [f"{bases[row]} + {t}" for row in rows if row in bases for t in TRANSFORMS]


def _write(path: Path, stored: dict[str, Any]) -> None:
    write_atomic(path, (json.dumps(stored, indent=1, sort_keys=True) + "\n").encode())


def table(stored: dict[str, Any]) -> str:
    """Return the measured cells as a Markdown table, a column per unit that was measured."""
    measured = stored["cells"]
    seen = {key.rpartition(" on ")[2] for key in measured}
    units = [*(unit for unit in UNITS if unit in seen), *sorted(seen.difference(UNITS))]
    lines = [f"| recipe | E/W/A | {' | '.join(units)} |", "|---|---|" + "---:|" * len(units)]
    for title, by_setting in ROWS.items():
        for setting, recipe in by_setting.items():
            entries = [measured.get(f"{recipe} on {unit}") for unit in units]
            if not any(entries):
                continue
            shown = [_figures(entry) if entry else "" for entry in entries]
            lines.append(f"| {title} | {setting} | {' | '.join(shown)} |")
    for key in sorted(key for key in measured if " + " in key):
        recipe, _, unit = key.rpartition(" on ")
        shown = [_figures(measured[key]) if unit == u else "" for u in units]
        lines.append(f"| {recipe} | 16/4/4 | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _figures(entry: dict[str, Any]) -> str:
    if "error" in entry:
        return "error"
    if "perplexity" in entry:
        return f"{entry['perplexity']:.2f}"
    shown = f"{100 * entry.get('top1', entry.get('accuracy', 0)):.1f} %"
    return shown + (f", {entry['cosine']:.3f}" if "cosine" in entry else "")


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--settings", nargs="+", default=[], help="E/W/A; default: all")
    parser.add_argument("--units", nargs="+", default=list(UNITS))
    parser.add_argument("--transforms", action="store_true", help="measure transforms instead")
    parser.add_argument("--calibration-tokens", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path("analysis/results"))
    parser.add_argument("--workers", type=int, default=0, help="processes (default: this one)")
    parser.add_argument("--scheduler", help="address of a Dask scheduler")
    args = parser.parse_args()

    path = args.out / f"recipes-{args.model}.json"
    task = _loaded(args.model)[1]
    about = {
        "model": args.model,
        "python": platform.python_version() if not isinstance(task, PerplexityTask) else
        f"{platform.python_version()} (its topics are the text)",
        "torch": torch.__version__,
        "calibration_tokens": args.calibration_tokens,
    }  # fmt: skip
    stored: dict[str, Any] = {"about": about, "cells": {}}
    if path.exists():
        found = json.loads(path.read_text())
        stored["cells"] = found["cells"] if found["about"] == about else {}
    wanted = cells(args.rows, args.settings, args.units)
    if args.transforms:
        wanted = [(recipe, args.units[0]) for recipe in transformed(args.rows)]
    missing = [(r, u) for r, u in wanted if f"{r} on {u}" not in stored["cells"]]
    points = [
        {"model": args.model, "recipe": recipe, "unit": unit, "rows": args.calibration_tokens}
        for recipe, unit in missing
    ]
    with executor(args.workers, args.scheduler) as pool:
        for index, result in pool.run(cell, points):
            key = " on ".join(missing[index])
            stored["cells"][key] = result
            say(f"{key}: {_figures(result)}")
            _write(path, stored)
    text = table(stored)
    write_atomic(path.with_suffix(".md"), text.encode())
    print(text)


@lru_cache(maxsize=1)
def _loaded(name: str) -> tuple[Any, Any]:
    """Return a model and its task."""
    loaded = models.load(name, say)
    task = task_for(loaded)
    if isinstance(task, RetrievalTask):
        task = replace(task, reference=task.embed(loaded.model))
    return loaded, task


def cell(point: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one cell, as work for an executor."""
    loaded, task = _loaded(point["model"])
    try:
        return measure(loaded, task, point["recipe"], point["unit"], point["rows"])
    except fpsim.FpsimError as error:  # such as an accumulator that overflowed: said
        return {"error": str(error)}


def measure(loaded: Any, task: Any, recipe: str, unit: str, rows: int) -> dict[str, Any]:
    """Return the figures of one cell."""
    if recipe == "none":
        return evaluate_task(loaded, task)
    base, _, transforms = recipe.partition(" + ")
    calibration = None
    if get_recipe(base).needs_calibration:
        with bar(f"calibrating {recipe}") as report:
            # How the constants are used does not change them.
            searched = recipe.replace(":fold=true", "")
            calibration = calibrate_for(
                loaded, task, searched, rows=rows, transforms=transforms, report=report
            )
    return evaluate_task(
        loaded, task, base, unit, calibration=calibration, transforms=transforms
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
