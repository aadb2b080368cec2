# SPDX-License-Identifier: Apache-2.0
"""Every system on a tiny LLaMA: calibrated, saved, run on a unit, and gone without a trace."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from support.system_models import BATCHES, SYSTEMS, calibrated, fake_quantized, uneven  # noqa: E402
from support.tiny_models import bert, built, gpt2, llama  # noqa: E402

from fpsim import get_unit  # noqa: E402
from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.bridge import calibrate, conversion_of, convert, get_recipe, restore  # noqa: E402
from fpsim.bridge.layer_operands import layer_operands  # noqa: E402
from fpsim.bridge.linear import simulated_layers  # noqa: E402
from fpsim.bridge.measure import diffusion  # noqa: E402
from fpsim.bridge.measure.macs import mac_share  # noqa: E402
from fpsim.bridge.product import Product  # noqa: E402
from fpsim.bridge.recipes.trained import OmniRecipe, distillation_loss  # noqa: E402
from fpsim.bridge.stored import load_calibration  # noqa: E402
from fpsim.bridge.systems.calibrator import casting  # noqa: E402
from fpsim.bridge.systems.file import SystemCalibration  # noqa: E402
from fpsim.bridge.systems.forms import float_product  # noqa: E402
from fpsim.bridge.systems.recipe import BlockData  # noqa: E402
from fpsim.bridge.systems.stream import blocks_of  # noqa: E402
from fpsim.bridge.transform_plan import layer_transforms  # noqa: E402
from fpsim.bridge.transforms import get_transforms, orthogonal  # noqa: E402
from fpsim.bridge.weights import weights_of  # noqa: E402


def swept_but(names: set[str]) -> list[Any]:
    """Return every system, those that are not among the names for the sweep."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.sweep)
            for name in SYSTEMS]  # fmt: skip


#: Systems that need no kernels which nothing else in the default suite does.
CHEAP = {"quarot", "smoothquant:inputs=e2m1,element=e2m1", "quik"}
#: The first form of every system.
FIRST = CHEAP | set({name.partition(":")[0]: name for name in reversed(SYSTEMS)}.values())

#: Systems that train constants of their operands.
TRAINED = {name for name in SYSTEMS if name.startswith(("omniquant", "affinequant", "db-llm"))}
#: The largest distance from the float model's outputs; two bits leave less of a random model.
FAR = {"db-llm": 1.1, "slim-llm": 1.1}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**BATCHES[0]).logits


def faked(recipe: str) -> torch.Tensor:
    """The model with a recipe's layers in float32."""
    layers = weights_of(uneven())[0]
    with casting(layers, calibrated(recipe).layers, dict.fromkeys(layers, ()), float_product()):
        return logits(uneven())


@pytest.mark.parametrize("recipe", swept_but(FIRST))
def test_layers_stay_near_the_float_model(recipe: str) -> None:
    before = {name: value.clone() for name, value in uneven().state_dict().items()}
    found = calibrated(recipe)
    assert len(found.layers) == 14
    wanted = logits(uneven())
    away = float((faked(recipe) - wanted).norm() / wanted.norm())
    # Without anything in common it would be 1.4.
    assert 0 < away < FAR.get(recipe.partition(":")[0], 0.8), away
    after = uneven().state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any("forward" in module.__dict__ for module in uneven().modules())
    assert all(parameter.requires_grad for parameter in uneven().parameters())


@pytest.mark.parametrize("recipe", swept_but(CHEAP))
def test_products_on_an_exact_unit_are_those_of_fake_quantization(recipe: str) -> None:
    """To the last bit of float32, of every layer of the first block."""
    random = np.random.default_rng(0)
    for name, form in list(calibrated(recipe).layers.items())[:7]:
        width = weights_of(uneven())[0][name].sizes[0]
        x = random.standard_normal((3, width)).astype(np.float32)
        main = form.mapped(x)
        for side in form.sides:
            main = side.main(main)
        for segment in form.segments:
            inputs = segment.inputs(main)
            found, _ = Product(get_unit("exact")).run(segment.cast.quantize(inputs), segment.weight)
            np.testing.assert_array_equal(found, fake_quantized(segment, inputs), err_msg=name)


def test_a_layer_adds_its_parts_in_the_order_stated() -> None:
    name = "model.layers.0.self_attn.q_proj"
    form = calibrated("quik").layers[name]
    x = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    side = form.sides[0]
    half = x[:, side.columns].astype(np.float16).astype(np.float32)
    beside = half @ side.weight.astype(np.float16).astype(np.float32).T
    wanted = fake_quantized(form.segments[0], form.segments[0].inputs(x)) + beside
    model = uneven()
    convert(model, "quik", "exact", calibration=calibrated("quik"))
    try:
        found = simulated_layers(model)[name](torch.from_numpy(x))
        share = mac_share(model, BATCHES[0])
    finally:
        restore(model)
    np.testing.assert_array_equal(found.detach().numpy(), wanted)
    every = [side for form in calibrated("quik").layers.values() for side in form.sides]
    assert share.rest["side paths"] == 64 * sum(side.weight.size for side in every)


@pytest.mark.parametrize("recipe", ["quik", "quarot", "quad"])
def test_a_converted_model_runs_what_was_calibrated(recipe: str, tmp_path: Path) -> None:
    path = tmp_path / "system.safetensors"
    calibrated(recipe).save(path)
    convert(uneven(), recipe, "exact", calibration=path)
    try:
        found, record = logits(uneven()), conversion_of(uneven())
    finally:
        restore(uneven())
    # Last bits of float32 sums differ, which may move a code or two.
    assert float((found - faked(recipe)).norm() / found.norm()) < 0.01
    assert len(record.replaced) == 14
    assert any("side paths take" in note for note in record.notes) == (recipe != "quarot")
    assert record.causal


def test_calibrated_weights_are_not_held_in_float_beside_their_codes() -> None:
    """Each form is the least that a block leaves behind: memory is bounded by one block."""
    for recipe in ("spqr", "db-llm:group=16,epochs=0,steps=1"):
        for form in calibrate(uneven(), BATCHES, recipe).layers.values():
            for part in (*form.segments, *form.sides):
                assert vars(part).keys() == {field.name for field in dataclasses.fields(part)}


def test_files_hold_everything(tmp_path: Path) -> None:
    for recipe in ("quad", "affinequant:epochs=1", "flattenquant", "spqr"):
        path = tmp_path / "system.safetensors"
        calibrated(recipe).save(path)
        loaded = SystemCalibration.load(path)
        x = np.random.default_rng(2).standard_normal((3, 64)).astype(np.float32)
        for name in ("model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.o_proj"):
            one, other = (
                c.layers[name].output(x, float_product()) for c in (calibrated(recipe), loaded)
            )
            np.testing.assert_array_equal(one, other)


def test_files_of_other_recipes_and_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "quik.safetensors"
    calibrated("quik").save(path)
    with pytest.raises(FpsimError, match="made with system 'QuikRecipe', but recipe quarot has"):
        convert(uneven(), "quarot", calibration=path)
    with pytest.raises(FpsimError, match="made with columns 0, but recipe quik:columns=3 has 3"):
        convert(uneven(), "quik:columns=3", calibration=path)
    torch.manual_seed(9)
    with pytest.raises(FpsimError, match=r"another model: layer model\.layers\.0\.\S+ has other"):
        convert(llama().eval(), "quik", calibration=path)
    with pytest.raises(FpsimError, match="needs a calibration"):
        convert(uneven(), "quik")
    other = tmp_path / "other.safetensors"
    calibrate(uneven(), BATCHES[:1], "llm-fp4-minmax", out=other)
    with pytest.raises(FpsimError, match="another kind of recipe"):
        convert(uneven(), "quik", calibration=other)
    kinds = [type(load_calibration(file)).__name__ for file in (path, other)]
    assert kinds == ["SystemCalibration", "Calibration"]
    with pytest.raises(FpsimError, match="does not exist"):
        load_calibration(tmp_path / "none.safetensors")
    assert not hasattr(uneven(), "_fpsim_conversion")


def test_an_interrupted_calibration_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "system.safetensors"
    said: list[str] = []

    def stop(done: int, total: int, figures: str) -> None:
        said.append(figures)
        if figures.startswith("block 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(uneven(), BATCHES, "quarot", out=path, report=stop)
    with pytest.raises(FpsimError, match="holds 7 of 14 layers"):
        SystemCalibration.load(path)
    said.clear()
    found = calibrate(uneven(), BATCHES, "quarot", out=path, report=lambda *x: said.append(x[2]))
    assert [line[:7] for line in said] == ["", "block 2"]
    assert "min left" in said[-1]
    whole = calibrated("quarot")
    for name, form in found.layers.items():
        np.testing.assert_array_equal(
            form.segments[0].weight.codes, whole.layers[name].segments[0].weight.codes
        )
    with pytest.raises(FpsimError, match="made with damping 0.01, but this calibration has 0.1"):
        calibrate(uneven(), BATCHES, "quarot:damping=0.1", out=path)


def test_later_layers_see_what_is_cast_before_them() -> None:
    """With the first block spoiled, second moments of the second block differ."""
    coarse = calibrate(
        uneven(), BATCHES, "gptq:element=int2,inputs=float", only=["*layers.0.*", "*layers.1.*"]
    )
    alone = calibrate(uneven(), BATCHES, "gptq:element=int2,inputs=float", only=["*layers.1.*"])
    name = "model.layers.1.mlp.gate_proj"
    one, other = (c.layers[name].segments[0].weight.codes for c in (coarse, alone))
    assert (one != other).any()


def test_padded_positions_take_no_part() -> None:
    found = []
    for filler in (5, 90):
        tokens = torch.full((2, 40), filler)
        mask = torch.zeros(2, 40, dtype=torch.long)
        for row, seed in enumerate((1, 2)):
            length = 40 - 11 * row
            generator = torch.Generator().manual_seed(seed)
            tokens[row, 40 - length :] = torch.randint(1, 97, (length,), generator=generator)
            mask[row, 40 - length :] = 1
        found.append(calibrate(uneven(), [{"input_ids": tokens, "attention_mask": mask}], "gptq"))
    for name, form in found[0].layers.items():
        np.testing.assert_array_equal(
            form.segments[0].weight.codes, found[1].layers[name].segments[0].weight.codes
        )


def test_encoders_and_other_linears() -> None:
    """BERT's pooler is in no block; GPT-2 stores its weights the other way round."""
    recipe = "gptq:inputs=int4,element=int4,solver=false"
    for build, layers in ((bert, 13), (gpt2, 8)):
        model = built(build)
        found = calibrate(model, BATCHES[:1], recipe)
        assert len(found.layers) == layers
        convert(model, recipe, calibration=found)
        model(input_ids=BATCHES[0]["input_ids"][:1, :8])
        restore(model)


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("quarot", "BertModel has no norm in encoder.layer.0 before .* into which quarot folds"),
        ("omniquant", "BertModel has no norm in encoder.layer.0"),
        ("gptq:group=24", "group: 24 columns do not divide the layer's 64"),
        ("gptq:order=random", "order: 'random' is not one of natural, activation"),
        ("gptq:inputs=e9m9q", "inputs: 'e9m9q' is not one of"),
        ("gptq:zeros=maybe", "zeros: 'maybe' is not one of correct, unit"),
        ("quik:columns=-1", "columns: -1 is not a number from 0 on"),
        ("slim-llm:average=1", "average: 1 is not in 2..7"),
    ],
)
def test_what_cannot_be_is_one_sentence(recipe: str, sentence: str) -> None:
    model = built(bert)
    with pytest.raises(FpsimError, match=sentence):
        calibrate(model, BATCHES, recipe)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_norms_that_are_no_rms_norms_are_refused() -> None:
    with pytest.raises(FpsimError, match="LayerNorm is not x / rms"):
        calibrate(built(gpt2), BATCHES, "quarot")


def test_heads_without_a_hadamard_matrix_are_refused() -> None:
    torch.manual_seed(0)
    model = llama(hidden_size=66, num_attention_heads=3, num_key_value_heads=3).eval()
    with pytest.raises(FpsimError, match="no matrix of order 66 is known"):
        calibrate(model, BATCHES, "quarot")


def test_layers_that_no_rotation_fits_are_refused() -> None:
    torch.manual_seed(0)
    model = diffusion.DigitsDiT().eval()
    batches = [{"sample": torch.randn(2, 1, 8, 8), "timestep": torch.tensor([1, 500]),
                "labels": torch.tensor([3, 4])}]  # fmt: skip
    sentence = r"blocks\.0\.modulation: it neither reads a norm nor writes the residual stream"
    for recipe in ("quarot", "quad"):
        with pytest.raises(FpsimError, match=sentence):
            calibrate(model, batches, recipe)


def test_nan_in_a_stream_names_the_layer() -> None:
    torch.manual_seed(0)
    model = llama().eval()
    with torch.no_grad():
        model.model.layers[1].post_attention_layernorm.weight[3] = float("nan")
    with pytest.raises(
        FpsimError, match=r"layers\.1\.mlp\.gate_proj: its calibration input holds NaN"
    ):
        calibrate(model, BATCHES, "gptq")
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_weights_that_change_after_calibration_are_refused() -> None:
    torch.manual_seed(0)
    model = llama().eval()
    found = calibrate(model, BATCHES, "gptq:inputs=int4,element=int4,solver=false")
    convert(model, "gptq:inputs=int4,element=int4,solver=false", calibration=found)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(2)
    with pytest.raises(FpsimError, match="mlp.up_proj: its weight has changed since gptq"):
        model(**BATCHES[0])


def test_transforms_come_before_a_system() -> None:
    recipe = "gptq:inputs=int4,element=int4"
    found = calibrate(uneven(), BATCHES[:2], recipe, transforms="hadamard")
    convert(uneven(), recipe, calibration=found, transforms="hadamard")
    turned = logits(uneven())
    restore(uneven())
    wanted, plain = logits(uneven()), faked(recipe) if recipe in SYSTEMS else None
    assert plain is None
    assert float((turned - wanted).norm() / wanted.norm()) < 0.6
    with pytest.raises(FpsimError, match="another model"):
        convert(uneven(), recipe, calibration=found)


def away_on_unit(recipe: str, found: Any, transform: str) -> float:
    """How far the converted model's logits are from the float model's, over their size."""
    model = uneven()
    convert(model, recipe, "exact", calibration=found, transforms=transform, batches=BATCHES)
    try:
        got = logits(model)
    finally:
        restore(model)
    wanted = logits(model)
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("transform", ["hadamard", "smoothquant", "outliers"])
@pytest.mark.parametrize("recipe", swept_but(TRAINED))
def test_systems_compose_with_transforms(recipe: str, transform: str) -> None:
    """The outputs have something in common with the float model's: 1.4 would be nothing."""
    found = calibrate(uneven(), BATCHES, recipe, transforms=transform)
    assert away_on_unit(recipe, found, transform) < FAR.get(recipe.partition(":")[0], 0.8)


@pytest.mark.parametrize("transform", ["hadamard", "smoothquant", "outliers"])
@pytest.mark.parametrize("name", ["omniquant", "affinequant"])
def test_constants_are_trained_on_transformed_operands(name: str, transform: str) -> None:
    recipe, model = f"{name}:element=int8,inputs=int8-asym,epochs=1", uneven()
    said: list[str] = []
    found = calibrate(
        model, BATCHES, recipe, transforms=transform, report=lambda _, __, line: said.append(line)
    )
    losses = [float(line.partition("loss ")[2].split()[0]) for line in said if "loss" in line]
    assert len(losses) == 2
    assert max(losses) < 0.05, losses
    # A head's matrix would have to be undone before the transform, in which heads are mixed.
    assert found.layers["model.layers.0.self_attn.v_proj"].back is None
    assert not found.layers["model.layers.0.self_attn.o_proj"].maps
    assert away_on_unit(recipe, found, transform) < 0.1


def test_planes_are_distilled_on_transformed_operands() -> None:
    def away(recipe: str) -> float:
        found = calibrate(model, BATCHES, recipe, transforms="hadamard")
        convert(model, recipe, "exact", calibration=found, transforms="hadamard")
        try:
            student = torch.cat([model(**batch).logits.detach() for batch in BATCHES])
        finally:
            restore(model)
        return float(distillation_loss(teacher, student, tokens))

    model, tokens = uneven(), torch.cat([batch["input_ids"] for batch in BATCHES])
    with torch.no_grad():
        teacher = torch.cat([model(**batch).logits for batch in BATCHES])
    recipe = "db-llm:inputs=float,group=16,epochs=0,rate=0.01"
    assert away(recipe) < 0.95 * away(f"{recipe},steps=0")


def test_layers_outside_the_blocks_are_measured_on_transformed_inputs() -> None:
    recipe, seen, model = "gptq:element=int4,inputs=int4", [], uneven()
    hook = model.lm_head.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    for batch in BATCHES:
        model(**batch)
    hook.remove()
    found = calibrate(
        model, BATCHES, recipe, only=["lm_head", "*.0.*"], skip=[], transforms="hadamard"
    )
    turn = orthogonal(64)
    x = (torch.cat(seen).flatten(0, 1) @ turn).detach().double().numpy()
    weight = (model.lm_head.weight @ turn).detach().double().numpy()
    form = found.layers["lm_head"]
    change = form.output(np.eye(64, dtype=np.float32), float_product(False)) - weight.T
    wanted = ((x @ change) ** 2).sum() / ((x @ weight.T) ** 2).sum()
    assert form.error == pytest.approx(wanted, rel=1e-3)


def test_systems_that_read_the_float_model_read_it_at_every_block() -> None:
    seen: list[Any] = []

    class Looking(OmniRecipe):
        def begin_block(self, data: BlockData) -> dict[str, Any]:
            seen.append(data)
            return super().begin_block(data)

    model = uneven()
    calibrate(model, BATCHES, Looking(name="omniquant", epochs=0))
    inputs: dict[str, list[torch.Tensor]] = {}
    outputs: dict[str, list[torch.Tensor]] = {}
    names = [*weights_of(model)[0], *(data.block.name for data in seen)]

    def look(name: str) -> Any:
        def hook(_: Any, args: Any, output: Any) -> None:
            inputs.setdefault(name, []).append(args[0])
            outputs.setdefault(name, []).append(output)

        return model.get_submodule(name).register_forward_hook(hook)

    hooks = [look(name) for name in names]
    with torch.no_grad():
        for batch in BATCHES:
            model(**batch)
    for hook in hooks:
        hook.remove()
    assert [data.block.name for data in seen] == ["model.layers.0", "model.layers.1"]
    for data in seen:
        for one, two in zip(data.outputs, outputs[data.block.name], strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
        assert data.statistics.keys() == data.block.layers.keys()
        for name, statistics in data.statistics.items():
            rows = torch.cat(inputs[name]).flatten(0, 1).numpy()
            np.testing.assert_allclose(statistics.maxima, abs(rows).max(0), rtol=1e-4)


@pytest.mark.parametrize("transform", ["hadamard", "smoothquant", "outliers"])
def test_a_block_computes_transformed_layers(transform: str) -> None:
    layers = weights_of(uneven())[0]
    changes = layer_transforms(uneven(), layers, get_transforms(transform), BATCHES)
    block = blocks_of(uneven(), layers, changes)[0][1]
    for name, weight in block.layers.items():
        x, matrix = torch.randn(2, 9, weight.sizes[0]), block.matrix(name)
        assert not torch.equal(matrix, weight.matrix)
        found = block.computed(name, lambda x, matrix=matrix: x @ matrix.T)(x)
        torch.testing.assert_close(found, x @ weight.matrix.T, rtol=1e-4, atol=1e-4)


def test_operands_of_layers_are_those_of_the_form() -> None:
    operands = layer_operands(
        uneven(), BATCHES[0], "quarot", layer="*0.mlp.up_proj", calibration=calibrated("quarot")
    )
    ((inputs, weight),) = operands.values()
    form = calibrated("quarot").layers["model.layers.0.mlp.up_proj"]
    np.testing.assert_array_equal(weight.codes, form.segments[0].weight.codes)
    assert inputs.codes.shape == (64, 64)


def test_gradients_are_those_of_the_float_layers() -> None:
    model = uneven()
    convert(model, "quarot", calibration=calibrated("quarot"))
    try:
        loss = model(**BATCHES[0]).logits.square().mean()
        loss.backward()
        assert model.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0
    finally:
        restore(model)
        model.zero_grad(set_to_none=True)


def test_every_system_is_a_recipe_that_says_what_it_is() -> None:
    for name in dict.fromkeys(recipe.partition(":")[0] for recipe in (*SYSTEMS, "fp4-train-infer")):
        recipe = get_recipe(name)
        assert "Source: " in type(recipe).__doc__
        assert dataclasses.is_dataclass(recipe)


def test_damping_that_was_not_enough_is_said() -> None:
    said: list[str] = []
    few = [{"input_ids": BATCHES[0]["input_ids"][:1, :9]}]
    calibrate(uneven(), few, "gptq:damping=0", report=lambda *x: said.append(x[2]))
    assert "q_proj: damped by 0.01" in said[1]


@pytest.mark.sweep
@pytest.mark.parametrize(
    "recipe", ["quarot:kv=int4-asym", "qrazor-static:kv=true", "aqas:values=int4-asym"]
)
def test_caches_are_cast_on_the_unit(recipe: str) -> None:
    name = recipe.partition(":")[0]
    wanted = faked(name)
    found = calibrate(uneven(), BATCHES, recipe)
    convert(uneven(), recipe, calibration=found)
    try:
        assert len(conversion_of(uneven()).attention) == 2
        away = float((logits(uneven()) - wanted).norm() / wanted.norm())
    finally:
        restore(uneven())
    assert 0.005 < away < 0.5, away
