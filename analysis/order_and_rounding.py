# SPDX-License-Identifier: Apache-2.0
"""How much of a layer's error is the adder's: its rounding, and the order in which it adds?

Noise in eight of SmolLM2-135M's layers with MXFP4 operands, over that of the casts, on E5M10, E8M7
and E5M6 adders that round to nearest, truncate or (in sequence) round stochastically, one product
after the other, in trees of 16, or in 16 lanes. The study of accumulator widths has perplexities.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import study

from fpsim.plots.style import MUTED, SERIES, caption, new_figure, style

NAME = "order_and_rounding"
ORDERS = {"sequential": "chain-{}", "tree of 16": "tree16-{}", "16 lanes": "tree-{}-lanes16"}
ROUNDINGS = {"nearest": "", "truncated": "-rtz", "stochastic": "-sr12"}
FORMATS = ("e5m10", "e8m7", "e5m6")


def measure(run: study.Run) -> dict[str, Any]:
    """Return the noise of every adder."""
    cells = [
        (fmt, order, rounding, f"e2m1-{stage.format(fmt)}{ending}")
        for fmt in FORMATS
        for order, stage in ORDERS.items()
        for rounding, ending in ROUNDINGS.items()
        if order == "sequential" or rounding != "stochastic"  # which trees have not
    ]
    layers = study.layer_points(run, [("mxfp4", unit) for *_, unit in cells])
    return {
        "about": study.about(layers=8),
        "rows": [
            {"format": fmt, "order": order, "rounding": rounding, "unit": unit, "layers": layer}
            for (fmt, order, rounding, unit), layer in zip(cells, layers, strict=True)
        ],
    }


def draw(data: dict[str, Any]) -> Any:
    """Draw noise by order; a marker per rounding, a panel per format."""
    with style():
        figure = new_figure(3.4)
        panels = figure.subplots(1, len(FORMATS), sharey=True)
        for axes, fmt in zip(panels, FORMATS, strict=True):
            here = [row for row in data["rows"] if row["format"] == fmt]
            for i, rounding in enumerate(ROUNDINGS):
                rows = [row for row in here if row["rounding"] == rounding]
                x = np.array([list(ORDERS).index(row["order"]) for row in rows]) + 0.12 * (i - 1)
                y = [study.noise(row["layers"]) for row in rows]
                axes.plot(x, y, "osD"[i], color=SERIES[i], markersize=6, label=rounding)
            axes.axhline(0, color=MUTED, linestyle="dashed", linewidth=1)
            axes.set_title(f"{fmt.upper()} adders")
            axes.set_xticks(range(len(ORDERS)), list(ORDERS))
            axes.set_xlim(-0.5, len(ORDERS) - 0.5)
            axes.grid(axis="y")
            axes.tick_params(length=0)
        panels[0].set_ylabel("adder's noise over the casts' (dB)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        note = data["about"]
        caption(figure, f"MXFP4 operands, mean of {note['layers']} layers of SmolLM2-135M; dashed: "
                        f"as much as the casts; fpsim {note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
