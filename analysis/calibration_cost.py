# SPDX-License-Identifier: Apache-2.0
"""What does calibrating a system cost in processor time and memory?

SmolLM2 on 16 384 tokens, one thread, a new process per system: CPU time of the calibration, so that
other work on the machine counts little, and the largest resident memory beside that of the float
model's own forward pass.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import study
import systems
from timing import processor

from fpsim.plots.style import BLUE, RED, caption, new_figure, style

NAME = "calibration_cost"
#: Windows of 512 tokens.
WINDOWS = 32
#: Systems that solve or search, as `systems.SYSTEMS` has them; and systems that train, an epoch.
SOLVED = (
    "GPTQ INT4", "QUIK", "QuaRot", "QUAD", "QRazor g16", "SpQR", "SliM-LLM 3", "AWQ g64",
    "AQAS INT4",
)  # fmt: skip
TRAINED = {
    "SpinQuant": "spinquant:steps=20",
    "DB-LLM": "db-llm:inputs=float,epochs=1",
    "OmniQuant": "omniquant:epochs=1",
    "AffineQuant": "affinequant:epochs=1",
}


def measure(run: study.Run) -> dict[str, Any]:
    """Return CPU minutes and memory of every system's calibration."""
    recipes = {name: systems.SYSTEMS[name].recipe for name in SOLVED} | TRAINED
    points = [
        {"model": study.MODEL, "recipe": recipe, "windows": WINDOWS} for recipe in recipes.values()
    ]
    rows = run.points(NAME, apart, points)
    return {
        "about": study.about(tokens=WINDOWS * study.WINDOW, processor=processor()),
        "rows": [
            {"system": name, "recipe": recipe, **row}
            for (name, recipe), row in zip(recipes.items(), rows, strict=True)
        ],
    }  # fmt: skip


def apart(point: dict[str, Any]) -> dict[str, float]:
    """Return what `cost` finds in a process of its own, whose memory nothing else has raised."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(cost, point).result()


def cost(point: dict[str, Any]) -> dict[str, float]:
    """Calibrate one system on one thread.

    Args:
        point: ``model``, ``recipe`` and ``windows`` of text.

    Returns:
        ``cpu`` seconds of the calibration, ``float_gb``: peak memory of this process up to a
        forward pass of the float model, and ``peak_gb``: at the end, both in 10^9 bytes.
    """
    import numba
    import torch
    from threadpoolctl import threadpool_limits

    from fpsim.bridge import calibrate, get_recipe

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    threadpool_limits(1)  # numpy's BLAS, whose second thread would wait for work at full speed
    loaded = study.loaded_model(point["model"])
    _, batches = systems.text(loaded.tokenizer, systems.MEASURED, point["windows"])
    with torch.no_grad():
        loaded.model(**batches[0])
    before, started = _peak_gb(), time.process_time()
    calibrate(loaded.model, batches, get_recipe(point["recipe"]))
    cpu = time.process_time() - started
    return {"cpu": round(cpu), "float_gb": round(before, 2), "peak_gb": round(_peak_gb(), 2)}


def _peak_gb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def draw(data: dict[str, Any]) -> Any:
    """Draw a bar per system: minutes, and memory beside the float model's."""
    rows = sorted(data["rows"], key=lambda row: -row["cpu"])
    places = np.arange(len(rows))
    with style():
        figure = new_figure(3.6)
        times, memory = figure.subplots(1, 2, sharey=True)
        times.barh(places, [row["cpu"] / 60 for row in rows], color=BLUE, height=0.6)
        memory.barh(places, [row["peak_gb"] for row in rows], color=BLUE, height=0.6)
        memory.barh(places, [row["float_gb"] for row in rows], color=RED, height=0.2,
                    label="the float model's forward pass")  # fmt: skip
        times.set_yticks(places, [row["system"] for row in rows])
        times.set_xlabel("processor time (minutes)")
        memory.set_xlabel("peak memory (10\N{SUPERSCRIPT NINE} bytes)")
        memory.legend(frameon=False, fontsize=8.5, loc="lower right", bbox_to_anchor=(1, 0.98))
        for axes in (times, memory):
            axes.grid(axis="x")
            axes.tick_params(length=0)
        note = data["about"]
        caption(figure, f"SmolLM2, {note['tokens']} tokens, one thread; {note['processor']}; "
                        f"fpsim {note['version']}")  # fmt: skip
    return figure


def table(data: dict[str, Any]) -> str:
    """Return minutes and memory as Markdown."""
    lines = ["| system | recipe | CPU minutes | peak memory | beside the float model's |"]
    lines += ["|---|---|---:|---:|---:|"]
    lines += [
        f"| {row['system']} | `{row['recipe']}` | {row['cpu'] / 60:.1f} | "
        f"{row['peak_gb']:.2f} GB | {row['peak_gb'] / row['float_gb']:.2f} |"
        for row in data["rows"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
