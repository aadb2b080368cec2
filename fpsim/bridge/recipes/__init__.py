# SPDX-License-Identifier: Apache-2.0
"""The recipes of fpsim, one module each; see `fpsim.bridge.recipe`."""

from fpsim.bridge.recipe import Recipe, get_recipe, recipe_names, register

__all__ = ["Recipe", "get_recipe", "recipe_names", "register"]
