# SPDX-License-Identifier: Apache-2.0
"""Nested units as data, in studies and in vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.helpers import codes_of, float_format, unit_of
from support.nested_cases import COARSE, E4M3, E5M10, F32, STAGES, chunked, sr

from fpsim import FpsimError, MacSpec, get_unit
from fpsim.studies.order import study as order_study
from fpsim.units.stages import Block, Chain, Chunked, Exact, random_bits_of
from fpsim.vectors.files.checker import check
from fpsim.vectors.files.writer import write
from fpsim.vectors.mutants.kills import kills
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.record import Record

pytestmark = pytest.mark.usefixtures("one_thread")

# -- as data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_names_are_read_back(name: str) -> None:
    spec = unit_of(STAGES[name]).spec
    assert MacSpec.from_name(spec.canonical_name) == spec
    assert MacSpec.from_dict(spec.to_dict()) == spec
    assert get_unit(spec.canonical_name).spec.equation == spec.equation


def test_a_name_belongs_to_one_unit_only() -> None:
    """Without brackets: every ``into`` ends the last ``of`` that is open."""
    left = Chunked(Chunked(Chain(E4M3), Chain(E5M10), 2), Chain(F32), 4)
    right = Chunked(Chain(E4M3), Chunked(Chain(E5M10), Chain(F32), 2), 4)
    names = [unit_of(stage).spec.canonical_name for stage in (left, right)]
    inner, middle, outer = "chain-e4m3", "chain-e5m10", "chain-e8m23"
    assert names[0] == f"e2m1-chunked4-of-chunked2-of-{inner}-into-{middle}-into-{outer}"
    assert names[1] == f"e2m1-chunked4-of-{inner}-into-chunked2-of-{middle}-into-{outer}"


@pytest.mark.parametrize(
    "name",
    [
        "e2m1-chunked4-of-chain-e5m10",
        "e2m1-chunked4-of-chain-e5m10-into",
        "e2m1-chunked4-into-chain-e5m10",
        "e2m1-chunked4-of-into-chain-e5m10",
        "e2m1-chunked4-of-chunked2-of-chain-e5m10-into-chain-e8m23",
        "e2m1-chunked4-of-chain-e5m10-into-chain-e8m23-into-chain-e8m23",
        "e2m1-chain-e5m10-into-chain-e8m23",
        "e2m1-block4-into",
        "e2m1-block4-of-chain-e5m10-into-chain-e8m23",
    ],
)
def test_what_looks_like_a_name_is_none(name: str) -> None:
    with pytest.raises(
        FpsimError, match="unit: .*(neither a published unit|see `fpsim units grammar`)"
    ):
        get_unit(name)


def test_random_integers_are_counted() -> None:
    for stage in STAGES.values():
        spec = unit_of(stage).spec
        assert spec.random_bits == random_bits_of(stage)
    three = STAGES["three deep"]  # per nine: parts of three, each in twos of one bit and a sum
    assert three.roundings(20) == 20 + (3 + 3 + 2) + 3
    split = unit_of(Block(4, Chunked(sr(E4M3, 3), sr(E5M10, 4), 3)), sign_split="both").spec
    assert split.roundings(18) == 20 + 7  # five blocks of four sums, in threes
    assert Chunked(Block(4, sr(E4M3, 3)), Chain(F32), 8).roundings(18, 4) == 20


# -- studies and vectors -------------------------------------------------------------------------


def test_sizing_counts_the_steps_of_the_last_sum() -> None:
    """Chunks lose a half at random; the sum of their three pairs is watched, with its integers."""
    stage = Chunked(sr(COARSE, 1), Chunked(Chain(F32), sr(COARSE, 1), 2), 2)
    unit = chunked(stage.inner, stage.outer, size=2)
    x, one = codes_of(unit.a, [[8, 1, 8, 0, 1, 1]]), codes_of(unit.b, np.ones((6, 1)))
    assert unit.spec.roundings(6) == 6 + 2
    random = np.array([0, 1, 0, 0, 0, 0, 0, 1])[None, None]
    got = unit.size(x, one, random=random)
    # 10 + 8 = 18 becomes 16 with the 0, 16 + 2 = 18 becomes 20 with the 1: both steps are inexact.
    assert (got.dots, got.steps, got.inexact, got.swamped) == (1, 2, 2, 0)
    assert got.max_relative_error == pytest.approx(1 / 19)
    assert got.largest == 19.0


def test_sizing_of_block_sums_in_chunks_knows_the_exact_sums() -> None:
    unit = unit_of(Block(2, Chunked(Chain(COARSE), Chain(F32), 2)))
    got = unit.size(codes_of(unit.a, [[6, 2, 1, 0, 0.5, 0]]), codes_of(unit.b, np.ones((6, 1))))
    assert (got.steps, got.inexact) == (2, 0)
    assert got.max_relative_error == pytest.approx(1 / 9.5)


def test_orders_of_nested_units() -> None:
    unit = unit_of(Chunked(Chunked(Chain(COARSE), Chain(COARSE), 2), Chain(F32), 4))
    a = codes_of(unit.a, [6, 0.5, 1, 0.5, 0.5, 4, 1, 0.5])
    assert order_study(unit, a, codes_of(unit.b, np.ones(8)), random_orders=20).depends
    exact = unit_of(Chunked(Chunked(Exact(F32), Exact(F32), 2), Exact(F32), 4))
    assert not order_study(exact, a, codes_of(exact.b, np.ones(8)), random_orders=20).depends


def test_vectors_find_integers_in_the_wrong_order(tmp_path: Any) -> None:
    """The set is written and checked, and every mutant of the random integers dies."""
    unit = unit_of(Chunked(Chunked(sr(E4M3, 3), sr(E4M3, 5), 2), sr(float_format("e8m7"), 4), 4))
    plan = plan_set(unit, count=300)
    columns, record = plan.columns(), plan.record
    found = [m for m in mutants_of(record) if "random" in m.name and not m.slow]
    names = {m.name for m in found}
    assert names >= {
        "outer stage's random integers first",
        "every chunk followed by its outer random integer",
        "high bits of wider random integers",
        "random integer of the next rounding",
        "inner.inner: one random bit fewer",
    }
    assert not [kill.mutant for kill in kills(record, columns, found) if kill.alive]
    chunk = [m for m in mutants_of(record) if "chunks" in m.name]
    assert len(chunk) >= 8
    assert not [kill.mutant for kill in kills(record, columns, chunk) if kill.alive]
    write(plan, tmp_path / "set")
    read = check(tmp_path / "set").columns()
    for name, column in columns.items():
        assert np.array_equal(read[name], column), name


def test_a_chunk_that_holds_all_products_may_be_larger() -> None:
    """The one lemma of chunk sizes, and where it fails: at K = 5 chunks of four differ."""
    stage = Chunked(Chain(E4M3), Chain(F32), 4)
    for k, equal in ((4, True), (5, False)):
        record = Record(unit_of(stage).spec, k)
        wider = [m for m in mutants_of(record) if m.name == "chunks of 5"]
        columns = plan_set(record.spec, strategy="random", count=500, k=k).columns()
        [kill] = kills(record, columns, wider)
        assert (kill.equivalent is not None) == equal
        assert (kill.vector is None) == equal
