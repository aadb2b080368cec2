# SPDX-License-Identifier: Apache-2.0
"""Folds change weights and leave outputs."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from support.system_models import BATCHES, calibrated, uneven  # noqa: E402
from support.tiny_models import built, gemma, gpt2  # noqa: E402
from torch import nn  # noqa: E402

from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge.systems.folds import (  # noqa: E402
    fold_calibration,
    fold_norm,
    fold_queries,
    fold_values,
    tied_pairs,
)


@pytest.fixture
def model() -> nn.Module:
    return copy.deepcopy(uneven()).double()


def check(model: nn.Module, changed: nn.Parameter) -> None:
    """The model computes what it did, with a weight that is another."""
    with torch.no_grad():
        found = model(**BATCHES[0]).logits
        plain = copy.deepcopy(uneven()).double()
        wanted = plain(**BATCHES[0]).logits
    assert not any(torch.equal(changed, parameter) for parameter in plain.parameters())
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def drawn(count: int) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.3


def test_a_norm_and_all_that_read_it(model: nn.Module) -> None:
    layer = model.model.layers[0]
    fold_norm(layer.post_attention_layernorm, [layer.mlp.gate_proj, layer.mlp.up_proj], drawn(64))
    check(model, layer.mlp.up_proj.weight)


def test_values_are_shared_by_the_heads_that_read_them(model: nn.Module) -> None:
    attention = model.model.layers[1].self_attn
    fold_values(attention.v_proj, attention.o_proj, drawn(32), head=16)
    check(model, attention.o_proj.weight)
    with pytest.raises(FpsimError, match="64 channels are read, but 48 are made"):
        fold_values(attention.v_proj, attention.o_proj, drawn(48))


def test_one_layer_and_the_next(model: nn.Module) -> None:
    mlp = model.model.layers[0].mlp
    fold_values(mlp.up_proj, mlp.down_proj, drawn(96))
    check(model, mlp.down_proj.weight)


def test_queries_and_keys_by_rotary_pairs(model: nn.Module) -> None:
    attention = model.model.layers[0].self_attn
    scale = tied_pairs(drawn(32), 16)
    fold_queries(attention.q_proj, attention.k_proj, scale, 16)
    check(model, attention.k_proj.weight)
    with pytest.raises(FpsimError, match=r"channels j and j \+ 8 of a head differ"):
        fold_queries(attention.q_proj, attention.k_proj, drawn(32), 16)


def test_shifts_need_biases(model: nn.Module) -> None:
    block = built(gpt2).double().transformer.h[0]
    x = torch.randn(2, 5, 64, dtype=torch.float64)
    layer = nn.Linear(64, 8, dtype=torch.float64)
    wanted = layer(block.ln_1(x))
    fold_norm(block.ln_1, [layer], drawn(64), drawn(64))
    torch.testing.assert_close(layer(block.ln_1(x)), wanted, rtol=1e-9, atol=1e-9)
    llama = model.model.layers[0]
    with pytest.raises(FpsimError, match="LlamaRMSNorm has no bias to take a shift"):
        fold_norm(llama.input_layernorm, [llama.self_attn.q_proj], drawn(64), drawn(64))


def test_norms_that_do_more_than_multiply_are_left() -> None:
    layer = built(gemma).model.layers[0]
    before = layer.input_layernorm.weight.clone()
    with pytest.raises(FpsimError, match="does not multiply by its weight"):
        fold_norm(layer.input_layernorm, [layer.self_attn.q_proj], drawn(64))
    assert torch.equal(before, layer.input_layernorm.weight)


def test_a_calibrations_scales_go_into_the_model() -> None:
    model = copy.deepcopy(uneven())
    found = calibrated("smoothquant")
    assert len(fold_calibration(model, found, BATCHES[0])) == 4
    with torch.no_grad():
        torch.testing.assert_close(
            model(**BATCHES[0]).logits, uneven()(**BATCHES[0]).logits, rtol=1e-3, atol=1e-3
        )
    name = "model.layers.0.mlp.up_proj"
    scale = torch.from_numpy(found.layers[name].maps[0].scale)
    torch.testing.assert_close(
        model.get_submodule(name).weight, uneven().get_submodule(name).weight * scale
    )
    with pytest.raises(FpsimError, match="no scales that norms could take"):
        fold_calibration(model, calibrated("gptq"), BATCHES[0])
