# SPDX-License-Identifier: Apache-2.0
"""The shift register of random bits: its polynomial is primitive, its integers are its bits in order."""

from __future__ import annotations

import pytest

from fpsim import FpsimError
from fpsim.formats.lfsr import GaloisLfsr

#: x^32 + x^31 + x^30 + x^10 + 1; bit i is the coefficient of x^i.
POLYNOMIAL = 1 << 32 | 1 << 31 | 1 << 30 | 1 << 10 | 1


def times(x: int, y: int) -> int:
    """Return a product of polynomials over GF(2), modulo the register's."""
    product = 0
    for i in range(32):
        if y >> i & 1:
            product ^= x << i
    for i in range(63, 31, -1):
        if product >> i & 1:
            product ^= POLYNOMIAL << (i - 32)
    return product


def power(exponent: int) -> int:
    """Return x^exponent modulo the polynomial."""
    result, square = 1, 2
    while exponent:
        if exponent & 1:
            result = times(result, square)
        square = times(square, square)
        exponent >>= 1
    return result


def test_the_polynomial_is_primitive() -> None:
    order = (1 << 32) - 1
    assert power(order) == 1
    assert all(power(order // prime) != 1 for prime in (3, 5, 17, 257, 65537))


def test_a_state_is_the_power_of_x_before_it() -> None:
    # With bit i of a state as the coefficient of x^(31-i) a step multiplies by x.
    def polynomial(state: int) -> int:
        return int(f"{state:032b}"[::-1], 2)

    register = GaloisLfsr(0xDEADBEEF)
    for _ in range(100):
        _, after = register.integers(1, 1)
        assert polynomial(after.state) == times(polynomial(register.state), 2)
        register = after


def test_integers_are_cut_from_the_bits_in_order() -> None:
    bits, end = GaloisLfsr(77).integers(60, 1)
    integers, after = GaloisLfsr(77).integers(10, 6)
    assert after == end
    for i, integer in enumerate(integers.tolist()):
        assert integer == sum(int(bit) << k for k, bit in enumerate(bits[6 * i : 6 * i + 6]))
    first, between = GaloisLfsr(77).integers(4, 6)
    rest, _ = between.integers(6, 6)
    assert [*first, *rest] == list(integers)


@pytest.mark.parametrize("seed", [0, -1, 1 << 32, True])
def test_a_state_that_stands_still_or_does_not_fit_is_refused(seed: int) -> None:
    with pytest.raises(FpsimError, match=r"lfsr: .* is not a seed in 1\.\.4294967295"):
        GaloisLfsr(seed)
