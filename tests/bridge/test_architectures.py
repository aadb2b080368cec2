# SPDX-License-Identifier: Apache-2.0
"""Architectures of transformers, with random weights: linears, Conv1D and attention's products."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from support.fakequant import mxfp4  # noqa: E402
from support.tiny_models import (  # noqa: E402
    ATTENTION,
    DECODER,
    DECODERS,
    LAYERS,
    TOKENS,
    attention_count,
    built,
    gemma,
    llama,
    output,
    vit,
)
from torch import nn  # noqa: E402

from fpsim import get_unit  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import conversion_of, convert, get_recipe, restore  # noqa: E402
from fpsim.bridge.attention import SimulatedAttention  # noqa: E402
from fpsim.bridge.weights import weights_of  # noqa: E402


@pytest.mark.parametrize("build", LAYERS, ids=lambda f: f.__name__)
def test_every_architecture_converts_and_comes_back(build: Callable[[], nn.Module]) -> None:
    model = built(build)
    before = output(model)
    convert(model, ATTENTION, "exact")
    record = conversion_of(model)
    assert len(record.replaced) == LAYERS[build]
    assert len(record.attention) == attention_count(build)
    assert not record.attention_left
    assert all(name.endswith("lm_head") for name in record.left)
    after = output(model)
    assert torch.isfinite(after).all()
    assert not torch.equal(after, before)
    assert "linear layers" in str(record)
    restore(model)
    assert torch.equal(output(model), before)


@pytest.mark.parametrize("build", LAYERS, ids=lambda f: f.__name__)
def test_attention_without_casts_is_the_models_own(
    build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads, groups, masks, scaling, soft caps, sinks, position biases are as in eager attention."""
    model = built(build)
    model.set_attn_implementation("eager")
    before = output(model)
    products = []

    def product(self: SimulatedAttention, x: Any, w: Any, names: tuple[str, str]) -> Any:
        products.append(names)
        return x @ w.transpose(1, 2)

    monkeypatch.setattr(SimulatedAttention, "_product", product)
    linears = list(weights_of(model)[0])
    convert(model, ATTENTION, skip=linears)
    assert not conversion_of(model).replaced
    torch.testing.assert_close(output(model), before, rtol=2e-5, atol=2e-5)
    assert products == [("query", "key"), ("probability", "value")] * attention_count(build)


def test_attention_products_equal_fake_quantization() -> None:
    """Grouped heads, a causal mask: S and P V from cast operands, float64 sums."""
    torch.manual_seed(2)
    casts = get_recipe(ATTENTION).attention("layer")
    simulated = SimulatedAttention(casts, get_unit("exact"), "layer")
    query, key, value = (
        torch.randn(2, 4, 40, 16),
        torch.randn(2, 2, 40, 16),
        torch.randn(2, 2, 40, 16),
    )
    mask = torch.full((40, 40), torch.finfo(torch.float32).min).triu(1)[None, None]
    out, probability = simulated(nn.Module().eval(), query, key, value, mask, 0.25, 0.0, None)
    wide_key, wide_value = (x.repeat_interleave(2, 1) for x in (key, value))
    scores = (mxfp4(query) @ mxfp4(wide_key).transpose(2, 3)).float() * 0.25 + mask
    wanted = scores.softmax(-1)
    assert torch.equal(probability, wanted)
    cast_value = mxfp4(wide_value.transpose(2, 3))  # blocks along the tokens
    truth = (mxfp4(wanted) @ cast_value.transpose(2, 3)).float().transpose(1, 2)
    assert torch.equal(out, truth)


def generated(model: nn.Module, use_cache: bool) -> torch.Tensor:
    prompt = TOKENS[:, :30]
    return model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        use_cache=use_cache,
        max_new_tokens=6,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
    )


@pytest.mark.parametrize("build", DECODERS, ids=lambda f: f.__name__)
def test_generation_with_a_cache(build: Callable[[], nn.Module]) -> None:
    model = convert(built(build), ATTENTION, "e2m1-chain-e5m10")
    tokens = generated(model, use_cache=True)
    assert tokens.shape == (1, 36)
    assert torch.equal(tokens, generated(model, use_cache=True))


def test_decoding_in_one_layer_equals_passes_over_the_prefix() -> None:
    """The open block of V is cast afresh at each step, here from 30 tokens past 32 to 36.

    With more layers it is not so: in a full pass, earlier rows see the scales of later tokens.
    """
    model = convert(built(lambda: llama(num_hidden_layers=1)), ATTENTION)
    assert torch.equal(generated(model, use_cache=True), generated(model, use_cache=False))


def test_a_batch_with_padding_ignores_what_is_padded() -> None:
    """Hidden keys count as zeros: what stands there does not matter."""
    model = convert(built(llama), ATTENTION)
    ids = torch.cat([TOKENS[:, :20], TOKENS[:, 20:]])
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    first = output(model, input_ids=ids, attention_mask=mask, position_ids=positions)
    ids[0, :7] = 90
    second = output(model, input_ids=ids, attention_mask=mask, position_ids=positions)
    assert torch.equal(first[0, 7:], second[0, 7:])
    assert torch.equal(first[1], second[1])


def test_patterns_choose_layers_of_every_kind() -> None:
    model = convert(built(llama), "mxfp4@4/4/4:quantize_attention=true", skip=("*.1.*", "*embed*"))
    record = conversion_of(model)
    assert record.attention == ("model.layers.0.self_attn",)
    assert record.attention_left == ("model.layers.1.self_attn",)
    assert "lm_head" in record.replaced  # the default patterns were replaced
    assert not record.embeddings
    assert record.stays_float["model.embed_tokens"] == "Embedding"
    assert torch.isfinite(output(model)).all()


def test_token_embeddings_are_cast_where_the_bits_say_so() -> None:
    plain = built(gemma)  # its embedding also multiplies
    with torch.no_grad():
        plain.model.embed_tokens.weight[0] = 1.0  # the padding token's row is zero
    model = convert(copy.deepcopy(plain), "rtn@4/16/16", only=("*embed_tokens", "*q_proj"))
    assert conversion_of(model).embeddings == ("model.embed_tokens",)
    table = plain.model.embed_tokens.weight.detach().double()
    scale = (table.abs().amax(1, keepdim=True) / 6).float().double()
    found = model.model.embed_tokens(torch.arange(97)) / math.sqrt(64)
    ratio = (found.double() / scale).abs()
    grid = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6]).double()
    assert float((ratio.detach()[..., None] - grid).abs().amin(-1).max()) < 1e-5
    assert torch.equal(output(restore(model)), output(plain))


def test_two_models_that_share_a_config_do_not_share_a_conversion() -> None:
    config = transformers.LlamaConfig(**DECODER)
    torch.manual_seed(0)
    one, two = (transformers.LlamaForCausalLM(config).eval() for _ in range(2))
    before = output(two)
    convert(one, ATTENTION)
    torch.testing.assert_close(output(two), before)


def test_fine_tuning_reaches_every_weight() -> None:
    model = convert(built(llama), ATTENTION)
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert float(parameter.grad.abs().max()) > 0, name


def test_nan_in_attention_names_layer_pass_and_operand() -> None:
    model = convert(built(llama), ATTENTION, only=("model.layers.1.self_attn",))
    output(model)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] = torch.nan
    with pytest.raises(FpsimError, match=r"layer model.layers.1.self_attn.*: forward pass 2: "):
        output(model)


def test_save_pretrained_round_trip(tmp_path: Any) -> None:
    """A converted model saves as the ordinary model it stands for."""
    model = convert(built(llama), ATTENTION)
    wanted = output(model)
    model.save_pretrained(tmp_path)
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(output(convert(loaded, ATTENTION)), wanted)


def test_pipelines_take_the_model() -> None:
    model = convert(built(vit), ATTENTION)
    processor = transformers.ViTImageProcessor(
        size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5], do_rescale=False
    )
    pixels = processor(torch.rand(1, 8, 8), return_tensors="pt", input_data_format="channels_first")
    assert model(**pixels).logits.shape == (1, 10)


def test_values_cast_along_the_head_instead_of_the_sequence() -> None:
    """The reference's kv_tokenwise: scales then change from one product to the next."""
    torch.manual_seed(2)
    casts = get_recipe(f"{ATTENTION},value_axis=token").attention("layer")
    simulated = SimulatedAttention(casts, get_unit("exact"), "layer")
    query, key, value = (torch.randn(1, 2, 40, 16) for _ in range(3))
    out, probability = simulated(nn.Module().eval(), query, key, value, None, 0.25, 0.0, None)
    truth = (mxfp4(probability) @ mxfp4(value)).float().transpose(1, 2)
    assert torch.equal(out, truth)
