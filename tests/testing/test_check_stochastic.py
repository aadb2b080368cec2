# SPDX-License-Identifier: Apache-2.0
"""`check_stochastic` counts exactly, and knows the ways to use random bits wrongly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.helpers import float_format

from fpsim import FpsimError, testing

E2M1 = float_format("e2m1")
BITS = 6


def sr(x: Any, r: Any, bits: int = BITS) -> Any:
    return E2M1.encode(x, "sr", random=r, random_bits=bits)


def complement(x: Any, r: Any) -> Any:
    return sr(x, (1 << BITS) - 1 - r)


def fewer(x: Any, r: Any) -> Any:
    return sr(x, r >> 1, BITS - 1)


def nearest(x: Any, r: Any) -> Any:
    return E2M1.encode(x, "rna")


def negative_toward_infinity(x: Any, r: Any) -> Any:
    """Random bits added in two's complement: up for negative numbers too."""
    codes, away, toward = sr(x, r), E2M1.encode(x, "rdn"), E2M1.encode(x, "rup")
    flipped = np.where(codes == away, toward, away)
    return np.where(x < 0, flipped, codes)


def test_exact_counts() -> None:
    result = testing.check_stochastic(sr, "e2m1", BITS)
    assert result
    assert "exhaustive: all 64 random integers" in result.search
    assert "decides as fpsim's sr does" in result.notes[0]
    other = testing.check_stochastic(complement, "e2m1", BITS)
    assert other, "the same distribution by other integers"
    assert "used in another order" in other.notes[0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (fewer, "one random bit fewer"),
        (nearest, "values were rounded to nearest, ties away"),
        (negative_toward_infinity, "negative numbers were rounded the other way"),
        (lambda x, r: sr(x, np.minimum(r + 1, 63)), "one were added to the random integers"),
    ],
)
def test_mistakes_are_named(function: Any, words: str) -> None:
    result = testing.check_stochastic(function, "e2m1", BITS)
    assert not result
    assert result.mistakes, str(result)
    assert words in result.mistakes[0].name


def test_unknown_generators_have_a_confidence() -> None:
    rng = np.random.default_rng(5)

    def fair(x: Any) -> Any:
        return E2M1.encode(x, "sr", random=rng.integers(0, 1 << 24, x.shape), random_bits=24)

    def biased(x: Any) -> Any:
        drawn = rng.integers(0, 1 << 24, x.shape)
        return E2M1.encode(x, "sr", random=np.maximum(drawn, 1 << 21), random_bits=24)

    result = testing.check_stochastic(fair, "e2m1", trials=4000)
    assert result
    assert "confidence 1 - 1e-06" in result.search
    assert not testing.check_stochastic(biased, "e2m1", trials=4000)
    frozen = testing.check_stochastic(lambda x: E2M1.encode(x), "e2m1", trials=1000)
    assert not frozen
    assert "nothing is random" in frozen.notes[1]


def test_bad_input() -> None:
    with pytest.raises(testing.ContractError, match="returns one of the two neighbours"):
        testing.check_stochastic(lambda x, r: np.full(x.shape, 7), "e2m1", BITS)
    with pytest.raises(FpsimError, match="random_bits: 40"):
        testing.check_stochastic(sr, "e2m1", 40)
    with pytest.raises(FpsimError, match="at most 16"):
        testing.check_stochastic(sr, "e8m23", 4)
