# SPDX-License-Identifier: Apache-2.0
"""Operands of 20 to 32 bits: float32 and integers, for which no table lists all values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim.formats.floating import Format
from fpsim.units.stages import stages_of
from fpsim.vectors.sets.code_lists import finite_codes

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, K = 400, 6
UNITS = [
    "e8m23-chain-e8m23",
    "e8m23-exact-e8m23",
    "e8m23-tree3-e8m23-rounded",
    "e8m23-aligned4f24-e8m23",
    "e8m23-chain-e5m10-rtz",
    "e8m23-block2-into-chain-e8m23",
    "e8m23xe2m1-block4-into-chain-e8m23",
    "e8m18-chunked4-of-chain-e8m23-into-chain-e8m23",
    "int32-fixed64q0",
    "int32-fixed40q0-saturate",
    "int32-chain-e8m23",
    "int32xe2m1-exact-e8m23",
    "int20-aligned4f24-e8m23",
]


def codes_of(fmt: Format, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Corner codes beside codes of any bits; of a register, small integers of either sign."""
    anything = rng.integers(0, 1 << min(fmt.bits, 32), shape, dtype=np.uint64)
    if fmt.bits > 32:
        return (anything - (anything & 1) * (1 << 20)).astype(fmt.dtype)
    corners = finite_codes(fmt)[rng.integers(0, finite_codes(fmt).size, shape)]
    return np.where(rng.random(shape) < 0.6, corners, anything).astype(fmt.dtype)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", UNITS)
def test_kernels_equal_the_oracle(name: str) -> None:
    unit = fpsim.get_unit(name)
    rng = np.random.default_rng(7)
    a, b = (codes_of(fmt, (ROWS, K), rng) for fmt in (unit.spec.a, unit.spec.b))
    a[::4, 1:3], b[::4, 1:3] = a[::4, :1], b[::4, :1]  # exponents that meet
    c = codes_of(unit.spec.initial, (ROWS,), rng)
    if any(stage.kind == "fixed" for stage in stages_of(unit.spec.accumulate)):
        c &= np.array((1 << unit.spec.initial.bits) - 1, dtype=c.dtype)
    right = [fpsim.oracle.dot(unit, x, y, int(z)) for x, y, z in zip(a, b, c, strict=True)]
    assert unit.dot(a, b, c).tolist() == [int(code) for code in right]
    product = unit.matmul(a[:9], b[:9].T)
    assert product.tolist() == [[int(fpsim.oracle.dot(unit, x, y)) for y in b[:9]] for x in a[:9]]


def test_many_products_equal_few() -> None:
    """Lanes look values up, and so take no wide operand, however many products there are."""
    unit = fpsim.get_unit("e8m23-chain-e8m23")
    rng = np.random.default_rng(8)
    a = codes_of(unit.spec.a, (4100, 1024), rng)
    b = codes_of(unit.spec.b, (4100, 1024), rng)
    many = unit.dot(a, b)
    assert np.array_equal(many[:3], unit.dot(a[:3], b[:3]))
    assert "one dot product at a time" in unit.plan(a[:9], b[:9].T).why


def test_accumulation_of_wide_operands_is_counted() -> None:
    """1 + 2^-24 sixteen times: every small product is swamped."""
    unit = fpsim.get_unit("e8m23-chain-e8m23")
    a = unit.spec.a.encode([[1.0] + [2.0**-24] * 16])
    b = unit.spec.b.encode([[1.0]] * 17)
    assert unit.size(a, b).swamped == 16
