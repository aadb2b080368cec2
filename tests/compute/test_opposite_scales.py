# SPDX-License-Identifier: Apache-2.0
"""Scales of both sides that cancel: powers of two moved from one operand to the other."""

from __future__ import annotations

import numpy as np
import pytest
from support.helpers import HOST, chain, exact, fixed, oracle_matmul
from support.machines import MACHINES, On

from fpsim import MacUnit, get_unit
from fpsim.compute.bounds import Span, format_span, half_shift

pytestmark = pytest.mark.usefixtures("one_thread")


# -- float16 operands ----------------------------------------------------------------------------


def test_half_shift_is_found_exactly_when_one_exists() -> None:
    """Every pair of spans: both operands must become multiples of 2^-24 below 2^16."""

    def fits(span: Span, shift: int) -> bool:
        return span.low + shift >= -24 and span.high + shift <= 16

    for a_low in range(-40, 25, 5):
        for a_bits in (0, 7, 20, 40, 41):
            for b_low in range(-60, 40, 3):
                for b_bits in (0, 11, 20, 39, 40):
                    a, b = Span(a_low, a_low + a_bits), Span(b_low, b_low + b_bits)
                    possible = [s for s in range(-120, 121) if fits(a, s) and fits(b, -s)]
                    found = half_shift(a, b)
                    assert (found in possible) if possible else found is None, (a, b)


@pytest.mark.skipif("avx512fp16" not in HOST, reason="this processor has no avx512fp16")
@pytest.mark.parametrize("operand", ["e2m1", "e4m3fn", "e5m10"])
def test_half_precision_operands_moved_into_range(operand: str) -> None:
    """Scales of both sides that cancel, up to the last that float16 holds, and one beyond."""
    unit = chain("e5m10", a=operand)
    span = format_span(unit.a)
    rng = np.random.default_rng(41)
    a = rng.integers(0, 1 << unit.a.bits, (3, 4))
    b = rng.integers(0, 1 << unit.a.bits, (4, 5))
    a[0, :2], b[:2, 0] = 1, 1  # the smallest value
    room = 40 - span.bits
    kernels = set()
    for left in (-127, -100, -16, 0, 16, 100, 127):
        for right in (-left, room - left, room + 1 - left, -room - left):
            if not -127 <= right <= 127:
                continue
            scales = (np.full((3, 1), 127 + left), np.full((1, 5), 127 + right))
            kernels.add(unit.plan(a, b, a_scale=scales[0], b_scale=scales[1]).kernel)
            expected = oracle_matmul(unit, a, b, None, *scales)
            assert np.array_equal(unit.matmul(a, b, None, *scales), expected), (left, right)
    assert "half" in kernels


# -- scales that cancel --------------------------------------------------------------------------

UNITS = {
    "half": chain("e5m10"),
    "sticky": chain("e5m10", "rup"),
    "few bits": chain("e5m2"),
    "float": chain("e8m23"),
    "exact": exact("e8m23"),
    "fixed sum": fixed(24, -2),
    "fixed steps": fixed(24, -1, "saturate"),
}


@pytest.mark.parametrize("features", MACHINES)
@pytest.mark.parametrize("unit", UNITS.values(), ids=list(UNITS))
def test_opposite_scales_cancel(unit: MacUnit, features: str) -> None:
    """2^n on one side and 2^-n on the other is nothing at all, to the ends of E8M0.

    6 * 2^127 is infinite in float32 although its product with 2^-127 is harmless.
    """
    on = On(unit, MACHINES[features])
    a, b = np.array([[7, 1, 12], [5, 3, 9]]), np.array([[7, 2], [1, 15], [3, 4]])
    plain = on.matmul(a, b)
    assert np.array_equal(plain, oracle_matmul(unit, a, b))
    for n in (1, 60, 100, 120, 124, 125, 126, 127):
        for up, down in ((127 + n, 127 - n), (127 - n, 127 + n)):
            scales = np.full((2, 1), up), np.full((1, 2), down)
            kernel = on.plan(a, b, a_scale=scales[0], b_scale=scales[1]).kernel
            assert np.array_equal(on.matmul(a, b, None, *scales), plain), f"2^{n}, {kernel}"
            dots = unit.dot(a[:, None], b.T[None], None, scales[0][:, None], scales[1].T[None])
            assert np.array_equal(dots, plain), f"2^{n}, dot"


# -- scales apart by sign ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e2m1.e5m2.split-chain-e5m10", "e2m1.e5m2.split-chain-e8m23"])
@pytest.mark.parametrize("block", [1, 8])
def test_products_take_the_scales_of_their_signs(name: str, block: int) -> None:
    """Rows and columns, whose blocks have one scale for each sign, in vector lanes."""
    unit, rng = get_unit(name), np.random.default_rng(block)
    a, b = (rng.integers(0, 16, shape).astype(np.uint8) for shape in ((5, 40), (40, 21)))
    shapes = (5, 40 // block, 2), (40 // block, 21, 2)
    a_scale, b_scale = (unit.spec.a_scale.encode(rng.uniform(0.3, 3, shape)) for shape in shapes)
    given = {"a_scale": a_scale, "b_scale": b_scale}
    assert unit.plan(a, b, **given).back_end == "lanes"
    assert np.array_equal(unit.matmul(a, b, **given), oracle_matmul(unit, a, b, **given))
