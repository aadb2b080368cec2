# SPDX-License-Identifier: Apache-2.0
"""Write a converted model as a GGUF file with MXFP4 or NVFP4 tensors.

The bytes of a block are those of `fpsim.bridge.checkpoints.gguf`. Names, the order of the rows of
queries and keys and hyperparameters are GGUF's for the architectures in `ARCHITECTURES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel
from transformers import modeling_gguf_pytorch_utils as names

from fpsim.base.errors import FpsimError
from fpsim.bridge.checkpoints.save import SavedLayer, in_file_names

__all__ = ["ARCHITECTURES", "FILE_NAME", "write_gguf"]

FILE_NAME = "model.gguf"
#: Architectures by transformers' model type: GGUF's name.
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_KINDS = gguf.GGMLQuantizationType


def write_gguf(model: PreTrainedModel, layers: dict[str, SavedLayer], out: Path) -> None:
    """Write ``model.gguf`` into a folder.

    Args:
        model: a converted model.
        layers: what its simulated layers decided.
        out: the folder.

    Raises:
        FpsimError: an architecture whose hyperparameters are not known here, static input factors,
            or blocks that do not fill GGUF's 64 elements.
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
    by_name = {hf: name for name, hf in names.get_gguf_hf_weights_map(model, processor).items()}
    writer = gguf.GGUFWriter(out / FILE_NAME, architecture)
    _fields(writer, config, next(iter(layers.values())))
    for name, tensor in found.others.items():
        values = tensor.to(torch.float32).numpy()
        if values.ndim == 2:
            values = values[_order(processor, by_name[name], values.shape[0])]
        writer.add_tensor(by_name[name], np.ascontiguousarray(values))
    for name, layer in found.layers.items():
        _add_codes(writer, processor, by_name[name], layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _fields(writer: Any, config: Any, first: SavedLayer) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    kind = gguf.LlamaFileType
    writer.add_file_type(kind.MOSTLY_MXFP4_MOE if first.is_mx else kind.MOSTLY_NVFP4)
    writer.add_name(str(getattr(config, "name_or_path", "") or config.model_type))
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(size)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_tokenizer_model("no_vocab")


def _order(processor: Any, name: str, rows: int) -> NDArray[np.int64]:
    """Return the model's row of each row of the file."""
    numbers = np.arange(rows)
    done = processor.process(
        weights=numbers[:, None],
        name=name,
        tensor_key_mapping={},
        parsed_parameters={"tensors": {}},
    )
    return np.argsort(done.weights.reshape(-1))


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
    order = _order(processor, name, rows)
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
