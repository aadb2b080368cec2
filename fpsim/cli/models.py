# SPDX-License-Identifier: Apache-2.0
"""``fpsim eval``, ``calibrate``, ``demo``: models on a unit, and the whole demonstration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.base.progress import bar, say
from fpsim.cli.output import INCOMPLETE, MODEL_HELP, Commands, print_json
from fpsim.cli.workers import add_workers

__all__ = ["register"]


def _eval(args: argparse.Namespace) -> int:
    from fpsim.bridge import (
        calibrate_for,
        checkpoint_recipe,
        evaluate,
        evaluate_task,
        load_calibration,
    )
    from fpsim.bridge.measure import models, text
    from fpsim.bridge.measure.tasks import PerplexityTask

    # A bad name, option or file should not wait for the model.
    _check_text_options(args)
    source = text.topics_text() if args.text is None else text.read_text(args.text)
    for name in ("activations", "nibbles", "swizzled"):
        if getattr(args, name) is not None and args.checkpoint is None:
            raise FpsimError(f"{name}: it is a checkpoint's; give --checkpoint, or --recipe")
    loaded = _coded(args) if args.checkpoint is not None else None
    args.recipe = args.recipe or ("mxfp4" if loaded is None else "checkpoint")
    recipe: Any = None
    if loaded is not None and args.recipe == "checkpoint":
        recipe = checkpoint_recipe(loaded.model, args.activations)
    elif args.recipe not in ("none", "float32"):
        recipe = _recipe(args)
    fpsim.get_unit(args.unit)
    calibration: Any = None if args.calibration is None else load_calibration(args.calibration)
    if recipe is not None and calibration is not None:
        recipe.calibrated(calibration)
    loaded = loaded or models.load(args.model, say)
    task = _task(args, loaded, source)
    windows = None
    if isinstance(task, PerplexityTask):
        windows = text.text_windows(
            loaded.tokenizer, source, args.windows, args.window, args.stride
        )
    if recipe is not None and recipe.needs_calibration and calibration is None:
        with bar(f"calibrating {recipe.name}") as progress:
            rows = args.calibration_tokens
            calibration = calibrate_for(
                loaded, task, recipe, rows=rows, transforms=args.transforms, report=progress
            )
    more = {"baseline": args.baseline and recipe is not None, "seed": args.seed}
    if args.causal and (windows is None or args.transforms):
        raise FpsimError("causal: only perplexity without transforms is measured token by token")
    with bar("passes" if windows is None else "windows read") as progress:
        if windows is None or args.transforms:
            figures = evaluate_task(
                loaded, task, recipe, args.unit, progress, calibration, args.transforms, **more
            )
            print_json(figures) if args.json else print(_figures(figures))
            return 0
        result = evaluate(
            loaded, windows, recipe, args.unit, progress, calibration, causal=args.causal, **more
        )
    if args.json:
        print_json(result.as_dict())
    else:
        print(result)
    return 0


def _coded(args: argparse.Namespace) -> Any:
    from fpsim.bridge.measure import models

    if args.bits is not None:
        raise FpsimError("bits: a checkpoint has its own; leave --bits out")
    fpsim.get_unit(args.unit)
    return models.load_coded(args.checkpoint, say, nibbles=args.nibbles, swizzled=args.swizzled)


def _figures(figures: dict[str, Any]) -> str:
    """Return the measurements of a task as lines of text."""
    about = {k: v for k, v in figures.items() if k not in ("macs", "notes")}
    lines = ["  ".join(f"{name} {_short(value)}" for name, value in about.items())]
    if "macs" in figures:
        lines.append(f"{100 * figures['macs']['share']:.1f} % of multiply-accumulates on the unit")
    return "\n  ".join([*lines, *(f"note: {note}" for note in figures.get("notes", ()))])


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _task(args: argparse.Namespace, loaded: Any, source: str) -> Any:
    from fpsim.bridge.measure.tasks import task_for

    return task_for(loaded, text=source, count=args.windows, length=args.window, stride=args.stride)


def _check_text_options(args: argparse.Namespace) -> None:
    from fpsim.bridge.measure.text import check_windows

    check_windows(args.windows, args.window, args.stride)
    if args.calibration_tokens < 1:
        raise FpsimError(f"calibration-tokens is {args.calibration_tokens}, but must be at least 1")


def _recipe(args: argparse.Namespace) -> Any:
    from fpsim.bridge import get_recipe

    return get_recipe(args.recipe, **({} if args.bits is None else {"bits": args.bits}))


def _calibrate(args: argparse.Namespace) -> int:
    from fpsim.base.executor import executor
    from fpsim.bridge import Calibration, SystemCalibration, calibrate_for
    from fpsim.bridge.measure import models, text
    from fpsim.bridge.recipes.tensor_scales import StaticRecipe

    _check_text_options(args)
    Calibration.check_path(args.out)
    source = text.topics_text() if args.text is None else text.read_text(args.text)
    recipe = _recipe(args)
    if not recipe.needs_calibration:
        raise FpsimError(f"recipe: {recipe.name} needs no calibration")
    if isinstance(recipe, StaticRecipe):
        raise FpsimError(
            f"recipe: {recipe.name} keeps no file; fpsim eval finds its scales when it runs"
        )
    with executor(args.workers, args.scheduler, args.dask) as pool:
        loaded = models.load(args.model, say)
        task = _task(args, loaded, source)
        with bar(f"calibrating {recipe.name}") as progress:
            found = calibrate_for(
                loaded,
                task,
                recipe,
                rows=args.calibration_tokens,
                out=args.out,
                transforms=args.transforms,
                report=progress,
                pool=pool,
            )
    assert isinstance(found, Calibration | SystemCalibration)
    errors = {name: layer.error for name, layer in found.layers.items()}
    if args.json:
        print_json({"out": str(args.out), "layers": len(errors), "errors": errors})
    else:
        mean = sum(errors.values()) / len(errors)
        print(f"{args.out}: {len(errors)} layers, mean output error {100 * mean:.3f} %")
    return 0


def _text_options(sub: Any) -> None:
    sub.add_argument("--model", default="smollm2-135m", help=MODEL_HELP)
    sub.add_argument("--bits", help="of embeddings, weights, activations, as 4/4/8; 16: float")
    sub.add_argument("--text", type=Path, help="text file; default: Python's help topics")
    sub.add_argument("--windows", type=int, default=4, help="windows of the text")
    sub.add_argument("--window", type=int, default=512, help="tokens per window")
    sub.add_argument("--stride", type=int, default=5000, help="tokens between window starts")
    sub.add_argument(
        "--calibration-tokens", type=int, default=1024, help="rows kept of each layer's input"
    )
    sub.add_argument(
        "--transforms",
        default="",
        help="changes of the model first, such as hadamard or smoothquant:alpha=0.5+hadamard",
    )


def _demo(args: argparse.Namespace) -> int:
    from fpsim.report.demo import run

    demo = run(args.out, with_model=not args.no_model)
    if args.json:
        print_json(demo.to_dict())
    return 0 if demo.complete else INCOMPLETE


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "eval", _eval, "Perplexity of a model with its linear layers on a unit",
        examples=[
            "eval --recipe mxfp4 --unit e2m1-chain-e5m10",
            "eval --recipe nvfp4 --windows 1 --window 128 --json",
            "eval --recipe mine.toml --model ./my-model --text corpus.txt",
        ],
    )  # fmt: skip
    _text_options(sub)
    sub.add_argument(
        "--recipe",
        help="such as mxfp4 (default), nvfp4-weights, llm-fp4, none; FORMAT.toml, FILE.py:Class",
    )
    sub.add_argument(
        "--checkpoint",
        type=Path,
        help="a folder or .gguf file of 4-bit weights, run with its codes: gpt-oss, "
        "compressed-tensors, ModelOpt, FP-Quant, GGUF, bitsandbytes",
    )
    sub.add_argument(
        "--activations",
        help="inputs of a checkpoint's layers: a block format or float; default: as its files say",
    )
    sub.add_argument(
        "--nibbles",
        choices=("low-first", "high-first", "halves"),
        help="order of a checkpoint's 4-bit codes in bytes, if not that of its layout",
    )
    sub.add_argument(
        "--swizzled",
        action=argparse.BooleanOptionalAction,
        help="of a checkpoint: scales in tiles of 128 x 4, as matrix units read them; default: if "
        "their shapes say so",
    )
    sub.add_argument("--unit", default="exact", help="a name or a .toml file")
    sub.add_argument("--calibration", type=Path, help="a file of fpsim calibrate")
    sub.add_argument("--seed", type=int, default=0, help="seed of stochastic rounding")
    sub.add_argument(
        "--causal", action="store_true",
        help="measure token by token too, where no scale depends on later tokens",
    )  # fmt: skip
    sub.add_argument(
        "--no-baseline",
        dest="baseline",
        action="store_false",
        help="skip float32 (default: measure it too)",
    )

    sub = commands.add(
        "calibrate", _calibrate, "Search the constants of a recipe; goes on after an interruption",
        examples=[
            "calibrate --recipe llm-fp4 --bits 4/4/8 --out llm-fp4.safetensors",
            "calibrate --recipe llm-fp4 --workers 4 --out llm-fp4.safetensors",
        ],
    )  # fmt: skip
    _text_options(sub)
    sub.add_argument("--recipe", default="llm-fp4", help="a recipe that needs a calibration")
    sub.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    add_workers(sub)

    sub = commands.add(
        "demo", _demo, "Run the whole demonstration and write report.html",
        examples=["demo", "demo --out page --no-model", "demo --json > demo.json"],
    )  # fmt: skip
    sub.add_argument("--out", type=Path, default=Path("out"), help="folder of the report")
    sub.add_argument("--no-model", action="store_true", help="leave out the language model")
