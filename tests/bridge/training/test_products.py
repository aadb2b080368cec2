# SPDX-License-Identifier: Apache-2.0
"""The three products of training: bits against independent fake quantization, seeds, threads."""

from __future__ import annotations

import copy

import numba
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from support import faketrain  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import conversion_of, convert, get_recipe, recipe_names, restore  # noqa: E402
from fpsim.bridge.linear import simulated_layers  # noqa: E402
from fpsim.bridge.training.layer import TrainedLinear, begin_step  # noqa: E402
from fpsim.bridge.training.recipe import TrainingRecipe  # noqa: E402

REFERENCES = [
    "float32-train", "mxfp8-train", "nvfp4-train", "ue5m3-train", "tetrajet-v2",
    "mxfp4-train", "quartet", "quartet-ii", "fp4-dge-occ",
]  # fmt: skip


def on_grid(*shape: int, seed: int, unit: float) -> torch.Tensor:
    """Heavy-tailed multiples of ``unit``, which rotations add exactly."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.exp2(torch.randint(0, 4, (*shape[:-1], 1), generator=generator).float())
    return torch.round(torch.randn(*shape, generator=generator) * scale * 16) * unit


def layer(inside: int = 128, outside: int = 128, bias: bool = False) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(inside, outside, bias=bias))
    with torch.no_grad():
        model[0].weight.copy_(on_grid(outside, inside, seed=1, unit=2.0**-8))
    return model


def gradients(model: nn.Module, x: torch.Tensor, e: torch.Tensor) -> list[torch.Tensor]:
    """Return y, dx and dw."""
    x = x.detach().clone().requires_grad_()
    model.zero_grad()
    y = model(x)
    y.backward(e)
    weight = model[0].weight.grad
    assert x.grad is not None
    assert weight is not None
    return [y.detach(), x.grad, weight]


@pytest.mark.parametrize(
    "recipe", [*REFERENCES, pytest.param("bf16-train", marks=pytest.mark.sweep)]
)
def test_all_three_products_equal_float64_fake_quantization(recipe: str) -> None:
    """To the last bit of float32, on a unit that accumulates exactly; features and tokens differ."""
    tokens, inside, outside = 128, 256, 128
    model = convert(layer(inside, outside), recipe=recipe, unit="exact", seed=9)
    x = on_grid(tokens, inside, seed=2, unit=2.0**-5)
    e = on_grid(tokens, outside, seed=3, unit=2.0**-12)
    begin_step(model, 3)
    found = gradients(model, x, e)
    operands = (x.numpy(), model[0].weight.detach().numpy(), e.numpy())
    wanted = faketrain.train(recipe, *operands, label=f"9/{(3 << 32) + 1}", name="0")
    for product, ours, theirs in zip(("forward", "dgrad", "wgrad"), found, wanted, strict=True):
        assert np.array_equal(ours.numpy(), theirs), (recipe, product)


def test_float32_casts_give_the_gradients_of_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(48, 80), nn.GELU(), nn.Linear(80, 24))
    x, e = torch.randn(32, 48), torch.randn(32, 24)
    wanted = gradients(model, x, e)
    found = gradients(convert(copy.deepcopy(model), recipe="float32-train"), x, e)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("recipe", ["nvfp4-train", "quartet", "fp4-dge-occ"])
def test_a_training_step_is_the_same_again_and_on_any_number_of_threads(recipe: str) -> None:
    x, e = (on_grid(256, 128, seed=s, unit=2.0**-6) for s in (4, 5))
    unit = "e2m1-chain-e8m7-sr8" if recipe == "nvfp4-train" else "exact"
    runs = []
    threads = torch.get_num_threads(), numba.get_num_threads()
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            numba.set_num_threads(min(count, threads[1]))
            model = convert(layer(), recipe=recipe, unit=unit, seed=1)
            gradients(model, x, e)  # other passes before do not matter
            begin_step(model, 7)
            runs.append(gradients(model, x, e))
    finally:
        torch.set_num_threads(threads[0])
        numba.set_num_threads(threads[1])
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))
    begin_step(model, 8)
    changed = [not torch.equal(a, b) for a, b in zip(gradients(model, x, e), runs[0], strict=True)]
    assert changed == {"quartet": [False, True, True], "fp4-dge-occ": [False] * 3}.get(
        recipe, [True] * 3
    )


def test_every_layer_and_pass_draws_bits_of_its_own() -> None:
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    with torch.no_grad():
        for part in model:
            part.weight.copy_(torch.eye(64))
    convert(model, recipe="nvfp4-train:hadamard=0,range=1", unit="exact", seed=0)
    e = torch.linspace(0.1, 1.9, 64).expand(64, 64).contiguous()
    x = torch.eye(64)
    first = gradients(model, x, e)[1]
    assert len(first.unique(dim=0)) > 32  # 64 equal rows, rounded differently
    assert not torch.equal(first, gradients(model, x, e)[1])


def test_layers_that_read_one_tensor_share_its_casts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(64, 64) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.q(x) + self.k(x) + self.v(x)

    model = convert(Three(), recipe="mxfp4-train", unit="exact")
    calls: list[str] = []
    original = TrainedLinear._cast

    def counted(self: TrainedLinear, product: str, side: str, *rest: object) -> object:
        calls.append(f"{product}.{side}")
        return original(self, product, side, *rest)

    monkeypatch.setattr(TrainedLinear, "_cast", counted)
    x = torch.randn(64, 64, requires_grad=True)
    model(x).sum().backward()
    assert {name: calls.count(name) for name in calls} == {
        "forward.a": 1, "dgrad.b": 3, "wgrad.b": 1, "dgrad.a": 3, "wgrad.a": 3,
    }  # fmt: skip


def test_checkpointing_accumulation_autocast_and_copies_are_those_of_an_ordinary_model() -> None:
    x, e = (on_grid(64, 128, seed=s, unit=2.0**-6) for s in (4, 5))
    plain = layer(bias=True)
    model = convert(copy.deepcopy(plain), recipe="nvfp4-train", unit="exact")
    twin = copy.deepcopy(model)
    wanted = gradients(model, x, e)
    assert all(torch.equal(a, b) for a, b in zip(gradients(twin, x, e), wanted, strict=True))
    assert model[0].bias.grad is not None
    assert torch.equal(model[0].bias.grad, e.sum(0))

    class Checkpointed(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = checkpoint(super().forward, x, use_reentrant=False)
            return found

    again = convert(Checkpointed(*plain), recipe="nvfp4-train", unit="exact")
    assert all(torch.equal(a, b) for a, b in zip(gradients(again, x, e), wanted, strict=True))

    twin.zero_grad()
    for _ in range(2):
        twin(x).backward(e)
    assert twin[0].weight.grad is not None
    both = 2 * wanted[2]  # but for the random bits of the second pass
    assert 0 < (twin[0].weight.grad - both).norm() < 0.3 * both.norm()

    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(model, x.bfloat16(), e.bfloat16())
    assert [t.dtype for t in found[1:]] == [torch.bfloat16, torch.float32]
    restore(model)
    assert gradients(model, x, e)[2].isfinite().all()


def test_an_optimizer_trains_through_the_unit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
    convert(model, recipe="nvfp4-train", unit="exact")
    x = torch.randn(64, 64)
    y = torch.randn(64, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


def test_each_product_has_its_unit_and_kept_layers_run_in_bfloat16() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    convert(
        model, recipe="fp4-dge-occ:keep=1", unit="e2m1-chain-e5m10",
        dgrad="e5m2xe4m3-chain-e8m7", wgrad="exact",
    )  # fmt: skip
    first, last = simulated_layers(model).values()
    assert isinstance(first, TrainedLinear)
    assert isinstance(last, TrainedLinear)
    assert {p: u.spec.accumulate.result.name for p, u in first.gradient_units.items()} == {
        "dgrad": "e8m7", "wgrad": "e8m23",
    }  # fmt: skip
    assert {u.name for u in last.gradient_units.values()} == {"e8m7-chain-e8m23"}
    record = conversion_of(model)
    assert record.units == ("e2m1-chain-e5m10", "e8m7-chain-e8m23")
    assert "e5m2xe4m3fn-chain-e8m7" in record.gradient_units
    assert "gradients on" in str(record)


SENTENCES = [
    ("mxfp4", {"dgrad": "exact"}, "dgrad: mxfp4 computes gradients in float"),
    ("nvfp4-train", {"unit": "e2m1-block32-into-chain-e8m23"}, "layer 0: .*16"),
    ("nvfp4-train:signs=odd", {}, "signs: 'odd' is not one of te, fresh, none"),
    ("nvfp4-train:range=500", {}, "range: 500.0 is not in 1..448"),
    ("nvfp4-train:overflow=wrap", {}, "overflow: 'wrap' is not one of error, skip"),
    ("nvfp4-train@16/8/8", {}, "bits: nvfp4-train@16/8/8 has formats of its own"),
    ("fp4-dge-occ@16/8/4", {}, "bits: 8 is not one of 4, 16"),
    ("fp4-dge-occ:weight_scale=input", {}, "'input' needs through=e4m3fn"),
    ("fp4-dge-occ:k=0", {}, "k: 0 is not a whole number from 1 on"),
    ("quartet:random_bits=40", {}, "random_bits: 40 is not in 1..16"),
    ("mxfp4-train:hadamard=48", {}, "hadamard: 48 is not a power of two"),
    ("quartet-ii", {}, "forward|dgrad: 80 out_features are not a multiple of 128"),
]


@pytest.mark.parametrize(("recipe", "more", "sentence"), SENTENCES)
def test_bad_input_is_one_sentence(recipe: str, more: dict[str, str], sentence: str) -> None:
    with pytest.raises(FpsimError, match=sentence) as caught:
        convert(nn.Sequential(nn.Linear(64, 80)), recipe=recipe, **more)
    assert "\n" not in str(caught.value)


def test_batches_that_blocks_do_not_divide_are_refused_before_anything_ran() -> None:
    model = convert(layer(), recipe="nvfp4-train", unit="exact")
    sentence = "layer 0: wgrad: 100 tokens of a pass are not a multiple of 16"
    with pytest.raises(FpsimError, match=sentence):
        model(torch.randn(100, 128))
    with torch.no_grad():  # no gradient, no transposed blocks
        assert model(torch.randn(100, 128)).isfinite().all()


def test_overflow_names_layer_product_and_training_step_or_skips_the_step() -> None:
    narrow, wide = "e2m1-chain-e5m10", "exact"  # products of two E4M3 scales overflow float16
    x, e = (on_grid(64, 128, seed=s, unit=1.0) for s in (4, 5))
    for product, units in (
        ("forward", {"unit": narrow, "dgrad": wide, "wgrad": wide}),
        ("dgrad", {"unit": wide, "dgrad": narrow, "wgrad": wide}),
        ("wgrad", {"unit": wide, "dgrad": wide, "wgrad": narrow}),
    ):
        model = convert(layer(), recipe="nvfp4-train", **units)
        begin_step(model, 12)
        with pytest.raises(FpsimError, match=f"layer 0: {product} of training step 12, pass 1"):
            gradients(model, x, e)
        restore(model)
        convert(model, recipe="nvfp4-train:overflow=skip", **units)
        found = dict(zip(("forward", "dgrad", "wgrad"), gradients(model, x, e), strict=True))
        assert not found[product].isfinite().all()


def test_gradients_of_infinity_are_refused_or_skipped() -> None:
    x, e = torch.randn(64, 128), torch.full((64, 128), torch.inf)
    model = convert(layer(), recipe="nvfp4-train", unit="exact")
    with pytest.raises(FpsimError, match="layer 0: gradient of training step 0, pass 1"):
        gradients(model, x, e)
    restore(model)
    convert(model, recipe="nvfp4-train:overflow=skip", unit="exact")
    assert all(found.isnan().all() for found in gradients(model, x, e)[1:])
    assert all(found.isnan().all() for found in gradients(model, e, x))


def test_every_training_recipe_can_be_made_and_serves_inference_too() -> None:
    names = [name for name in recipe_names() if isinstance(get_recipe(name), TrainingRecipe)]
    assert set(REFERENCES) < set(names)
    x = torch.randn(16, 128)
    for name in names:
        model = convert(layer(), recipe=name, unit="exact")
        with torch.no_grad():
            wanted = nn.functional.linear(x, model[0].weight)
            assert (model(x) - wanted).norm() < 0.3 * wanted.norm(), name
        cast = get_recipe(name).weight("0")
        assert cast is not None
        rows = model[0].weight.detach().numpy()
        assert cast.quantize(rows).codes.shape == rows.shape
