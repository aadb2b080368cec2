# SPDX-License-Identifier: Apache-2.0
"""Figures, drawn without a display: every function returns a new matplotlib `Figure`.

Colours are from Okabe and Ito's palette, which colour-blind readers can tell apart, and every
series has a shape or a label of its own besides. Text stays text in SVG, and two runs on equal data
give equal bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from fpsim.atomic import write_atomic
from fpsim.errors import FpsimError
from fpsim.formats import Format
from fpsim.names import get_format
from fpsim.sqnr import FORMATS, Scaling, SqnrRow, gaussian, levels
from fpsim.unit import MacUnit, get_unit

if TYPE_CHECKING:
    from fpsim.report import PerplexityRow

__all__ = [
    "accumulator_figure",
    "format_figure",
    "format_label",
    "perplexity_figure",
    "save",
    "sqnr_figure",
    "to_svg",
]

#: Text, secondary text, and thin lines; the report's style sheet recolours them in dark mode.
INK, MUTED, RULE = "#1f2933", "#5f6b7a", "#d9dee5"
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#9467a8"
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE)
WIDTH = 8.0  #: inches of every figure

_STYLE: dict[str, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "fpsim",
    "savefig.dpi": 150,
}

#: Marker, colour and whether it is filled: colour is where the scale lives, filling how good it is.
_SCALINGS: dict[Scaling, tuple[str, str, bool, str]] = {
    Scaling.TENSOR_ABSMAX: ("o", BLUE, False, "tensor, absmax"),
    Scaling.TENSOR_BEST: ("o", BLUE, True, "tensor, best clip"),
    Scaling.BLOCK_E8M0: ("D", RED, False, "32-block, E8M0 (MX)"),
    Scaling.BLOCK_ABSMAX: ("D", RED, True, "32-block, real absmax"),
}


def format_label(name: str) -> str:
    """Return a format name as people write it: ``e2m1`` as E2M1, ``int4s`` as INT4."""
    upper = name.upper()
    return upper.removesuffix("S") if upper.startswith("INT") else upper


# -- quantization error --------------------------------------------------------------------------


def sqnr_figure(rows: Sequence[SqnrRow]) -> Figure:
    """Draw SQNR against format: a panel per data set, a line per format, a mark per scaling.

    Raises:
        FpsimError: no rows.
    """
    _some(rows)
    names = list(dict.fromkeys(row.data for row in rows))
    formats = list(dict.fromkeys(row.format for row in rows))
    columns = 1 if len(names) == 1 else 2
    lines = -(-len(names) // columns)
    height = 0.95 + lines * (0.75 + 0.33 * len(formats))
    with _style():
        figure = _figure(height)
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
        for axes, name in zip(grid, names, strict=False):
            _sqnr_panel(axes, [row for row in rows if row.data == name], formats)
        for axes in list(grid)[len(names) :]:
            axes.set_visible(False)
        for axes in list(grid)[max(len(names) - columns, 0) : len(names)]:
            axes.set_xlabel("SQNR (dB)")
            axes.tick_params(labelbottom=True)
        shown = {row.scaling for row in rows}
        _sqnr_key(figure, [s for s in _SCALINGS if s in shown])
    return figure


def _sqnr_panel(axes: Axes, rows: Sequence[SqnrRow], formats: Sequence[str]) -> None:
    axes.set_title(rows[0].data)
    axes.set_yticks(range(len(formats)), [format_label(name) for name in formats])
    axes.set_ylim(len(formats) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    for y, name in enumerate(formats):
        points = {row.scaling: row.sqnr_db for row in rows if row.format == name}
        finite = [value for value in points.values() if math.isfinite(value)]
        if not finite:
            continue
        axes.plot([min(finite), max(finite)], [y, y], color=RULE, linewidth=3, zorder=1)
        for scaling, value in points.items():
            marker, colour, filled, _ = _SCALINGS[scaling]
            face = colour if filled else "white"
            size = 7.0 if marker == "o" else 6.0
            axes.plot(
                value, y, marker, color=colour, markerfacecolor=face, markersize=size,
                markeredgewidth=1.6, zorder=3 if filled else 2,
            )  # fmt: skip
        best = max(finite)
        axes.annotate(
            f"{best:.1f}", (best, y), (7, 0), textcoords="offset points", va="center",
            fontsize=8.5, color=MUTED,
        )  # fmt: skip
    axes.margins(x=0.1)


def _sqnr_key(figure: Figure, scalings: Sequence[Scaling]) -> None:
    handles = []
    for scaling in scalings:
        marker, colour, filled, label = _SCALINGS[scaling]
        handles.append(
            Line2D(
                [], [], linestyle="", marker=marker, color=colour, label=label, markersize=6.5,
                markerfacecolor=colour if filled else "white", markeredgewidth=1.6,
            )  # fmt: skip
        )
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False,
        handletextpad=0.2, columnspacing=1.6,
    )  # fmt: skip


# -- perplexity ----------------------------------------------------------------------------------


def perplexity_figure(rows: Sequence[PerplexityRow]) -> Figure:
    """Draw perplexities as distances from the float32 row (the one without a recipe), if there.

    A perplexity that is not finite is named in words. The axis is logarithmic when the values span
    more than a factor of 20.

    Raises:
        FpsimError: no rows.
    """
    _some(rows)
    values = [row.perplexity for row in rows]
    finite = [value for value in values if math.isfinite(value)]
    reference = next((r.perplexity for r in rows if not r.recipe and r.perplexity in finite), None)
    with _style():
        figure = _figure(0.8 + 0.46 * len(rows))
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
        axes.text(
            0.02, y, f"{value}: no finite loss", va="center", color=RED,
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
        return
    colour = MUTED if value == reference else BLUE
    if reference is not None:
        axes.plot([reference, value], [y, y], color=colour, linewidth=2.2)
    axes.plot(value, y, "o", color=colour, markersize=8)
    axes.annotate(
        f"{value:.4g}", (value, y), (9, 0), textcoords="offset points", va="center",
        fontweight="bold",
    )  # fmt: skip


# -- formats -------------------------------------------------------------------------------------


def format_figure(formats: Sequence[str | Format] = FORMATS) -> Figure:
    """Draw the values of small formats on number lines scaled to the same largest value.

    Each value is a dot in the interval of numbers that round to it, and bears its unscaled value
    where there is room.

    Raises:
        FpsimError: no formats, an unknown one, or one of more than 6 bits.
    """
    _some(formats)
    targets = [get_format(fmt) for fmt in formats]
    for fmt in targets:
        if fmt.bits > 6:
            raise FpsimError(f"format: {fmt.name} has {fmt.bits} bits; a picture takes at most 6")
    with _style():
        figure = _figure(0.75 + 0.62 * len(targets))
        axes = figure.subplots()
        for y, fmt in enumerate(targets):
            _number_line(axes, y, fmt, SERIES[y % len(SERIES)])
        axes.set_yticks(range(len(targets)), [format_label(fmt.name) for fmt in targets])
        axes.set_ylim(len(targets) - 0.55, -0.7)
        axes.set_xlim(-1.04, 1.04)
        axes.set_xlabel("value relative to the largest")
        axes.xaxis.set_major_locator(MultipleLocator(0.25))
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
    return figure


def _number_line(axes: Axes, y: int, fmt: Format, colour: str) -> None:
    raw = levels(fmt)
    x = raw / np.abs(raw).max()
    edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    for i, (left, right) in enumerate(zip(edges, edges[1:], strict=False)):
        axes.barh(
            y, right - left, 0.26, left, color=colour, alpha=0.32 if i % 2 else 0.16, linewidth=0
        )
    axes.plot(x, np.full_like(x, y), "o", color=colour, markersize=5.5)
    taken = np.inf
    for value, position in zip(np.flip(raw[raw >= 0]), np.flip(x[raw >= 0]), strict=True):
        if taken - position < 0.055:
            continue
        taken = position
        for sign in (1,) if value == 0 or -value not in raw else (1, -1):
            axes.annotate(
                f"{sign * value:g}".replace("-", "\N{MINUS SIGN}"), (sign * position, y), (0, 9),
                textcoords="offset points", ha="center", va="bottom", fontsize=8, color=MUTED,
            )  # fmt: skip



# -- accumulators --------------------------------------------------------------------------------


def accumulator_figure(
    units: Sequence[str | MacUnit] = ("e2m1-chain-e5m10", "e2m1-chain-e8m7", "e2m1-chain-e4m3"),
    length: int = 4096,
    seed: int = 0,
) -> Figure:
    """Draw the accumulators of units through one long dot product, beside the exact sum.

    The dot product is a vector's with itself, normal values of deviation 2 cast to the operand
    format, so that every product helps the sum grow past what a narrow accumulator can follow. A
    unit that rounds once (``exact``) is a ring at the end.

    Raises:
        FpsimError: no units, or units whose operand formats differ.
    """
    _some(units)
    macs = [get_unit(unit) for unit in units]
    first = macs[0]
    for unit in macs:
        if (unit.a, unit.b) != (first.a, first.b):
            raise FpsimError(f"units: {unit.name} and {first.name} take different operands")
    x = 2.0 * gaussian(length, seed)
    a, b = first.a.encode(x), first.b.encode(x)
    exact = np.cumsum(first.a.decode(a) * first.b.decode(b))
    with _style():
        figure = _figure(4.0)
        axes = figure.subplots()
        steps = np.arange(1, length + 1)
        axes.plot(steps, exact, color=INK, linewidth=1.6, linestyle=(0, (4, 2)))
        ends = [(exact[-1], f"exact sum {exact[-1]:,.6g}", INK)]
        for unit, colour in zip(macs, SERIES * len(macs), strict=False):
            values = unit.result.decode(unit.accumulate(a, b))
            ends.append(_trajectory(axes, unit.name, steps, values, exact, colour))
        _end_labels(axes, length, ends)
        axes.set_xlabel("products accumulated")
        axes.set_ylabel("accumulator value")
        axes.set_xlim(0, length)
        axes.grid(axis="y")
        axes.tick_params(length=0)
    return figure


def _trajectory(
    axes: Axes,
    name: str,
    steps: NDArray[np.int64],
    values: NDArray[np.float64],
    exact: NDArray[np.float64],
    colour: str,
) -> tuple[float, str, str]:
    """Draw one unit and return where its label belongs, the label and its colour."""
    end = float(values[-1])
    if values.size == 1:
        axes.plot(steps[-1], end, "o", color=colour, markerfacecolor="none", clip_on=False)
    else:
        finite = np.where(np.isfinite(values), values, np.nan)
        axes.plot(steps, finite, color=colour, linewidth=2)
    if math.isfinite(end):
        return end, f"{name} {end:,.6g} ({end / exact[-1] - 1:+.1%})", colour
    last = int(np.flatnonzero(np.isfinite(values))[-1])
    axes.plot(steps[last], values[last], "x", color=colour, markersize=8, markeredgewidth=2.2)
    return float(values[last]), f"{name} infinite after {steps[last]} steps", colour


def _end_labels(axes: Axes, x: int, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write labels right of the curves' ends, lowest first, pushed up where they would touch."""
    low, high = axes.get_ylim()
    gap, floor = 0.065 * (high - low), -math.inf
    for value, text, colour in sorted(ends, key=lambda end: end[0]):
        floor = max(value, floor + gap)
        axes.annotate(
            text, (x, floor), (8, 0), textcoords="offset points", va="center", color=colour,
            annotation_clip=False, fontsize=9,
        )  # fmt: skip


# -- files ---------------------------------------------------------------------------------------


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG document, the same text whenever the figure is the same."""
    return _rendered(figure, "svg").decode("utf-8")


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as ``.svg`` or ``.png``, whole or not at all, and return the path.

    Raises:
        FpsimError: another suffix, or a path that cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise FpsimError(f"path: {target} ends in {target.suffix!r}; allowed are .svg and .png")
    return write_atomic(target, _rendered(figure, kind), "path")


def _rendered(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    absent = {"svg": ("Date", "Creator", "Format", "Type"), "png": ("Software",)}[kind]
    with _style():
        figure.savefig(buffer, format=kind, metadata=dict.fromkeys(absent))
    return buffer.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _some(items: Sequence[object]) -> None:
    if not items:
        raise FpsimError("figure: there is nothing to draw")
