# SPDX-License-Identifier: Apache-2.0
"""Figures of accumulators: errors by length, and accumulators during a dot product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.plots.style import INK, MUTED, RULE, SERIES, check_some, look, minus, new_figure, style
from fpsim.studies.accumulation import AccumulationRow
from fpsim.studies.sqnr import gaussian
from fpsim.unit import MacUnit, get_unit

__all__ = ["MAX_UNITS", "accumulation_figure", "accumulator_figure"]

#: Most units in one figure.
MAX_UNITS = 10

#: Line styles of the orders of products.
_LINES: dict[str, Any] = {"natural": "solid", "ascending": (0, (5, 2)), "descending": (0, (1, 1.5))}


def accumulation_figure(rows: Sequence[AccumulationRow]) -> Figure:
    """Draw error and swamped steps of units against the length of the dot product.

    Args:
        rows: measurements, as `fpsim.studies.accumulation.measure_accumulation` returns them.

    Returns:
        Left, the largest error relative to the sum of magnitudes (crosses for overflowed results,
        hollow marks on a separate line for no error), with the bound of theory as a dotted line in
        the unit's colour; right, the share of steps that did not change the accumulator.

    Raises:
        FpsimError: no rows.
    """
    check_some(rows)
    series = list(dict.fromkeys((row.unit, row.order) for row in rows))
    several = len({order for _, order in series}) > 1
    units = list(dict.fromkeys(row.unit for row in rows))
    floor = min((e for row in rows for e in (row.max_error, row.bound or 0) if e > 0), default=1e-6)
    floor /= 20
    exact = list(dict.fromkeys(row.unit for row in rows if row.max_error == 0))
    with style():
        figure = new_figure(3.9)
        left, right = figure.subplots(1, 2)
        if exact:
            left.axhline(floor, color=RULE, linewidth=1)
            left.annotate("no error", (0, floor), (3, 4), textcoords="offset points", fontsize=8,
                          xycoords=("axes fraction", "data"), color=MUTED)  # fmt: skip
        for unit, order in series:
            own = look(units.index(unit))
            colour, line = own["color"], _LINES[order]
            found = sorted((r for r in rows if (r.unit, r.order) == (unit, order)), key=_length)
            k = [row.length for row in found]
            label = f"{unit}, {order}" if several else unit
            left.plot(k, [row.max_error or math.nan for row in found], markersize=4,
                      linestyle=line, label=label, **own)  # fmt: skip
            none = [row for row in found if row.max_error == 0 and not row.not_finite]
            shift = 1.12 ** exact.index(unit) if unit in exact else 1.0  # marks side by side
            left.plot([shift * row.length for row in none], [floor] * len(none), markersize=5,
                      linestyle="none", markerfacecolor="none", **own)  # fmt: skip
            lost = [row for row in found if row.not_finite]
            left.plot([row.length for row in lost], [1.0] * len(lost), "x", color=colour)
            bounds = [row.bound or math.nan for row in found]
            left.plot(k, [b if b < 1 else math.nan for b in bounds], color=colour, linewidth=1,
                      linestyle=(0, (1, 3)))  # fmt: skip
            right.plot(k, [100 * row.swamped for row in found], markersize=4, linestyle=line,
                       **own)  # fmt: skip
        left.set_title("largest error / sum of magnitudes")
        left.set_yscale("log")
        right.set_title("swamped steps, %")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xlabel("length K of the dot product")
            axes.grid()
            axes.tick_params(length=0)
        figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def _length(row: AccumulationRow) -> int:
    return row.length


def accumulator_figure(
    units: Sequence[str | MacUnit] = ("e2m1-chain-e5m10", "e2m1-chain-e8m7", "e2m1-chain-e4m3"),
    length: int = 4096,
    seed: int = 0,
) -> Figure:
    """Draw the accumulators of units during one long dot product, beside the exact sum.

    The dot product is of a vector with itself: normal values of deviation 2, cast to the operand
    format, whose sum outgrows narrow accumulators. A unit that rounds once (``exact``) is a ring at
    the end.

    Args:
        units: units or their names, all with the same operand formats.
        length: products in the dot product.
        seed: seed of the values.

    Returns:
        Figure with a line per unit.

    Raises:
        FpsimError: no units, or units whose operand formats differ.
    """
    check_some(units)
    macs = [get_unit(unit) for unit in units]
    first = macs[0]
    for unit in macs:
        if (unit.a, unit.b) != (first.a, first.b):
            raise FpsimError(f"units: {unit.name} and {first.name} take different operands")
    x = 2.0 * gaussian(length, seed)
    a, b = first.a.encode(x), first.b.encode(x)
    exact = np.cumsum(first.a.decode(a) * first.b.decode(b))
    with style():
        figure = new_figure(4.0)
        axes = figure.subplots()
        axes.plot(exact, color=INK, linewidth=1.6, linestyle=(0, (4, 2)))
        ends = [_End(exact[-1], f"exact sum\n{exact[-1]:,.10g}", INK)]
        for i, unit in enumerate(macs):
            values = unit.result.decode(unit.accumulate(a, b))
            step = getattr(unit.spec.accumulate, "products", None) or 1
            ends.append(_trajectory(axes, unit.name, (values, step), exact, i))
        _end_labels(axes, length, ends)
        axes.set_title("accumulator value", fontweight="normal", fontsize=10, color=MUTED)
        axes.set_xlabel("products accumulated")
        axes.set_xlim(0, length)
        axes.xaxis.set_major_locator(MultipleLocator(length / 4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:,g}")))
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
    return figure


class _End(NamedTuple):
    """A label and its place."""

    value: float
    text: str
    colour: str


def _trajectory(
    axes: Axes,
    name: str,
    steps: tuple[NDArray[np.float64], int],
    exact: NDArray[np.float64],
    place: int,
) -> _End:
    """Draw the accumulator of one unit; return the label at the end of its curve.

    ``steps`` are the accumulator's values, one per step, and the products of a step. The curve ends
    at a value that is not finite.
    """
    values, step = steps
    step = exact.size if values.size == 1 else step  # a unit that rounds once
    at = np.minimum((np.arange(values.size) + 1) * step, exact.size) - 1
    finite = np.isfinite(values)
    count = int(np.argmin(finite)) if not finite.all() else values.size
    colour = look(place)["color"]
    # Colours repeat after some units.
    line: Any = "solid" if place < len(SERIES) else (0, (5, 2))
    once: dict[str, Any] = (
        {"marker": "o", "markerfacecolor": "none", "clip_on": False} if values.size == 1 else {}
    )
    axes.plot(at[:count], values[:count], color=colour, linewidth=2, linestyle=line, **once)
    if count < values.size:
        last, end = (int(at[count - 1]), float(values[count - 1])) if count else (0, 0.0)
        axes.plot(last, end, "x", color=colour, markersize=8, markeredgewidth=2.2, zorder=3)
        return _End(end, f"{name}:\noverflows at product {int(at[count]) + 1}", colour)
    end = float(values[-1])
    return _End(end, f"{name}\n{end:,.10g} ({minus(f'{end / exact[-1] - 1:+.1%}')})", colour)


def _end_labels(axes: Axes, x: int, ends: Sequence[_End]) -> None:
    """Write labels at the right ends of curves, moved apart if they would overlap."""
    low, high = axes.get_ylim()
    ordered = sorted(ends)
    small = len(ends) > 7  # no room for labels of two lines
    gap = (0.095 if small else 0.13) * (high - low)
    places = _spread([end.value for end in ordered], gap, high)
    for end, place in zip(ordered, places, strict=True):
        axes.annotate(
            end.text, (x, place), (8, 0), textcoords="offset points", va="center",
            color=end.colour, annotation_clip=False, fontsize=7 if small else 9,
        )  # fmt: skip


def _spread(values: Sequence[float], gap: float, top: float) -> list[float]:
    """Return ascending values moved apart to at least ``gap``, none above ``top``."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + gap) if places else value)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top)
        top = places[i] - gap
    return places
