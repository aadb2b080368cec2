# SPDX-License-Identifier: Apache-2.0
"""How much of a layer's error is the adder's: its rounding, and the order in which it adds?

Noise in eight of SmolLM2-135M's layers with MXFP4 operands, over that of the casts, on E5M10, E8M7
and E5M6 adders that round to nearest, truncate or (in sequence) round stochastically, one product
after the other, in trees of 16, or in 16 lanes; and the perplexity of the whole model on each.
"""

from __future__ import annotations

import math
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
    pairs = [("mxfp4", unit) for *_, unit in cells]
    layers = study.layer_points(run, pairs)
    exact, *models = study.score_points(run, [("mxfp4", "exact"), *pairs])
    return {
        "about": study.about(layers=8),
        "exact": exact,
        "rows": [
            {"format": fmt, "order": order, "rounding": rounding, "unit": unit, "layers": layer,
             "model": model}
            for (fmt, order, rounding, unit), layer, model in zip(
                cells, layers, models, strict=True
            )
        ],
    }  # fmt: skip


def draw(data: dict[str, Any]) -> Any:
    """Draw noise by order; a marker per rounding, a panel per format."""
    with style():
        figure = new_figure(5.6)
        upper, lower = figure.subplots(2, len(FORMATS), sharey="row", sharex=True)
        for noise, whole, fmt in zip(upper, lower, FORMATS, strict=True):
            here = [row for row in data["rows"] if row["format"] == fmt]
            for i, rounding in enumerate(ROUNDINGS):
                rows = [row for row in here if row["rounding"] == rounding]
                x = np.array([list(ORDERS).index(row["order"]) for row in rows]) + 0.12 * (i - 1)
                noise.plot(x, [study.noise(row["layers"]) for row in rows], "osD"[i],
                           color=SERIES[i], markersize=6, label=rounding)  # fmt: skip
                scored = [row["model"].get("perplexity") for row in rows]
                whole.plot(x, [math.nan if y is None else y for y in scored], "osD"[i],
                           color=SERIES[i], markersize=6)  # fmt: skip
            noise.axhline(0, color=MUTED, linestyle="dashed", linewidth=1)
            whole.axhline(data["exact"]["perplexity"], color=MUTED, linestyle="dotted",
                          linewidth=1)  # fmt: skip
            whole.set_yscale("log")
            noise.set_title(f"{fmt.upper()} adders")
            whole.set_xticks(range(len(ORDERS)), list(ORDERS))
            whole.set_xlim(-0.5, len(ORDERS) - 0.5)
            for axes in (noise, whole):
                axes.grid(axis="y")
                axes.tick_params(length=0)
        upper[0].set_ylabel("adder's noise over the casts' (dB)")
        lower[0].set_ylabel("perplexity")
        handles, labels = upper[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        note = data["about"]
        caption(figure, f"MXFP4 operands; mean of {note['layers']} layers of SmolLM2-135M, dashed: "
                        f"as much as the casts; perplexity on {note['tokens']} tokens, dotted: "
                        f"exact sums; fpsim {note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
