# SPDX-License-Identifier: Apache-2.0
"""The published catalogue: released sets are right, complete, and kill every mutant."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fpsim import unit_names
from fpsim.base.resources import golden_dir
from fpsim.vectors.catalogue import check_release, plan_of, prove, select
from fpsim.vectors.coverage.set_coverage import expected_bins
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.mutants.kills import kills
from fpsim.vectors.mutants.mutants import mutants_of

pytestmark = pytest.mark.usefixtures("one_thread")

#: The published units, and those of several products per step: at least twelve in all.
UNITS = unit_names()
QUICK = ["e2m1-fixed24q2", "int4-fixed12q0-saturate"]
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
    plan = plan_of("int4-fixed12q0-saturate", "exhaustive", 1)
    found = kills(plan.record, plan.columns())
    assert any(k.alive for k in found)
    assert "overflow wrap" in {k.mutant for k in found if k.alive}


def test_selection_is_deterministic_and_proved() -> None:
    first, second = (select("int4-fixed12q0-saturate") for _ in range(2))
    for name, column in first.columns.items():
        assert np.array_equal(column, second.columns[name])
    assert not prove(first, costs=False).problems()


def test_impossible_bins_have_reasons() -> None:
    record = plan_of("e2m1-chain-e5m10", "exhaustive", 1).record
    reasons = [why for why in expected_bins(record).values() if why is not None]
    assert "e2m1 has no NaN" in reasons
    assert len(mutants_of(record)) >= LEAST_MUTANTS
