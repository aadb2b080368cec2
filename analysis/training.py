# SPDX-License-Identifier: Apache-2.0
"""Does a narrow accumulator break FP4 training, and what breaks first, forward or backward?

A byte-level LLaMA is trained on CPython's help topics with the three products of every linear layer
computed on units, one arm per recipe, accumulator and rounding, each with several seeds.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import study

from fpsim import plots
from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar
from fpsim.bridge.training.run import TrainingRun, TrainingSettings
from fpsim.plots.style import caption, new_figure, style

NAME = "training"
SETTINGS = TrainingSettings(
    steps=300, layers=1, hidden=128, heads=4, intermediate=256, batch=4, window=64,
    learning_rate=1e-3,
)  # fmt: skip
#: Ten times the parameters, and windows twice as long.
LARGER = replace(
    SETTINGS, steps=500, layers=5, hidden=192, intermediate=512, window=128
)  # fmt: skip
SEEDS = (1, 2, 3)
#: NVFP4 with block scales up to 8: products that an E5M10 accumulator can hold.
NARROW = "nvfp4-train:range=8"


def _arm(recipe: str, unit: str = "exact", **more: str) -> dict[str, str]:
    return {"recipe": recipe, "unit": unit, **more}


#: Recipes on a unit that adds exactly.
RECIPES = {
    "float32": _arm("none"),
    "bf16": _arm("bf16-train", "e8m7-chain-e8m23"),
    "mxfp8": _arm("mxfp8-train"),
    "nvfp4-train": _arm("nvfp4-train"),
    "ue5m3-train": _arm("ue5m3-train"),
    "tetrajet-v2": _arm("tetrajet-v2"),
    "quartet": _arm("quartet"),
    "quartet-ii": _arm("quartet-ii"),
    "mxfp4-train": _arm("mxfp4-train"),
    "fp4-dge-occ": _arm("fp4-dge-occ"),
    "mxfp4 STE": _arm("mxfp4"),
    "amxfp4 STE": _arm("amxfp4-linear"),
}
#: Parts of one recipe taken away (B1 of the paper's ablations).
PARTS = {
    "W4A16 DGE": _arm("fp4-dge-occ@16/4/16"),
    "W4A16 STE": _arm("fp4-dge-occ@16/4/16:estimator=ste"),
    "W4A4 direct": _arm("fp4-dge-occ:share=1"),
    "W4A4 clamp": _arm("fp4-dge-occ:residual=false"),
    "k=3": _arm("fp4-dge-occ:k=3"),
    "k=10": _arm("fp4-dge-occ:k=10"),
    "nvfp4 RNE gradients": _arm("nvfp4-train:rounding=rne"),
    "nvfp4 without Hadamard": _arm("nvfp4-train:hadamard=0"),
    "nvfp4 LFSR": _arm("nvfp4-train:random=lfsr16"),
}
#: One recipe on accumulators, in all three products.
ACCUMULATORS = {
    "E8M23": _arm(NARROW, "e2m1-chain-e8m23"),
    "E8M13 window": _arm(NARROW, "e2m1-aligned32f13-e8m13"),
    "E5M10": _arm(NARROW, "e2m1-chain-e5m10"),
    "E5M5": _arm(NARROW, "e2m1-chain-e5m5"),
    "E5M3": _arm(NARROW, "e2m1-chain-e5m3"),
    "E5M3 truncated": _arm(NARROW, "e2m1-chain-e5m3-rtz"),
    "E4M9": _arm(NARROW, "e2m1-chain-e4m9"),
    "E4M9 saturated": _arm(NARROW, "e2m1-chain-e4m9-saturate"),
    "fixed 16": _arm(NARROW, "e2m1-fixed16q6-saturate"),
    "E5M10 truncated": _arm(NARROW, "e2m1-chain-e5m10-rtz"),
    "E5M10 SR 2": _arm(NARROW, "e2m1-chain-e5m10-sr2"),
    "E5M10 SR 13": _arm(NARROW, "e2m1-chain-e5m10-sr13"),
    "E4M5": _arm(NARROW, "e2m1-chain-e4m5-saturate"),
    "E4M5 truncated": _arm(NARROW, "e2m1-chain-e4m5-rtz-saturate"),
    "E4M5 SR 8": _arm(NARROW, "e2m1-chain-e4m5-sr8-saturate"),
    "E4M5 SR 2": _arm(NARROW, "e2m1-chain-e4m5-sr2-saturate"),
}
_NARROWEST = "e2m1-chain-e4m5-saturate"
#: The narrow accumulator in one product only.
PLACES = {
    "E4M5 forward": _arm(NARROW, _NARROWEST, dgrad="exact", wgrad="exact"),
    "E4M5 dgrad": _arm(NARROW, "exact", dgrad=_NARROWEST, wgrad="exact"),
    "E4M5 wgrad": _arm(NARROW, "exact", dgrad="exact", wgrad=_NARROWEST),
}
GROUPS = {"recipes": RECIPES, "parts": PARTS, "accumulators": ACCUMULATORS, "places": PLACES}
ARMS = {name: arm for group in GROUPS.values() for name, arm in group.items()}
_OVERFLOWS = "e2m1-chain-e5m10"
#: Arms trained at the larger size: some of the others, and remedies where E5M10 overflows.
LARGER_ARMS = {
    name: ARMS[name]
    for name in (
        "float32", "bf16", "nvfp4-train", "tetrajet-v2", "mxfp4-train", "mxfp4 STE", "E5M10",
        "E4M9 saturated",
    )
} | {
    "E5M10 saturated": _arm(NARROW, f"{_OVERFLOWS}-saturate"),
    "E5M10 truncated, saturated": _arm(NARROW, f"{_OVERFLOWS}-rtz-saturate"),
    "E5M10, steps skipped": _arm(f"{NARROW},overflow=skip", _OVERFLOWS),
}  # fmt: skip
#: Losses kept are means of so many steps.
KEPT = 5


def train(point: dict[str, Any]) -> dict[str, Any]:
    """Train one arm with one seed, as work for an executor.

    Args:
        point: ``settings``, those of `TrainingSettings`, and ``label``.

    Returns:
        Its losses, or the sentence that stopped it.
    """
    settings = TrainingSettings(**point["settings"])
    try:
        run = TrainingRun(settings)
        with bar(point["label"]) as progress:
            for step in range(settings.steps):
                row = run.step()
                progress(step + 1, settings.steps)
                if not math.isfinite(row.loss):
                    break
        losses = [row.loss for row in run.rows]
        means = np.array(losses[: len(losses) // KEPT * KEPT]).reshape(-1, KEPT).mean(1)
        return {
            "losses": [round(float(loss), 4) for loss in means],
            "final": round(float(np.mean(losses[-20:])), 4),
            "validation": round(run.validation_loss(), 4),
            "seconds_per_step": round(float(np.median([row.seconds for row in run.rows])), 3),
            "seconds": run.breakdown(),
        }
    except FpsimError as error:
        return {"error": str(error)}


def measure(run: study.Run) -> dict[str, Any]:
    """Return the losses of every arm and seed, and of some arms at the larger size."""
    sizes = {
        "rows": (SETTINGS, ARMS),
        "larger": (LARGER, LARGER_ARMS),
    }
    found = {key: _trained(run, *size) for key, size in sizes.items()}
    about = study.about(settings=asdict(SETTINGS), larger=asdict(LARGER), seeds=len(SEEDS))
    return {"about": about, **found}


def _trained(
    run: study.Run, settings: TrainingSettings, arms: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    # A run that is interrupted has whole seeds of all arms.
    points = [
        {
            "settings": asdict(replace(settings, seed=seed, **arm)),  # type: ignore[arg-type]
            "label": f"{name}, seed {seed}",
        }
        for seed in SEEDS
        for name, arm in arms.items()
    ]
    found = run.points(NAME, train, points)
    return [
        {"arm": name, **arm, "seeds": found[place :: len(arms)]}
        for place, (name, arm) in enumerate(arms.items())
    ]


def draw(data: dict[str, Any]) -> Any:
    """Draw the loss curves of recipes, those of accumulators, and those of the larger model."""
    small, large = ({row["arm"]: row for row in data[key]} for key in ("rows", "larger"))
    with style():
        figure = new_figure(13)
        areas = figure.subplots(3, 1)
    chosen = (
        (small, [*RECIPES]),
        (small, ["float32", "nvfp4-train", *ACCUMULATORS, *PLACES]),
        (large, [*LARGER_ARMS]),
    )
    for area, (rows, names) in zip(areas, chosen, strict=True):
        curves = []
        for name in filter(rows.__contains__, names):
            runs = [seed["losses"] for seed in rows[name]["seeds"] if "losses" in seed]
            if runs:
                repeated = [np.repeat(run, KEPT).tolist() for run in runs]
                curves.append(plots.TrainingCurve(name, repeated, reference=name == "float32"))
        plots.training_figure(curves, area)
    for area, words in zip(areas, ("recipes", "accumulators", "ten times the size"), strict=True):
        area.set_title(words, loc="left", fontsize=9)
    note = data["about"]
    caption(figure, f"mean of the seeds trained (at most {note['seeds']}), band from least to "
                    f"largest; losses of training; CPython {note['python']}'s topics; "
                    f"fpsim {note['version']}")  # fmt: skip
    return figure


def table(data: dict[str, Any]) -> str:
    """Return the losses as Markdown."""
    parts = [_table(data["rows"])]
    if data["larger"]:
        parts += [f"At ten times the size ({data['about']['larger']['steps']} steps):\n"]
        parts += [_table(data["larger"])]
    return "\n".join(parts)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| arm | recipe | unit | seeds | loss, last 20 steps | held out | beside float32 |",
        "|---|---|---|---:|---|---|---:|",
    ]
    for row in rows:
        done = [seed for seed in row["seeds"] if "losses" in seed]
        unit = row["unit"] + "".join(f", {k} {row[k]}" for k in ("dgrad", "wgrad") if k in row)
        head = f"| {row['arm']} | `{row['recipe']}` | `{unit}` |"
        if done:
            final, held = (_spread([seed[key] for seed in done]) for key in ("final", "validation"))
            lines.append(f"{head} {len(done)} | {final} | {held} | {_beside(row, rows[0])} |")
        else:
            lines.append(f"{head} | {_refusal(row['seeds'][0]['error'])} | | |")
    return "\n".join(lines) + "\n"


def _beside(row: dict[str, Any], plain: dict[str, Any]) -> str:
    """Return how much larger the held-out loss is than float32's with the seed in question."""
    if row is plain:
        return ""
    pairs = zip(row["seeds"], plain["seeds"], strict=False)
    more = [a["validation"] - b["validation"] for a, b in pairs if "losses" in a and "losses" in b]
    found = f"{np.mean(more):+.3f}" if more else ""
    if len(more) > 1:
        found += f" ({min(more):+.3f} to {max(more):+.3f})"
    return found.replace("-", "\N{MINUS SIGN}")


def _refusal(error: str) -> str:
    """Return which product overflowed first, or another error."""
    found = re.search(r"(\w+) of training step (\d+).* overflows to infinity", error)
    return f"{found[1]} overflows in step {int(found[2]) + 1}" if found else error


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
