# SPDX-License-Identifier: Apache-2.0
"""What do a block's size and its scale's format cost, on random data, weights and a whole model?

SQNR of E2M1 in blocks of 8 to 128 under scales in E8M0 (OCP's floor rule), E4M3, UE5M3, E5M2 and
real numbers, on normal and Student-t samples and on weights of SmolLM2-135M; and the perplexity of
SmolLM2 with the coded scales, weights and inputs cast, on exact sums.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import study

from fpsim.blocks.block_format import BlockFormat
from fpsim.blocks.scale_rules import ScaleRule
from fpsim.formats.names import get_format
from fpsim.plots.style import MUTED, SERIES, new_figure, style
from fpsim.studies.distributions import samples
from fpsim.studies.error import measure_error, quantizers

NAME = "block_size"
SIZES = (8, 16, 32, 64, 128)
SCALES = ("e8m0", "e4m3fn", "ue5m3", "e5m2", "real")
SAMPLES = 1 << 15


def block_format(scale: str, size: int) -> BlockFormat:
    """Return E2M1 in blocks under a scale."""
    element = get_format("e2m1")
    if scale == "real":
        return BlockFormat(f"real-{size}", element, size, scale=None, rule=ScaleRule.ABSMAX)
    if scale == "e8m0":
        return BlockFormat(f"e8m0-{size}", element, size)
    return BlockFormat(
        f"{scale}-{size}", element, size, scale=get_format(scale), rule=ScaleRule.ABSMAX
    )


def weights() -> np.ndarray[Any, Any]:
    """Return weights of a layer in the middle of SmolLM2, some of its rows."""
    from fpsim.bridge.measure.models import load

    state = load(study.MODEL).model.state_dict()
    matrix = state["model.layers.15.mlp.up_proj.weight"].float().numpy()
    return np.asarray(matrix[: SAMPLES // matrix.shape[1], :512])


def measure(run: study.Run) -> dict[str, Any]:
    """Return SQNR on three data sets, and perplexity."""
    data: dict[str, Any] = {
        name: samples(name, SAMPLES, 1) for name in ("gaussian", "student-t")
    } | {f"{study.MODEL} weights": weights()}
    cells = [(scale, size) for scale in SCALES for size in SIZES]
    formats = [block_format(scale, size) for scale, size in cells]
    errors = measure_error(data, quantizers(formats))
    rows = [
        {"data": row.data, "scale": scale, "size": size, "sqnr_db": row.sqnr_db}
        for i, row in enumerate(errors)
        for scale, size in [cells[i % len(cells)]]
    ]
    coded = [(scale, size) for scale in SCALES[:4:3] for size in SIZES]
    found = study.score_points(
        run,
        [(f"rtn:element=e2m1,block={n}" + (f",scale={s}" if s != "e8m0" else ""), "exact")
         for s, n in coded],
    )  # fmt: skip
    reference = study.score_points(run, [(None, "exact")])[0]
    whole = [
        {"scale": scale, "size": size} | result
        for (scale, size), result in zip(coded, found, strict=True)
    ]
    return {"sqnr": rows, "model": whole, "float": reference}


def draw(data: dict[str, Any]) -> Any:
    """Draw SQNR against size, a panel per data set, and perplexity."""
    sets = list(dict.fromkeys(row["data"] for row in data["sqnr"]))
    with style():
        figure = new_figure(5.6)
        panels = figure.subplots(2, 2).flat
        for axes, name in zip(panels, sets, strict=False):
            for i, scale in enumerate(SCALES):
                rows = [r for r in data["sqnr"] if (r["data"], r["scale"]) == (name, scale)]
                axes.plot([r["size"] for r in rows], [r["sqnr_db"] for r in rows],
                          "osD^v"[i] + "-", color=SERIES[i], markersize=4, label=scale)  # fmt: skip
            axes.set_title(f"SQNR of {name}, dB")
        last = figure.axes[-1]
        for i, scale in enumerate(SCALES):
            rows = [r for r in data["model"] if r["scale"] == scale]
            values = [r.get("perplexity") or math.nan for r in rows]
            if rows:
                last.plot([r["size"] for r in rows], values, "osD^v"[i] + "-", color=SERIES[i],
                          markersize=4)  # fmt: skip
        last.axhline(data["float"]["perplexity"], color=MUTED, linestyle="dotted")
        last.set_yscale("log")
        last.set_title("perplexity of SmolLM2 (dotted: float32)")
        for axes in figure.axes:
            axes.set_xscale("log", base=2)
            axes.set_xticks(SIZES, [str(size) for size in SIZES])
            axes.set_xlabel("elements per block")
            axes.grid()
            axes.tick_params(length=0)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
