# SPDX-License-Identifier: Apache-2.0
"""GPTQ against the conditional least-squares solution, which needs no Cholesky factor."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from fpsim.base.errors import FpsimError  # noqa: E402
from fpsim.blocks.block_format import get_block_format  # noqa: E402
from fpsim.bridge.cast import BlockCast, Cast  # noqa: E402
from fpsim.bridge.systems.casts import GridCast, RangeCast, RazorCast  # noqa: E402
from fpsim.bridge.systems.gptq import gptq, inverse_factor, output_error  # noqa: E402
from fpsim.bridge.systems.grids import FrozenGrid, GroupGrid  # noqa: E402
from fpsim.formats.names import get_format  # noqa: E402

CASTS: dict[str, Cast] = {
    "int4": GridCast(get_format("int4s")),
    "int4, searched": GridCast(get_format("int4s"), search=20),
    "int4-asym": RangeCast(4),
    "e2m1": GridCast(get_format("e2m1")),
    "razor": RazorCast(8, 8, by_row=True),
    **{
        name: BlockCast(get_block_format(name))
        for name in ("mxfp4", "nvfp4", "nf4", "amxfp4", "if4", "four-over-six", "mxfp4-div3")
    },
}


def problem(rows: int = 6, width: int = 48, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A weight, exact in float32, and second moments of inputs that hang together."""
    random = np.random.default_rng(seed)
    mix = random.standard_normal((width, width)) * random.uniform(0.2, 2, width)
    inputs = random.standard_normal((4 * width, width)) @ mix / np.sqrt(width)
    weight = random.standard_normal((rows, width)).astype(np.float32).astype(np.float64)
    return weight, inputs.T @ inputs


def conditional(
    weight: np.ndarray, hessian: np.ndarray, damping: float, order: np.ndarray, grid: FrozenGrid
) -> np.ndarray:
    """Round column after column; those left are the least-squares answer to the errors so far."""
    h = hessian + damping * np.diag(hessian).mean() * np.eye(len(hessian))
    h, original = h[np.ix_(order, order)], weight[:, order]
    done = np.zeros_like(original)
    for j in range(len(order)):
        change = done[:, :j] - original[:, :j]
        moved = original[:, j:] - np.linalg.solve(h[j:, j:], h[:j, j:].T @ change.T).T
        done[:, j] = grid.round(int(order[j]), moved[:, 0])
    return done[:, np.argsort(order)]


@pytest.mark.parametrize("name", ["int4", "int4-asym", "e2m1", "mxfp4", "nvfp4", "nf4"])
@pytest.mark.parametrize("ordered", [False, True])
def test_columns_left_are_the_least_squares_answer(name: str, ordered: bool) -> None:
    weight, hessian = problem()
    order = np.argsort(-np.diag(hessian)) if ordered else np.arange(48)
    grid, other = (FrozenGrid(CASTS[name], weight) for _ in range(2))
    found = gptq(weight, hessian, grid, block=16, order=order if ordered else None)
    wanted = conditional(weight, hessian, 0.01, order, other)
    # A value on the edge between two codes may fall either way; then the rest of its row differs.
    same = np.isclose(found.values, wanted, rtol=1e-9, atol=0).all(axis=1)
    assert same.sum() >= 5
    np.testing.assert_allclose(grid.operand().dequantize()[same], wanted[same], rtol=1e-6)


@pytest.mark.parametrize("name", CASTS)
def test_identity_gives_the_codes_of_rounding_to_nearest(name: str) -> None:
    weight, _ = problem(8, 64)
    grid = FrozenGrid(CASTS[name], weight)
    gptq(weight, np.eye(64), grid)
    np.testing.assert_array_equal(
        grid.operand().codes, CASTS[name].quantize(weight.astype(np.float32)).codes
    )


@pytest.mark.parametrize("name", CASTS)
def test_outputs_change_less_than_by_rounding_to_nearest(name: str) -> None:
    weight, hessian = problem(24, 64)
    grid = FrozenGrid(CASTS[name], weight)
    gptq(weight, hessian, grid)
    nearest = CASTS[name].quantize(weight.astype(np.float32)).dequantize()
    better = output_error(grid.operand().dequantize() - weight, weight, hessian)
    assert better < 0.8 * output_error(nearest - weight, weight, hessian)


@pytest.mark.parametrize("name", CASTS)
def test_rounding_keeps_scales_and_takes_the_nearest_value(name: str) -> None:
    """By brute force over all codes that the column holds with these scales."""
    weight, _ = problem(5, 32)
    grid = FrozenGrid(CASTS[name], weight)
    moved = weight[:, 3] * 0.7 + 0.05
    found = grid.round(3, moved)
    operand = grid.operand()
    np.testing.assert_allclose(operand.dequantize()[:, 3], found, rtol=1e-6)
    distance = np.abs(found - moved)
    for share in np.linspace(0.2, 3, 30):  # no value that rounding others gives is nearer
        other = grid.round(3, moved * share)
        assert (distance <= np.abs(other - moved) + 1e-6).all()


def test_blocks_of_columns_do_not_change_the_result() -> None:
    weight, hessian = problem()
    one, other = (GroupGrid((6, 48), 24, 4) for _ in range(2))
    whole = gptq(weight, hessian, one, block=128)
    parts = gptq(weight, hessian, other, block=16)
    np.testing.assert_allclose(whole.values, parts.values, rtol=1e-9)


def test_kept_columns_take_up_the_errors_and_are_not_rounded() -> None:
    weight, hessian = problem()
    grid = FrozenGrid(GridCast(get_format("int4s")), weight[:, :40])
    found = gptq(weight, hessian, grid, damping=0.0, keep=8)
    change = found.values - weight
    # Their answer to the others' errors is the least-squares one.
    answer = -np.linalg.solve(hessian[40:, 40:], hessian[40:, :40] @ change[:, :40].T).T
    np.testing.assert_allclose(change[:, 40:], answer, rtol=1e-6, atol=1e-9)


def test_skipped_columns_are_no_part_of_the_problem() -> None:
    weight, hessian = problem()
    skip = np.array([1, 7, 30])
    rest = np.setdiff1d(np.arange(48), skip)
    grid = FrozenGrid(GridCast(get_format("int4s")), weight)
    found = gptq(weight, hessian, grid, skip=skip)
    np.testing.assert_array_equal(found.values[:, skip], weight[:, skip])
    shifted = Shifted(FrozenGrid(GridCast(get_format("int4s")), weight), rest)
    alone = gptq(weight[:, rest], hessian[np.ix_(rest, rest)], shifted)
    np.testing.assert_allclose(found.values[:, rest], alone.values, rtol=1e-9)


class Shifted:
    """A grid of some of another's columns."""

    group = 0

    def __init__(self, grid: FrozenGrid, columns: np.ndarray) -> None:
        self.grid, self.columns = grid, columns

    def start(self, *_: object) -> None: ...

    def round(self, column: int, values: np.ndarray) -> np.ndarray:
        return self.grid.round(int(self.columns[column]), values)


def test_what_a_hook_keeps_leaves_no_error() -> None:
    weight, hessian = problem()
    grid = FrozenGrid(GridCast(get_format("int4s")), weight)
    found = gptq(weight, hessian, grid, hook=lambda column, values, rounded, pivot: values)
    np.testing.assert_array_equal(found.values, weight)
    assert found.loss == 0


def test_unused_inputs_and_singular_moments() -> None:
    weight, hessian = problem()
    hessian[5], hessian[:, 5] = 0, 0
    found = gptq(weight, hessian, FrozenGrid(GridCast(get_format("int4s")), weight))
    assert (found.values[:, 5] == 0).all()
    one = np.ones((48, 48))
    damped = gptq(weight, one, FrozenGrid(GridCast(get_format("int4s")), weight), damping=0.0)
    assert damped.damping == 0.01
    with pytest.raises(FpsimError, match="not positive"):
        inverse_factor(-np.eye(4), 0.01)
    with pytest.raises(FpsimError, match="48 by 48"):
        gptq(weight, np.eye(4), FrozenGrid(GridCast(get_format("int4s")), weight))


def test_the_factor_is_that_of_the_inverse() -> None:
    _, hessian = problem()
    factor, _ = inverse_factor(hessian, 0.01)
    assert (np.tril(factor, -1) == 0).all()
    damped = hessian + 0.01 * np.diag(hessian).mean() * np.eye(48)
    np.testing.assert_allclose(factor.T @ factor @ damped, np.eye(48), atol=1e-8)


def test_formats_whose_scales_cannot_be_frozen() -> None:
    weight, _ = problem(4, 64)
    with pytest.raises(FpsimError, match="cannot be frozen"):
        FrozenGrid(BlockCast(get_block_format("mxfp4+")), weight)
    with pytest.raises(FpsimError, match="do not divide"):
        GroupGrid((4, 48), 10, 4)
