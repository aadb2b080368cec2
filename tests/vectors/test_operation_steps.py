# SPDX-License-Identifier: Apache-2.0
"""How a result of a converter, adder or multiplier comes about: between what, and what ends it."""

from __future__ import annotations

import numpy as np
import pytest

from fpsim.vectors.operations.operation import parse_operation
from fpsim.vectors.operations.steps import way


def lines(text: str, *values: float) -> list[str]:
    """Return the steps of one vector."""
    operation = parse_operation(text)
    columns = {
        name: fmt.encode(np.array([value]))
        for (name, fmt), value in zip(operation.inputs.items(), values, strict=True)
    }
    return list(way(operation, columns, operation.results(columns)))


@pytest.mark.parametrize(
    ("text", "values", "wanted"),
    [
        ("convert:e8m23:e2m1", [-2.5], ["exact   -2.5", "between -3 and -2, 0.5 of the way up: rne", "result  -2, code c", "flags   inexact"]),
        ("convert:e8m23:e2m1", [3.0], ["exact   3", "exact in e2m1", "result  3, code 5", "flags   none"]),
        ("convert:e8m23:e2m1", [7.0], ["exact   7", "beyond the largest, 6: saturate", "result  6, code 7", "flags   inexact, overflow"]),
        ("convert:e8m23:e2m1", [-7.0], ["exact   -7", "beyond the least, -6: saturate", "result  -6, code f", "flags   inexact, overflow"]),
        ("mul:e4m3fn:e4m3fn:e4m3fn", [1.5, 1.125], ["exact   1.6875", "between 1.625 and 1.75, 0.5 of the way up: rne", "result  1.75, code 3e", "flags   inexact"]),
        ("add:e4m3fn:e4m3fn:e4m3fn:rtz", [1.0, 0.03125], ["exact   1.03125", "between 1 and 1.125, 0.25 of the way up: rtz", "result  1, code 38", "flags   inexact"]),
        # The least integer has no positive counterpart, and is a number all the same.
        ("convert:e8m23:int4", [-8.0], ["exact   -8", "exact in int4", "result  -8, code 8", "flags   none"]),
        ("convert:e8m23:int4", [-9.0], ["exact   -9", "beyond the least, -8: saturate", "result  -8, code 8", "flags   inexact, overflow"]),
        ("convert:e8m23:int4", [-7.25], ["exact   -7.25", "between -8 and -7, 0.75 of the way up: rne", "result  -7, code 9", "flags   inexact"]),
        # A format without signs or without zero ends there.
        ("convert:e8m23:ue4m3fn", [-1.0], ["exact   -1", "beyond the least, 0: saturate", "result  0, code 0", "flags   inexact, overflow"]),
        ("convert:e8m23:e8m0", [0.0], ["exact   0", "below the smallest, 1*2^-127", "result  1*2^-127, code 0", "flags   inexact"]),
    ],
)  # fmt: skip
def test_the_way_of_a_number(text: str, values: list[float], wanted: list[str]) -> None:
    assert lines(text, *values) == wanted


def test_nan_has_no_neighbours() -> None:
    found = lines("convert:e5m10:e4m3fn", np.nan)
    assert found[0] == "exact   nan" and found[1].startswith("result  nan, code ")
    assert len(found) == 3


def test_elements_of_a_block_are_divided_by_their_scale() -> None:
    x = [0.0] * 32
    x[0], x[2], x[7], x[9] = 12.0, -5.0, 1.0, 3.0
    operation = parse_operation("quantize:mxfp4")
    columns = {"x": operation.inputs["x"].encode(np.array([x]))}
    found = list(way(operation, columns, operation.results(columns)))
    assert found[0] == "largest magnitude 12, of element 0; maps to 6"
    assert found[1].startswith("scale code 80")
    assert found[2] == "element 0: 12 / 2 = 6 -> 6, code 7"
    assert found[4] == "element 2: -5 / 2 = -2.5 -> -2, code c"
    assert found[9] == "element 7: 1 / 2 = 0.5 -> 0.5, code 1"
    assert found[10:] == ["... 24 more elements"]
