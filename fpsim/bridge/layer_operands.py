# SPDX-License-Identifier: Apache-2.0
"""Operands of a model's linear layers as codes, and the accumulator range that they need.

The model runs converted (`fpsim.bridge.convert`), so a layer's input comes from earlier layers on
the unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

import numpy as np
import torch
from torch import nn

from fpsim.base.errors import FpsimError
from fpsim.bridge.cast import same_blocks
from fpsim.bridge.convert import conversion_of, convert, restore
from fpsim.bridge.linear import simulated_layers
from fpsim.bridge.product import derived_unit
from fpsim.bridge.recipe import Recipe, get_recipe
from fpsim.formats.random_bits import RandomBits
from fpsim.studies import sizing
from fpsim.unit import MacUnit, get_unit
from fpsim.units.operands import Operand
from fpsim.units.spec import MacSpec

__all__ = ["layer_operands", "size_layer"]


@torch.no_grad()
def layer_operands(
    model: nn.Module,
    batch: Mapping[str, torch.Tensor],
    recipe: str | Recipe = "mxfp4",
    unit: str | MacSpec | MacUnit = "exact",
    layer: str = "*",
    calibration: Any = None,
) -> dict[str, tuple[Operand, Operand]]:
    """Return cast input and weight of each linear layer or expert whose name matches ``layer``.

    The model is converted, run on ``batch`` and restored. A layer that runs more than once gives
    its last input, an expert the rows routed to it.

    Args:
        model: a float model.
        batch: keyword arguments of one forward pass.
        recipe: see `fpsim.bridge.get_recipe`.
        unit: see `fpsim.get_unit`.
        layer: a shell pattern of names.
        calibration: for recipes that need one, as in `convert`.

    Returns:
        Input and weight by the layer's name.

    Raises:
        FpsimError: an unknown recipe or unit, no layer of that name, a layer that stays float, or
            one that the batch does not reach.
    """
    chosen = get_recipe(recipe)
    convert(model, chosen, unit, calibration=calibration)
    try:
        replaced = conversion_of(model).replaced
        names = [name for name in replaced if fnmatch(name, layer)]
        if not names:
            raise FpsimError(
                f"layer: {layer!r} matches none of {len(replaced)}: {', '.join(replaced[:8])}, ..."
            )
        if chosen.weights_only:
            raise FpsimError(f"recipe: {chosen.name} leaves inputs in float, which have no codes")
        layers = simulated_layers(model)
        inputs: dict[str, Operand] = {}
        for name in names:
            layers[name].inputs = inputs
        model(**batch)
        unmet = [name for name in names if name not in inputs]
        if unmet:
            raise FpsimError(f"layer: the text never reached {unmet[0]}")
        return {name: (inputs[name], layers[name].operand()) for name in names}
    finally:
        restore(model)


def size_layer(
    operands: tuple[Operand, Operand],
    unit: str | MacSpec | MacUnit,
    rows: int = 64,
    columns: int = 64,
    seed: int = 1,
) -> sizing.Sizing:
    """Study the sums of a layer's accumulator for some results, over all of K.

    Args:
        operands: input and weight of the layer, from `layer_operands`.
        unit: see `fpsim.get_unit`.
        rows: number of inputs to take, spread evenly, at most all.
        columns: number of output channels to take, spread evenly, at most all.
        seed: seed of a unit with stochastic rounding.

    Returns:
        The study.

    Raises:
        FpsimError: ``rows`` or ``columns`` below 1.
    """
    for name, value in (("rows", rows), ("columns", columns)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise FpsimError(f"{name}: {value!r} is not a positive integer")
    a, b = same_blocks(*operands)
    a, b = _spread(a, rows), _spread(b, columns)
    mac = derived_unit(get_unit(unit), a, b)
    more: dict[str, Any] = {}
    if a.scales is not None:
        more |= {"a_scale": a.scales.given, "block": a.block}
    if b.scales is not None:
        more |= {"b_scale": b.scales.given.swapaxes(0, 1), "block": b.block}
    if mac.spec.random_bits:
        more["random"] = RandomBits(seed)
    return sizing.study(mac, a.codes, b.codes.T, **more)


def _spread(operand: Operand, count: int) -> Operand:
    there = operand.codes.shape[0]
    if count >= there:
        return operand
    return operand.at(np.linspace(0, there - 1, count).astype(np.int64))
