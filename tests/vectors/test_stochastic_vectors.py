# SPDX-License-Identifier: Apache-2.0
"""Vectors of units with stochastic rounding: the random integers, their thresholds, what they kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fpsim import FpsimError, get_unit, oracle
from fpsim.base.resources import golden_dir
from fpsim.cli import main
from fpsim.vectors.corners.random_word_corners import word_rows
from fpsim.vectors.coverage.random_rounding import BELOW
from fpsim.vectors.coverage.set_coverage import count_bins, expected_bins
from fpsim.vectors.files.checker import check
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.files.writer import write
from fpsim.vectors.mutants.kills import kills
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.mutants.survivors import survivors
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.plans.tiles import TileSize, random_tiles
from fpsim.vectors.sets.record import Columns, Op, Record, accumulators_before

pytestmark = pytest.mark.usefixtures("one_thread")

CHAIN = "e2m1-chain-e4m3fn-sr6"
UNITS = [CHAIN, "e2m1-fixed12q0-sr1-saturate", "e5m2-exact-e3m2-sr5",
         "e2m1-block4-into-chain-e5m2-sr7", "e4m3fn-fixed20q4-sr12"]  # fmt: skip


def one_of_each(columns: Columns, rows: np.ndarray) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


@pytest.mark.parametrize("name", UNITS)
def test_results_are_the_oracles(name: str) -> None:
    """Some vectors of every section, each from the accumulator that the set says before it."""
    plan = plan_set(get_unit(name), count=200)
    columns, record = plan.columns(), plan.record
    rows = np.concatenate([
        np.unique(np.linspace(s.start, s.start + s.count - 1, 12).astype(int))
        for s in plan.sections
    ])  # fmt: skip
    rows = rows[(columns["op"][rows] == Op.DOT) | (columns["op"][rows] == Op.MAC)]
    part, before = one_of_each(columns, rows), accumulators_before(columns)[rows]
    found = oracle.dot(record.spec, part["a"], part["b"], before, **record.options(part))
    assert found.tolist() == part["acc"].tolist()
    assert part["random"].any()


@pytest.mark.parametrize("name", UNITS)
def test_both_sides_of_every_threshold(name: str) -> None:
    """An integer below the threshold rounds as 0 does, and one at it as all ones do."""
    record = Record.of(get_unit(name).spec)
    rows, top = word_rows(record), (1 << record.spec.random_bits) - 1
    part = rows | {n: np.zeros((rows["c"].size, f.lanes), record.format_of(n).dtype) + 127
                   for f in record.fields if (n := f.name).endswith("_scale")}  # fmt: skip
    results = {
        "own": record.dot(part, part["c"]),
        "zeros": record.dot(part | {"random": part["random"] * 0}, part["c"]),
        "ones": record.dot(part | {"random": part["random"] * 0 + top}, part["c"]),
    }
    rounds = results["zeros"] != results["ones"]
    up = results["own"] == results["ones"]
    assert ((results["own"] == results["zeros"]) | up).all()
    assert 0.2 < up[rounds].mean() < 0.8
    own = np.where(up, part["random"].max(axis=1), part["random"].min(axis=1)).astype(int)
    nearest = {bool(side): set(own[rounds & (up == side)].tolist()) for side in (True, False)}
    assert any(t - 1 in nearest[False] for t in nearest[True])


@pytest.mark.parametrize("name", UNITS)
def test_every_bin_of_random_integers(name: str) -> None:
    plan = plan_set(get_unit(name), strategy="directed")
    section = next(s for s in plan.sections if s.name == "random-words")
    rows = np.arange(section.start, section.start + section.count)[:: max(1, section.count // 500)]
    hits = count_bins(plan.record, one_of_each(plan.columns(), rows))
    bins = {n: why for n, why in expected_bins(plan.record).items() if n.startswith("SR:")}
    assert len(bins) == 10
    for name, why in bins.items():
        assert bool(hits[name]) != (why is not None), (name, why)


def test_bins_that_cannot_be() -> None:
    exact = expected_bins(Record(get_unit("e2m1-fixed12q2-sr3").spec, 1))
    assert all(exact[n] for n in exact if n.startswith("SR:") and n != "SR:exact, all ones")
    narrow = expected_bins(Record(get_unit("e2m1-chain-e4m3fn-sr15").spec, 1))
    assert "fractions have at most 14 bits" in str(narrow[BELOW])


def released() -> tuple[Record, Columns]:
    opened = open_set(golden_dir() / CHAIN)
    return opened.record, opened.columns()


def test_errors_in_adding_random_bits_are_found() -> None:
    record, columns = released()
    mutants = [m for m in mutants_of(record) if "random" in m.name or "rounding" in m.name]
    assert len(mutants) >= 20
    assert {m.name for m in mutants} >= {
        "random bits ignored", "one random bit fewer", "random bits a place too low",
        "random bits a place too high", "random integers in reverse order",
        "rounding: > instead of >=", "rounding: random bits subtracted from negatives",
        "rounding: bits below the random ones count",
    }  # fmt: skip
    assert not [kill.mutant for kill in kills(record, columns, mutants) if kill.alive]


def test_vectors_without_random_integers_find_nothing() -> None:
    record, columns = released()
    columns["random"][:] = 0
    columns |= record.results(columns)
    alive = {kill.mutant for kill in kills(record, columns) if kill.alive}
    assert alive >= {"random bits ignored", "one random bit fewer", "rounding: > instead of >="}


def test_single_products_carry_an_integer_each(tmp_path: Path) -> None:
    unit = get_unit(CHAIN)
    made = plan_set(unit, count=500, group=1, start="load").made()
    fields = ["op", "a", "b", "a_scale", "b_scale", "c", "random", "acc"]
    assert [f.name for f in made.record.fields] == fields
    start = next(s.start for s in made.sections if s.name == "random-words")
    columns = made.columns
    for i in (*range(start, start + 300), *range(made.count - 500, made.count)):
        row, acc = {n: c[i] for n, c in columns.items()}, int(columns["acc"][i - 1])
        op = Op(int(row["op"]))
        if op is Op.MAC:
            acc = made.record.trace(row, acc).code
        acc = {Op.CLEAR: 0, Op.LOAD: int(row["c"])}.get(op, acc)
        assert acc == columns["acc"][i], i
    assert check(write(made, tmp_path / "set")).count == made.count
    path = tmp_path / "set" / "vectors.hex"
    lines = path.read_text().splitlines(keepends=True)
    line = len(lines) - made.count + start + 1  # a MAC with all ones
    lsb = next(f.lsb for f in made.record.fields if f.name == "acc")
    lines[line] = f"{int(lines[line], 16) ^ 1 << lsb:0{len(lines[line]) - 1}x}\n"
    path.write_text("".join(lines))
    with pytest.raises(FpsimError, match=rf"vectors\.hex:{line + 1}: .*\(random-words\) expects"):
        check(tmp_path / "set")


def test_files_and_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    command = ["vectors", CHAIN, "--k", "4", "--count", "100", "--strategy", "random"]
    assert main([*command, "--format", "readmemh,svh", "--flags", "--out", str(out)]) == 0
    assert "logic [3:0][5:0] random;" in (out / "vectors_pkg.svh").read_text()
    assert "the first rounding takes element 0 of random" in (out / "vectors.hex").read_text()
    assert main(["vectors", "--check", str(out)]) == 0
    assert main(["explain", str(out), "--line", str(open_set(out).head_lines + 3)]) == 0
    assert "random" in capsys.readouterr().out
    assert main([*command[:2], "--count", "50", "--out", str(tmp_path / "stream")]) == 0
    assert main(["explain", str(tmp_path / "stream"), "--line", "100"]) == 0
    assert "random" in capsys.readouterr().out
    assert main(["rtl", CHAIN]) == 0
    assert "logic [5:0]   random;" in capsys.readouterr().out


def test_tiles_have_integers_of_their_own(tmp_path: Path) -> None:
    plan = random_tiles(Record.of(get_unit(CHAIN).spec, 4), TileSize(3, 3, 8), 2, 1)
    assert check(write(plan, tmp_path / "set", "readmemh")).count == 36
    first, second = plan.block(0, 0)["random"], plan.block(1, 0)["random"]
    assert not np.array_equal(first, second)
    with pytest.raises(FpsimError, match="format: matrices have no place for the integers"):
        write(plan, tmp_path / "matrices", "matrices")


def test_mistakes_in_the_use_of_random_bits_are_found() -> None:
    made = plan_set(get_unit(CHAIN).spec, strategy="random", count=200, k=4, start="dot").made()
    dots = made.columns["op"] == Op.DOT
    part = {name: column[dots] for name, column in made.columns.items()}
    mutants = [mutant for mutant in mutants_of(made.record) if mutant.slow]
    assert len(mutants) == 5
    assert not survivors(made.record, [(part, part["c"])], mutants)
