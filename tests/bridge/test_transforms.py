# SPDX-License-Identifier: Apache-2.0
"""Transforms leave a layer's output as it was before casting, compose, and help where they should."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from torch import nn  # noqa: E402

from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import calibrate, convert, restore  # noqa: E402
from fpsim.bridge.linear import attached  # noqa: E402
from fpsim.bridge.transforms import (  # noqa: E402
    LayerTransform,
    Outliers,
    SmoothQuant,
    get_transforms,
    orthogonal,
    rotate_residual,
)

ALL = ["hadamard", "smoothquant", "smoothquant:alpha=0.8", "outliers:count=4"]


class Model(nn.Module):
    """Two layers whose input has outlier channels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(96, 48), nn.Linear(48, 8, bias=False)
        with torch.no_grad():  # as in language models: large inputs meet small weights
            self.first.weight[:, [3, 40, 77]] /= 6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


def data(rows: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 96, generator=generator)
    x[:, [3, 40, 77]] *= 12
    return x


@pytest.mark.parametrize("size", [1, 2, 7, 32, 48, 96, 576])
def test_rotations_are_orthogonal_and_dense(size: int) -> None:
    rotation = orthogonal(size)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(size), atol=1e-5, rtol=0)
    assert torch.equal(orthogonal(size), rotation)
    if size == 32:
        torch.testing.assert_close(rotation.abs(), torch.full((32, 32), 32**-0.5))


@pytest.mark.parametrize("name", ALL)
def test_products_stay_what_they_were(name: str) -> None:
    x, layer = data(), Model().first
    change = get_transforms(name)[0].layer(layer.weight.detach(), x)
    product = change.inputs(x) @ change.weight(layer.weight).T
    if change.apart is not None:
        product = product + x[:, change.apart] @ layer.weight[:, change.apart].T
    torch.testing.assert_close(product, x @ layer.weight.T, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(
    "names", [*ALL, "smoothquant+hadamard", "outliers:count=3+smoothquant+hadamard"]
)
def test_transforms_reduce_the_error_of_a_layer_with_outliers(names: str) -> None:
    """Composed or alone, against INT4 per token, which outliers hurt most."""
    model, x = Model(), data()
    truth = model(x)
    plain = (convert(model, "int4", only=("first",))(x) - truth).norm()
    restore(model)
    convert(model, "int4", transforms=names, batches=[{"x": x}], only=("first",))
    assert (model(x) - truth).norm() < 0.75 * plain
    restore(model)
    assert torch.equal(model(x), truth)


def test_split_channels_never_meet_the_cast() -> None:
    """What stays apart is exact to float32, however large."""
    model, x = Model(), data()
    convert(model, "int4", transforms=[Outliers(3)], batches=[{"x": x}], only=("first",))
    layer, simulated = model.first, attached(model.first)
    assert simulated.transforms[0].apart.tolist() == [3, 40, 77]
    values = simulated.operand().values()
    assert not values[:, [3, 40, 77]].any()
    with torch.no_grad():
        louder = x.clone()
        louder[:, 3] += 1000.0
        difference = layer(louder) - layer(x)
        torch.testing.assert_close(
            difference, 1000 * layer.weight[:, 3].expand_as(difference), rtol=1e-3, atol=1e-2
        )


def test_gradients_pass_through_transforms() -> None:
    model, x = Model(), data(20)
    convert(model, "int4", transforms="smoothquant+hadamard+outliers:count=2", batches=[{"x": x}])
    model(x).square().sum().backward()
    reference = Model()
    reference(x).square().sum().backward()
    cosine = nn.functional.cosine_similarity(
        model.first.weight.grad.flatten(), reference.first.weight.grad.flatten(), dim=0
    )
    assert cosine > 0.9


def test_a_transform_of_ones_own() -> None:
    class Halve:
        needs_inputs = False

        def layer(self, weight: torch.Tensor, inputs: Any) -> LayerTransform:
            return LayerTransform(lambda x: x / 2, lambda w: w * 2)

    model, x = Model(), data(5)
    wanted = convert(copy.deepcopy(model), "mxfp4")(x)
    assert torch.equal(convert(model, "mxfp4", transforms=[Halve()])(x), wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("hadamart", "transforms: 'hadamart' is not one of .*did you mean 'hadamard'"),
        ("smoothquant:alpha=2", "alpha: 2 is not in 0..1"),
        ("smoothquant:alpha=x", "'alpha=x' in .* is not option=number"),
        ("smoothquant:beta=1", "has an option that smoothquant does not take"),
        ("outliers:count=0", "count: 0 is not a positive number"),
    ],
)
def test_bad_transforms(given: str, message: str) -> None:
    with pytest.raises(FpsimError, match=message):
        convert(Model(), "int4", transforms=given, batches=[{"x": data(5)}])


def test_what_transforms_need() -> None:
    with pytest.raises(FpsimError, match="batches: these transforms look at inputs"):
        convert(Model(), "int4", transforms=[SmoothQuant()])


# -- under a search ------------------------------------------------------------------------------

SEARCHED = "llm-fp4@16/4/4:rounds=1"


@torch.no_grad()
@pytest.mark.parametrize("names", ["hadamard", "outliers:count=3+smoothquant"])
def test_a_search_sees_what_transforms_leave(names: str) -> None:
    """Its constants are those of a model that has the transformed weight and gets such inputs."""
    model, x = Model().eval(), data()[None]
    batches = [{"x": x}]
    found = calibrate(model, batches, SEARCHED, transforms=names, only=("first",))

    weight, inputs = model.first.weight.detach(), x
    for transform in get_transforms(names):
        change = transform.layer(weight, inputs[0])
        weight, inputs = change.weight(weight), change.inputs(inputs)
    plain = Model().eval()
    plain.first.weight.copy_(weight)
    wanted = calibrate(plain, [{"x": inputs}], SEARCHED, only=("first",)).layers["first"]
    got = found.layers["first"]
    assert (got.weight_format, got.input_format, got.rho) == (
        wanted.weight_format, wanted.input_format, wanted.rho,
    )  # fmt: skip
    assert got.weight_bias.tolist() == wanted.weight_bias.tolist()
    assert got.shifts.tolist() == wanted.shifts.tolist()

    convert(
        model, SEARCHED, calibration=found, transforms=names, batches=batches, only=("first",)
    )  # fmt: skip
    operand = convert(plain, SEARCHED, calibration=_as_of(plain, wanted), only=("first",)).first
    assert torch.equal(
        torch.from_numpy(attached(model.first).operand().values()),
        torch.from_numpy(attached(operand).operand().values()),
    )
    restore(model)


def _as_of(model: nn.Module, constants: Any) -> Any:
    found = calibrate(model, [{"x": data(40)}], SEARCHED, only=("first",))
    found.layers["first"] = constants
    return found


def test_constants_belong_to_their_transforms() -> None:
    """Other transforms, none, or the same on other data: refused, and the model is as it was."""
    model, batches = Model().eval(), [{"x": data()}]
    found = calibrate(model, batches, SEARCHED, transforms="smoothquant")
    refused = [
        ({}, "first has other weights"),
        ({"transforms": "hadamard"}, "first has other weights"),
        ({"transforms": "smoothquant", "batches": [{"x": 2 * data()}]}, "first has other weights"),
    ]
    for given, message in refused:
        with pytest.raises(FpsimError, match=message):
            convert(model, SEARCHED, calibration=found, **given)
        assert isinstance(model.first, nn.Linear)
    convert(model, SEARCHED, calibration=found, transforms="smoothquant", batches=batches)
    restore(model)


def test_a_search_is_resumed_under_its_transforms_only(tmp_path: Path) -> None:
    model, batches, out = Model().eval(), [{"x": data()}], tmp_path / "found.safetensors"
    calibrate(model, batches, SEARCHED, out=out, transforms="hadamard")
    again = calibrate(model, batches, SEARCHED, out=out, transforms="hadamard")
    assert again.complete
    with pytest.raises(FpsimError, match=r"is a calibration with transforms \['Hadamard\(seed=0"):
        calibrate(model, batches, SEARCHED, out=out, transforms="hadamard:seed=1")


# -- the residual stream -------------------------------------------------------------------------


def llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    options = {
        "vocab_size": 97, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    }  # fmt: skip
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**options | changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(torch.rand_like(parameter) + 0.5)
    return model


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"attention_bias": True, "tie_word_embeddings": False}])
def test_a_rotated_model_computes_what_it_did(changes: dict[str, Any]) -> None:
    model, ids = llama(**changes), torch.arange(30)[None]
    before = model(input_ids=ids).logits
    stream = model.model.embed_tokens(ids)
    rotate_residual(model)
    torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(model.model.embed_tokens(ids), stream, atol=1e-3)
    assert float((model.model.layers[0].input_layernorm.weight - 1).abs().max()) == 0


def test_models_that_cannot_be_rotated_say_why() -> None:
    with pytest.raises(FpsimError, match="Linear has no model"):
        rotate_residual(nn.Linear(2, 2))
    common = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    }  # fmt: skip
    gemma = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**common))
    with pytest.raises(FpsimError, match="layer 0 has also p.*norm"):
        rotate_residual(gemma)
    config = transformers.GemmaConfig(**common)
    with pytest.raises(FpsimError, match=r"GemmaRMSNorm is not x / rms\(x\) \* weight"):
        rotate_residual(transformers.GemmaForCausalLM(config))
