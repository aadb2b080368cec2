# SPDX-License-Identifier: Apache-2.0
"""``fpsim report``: one HTML page that compares units."""

from __future__ import annotations

import argparse
from pathlib import Path

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.base.progress import say
from fpsim.cli.output import INCOMPLETE, MODEL_HELP, Commands, needs, print_json

__all__ = ["register"]


def _report(args: argparse.Namespace) -> int:
    with needs("plot"):
        from fpsim.report.gather import ModelRun, gather
        from fpsim.report.page import write
    run = None
    if args.model is not None:
        run = ModelRun(args.model, args.recipe, args.windows, args.window, args.layer)
    # A path that cannot be written should not wait for the measurements.
    if args.out.is_dir():
        raise FpsimError(f"out: {args.out} is a folder, not a file")
    probe = args.out.with_name(f".{args.out.name}.probe")
    try:
        write_atomic(probe, b"").unlink()
    except FpsimError as error:
        raise FpsimError(str(error).replace(probe.name, args.out.name)) from None
    page = gather(args.units, args.vectors, run, not args.no_rtl)
    write(page, args.out)
    for problem in page.problems:
        say(f"incomplete: {problem}")
    if args.json:
        print_json(page.to_dict() | {"out": str(args.out)})
    else:
        print(args.out)
    return INCOMPLETE if page.problems else 0


def register(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add(
        "report",
        _report,
        "Write one HTML page that compares units",
        examples=[
            "report e2m1-chain-e5m10 --out report.html",
            "report e2m1-chain-e5m10 --out report.html --json > report.json",
            "report e2m1-chain-e5m10 e2m1-fixed24q2 --model smollm2-135m --out report.html",
        ],
    )
    sub.add_argument("units", nargs="+", metavar="UNIT", help="names or TOML files")
    sub.add_argument("--out", type=Path, required=True, help="an .html file")
    sub.add_argument(
        "--vectors", nargs="+", type=Path, default=[], metavar="DIR",
        help="sets of these units, to count coverage on (default: the released sets)",
    )  # fmt: skip
    sub.add_argument("--no-rtl", action="store_true", help="neither synthesise nor simulate RTL")
    sub.add_argument("--model", help=f"a language model to run on the units: {MODEL_HELP}")
    sub.add_argument("--recipe", default="mxfp4", help="recipe of the model (default mxfp4)")
    sub.add_argument("--layer", default="*", metavar="PATTERN", help="shell pattern of layer names")
    sub.add_argument("--windows", type=int, default=2, help="windows of text (default 2)")
    sub.add_argument("--window", type=int, default=256, help="tokens per window (default 256)")
