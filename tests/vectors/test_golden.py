# SPDX-License-Identifier: Apache-2.0
"""The published catalogue: released sets are right, complete, and kill every mutant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fpsim import FpsimError, unit_names
from fpsim.base.resources import golden_dir
from fpsim.vectors import catalogue
from fpsim.vectors.catalogue import check_release, plan_of, prove, release, select
from fpsim.vectors.coverage.set_coverage import expected_bins
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.mutants import kills as kills_module
from fpsim.vectors.mutants.kills import SLOW_ROWS, Kill, kills, random_costs
from fpsim.vectors.mutants.mutants import Codes, Mutant, mutants_of
from fpsim.vectors.plans.planner import plan
from fpsim.vectors.sets.record import Columns, Op, Record
from fpsim.vectors.sets.vector_set import VectorSet

pytestmark = pytest.mark.usefixtures("one_thread")

#: The published units, and those of several products per step: at least twelve in all.
UNITS = unit_names()
SATURATING = "int4-fixed12q0-saturate"
QUICK = ["e2m1-fixed24q2", SATURATING]
LEAST_MUTANTS = 25


def test_the_catalogue_is_published() -> None:
    assert len(UNITS) >= 12
    sums = json.loads((golden_dir() / "checksums.json").read_text(encoding="utf-8"))
    for name in UNITS:
        assert (golden_dir() / name / "vectors.hex").is_file(), name
        assert set(sums[name]) == {"count", "sha256"}


@pytest.mark.parametrize("name", UNITS)
def test_reports_say_that_nothing_lives(name: str) -> None:
    report = json.loads((golden_dir() / "reports" / f"{name}.json").read_text(encoding="utf-8"))
    assert len(report["mutants"]) >= LEAST_MUTANTS
    assert report["coverage"]["complete"]
    assert report["coverage"]["vectors"] == open_set(golden_dir() / name).count
    for mutant in report["mutants"]:
        assert (mutant["vector"] is None) != (mutant["equivalent"] is None), mutant["mutant"]


@pytest.mark.parametrize("name", QUICK)
def test_released_sets_are_right(name: str) -> None:
    assert check_release(name, large=False) > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_released_and_large_sets(name: str) -> None:
    assert check_release(name) > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_released_sets_kill_what_their_reports_say(name: str) -> None:
    opened = open_set(golden_dir() / name)
    report = json.loads((golden_dir() / "reports" / f"{name}.json").read_text(encoding="utf-8"))
    found = kills(opened.record, opened.columns())
    assert [k.vector for k in found] == [m["vector"] for m in report["mutants"]]


def test_a_set_without_corners_leaves_mutants_alive() -> None:
    """The harness can fail: products alone do not push a saturating accumulator over its end."""
    source = plan_of(SATURATING, "exhaustive", 1)
    found = kills(source.record, source.columns())
    assert any(k.alive for k in found)
    assert "overflow wrap" in {k.mutant for k in found if k.alive}


def test_selection_is_deterministic_and_proved() -> None:
    first, second = (select(SATURATING) for _ in range(2))
    for name, column in first.columns.items():
        assert np.array_equal(column, second.columns[name])
    assert not prove(first, costs=False).problems()


def test_impossible_bins_have_reasons() -> None:
    record = plan_of("e2m1-chain-e5m10", "exhaustive", 1).record
    reasons = [why for why in expected_bins(record).values() if why is not None]
    assert "e2m1 has no NaN" in reasons
    assert len(mutants_of(record)) >= LEAST_MUTANTS


# -- publishing ----------------------------------------------------------------------------------


def published() -> VectorSet:
    opened = open_set(golden_dir() / SATURATING)
    return VectorSet(opened.record, opened.columns(), opened.sections, seed=1)


def test_publishing_again_gives_the_published_bytes(tmp_path: Path) -> None:
    said: list[str] = []
    made = release(SATURATING, said.append, tmp_path)
    report = f"reports/{SATURATING}.json"
    assert (tmp_path / report).read_bytes() == (golden_dir() / report).read_bytes()
    # Comments have the version of fpsim.
    words, wanted = (
        [line for line in text.splitlines() if not line.startswith("//")]
        for text in ((r / SATURATING / "vectors.hex").read_text() for r in (tmp_path, golden_dir()))
    )
    assert words == wanted
    sums = json.loads((golden_dir() / "checksums.json").read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "checksums.json").read_text()) == {SATURATING: sums[SATURATING]}
    assert said == [f"{SATURATING}: {made.selection.count} vectors, {len(made.kills)} mutants"]


def test_publishing_one_unit_keeps_the_checksums_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "select", lambda name: published())
    monkeypatch.setattr(catalogue, "LARGE", 64)
    (tmp_path / "checksums.json").write_text('{"z": {"count": 1}, "a": {"count": 2}}')
    release(SATURATING, print, tmp_path)
    found = json.loads((tmp_path / "checksums.json").read_text())
    assert list(found) == ["a", SATURATING, "z"]
    assert (found["a"], found["z"]) == ({"count": 2}, {"count": 1})


def test_a_set_with_a_living_mutant_or_an_empty_bin_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = published()
    few = {name: column[:1] for name, column in whole.columns.items()}
    monkeypatch.setattr(
        catalogue, "select", lambda name: replace(whole, columns=few, sections=whole.sections[:1])
    )
    with pytest.raises(FpsimError, match=f"{SATURATING}: not published; ") as caught:
        release(SATURATING, print, tmp_path)
    assert "mutant alive: overflow wrap" in str(caught.value)
    assert "bin empty: " in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_another_large_set_than_the_published_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    released = check_release(SATURATING, large=False)
    sums = json.loads((golden_dir() / "checksums.json").read_text(encoding="utf-8"))
    assert check_release(SATURATING) == released + sums[SATURATING]["count"]
    monkeypatch.setattr(catalogue, "SEED", 2)
    with pytest.raises(
        FpsimError, match=rf"the large set is .* says .*{sums[SATURATING]['sha256']}"
    ):
        check_release(SATURATING)


def test_names_of_units_are_checked_before_anything_is_made() -> None:
    assert catalogue.names_or_all([]) == UNITS
    assert catalogue.names_or_all([SATURATING]) == [SATURATING]
    with pytest.raises(FpsimError, match=f"unit: 'e2m1' is not published; known: {UNITS[0]}, "):
        catalogue.names_or_all([SATURATING, "e2m1"])


def test_bins_that_nothing_hits_are_looked_for_among_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = plan_of(SATURATING, "directed", 32)
    columns, record = {n: c[:300] for n, c in source.columns().items()}, source.record
    catalogue._stand_alone(columns, set())
    every = list(catalogue.row_bins(record, columns))
    wanted = dict.fromkeys(set().union(*every))
    rest = list(range(1, len(every)))
    monkeypatch.setattr(catalogue, "expected_bins", lambda record: wanted | {"no": "impossible"})
    chosen = catalogue._for_missing(record, columns, rest, {0})
    assert set().union(*(every[i] for i in chosen | {0})) == set(wanted)
    assert len(chosen) < len(wanted)
    # A bin that no vector hits takes none, and does not keep others from being found.
    monkeypatch.setattr(catalogue, "expected_bins", lambda record: wanted | {"never hit": None})
    assert catalogue._for_missing(record, columns, rest, {0}) == chosen
    assert catalogue._for_missing(record, columns, rest, chosen | {0}) == set()


# -- mutants that raise, run row by row, or are proved equal -------------------------------------

FIRST = 2 * SLOW_ROWS + 3


def dots_in_place(count: int = 3 * SLOW_ROWS) -> tuple[Record, Columns]:
    """Return dot products with a column that says where each stands in the set."""
    source = plan_of(SATURATING, "random", count)
    columns = source.columns()
    rows = np.flatnonzero(columns["op"] == Op.DOT)[:count]
    return source.record, {n: c[rows] for n, c in columns.items()} | {"row": np.arange(rows.size)}


def planted(wrong: set[int], without_code: set[int] = frozenset(), slow: bool = False) -> Mutant:
    """Return a mutant whose result is wrong at some vectors, and has no code at others."""

    def run(columns: Columns, before: Codes) -> Codes:
        rows = set(columns["row"].tolist())
        if rows & without_code:
            raise FpsimError("acc: no code")
        assert before.size == len(rows) <= (SLOW_ROWS if slow else before.size)
        return columns["acc"] ^ np.isin(columns["row"], list(wrong)).astype(np.int64)

    return Mutant("planted", run, slow)


@pytest.mark.parametrize("slow", [False, True])
def test_the_first_vector_that_kills_a_mutant_is_named(slow: bool) -> None:
    record, columns = dots_in_place()
    killers = {FIRST, FIRST + 2}
    (kill,) = kills(record, columns, [planted(killers, slow=slow)])
    assert (kill.vector, kill.killers, kill.alive) == (FIRST, 2, False)
    (kill,) = kills(record, columns, [planted(set(), slow=slow)])
    assert (kill.vector, kill.killers, kill.alive) == (None, 0, True)


@pytest.mark.parametrize("slow", [False, True])
def test_a_result_without_a_code_kills_a_mutant(slow: bool) -> None:
    record, columns = dots_in_place()
    (kill,) = kills(record, columns, [planted({FIRST + 5}, {FIRST}, slow)])
    assert (kill.vector, kill.killers) == (FIRST, 2)
    (kill,) = kills(record, columns, [planted({FIRST}, {FIRST + 5}, slow)])
    assert (kill.vector, kill.killers) == (FIRST, 2)
    (kill,) = kills(record, columns, [planted(set(), set(range(9)), slow)])
    assert kill.vector == 0 and kill.killers == 5  # each vector takes a run of its own: enough


def test_a_mutant_that_was_proved_equal_must_not_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    record, columns = dots_in_place()
    monkeypatch.setattr(kills_module, "equivalent", lambda record, mutant: "by a lemma")
    with pytest.raises(FpsimError, match="planted was killed, but it was proved equal: by a lemma"):
        kills(record, columns, [planted({0})])
    (kill,) = kills(record, columns, [planted(set())])
    assert (kill.vector, kill.equivalent, kill.alive) == (None, "by a lemma", False)


def test_the_cost_is_the_random_vectors_until_the_first_kill() -> None:
    record = published().record
    source = plan(
        record.spec, strategy="random", count=1 << 12, seed=1, k=record.k, group=record.group
    )
    random = source.columns()
    a = random["a"][random["op"] == Op.DOT][:, 0]
    rare = max(set(a.tolist()), key=lambda code: a.tolist().index(code))
    first = a.tolist().index(rare)

    def run(columns: Columns, before: Codes) -> Codes:
        return columns["acc"] ^ (columns["a"][:, 0] == rare)

    quick, slow = Mutant("rare", run), Mutant("none", lambda columns, before: columns["acc"], True)
    found = [Kill("rare", 5, 1), Kill("none", 6, 1)]
    priced = random_costs(record, [quick, slow], found)
    assert first > 0
    assert [(k.vector, k.random) for k in priced] == [(5, first + 1), (6, None)]
    (alive,) = random_costs(record, [quick], [Kill("rare", None, 0)])
    assert alive.random is None
