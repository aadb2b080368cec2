# SPDX-License-Identifier: Apache-2.0
"""How do the systems that 4-bit papers compare themselves with order, on one model and one text?

Every system stands beside rounding to nearest at its granularity and beside itself with its key
part off. Weights and inputs are cast as on a unit, and products are taken in float32: an exact
accumulator gives these values up to last bits. Some systems run MAC by MAC on two narrower
accumulators, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import study
from matplotlib.ticker import FuncFormatter, LogLocator

from fpsim.base.errors import FpsimError
from fpsim.plots.labels import name_points
from fpsim.plots.style import BLUE, GREEN, MUTED, PURPLE, RED, caption, new_figure, style

NAME = "systems"
#: Windows of 512 tokens: measured, and calibrated on.
MEASURED, CALIBRATED = 4, 4
#: Accumulators that `ON_UNITS` run on: binary16 after every product, and Hopper's window.
UNITS = ("e2m1-chain-e5m10", "e2m1-aligned32f13-e8m13")


class System(NamedTuple):
    """A row: the recipe, its storage bits per weight and per input, and what its key part is."""

    recipe: str
    weight_bits: float
    input_bits: float
    group: str
    off: str = ""  #: the system with the key part off


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
    "QRazor g16": System("qrazor-static", 4.19, 4.25, "W4A4", "QRazor g32"),
    "QRazor g16, GPTQ": System("qrazor-static:solver=true", 4.19, 4.25, "W4A4", "QRazor g16"),
    "QRazor g8": System("qrazor-static:group=8", 4.38, 4.5, "W4A4", "QRazor g16"),
    "QRazor g32": System("qrazor-static:group=32", 4.09, 4.13, "W4A4", "QRazor g96"),
    "QRazor g96": System("qrazor-static:group=96", 4.03, 4.04, "W4A4"),
    "HQ-DiT": System("hq-dit", 4, 4, "W4A4", "HQ-DiT, E2M1 alone"),
    "HQ-DiT, E2M1 alone": System("hq-dit:element=e2m1", 4, 4, "W4A4"),
    "OCC (FP4)": System("fp4-train-infer", 4, 4, "W4A4", "OCC, not clamped"),
    "OCC, not clamped": System("fp4-train-infer:alpha=1", 4, 4, "W4A4"),
    "RTN MXFP4": System("gptq:element=mxfp4,inputs=mxfp4,solver=false", 4.25, 4.25, "blocks"),
    "MR-GPTQ MXFP4": System("mr-gptq:element=mxfp4-div3", 4.25, 4.25, "blocks", "RTN MXFP4"),
    "RTN NVFP4": System("gptq:element=nvfp4,inputs=nvfp4,solver=false", 4.5, 4.5, "blocks"),
    "MR-GPTQ NVFP4": System("mr-gptq", 4.5, 4.5, "blocks", "RTN NVFP4"),
    "Four Over Six": System(
        "gptq:element=fouroversix,inputs=fouroversix,solver=false",
        4.5,
        4.5,
        "blocks",
        "RTN NVFP4",
    ),
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
    "DB-LLM, untrained": System("db-llm:inputs=float,epochs=0,steps=0", 2.5, 16, "weights"),
    "AQAS INT4": System("aqas", 4, 8, "W4A8", "INT4, no scales"),
    "AQAS dINT4": System("aqas:element=dint4", 4, 8, "W4A8", "AQAS INT4"),
    "INT4, no scales": System("aqas:scale=false", 4, 8, "W4A8"),
    "dINT4, no scales": System("aqas:scale=false,element=dint4", 4, 8, "W4A8", "INT4, no scales"),
}

#: Perplexity on WikiText-2 and float's beside it as published, and where: of LLaMA-2-7B in QuaRot's
#: table, of LLaMA-7B in the others'.
_QUAROT, _SPQR, _AQAS, _DB_LLM = "2404.00456", "2306.03078", "2311.05161", "2402.11960"
PUBLISHED = {
    "SmoothQuant": (83.12, 5.47, _QUAROT), "OmniQuant": (14.26, 5.47, _QUAROT),
    "QUIK, 4-bit down": (8.87, 5.47, _QUAROT), "QuaRot, to nearest": (8.37, 5.47, _QUAROT),
    "QuaRot": (6.10, 5.47, _QUAROT), "RTN INT4 rows": (6.43, 5.68, _SPQR),
    "GPTQ": (6.13, 5.68, _SPQR), "SpQR": (5.73, 5.68, _SPQR),
    "INT4, no scales": (6.87, 5.68, _AQAS), "AQAS INT4": (6.69, 5.68, _AQAS),
    "DB-LLM": (7.23, 5.68, _DB_LLM),
}  # fmt: skip

#: Orderings that the papers imply: (the worse, the better).
ORDERINGS = [
    ("RTN INT4", "SmoothQuant"), ("SmoothQuant", "QuaRot"), ("SmoothQuant", "QUIK"),
    ("QuaRot", "SpinQuant"), ("QuaRot", "QUAD"), ("QuaRot", "QUAD, all 4 bit"),
    ("QUIK, 4-bit down", "QUIK"), ("QUIK, no columns", "QUIK"), ("OmniQuant", "AffineQuant"),
    ("SmoothQuant", "OmniQuant"), ("RTN MXFP4", "RTN NVFP4"), ("RTN MXFP4", "MR-GPTQ MXFP4"),
    ("RTN NVFP4", "Four Over Six"), ("RTN NVFP4", "MR-GPTQ NVFP4"),
    ("QRazor g96", "QRazor g32"), ("QRazor g32", "QRazor g16"), ("QRazor g16", "QRazor g8"),
    ("QRazor g16", "QRazor g16, GPTQ"),
    ("RTN INT4 rows", "GPTQ"), ("AWQ, no scales", "AWQ g64"), ("SpQR, not sparse", "SpQR"),
    ("GPTQ 3", "SliM-LLM 3"), ("DB-LLM, untrained", "DB-LLM"), ("INT4, no scales", "AQAS INT4"),
    ("INT4, no scales", "dINT4, no scales"), ("OCC, not clamped", "OCC (FP4)"),
    ("FlattenQuant, not flat", "FlattenQuant"), ("RTN INT4", "MergeQuant"),
    ("HQ-DiT, E2M1 alone", "HQ-DiT"),
]  # fmt: skip
#: Systems that run on `UNITS`, too.
ON_UNITS = (
    "RTN INT4", "QuaRot", "SpinQuant", "QUIK", "QUAD", "QRazor g16", "HQ-DiT", "OCC (FP4)",
    "MR-GPTQ MXFP4", "MR-GPTQ NVFP4",
)  # fmt: skip
#: What groups are called, their colours and markers.
LOOKS = {
    "W4A4": ("4-bit weights and inputs", BLUE, "o"),
    "blocks": ("MXFP4 and NVFP4", RED, "D"),
    "weights": ("4-bit weights alone", GREEN, "s"),
    "W4A8": ("4-bit weights, 8-bit inputs", PURPLE, "^"),
}


def measure(run: study.Run) -> dict[str, Any]:
    """Return what every system costs the model."""
    points = [
        {
            "model": study.MODEL, "recipe": system.recipe, "measured": MEASURED,
            "calibrated": CALIBRATED, "units": UNITS if name in ON_UNITS else (),
        }
        for name, system in {"float32": System("", 32, 32, ""), **SYSTEMS}.items()
    ]  # fmt: skip
    plain, *cells = run.points(NAME, work, points)
    tokens = {"tokens": MEASURED * (study.WINDOW - 1), "calibrated": CALIBRATED * study.WINDOW}
    return {
        "about": study.about(**tokens), "float": plain["exact"],
        "rows": [{"system": name, **cell} for name, cell in zip(SYSTEMS, cells, strict=True)],
    }  # fmt: skip


def work(point: dict[str, Any]) -> dict[str, Any]:
    """Calibrate one system and measure the model under it, as work for an executor.

    Args:
        point: ``model``, ``recipe`` (empty: float32), ``measured`` and ``calibrated`` (windows of
            text, for a language model), ``units``.

    Returns:
        ``exact`` and one entry per unit, each as `study.score` returns it, or as `output_error`
        returns it if the model is no language model; and for a recipe
        ``side_share`` (share of the multiply-accumulates beside the unit), ``layer_error`` (mean
        over layers of the output's squared error over its power), ``calibration_seconds``; or
        ``error``.
    """
    from time import perf_counter

    from fpsim.bridge import calibrate, convert, get_recipe, restore
    from fpsim.bridge.convert import layers_to_convert
    from fpsim.bridge.systems.calibrator import casting
    from fpsim.bridge.systems.forms import float_product
    from fpsim.bridge.systems.recipe import SystemRecipe

    model = study.loaded_model(point["model"]).model
    score, batches = _measurement(point)
    if not point["recipe"]:
        return {"exact": score(model)}
    recipe, started = get_recipe(point["recipe"]), perf_counter()
    found: Any = None
    try:
        layers, _ = layers_to_convert(model, recipe, None, ("*",))
        if isinstance(recipe, SystemRecipe):
            found = calibrate(model, batches, recipe)
            forms = found.layers
        else:
            forms = {name: recipe.form(name, weight.matrix) for name, weight in layers.items()}
    except FpsimError as error:
        return {"error": str(error)}
    seconds = perf_counter() - started
    macs = np.array([form.macs for form in forms.values()])
    result: dict[str, Any] = {
        "side_share": round(float(macs[:, 1].sum() / macs.sum()), 4),
        "layer_error": round(float(np.mean([form.error for form in forms.values()])), 5),
        "calibration_seconds": round(seconds),
    }
    with casting(layers, forms, dict.fromkeys(layers, ()), float_product()):
        result["exact"] = score(model)
    for unit in point["units"]:
        try:
            convert(model, recipe, unit, calibration=found)
            result[unit] = score(model)
        except FpsimError as error:  # such as sums that overflow
            result[unit] = {"error": str(error)}
        finally:
            restore(model)
    return result


def _measurement(point: dict[str, Any]) -> tuple[Callable[[Any], Any], list[dict[str, Any]]]:
    """Return what measures a model, and batches to calibrate on."""
    from fpsim.bridge.measure.tasks import PerplexityTask, task_for

    loaded = study.loaded_model(point["model"])
    task = task_for(loaded)
    if not isinstance(task, PerplexityTask):
        return output_error(task, loaded.model), task.calibration()
    cut, batches = text(loaded.tokenizer, point["measured"], point["calibrated"])
    return lambda model: study.score_windows(model, cut), batches


def output_error(task: Any, model: Any) -> Callable[[Any], dict[str, float]]:
    """Return what measures a task's figures, and how far outputs are from those of a float model.

    Args:
        task: a task on images or sentences.
        model: the float model.

    Returns:
        A function of a model that returns the figures, and ``output_error``: squared error of
        logits or embeddings over the power of the float model's.
    """
    wanted = _outputs(task, model)

    def measure(changed: Any) -> dict[str, float]:
        wrong = ((_outputs(task, changed) - wanted) ** 2).sum() / (wanted**2).sum()
        return {"output_error": round(float(wrong), 6), **task.measure(changed)}

    return measure


def _outputs(task: Any, model: Any) -> study.Array:
    import torch

    from fpsim.bridge.measure.digits import digits

    if hasattr(task, "drawn"):
        return np.asarray(task.drawn(model), np.float64)
    if hasattr(task, "embed"):
        return np.asarray(task.embed(model), np.float64)
    with torch.no_grad():
        return np.asarray(model(pixel_values=digits().test[0]).logits, np.float64)


def text(
    tokenizer: Any, measured: int, calibrated: int
) -> tuple[study.Array, list[dict[str, Any]]]:
    """Return windows to measure on, and batches to calibrate on from what lies between them."""
    import torch

    from fpsim.bridge.measure.text import begun, tokenize, topics_text, windows

    tokens = tokenize(tokenizer, topics_text())
    length = study.WINDOW
    stride = (len(tokens) - length) // measured
    rest = [tokens[i * stride + length : (i + 1) * stride] for i in range(measured)]
    between = np.concatenate(rest)
    cut = begun(tokenizer, windows(between, calibrated, length, len(between) // calibrated))
    batches = [{"input_ids": torch.as_tensor(window)[None]} for window in cut]
    return begun(tokenizer, windows(tokens, measured, length, stride)), batches


def compared(data: dict[str, Any], worse: str, better: str) -> tuple[str, float, float]:
    """Return whether an ordering is found, and the change of perplexity it rests on.

    Returns:
        ``yes``, ``no`` or ``even`` (within two standard errors), how much larger the perplexity
        of ``better`` is, in per cent, and its standard error.
    """
    exact = {row["system"]: row.get("exact", row) for row in data["rows"]}
    percent, error = study.change(exact[better], exact[worse])
    found = "even" if abs(percent) <= 2 * error else "yes" if percent < 0 else "no"
    return found, percent, error


def table(data: dict[str, Any]) -> str:
    """Return figures and orderings as Markdown."""
    rows = {row["system"]: row for row in data["rows"]}
    plain = data["float"]["perplexity"]
    lines = [
        f"| system | recipe | bits W/A | perplexity | to float | published | beside the unit | "
        f"key part off | {' | '.join(f'`{unit}`' for unit in UNITS)} |",
        "|---|---|---:|---:|---:|---|---:|---:|" + "---:|" * len(UNITS),
        f"| float32 | | 32/32 | {plain:.2f} | 1 | | | |" + " |" * len(UNITS),
    ]
    for name in rows:
        row, system = rows[name], SYSTEMS[name]
        figures = [_figure(row.get(key)) for key in ("exact", *UNITS)]
        ratio, share = "", ""
        if _perplexity(row) is not None:
            ratio, share = f"{_perplexity(row) / plain:.2f}", f"{100 * row['side_share']:.1f} %"
        off = _figure(rows.get(system.off, {}).get("exact"))
        lines.append(
            f"| {name} | `{system.recipe}` | {system.weight_bits:g}/{system.input_bits:g} | "
            f"{figures[0] or 'error'} | {ratio} | {_published(name)} | {share} | {off} | "
            f"{' | '.join(figures[1:])} |"
        )
    lines += [
        "",
        "| expected: worse | better | found | change of perplexity |",
        "|---|---|---|---:|",
    ]
    for worse, better in ORDERINGS:
        if not all("nll" in rows.get(name, {}).get("exact", {}) for name in (worse, better)):
            continue
        found, percent, error = compared(data, worse, better)
        lines.append(f"| {worse} | {better} | {found} | {_percent(percent, error)} |")
    return "\n".join(lines) + "\n"


def _published(name: str) -> str:
    """Return the published ratio to float and its source, if there is one."""
    if name not in PUBLISHED:
        return ""
    perplexity, plain, source = PUBLISHED[name]
    return f"{perplexity / plain:.2f} ([{source}](https://arxiv.org/abs/{source}))"


def _percent(percent: float, error: float) -> str:
    if percent > 1000:
        return f"{1 + percent / 100:.3g} times"
    return f"{percent:+.1f} ± {error:.1f} %".replace("-", "\N{MINUS SIGN}")


def _figure(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    value = found.get("perplexity")
    if value is None:
        return "overflows" if "infinity" in found.get("error", "infinity") else "error"
    return f"{value:.2f}" if value < 1000 else f"{value:.3g}"


def _perplexity(row: dict[str, Any]) -> Any:
    return row.get("exact", {}).get("perplexity")


def draw(data: dict[str, Any]) -> Any:
    """Draw perplexity against storage bits, and every system beside itself without its key part."""
    rows = {row["system"]: row for row in data["rows"]}
    plain = data["float"]["perplexity"]
    most = 20 * plain
    with style():
        shown = [name for name in rows if SYSTEMS[name].off in rows]
        groups = list(LOOKS)
        shown.sort(key=lambda n: (groups.index(SYSTEMS[n].group), _perplexity(rows[n]) or most))
        figure = new_figure(5 + 0.26 * len(shown))
        above, below = figure.subplots(2, 1, height_ratios=(14, len(shown)))
        for group, (title, colour, marker) in LOOKS.items():
            named = [n for n in rows if SYSTEMS[n].group == group and _perplexity(rows[n])]
            bits = [(SYSTEMS[n].weight_bits + SYSTEMS[n].input_bits) / 2 for n in named]
            values = [min(_perplexity(rows[n]), most) for n in named]
            if named:
                above.plot(bits, values, marker, color=colour, alpha=0.7, label=title)
        above.set_xlabel("storage bits, mean of weights' and inputs' per element")
        above.legend(frameon=False, fontsize=8.5, loc="upper right")
        for y, name in enumerate(shown):
            _, colour, marker = LOOKS[SYSTEMS[name].group]
            ends = [_perplexity(rows[n]) or most for n in (SYSTEMS[name].off, name)]
            start, end = (min(value, most) for value in ends)
            below.plot([start, end], [y, y], color=colour, linewidth=1)
            below.plot(start, y, marker, color=colour, markerfacecolor="white")
            below.plot(end, y, marker, color=colour)
        titles = [f"{name}  (hollow: {SYSTEMS[name].off})" for name in shown]
        below.set_yticks(range(len(shown)), titles, fontsize=8)
        below.set_ylim(len(shown) - 0.5, -0.6)
        below.set_xlabel("perplexity, whole (filled) and without its key part; dotted: float32")
        above.set_ylabel("perplexity")
        above.axhline(plain, color=MUTED, linestyle="dotted")
        below.axvline(plain, color=MUTED, linestyle="dotted")
        for axis in (above.yaxis, below.xaxis):
            axis.axes.set(**{f"{axis.axis_name}scale": "log"})
            axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter("")
        for axes in (above, below):
            axes.grid()
            axes.tick_params(length=0)
        # The best of each group by name, the cheaper first.
        known = [name for name in rows if _perplexity(rows[name])]
        known.sort(key=lambda name: _perplexity(rows[name]))
        best = [n for g in LOOKS for n in [n for n in known if SYSTEMS[n].group == g][:3]]
        places = {
            n: ((SYSTEMS[n].weight_bits + SYSTEMS[n].input_bits) / 2, _perplexity(rows[n]))
            for n in known if _perplexity(rows[n]) < most
        }  # fmt: skip
        others = [place for n, place in places.items() if n not in best]
        name_points(above, [(n, *places[n]) for n in best if n in places], others)
        note = data["about"]
        caption(figure, f"SmolLM2-135M, {note['tokens']} tokens of CPython {note['python']}'s "
                        f"topics, {note['calibrated']} others to calibrate on; products exact; "
                        f"beyond {most:.0f}: there; fpsim {note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
