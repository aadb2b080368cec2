# SPDX-License-Identifier: Apache-2.0
"""Transformers of many architectures with random weights, small enough for a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

#: What `tiny_llama` reads.
COUNTING = torch.arange(1, 41)[None]
ATTENTION = "mxfp4:quantize_attention=true"
TOKENS = torch.arange(3, 43)[None] % 97
COMMON: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
DECODER = COMMON | {
    "intermediate_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


class Letters:
    """A tokenizer of letters, by their codes modulo 97."""

    bos_token_id = None

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) % 97 for letter in text[:20_000]]}


def loaded(model: nn.Module) -> Any:
    """Return a model as `fpsim.bridge.measure.models.load` does, with a tokenizer of letters."""
    return type("Loaded", (), {"model": model, "tokenizer": Letters(), "name": "tiny"})()


def behind_a_name(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    """Let every name of a model stand for this one."""
    found = loaded(model)
    monkeypatch.setattr("fpsim.bridge.measure.models.load", lambda name, report=None: found)


def llama(**changes: Any) -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER | changes))


def gemma() -> nn.Module:
    config = transformers.Gemma2Config(**DECODER, head_dim=16, sliding_window=8)
    return transformers.Gemma2ForCausalLM(config)


def gemma3() -> nn.Module:
    config = transformers.Gemma3TextConfig(**DECODER, head_dim=16, sliding_window=8)
    return transformers.Gemma3ForCausalLM(config)


def qwen() -> nn.Module:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**DECODER, head_dim=16))


def opt() -> nn.Module:
    config = transformers.OPTConfig(
        **COMMON, ffn_dim=96, max_position_embeddings=64, word_embed_proj_dim=64, pad_token_id=0
    )
    return transformers.OPTForCausalLM(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=97, n_embd=64, n_layer=2, n_head=4, n_positions=64,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def bert() -> nn.Module:
    return transformers.BertModel(transformers.BertConfig(**COMMON, intermediate_size=96))


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        image_size=8, patch_size=2, num_channels=1, num_labels=10,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def gpt_oss() -> nn.Module:
    """Attention with sinks, in eager only."""
    config = transformers.GptOssConfig(
        **DECODER, head_dim=16, sliding_window=8, num_local_experts=2, num_experts_per_tok=1
    )
    return transformers.GptOssForCausalLM(config)


def t5() -> nn.Module:
    """Relative positions as a bias on the scores; cross attention in the decoder."""
    config = transformers.T5Config(
        vocab_size=97, d_model=64, d_kv=16, d_ff=96, num_layers=1, num_heads=4,
        relative_attention_num_buckets=8, relative_attention_max_distance=16, pad_token_id=0,
        decoder_start_token_id=0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def bloom() -> nn.Module:
    config = transformers.BloomConfig(vocab_size=97, hidden_size=64, n_layer=2, n_head=4)
    return transformers.BloomForCausalLM(config)


DECODERS = [llama, gemma, gemma3, qwen, opt, gpt2]
#: Linear layers and experts in the two layers of each model, besides output embeddings.
LAYERS = {
    llama: 14, gemma: 14, gemma3: 14, qwen: 14, opt: 12, gpt2: 8, gpt_oss: 16, bert: 13, vit: 13,
    t5: 16,
}  # fmt: skip


def attention_count(build: Callable[[], nn.Module]) -> int:
    return 3 if build is t5 else 2  # the decoder's cross attention is one more


def built(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():  # small initial weights would leave attention uniform
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model


@torch.no_grad()
def output(model: nn.Module, **inputs: torch.Tensor) -> torch.Tensor:
    if not inputs:
        torch.manual_seed(5)
        is_vit = hasattr(model, "vit")
        inputs = {"pixel_values": torch.randn(2, 1, 8, 8)} if is_vit else {"input_ids": TOKENS}
        if getattr(model.config, "is_encoder_decoder", False):
            inputs["decoder_input_ids"] = TOKENS
    found = model(**inputs)
    return found.logits if hasattr(found, "logits") else found.last_hidden_state


def tiny_llama(hidden: int = 64) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=hidden,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return transformers.LlamaForCausalLM(config).eval()
