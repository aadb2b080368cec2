# SPDX-License-Identifier: Apache-2.0
"""Where does each named 4-bit format win, and how far is it from the best possible quantizer?

SQNR of every named format of at most five bits on normal, Laplace and Student-t samples and on
weights and inputs of layers of three models (SmolLM2-135M, all-MiniLM-L6, a ViT on digits), less
that of the Lloyd-Max quantizer with 16 free levels on the same values and one scale for all.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import study

from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar, say
from fpsim.blocks.block_format import BLOCK_FORMATS
from fpsim.plots.style import MUTED, SERIES, caption, new_figure, style
from fpsim.studies.distributions import samples
from fpsim.studies.error import lloyd_max, measure_error, quantizers

NAME = "error_against_format"
ELEMENTS = ("int4s", "e1m2", "e2m1", "e3m0")
MODELS = {"smollm2-135m": "SmolLM2", "minilm-l6": "MiniLM", "vit-digits": "ViT"}
SAMPLES, SEEDS = 1 << 15, (1, 2, 3)
#: Variants that differ in ties or in how they search; measured, not drawn.
UNDRAWN = (
    "-torchao", "-rne", "-fp32", "-pot-r", "-mae", "-abs-max", "-static-4", "-static-6", "-ggml",
    "-w4-g8", "-w4-g32", "-w4-g128", "-a4-g8", "-a4-g16", "-a4-g32", "-a4-g128", "-2d", "-g32",
    "++", "dialect-a", "razer-a", "m2xfp-a", "bof4", "-e4m3", "nvif4", "-e1m2-tensor", "mxffp",
    "-e3m0-tensor", "-e2m1-tensor",
)  # fmt: skip
#: Panels: title, and the data sets in it.
PANELS = ("samples", "weights", "inputs")
#: Left end of the axis; what lies beyond is drawn there, hollow.
LEFT = -12.0


def formats() -> list[str]:
    """Return every named format of at most five bits per element with 15 or 16 levels."""
    narrow = [
        name
        for name, fmt in BLOCK_FORMATS.items()
        if fmt.bits_per_element <= 5 and fmt.element.bits <= 4
    ]
    return [*ELEMENTS, *narrow]


def data_sets() -> dict[str, list[study.Array]]:
    """Return parts of every data set: one per seed, or one per layer of a model."""
    found: dict[str, list[study.Array]] = {
        f"{name} samples": [samples(name, SAMPLES, seed).reshape(-1, 512) for seed in SEEDS]
        for name in ("gaussian", "laplace", "student-t")
    }
    for name, short in MODELS.items():
        for key, parts in study.layer_tensors(name).items():
            found[key.replace(name, short)] = parts
    return found


def measure(run: study.Run) -> dict[str, Any]:
    """Return the SQNR of every format, and of the optimum, on every part of every data set."""
    rows = []
    sets = data_sets()
    names = formats()
    wanted = {}
    for name in names:
        try:
            (wanted[name],) = quantizers([name])
        except FpsimError as error:
            say(f"    {name}: {error}")
    with bar("data sets") as update:
        for done, (name, parts) in enumerate(sets.items()):
            update(done, len(sets))
            best = [_optimum(part) for part in parts]
            for fmt, quantizer in wanted.items():
                try:
                    found = [measure_error({name: p}, [quantizer])[0].sqnr_db for p in parts]
                except FpsimError as error:
                    say(f"    {fmt} on {name}: {error}")
                    continue
                rows.append(
                    {
                        "data": name, "format": fmt, "bits": round(quantizer.bits, 4),
                        "sqnr_db": np.round(found, 3).tolist(),
                        "optimum_db": np.round(best, 3).tolist(),
                    }
                )  # fmt: skip
        update(len(sets), len(sets))
    return {"about": study.about(samples=SAMPLES, seeds=SEEDS), "rows": rows}


def _optimum(values: study.Array) -> float:
    """Return the SQNR of 16 free levels, in dB."""
    x = values.reshape(-1).astype(np.float64)
    levels = lloyd_max(x, 16)
    nearest = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, x)]
    return float(10 * np.log10(np.square(x).sum() / np.square(x - nearest).sum()))


def gain(row: dict[str, Any]) -> float:
    """Return SQNR less the optimum's, median of the parts."""
    return float(np.median(np.subtract(row["sqnr_db"], row["optimum_db"])))


def drawn(name: str) -> bool:
    """Return whether a format has a line in the picture."""
    return not any(name == end or name.endswith(end) for end in UNDRAWN)


def draw(data: dict[str, Any]) -> Any:
    """Draw the distance to the optimum, formats by their mean, a panel per kind of data."""
    rows = [row for row in data["rows"] if drawn(row["format"])]
    by_format: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_format.setdefault(row["format"], []).append(row)
    order = sorted(by_format, key=lambda fmt: np.mean([gain(row) for row in by_format[fmt]]))
    with style():
        figure = new_figure(1.6 + 0.19 * len(order))
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for axes, kind in zip(panels, PANELS, strict=True):
            sets = dict.fromkeys(row["data"] for row in rows if row["data"].endswith(kind))
            for i, name in enumerate(sets):
                here = [row for row in rows if row["data"] == name]
                x = np.array([gain(row) for row in here])
                y = np.array([order.index(row["format"]) for row in here])
                seen = x >= LEFT
                axes.plot(x[seen], y[seen], "osD"[i], markersize=4, color=SERIES[i],
                          label=name.removesuffix(f" {kind}"))  # fmt: skip
                axes.plot(np.full((~seen).sum(), LEFT), y[~seen], "osD"[i], markersize=4,
                          color=SERIES[i], markerfacecolor="white")  # fmt: skip
            axes.axvline(0, color=MUTED, linewidth=1)
            axes.set_title(kind)
            axes.legend(frameon=False, fontsize=8, loc="lower right", handletextpad=0.1)
            axes.grid(axis="both", linewidth=0.5)
            axes.tick_params(length=0)
        labels = [f"{fmt} ({by_format[fmt][0]['bits']:.2f})" for fmt in order]
        panels[0].set_yticks(range(len(order)), labels, fontsize=7.5)
        panels[0].set_ylim(-0.7, len(order) - 0.3)
        panels[1].set_xlabel("SQNR less that of 16 Lloyd-Max levels under one scale (dB)")
        note = data["about"]
        caption(figure, f"median of seeds {note['seeds']} of {note['samples']} samples, or of 6 "
                        "layers (64 rows each); in brackets bits per element; hollow: further "
                        f"left; fpsim {note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
