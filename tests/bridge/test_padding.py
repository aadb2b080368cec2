# SPDX-License-Identifier: Apache-2.0
"""Padded positions, layers that run twice, masks of every kind, and where blocks of V begin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from torch import nn  # noqa: E402

from fpsim import get_unit  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import calibrate, convert, get_recipe, restore  # noqa: E402
from fpsim.bridge.attention import SimulatedAttention  # noqa: E402
from fpsim.bridge.layer_inputs import captured_inputs, without_padding  # noqa: E402
from fpsim.bridge.llmfp4.calibrate import _gradients  # noqa: E402
from fpsim.bridge.weights import weights_of  # noqa: E402

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip


def drawn(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    return model.eval()


def llama() -> nn.Module:
    return drawn(transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)))


def mistral() -> nn.Module:
    config = transformers.MistralConfig(**SIZES, sliding_window=40, head_dim=16)
    return drawn(transformers.MistralForCausalLM(config))


def ids(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


def padded(filler: int, left: bool) -> dict[str, torch.Tensor]:
    """Two sequences of 12 and 7 tokens in one batch."""
    tokens, mask = ids(2, 12), torch.ones(2, 12, dtype=torch.long)
    hidden = slice(0, 5) if left else slice(7, 12)
    mask[1, hidden] = 0
    tokens[1, hidden] = filler
    return {"input_ids": tokens, "attention_mask": mask}


# -- calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [False, True])
def test_sequences_are_cut_to_what_the_mask_lets_through(left: bool) -> None:
    batch = padded(3, left)
    whole, short = without_padding([batch])
    assert torch.equal(whole["input_ids"], batch["input_ids"][:1])
    assert torch.equal(
        short["input_ids"], batch["input_ids"][1:, 5:] if left else batch["input_ids"][1:, :7]
    )
    assert bool(short["attention_mask"].all())
    plain = [{"input_ids": ids(2, 5)}, {"x": torch.randn(3, 4)}]
    assert without_padding(plain) == plain
    holes = batch["attention_mask"].clone()
    holes[0, 3] = 0
    with pytest.raises(FpsimError, match="without holes"):
        without_padding([batch | {"attention_mask": holes}])


def test_a_decoders_mask_is_its_own() -> None:
    batch = {
        "input_ids": ids(2, 4), "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]),
        "decoder_input_ids": ids(2, 4, 2),
        "decoder_attention_mask": torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]),
    }  # fmt: skip
    first, second = without_padding([batch])
    assert first["input_ids"].shape == (1, 2) and first["decoder_input_ids"].shape == (1, 4)
    assert second["input_ids"].shape == (1, 4) and second["decoder_input_ids"].shape == (1, 1)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("left", [False, True])
def test_what_stands_under_a_zero_mask_changes_no_calibration(left: bool) -> None:
    found = [
        calibrate(
            llama(), [padded(filler, left)], "llm-fp4:rounds=1", tokens=64, only=["*.0.mlp.*"]
        )
        for filler in (3, 90)
    ]
    assert found[0].about == found[1].about
    for name, layer in found[0].layers.items():
        other = found[1].layers[name]
        assert (layer.rho, layer.weight_format) == (other.rho, other.weight_format)
        assert np.array_equal(layer.weight_bias, other.weight_bias)
    smooth = [
        convert(llama(), "int4", transforms="smoothquant", batches=[padded(filler, left)])
        for filler in (3, 90)
    ]
    with torch.no_grad():
        one, two = (model(input_ids=ids(1, 9)).logits for model in smooth)
    assert torch.equal(one, two)


def test_channel_maxima_are_those_of_all_rows() -> None:
    """Not only of the rows that are kept (equation 14)."""
    model = llama()
    weights = {"model.layers.0.mlp.down_proj": weights_of(model)[0]["model.layers.0.mlp.down_proj"]}
    batches = [{"input_ids": ids(4, 30)}]
    some, every = (captured_inputs(model, weights, batches, n) for n in (8, 1000))
    (some,), (every,) = some.values(), every.values()
    assert some.rows().shape[0] < 10 and every.rows().shape[0] == 120
    assert np.array_equal(some.maxima, np.abs(every.rows()).max(0))
    assert (np.abs(some.rows()).max(0) < some.maxima).mean() > 0.5
    found = calibrate(
        model, batches, "llm-fp4:rounds=1,grid=corrected", tokens=8, only=list(weights)
    )
    shifts = next(iter(found.layers.values())).shifts
    assert shifts.max() > 0


def test_importance_of_a_layer_that_runs_twice_is_in_the_inputs_order() -> None:
    """ALBERT's layers share weights; each call has gradients of its own."""
    config = transformers.AlbertConfig(
        vocab_size=97, embedding_size=32, hidden_size=64, num_hidden_layers=3, num_hidden_groups=1,
        num_attention_heads=4, intermediate_size=96, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = drawn(transformers.AlbertModel(config))
    weights = weights_of(model)[0]
    name = next(name for name in weights if name.endswith("ffn"))
    batch = {"input_ids": ids(1, 6)}
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(_: Any, args: Any, out: torch.Tensor) -> None:
        out.retain_grad()
        calls.append((args[0].detach(), out))

    handle = weights[name].module.register_forward_hook(keep)
    (model(**batch).last_hidden_state.square().sum() / 2).backward()
    handle.remove()
    model.zero_grad(set_to_none=True)
    layers = {name: weights[name]}
    rows = captured_inputs(model, layers, [batch], 1000)[name].rows()
    importance = _gradients(model, layers, [batch], 1000, None)[name]
    assert len(calls) == 3 and rows.shape[0] == importance.shape[0] == 18
    assert np.array_equal(rows, torch.cat([x for x, _ in calls], 1)[0].numpy())
    squares = torch.cat([out.grad for _, out in calls], 1)[0].double().square()
    np.testing.assert_allclose(importance, (squares / squares.mean()).numpy(), rtol=1e-4)


@pytest.mark.sweep
@pytest.mark.parametrize("recipe", ["llm-fp4:order=paper", "llm-fp4-baseline:order=paper"])
def test_the_papers_order_of_the_search(recipe: str) -> None:
    """Inputs before weights: another outcome, and one that its own recipe takes only."""
    batches = [{"input_ids": ids(2, 20)}]
    only = ["*.0.mlp.*"]
    found, code = (
        calibrate(llama(), batches, name, tokens=64, only=only)
        for name in (recipe, recipe.partition(":")[0])
    )
    assert found.about["order"] == "paper" and "order" not in code.about
    assert any(found.layers[n].rho != layer.rho for n, layer in code.layers.items())
    with pytest.raises(FpsimError, match="made with order None"):
        convert(llama(), recipe, calibration=code, only=only)


def test_the_papers_settings_for_encoders() -> None:
    recipe = get_recipe("llm-fp4-encoder")
    assert recipe.objective == "fisher" and recipe.quantize_attention


# -- masks ---------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_bool_mask_of_four_dimensions_is_the_float_one() -> None:
    model = convert(llama(), "mxfp4:quantize_attention=true")
    tokens = ids(2, 9)
    allowed = torch.ones(9, 9, dtype=torch.bool).tril()[None, None].repeat(2, 1, 1, 1)
    allowed[1, :, :, :3] = False
    allowed[1, :, :3, 0] = True  # no row without any key
    added = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    wanted = model(input_ids=tokens, attention_mask=added).logits
    assert torch.equal(model(input_ids=tokens, attention_mask=allowed).logits, wanted)
    assert not torch.equal(model(input_ids=tokens).logits, wanted)
    with pytest.raises(FpsimError, match=r"a mask of 4 dimensions is bool or floating point, not"):
        model(input_ids=tokens, attention_mask=allowed.long())


# -- blocks along the sequence -------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("first", [0, 5, 32, 45, -3])
def test_blocks_of_v_begin_at_tokens_that_their_size_divides(first: int) -> None:
    """Keys from ``first`` on give what all keys give with those before them hidden, and cast as 0."""
    torch.manual_seed(1)
    layer = SimulatedAttention(get_recipe("amxfp4").attention(""), get_unit("exact"), "layer")
    module = nn.Module().eval()
    query, key, value = (
        torch.randn(2, 4, 3, 16),
        torch.randn(2, 2, 50, 16),
        torch.randn(2, 2, 50, 16),
    )
    before = first % 64
    keys, values = (torch.cat([torch.randn(2, 2, before, 16), x], 2) for x in (key, value))
    mask = torch.zeros(1, 1, 3, 50 + before)
    mask[..., :before] = torch.finfo(torch.float32).min
    wanted, _ = layer(module, query, keys, values, mask, 0.25, 0.0, None)
    given = np.full(2, first, np.int64)
    out, _ = layer(module, query, key, value, mask[..., before:], 0.25, 0.0, None, first=given)
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)  # softmax sums in any order
    plain, _ = layer(module, query, key, value, mask[..., before:], 0.25, 0.0, None)
    assert torch.equal(plain, out) == (first % 32 == 0)


@pytest.mark.sweep
@torch.no_grad()
def test_a_sliding_cache_gives_what_a_full_cache_gives() -> None:
    model = convert(mistral(), "amxfp4")
    tokens = ids(1, 60)
    sliding = transformers.DynamicCache(config=model.config)
    full = transformers.DynamicCache()
    lengths = set()
    for t in range(60):
        outputs = [
            model(input_ids=tokens[:, t : t + 1], past_key_values=cache, use_cache=True).logits
            for cache in (sliding, full)
        ]
        lengths.add(sliding.layers[0].keys.shape[2])
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    assert max(lengths) < 60  # the window did slide


@torch.no_grad()
@pytest.mark.parametrize("given", [False, True])
def test_padding_before_a_sequence_shifts_no_block(given: bool) -> None:
    """With position ids, as `generate` gives them, or without: they are counted from the mask."""
    model = convert(llama(), "amxfp4")
    tokens = ids(1, 50)
    alone = model(input_ids=tokens, use_cache=False).logits
    mask = torch.ones(2, 57, dtype=torch.long)
    mask[1, :7] = 0
    batch = torch.cat([ids(1, 57, 2), torch.cat([ids(1, 7, 3), tokens], 1)])
    more = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if given else {}
    out = model(input_ids=batch, attention_mask=mask, use_cache=False, **more).logits[1:, 7:]
    # Last bits of rotary angles and softmax differ, which may move a code or two.
    assert (out - alone).abs().mean() < 0.02 * alone.abs().mean()
    cached = model(input_ids=batch[:, :56], attention_mask=mask[:, :56], use_cache=True)
    last = model(
        input_ids=batch[:, 56:], attention_mask=mask, past_key_values=cached.past_key_values
    )
    step = model(input_ids=tokens[:, :49], use_cache=True)
    wanted = model(input_ids=tokens[:, 49:], past_key_values=step.past_key_values).logits
    assert (last.logits[1:] - wanted).abs().mean() < 0.02 * wanted.abs().mean()
    assert not restore(model)._forward_pre_hooks
