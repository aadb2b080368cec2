# SPDX-License-Identifier: Apache-2.0
"""Checkpoints made by the libraries that define their layouts, and ours read by them.

`make test-checkpoints` runs these where the libraries are; their pins clash with those of the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from fpsim.bridge import convert, load_checkpoint, save_checkpoint  # noqa: E402
from fpsim.bridge.linear import simulated_layers  # noqa: E402

pytestmark = pytest.mark.checkpoints

IDS = torch.arange(1, 33)[None]
SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def llama(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES, architectures=["LlamaForCausalLM"])
    return transformers.LlamaForCausalLM(config).to(dtype).eval()


def linears(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The numbers of every linear layer as we read them."""
    model = load_checkpoint(folder, None)
    return {name: module.weight.dense() for name, module in linears(model).items()}


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


@pytest.mark.parametrize("scheme", ["NVFP4A16", "NVFP4", "MXFP4A16", "W4A16", "W4A16_ASYM"])
def test_llmcompressor(scheme: str, tmp_path: Path) -> None:
    llmcompressor = pytest.importorskip("llmcompressor")
    modifiers = pytest.importorskip("llmcompressor.modifiers.quantization")
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"w{i}": i for i in range(97)}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain).save_pretrained(tmp_path / "float")
    llama(torch.bfloat16).save_pretrained(tmp_path / "float")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "float", dtype=torch.bfloat16
    )
    recipe = modifiers.QuantizationModifier(targets="Linear", scheme=scheme, ignore=["lm_head"])
    data: dict[str, Any] = {}
    if scheme == "NVFP4":
        datasets = pytest.importorskip("datasets")
        rows = [{"input_ids": list(range(1, 33)), "attention_mask": [1] * 32}] * 4
        data = {"dataset": datasets.Dataset.from_list(rows), "num_calibration_samples": 4}
    llmcompressor.oneshot(model=model, recipe=recipe, **data)
    made = tmp_path / "four"
    model.save_pretrained(made, save_compressed=True)
    theirs, ours = decompressed(made), weights(made)
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert same_bits(ours[name].to(torch.bfloat16), tensor.to(torch.bfloat16)), name
    layers = simulated_layers(load_checkpoint(made))
    statics = [x.input_cast.tensor_scale for x in layers.values()]
    if scheme.startswith("W4A16"):
        assert {x.input_cast.fmt.name for x in layers.values()} == {"int8s-real-token"}
    assert all((s is not None) == (scheme == "NVFP4") for s in statics)


def decompressed(folder: Path) -> dict[str, torch.Tensor]:
    """The numbers of every linear layer as compressed-tensors reads them through transformers."""
    config = transformers.CompressedTensorsConfig(run_compressed=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, dtype=torch.bfloat16
    )
    return {name: module.weight.detach() for name, module in linears(model).items()}


@pytest.mark.parametrize(
    "recipe", ["nvfp4-weights", "mxfp4-weights", "mxfp4", "int4-weights", "int4@16/4/8"]
)
def test_compressed_tensors_reads_ours(recipe: str, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    model = convert(llama(), recipe, "exact")
    layers = simulated_layers(model)
    decided = {
        name: layer.weight_cast.quantize(layer.weight.matrix.detach().numpy())
        for name, layer in layers.items()
    }
    save_checkpoint(model, tmp_path / "out", "compressed-tensors")
    theirs, ours = decompressed(tmp_path / "out"), weights(tmp_path / "out")
    assert set(theirs) == set(decided)
    for name, operand in decided.items():
        assert same_bits(ours[name].to(torch.bfloat16), theirs[name].to(torch.bfloat16)), name
        exact = operand.dequantize()
        assert np.allclose(ours[name].numpy(), exact, rtol=3e-7, atol=0)


def test_modelopt(tmp_path: Path) -> None:
    """Without AWQ, whose search needs a GPU."""
    mtq = pytest.importorskip("modelopt.torch.quantization")
    export = pytest.importorskip("modelopt.torch.export")
    qtensor = pytest.importorskip("modelopt.torch.quantization.qtensor")
    model = llama(torch.bfloat16)
    mtq.quantize(model, mtq.NVFP4_DEFAULT_CFG, lambda m: m(IDS))
    export.export_hf_checkpoint(model, dtype=torch.bfloat16, export_dir=tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path, None)
    for name, module in linears(loaded).items():
        raw = tensors[f"{name}.weight"]
        rows, half = raw.shape
        held = qtensor.NVFP4QTensor(torch.Size((rows, 2 * half)), torch.float32, raw)
        theirs = held.dequantize(
            dtype=torch.float32, scale=tensors[f"{name}.weight_scale"], block_sizes={-1: 16},
            double_scale=tensors[f"{name}.weight_scale_2"],
        )  # fmt: skip
        # Its table has +0 for the code of -0.
        assert same_bits(module.weight.dense() + 0, theirs + 0), name
        given = module.weight.matrices[0].inputs
        assert given.cast.tensor_scale == tensors[f"{name}.input_scale"].float().item()


def test_modelopt_reads_ours(tmp_path: Path) -> None:
    qtensor = pytest.importorskip("modelopt.torch.quantization.qtensor")
    model = convert(llama(), "nvfp4-weights", "exact")
    decided = {
        name: layer.weight_cast.quantize(layer.weight.matrix.detach().numpy())
        for name, layer in simulated_layers(model).items()
    }
    save_checkpoint(model, tmp_path / "out", "modelopt")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    for name, operand in decided.items():
        raw = tensors[f"{name}.weight"]
        held = qtensor.NVFP4QTensor(torch.Size(operand.codes.shape), torch.float32, raw)
        theirs = held.dequantize(
            dtype=torch.float32, scale=tensors[f"{name}.weight_scale"], block_sizes={-1: 16},
            double_scale=tensors[f"{name}.weight_scale_2"],
        )  # fmt: skip
        assert np.allclose(theirs.numpy(), operand.dequantize(), rtol=2e-7, atol=0)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bitsandbytes(kind: str, nested: bool, tmp_path: Path) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    llama().save_pretrained(tmp_path / "float")
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=nested,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "float", quantization_config=config, dtype=torch.float32, device_map="cpu"
    )
    model.save_pretrained(tmp_path / "four")
    ours = weights(tmp_path / "four")
    for name, module in linears(model).items():
        theirs = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        assert same_bits(ours[name], theirs.float().reshape(ours[name].shape)), name
