# SPDX-License-Identifier: Apache-2.0
"""How narrow can an accumulator be before a language model notices?

Perplexity of SmolLM2-135M with MXFP4 operands against the accumulator's width: floats from E5M2 to
E8M23, fixed-point registers that saturate or wrap, windows of tensor cores, and narrow chains that
are promoted every 32 or 128 products; beside it what one pass of `fpsim size` over eight layers
says: the share of steps in which something was lost.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import study

from fpsim import get_unit
from fpsim.plots.style import MUTED, SERIES, new_figure, style

NAME = "accumulator_width"
RECIPE = "mxfp4"
FLOATS = ("e5m2", "e5m4", "e5m6", "e5m8", "e5m10", "e8m7", "e8m13", "e8m23")
FAMILIES = {
    "float chain": [f"e2m1-chain-{f}" for f in FLOATS],
    "fixed, saturating": [f"e2m1-fixed{w}q12-saturate" for w in (16, 18, 20, 22, 24, 28)],
    "fixed, wrapping": [f"e2m1-fixed{w}q12" for w in (16, 18, 20, 22, 24, 28)],
    "window of 16": [f"e2m1-aligned16f{f}-e8m23" for f in (3, 5, 7, 10, 13, 25)],
    "e5m4 chain, promoted": [f"e2m1-chunked{n}-of-chain-e5m4-into-chain-e8m23" for n in (128, 32)],
}  # fmt: skip


def measure(run: study.Run) -> dict[str, Any]:
    """Return perplexity and losses of every unit."""
    cells = [(RECIPE, unit) for units in FAMILIES.values() for unit in units]
    references = study.score_points(run, [(None, "exact"), (RECIPE, "exact")])
    figures = study.score_points(run, cells)
    layers = study.layer_points(run, cells)
    names = [family for family, units in FAMILIES.items() for _ in units]
    rows = [
        {"family": family, "unit": unit, "bits": _bits(unit)} | figure | {"layers": layer}
        for family, (_, unit), figure, layer in zip(names, cells, figures, layers, strict=True)
    ]
    return {"float": references[0], "exact": references[1], "rows": rows}


def _bits(unit: str) -> int:
    """Return the bits of the register that meets every product."""
    stage: Any = get_unit(unit).spec.accumulate
    if stage.kind == "aligned":
        return int(stage.fraction_bits)
    return int((stage.inner if stage.kind == "chunked" else stage).result.bits)


def draw(data: dict[str, Any]) -> Any:
    """Draw perplexity against bits, a line per family."""
    with style():
        figure = new_figure(4.2)
        left, right = figure.subplots(1, 2)
        for i, family in enumerate(FAMILIES):
            rows = [row for row in data["rows"] if row["family"] == family]
            bits = [row["bits"] for row in rows]
            marker = "osD^v"[i]
            values = [row.get("perplexity") or math.nan for row in rows]
            left.plot(bits, values, marker=marker, markersize=4, color=SERIES[i], label=family)
            lost = [-(row["layers"].get("unit_db") or math.nan) for row in rows]
            right.plot(bits, lost, marker=marker, markersize=4, color=SERIES[i])
        for name, line in (("float", "dotted"), ("exact", "dashed")):
            value = data[name]["perplexity"]
            left.axhline(value, color=MUTED, linestyle=line, linewidth=1)
            left.annotate(name, (1, value), (-2, 2), xycoords=("axes fraction", "data"),
                          textcoords="offset points", fontsize=8, ha="right")  # fmt: skip
        left.set_yscale("log")
        left.set_title("perplexity of SmolLM2, MXFP4 operands")
        right.set_title("noise of the worst of 8 layers, dB")
        for axes in (left, right):
            axes.set_xlabel("bits of the register (windows: fraction bits)")
            axes.grid()
            axes.tick_params(length=0)
        figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8.5)
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
