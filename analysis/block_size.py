# SPDX-License-Identifier: Apache-2.0
"""What do a block's size and its scale's format cost, on random data, real tensors and a model?

SQNR of E2M1 in blocks of 8 to 128 under scales in E8M0 (OCP's floor rule), E4M3, UE5M3, E5M2 and
real numbers, on normal and Student-t samples and on weights and inputs of SmolLM2-135M's layers;
and the perplexity of SmolLM2 with weights and inputs cast so, all but the real scales, exact sums.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import study

from fpsim.blocks.block_format import BlockFormat
from fpsim.blocks.scale_rules import ScaleRule
from fpsim.formats.names import get_format
from fpsim.plots.style import MARKERS, SERIES, caption, new_figure, style
from fpsim.studies.distributions import samples
from fpsim.studies.error import quantizers
from fpsim.studies.sqnr import sqnr_db

NAME = "block_size"
SIZES = (8, 16, 32, 64, 128)
SCALES = ("e8m0", "e4m3", "ue5m3", "e5m2", "real")
SAMPLES, SEEDS = 1 << 15, (1, 2, 3)
RANDOM = ("gaussian", "student-t")
#: Formats of scales that the whole model runs on: units look scales up by their code.
WHOLE = ("e8m0", "e4m3", "ue5m3", "e5m2")


def scale_name(scale: str) -> str:
    """Return the full name of a scale's format."""
    return "e4m3fn" if scale == "e4m3" else scale


def block_format(scale: str, size: int) -> BlockFormat:
    """Return E2M1 in blocks under a scale."""
    element = get_format("e2m1")
    if scale == "e8m0":
        return BlockFormat(f"e8m0-{size}", element, size)
    fmt = None if scale == "real" else get_format(scale_name(scale))
    return BlockFormat(f"{scale}-{size}", element, size, scale=fmt, rule=ScaleRule.ABSMAX)


def parts_of(name: str) -> list[study.Array]:
    """Return the parts of a data set: one per seed, or one per layer of SmolLM2."""
    if name in RANDOM:
        return [samples(name, SAMPLES, seed).reshape(-1, 512) for seed in SEEDS]
    return study.layer_tensors(study.MODEL)[name]


def errors(point: dict[str, Any]) -> list[list[float]]:
    """Return the SQNR of every format on every part of a data set, as work for an executor.

    Args:
        point: ``data``, and ``formats`` as pairs of scale and size.

    Returns:
        Per format a list with a value in dB per part.
    """
    wanted = quantizers([block_format(scale, size) for scale, size in point["formats"]])
    parts = [np.asarray(part, dtype=np.float64) for part in parts_of(point["data"])]
    return [
        [round(float(sqnr_db(part, quantizer.cast(part))), 3) for part in parts]
        for quantizer in wanted
    ]


def measure(run: study.Run) -> dict[str, Any]:
    """Return SQNR on four data sets, and perplexity."""
    cells = [(scale, size) for scale in SCALES for size in SIZES]
    names = [*RANDOM, f"{study.MODEL} weights", f"{study.MODEL} inputs"]
    found = run.points("errors", errors, [{"data": n, "formats": cells} for n in names])
    rows = [
        {"data": name, "scale": scale, "size": size, "sqnr_db": values}
        for name, every in zip(names, found, strict=True)
        for (scale, size), values in zip(cells, every, strict=True)
    ]
    recipes = [
        (scale, size, f"rtn:element=e2m1,block={size},scale={scale_name(scale)}")
        for scale in WHOLE
        for size in SIZES
    ]
    figures = study.score_points(run, [(recipe, "exact") for *_, recipe in recipes])
    whole = [
        {"scale": scale, "size": size, "recipe": recipe} | figure
        for (scale, size, recipe), figure in zip(recipes, figures, strict=True)
    ]
    note = study.about(samples=SAMPLES, seeds=SEEDS)
    return {"about": note, "sqnr": rows, "model": whole}


def draw(data: dict[str, Any]) -> Any:
    """Draw SQNR against size, a panel per data set, and perplexity."""
    sets = list(dict.fromkeys(row["data"] for row in data["sqnr"]))
    with style():
        figure = new_figure(3.4)
        *panels, last = figure.subplots(1, 5)
        for axes, name in zip(panels, sets, strict=True):
            for i, scale in enumerate(SCALES):
                rows = [r for r in data["sqnr"] if (r["data"], r["scale"]) == (name, scale)]
                axes.plot([r["size"] for r in rows], [np.median(r["sqnr_db"]) for r in rows],
                          MARKERS[i] + "-", color=SERIES[i], markersize=4, label=scale)  # fmt: skip
            axes.set_title(name.replace(f"{study.MODEL} ", ""), fontsize=9.5)
        panels[0].set_ylabel("SQNR (dB)")
        for i, scale in enumerate(WHOLE):
            rows = [r for r in data["model"] if r["scale"] == scale and r.get("perplexity")]
            last.plot([r["size"] for r in rows], [r["perplexity"] for r in rows], MARKERS[i] + "-",
                      color=SERIES[i], markersize=4)  # fmt: skip
        last.set_ylim(0, None)
        last.set_title("perplexity", fontsize=9.5)
        for axes in figure.axes:
            axes.set_xscale("log", base=2)
            axes.set_xticks(SIZES, [str(size) for size in SIZES])
            axes.grid()
            axes.tick_params(length=0, labelsize=8)
        panels[2].set_xlabel("elements per block")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
        note = data["about"]
        caption(figure, f"medians of seeds {note['seeds']} of {note['samples']} samples, or of 6 "
                        f"layers of SmolLM2; its perplexity on {note['tokens']} tokens, exact "
                        f"sums; fpsim {note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
