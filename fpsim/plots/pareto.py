# SPDX-License-Identifier: Apache-2.0
"""Figure of accuracy against cost: points of a search, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fpsim.plots.labels import name_points
from fpsim.plots.style import BLUE, GREEN, MUTED, RED, check_some, panels, style

__all__ = ["pareto_figure"]


def pareto_figure(
    points: Sequence[tuple[str, float, float, bool]],
    winner: int | None = None,
    limit: float | None = None,
    labels: tuple[str, str] = ("cost", "figure"),
    axes: Axes | None = None,
) -> Figure:
    """Draw a figure of merit against a cost, one dot per point, the front as a line.

    Args:
        points: name, cost, figure, and whether the point is on the front; points without a finite
            cost or figure are left out and counted in a note.
        winner: index of the point with a ring.
        limit: limit of the figure, drawn as a line.
        labels: labels of the axes.
        axes: axes to draw into; None for a new figure.

    Returns:
        The figure: filled dots on the front, with their names; hollow ones behind it.

    Raises:
        FpsimError: no points.
    """
    check_some(points)
    drawn = [point for point in points if math.isfinite(point[1]) and math.isfinite(point[2])]
    with style():
        figure, (panel,) = panels(axes, 4.6)
        front = sorted((point for point in drawn if point[3]), key=lambda point: point[1])
        panel.plot([p[1] for p in front], [p[2] for p in front], color=BLUE, linewidth=1.2,
                   drawstyle="steps-post", zorder=1)  # fmt: skip
        for _, cost, value, best in drawn:
            face = BLUE if best else "white"
            panel.plot(cost, value, "o", color=BLUE, markerfacecolor=face, markersize=6)
        if winner is not None:
            _, cost, value, _ = points[winner]
            panel.plot(cost, value, "o", markersize=14, color=GREEN, markerfacecolor="none",
                       markeredgewidth=1.8)  # fmt: skip
        if limit is not None and math.isfinite(limit):
            panel.axhline(limit, color=RED, linewidth=1, linestyle=(0, (4, 3)))
            panel.annotate(
                f"limit {limit:.4g}", (1, limit), (-3, 3), textcoords="offset points", ha="right",
                xycoords=("axes fraction", "data"), fontsize=8, color=RED,
            )  # fmt: skip
        values = [point[2] for point in drawn]
        if values and min(values) > 0 and max(values) > 5 * min(values):
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if len(drawn) < len(points):
            panel.set_title(
                f"{len(points) - len(drawn)} of {len(points)} points have no such cost or figure",
                fontsize=8, fontweight="normal", color=MUTED,
            )  # fmt: skip
        panel.set_xlabel(labels[0])
        panel.set_ylabel(labels[1])
        panel.grid()
        panel.tick_params(length=0)
        panel.margins(0.16)
        behind = [(cost, value) for _, cost, value, best in drawn if not best]
        name_points(panel, [point[:3] for point in front], behind)
    return figure
