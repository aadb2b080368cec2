# SPDX-License-Identifier: Apache-2.0
"""Mutants and coverage of converters, adders, multipliers and quantizers: default sets find all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fpsim.cli import main
from fpsim.vectors.operations.operation import Convert, parse_operation
from fpsim.vectors.operations.operation_coverage import operation_coverage
from fpsim.vectors.operations.operation_mutants import (
    OperationMutant,
    killed,
    mutants_of_operation,
    operation_kills,
    operation_survivors,
)
from fpsim.vectors.operations.operation_plan import plan_operation
from fpsim.vectors.sets.word_layout import Columns

Capture = pytest.CaptureFixture[str]


def columns_of(text: str, count: int = 300) -> Columns:
    plan = plan_operation(text, count=count)
    blocks = [plan.block(*job) for job in plan.jobs()]
    return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


@pytest.mark.parametrize(
    "text",
    [
        "convert:e4m3fn:int8", "quantize:mxfp4", "quantize:nvfp4", "quantize:amxfp4",
        *(pytest.param(text, marks=pytest.mark.sweep) for text in (
            "convert:e8m23:e2m1", "mul:e8m7:e4m3fn:e5m10", "add:e5m4:e5m4:e5m4", "quantize:nf4",
            "quantize:fouroversix",
        )),
    ],
)  # fmt: skip
def test_default_vectors_find_every_mistake(text: str) -> None:
    operation = parse_operation(text)
    fates = operation_kills(operation, columns_of(text))
    assert len(fates) > 10
    assert [f.mutant for f in fates if f.alive] == []


def test_few_random_vectors_miss_ties() -> None:
    operation = parse_operation("quantize:mxfp4")
    plan = plan_operation(operation, strategy="random", count=3)
    names = ["codes", "scales"]
    alive = operation_survivors(
        operation, [plan.block(0, 0)], mutants_of_operation(operation), names
    )
    assert "rounding: rna" in {mutant.name for mutant in alive}


def test_what_cannot_show_is_equivalent_only_where_every_input_is_there() -> None:
    text = "mul:e2m1:e2m1:e4m3"  # every product is exact
    operation = parse_operation(text)
    columns = columns_of(text)
    fates = {f.mutant: f for f in operation_kills(operation, columns)}
    assert fates["rounding: rtz"].equivalent and not fates["rounding: rtz"].alive
    assert fates["sign of a lost"].vector is not None
    part = {name: column[:255] for name, column in columns.items()}
    assert {f.mutant: f for f in operation_kills(operation, part)}["rounding: rtz"].alive


def test_only_results_that_are_looked_at_show_a_mutant() -> None:
    operation = parse_operation("convert:e5m10:e4m3")
    names = {mutant.name for mutant in mutants_of_operation(operation)}
    assert {n for n in names if n.startswith("flags:")}
    seen = {mutant.name for mutant in mutants_of_operation(operation, ["y"])}
    assert seen == {n for n in names if not n.startswith("flags:")}


def test_a_mutant_says_where_it_changes_nothing() -> None:
    """Rounding mistakes are tried on inexact vectors alone; elsewhere they must be right."""
    operation = parse_operation("convert:e5m10:e4m3")
    assert isinstance(operation, Convert)
    columns = columns_of("convert:e5m10:e4m3", 10)
    rows = np.linspace(0, columns["x"].size - 1, 700).astype(int)
    part = {name: column[rows] for name, column in columns.items()}
    for mutant in mutants_of_operation(operation):
        if mutant.touches is not None:
            whole = OperationMutant(mutant.name, mutant.run)
            found = [killed(operation, part, m, ["y", "flags"]) for m in (mutant, whole)]
            assert np.array_equal(*found), mutant.name


@pytest.mark.parametrize(
    "text", ["convert:e8m23:e2m1", "quantize:mxfp4", "quantize:nvfp4", "add:e5m4:e5m4:e5m4"]
)
def test_default_vectors_reach_every_corner(text: str) -> None:
    found = operation_coverage(parse_operation(text), columns_of(text))
    assert [b.name for b in found.bins if b.missing] == []
    assert len(found.bins) > 15


def test_a_corner_that_is_not_reached_is_empty() -> None:
    operation = parse_operation("convert:e8m23:e2m1")
    columns = columns_of("convert:e8m23:e2m1", 10)
    part = {name: column[columns["y"] != 15] for name, column in columns.items()}
    missing = [b.name for b in operation_coverage(operation, part).bins if b.missing]
    assert missing == ["x:-largest", "x:-infinity", "y:-largest"]


def test_the_commands(tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "v")
    assert main(["vectors", "--op", "mul:e2m1:e2m1:e4m3", "--out", out, "--count", "20"]) == 0
    assert main(["coverage", out]) == 0
    assert "y:nan  cannot occur: every input is in the set" in capsys.readouterr().out
    assert main(["coverage", out, "--mutants", "--json"]) == 0
    mutants = json.loads(capsys.readouterr().out)["mutants"]
    assert {m["mutant"]: m["equivalent"] for m in mutants}["rounding: rtz"] == "no input shows it"
