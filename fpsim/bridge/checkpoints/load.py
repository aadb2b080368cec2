# SPDX-License-Identifier: Apache-2.0
"""Load an FP4 checkpoint as a model whose layers hold its codes, on a simulated unit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat
from fpsim.bridge.checkpoints.archive import Archive, read_json
from fpsim.bridge.checkpoints.layouts import read_layout
from fpsim.bridge.checkpoints.model import arranged, check_layers, empty_model, fill
from fpsim.bridge.checkpoints.recipe import checkpoint_recipe
from fpsim.bridge.convert import convert
from fpsim.unit import MacUnit, get_unit
from fpsim.units.spec import MacSpec

__all__ = ["load_checkpoint"]

_CONFIG = "config.json"
_MODELOPT_CONFIG = "hf_quant_config.json"
_GGUF = ".gguf"


def load_checkpoint(
    path: str | os.PathLike[str],
    unit: str | MacSpec | MacUnit | None = "exact",
    *,
    activations: str | BlockFormat | None = None,
    nibbles: str | None = None,
    swizzled: bool | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> PreTrainedModel:
    """Load a 4-bit checkpoint; its layers run on a unit with exactly its codes and scales.

    Supported are gpt-oss' MXFP4, compressed-tensors' nvfp4-pack-quantized, mxfp4-pack-quantized and
    pack-quantized (INT4, zero points included), ModelOpt's NVFP4 (AWQ, static input scales and
    experts included), FP-Quant, GGUF's MXFP4 and NVFP4, and bitsandbytes' NF4 and FP4. Codes are
    unpacked when a layer runs, never decoded and cast again; files are mapped into memory.
    `conversion_of` lists the layers on the unit; `fpsim.bridge.restore` gives the model float
    arithmetic with the values of the codes.

    Args:
        path: a folder with `config.json` and safetensors files, or a file of one.
        unit: see `fpsim.get_unit`; None: the model is left in float arithmetic, ready for
            ``convert(model, checkpoint_recipe(model), unit)``.
        activations: cast of inputs, see `fpsim.bridge.checkpoint_recipe`.
        nibbles: ``low-first``, ``high-first`` or ``halves``, if a file of safetensors has another
            order in a byte than its layout.
        swizzled: whether scales in such a file lie in tiles of 128 x 4, as matrix units read them;
            None: if their shapes say so.
        dtype: dtype of parameters without codes: embeddings, norms, layers left out of the
            checkpoint.
        seed: seed of stochastic rounding, as in `convert`.

    Returns:
        An ordinary model of transformers in eval mode.

    Raises:
        FpsimError: missing, truncated or foreign files; an unknown layout, or two layouts; tensors
            that are missing, too many, or of a wrong shape or dtype; scales that are no numbers.
            The message names the tensor. Pickles and code in a folder are never run.
    """
    mac = None if unit is None else get_unit(unit)
    folder = Path(path).expanduser()
    if folder.suffix == _GGUF:
        from fpsim.bridge.checkpoints.gguf import read_gguf

        for name, value in (("nibbles", nibbles), ("swizzled", swizzled)):
            if value is not None:
                raise FpsimError(
                    f"{name}: {value!r}, but a GGUF file leaves no choice; leave it out"
                )
        model = read_gguf(folder, dtype)
    else:
        model = _from_folder(folder, nibbles, swizzled, dtype)
    recipe = checkpoint_recipe(model, activations)
    if mac is not None:
        convert(model, recipe, mac, seed=seed)
    return model


def _from_folder(
    folder: Path, nibbles: str | None, swizzled: bool | None, dtype: torch.dtype
) -> PreTrainedModel:
    if folder.is_file() and folder.suffix == ".safetensors":
        folder = folder.parent
    if not folder.is_dir():
        raise FpsimError(
            f"checkpoint: {folder} is neither a folder with {_CONFIG} and safetensors files nor a "
            "GGUF file"
        )
    config = read_json(folder / _CONFIG)
    tensors = Archive(folder)
    found = read_layout(tensors, _quantization(folder, config), nibbles, swizzled)
    check_layers(config, len(tensors))
    model = empty_model(folder)
    rest = {name: tensors[name] for name in tensors if name not in found.used}
    clash = next((name for name in found.weights if name in rest), None)
    if clash is not None:
        raise FpsimError(f"{clash}: the checkpoint has it both as codes and as float numbers")
    fill(model, arranged(model, {**rest, **found.weights}), dtype)
    return model


def _quantization(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quantization section of a model's configuration, or an empty one."""
    for key in ("quantization_config", "compression_config"):
        for part in (config, config.get("text_config", {})):
            if isinstance(part, dict) and isinstance(part.get(key), dict):
                return dict(part[key])
    if (folder / _MODELOPT_CONFIG).is_file():
        about = read_json(folder / _MODELOPT_CONFIG).get("quantization", {})
        return {"quant_method": "modelopt"} | (about if isinstance(about, dict) else {})
    return {}
