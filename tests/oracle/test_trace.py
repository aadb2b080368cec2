# SPDX-License-Identifier: Apache-2.0
"""Traces: the nodes add up to each other, step by step."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from support.helpers import chain, codes_of, fixed, float_format, unit_of

from fpsim import FpsimError, MacUnit, get_unit
from fpsim.formats.rounding import Flag
from fpsim.oracle import Node, Trace
from fpsim.testing.strategies import MatmulCase, aligned_stages, all_specs, matmul_cases
from fpsim.units.stages import Addend, Aligned, Block, Chain, Chunked, Tree


def traced(unit: MacUnit, a: Any, b: Any, c: float = 0.0, **more: Any) -> Trace:
    start = codes_of(unit.spec.initial, c)
    return unit.trace(codes_of(unit.a, a), codes_of(unit.b, b), start, **more)


def names(trace: Trace) -> list[str]:
    return [node.name for node in trace.nodes]


@given(matmul_cases(all_specs(aligned_stages()), max_k=9, special=False))
@settings(max_examples=80)
def test_aligned_terms_sum_to_s_and_s_to_the_result(case: MatmulCase) -> None:
    """Per step: S is the sum of the t's (unless a register wraps), `sum` is S 2^(E - F)."""
    stage = case.unit.spec.accumulate
    assert isinstance(stage, Aligned)
    arguments = case.arguments
    one: dict[str, Any] = {"a": case.a[0], "b": case.b[:, 0], "block": arguments["block"]}
    one["c"] = None if case.c is None else case.c[0, 0]
    one["a_scale"] = None if case.a_scale is None else case.a_scale[0]
    one["b_scale"] = None if case.b_scale is None else case.b_scale[:, 0]
    try:
        trace = case.unit.trace(**one)
    except FpsimError:
        return
    steps = -(-case.a.shape[1] // stage.products)
    assert {node.step for node in trace.nodes if node.name == "acc"} == set(range(steps))
    assert trace.find("acc")[-1].code == trace.code
    if stage.addend is Addend.JOINED:
        return
    for step in range(steps):
        totals = trace.find("S", step)
        if not totals:  # infinite
            continue
        terms = [n.value for n in trace.nodes if n.step == step and n.name.startswith("t[")]
        assert len(terms) == stage.products + (stage.addend is Addend.EARLY)
        if stage.width is None:
            assert totals[0].value == sum(terms)
        (exponent,) = trace.find("E", step)
        unit = Fraction(2) ** (int(exponent.value) - stage.fraction_bits)
        assert trace.find("sum", step)[0].value.value == totals[0].value * unit


def test_a_window_on_paper() -> None:
    """4 - 1 in units of 2, c = 2: 2, 0 and 1 units, 6 in all."""
    unit = unit_of(Aligned(2, 1, float_format("e8m23")), "e8m7")
    trace = traced(unit, [4, -1], [1, 1], 2)
    assert [(n.name, n.text) for n in trace.nodes] == [
        ("p[0]", "4"),
        ("p[1]", "-1"),
        ("E", "2"),
        ("t[0]", "2"),
        ("t[1]", "0"),
        ("t[c]", "1"),
        ("S", "3"),
        ("sum", "6"),
        ("rounded", "6"),
        ("acc", "6"),
    ]
    assert [n.exponent for n in trace.nodes[:2]] == [2, 0]


def test_flags_say_what_a_rounding_did() -> None:
    trace = traced(chain("e4m3"), [6, 6, 0.5], [6, 6, 0.5], 144)
    flags = [node.flags for node in trace.find("acc")]
    assert flags == [Flag.INEXACT, Flag.INEXACT, Flag.INEXACT]
    assert trace.find("acc before rounding")[0].text == "180"
    trace = traced(chain("e4m3"), [6, 6], [6, 6], 240)
    assert trace.find("acc")[0].flags == Flag.OVERFLOW | Flag.INEXACT
    assert trace.find("acc")[0].text == "inf"
    trace = traced(chain("e3m1b3"), [0.5], [0.5])
    assert trace.find("acc")[0].flags == Flag(0)


def test_a_tree_names_its_nodes_by_level() -> None:
    unit = unit_of(Tree(float_format("e8m23"), products=4))
    trace = traced(unit, [1, 2, 3, 4], [1, 1, 1, 1], 5)
    rounded = [(n.name, n.text) for n in trace.nodes if n.code is not None]
    assert rounded == [("n1[0]", "3"), ("n1[1]", "7"), ("n2[0]", "10"), ("acc", "15")]
    lanes = traced(unit_of(Tree(float_format("e8m23"), lanes=2)), [1, 2, 3], [1, 1, 1])
    assert [n.text for n in lanes.find("lane[0]")] == ["1", "4"]


def test_chunks_prefix_their_nodes() -> None:
    unit = unit_of(Chunked(Chain(float_format("e8m2")), Chain(float_format("e8m23")), size=2))
    trace = traced(unit, [1, 2, 3], [1, 1, 1])
    assert [n.text for n in trace.find("chunk0.acc")] == ["1", "3"]
    assert [n.text for n in trace.find("chunk1.acc")] == ["3"]
    assert [n.text for n in trace.find("acc")] == ["3", "6"]


def test_a_block_shows_sums_before_and_after_their_scales() -> None:
    unit = unit_of(Block(2, Chain(float_format("e8m23")), convert=float_format("e8m2")))
    trace = traced(unit, [6, 3], [1, 1], a_scale=np.array([128]))
    assert [(n.name, n.text) for n in trace.nodes][:3] == [
        ("s[g0]", "9"),
        ("p[g0]", "18"),
        ("r[g0]", "16"),
    ]


def test_a_grid_shows_integers() -> None:
    trace = traced(fixed(8, -1), [1.5, 2], [1, -1])
    assert [(n.name, n.text) for n in trace.nodes][2:] == [
        ("t", "3"),
        ("acc", "3"),
        ("t", "-4"),
        ("acc", "-1"),
    ]
    assert trace.find("acc")[1].code == 255


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.1015625, "0.1015625"),
        (2.0**-40, "1*2^-40"),
        (3 * 2.0**60, "3*2^60"),
        (-0.0, "-0"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_values_are_exact_as_text(number: float, text: str) -> None:
    unit = get_unit("e8m7-exact-e8m23")
    start = codes_of(float_format("e8m23"), number)
    node = unit.trace(codes_of(unit.a, [-0.0]), codes_of(unit.b, [1.0]), start).nodes[-1]
    assert isinstance(node, Node)
    assert node.text == text
    assert node.to_dict()["value"] == text
