# SPDX-License-Identifier: Apache-2.0
"""How much of a model's error is the adder's: its rounding, and the order in which it adds?

Noise of the outputs of eight of SmolLM2-135M's layers with MXFP4 operands against exact sums
of the same operands, beside the noise of the casts themselves; E5M10 and E8M7 adders that round to
nearest, truncate or (in sequence) round stochastically, one product after the other, in trees of
16, or in 16 lanes.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import study

from fpsim.plots.style import MUTED, SERIES, new_figure, style

NAME = "order_and_rounding"
ORDERS = {"sequential": "chain-{}", "tree of 16": "tree16-{}", "16 lanes": "tree-{}-lanes16"}
ROUNDINGS = {"nearest": "", "truncated": "-rtz", "stochastic": "-sr12"}
FORMATS = ("e5m10", "e8m7")


def measure(run: study.Run) -> list[dict[str, Any]]:
    """Return the noise of every adder."""
    cells = [
        (fmt, order, rounding, f"e2m1-{stage.format(fmt)}{ending}")
        for fmt in FORMATS
        for order, stage in ORDERS.items()
        for rounding, ending in ROUNDINGS.items()
        if order == "sequential" or rounding != "stochastic"  # which trees have not
    ]
    found = study.layer_points(run, [("mxfp4", unit) for *_, unit in cells])
    return [
        {"format": fmt, "order": order, "rounding": rounding, "unit": unit} | result
        for (fmt, order, rounding, unit), result in zip(cells, found, strict=True)
    ]


def draw(rows: list[dict[str, Any]]) -> Any:
    """Draw noise by order, a marker per rounding, a panel per format."""
    with style():
        figure = new_figure(3.4)
        panels = figure.subplots(1, len(FORMATS), sharey=True)
        for axes, fmt in zip(panels, FORMATS, strict=True):
            here = [row for row in rows if row["format"] == fmt]
            for i, rounding in enumerate(ROUNDINGS):
                rows_of = [row for row in here if row["rounding"] == rounding]
                y = [-(row.get("unit_db") or math.nan) for row in rows_of]
                x = [list(ORDERS).index(row["order"]) for row in rows_of]
                axes.plot(x, y, "osD"[i], color=SERIES[i], label=rounding)
            cast = next(row["cast_db"] for row in here if row.get("cast_db") is not None)
            axes.axhline(-cast, color=MUTED, linestyle="dashed", linewidth=1)
            axes.annotate("the casts' own", (0, -cast), (2, 3), fontsize=8, color=MUTED,
                          xycoords=("axes fraction", "data"),
                          textcoords="offset points")  # fmt: skip
            axes.set_xticks(range(len(ORDERS)), list(ORDERS))
            axes.set_xlim(-0.5, len(ORDERS) - 0.5)
            axes.set_title(f"noise of the worst layer, {fmt.upper()}, dB")
            axes.grid(axis="y")
            axes.tick_params(length=0)
        panels[0].legend(frameon=False, fontsize=8.5)
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
