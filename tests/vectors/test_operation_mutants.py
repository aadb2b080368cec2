# SPDX-License-Identifier: Apache-2.0
"""Mutants and coverage of converters, adders, multipliers and quantizers: default sets find all."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.formats.floating import FloatFormat
from fpsim.vectors.operations.operation import Convert, parse_operation
from fpsim.vectors.operations.operation_coverage import operation_coverage
from fpsim.vectors.operations.operation_mutants import (
    OperationMutant,
    every_input,
    killed,
    mutants_of_operation,
    operation_kills,
    operation_survivors,
    possible_flags,
)
from fpsim.vectors.operations.operation_plan import plan_operation
from fpsim.vectors.sets.status_flags import FLAG_CODES
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
    text = "mul:e2m1:e3m0:e5m1"  # every product is exact, which ranges do not tell
    operation = parse_operation(text)
    columns = columns_of(text)
    fates = {f.mutant: f for f in operation_kills(operation, columns)}
    assert fates["rounding: rtz"].equivalent and not fates["rounding: rtz"].alive
    assert fates["sign of a lost"].vector is not None
    part = {name: column[:255] for name, column in columns.items()}
    assert {f.mutant: f for f in operation_kills(operation, part)}["rounding: rtz"].alive


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("text", "there", "left_out"),
    [
        ("convert:int32:e8m23", ["rounding: rtz"], ["overflow: nan", "-0 lost", "NaN becomes infinity", "subnormal results flushed"]),
        ("convert:uint32:int8:rne:saturate", ["overflow: wrap"], ["rounding: rtz", "rounding: ties up"]),
        ("convert:e8m13:e8m23", ["overflow: nan", "-0 lost", "NaN becomes infinity"], ["rounding: rtz", "flags: inexact missing"]),
        ("mul:int32:e2m1:e8m23", ["-0 lost", "rounding: rup"], ["overflow: nan", "NaN becomes infinity"]),
        pytest.param("add:int32:e8m23:e8m23", ["subnormal results flushed"], ["-0 lost"], marks=pytest.mark.sweep),
        pytest.param("add:int32:e8m23:e8m23:rdn", ["-0 lost"], [], marks=pytest.mark.sweep),
        ("add:int4:int4:e3m1", ["rounding: rtz"], ["-0 lost", "subnormal results flushed"]),
        ("mul:int4:int4:e8m7:rdn", ["-0 lost"], ["rounding: rtz", "flags: inexact missing"]),
    ],
)  # fmt: skip
def test_mistakes_that_ranges_exclude_are_none(
    text: str, there: list[str], left_out: list[str]
) -> None:
    """What is left out shows in no result at all, of vectors that are told."""
    operation = parse_operation(text)
    columns = columns_of(text, 500)
    names = [mutant.name for mutant in mutants_of_operation(operation)]
    assert set(there) <= set(names) and not set(left_out) & set(names)
    for fate in operation_kills(operation, columns):
        assert fate.mutant not in there or fate.vector is not None


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


SMALL = [
    "convert:e4m3fn:e2m1", "convert:e4m3:e2m1", "convert:e5m2:e4m3", "convert:e5m2:e4m3:rtz",
    "convert:e5m2:e4m3fn:rne:nan", "convert:e4m3:ue4m3fn",
    "convert:e4m3:e8m0", "convert:int8:e4m3", "convert:e5m2:int4", "mul:e3m2:e2m3:e3m2",
    "mul:e3m2:e2m3:e3m2:rdn", "add:e3m2:e3m2:e3m2", "mul:e4m1i:e4m1i:e4m1i", "add:e3m2i:e3m2i:e3m2i",
]  # fmt: skip


def every_result(text: str) -> tuple[Any, Columns]:
    operation = parse_operation(text)
    inputs = every_input(operation)
    assert inputs is not None
    return operation, inputs | operation.results(inputs)


@pytest.mark.parametrize("text", SMALL)
def test_flags_that_can_be_raised_are_those_that_some_input_raises(text: str) -> None:
    operation, columns = every_result(text)
    raised = [name for name, code in FLAG_CODES.items() if (columns["flags"] & code).any()]
    assert set(possible_flags(operation)) == set(raised)


#: Products of few significant bits: whether some round up to a power of two depends on the mode.
PRODUCTS = [f"mul:e3m1:e3m1:e3m{bits}:{mode}" for bits in (1, 2, 3) for mode in ("rne", "rup", "rdn", "rtz")]  # fmt: skip


@pytest.mark.parametrize("text", [*SMALL, *PRODUCTS])
def test_underflow_before_rounding_is_a_mutant_where_some_input_shows_it(text: str) -> None:
    operation, columns = every_result(text)
    target = operation.target if isinstance(operation, Convert) else operation.result
    code, shown = FLAG_CODES["underflow"], False
    if isinstance(target, FloatFormat) and "underflow" in possible_flags(operation):
        least = Fraction(2) ** target.exponent_min
        small = [
            n.magnitude is not None and 0 < n.magnitude < least for n in operation.exact(columns)
        ]
        inexact = (columns["flags"] & FLAG_CODES["inexact"]) != 0
        shown = bool((inexact & small & (columns["flags"] & code == 0)).any())
    names = {mutant.name for mutant in mutants_of_operation(operation)}
    assert ("flags: tiny before rounding" in names) == shown


@pytest.mark.parametrize(
    ("below", "right", "early"),
    [
        # Four significant bits of any exponent: 2^-6 - 2^-12 rounds to 2^-6, which is no underflow.
        (2.0**-12, "inexact", "inexact underflow"),
        # 2^-6 - 2^-10 has four bits and is tiny, though the subnormal grid rounds it to 2^-6.
        (2.0**-10, "inexact underflow", "inexact underflow"),
        (0.0, "", ""),
    ],
)
def test_a_number_is_tiny_after_rounding(below: float, right: str, early: str) -> None:
    operation = parse_operation("convert:e8m23:e4m3")
    x = operation.inputs["x"].encode(np.array([2.0**-6 - below]))
    columns = {"x": x} | operation.results({"x": x})
    named = {mutant.name: mutant for mutant in mutants_of_operation(operation)}
    seen = named["flags: tiny before rounding"].run(columns)
    assert operation.outputs["y"].decode(columns["y"]) == [2.0**-6]
    for flags, wanted in ((columns["flags"][0], right), (seen["flags"][0], early)):
        assert int(flags) == sum(FLAG_CODES[name] for name in wanted.split())


def one(text: str, **values: float) -> dict[str, float]:
    """Return the value of each mutant's result for one input."""
    operation = parse_operation(text)
    inputs = {
        name: fmt.encode(np.array([values[name]]), "rtz") for name, fmt in operation.inputs.items()
    }
    columns = inputs | operation.results(inputs)
    (target,) = (operation.outputs[name] for name in ("y",))
    found = {"right": float(target.decode(columns["y"])[0])}
    for mutant in mutants_of_operation(operation, ["y"]):
        found[mutant.name] = float(target.decode(mutant.run(columns)["y"])[0])
    return found


def test_adders_err_in_the_ways_that_their_mutants_are_called() -> None:
    found = one("add:e5m4:e5m4:e5m4", a=3.0, b=1.0)
    assert (found["right"], found["subtracted instead"]) == (4.0, 2.0)
    found = one("add:e5m4:e5m4:e5m4", a=1.5, b=-1.5)
    assert str(found["right"]) == "0.0" and str(found["sign of x - x"]) == "-0.0"
    found = one("add:e5m4:e5m4:e5m4:rdn", a=1.5, b=-1.5)
    assert str(found["right"]) == "-0.0" and str(found["sign of x - x"]) == "0.0"
    # 2^-9 lies below the bits that an adder without sticky keeps of 1 + 2^-9.
    found = one("add:e5m4:e5m4:e5m4:rup", a=2.0**-9, b=1.0)
    assert (found["right"], found["bits shifted out are lost"]) == (1 + 2.0**-4, 1.0)
    found = one("add:e5m4:e5m4:e5m4:rup", a=1.0, b=2.0**-7)  # the last bit that it keeps
    assert found["right"] == found["bits shifted out are lost"] == 1 + 2.0**-4


def test_multipliers_err_in_the_ways_that_their_mutants_are_called() -> None:
    found = one("mul:e5m4:e5m4:e5m4", a=3.0, b=-1.0)
    assert (found["right"], found["added instead"]) == (-3.0, 2.0)
    found = one("mul:e5m4:e5m4:e5m4", a=2.0**-14, b=0.5)
    assert (found["right"], found["subnormal results flushed"]) == (2.0**-15, 0.0)
    found = one("mul:e5m4:e5m4:e5m4", a=-1.0, b=0.0)
    assert str(found["right"]) == "-0.0" and str(found["-0 lost"]) == "0.0"
    found = one("mul:e5m4:e5m4:e5m4", a=1.0, b=0.0)
    assert str(found["right"]) == "0.0" and str(found["zeros negative"]) == "-0.0"


def test_a_mutant_without_a_result_is_killed_everywhere_it_touches() -> None:
    operation, columns = every_result("convert:e4m3fn:e2m1")

    def run(columns: Columns) -> Columns:
        raise FpsimError("y: no code")

    touched = np.arange(columns["x"].size) % 3 == 0
    mutant = OperationMutant("planted", run, lambda columns: touched)
    assert np.array_equal(killed(operation, columns, mutant, ["y"]), touched)
    nowhere = OperationMutant("planted", run, lambda columns: touched & False)
    assert not killed(operation, columns, nowhere, ["y"]).any()


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
    assert main(["vectors", "--op", "mul:e2m1:e3m0:e5m1", "--out", out, "--count", "20"]) == 0
    assert main(["coverage", out]) == 0
    assert "y:nan  cannot occur: every input is in the set" in capsys.readouterr().out
    assert main(["coverage", out, "--mutants", "--json"]) == 0
    mutants = json.loads(capsys.readouterr().out)["mutants"]
    assert {m["mutant"]: m["equivalent"] for m in mutants}["rounding: rtz"] == "no input shows it"
