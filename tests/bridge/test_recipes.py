# SPDX-License-Identifier: Apache-2.0
"""Recipes: each layer equals fake quantization in float64, and gradients go straight through."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from torch import nn  # noqa: E402

import fpsim  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import (  # noqa: E402
    Bits,
    Recipe,
    conversion_of,
    convert,
    get_recipe,
    recipe_names,
    register,
    restore,
)
from fpsim.bridge import recipe as recipe_module  # noqa: E402
from fpsim.bridge.cast import BlockCast  # noqa: E402
from fpsim.bridge.linear import SimulatedLinear, attached  # noqa: E402
from fpsim.bridge.weights import linear_weight  # noqa: E402

EXACT = fpsim.get_unit("exact")


def heavy_tailed(*shape: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.exp2(torch.randint(-5, 6, (*shape[:-1], 1), generator=generator).float())
    return torch.randn(*shape, generator=generator) * scale


def linear(inside: int, outside: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(inside, outside, bias=bias)


def fake_cast(recipe: Recipe, name: str, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return values that vary along K, and the float32 factor that does not, by `BlockFormat`."""
    fmt = getattr(recipe, name)("layer").fmt
    rows = x.detach().reshape(-1, x.shape[-1]).numpy()
    cast = fmt.quantize(rows, axis=1)
    one = np.float32(1)
    if isinstance(fmt.block, str):
        scales = cast.scales if fmt.scale is None else fmt.scale.decode(cast.scales)
        return fmt.element.decode(cast.codes), scales.astype(np.float32)
    if cast.tensor_scale is not None:
        return fmt.dequantize(replace(cast, tensor_scale=one)), cast.tensor_scale.reshape(1, 1)
    return fmt.dequantize(cast), np.ones((1, 1), np.float32)


def fake_linear(layer: nn.Linear, recipe: Recipe, x: torch.Tensor) -> torch.Tensor:
    a, a_factor = fake_cast(recipe, "activation", x)
    b, b_factor = fake_cast(recipe, "weight", layer.weight)
    out = torch.from_numpy((a @ b.T).astype(np.float32) * a_factor * b_factor.T)
    out = out.reshape(*x.shape[:-1], -1)
    return out if layer.bias is None else out + layer.bias


DIRECT = [
    "mxfp4", "mxfp4-rceil", "mxfp4-ceil", "mxfp4-even", "mxfp8-e4m3", "mxfp4@16/4/8",
    "int4", "int4-tensor", "int8", "qrazor", "qrazor:group=8",
    "rtn", "rtn:element=e3m0,block=tensor", "rtn:block=16", "rtn@16/6/8",
    "rtn:element=e1m2,weight_element=e2m1,block=token",
]  # fmt: skip
SCALED = [
    "nvfp4", "nvfp4-torchao", "four-over-six", "four-over-six-mae",
    "amxfp4", "amxfp4-rne", "amxfp4-pot", "amxfp4-pot-r",
    "rtn:block=16,scale=e4m3fn", "rtn:block=32,scale=e5m10", "rtn:block=32,scale=e8m7",
]  # fmt: skip


@pytest.mark.parametrize("recipe", [*DIRECT, *SCALED])
@pytest.mark.parametrize("inside", [64, 40])
def test_exact_accumulator_equals_float64_fake_quantization(recipe: str, inside: int) -> None:
    """To the last bit of float32; 40 does not divide into whole blocks."""
    chosen, original = get_recipe(recipe), linear(inside, 24)
    layer = SimulatedLinear(linear_weight(original), chosen, EXACT, "layer")
    x = heavy_tailed(3, 5, inside)
    assert torch.equal(layer(x), fake_linear(original, chosen, x))


@pytest.mark.parametrize(
    "recipe", ["mxfp4-weights", "int4-weights", "rtn@16/4/16", "mxfp4@16/16/4"]
)
def test_one_float_operand_makes_a_float_product(recipe: str) -> None:
    chosen, original = get_recipe(recipe), linear(64, 8)
    x = heavy_tailed(2, 64)
    weight, inputs = original.weight, x
    if chosen.weight("") is not None:
        values, factor = fake_cast(chosen, "weight", weight)
        weight = torch.from_numpy((values * factor).astype(np.float32))
    if chosen.activation("") is not None:
        values, factor = fake_cast(chosen, "activation", x)
        inputs = torch.from_numpy((values * factor).astype(np.float32))
    layer = SimulatedLinear(linear_weight(original), chosen, EXACT, "layer")
    assert torch.equal(layer(x), nn.functional.linear(inputs, weight) + original.bias)


def test_every_registered_recipe_can_be_made() -> None:
    for name in recipe_names():
        assert get_recipe(name).name == name


def test_a_recipe_is_one_class_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_module, "_RECIPES", dict(recipe_module._RECIPES))

    @register("only-e3m0", element="e3m0")
    @dataclass(frozen=True)
    class Own(Recipe):
        element: str = "e2m1"

        def weight(self, layer: str) -> BlockCast | None:
            return get_recipe("rtn", element=self.element).weight(layer)

        def activation(self, layer: str) -> BlockCast | None:
            return None if layer == "1" else self.weight(layer)

    model = nn.Sequential(linear(32, 16), linear(16, 4))
    convert(model, "only-e3m0")
    assert attached(model[0]).operand().format.name == "e3m0"
    assert attached(model[1]).input_cast is None


def test_half_a_recipe_is_refused() -> None:
    class Half(Recipe):
        def weight(self, layer: str) -> BlockCast | None:
            return None

    with pytest.raises(FpsimError, match="recipe: half: Half does not define activation"):
        register("half")(Half)


def test_bits_are_read_as_the_tables_write_them() -> None:
    assert Bits.parse("4/4/8") == Bits(4, 4, 8)
    assert str(Bits.parse("8/4")) == "16/8/4"
    assert get_recipe("mxfp4@4/4/8").bits == Bits(4, 4, 8)
    assert get_recipe("mxfp4-weights").weights_only


def test_the_unit_accumulates_and_the_recipe_chooses_operands() -> None:
    """A unit made for other operands is run with the recipe's."""
    x, original = heavy_tailed(4, 64), linear(64, 8)
    wanted = SimulatedLinear(
        linear_weight(original), get_recipe("mxfp4"), fpsim.get_unit("e2m1-chain-e5m10"), "l"
    )
    given = fpsim.get_unit("e4m3fn-chain-e5m10")
    assert torch.equal(
        SimulatedLinear(linear_weight(original), get_recipe("mxfp4"), given, "l")(x), wanted(x)
    )


# -- training ------------------------------------------------------------------------------------


def test_backward_is_straight_through() -> None:
    """The gradients are those of a product of the cast values."""
    original, x = linear(64, 8), heavy_tailed(5, 64).requires_grad_()
    layer = SimulatedLinear(linear_weight(original), get_recipe("int4"), EXACT, "layer")
    grad = torch.randn(5, 8)
    layer(x).backward(grad)
    chosen = get_recipe("int4")
    a, b = (fake_cast(chosen, n, t) for n, t in (("activation", x), ("weight", original.weight)))
    x_hat, w_hat = (torch.from_numpy((v * f).astype(np.float32)) for v, f in (a, b))
    torch.testing.assert_close(x.grad, grad @ w_hat)
    torch.testing.assert_close(original.weight.grad, grad.T @ x_hat)
    torch.testing.assert_close(original.bias.grad, grad.sum(0))


@pytest.mark.parametrize("recipe", ["mxfp4", "mxfp4-weights"])
def test_training_through_the_simulator_learns(recipe: str) -> None:
    """Weights change between steps, so codes are made anew each time."""
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)), recipe)
    x, target = torch.randn(64, 32), torch.randn(64, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    trained = restore(model)[0].weight
    assert model[0].weight is trained


def test_state_dicts_are_those_of_the_float_model() -> None:
    """They load both ways, and codes follow the weights that were loaded."""
    torch.manual_seed(0)
    plain, other = (nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 2)) for _ in range(2))
    simulated = convert(copy.deepcopy(plain), "mxfp4")
    assert list(simulated.state_dict()) == list(plain.state_dict())
    converted = convert(other, "mxfp4")
    x = torch.randn(3, 32)
    before = converted(x)
    converted.load_state_dict(plain.state_dict())
    assert not torch.equal(converted(x), before)
    assert torch.equal(converted(x), simulated(x))


def test_half_precision_models_keep_their_dtype() -> None:
    layer = SimulatedLinear(
        linear_weight(linear(32, 8).bfloat16()), get_recipe("mxfp4"), EXACT, "layer"
    )
    assert layer(torch.randn(2, 32, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_batch_without_tokens_gives_none() -> None:
    layer = SimulatedLinear(linear_weight(linear(32, 8)), get_recipe("int4"), EXACT, "layer")
    assert layer(torch.zeros(0, 32)).shape == (0, 8)


def test_errors_name_layer_and_pass() -> None:
    model = convert(nn.Sequential(linear(32, 8)), "int4")
    model(torch.ones(1, 32))
    with pytest.raises(FpsimError, match=r"layer 0: forward pass 2: activation: .*NaN"):
        model(torch.full((1, 32), torch.nan))


def test_multihead_attention_of_torch_is_left_alone() -> None:
    """It reads its out_proj's weight without calling the layer."""
    model = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    record = conversion_of(convert(model.eval(), "mxfp4"))
    reason = "MultiheadAttention reads its weight and never calls it"
    assert record.left == {"self_attn.out_proj": reason}
    assert record.replaced == ("linear1", "linear2")
    assert torch.isfinite(model(torch.randn(1, 5, 32))).all()
