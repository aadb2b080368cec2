# SPDX-License-Identifier: Apache-2.0
"""How do the systems that 4-bit papers compare themselves with order, on one model and one text?

Every system stands beside rounding to nearest at its granularity and beside itself with its key
part off. Weights and inputs are cast as on the unit, products are taken in float32: what an exact
accumulator gives, up to last bits. Calibrations and cells that are there already are not made
again, so a run can be interrupted.

    python analysis/systems.py --out analysis/results
    python analysis/systems.py --systems quarot quik --calibration-tokens 16384 --windows 16
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import fpsim
from fpsim.base.atomic_files import write_atomic
from fpsim.base.progress import bar, say
from fpsim.bridge import calibrate, get_recipe
from fpsim.bridge.convert import layers_to_convert
from fpsim.bridge.measure import models
from fpsim.bridge.measure.perplexity import perplexity
from fpsim.bridge.measure.text import tokenize, topics_text, windows
from fpsim.bridge.systems.calibrator import casting
from fpsim.bridge.systems.forms import float_product
from fpsim.bridge.systems.layer import FormLinear
from fpsim.bridge.systems.recipe import SystemRecipe


class System(NamedTuple):
    """A row: the recipe, its storage bits per weight and per input, and what its key part is."""

    recipe: str
    weight_bits: float
    input_bits: float
    group: str
    off: str = ""  #: the recipe with the key part off


#: Scales of 16 bits, and zero points where there are some, are counted; scales of rows are not.
SYSTEMS: dict[str, System] = {
    "RTN INT4": System("gptq:element=int4,inputs=int4,solver=false", 4, 4, "W4A4"),
    "GPTQ INT4": System("gptq:element=int4,inputs=int4", 4, 4, "W4A4"),
    "SmoothQuant": System("smoothquant:element=int4,inputs=int4", 4, 4, "W4A4"),
    "QuaRot, to nearest": System("quarot:solver=false", 4, 4, "W4A4"),
    "QuaRot": System("quarot", 4, 4, "W4A4", "GPTQ INT4"),
    "SpinQuant": System("spinquant:steps=20", 4, 4, "W4A4", "QuaRot"),
    "QUIK": System("quik", 4.75, 4.75, "W4A4", "QUIK, no columns"),
    "QUIK, no columns": System("quik:apart=false", 4.5, 4.5, "W4A4"),
    "QUIK, 4-bit down": System("quik:wide=false", 4.75, 4.75, "W4A4"),
    "QUAD": System("quad", 4.75, 6, "W4A4", "QuaRot"),
    "QUAD, all 4 bit": System("quad:narrow=true", 4.75, 4.75, "W4A4", "QuaRot"),
    "MergeQuant": System("mergequant", 4, 4, "W4A4", "MergeQuant, no split"),
    "MergeQuant, no split": System("mergequant:split=false", 4, 4, "W4A4"),
    "FlattenQuant": System("flattenquant", 4, 4, "W4A4", "FlattenQuant, not flat"),
    "FlattenQuant, not flat": System("flattenquant:flatten=false", 4, 4, "W4A4"),
    "OmniQuant": System("omniquant:epochs=3", 4, 4, "W4A4", "OmniQuant, untrained"),
    "OmniQuant, untrained": System("omniquant:epochs=0", 4, 4, "W4A4"),
    "AffineQuant": System("affinequant:epochs=3", 4, 4, "W4A4", "OmniQuant"),
    "QRazor g16": System("qrazor-static", 4.19, 4.25, "W4A4"),
    "QRazor g16, GPTQ": System("qrazor-static:solver=true", 4.19, 4.25, "W4A4", "QRazor g16"),
    "HQ-DiT": System("hq-dit", 4, 4, "W4A4", "HQ-DiT, E2M1 alone"),
    "HQ-DiT, E2M1 alone": System("hq-dit:element=e2m1", 4, 4, "W4A4"),
    "OCC (FP4)": System("fp4-train-infer", 4, 4, "W4A4", "OCC, not clamped"),
    "OCC, not clamped": System("fp4-train-infer:alpha=1", 4, 4, "W4A4"),
    "RTN MXFP4": System("gptq:element=mxfp4,inputs=mxfp4,solver=false", 4.25, 4.25, "blocks"),
    "MR-GPTQ MXFP4": System("mr-gptq:element=mxfp4-div3", 4.25, 4.25, "blocks", "RTN MXFP4"),
    "RTN NVFP4": System("gptq:element=nvfp4,inputs=nvfp4,solver=false", 4.5, 4.5, "blocks"),
    "MR-GPTQ NVFP4": System("mr-gptq", 4.5, 4.5, "blocks", "RTN NVFP4"),
    "QuaRot NVFP4": System("quarot:element=nvfp4,inputs=nvfp4", 4.5, 4.5, "blocks", "RTN NVFP4"),
    "RTN INT4 rows": System("gptq:inputs=float,solver=false", 4, 16, "weights"),
    "GPTQ": System("gptq:inputs=float", 4, 16, "weights", "RTN INT4 rows"),
    "GPTQ g64": System("gptq:inputs=float,group=64", 4.31, 16, "weights"),
    "AWQ g64": System("awq:inputs=float,group=64", 4.31, 16, "weights", "AWQ, no scales"),
    "AWQ, no scales": System("awq:inputs=float,group=64,scale=false", 4.31, 16, "weights"),
    "SpQR": System("spqr:inputs=float", 4.66, 16, "weights", "SpQR, not sparse"),
    "SpQR, not sparse": System("spqr:inputs=float,sparse=false", 4.44, 16, "weights"),
    "SliM-LLM 3": System("slim-llm:inputs=float,average=3", 3.3, 16, "weights", "GPTQ 3"),
    "GPTQ 3": System("slim-llm:inputs=float,average=3,mixed=false", 3.3, 16, "weights"),
    "DB-LLM": System("db-llm:inputs=float,epochs=3", 2.5, 16, "weights", "DB-LLM, untrained"),
    "DB-LLM, untrained": System("db-llm:inputs=float,epochs=0", 2.5, 16, "weights"),
    "AQAS INT4": System("aqas", 4, 8, "W4A8", "INT4, no scales"),
    "AQAS dINT4": System("aqas:element=dint4", 4, 8, "W4A8", "AQAS INT4"),
    "INT4, no scales": System("aqas:scale=false", 4, 8, "W4A8"),
    "dINT4, no scales": System("aqas:scale=false,element=dint4", 4, 8, "W4A8", "INT4, no scales"),
}

#: Orderings that the papers imply: (the worse, the better).
ORDERINGS = [
    ("RTN INT4", "SmoothQuant"), ("SmoothQuant", "QuaRot"), ("SmoothQuant", "QUIK"),
    ("QuaRot", "SpinQuant"), ("QuaRot", "QUAD"), ("QuaRot", "QUAD, all 4 bit"),
    ("QUIK, 4-bit down", "QUIK"), ("QUIK, no columns", "QUIK"), ("OmniQuant", "AffineQuant"),
    ("SmoothQuant", "OmniQuant"), ("RTN MXFP4", "RTN NVFP4"), ("RTN MXFP4", "MR-GPTQ MXFP4"),
    ("RTN NVFP4", "MR-GPTQ NVFP4"), ("QRazor g16", "QRazor g16, GPTQ"),
    ("RTN INT4 rows", "GPTQ"), ("AWQ, no scales", "AWQ g64"), ("SpQR, not sparse", "SpQR"),
    ("GPTQ 3", "SliM-LLM 3"), ("DB-LLM, untrained", "DB-LLM"), ("INT4, no scales", "AQAS INT4"),
    ("INT4, no scales", "dINT4, no scales"), ("OCC, not clamped", "OCC (FP4)"),
    ("FlattenQuant, not flat", "FlattenQuant"), ("RTN INT4", "MergeQuant"),
]  # fmt: skip
#: Least relative difference of perplexities that counts.
MARGIN = 0.02


def main() -> None:
    """Measure what is missing, and write table and picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--calibration-tokens", type=int, default=4096)
    parser.add_argument("--windows", type=int, default=8, help="of 512 tokens")
    parser.add_argument("--cache", type=Path, default=Path("out/calibrations"))
    parser.add_argument("--out", type=Path, default=Path("analysis/results"))
    args = parser.parse_args()
    if args.calibration_tokens % 512:
        raise fpsim.FpsimError("calibration-tokens: it is not a multiple of 512")

    path = args.out / f"systems-{args.model}.json"
    loaded = models.load(args.model, say)
    measured, batches = _data(loaded, args.windows, args.calibration_tokens // 512)
    about = {
        "model": args.model, "torch": torch.__version__, "tokens": int(measured.size),
        "calibration_tokens": args.calibration_tokens,
    }  # fmt: skip
    stored: dict[str, Any] = {"about": about, "cells": {}}
    if path.exists():
        found = json.loads(path.read_text())
        stored["cells"] = found["cells"] if found["about"] == about else {}
    if "float32" not in stored["cells"]:
        plain = perplexity(loaded.model, measured)
        stored["cells"]["float32"] = {"perplexity": plain.perplexity}
    for name in args.systems:
        if name in stored["cells"]:
            continue
        with bar(name) as report:
            args.cache.mkdir(parents=True, exist_ok=True)
            stored["cells"][name] = _measure(loaded.model, name, batches, measured, args, report)
        say(f"{name}: {stored['cells'][name]}")
        write_atomic(path, (json.dumps(stored, indent=1) + "\n").encode())
    text = table(stored)
    write_atomic(path.with_suffix(".md"), text.encode())
    write_atomic(path.with_suffix(".svg"), picture(stored).encode())
    print(text)


def _data(loaded: Any, count: int, calibration: int) -> tuple[Any, list[dict[str, torch.Tensor]]]:
    """Return windows to measure on, and calibration batches from the rest of the text."""
    tokens = tokenize(loaded.tokenizer, topics_text())
    stride = (len(tokens) - 512) // max(count, 1)
    measured = windows(tokens, count, 512, stride)
    rest = np.concatenate([tokens[i * stride + 512 : (i + 1) * stride] for i in range(count)])
    apart = max(len(rest) // calibration, 512)
    cut = windows(rest, calibration, 512, apart)
    return measured, [{"input_ids": torch.as_tensor(window)[None]} for window in cut]


def _measure(
    model: Any, name: str, batches: Any, measured: Any, args: argparse.Namespace, report: Any
) -> dict[str, Any]:
    recipe, started = get_recipe(SYSTEMS[name].recipe), time.perf_counter()
    layers, _ = layers_to_convert(model, recipe, None, ("*",))
    if isinstance(recipe, SystemRecipe):
        slug = SYSTEMS[name].recipe.replace(":", "-").replace(",", "-").replace("=", "-")
        out = args.cache / f"{args.model}-{args.calibration_tokens}-{slug}.safetensors"
        forms = calibrate(model, batches, recipe, out=out, report=report).layers
        out.unlink()  # a hundred megabytes each
    else:
        forms = {n: recipe.form(n, weight.matrix) for n, weight in layers.items()}
    seconds = time.perf_counter() - started
    beside = [form.macs for form in forms.values()]
    share = sum(side for _, side in beside) / sum(unit + side for unit, side in beside)
    nothing = dict.fromkeys(layers, ())
    with casting(layers, forms, nothing, float_product()):
        assert all(isinstance(w.module.forward, FormLinear) for w in layers.values())
        found = perplexity(model, measured)
    errors = [form.error for form in forms.values()]
    return {
        "perplexity": found.perplexity,
        "layer_error": float(np.mean(errors)),
        "side_share": share,
        "calibration_seconds": round(seconds, 1),
    }


def table(stored: Mapping[str, Any]) -> str:
    """Return the cells and the orderings as Markdown."""
    cells = stored["cells"]
    plain = cells["float32"]["perplexity"]
    about = stored["about"]
    lines = [
        f"{about['model']}, {about['tokens']} tokens measured, {about['calibration_tokens']} to "
        f"calibrate on; float32 {plain:.2f}. Products in float32 of operands as cast.",
        "",
        "| system | recipe | bits W/A | perplexity | to float | side paths | key part off |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, system in SYSTEMS.items():
        if name not in cells:
            continue
        cell = cells[name]
        off = cells.get(system.off)
        lines.append(
            f"| {name} | `{system.recipe}` | {system.weight_bits:g}/{system.input_bits:g} | "
            f"{cell['perplexity']:.2f} | {cell['perplexity'] / plain:.3f} | "
            f"{100 * cell['side_share']:.1f} % | " + (f"{off['perplexity']:.2f} |" if off else "|")
        )
    lines += ["", "| expected: worse | better | found | |", "|---|---|---|---|"]
    for worse, better in ORDERINGS:
        if worse in cells and better in cells:
            ratio = cells[better]["perplexity"] / cells[worse]["perplexity"]
            word = "yes" if ratio < 1 - MARGIN else "no" if ratio > 1 + MARGIN else "even"
            lines.append(f"| {worse} | {better} | {word} | {ratio:.3f} |")
    return "\n".join(lines) + "\n"


def picture(stored: Mapping[str, Any]) -> str:
    """Return perplexity against storage bits per weight and input, a dot a system, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from io import StringIO

    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "fpsim"
    cells = stored["cells"]
    plain = cells["float32"]["perplexity"]
    figure, axes = pyplot.subplots(figsize=(9, 6))
    groups = list(dict.fromkeys(system.group for system in SYSTEMS.values()))
    for group in groups:
        named = [n for n, system in SYSTEMS.items() if system.group == group and n in cells]
        bits = [(SYSTEMS[n].weight_bits + SYSTEMS[n].input_bits) / 2 for n in named]
        values = [min(cells[n]["perplexity"], 100 * plain) for n in named]
        axes.scatter(bits, values, label=group, s=28)
        for name, x, y in zip(named, bits, values, strict=True):
            axes.annotate(name, (x, y), xytext=(4, 2), textcoords="offset points", fontsize=6)
    axes.axhline(plain, color="black", linewidth=1, label="float32")
    axes.set_yscale("log")
    axes.set_xlabel("storage bits, mean of weight and input")
    axes.set_ylabel("perplexity (beyond 100 times float: there)")
    axes.set_title(f"{stored['about']['model']}: perplexity against storage")
    axes.legend()
    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    assert math.isfinite(plain)
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
