# SPDX-License-Identifier: Apache-2.0
"""Whole models on a simulated unit: the same numbers as independent arithmetic, layer by layer."""

from __future__ import annotations

import copy
import hashlib
import pickle
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from support.fakequant import FakeQuantLinear, fake_quantize
from support.tiny_models import COUNTING as TOKENS
from support.tiny_models import tiny_llama
from torch import nn

import fpsim
from fpsim import oracle
from fpsim.base.errors import FpsimError, ModelUnavailable
from fpsim.bridge import calibrate, capture, conversion_of, convert, evaluate, get_recipe, restore
from fpsim.bridge.cast import BlockCast
from fpsim.bridge.linear import InputCasts, SimulatedLinear, simulated_layers
from fpsim.bridge.measure import models, text
from fpsim.bridge.measure.models import LoadedModel
from fpsim.bridge.weights import linear_weight

#: SHA-256 of the topics of CPython 3.11.7.
KNOWN_TOPICS = "2a95af4ac93f5b719944030ce3769070ddf827d847cba42192afa8da989e5dc4"


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    return model(input_ids=TOKENS, use_cache=False).logits


def linear(inside: int, outside: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(inside, outside, bias=bias)


@pytest.mark.parametrize("inside", [32, 64, 80, 7])
@pytest.mark.parametrize("bias", [False, True])
def test_exact_unit_equals_fake_quantization_to_the_last_bit(inside: int, bias: bool) -> None:
    """Sizes that do not divide into blocks of 32 count too."""
    original = linear(inside, 24, bias)
    layer = SimulatedLinear(
        linear_weight(original), get_recipe("mxfp4"), fpsim.get_unit("exact"), "layer"
    )
    x = torch.randn(3, 5, inside) * torch.exp2(torch.randint(-6, 6, (3, 5, 1)).float())
    assert torch.equal(layer(x), FakeQuantLinear(original)(x))


@pytest.mark.parametrize("recipe", ["mxfp4", "nvfp4-train", "gptq"])
def test_a_layer_with_an_input_of_a_wrong_width_is_named(recipe: str) -> None:
    model = tiny_llama()
    batches = [{"input_ids": TOKENS}]
    calibrated = {"calibration": calibrate(model, batches, recipe)} if recipe == "gptq" else {}
    convert(model, recipe, "exact", **calibrated)
    name, layer = next((n, m) for n, m in model.named_modules() if n.endswith("v_proj"))
    width = layer.in_features + 32
    with pytest.raises(FpsimError, match=rf"layer {name}: its input has shape \(16, {width}\)"):
        layer(torch.randn(16, width))


@pytest.mark.parametrize("unit", ["e2m1-chain-e5m10", "e2m1-chain-e4m3", "e2m1-fixed16q8-saturate"])
def test_layer_equals_the_oracle(unit: str) -> None:
    """Codes, scales, block size and orientation reach the unit as they should."""
    mac = fpsim.get_unit(unit)
    layer = SimulatedLinear(linear_weight(linear(48, 6, False)), get_recipe("mxfp4"), mac, "layer")
    x = torch.randn(4, 48)
    cast, weight = layer.cast_input(x), layer.operand()
    truth = oracle.dot(
        mac,
        cast.codes[:, None],
        weight.codes[None],
        a_scale=cast.scales.given[:, None],
        b_scale=weight.scales.given[None],
        block=32,
    )
    assert np.array_equal(layer(x).detach().numpy(), mac.result.decode(truth).astype(np.float32))


def test_stochastic_rounding_draws_other_bits_in_every_layer_and_pass() -> None:
    """They are those of `fpsim.RandomBits`; their mean comes nearer to the exact result."""
    unit = fpsim.get_unit("e2m1-chain-e4m3fn-sr8")
    recipe = get_recipe("mxfp4")
    x, weight = torch.randn(5, 64), linear_weight(linear(64, 8, bias=False))
    one, two, seeded = (
        SimulatedLinear(weight, recipe, unit, name, seed=seed)
        for name, seed in (("one", 0), ("two", 0), ("one", 1))
    )
    with torch.no_grad():
        passes = torch.stack([one(x) for _ in range(30)])
        truth = SimulatedLinear(weight, recipe, fpsim.get_unit("exact"), "one")(x)
        outputs = [passes[0], passes[1], two(x), seeded(x)]
    for i, first in enumerate(outputs):
        assert not any(torch.equal(first, other) for other in outputs[:i])
    assert (passes.mean(0) - truth).norm() < 0.4 * (passes[0] - truth).norm()
    a, b = one.cast_input(x), one.operand()
    random = fpsim.RandomBits(zlib.crc32(b"0/2/one")).integers(40, 64, 8).reshape(5, 8, 64)
    expected = oracle.dot(
        unit, a.codes[:, None], b.codes[None], a_scale=a.scales.given[:, None], b_scale=b.scales.given[None],
        random=random,
    )  # fmt: skip
    assert np.array_equal(unit.result.decode(expected), passes[1].numpy())


@torch.no_grad()
def test_layers_that_read_one_tensor_cast_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """q, k and v; gate and up; o; down: four casts a decoder layer, not seven."""
    model, ids = convert(tiny_llama(), "mxfp4", "exact"), torch.arange(20)[None]
    plain = copy.deepcopy(model)
    for layer in simulated_layers(plain).values():
        layer.casts = InputCasts()
    wanted = plain(ids).logits
    count = 0
    quantize = BlockCast.quantize

    def counted(cast: BlockCast, rows: Any) -> Any:
        nonlocal count
        count += 1
        return quantize(cast, rows)

    monkeypatch.setattr(BlockCast, "quantize", counted)
    assert torch.equal(model(ids).logits, wanted)
    assert count == 4 * len(model.model.layers)


def test_a_shared_cast_sees_changes_in_place_and_other_casts() -> None:
    casts, x = InputCasts(), torch.randn(3, 32)
    mx, nv = (get_recipe(name).activation("layer") for name in ("mxfp4", "nvfp4"))
    first = casts.operand(x, mx)
    assert casts.operand(x, mx) is first
    # Each of these comes right after a cast of the same tensor that must not serve.
    assert casts.operand(x, nv).format == nv.element and casts.operand(x, nv).block == 16
    assert casts.operand(x, mx) is not first
    x *= -1
    negative = casts.operand(x, mx).codes
    assert np.array_equal(negative & 7, first.codes & 7)
    assert not np.array_equal(negative, first.codes)
    assert np.array_equal(casts.operand(-x, mx).codes, first.codes)
    with torch.inference_mode():
        y = torch.randn(3, 32)
        before = casts.operand(y, mx).codes.copy()
        y *= -1
        assert not np.array_equal(casts.operand(y, mx).codes, before)
    assert pickle.loads(pickle.dumps(casts))._last is None


def test_convert_replaces_all_but_the_lm_head_and_restores() -> None:
    model = tiny_llama()
    before = logits(model)
    assert convert(model, "mxfp4", "e2m1-chain-e5m10") is model
    record = conversion_of(model)
    assert len(record.replaced) == 14
    assert record.left == {"lm_head": "by pattern"}
    assert list(simulated_layers(model)) == list(record.replaced)
    assert not torch.equal(logits(model), before)
    restore(model)
    assert torch.equal(logits(model), before)
    with pytest.raises(FpsimError, match="not converted"):
        conversion_of(model)


def test_whole_model_equals_fake_quantization() -> None:
    model = tiny_llama()
    wanted = logits(fake_quantize(copy.deepcopy(model)))
    assert torch.equal(logits(convert(model, "mxfp4", "exact")), wanted)


def test_skip_patterns() -> None:
    model = convert(tiny_llama(), "mxfp4", "exact", skip=("lm_head", "*.mlp.*"))
    assert len(conversion_of(model).replaced) == 8
    assert len(conversion_of(model).left) == 7


def test_weights_only_recipe_casts_weights_and_nothing_else() -> None:
    original = linear(64, 8)
    layer = SimulatedLinear(
        linear_weight(original), get_recipe("mxfp4-weights"), fpsim.get_unit("exact"), "layer"
    )
    x = torch.randn(2, 64)
    weight = FakeQuantLinear(original).weight.float()
    assert torch.equal(layer(x), nn.functional.linear(x, weight) + original.bias)


def test_hidden_size_without_whole_blocks() -> None:
    model = tiny_llama(hidden=40)
    wanted = logits(fake_quantize(copy.deepcopy(model)))
    assert torch.equal(logits(convert(model, "mxfp4", "exact")), wanted)


def test_state_dict_loads_into_another_conversion() -> None:
    model, other = convert(tiny_llama()), tiny_llama()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    convert(other).load_state_dict(model.state_dict())
    assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize(
    ("recipe", "unit", "message"),
    [
        ("mxfp5", "exact", "recipe: 'mxfp5' is not one of .*mxfp4"),
        ("mxfp4-flor", "exact", "recipe: 'mxfp4-flor'"),
        ("mxfp4", "e2m1-chian-e5m10", "unit: .*'chian' is no stage; .*did you mean 'chain'"),
        ("mxfp4@4/5/4", "exact", "bits.weight: 5 is not one of 4, 6, 8, 16"),
        ("nvfp4@16/8/8", "exact", "bits: nvfp4 has 4 bits, not 8; allowed: 4, 16"),
        ("mxfp4@444", "exact", "bits: '444' is not E/W/A"),
        ("rtn:blok=32", "exact", "option: 'blok' is not one of .*did you mean 'block'"),
        (
            "nvfp4",
            "mxfp4-block32-e8m23",
            r"layer model.layers.0.self_attn.q_proj: a_scale: one "
            "scale per 16 elements, but .* sums blocks of 32; a multiple is needed",
        ),
        (None, "exact", "recipe: None is neither a name, such as 'mxfp4', nor a Recipe"),
        ("mxfp4", None, "unit: None is not a name or a path"),
        ("rtn:block=all", "exact", "block: 'all' is not one of tensor, token"),
        ("rtn:block=32,scale=real", "exact", "scale: 'real' per block; units .* at most 16 bits"),
        ("rtn:block", "exact", "'block' in 'rtn:block' is not option=value"),
        ("int4:integer=maybe", "exact", "integer: 'maybe' is not a value of type bool"),
    ],
)
def test_convert_refuses(recipe: str | None, unit: str | None, message: str) -> None:
    model = tiny_llama()
    before = logits(model)
    with pytest.raises(FpsimError, match=message):
        convert(model, recipe, unit)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("model", ["smollm2-135m", None, nn.Linear])
def test_convert_and_calibrate_refuse_what_is_no_module(model: Any) -> None:
    wanted = r"model: .* is not a torch module; load it first, such as fpsim.bridge.measure.models.load\("
    with pytest.raises(FpsimError, match=wanted):
        convert(model)
    with pytest.raises(FpsimError, match=wanted):
        calibrate(model, [{"input_ids": TOKENS}])


def test_patterns_are_a_list() -> None:
    """The characters of a string would be patterns that leave nothing, or everything, out."""
    with pytest.raises(FpsimError, match=r"skip: 'lm_head' is one pattern; give a list"):
        convert(tiny_llama(), skip="lm_head")
    with pytest.raises(FpsimError, match=r"only: '\*proj' is one pattern; give a list"):
        convert(tiny_llama(), only="*proj")


def test_convert_refuses_twice_and_models_without_linears() -> None:
    model = convert(tiny_llama())
    with pytest.raises(FpsimError, match="converted already"):
        convert(model)
    with pytest.raises(FpsimError, match="no linear layer"):
        convert(nn.Sequential(nn.ReLU()))


def test_nan_names_the_layer() -> None:
    model = tiny_llama()
    layer = "model.layers.1.mlp.up_proj"
    with torch.no_grad():
        model.get_submodule(layer).weight[3, 5] = float("nan")
    with pytest.raises(FpsimError, match=f"layer {layer}: weight: .*NaN"):
        convert(model)
    model = convert(tiny_llama())
    with torch.no_grad():
        model.model.embed_tokens.weight[2] = float("inf")
    with pytest.raises(
        FpsimError,
        match=r"layer model.layers.0.self_attn.q_proj: forward pass 1: activation: .*NaN",
    ):
        logits(model)


def test_capture_takes_whole_rows_of_every_layer() -> None:
    model = tiny_llama()
    tensors = capture(model, TOKENS[0].numpy(), limit=1 << 14)
    weight = model.model.layers[0].self_attn.q_proj.weight.detach().numpy()
    assert np.array_equal(tensors["weights"][0][:64], weight[0])
    for arrays in tensors.values():
        assert len(arrays) == 14
        assert 0 < sum(v.size for v in arrays) <= 1 << 14
        assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in arrays)


# -- the real model ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm2() -> LoadedModel:
    try:
        return models.load("smollm2-135m")
    except ModelUnavailable as error:
        pytest.skip(f"SmolLM2 cannot be had: {error}")


@pytest.fixture(scope="module")
def window(smollm2: LoadedModel) -> np.ndarray:
    tokens = text.tokenize(smollm2.tokenizer, text.topics_text())
    return text.windows(tokens, count=1, length=128)


@pytest.mark.sweep
@pytest.mark.model
def test_simulated_smollm2_equals_fake_quantization(
    smollm2: LoadedModel, window: np.ndarray
) -> None:
    """Every layer, every bit: with an exact accumulator the whole model gives the same logits.

    Perplexity at W4A4 is chaotic in the float32 arithmetic around the linear layers (47.8 to 51
    over attention kernels and instruction sets), so the comparison is within one process.
    """
    tokens = torch.as_tensor(window)
    with torch.no_grad():
        wanted = fake_quantize(copy.deepcopy(smollm2.model))(input_ids=tokens).logits
        convert(smollm2.model, "mxfp4", "exact")
        try:
            simulated = smollm2.model(input_ids=tokens).logits
        finally:
            restore(smollm2.model)
    assert torch.equal(simulated, wanted)


@pytest.mark.sweep
@pytest.mark.model
def test_float32_chain_is_close_to_exact_and_e5m10_is_not(
    smollm2: LoadedModel, window: np.ndarray
) -> None:
    """The accumulator's width is what is measured: a wide one hardly matters, E4M3 destroys."""
    wide = evaluate(smollm2, window, "mxfp4", "e2m1-chain-e8m23").result.perplexity
    exact = evaluate(smollm2, window, "mxfp4", "exact").result.perplexity
    narrow = evaluate(smollm2, window, "mxfp4", "e2m1-chain-e4m3fn").result.perplexity
    assert wide == pytest.approx(exact, rel=0.1)
    assert narrow > 5 * exact


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "perplexity", "tolerance"),
    [(None, 11.828, 1e-3), ("mxfp4-weights", 19.528, 1e-3), ("mxfp4", 49.5, 0.06)],
)
def test_check_figures(
    smollm2: LoadedModel, recipe: str | None, perplexity: float, tolerance: float
) -> None:
    """Four windows of 512 tokens; figures of an independent float computation on the same text."""
    digest = hashlib.sha256(text.topics_text().encode()).hexdigest()
    if digest != KNOWN_TOPICS:
        pytest.skip("the figures belong to the topics of CPython 3.11.7")
    tokens = text.tokenize(smollm2.tokenizer, text.topics_text())
    result = evaluate(smollm2, text.windows(tokens), recipe, "exact").result
    assert result.perplexity == pytest.approx(perplexity, rel=tolerance)
