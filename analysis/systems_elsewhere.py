# SPDX-License-Identifier: Apache-2.0
"""Do 4-bit systems order on other models as they do on SmolLM2?

A second language model (Gemma 3 270M), sentence embeddings (MiniLM), images read (a ViT on digits)
and images drawn (a diffusion transformer). A language model is measured by perplexity, the others
by the error of their outputs, and drawn images by their Fréchet distance to real ones, too.
Products are exact. A system that needs something a model lacks, such as RMS norms, refuses it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import study
import systems
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fpsim.plots.style import BLUE, MUTED, caption, new_figure, style

NAME = "systems_elsewhere"
MODELS = {
    "gemma3-270m": "Gemma 3 270M", "minilm-l6": "MiniLM", "vit-digits": "ViT on digits",
    "dit-digits": "DiT on digits",
}  # fmt: skip
#: Systems that are cheap enough, with their opposites of `systems.ORDERINGS`.
CHOSEN = (
    "RTN INT4", "GPTQ INT4", "SmoothQuant", "QuaRot", "QUIK", "HQ-DiT, E2M1 alone", "HQ-DiT",
    "OCC, not clamped", "OCC (FP4)",
    "RTN MXFP4", "MR-GPTQ MXFP4", "RTN NVFP4", "MR-GPTQ NVFP4", "RTN INT4 rows", "GPTQ",
)  # fmt: skip
#: Perplexities are drawn up to so many times the float model's.
BEYOND = 20
ORDERINGS = [pair for pair in systems.ORDERINGS if set(pair) <= set(CHOSEN)]


def measure(run: study.Run) -> dict[str, Any]:
    """Return what every system costs every model."""
    recipes = {"float32": "", **{name: systems.SYSTEMS[name].recipe for name in CHOSEN}}
    rows = []
    for model in MODELS:
        points = [
            {"model": model, "recipe": recipe, "measured": 4, "calibrated": 4, "units": ()}
            for recipe in recipes.values()
        ]
        found = run.points(model, systems.work, points)
        rows += [
            {"model": model, "system": name, **cell}
            for name, cell in zip(recipes, found, strict=True)
        ]
    return {"about": study.about(tokens=4 * (study.WINDOW - 1)), "rows": rows}


def _cells(data: dict[str, Any], model: str) -> dict[str, dict[str, Any]]:
    """Return a model's rows by system."""
    return {row["system"]: row for row in data["rows"] if row["model"] == model}


def cost(row: dict[str, Any]) -> float | None:
    """Return perplexity, or the error of outputs in per cent; None if the system refused."""
    found = row.get("exact", {})
    if "output_error" in found:
        return 100 * float(found["output_error"])
    return found.get("perplexity")  # type: ignore[no-any-return]


def compared(data: dict[str, Any], model: str, worse: str, better: str) -> str:
    """Return whether an ordering is found: yes, no, even (within two standard errors), or empty.

    Outputs' errors have no standard error: what differs by less than 5 % counts as even.
    """
    cells = _cells(data, model)
    first, second = (cost(cells.get(name, {})) for name in (worse, better))
    if first is None or second is None:
        return ""
    if "nll" in cells[worse]["exact"]:
        percent, error = study.change(cells[better]["exact"], cells[worse]["exact"])
        even = abs(percent) <= 2 * error
    else:
        even = abs(second / first - 1) < 0.05
    return "even" if even else "yes" if second < first else "no"


def table(data: dict[str, Any]) -> str:
    """Return figures and orderings as Markdown."""
    columns = " | ".join(MODELS.values())
    lines = [f"| system | recipe | {columns} |", "|---|---|" + "---:|" * len(MODELS)]
    lines.append(f"| float32 | | {' | '.join(_figure(data, m, 'float32') for m in MODELS)} |")
    for name in CHOSEN:
        figures = " | ".join(_figure(data, model, name) for model in MODELS)
        lines.append(f"| {name} | `{systems.SYSTEMS[name].recipe}` | {figures} |")
    lines += ["", f"| expected: worse | better | {columns} |", "|---|---|" + "---|" * len(MODELS)]
    for worse, better in ORDERINGS:
        found = " | ".join(compared(data, model, worse, better) for model in MODELS)
        lines.append(f"| {worse} | {better} | {found} |")
    return "\n".join(lines) + "\n"


def _figure(data: dict[str, Any], model: str, name: str) -> str:
    row = _cells(data, model).get(name, {})
    found, value = row.get("exact", {}), cost(row)
    if value is None:
        return "does not apply" if "error" in row else ""
    if "perplexity" in found:
        return f"{value:.2f}" if value < 1000 else f"{value:.3g}"
    right = found.get("accuracy", found.get("top1", 0.0))
    away = f"Fréchet {found['frechet']:.2f}, " if "frechet" in found else ""
    return f"{value:.2f} %, {away}{100 * right:.1f} % right"


def draw(data: dict[str, Any]) -> Any:
    """Draw the cost of every system, a panel per model."""
    with style():
        figure = new_figure(4.6)
        areas = figure.subplots(1, len(MODELS), sharey=True)
        for area, (model, title) in zip(areas, MODELS.items(), strict=True):
            cells = _cells(data, model)
            values = [cost(cells.get(name, {})) for name in CHOSEN]
            plain = cost(cells["float32"])
            most = BEYOND * plain if plain else 100.0
            shown = [(y, min(value, most)) for y, value in enumerate(values) if value]
            area.plot([v for _, v in shown], [y for y, _ in shown], "o", color=BLUE)
            if plain:
                area.axvline(plain, color=MUTED, linestyle="dotted")
            for y, value in enumerate(values):
                if not value:
                    area.text(0.02, y, "does not apply", transform=area.get_yaxis_transform(),
                              va="center", fontsize=8, color=MUTED)  # fmt: skip
            area.set_xscale("log")
            ends = [value for _, value in shown]
            wide = max(ends) > 100 * min(ends)
            area.xaxis.set_major_locator(LogLocator(subs=(1, 3) if wide else (1, 2, 5)))
            area.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            area.xaxis.set_minor_formatter(NullFormatter())
            area.set_title(title, fontsize=10)
            area.set_xlabel("perplexity" if plain else "error of outputs, %")
            area.grid()
            area.tick_params(length=0)
        areas[0].set_yticks(np.arange(len(CHOSEN)), CHOSEN, fontsize=8.5)
        areas[0].set_ylim(len(CHOSEN) - 0.5, -0.5)
        note = data["about"]
        about = (
            f"products exact; dotted: float32; beyond {BEYOND} times it, or 100 %: there; "
            f"{note['tokens']} tokens of CPython {note['python']}'s topics; fpsim {note['version']}"
        )
        caption(figure, about)
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
