# SPDX-License-Identifier: Apache-2.0
"""Where does each named 4-bit format win, and how far is it from the best possible quantizer?

SQNR of every named format of about four bits on normal, Laplace and Student-t samples and on
weights of three models (SmolLM2-135M, all-MiniLM-L6, a ViT on digits), less that of the Lloyd-Max
quantizer with 16 free levels on the same values and one scale for all of them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import study

from fpsim.base.errors import FpsimError
from fpsim.base.progress import say
from fpsim.plots.style import MUTED, SERIES, new_figure, style
from fpsim.studies.distributions import samples
from fpsim.studies.error import measure_error, quantizers

NAME = "error_against_format"
FORMATS = (
    "int4s", "e1m2", "e2m1", "e3m0", "mxint4", "mxfp4", "mxfp4-mbs", "mxfp4+", "mxfp4-div3",
    "nvfp4", "fouroversix", "amxfp4", "amxfp4-pot", "amxint4", "amdfp4", "if4", "nxfp4", "razer",
    "blockdialect", "hif4", "m2xfp", "nf4", "af4", "sf4", "bof4-s", "fp4-bnb", "dint4", "mx4",
)  # fmt: skip
MODELS = {
    "smollm2-135m": "model.layers.15.mlp.up_proj.weight",
    "minilm-l6": "encoder.layer.3.intermediate.dense.weight",
    "vit-digits": "vit.encoder.layer.2.intermediate.dense.weight",
}
SAMPLES = 1 << 15


def tensors() -> dict[str, Any]:
    """Return weights of a layer of each model that is there."""
    from fpsim.bridge.measure.models import load

    found = {}
    for name in MODELS:
        try:
            state = load(name, say).model.state_dict()
        except FpsimError as error:
            say(f"    {error}")
            continue
        matrix = max(
            (t for key, t in state.items() if t.dim() == 2 and "embed" not in key),
            key=lambda t: min(t.shape),
        )
        wanted = state.get(MODELS[name], matrix).float().numpy()
        width = wanted.shape[1] // 64 * 64
        found[f"{name} weights"] = np.asarray(wanted[: max(1, SAMPLES // width), :width])
    return found


def measure(run: study.Run) -> list[dict[str, Any]]:
    """Return the SQNR of every format on every data set."""
    data: dict[str, Any] = {n: samples(n, SAMPLES, 1) for n in ("gaussian", "laplace", "student-t")}
    data = {name: x.reshape(-1, 512) for name, x in data.items()} | tensors()
    rows = []
    for fmt in FORMATS:
        try:
            found = measure_error(data, quantizers([fmt]))
        except FpsimError as error:
            say(f"    {fmt}: {error}")
            continue
        rows += [
            {"data": r.data, "format": fmt, "bits": r.bits, "sqnr_db": r.sqnr_db,
             "optimum_db": optimum(r, data)}
            for r in found
        ]  # fmt: skip
    return rows


_OPTIMA: dict[str, float] = {}


def optimum(row: Any, data: dict[str, Any]) -> float:
    """Return the SQNR of sixteen free levels on a data set."""
    if row.data not in _OPTIMA:
        (found,) = measure_error({row.data: data[row.data]}, quantizers(["e2m1"]))
        _OPTIMA[row.data] = found.optimum_db
    return _OPTIMA[row.data]


def draw(rows: list[dict[str, Any]]) -> Any:
    """Draw the distance to the optimum, formats by their mean, a marker per data set."""
    sets = list(dict.fromkeys(row["data"] for row in rows))
    by_format: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_format.setdefault(row["format"], []).append(row)

    def mean(fmt: str) -> float:
        return sum(r["sqnr_db"] - r["optimum_db"] for r in by_format[fmt]) / len(by_format[fmt])

    order = sorted(by_format, key=mean)
    with style():
        figure = new_figure(0.9 + 0.22 * len(order))
        axes = figure.subplots()
        for i, name in enumerate(sets):
            for y, fmt in enumerate(order):
                row = next((r for r in by_format[fmt] if r["data"] == name), None)
                if row is None:
                    continue
                axes.plot(row["sqnr_db"] - row["optimum_db"], y, "osD^vP"[i % 6], markersize=5,
                          color=SERIES[i % 5], label=name if y == 0 else None,
                          markerfacecolor="white" if i > 2 else SERIES[i % 5])  # fmt: skip
        axes.axvline(0, color=MUTED, linewidth=1)
        labels = [f"{fmt} ({by_format[fmt][0]['bits']:.2f} bits)" for fmt in order]
        axes.set_yticks(range(len(order)), labels, fontsize=8)
        axes.set_xlabel("SQNR less that of Lloyd-Max's 16 levels, one scale for all values (dB)")
        axes.grid(axis="x")
        axes.tick_params(length=0)
        figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8.5)
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
