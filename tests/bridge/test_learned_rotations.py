# SPDX-License-Identifier: Apache-2.0
"""Whole models are trained in the memory of one block, with the bits of plain backpropagation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from support.system_models import BATCHES  # noqa: E402
from support.tiny_models import llama  # noqa: E402
from torch import nn  # noqa: E402

from fpsim.bridge import get_recipe  # noqa: E402
from fpsim.bridge.recipes.trained import Planes  # noqa: E402
from fpsim.bridge.systems import learned  # noqa: E402
from fpsim.bridge.systems.casts import input_cast  # noqa: E402
from fpsim.bridge.systems.learned import (  # noqa: E402
    RESIDUAL,
    Reader,
    cayley_step,
    forwards,
    learn_rotations,
)
from fpsim.bridge.systems.recipe import StreamModel, rms_gain  # noqa: E402
from fpsim.bridge.systems.stream import blocks_of, first_inputs  # noqa: E402
from fpsim.bridge.weights import weights_of  # noqa: E402

CAST = input_cast("int4-asym")
#: Bytes of a batch's hidden states.
HIDDEN = BATCHES[0]["input_ids"].numel() * 64 * 4


def stream_of(count: int, attention: str = "sdpa") -> StreamModel:
    """A tiny LLaMA of so many blocks, frozen, with its batches."""
    torch.manual_seed(0)
    model = llama(num_hidden_layers=count, attn_implementation=attention).eval()
    model.requires_grad_(False)
    blocks, _ = blocks_of(model, weights_of(model)[0])
    return StreamModel(model, blocks, first_inputs(model, blocks, BATCHES), BATCHES)


def starts(stream: StreamModel) -> dict[str, torch.Tensor]:
    """Random rotations of the residual stream and of every block's heads."""
    widths = {RESIDUAL: 64} | {block.name: 16 for block in stream.blocks}
    return {name: torch.linalg.qr(torch.randn(width, width))[0] for name, width in widths.items()}


def plain_loss(stream: StreamModel, turns: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
    """The loss of a model that keeps all its activations."""
    functions = {}
    for block in stream.blocks:
        norms = {
            "input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"],
        }
        readers = [Reader(block.module.self_attn.o_proj, torch.ones(()), block.name)]
        for norm, layers in norms.items():
            gain = torch.from_numpy(rms_gain(block.module.get_submodule(norm), 64)).float()
            readers += [
                Reader(block.module.get_submodule(layer), gain, RESIDUAL) for layer in layers
            ]
        for reader in readers:
            functions[reader.module] = lambda x, r=reader: r.forward(x, turns[r.rotation], CAST)
    with forwards(functions):
        logits = stream.model(**batch).logits
    tokens = batch["input_ids"]
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rotations_have_the_bits_of_plain_backpropagation(
    attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(2, attention)
    start = starts(stream)
    taken = []

    def step(rotation: Any, direction: Any, rate: float) -> Any:
        taken.append((rotation, direction))
        return cayley_step(rotation, direction, rate)

    monkeypatch.setattr(learned, "cayley_step", step)
    learn_rotations(stream, start, CAST, 2, 1.5)
    momentum = {name: torch.zeros_like(turn) for name, turn in start.items()}
    for number in range(2):
        here = taken[number * len(start) : (number + 1) * len(start)]
        turns = {
            name: turn.clone().requires_grad_(True)
            for name, (turn, _) in zip(start, here, strict=True)
        }
        plain_loss(stream, turns, BATCHES[number]).backward()
        for (name, turn), (_, direction) in zip(turns.items(), here, strict=True):
            assert turn.grad is not None
            assert turn.grad.abs().max() > 1e-5
            momentum[name] = 0.9 * momentum[name] + turn.grad
            assert torch.equal(direction, momentum[name]), (number, name)


def test_a_block_keeps_its_input_alone_for_the_backward_pass() -> None:
    def learn(stream: StreamModel) -> None:
        learn_rotations(stream, starts(stream), CAST, 1, 0.5)

    held = {count: kept_bytes(stream_of(count), learn) for count in (2, 5)}
    assert held[5] - held[2] == 3 * HIDDEN


def test_distillation_keeps_a_blocks_input_alone() -> None:
    recipe = get_recipe("db-llm:inputs=float,group=16,steps=1")

    def distil(stream: StreamModel) -> None:
        forms = {}
        for block in stream.blocks:
            for name, weight in block.layers.items():
                forms[name] = Planes(weight.matrix, None, 16, None).form()
        recipe.finish(stream, forms)

    held = {count: kept_bytes(stream_of(count), distil) for count in (2, 5)}
    assert held[5] - held[2] == 3 * HIDDEN


def kept_bytes(stream: StreamModel, learn: Callable[[StreamModel], None]) -> int:
    """Bytes that wait for the backward pass of one step, but for parameters and rotations."""
    kept: dict[int, torch.UntypedStorage] = {}
    known = {parameter.untyped_storage().data_ptr() for parameter in stream.model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known and tensor.shape not in ((64, 64), (16, 16)):
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        learn(stream)
    return sum(storage.nbytes() for storage in kept.values())


def test_a_module_gets_its_own_forward_back() -> None:
    module = nn.Linear(3, 3)
    module.forward = own = lambda x: 2 * x  # as libraries that move weights to a device do
    x = torch.ones(1, 3)
    with forwards({module: lambda x: 5 * x}):
        assert torch.equal(module(x), 5 * x)
    assert module.forward is own
    assert torch.equal(module(x), 2 * x)
