# SPDX-License-Identifier: Apache-2.0
"""Exact sums rounded to odd: in three numbers, or in 32-bit limbs where these lose bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpsim.kernels.scalar import limbs

#: Three float64 do not hold the first four numbers, and the last three cancel all but the fourth.
LOSES = [2.0**60, 2.0**-10, 2.0**-80, 2.0**-150, -(2.0**60), -(2.0**-10), -(2.0**-80)]


def to_odd(exact: Fraction) -> float:
    """Return the float64 next to a number whose significand is odd, or the number itself."""
    near = float(exact)
    if Fraction(near) == exact or np.float64(near).view(np.uint64) & np.uint64(1):
        return near
    return float(np.nextafter(near, np.inf if exact > near else -np.inf))


def summed(values: list[float], down: bool = False) -> float:
    """Return the sum of a row, after it was seen to be the sum of a column."""
    out, below = np.empty(1), np.empty(1)
    row, first = np.array([values[1:]]), np.array([values[0]])
    limbs.exact_dots(row, np.ones(row.shape), first, down, out)
    limbs.exact_columns(np.ascontiguousarray(row.T), first, down, below)
    assert out.view(np.int64) == below.view(np.int64)
    return float(out[0])


@st.composite
def near_cancelling(draw: st.DrawFn) -> list[float]:
    """Draw up to five numbers of a few bits far apart, or next to what cancels the first."""
    values = []
    for _ in range(draw(st.integers(1, 5))):
        significand = draw(st.integers(0, (1 << draw(st.sampled_from([1, 2, 52, 53]))) - 1))
        values.append(float(np.ldexp(float(significand), draw(st.integers(-120, 60)))))
        if draw(st.booleans()):
            other = -values[draw(st.integers(0, len(values) - 1))]
            steps = draw(st.integers(-2, 2))
            values.append(float(other + steps * np.spacing(abs(other))))
    return [value if draw(st.booleans()) else -value for value in values]


@settings(max_examples=1000, deadline=None)
@given(near_cancelling())
def test_sums_are_those_of_fractions_rounded_to_odd(values: list[float]) -> None:
    assert summed(values) == to_odd(sum(map(Fraction, values), Fraction(0)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0**-60], 1 + 2.0**-52),
        ([1.0, -(2.0**-60)], 1 - 2.0**-53),
        ([1.0, 2.0**-53, 2.0**-200], 1 + 2.0**-52),
        ([2.0**60, -(2.0**60), 2.0**-200], 2.0**-200),
        ([2.0**60, 2.0**-200, -(2.0**60)], 2.0**-200),
        ([1 + 2.0**-52, 2.0**-60, 2.0**-150], 1 + 2.0**-52),
        ([*LOSES, 0.0], 2.0**-150),
        ([*LOSES, 2.0**-140], 2.0**-140 + 2.0**-150),
    ],
)
def test_rests_that_only_the_last_place_tells(values: list[float], expected: float) -> None:
    assert summed(values) == expected


@pytest.mark.parametrize("down", [False, True])
def test_zeros_have_the_sign_of_ieee_754(down: bool) -> None:
    for values, negative in (
        ([0.0, 0.0], False),
        ([-0.0, -0.0], True),
        ([0.0, -0.0], down),
        ([1.0, -1.0], down),
        ([-1.0, 1.0], down),
    ):
        assert np.signbit(summed(values, down)) == negative, values


def test_columns_are_summed_alike_wherever_they_stand() -> None:
    """More columns than one turn takes, and NaN, infinities and lost bits in some of them."""
    count = 2 * limbs.COLUMNS + 17
    rng = np.random.default_rng(5)
    spread = np.where(np.arange(count) % 5, 30, 200)  # three numbers hold most sums
    terms = rng.standard_normal((4, count)) * np.exp2(rng.integers(-spread, spread, (4, count)))
    terms[1, 3::7] = -terms[0, 3::7]
    first = rng.standard_normal(count)
    first[::50], first[1::50], first[2::50] = np.nan, np.inf, 0.0
    found, wanted = np.empty(count), np.empty(count)
    limbs.exact_columns(terms, first, False, found)
    rows = np.ascontiguousarray(terms.T)
    limbs.exact_dots(rows, np.ones(rows.shape), first, False, wanted)
    assert np.array_equal(found, wanted, equal_nan=True)
    assert np.isnan(found[0]) and np.isinf(found[1])
    for n in range(3, count, 17):
        values = [first[n], *terms[:, n]]
        if np.isfinite(values).all():
            assert found[n] == to_odd(sum(map(Fraction, values), Fraction(0)))
