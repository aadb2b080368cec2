# SPDX-License-Identifier: Apache-2.0
"""Casts, rotations and slopes of training: probabilities, bounds, derivatives, random bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from support.faketrain import GRID, integers

from fpsim.base.errors import FpsimError
from fpsim.bridge.recipe import get_recipe
from fpsim.bridge.training.casts import (
    E2M1,
    EdenCast,
    FormatCast,
    TrainingCast,
)
from fpsim.bridge.training.outliers import OutlierClamp
from fpsim.bridge.training.randomness import Randomness, lfsr16_states
from fpsim.bridge.training.recipe import TrainingRecipe
from fpsim.bridge.training.rotation import TE_SIGNS, Rotation
from fpsim.bridge.training.slopes import DifferentiableGradient, grid_values, root
from fpsim.kernels import threads


@dataclass(frozen=True)
class Constant(Randomness):
    """Draws one integer for every element."""

    source: str = "constant"
    integer: int = 0

    def integers(self, shape: tuple[int, int], bits: int) -> np.ndarray:
        return np.full(shape, self.integer, np.uint32)


def gradient_cast(recipe: str) -> TrainingCast:
    chosen = get_recipe(recipe)
    assert isinstance(chosen, TrainingRecipe)
    return chosen.training("").dgrad.a.cast


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("recipe", ["nvfp4-train", "ue5m3-train", "tetrajet-v2", "mxfp4-train"])
def test_stochastic_casts_go_up_with_probability_k_over_2_to_the_n(recipe: str, bits: int) -> None:
    """Of all 2^n integers exactly k lift what lies from k / 2^n of the way to the upper neighbour."""
    cast = gradient_cast(f"{recipe}:random_bits={bits}")
    rows = np.random.default_rng(bits).standard_normal((32, 64)).astype(np.float32)
    operands = [cast.quantize(rows, Constant("", integer=r)) for r in range(2**bits)]
    first = operands[0]
    assert first.scales is not None
    scales = np.repeat(first.scales.format.decode(first.scales.given), first.block, axis=1).astype(
        np.float32
    )
    factor = np.float32(1) if first.factor is None else first.factor
    mx = recipe == "mxfp4-train"
    y = np.abs(rows * np.float32(0.75) / scales if mx else rows / (scales * factor))
    assert y.max() <= 6
    low = np.clip(np.searchsorted(GRID, y, side="right") - 1, 0, len(GRID) - 2)
    fraction = (y.astype(np.float64) - GRID[low]) / (GRID[low + 1] - GRID[low])
    cast_values = np.array([np.abs(E2M1.decode(operand.codes)) for operand in operands])
    assert np.array_equal((cast_values == GRID[low + 1]).sum(0), np.floor(fraction * 2**bits))
    assert ((cast_values == GRID[low + 1]) | (cast_values == GRID[low])).all()


def test_stochastic_gradients_are_never_clipped() -> None:
    """E4M3 may round a scale down by a sixteenth; MX leaves magnitudes up to 8."""
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((512, 64)) * np.exp2(rng.integers(-9, 9, (512, 1)))).astype(
        np.float32
    )
    for recipe in ("nvfp4-train", "ue5m3-train", "tetrajet-v2", "mxfp4-train", "quartet"):
        cast = gradient_cast(recipe)
        operand = cast.quantize(rows, Randomness("x"))
        step = np.abs(operand.dequantize() - rows).max(axis=1) / np.abs(rows).max(axis=1)
        assert step.max() < 0.52, recipe  # the widest interval, 4 to 6, over a largest element of 4
        scales = np.repeat(
            operand.scales.format.decode(operand.scales.given), operand.block, axis=1
        )
        factor = 1.0 if operand.factor is None else float(operand.factor[0, 0])
        inside = np.abs(rows) / (scales * factor)
        normal = np.abs(rows) > np.abs(rows).max() * 2**-12  # scales with all their bits
        assert inside[normal].max() <= 6.0001, recipe


@pytest.mark.parametrize("bits", [1, 5, 8, 13, 16])
@pytest.mark.parametrize("recipe", ["nvfp4-train", "ue5m3-train", "mxfp4-train"])
def test_the_loop_over_blocks_gives_the_codes_of_the_formats_own_cast(
    recipe: str, bits: int
) -> None:
    """Signed zeros, whole blocks of zeros and values beyond 6 among them."""

    @dataclass(frozen=True)
    class Arrays(Randomness):
        source: str = "arrays"

        def integers(self, shape: tuple[int, int], bits: int) -> np.ndarray:
            return Randomness(self.label).integers(shape, bits)

    rng = np.random.default_rng(bits)
    rows = (rng.standard_normal((70, 96)) * np.exp2(rng.integers(-30, 3, (70, 1)))).astype(
        np.float32
    )
    rows[3], rows[5, ::2], rows[6] = 0, -0.0, np.float32(1e-42)
    cast = gradient_cast(f"{recipe}:random_bits={bits}")
    fast, slow = cast.quantize(rows, Randomness("a/b")), cast.quantize(rows, Arrays("a/b"))
    assert np.array_equal(fast.codes, slow.codes)
    assert np.array_equal(fast.dequantize(), slow.dequantize())
    for row in (np.nan, np.inf):
        rows[1, 1] = row
        with pytest.raises(FpsimError, match="NaN or infinity"):
            cast.quantize(rows, Randomness(""))


def test_eden_is_unbiased_over_rotations_where_nearest_alone_is_not() -> None:
    x = np.random.default_rng(1).standard_normal(128).astype(np.float32) ** 3
    rotation, signs = (
        Rotation(128),
        1 - 2 * Randomness("").integers((4000, 128), 1).astype(np.float32),
    )
    turned = rotation.rotate(x * signs, np.ones(128, np.float32))
    means = []
    for cast in (EdenCast(), FormatCast(_nearest())):
        back = cast.quantize(turned, Randomness("")).dequantize().astype(np.float32)
        found = (rotation.unrotate(back, np.ones(128, np.float32)) * signs).mean(axis=0)
        means.append(float((x * found).sum() / (x * x).sum()) - 1)
    assert abs(means[0]) < 3e-4 < abs(means[1])


def _nearest() -> Any:
    cast = gradient_cast("nvfp4-train:rounding=rne")
    assert isinstance(cast, FormatCast)
    return cast.fmt


def test_casts_of_zeros_are_zeros() -> None:
    zeros = np.zeros((4, 128), np.float32)
    for recipe in ("nvfp4-train", "quartet", "quartet-ii", "fp4-dge-occ", "mxfp8-train"):
        chosen = get_recipe(recipe)
        assert isinstance(chosen, TrainingRecipe)
        casts = chosen.training("")
        for product in (casts.forward, casts.dgrad, casts.wgrad):
            for side in (product.a, product.b):
                assert not side.cast.quantize(zeros, Randomness("")).dequantize().any(), recipe


@pytest.mark.parametrize("k", [1, 3, 5, 10])
@pytest.mark.parametrize("cap", [3.0, 1.5])
def test_the_estimators_slope_is_the_derivative_of_its_function(k: int, cap: float) -> None:
    """Numerically, off the cap; 0.2 on grid points for k = 5."""
    estimator = DifferentiableGradient(grid_values(E2M1), k, cap)
    y = np.random.default_rng(3).uniform(-6, 6, 20000)
    h = 2.0**-20
    y = np.round(y / h / 2) * 2 * h
    place = np.abs(y[:, None] - np.array(grid_values(E2M1))).min(1)
    _, _, u = estimator._place(y.astype(np.float32))
    keep = (place > 4 * h) & (np.abs(u) > 0.01)
    up, down = (estimator.value((y + d).astype(np.float32)) for d in (h, -h))
    numeric = (up - down)[keep] / (2 * h)
    slope = estimator.slope(y.astype(np.float32))[keep]
    off = numeric < 0.98 * cap
    assert off.sum() > 1000 or k == 1
    assert np.allclose(slope[off], numeric[off], rtol=2e-3)
    assert (slope[numeric > 1.02 * cap] == np.float32(cap)).all()
    on_grid = estimator.slope(np.array([0.5, 1, 3, -4], np.float32))
    assert np.allclose(on_grid, min(1 / k, cap))


def test_slopes_beyond_the_grid() -> None:
    beyond = np.array([-7, -6, 6, 7], np.float32)
    assert DifferentiableGradient(grid_values(E2M1)).slope(beyond).tolist()[::3] == [0, 0]
    code = DifferentiableGradient(grid_values(E2M1), beyond="last-interval").slope(beyond)
    assert np.allclose(code, [2**-0.8 / 5, 0.2, 0.2, 0])


@pytest.mark.parametrize("k", [2, 5, 7, 20])
def test_roots_are_those_of_the_power_function(k: int) -> None:
    u = np.concatenate([np.random.default_rng(4).uniform(0, 1, 1000), 2.0 ** -np.arange(100)])
    assert np.allclose(root(u, k), u ** (1 / k), rtol=1e-15, atol=0)


def test_rotations_are_orthogonal_along_either_axis() -> None:
    x = np.random.default_rng(5).standard_normal((64, 96)).astype(np.float32)
    for rotation in (Rotation(32), Rotation(16, TE_SIGNS), Rotation(32, "fresh")):
        signs = rotation.chosen(Randomness("signs"))
        turned = rotation.rotate(x, signs)
        blocks = turned.reshape(64, -1, rotation.size)
        before = x.reshape(blocks.shape)
        assert np.allclose((blocks**2).sum(-1), (before**2).sum(-1), rtol=1e-5)
        assert np.allclose(rotation.unrotate(turned, signs), x, atol=1e-5)
        down = rotation.rotate(x, signs, axis=0)
        assert np.array_equal(down, rotation.rotate(np.ascontiguousarray(x.T), signs).T)
        assert np.allclose(rotation.unrotate(down, signs, axis=0), x, atol=1e-5)
    assert {*Rotation(64, "fresh").chosen(Randomness("a")).tolist()} == {1, -1}


@pytest.mark.parametrize("size", [2, 16, 32, 128])
def test_rotations_round_in_each_pass_on_any_number_of_threads(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums and differences of neighbours, of pairs, of fours and so on, each in float32."""

    def passes(blocks: np.ndarray, half: int = 1) -> np.ndarray:
        if half == size:
            return blocks
        first, second = np.moveaxis(blocks.reshape(len(blocks), -1, 2, half), 2, 0)
        return passes(np.stack([first + second, first - second], 2).reshape(-1, size), 2 * half)

    rng = np.random.default_rng(size)
    x = (rng.normal(size=(384, 256)) * 2.0 ** rng.integers(-9, 9, (384, 256))).astype(np.float32)
    rotation, root = Rotation(size, "fresh"), np.float32(size**-0.5)
    signs = rotation.chosen(Randomness("signs"))
    for y, axis in ((x, 1), (x, 0)):
        rows = y if axis else np.ascontiguousarray(y.T)
        forth = (passes(rows.reshape(-1, size) * signs) * root).reshape(rows.shape)
        back = (passes(rows.reshape(-1, size)) * root * signs).reshape(rows.shape)
        for number in (1, 3):
            monkeypatch.setattr(threads, "get_num_threads", lambda found=number: found)
            assert np.array_equal(rotation.rotate(y, signs, axis), forth if axis else forth.T)
            assert np.array_equal(rotation.unrotate(y, signs, axis), back if axis else back.T)
    assert rotation.rotate(x, signs, 0).T.flags.c_contiguous


def test_random_integers_are_the_documented_ones() -> None:
    for bits in (1, 8, 13):
        found = Randomness("7/1/wgrad.a/layer").integers((5, 37), bits)
        assert np.array_equal(found, integers("7/1/wgrad.a/layer", (5, 37), bits))


def test_a_register_of_16_bits_runs_through_all_its_states() -> None:
    states = lfsr16_states()
    assert len(np.unique(states)) == 65535
    assert states[:4].tolist() == [1, 0x8000, 0x4000, 0x2000]
    draws = Randomness("x", "lfsr16").integers((300, 300), 6)
    place = int(np.flatnonzero(states & 63 == draws[0, 0])[0])
    assert draws.max() == 63
    assert place >= 0
    assert np.array_equal(draws.reshape(-1)[:24465], draws.reshape(-1)[65535:])  # its period
    cast = gradient_cast("nvfp4-train")
    rows = np.random.default_rng(6).standard_normal((64, 64)).astype(np.float32)
    by_source = [cast.quantize(rows, Randomness("x", s)).codes for s in ("counter", "lfsr16")]
    assert not np.array_equal(*by_source)


def test_outliers_and_the_rest_add_up() -> None:
    rows = np.random.default_rng(7).standard_normal((100, 64)).astype(np.float32)
    for span in ("tensor", "token"):
        inside, rest = OutlierClamp(0.97, span).split(rows)
        share = np.count_nonzero(rest) / rest.size
        assert 0.03 < share < 0.08, span
        assert np.allclose(inside + rest, rows, atol=1e-6)
    with pytest.raises(FpsimError, match=r"share: 0.2 is not in 0.5..1"):
        OutlierClamp(0.2)


def test_more_of_the_signal_survives_with_the_clamp_and_its_residual() -> None:
    """The paper's order: none < clamp at .999 < clamp at .99 with residual, on heavy tails."""
    rows = np.random.default_rng(8).standard_t(3, (256, 256)).astype(np.float32)

    def snr(share: float, residual: bool) -> float:
        chosen = get_recipe(f"fp4-dge-occ:share={share},residual={residual}".lower())
        assert isinstance(chosen, TrainingRecipe)
        casts = chosen.training("")
        inside, rest = (rows, rows * 0) if casts.outliers is None else casts.outliers.split(rows)
        found = casts.forward.a.cast.quantize(inside, Randomness("")).dequantize()
        found = found + rest if residual else found
        return float((rows**2).sum() / ((found - rows) ** 2).sum())

    assert snr(1, False) < snr(0.99, True) < snr(0.97, True)
    assert snr(0.999, False) < snr(0.999, True)
