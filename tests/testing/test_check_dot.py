# SPDX-License-Identifier: Apache-2.0
"""`check_dot` finds wrong sums by name, shrinks them, and runs every case of a small unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fpsim import FpsimError, get_unit, testing

Function = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("one_thread")


def dot(name: str) -> Function:
    return lambda a, b, c=None: get_unit(name).dot(a, b, c)


def matmul(name: str) -> Function:
    return lambda a, b, c=None: get_unit(name).matmul(a, b, c)


def test_every_case_of_a_small_unit() -> None:
    options: dict[str, Any] = {"form": "dot", "addend": True, "k": 1}
    result = testing.check_dot(dot("e2m1-chain-e4m3"), "e2m1-chain-e4m3", **options)
    assert result
    assert result.search.startswith("exhaustive")
    assert result.tried == 1 << 16
    wrong = testing.check_dot(dot("e2m1-chain-e4m3-rna"), "e2m1-chain-e4m3", **options)
    assert not wrong
    assert wrong.mistakes[0].name == "ties went away from zero"


def test_the_order_of_additions_is_named_and_the_case_shrunk() -> None:
    result = testing.check_dot(
        dot("e2m1-tree-e4m3"), "e2m1-chain-e4m3", form="dot", k=8, count=2000
    )
    assert not result
    assert result.mistakes[0].name == "terms were added in pairs (a tree)"
    case = result.counterexample
    assert case is not None
    assert any("step" in line for line in case.explanation)
    printed: list[Any] = []
    exec(case.replay, {"function": dot("e2m1-tree-e4m3"), "print": printed.append})
    assert printed[0] != printed[1]
    assert case.line is not None
    assert case.line.expected in [value for value, _ in case.line.marks]
    # Every operand that is left matters.
    assert case.given.count(" 0,") + case.given.count("[0,") < 13


def test_matrix_products_and_values() -> None:
    unit = get_unit("e2m1-chain-e5m10")

    def product(a: Any, b: Any) -> Any:
        assert a.dtype == np.float32
        return unit.result.decode(unit.matmul(unit.a.encode(a), unit.b.encode(b)))

    assert testing.check_dot(product, unit, operands="values", k=4, count=200)
    result = testing.check_dot(matmul("e2m1-exact-e4m3"), "e2m1-chain-e4m3", k=8, count=200)
    assert not result
    assert result.mistakes[0].name == "the sum were exact and rounded once, at the end"


def batched(name: str, order: int = 1) -> Function:
    unit = get_unit(name)

    def products(a: Any, b: Any, c: Any) -> Any:
        return np.stack([unit.matmul(*given) for given in zip(a, b, c, strict=True)])[::order]

    return products


def test_batches() -> None:
    options: dict[str, Any] = {"form": "batched", "addend": True, "k": 4, "count": 200}
    result = testing.check_dot(batched("e2m1-chain-e4m3"), "e2m1-chain-e4m3", **options)
    assert result
    assert "3 products a call" in result.search
    swapped = testing.check_dot(batched("e2m1-chain-e4m3", -1), "e2m1-chain-e4m3", **options)
    case = swapped.counterexample
    assert case is not None
    assert "the result depends on what else is in the call" in case.explanation[0]
    assert "function(a[None], b.T[None], c[None, :, None])" in case.replay


@pytest.mark.sweep
def test_a_tensor_core() -> None:
    name = "nvidia-h100-e4m3"
    assert testing.check_dot(matmul(name), name, count=64)


def test_a_tolerance_needs_a_reason() -> None:
    function = dot("e2m1-chain-e4m3-rna")
    options: dict[str, Any] = {"form": "dot", "addend": True, "k": 1}
    with pytest.raises(FpsimError, match="tolerance: 1 needs a reason"):
        testing.check_dot(function, "e2m1-chain-e4m3", tolerance=1, **options)
    result = testing.check_dot(
        function, "e2m1-chain-e4m3", tolerance=1, reason="ties are free", **options
    )
    assert result
    assert "because ties are free" in result.notes[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "gemv"}, "form: 'gemv'"),
        ({"operands": "bits"}, "operands: 'bits'"),
        ({"scales": True}, "scales: form='matmul' has none"),
        ({"k": 0}, "k: 0 is not"),
        ({"count": 0}, "count: 0 is not a positive number"),
        ({"count": "x"}, "count: 'x' is not a positive number"),
        ({"tolerance": -1}, "tolerance: -1 is not a number of result codes, 0 or more"),
        ({"tolerance": 1, "reason": " "}, "tolerance: 1 needs a reason"),
    ],
)
def test_bad_arguments(options: Any, words: str) -> None:
    with pytest.raises(FpsimError, match=words):
        testing.check_dot(dot("e2m1-chain-e4m3"), "e2m1-chain-e4m3", **options)


def test_a_unit_that_draws_random_bits_is_of_another_check() -> None:
    with pytest.raises(FpsimError, match="rounds stochastically; check_stochastic checks that"):
        testing.check_dot(dot("e2m1-chain-e4m3"), "e2m1-chain-e4m3-sr6")


SCALED = get_unit("mxfp4-block32-e8m23")
Given = tuple[Any, ...]


def scaled(change: Callable[[Given], Given]) -> Function:
    """A dot product of codes and scales that are changed before."""

    def function(a: Any, b: Any, a_scale: Any, b_scale: Any, *c: Any) -> Any:
        a, b, a_scale, b_scale = change((a, b, a_scale, b_scale))
        return SCALED.dot(a, b, *c, a_scale=a_scale, b_scale=b_scale)

    return function


@pytest.mark.parametrize("addend", [False, True])
def test_scales_are_given_by_block(addend: bool) -> None:
    options: dict[str, Any] = {"form": "dot", "scales": True, "k": 64, "count": 60}
    options["addend"] = addend
    assert testing.check_dot(scaled(lambda given: given), SCALED, **options)
    swapped = scaled(lambda given: (*given[:2], given[2][:, ::-1], given[3]))
    result = testing.check_dot(swapped, SCALED, **options)
    assert not result
    case = result.counterexample
    assert case is not None
    assert "a_scale=[[" in case.replay and "block=32" in case.replay
    last = "# function takes a, b, a_scale, b_scale, c as above"
    assert case.replay.splitlines()[-1] == (last if addend else last.replace(", c", ""))


def test_the_exact_sum_of_a_case_has_its_scales() -> None:
    """Sums of a first block in units of 2 or more are one code too high."""
    options: dict[str, Any] = {"form": "dot", "scales": True, "k": 32, "count": 60}

    def above(*given: Any) -> Any:
        codes = scaled(lambda given: given)(*given)
        larger = (given[2][:, 0] > 127) & (given[2][:, 0] < 140) & (given[3][:, 0] == 127)
        return codes + (larger & (codes > 0) & (codes < 0x7F000000))

    result = testing.check_dot(above, SCALED, **options)
    case = result.counterexample
    assert case is not None and case.line is not None
    assert case.line.x == case.line.expected > 0
    assert case.line.seen == np.nextafter(np.float32(case.line.x), np.float32(np.inf))


SIXES = [[six if i == j else 0 for i in range(3)] for j in range(3) for six in (6, -6)]


def test_a_call_on_values_is_printed_as_such() -> None:
    unit = get_unit("e2m1-chain-e4m3")

    def function(a: Any, b: Any, c: Any) -> Any:
        found = unit.dot(unit.a.encode(a), unit.b.encode(b), unit.result.encode(c))
        return unit.result.decode(found) + (np.abs(a).max(axis=1) == 6)

    result = testing.check_dot(
        function, unit, form="dot", operands="values", addend=True, k=3, count=200
    )
    case = result.counterexample
    assert case is not None
    # The one operand that matters is left.
    assert case.given in {f"a = {a}, b = [0, 0, 0], c = 0" for a in SIXES}
    printed: list[Any] = []
    exec(case.replay, {"function": function, "print": printed.append})
    assert case.replay.splitlines()[-1] == (
        "print(function(unit.a.decode(a), unit.b.decode(b), unit.spec.initial.decode(c)))"
    )
    assert float(printed[1][0]) == float(unit.result.decode(printed[0])[0]) + 1


@pytest.mark.parametrize("off", [-2, -1, 1, 2])
def test_a_tolerance_counts_codes_of_fixed_point_on_both_sides(off: int) -> None:
    unit = get_unit("e2m1-fixed24q2")

    def function(a: Any, b: Any) -> Any:
        return (unit.dot(a, b).astype(np.int64) + off) % (1 << 24)

    result = testing.check_dot(
        function, unit, form="dot", k=2, count=60, tolerance=1, reason="the last bit is free"
    )
    assert bool(result) is (abs(off) == 1)
    assert result.notes[0].startswith("tolerance of 1 codes, because the last bit is free; ")


def test_broken_contract() -> None:
    with pytest.raises(testing.ContractError, match="it must return accumulator codes or values"):
        testing.check_dot(lambda a, b: a, "e2m1-chain-e4m3", k=2, count=10)


def test_sums_without_an_addend_grow_until_they_round() -> None:
    """An exact sum equals a chain on short sums of E2M1: only long ones tell them apart."""
    unit = get_unit("e2m1-chain-e5m10")
    result = testing.check_dot(matmul("e2m1-exact-e5m10"), unit, count=64)
    assert not result
    assert result.mistakes[0].name == "the sum were exact and rounded once, at the end"
    assert testing.check_dot(matmul("e2m1-chain-e5m10"), unit, count=64)


@pytest.mark.parametrize("k", [None, 120])
def test_counterexamples_leave_out_products_where_other_lengths_are_allowed(k: int | None) -> None:
    """Sums up to 511.75 fit: at 36 a product, a sum of 15 is the shortest that can be wrong."""
    lengths = set()

    def wraps(a: Any, b: Any) -> Any:
        lengths.add(a.shape[1])
        return get_unit("e2m1-fixed24q2").matmul(a, b) & 0xFFF

    result = testing.check_dot(wraps, "e2m1-fixed12q2-saturate", k=k, count=64)
    assert result.counterexample is not None
    given = result.counterexample.given.split("]")[0].count(",") + 1
    if k is None:
        assert 15 <= given <= 40
        assert "0" not in result.counterexample.given.split("]")[0].removeprefix("a = [").split(
            ", "
        )
    else:
        assert given == 120 and lengths == {120}


def test_lengths_that_a_function_refuses_leave_the_counterexample_long() -> None:
    def powers_of_two(a: Any, b: Any, c: Any) -> Any:
        if a.shape[1] not in (1, 4, 16):
            raise ValueError("no such tree")
        return get_unit("e2m1-exact-e4m3").dot(a, b, c)

    options = {"form": "dot", "addend": True, "count": 64}
    result = testing.check_dot(powers_of_two, "e2m1-chain-e4m3", **options)
    assert not result and result.counterexample is not None


def notes(name: str, **options: Any) -> str:
    result = testing.check_dot(matmul(name), name, count=64, **options)
    assert result
    return " ".join(result.notes)


def test_mistakes_that_no_input_shows_are_named() -> None:
    assert "would not show: overflow saturate; longer sums" in notes("e2m1-fixed24q2")
    assert "would not show" not in notes("e2m1-fixed24q2", k=4)  # four products never overflow
    assert "would not show" not in notes("e3m0-chain-e4m3")  # largest products before mixed ones
    name, options = "e2m1-chain-e4m3", {"form": "dot", "addend": True, "k": 1}
    assert not testing.check_dot(dot(name), name, **options).notes  # every case
