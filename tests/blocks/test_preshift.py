# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4's pre-shifted bias: equations 14 and 15, its code's reading of them, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from fpsim import FpsimError, get_format
from fpsim.blocks.preshift import preshift, real_bias


@pytest.mark.parametrize("reading", ["paper", "code"])
def test_preshift_example(reading: str) -> None:
    fmt = get_format("e2m1")
    maxima = np.array([12, 6, 3, 0.75, 96])
    assert real_bias(fmt, maxima).tolist() == [0, 1, 2, 4, -3]
    shifted = preshift(fmt, maxima, reading)
    assert shifted.rho == -3
    assert shifted.shifts.tolist() == [3, 3, 3, 3, 0]
    # Channels keep a too coarse step where the integer is clipped, and never overflow.
    assert shifted.dequantize(shifted.quantize(maxima)).tolist() == [12, 6, 3, 1, 96]


def test_preshift_readings_differ_by_at_most_one() -> None:
    fmt = get_format("e3m0")
    maxima = np.exp2(np.random.default_rng(0).uniform(-4, 4, 500))
    paper, code = (preshift(fmt, maxima, r).shifts for r in ("paper", "code"))
    assert set(np.unique(paper - code)) == {-1, 0}
    assert paper.min() == 0
    assert max(paper.max(), code.max()) == 7
    b = real_bias(fmt, maxima)
    np.testing.assert_array_equal(paper, np.clip(np.rint(b - b.min()), 0, 7))
    np.testing.assert_array_equal(code, np.clip(np.rint(b) - np.rint(b.min()), 0, 7))


def test_halves_round_to_even() -> None:
    fmt = get_format("e2m1")
    for rho, shift in ((-0.5, 0), (-1.5, 2), (-2.5, 2)):
        assert preshift(fmt, [12.0], rho=rho).shifts.tolist() == [shift]
    maximum = np.nextafter(12 * 2**-1.5, 0)
    assert real_bias(fmt, maximum) == 1.5
    # The code rounds both biases, not their difference: 2 - 1, where 1.5 - 1 would round to 0.
    assert preshift(fmt, [maximum], "code", rho=1.0).shifts.tolist() == [1]
    assert preshift(fmt, [maximum], "paper", rho=1.0).shifts.tolist() == [0]


def test_preshift_identity() -> None:
    """Folding the shifts into the product changes nothing in exact arithmetic."""
    rng = np.random.default_rng(1)
    fmt = get_format("e2m1")
    x = rng.standard_normal((6, 5)) * np.array([1, 2, 4, 0.5, 9])
    shifted = preshift(fmt, np.abs(x).max(axis=0), rho=-1.0)
    codes = shifted.quantize(x)
    folded = 2.0 * fmt.decode(codes) * 2.0**fmt.bias * 2.0**-shifted.shifts
    np.testing.assert_array_equal(shifted.dequantize(codes), folded)


def test_bad_preshift() -> None:
    fmt = get_format("e2m1")
    with pytest.raises(FpsimError, match="reading: 'both' is not one of paper, code"):
        preshift(fmt, [1.0], "both")
    with pytest.raises(FpsimError, match="clip: every value must be positive"):
        preshift(fmt, [1.0, 0.0])
    with pytest.raises(FpsimError, match="element: e4m3fn is not"):
        real_bias(get_format("e4m3fn"), 1)
    with pytest.raises(FpsimError, match="x: shape"):
        preshift(fmt, [1.0, 2.0]).quantize(np.zeros(3))
    with pytest.raises(FpsimError, match="x: NaN"):
        preshift(fmt, [1.0]).quantize(np.array([np.nan]))
