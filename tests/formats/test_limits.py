# SPDX-License-Identifier: Apache-2.0
"""Fields of formats and of random bits: their least and greatest value is taken, the next refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fpsim import FpsimError, RandomBits
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.inputs import as_floats
from fpsim.formats.lfsr import GaloisLfsr, LfsrOutput


def floating(**fields: Any) -> FloatFormat:
    return FloatFormat(**{"exponent_bits": 2, "mantissa_bits": 1, "bias": 1} | fields)


def exponents(bits: int) -> FloatFormat:
    if bits < 11:
        return floating(exponent_bits=bits)
    # All of float64's exponents, the highest for infinity.
    return floating(exponent_bits=bits, mantissa_bits=0, bias=1023, infinity=True)


def wide(bits: int) -> FloatFormat:
    return floating(exponent_bits=10, mantissa_bits=bits - 11, bias=511)


def lfsr(**fields: Any) -> GaloisLfsr:
    return GaloisLfsr(**{"state": 1, "width": 4, "taps": 0x9} | fields)


def register(width: int) -> GaloisLfsr:
    return GaloisLfsr(1, width, 1 << max(width - 1, 0))


#: What takes a value, and the values at an end and beyond it.
ENDS: list[tuple[Callable[[int], object], int, int]] = [
    (exponents, 0, -1),
    (exponents, 11, 12),
    (lambda bits: floating(mantissa_bits=bits), 0, -1),
    (lambda bits: floating(mantissa_bits=bits), 23, 24),
    (wide, 32, 33),
    # The least value of E2M1 is 2^-bias, and its largest exponent is 3 - bias.
    (lambda bias: floating(bias=bias), 1022, 1023),
    (lambda bias: floating(bias=bias), -1020, -1021),
    (FixedFormat, 64, 65),
    (lambda lsb: FixedFormat(8, lsb), -512, -513),
    (lambda lsb: FixedFormat(8, lsb), 512, 513),
    (register, 2, 1),
    (register, 64, 65),
    (lambda state: lfsr(state=state), 1, 0),
    (lambda state: lfsr(state=state), 15, 16),
    (lambda taps: lfsr(taps=taps), 8, 7),
    (lambda taps: lfsr(taps=taps), 15, 16),
    (lambda bits: lfsr(draw=LfsrOutput.STATE).integers(1, bits), 4, 5),
    (RandomBits, 0, -1),
    (RandomBits, (1 << 32) - 1, 1 << 32),
    (lambda first: RandomBits(1, first), 0, -1),
    (lambda start: RandomBits(1, start=start), 0, -1),
    (lambda width: RandomBits(1, width=width), 0, -1),
]


@pytest.mark.parametrize(("make", "end", "beyond"), ENDS)
def test_an_end_is_taken_and_what_lies_beyond_is_not(
    make: Callable[[int], object], end: int, beyond: int
) -> None:
    make(end)
    with pytest.raises(FpsimError, match=str(beyond)):
        make(beyond)


@pytest.mark.parametrize("field", ["seed", "first", "start", "width"])
@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_random_bits_take_whole_numbers(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"seed": 1} | {field: value}
    with pytest.raises(FpsimError, match=f"^{field}: .* is not a whole number"):
        RandomBits(**fields)


def test_floats_keep_what_float32_cannot_hold() -> None:
    fine = 1 + 2.0**-40
    assert as_floats(np.array([fine]), "x").tolist() == [fine]
    for kind in (np.float16, np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2):
        found = as_floats(np.array([1.5], kind), "x")
        assert found.dtype == np.float32 and found.tolist() == [1.5]
    for other in (np.longdouble, np.int8, np.complex128):
        with pytest.raises(FpsimError, match=r"^x: dtype \w+ is not floating point"):
            as_floats(np.array([1], other), "x")
