# SPDX-License-Identifier: Apache-2.0
"""Attention is simulated or said not to be: in copies, when switched off, in ways of its own."""

from __future__ import annotations

import copy
import pickle

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from support.tiny_models import (  # noqa: E402
    ATTENTION,
    DECODER,
    TOKENS,
    bloom,
    built,
    llama,
    output,
)
from torch import nn  # noqa: E402

from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import calibrate, conversion_of, convert, get_recipe, restore  # noqa: E402
from fpsim.bridge.linear import attached  # noqa: E402
from fpsim.bridge.weights import weights_of  # noqa: E402

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("recipe", [ATTENTION, "amxfp4@4/4/4"])
def test_copies_are_converted_models_of_their_own(way: str, recipe: str) -> None:
    """They compute what the original computes, attention included, and are restored apart."""
    plain = built(llama)
    before = output(plain)
    model = convert(built(llama), recipe, "e2m1-chain-e5m10")
    wanted = output(model)
    twin = COPIES[way](model)
    assert torch.equal(output(twin), wanted)
    assert list(twin.state_dict()) == list(model.state_dict())
    record = conversion_of(twin)
    assert record.attention == ("model.layers.0.self_attn", "model.layers.1.self_attn")
    linears = list(weights_of(plain)[0])
    attention = convert(built(llama), recipe, "e2m1-chain-e5m10", skip=linears)
    alone = output(attention)
    assert torch.equal(output(COPIES[way](attention)), alone)
    assert not torch.equal(alone, before)
    restore(twin)
    assert torch.equal(output(twin), before)
    assert torch.equal(output(model), wanted)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(output(model), wanted)


def test_a_copy_of_the_model_casts_its_own_weights() -> None:
    """Codes belong to an address, which a copy may come to hold for other values."""
    model = convert(built(llama))
    output(model)
    layer = model.model.layers[0].mlp.up_proj
    assert attached(layer)._cached is not None
    assert attached(copy.deepcopy(layer))._cached is None


@pytest.mark.parametrize("name", ["sinks", "indices", "block_indices", "cache"])
@pytest.mark.parametrize("skip", [(), ("*.0.self_attn",)], ids=["converted", "left"])
def test_arguments_that_would_be_ignored_are_refused(name: str, skip: tuple[str, ...]) -> None:
    model = convert(built(llama), ATTENTION, skip=skip)
    layer = model.model.layers[0].self_attn
    called = "LlamaAttention" if skip else "model.layers.0.self_attn"
    x, angles = torch.randn(1, 5, 64), (torch.ones(1, 5, 16), torch.zeros(1, 5, 16))
    message = f"layer {called}: attention with {name} is not simulated; use .*amxfp4-linear.* skip="
    with pytest.raises(FpsimError, match=message):
        layer(x, angles, **{name: x})


def test_attention_that_is_switched_off_raises() -> None:
    model = convert(built(llama), ATTENTION)
    wanted = output(model)
    for other in ("sdpa", "eager"):
        model.set_attn_implementation(other)
        with pytest.raises(FpsimError, match=f"layer model.layers.0.self_attn: .*'{other}', not"):
            output(model)
    model.set_attn_implementation("fpsim")
    assert torch.equal(output(model), wanted)
    model.set_attn_implementation("sdpa")
    assert torch.equal(output(restore(model)), output(built(llama)))


def test_restoring_a_model_that_shares_its_config_does_not_leave_the_other_float() -> None:
    config = transformers.LlamaConfig(**DECODER)
    one, two = (transformers.LlamaForCausalLM(config).eval() for _ in range(2))
    convert(one, ATTENTION)
    convert(two, ATTENTION)
    restore(one)
    with pytest.raises(
        FpsimError, match="it is converted, but its attention was computed in float"
    ):
        output(two)


def test_a_model_without_the_attention_interface_is_refused_whole() -> None:
    """Nothing is half converted."""
    model = built(llama)
    before = output(model)
    model.set_attn_implementation = lambda *_: None
    with pytest.raises(FpsimError, match="LlamaForCausalLM does not use transformers' attention"):
        convert(model, ATTENTION)
    del model.set_attn_implementation
    assert torch.equal(output(model), before)
    assert conversion_of(convert(model, "mxfp4")).attention_left


BLOOM = ("transformer.h.0.self_attention", "transformer.h.1.self_attention")


def test_attention_of_a_models_own_is_refused_or_reported() -> None:
    """Bloom's layers multiply without asking transformers' interface."""
    model = built(bloom)
    message = (
        r"BloomAttention \(transformer.h.0.self_attention and 1 more\) does not use transformers' "
        "attention interface; use a recipe .* such as amxfp4-linear, or name these layers in skip="
    )
    with pytest.raises(FpsimError, match=message):
        convert(model, "amxfp4")
    searched = get_recipe("llm-fp4:quantize_attention=true")
    with pytest.raises(FpsimError, match=message):
        calibrate(model, [{"input_ids": TOKENS}], searched)
    for recipe, skip in (("amxfp4-linear", None), ("amxfp4", ("*.self_attention", "lm_head"))):
        convert(model, recipe, skip=skip)
        record = conversion_of(model)
        assert not record.attention
        assert record.attention_left == BLOOM
        assert len(record.replaced) == 8
        assert f"attention products left float: {', '.join(BLOOM)}" in str(record)
        assert torch.isfinite(output(model)).all()
        restore(model)


def test_attention_of_another_kind_beside_simulated_attention_is_reported() -> None:
    """The innermost layer is named, not those around it, its projections or its outputs."""
    model = nn.ModuleDict(
        {
            "text": built(llama),
            "encoder": nn.TransformerEncoderLayer(64, 4),
            "gptj": transformers.GPTJModel(
                transformers.GPTJConfig(
                    vocab_size=97, n_embd=64, n_layer=1, n_head=4, rotary_dim=8,
                    bos_token_id=1, eos_token_id=2,
                )
            ),
            "lxmert": transformers.models.lxmert.modeling_lxmert.LxmertSelfAttentionLayer(
                transformers.LxmertConfig(hidden_size=64, num_attention_heads=4)
            ),
        }
    )  # fmt: skip
    record = conversion_of(convert(model, ATTENTION))
    assert record.attention == ("text.model.layers.0.self_attn", "text.model.layers.1.self_attn")
    left = ("encoder.self_attn", "gptj.h.0.attn", "lxmert.self")
    assert record.attention_left == left
