# SPDX-License-Identifier: Apache-2.0
"""Options of commands that take the operands of a model's linear layers."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fpsim.base.errors import FpsimError
from fpsim.base.progress import say

if TYPE_CHECKING:  # torch may be missing where no model is asked for
    from fpsim.unit import MacUnit
    from fpsim.units.operands import Operand

__all__ = ["FromModel", "add_options", "read"]


class FromModel(NamedTuple):
    """Cast input and weight of each layer, and the model, recipe and text they come from."""

    operands: dict[str, tuple[Operand, Operand]]
    source: dict[str, Any]


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add ``--from-model``, and the options of model, recipe and text that go with it."""
    sub.add_argument("--from-model", metavar="MODEL", help="operands of a model's linear layers")
    sub.add_argument("--layer", default="*", metavar="PATTERN", help="shell pattern of layer names")
    sub.add_argument("--recipe", default="mxfp4", help="how the model's operands are cast")
    sub.add_argument(
        "--calibration", type=Path, help="file of fpsim calibrate, if the recipe needs it"
    )
    sub.add_argument("--text", type=Path, help="text for the model; default: Python's help topics")
    sub.add_argument("--window", type=int, default=128, help="tokens of the text")


def read(args: argparse.Namespace, unit: MacUnit) -> FromModel:
    """Run the model of the options on the unit and return the operands of its layers.

    Raises:
        FpsimError: a model without a tokenizer, an unknown recipe, no layer of that name, or one
            that stays float.
    """
    import torch

    from fpsim.bridge import layer_operands
    from fpsim.bridge.measure import models, text

    text.check_windows(1, args.window, 1)
    words = text.topics_text() if args.text is None else text.read_text(args.text)
    loaded = models.load(args.from_model, say)
    if loaded.tokenizer is None:
        raise FpsimError(f"from-model: {args.from_model} reads no text")
    tokens = text.text_windows(loaded.tokenizer, words, 1, args.window)
    say(f"running {loaded.name} on {unit.name}, {args.window} tokens")
    operands = layer_operands(
        loaded.model, {"input_ids": torch.as_tensor(tokens)}, args.recipe, unit, args.layer,
        args.calibration,
    )  # fmt: skip
    source = {"model": loaded.name, "recipe": args.recipe, "layer": args.layer,
              "tokens": args.window,
              "text_sha256": hashlib.sha256(words.encode()).hexdigest()}  # fmt: skip
    return FromModel(operands, source)
