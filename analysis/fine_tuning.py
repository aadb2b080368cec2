# SPDX-License-Identifier: Apache-2.0
"""Does SmolLM2 fine-tune with all products of its linear layers on units, forward and backward?

Fifty steps of AdamW on CPython's help topics, of all 135 million parameters: in float32, with an
NVFP4 recipe on a unit that adds exactly, and on a binary16 accumulator.
"""

from __future__ import annotations

import copy
import math
import sys
from typing import Any

import numpy as np
import study

from fpsim import plots
from fpsim.base.errors import FpsimError
from fpsim.base.philox import Philox
from fpsim.base.progress import bar
from fpsim.plots.style import caption, new_figure, style

NAME = "fine_tuning"
STEPS, WINDOW, RATE, SEED = 50, 128, 1e-4, 1
#: Share of the text, at its end, and windows from it, for losses that are not trained on.
HELD_OUT, HELD_WINDOWS = 0.1, 8
#: Steps whose mean loss is kept.
KEPT = 5
ARMS = {
    "float32": ("", ""),
    "nvfp4-train": ("nvfp4-train", "exact"),
    "nvfp4-train, E5M10": ("nvfp4-train:range=8", "e2m1-chain-e5m10"),
}


def measure(run: study.Run) -> dict[str, Any]:
    """Return the losses of every arm."""
    points = [
        {"model": study.MODEL, "recipe": recipe, "unit": unit, "steps": STEPS}
        for recipe, unit in ARMS.values()
    ]
    rows = [
        {"arm": name, "recipe": point["recipe"], "unit": point["unit"], **found}
        for name, point, found in zip(ARMS, points, run.points(NAME, tune, points), strict=True)
    ]
    return {"about": study.about(steps=STEPS, window=WINDOW, rate=RATE), "rows": rows}


def tune(point: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune a copy of a model, as work for an executor.

    Args:
        point: ``model``, ``recipe`` (empty: float32), ``unit`` and ``steps``.

    Returns:
        ``losses``, means of `KEPT` steps; ``before`` and ``after``, losses on other text, on the
        unit; ``seconds`` of a step, the median. Or ``error``.
    """
    from time import perf_counter

    import torch

    from fpsim.bridge import convert
    from fpsim.bridge.measure.text import tokenize, topics_text
    from fpsim.bridge.training.layer import begin_step

    loaded = study.loaded_model(point["model"])
    model = copy.deepcopy(loaded.model).train()
    tokens = tokenize(loaded.tokenizer, topics_text())
    cut = int(len(tokens) * (1 - HELD_OUT))
    held = np.linspace(cut, len(tokens) - WINDOW, HELD_WINDOWS).astype(np.int64)

    def loss_of(starts: study.Array) -> Any:
        batch = torch.as_tensor(np.stack([tokens[s : s + WINDOW] for s in starts]))
        return model(input_ids=batch, labels=batch).loss

    def held_out() -> float:
        with torch.no_grad():
            return round(float(loss_of(held)), 4)

    losses, seconds = [], []
    try:
        if point["recipe"]:
            convert(model, point["recipe"], point["unit"], seed=SEED)
            begin_step(model, 0)
        before = held_out()
        optimizer = torch.optim.AdamW(model.parameters(), RATE, (0.9, 0.95), weight_decay=0.0)
        with bar(point["recipe"] or "float32") as progress:
            for step in range(point["steps"]):
                started = perf_counter()
                if point["recipe"]:
                    begin_step(model, step)
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(Philox(SEED, step).below(cut - WINDOW, 1))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                losses.append(float(loss.detach()))
                seconds.append(perf_counter() - started)
                progress(step + 1, point["steps"])
                if not math.isfinite(losses[-1]):
                    return {"error": f"the loss is not finite in step {step + 1}"}
        after = held_out()
    except FpsimError as error:
        return {"error": str(error)}
    means = np.array(losses[: len(losses) // KEPT * KEPT]).reshape(-1, KEPT).mean(1)
    return {
        "losses": [round(float(mean), 4) for mean in means], "before": before, "after": after,
        "seconds": round(float(np.median(seconds)), 2),
    }  # fmt: skip


def table(data: dict[str, Any]) -> str:
    """Return the losses as Markdown."""
    lines = ["| recipe | unit | other text, before | after |", "|---|---|---:|---:|"]
    for row in data["rows"]:
        head = f"| `{row['recipe'] or 'float32'}` | {row['unit'] and '`' + row['unit'] + '`'} |"
        if "error" in row:
            lines.append(f"{head} {row['error']} | |")
        else:
            lines.append(f"{head} {row['before']:.3f} | {row['after']:.3f} |")
    return "\n".join(lines) + "\n"


def draw(data: dict[str, Any]) -> Any:
    """Draw the losses of all arms."""
    with style():
        figure = new_figure(4.5)
        area = figure.subplots()
        curves = [
            plots.TrainingCurve(
                row["arm"], [np.repeat(row["losses"], KEPT).tolist()],
                reference=row["arm"] == "float32",
            )
            for row in data["rows"] if "losses" in row
        ]  # fmt: skip
        plots.training_figure(curves, area)
        area.set_ylabel("loss (nats per token)")
        note = data["about"]
        about = (
            f"SmolLM2-135M, {note['steps']} steps of {note['window']} tokens of CPython "
            f"{note['python']}'s topics, means of {KEPT} steps; fpsim {note['version']}"
        )
        caption(figure, about)
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
