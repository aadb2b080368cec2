# SPDX-License-Identifier: Apache-2.0
"""A real-valued bias: the paper's equations in exact rationals, and its acceptance checks."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import float_format

from fpsim import FpsimError
from fpsim.formats.real_bias import LIMIT, ScaledFormat

GRIDS = {
    "e1m2b0": [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5],
    "e2m1b0": [0, 1, 2, 3, 4, 6, 8, 12],
    "e3m0": [0, 2, 4, 8, 16, 32, 64, 128],
}
NAMES = {"e1m2b0": "e1m2b0", "e2m1b0": "e2m1b0", "e3m0": "e3m0b0"}
ELEMENTS = ["e1m2b0", "e2m1b0", "e3m0b0", "e2m3b0", "e3m2b0", "e4m1b0"]


def quantized(x: float, fmt: ScaledFormat) -> Fraction:
    """Equations 5, 6, 8 and 9 on code values: the value over the scale, exactly."""
    m, scale = fmt.element.mantissa_bits, Fraction(fmt.scale)
    ratio = abs(Fraction(x)) / scale
    ratio = min(ratio, Fraction(fmt.element.max_value))
    p = 1
    while ratio >= Fraction(2) ** (p + 1):
        p += 1
    step = Fraction(2) ** (p - m)
    steps = round(ratio / step)  # Python rounds fractions half to even
    return (-1 if x < 0 else 1) * steps * step


def check(fmt: ScaledFormat, values: np.ndarray) -> None:
    got = fmt.element.decode(fmt.encode(values))
    for x, value in zip(values.tolist(), got.tolist(), strict=True):
        assert Fraction(value) == quantized(x, fmt), (fmt, x.hex(), value)


def near_ties(fmt: ScaledFormat) -> np.ndarray:
    """Float64 neighbours of every value, midpoint and power of two times the scale."""
    values = fmt.element.decode(np.arange(fmt.element.max_code + 1))
    points = np.unique(np.concatenate([values, (values[1:] + values[:-1]) / 2]))
    points = np.append(points, [0.5, 0.25, points[-1] * 1.5]) * fmt.scale
    out = [points]
    for _ in range(3):
        out += [np.nextafter(out[-1], np.inf)]
    down = points
    for _ in range(3):
        down = np.nextafter(down, -np.inf)
        out.append(down)
    both = np.concatenate(out)
    return np.concatenate([both, -both])


@pytest.mark.parametrize("name", GRIDS)
def test_grids_of_the_paper(name: str) -> None:
    element = float_format(NAMES[name])
    fmt = ScaledFormat(element, 0.0)
    assert fmt.decode(np.arange(8)).tolist() == GRIDS[name]
    assert ScaledFormat(element, 3.0).decode(np.arange(8)).tolist() == [v / 8 for v in GRIDS[name]]


def test_the_example_of_equation_7() -> None:
    fmt = ScaledFormat.from_max(float_format("e2m1b0"), 10.0)
    assert fmt.b_tilde == pytest.approx(math.log2(1.2), abs=1e-15)
    assert fmt.b_tilde == pytest.approx(4 - math.log2(10) + math.log2(1.5) - 1, abs=1e-14)
    assert fmt.encode([10.0]) == 7
    assert fmt.decode([7]) == pytest.approx(10, rel=1e-15)
    assert fmt.max_value == fmt.decode([7])


@given(st.sampled_from(ELEMENTS), st.floats(1e-200, 1e200))
def test_largest_value_is_the_one_asked_for(name: str, qmax: float) -> None:
    fmt = ScaledFormat.from_max(float_format(name), qmax)
    # b~ itself is a float64: half its last bit is this much of the value.
    error = (math.ulp(fmt.b_tilde) + 2**-51) * math.log(2) + 2**-51
    assert fmt.max_value == pytest.approx(qmax, rel=error)
    assert fmt.encode([qmax, -qmax]).tolist() == [
        fmt.element.max_code,
        fmt.element.max_code | fmt.element.sign_bit,
    ]


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("b_tilde", [0.0, 1.0, -3.0, 0.26303440583379378, -7.7, 6.9, 200.3, -150.6])
def test_encode_is_the_papers_rule_at_every_tie(name: str, b_tilde: float) -> None:
    fmt = ScaledFormat(float_format(name), b_tilde)
    check(fmt, near_ties(fmt))


@given(st.sampled_from(ELEMENTS), st.floats(-60, 60), st.integers(0, 2**32 - 1))
def test_encode_is_the_papers_rule(name: str, b_tilde: float, seed: int) -> None:
    fmt = ScaledFormat(float_format(name), b_tilde)
    values = np.random.default_rng(seed).normal(0, fmt.max_value / 3, 40)
    check(fmt, np.concatenate([values, near_ties(fmt)[::5], [0.0, 5e-324, 1e300]]))


@given(st.sampled_from(["e1m2b0", "e2m1b0", "e3m0b0"]), st.floats(-20, 20), st.floats(-1.5, 1.5))
def test_result_is_the_nearest_grid_point(name: str, b_tilde: float, part: float) -> None:
    fmt = ScaledFormat(float_format(name), b_tilde)
    x = part * fmt.max_value
    grid = [Fraction(v) * Fraction(fmt.scale) for v in fmt.element.decode(np.arange(16)).tolist()]
    got = Fraction(float(fmt.element.decode(fmt.encode([x]))[0])) * Fraction(fmt.scale)
    assert abs(got - Fraction(x)) == min(abs(g - Fraction(x)) for g in grid)


def test_ties_without_mantissa_bits_go_up_except_the_lowest() -> None:
    fmt = ScaledFormat(float_format("e3m0b0"), 0.0)
    x = np.array([1.0, np.nextafter(1, 2), 3.0, 6.0, 12.0, 24.0, 48.0, 96.0])
    assert fmt.decode(fmt.encode(x)).tolist() == [0, 2, 4, 8, 16, 32, 64, 128]
    assert fmt.encode(-x)[0] == 8  # -0
    assert fmt.encode([-0.0, 0.0]).tolist() == [8, 0]


@pytest.mark.parametrize("name", ELEMENTS)
def test_both_steps_agree_where_a_logarithm_errs(name: str) -> None:
    """At and next to a power of two the exponent may come out one off: the value is the same."""
    m = float_format(name).mantissa_bits
    for ulps in range(-8, 9):
        ratio = Fraction(4) + ulps * Fraction(1, 1 << 50)
        lower, upper = Fraction(2) ** (1 - m), Fraction(2) ** (2 - m)
        assert round(ratio / lower) * lower == round(ratio / upper) * upper


def test_what_is_not_a_number_or_not_a_format() -> None:
    fmt = ScaledFormat(float_format("e2m1b0"), 0.5)
    with pytest.raises(FpsimError, match="nan"):
        fmt.encode([np.nan])
    assert fmt.encode([np.nan], nan="saturate") == 7
    assert fmt.encode([np.inf, -np.inf]).tolist() == [7, 15]
    with pytest.raises(FpsimError, match="inf at index"):
        fmt.encode([np.inf], inf="error")
    for name in ("e2m1", "ue2m2b0", "e0m3b0", "e4m3b0", "e2m1b0_flush"):
        with pytest.raises(FpsimError, match="is not a signed format with bias 0"):
            ScaledFormat(float_format(name), 0.0)
    for b_tilde in (math.nan, math.inf, 1e4):
        with pytest.raises(FpsimError, match="b_tilde"):
            ScaledFormat(float_format("e2m1b0"), b_tilde)
    for qmax in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(FpsimError, match="qmax"):
            ScaledFormat.from_max(float_format("e2m1b0"), qmax)


@pytest.mark.parametrize("name", ["e2m1b0", "e3m0b0"])
def test_biases_at_the_ends_of_what_is_taken(name: str) -> None:
    element = float_format(name)
    lowest = float(element.exponent_max - LIMIT)
    for b_tilde in (float(LIMIT), lowest):
        fmt = ScaledFormat(element, b_tilde)
        assert fmt.scale == 2.0**-b_tilde
        check(fmt, near_ties(fmt))
    for b_tilde in (math.nextafter(LIMIT, math.inf), math.inf, math.nan):
        with pytest.raises(FpsimError, match=rf"^b_tilde: .* is not a number in -{LIMIT}"):
            ScaledFormat(element, b_tilde)
    with pytest.raises(FpsimError, match="too high"):
        ScaledFormat(element, math.nextafter(lowest, -math.inf))
    with pytest.raises(FpsimError, match="is not a number in"):
        ScaledFormat(element, math.nextafter(-LIMIT, -math.inf))
