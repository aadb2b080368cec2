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
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from fpsim.base.errors import FpsimError
from fpsim.bridge.checkpoints.save import SavedLayer, in_file_names

__all__ = ["ARCHITECTURES", "FILE_NAME", "write_gguf"]

FILE_NAME = "model.gguf"
_KINDS = gguf.GGMLQuantizationType
#: Model types of transformers that come back from a file as they were, and what GGUF calls them.
ARCHITECTURES = {
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "llama": "llama",
    "mistral": "llama",
    "nemotron": "nemotron",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "stablelm": "stablelm",
    "starcoder2": "starcoder2",
}
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
    found = in_file_names(model, layers)
    kind = names.TENSOR_PROCESSORS.get(architecture, names.TensorProcessor)
    processor = kind(config=config.to_dict())  # type: ignore[no-untyped-call]
    known = names.get_gguf_hf_weights_map(model, processor, model_type=architecture)
    by_name = {hf: name for name, hf in known.items()}
    for name in (*found.others, *found.layers, *found.experts):
        if name not in by_name or name in found.experts:
            raise FpsimError(f"layout gguf: {name} has no place in a file of {architecture}")
    writer = gguf.GGUFWriter(out / FILE_NAME, architecture)
    _fields(writer, architecture, config, next(iter(layers.values())))
    for name, tensor in found.others.items():
        values = tensor.to(torch.float32).numpy()
        order, moved = _order(processor, by_name[name], values.shape[0], values.ndim)
        writer.add_tensor(by_name[name], np.ascontiguousarray(values[order] - moved))
    for name, layer in found.layers.items():
        _add_codes(writer, processor, by_name[name], layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _fields(writer: Any, architecture: str, config: Any, first: SavedLayer) -> None:
    kind = gguf.LlamaFileType
    writer.add_file_type(kind.MOSTLY_MXFP4_MOE if first.is_mx else kind.MOSTLY_NVFP4)
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
    if hasattr(config, "head_dim"):
        read["head_dim"] = size
    known: dict[str, str | None] = GGUF_CONFIG_MAPPING[architecture]  # type: ignore[assignment]
    for key, field in known.items():
        value = theta if field == "rope_theta" else getattr(config, field or "", None)
        if field is not None and value is not None and key not in fields:
            fields[key] = read[field] = value
    _check_read(config, read)
    for key, value in fields.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
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
    if done.shape != shape or not (np.sort(found) == numbers).all():
        raise FpsimError(f"layout gguf: {name} is arranged in a way that numbers cannot follow")
    return np.argsort(found), np.float32(one)


def _add_codes(writer: Any, processor: Any, name: str, layer: SavedLayer) -> None:
    if layer.input_factor is not None:
        raise FpsimError(
            f"layout gguf: layer {layer.name} multiplies its inputs by factors first, which the "
            "layout has no place for"
        )
    rows, columns = layer.codes.shape
    per = 32 if layer.is_mx else 64
    if columns % per:
        raise FpsimError(
            f"layout gguf: layer {layer.name} has {columns} inputs, not blocks of {per}"
        )
    order, _ = _order(processor, name, rows, 2)
    codes = layer.codes[order].reshape(rows, -1, 2, layer.block // 2)
    halves = codes[:, :, 0] | (codes[:, :, 1] << 4)
    scales = layer.scales[order].reshape(rows, columns // per, -1)
    data = np.concatenate([scales, halves.reshape(rows, columns // per, -1)], axis=2)
    kind = _KINDS.MXFP4 if layer.is_mx else _KINDS.NVFP4
    writer.add_tensor(name, data.reshape(rows, -1), raw_dtype=kind)
    base = name.removesuffix(".weight")
    for end, value in (("scale", layer.above), ("input_scale", layer.input_scale)):
        if value is not None:
            writer.add_tensor(f"{base}.{end}", np.array([value], np.float32))
