# SPDX-License-Identifier: Apache-2.0
"""How much of AMXFP4's gain is the second scale, and how much the FP8 scale?

MXFP4 has one power of two per block of 32; AMXFP4 (arXiv 2411.09909) one E5M2 scale per sign. The
two changes one at a time, before and after a Hadamard rotation of the layers' inputs: perplexity of
SmolLM2-135M on exact sums, and the SQNR of eight layers' outputs before rotation.
"""

from __future__ import annotations

import sys
from typing import Any

import study
from matplotlib.ticker import FuncFormatter

from fpsim.plots.style import BLUE, MUTED, RED, caption, new_figure, style

NAME = "asymmetry"
#: What the kept numbers do not say of themselves yet.
OLD = {"tokens": 254, "python": "3.11", "version": "0.2.0"}
RECIPES = {
    "one E8M0 scale (MXFP4)": "mxfp4",
    "one E5M2 scale": "rtn:element=e2m1,block=32,scale=e5m2",
    "E8M0 scale per sign": "amxfp4-pot:quantize_attention=false",
    "E5M2 scale per sign (AMXFP4)": "amxfp4:quantize_attention=false",
}


def measure(run: study.Run) -> dict[str, Any]:
    """Return perplexities without and with rotation, and layer errors."""
    cells = [(recipe, "exact") for recipe in RECIPES.values()]
    plain = study.score_points(run, cells)
    rotated = study.score_points(run, cells, transforms="hadamard")
    layers = study.layer_points(run, cells)
    reference = study.score_points(run, [(None, "exact")])[0]
    rows = [
        {"label": label, "recipe": recipe, "plain": a, "rotated": b, "layers": c}
        for (label, recipe), a, b, c in zip(RECIPES.items(), plain, rotated, layers, strict=True)
    ]
    return {"about": study.about(), "float": reference, "rows": rows}


def draw(data: dict[str, Any]) -> Any:
    """Draw perplexity of each step, plain and rotated."""
    with style():
        figure = new_figure(2.8)
        axes = figure.subplots()
        for y, row in enumerate(data["rows"]):
            for key, colour, marker in (("plain", BLUE, "o"), ("rotated", RED, "D")):
                value = row[key].get("perplexity")
                if value is None:
                    continue
                axes.plot(value, y, marker, color=colour, label=key if y == 0 else None)
                axes.annotate(f"{value:.1f}", (value, y), (0, 7), textcoords="offset points",
                              fontsize=8, ha="center", color=colour)  # fmt: skip
        axes.axvline(data["float"]["perplexity"], color=MUTED, linestyle="dotted")
        axes.set_yticks(range(len(data["rows"])), [row["label"] for row in data["rows"]])
        axes.set_ylim(len(data["rows"]) - 0.5, -0.6)
        axes.set_xscale("log")
        for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("perplexity of SmolLM2 on exact sums (dotted: float32)")
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.legend(frameon=False, fontsize=8.5)
        note = data.get("about", OLD)
        caption(figure, f"{note['tokens']} tokens of CPython {note['python']}'s topics; weights "
                        f"and inputs cast; fpsim {note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
