# SPDX-License-Identifier: Apache-2.0
"""How narrow can an accumulator be before a language model notices, and could one pass have told?

Perplexity of SmolLM2-135M with MXFP4 operands against the accumulator's width: floats from E5M2 to
E8M23, fixed-point registers of 10 to 32 bits that saturate or wrap, windows of tensor cores with 3
to 25 fraction bits, and narrow chains that are promoted after 16 to 128 products. Where a register
has a choice (the weight of its last bit), eight captured layers choose. Beside it what those layers
predict without running the model: the noise of the accumulator over the noise of the casts.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import study

from fpsim import get_unit
from fpsim.plots.style import MARKERS, MUTED, SERIES, caption, new_figure, style

NAME = "accumulator_width"
RECIPE = "mxfp4"
FLOATS = ("e5m2", "e5m3", "e5m4", "e5m5", "e5m6", "e5m8", "e5m10", "e8m7", "e8m23")
WIDTHS = (10, 12, 14, 16, 18, 20, 22, 24, 28, 32)
#: Widths that the whole model runs on; eight layers say enough of the others.
RUN = (14, 16, 18)
#: Weights of a register's last bit that are tried on layers: 2^-q.
FRACTIONS = tuple(range(-2, 15))
WINDOW_BITS = (3, 5, 7, 10, 13, 16, 20, 25)
WINDOWS_RUN = (3, 5, 7, 13)
CHUNKS = (128, 64, 32, 16)
CHUNKS_RUN = ()
#: Left end of the axis of noise, where lossless accumulators stand.
FLOOR_DB = -60.0


def measure(run: study.Run) -> dict[str, Any]:
    """Return perplexity and effects on layers of every unit."""
    families = {
        "float chain": [f"e2m1-chain-{f}" for f in FLOATS],
        "window of 16": [f"e2m1-aligned16f{f}-e8m23" for f in WINDOW_BITS],
        "fixed, saturating": _fixed(run, "-saturate"),
        "fixed, wrapping": _fixed(run, ""),
        "E5M4 chain, promoted": [f"e2m1-chunked{n}-of-chain-e5m4-into-chain-e8m23" for n in CHUNKS],
    }
    cells = [(family, unit) for family, units in families.items() for unit in units]
    layers = study.layer_points(run, [(RECIPE, unit) for _, unit in cells])
    floats, exact = study.score_points(run, [(None, "exact"), (RECIPE, "exact")])
    nudged = [study.score_points(run, [(RECIPE, "exact")], nudge=n)[0] for n in study.NUDGES]
    whole = [cell for cell in cells if _runs(*cell)]
    scores = study.score_points(run, [(RECIPE, unit) for _, unit in whole])
    found = dict(zip(whole, scores, strict=True))
    rows = [
        {"family": cell[0], "unit": cell[1], "bits": _bits(cell[1])}
        | found.get(cell, {})
        | {"layers": layer}
        for cell, layer in zip(cells, layers, strict=True)
    ]
    return {"about": study.about(), "float": floats, "exact": exact, "nudged": nudged, "rows": rows}


def _fixed(run: study.Run, ending: str) -> list[str]:
    """Return for every width the register that adds least noise to eight layers."""
    cells = [(w, f"e2m1-fixed{w}q{q}{ending}") for w in WIDTHS for q in FRACTIONS]
    found = study.layer_points(run, [(RECIPE, unit) for _, unit in cells])
    best: dict[int, tuple[float, str]] = {}
    for (width, unit), result in zip(cells, found, strict=True):
        here = study.noise(result), unit
        if here < best.get(width, (math.inf, "")):  # NaN is not
            best[width] = here
    return [unit for _, unit in best.values()]


def _runs(family: str, unit: str) -> bool:
    """Return whether the whole model runs on a unit."""
    if family.startswith("fixed"):
        return family.endswith("saturating") and _bits(unit) in RUN
    if family.endswith("promoted"):
        return any(f"chunked{size}-" in unit for size in CHUNKS_RUN)
    return not family.startswith("window") or _bits(unit) in WINDOWS_RUN


def _bits(unit: str) -> int:
    """Return the bits of the register that meets every product."""
    stage: Any = get_unit(unit).spec.accumulate
    if stage.kind == "aligned":
        return int(stage.fraction_bits)
    return int((stage.inner if stage.kind == "chunked" else stage).result.bits)


def draw(data: dict[str, Any]) -> Any:
    """Draw noise and perplexity against bits, and one against the other."""
    families = list(dict.fromkeys(row["family"] for row in data["rows"]))
    with style():
        figure = new_figure(4.4)
        layers, whole, both = figure.subplots(1, 3, width_ratios=(5, 5, 4))
        for i, family in enumerate(families):
            rows = [row for row in data["rows"] if row["family"] == family]
            rows.sort(key=lambda row: (row["bits"], -study.noise(row["layers"])))
            look: dict[str, Any] = {"marker": MARKERS[i], "markersize": 4, "color": SERIES[i]}
            ties = "none" if family.endswith("promoted") else "-"
            noise = [max(study.noise(row["layers"]), FLOOR_DB) for row in rows]
            layers.plot([row["bits"] for row in rows], noise, linestyle=ties, label=family, **look)
            run = [row for row in rows if row.get("perplexity")]
            values = [row["perplexity"] for row in run]
            whole.plot([row["bits"] for row in run], values, linestyle=ties, **look)
            noise = [max(study.noise(row["layers"]), FLOOR_DB) for row in run]
            both.plot(noise, values, linestyle="none", **look)
        for axes in (whole, both):
            for name, line in (("float", "dotted"), ("exact", "dashed")):
                axes.axhline(data[name]["perplexity"], color=MUTED, linestyle=line, linewidth=1)
            axes.set_yscale("log")
            axes.set_ylim(None, 5e7)
        for axes in (layers, whole, both):
            axes.grid()
            axes.tick_params(length=0, labelsize=8)
        layers.axhline(0, color=MUTED, linewidth=1)
        both.axvline(0, color=MUTED, linewidth=1)
        layers.set_title("noise in 8 layers (dB)", fontsize=10)
        whole.set_title("perplexity of SmolLM2", fontsize=10)
        both.set_title("perplexity against noise", fontsize=10)
        for axes in (layers, whole):
            axes.set_xlabel("bits (windows: fraction bits)", fontsize=9)
        both.set_xlabel("noise in 8 layers (dB)", fontsize=9)
        figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8.5)
        note = data["about"]
        caption(figure, "MXFP4; noise of the accumulator over the casts', mean of 8 layers "
                        f"(bottom, left: none). Perplexity of {note['tokens']} tokens of CPython\n"
                        f"{note['python']}'s topics; dashed: exact sums, dotted: float32; fpsim "
                        f"{note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
