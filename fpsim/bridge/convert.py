# SPDX-License-Identifier: Apache-2.0
"""Turn a model's linear layers into simulated ones, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from torch import nn

from fpsim.bridge.linear import CastLinear, SimulatedLinear
from fpsim.bridge.recipes import Recipe, get_recipe
from fpsim.errors import FpsimError
from fpsim.spec import MacSpec
from fpsim.unit import MacUnit, get_unit

__all__ = ["SKIP", "Conversion", "conversion_of", "convert", "restore"]

#: Layers that stay float unless ``skip`` says otherwise (shell patterns on module names).
SKIP = ("lm_head", "*.lm_head")
_RECORD = "_fpsim_conversion"


@dataclass(frozen=True)
class Conversion:
    """What `convert` did: names of layers replaced, and of linear layers left as they were."""

    recipe: str
    unit: str
    replaced: tuple[str, ...]
    left: tuple[str, ...]
    originals: dict[str, nn.Linear]


def convert(
    model: nn.Module,
    recipe: str | Recipe = "mxfp4",
    unit: str | MacSpec | MacUnit = "exact",
    *,
    skip: Sequence[str] = SKIP,
) -> nn.Module:
    """Replace every `nn.Linear` of ``model`` in place and return the model.

    Each product of the layer is then computed by ``unit`` on operands cast by ``recipe``. Layers
    whose name matches a pattern in ``skip`` stay float. `conversion_of` tells what was done,
    `restore` undoes it.

    Raises:
        FpsimError: no linear layer to convert, a model that is converted already, an unknown
            recipe or unit, or a unit whose operands are not the recipe's element formats.
    """
    if hasattr(model, _RECORD):
        raise FpsimError("model: it is converted already; restore() it first")
    chosen, mac = get_recipe(recipe), get_unit(unit)
    _check_operands(chosen, mac)
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    left = tuple(name for name in linears if any(fnmatch(name, pattern) for pattern in skip))
    originals = {name: m for name, m in linears.items() if name not in left}
    if not originals:
        raise FpsimError("model: it has no nn.Linear layer to convert")
    fresh = {name: _simulated(linear, chosen, mac, name) for name, linear in originals.items()}
    for name, layer in fresh.items():
        model.set_submodule(name, layer)
    record = Conversion(chosen.name, mac.name, tuple(originals), left, originals)
    object.__setattr__(model, _RECORD, record)
    return model


def conversion_of(model: nn.Module) -> Conversion:
    """Return what `convert` did to a model."""
    record = getattr(model, _RECORD, None)
    if not isinstance(record, Conversion):
        raise FpsimError("model: it is not converted")
    return record


def restore(model: nn.Module) -> nn.Module:
    """Put the original layers back, in place, and return the model."""
    for name, linear in conversion_of(model).originals.items():
        model.set_submodule(name, linear)
    object.__delattr__(model, _RECORD)
    return model


def _simulated(linear: nn.Linear, recipe: Recipe, unit: MacUnit, name: str) -> nn.Module:
    if recipe.activation is None:
        return CastLinear(linear, recipe, name)
    return SimulatedLinear(linear, recipe, unit, name)


def _check_operands(recipe: Recipe, unit: MacUnit) -> None:
    if recipe.activation is None:
        return
    wanted = (recipe.activation.element, recipe.weight.element)
    if (unit.a, unit.b) != wanted:
        names = " x ".join(fmt.name for fmt in wanted)
        raise FpsimError(
            f"unit: {unit.name} multiplies {unit.a.name} x {unit.b.name}, but recipe "
            f"{recipe.name} makes {names}"
        )
