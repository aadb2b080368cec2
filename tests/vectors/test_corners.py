# SPDX-License-Identifier: Apache-2.0
"""Corner classes of sets of one product a vector: each reaches the corners it is named after."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.helpers import chain, exact, fixed

from fpsim import FpsimError, MacUnit, Overflow, Rounding, get_unit, oracle
from fpsim.vectors import STARTS, STRATEGIES, Op, VectorSet, plan
from fpsim.vectors.corners import scale_corners, window_corners
from fpsim.vectors.corners.builder import VectorBuilder
from fpsim.vectors.mutants.equivalence import equivalent
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.sets.record import Record, accumulators_before

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDEN = ["e2m1-chain-e5m10", "e2m1-fixed24q2"]


def loaded(unit: MacUnit, **options: Any) -> VectorSet:
    """Return a set whose sums start with a load."""
    return plan(unit, start="load", **options).made()


def section(vectors: VectorSet, name: str) -> Iterator[tuple[dict[str, int], int]]:
    """Yield the MAC vectors of a section, each with the accumulator before it."""
    entry = next(s for s in vectors.sections if s.name == name)
    columns, before = vectors.columns, accumulators_before(vectors.columns)
    for i in range(entry.start, entry.start + entry.count):
        if columns["op"][i] == Op.MAC:
            row = {n: int(np.atleast_1d(column[i])[0]) for n, column in columns.items()}
            yield row, int(before[i])


@pytest.fixture(scope="module")
def half() -> VectorSet:
    return loaded(get_unit(GOLDEN[0]), count=1000)


@pytest.fixture(scope="module")
def word() -> VectorSet:
    return loaded(get_unit(GOLDEN[1]), count=1000)


def product(vectors: VectorSet, vector: dict[str, int]) -> Fraction:
    spec = vectors.spec
    return oracle.decode(vector["a"], spec.a).value * oracle.decode(vector["b"], spec.b).value


def test_no_class_is_empty(half: VectorSet, word: VectorSet) -> None:
    both = {
        "products", "signed-zeros", "addend-alone", "subnormal-operands", "largest",
        "cancellation", "mixed-lanes", "range-edges", "lane-positions", "streams", "reachable",
        "b1-types", "random-streams",
    }  # fmt: skip
    only_half = {
        "addend-shifts", "specials", "b3-rounding-bits", "b7-sticky", "b8-boundaries",
        "b14-shifts", "b16-cancellation",
    }  # fmt: skip
    assert {s.name for s in half.sections} == both | only_half
    assert {s.name for s in word.sections} == both
    for vectors in (half, word):
        assert sum(s.count for s in vectors.sections) == vectors.count
        assert all(s.count > 0 for s in vectors.sections)


def test_products_are_exhausted(half: VectorSet) -> None:
    pairs = {(v["a"], v["b"]) for v, acc in section(half, "products") if acc == 0}
    assert len(pairs) == 256


def test_a_set_that_starts_from_zero_needs_no_load(half: VectorSet, word: VectorSet) -> None:
    for vectors in (half, word):
        entry = next(s for s in vectors.sections if s.name == "reachable")
        ops = vectors.columns["op"][entry.start : entry.start + entry.count]
        assert Op.LOAD not in ops and Op.DOT not in ops
        only = plan(vectors.spec, count=100, start="clear").made()
        assert set(only.columns["op"].tolist()) == {Op.IDLE, Op.CLEAR, Op.MAC}
        assert not only.columns["c"].any()
        assert {"products", "reachable", "streams", "random-streams"} <= {
            s.name for s in only.sections
        }


def test_long_sums_leave_the_range_without_a_load(half: VectorSet) -> None:
    results = {v["acc"] for v, _ in section(half, "reachable")}
    assert {0x7C00, 0xFC00} <= results, "both infinities of e5m10"


def test_signed_zeros_meet_in_all_ways(half: VectorSet) -> None:
    met = set()
    for vector, acc in section(half, "signed-zeros"):
        sign = (vector["a"] ^ vector["b"]) >> 3
        assert product(half, vector) == 0
        met.add((acc, sign, vector["acc"]))
    assert met == {(0, 0, 0), (0, 1, 0), (0x8000, 0, 0), (0x8000, 1, 0x8000)}


def test_special_values_are_loaded(half: VectorSet) -> None:
    met = {acc for _, acc in section(half, "specials")}
    assert {0x7C00, 0xFC00} <= met
    assert any(0x7C00 < code < 0x7E00 for code in met), "a signalling NaN"
    assert any(0x7E00 <= code <= 0x7FFF for code in met), "a quiet NaN"
    assert any(code > 0xFC00 for code in met), "a negative NaN"


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


def test_shifts_meet_all_rounding_bits(half: VectorSet) -> None:
    """All 16 combinations of sign, last bit, guard and sticky: ties up and down among them."""
    met = {rounding_bits(half, v, acc) for v, acc in section(half, "addend-shifts")}
    combinations = {
        (s, last, g, t) for s in (0, 1) for last in (0, 1) for g in (0, 1) for t in (0, 1)
    }
    assert combinations <= met


def test_shifts_meet_every_row_and_product_and_carry(half: VectorSet) -> None:
    rows, carries, values = set(), set(), set()
    for vector, acc in section(half, "addend-shifts"):
        rows.add((acc & 0x7FFF) >> 10)
        values.add(product(half, vector))
        if vector["acc"] & 0x3FF == 0 and acc & 0x3FF == 0x3FF:
            carries.add((acc >> 15, vector["acc"] >> 15))
    assert rows == set(range(31))
    assert {(0, 0), (1, 1)} <= carries
    assert len(values) == 37, "every product of two E2M1 codes"


def test_edges_surround_the_smallest_numbers(half: VectorSet) -> None:
    met = {acc for _, acc in section(half, "range-edges")}
    for magnitude in (0, 1, 2, 0x3FF, 0x400, 0x401):
        assert {magnitude, magnitude + 0x8000} <= met


def test_edges_reach_infinity_and_just_not(half: VectorSet) -> None:
    """Overflow of either sign, the largest number left alone, and the tie at 65520."""
    ends, ties = set(), set()
    for vector, acc in section(half, "range-edges"):
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


def test_edges_of_a_register_wrap_both_ways(word: VectorSet) -> None:
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


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_streams_leave_the_range_at_both_ends_and_return(overflow: str) -> None:
    vectors = loaded(fixed(10, -2, overflow), strategy="directed")
    fmt = vectors.spec.result
    ways = set()
    for vector, acc in section(vectors, "streams"):
        before, after = fmt.integers([acc, vector["acc"]]).tolist()  # type: ignore[union-attr]
        true = before + int(product(vectors, vector) * 4)
        if true != after:
            ways.add(true > 0)
        elif ways and abs(true) < 400:
            ways.add("back")
    assert ways == {True, False, "back"}


def test_scales_reach_both_ends() -> None:
    """An exponent of the product is a pair of E8M0 scales: from 2^-254 to 2^254."""
    for unit in (chain("e5m10"), fixed(24, -2)):
        vectors = loaded(unit, group=1, count=3000)
        scales = [vectors.columns[f"{o}_scale"][:, 0].astype(np.int64) for o in "ab"]
        finite = (scales[0] < 255) & (scales[1] < 255)
        exponents = (scales[0] + scales[1] - 254)[finite]
        assert exponents.min() == -254 and exponents.max() == 254
        entry = next(s for s in vectors.sections if s.name == "scale-shifts")
        results = vectors.columns["acc"][entry.start : entry.start + entry.count]
        assert np.unique(results).size > 50
    assert "a_scale" not in loaded(chain("e5m10"), count=10).columns


def test_random_sums_have_all_ingredients(half: VectorSet) -> None:
    entry = next(s for s in half.sections if s.name == "random-streams")
    part = {k: v[entry.start : entry.start + entry.count] for k, v in half.columns.items()}
    assert set(part["op"].tolist()) == {Op.IDLE, Op.CLEAR, Op.MAC, Op.LOAD}
    assert set(part["a"][part["op"] == Op.MAC, 0].tolist()) == set(range(16))
    assert entry.count == 1000
    idle = np.flatnonzero(part["op"] == Op.IDLE)
    assert np.array_equal(part["acc"][idle], part["acc"][idle - 1])
    starts = np.flatnonzero((part["op"] == Op.CLEAR) | (part["op"] == Op.LOAD))
    assert np.diff(starts).max() > 40, "sums of more than 40 products"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies(strategy: str) -> None:
    for start in STARTS:
        made = plan(get_unit(GOLDEN[1]), strategy=strategy, count=64, start=start)
        names = {s.name for s in made.sections}
        assert ("products" in names) == (strategy in ("exhaustive", "mixed"))
        assert ("range-edges" in names) == (strategy in ("directed", "mixed"))
        assert ("random-streams" in names) == (strategy in ("random", "mixed"))
        assert ("random" in names) == (strategy in ("random", "mixed") and start == "dot")


def test_each_start_says_the_same_of_the_unit() -> None:
    """A dot product onto c is a load of c and a mac; onto +0 it is a clear and a mac."""
    unit = get_unit(GOLDEN[0])
    sets = {start: plan(unit, strategy="directed", start=start).made() for start in STARTS}
    sums = {}
    for start, made in sets.items():
        before = accumulators_before(made.columns)
        rows = np.flatnonzero((made.columns["op"] == Op.DOT) | (made.columns["op"] == Op.MAC))
        fields = [made.columns["a"][rows, 0], made.columns["b"][rows, 0], before[rows],
                  made.columns["acc"][rows]]  # fmt: skip
        sums[start] = {tuple(row) for row in np.stack(fields, axis=1).tolist()}
    assert sums["dot"] == sums["load"]
    from_zero = {row for row in sums["dot"] if row[2] == 0}
    assert from_zero < sums["clear"] & sums["dot"], "some addends are brought by products"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strategy": "all"}, ["strategy", "'all'", "exhaustive, directed, random, mixed"]),
        ({"start": "lod"}, ["start", "'lod'", "dot, load, clear"]),
        ({"start": None}, ["start", "None", "dot, load, clear"]),
        ({"count": 0}, ["count", "0", "1.."]),
        ({"count": 1.5}, ["count", "1.5", "1.."]),
        ({"count": True}, ["count", "True", "1.."]),
        ({"count": "9"}, ["count", "'9'", "1.."]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": "1"}, ["seed", "'1'"]),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(FpsimError) as error:
        plan(get_unit(GOLDEN[0]), **arguments)
    for word in words:
        assert word in str(error.value)


def test_results_that_are_no_addends_do_not_accumulate() -> None:
    name = "e2m1-fixed16q2-to-e5m10"
    with pytest.raises(FpsimError, match="start: 'load' accumulates, but results of e2m1-fixed16"):
        plan(get_unit(name), start="load")
    assert "streams" not in {s.name for s in plan(get_unit(name), strategy="directed").sections}
    assert "streams" in {s.name for s in plan(exact("e5m10"), strategy="directed").sections}


def test_scales_reach_the_ends_of_the_accumulator_though_one_format_is_narrow() -> None:
    """UE4M3 beside E8M0, of 2^-6 to 2^8 and 2^-127 to 2^127: half of 2^-130 is beyond the first."""
    spec = get_unit("e2m1.ue4m3fnxe2m1-block16-into-chain-e8m23").spec
    builder = VectorBuilder(Record.of(spec))
    for exponent in (-133, -130, -1, 0, 100, 128, 135):
        reached, *codes = scale_corners._scales_of(builder, exponent)
        a, b = spec.a_scale.decode([codes[0]])[0], spec.b_scale.decode([codes[1]])[0]
        assert a * b == 2.0**exponent == 2.0**reached
    assert [scale_corners._scales_of(builder, e)[0] for e in (-134, 136)] == [-133, 135]


def test_products_reach_the_ends_of_the_accumulator_where_scales_do_not() -> None:
    """Sums of half precision underflow at the least scales, 2^-133: a result of -0 among them."""
    record = Record.of(get_unit("e5m10.ue4m3fnxe2m1-block16-into-chain-e8m23").spec)
    builder = VectorBuilder(record)
    scale_corners.scaled_to_ends(builder)
    columns = builder.columns()
    results = record.dot(columns, columns["c"])
    assert {0x80000000, 0, 0x80000001, 0x7F800000} <= set(results.tolist())
    lost = next(m for m in mutants_of(record) if m.name == "-0 lost")
    assert equivalent(record, lost) is None


@pytest.mark.parametrize("mutant", ["into: exponent floor 0", "into: results flushed"])
def test_windows_of_blocks_meet_addends_under_the_least_scales(mutant: str) -> None:
    """A floor above the least scales drops addends; a subnormal one is whole under scales of 0."""
    record = Record.of(get_unit("nvidia-b200-nvf4").spec)
    builder = VectorBuilder(record)
    window_corners.window_edges(builder)
    columns = builder.columns()
    wrong = next(m for m in mutants_of(record) if m.name == mutant)
    right = record.dot(columns, columns["c"])
    assert (wrong.run(columns, columns["c"]) != right).any()
