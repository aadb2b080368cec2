# SPDX-License-Identifier: Apache-2.0
"""The exact accumulator: one rounding of the true sum, whatever its size, against the oracle."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.helpers import (
    DETERMINISTIC,
    by_default,
    exact,
    float_format,
    one_step_table,
    oracle_matmul,
)
from support.unit_cases import EIGHT_BIT, all_steps, check_case

from fpsim import MacUnit, Rounding, get_unit, oracle
from fpsim.testing.boundaries import overflows
from fpsim.testing.strategies import MatmulCase, float_stages, mac_specs, matmul_cases
from fpsim.units.stages import Exact

pytestmark = pytest.mark.usefixtures("one_thread")

#: Roundings and binades on both sides of 1, of which two modes and a few distances by default.
SPREADS = [(mode, spread) for mode in DETERMINISTIC for spread in (0, 8, 60, 250)]
QUICK_SPREADS = [(m, s) for m, s in SPREADS if m is Rounding.RNE or (m is Rounding.RDN and s > 8)]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("name", "rounding"),
    by_default(
        product(EIGHT_BIT, DETERMINISTIC),
        [*((name, Rounding.RNE) for name in EIGHT_BIT), ("e4m3", Rounding.RUP)],
        "sweep",
    ),
)
def test_every_operand_and_accumulator(name: str, rounding: Rounding) -> None:
    """All 65 536 (a, b, c) of one product, every overflow policy, `dot` and `matmul`."""
    for overflow in overflows(float_format(name)):
        unit = exact(name, rounding, overflow)
        expected = one_step_table(unit.spec, np.arange(256))
        dots, matrix = all_steps(unit)
        assert np.array_equal(dots, expected), f"dot, {overflow}"
        assert np.array_equal(matrix, expected), f"matmul ({overflow})"


def both(unit: MacUnit, a: np.ndarray, b: np.ndarray, c: int = 0, **scales: np.ndarray) -> int:
    """Return the code of one dot product, after checking `dot` and `matmul` against the oracle."""
    result = unit.dot(a, b, c, **scales).item()
    assert oracle.dot(unit, a, b, c, **scales).item() == result
    turned = {"a_scale": lambda s: s[None, :], "b_scale": lambda s: s[:, None]}
    matrix_scales = {name: turned[name](scale) for name, scale in scales.items()}
    assert unit.matmul(a[None], b[:, None], [[c]], **matrix_scales).item() == result
    return result


def test_the_sum_is_rounded_once() -> None:
    """64 + 16 * 0.25 = 68 in E4M3FN, where a chain stays at 64 and a float16 sum is not needed."""
    unit = exact("e4m3fn")
    a = np.array([7, 7, 0] + [1] * 16)  # 36 + 36 + 0 + 16 * 0.25 = 76
    b = np.array([7, 7, 0] + [1] * 16)
    assert unit.result.decode(both(unit, a, b)).item() == 80  # the tie 76 goes to the even code
    odd = exact("e4m3fn", "rto")
    assert odd.result.decode(both(odd, a, b)).item() == 72
    down = exact("e4m3fn", "rdn")
    assert down.result.decode(both(down, a, b)).item() == 72


@pytest.mark.parametrize("rounding", DETERMINISTIC)
def test_a_bit_thousands_of_binades_below_decides(rounding: Rounding) -> None:
    """A sticky bit at the far end of 500 binades: no float64 sum could hold both."""
    for sign in (0, 8):
        unit = exact("e8m7", rounding)
        a = np.array([2, 1, 2, 2 + sign])  # 1, 0.5, ...
        scales = np.array([127 + 100, 127 + 100 - 8, 127 + 100 - 7, 0])
        both(unit, a, np.full(4, 2), a_scale=scales, b_scale=np.array([127, 127, 127, 0]))


@pytest.mark.parametrize("rounding", by_default(DETERMINISTIC, (Rounding.RNE, Rounding.RDN)))
def test_cancellation_leaves_what_was_far_below(rounding: Rounding) -> None:
    unit = exact("e8m23", rounding)
    a = np.array([7, 1, 15, 9, 9])  # 36 * 2^s, 0.25 * 2^-s, -36 * 2^s, ...
    b = np.array([7, 1, 7, 1, 1])
    for s in (0, 5, 20, 60):
        scale = np.array([127 + s, 127 - s, 127 + s, 127 - s - 30, 127 - s - 60])
        both(unit, a, b, a_scale=scale)
        both(unit, a, b, c=0x33800000, a_scale=scale)


@pytest.mark.parametrize("rounding", ["rne", "rdn"])
def test_signs_of_zero_sums(rounding: str) -> None:
    """IEEE 754: x - x is +0, or -0 toward minus infinity; -0 plus -0 is -0 in every mode."""
    unit = exact("e5m10", rounding)
    minus = 0x8000
    cancelled = minus if rounding == "rdn" else 0
    one, minus_one, zero, minus_zero = 2, 10, 0, 8
    cases = [
        ([one, minus_one], 0, cancelled),
        ([one, minus_one], minus, cancelled),
        ([minus_zero, minus_zero], minus, minus),
        ([minus_zero, minus_zero], 0, cancelled),
        ([minus_zero, zero], minus, cancelled),
        ([zero, zero], 0, 0),
        ([one], 0xBC00, cancelled),
    ]
    for a, c, expected in cases:
        assert both(unit, np.array(a), np.full(len(a), 2), c) == expected, (a, c)


def test_infinities_and_nan() -> None:
    unit = exact("e5m10", a="e5m2")
    one, inf, minus_inf, nan = 0x3C, 0x7C, 0xFC, 0x7E
    ones = np.full(3, one)
    assert both(unit, np.array([one, inf, one]), ones) == 0x7C00
    assert both(unit, np.array([one, minus_inf, one]), ones, 0x7BFF) == 0xFC00
    assert both(unit, np.array([minus_inf, inf, one]), ones) == 0x7E00
    assert both(unit, np.array([inf, one, one]), ones, 0xFC00) == 0x7E00
    assert both(unit, np.array([nan, one, one]), ones) == 0x7E00
    assert both(unit, np.array([0, one, one]), np.array([inf, one, one])) == 0x7E00
    assert both(unit, ones, ones, 0xFE01) == 0x7E00
    scale = np.array([127, 255, 127])
    assert both(unit, ones, ones, a_scale=scale) == 0x7E00
    assert both(unit, np.array([0, 0, 0]), ones, a_scale=scale) == 0x7E00


@pytest.mark.parametrize("overflow", ["inf", "saturate", "nan"])
@pytest.mark.parametrize("operand", ["e2m1", "e5m2"])
def test_sums_at_the_ends_of_float32(operand: str, overflow: str) -> None:
    """Sums that leave float32, infinities of both signs, and NaN of either sign."""
    unit = exact("e8m23", overflow=overflow, a=operand)
    top = float_format(operand).max_code
    a, b = np.zeros((4, 64), np.uint8), np.zeros((64, 32), np.uint8)
    a[:, 0], b[0] = top, [top, top | float_format(operand).sign_bit] * 16
    if operand == "e5m2":
        a[1, 1], b[1, ::3] = 0x7C, 0xFC  # infinities; times 0 they are NaN
        a[2, 2] = 0xFE  # NaN with a sign
        a[3, 3:5], b[3:5] = 0x7C, [[0x3C], [0xBC]]
    scales = np.full((4, 2), 254, np.uint8), np.full((2, 32), 200, np.uint8)
    for a_scale, b_scale in (scales, (scales[0] * 0 + 127, scales[1] * 0 + 127)):
        arguments = {"a": a, "b": b, "a_scale": a_scale, "b_scale": b_scale, "block": 32}
        wanted = oracle_matmul(unit, **arguments)
        assert np.array_equal(unit.matmul(**arguments), wanted)
    assert operand != "e2m1" or unit.plan(**arguments).back_end == "lanes"


@pytest.mark.parametrize(("rounding", "spread"), by_default(SPREADS, QUICK_SPREADS))
def test_random_matrix_products(rounding: Rounding, spread: int) -> None:
    """From sums that fit float32 to sums of 500 binades, with and without an initial value."""
    rng = np.random.default_rng(spread)
    unit = exact("e8m10", rounding, a="e2m1", b="e4m3fn")
    a, b = rng.integers(0, 16, (3, 8)), rng.integers(0, 127, (8, 10))
    c = rng.integers(0, unit.result.max_code, (3, 10))
    low, high = max(0, 127 - spread), min(254, 127 + spread)
    scale_a, scale_b = rng.integers(low, high + 1, (3, 8)), rng.integers(low, high + 1, (8, 10))
    for arguments in (
        (None, None, None),
        (c, None, None),
        (None, scale_a, scale_b),
        (c, scale_a, scale_b),
    ):
        expected = oracle_matmul(unit, a, b, *arguments)
        assert np.array_equal(unit.matmul(a, b, *arguments), expected)


@settings(max_examples=120)
@given(matmul_cases(mac_specs(float_stages(Exact))))
def test_any_exact_unit_on_any_operands(case: MatmulCase) -> None:
    check_case(case)


@pytest.mark.slow
@settings(max_examples=1500)
@given(matmul_cases(mac_specs(float_stages(Exact))))
def test_many_exact_units_on_any_operands(case: MatmulCase) -> None:
    check_case(case)


@pytest.mark.parametrize("bits", [1, 9, 28])
@pytest.mark.parametrize("spread", [0, 40, 200])
def test_stochastic_rounding_of_the_sum(bits: int, spread: int) -> None:
    """One random integer per result."""
    rng = np.random.default_rng(bits)
    for name in ("e4m3fn", "e8m23"):
        unit = exact(name, "sr", random_bits=bits, a="e3m2")
        a, b = rng.integers(0, 64, (3, 6)), rng.integers(0, 64, (6, 4))
        low, high = max(0, 127 - spread), min(254, 127 + spread)
        scale = rng.integers(low, high + 1, (3, 6))
        random = rng.integers(0, 1 << bits, (3, 4, 1))
        expected = oracle_matmul(unit, a, b, None, scale, None, random=random)
        assert np.array_equal(unit.matmul(a, b, None, scale, None, random=random), expected)
        dots = unit.dot(a[:, None], b.T[None], None, scale[:, None], None, random=random)
        assert np.array_equal(dots, expected)


@settings(max_examples=30)
@given(st.permutations(range(12)), st.integers(0, 1 << 30))
def test_the_order_does_not_matter(order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 16, 12), rng.integers(0, 16, 12)
    scale = rng.integers(0, 255, 12)
    for rounding in ("rne", "rdn", "rto"):
        unit = exact("e8m7", rounding)
        first = unit.dot(a, b, a_scale=scale)
        assert unit.dot(a[order], b[order], a_scale=scale[order]) == first
        matrix = unit.matmul(a[None, order], b[order, None], a_scale=scale[None, order])
        assert matrix.item() == first


def test_a_long_sum_of_worst_cases() -> None:
    """65 536 products of 36 and one quarter: 2 359 296.25 needs 24 bits, and gets them."""
    unit = get_unit("exact")
    count = 1 << 16
    a = np.full((1, count), 7, dtype=np.uint8)
    a[0, -1] = 1
    b = np.full((count, 2), 7, dtype=np.uint8)
    b[-1] = 1
    total = Fraction(36 * (count - 1)) + Fraction(1, 4)
    assert Fraction(float(unit.result.decode(unit.matmul(a, b))[0, 0])) == total
    assert Fraction(float(unit.result.decode(unit.dot(a, b.T))[0])) == total


def test_exact_and_chain_share_no_result_by_accident() -> None:
    """The two stages differ on a sum that rounds at every step: neither silently is the other."""
    chain_unit = get_unit("e2m1-chain-e5m2")
    exact_unit = get_unit("e2m1-exact-e5m2")
    a, b = np.array([7] + [1] * 48), np.array([7] + [1] * 48)  # 36 + 48 * 0.25
    assert chain_unit.result.decode(chain_unit.dot(a, b)).item() == 32
    assert exact_unit.result.decode(exact_unit.dot(a, b)).item() == 48
