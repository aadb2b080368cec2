# SPDX-License-Identifier: Apache-2.0
"""A model of transformers without weights, and the tensors of a file put into it.

transformers knows which names in a file belong to which parameters, and how it stacks and joins
those of experts; codes are arranged in the same way.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    Transpose,
    WeightConverter,
    WeightRenaming,
    rename_source_key,
)

from fpsim.base.errors import FpsimError, reason_of
from fpsim.bridge.checkpoints.coded import (
    CodedTensor,
    as_parameter,
    concatenated,
    dense_state,
    stacked,
)
from fpsim.bridge.checkpoints.layouts import as_float

__all__ = [
    "arranged",
    "check_layers",
    "check_shape",
    "empty_model",
    "fill",
    "model_of",
]

#: Names of the number of layers in configurations.
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
#: Tensors of serving engines that belong to no parameter.
_IGNORED = re.compile(r"\.(k|v)_scale$|rotary_emb\.inv_freq$|\.(q|k|v|prob)_(scale|zero_point)$")


def empty_model(folder: Path) -> transformers.PreTrainedModel:
    """Return the model of a folder's `config.json`, its parameters without data.

    Raises:
        FpsimError: a configuration unknown to transformers, or one that asks for code from the
            folder, which is never run.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        return model_of(config)
    except FpsimError:
        raise
    except Exception as error:  # transformers raises errors of many types
        problem = f"checkpoint: {folder / 'config.json'} makes no model: {reason_of(error)}"
        raise FpsimError(problem) from None


def check_layers(config: Mapping[str, Any], tensors: int) -> None:
    """Refuse more layers than a checkpoint can have: building a hostile number would take for ever.

    Raises:
        FpsimError: a configuration with more layers than there are tensors.
    """
    for part in (config, config.get("text_config")):
        for name in _LAYERS if isinstance(part, Mapping) else ():
            layers = part.get(name)  # type: ignore[union-attr]
            if isinstance(layers, int) and layers > tensors:
                raise FpsimError(
                    f"{name}: {layers} layers, but the checkpoint has {tensors} tensors"
                )


def model_of(config: Any) -> transformers.PreTrainedModel:
    """Return the model of a configuration, its parameters without data."""
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.float32
    names = getattr(config, "architectures", None) or [""]
    kind = getattr(transformers, str(names[0]), None)
    with init_empty_weights():
        if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
            model = kind(config)
        else:
            auto: Any = transformers.AutoModelForCausalLM
            model = auto.from_config(config)
    assert isinstance(model, transformers.PreTrainedModel)
    model.eval()  # type: ignore[no-untyped-call]
    return model


Tensors = Mapping[str, "torch.Tensor | CodedTensor"]


def _natural(name: str) -> list[Any]:
    """Return a key that sorts names with numbers, of any length, by the numbers."""
    words = re.split(r"([0-9]+)", name)
    digits = [number.lstrip("0") for number in words[1::2]]
    words[1::2] = [(len(number), number) for number in digits]
    return words


def arranged(
    model: transformers.PreTrainedModel, tensors: Tensors
) -> dict[str, torch.Tensor | CodedTensor]:
    """Return tensors of a file by the model's names, joined as in the model.

    Raises:
        FpsimError: a tensor that belongs to no parameter, or codes of a parameter that the model
            rearranges in a way that codes cannot follow.
    """
    transforms = get_model_conversion_mapping(model)
    renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    by_pattern = {pattern: c for c in converters for pattern in c.source_patterns}
    wanted = model.state_dict()
    ignored = [re.compile(p) for p in model._keys_to_ignore_on_load_unexpected or ()]
    out: dict[str, torch.Tensor | CodedTensor] = {}
    jobs: dict[str, tuple[WeightConverter, dict[str, list[torch.Tensor]], str]] = {}
    for name in sorted(tensors, key=_natural):
        target, pattern = rename_source_key(
            name, renamings, converters, model.base_model_prefix, wanted
        )
        if target not in wanted and name in wanted:
            target, pattern = name, None
        if target not in wanted:
            if _IGNORED.search(name) or any(p.search(name) for p in ignored):
                continue
            raise FpsimError(f"{name}: {type(model).__name__} has no parameter for it")
        if pattern is None:
            out[target] = tensors[name]
            continue
        job = jobs.setdefault(target, (by_pattern[pattern], {}, name))
        job[1].setdefault(pattern, []).append(tensors[name])
    for target, (converter, sources, name) in jobs.items():
        out |= _converted(model, target, converter, sources, name)
    return out


def _converted(
    model: transformers.PreTrainedModel,
    target: str,
    converter: WeightConverter,
    sources: dict[str, list[torch.Tensor]],
    name: str,
) -> dict[str, torch.Tensor | CodedTensor]:
    every = [tensor for tensors in sources.values() for tensor in tensors]
    are_codes = [isinstance(tensor, CodedTensor) for tensor in every]
    if not any(are_codes):
        job: Any = copy.deepcopy(converter)
        for pattern, tensors in sources.items():
            for tensor in tensors:
                job.add_tensor(target, name, pattern, tensor)
        made = job.convert(target, model=model, config=model.config)
        return {key: t[0] if isinstance(t, list) else t for key, t in made.items()}
    if not all(are_codes):
        raise FpsimError(f"{name}: some matrices that make up {target} are codes, others are not")
    now: dict[str, Any] = dict(sources)
    for step in converter.operations:
        if isinstance(step, MergeModulelist) and step.dim == 0:
            now = {pattern: stacked(tensors) for pattern, tensors in now.items()}
        elif isinstance(step, Concatenate):
            parts = [now[p] for p in converter.source_patterns if p in now]
            flat = [t for part in parts for t in (part if isinstance(part, list) else [part])]
            now = {target: concatenated(flat, step.dim)}
        elif isinstance(step, Transpose):
            now = {p: (t[0] if isinstance(t, list) else t).turned() for p, t in now.items()}
        else:
            raise FpsimError(
                f"{name}: the model arranges it by {type(step).__name__}, which codes cannot follow"
            )
    if len(now) != 1:
        raise FpsimError(f"{name}: the model makes several parameters of it")
    (only,) = now.values()
    return {target: only[0] if isinstance(only, list) else only}


def check_shape(name: str, tensor: torch.Tensor | CodedTensor, wanted: torch.Tensor) -> None:
    """Refuse a tensor with a shape other than the model's.

    Args:
        name: name of the tensor.
        tensor: tensor of a file.
        wanted: parameter of the model.

    Raises:
        FpsimError: another shape; the message names both.
    """
    if tuple(tensor.shape) != tuple(wanted.shape):
        raise FpsimError(
            f"{name}: shape {tuple(tensor.shape)} is not {tuple(wanted.shape)}, the model's"
        )


def fill(model: transformers.PreTrainedModel, tensors: Tensors, dtype: torch.dtype) -> None:
    """Put tensors into a model without data.

    Args:
        model: a model with parameters on the meta device.
        tensors: codes or numbers by names of parameters and buffers.
        dtype: dtype of numbers that are not codes.

    Raises:
        FpsimError: a shape other than the parameter's, integers in place of numbers, or parameters
            that get no data.
    """
    wanted = model.state_dict()
    for name, tensor in tensors.items():
        check_shape(name, tensor, wanted[name])
    holders: set[nn.Module] = set()
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        if isinstance(tensor, CodedTensor):
            module._parameters[leaf] = as_parameter(tensor)
            holders.add(module)
        elif leaf in module._parameters:
            if not tensor.dtype.is_floating_point:
                raise FpsimError(
                    f"{name}: dtype {str(tensor.dtype).removeprefix('torch.')}, but floating-point "
                    "numbers are needed"
                )
            module._parameters[leaf] = nn.Parameter(as_float(name, tensor, dtype))
        else:
            module._buffers[leaf] = as_float(name, tensor, dtype)
    model.tie_weights()
    for module in holders:
        module.register_state_dict_post_hook(dense_state)  # type: ignore[no-untyped-call]
    missing = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FpsimError(f"{missing[0]}{more}: the checkpoint has no such tensor")
