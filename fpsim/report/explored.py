# SPDX-License-Identifier: Apache-2.0
"""Results of a search as files: table, CSV, figure and page of the front, and the winner's files.

points.csv, points.json   all points tried
front.csv                 the Pareto front
front.svg, front.html     figure of the front, and a page whose dots show names and figures
winner/unit.toml          the cheapest unit within the budget
winner/vectors/           its golden vectors
winner/rtl/               its RTL: sources, an instantiation, a package of its parameters
winner/verify.sh          commands that check the vectors and the RTL
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fpsim
from fpsim import plots, vectors
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.explore.budget import Budget
from fpsim.explore.search import OBJECTIVES, ExploreResult, PointResult
from fpsim.hdl.rtl.instantiation import instantiation, package
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.report.page import environment
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec

__all__ = ["COLUMNS", "front_figure", "render_explored", "write_explored"]

#: Fields of a point in tables, with the heads of their columns.
COLUMNS = {
    "figure": "",
    "area_per_product": "area / product",
    "area": "area, NAND2",
    "depth": "cells deep",
    "flipflops": "flip-flops",
    "energy_ratio": "energy, INT4 = 1",
    "bits": "storage bits",
    "layer_db": "worst layer, dB",
    "swamped": "swamped",
}
#: Random vectors in the winner's set.
VECTORS = 1024


@dataclass(frozen=True)
class _Dot:
    """A point in the page's figure: place in shares of the axes, and a text for the mouse."""

    x: float
    y: float
    front: bool
    winner: bool
    words: str


def write_explored(result: ExploreResult, out: Path) -> list[Path]:
    """Write all results of a search into a folder.

    Args:
        result: a search, as `fpsim.explore.search.explore` returns it.
        out: the folder, created if missing.

    Returns:
        The files, the page first.

    Raises:
        FpsimError: a folder that cannot be written.
    """
    front = [result.points[i] for i in result.front]
    files = [write_atomic(out / "front.html", render_explored(result).encode())]
    files.append(plots.save(front_figure(result), out / "front.svg"))
    files.append(write_atomic(out / "front.csv", _csv(front).encode()))
    files.append(write_atomic(out / "points.csv", _csv(result.points).encode()))
    text = json.dumps(_finite(result.to_dict()), indent=1)
    files.append(write_atomic(out / "points.json", text.encode()))
    if result.winner is not None:
        files += _write_winner(result.points[result.winner], out / "winner")
    return files


def _write_winner(point: PointResult, out: Path) -> list[Path]:
    spec = MacSpec.from_dict(point.built or point.spec)
    unit = MacUnit(spec)
    files = [write_atomic(out / "unit.toml", spec.to_toml().encode())]
    vectors.write(vectors.plan(unit, strategy="random", count=VECTORS), out / "vectors")
    files.append(out / "vectors")
    commands = [
        "#!/bin/sh",
        f"# {point.name}: {spec.equation}",
        'cd "$(dirname "$0")" || exit 1',
        "set -e",
        "fpsim vectors --check vectors  # every result anew, every byte of every file",
    ]
    try:
        top = rtl_top(spec)
    except FpsimError as error:
        commands.append(f"# no reference RTL: {str(error).splitlines()[0]}")
    else:
        for source in top.sources:
            write_atomic(out / "rtl" / source.name, source.read_bytes())
        write_atomic(out / "rtl" / "instance.sv", instantiation(spec).encode())
        write_atomic(out / "rtl" / "parameters_pkg.sv", package(spec).encode())
        files.append(out / "rtl")
        commands += [
            "fpsim synth unit.toml",
            "fpsim verify unit.toml --simulator verilator  # the RTL, after every clock",
        ]
    files.append(write_atomic(out / "verify.sh", "\n".join([*commands, ""]).encode()))
    return files


def _csv(points: Sequence[PointResult]) -> str:
    text = io.StringIO()
    names = ["recipe", "unit", "met", "lossless", *COLUMNS, "overflows", "equation", "why"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for point in points:
        values = [getattr(point, name) for name in names]
        writer.writerow(
            ["" if v is None else f"{v:.9g}" if isinstance(v, float) else v for v in values]
        )
    return text.getvalue()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- figure and page ----------------------------------------------------------------------------


def front_figure(result: ExploreResult) -> Any:
    """Return the front as a matplotlib figure."""
    minimize = result.settings.minimize
    budget = Budget.parse(result.settings.budget)
    points = [
        (p.name, p.cost(minimize), math.nan if p.figure is None else p.figure, i in result.front)
        for i, p in enumerate(result.points)
    ]
    if not points:
        raise FpsimError("figure: there is nothing to draw")
    labels = (OBJECTIVES[minimize][1], budget.figure)
    return plots.pareto_figure(points, result.winner, _limit(result), labels)


def _limit(result: ExploreResult) -> float | None:
    """Return the limit as one number, or None if points have different limits."""
    budget = Budget.parse(result.settings.budget)
    if budget.base == "exact":
        recipes = {point.recipe for point in result.points}
        if len(recipes) != 1:
            return None
        return budget.limit({"exact": result.references.get(recipes.pop(), math.nan)})
    return budget.limit({"float": result.references["float"]})


def render_explored(result: ExploreResult) -> str:
    """Return the page of a search; every text is escaped."""
    page = environment().get_template("explored.html.j2")
    return page.render(
        result=result,
        budget=Budget.parse(result.settings.budget),
        objective=OBJECTIVES[result.settings.minimize],
        columns=COLUMNS,
        dots=_dots(result),
        sentences=_sentences(result),
        version=fpsim.__version__,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        ends=_ends(result),
    )


def _sentences(result: ExploreResult) -> list[str]:
    budget, minimize = Budget.parse(result.settings.budget), result.settings.minimize
    label = OBJECTIVES[minimize][1]
    if result.winner is None:
        first = f"No point keeps {budget}: {result.closest()}."
    else:
        best = result.points[result.winner]
        first = (
            f"{best.name} is the cheapest that keeps {budget}: {best.cost(minimize):.4g} {label}, "
            f"{budget.figure} {best.figure:.5g}"
        )
        held = [p for p in result.points if p.met and math.isfinite(p.cost(minimize))]
        dearest = max(p.cost(minimize) for p in held)
        if len(held) > 1 and dearest > best.cost(minimize):
            ratio = dearest / best.cost(minimize)
            first += f"; the dearest of {len(held)} that keep it costs {ratio:.2f} times as much"
        first += "."
    lossless = sum(point.lossless for point in result.points)
    hopeless = sum(point.why.startswith("hopeless") for point in result.points)
    second = (
        f"Of {len(result.points)} points, the accumulators of {lossless} lost nothing on the "
        f"captured layers and {hopeless} {'was' if hopeless == 1 else 'were'} hopeless."
    )
    return [first, second, *result.notes]


def _usable(result: ExploreResult) -> list[tuple[int, float, float]]:
    minimize = result.settings.minimize
    return [
        (i, point.cost(minimize), point.figure)
        for i, point in enumerate(result.points)
        if point.figure is not None and math.isfinite(point.cost(minimize))
    ]


def _ends(result: ExploreResult) -> tuple[float, float, float, float]:
    """Return the least and largest cost and figure in the page's figure."""
    usable = _usable(result) or [(0, 0.0, 0.0)]
    costs, figures = [c for _, c, _ in usable], [f for _, _, f in usable]
    return min(costs), max(costs), min(figures), max(figures)


def _dots(result: ExploreResult) -> list[_Dot]:
    low_x, high_x, low_y, high_y = _ends(result)
    span_x, span_y = (high_x - low_x) or 1.0, (high_y - low_y) or 1.0
    figure = Budget.parse(result.settings.budget).figure
    dots = []
    for i, cost, value in _usable(result):
        point = result.points[i]
        facts = [f"{figure} {value:.5g}"]
        for name, head in COLUMNS.items():
            number = getattr(point, name)
            if head and number is not None:
                facts.append(f"{head} {number:.4g}")
        words = f"{point.name}: {point.equation}; {'; '.join(facts)}"
        dots.append(
            _Dot((cost - low_x) / span_x, (value - low_y) / span_y, i in result.front,
                 i == result.winner, words)
        )  # fmt: skip
    return dots
