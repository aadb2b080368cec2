# SPDX-License-Identifier: Apache-2.0
"""``fpsim train``: trains a small language model with all products of its layers on units."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpsim.base.errors import FpsimError
from fpsim.base.progress import say, span
from fpsim.cli.output import Commands, needs, print_json

if TYPE_CHECKING:  # torch may be missing where nothing is trained
    from fpsim.bridge.training.run import StepRow

__all__ = ["register"]

#: Steps shown in the live table, and lines of the log where standard error is no terminal.
_LINES, _LOGGED = 12, 20


def register(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add(
        "train", _train, "Train a byte-level LLaMA with its products on a unit",
        examples=[
            "train --recipe nvfp4-train --unit e2m1-block16-into-chain-e8m23 --steps 500 --out run",
            "train --recipe nvfp4-train:range=8 --unit e2m1-chain-e5m10 --out narrow",
            "plot training run narrow --out loss.svg",
            "vectors --from-training run --step 100 --layer '*q_proj' --product wgrad --out set",
        ],
    )  # fmt: skip
    sub.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the run; an old run goes on",
    )
    sub.add_argument(
        "--recipe",
        default="nvfp4-train",
        help="a training recipe, another recipe (gradients stay float), or none (default "
        "nvfp4-train)",
    )
    sub.add_argument("--unit", default="exact", help="unit of forward products (default exact)")
    sub.add_argument("--dgrad", metavar="UNIT", help="unit of input gradients; default: --unit")
    sub.add_argument("--wgrad", metavar="UNIT", help="unit of weight gradients; default: --unit")
    for name, text in (
        ("steps", "training steps"),
        ("seed", "seed of weights, windows of text and all random bits"),
        ("layers", "transformer blocks"),
        ("hidden", "width of the model"),
        ("heads", "attention heads"),
        ("intermediate", "width of the MLP"),
        ("batch", "windows of text in a step"),
        ("window", "bytes per window"),
    ):
        sub.add_argument(f"--{name}", type=int, help=text)
    sub.add_argument("--learning-rate", type=float, help="largest learning rate")
    sub.add_argument("--weight-decay", type=float, help="weight decay of AdamW")
    sub.add_argument("--text", type=Path, help="text file; default: Python's help topics")
    sub.add_argument(
        "--save-every", type=int, default=100, help="steps between saved states (default 100)"
    )


def _train(args: argparse.Namespace) -> int:
    with needs("torch"):
        from fpsim.bridge.training.run import TrainingSettings, open_run

    given: dict[str, Any] = {}
    for field in fields(TrainingSettings):
        value = getattr(args, field.name)
        if value is None and field.default is not MISSING:
            value = field.default
        given[field.name] = str(value) if isinstance(value, Path) else value
    settings = TrainingSettings(**given)
    with _shown(settings.steps) as report:
        try:
            summary = open_run(args.out, settings, args.save_every, report)
        except KeyboardInterrupt:
            say(f"what is done is kept in {args.out}; the same command goes on")
            raise
    picture = _picture(args.out)
    if args.json:
        print_json({"out": str(args.out), **summary})
        return 0
    print(
        f"{args.out}: {summary['parameters']} parameters, {summary['steps']} steps, loss "
        f"{summary['final_loss']:.4f}, held out {summary['validation_loss']:.4f}"
    )
    for what, seconds in summary["seconds"].items():
        print(f"  {seconds:9.1f} s  {what}")
    if picture is not None:
        print(f"  {picture}")
    return 0


def _picture(out: Path) -> Path | None:
    """Draw the losses beside the log, where matplotlib is installed."""
    from fpsim.bridge.training.run import read_log

    try:
        with needs("plot"):
            from fpsim import plots
    except FpsimError:
        return None
    rows = read_log(out)
    curve = plots.TrainingCurve(out.name, [[row.loss for row in rows]])
    return plots.save(plots.training_figure([curve]), out / "loss.svg")


@contextmanager
def _shown(steps: int) -> Iterator[Callable[[StepRow], None]]:
    """Show the last steps in a live table on a terminal, else log about twenty of all steps."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    console, times = Console(stderr=True), _Times(steps)
    if not console.is_terminal:
        every = max(1, steps // _LOGGED)

        def log(row: StepRow) -> None:
            left = times.left(row)
            if (row.step + 1) % every == 0 or row.skipped:
                say("  ".join([*_cells(row), f"about {left} left"]))

        yield log
        return
    rows: list[StepRow] = []
    with Live(console=console, refresh_per_second=4) as live:

        def show(row: StepRow) -> None:
            rows.append(row)
            left = f"step {row.step + 1} of {steps}, about {times.left(row)} left"
            table = Table("step", "loss", "learning rate", "gradient", "seconds", caption=left)
            for shown in rows[-_LINES:]:
                table.add_row(*_cells(shown))
            live.update(table)

        yield show


class _Times:
    """Estimates the time left from the steps done in this run."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.seconds = steps, 0, 0.0

    def left(self, row: StepRow) -> str:
        """Count a finished step and return the time left as text."""
        self.done += 1
        self.seconds += row.seconds
        return span(self.seconds / self.done * (self.steps - row.step - 1))


def _cells(row: StepRow) -> tuple[str, ...]:
    norm = "skipped" if row.skipped else f"{row.gradient_norm:.3f}"
    return (
        str(row.step), f"{row.loss:.4f}", f"{row.learning_rate:.2e}", norm, f"{row.seconds:.2f}"
    )  # fmt: skip
