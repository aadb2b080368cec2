# SPDX-License-Identifier: Apache-2.0
"""Proofs about designs that meet few addends, held against sums; and which mutants vectors leave."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim.blocks.code_table import CodeTable
from fpsim.vectors.mutants.equivalence import equivalent
from fpsim.vectors.mutants.kills import kills
from fpsim.vectors.mutants.mutants import Mutant, mutants_of
from fpsim.vectors.mutants.reach import Addends, Reach
from fpsim.vectors.mutants.survivors import survivors
from fpsim.vectors.plans.planner import plan
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Op, Record, accumulators_before


def excused(record: Record, addends: Addends, **codes: np.ndarray) -> list[Mutant]:
    reach = Reach(record, addends, codes)
    return [m for m in mutants_of(record) if not m.slow and reach.equivalent(m)]


def in_parts(run: Any, columns: Columns, c: np.ndarray) -> np.ndarray:
    """Return results, few at a time: more would run in kernels that are compiled first."""
    parts = [slice(start, start + 2048) for start in range(0, c.size, 2048)]
    return np.concatenate([run({n: x[p] for n, x in columns.items()}, c[p]) for p in parts])


@pytest.mark.parametrize(
    ("unit", "least"),
    [
        ("e1m1-chain-e5m10", 12),
        pytest.param("e1m1-chain-e3m2", 4, marks=pytest.mark.sweep),
        ("e1m1-fixed8q4-saturate", 4),
    ],
)
def test_what_is_proved_onto_zero_holds_for_every_pair_of_products(unit: str, least: int) -> None:
    record = Record(fpsim.get_unit(unit).spec, 2)
    codes = np.array(list(itertools.product(range(8), repeat=4)), dtype=np.uint8)
    columns = {"a": codes[:, :2], "b": codes[:, 2:]}
    c = np.zeros(len(codes), dtype=record.spec.initial.dtype)
    right = in_parts(record.dot, columns, c)
    proved = excused(record, Addends.ZERO)
    assert len(proved) >= least
    assert [m.name for m in proved if (in_parts(m.run, columns, c) != right).any()] == []


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("e1m1.ue2m1-exact-e8m9", {"rounding rtz", "overflow nan", "results flushed", "-0 lost"}),
        ("e1m1.ue2m1-chain-e5m3", {"overflow nan"}),  # nine bits of sums are rounded
    ],
)
def test_what_is_proved_of_scaled_sums_holds_for_all_of_them(unit: str, names: set[str]) -> None:
    record = Record(fpsim.get_unit(unit).spec, 2, 2)
    rng = np.random.default_rng(4)
    count = 20_000
    columns = {
        name: rng.integers(0, 1 << bits, (count, lanes)).astype(np.uint8)
        for name, bits, lanes in (("a", 3, 2), ("b", 3, 2), ("a_scale", 3, 1), ("b_scale", 3, 1))
    }
    c = np.zeros(count, dtype=record.spec.initial.dtype)
    right = in_parts(record.dot, columns, c)
    proved = excused(record, Addends.ZERO)
    assert names <= {m.name for m in proved}
    assert "a_scale ignored" not in {m.name for m in proved}
    assert [m.name for m in proved if (in_parts(m.run, columns, c) != right).any()] == []


@pytest.mark.parametrize(
    ("into", "names", "not_proved"),
    [
        ("aligned1f13-e8m13", {"into: rounding rup", "into: rounding rdn", "into: F+1", "-0 lost",
                              "into: exact sum", "into: overflow saturate", "blocks of 2"}, set()),
        ("aligned1f3-e8m13", set(), {"into: align rup", "into: F+1"}),
        ("chain-e8m13", {"into: rounding rup", "-0 lost", "blocks of 2"}, set()),
        ("chain-e5m3", set(), {"into: rounding rup"}),
    ],
)  # fmt: skip
def test_what_is_proved_of_one_block_holds_for_its_sums(
    into: str, names: set[str], not_proved: set[str]
) -> None:
    """Subnormal scales have exponents above their values, and a window counts those."""
    spec = fpsim.get_unit(f"e2m1.ue2m1f-block4-into-{into}").spec
    record = Record(spec, 4, 4)
    rng = np.random.default_rng(4)
    count = 20_000
    columns = {
        name: rng.integers(0, 1 << bits, (count, lanes)).astype(np.uint8)
        for name, bits, lanes in (("a", 4, 4), ("b", 4, 4), ("a_scale", 3, 1), ("b_scale", 3, 1))
    }
    c = np.zeros(count, dtype=record.spec.initial.dtype)
    right = in_parts(record.dot, columns, c)
    proved = excused(record, Addends.ZERO)
    found = {m.name for m in proved}
    assert names <= found and not not_proved & found
    assert [m.name for m in proved if (in_parts(m.run, columns, c) != right).any()] == []


def test_what_is_proved_of_few_codes_holds_for_them() -> None:
    """Numbers between 1 and 4 have sums that no subnormal is among; all numbers have not."""
    record = Record(fpsim.get_unit("e4m3-exact-e4m10").spec, 2)
    few = np.concatenate([np.arange(56, 72), 128 + np.arange(56, 72), [0]])
    proved = excused(record, Addends.ZERO, a=few, b=few)
    assert {"results flushed", "overflow nan"} <= {m.name for m in proved}
    assert "results flushed" not in {m.name for m in excused(record, Addends.ZERO)}
    rng = np.random.default_rng(5)
    columns = {name: rng.choice(few, (20_000, 2)).astype(np.uint8) for name in "ab"}
    c = np.zeros(20_000, dtype=record.spec.initial.dtype)
    right = in_parts(record.dot, columns, c)
    assert [m.name for m in proved if (in_parts(m.run, columns, c) != right).any()] == []
    more = np.concatenate([few, [0x78, 0x7F, 0xF8]])  # infinities and a NaN
    proved = excused(record, Addends.ZERO, a=more, b=few)
    assert "results flushed" in {m.name for m in proved}
    columns["a"] = rng.choice(more, (20_000, 2)).astype(np.uint8)
    right = in_parts(record.dot, columns, c)
    assert [m.name for m in proved if (in_parts(m.run, columns, c) != right).any()] == []


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("e2m1-chain-e5m6", {"results flushed", "two lanes", "-0 lost"}),
        ("e2m1-chain-e6m11", {"results flushed", "overflow nan", "two lanes", "-0 lost"}),
        ("int4-fixed12q0-saturate", set()),
    ],
)
def test_what_is_proved_of_sums_that_grow_holds_along_them(unit: str, names: set[str]) -> None:
    """Every accumulator on the way of long sums, first grown far, is met with every product."""
    record = Record(fpsim.get_unit(unit).spec, 1)
    proved = excused(record, Addends.GROWN)
    assert names <= {m.name for m in proved}
    a, b, _ = Palette(record).products
    rng = np.random.default_rng(3)
    picks = rng.integers(0, a.size, (16, 600))
    picks[:8, :500] = a.size - 1  # the largest
    columns = {
        "op": np.where(np.arange(picks.size) % 600, Op.MAC, Op.CLEAR).astype(np.uint8),
        "a": a[picks.reshape(-1, 1)].astype(record.spec.a.dtype),
        "b": b[picks.reshape(-1, 1)].astype(record.spec.b.dtype),
        "c": np.zeros(picks.size, dtype=record.spec.initial.dtype),
    }
    columns["acc"] = record.expected(columns)
    states = np.unique(columns["acc"])[::4, None] + np.zeros((1, a.size), dtype=np.int64)
    every = {
        n: np.tile(x, states.shape[0])[:, None].astype(np.uint8) for n, x in (("a", a), ("b", b))
    }
    c = states.reshape(-1).astype(record.spec.initial.dtype)
    right = in_parts(record.dot, every, c)
    assert [m.name for m in proved if (in_parts(m.run, every, c) != right).any()] == []


def test_sums_that_grow_are_counted_over_the_codes_that_are_told() -> None:
    """Of 16 codes of a wide format: every product, not a choice of those of the format."""
    spec = fpsim.get_unit("e5m10xe2m1-chain-e4m3f").spec
    told = np.array(CodeTable.of("nf4").codes[::2])
    record = Record(spec, 1)
    codes = Reach(record, Addends.GROWN, {"a": told})._codes
    found, edge = {0}, [0]
    a, b = (x.reshape(-1, 1) for x in np.meshgrid(told.astype(np.uint16), np.arange(16)))
    while edge:
        c = np.repeat(np.array(edge, dtype=np.uint8), a.size)
        columns = {"a": np.tile(a, (len(edge), 1)), "b": np.tile(b, (len(edge), 1))}
        columns["b"] = columns["b"].astype(np.uint8)
        after = set(record.dot(columns, c).tolist())
        edge = sorted(after - found)
        found |= after
    assert codes is not None and codes.tolist() == sorted(found)
    assert Reach(record, Addends.GROWN)._codes is None  # of all codes nobody counts


def test_a_mistake_that_shows_is_not_proved() -> None:
    record = Record(fpsim.get_unit("e2m1-chain-e4m3").spec, 1)
    names = {m.name for m in excused(record, Addends.GROWN)}
    assert not names & {"rounding rtz", "overflow saturate", "sign of a lost", "last lane dropped"}
    assert "overflow saturate" not in {m.name for m in excused(record, Addends.ANY)}


def test_codes_that_are_not_told_may_be_read_in_any_way() -> None:
    record = Record(fpsim.get_unit("mxfp4-block32-e8m23").spec, 32, 32)
    numbers = np.arange(255)
    assert {m.name for m in excused(record, Addends.ANY, a_scale=numbers)} == {
        "a_scale: NaN read as a number"
    }
    assert excused(record, Addends.ANY) == []


def test_survivors_are_those_that_no_vector_kills() -> None:
    made = plan(fpsim.get_unit("e2m1-chain-e4m3"), strategy="mixed", count=300, start="load")
    columns = made.columns()
    few = {name: column[:700] for name, column in columns.items()}
    sums = np.flatnonzero((few["op"] == Op.MAC) | (few["op"] == Op.DOT))
    part = {name: column[sums] for name, column in few.items()}
    mutants = [m for m in mutants_of(made.record) if equivalent(made.record, m) is None]
    alive = survivors(made.record, [(part, accumulators_before(few)[sums])], mutants)
    slow = kills(made.record, few, mutants)
    assert [m.name for m in alive] == [kill.mutant for kill in slow if kill.alive]
    assert 2 <= len(alive) < len(mutants)
    rows = (columns["op"] == Op.MAC) | (columns["op"] == Op.DOT)
    whole = {name: column[rows] for name, column in columns.items()}
    assert survivors(made.record, [(whole, accumulators_before(columns)[rows])], mutants) == []
