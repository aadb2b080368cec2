# SPDX-License-Identifier: Apache-2.0
"""Layers of a model under a recipe and a unit, one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fpsim.plots.style import BLUE, GREEN, MUTED, ORANGE, PURPLE, RED, check_some, new_figure, style

if TYPE_CHECKING:
    from fpsim.explore.layers import LayerRow

__all__ = ["layers_figure"]


def layers_figure(rows: Sequence[LayerRow]) -> Figure:
    """Draw the effects of a recipe and a unit on each layer, layers from left to right.

    Args:
        rows: measurements, as `fpsim.explore.layers.layer_rows` returns them.

    Returns:
        Four panels, one below the other: the range of the input channels' largest magnitudes; SQNR
        of the output with casts alone and with casts and unit (rings: no accumulator losses); the
        shares of input values saturated and flushed, and of steps swamped; the bits of a lossless
        register, and the significand bits of a lossless floating-point accumulator.

    Raises:
        FpsimError: no rows.
    """
    check_some(rows)
    x = list(range(len(rows)))
    formats = ", ".join(dict.fromkeys(f"{r.input_format} x {r.weight_format}" for r in rows))
    with style():
        figure = new_figure(7.6)
        ranges, error, shares, bits = figure.subplots(4, 1, sharex=True)
        low = [row.channel_low or math.nan for row in rows]
        high = [row.channel_high or math.nan for row in rows]
        ranges.vlines(x, low, high, color=BLUE, linewidth=2, alpha=0.6)
        ranges.plot(x, high, ".", color=BLUE, markersize=4)
        ranges.set_yscale("log", base=2)
        ranges.set_title(f"largest magnitude per input channel, smallest to largest ({formats})")
        error.plot(x, [row.cast_db for row in rows], "-", color=BLUE, label="casts alone")
        error.plot(x, [_finite(row.output_db) for row in rows], color=RED, label="with unit",
                   linestyle=(0, (4, 2)))  # fmt: skip
        exact = [i for i in x if math.isinf(rows[i].unit_db) and rows[i].unit_db > 0]
        error.plot(exact, [rows[i].cast_db for i in exact], "o", color=GREEN, markersize=4,
                   markerfacecolor="none", label="unit lost nothing")  # fmt: skip
        error.set_title("SQNR of the output, dB")
        for label, colour, marker, name in (
            ("inputs saturated", ORANGE, "^", "saturated"),
            ("inputs flushed to zero", PURPLE, "s", "flushed"),
            ("steps swamped", RED, "o", "swamped"),
        ):
            values = [100 * getattr(row, name) for row in rows]
            shares.plot(x, values, marker=marker, markersize=3, color=colour, linewidth=1,
                        label=label)  # fmt: skip
        shares.set_title("shares, %")
        shares.set_ylim(bottom=0)
        bits.plot(x, [row.fixed_bits for row in rows], color=BLUE, label="fixed-point register")
        bits.plot(x, [row.mantissa_bits + 1 for row in rows], color=RED, linestyle=(0, (4, 2)),
                  label="significand of a float")  # fmt: skip
        bits.set_title("accumulator bits that lose nothing")
        bits.set_ylim(bottom=0)
        bits.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        bits.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _name(rows, value)))
        bits.tick_params(axis="x", labelrotation=30, labelsize=7)
        for axes in (ranges, error, shares, bits):
            axes.grid()
            axes.tick_params(length=0)
        for axes in (error, shares, bits):
            axes.legend(frameon=False, fontsize=8, ncols=3)
        for label in bits.get_xticklabels():
            label.set_ha("right")
            label.set_color(MUTED)
    return figure


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _name(rows: Sequence[LayerRow], value: float) -> str:
    place = round(value)
    if abs(value - place) > 1e-6 or not 0 <= place < len(rows):
        return ""
    parts = rows[place].layer.split(".")
    number = next((part for part in parts if part.isdecimal()), "")
    return f"{number} {parts[-1]}".strip()
