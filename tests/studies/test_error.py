# SPDX-License-Identifier: Apache-2.0
"""Quantization error of any format, the Lloyd-Max optimum, and the bias curve of LLM-FP4."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.studies.distributions import samples
from fpsim.studies.error import bias_curve, lloyd_max, measure_error, quantizers


def mse(x: np.ndarray, levels: np.ndarray) -> float:
    return float(np.min((x[:, None] - levels) ** 2, axis=1).mean())


# J. Max, "Quantizing for minimum distortion" (1960), table I: mean squared error of N levels for a
# normal variable of variance 1.
@pytest.mark.parametrize(
    ("count", "published"), [(2, 0.3634), (4, 0.1175), (8, 0.03454), (16, 0.009497)]
)
def test_lloyd_max_finds_the_published_error_of_normal_data(count: int, published: float) -> None:
    x = samples("gaussian", 1 << 18, 3)
    levels = lloyd_max(x, count)
    assert levels.size == count
    assert mse(x, levels) == pytest.approx(published * np.var(x), rel=0.01)


def test_lloyd_max_is_a_fixed_point_and_beats_its_neighbours() -> None:
    x = samples("laplace", 4096, 1)
    levels = lloyd_max(x, 8)
    nearest = np.argmin(np.abs(x[:, None] - levels), axis=1)
    means = np.array([x[nearest == i].mean() for i in range(8)])
    np.testing.assert_allclose(means, levels, atol=0.02)
    best = mse(x, levels)
    for i in range(8):
        for step in (-0.2, 0.2):
            moved = levels.copy()
            moved[i] += step
            assert mse(x, moved) > best


def test_few_distinct_values_are_their_own_levels() -> None:
    np.testing.assert_array_equal(lloyd_max([3.0, -1.0, 3.0, 0.0], 4), [-1.0, 0.0, 3.0])


def test_rows_are_the_definitions_by_hand() -> None:
    # E2M1 at scale 1 (largest 6): 1.2 goes to 1, 2.4 to 2, -5.2 to -6, 0 stays.
    x = np.array([6.0, 1.2, 2.4, -5.2, 0.0])
    (row,) = measure_error({"x": x}, quantizers(["e2m1"]))
    errors = np.array([0.0, 0.2, 0.4, 0.8, 0.0])
    assert row.mse == pytest.approx(np.mean(errors**2))
    assert row.max_error == pytest.approx(0.8)
    assert row.relative_error == pytest.approx(np.mean([0, 0.2 / 1.2, 0.4 / 2.4, 0.8 / 5.2]))
    assert row.sqnr_db == pytest.approx(10 * math.log10((x**2).sum() / (errors**2).sum()))
    assert (row.bits, row.block, row.clip) == (4.0, None, 1.0)
    assert row.optimum_db == math.inf  # five values, sixteen levels


def test_block_formats_are_cast_as_they_quantize() -> None:
    x = samples("student-t", 512, 5)
    fmt = fpsim.get_block_format("nvfp4")
    (row,) = measure_error({"t": x}, quantizers(["nvfp4"]))
    assert row.mse == pytest.approx(np.mean((x - fmt.dequantize(fmt.quantize(x))) ** 2))
    assert row.bits == 4.5


def test_choices_expand_to_one_quantizer_each() -> None:
    names = [q.name for q in quantizers(["mxfp4"], blocks=(16, 64), rules=("floor", "even"))]
    assert names == ["mxfp4 16 floor", "mxfp4 16 even", "mxfp4 64 floor", "mxfp4 64 even"]
    assert [q.bits for q in quantizers(["mxfp4"], blocks=(16, 64))] == [4.5, 4.125]
    assert [q.clip for q in quantizers(["e2m1"], clips=(0.5, "best"))] == [0.5, "best"]
    # An element with blocks is an MX format of that element; INT4 is E0M3 there.
    x = samples("gaussian", 256, 2)
    (mx,), (named,) = (
        measure_error({"x": x}, quantizers([n], blocks=(32,))) for n in ("e2m1", "mxfp4")
    )
    assert mx.mse == named.mse
    assert measure_error({"x": x}, quantizers(["int4s"], blocks=(32,)))[0].block == 32


def test_the_best_clip_is_not_worse_than_any_other() -> None:
    x = samples("laplace", 4096, 7)
    best, *others = measure_error({"x": x}, quantizers(["e2m1"], clips=("best", 1.0, 0.7, 0.5)))
    assert all(best.sqnr_db >= row.sqnr_db for row in others)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantizers([]), "formats: none given"),
        (lambda: quantizers(["mxfp5"]), "neither an element format .* nor a block format .*mxfp4"),
        (lambda: quantizers(["e2m1"], clips=(0.0,)), "clip: 0.0 is neither"),
        (lambda: measure_error({"z": np.zeros(4)}, quantizers(["e2m1"])), "data 'z': .*nothing to"),
        (lambda: measure_error({"n": [np.nan]}, quantizers(["e2m1"])), "data 'n': .*NaN"),
        (lambda: measure_error({"o": [object()]}, quantizers(["e2m1"])), "data 'o': .*no numbers"),
        (lambda: bias_curve([1.0], "int4s"), "int4s has no exponent"),
        (lambda: lloyd_max([1.0], 0), "levels: 0 levels"),
    ],
)
def test_bad_input_is_one_sentence(call: object, message: str) -> None:
    with pytest.raises(FpsimError, match=message):
        call()  # type: ignore[operator]


# -- bias ----------------------------------------------------------------------------------------


def test_a_bias_curve_is_the_error_at_each_bias() -> None:
    """Integer biases are formats of their own, so their error can be had without any scale."""
    x = samples("gaussian", 4096, 9)
    curve = bias_curve(x, "e2m1", points=1025)
    for bias in (2, 3, 4):
        fmt = fpsim.get_format(f"e2m1b{bias}")
        error = x - fmt.decode(fmt.encode(x))
        direct = 10 * math.log10((x**2).sum() / (error**2).sum())
        assert np.interp(bias, curve.biases, curve.sqnr_db) == pytest.approx(direct, abs=0.05)
    assert curve.sqnr_db.max() == pytest.approx(np.interp(curve.best, curve.biases, curve.sqnr_db))


def test_the_absmax_bias_puts_the_largest_value_on_the_largest_magnitude() -> None:
    fmt = fpsim.get_format("e2m1")
    curve = bias_curve([0.3, -12.0], fmt)
    assert fmt.max_value * 2.0 ** (fmt.bias - curve.absmax) == pytest.approx(12.0)
