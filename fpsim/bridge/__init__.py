# SPDX-License-Identifier: Apache-2.0
"""The torch bridge: whole transformers through a simulated unit.

`convert` simulates the matrix products of any model, `evaluate` measures perplexity, `models` loads
models without a hub. Only this package imports torch and transformers.
"""

from __future__ import annotations

from fpsim.bridge.capture import capture
from fpsim.bridge.convert import Conversion, conversion_of, convert, restore
from fpsim.bridge.evaluate import Evaluation, evaluate
from fpsim.bridge.recipe import Bits, Recipe, get_recipe, recipe_names, register

__all__ = [
    "Bits",
    "Conversion",
    "Evaluation",
    "Recipe",
    "capture",
    "conversion_of",
    "convert",
    "evaluate",
    "get_recipe",
    "recipe_names",
    "register",
    "restore",
]
