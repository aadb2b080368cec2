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
    ],
)
def test_bad_arguments(options: Any, words: str) -> None:
    with pytest.raises(FpsimError, match=words):
        testing.check_dot(dot("e2m1-chain-e4m3"), "e2m1-chain-e4m3", **options)


def test_broken_contract() -> None:
    with pytest.raises(testing.ContractError, match="it must return accumulator codes or values"):
        testing.check_dot(lambda a, b: a, "e2m1-chain-e4m3", k=2, count=10)
