# SPDX-License-Identifier: Apache-2.0
"""Perplexities of a language model under recipes and units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fpsim.plots.style import BLUE, MUTED, RED, check_some, new_figure, style

__all__ = ["Measured", "perplexity_figure"]


class Measured(Protocol):
    """A row of the figure: a perplexity, its label and its recipe (None: plain float32)."""

    @property
    def label(self) -> str:
        """Name of the measurement."""
        ...

    @property
    def recipe(self) -> str | None:
        """Recipe of the casts; None for the reference."""
        ...

    @property
    def perplexity(self) -> float:
        """The perplexity; infinite or NaN if the loss is."""
        ...


def perplexity_figure(rows: Sequence[Measured]) -> Figure:
    """Draw perplexities, as distances from the float32 row (the one without a recipe) if given.

    A perplexity that is not finite is written out. The axis is logarithmic if values span more than
    a factor of 20.

    Raises:
        FpsimError: no rows.
    """
    check_some(rows)
    values = [row.perplexity for row in rows]
    finite = [value for value in values if math.isfinite(value)]
    reference = next((r.perplexity for r in rows if not r.recipe and r.perplexity in finite), None)
    with style():
        figure = new_figure(0.8 + 0.46 * len(rows))
        axes = figure.subplots()
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("perplexity (lower is better)")
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        if finite and max(finite) > 20 * min(finite):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        elif finite:
            axes.set_xlim(0, 1.15 * max(finite))
        if reference is not None:
            axes.axvline(reference, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for y, value in enumerate(values):
            _lollipop(axes, y, value, reference)
    return figure


def _lollipop(axes: Axes, y: int, value: float, reference: float | None) -> None:
    if not math.isfinite(value):
        start = 1.0 if reference is None else reference
        axes.annotate(
            f"{value}: the loss is not finite", (start, y), (9, 0), textcoords="offset points",
            va="center_baseline", color=RED,
        )  # fmt: skip
        return
    colour = MUTED if value == reference else BLUE
    if reference is not None:
        axes.plot([reference, value], [y, y], color=colour, linewidth=2.2)
    axes.plot(value, y, "o", color=colour, markersize=8)
    axes.annotate(
        _number(value), (value, y), (9, 0), textcoords="offset points", va="center_baseline",
        fontweight="bold",
    )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else f"{value:,.0f}"
