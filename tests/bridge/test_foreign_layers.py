# SPDX-License-Identifier: Apache-2.0
"""Layers that are not plain: subclasses, hooks, parametrizations, shared, offloaded, compiled."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from support.fakequant import FakeQuantLinear  # noqa: E402
from torch import nn  # noqa: E402

from fpsim import get_unit  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import conversion_of, convert, get_recipe, restore  # noqa: E402
from fpsim.bridge.linear import SimulatedLinear, simulated_layers  # noqa: E402
from fpsim.bridge.weights import linear_weight  # noqa: E402


class Tripled(nn.Linear):
    """A linear layer that computes something else."""

    def forward(self, x: Any) -> Any:
        return 3 * super().forward(x)


class Router(nn.Linear):
    """A linear layer that returns three values."""

    def forward(self, x: Any) -> Any:
        scores = super().forward(x)
        return scores, scores.softmax(-1), scores.argmax(-1)


class Named(nn.Linear):
    """A linear layer under another name only."""


def seeded(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module.eval()


X = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))


def simulated(linear: nn.Linear, x: torch.Tensor = X) -> torch.Tensor:
    """What an independent fake quantization gives for a plain layer."""
    return FakeQuantLinear(linear)(x)


@torch.no_grad()
def test_subclasses_with_arithmetic_of_their_own_stay_and_are_named() -> None:
    model = seeded(nn.Sequential(Named(64, 64), Tripled(64, 64), Router(64, 4)))
    wanted = [model[1](X), model[2](X)]
    convert(model, "mxfp4")
    record = conversion_of(model)
    assert record.replaced == ("0",)
    assert record.left == {
        "1": "Tripled computes in a way of its own", "2": "Router computes in a way of its own",
    }  # fmt: skip
    assert "1, 2" not in str(record) and "Tripled" in str(record) and "Router" in str(record)
    assert torch.equal(model[0](X), simulated(model[0]))
    assert torch.equal(model[1](X), wanted[0])
    assert all(torch.equal(a, b) for a, b in zip(model[2](X), wanted[1], strict=True))
    restore(model)
    with pytest.raises(FpsimError, match="layer 1 cannot be: Tripled computes in a way of its own"):
        convert(model, "mxfp4", only=["1"])


@torch.no_grad()
def test_a_forward_replaced_on_the_object_stays() -> None:
    model = seeded(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8)))
    plain = model[1].forward
    model[1].forward = lambda x: plain(x) + 1
    wanted = model[1](X)
    convert(model, "mxfp4")
    assert conversion_of(model).left == {"1": "something else has replaced its forward"}
    assert torch.equal(model[1](X), wanted)
    restore(model)
    assert torch.equal(model[1](X), wanted)


@torch.no_grad()
def test_hooks_live_on() -> None:
    model = seeded(nn.Sequential(nn.Linear(64, 64)))
    model[0].register_forward_hook(lambda _, __, out: 2 * out)
    model[0].register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    convert(model, "mxfp4")
    assert torch.equal(model(X), 2 * simulated(model[0], X + 1))


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_parametrizations_live_on_and_train(norm: Any) -> None:
    model = seeded(nn.Sequential(norm(nn.Linear(64, 16))))
    keys = list(model.state_dict())
    convert(model, "mxfp4")
    assert list(model.state_dict()) == keys
    assert torch.equal(model(X), simulated(model[0]))
    model(X).square().sum().backward()
    parameters = dict(model.named_parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters.values())
    with torch.no_grad():  # the weight that they make changes with them
        for parameter in parameters.values():
            parameter.mul_(torch.linspace(0.5, 2.0, parameter.numel()).reshape(parameter.shape))
        out = model(X)
        assert torch.equal(out, simulated(model[0]))


@torch.no_grad()
def test_adapters_live_on() -> None:
    """A LoRA layer, as adapters' libraries build them: a base layer and two small ones beside."""

    class Lora(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = nn.Linear(64, 32)
            self.lora_a, self.lora_b = nn.Linear(64, 4, bias=False), nn.Linear(4, 32, bias=False)

        def forward(self, x: Any) -> Any:
            return self.base_layer(x) + 0.5 * self.lora_b(self.lora_a(x))

    model = seeded(nn.Sequential(Lora()))
    convert(model, "mxfp4", skip=["*.lora_*"])
    layer = model[0]
    beside = 0.5 * layer.lora_b(layer.lora_a(X))
    assert torch.equal(model(X), simulated(layer.base_layer) + beside)


@torch.no_grad()
def test_one_linear_under_two_names() -> None:
    first = nn.Linear(64, 64)
    model = seeded(nn.Sequential(first, nn.Sequential(first), nn.Linear(64, 64)))
    convert(model, "mxfp4")
    record = conversion_of(model)
    assert record.replaced == ("0", "2") and record.aliases == {"1.0": "0"}
    assert "1.0" in str(record)
    middle = simulated(first, simulated(first))
    assert torch.equal(model(X), simulated(model[2], middle))
    restore(model)
    convert(model, "mxfp4", skip=["1.*"])
    assert conversion_of(model).left == {"0": "by pattern"}


@pytest.mark.parametrize("grad", [False, True])
def test_torchs_fused_encoder_layer_steps_aside(grad: bool) -> None:
    layer = nn.TransformerEncoderLayer(64, 4, 96, batch_first=True)
    model = seeded(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False))
    x = torch.randn(2, 7, 64)
    with torch.no_grad():
        before = model(x)
    convert(model, "mxfp4")
    record = conversion_of(model)
    assert record.replaced == ("layers.0.linear1", "layers.0.linear2")
    assert record.left == {
        "layers.0.self_attn.out_proj": "MultiheadAttention reads its weight and never calls it"
    }
    with torch.set_grad_enabled(grad):
        out = model(x)
    assert all(layer.passes == 1 for layer in simulated_layers(model).values())
    assert not torch.allclose(out, before, atol=1e-4)
    with torch.set_grad_enabled(not grad):
        torch.testing.assert_close(model(x), out, rtol=1e-5, atol=1e-5)
    restore(model)
    with torch.no_grad():
        assert torch.equal(model(x), before)


@torch.no_grad()
def test_a_module_that_reads_its_layers_weight_is_refused_when_it_runs() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj, self.out = nn.Linear(64, 64), nn.Linear(64, 8)

        def forward(self, x: Any) -> Any:
            return self.out(nn.functional.linear(x, self.proj.weight))

    model = convert(seeded(nn.Sequential(Reads())), "mxfp4")
    with pytest.raises(FpsimError, match=r"layer 0.proj: it is converted, but Reads ran without"):
        model(X)
    restore(model)
    convert(model, "mxfp4", skip=["*.proj"])
    assert model(X).shape == (5, 8)


def test_weights_without_data_are_refused_by_name() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8))
    with pytest.raises(FpsimError, match="layer 0: its weight is on the device meta"):
        convert(model, "mxfp4")


def test_offloaded_layers_are_refused_by_name() -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = seeded(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8)))
    with torch.no_grad():
        wanted = model(X)
    accelerate.cpu_offload(model, execution_device="cpu")
    with pytest.raises(FpsimError, match="layer 0: its weight is on the device meta"):
        convert(model, "mxfp4")
    with torch.no_grad():
        assert torch.equal(model(X), wanted)


def tiny_llama(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, **changes,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


IDS = torch.arange(1, 21)[None]


@pytest.mark.sweep
@torch.no_grad()
def test_compiled_models_have_the_same_bits() -> None:
    model = convert(tiny_llama(), "mxfp4:quantize_attention=true")
    wanted = model(input_ids=IDS).logits
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(compiled(input_ids=IDS).logits, wanted)
    passes = [layer.passes for layer in simulated_layers(model).values()]
    assert passes == [2] * 14


@torch.no_grad()
def test_export_is_refused_in_one_sentence() -> None:
    model = convert(seeded(nn.Sequential(nn.Linear(64, 8))), "mxfp4")
    with pytest.raises(FpsimError, match=r"restore\(\) the model before exporting it"):
        torch.export.export(model, (X,), strict=False)


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_keeps_its_embedding(tmp_path: Any, tied: bool) -> None:
    model = tiny_llama(tie_word_embeddings=tied)
    before = model(input_ids=IDS).logits
    keys = list(model.state_dict())
    convert(model, "mxfp4@4/4/4")
    assert conversion_of(model).embeddings == ("model.embed_tokens",)
    assert list(model.state_dict()) == keys
    wanted = model(input_ids=IDS).logits
    model.save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(again(input_ids=IDS).logits, before)
    assert torch.equal(convert(again, "mxfp4@4/4/4")(input_ids=IDS).logits, wanted)


@torch.no_grad()
def test_a_cast_embedding_follows_its_table() -> None:
    model = convert(tiny_llama(), "rtn@4/4/4")
    table = model.model.embed_tokens
    cast = get_recipe("rtn@4/4/4").embedding("")

    def expected() -> torch.Tensor:
        rows = cast.quantize(table.weight.detach().numpy()).dequantize()
        return torch.from_numpy(rows).float()[IDS]

    assert torch.equal(table(IDS), expected())
    table.weight.mul_(-3)
    assert torch.equal(table(IDS), expected())
    model.load_state_dict(tiny_llama().state_dict())
    assert torch.equal(table(IDS), expected())
    with torch.enable_grad():
        optimizer = torch.optim.SGD([table.weight], lr=10.0)
        table(IDS).square().sum().backward()
        assert table.weight.grad[IDS[0]].abs().sum() > 0
        optimizer.step()
    assert torch.equal(table(IDS), expected())


@torch.no_grad()
def test_encoder_and_decoder_both_cast_the_table() -> None:
    config = transformers.BartConfig(
        vocab_size=97, d_model=64, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=96,
        decoder_ffn_dim=96, encoder_attention_heads=4, decoder_attention_heads=4,
        max_position_embeddings=64, scale_embedding=True, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BartForConditionalGeneration(config).eval()
    core = model.model
    before = core.encoder.embed_tokens(IDS)
    convert(model, "rtn@4/4/4")
    assert {"model.encoder.embed_tokens", "model.decoder.embed_tokens"} <= set(
        conversion_of(model).embeddings
    )
    table = get_recipe("rtn@4/4/4").embedding("").quantize(core.shared.weight.detach().numpy())
    wanted = 8.0 * torch.from_numpy(table.dequantize()).float()[IDS]
    for part in (core.encoder, core.decoder):
        torch.testing.assert_close(part.embed_tokens(IDS), wanted, rtol=1e-6, atol=0)
    restore(model)
    assert torch.equal(core.encoder.embed_tokens(IDS), before)


@torch.no_grad()
@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_with_weights_of_their_own(way: Any) -> None:
    model = convert(seeded(nn.Sequential(nn.Linear(64, 8))), "mxfp4")
    wanted = model(X)
    twin = way(model)
    model[0].weight.zero_()
    assert torch.equal(twin(X), wanted)
    twin[0].weight.mul_(2)
    assert torch.equal(twin(X), simulated(twin[0])) and not torch.equal(twin(X), wanted)
    assert "recipe=mxfp4" in repr(twin)
    restore(twin)
    assert "recipe" not in repr(twin)


def test_a_layer_of_ones_own_is_simulated_alone() -> None:
    linear = seeded(nn.Linear(64, 8))
    layer = SimulatedLinear(linear_weight(linear), get_recipe("mxfp4"), get_unit("exact"), "layer")
    assert torch.equal(layer(X), simulated(linear))
    assert layer.macs == 5 * 64 * 8
