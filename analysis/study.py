# SPDX-License-Identifier: Apache-2.0
"""What the studies share: numbers are measured once and kept; figures are drawn from them.

A study is a module with ``NAME``, ``measure(run)`` (JSON-ready rows) and ``draw(rows)``. Its
numbers are ``results/NAME.json``, its picture is ``results/NAME.svg``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fpsim
from fpsim import plots
from fpsim.base.atomic_files import write_atomic
from fpsim.base.executor import Executor, PointCache, executor, run_points
from fpsim.base.progress import bar, say

__all__ = ["MODEL", "WINDOW", "WINDOWS", "Run", "layer_points", "main", "score_points"]

MODEL = "smollm2-135m"
#: Text of the studies: 2 windows of 128 tokens of Python's topics, 254 predicted tokens. Short, so
#: that differences of a few per cent mean nothing.
WINDOWS, WINDOW = 2, 128
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


def score_points(run: Run, cells: Sequence[tuple[str | None, str]], **more: Any) -> list[Any]:
    """Return the figures of SmolLM2 for pairs of recipe (None: float32) and unit."""
    from fpsim.explore.evaluate import score

    return run.points(MODEL, score, [_data(recipe, unit, **more) for recipe, unit in cells])


def layer_points(run: Run, cells: Sequence[tuple[str, str]], layers: int = 8) -> list[Any]:
    """Return the effects on a few of SmolLM2's layers for pairs of recipe and unit."""
    from fpsim.explore.evaluate import cheap

    data = [_data(recipe, unit) | {"layers": layers} for recipe, unit in cells]
    return run.points(f"layers of {MODEL}", cheap, data)


def _data(recipe: str | None, unit: str, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL, "digest": "", "windows": WINDOWS, "window": WINDOW, "layers": 8,
        "recipe": recipe, "unit": fpsim.get_unit(unit).spec.to_dict(),
    } | more  # fmt: skip


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
            write_atomic(path, (json.dumps(rows, indent=0) + "\n").encode())
        rows = json.loads(path.read_text(encoding="utf-8"))
        plots.save(module.draw(rows), path.with_suffix(".svg"))
        print(path.with_suffix(".svg"), file=sys.stderr)
    return 0
