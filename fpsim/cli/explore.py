# SPDX-License-Identifier: Apache-2.0
"""``fpsim explore``: the cheapest unit that keeps a model's accuracy within a budget."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fpsim
from fpsim.base.atomic_files import write_atomic
from fpsim.base.progress import bar, say
from fpsim.cli.output import INCOMPLETE, MODEL_HELP, Commands, needs, print_json, table
from fpsim.cli.workers import add_workers

__all__ = ["register"]

#: An example of a space, shown in the help.
_SPACE = """
space.toml:
  recipes = ["mxfp4"]
  [[stage]]
  kind = "chain"
  format = ["e4m3", "e5m10", "e8m23"]
  rounding = ["rne", "rtz"]
  [[stage]]
  kind = "fixed"
  width = [16, 20, 24]
  lsb = [-2]
"""


def _explore(args: argparse.Namespace) -> int:
    from fpsim.base.executor import PointCache, executor
    from fpsim.explore.budget import Budget
    from fpsim.explore.space import Space

    # Bad input should not wait for the model.
    space, budget = Space.from_toml(args.space), Budget.parse(args.budget)
    with needs("torch"):
        from fpsim.explore.search import ExploreSettings, explore
    with needs("plot"):
        from fpsim.report.explored import write_explored
    write_atomic(args.out / ".writable", b"", field="out").unlink()
    settings = ExploreSettings(
        args.model,
        args.budget,
        args.minimize,
        args.windows,
        args.window,
        args.layers,
        args.exhaust,
        args.trials,
        args.scored,
        not args.no_energy,
        args.seed,
    )
    cache = PointCache(args.cache or args.out / "cache", fpsim.__version__)
    with executor(args.workers, args.scheduler, args.dask) as pool, _bars() as step:
        result = explore(space, settings, pool, cache, step)
    files = write_explored(result, args.out)
    if args.json:
        print_json({"out": str(args.out), "winner": result.winner} | _short(result))
    else:
        _print(result, budget.figure)
        print(files[0])
    if result.winner is None:
        say(f"no point keeps {budget}: {result.closest()}")
        return INCOMPLETE
    return 0


@contextmanager
def _bars() -> Iterator[Callable[[str], Callable[[int, int, int], None]]]:
    """Show a progress bar per step; a bar closes when the next one opens."""
    with ExitStack() as stack:

        def step(title: str) -> Callable[[int, int, int], None]:
            stack.close()
            update = stack.enter_context(bar(title))
            return lambda done, total, index: update(done, total)

        yield step


def _short(result: Any) -> dict[str, Any]:
    points = [
        {
            "recipe": point.recipe, "unit": point.unit, "figure": point.figure, "met": point.met,
            "area": point.area, "energy_ratio": point.energy_ratio,
        }
        for point in (result.points[i] for i in result.front)
    ]  # fmt: skip
    return {"front": points, "notes": list(result.notes)}


def _print(result: Any, figure: str) -> None:
    def cell(value: Any) -> str:
        return "not available" if value is None else f"{value:.4g}"

    rows = [
        [
            point.name,
            cell(point.figure),
            "kept" if point.met else "broken",
            cell(point.area_per_product),
            cell(point.depth),
            cell(point.flipflops),
            cell(point.energy_ratio),
            cell(point.bits),
        ]
        for point in (result.points[i] for i in result.front)
    ]
    heads = ["point", figure, "budget", "area/product", "depth", "flip-flops",
             "energy/INT4", "bits"]  # fmt: skip
    table(f"Pareto front of {len(result.points)} points", heads, rows)
    for note in result.notes:
        print(f"note: {note}")
    if result.winner is not None:
        print(f"winner: {result.points[result.winner].name}")


def register(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add(
        "explore",
        _explore,
        "Find the cheapest unit that keeps a model's accuracy",
        examples=[
            "explore space.toml --model smollm2-135m --budget 'perplexity <= 1.02 * exact' --out x",
            "explore space.toml --model vit-digits --budget 'accuracy >= 0.99 * float' --out x",
        ],
    )
    sub.epilog = f"{sub.epilog}\n{_SPACE}"
    sub.add_argument("space", type=Path, help="a TOML file of recipes and stages, see below")
    sub.add_argument("--model", required=True, help=MODEL_HELP)
    sub.add_argument(
        "--budget",
        required=True,
        help="limit of a figure, such as 'perplexity <= 1.02 * exact' (or float)",
    )
    sub.add_argument(
        "--minimize", default="area", help="cost: area, depth, flipflops, energy or bits"
    )
    sub.add_argument("--out", type=Path, required=True, help="folder of the results")
    sub.add_argument("--windows", type=int, default=2, help="windows of text (default 2)")
    sub.add_argument("--window", type=int, default=256, help="tokens per window (default 256)")
    sub.add_argument("--layers", type=int, default=6, help="layers that rank points (default 6)")
    sub.add_argument(
        "--exhaust", type=int, default=256,
        help="try every point of a space up to this size, sample larger ones (default 256)",
    )  # fmt: skip
    sub.add_argument("--trials", type=int, default=64, help="points sampled (default 64)")
    sub.add_argument("--scored", type=int, default=12, help="points that run the whole model")
    sub.add_argument("--no-energy", action="store_true", help="do not simulate netlists for energy")
    sub.add_argument("--seed", type=int, default=1, help="seed of the sampler")
    sub.add_argument("--cache", type=Path, help="folder of finished points (default: OUT/cache)")
    add_workers(sub)
