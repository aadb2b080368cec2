# SPDX-License-Identifier: Apache-2.0
"""What makes each system what it is, against brute force and plain formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from support.system_models import BATCHES, calibrated, decoded, uneven  # noqa: E402
from torch import nn  # noqa: E402

from fpsim.bridge import calibrate, get_recipe  # noqa: E402
from fpsim.bridge.product import float_rows  # noqa: E402
from fpsim.bridge.recipes.mixed import FORMATS, chosen_format, salience  # noqa: E402
from fpsim.bridge.recipes.outliers import SpqrGrid, leave_one_out  # noqa: E402
from fpsim.bridge.recipes.rotations import residual_projection  # noqa: E402
from fpsim.bridge.recipes.scales import low_rank  # noqa: E402
from fpsim.bridge.recipes.trained import Planes, distillation_loss  # noqa: E402
from fpsim.bridge.systems.calibrator import casting  # noqa: E402
from fpsim.bridge.systems.casts import GridCast, RangeCast  # noqa: E402
from fpsim.bridge.systems.forms import (  # noqa: E402
    BlockHadamard,
    Clamp,
    Columns,
    Divide,
    Flatten,
    Matrix,
    float_product,
)
from fpsim.bridge.systems.grids import GroupGrid  # noqa: E402
from fpsim.bridge.systems.hadamard import hadamard, random_hadamard  # noqa: E402
from fpsim.bridge.systems.learned import Reader, cayley_step  # noqa: E402
from fpsim.bridge.systems.stream import Block  # noqa: E402
from fpsim.bridge.systems.trainer import InputScales, LearnedLinear, train_block  # noqa: E402
from fpsim.bridge.weights import linear_weight, weights_of  # noqa: E402
from fpsim.formats.names import get_format  # noqa: E402

random = np.random.default_rng(0)
X = random.standard_normal((9, 48)).astype(np.float32)
W = random.standard_normal((5, 48))
ATTENTION = "model.layers.0.self_attn"


def test_hadamard_matrices() -> None:
    for size in (1, 2, 12, 20, 28, 36, 44, 60, 64, 76, 108, 140, 576, 1536):
        matrix = hadamard(size)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
        np.testing.assert_allclose(np.abs(matrix), size**-0.5, rtol=1e-12)
    turned = random_hadamard(12, 3)
    np.testing.assert_allclose(turned @ turned.T, np.eye(12), atol=1e-12)


@pytest.mark.parametrize(
    "step",
    [
        Divide(np.linspace(0.5, 3, 48, dtype=np.float32)),
        Matrix(np.linalg.qr(random.standard_normal((48, 48)))[0].astype(np.float32)),
        Matrix(residual_projection(np.cov(X.T), 6).astype(np.float32)),
        BlockHadamard(16),
        BlockHadamard(12),
        Columns(np.repeat(np.arange(48), 2), np.full(96, 0.5, np.float32)),
        Flatten(
            np.repeat(np.arange(48), 3), np.tile(np.arange(3), 48), np.tile([False, False, True], 48), 0.7
        ),
    ],
    ids=lambda step: type(step).__name__,
)  # fmt: skip
def test_maps_leave_products_as_they_were(step: Any) -> None:
    found = step.inputs(X).astype(np.float64) @ step.weight(W).T
    np.testing.assert_allclose(found, X @ W.T, rtol=1e-4, atol=1e-4)


def test_parts_of_a_flattened_channel() -> None:
    values = np.array([[2.5, -2.5, 0.3, 0.0]], np.float32)
    step = Flatten(
        np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4), np.tile([False, False, True], 4), 1.0
    )
    wanted = [1, 1, 0.5, -1, -1, -0.5, 0.3, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(step.inputs(values)[0], wanted, atol=1e-7)


# -- rotations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["quarot", "quad", "spinquant:steps=2", "affinequant:epochs=1"])
def test_forms_without_rounding_compute_the_float_layer(recipe: str) -> None:
    """Weights that maps and the way back make of the float ones, in the place of codes."""
    for name, form in calibrated(recipe).layers.items():
        module = uneven().get_submodule(name)
        weight = module.weight.detach().double().numpy()
        x = random.standard_normal((4, weight.shape[1])).astype(np.float32)
        mapped = weight
        for step in form.maps:
            mapped = step.weight(mapped)
        if form.back is not None:  # rows are turned so that `back` turns them back
            mapped = np.linalg.pinv(form.back.astype(np.float64)).T @ mapped
        out = form.mapped(x).astype(np.float64) @ mapped.T
        if form.back is not None:
            out = out @ form.back
        if form.bias is not None:
            out = out + form.bias
        wanted = x @ weight.T
        np.testing.assert_allclose(out, wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max())


def test_quad_projects_onto_the_strongest_directions() -> None:
    x = random.standard_normal((500, 24)) * np.where(np.arange(24) < 3, 20, 1)
    projection = residual_projection(x.T @ x, 3)
    np.testing.assert_allclose(projection @ projection.T, np.eye(24), atol=1e-9)
    moved = x @ projection
    assert (moved[:, :3] ** 2).sum() > 0.9 * (x**2).sum()
    form = calibrated("quad").layers[f"{ATTENTION}.q_proj"]
    side, segment = form.sides[0], form.segments[0]
    assert side.columns.tolist() == [0, 1, 2, 3]
    assert segment.columns.tolist() == list(range(4, 68))


def test_cayley_steps_stay_orthogonal_and_go_downhill() -> None:
    goal = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]
    goal = goal * torch.sign(torch.linalg.det(goal))
    turn, before = torch.eye(12), float((torch.eye(12) - goal).square().sum())
    for _ in range(60):
        turn = cayley_step(turn, turn - goal, 0.3)
    assert float((turn - goal).square().sum()) < 0.9 * before
    torch.testing.assert_close(turn.T @ turn, torch.eye(12), rtol=0, atol=1e-4)


def test_spinquant_learns_an_orthogonal_matrix() -> None:
    found = calibrated("spinquant:steps=2").shared["rotation"].astype(np.float64)
    np.testing.assert_allclose(found.T @ found, np.eye(64), atol=1e-4)
    assert all(parameter.requires_grad for parameter in uneven().parameters())


def test_spinquant_turns_heads_where_values_are_made_and_back_where_they_are_read() -> None:
    found = calibrated("spinquant:steps=2")
    turns = [found.shared[f"model.layers.{n}"] for n in range(2)]
    for number, turn in enumerate(turns):
        assert turn.shape == (16, 16)
        np.testing.assert_allclose(turn.T @ turn, np.eye(16), atol=1e-5)
        attention = f"model.layers.{number}.self_attn"
        value, end = (found.layers[f"{attention}.{name}_proj"] for name in "vo")
        np.testing.assert_array_equal(end.maps[0].matrix, turn)
        np.testing.assert_array_equal(value.back, np.kron(np.eye(2), turn.T))
        assert found.layers[f"{attention}.k_proj"].back is None
    assert np.abs(turns[0] - turns[1]).max() > 0.01
    alike = calibrated("spinquant:steps=2,heads=false")
    assert isinstance(alike.layers[f"{ATTENTION}.o_proj"].maps[0], BlockHadamard)


@pytest.mark.parametrize("width", [48, 12])
def test_turned_readers_compute_the_float_layer(width: int) -> None:
    module = nn.Linear(48, 5)
    turn = torch.linalg.qr(torch.randn(width, width))[0]
    reader = Reader(module, torch.rand(48) + 0.5, "")
    x = torch.from_numpy(X)
    torch.testing.assert_close(reader.forward(x, turn, None), module(x), rtol=1e-4, atol=1e-5)
    cast = GridCast(get_format("int4s"))
    wrong = (reader.forward(x, turn, cast) - module(x)).abs().max()
    assert 1e-3 < wrong < 1


# -- outliers ------------------------------------------------------------------------------------


def test_quik_keeps_the_loudest_channels_apart() -> None:
    form = calibrated("quik").layers[f"{ATTENTION}.k_proj"]
    assert 7 in form.sides[0].columns  # the norm's gain is six times the others' there
    assert len(form.segments[0].columns) + len(form.sides[0].columns) == 64
    down = calibrated("quik").layers["model.layers.0.mlp.down_proj"]
    assert down.segments[0].weight.format.bits == 8
    assert down.segments[0].cast.bits == 8


def test_quik_with_every_column_apart_is_half_precision() -> None:
    found = calibrate(uneven(), BATCHES[:1], "quik:columns=64", only=["*layers.0.self_attn.*"])
    form = found.layers[f"{ATTENTION}.q_proj"]
    x = random.standard_normal((6, 64)).astype(np.float32)
    weight = uneven().get_submodule(f"{ATTENTION}.q_proj").weight.detach().numpy()
    half = x.astype(np.float16).astype(float) @ weight.astype(np.float16).astype(float).T
    np.testing.assert_allclose(form.output(x, float_product()), half, rtol=1e-4, atol=1e-4)


def test_spqr_leaves_one_out_by_brute_force() -> None:
    values, weights = random.standard_normal((7, 16)), random.uniform(0.5, 2, 16)
    values[:, 3] *= 8
    found = leave_one_out(values, weights, 15)

    def error(part: np.ndarray, w: np.ndarray) -> float:
        low, high = part.min(), part.max()
        scale = (high - low) / 15
        zero = -low / scale
        back = (np.clip(np.rint(part / scale + zero), 0, 15) - zero) * scale
        return float((((back - part) ** 2) * w).sum())

    for row in range(7):
        whole = error(values[row], weights)
        for j in range(16):
            rest = np.delete(values[row], j), np.delete(weights, j)
            assert found[row, j] == pytest.approx(whole - error(*rest), abs=1e-12)
    assert found.mean(axis=0).argmax() == 3


def test_spqr_dense_and_sparse_parts_are_the_weight() -> None:
    found = calibrated("spqr").layers
    shares = []
    for name, form in found.items():
        dense = form.segments[0].dense.astype(np.float64)
        weight = uneven().get_submodule(name).weight.detach().numpy().astype(np.float64)
        if not form.sides:
            continue
        side = form.sides[0]
        shares.append(len(side.values) / weight.size)
        assert len(np.unique(side.rows * weight.shape[1] + side.columns)) == len(side.rows)
        assert np.abs(dense + side._dense - weight).max() < 1.5 * np.abs(weight).max()
    assert shares
    assert max(shares) < 0.05


def test_spqr_scales_have_three_bits_per_sixteen_rows() -> None:
    grid = SpqrGrid((32, 16), 16, 4, np.inf)
    grid.start(0, random.standard_normal((32, 16)), np.ones(16))
    for first in (0, 16):
        assert len(np.unique(grid.scale[first : first + 16])) <= 8
    np.testing.assert_array_equal(grid.zero * 8, np.rint(grid.zero * 8))


def test_occ_loses_nothing_but_the_casts() -> None:
    x = random.standard_normal((64, 48)).astype(np.float32)
    side = Clamp(0.95, W.astype(np.float32), "e8m23")
    low, high = np.quantile(x, [0.05, 0.95])
    np.testing.assert_allclose(side.main(x), np.clip(x, low, high), rtol=1e-6)
    whole = side.main(x) @ W.T + side.output(x)
    np.testing.assert_allclose(whole, x @ W.T, rtol=1e-4, atol=1e-4)
    assert 0.08 < ((side.main(x) != x).mean()) < 0.12
    assert side.macs == pytest.approx(0.1 * W.size)


def test_occ_raises_the_signal_to_noise_ratio() -> None:
    """Loud values cost the others their resolution: direct, clamped, clamped with the rest."""
    x = random.standard_t(3, (64, 128)).astype(np.float32)
    weight = torch.from_numpy(random.standard_normal((32, 128)).astype(np.float32))
    wanted = x @ weight.numpy().T

    def noise(options: str) -> float:
        form = get_recipe(f"fp4-train-infer{options}").form("", weight)
        return float(((form.output(x, float_product()) - wanted) ** 2).sum())

    assert noise("") < noise(":alpha=1") and noise("") < noise(":residual=none")


# -- scales --------------------------------------------------------------------------------------


def test_awq_is_no_worse_than_without_scales() -> None:
    """The best of its candidates, among which is no scale at all, by the module's own output."""
    only = ["*layers.0.mlp.*", "*layers.0.self_attn.o_proj"]
    plain, unscaled = (
        calibrate(uneven(), BATCHES[:1], f"awq:group=16,scale={scale},clip=false", only=only).layers
        for scale in ("true", "false")
    )
    gate = "model.layers.0.mlp.gate_proj"
    assert plain[gate].maps and not unscaled[gate].maps
    errors = [
        sum(form.error for name, form in layers.items() if "gate" in name or "up" in name)
        for layers in (plain, unscaled)
    ]
    assert errors[0] < errors[1]
    # Under grouped-query attention nothing can be folded before the layer that ends attention.
    assert not plain[f"{ATTENTION}.o_proj"].maps


def test_smoothquant_scales_by_the_maxima_of_all_readers() -> None:
    form = calibrated("smoothquant").layers[f"{ATTENTION}.v_proj"]
    seen: list[np.ndarray] = []
    hook = (
        uneven()
        .get_submodule(f"{ATTENTION}.q_proj")
        .register_forward_pre_hook(
            lambda _, args: seen.append(args[0].detach().reshape(-1, 64).numpy())
        )
    )
    for batch in BATCHES:
        uneven()(**batch)
    hook.remove()
    largest = np.abs(np.concatenate(seen)).max(0)
    weights = [
        uneven().get_submodule(f"{ATTENTION}.{n}_proj").weight.detach().numpy() for n in "qkv"
    ]
    column = np.abs(np.concatenate(weights)).max(0)
    np.testing.assert_allclose(form.maps[0].scale, np.sqrt(largest / column), rtol=1e-4)


def test_dint4_has_sixteen_values_and_takes_the_nearest() -> None:
    grid = GroupGrid((1, 64), 64, 4, special=True)
    values = np.linspace(-3, 2.5, 64)[None]
    grid.start(0, values, np.ones(64))
    scale, zero = grid.scale[0, 0], grid.zero[0, 0]
    table = np.concatenate([(np.arange(14) - zero) * scale, [scale / 2, -scale / 2]])
    assert len(np.unique(table)) == 16
    for column in range(64):
        found = grid.round(column, values[:, column])[0]
        distance = np.abs(table - values[0, column])
        assert abs(found - values[0, column]) == pytest.approx(distance.min(), abs=1e-12)
    operand = grid.operand()
    steps = decoded(operand.format, operand.codes) * 2
    assert np.isin([1, -1], steps).all()
    assert np.abs(steps).max() <= 26


def test_dint4_underflows_less() -> None:
    zeros = []
    for special in (False, True):
        grid = GroupGrid((8, 48), 48, 4, special=special)
        values = random.standard_normal((8, 48))
        grid.start(0, values, np.ones(48))
        found = np.stack([grid.round(c, values[:, c]) for c in range(48)], axis=1)
        zeros.append((found == 0).mean())
    assert zeros[1] < 0.8 * zeros[0]


def test_mergequant_rounds_what_norms_make_without_a_scale() -> None:
    only = ["*layers.0.self_attn.*"]
    found = calibrate(uneven(), BATCHES[:1], "mergequant:rank=2", only=only)
    form = found.layers[f"{ATTENTION}.q_proj"]
    cast = form.segments[0].cast
    assert cast.scale == 1
    x = form.mapped(random.standard_normal((3, 64)).astype(np.float32))
    assert x.shape[1] == 64  # as many dropped as copied
    np.testing.assert_array_equal(cast.quantize(x).dequantize(), np.clip(np.rint(x), -7, 7))
    columns = form.maps[1]
    total = np.zeros(64)
    np.add.at(total, columns.columns, columns.share)
    assert set(np.round(total, 6)) <= {0.0, 1.0}


def test_low_rank_is_the_best_answer_by_second_moments() -> None:
    change, root = random.standard_normal((6, 10)), random.standard_normal((40, 10))
    side = low_rank(change, root.T @ root, 2)
    product = (side.down.astype(float) @ side.up).T
    found = np.linalg.norm((change - product) @ root.T)
    best = np.linalg.svd(change @ np.linalg.cholesky(root.T @ root), compute_uv=False)[2:]
    assert found == pytest.approx(np.linalg.norm(best), rel=1e-4)


# -- grids ---------------------------------------------------------------------------------------


def test_salience_by_the_inverse() -> None:
    root = random.standard_normal((60, 12))
    hessian, weight = root.T @ root + 0.01 * np.eye(12), random.standard_normal((5, 12))
    # U_jj^2 is the inverse of H's trailing block, first element.
    pivots = [1 / np.linalg.inv(hessian[j:, j:])[0, 0] for j in range(12)]
    wanted = ((weight**2).sum(0) * pivots).reshape(3, 4).sum(1)
    np.testing.assert_allclose(salience(weight, hessian, 4), wanted, rtol=1e-9)


def test_slim_gives_and_takes_as_many_bits() -> None:
    recipe = get_recipe("slim-llm:group=8")
    root = random.standard_normal((200, 48)) * np.repeat([1, 1, 1, 1, 1, 6], 8)
    bits = recipe.bit_map(W, root.T @ root + 0.01 * np.eye(48), 8, X.astype(np.float64))
    assert bits.mean() == 2
    assert set(bits.tolist()) <= {1, 2, 3}
    assert bits[5] == 3  # the loud group


def test_formats_by_statistic_are_near_those_by_error() -> None:
    def error(rows: np.ndarray, name: str) -> float:
        return float(((GridCast(get_format(name)).quantize(rows).dequantize() - rows) ** 2).sum())

    chosen = best = only = 0.0
    draw = np.random.default_rng(7)
    for sample in (
        draw.standard_normal,
        lambda s: draw.laplace(size=s),
        lambda s: draw.uniform(-1, 1, s),
    ):
        for width in (64, 512):
            rows = sample((16, width)).astype(np.float32)
            rows /= np.linalg.norm(rows)
            chosen += error(rows, chosen_format(rows))
            best += min(error(rows, name) for name in FORMATS)
            only += error(rows, "e2m1")
    assert chosen <= 1.1 * best
    assert chosen <= only
    assert chosen_format(draw.uniform(-1, 1, (8, 64))) == "e1m2"


def test_planes_make_four_levels_and_take_the_nearest() -> None:
    weight = torch.from_numpy(random.standard_normal((6, 32)).astype(np.float32))
    planes = Planes(weight, None, 16, None)
    one, two = planes.planes()
    step = weight.reshape(6, 2, 16).abs().amax(2, keepdim=True) / 2
    found = 2 * step * one - step * two
    levels = torch.stack([-step, 0 * step, step, 2 * step]).expand(4, 6, 2, 16)
    nearest = (levels - weight.reshape(6, 2, 16)).abs().amin(0)
    torch.testing.assert_close((found - weight.reshape(6, 2, 16)).abs(), nearest, rtol=0, atol=1e-6)
    form = planes.form()
    half = [s.dense for s in form.segments]
    np.testing.assert_allclose(
        half[0] + half[1], found.reshape(6, 32).numpy(), rtol=2e-3, atol=1e-3
    )
    assert all(
        set(decoded(s.weight.format, s.weight.codes).ravel()) <= {-1, 0, 1} for s in form.segments
    )


@pytest.mark.parametrize("group", [16, 32])
@pytest.mark.parametrize("sign", [1, -1])
def test_planes_start_again_from_their_form(group: int, sign: int) -> None:
    weight = torch.from_numpy(random.standard_normal((6, 32)).astype(np.float32))
    weight[0] = -weight[0].abs()  # an empty first plane
    planes, again = (Planes(weight, None, group, None) for _ in range(2))
    with torch.no_grad():
        planes.second.mul_(1.25 * sign)
    again.start_from(planes.form())
    scales = (planes.first, planes.second), (again.first, again.second)
    for wanted, found, plane in zip(*scales, planes.planes(), strict=True):
        left = found.detach().numpy()
        size = wanted.detach().numpy().astype(np.float16)
        np.testing.assert_array_equal(np.abs(left), np.abs(size))
        told = plane.numpy().any(-1) | (sign > 0)  # the sign of an empty plane is not in a form
        np.testing.assert_array_equal(left[told], size[told])


@pytest.mark.parametrize("shape", [(300, 512), (7, 1 << 17)])
def test_planes_have_the_gradients_of_the_plain_product(shape: tuple[int, int]) -> None:
    """In parts of rows, the last one smaller."""
    torch.manual_seed(0)
    planes = Planes(torch.randn(shape), torch.randn(shape[0]), 64, None)
    x = torch.randn(2, 3, shape[1], requires_grad=True)
    one, two = planes.planes()
    values = planes.first[:, :, None] * one + planes.second[:, :, None] * two
    wanted = x @ values.reshape(shape).T + planes.bias
    torch.testing.assert_close(planes.forward(x), wanted)
    leaves, grad = [x, planes.first, planes.second], torch.randn_like(wanted)
    plain = torch.autograd.grad(wanted, leaves, grad)
    for found, expected in zip(torch.autograd.grad(planes.forward(x), leaves, grad), plain,
                               strict=True):  # fmt: skip
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_distillation_loss_in_parts_of_rows() -> None:
    teacher, student = torch.randn(2, 3, 40, 7, dtype=torch.float64)
    tokens = torch.randint(7, (3, 40))
    rows = [distillation_loss(teacher[i : i + 1], student[i : i + 1], None) for i in range(3)]
    whole = distillation_loss(teacher, student, tokens)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    weights = -(p.exp() * p + q.exp() * q).sum(-1)
    kl = sum(float(row) * float(part.sum()) for row, part in zip(rows, weights, strict=True))
    nll = -q[:, :-1].gather(-1, tokens[:, 1:, None]).mean()
    assert float(whole) == pytest.approx(kl / float(weights.sum()) + float(nll))


def test_distillation_loss_by_its_formula() -> None:
    teacher, student = random.standard_normal((2, 2, 5, 7)) * 2
    tokens = random.integers(0, 7, (2, 5))
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (teacher, student))
    weights = -(p * np.log(p) + q * np.log(q)).sum(-1)
    share = weights / weights.mean()
    wanted = (share * (p * np.log(p / q)).sum(-1)).mean()
    x = torch.from_numpy(student).requires_grad_(True)
    alone = distillation_loss(torch.from_numpy(teacher), x, None)
    assert float(alone.detach()) == pytest.approx(wanted)
    alone.backward()
    # Of sum_k p_k log(p_k / q_k), with constant weights.
    np.testing.assert_allclose(x.grad.numpy(), share[..., None] * (q - p) / 10, atol=1e-12)
    nll = -np.log(np.take_along_axis(q[:, :-1], tokens[:, 1:, None], -1)).mean()
    found = distillation_loss(*map(torch.from_numpy, (teacher, student, tokens)))
    assert float(found) == pytest.approx(wanted + nll)


def test_distillation_brings_planes_nearer_to_the_float_model(tmp_path: Path) -> None:
    layers = weights_of(uneven())[0]

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([uneven()(**batch).logits for batch in BATCHES])

    def away(found: Any) -> float:
        with casting(layers, found.layers, dict.fromkeys(layers, ()), float_product()):
            student = logits()
        tokens = torch.cat([batch["input_ids"] for batch in BATCHES])
        return float(distillation_loss(logits(), student, tokens))

    out = tmp_path / "planes.safetensors"
    recipe = "db-llm:inputs=float,group=16,epochs=0,rate=0.01"
    found = calibrate(uneven(), BATCHES, recipe, out=out)
    assert away(found) < 0.95 * away(calibrate(uneven(), BATCHES, f"{recipe},steps=0"))
    model, inputs = uneven(), dict[str, list[np.ndarray]]()
    for name in layers:
        model.get_submodule(name).register_forward_hook(
            lambda _, args, __, name=name: inputs.setdefault(name, []).append(float_rows(args[0]))
        )
    with torch.no_grad():
        for batch in BATCHES:
            model(**batch)
    for name, form in found.layers.items():  # errors are those of the distilled planes
        x, weight = np.concatenate(inputs[name]).astype(np.float64), float_rows(layers[name].matrix)
        eye = np.eye(weight.shape[1], dtype=np.float32)
        change = x @ (form.output(eye, float_product(False)) - weight.T)
        power = ((x @ weight.T) ** 2).sum()
        assert form.error == pytest.approx((change**2).sum() / power, rel=1e-4)
    again = calibrate(uneven(), BATCHES, recipe, out=out)  # a finished file is not trained further
    for name, form in found.layers.items():
        for one, two in zip(form.segments, again.layers[name].segments, strict=True):
            np.testing.assert_array_equal(one.weight.codes, two.weight.codes)


# -- training ------------------------------------------------------------------------------------


def test_whole_ranges_are_rounding_to_nearest() -> None:
    weight = torch.from_numpy(W.astype(np.float32))
    form = LearnedLinear(weight, None, None, 4, None, clipping=False).form()
    wanted = RangeCast(4, zero_in_range=False).quantize(W.astype(np.float32))
    np.testing.assert_array_equal(form.segments[0].weight.codes, wanted.codes)
    np.testing.assert_array_equal(form.segments[0].weight.factor, wanted.factor)


def test_what_is_trained_is_what_runs() -> None:
    layer = LearnedLinear(
        torch.from_numpy(W.astype(np.float32)), torch.ones(5), None, 4, RangeCast(4),
        InputScales(np.linspace(0.5, 2, 48), True),
    )  # fmt: skip
    with torch.no_grad():
        layer.scales.shift += 0.1
    out = layer.forward(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(
        layer.form().output(X, float_product()) + 1, out, rtol=1e-4, atol=1e-4
    )


def test_gradients_of_clipping_by_differences() -> None:
    """With codes that do not change over the step, the output is smooth in the range's ends."""
    layer = LearnedLinear(
        torch.from_numpy(W[:1].astype(np.float32)), None, get_format("e2m1"), 4, None
    )

    def loss() -> torch.Tensor:
        return (layer.rounded().double() * torch.arange(48)).sum()

    loss().backward()
    with torch.no_grad():
        largest = layer.weight.abs().amax()
        slope = torch.sigmoid(layer.upper) * (1 - torch.sigmoid(layer.upper))
        scale = torch.sigmoid(layer.upper) * largest / 6
        codes = layer.rounded() / scale
        inside = (layer.weight / scale).abs() <= 6
        # d(scale code)/du: code counts whole, and the quotient's own change passes straight through.
        change = torch.where(inside, codes - layer.weight / scale, codes)
        wanted = float((change * largest / 6 * torch.arange(48)).sum() * slope)
    assert float(layer.upper.grad) == pytest.approx(wanted, rel=1e-3)


def test_training_lowers_the_blocks_loss() -> None:
    """Two bits of a weight are better spent on less than its whole range."""
    torch.manual_seed(3)
    module = nn.Linear(64, 24, bias=False)
    block = Block("block", module, {"block": linear_weight(module)}, arguments=[((), {})] * 3)
    states = [torch.randn(1, 20, 64) for _ in range(3)]
    layer = LearnedLinear(module.weight, None, None, 2, None)

    def error() -> float:
        with torch.no_grad():
            return float(sum((layer.forward(x) - module(x)).square().mean() for x in states))

    before = error()
    targets = [module(x).detach() for x in states]
    done = train_block(block, targets, states, {"block": layer}, [(layer.parameters, 0.1)], 15)
    assert error() < 0.97 * before and done.last < 0.97 * done.first
    assert module.weight.requires_grad and "forward" not in module.__dict__
    rows = states[0][0].numpy()
    np.testing.assert_allclose(
        layer.form().output(rows, float_product()),
        layer.forward(states[0])[0].detach().numpy(), rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_affinequant_without_what_is_off_the_diagonal_is_omniquant() -> None:
    plain = calibrated("omniquant:epochs=1")
    recipe = "affinequant:epochs=1,off_diagonal=0,shifts=false"
    masked = calibrate(uneven(), BATCHES, recipe, only=["*layers.0.*"])
    for name in masked.layers:
        form = plain.layers[name]
        other = masked.layers[name].segments[0].weight
        np.testing.assert_array_equal(form.segments[0].weight.codes, other.codes)
        np.testing.assert_array_equal(form.segments[0].weight.factor, other.factor)


def test_heads_matrices_are_dominated_by_their_diagonal() -> None:
    found = calibrated("affinequant:epochs=1").layers[f"{ATTENTION}.v_proj"].back
    inside = np.abs(found[:16, :16])
    assert (2 * np.diag(inside) - inside.sum(1) > 0).all()
    assert (found[:16, 16:] == 0).all()  # another head's


def test_recipes_with_other_options_are_other_recipes() -> None:
    recipe = get_recipe("quik:columns=5")
    assert recipe.description()["columns"] == 5
    assert replace(recipe, columns=6).description() != recipe.description()
