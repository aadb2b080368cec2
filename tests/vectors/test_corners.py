# SPDX-License-Identifier: Apache-2.0
"""Corner classes of streams of single products: what each of them hits."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.helpers import chain, exact, fixed

from fpsim import FpsimError, Overflow, Rounding, get_unit, oracle
from fpsim.vectors import STRATEGIES, Op, VectorSet, generate

GOLDEN = ["e2m1-chain-e5m10", "e2m1-fixed24q2"]


def section(vectors: VectorSet, name: str) -> Iterator[tuple[dict[str, int], int]]:
    """Yield the MAC vectors of a section, each with the accumulator before it."""
    entry = next(s for s in vectors.sections if s.name == name)
    before = [0, *vectors.columns["acc"].tolist()]
    for i, vector in enumerate(vectors):
        if entry.start <= i < entry.start + entry.count and vector["op"] == Op.MAC:
            yield vector, before[i]


@pytest.fixture(scope="module")
def half() -> VectorSet:
    return generate(get_unit(GOLDEN[0]), count=1000)


@pytest.fixture(scope="module")
def word() -> VectorSet:
    return generate(get_unit(GOLDEN[1]), count=1000)


def product(vectors: VectorSet, vector: dict[str, int]) -> Fraction:
    spec = vectors.spec
    return oracle.decode(vector["a"], spec.a).value * oracle.decode(vector["b"], spec.b).value


def test_no_class_is_empty(half: VectorSet, word: VectorSet) -> None:
    names = {s.name for s in half.sections}
    assert names == {
        "products", "reachable", "signed-zeros", "special-values", "every-shift",
        "subnormal-accumulators", "overflow-edge", "cancellation", "random",
        "b1-types", "b3-rounding-bits", "b7-sticky", "b8-boundaries", "b14-shifts",
        "b16-cancellation",
    }  # fmt: skip
    assert {s.name for s in word.sections} == {
        "products", "reachable", "range-edges", "out-and-back", "random", "b1-types"
    }  # fmt: skip
    for vectors in (half, word):
        assert sum(s.count for s in vectors.sections) == vectors.count
        assert all(s.count > 0 for s in vectors.sections)


def test_products_are_exhausted(half: VectorSet) -> None:
    pairs = {(v["a"], v["b"]) for v, acc in section(half, "products") if acc == 0}
    assert len(pairs) == 256


def test_reachable_needs_no_load(half: VectorSet, word: VectorSet) -> None:
    for vectors in (half, word):
        entry = next(s for s in vectors.sections if s.name == "reachable")
        ops = vectors.columns["op"][entry.start : entry.start + entry.count]
        assert Op.LOAD not in ops
        only = generate(vectors.spec, strategy="mixed", count=100, load=False)
        assert Op.LOAD not in only.columns["op"]
        assert not only.columns["c"].any()


def test_signed_zeros_meet_in_all_ways(half: VectorSet) -> None:
    met = set()
    for vector, acc in section(half, "signed-zeros"):
        sign = (vector["a"] ^ vector["b"]) >> 3
        assert product(half, vector) == 0
        met.add((acc, sign, vector["acc"]))
    assert met == {(0, 0, 0), (0, 1, 0), (0x8000, 0, 0), (0x8000, 1, 0x8000)}


def test_special_values_are_loaded(half: VectorSet) -> None:
    loaded = {acc for _, acc in section(half, "special-values")}
    assert {0x7C00, 0xFC00} <= loaded
    assert any(0x7C00 < code < 0x7E00 for code in loaded), "a signalling NaN"
    assert any(0x7E00 <= code <= 0x7FFF for code in loaded), "a quiet NaN"
    assert any(code > 0xFC00 for code in loaded), "a negative NaN"


def rounding_bits(vectors: VectorSet, vector: dict[str, int], acc: int) -> tuple[int, ...] | None:
    """Return (sign, last bit, guard, sticky) of the exact sum on the result's own grid."""
    fmt = vectors.spec.result
    number = oracle.decode(acc, fmt)
    if number.magnitude is None:
        return None
    total = number.value + product(vectors, vector)
    magnitude = abs(total)
    code = oracle.encode(oracle.Number(False, magnitude), fmt, Rounding.RTZ, Overflow.SATURATE)
    low, high = oracle.decode(code, fmt).value, oracle.decode(code + 1, fmt)
    if high.magnitude is None:
        return None
    fraction = (magnitude - low) / (high.magnitude - low)
    half = Fraction(1, 2)
    return int(total < 0), code % 2, int(fraction >= half), int(fraction % half != 0)


def test_every_shift_meets_all_rounding_bits(half: VectorSet) -> None:
    """All 16 combinations of sign, last bit, guard and sticky: ties up and down among them."""
    met = {rounding_bits(half, v, acc) for v, acc in section(half, "every-shift")}
    combinations = {
        (s, last, g, t) for s in (0, 1) for last in (0, 1) for g in (0, 1) for t in (0, 1)
    }
    assert combinations <= met


def test_every_shift_meets_every_row_and_carries(half: VectorSet) -> None:
    rows, carries = set(), set()
    for vector, acc in section(half, "every-shift"):
        rows.add((acc & 0x7FFF) >> 10)
        if vector["acc"] & 0x3FF == 0 and acc & 0x3FF == 0x3FF:
            carries.add((acc >> 15, vector["acc"] >> 15))
    assert rows == set(range(31))
    assert {(0, 0), (1, 1)} <= carries


def test_subnormal_accumulators_surround_the_smallest_numbers(half: VectorSet) -> None:
    met = {acc for _, acc in section(half, "subnormal-accumulators")}
    for magnitude in (0, 1, 2, 0x3FF, 0x400, 0x401):
        assert {magnitude, magnitude + 0x8000} <= met


def test_overflow_edge_reaches_infinity_and_just_not(half: VectorSet) -> None:
    """Overflow of either sign, the largest number left alone, and the tie at 65520."""
    ends, ties = set(), set()
    for vector, acc in section(half, "overflow-edge"):
        ends.add((acc, vector["acc"]))
        total = oracle.decode(acc, half.spec.result).value + product(half, vector)
        ties |= {total} if abs(total) == 65520 else set()
    results = {after for _, after in ends}
    assert {0x7C00, 0xFC00, 0x7BFF, 0xFBFF} <= results
    assert (0x7BFF, 0x7BFF) in ends
    assert (0x7BFF, 0x7C00) in ends
    assert ties == {65520, -65520}


def test_cancellation_meets_zero_and_every_drop(half: VectorSet) -> None:
    """Exact cancellation of every product, and a single last bit left over."""
    cancelled, left = set(), set()
    for vector, acc in section(half, "cancellation"):
        total = oracle.decode(acc, half.spec.result).value + product(half, vector)
        if total == 0 and acc & 0x7FFF:
            assert vector["acc"] == 0
            cancelled.add(product(half, vector))
        elif total:
            left.add(total > 0)
    assert len(cancelled) == 36
    assert left == {True, False}


def test_range_edges_wrap_both_ways(word: VectorSet) -> None:
    """Past the top, past the bottom, exactly to both ends, and onto zero."""
    fmt = word.spec.result
    met = set()
    for vector, acc in section(word, "range-edges"):
        before = int(fmt.integers([acc])[0])  # type: ignore[union-attr]
        after = int(fmt.integers([vector["acc"]])[0])  # type: ignore[union-attr]
        true = before + int(product(word, vector) * 4)
        met.add("over" if true > after else "under" if true < after else "inside")
        met |= {name for name, end in (("max", (1 << 23) - 1), ("min", -(1 << 23))) if after == end}
    assert met == {"over", "under", "inside", "max", "min"}


def test_out_and_back_leaves_the_range_and_returns() -> None:
    for overflow in ("wrap", "saturate"):
        vectors = generate(fixed(10, -2, overflow), strategy="directed")
        fmt = vectors.spec.result
        clamped = 0
        for vector, acc in section(vectors, "out-and-back"):
            before, after = fmt.integers([acc, vector["acc"]]).tolist()  # type: ignore[union-attr]
            clamped += before + int(product(vectors, vector) * 4) != after
        assert clamped >= 4


def test_exponents_reach_both_ends() -> None:
    for unit in (chain("e5m10"), fixed(24, -2)):
        vectors = generate(unit, exponents=True, count=3000)
        exp = vectors.columns["exp"].astype(np.int64)
        signed = np.where(exp >= 256, exp - 512, exp)
        assert signed.min() == -254
        assert signed.max() == 254
        assert {s.name for s in vectors.sections} >= {"scaled", "random"}
        entry = next(s for s in vectors.sections if s.name == "scaled")
        results = vectors.columns["acc"][entry.start : entry.start + entry.count]
        assert np.unique(results).size > 50
    assert "exp" not in generate(chain("e5m10"), count=10).columns


def test_random_sequences_have_all_ingredients(half: VectorSet) -> None:
    entry = next(s for s in half.sections if s.name == "random")
    part = {k: v[entry.start : entry.start + entry.count] for k, v in half.columns.items()}
    assert set(part["op"].tolist()) == {Op.IDLE, Op.CLEAR, Op.MAC, Op.LOAD}
    assert set(part["a"][part["op"] == Op.MAC].tolist()) == set(range(16))
    assert entry.count >= 1000
    idle = np.flatnonzero(part["op"] == Op.IDLE)
    assert np.array_equal(part["acc"][idle], part["acc"][idle - 1])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies(strategy: str) -> None:
    vectors = generate(get_unit(GOLDEN[0]), strategy=strategy, count=64)
    names = {s.name for s in vectors.sections}
    assert ("products" in names) == (strategy in ("exhaustive", "mixed"))
    assert ("every-shift" in names) == (strategy in ("directed", "mixed"))
    assert ("random" in names) == (strategy in ("random", "mixed"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strategy": "all"}, ["strategy", "'all'", "exhaustive, directed, random, mixed"]),
        ({"count": 0}, ["count", "0", "1.."]),
        ({"count": 1.5}, ["count", "1.5", "1.."]),
        ({"count": True}, ["count", "True", "1.."]),
        ({"count": "9"}, ["count", "'9'", "1.."]),
        ({"count": 1 << 23}, ["count", "8388608", "in memory"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": "1"}, ["seed", "'1'"]),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(FpsimError) as error:
        generate(get_unit(GOLDEN[0]), **arguments)
    for word in words:
        assert word in str(error.value)


def test_units_that_vectors_cannot_describe() -> None:
    with pytest.raises(FpsimError, match=r"accumulate.kind: 'exact'.*chain or fixed"):
        generate(exact("e5m10"), count=10)
