# SPDX-License-Identifier: Apache-2.0
"""Matrix and dot products of whole units, case by case, beside the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import FpsimError, MacUnit
from fpsim.compute.scalar.dot_products import COLUMNS_MINIMUM
from fpsim.testing.strategies import MatmulCase
from support.helpers import oracle_matmul

#: IEEE, NaN at the top only, few mantissa bits, and none at all (where "even" is an exponent's).
EIGHT_BIT = ["e4m3", "e4m3fn", "e5m2", "e7m0fni"]


def all_steps(unit: MacUnit) -> tuple[np.ndarray, np.ndarray]:
    """Return `dot` and `matmul` over all (a, b, c) of an 8-bit accumulator, as (16, 16, 256)."""
    a, b, c = (x.reshape(-1) for x in np.meshgrid(*map(np.arange, (16, 16, 256)), indexing="ij"))
    dots = unit.dot(a[:, None], b[:, None], c).reshape(16, 16, 256)
    few = COLUMNS_MINIMUM - 1  # rows that take the other way through `dot`
    parts = [
        unit.dot(a[i : i + few, None], b[i : i + few, None], c[i : i + few])
        for i in range(0, a.size, few)
    ]
    assert np.array_equal(np.concatenate(parts), dots.reshape(-1))
    # One product, 256 x 256: rows are (a, high digit of c), columns (b, low digit of c).
    row_a, row_c = (x.reshape(-1, 1) for x in np.meshgrid(range(16), range(16), indexing="ij"))
    matrix = unit.matmul(row_a, row_a.T, row_c * 16 + row_c.T)
    return dots, matrix.reshape(16, 16, 16, 16).transpose(0, 2, 1, 3).reshape(16, 16, 256)


def outcome(compute: Callable[..., NDArray[Any]], **arguments: Any) -> list[Any] | str:
    """Return codes, or that there are none: a NaN that the accumulator has no code for."""
    try:
        return compute(**arguments).tolist()
    except FpsimError as error:
        assert "has no code" in str(error)
        return "no code"


def as_dots(case: MatmulCase) -> dict[str, Any]:
    """Return a matrix product's operands as those of dot products."""
    arguments = case.arguments
    arguments["a"], arguments["b"] = case.a[:, None], case.b.T[None]
    if case.a_scale is not None:
        arguments["a_scale"] = case.a_scale[:, None]
    if case.b_scale is not None:
        arguments["b_scale"] = np.moveaxis(case.b_scale, 1, 0)[None]
    return arguments


def check_case(case: MatmulCase) -> None:
    """Compare `matmul` and `dot` of one case with the oracle."""
    expected = outcome(oracle_matmul, unit=case.unit, **case.arguments)
    assert outcome(case.unit.dot, **as_dots(case)) == expected
    assert outcome(case.unit.matmul, **case.arguments) == expected
