# SPDX-License-Identifier: Apache-2.0
"""The tables of LLM-FP4 in shape: are our methods in the order of the published ones?

Published scores of LLM-FP4 (arXiv 2310.16836, tables of LLaMA-7B, BERT-base and ViT-S) beside what
`recipes.py` measured on three models of the same families: SmolLM2-135M (perplexity), all-MiniLM-L6
(cosine to the float model's embeddings) and a ViT on digits (accuracy). Drawn from those files;
nothing is measured here.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import study

from fpsim.plots.labels import name_points
from fpsim.plots.style import SERIES, caption, new_figure, style

NAME = "papers"
#: Mean zero-shot accuracy of LLaMA-7B on six tasks, mean GLUE score of BERT-base, top-1 of ViT-S on
#: ImageNet, in per cent; by method and E/W/A.
PUBLISHED: dict[str, dict[str, float]] = {
    "LLaMA-7B": {
        "float": 66.3, "MinMax INT 8/8/8": 52.9, "MinMax FP 8/8/8": 66.1,
        "FPQ baseline 8/8/8": 66.1, "FPQ 8/8/8": 66.0, "MinMax FP 4/4/8": 64.9,
        "FPQ baseline 4/4/8": 65.3, "FPQ 4/4/8": 65.4, "MinMax INT 4/4/4": 38.1,
        "MinMax FP 4/4/4": 37.4, "FPQ baseline 4/4/4": 42.7, "FPQ 4/4/4": 58.1,
    },
    "BERT-base": {
        "float": 83.7, "MinMax INT 8/8/8": 80.5, "MinMax FP 8/8/8": 83.4,
        "FPQ baseline 8/8/8": 83.5, "FPQ 8/8/8": 83.6, "MinMax INT 4/4/8": 43.7,
        "MinMax FP 4/4/8": 59.5, "FPQ baseline 4/4/8": 82.9, "FPQ 4/4/8": 83.6,
        "MinMax INT 4/4/4": 32.9, "MinMax FP 4/4/4": 34.1, "FPQ baseline 4/4/4": 44.5,
        "FPQ 4/4/4": 80.1,
    },
    "ViT-S": {
        "float": 81.4, "MinMax FP 4/4/4": 0.1, "FPQ baseline 4/4/4": 0.3, "FPQ 4/4/4": 73.2,
    },
}  # fmt: skip
#: Our recipe of a method at E/W/A. The paper's MinMax INT has one scale per tensor; ours, ``int4``
#: and ``int8``, one per token and channel, so it is not among them.
OURS = {
    "float": "none", "MinMax FP 8/8/8": "llm-fp4-minmax@8/8/8",
    "FPQ baseline 8/8/8": "llm-fp4-baseline@8/8/8", "FPQ 8/8/8": "llm-fp4@8/8/8",
    "MinMax FP 4/4/8": "llm-fp4-minmax@4/4/8", "FPQ baseline 4/4/8": "llm-fp4-baseline@4/4/8",
    "FPQ 4/4/8": "llm-fp4@4/4/8", "MinMax FP 4/4/4": "llm-fp4-minmax",
    "FPQ baseline 4/4/4": "llm-fp4-baseline", "FPQ 4/4/4": "llm-fp4",
}  # fmt: skip
#: Published model, ours, the figure of ours, and what it is.
PAIRS = (
    ("LLaMA-7B", "smollm2-135m", "perplexity", "perplexity of SmolLM2"),
    ("BERT-base", "minilm-l6", "cosine", "1 - cosine of MiniLM's embeddings"),
    ("ViT-S", "vit-digits", "accuracy", "errors of the ViT on digits (%)"),
)


def measure(run: study.Run) -> list[dict[str, Any]]:
    """Collect the pairs of published and own figures."""
    rows = []
    for published, own, figure, _ in PAIRS:
        stored = json.loads((study.RESULTS / f"recipes-{own}.json").read_text(encoding="utf-8"))
        for method, score in PUBLISHED[published].items():
            cell = stored["cells"].get(f"{OURS.get(method)} on exact", {})
            if figure in cell:
                rows.append(
                    {"paper": published, "model": own, "method": method, "published": score,
                     "ours": cell[figure]}
                )  # fmt: skip
    return rows


def loss(row: dict[str, Any]) -> float:
    """Return our figure as one that is lower where it is better, above zero."""
    if row["model"] == "smollm2-135m":
        return float(row["ours"])
    return max(1 - float(row["ours"]), 1e-4) * (100 if row["model"] == "vit-digits" else 1)


def rank_correlation(rows: list[dict[str, Any]]) -> float:
    """Return Spearman's coefficient between published scores and our losses, negated."""

    def ranks(values: list[float]) -> Any:
        order = np.sort(values)
        return (np.searchsorted(order, values) + np.searchsorted(order, values, "right") - 1) / 2

    a = ranks([row["published"] for row in rows])
    b = ranks([-round(loss(row), 6) for row in rows])
    return float(np.corrcoef(a, b)[0, 1])


def draw(rows: list[dict[str, Any]]) -> Any:
    """Draw ours against published, a panel per family."""
    with style():
        figure = new_figure(4.0)
        panels = figure.subplots(1, len(PAIRS))
        for i, (axes, (paper, own, _, label)) in enumerate(zip(panels, PAIRS, strict=True)):
            here = [row for row in rows if row["model"] == own]
            x, y = [row["published"] for row in here], [loss(row) for row in here]
            axes.plot(x, y, "o", color=SERIES[i], markersize=5)
            axes.set_title(
                f"n = {len(here)}, rank correlation {rank_correlation(here):.2f}", fontsize=9.5
            )
            axes.set_xlabel(f"published score of {paper} (%)")
            axes.set_ylabel(label)
            axes.set_yscale("linear" if own == "vit-digits" else "log")
            axes.invert_yaxis()
            axes.margins(0.2)
            axes.grid()
            axes.tick_params(length=0)
        caption(figure, "up and right is better; digits behind a method: bits of E/W/A; published: "
                        "arXiv 2310.16836; ours: exact sums")  # fmt: skip
        for axes, (_, own, _, _) in zip(panels, PAIRS, strict=True):
            here = sorted((r for r in rows if r["model"] == own), key=lambda r: r["published"])
            name_points(axes, [(_short(r["method"]), r["published"], loss(r)) for r in here])
    return figure


def _short(method: str) -> str:
    return method.replace("MinMax FP", "MinMax").replace("baseline", "base").replace("/", "")


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
