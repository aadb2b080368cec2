# SPDX-License-Identifier: Apache-2.0
"""Figure of recipes: a model's perplexity against storage bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fpsim.plots.labels import name_points
from fpsim.plots.style import BLUE, RED, check_some, look, panels, style

__all__ = ["RecipePoint", "recipes_figure"]


@dataclass(frozen=True)
class RecipePoint:
    """One recipe on one unit.

    Attributes:
        recipe, unit: names of recipe and unit.
        weight_bits, activation_bits: storage bits per element, scales of blocks included.
        perplexity: perplexity of the model; infinite or NaN if its loss is.
    """

    recipe: str
    unit: str
    weight_bits: float
    activation_bits: float
    perplexity: float


def recipes_figure(
    points: Sequence[RecipePoint], reference: float | None = None, axes: Axes | None = None
) -> Figure:
    """Draw perplexity against storage bits per weight and activation, a dot per recipe.

    Args:
        points: recipes; each unit has its own marker.
        reference: the float model's perplexity, drawn as a line.
        axes: axes to draw into; None for a new figure.

    Returns:
        The figure. Names without room are left out; recipes whose loss is not finite are listed in
        a note.

    Raises:
        FpsimError: no points.
    """
    check_some(points)
    units = list(dict.fromkeys(point.unit for point in points))
    drawn = [point for point in points if math.isfinite(point.perplexity)]
    lost = sorted({point.recipe for point in points} - {point.recipe for point in drawn})
    with style():
        figure, (panel,) = panels(axes, 4.6)
        for i, unit in enumerate(units):
            chosen = [point for point in drawn if point.unit == unit]
            panel.plot(
                [_bits(point) for point in chosen], [point.perplexity for point in chosen],
                linestyle="none", label=unit, alpha=0.85, **look(i),
            )  # fmt: skip
        if reference is not None:
            panel.axhline(reference, color=RED, linewidth=1, linestyle=(0, (4, 3)))
            panel.annotate(
                f"float {reference:.2f}", (0, reference), (3, 3), textcoords="offset points",
                xycoords=("axes fraction", "data"), fontsize=8, color=RED,
            )  # fmt: skip
        values = [point.perplexity for point in drawn]
        if values and max(values) > 5 * min(values):
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if lost:
            panel.set_title(
                f"loss not finite: {', '.join(lost)}", fontsize=8, fontweight="normal", color=BLUE
            )
        panel.set_xlabel("storage bits, mean of weights' and activations' per element")
        panel.set_ylabel("perplexity (lower is better)")
        panel.grid()
        panel.tick_params(length=0)
        panel.margins(0.12)
        panel.legend(frameon=False, fontsize=8, title="unit", title_fontsize=8)
        name_points(panel, _names(drawn), [(_bits(p), p.perplexity) for p in drawn])
    return figure


def _names(points: Sequence[RecipePoint]) -> list[tuple[str, float, float]]:
    """Return each recipe once, with its best unit, best recipes first."""
    found: dict[str, tuple[str, float, float]] = {}
    for point in sorted(points, key=lambda one: one.perplexity):
        found.setdefault(point.recipe, (point.recipe, _bits(point), point.perplexity))
    return list(found.values())


def _bits(point: RecipePoint) -> float:
    return (point.weight_bits + point.activation_bits) / 2
