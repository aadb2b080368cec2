# SPDX-License-Identifier: Apache-2.0
"""The torch bridge: whole transformers through a simulated unit.

`convert` simulates the matrix products of a model, `evaluate` measures perplexity, and `models`
loads models without a hub. Only this package imports torch and transformers.
"""

from __future__ import annotations

from fpsim.bridge.checkpoints.load import load_checkpoint
from fpsim.bridge.checkpoints.recipe import checkpoint_recipe
from fpsim.bridge.checkpoints.save import save_checkpoint
from fpsim.bridge.convert import Conversion, conversion_of, convert, convert_again, restore
from fpsim.bridge.layer_inputs import capture
from fpsim.bridge.layer_operands import layer_operands, size_layer
from fpsim.bridge.llmfp4.calibrate import calibrate
from fpsim.bridge.llmfp4.calibration import Calibration
from fpsim.bridge.measure.evaluate import Evaluation, calibrate_for, evaluate, evaluate_task
from fpsim.bridge.measure.macs import MacShare, mac_share
from fpsim.bridge.recipe import Bits, Recipe, get_recipe, recipe_kinds, recipe_names, register
from fpsim.bridge.recipes.tensor_scales import input_maxima
from fpsim.bridge.stored import load_calibration
from fpsim.bridge.systems.file import SystemCalibration

__all__ = [
    "Bits",
    "Calibration",
    "Conversion",
    "Evaluation",
    "MacShare",
    "Recipe",
    "SystemCalibration",
    "calibrate",
    "calibrate_for",
    "capture",
    "checkpoint_recipe",
    "conversion_of",
    "convert",
    "convert_again",
    "evaluate",
    "evaluate_task",
    "get_recipe",
    "input_maxima",
    "layer_operands",
    "load_calibration",
    "load_checkpoint",
    "mac_share",
    "recipe_kinds",
    "recipe_names",
    "register",
    "restore",
    "save_checkpoint",
    "size_layer",
]
