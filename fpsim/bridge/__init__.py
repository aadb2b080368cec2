# SPDX-License-Identifier: Apache-2.0
"""The torch bridge: whole transformers through a simulated unit.

`convert` replaces the linear layers of any model, `evaluate` measures perplexity, `models` loads
models without a hub. Only this package imports torch and transformers.
"""

from __future__ import annotations

from fpsim.bridge.capture import capture
from fpsim.bridge.convert import Conversion, conversion_of, convert, restore
from fpsim.bridge.evaluate import Evaluation, evaluate
from fpsim.bridge.recipes import get_recipe, recipe_names

__all__ = [
    "Conversion",
    "Evaluation",
    "capture",
    "conversion_of",
    "convert",
    "evaluate",
    "get_recipe",
    "recipe_names",
    "restore",
]
