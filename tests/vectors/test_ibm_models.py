# SPDX-License-Identifier: Apache-2.0
"""IBM's models on the accumulator: what a bin means, operands for each, proofs that hold."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fpsim import get_format, get_unit
from fpsim.cli import main
from fpsim.oracle import Number
from fpsim.vectors.coverage.additions import Addition, additions
from fpsim.vectors.coverage.bin_search import model_expectations, search
from fpsim.vectors.coverage.ibm_models import (
    MODEL_SECTIONS,
    MODELS,
    addition_bins,
    boundary_bins,
    model_bins,
)
from fpsim.vectors.coverage.set_coverage import bin_table, count_bins, coverage
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.record import Op, Record

pytestmark = pytest.mark.usefixtures("one_thread")

UNITS = [
    "e2m1-chain-e5m10",
    "e2m1-chain-e4m3fn-rdn-rounded",
    "e2m1-exact-e8m7",
    "e2m1-fixed24q2",
    "e2m1-fixed8q0-rna-saturate-end",
    "e2m1-aligned4f5-e5m10",
    "e2m1-aligned8f13-e8m13-late-in.e8m23",
    "e2m1-tree8-e5m10",
    "e2m1-tree4-e8m7-fused",
    "e2m1-tree-e5m10-rtz-radix3-lanes4-leaf",
    "e2m1-chunked4-of-chain-e5m10-into-chain-e8m7",
    "e2m1-block8-into-chain-e8m7",
    "e2m1.ue4m3fn-block4-to-e5m10-nanzero-into-aligned2f9-e8m7",
    "e2m1.e5m2.split-block4-into-chain-e8m7",
]


def number(value: float | Fraction) -> Number:
    return Number(value < 0, abs(Fraction(value)))


@pytest.mark.parametrize(
    ("value", "bins"),
    [
        (1.0, {"B3:+000"}),
        (-1 - 2.0**-10, {"B3:-100"}),
        (1 + 2.0**-11, {"B3:+010", "B8:half"}),
        (1 + 2.0**-12, {"B3:+001", "B7:bit 1"}),
        (1 + 2.0**-14, {"B3:+001", "B7:bit 3", "B8:just above a value"}),
        (1 + 2.0**-10 * 7 / 16, {"B3:+001", "B8:just below half"}),
        (1 + 2.0**-10 * 9 / 16, {"B3:+011", "B7:bit 3", "B8:just above half"}),
        (-(2 - 2.0**-15), {"B3:-111", "B8:just below the next value"}),
        (2.0**-24, {"B3:+100"}),  # the smallest subnormal of half precision
        (2.0**-25, {"B3:+010", "B8:half"}),
        (0.0, set()),
    ],
)
def test_bits_around_the_rounding(value: float, bins: set[str]) -> None:
    assert set(boundary_bins(number(value), get_format("e5m10"))) == bins


@pytest.mark.parametrize(
    ("addend", "term", "bins"),
    [
        (1.0, 1.0, {"B14:shift +0", "B16:carry"}),
        (1.0, -1.0, {"B14:shift +0", "B16:to zero"}),
        (4.0, 1.0, {"B14:shift +2", "B16:drop 0"}),
        (1.0, -1.5, {"B14:shift +0", "B16:drop 1"}),
        (-(1 - 2.0**-11), 1.0, {"B14:shift -1", "B16:drop 11"}),
        (32768.0, 2.0**-20, {"B14:shift >= +13", "B16:drop 0", "B18:underflow"}),
        (2.0**-14, 36.0, {"B14:shift <= -13", "B16:drop 0"}),
        (-60000.0, 70000.0, {"B14:shift -1", "B16:drop 3", "B18:overflow", "B18:inexact"}),
        (2.0**-14, 2.0**-15, {"B14:shift +1", "B16:drop 0", "B18:underflow"}),
        (2.0**-26, 1 - 2.0**-26, {"B14:shift <= -13", "B16:carry", "B18:inexact"}),
        (0.0, 1.0, set()),
    ],
)
def test_an_addend_meets_a_term(addend: float, term: float, bins: set[str]) -> None:
    spec = get_unit("e2m1-chain-e5m10").spec
    total = number(Fraction(addend) + Fraction(term))
    assert set(addition_bins(Addition(number(addend), number(term), total), spec)) == bins


@pytest.mark.parametrize("name", UNITS)
def test_additions_add_up(name: str) -> None:
    """Addend and term of a traced addition make its sum, unless a window cut them."""
    plan = plan_set(get_unit(name), count=60, strategy="random")
    columns, seen = plan.columns(), 0
    for i in np.flatnonzero(columns["op"] == Op.DOT)[:40].tolist():
        row = {key: column[i] for key, column in columns.items()}
        nodes = plan.record.trace(row, int(row["c"])).nodes
        for addend, term, total in additions(plan.record.spec, nodes, int(row["c"])):
            if total is None or None in (addend.magnitude, term.magnitude, total.magnitude):
                continue
            if "aligned" not in name or "late" in name:
                assert addend.value + term.value == total.value
            seen += 1
    assert seen > 20 or "fixed" in name


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", UNITS)
def test_what_is_found_hits_and_what_is_impossible_does_not(name: str) -> None:
    """`bin_table` raises where a bin that was proved impossible is hit."""
    plan = plan_set(get_unit(name), count=300)
    record, columns = plan.record, plan.columns()
    expected, unknown = model_expectations(record)
    wanted = {bin_ for bin_, why in expected.items() if why is None} - set(unknown)
    sections = [s for s in plan.sections if s.name.split("-")[0].upper() in MODELS]
    rows = [i for s in sections for i in range(s.start, s.start + s.count)]
    hits = count_bins(record, {key: column[rows] for key, column in columns.items()})
    assert wanted <= set(hits)
    rows = list(range(0, plan.count, max(1, plan.count // 300)))
    bin_table(record, count_bins(record, {key: column[rows] for key, column in columns.items()}))


def test_every_model_is_there_or_refuted() -> None:
    for name in UNITS:
        record = Record.of(get_unit(name).spec)
        bins, unknown = model_expectations(record)
        if not isinstance(record.spec.initial, type(get_format("e5m10"))):
            assert "no exponent" in str(bins["B10:any"]) + str(bins["B16:any"])
            continue
        first, second = ("B10:any", "B14:any") if "B10:any" in bins else ("B14:any", "B10:any")
        assert bins[first] and second not in bins
        found = {b.split(":")[0] for f in search(record) for b in f.bins}
        assert {"B1", "B3"} <= found and found & {"B10", "B14"} and found & {"B12", "B16"}
        assert len(unknown) <= 22, (name, unknown)


def test_rounded_terms_are_told_from_exact_ones() -> None:
    for name, shifts in (
        ("e2m1-chain-e5m10", "B14"),
        ("e2m1-chain-e5m10-rounded", "B10"),
        ("e2m1-tree8-e5m10", "B10"),
        ("e2m1-tree4-e8m7-fused", "B14"),
        ("e2m1-chunked4-of-chain-e5m10-into-chain-e8m7", "B10"),
        ("e2m1-aligned8f13-e8m13-late-in.e8m23", "B10"),
    ):
        record = Record.of(get_unit(name).spec)
        row = next(f.row for f in search(record) if f.bin.startswith(shifts))
        bins = set(model_bins(record.spec, record.trace(row, int(row["c"])).nodes, int(row["c"])))
        assert any(b.startswith(f"{shifts}:shift") for b in bins), name


# -- sets of single products ---------------------------------------------------------------------


def test_sets_of_single_products_have_a_section_per_model() -> None:
    for group in (0, 1):
        made = plan_set(get_unit("e2m1-chain-e5m10"), strategy="directed", group=group)
        names = {s.name for s in made.sections}
        wanted = {f"{m.lower()}-{MODEL_SECTIONS[m]}" for m in ("B1", "B7", "B8", "B14", "B16")}
        left = {n.split("-")[0] for n in wanted - names}
        assert left <= {"b8", "b16"}  # hit by vectors of models before them
        assert ("b18-exceptions" in names) == bool(group)


def test_coverage_of_sums_that_start_with_a_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "set")
    command = ["vectors", "int4-fixed12q0-saturate", "--out", out, "--start", "load"]
    assert main([*command, "--count", "500"]) == 0
    opened = open_set(out)
    found = coverage(opened.record, opened.columns(), opened.start)
    assert found.complete, [b.name for b in found.bins if b.missing]
    assert main(["coverage", out]) == 0
    text = capsys.readouterr().out
    assert "B14  shifts against exact terms: cannot occur: a fixed-point accumulator" in text
    assert "op:dot  cannot occur" in text
    assert main(["coverage", out, "--mutants"]) == 0
    assert "overflow wrap" in capsys.readouterr().out
    assert main([*command, "--strategy", "random", "--count", "20"]) == 0
    assert main(["coverage", out]) == 1
    assert "EMPTY" in capsys.readouterr().out
    assert main(["coverage", out, "--mutants"]) == 1
    assert "ALIVE" in capsys.readouterr().out


def test_single_products_hit_the_models() -> None:
    """Half precision's directed set: every model's bins, and nothing impossible."""
    made = plan_set(get_unit("e2m1-chain-e5m10"), strategy="directed", start="load").made()
    first = next(s.start for s in made.sections if s.name.startswith("b1-"))
    part = {name: column[first:] for name, column in made.columns.items()}
    table = bin_table(made.record, count_bins(made.record, part), made.start)
    for model in ("B7", "B8", "B14", "B16"):
        assert not [b.name for b in table if b.missing and b.name.startswith(f"{model}:")]
