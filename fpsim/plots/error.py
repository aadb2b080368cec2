# SPDX-License-Identifier: Apache-2.0
"""Quantization error against format, scaling and data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fpsim.plots.style import BLUE, MUTED, RED, check_some, new_figure, style
from fpsim.studies.sqnr import Scaling, SqnrRow, data_label, format_label

__all__ = ["sqnr_figure"]

#: Marker, colour and whether it is filled: colour is where the scale lives, filling how good it is.
_SCALINGS: dict[Scaling, tuple[str, str, bool]] = {
    Scaling.TENSOR_ABSMAX: ("o", BLUE, False),
    Scaling.TENSOR_BEST: ("o", BLUE, True),
    Scaling.BLOCK_E8M0: ("D", RED, False),
    Scaling.BLOCK_ABSMAX: ("D", RED, True),
}


def sqnr_figure(rows: Sequence[SqnrRow]) -> Figure:
    """Draw SQNR against format: a panel per data set, a line per format, a mark per scaling.

    Raises:
        FpsimError: no rows.
    """
    check_some(rows)
    names = list(dict.fromkeys(row.data for row in rows))
    formats = list(dict.fromkeys(row.format for row in rows))
    columns = 1 if len(names) == 1 else 2
    lines = -(-len(names) // columns)
    height = 0.95 + lines * (0.75 + 0.33 * len(formats))
    with style():
        figure = new_figure(height)
        subplots = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        panels: list[Axes] = list(subplots.flat)
        for axes, name in zip(panels, names, strict=False):
            _sqnr_panel(axes, [row for row in rows if row.data == name], formats)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for axes in panels[max(len(names) - columns, 0) : len(names)]:
            axes.set_xlabel("SQNR (dB), higher is better")
            axes.tick_params(labelbottom=True)
        shown = {row.scaling for row in rows}
        _sqnr_key(figure, [s for s in _SCALINGS if s in shown])
    return figure


def _sqnr_panel(axes: Axes, rows: Sequence[SqnrRow], formats: Sequence[str]) -> None:
    axes.set_title(data_label(rows[0].data))
    if rows[0].tensors > 1:
        note = f"median of {rows[0].tensors} tensors"
        axes.set_title(note, loc="right", fontsize=8.5, fontweight="normal", color=MUTED)
    axes.set_yticks(range(len(formats)), [format_label(name) for name in formats])
    axes.set_ylim(len(formats) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    for y, name in enumerate(formats):
        _format_line(axes, y, {row.scaling: row.sqnr_db for row in rows if row.format == name})
    axes.margins(x=0.13)


def _format_line(axes: Axes, y: int, points: dict[Scaling, float]) -> None:
    """Draw a format's marks: a lane for tensor scales, and one for block scales just below."""
    finite = {scaling: value for scaling, value in points.items() if math.isfinite(value)}
    for colour, lane in ((BLUE, y - 0.12), (RED, y + 0.12)):
        marks = {s: value for s, value in finite.items() if _SCALINGS[s][1] == colour}
        axes.plot(list(marks.values()), [lane] * len(marks), color=colour, alpha=0.3, linewidth=2)
        for scaling, value in marks.items():
            axes.plot(value, lane, **_mark(scaling))
    if finite:
        best = max(finite, key=lambda scaling: finite[scaling])
        lane = y - 0.12 if _SCALINGS[best][1] == BLUE else y + 0.12
        axes.annotate(
            f"{finite[best]:.1f}", (finite[best], lane), (7, 0), textcoords="offset points",
            va="center_baseline", fontsize=8.5, color=MUTED,
        )  # fmt: skip


def _mark(scaling: Scaling) -> dict[str, Any]:
    marker, colour, filled = _SCALINGS[scaling]
    return {
        "marker": marker,
        "color": colour,
        "linestyle": "",
        "markerfacecolor": colour if filled else "white",
        "markersize": 6.5 if marker == "o" else 5.5,
        "markeredgewidth": 1.5,
    }


def _sqnr_key(figure: Figure, scalings: Sequence[Scaling]) -> None:
    handles = [Line2D([], [], label=s.label, **_mark(s)) for s in scalings]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False,
        handletextpad=0.2, columnspacing=1.6,
    )  # fmt: skip
