# SPDX-License-Identifier: Apache-2.0
"""Recipes: which operands of a linear layer are cast, and to what.

A recipe is a frozen object with the attributes of `Recipe`, registered by name with `register`;
nothing else in the package knows its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fpsim.blocks import BLOCK_FORMATS, BlockFormat, get_block_format
from fpsim.errors import FpsimError, nearest

__all__ = ["BlockCast", "Recipe", "get_recipe", "recipe_names", "register"]


class Recipe(Protocol):
    """How a linear layer's operands become codes.

    ``weight`` blocks run along in_features; ``activation`` is None where activations stay float
    (the layer is then an ordinary float product with the cast weights).
    """

    @property
    def name(self) -> str:
        """Name users type."""

    @property
    def weight(self) -> BlockFormat:
        """Format of weights."""

    @property
    def activation(self) -> BlockFormat | None:
        """Format of activations, or None."""


@dataclass(frozen=True)
class BlockCast:
    """Direct cast to a block format: no calibration, no data."""

    name: str
    weight: BlockFormat
    activation: BlockFormat | None


_RECIPES: dict[str, Recipe] = {}
#: Suffix of a recipe that leaves activations alone.
WEIGHTS_ONLY = "-weights"


def register(recipe: Recipe) -> None:
    """Make a recipe known by its name."""
    _RECIPES[recipe.name] = recipe


def recipe_names() -> list[str]:
    """Return the registered names."""
    return sorted(_RECIPES)


def get_recipe(name: str | Recipe) -> Recipe:
    """Return a recipe by name; ``mxfp4-rceil`` selects a scale rule.

    Raises:
        FpsimError: no such recipe, with the nearest name.
    """
    if not isinstance(name, str):
        return name
    if name in _RECIPES:
        return _RECIPES[name]
    base = name.removesuffix(WEIGHTS_ONLY)
    try:
        fmt = get_block_format(base)
    except FpsimError:
        if base.endswith(".toml"):
            raise
        known = recipe_names()
        raise FpsimError(
            f"recipe: {name!r} is not one of {', '.join(known)} (or one of them with a scale rule, "
            f"such as mxfp4-rceil){nearest(name, known)}"
        ) from None
    if not fmt.is_mx or not isinstance(fmt.block, int):
        raise FpsimError(
            f"recipe: {name!r} has scales that are not one power of two per block; "
            f"layers run {', '.join(recipe_names())}"
        )
    return _direct(name, fmt)


def _direct(name: str, fmt: BlockFormat) -> BlockCast:
    return BlockCast(name, fmt, None if name.endswith(WEIGHTS_ONLY) else fmt)


# The layers add E8M0 scales to exponents; scales with a significand need another unit.
for _name, _format in BLOCK_FORMATS.items():
    if _format.is_mx:
        register(_direct(_name, _format))
        register(_direct(_name + WEIGHTS_ONLY, _format))
