# SPDX-License-Identifier: Apache-2.0
"""Lemmas about sums that start from +0, tried on every accumulator that products can reach."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from fpsim import get_format, get_unit
from fpsim.formats.rounding import Overflow
from fpsim.units.spec import MacSpec
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.mutants.reach import Addends, Reach
from fpsim.vectors.sets.record import Columns, Record

pytestmark = pytest.mark.usefixtures("one_thread")

#: Rows of a call: more would run in kernels that are compiled first.
ROWS = 2048
#: Vectors that each accumulator meets.
VECTORS = 1 << 9


def vectors(record: Record) -> Columns:
    """All operands and scales of a vector, or so many of them."""
    fields = [f for f in record.fields if f.name not in ("op", "c", "acc")]
    lanes = [(f.name, 1 << record.format_of(f.name).bits) for f in fields for _ in range(f.lanes)]
    total = np.prod([float(size) for _, size in lanes])
    if total <= VECTORS:
        rows = np.array(list(product(*(range(size) for _, size in lanes))))
    else:
        rng = np.random.default_rng(7)
        rows = np.stack([rng.integers(0, size, VECTORS) for _, size in lanes], axis=1)
        rows[: VECTORS // 4] = rows[:1]  # the same again and again: sums that grow
        for i, row in enumerate(rows[: VECTORS // 4]):
            row[:] = rows[VECTORS // 2 + i % 8]
        full = rows[VECTORS // 4 : VECTORS // 2]  # largest operands in most lanes
        full[:] = np.where(rng.random(full.shape) < 0.8, [size // 2 - 1 for _, size in lanes], full)
    names = np.array([name for name, _ in lanes])
    return {f.name: rows[:, names == f.name].astype(record.format_of(f.name).dtype) for f in fields}


def crossed(run: Any, columns: Columns, states: np.ndarray, dtype: Any) -> np.ndarray:
    """Results of every vector onto every state."""
    count = columns["a"].shape[0]
    c = np.repeat(states, count).astype(dtype)
    whole = {name: np.tile(column, (states.size, 1)) for name, column in columns.items()}
    parts = [slice(start, start + ROWS) for start in range(0, c.size, ROWS)]
    return np.concatenate([run({n: x[p] for n, x in whole.items()}, c[p]) for p in parts])


def reached(record: Record, columns: Columns, once: bool, most: int = 512) -> np.ndarray:
    """The accumulators before each vector: +0, and all that follow from it."""
    dtype = record.spec.initial.dtype
    known, edge = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    while not once and edge.size and known.size < most:
        found = np.unique(crossed(record.dot, columns, edge[:64], dtype)).astype(np.int64)
        edge = np.setdiff1d(found, known)
        known = np.union1d(known, edge)
    return known


def spec_of(unit: str, **settings: Any) -> MacSpec:
    spec = get_unit(unit).spec
    return replace(spec, name="", accumulate=replace(spec.accumulate, **settings))


#: Units, elements and scales of a vector, whether there is one vector only, and what is proved.
CASES = [
    ("e1m1-aligned2f6-e4m3", 2, 0, False, {"results flushed", "IEEE sign of zero", "exponent floor 0"}),
    ("e1m1-aligned2f6-e4m3", 2, 0, True, {"addend late", "addend joined", "overflow saturate"}),
    ("e1m1-aligned2f6-e4m3-late", 2, 0, True, {"late_rounding rtz", "addend early"}),
    ("e1m1-aligned2f6-e4m3-late", 2, 0, False, {"IEEE sign of zero"}),
    ("e1m1-aligned2f1-e3m2", 2, 0, False, set()),
    ("e2m2-aligned2f1-e5m5", 2, 0, False, set()),
    ("e1m1-aligned2f3-e3m1", 4, 0, True, set()),
    ("e1m1-aligned2f6-e4m3-late", 4, 0, True, set()),
    ("e2m1-aligned2f2-e2m1", 2, 0, False, set()),
    ("e1m1-aligned2f4-e5m2", 2, 0, False, {"overflow saturate", "overflow nan"}),
    ("e1m1-aligned2f4-e3m2-rne", 2, 0, False, set()),
    ("e1m1-tree2-e4m3", 2, 0, False, {"-0 lost", "2 lanes", "results flushed"}),
    ("e1m1-tree2-e2m1", 2, 0, False, set()),
    ("e3m1-tree2-e2m1", 2, 0, False, set()),
    ("e3m1-tree2-e2m1-rounded", 2, 0, False, {"-0 lost", "-0 lost in the addend"}),
    ("e1m1-tree4-e4m3", 4, 0, False, {"4 lanes"}),
    ("e1m1-tree4-e4m3-lanes2", 4, 0, False, set()),
    ("e1m1-tree2-e4m3-fused", 2, 0, True, {"order reversed", "addend at root"}),
    ("e1m1-tree2-e4m3-rdn", 2, 0, False, {"2 lanes"}),
    ("e3m1-chain-e3m2-rdn", 2, 0, False, set()),
    ("e1m1-chain-e4m5-rdn", 2, 0, True, {"order reversed", "two lanes", "overflow saturate"}),
    ("e1m1-exact-e3m1", 2, 0, False, set()),
    ("e1m1-exact-e5m2", 2, 0, False, {"overflow saturate"}),
    ("e1m1-exact-e3m2_flush", 2, 0, False, {"-0 lost"}),
    ("e2m1-exact-e2m1_flush", 2, 0, False, set()),
    ("e1m1.ue2m1f-block2-into-aligned2f8-e5m3", 4, 2, False, {"into: IEEE sign of zero"}),
    ("e1m1.ue2m1f-block2-into-aligned2f2-e4m3", 4, 2, False, set()),
    ("e1m1.ue2m1f-block2-into-chain-e5m3", 4, 2, False, {"-0 lost", "into: results flushed"}),
    ("e1m1-chunked2-of-chain-e3m1-into-chain-e5m3", 4, 0, False, {"outer: results flushed"}),
    ("e2m1-chunked2-of-chain-e4m4-into-chain-e2m2", 4, 0, False, set()),
    ("e1m1-chunked2-of-chain-e4m7-into-chain-e5m9", 4, 0, True, {"outer: rounding rtz", "inner: rounding rdn"}),
]  # fmt: skip


@pytest.mark.parametrize(("unit", "k", "group", "once", "names"), CASES)
def test_what_is_proved_of_sums_from_zero_holds_on_all_that_are_reached(
    unit: str, k: int, group: int, once: bool, names: set[str]
) -> None:
    check(Record(get_unit(unit).spec, k, group), once, names)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"addend": "joined", "lanes": 2}, {"join_sum_bits -1", "join_reach -1"}),
        ({"addend": "joined", "lanes": 2, "join_sum_bits": 2}, {"join_addend_bits -1"}),
        ({"addend": "joined", "join_sum_bits": 2}, set()),
        ({"signed_zero": True}, set()),
        ({"signed_zero": True, "addend": "late"}, set()),
    ],
)
@pytest.mark.parametrize("once", [True, False])
def test_what_is_proved_of_windows_holds_for_each_way_of_adding(
    settings: dict[str, Any], names: set[str], once: bool
) -> None:
    joined = {"join_reach": 3} if settings.get("addend") == "joined" else {}
    spec = spec_of("e1m2-aligned2f3-e4m4", **settings, **joined)
    check(Record(spec, 2), once, names if once else set())


def check(record: Record, once: bool, names: set[str]) -> None:
    """Hold what is proved, of which there is at least ``names``, against all sums."""
    reach = Reach(record, Addends.ZERO if once else Addends.GROWN)
    proved = [m for m in mutants_of(record) if not m.slow and reach.equivalent(m)]
    assert names <= {m.name for m in proved}
    columns = vectors(record)
    states, dtype = reached(record, columns, once), record.spec.initial.dtype
    right = crossed(record.dot, columns, states, dtype)
    wrong = [m.name for m in proved if (crossed(m.run, columns, states, dtype) != right).any()]
    assert wrong == []


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    ("unit", "k", "once", "names"),
    [
        ("e1m1-chain-e4m3", 1, False, set()),
        ("e2m0-chain-e4m3", 1, False, {"rounding: sticky is one bit", "rounding: rounded twice"}),
        ("e1m1-chain-e4m3", 3, True, {"rounding: sticky dropped"}),
        ("e1m1-tree4-e4m3", 4, True, {"rounding: sticky is one bit"}),
        ("e1m1-tree4-e4m2", 4, True, set()),
        ("e1m1-tree4-e4m1", 4, True, set()),
        ("e1m1-exact-e4m2", 4, True, set()),
        ("e1m1-exact-e4m3", 8, True, set()),
        ("e1m1-exact-e4m1", 4, True, set()),
        ("e1m1-aligned2f6-e4m1-rne-late", 2, True, set()),
        ("e1m1-chain-e3m1-rna", 2, False, {"rounding: sticky dropped", "rounding: ties up"}),
        ("e1m1-aligned2f6-e4m3-late", 2, True, {"rounding: ties up", "rounding: guard ignored"}),
    ],
)
def test_wrong_roundings_that_are_proved_right_show_nowhere(
    unit: str, k: int, once: bool, names: set[str]
) -> None:
    from fpsim.vectors.mutants.equivalence import equivalent

    record = Record(get_unit(unit).spec, k)
    reach = Reach(record, Addends.ZERO if once else Addends.GROWN)
    slow = [m for m in mutants_of(record) if m.slow]
    proved = [m for m in slow if reach.equivalent(m) or equivalent(record, m)]
    assert names <= {m.name for m in proved} and len(proved) < max(len(slow), 1) + once
    columns = vectors(record)
    some = {name: column[:: 1 + once] for name, column in columns.items()}
    states, dtype = reached(record, columns, once, 64), record.spec.initial.dtype
    right = crossed(record.dot, some, states, dtype)
    assert [m.name for m in proved if (crossed(m.run, some, states, dtype) != right).any()] == []


@pytest.mark.parametrize("format_", ["e2m1", "e3m2", "e4m1", "e3m4", "e4m3fn", "e5m2"])
@pytest.mark.parametrize("rounding", ["rne", "rtz", "rup", "rdn"])
@pytest.mark.parametrize("kind", ["chain", "tree", "exact"])
def test_sums_overflow_where_the_largest_products_do(
    kind: str, rounding: str, format_: str
) -> None:
    """Against every vector: no bound on the growth of rounded sums is as sharp."""
    name = f"e1m1-{kind}-{format_}" + f"-{rounding}" * (rounding != "rne")
    if get_format(format_).nan_code is None:
        return
    seen = set()
    for k in (1, 2, 3):
        record = Record(spec_of(name), k)
        over = Overflow.INF if get_format(format_).infinity else Overflow.NAN
        exact = Record(spec_of(name, overflow=over), k)
        codes = np.array(list(product((0, 1, 3, 4, 7), repeat=2 * k)), dtype=np.uint8)
        columns = {"a": codes[:, :k], "b": codes[:, k:]}
        sums = crossed(exact.dot, columns, np.zeros(1, dtype=np.int64), exact.spec.initial.dtype)
        overflows = not np.isfinite(get_format(format_).decode(sums)).all()
        assert Reach(record, Addends.ZERO)._overflows is overflows
        seen.add(overflows)
    assert seen
