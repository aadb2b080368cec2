# SPDX-License-Identifier: Apache-2.0
"""Laws of rounding that need no reference implementation, over random formats and values."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.helpers import DETERMINISTIC

from fpsim import FloatFormat, FpsimError, Rounding
from fpsim.formats.floating import NanCodes, Subnormals
from fpsim.testing.boundaries import overflows
from fpsim.testing.strategies import float_formats

pytestmark = pytest.mark.usefixtures("one_thread")

NEAREST = [Rounding.RNE, Rounding.RNA]
MIRROR = {Rounding.RUP: Rounding.RDN, Rounding.RDN: Rounding.RUP}

small_formats = float_formats(max_bits=8)
any_rounding = st.sampled_from(DETERMINISTIC)


@st.composite
def values_for(draw: st.DrawFn, fmt: FloatFormat, count: int = 16) -> NDArray[np.float64]:
    """Draw float64 values from below the smallest to above the largest of a format."""
    low, high = fmt.exponent_min - fmt.mantissa_bits - 3, fmt.exponent_max + 2
    words = draw(st.lists(st.integers(-(1 << 53), 1 << 53), min_size=count, max_size=count))
    powers = draw(st.lists(st.integers(low - 53, high - 53), min_size=count, max_size=count))
    exact = np.ldexp(np.array(words, dtype=np.float64), np.array(powers))
    codes = draw(st.lists(st.integers(0, fmt.max_code), min_size=4, max_size=4))
    grid = fmt.decode(codes)
    return np.concatenate([exact, grid, (grid + fmt.decode([0, 1, fmt.max_code, 0])) / 2])


def positive_values(fmt: FloatFormat) -> list[Fraction]:
    """Every non-negative finite value, exact, ascending and distinct."""
    values = fmt.decode(np.arange(fmt.max_code + 1))
    return sorted({Fraction(v) for v in values.tolist()})


def rounded(fmt: FloatFormat, x: NDArray[np.float64], rounding: str) -> NDArray[np.float64]:
    return fmt.decode(fmt.encode(x, rounding, "saturate"))


@given(small_formats, any_rounding, st.data())
def test_rounding_is_monotone(fmt: FloatFormat, rounding: Rounding, data: st.DataObject) -> None:
    """A larger value never becomes a smaller one, saturation included."""
    x = np.sort(data.draw(values_for(fmt)))
    y = rounded(fmt, x, rounding)
    assert (np.diff(y) >= 0).all()


@given(float_formats(max_bits=32), any_rounding, st.data())
def test_rounding_is_idempotent(fmt: FloatFormat, rounding: Rounding, data: st.DataObject) -> None:
    """A value of the format is left alone by every mode, the sign of zero included."""
    x = data.draw(values_for(fmt))
    if not fmt.signed:
        x = np.abs(x)
    codes = fmt.encode(x, rounding, "saturate")
    for again in DETERMINISTIC:
        assert np.array_equal(fmt.encode(fmt.decode(codes), again, "saturate"), codes)


@given(small_formats, st.data())
def test_every_value_of_the_format_is_reachable(fmt: FloatFormat, data: st.DataObject) -> None:
    codes = np.arange(1 << fmt.bits)
    values = fmt.decode(codes)
    finite = np.isfinite(values)
    reached = fmt.encode(values[finite], data.draw(any_rounding), "saturate")
    assert np.array_equal(fmt.decode(reached), values[finite])
    zero = values[finite] == 0
    assert np.array_equal(reached[~zero], codes[finite][~zero])


@given(float_formats(max_bits=32), any_rounding, st.data())
def test_rounding_is_symmetric_in_sign(
    fmt: FloatFormat, rounding: Rounding, data: st.DataObject
) -> None:
    """-x rounds to -R(x); the two directed modes change places."""
    assume(fmt.signed)
    x = np.abs(data.draw(values_for(fmt)))
    for overflow in overflows(fmt):
        up = fmt.decode(fmt.encode(x, rounding, overflow))
        down = fmt.decode(fmt.encode(-x, MIRROR.get(rounding, rounding), overflow))
        assert np.array_equal(down, -up, equal_nan=True)


@given(small_formats, st.sampled_from(NEAREST), st.data())
def test_nearest_is_within_half_an_ulp(
    fmt: FloatFormat, rounding: Rounding, data: st.DataObject
) -> None:
    """No value of the format is closer; a flushed row has none between zero and normal."""
    assume(fmt.subnormals is not Subnormals.FLUSH)
    x = np.abs(data.draw(values_for(fmt)))
    grid = positive_values(fmt)
    for value, result in zip(x.tolist(), rounded(fmt, x, rounding).tolist(), strict=True):
        distance = abs(Fraction(value) - Fraction(result))
        assert distance == min(abs(Fraction(value) - g) for g in grid)


@given(small_formats, st.data())
def test_ties_go_to_even_codes_or_away(fmt: FloatFormat, data: st.DataObject) -> None:
    assume(fmt.subnormals is not Subnormals.FLUSH and fmt.max_code >= 2)
    code = data.draw(st.integers(0, fmt.max_code - 1))
    low, high = fmt.decode([code, code + 1])
    middle = (low + high) / 2
    assert fmt.encode([middle], "rne")[0] == code + code % 2
    assert fmt.encode([middle], "rna")[0] == code + 1


@given(float_formats(max_bits=32), st.data())
def test_directed_modes_never_cross_the_value(fmt: FloatFormat, data: st.DataObject) -> None:
    x = data.draw(values_for(fmt))
    x = x[np.abs(x) <= fmt.max_value]
    if not fmt.signed:
        x = np.abs(x)
    if not fmt.has_zero:
        x = x[np.abs(x) >= 2.0**fmt.exponent_min]
    if fmt.subnormals is Subnormals.FLUSH:  # flushing may step over the value, toward zero only
        x = x[np.abs(x) >= 2.0**fmt.exponent_min]
    down, up, toward = (rounded(fmt, x, r) for r in ("rdn", "rup", "rtz"))
    assert (down <= x).all()
    assert (up >= x).all()
    assert np.array_equal(toward, np.where(x < 0, up, down))
    exact = down == up
    assert np.array_equal(x[exact], down[exact])
    assert (x[~exact] != down[~exact]).all()


@given(float_formats(max_bits=32), any_rounding, st.data())
def test_every_mode_picks_one_of_two_neighbours(
    fmt: FloatFormat, rounding: Rounding, data: st.DataObject
) -> None:
    x = data.draw(values_for(fmt))
    x = np.abs(x[np.abs(x) <= fmt.max_value])
    assume(fmt.subnormals is not Subnormals.FLUSH)
    down, up = fmt.encode(x, "rdn").astype(np.int64), fmt.encode(x, "rup").astype(np.int64)
    codes = fmt.encode(x, rounding).astype(np.int64)
    assert ((codes == down) | (codes == up)).all()
    assert (up - down <= 1).all()


@given(float_formats(max_bits=32), st.data())
def test_rounding_to_odd_is_odd_exactly_when_inexact(fmt: FloatFormat, data: st.DataObject) -> None:
    assume(fmt.subnormals is Subnormals.GRADUAL)
    x = data.draw(values_for(fmt))
    x = np.abs(x[np.abs(x) <= fmt.max_value])
    codes = fmt.encode(x, "rto")
    inexact = fmt.decode(codes) != x
    beyond = codes == fmt.max_code  # an even largest code has no odd code above it
    assert (codes[inexact & ~beyond] % 2 == 1).all()


@given(float_formats(max_bits=12, max_mantissa_bits=6), st.sampled_from(list(Rounding)), st.data())
def test_rounding_to_odd_first_changes_no_second_rounding(
    fmt: FloatFormat, rounding: Rounding, data: st.DataObject
) -> None:
    """Two more bits everywhere, rounded to odd, then to the format: as if rounded once.

    This is the lemma behind every "sticky" kernel. Stochastic rounding keeps as many random bits
    as the wider format has to spare.
    """
    assume(fmt.signed and fmt.has_zero)
    extra = data.draw(st.integers(2, 12))
    wide = FloatFormat(
        exponent_bits=10,
        mantissa_bits=fmt.mantissa_bits + extra,
        bias=511,
        nan=NanCodes.IEEE,
        infinity=True,
    )
    x = data.draw(values_for(fmt))
    odd = wide.decode(wide.encode(x, "rto", "inf"))
    random = {}
    if rounding is Rounding.SR:
        bits = data.draw(st.integers(1, max(1, extra - 1)))
        random = {"random": np.full(x.size, data.draw(st.integers(0, (1 << bits) - 1)))}
        random["random_bits"] = bits
    for overflow in overflows(fmt):
        direct = fmt.encode(x, rounding, overflow, **random)
        assert np.array_equal(fmt.encode(odd, rounding, overflow, **random), direct)


@given(float_formats(max_bits=16), any_rounding, st.data())
def test_flushed_results_are_zero_or_normal(
    fmt: FloatFormat, rounding: Rounding, data: st.DataObject
) -> None:
    """A flushing format never answers with a code of its subnormal row except zero."""
    assume(fmt.exponent_bits and fmt.subnormals is not Subnormals.NONE)
    flush = _with_row(fmt, Subnormals.FLUSH)
    gradual = _with_row(fmt, Subnormals.GRADUAL)
    x = data.draw(values_for(gradual))
    codes = flush.encode(x, rounding)
    kept = gradual.encode(x, rounding)
    row = (kept & np.uint64((1 << fmt.magnitude_bits) - 1)) >> np.uint64(fmt.mantissa_bits)
    assert np.array_equal(codes[row > 0], kept[row > 0])
    assert (flush.decode(codes[row == 0]) == 0).all()
    magnitudes = codes & np.uint64((1 << fmt.magnitude_bits) - 1)
    assert ((magnitudes == 0) | (magnitudes >> np.uint64(fmt.mantissa_bits) > 0)).all()


@given(float_formats(max_bits=16), any_rounding, st.data())
def test_formats_without_zero_answer_with_their_smallest_number(
    fmt: FloatFormat, rounding: Rounding, data: st.DataObject
) -> None:
    assume(fmt.exponent_bits and fmt.nan is not NanCodes.NEGATIVE_ZERO)
    nozero = _with_row(fmt, Subnormals.NONE)
    assert (nozero.decode(np.arange(nozero.max_code + 1)) > 0).all()
    smallest = 2.0**nozero.exponent_min
    x = np.append(np.abs(data.draw(values_for(nozero))), [0.0, smallest / 3])
    y = rounded(nozero, x, rounding)
    assert (y >= smallest).all()
    assert (y[x < smallest] == smallest).all()


def _with_row(fmt: FloatFormat, row: Subnormals) -> FloatFormat:
    try:
        return FloatFormat(
            fmt.exponent_bits,
            fmt.mantissa_bits,
            fmt.bias,
            signed=fmt.signed,
            nan=fmt.nan,
            infinity=fmt.infinity,
            subnormals=row,
        )
    except FpsimError:
        assume(False)
        raise


@given(float_formats(max_bits=32), st.integers(-30, 30), any_rounding, st.data())
def test_a_bias_shift_is_a_grid_shift(
    fmt: FloatFormat, shift: int, rounding: Rounding, data: st.DataObject
) -> None:
    """Adding n to the bias and dividing the value by 2^n changes no code."""
    moved = FloatFormat(
        fmt.exponent_bits,
        fmt.mantissa_bits,
        fmt.bias + shift,
        signed=fmt.signed,
        nan=fmt.nan,
        infinity=fmt.infinity,
        subnormals=fmt.subnormals,
    )
    x = data.draw(values_for(fmt))
    for overflow in overflows(fmt):
        try:
            codes = fmt.encode(x, rounding, overflow)
        except FpsimError:  # a negative value has no code in an unsigned format with Inf only
            assume(False)
        assert np.array_equal(moved.encode(np.ldexp(x, -shift), rounding, overflow), codes)


@pytest.mark.parametrize("bits", [4, 12])
def test_stochastic_rounding_is_unbiased(bits: int) -> None:
    """Over all random numbers the mean is the value itself, for values with n fraction bits."""
    fmt = FloatFormat(2, 1, 1)
    count = 1 << bits
    random = np.arange(count)
    for k in range(0, count, max(1, count // 32)):
        value = 2.0 + k / count
        codes = fmt.encode(np.full(count, value), "sr", random=random, random_bits=bits)
        assert fmt.decode(codes).mean() == value
