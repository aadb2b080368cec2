# SPDX-License-Identifier: Apache-2.0
"""Kernels equal the oracle on every bit: random units of every kind, random data."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.helpers import oracle_matmul
from support.unit_cases import as_dots, outcome

from fpsim import FpsimError, MacSpec, MacUnit, oracle
from fpsim.formats.names import E8M0
from fpsim.testing.strategies import (
    MatmulCase,
    aligned_stages,
    all_specs,
    block_stages,
    chunked_stages,
    matmul_cases,
    tree_stages,
)

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS: dict[str, Any] = {
    "aligned": aligned_stages(),
    "tree": tree_stages(),
    "chunked": chunked_stages(),
    "block": block_stages(),
}


def single(case: MatmulCase) -> dict[str, Any]:
    """Return the first dot product of a matrix product."""
    one = {name: value for name, value in case.arguments.items() if value is not None}
    one |= {"a": case.a[0], "b": case.b[:, 0]}
    if case.a_scale is not None:
        one["a_scale"] = case.a_scale[0]
    if case.b_scale is not None:
        one["b_scale"] = case.b_scale[:, 0]
    for name in ("c", "random"):
        if name in one:
            one[name] = one[name][0, 0]
    return one


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=20)
def test_dot_equals_the_oracle(kind: str, data: st.DataObject) -> None:
    special = data.draw(st.booleans())
    case = data.draw(matmul_cases(all_specs(KINDS[kind]), max_k=11, special=special))
    expected = outcome(lambda: oracle_matmul(case.unit, **case.arguments))
    assert outcome(lambda: case.unit.dot(**as_dots(case))) == expected


@pytest.mark.slow
@given(st.data())
@settings(max_examples=3000)
def test_dot_equals_the_oracle_for_many_units(data: st.DataObject) -> None:
    special = data.draw(st.booleans())
    case = data.draw(matmul_cases(all_specs(), max_k=13, special=special))
    expected = outcome(lambda: oracle_matmul(case.unit, **case.arguments))
    assert outcome(lambda: case.unit.dot(**as_dots(case))) == expected


@pytest.mark.slow
@given(st.data())
@settings(max_examples=250)
def test_matmul_equals_the_oracle_for_many_units(data: st.DataObject) -> None:
    """Nearly every example compiles a lane step of its own."""
    special = data.draw(st.booleans())
    case = data.draw(matmul_cases(all_specs(), max_k=13, special=special))
    expected = outcome(lambda: oracle_matmul(case.unit, **case.arguments))
    assert outcome(lambda: case.unit.matmul(**case.arguments)) == expected


@given(st.data())
@settings(max_examples=4)
def test_matmul_equals_the_oracle(data: st.DataObject) -> None:
    case = data.draw(matmul_cases(all_specs(), max_k=11, special=False))
    expected = outcome(lambda: oracle_matmul(case.unit, **case.arguments))
    assert outcome(lambda: case.unit.matmul(**case.arguments)) == expected


@given(matmul_cases(all_specs(), max_k=9, scaled=False))
@settings(max_examples=60)
def test_accumulate_has_every_step(case: MatmulCase) -> None:
    """The codes of `accumulate` are the oracle's after every step, and the last one is `dot`'s."""
    a, b = case.a[0], case.b[:, 0]
    c = 0 if case.c is None else int(case.c[0, 0])
    random = None if case.random is None else case.random[0, 0]
    words = None if random is None else random.tolist()
    steps = outcome(
        lambda: np.array(oracle.steps(case.unit.spec, a.tolist(), b.tolist(), c, None, words))
    )
    start = np.array(c, dtype=case.unit.spec.initial.dtype)
    got = outcome(lambda: case.unit.accumulate(a, b, start, random=random))
    assert got == steps
    if steps != "no code":
        assert case.unit.dot(a, b, start, random=random) == steps[-1]


# -- as data -------------------------------------------------------------------------------------


@given(all_specs())
def test_a_unit_survives_toml_json_and_its_own_name(spec: MacSpec) -> None:
    again = MacSpec.from_dict(tomllib.loads(spec.to_toml()))
    assert again == spec
    assert again.to_toml() == spec.to_toml()
    assert MacSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    if "custom" not in spec.canonical_name:
        assert MacSpec.from_name(spec.canonical_name) == spec


@given(all_specs())
def test_an_equation_is_one_line_and_names_its_formats(spec: MacSpec) -> None:
    assert "\n" not in spec.equation
    assert spec.a.name in spec.equation
    scales = {spec.a_scale, spec.b_scale} - {E8M0}
    assert all(scale.name in spec.equation for scale in scales)


# -- traces --------------------------------------------------------------------------------------


@given(matmul_cases(all_specs(), max_k=9))
@settings(max_examples=60)
def test_a_trace_ends_in_the_code_of_dot_and_is_ready_for_json(case: MatmulCase) -> None:
    unit: MacUnit = case.unit
    one = single(case)
    expected = outcome(lambda: unit.dot(**one))
    try:
        trace = unit.trace(**one)
    except FpsimError:
        assert expected == "no code"
        return
    assert trace.code == expected
    coded = [node for node in trace.nodes if node.code is not None]
    assert (coded[-1].code, coded[-1].format) == (trace.code, unit.result.name)
    again = json.loads(json.dumps(trace.to_dict()))
    assert again["code"] == trace.code
    assert len(again["nodes"]) == len(trace.nodes)
