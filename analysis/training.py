# SPDX-License-Identifier: Apache-2.0
"""Does a narrow accumulator break FP4 training, and what breaks first, forward or backward?

A byte-level LLaMA is trained on CPython's help topics with the three products of every linear layer
computed on units, one arm per recipe, accumulator and rounding. Arms that the results file already
holds are not trained again, so a run can be interrupted; ``--fresh`` trains them anew.

    python analysis/training.py                              # what is missing, then the picture
    python analysis/training.py --arms bf16 quartet --fresh
    python analysis/training.py --large --seeds 1 2 3        # hours: 3.5 million parameters
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import fpsim
from fpsim import plots
from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.base.executor import executor
from fpsim.base.progress import bar, say
from fpsim.bridge.training.run import TrainingRun, TrainingSettings

#: The model of the figures kept here, small enough for two busy cores, and the one of the issue.
SMALL = TrainingSettings(
    steps=150, layers=1, hidden=128, heads=4, intermediate=256, batch=4, window=64,
    learning_rate=3e-3,
)  # fmt: skip
LARGE = TrainingSettings(steps=500)
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
    "E4M9": _arm(NARROW, "e2m1-chain-e4m9"),
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


def read(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Return the arms of a results file, none if it is of other settings or another text."""
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if {key: stored.get(key) for key in about} == about:
            return stored
        say(f"{path} is of other settings or another text and is made anew")
    return {**about, "fpsim": fpsim.__version__, "arms": {}}


def picture(stored: dict[str, Any], names: list[str]) -> Any:
    """Return the loss curves of some arms; losses are means of `KEPT` steps."""
    curves = []
    for name in names:
        runs = [
            seed["losses"] for seed in stored["arms"].get(name, {}).values() if "losses" in seed
        ]
        if runs:
            repeated = [np.repeat(run, KEPT).tolist() for run in runs]
            curves.append(plots.TrainingCurve(name, repeated, reference=name == "float32"))
    return plots.training_figure(curves)


def table(stored: dict[str, Any]) -> str:
    """Return the losses as a Markdown table."""
    lines = [
        "| arm | recipe | unit | loss, last 20 steps | held out | s/step |",
        "|---|---|---|---|---|---:|",
    ]
    for name, arm in ARMS.items():
        seeds = stored["arms"].get(name, {})
        done = [seed for seed in seeds.values() if "losses" in seed]
        unit = arm["unit"] + "".join(f", {k} {arm[k]}" for k in ("dgrad", "wgrad") if k in arm)
        head = f"| {name} | `{arm['recipe']}` | `{unit}` |"
        if done:
            final, held = (_spread([seed[key] for seed in done]) for key in ("final", "validation"))
            seconds = float(np.median([seed["seconds_per_step"] for seed in done]))
            lines.append(f"{head} {final} | {held} | {seconds:.2f} |")
        elif seeds:
            lines.append(f"{head} {next(iter(seeds.values()))['error']} | | |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Train what is missing and write numbers, table and pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("analysis/results"))
    parser.add_argument("--arms", nargs="*", help=f"arms or groups: {', '.join(GROUPS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--fresh", action="store_true", help="train arms again that are there")
    parser.add_argument("--workers", type=int, default=0, help="processes (default: this one)")
    parser.add_argument("--scheduler", help="address of a Dask scheduler")
    parser.add_argument("--large", action="store_true", help="3.5 million parameters, 500 steps")
    args = parser.parse_args()
    base, name = (LARGE, "training-large") if args.large else (SMALL, "training")
    path = args.out / f"{name}.json"
    about = {"settings": asdict(base), "python": platform.python_version()}
    stored = read(path, about)
    chosen = [n for a in args.arms or [] for n in GROUPS.get(a, [a])]
    missing = []
    for arm in chosen if args.arms is not None else ARMS:
        if arm not in ARMS:
            raise SystemExit(f"arms: {arm!r} is not one of {', '.join([*GROUPS, *ARMS])}")
        cells = stored["arms"].get(arm, {})
        missing += [(arm, seed) for seed in args.seeds if args.fresh or str(seed) not in cells]
    points = [
        {
            "settings": asdict(replace(base, seed=seed, **ARMS[arm])),  # type: ignore[arg-type]
            "label": f"{arm}, seed {seed}",
        }
        for arm, seed in missing
    ]
    with executor(args.workers, args.scheduler) as pool:
        for place, found in pool.run(train, points):
            arm, seed = missing[place]
            stored["arms"].setdefault(arm, {})[str(seed)] = found
            there = read(path, about)["arms"]  # another process may have trained other arms
            for known, seeds in there.items():
                stored["arms"][known] = seeds | stored["arms"].get(known, {})
            write_atomic(path, (json.dumps(stored) + "\n").encode())
            say(f"{arm}, seed {seed}: {found.get('final', found.get('error'))}")
    write_atomic(args.out / f"{name}.md", table(stored).encode())
    for group, names in (
        ("recipes", [*RECIPES]),
        ("accumulators", ["float32", *ACCUMULATORS, *PLACES]),
    ):
        if any(n in stored["arms"] for n in names):
            plots.save(picture(stored, names), args.out / f"{name}-{group}.svg")


if __name__ == "__main__":
    main()
