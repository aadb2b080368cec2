# SPDX-License-Identifier: Apache-2.0
"""The fixed-point accumulator: wrap and saturate, every rounding, every width, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from support.helpers import (
    DETERMINISTIC,
    by_default,
    distinct_products,
    fixed,
    one_step_rows,
    one_step_table,
    oracle_matmul,
)
from support.unit_cases import check_case

from fpsim import FpsimError, Rounding, oracle
from fpsim.compute.scalar.dot_products import COLUMNS_MINIMUM
from fpsim.testing.strategies import MatmulCase, fixed_stages, mac_specs, matmul_cases

pytestmark = pytest.mark.usefixtures("one_thread")


#: Of the wider registers few modes by default.
WIDTHS = [(width, mode) for width in (4, 5, 6, 7, 8) for mode in DETERMINISTIC]
QUICK = [(w, m) for w, m in WIDTHS if w < 7 or (w, m) in ((7, Rounding.RUP), (8, Rounding.RNE))]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("width", "rounding"), by_default(WIDTHS, QUICK, "sweep"))
def test_every_operand_and_accumulator(width: int, rounding: Rounding) -> None:
    """All (a, b, c) with the LSB below, at and above a product's (2^-2), `dot` and `matmul`."""
    c = np.arange(1 << width)
    for lsb in (-3, -2, 0, 2):
        for overflow in ("wrap", "saturate"):
            unit = fixed(width, lsb, overflow, rounding)
            expected = one_step_table(unit.spec, c)
            a, b = np.arange(16)[:, None, None, None], np.arange(16)[:, None, None]
            assert np.array_equal(unit.dot(a, b, c), expected), f"dot, {unit.name}"
            columns = np.repeat(np.arange(16), c.size)[None, :]
            start = np.broadcast_to(np.tile(c, 16), (16, columns.size))
            matrix = unit.matmul(np.arange(16)[:, None], columns, start)
            assert np.array_equal(matrix.reshape(16, 16, -1), expected), f"matmul, {unit.name}"


@pytest.mark.one_in(3)
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("width", [16, 24, 51, 52, 53, 62, 63, 64])
def test_edges_of_wide_accumulators(width: int, overflow: str) -> None:
    """Both ends of the range, zero, and every power of two, against every product."""
    half = 1 << (width - 1)
    edges = {0, 1, half - 1, half - 2, half - 200, half, half + 1, half + 200, 2 * half - 1}
    edges |= {1 << i for i in range(0, width - 1, 5)}
    c = np.array(sorted(edges), dtype=np.uint64)
    for lsb, rounding in ((-2, "rne"), (1, "rup"), (1, "rto")):
        unit = fixed(width, lsb, overflow, rounding)
        a, b = distinct_products(unit.spec)
        expected = one_step_rows(unit.spec, c)
        dots = unit.dot(a[:, None, None], b[:, None, None], c)
        assert np.array_equal(dots, expected), unit.name
        for i in range(a.size):
            matrix = unit.matmul([[a[i]]], np.full((1, c.size), b[i]), c[None, :])
            assert np.array_equal(matrix[0], expected[i]), f"{unit.name}, product {i}"


@pytest.mark.one_in(3)
@pytest.mark.parametrize("rounding", ["rne", "rtz", "rup", "rdn"])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("width", [4, 8, 24, 51, 52, 63, 64])
def test_products_of_any_size(width: int, overflow: str, rounding: str) -> None:
    """Scales move products from far below the LSB to far above the range.

    Around 2^62, 2^63 and 2^64 a 64-bit integer overflows; signed overflow is not defined in
    compiled code, so a check made after the addition may vanish.
    """
    unit = fixed(width, -2, overflow, rounding, a="e2m1", b="e3m0")
    half = 1 << (width - 1)
    c = np.array([0, 5 % half, half - 1, half, 2 * half - 3], dtype=np.uint64)
    shifts = [-200, -70, -64, -3, -1, *range(width - 10, width + 3), *range(53, 70), 120, 250]
    shifts = sorted({s for s in shifts if -254 <= s <= 254})
    a, b = np.array([7, 15, 5, 1, 8]), np.array([7, 9, 2])
    products = [(x, y) for x in a.tolist() for y in b.tolist()]
    for shift in shifts:
        scale_a, scale_b = 127 + shift // 2, 127 + shift - shift // 2
        expected = [
            [oracle.steps(unit.spec, [x], [y], int(z), [shift])[-1] for z in c.tolist()]
            for x, y in products
        ]
        left = np.array([x for x, _ in products])[:, None, None]
        right = np.array([y for _, y in products])[:, None, None]
        dots = unit.dot(left, right, c, [scale_a], [scale_b])
        assert dots.tolist() == expected, f"2^{shift}"
        matrix = unit.matmul(
            left.reshape(-1, 1),
            np.tile(right.reshape(1, -1), (1, c.size)),
            np.broadcast_to(np.repeat(c, len(products)), (len(products), c.size * len(products))),
            np.full((len(products), 1), scale_a),
            np.full((1, c.size * len(products)), scale_b),
        )
        cube = matrix.reshape(len(products), c.size, len(products))
        diagonal = [[cube[i, j, i] for j in range(c.size)] for i in range(len(products))]
        assert np.array_equal(np.array(diagonal, dtype=np.uint64), np.array(expected, np.uint64)), (
            f"matmul, 2^{shift}"
        )


def test_saturation_acts_after_every_add() -> None:
    """Out of the range and back: clamping only the final sum would forget nothing."""
    unit = fixed(8, -2, "saturate")
    a = np.array([7, 7, 7, 7, 15])  # 36, 36, 36, 36, -36 in steps of a quarter
    b = np.array([7, 7, 7, 7, 7])
    steps = unit.accumulate(a, b).tolist()
    assert steps == [127, 127, 127, 127, (127 - 144) % 256]
    assert unit.matmul(a[None], b[:, None]).item() == steps[-1]
    wrapping = fixed(8, -2, "wrap")
    assert wrapping.accumulate(a, b).tolist() == [(144 * n) % 256 for n in (1, 2, 3, 4, 3)]


def test_products_are_rounded_before_they_are_added() -> None:
    """Four products of 1.5 on a grid of integers: 2 + 2 + 2 + 2, not round(6)."""
    unit = fixed(8, 0, "wrap", "rne")
    a, b = np.full(4, 3), np.full(4, 2)
    assert unit.accumulate(a, b).tolist() == [2, 4, 6, 8]
    assert unit.matmul(a[None], b[:, None]).item() == 8
    down = fixed(8, 0, "wrap", "rdn")
    assert down.matmul(a[None] + 8, b[:, None]).item() == (-8) % 256


@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_random_matrix_products(overflow: str, rounding: Rounding) -> None:
    rng = np.random.default_rng(29)
    for width, lsb, a_format, b_format in (
        (12, -2, "e2m1", "e2m1"),
        (10, 1, "e3m0", "e2m1"),
        (20, -6, "int8q6", "e2m1"),
        (40, -16, "e4m3fn", "e4m3f"),
        (60, -20, "e4m3f", "e4m3f"),
    ):
        unit = fixed(width, lsb, overflow, rounding, a=a_format, b=b_format)
        a = rng.integers(0, 1 << unit.a.bits, (3, 11))
        b = rng.integers(0, 1 << unit.b.bits, (11, 17))
        a[unit.a.decode(a) != unit.a.decode(a)] = 0  # no NaN into fixed point
        c = rng.integers(0, 1 << width, (3, 17)).astype(np.uint64)
        expected = oracle_matmul(unit, a, b, c)
        assert np.array_equal(unit.matmul(a, b, c), expected)
        assert np.array_equal(unit.dot(a[:, None], b.T[None], c), expected)


@pytest.mark.parametrize("bits", [1, 7, 32])
def test_stochastic_products(bits: int) -> None:
    rng = np.random.default_rng(bits)
    for width, overflow in ((6, "wrap"), (6, "saturate"), (64, "saturate")):
        unit = fixed(width, 1, overflow, "sr", random_bits=bits)
        a, b = rng.integers(0, 16, (2, 6)), rng.integers(0, 16, (6, 4))
        c = rng.integers(0, 1 << min(width, 62), (2, 4)).astype(np.uint64)
        random = rng.integers(0, 1 << bits, (2, 4, 6))
        expected = oracle_matmul(unit, a, b, c, random=random)
        assert np.array_equal(unit.matmul(a, b, c, random=random), expected)
        assert np.array_equal(unit.dot(a[:, None], b.T[None], c, random=random), expected)


def test_saturating_at_64_bits_from_the_most_negative_accumulator() -> None:
    """|-2^63| has no int64: a bound computed from it must not come out negative."""
    unit = fixed(64, -2, "saturate")
    c = np.full((1, 2), 1 << 63, dtype=np.uint64)
    a, b = np.array([[7]]), np.array([[15, 7]])  # -36 and 36
    expected = [(1 << 63), (1 << 63) + 144]
    assert unit.dot(a[0], b.T, c[0]).tolist() == expected
    assert unit.matmul(a, b, c).tolist() == [expected]


@pytest.mark.parametrize("compute", ["dot", "matmul", "accumulate"])
def test_nan_and_infinity_have_no_fixed_point_code(compute: str) -> None:
    unit = fixed(16, -2, a="e5m2")
    one = np.array([[0x3C]])
    for code in (0x7C, 0xFC, 0x7E, 0xFF):
        with pytest.raises(FpsimError, match="no code in int16q2"):
            getattr(unit, compute)(np.array([[code]]), one)
    plain = fixed(16, -2)
    scale = {"a_scale": np.array([[255]])}
    with pytest.raises(FpsimError, match="no code in int16q2"):
        getattr(plain, compute)(np.array([[1]]), np.array([[1]]), **scale)


@settings(max_examples=250)
@given(matmul_cases(mac_specs(fixed_stages()), special=False))
def test_any_fixed_unit_on_any_operands(case: MatmulCase) -> None:
    """Random widths, LSBs, roundings, scales from end to end, any initial accumulator."""
    check_case(case)


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize(
    ("width", "lsb", "scale"),
    [(9, -2, 127), (12, -1, 129), (16, 0, 126), (16, 2, 127), (52, -30, 127), (52, -3, 176)],
)
def test_many_dot_products_are_many_single_ones(
    width: int, lsb: int, scale: int, rounding: Rounding, overflow: str
) -> None:
    """Long arrays are computed product by product where float64 holds their integers."""
    unit = fixed(width, lsb, overflow, str(rounding))
    rng = np.random.default_rng(width)
    rows, k = COLUMNS_MINIMUM + 3, 3
    a, b = rng.integers(0, 16, (2, rows, k))
    c = rng.integers(0, 1 << width, rows).astype(unit.spec.initial.dtype)
    c[:40] = [0, (1 << width - 1) - 1, 1 << width - 1, (1 << width) - 1] * 10
    scales = {"a_scale": np.full((rows, 1), scale)}
    found = unit.dot(a, b, c, **scales)
    steps = unit.accumulate(a, b, c, **scales)
    assert np.array_equal(found, steps[:, -1])
    assert len(np.unique(found)) > 16


def test_wrapping_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(31)
    unit = fixed(9, -2, "wrap")
    a, b = rng.integers(0, 16, 40), rng.integers(0, 16, 40)
    results: set[Any] = set()
    for _ in range(10):
        order = rng.permutation(40)
        results.add(unit.dot(a[order], b[order]).item())
        results.add(unit.matmul(a[None, order], b[order, None]).item())
    assert len(results) == 1
