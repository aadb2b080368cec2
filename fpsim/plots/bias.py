# SPDX-License-Identifier: Apache-2.0
"""Error against the exponent bias: the curve that LLM-FP4 searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpsim.plots.style import MUTED, check_some, look, panels, style
from fpsim.studies.error import BiasCurve
from fpsim.studies.sqnr import data_label, format_label

__all__ = ["bias_figure"]


def bias_figure(
    curves: Sequence[BiasCurve],
    chosen: Mapping[str, float] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Draw SQNR against real-valued exponent bias, with the best bias and the absmax bias.

    Args:
        curves: curves, as `fpsim.studies.error.bias_curve` returns them.
        chosen: a recipe's biases, by label; each is drawn as a vertical line.
        axes: axes to draw into; None for a new figure.

    Returns:
        The figure: a filled dot at each curve's best bias, a ring at its absmax bias.

    Raises:
        FpsimError: no curves.
    """
    check_some(curves)
    with style():
        figure, (panel,) = panels(axes, 3.6)
        several = len({curve.data for curve in curves}) > 1
        top = max(float(curve.sqnr_db.max()) for curve in curves)
        formats = list(dict.fromkeys(curve.format for curve in curves))
        sets = list(dict.fromkeys(curve.data for curve in curves))
        for curve in curves:
            colour = look(formats.index(curve.format))["color"]
            label = format_label(curve.format)
            if several:
                label += f", {data_label(curve.data)}"
            line = ("solid", (0, (5, 2)), (0, (1, 1.5)))[sets.index(curve.data) % 3]
            panel.plot(curve.biases, curve.sqnr_db, color=colour, linestyle=line, label=label)
            at = np.interp([curve.absmax, curve.best], curve.biases, curve.sqnr_db)
            panel.plot(curve.absmax, at[0], "o", color=colour, markerfacecolor="white")
            panel.plot(curve.best, at[1], "o", color=colour)
            panel.annotate(
                f"{curve.best:.2f}", (curve.best, at[1]), (0, 7), textcoords="offset points",
                ha="center", fontsize=8, color=colour,
            )  # fmt: skip
        for label, bias in (chosen or {}).items():
            panel.axvline(bias, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            panel.annotate(
                label, (bias, 0.02), (3, 0), xycoords=("data", "axes fraction"),
                textcoords="offset points", rotation=90, fontsize=8, color=MUTED,
            )  # fmt: skip
        panel.set_xlabel("exponent bias (filled: best; ring: absmax)")
        panel.set_ylabel("SQNR (dB)")
        panel.set_ylim(max(0.0, top - 25), top + 2)
        panel.grid()
        panel.tick_params(length=0)
        panel.legend(frameon=False, fontsize=8.5)
    return figure
