# SPDX-License-Identifier: Apache-2.0
"""Write a converted model as a GGUF file with MXFP4 or NVFP4 tensors.

The bytes of a block are those of `fpsim.bridge.checkpoints.gguf`. gguf-py knows the tensors' names,
transformers the hyperparameters and the order of rows of every architecture that it reads; what it
would not read back as it was is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel
from transformers import modeling_gguf_pytorch_utils as names
from transformers.integrations.ggml import GGUF_CONFIG_DEFAULTS_MAPPING, GGUF_CONFIG_MAPPING

from fpsim.base.errors import FpsimError
from fpsim.bridge.checkpoints.gguf_fields import (
    FIELDS,
    GPT_OSS,
    ROPE_FACTORS,
    llama3_factors,
    scaled_positions,
    scaling_fields,
)
from fpsim.bridge.checkpoints.save import SavedLayer, own_tensors

__all__ = ["ARCHITECTURES", "FILE_NAME", "write_gguf"]

FILE_NAME = "model.gguf"
_KINDS = gguf.GGMLQuantizationType
#: Model types of transformers that come back from a file as they were, and what GGUF calls them.
ARCHITECTURES = {
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    GPT_OSS: "gpt-oss",
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "nemotron": "nemotron",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen2_moe": "qwen2moe",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "stablelm": "stablelm",
    "starcoder2": "starcoder2",
}
#: Architectures that transformers' table of fields has under other names.
_MAPPED = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gpt-oss": GPT_OSS}
#: Weights and biases of all experts of a layer.
_EXPERTS = re.compile(r"model\.layers\.(\d+)\.mlp\.experts\.(gate_up|down)_proj(_bias)?")
#: What says nothing of a model's arithmetic, or follows from the tensors of a file.
_UNSAID = re.compile(
    r"_?name_or_path|architectures|dtype|torch_dtype|transformers_version|use_cache|model_type|"
    r".*_token_id|initializer_.*|.*p?drop(out)?|tie_word_embeddings|output_.*|return_dict|"
    r"pretraining_tp|quantization_config|use_qkv_bias|use_parallel_residual|max_window_layers"
)


def write_gguf(model: PreTrainedModel, layers: dict[str, SavedLayer], out: Path) -> None:
    """Write ``model.gguf`` into a folder.

    Args:
        model: a converted model.
        layers: what its simulated layers decided.
        out: the folder.

    Raises:
        FpsimError: an architecture, a hyperparameter or a tensor that no reader would take for what
            it is, static input factors, or blocks that do not fill GGUF's 64 elements.
    """
    config: Any = model.config
    architecture = ARCHITECTURES.get(config.model_type)
    if architecture is None:
        raise FpsimError(
            f"layout gguf: model type {config.model_type!r} is not one of "
            f"{', '.join(ARCHITECTURES)}"
        )
    found = own_tensors(model, layers)
    kind = names.TENSOR_PROCESSORS.get(architecture, names.TensorProcessor)
    processor = kind(config=config.to_dict())  # type: ignore[no-untyped-call]
    known = names.get_gguf_hf_weights_map(model, processor, model_type=architecture)
    by_name = {hf: name for name, hf in known.items()}
    for name in (*found.others, *found.layers, *found.experts):
        if name not in by_name and not _EXPERTS.fullmatch(name):
            raise FpsimError(f"layout gguf: {name} has no place in a file of {architecture}")
    writer = gguf.GGUFWriter(out / FILE_NAME, architecture)
    _fields(writer, architecture, config, next(iter(layers.values())))
    for name, tensor in found.others.items():
        values = tensor.to(torch.float32).numpy()
        if _EXPERTS.fullmatch(name):
            _add_float_experts(writer, config, name, values)
            continue
        target = _named(by_name[name])
        order, moved = _order(processor, target, values.shape[0], values.ndim)
        writer.add_tensor(target, np.ascontiguousarray(values[order] - moved))
    for name, layer in found.layers.items():
        target = _named(by_name[name])
        order, _ = _order(processor, target, layer.codes.shape[0], 2)
        _add_codes(writer, target, [layer.rows(layer.name, order)])
    for name, experts in found.experts.items():
        for target, rows in _expert_rows(config, name, experts[0].codes.shape[0]):
            _add_codes(writer, target, [layer.rows(layer.name, rows) for layer in experts])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _fields(writer: Any, architecture: str, config: Any, first: SavedLayer) -> None:
    types = gguf.LlamaFileType
    writer.add_file_type(types.MOSTLY_MXFP4_MOE if first.is_mx else types.MOSTLY_NVFP4)
    # transformers tells mistral, a llama in GGUF, by this name.
    given = "" if config.model_type == "mistral" else str(getattr(config, "name_or_path", ""))
    writer.add_name(given or config.model_type)
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    theta = float(rope.get("rope_theta", 10000.0))
    fields: dict[str, Any] = {
        "rope.dimension_count": int(size * rope.get("partial_rotary_factor", 1.0)),
        "attention.key_length": size,
        "attention.value_length": size,
        "vocab_size": config.vocab_size,
    }
    read: dict[str, Any] = {"vocab_size": config.vocab_size}
    if getattr(config, "head_dim", None):
        read["head_dim"] = size
    known: dict[str, str | None] = GGUF_CONFIG_MAPPING[_MAPPED.get(architecture, architecture)]  # type: ignore[assignment]
    for key, field in (known | FIELDS.get(config.model_type, {})).items():
        value = theta if field == "rope_theta" else getattr(config, field or "", None)
        if field is not None and value is not None and key not in fields:
            fields[key] = read[field] = value
    said: dict[str, Any] = {}
    factors, kind = None, rope.get("rope_type")
    if kind == "llama3":
        factors = llama3_factors(rope, size)
        writer.add_tensor(ROPE_FACTORS, factors)
    elif kind in ("linear", "yarn"):
        said = scaling_fields(rope)
        fields |= {f"rope.scaling.{key}": value for key, value in said.items()}
    try:
        scaled = scaled_positions(config.model_type, said, theta, factors)
    except FpsimError as error:
        raise FpsimError(f"layout gguf: {error}") from None
    read |= GGUF_CONFIG_DEFAULTS_MAPPING.get(config.model_type, {}) | (
        {} if scaled is None else {"rope_scaling": scaled}
    )
    _check_read(config, read)
    for key, value in fields.items():
        add = {float: writer.add_float32, str: writer.add_string}.get(
            type(value), writer.add_uint32
        )
        add(f"{architecture}.{key}", value)
    writer.add_tokenizer_model("no_vocab")


def _check_read(config: Any, read: dict[str, Any]) -> None:
    """Refuse a hyperparameter that transformers would not find in a file."""
    back = type(config)(**read).to_dict()
    given = config.to_dict()
    for name, value in back.items():
        if not _UNSAID.fullmatch(name) and given.get(name) != value:
            raise FpsimError(
                f"layout gguf: {name} is {given.get(name)!r}, which a file cannot say; read back "
                f"it would be {value!r}"
            )


def _order(processor: Any, name: str, rows: int, dimensions: int) -> tuple[NDArray[np.int64], Any]:
    """Return the model's row of each row of the file, and what a reader adds to every number."""
    numbers, zeros = np.arange(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    shape = (rows, *(1,) * (dimensions - 1))
    done, moved = (
        processor.process(
            weights=array.reshape(shape),
            name=name,
            tensor_key_mapping={},
            parsed_parameters={"tensors": {}},
        ).weights
        for array in (numbers, zeros)
    )
    one = moved.reshape(-1)[0]
    found = done.reshape(-1) - one
    if rows != found.size or not (np.sort(found) == numbers).all():
        raise FpsimError(f"layout gguf: {name} is arranged in a way that numbers cannot follow")
    return np.argsort(found), np.float32(one)


def _named(name: str) -> str:
    """Return the name of a tensor with the ending that a file has for it."""
    return name if name.endswith((".weight", ".bias")) else f"{name}.weight"


def _expert_rows(config: Any, name: str, rows: int) -> list[tuple[str, NDArray[np.int64]]]:
    """Return the tensors that experts go to and their rows there: gpt-oss has those interleaved."""
    match = _EXPERTS.fullmatch(name)
    if match is None:
        raise FpsimError(f"layout gguf: {name} has no place in a file")
    layer, part, bias = match.groups()
    numbers, end = np.arange(rows), "bias" if bias else "weight"
    if part == "down":
        parts = {"down": numbers}
    elif config.model_type == GPT_OSS:
        parts = {"gate": numbers[::2], "up": numbers[1::2]}
    else:
        parts = {"gate": numbers[: rows // 2], "up": numbers[rows // 2 :]}
    return [(f"blk.{layer}.ffn_{own}_exps.{end}", at) for own, at in parts.items()]


def _add_float_experts(writer: Any, config: Any, name: str, values: NDArray[np.float32]) -> None:
    turned = config.model_type == GPT_OSS and values.ndim == 3
    values = values.swapaxes(1, 2) if turned else values
    for target, rows in _expert_rows(config, name, values.shape[1]):
        writer.add_tensor(target, np.ascontiguousarray(values[:, rows]))


def _add_codes(writer: Any, name: str, layers: list[SavedLayer]) -> None:
    """Add one matrix, or those of all experts, with the scales above and of the inputs."""
    first, base = layers[0], name.removesuffix(".weight")
    if first.input_factor is not None:
        raise FpsimError(
            f"layout gguf: layer {first.name} multiplies its inputs by factors first, which the "
            "layout has no place for"
        )
    rows, columns = first.codes.shape
    per = 32 if first.is_mx else 64
    if columns % per:
        raise FpsimError(
            f"layout gguf: layer {first.name} has {columns} inputs, not blocks of {per}"
        )
    codes = np.stack([layer.codes for layer in layers]).reshape(-1, 2, first.block // 2)
    halves = (codes[:, 0] | (codes[:, 1] << 4)).reshape(len(layers), rows, columns // per, -1)
    scales = np.stack([layer.scales for layer in layers]).reshape(*halves.shape[:3], -1)
    data = np.concatenate([scales, halves], axis=3).reshape(len(layers), rows, -1)
    kind = _KINDS.MXFP4 if first.is_mx else _KINDS.NVFP4
    writer.add_tensor(name, data if "_exps." in name else data[0], raw_dtype=kind)
    for end, values in (
        ("scale", [layer.tensor_scale("gguf") for layer in layers]),
        ("input_scale", [layer.input_scale for layer in layers]),
    ):
        given = [value for value in values if value is not None]
        if given and end == "input_scale" and len(set(given)) > 1:
            raise FpsimError(f"layout gguf: {base}: experts have several input scales")
        if given:
            alike = len(set(given)) == 1
            writer.add_tensor(f"{base}.{end}", np.array(given[:1] if alike else given, np.float32))
