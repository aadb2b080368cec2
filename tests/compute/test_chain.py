# SPDX-License-Identifier: Apache-2.0
"""The rounded accumulator: every bit against the oracle, exhaustively where the space allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from support.helpers import (
    DETERMINISTIC,
    by_default,
    chain,
    distinct_products,
    exact,
    float_format,
    one_step_rows,
    one_step_table,
    oracle_matmul,
)
from support.machines import MACHINES, On
from support.unit_cases import EIGHT_BIT, all_steps, check_case

from fpsim import FpsimError, MacUnit, Rounding, get_unit, oracle
from fpsim.compute.scalar.dot_products import COLUMNS_MINIMUM
from fpsim.testing.boundaries import overflows
from fpsim.testing.strategies import MatmulCase, float_stages, mac_specs, matmul_cases
from fpsim.units.stages import Chain

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.one_in(5)
@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize("name", EIGHT_BIT)
def test_every_operand_and_accumulator(name: str, rounding: Rounding) -> None:
    """All 65 536 (a, b, c), every overflow policy, through `dot` and through `matmul`."""
    for overflow in overflows(float_format(name)):
        unit = chain(name, rounding, overflow)
        expected = one_step_table(unit.spec, np.arange(256))
        dots, matrix = all_steps(unit)
        assert np.array_equal(dots, expected), f"dot, {overflow}"
        assert np.array_equal(matrix, expected), f"matmul ({overflow})"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("rounding", by_default(DETERMINISTIC, (Rounding.RNE, Rounding.RDN)))
def test_flushing_and_one_zero_accumulators(rounding: Rounding) -> None:
    """Codes that read as zero go in; a format without -0 answers +0."""
    for name in ("e4m3_flush", "e4m3fnuz", "e3m4f", "binary8p4se"):
        unit = chain(name, rounding, a="e2m1b3")  # products reach into the subnormals
        expected = one_step_table(unit.spec, np.arange(256))
        dots, matrix = all_steps(unit)
        assert np.array_equal(dots, expected), name
        assert np.array_equal(matrix, expected), name


@pytest.mark.parametrize("on", MACHINES)
@pytest.mark.parametrize("result", ["e5m10", "e8m7", "e8m10", "e8m23"])
def test_results_that_are_floats_of_the_processor_or_their_upper_bits(result: str, on: str) -> None:
    """Infinities, NaN of one code, zeros of both signs and subnormals, as one step leaves them."""
    unit = chain(result, a="e5m2")
    a = np.arange(256, dtype=np.uint8)[:, None]
    b = unit.b.encode([[1.0, -0.0, np.inf, 2.0**-16, -3.0]])
    values = [0.0, -np.inf, np.nan, -(2.0**-24), 7.0]
    c = unit.result.encode(np.tile(values, (len(a), 1)))
    found = On(unit, MACHINES[on]).matmul(a, b, c)
    assert np.array_equal(found, oracle_matmul(unit, a, b, c))
    assert {unit.result.nan_code, unit.result.inf_code} <= set(found.reshape(-1).tolist())


def test_an_accumulator_without_nan_reports_inf_minus_inf() -> None:
    unit = chain("e4m3fi", a="e5m2", b="e5m2")
    inf = 0x7F
    product = np.array([[0x7C | 0x80]], dtype=np.uint8)  # -Inf, times one
    one = np.array([[0x3C]], dtype=np.uint8)
    for compute in (unit.matmul, unit.dot):
        with pytest.raises(FpsimError, match="nan|NaN"):
            compute(product, one, np.full((1, 1) if compute == unit.matmul else (1,), inf))


@pytest.mark.parametrize(
    "unit",
    [
        chain("e5m10"),
        chain("e4m3fn", "rdn", "nan"),
        chain("e3m2", "rna"),
        chain("e6m9_flush", "rto"),
        chain("e8m23", b="e4m3fn"),
        get_unit("e2m1-chain-e5m2-sr7"),
    ],
    ids=lambda unit: unit.name,
)
def test_many_rows_are_the_same_as_few(unit: MacUnit) -> None:
    """From `COLUMNS_MINIMUM` rows on a chain is computed product by product, in vector code."""
    rng = np.random.default_rng(3)
    rows, k = COLUMNS_MINIMUM + 5, 3
    a, b = (rng.integers(0, 1 << f.bits, (rows, k)).astype(f.dtype) for f in (unit.a, unit.b))
    c = rng.integers(0, 1 << unit.result.bits, rows).astype(unit.result.dtype)
    if unit.result.nan_code is None:
        c &= unit.result.max_code
    bits = unit.spec.random_bits
    random = rng.integers(0, 1 << bits, (rows, k)) if bits else None
    many = unit.dot(a, b, c, random=random)
    for part in (slice(0, 4000), slice(4000, None)):
        few = unit.dot(a[part], b[part], c[part], random=None if random is None else random[part])
        assert np.array_equal(many[part], few)


def test_many_rows_name_the_row_without_a_code() -> None:
    unit = chain("e3m2", a="e4m3fn")
    rows = COLUMNS_MINIMUM + 5
    a = np.zeros((rows, 2), dtype=np.uint8)
    a[77, 1] = a[4000, 0] = 0x7F
    with pytest.raises(FpsimError, match="dot product 77 is NaN, which has no code"):
        unit.dot(a, np.zeros((rows, 2), dtype=np.uint8))


# -- a 16-bit accumulator ------------------------------------------------------------------------


def half_accumulators() -> np.ndarray:
    """Accumulators around powers of two and the middles of their rows, limits and specials."""
    rows = np.array([0, 1, 2, 5, *range(9, 31)])
    around = rows[:, None] * 1024 + np.array([-1, 0, 1, 2, 511, 512])
    specials = [0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0x7FFF]
    magnitudes = np.unique(np.append(around, specials))
    magnitudes = magnitudes[magnitudes >= 0]
    return np.concatenate([magnitudes, magnitudes + 0x8000])


@pytest.mark.one_in(4)
@pytest.mark.parametrize("rounding", DETERMINISTIC)
def test_half_precision_accumulators(rounding: Rounding) -> None:
    """Every distinct product onto them; the other overflow policies near the limits only."""
    for overflow in overflows(float_format("e5m10")):
        unit = chain("e5m10", rounding, overflow)
        c = half_accumulators()
        c = c if overflow == "inf" else c[(c & 0x7FFF) >= 0x7A00]
        a, b = distinct_products(unit.spec)
        expected = one_step_rows(unit.spec, c)
        assert np.array_equal(unit.dot(a[:, None, None], b[:, None, None], c[None, :]), expected)
        for i in range(a.size):
            columns = np.full((1, c.size), b[i])
            assert np.array_equal(unit.matmul([[a[i]]], columns, c[None, :])[0], expected[i])


@pytest.mark.slow
def test_half_precision_exhaustively() -> None:
    """All 2^24 (a, b, c) of E2M1 x E2M1 + E5M10, round to nearest even: 38 distinct products."""
    unit = get_unit("e2m1-chain-e5m10")
    c = np.arange(1 << 16)
    assert distinct_products(unit.spec)[0].size == 38
    expected = one_step_table(unit.spec, c)
    for a in range(16):
        for b in range(16):
            assert np.array_equal(unit.dot([[a]], [[b]], c), expected[a, b])
            rows, columns = np.full((256, 1), a), np.full((1, 256), b)
            matrix = unit.matmul(rows, columns, c.reshape(256, 256))
            assert np.array_equal(matrix.reshape(-1), expected[a, b])


# -- sequences -----------------------------------------------------------------------------------


def test_the_order_of_products_is_the_order_of_k() -> None:
    """1024 + 0.25 + ... loses each quarter; quarters first keep them. A tree would keep some."""
    unit = get_unit("e2m1-chain-e5m10")
    big, quarter = [7, 7], [1, 1]  # 36 and 0.25
    terms = [big] * 64 + [quarter] * 64  # 2304 has an ulp of 2
    forward = np.array(terms, dtype=np.uint8)
    backward = forward[::-1].copy()
    results = []
    for pairs in (forward, backward):
        code = unit.dot(pairs[:, 0], pairs[:, 1])
        assert unit.matmul(pairs[None, :, 0], pairs[:, 1, None]).item() == code
        assert oracle.dot(unit, pairs[:, 0], pairs[:, 1]) == code
        results.append(unit.result.decode(code).item())
    assert results == [2304.0, 2320.0]


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", ["e5m10", "e4m3fn", "e8m7", "e8m13", "e8m23", "e6m9"])
@pytest.mark.parametrize("rounding", DETERMINISTIC)
def test_random_matrix_products(name: str, rounding: Rounding) -> None:
    """Long enough to round at every step, to swamp and to cancel; not multiples of any tile."""
    rng = np.random.default_rng(17)
    unit = chain(name, rounding, a="e2m1", b="e3m0")
    a, b = rng.integers(0, 16, (3, 9)), rng.integers(0, 16, (9, 19))
    c = rng.integers(0, unit.result.max_code, (3, 19))
    expected = oracle_matmul(unit, a, b, c)
    assert np.array_equal(unit.matmul(a, b, c), expected)
    assert np.array_equal(unit.dot(a[:, None, :], b.T[None], c), expected)


def test_every_intermediate_accumulator() -> None:
    """`accumulate` shows what `oracle.steps` shows, and ends where `dot` ends."""
    rng = np.random.default_rng(23)
    for unit in (chain("e4m3fn", "rup"), chain("e5m10"), chain("e8m23", "rto", a="e4m3fn")):
        top = 1 << unit.a.bits
        a, b = rng.integers(0, top, (4, 12)), rng.integers(0, top, (4, 12))
        c = rng.integers(0, unit.result.max_code, 4)
        history = unit.accumulate(a, b, c)
        for i in range(4):
            steps = oracle.steps(unit.spec, a[i].tolist(), b[i].tolist(), int(c[i]))
            assert history[i].tolist() == steps
        assert np.array_equal(history[:, -1], unit.dot(a, b, c))


@pytest.mark.one_in(5)
@pytest.mark.parametrize("bits", [1, 4, 16, 28])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m10", "e7m0fni", "e8m13", "e8m23"])
def test_stochastic_chains(name: str, bits: int) -> None:
    """One random integer per rounding, through `dot`, `accumulate` and `matmul`."""
    rng = np.random.default_rng(bits)
    unit = chain(name, "sr", a="e3m2", b="e3m2", random_bits=bits)
    a, b = rng.integers(0, 64, (2, 5)), rng.integers(0, 64, (5, 3))
    c = rng.integers(0, unit.result.max_code, (2, 3))
    scale_a, scale_b = rng.integers(117, 137, (2, 5)), rng.integers(117, 137, (5, 3))
    random = rng.integers(0, 1 << bits, (2, 3, 5))
    expected = oracle_matmul(unit, a, b, c, scale_a, scale_b, random=random)
    dots = unit.dot(
        a[:, None, :], b.T[None], c, scale_a[:, None, :], scale_b.T[None], random=random
    )
    assert np.array_equal(dots, expected)
    assert np.array_equal(unit.matmul(a, b, c, scale_a, scale_b, random=random), expected)


@pytest.mark.parametrize("bits", [20, 27, 28])
@pytest.mark.parametrize("make", [chain, exact])
def test_the_last_random_bit_decides(make: Any, bits: int) -> None:
    """1 + 9 * 2^-(23 + n) lies 9/2^n of an ulp up: it goes up for r >= 2^n - 9, not below.

    With n = 28 the sum has 52 significant bits: one more and a float64 could not keep a sticky bit,
    so the spec refuses it.
    """
    unit = make("e8m23", "sr", random_bits=bits)
    one = 0x3F800000
    a = b = np.array([[3]])  # 1.5 * 1.5 = 9 / 4
    shift = 2 - 23 - bits
    scale = np.array([[127 + shift]])
    for less, up in ((9, 1), (10, 0)):
        random = np.array([[[(1 << bits) - less]]])
        assert oracle.dot(unit, a, b, [one], scale, random=random[0]).tolist() == [one + up]
        assert unit.dot(a, b, [one], scale, random=random[0]).tolist() == [one + up]
        assert unit.matmul(a, b, [[one]], scale, random=random).tolist() == [[one + up]]


# -- anything ------------------------------------------------------------------------------------


@settings(max_examples=250)
@given(matmul_cases(mac_specs(float_stages(Chain))))
def test_any_chain_on_any_operands(case: MatmulCase) -> None:
    """Random units, E8M0 scales from end to end, subnormals, overflow, -0, NaN and Inf in c."""
    check_case(case)
