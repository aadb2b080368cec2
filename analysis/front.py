# SPDX-License-Identifier: Apache-2.0
"""What does accuracy cost in silicon? The Pareto front of `fpsim explore` for SmolLM2-135M.

A small space, `front.toml`, searched whole: MXFP4 and NVFP4 operands; chains from E5M6 to E8M23,
fixed-point registers, and exact blocks into chains. Area is that of the mapped reference RTL,
energy that of its netlist switched by operands of a layer of the model, as a ratio to INT4's MAC.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import study
from matplotlib.ticker import FuncFormatter

from fpsim.explore.search import ExploreSettings, explore
from fpsim.explore.space import Space
from fpsim.plots.labels import name_points
from fpsim.plots.style import BLUE, MUTED, RED, caption, new_figure, style

NAME = "front"
SETTINGS = ExploreSettings(
    model=study.MODEL, budget="perplexity <= 1.05 * exact", minimize="area", windows=1,
    window=study.WINDOW, layers=6, scored=14,
)  # fmt: skip


def measure(run: study.Run) -> dict[str, Any]:
    """Search the space to its end; return every point."""
    space = Space.from_toml(Path(__file__).with_suffix(".toml"))
    result = explore(space, SETTINGS, run.pool, run.cache)
    rows = [
        {key: value for key, value in asdict(point).items() if key not in ("spec", "built")}
        for point in result.points
    ]
    return {
        "about": study.about(tokens=SETTINGS.windows * (SETTINGS.window - 1)),
        "budget": SETTINGS.budget, "references": result.references, "front": result.front,
        "winner": result.winner, "notes": result.notes, "rows": rows,
    }  # fmt: skip


def _unit(row: dict[str, Any]) -> str:
    return f"{row['unit'].removeprefix('e2m1-')}, {row['recipe'].upper()}"


def draw(data: dict[str, Any]) -> Any:
    """Draw perplexity against area and against energy per product."""
    rows = data["rows"]
    # A ruined model would leave the others no room.
    most = 3 * max(data["references"].values())
    ruined = [row for row in rows if row["figure"] is not None and row["figure"] > most]
    with style():
        figure = new_figure(4.4)
        panels = figure.subplots(1, 2, sharey=True)
        fields = {
            "area_per_product": "area per product a clock (NAND2 equivalents)",
            "energy_ratio": "energy per product (INT4's MAC = 1)",
        }
        for axes, (field, label) in zip(panels, fields.items(), strict=True):
            for place, row in enumerate(rows):
                if None in (row["figure"], row[field]) or row in ruined:
                    continue
                best = place in data["front"]
                colour = BLUE if row["recipe"] == "mxfp4" else RED
                axes.plot(row[field], row["figure"], "o" if row["recipe"] == "mxfp4" else "D",
                          color=colour, markerfacecolor=colour if best else "white")  # fmt: skip
            for name, value in data["references"].items():
                axes.axhline(value, color=MUTED, linewidth=1, linestyle="dotted")
                axes.annotate(f"{name}, exact" if name != "float" else name, (1, value), (-2, 2),
                              xycoords=("axes fraction", "data"), textcoords="offset points",
                              fontsize=7.5, color=MUTED, ha="right")  # fmt: skip
            axes.set_xlabel(label)
            axes.set_xlim(left=0)
            axes.set_yscale("log")
            for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                which(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.grid()
            axes.tick_params(length=0)
            axes.margins(0.15)
        panels[0].set_ylabel("perplexity of SmolLM2")
        note = data["about"]
        left = ", ".join(_unit(row) for row in ruined)
        caption(figure, f"{note['tokens']} tokens of CPython {note['python']}'s topics; filled: "
                        "the front in area; not shown, "
                        f"ruined: {left or 'none'}; fpsim {note['version']}")  # fmt: skip
        for axes, field in zip(panels, fields, strict=True):
            shown = [r for r in rows if None not in (r["figure"], r[field]) and r not in ruined]
            name_points(axes, [(_unit(r), r[field], r["figure"]) for r in shown])
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
