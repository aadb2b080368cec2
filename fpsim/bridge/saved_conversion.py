# SPDX-License-Identifier: Apache-2.0
"""The arguments of a conversion in a saved model's config, and their use after loading.

`PreTrainedModel.save_pretrained` writes ordinary weights; the arguments of `convert` are saved
under one key of the config. A loaded model is float until `convert_again`.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat
from fpsim.bridge.llmfp4.calibration import Calibration
from fpsim.bridge.recipe import OWN_FORMAT, Bits, Recipe, get_recipe
from fpsim.bridge.transforms import Transform
from fpsim.unit import MacUnit, get_unit
from fpsim.units.spec import MacSpec

__all__ = ["CONFIG_KEY", "forget", "how_converted", "remember", "saved_arguments"]

#: Key of the config with the arguments of a conversion.
CONFIG_KEY = "fpsim"
_OPTIONS, _DATA = "recipe_options", "calibration_data"


def remember(
    model: nn.Module,
    recipe: Recipe,
    unit: MacUnit,
    *,
    seed: int,
    calibration: Any,
    skip: Sequence[str] | None,
    only: Sequence[str],
    transforms: str | Sequence[str | Transform],
    dgrad: str | MacSpec | MacUnit | None,
    wgrad: str | MacSpec | MacUnit | None,
) -> None:
    """Write the arguments of `convert` into the config of a model of transformers.

    Args:
        model: the converted model; nothing happens if it has no config.
        recipe, unit: recipe and unit, as given to `convert`.
        seed, calibration, skip, only, transforms, dgrad, wgrad: arguments of `convert`. A
            calibration that is no file is written into the config; transforms that are objects
            cannot be written.
    """
    config = getattr(model, "config", None)
    if config is None or not isinstance(model, PreTrainedModel):
        return
    about: dict[str, Any] = {**_recipe(recipe), "unit": _unit(unit), "seed": seed}
    if isinstance(calibration, str | Path):
        about["calibration"] = str(Path(calibration).absolute())
    elif isinstance(calibration, Calibration):
        about[_DATA] = _packed(calibration)
    for product, given in (("dgrad", dgrad), ("wgrad", wgrad)):
        if given is not None:
            about[product] = _unit(get_unit(given))
    if skip is not None:
        about["skip"] = list(skip)
    if tuple(only) != ("*",):
        about["only"] = list(only)
    if transforms:
        named = [transforms] if isinstance(transforms, str) else list(transforms)
        texts = [text for text in named if isinstance(text, str)]
        about["transforms"] = "+".join(texts) if len(texts) == len(named) else None
    setattr(config, CONFIG_KEY, about)


def forget(model: nn.Module) -> None:
    """Remove the arguments from the config."""
    if isinstance(model, PreTrainedModel):
        vars(model.config).pop(CONFIG_KEY, None)


def _recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the name of a recipe, with options that the name does not imply."""
    try:
        if get_recipe(recipe.name) == recipe:
            return {"recipe": recipe.name}
    except FpsimError:
        pass  # a class without a name, or a user's block format
    options: dict[str, Any] = {}
    for f in fields(recipe):
        value = getattr(recipe, f.name)
        if f.init and f.name != "name" and isinstance(value, bool | int | float | str):
            options[f.name] = value
        elif isinstance(value, Bits):
            options[f.name] = str(value)
        elif isinstance(value, BlockFormat):
            options[f.name] = value.to_dict()
    own = isinstance(getattr(recipe, "block_format", None), BlockFormat)
    return {"recipe": OWN_FORMAT if own else recipe.name, _OPTIONS: options}


def _unit(unit: MacUnit) -> str | dict[str, Any]:
    try:
        if get_unit(unit.name) == unit:
            return unit.name
    except FpsimError:
        pass
    return unit.spec.to_dict()


def _packed(calibration: Calibration) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibration.safetensors"
        calibration.save(path)
        return base64.b64encode(path.read_bytes()).decode("ascii")


def _unpacked(text: str) -> Calibration:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibration.safetensors"
        path.write_bytes(base64.b64decode(text))
        return Calibration.load(path)


def how_converted(config: Any) -> str | None:
    """Return one sentence about the conversion of a saved model, None if it was not converted."""
    about = getattr(config, CONFIG_KEY, None)
    if not isinstance(about, dict):
        return None
    unit = about.get("unit")
    name = unit.get("name") if isinstance(unit, dict) else unit
    return (
        f"it was saved converted, with recipe {about.get('recipe')} on unit {name}, and is loaded "
        "in float; fpsim.bridge.convert_again(model) converts it as it was"
    )


def saved_arguments(model: nn.Module) -> dict[str, Any]:
    """Return the arguments of `convert` in a loaded model's config.

    Raises:
        FpsimError: a config without arguments, or with arguments that this version cannot read.
    """
    about = getattr(getattr(model, "config", None), CONFIG_KEY, None)
    if not isinstance(about, dict) or "recipe" not in about or "unit" not in about:
        raise FpsimError("model: its config does not say how it was converted; use convert")
    given = dict(about)
    options = dict(given.pop(_OPTIONS, {}))
    if isinstance(options.get("block_format"), dict):
        options["block_format"] = BlockFormat.from_dict(options["block_format"])
    if not given["recipe"]:
        raise FpsimError("recipe: the class had no name when the model was saved; use convert")
    given["recipe"] = get_recipe(given["recipe"], **options)
    for key in ("unit", "dgrad", "wgrad"):
        if isinstance(given.get(key), dict):
            given[key] = MacSpec.from_dict(given[key])
    if _DATA in given:
        given["calibration"] = _unpacked(given.pop(_DATA))
    if given.get("transforms", "") is None:
        raise FpsimError("transforms: they were objects when the model was saved; use convert")
    return given
