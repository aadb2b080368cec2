# SPDX-License-Identifier: Apache-2.0
"""GGUF files with MXFP4 and NVFP4 tensors, mapped into memory.

MXFP4 (type 39): 17 bytes per 32 elements, the E8M0 scale first. NVFP4 (type 40): 36 bytes per 64,
four UE4M3 scales first; a tensor ``X.scale`` beside ``X.weight`` multiplies all of it, and
``X.input_scale`` is the static scale of the inputs. In each run of n bytes, byte j has element j in
its low half and element j + n in its high half. transformers knows the names of GGUF's tensors and
in which order they have the rows of queries and keys.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import modeling_gguf_pytorch_utils as names
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from fpsim.base.errors import FpsimError, reason_of
from fpsim.blocks.block_format import get_block_format
from fpsim.bridge.cast import BlockCast
from fpsim.bridge.checkpoints.archive import check_names
from fpsim.bridge.checkpoints.coded import CodedTensor
from fpsim.bridge.checkpoints.gguf_fields import (
    FIELDS,
    GPT_OSS,
    ROPE_FACTORS,
    scaled_positions,
)
from fpsim.bridge.checkpoints.layouts import E2M1, E4M3
from fpsim.bridge.checkpoints.model import (
    check_layers,
    check_shape,
    fill,
    model_of,
)
from fpsim.bridge.checkpoints.stored import Nibbles, StoredInputs, StoredMatrix, StoredRows
from fpsim.formats.names import E8M0

__all__ = ["read_gguf"]

_MXFP4, _NVFP4 = gguf.GGMLQuantizationType.MXFP4, gguf.GGMLQuantizationType.NVFP4
_EXPERTS = re.compile(
    r"blk\.(?P<layer>\d+)\.ffn_(?P<part>gate|up|down)_exps\.(?P<kind>weight|bias)"
)
_ARCHITECTURE = "general.architecture"


class _Tensor(NamedTuple):
    """A tensor of the file: bytes of 4-bit blocks as codes, others as numbers when asked for."""

    raw: Any
    codes: CodedTensor | None

    def numbers(self) -> NDArray[np.float32]:
        kind = self.raw.tensor_type
        try:
            numbers = gguf.dequantize(self.raw.data, kind)
        except NotImplementedError:
            raise FpsimError(
                f"{self.raw.name}: type {kind.name} holds no numbers that can be read"
            ) from None
        return np.asarray(numbers, dtype=np.float32)


def read_gguf(path: Path, dtype: torch.dtype) -> transformers.PreTrainedModel:
    """Return the model of a GGUF file, with its MXFP4 and NVFP4 tensors as codes.

    Raises:
        FpsimError: a file that is missing, truncated, of an architecture that transformers cannot
            read, without 4-bit tensors, or with tensors that do not fit.
    """
    if not path.is_file():
        raise FpsimError(f"checkpoint: {path} does not exist")
    try:
        reader = gguf.GGUFReader(path)
        if _ARCHITECTURE not in reader.fields:
            raise FpsimError(f"checkpoint: {path} has no {_ARCHITECTURE}")
        check_names((tensor.name for tensor in reader.tensors), path)
        architecture = str(reader.fields[_ARCHITECTURE].contents())
        fields = _config(reader, architecture, path)
        for key, name in (("attention.key_length", "head_dim"), ("vocab_size", "vocab_size")):
            if (field := reader.fields.get(f"{architecture}.{key}")) is not None:
                fields.setdefault(name, field.contents())
        fields.setdefault("pad_token_id", None)  # the usual one may be beyond the vocabulary
        _mend(reader, architecture, fields)
        check_layers(fields, len(reader.tensors))
        model = model_of(transformers.AutoConfig.for_model(**fields))
    except FpsimError:
        raise
    except Exception as error:  # gguf and transformers raise many kinds
        problem = f"checkpoint: {path} is not a whole GGUF file: {reason_of(error)}"
        raise FpsimError(problem) from None
    tensors = {t.name: _Tensor(t, _codes(t)) for t in reader.tensors}
    if not any(t.codes is not None for t in tensors.values()):
        raise FpsimError(f"layout: {path} has no tensor of type MXFP4 or NVFP4")
    fill(model, _named(model, architecture, fields, _with_sidecars(tensors)), dtype)
    return model


def _said(reader: Any, architecture: str) -> dict[str, Any]:
    """Return the fields of an architecture without its name."""
    start = f"{architecture}."
    return {
        key.removeprefix(start): field.contents()
        for key, field in reader.fields.items()
        if key.startswith(start)
    }


def _config(reader: Any, architecture: str, path: Path) -> dict[str, Any]:
    """Return the configuration that transformers makes of a file."""
    if architecture != "gpt-oss":
        return dict(names.load_gguf_checkpoint(str(path))["config"])  # type: ignore[no-untyped-call]
    # It stumbles over the numbers of scaled positions there.
    known: Mapping[str, Any] = GGUF_CONFIG_MAPPING[GPT_OSS]  # type: ignore[assignment]
    own = {known[k]: v for k, v in _said(reader, architecture).items() if known.get(k)}
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    return own | {"model_type": GPT_OSS, "tie_word_embeddings": tied}


def _mend(reader: Any, architecture: str, fields: dict[str, Any]) -> None:
    """Read the fields of experts and of scaled positions."""
    said = _said(reader, architecture)
    _check_experts(reader, architecture, said)
    if architecture == "llama" and said.get("expert_count"):
        fields["model_type"] = "mixtral"
    kind = str(fields.get("model_type"))
    known = FIELDS.get(kind, {})
    fields |= {name: said[key] for key, name in known.items() if key in said}
    prefix = "rope.scaling."
    scaling = {k.removeprefix(prefix): v for k, v in said.items() if k.startswith(prefix)}
    factors = next(
        (_Tensor(t, None).numbers() for t in reader.tensors if t.name == ROPE_FACTORS), None
    )
    rope = scaled_positions(kind, scaling, float(fields.get("rope_theta", 1e4)), factors)
    if rope is not None:
        fields["rope_scaling"] = rope


def _check_experts(reader: Any, architecture: str, said: Mapping[str, Any]) -> None:
    """Refuse numbers of experts that are not those of the tensors: any would be made first."""
    count, used = said.get("expert_count", 0), said.get("expert_used_count", 0)
    inputs = said.get("expert_feed_forward_length")
    for tensor in reader.tensors:
        match = _EXPERTS.fullmatch(tensor.name)
        if match is None or match["kind"] != "weight":
            continue
        shape = tensor.shape.tolist()
        if len(shape) == 3 and count != shape[2]:
            raise FpsimError(
                f"{architecture}.expert_count: {count!r}, but {tensor.name} has {shape[2]} experts"
            )
        if match["part"] == "down" and inputs is not None and inputs != shape[0]:
            raise FpsimError(
                f"{architecture}.expert_feed_forward_length: {inputs!r}, but {tensor.name} has "
                f"{shape[0]} inputs"
            )
        if not isinstance(used, int) or not 0 < used <= count:
            raise FpsimError(f"{architecture}.expert_used_count: {used!r} is not in 1..{count}")


def _codes(tensor: Any) -> CodedTensor | None:
    kind = tensor.tensor_type
    if kind not in (_MXFP4, _NVFP4):
        return None
    columns, *rest = (int(n) for n in tensor.shape)  # GGUF's order: the last axis first
    mx = kind == _MXFP4
    size, per = (17, 32) if mx else (36, 64)
    rows = rest[0] if rest else 1
    count = rest[1] if len(rest) == 2 else 1
    if not rest or len(rest) > 2 or columns % per:
        raise FpsimError(
            f"{tensor.name}: shape {tensor.shape.tolist()} is no matrix, or no stack of them, with "
            f"rows in blocks of {per}"
        )
    data = tensor.data.view(np.uint8).reshape(count, rows, columns // per, size)
    matrices = []
    for blocks in data:
        if mx:
            packed, scales = blocks[..., 1:], blocks[..., 0]
            part = StoredRows(tensor.name, packed, Nibbles.HALVES, E2M1, E8M0, scales, 32)
        else:
            packed = blocks[..., 4:].reshape(rows, -1, 4, 8) if not blocks.size else _split(blocks)
            scales = blocks[..., :4].reshape(rows, -1)
            part = StoredRows(tensor.name, packed, Nibbles.HALVES, E2M1, E4M3, scales, 16)
        part.check()
        matrices.append(StoredMatrix((part,)))
    return CodedTensor(tuple(matrices), False, None if len(rest) == 2 else 0)


def _split(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the code bytes (rows, blocks, 4, 8) as a view."""
    view = blocks[..., 4:]
    strides = (*view.strides[:-1], 8 * view.strides[-1], view.strides[-1])
    return np.lib.stride_tricks.as_strided(view, (*view.shape[:-1], 4, 8), strides, writeable=False)


def _with_sidecars(tensors: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    """Return tensors without the scales that stand beside codes, which got them."""
    out = dict(tensors)
    for name, tensor in tensors.items():
        base = name.removesuffix(".weight")
        above, inputs = (out.pop(f"{base}.{end}", None) for end in ("scale", "input_scale"))
        if tensor.codes is None or (above is None and inputs is None):
            for end, sidecar in (("scale", above), ("input_scale", inputs)):
                if sidecar is not None and name.endswith(".weight"):
                    raise FpsimError(f"{base}.{end}: it stands beside {name}, which has no codes")
            continue
        out[name] = tensor._replace(codes=_scaled(base, tensor.codes, above, inputs))
    return out


def _scaled(
    base: str, codes: CodedTensor, above: _Tensor | None, inputs: _Tensor | None
) -> CodedTensor:
    count = len(codes.matrices)
    each = [None] * count if above is None else list(_numbers(base + ".scale", above, count))
    given = StoredInputs()
    if inputs is not None:
        scale = max(_numbers(base + ".input_scale", inputs, count))
        given = StoredInputs(BlockCast(get_block_format("nvfp4"), float(scale)))
    matrices = []
    for matrix, number in zip(codes.matrices, each, strict=True):
        (part,) = matrix.parts
        scaled = StoredRows(
            part.name, part.packed, part.nibbles, part.element, part.scale, part.scales, part.block,
            number,
        )  # fmt: skip
        scaled.check()
        matrices.append(StoredMatrix((scaled,), given))
    return CodedTensor(tuple(matrices), codes.transposed, codes.which)


def _numbers(name: str, tensor: _Tensor, count: int) -> NDArray[np.float32]:
    numbers = tensor.numbers().reshape(-1)
    if numbers.size not in (1, count) or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise FpsimError(
            f"{name}: {numbers.tolist()[:4]}, but one positive finite number, or {count}, is needed"
        )
    return np.broadcast_to(numbers, (count,))


def _named(
    model: transformers.PreTrainedModel,
    architecture: str,
    fields: dict[str, Any],
    tensors: Mapping[str, _Tensor],
) -> dict[str, torch.Tensor | CodedTensor]:
    """Return tensors by the model's names."""
    kind = names.TENSOR_PROCESSORS.get(architecture, names.TensorProcessor)
    processor = kind(config=fields)  # type: ignore[no-untyped-call]
    known = names.get_gguf_hf_weights_map(model, processor, model_type=architecture)
    wanted = model.state_dict()
    out: dict[str, torch.Tensor | CodedTensor] = {}
    experts: dict[tuple[str, str], dict[str, _Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _EXPERTS.fullmatch(name):
            part = "down" if match["part"] == "down" else "gate_up"
            experts.setdefault((match["layer"], f"{part}.{match['kind']}"), {})[match["part"]] = (
                tensor
            )
            continue
        target = known.get(name) or _gpt_oss_name(name)
        if target not in wanted:
            if name == ROPE_FACTORS:
                continue
            raise FpsimError(f"{name}: {type(model).__name__} has no parameter for it")
        if tensor.codes is None:
            out[target] = _processed(processor, name, tensor, wanted[target])
        else:
            check_shape(name, tensor.codes, wanted[target])
            out[target] = _reordered(processor, name, tensor.codes)
    for (layer, what), parts in experts.items():
        target, joined = _experts(model, layer, what, parts)
        if target not in wanted:
            raise FpsimError(f"blk.{layer}.ffn_*_exps: {type(model).__name__} has no {target}")
        out[target] = joined
    return out


def _gpt_oss_name(name: str) -> str:
    found = re.fullmatch(r"blk\.(\d+)\.(ffn_gate_inp\.(weight|bias)|attn_sinks\.weight)", name)
    if found is None:
        return ""
    rest = f"mlp.router.{found[3]}" if found[3] else "self_attn.sinks"
    return f"model.layers.{found[1]}.{rest}"


def _processed(processor: Any, name: str, tensor: _Tensor, wanted: torch.Tensor) -> torch.Tensor:
    made: dict[str, Any] = {"tensors": {}}
    done = processor.process(
        weights=tensor.numbers(), name=name, tensor_key_mapping={}, parsed_parameters=made
    )
    found = next(iter(made["tensors"].values()), None)
    weights = found if found is not None else torch.from_numpy(np.array(done.weights))
    return weights.reshape(wanted.shape) if weights.numel() == wanted.numel() else weights


def _reordered(processor: Any, name: str, codes: CodedTensor) -> CodedTensor:
    """Return codes with the rows in the model's order, which numbered rows show."""
    (matrix,) = codes.matrices
    rows = np.arange(matrix.shape[0], dtype=np.int64)
    moved: Any = None
    with contextlib.suppress(ValueError, IndexError):
        moved = processor.process(
            weights=rows[:, None],
            name=name,
            tensor_key_mapping={},
            parsed_parameters={"tensors": {}},
        ).weights
    if moved is None or not np.array_equal(np.sort(moved.reshape(-1)), rows):
        raise FpsimError(f"{name}: the model rearranges it in a way that codes cannot follow")
    order = moved.reshape(-1)
    if not np.array_equal(order, rows):
        matrix = matrix.reordered(order)
    turned = moved.shape == (1, rows.size) != (rows.size, 1)
    return CodedTensor((matrix,), turned)


def _experts(
    model: transformers.PreTrainedModel, layer: str, what: str, parts: Mapping[str, _Tensor]
) -> tuple[str, torch.Tensor | CodedTensor]:
    """Join gate and up of experts as the model has them: gpt-oss interleaved, others one by one."""
    part, _, kind = what.partition(".")
    oss = model.config.model_type == GPT_OSS
    suffix = "_bias" if kind == "bias" else ""
    target = f"model.layers.{layer}.mlp.experts.{part}_proj{suffix}"
    order = ("down",) if part == "down" else ("gate", "up")
    lacking = next((p for p in order if p not in parts), None)
    if lacking is not None:
        raise FpsimError(
            f"blk.{layer}.ffn_{lacking}_exps.{kind}: the checkpoint has no such tensor"
        )
    codes = [parts[p].codes for p in order]
    if all(c is not None for c in codes) and kind == "weight":
        return target, _joined(codes, oss)  # type: ignore[arg-type]
    if any(c is not None for c in codes):
        raise FpsimError(f"blk.{layer}.ffn_*_exps: some are codes, others are not")
    numbers = [torch.from_numpy(np.array(parts[p].numbers())) for p in order]
    if len(numbers) == 1:
        whole = numbers[0]
    elif oss:
        whole = torch.stack(numbers, dim=2).flatten(1, 2)
    else:
        whole = torch.cat(numbers, dim=1)
    return target, whole.mT if oss and kind == "weight" else whole


def _joined(codes: list[CodedTensor], oss: bool) -> CodedTensor:
    if len(codes) == 1:
        return CodedTensor(codes[0].matrices, oss, None)
    matrices = []
    for gate, up in zip(codes[0].matrices, codes[1].matrices, strict=True):
        both = gate.below([up])
        if oss:
            both = both.reordered(np.arange(both.shape[0]).reshape(2, -1).T.reshape(-1))
        matrices.append(both)
    return CodedTensor(tuple(matrices), oss, None)
