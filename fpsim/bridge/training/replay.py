# SPDX-License-Identifier: Apache-2.0
"""Operands of one training step, computed again from the folder of a run.

Training goes on from the last state saved before the step, with equal windows and random bits;
every loss on the way must equal the loss in the log.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.bridge.linear import simulated_layers
from fpsim.bridge.training.layer import PRODUCTS, TrainedLinear
from fpsim.bridge.training.run import TrainingRun, latest_state, read_log, read_settings
from fpsim.unit import MacUnit
from fpsim.units.operands import Operand

__all__ = ["training_operands"]


def training_operands(
    folder: Path, step: int, layer: str = "*", product: str = "wgrad"
) -> tuple[dict[str, tuple[Operand, Operand]], MacUnit, dict[str, Any]]:
    """Return both cast operands of a product, for layers in one training step.

    Args:
        folder: folder of a run (`fpsim train --out`), trained beyond the step.
        step: number of the step, from 0.
        layer: a shell pattern of names.
        product: ``forward``, ``dgrad`` or ``wgrad``.

    Returns:
        Operands by layer, the run's unit of the product, and the origin of the operands.

    Raises:
        FpsimError: no run, step, layer or product of that name, a recipe that computes gradients in
            float, or a loss that differs from the log's: another processor, version or number of
            threads outside the products.
    """
    if product not in PRODUCTS:
        raise not_one_of("product", product, PRODUCTS)
    settings, text = read_settings(folder)
    rows = read_log(folder)
    if not 0 <= step < len(rows):
        raise FpsimError(
            f"step: {step} is not in 0..{len(rows) - 1}, the steps of the run in {folder}"
        )
    run = TrainingRun(settings)
    if run.text_sha256 != text:
        raise FpsimError(f"text: it is not the one that the run in {folder} has read")
    layers = {
        name: found
        for name, found in simulated_layers(run.model).items()
        if isinstance(found, TrainedLinear)
    }
    if not layers:
        raise FpsimError(
            f"recipe: {settings.recipe} is no training recipe; gradients have no codes"
        )
    chosen = {name: found for name, found in layers.items() if fnmatch(name, layer)}
    if not chosen:
        raise FpsimError(
            f"layer: {layer!r} matches none of {len(layers)}: {', '.join([*layers][:8])}, ..."
        )
    saved = latest_state(folder, step)
    if saved is not None:
        run.load(saved)
    recorded: dict[tuple[str, str], tuple[Operand, Operand]] = {}
    while run.done <= step:
        if run.done == step:
            for found in chosen.values():
                found.recorded = recorded
        row = run.step()
        if repr(row.loss) != repr(rows[row.step].loss):
            raise FpsimError(
                f"step: the loss of step {row.step} is {row.loss!r}, not the log's "
                f"{rows[row.step].loss!r}; replay on the machine, version and threads of the run"
            )
    operands = {name: recorded[name, product] for name in chosen}
    source = {
        "run": settings.recipe, "seed": settings.seed, "step": step, "product": product,
        "layer": layer, "text_sha256": text,
    }  # fmt: skip
    units = {found.units[product] for found in chosen.values()}
    return operands, units.pop(), source
