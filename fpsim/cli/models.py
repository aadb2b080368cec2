# SPDX-License-Identifier: Apache-2.0
"""``fpsim eval``, ``plot``, ``demo``: models, pictures, everything at once."""

from __future__ import annotations

import argparse
from pathlib import Path

import fpsim
from fpsim.cli.output import INCOMPLETE, Commands, print_json
from fpsim.progress import bar, say

__all__ = ["register"]


def _eval(args: argparse.Namespace) -> int:
    from fpsim.bridge import evaluate, models, text

    source = text.topics_text() if args.text is None else text.read_text(args.text)
    recipe = None if args.recipe in ("none", "float32") else args.recipe
    if recipe is not None:  # a bad name should not wait for the model
        from fpsim.bridge import get_recipe

        get_recipe(recipe)
        fpsim.get_unit(args.unit)
    loaded = models.load(args.model, say)
    tokens = text.tokenize(loaded.tokenizer, source)
    windows = text.windows(tokens, args.windows, args.window, args.stride)
    with bar(f"{recipe or 'float32'} on {args.unit}") as progress:
        result = evaluate(loaded, windows, recipe, args.unit, progress)
    if args.json:
        print_json(result.as_dict())
    else:
        unit = f" on {result.unit}" if result.unit else ""
        print(
            f"{result.model}, {result.recipe or 'float32'}{unit}: "
            f"perplexity {result.result.perplexity:.4f}"
        )
        print(
            f"  {result.result.tokens} tokens in {result.result.seconds:.1f} s; "
            f"{result.kernel}: {result.why}"
        )
    return 0


def _plot(args: argparse.Namespace) -> int:
    from fpsim import plots, sqnr

    if args.what == "formats":
        figure = plots.format_figure(args.formats)
    else:
        data = {name: sqnr.samples(name, args.samples, args.seed) for name in sqnr.DISTRIBUTIONS}
        figure = plots.sqnr_figure(sqnr.measure(data, args.formats))
    plots.save(figure, args.out)
    print(args.out)
    return 0


def _demo(args: argparse.Namespace) -> int:
    from fpsim.demo import run

    complete = run(args.out, with_model=not args.no_model)
    return 0 if complete else INCOMPLETE


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add("eval", _eval, "Perplexity of a model with its linear layers on a unit")
    sub.add_argument("--model", default="smollm2-135m", help="a known name, a hub name or a folder")
    sub.add_argument(
        "--recipe", default="mxfp4", help="such as mxfp4, mxfp4-rceil, mxfp4-weights, none"
    )
    sub.add_argument("--unit", default="exact")
    sub.add_argument("--text", type=Path, help="default: the topics of pydoc_data")
    sub.add_argument("--windows", type=int, default=4)
    sub.add_argument("--window", type=int, default=512, help="tokens per window")
    sub.add_argument("--stride", type=int, default=5000, help="tokens between window starts")

    sub = commands.add(
        "plot", _plot, "Draw formats, or quantization error against format", reports=False
    )
    sub.add_argument("what", choices=["formats", "sqnr"])
    sub.add_argument("--formats", nargs="+", default=["e1m2", "e2m1", "e3m0", "int4s"])
    sub.add_argument("--samples", type=int, default=1 << 18)
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--out", type=Path, required=True, help="an .svg or .png file")

    sub = commands.add(
        "demo", _demo, "Run the whole demonstration and write out/report.html", reports=False
    )
    sub.add_argument("--out", type=Path, default=Path("out"))
    sub.add_argument("--no-model", action="store_true", help="leave out the language model")
