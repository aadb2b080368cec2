# SPDX-License-Identifier: Apache-2.0
"""Stochastic rounding with explicit random bits: exact probabilities, every type and width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import by_default, encodings, float_format, oracle_codes

from fpsim import FloatFormat, FpsimError, Overflow, Rounding, get_format
from fpsim.testing.boundaries import overflows
from fpsim.testing.strategies import float_formats

pytestmark = pytest.mark.usefixtures("one_thread")

TIES = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])


@pytest.mark.parametrize("bits", by_default([1, 2, 3, 8], [2]))
@pytest.mark.parametrize("name", ["e2m1", "e3m0", "e0m3", "ue2m2", "e4m3_flush", "e5m10", "int4"])
def test_stochastic_rounding_over_all_random_numbers(name: str, bits: int) -> None:
    """Every r of n bits: away from zero exactly for floor(f * 2^n) of the 2^n, as the oracle says."""
    fmt = get_format(name)
    rng = np.random.default_rng(bits)
    scale = fmt.max_value / 3
    values = np.concatenate([rng.normal(size=12) * scale, rng.normal(size=6) * scale / 50, TIES])
    values = np.concatenate([values, [0.0, -0.0, fmt.max_value * 1.01, -fmt.max_value * 1.01]])
    random = np.arange(1 << bits)
    pairs_v = np.repeat(values, random.size)
    pairs_r = np.tile(random, values.size)
    for overflow in overflows(fmt):
        expected = oracle_codes(pairs_v, fmt, Rounding.SR, overflow, pairs_r, bits)
        ways = encodings(pairs_v, fmt, "sr", overflow, random=pairs_r, random_bits=bits)
        for way, codes, mask in ways:
            assert np.array_equal(codes, np.array(expected)[mask]), way


@pytest.mark.parametrize("bits", [1, 2, 4, 10])
def test_stochastic_rounding_has_probability_k_over_2_to_the_n(bits: int) -> None:
    """A value k/2^n of the way up goes up for exactly k of the random numbers, for either sign."""
    fmt = float_format("e2m1")
    count = 1 << bits
    for low, high in ((0.0, 0.5), (1.0, 1.5), (2.0, 3.0), (4.0, 6.0)):
        for k in range(0, count, max(1, count // 16)):
            values = np.full(count, low + (high - low) * k / count)
            for sign in (1, -1):
                codes = fmt.encode(sign * values, "sr", random=np.arange(count), random_bits=bits)
                assert int((np.abs(fmt.decode(codes)) == high).sum()) == k


@pytest.mark.parametrize(
    "kind",
    by_default(
        ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">u4", ">i8"], quick=["u1", "i8", ">u4"]
    ),
)
def test_random_bits_of_every_integer_type(kind: str) -> None:
    """Whatever type a generator or a recorded LFSR gives, strided or broadcast: the same codes."""
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((40, 60)) * 3).astype(np.float32)
    integers = rng.integers(0, 1 << 7, x.shape)
    for name in ("e2m1", "e8m10"):
        fmt = float_format(name)
        expected = [
            fmt.encode(a, "sr", random=b, random_bits=7) for a, b in zip(x, integers, strict=True)
        ]
        random = integers.astype(kind)
        for array in (random, np.asfortranarray(random), np.broadcast_to(random, x.shape)):
            codes = fmt.encode(x, "sr", random=array, random_bits=7)
            assert np.array_equal(codes, expected)
        row = fmt.encode(x, "sr", random=random[0], random_bits=7)
        assert np.array_equal(row[0], expected[0])
    for value in (1 << 7, -1):
        if np.iinfo(kind).min <= value <= np.iinfo(kind).max:
            random[3, 4] = value
            with pytest.raises(FpsimError, match=r"random: values must lie in 0..2\^7 - 1"):
                float_format("e2m1").encode(x, "sr", random=random, random_bits=7)


def test_random_bits_as_wide_as_their_type() -> None:
    x = np.full(2000, 0.25)
    for kind, bits in (("i4", 32), ("i1", 8), ("i2", 16)):
        with pytest.raises(FpsimError, match="random: values must lie"):
            float_format("e2m1").encode(x, "sr", random=np.full(2000, -1, kind), random_bits=bits)
    most = np.full(2000, (1 << 32) - 1, np.uint32)
    assert set(float_format("e2m1").encode(x, "sr", random=most, random_bits=32).tolist()) == {1}


def test_stochastic_rounding_with_more_random_bits_than_the_value_has() -> None:
    """E8M23 leaves 29 bits of a float64; 32 random bits must not be cut down to them wrongly."""
    fmt = float_format("e8m23")
    rng = np.random.default_rng(9)
    values = np.concatenate([rng.normal(size=200), rng.normal(size=50) * 2.0**-130])
    random = rng.integers(0, 1 << 32, values.size)
    for bits in (29, 30, 32):
        r = random >> (32 - bits)
        expected = np.array(oracle_codes(values, fmt, Rounding.SR, Overflow.INF, r, bits))
        for way, codes, mask in encodings(values, fmt, "sr", "inf", random=r, random_bits=bits):
            assert np.array_equal(codes, expected[mask]), f"{way}, {bits} bits"


@given(float_formats(), st.integers(1, 32), st.data())
def test_stochastic_rounding_of_any_format(
    fmt: FloatFormat, bits: int, data: st.DataObject
) -> None:
    size = 12
    near = st.builds(
        lambda m, e: float(np.ldexp(m, e - 50)),
        st.integers(-(1 << 50), 1 << 50),
        st.integers(fmt.exponent_min - fmt.mantissa_bits - 3, fmt.exponent_max + 2),
    )
    values = np.array(data.draw(st.lists(near, min_size=size, max_size=size)))
    words = st.integers(0, (1 << bits) - 1)
    random = np.array(data.draw(st.lists(words, min_size=size, max_size=size)))
    expected = np.array(oracle_codes(values, fmt, Rounding.SR, Overflow.SATURATE, random, bits))
    ways = encodings(values, fmt, "sr", "saturate", random=random, random_bits=bits)
    for way, codes, mask in ways:
        assert np.array_equal(codes, expected[mask]), way
