# SPDX-License-Identifier: Apache-2.0
"""Figures of quantization error by format, scaling and data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.plots.style import BLUE, MUTED, RED, check_some, look, new_figure, style
from fpsim.studies.error import ErrorRow
from fpsim.studies.sqnr import Scaling, SqnrRow, data_label, format_label

__all__ = ["METRICS", "error_figure", "sqnr_figure"]

#: Measures of error: field of `ErrorRow`, label of the axis, and whether the axis is logarithmic.
METRICS: dict[str, tuple[str, str, bool]] = {
    "sqnr": ("sqnr_db", "SQNR (dB), higher is better", False),
    "mse": ("mse", "mean squared error", True),
    "max": ("max_error", "largest error", True),
    "relative": ("relative_error", "mean relative error", True),
}
#: Horizontal axes: field of `ErrorRow`, and label of the axis.
AGAINST: dict[str, tuple[str, str]] = {
    "format": ("quantizer", ""),
    "block": ("block", "elements per block"),
    "rule": ("rule", "scale rule"),
    "clip": ("clip", "clip ratio"),
    "bits": ("bits", "storage bits per element"),
}


def error_figure(
    rows: Sequence[ErrorRow],
    against: str = "format",
    metric: str = "sqnr",
    earlier: Sequence[ErrorRow] = (),
) -> Figure:
    """Draw quantization error, one panel per data set.

    Args:
        rows: measurements, as `fpsim.studies.error.measure_error` returns them.
        against: ``format``: one line per quantizer; ``block``, ``clip`` or ``bits``: error against
            that number, one curve per format; ``rule``: against scale rules.
        metric: ``sqnr``, ``mse``, ``max`` or ``relative``.
        earlier: rows of another run, drawn as crosses.

    Returns:
        The figure. With ``sqnr`` against formats a dashed line shows the Lloyd-Max optimum.

    Raises:
        FpsimError: no rows, an unknown choice, or rows without the number on the axis.
    """
    check_some(rows)
    for field, value, known in (("against", against, AGAINST), ("metric", metric, METRICS)):
        if value not in known:
            raise not_one_of(field, value, known)
    names = list(dict.fromkeys(row.data for row in rows))
    columns = min(len(names), 2)
    lines = -(-len(names) // columns)
    kinds = list(dict.fromkeys(row.quantizer for row in rows))
    height = 0.75 + 0.24 * len(kinds) if against == "format" else 2.9
    with style():
        figure = new_figure(0.6 + lines * height)
        subplots = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        found: list[Axes] = list(subplots.flat)
        draw = _per_quantizer if against == "format" else _over_number
        for axes, name in zip(found, names, strict=False):
            axes.set_title(data_label(name))
            axes.tick_params(length=0)
            for part, mark in ((rows, "o"), (earlier, "x")):
                draw(axes, [row for row in part if row.data == name], kinds, against, metric, mark)
            if against == "format" and metric == "sqnr":
                _optima(axes, [row for row in rows if row.data == name])
        for axes in found[len(names) :]:
            axes.set_visible(False)
        for axes in found[max(len(names) - columns, 0) : len(names)]:
            label = METRICS[metric][1] if against == "format" else AGAINST[against][1]
            axes.set_xlabel(label)
            axes.tick_params(labelbottom=True)
        if against != "format":
            for line in subplots:
                line[0].set_ylabel(METRICS[metric][1])
            found[0].legend(frameon=False, fontsize=8)
    return figure


def _per_quantizer(
    axes: Axes, rows: Sequence[ErrorRow], kinds: Sequence[str], _: str, metric: str, mark: str
) -> None:
    field, _label, logarithmic = METRICS[metric]
    if logarithmic:
        axes.set_xscale("log")
    axes.set_yticks(range(len(kinds)), list(kinds))
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    for row in rows:
        value = getattr(row, field)
        if row.quantizer not in kinds or not math.isfinite(value):
            continue
        y = kinds.index(row.quantizer)
        axes.plot(value, y, mark, color=BLUE if mark == "o" else MUTED, markersize=6)
        if mark == "o":
            axes.annotate(
                f"{value:.1f}" if metric == "sqnr" else f"{value:.2g}", (value, y), (7, 0),
                textcoords="offset points", va="center_baseline", fontsize=8, color=MUTED,
            )  # fmt: skip
    axes.margins(x=0.15)


def _optima(axes: Axes, rows: Sequence[ErrorRow]) -> None:
    for value in sorted({row.optimum_db for row in rows if math.isfinite(row.optimum_db)}):
        axes.axvline(value, color=RED, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "Lloyd-Max", (value, 1.0), (-3, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", rotation=90, ha="right", va="top", fontsize=7, color=RED,
        )  # fmt: skip


def _over_number(
    axes: Axes, rows: Sequence[ErrorRow], _: Sequence[str], against: str, metric: str, mark: str
) -> None:
    field, (place, _label) = METRICS[metric][0], AGAINST[against]
    formats = list(dict.fromkeys(row.format for row in rows))
    axes.grid()
    if METRICS[metric][2]:
        axes.set_yscale("log")
    for i, name in enumerate(formats):
        points = [(getattr(r, place), getattr(r, field)) for r in rows if r.format == name]
        if against != "rule":
            points = sorted(p for p in points if isinstance(p[0], int | float))
        if not points or points[0][0] is None:
            raise FpsimError(f"against: {name} has no {place} to draw against")
        axes.plot(
            *zip(*points, strict=True), linestyle="none" if mark == "x" else "solid",
            markersize=5, label=None if mark == "x" else format_label(name),
            **look(i) | ({"marker": mark} if mark == "x" else {}),
        )  # fmt: skip
    if against == "block":
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


#: Marker, colour (granularity of the scale) and filling (quality of the scale) of each scaling.
_SCALINGS: dict[Scaling, tuple[str, str, bool]] = {
    Scaling.TENSOR_ABSMAX: ("o", BLUE, False),
    Scaling.TENSOR_BEST: ("o", BLUE, True),
    Scaling.BLOCK_E8M0: ("D", RED, False),
    Scaling.BLOCK_ABSMAX: ("D", RED, True),
}


def sqnr_figure(rows: Sequence[SqnrRow]) -> Figure:
    """Draw SQNR by format: one panel per data set, one line per format, one mark per scaling.

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
