# SPDX-License-Identifier: Apache-2.0
"""Experts in three dimensions: simulated like linear layers, whatever the architecture."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from support.fakequant import mxfp4  # noqa: E402
from torch import nn  # noqa: E402

import fpsim  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import (  # noqa: E402
    calibrate,
    conversion_of,
    convert,
    layer_operands,
    restore,
    size_layer,
)  # fmt: skip
from fpsim.bridge.layer_inputs import capture, captured_inputs  # noqa: E402
from fpsim.bridge.linear import simulated_layers  # noqa: E402
from fpsim.bridge.tiles import model_tiles  # noqa: E402
from fpsim.bridge.weights import weights_of  # noqa: E402
from fpsim.vectors.plans.tiles import TileSize  # noqa: E402

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
IDS = torch.arange(1, 21)[None]


def mixtral() -> nn.Module:
    config = transformers.MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)
    return transformers.MixtralForCausalLM(config)


def qwen() -> nn.Module:
    config = transformers.Qwen3MoeConfig(
        **SIZES, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48,
        decoder_sparse_step=1,
    )  # fmt: skip
    return transformers.Qwen3MoeForCausalLM(config)


def granite() -> nn.Module:
    config = transformers.GraniteMoeConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)
    return transformers.GraniteMoeForCausalLM(config)


def deepseek() -> nn.Module:
    config = transformers.DeepseekV3Config(
        **SIZES | {"num_key_value_heads": 4}, moe_intermediate_size=48, n_routed_experts=4,
        num_experts_per_tok=2, n_group=2, topk_group=1, n_shared_experts=1, first_k_dense_replace=0,
        q_lora_rank=32, kv_lora_rank=32, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=16,
    )  # fmt: skip
    return transformers.DeepseekV3ForCausalLM(config)


def gpt_oss() -> nn.Module:
    config = transformers.GptOssConfig(
        **SIZES, head_dim=16, sliding_window=8, num_local_experts=4, num_experts_per_tok=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )  # fmt: skip
    return transformers.GptOssForCausalLM(config)


def llama4() -> nn.Module:
    config = transformers.Llama4TextConfig(
        **SIZES, head_dim=16, intermediate_size_mlp=96, num_local_experts=4, num_experts_per_tok=1,
        interleave_moe_layer_step=1, attention_chunk_size=32,
    )  # fmt: skip
    return transformers.Llama4ForCausalLM(config)


MODELS = [mixtral, qwen, granite, deepseek, gpt_oss, llama4]
every = pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)


def built(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    return model


def experts_of(model: nn.Module) -> tuple[str, nn.Module]:
    return next((n, m) for n, m in model.named_modules() if type(m).__name__.endswith("Experts"))


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def product(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """MXFP4 operands along the summed axis, a float64 sum, one rounding; ``matrix`` is (N, K)."""
    return (mxfp4(x) @ mxfp4(matrix).T).float()


def reference(module: nn.Module, x: torch.Tensor, *routing: torch.Tensor) -> torch.Tensor:
    """Experts from their published equations, token by token, on MXFP4 products."""
    transposed = module.gate_up_proj.shape[1] == x.shape[-1] and type(module).__name__ in (
        "GptOssExperts", "Llama4TextExperts",
    )  # fmt: skip
    up = [w.T if transposed else w for w in module.gate_up_proj]
    down = [w.T if transposed else w for w in module.down_proj]

    def expert(e: int, rows: torch.Tensor) -> torch.Tensor:
        hidden = product(rows, up[e])
        if type(module).__name__ == "GptOssExperts":
            hidden = hidden + module.gate_up_proj_bias[e]
            gate = hidden[:, ::2].clamp(max=module.limit)
            linear = hidden[:, 1::2].clamp(-module.limit, module.limit)
            gated = (linear + 1) * gate * torch.sigmoid(module.alpha * gate)
            return product(gated, down[e]) + module.down_proj_bias[e]
        gate, linear = hidden.chunk(2, -1)
        return product(linear * nn.functional.silu(gate), down[e])

    if not routing:  # Llama 4: every expert has rows of its own
        rows = x.reshape(len(up), -1, x.shape[-1])
        return torch.cat([expert(e, rows[e]) for e in range(len(up))])
    index, weights = routing
    out = torch.zeros_like(x)
    for token in range(x.shape[0]):
        for e, weight in zip(index[token], weights[token], strict=True):
            out[token] += weight * expert(int(e), x[token : token + 1])[0]
    return out


@every
@torch.no_grad()
def test_experts_equal_their_equations_on_cast_operands(build: Callable[[], nn.Module]) -> None:
    model = built(build)
    name, module = experts_of(model)
    keys, before = list(model.state_dict()), logits(model)
    seen: list[Any] = []
    module.register_forward_hook(
        lambda _, args, kwargs, out: seen.append((*args, *kwargs.values(), out)), with_kwargs=True
    )
    convert(model, "mxfp4", "exact", only=[f"{name}.*"])
    record = conversion_of(model)
    assert record.replaced == tuple(
        f"{name}.{part}.{e}" for part in ("gate_up_proj", "down_proj") for e in range(4)
    )
    assert list(model.state_dict()) == keys
    changed = logits(model)
    *given, out = seen[0]
    wanted = reference(module, *given)
    assert not torch.allclose(changed, before, atol=1e-3)
    torch.testing.assert_close(out, wanted, rtol=2e-6, atol=2e-6)
    routed = IDS.numel() if build is llama4 else 0  # its experts see every token, mostly as zeros
    macs = sum(layer.macs for layer in simulated_layers(model).values())
    per_token = module.gate_up_proj[0].numel() + module.down_proj[0].numel()
    assert macs == per_token * (4 * routed or 2 * IDS.numel())
    restore(model)
    assert torch.equal(logits(model), before)


@every
def test_whole_models_convert_with_their_experts_and_train(build: Callable[[], nn.Module]) -> None:
    model = convert(built(build), "mxfp4", "exact")
    record = conversion_of(model)
    experts = [name for name in record.replaced if "experts." in name and "_proj." in name]
    assert len(experts) == 8
    name, module = experts_of(model)
    twin = copy.deepcopy(model)
    wanted = logits(model)
    assert torch.equal(logits(twin), wanted)
    model(input_ids=IDS, labels=IDS).loss.backward()
    for parameter in (module.gate_up_proj, module.down_proj):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0
    with torch.no_grad():
        module.down_proj.mul_(2)
        assert not torch.equal(logits(model), wanted)
        assert torch.equal(logits(twin), wanted)
    assert f"({name.rpartition('.')[2]})" in repr(model) and "8 of 8 products" in repr(model)


@torch.no_grad()
def test_implementations_of_transformers_make_no_difference() -> None:
    model = convert(built(mixtral), "mxfp4", "exact")
    wanted = logits(model)
    for implementation in ("batched_mm", "grouped_mm"):
        model.set_experts_implementation(implementation)
        assert torch.equal(logits(model), wanted)
        assert model.config._experts_implementation == implementation


@torch.no_grad()
def test_some_experts_of_a_module_may_stay_float() -> None:
    model = built(mixtral)
    name, _ = experts_of(model)
    skip = ["lm_head", "*.down_proj.*", "*.gate_up_proj.2", "*.self_attn.*"]
    convert(model, "mxfp4", "exact", skip=skip)
    record = conversion_of(model)
    assert f"{name}.gate_up_proj.2" in record.left and len(record.replaced) == 3
    whole = convert(built(mixtral), "mxfp4", "exact", skip=skip[:2] + skip[3:])
    assert not torch.equal(logits(model), logits(whole))


@every
def test_operands_sizing_and_tiles_of_experts(build: Callable[[], nn.Module]) -> None:
    model = built(build)
    name, _ = experts_of(model)
    pattern = f"{name}.gate_up_proj.*"
    operands = layer_operands(model, {"input_ids": IDS}, "mxfp4", "exact", pattern)
    assert list(operands) == [f"{name}.gate_up_proj.{e}" for e in range(4)]
    a, b = operands[f"{name}.gate_up_proj.1"]
    matrix = weights_of(model)[0][f"{name}.gate_up_proj.1"].matrix
    assert np.array_equal(b.dequantize(), mxfp4(matrix.detach()).numpy())
    assert a.codes.shape[1] == 64 and 0 < a.codes.shape[0] <= IDS.numel()
    assert size_layer((a, b), "e2m1-chain-e5m10", rows=2, columns=3) is not None
    small = {key: value for key, value in operands.items() if value[0].codes.shape[0] >= 2}
    plan = model_tiles(small, "e2m1-chain-e5m10", TileSize(2, 3, None))
    assert len(plan.names) == len(small)


@pytest.mark.one_in(4)
@every
def test_calibration_reaches_experts(build: Callable[[], nn.Module], tmp_path: Any) -> None:
    model = built(build)
    name, _ = experts_of(model)
    ids = torch.randint(3, 97, (4, 16), generator=torch.Generator().manual_seed(2))
    only = [f"{name}.*"]
    path = tmp_path / "found.safetensors"
    recipe = "llm-fp4:rounds=1"
    found = calibrate(model, [{"input_ids": ids}], recipe, out=path, tokens=64, only=only)
    assert len(found.layers) == 8
    convert(model, recipe, calibration=path, only=only)
    assert len(conversion_of(model).replaced) == 8
    assert torch.isfinite(logits(model)).all()


@torch.no_grad()
def test_inputs_of_experts_are_the_tokens_routed_to_them() -> None:
    model = built(mixtral)
    name, module = experts_of(model)
    seen: list[Any] = []
    handle = module.register_forward_hook(lambda _, args, out: seen.append((args, out)))
    weights = weights_of(model)[0]
    layers = {n: w for n, w in weights.items() if n.startswith(f"{name}.gate_up_proj")}
    before = logits(model)
    found = captured_inputs(model, layers, [{"input_ids": IDS}], 1000)
    torch.testing.assert_close(seen[0][1], seen[1][1])  # another order of float32 additions
    handle.remove()
    hidden, index, _ = seen[1][0]
    for e in range(4):
        _, tokens = torch.where((index == e).T)  # those that choose it first come first
        wanted = hidden[tokens]
        assert np.array_equal(found[f"{name}.gate_up_proj.{e}"].rows(), wanted.numpy())
    assert torch.equal(logits(model), before)
    assert len(capture(model, IDS[0].numpy())["weights"]) == len(weights) - 1


def test_experts_that_multiply_in_an_unknown_way_are_refused() -> None:
    class OddExperts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 8, 64))

        def forward(self, x: Any) -> Any:
            return (x[:, None] * self.weight[0]).sum(-1)

    class HalfExperts(nn.Module):
        """One product by a known function, by name, and one that no function tells."""

        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.randn(2, 8, 64))
            self.down = nn.Parameter(torch.randn(2, 4, 8))

        def forward(self, x: Any) -> Any:
            hidden = nn.functional.linear(input=x, weight=self.up[1])
            return torch.einsum("tk,nk->tn", hidden, self.down[0])

    half = convert(nn.Sequential(HalfExperts()).eval(), "mxfp4")
    with pytest.raises(FpsimError, match="HalfExperts: it was to multiply by down, but"):
        half(torch.randn(3, 64))
    model = convert(nn.Sequential(nn.Linear(64, 64), OddExperts()).eval(), "mxfp4")
    with pytest.raises(FpsimError, match="OddExperts: it was to multiply by weight, but"):
        model(torch.randn(3, 64))
    restore(model)
    convert(model, "mxfp4", skip=["1.*"])
    assert model(torch.randn(3, 64)).shape == (3, 8)


def test_an_expert_that_no_batch_reaches_is_named() -> None:
    model = built(mixtral)
    with pytest.raises(FpsimError, match=r"experts\.\w+\.\d: no batch reached it"):
        calibrate(model, [{"input_ids": IDS[:, :1]}], "llm-fp4", only=["*experts*"])
    assert fpsim.get_unit("exact") is not None
