# SPDX-License-Identifier: Apache-2.0
"""Figures of areas of units: against published ones, by accumulator, and against error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpsim.plots.labels import name_points
from fpsim.plots.style import BLUE, MUTED, RED, check_some, new_figure, panels, style

__all__ = ["area_error_figure", "area_figure"]


def area_figure(
    formats: Mapping[str, tuple[float, float | None]],
    accumulators: Mapping[str, Sequence[tuple[int, float]]],
) -> Figure:
    """Draw MAC areas by format and by accumulator width.

    Args:
        formats: by name, area as a ratio to the first format's: ours, and the published one.
        accumulators: by kind of accumulator, pairs of bits and area in NAND2 equivalents.

    Raises:
        FpsimError: nothing to draw.
    """
    check_some([*formats, *accumulators])
    with style():
        figure = new_figure(3.4)
        left, right = figure.subplots(1, 2)
        _formats(left, formats)
        _accumulators(right, accumulators)
    return figure


def area_error_figure(
    points: Sequence[tuple[str, float, float]], axes: Axes | None = None
) -> Figure:
    """Draw the errors of units against their areas, one dot per unit.

    Args:
        points: name, area in NAND2 equivalents, and relative error: 0 for exact results, NaN for
            results that are not finite.
        axes: axes to draw into; None for a new figure.

    Returns:
        The figure: exact units at the bottom, units without finite results at the top.

    Raises:
        FpsimError: no points.
    """
    check_some(points)
    lossy = [error for _, _, error in points if error > 0]
    low, high = min(lossy, default=1e-6) / 30, max(lossy, default=1e-6) * 30
    with style():
        figure, (panel,) = panels(axes, 3.6)
        names: list[tuple[str, float, float]] = []
        for name, area, error in points:
            y = high if error != error else max(error, low)
            panel.plot(area, y, "D" if error == 0 else "o", color=RED if error != error else BLUE)
            names.append((name, area, y))
        panel.set_yscale("log")
        panel.set_ylim(low / 3, high * 3)
        panel.set_xlim(0, 1.25 * max(area for _, area, _ in points))
        panel.set_xlabel("area, NAND2 equivalents")
        panel.set_ylabel("largest relative error (diamonds: none)")
        panel.grid()
        panel.tick_params(length=0)
        name_points(panel, names)
    return figure


def _formats(axes: Axes, formats: Mapping[str, tuple[float, float | None]]) -> None:
    axes.set_title(f"MAC area, {next(iter(formats))} = 1")
    for y, (here, published) in enumerate(formats.values()):
        axes.plot(here, y, "o", color=BLUE, label="generic cells" if y == 0 else None)
        if published is not None:
            axes.plot(
                published, y, "D", color=RED, markerfacecolor="white",
                label="published, 40 nm" if y == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(formats)), list(formats))
    axes.set_ylim(len(formats) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")


def _accumulators(axes: Axes, kinds: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    axes.set_title("E2M1 MAC, NAND2 equivalents")
    for (kind, points), colour in zip(kinds.items(), (BLUE, RED), strict=False):
        axes.plot(*zip(*points, strict=True), "o", color=colour, label=kind)
    axes.set_xlabel("accumulator bits", color=MUTED)
    axes.set_ylim(bottom=0)
    axes.grid()
    axes.tick_params(length=0)
    axes.legend(frameon=False, fontsize=8.5)
