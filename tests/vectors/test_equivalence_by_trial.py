# SPDX-License-Identifier: Apache-2.0
"""Lemmas about mutants, tried on every case of units with few: what is proved must hold on all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from fpsim import get_format, get_unit
from fpsim.formats.rounding import Rounding
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Addend, Aligned, Exact, Joins, Tree
from fpsim.vectors.mutants.equivalence import equivalent
from fpsim.vectors.mutants.mutants import Mutant, mutants_of, spec_mutants
from fpsim.vectors.mutants.reach import Addends, Reach
from fpsim.vectors.sets.record import Columns, Record

pytestmark = pytest.mark.usefixtures("one_thread")

#: Rows of a call: more would run in kernels that are compiled first.
ROWS = 2048


def every(record: Record, addends: bool = True, most: int = 1 << 16) -> tuple[Columns, Any]:
    """All operands with all addends (or +0), or so many of them spread evenly."""
    widths = [getattr(record.spec, op).bits for op in "ab" for _ in range(record.k)]
    codes = 1 << record.spec.initial.bits if addends else 1
    total = codes << sum(widths)
    index = np.arange(total) if total <= most else np.random.default_rng(1).integers(0, total, most)
    c, rest, lanes = index % codes, index // codes, []
    for width in widths:
        lanes.append(rest % (1 << width))
        rest = rest >> width
    k = record.k
    columns = {
        op: np.stack(part, axis=1).astype(getattr(record.spec, op).dtype)
        for op, part in (("a", lanes[:k]), ("b", lanes[k:]))
    }
    return columns, c.astype(record.spec.initial.dtype)


def differ(record: Record, mutants: list[Mutant], addends: bool = True) -> set[str]:
    """The mutants among ``mutants`` that some case tells from the unit."""
    columns, c = every(record, addends)
    found: set[str] = set()
    for start in range(0, c.size, ROWS):
        rows = slice(start, start + ROWS)
        part = {name: column[rows] for name, column in columns.items()}
        right = record.dot(part, c[rows])
        found |= {
            m.name for m in mutants if m.name not in found and (m.run(part, c[rows]) != right).any()
        }
    return found


def changed(record: Record, name: str, spec: MacSpec) -> Mutant:
    other = Record(spec, record.k, record.group)
    return Mutant(name, other.dot, spec=spec)


def with_stage(spec: MacSpec, **settings: Any) -> MacSpec:
    return replace(spec, name="", accumulate=replace(spec.accumulate, **settings))


@pytest.mark.parametrize("addend", [Addend.EARLY, Addend.LATE])
@pytest.mark.parametrize("unit", ["e1m1-aligned2f3-e3m2", "e1m1-aligned2f5-e2m2-rne"])
def test_floors_that_keep_every_bit_show_nowhere(unit: str, addend: Addend) -> None:
    spec = with_stage(get_unit(unit).spec, addend=addend)
    floors = [None, *range(-4, 8)]
    kept = 0
    for first in floors[::4]:
        record = Record(with_stage(spec, exponent_floor=first), 2)
        others = [
            changed(record, f"{first} {f}", with_stage(spec, exponent_floor=f))
            for f in floors
            if f != first
        ]
        proved = [m for m in others if equivalent(record, m)]
        wrong = differ(record, others)
        assert not wrong & {m.name for m in proved}
        assert wrong
        kept += len(proved)
    assert kept >= 8


@pytest.mark.parametrize("operands", ["e1m1", "e2m0"])
def test_a_zero_of_a_joined_window_is_positive_unless_a_sum_is_rounded_to_it(operands: str) -> None:
    plain = get_unit(f"{operands}-aligned2f2-e2m2-rne").spec
    answers = set()
    for bits, addend_bits in product((1, 2, 4, 6), (1, 3, 6)):
        joined = {"addend": Addend.JOINED, "join_sum_bits": bits, "join_addend_bits": addend_bits}
        spec = with_stage(plain, **joined)
        record = Record(spec, 2)
        mutant = changed(record, "signed zero", with_stage(spec, signed_zero=True))
        proved = bool(equivalent(record, mutant))
        answers.add(proved)
        assert not (proved and differ(record, [mutant])), (bits, addend_bits)
    assert answers == {False, True}


def trees(**settings: Any) -> Iterator[Tree]:
    fmt = settings.pop("format")
    for radix, lanes, addend in product((2, 3, 4), (1, 2), Joins):
        yield Tree(fmt, radix=radix, lanes=lanes, addend=addend, **settings)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("operands", "fmt", "k", "rounding"),
    [
        ("int2", "e3m1", 4, "rne"),  # few sums fit
        ("int2", "e4m2", 4, "rne"),  # sums of two products fit
        ("int2", "e4m3", 4, "rup"),  # all sums fit
        ("e1m1", "e4m3", 2, "rne"),  # zeros have signs
        ("e1m1", "e4m3", 2, "rdn"),
        ("e1m0", "e3m0", 3, "rtz"),
    ],
)
def test_shapes_of_trees_that_are_proved_alike_are(
    operands: str, fmt: str, k: int, rounding: str
) -> None:
    fmt_ = get_format(fmt)
    operand = get_format(operands)
    proofs = 0
    for stage in trees(format=fmt_, rounding=Rounding(rounding), products=k):
        record = Record(MacSpec(operand, operand, stage), k)
        others = [
            changed(record, repr(other), MacSpec(operand, operand, other))
            for other in (*trees(format=fmt_, rounding=Rounding(rounding), products=k),
                          Exact(fmt_, Rounding(rounding)))
            if other != stage
        ]  # fmt: skip
        others += [m for m in mutants_of(record) if m.name == "order reversed"]
        proved = [m for m in others if equivalent(record, m)]
        assert differ(record, proved) == set(), stage
        proofs += len(proved)
    assert proofs >= 8


def test_four_products_are_pairs_of_pairs_only_where_pairs_are_exact() -> None:
    for fmt, same in (("e4m2", True), ("e3m1", False)):
        stage = Tree(get_format(fmt), products=4)
        record = Record(MacSpec(get_format("int2"), get_format("int2"), stage), 4)
        (other,) = (m for m in spec_mutants(record) if m.name == "radix 4")
        assert bool(equivalent(record, other)) == same
        assert bool(differ(record, [other])) != same


def test_a_tree_of_lanes_loses_a_negative_zero_unless_sums_underflow() -> None:
    for fmt, same in (("e4m2", True), ("e2m2b-2", False), ("e2m2b-1_flush", False)):
        record = Record(get_unit(f"e1m1-tree2-{fmt}-lanes2").spec, 2)
        lost = [m for m in mutants_of(record) if m.name.startswith("-0 lost")]
        assert len(lost) == 2
        assert all(bool(equivalent(record, m)) == same for m in lost)
        assert bool(differ(record, lost)) != same


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("unit", "k", "names"),
    [
        ("e1m1-chunked1-of-chain-e3m3-into-chain-e4m3", 2, {"-0 lost", "-0 lost in the addend"}),
        ("e1m1-chunked1-of-chain-e2m0-into-chain-e4m3", 2, set()),
        ("e1m1-chunked2-of-chain-e4m6-into-chain-e4m3", 2, {"inner: result's bias +1"}),
        ("e1m1-chunked2-of-exact-e4m1-into-chain-e4m3", 2, {"inner: result's bias +1"}),
        ("e1m1-chunked2-of-tree2-e3m1-into-exact-e4m3", 2, set()),
        ("e1m1-chunked1-of-fixed9q2-into-chain-e4m8", 2,
         {"inner: binary point moved -1", "outer: products rounded first", "-0 lost"}),
        ("e1m1-chunked1-of-fixed8q2-into-chain-e4m2", 2, set()),
        ("e1m0-chunked3-of-aligned2f1-e5m2-in.e5m10-into-chain-e4m2", 3,
         {"inner: IEEE sign of zero"}),
        ("e1m1-chunked2-of-aligned2f3-e2m2b-3-into-chain-e4m2", 2, set()),
        ("e5m2-chunked2-of-exact-e5m2-into-chain-e4m3", 2, set()),
        ("e3m2-chunked2-of-exact-e8m1-into-chain-e4m3", 2,
         {"inner: overflow nan", "inner: results flushed", "inner: result's bias -1"}),
        ("e1m1-block1-into-chunked1-of-exact-e3m2-into-chain-e4m3", 2, set()),
    ],
)  # fmt: skip
def test_chunks_that_are_proved_alike_are(unit: str, k: int, names: set[str]) -> None:
    record = Record(get_unit(unit).spec, k)
    proved = [m for m in mutants_of(record) if not m.slow and equivalent(record, m)]
    found = {m.name for m in proved}
    assert names <= found, sorted(found)
    assert differ(record, proved) == set()


def test_sums_that_roundings_lift_out_of_the_range_overflow() -> None:
    """32 products of 784 are 25088, half of the largest number; rounded up 31 times they grow."""
    for rounding, same in (("rup", False), ("rtz", True)):
        record = Record(get_unit(f"e3m2-chain-e5m2-{rounding}").spec, 32)
        reach = Reach(record, Addends.ZERO)
        saturating = next(m for m in mutants_of(record) if m.name.startswith("overflow "))
        assert bool(reach.equivalent(saturating)) == same
        columns = {op: np.full((1, 32), 31, np.uint8) for op in "ab"}
        c = np.zeros(1, np.uint8)
        alike = saturating.run(columns, c) == record.dot(columns, c)
        assert bool(alike.all()) == same


def test_an_infinity_taken_for_a_power_of_two_needs_sums_that_reach_it() -> None:
    name = "infinite addend as a power of two"
    for inner, same in (("e5m10", True), ("e8m23", False)):
        unit = f"e2m1-block4-into-chunked2-of-chain-{inner}-into-chain-e8m23"
        record = Record.of(get_unit(unit).spec)
        mutant = next(m for m in mutants_of(record) if m.name == name)
        assert bool(equivalent(record, mutant)) == same


def test_an_outer_window_tells_chunks_of_equal_values_apart() -> None:
    """It looks at exponents, and those of subnormal numbers depend on the format."""
    spec = get_unit("e1m1-chunked1-of-chain-e3m3b-1-into-aligned2f1-e4m3").spec
    record = Record(spec, 2)
    assert isinstance(spec.accumulate.outer, Aligned)  # type: ignore[union-attr]
    proved = [m for m in mutants_of(record) if not m.slow and equivalent(record, m)]
    assert differ(record, proved) == set()
