# SPDX-License-Identifier: Apache-2.0
"""What does a diffusion transformer draw under 4-bit systems?

The model draws 450 digits in 20 passes from one noise. Its drawings are beside the float model's:
the squared difference over the power; and beside real ones: the Fréchet distance of the features
that a ViT has of them, and the share that it reads as the digit asked for.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import study
import systems

from fpsim.plots.style import caption, new_figure, style

NAME = "drawings"
MODEL = "dit-digits"
EXACT, HALF, NARROW = "exact", "e2m1-chain-e5m10", "e2m1-chain-e5m4"
#: Systems, and the units that add their products.
CASES = (
    ("float32", EXACT), ("GPTQ", EXACT), ("QUIK", EXACT), ("HQ-DiT", EXACT), ("HQ-DiT", HALF),
    ("HQ-DiT", NARROW), ("HQ-DiT, E2M1 alone", EXACT), ("RTN INT4", EXACT), ("RTN NVFP4", EXACT),
    ("RTN MXFP4", EXACT),
)  # fmt: skip
#: Digits that are shown, 0 to 9 each once.
SHOWN = 10


def measure(run: study.Run) -> dict[str, Any]:
    """Return drawings and their figures for every case."""
    recipes = {"float32": "", **{name: row.recipe for name, row in systems.SYSTEMS.items()}}
    points = [{"recipe": recipes[name], "unit": unit} for name, unit in CASES]
    rows = run.points(NAME, drawn, points)
    named = zip(CASES, points, rows, strict=True)
    return {
        "about": study.about(tokens=0),
        "rows": [{"system": name, **point, **row} for (name, _), point, row in named],
    }


def drawn(point: dict[str, Any]) -> dict[str, Any]:
    """Let the model draw under a recipe, as work for an executor.

    Args:
        point: ``recipe`` (empty: float32) and ``unit``.

    Returns:
        ``error``, ``frechet`` and ``accuracy`` of the drawings, and ``images``: the first ten, of
        whole numbers 0 (white) to 16.
    """
    from fpsim.bridge import calibrate, convert, restore
    from fpsim.bridge.measure.digits import pixels
    from fpsim.bridge.measure.tasks import DrawingTask

    model, task = study.loaded_model(MODEL).model, DrawingTask()
    plain = task.drawn(model)
    images = plain
    if point["recipe"]:
        found = calibrate(model, task.calibration(), point["recipe"])
        convert(model, point["recipe"], point["unit"], calibration=found)
        try:
            images = task.drawn(model)
        finally:
            restore(model)
    error = (images - plain).square().sum() / plain.square().sum()
    return {
        "error": round(float(error), 5),
        **{name: round(value, 4) for name, value in task.judged(images).items()},
        "images": pixels(images[:SHOWN]).flatten(1).tolist(),
    }


def draw(data: dict[str, Any]) -> Any:
    """Draw the digits of every case in a row."""
    rows = data["rows"]
    with style():
        figure = new_figure(0.56 * len(rows) + 0.4)
        for area, row in zip(figure.subplots(len(rows), 1), rows, strict=True):
            images = np.pad(np.reshape(row["images"], (-1, 8, 8)), ((0, 0), (0, 0), (0, 2)))
            area.imshow(np.hstack(list(images)), cmap="gray_r", vmin=0, vmax=16)
            area.axis("off")
            area.text(-0.02, 0.5, _title(row), transform=area.transAxes, ha="right", va="center",
                      fontsize=9)  # fmt: skip
            area.text(1.01, 0.5, _figures(row), transform=area.transAxes, va="center", fontsize=9)
        note = data["about"]
        caption(figure, "one noise for all; products exact but where a chain is named; "
                        "Fréchet: distance to real digits; off: beside float32's; "
                        f"fpsim {note['version']}")  # fmt: skip
    return figure


def _title(row: dict[str, Any]) -> str:
    unit = "" if row["unit"] == EXACT else f"\n{row['unit'].removeprefix('e2m1-')}"
    return f"{row['system']}{unit}"


def _figures(row: dict[str, Any]) -> str:
    away = f", {100 * row['error']:.1f} % off" if row["recipe"] else ""
    return f"Fréchet {row['frechet']:.2f}{away}"


def table(data: dict[str, Any]) -> str:
    """Return figures as Markdown."""
    lines = ["| system | recipe | unit | beside float32's drawings | Fréchet | read as asked |"]
    lines += ["|---|---|---|---:|---:|---:|"]
    lines += [
        f"| {row['system']} | {_code(row['recipe'])} | {_code(row['recipe'] and row['unit'])} | "
        f"{100 * row['error']:.2f} % | {row['frechet']:.2f} | {100 * row['accuracy']:.1f} % |"
        for row in data["rows"]
    ]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
