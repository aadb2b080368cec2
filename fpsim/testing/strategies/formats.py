# SPDX-License-Identifier: Apache-2.0
"""Strategies for formats, their codes, and values at and beside their rounding boundaries.

They prefer cases in which hardware goes wrong: zeros, the smallest and largest numbers, ties,
infinities, NaN.
"""

from __future__ import annotations

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import (
    FixedFormat,
    FloatFormat,
    Format,
    NanCodes,
    Subnormals,
)
from fpsim.formats.floating_fields import SPECIAL_SUFFIXES
from fpsim.formats.rounding import Rounding
from fpsim.testing.boundaries import critical_values

__all__ = [
    "boundary_values",
    "codes",
    "finite_codes",
    "fixed_formats",
    "float_formats",
    "operand_formats",
    "roundings",
]


@st.composite
def float_formats(
    draw: st.DrawFn,
    max_bits: int = 16,
    max_exponent_bits: int = 8,
    max_mantissa_bits: int = 23,
    bias_shift: int = 20,
    accumulator: bool = False,
) -> FloatFormat:
    """Draw any valid `FloatFormat` of up to ``max_bits`` bits.

    The bias lies within ``bias_shift`` of its default. With ``accumulator`` the format has a sign
    and a zero, as a chain needs.

    Args:
        draw: Hypothesis's function that draws from a strategy.
        max_bits: most bits of a code.
        max_exponent_bits: most bits of the exponent.
        max_mantissa_bits: most bits of the mantissa.
        bias_shift: largest distance of the bias from its default.
        accumulator: require a sign and a zero, as a chain does.

    Returns:
        A strategy for formats.
    """
    signed = accumulator or draw(st.booleans())
    magnitude_bits = max_bits - int(signed)
    e = draw(st.integers(0, min(max_exponent_bits, magnitude_bits)))
    lowest = 1 if e == 0 else 0
    m = draw(st.integers(lowest, max(lowest, min(max_mantissa_bits, magnitude_bits - e))))
    rows = [Subnormals.GRADUAL]
    if e:
        rows.append(Subnormals.FLUSH)
        if not accumulator:
            rows.append(Subnormals.NONE)
    row = draw(st.sampled_from(rows))
    specials = []
    for nan, infinity in SPECIAL_SUFFIXES:
        ieee_fits = e > 0 and m > 0
        zero_sign_free = signed and row is not Subnormals.NONE
        if nan is NanCodes.IEEE and not ieee_fits:
            continue
        if nan is NanCodes.NEGATIVE_ZERO and not zero_sign_free:
            continue
        if row is Subnormals.FLUSH and nan is NanCodes.IEEE and e == 1:
            continue  # the format would flush every finite code
        specials.append((nan, infinity))
    nan, infinity = draw(st.sampled_from(specials))
    default = (1 << (e - 1)) - 1 if e else 0
    bias = default + draw(st.one_of(st.just(0), st.integers(-bias_shift, bias_shift)))
    try:
        return FloatFormat(e, m, bias, signed=signed, nan=nan, infinity=infinity, subnormals=row)
    except FpsimError:
        reject()  # no codes would be left for finite numbers


def fixed_formats(max_width: int = 16, max_lsb: int = 12) -> st.SearchStrategy[FixedFormat]:
    """Draw any valid `FixedFormat` of up to ``max_width`` bits."""
    signed = st.builds(
        FixedFormat,
        width=st.integers(2, max_width),
        lsb=st.integers(-max_lsb, max_lsb),
        signed=st.just(True),
        symmetric=st.booleans(),
    )
    unsigned = st.builds(
        FixedFormat,
        width=st.integers(1, max_width),
        lsb=st.integers(-max_lsb, max_lsb),
        signed=st.just(False),
    )
    return st.one_of(signed, unsigned)


def operand_formats(max_bits: int = 8) -> st.SearchStrategy[Format]:
    """Draw any operand format of a multiplier, floating or fixed point."""
    floats = float_formats(max_bits=max_bits, max_exponent_bits=5, bias_shift=4)
    return st.one_of(floats, fixed_formats(max_width=max_bits, max_lsb=6))


def roundings(stochastic: bool = True) -> st.SearchStrategy[Rounding]:
    """Draw any rounding mode."""
    return st.sampled_from([r for r in Rounding if stochastic or r is not Rounding.SR])


def codes(fmt: Format) -> st.SearchStrategy[int]:
    """Draw any code of a format, corner codes often."""
    top = (1 << fmt.bits) - 1
    if isinstance(fmt, FixedFormat):
        half = 1 << (fmt.bits - 1)
        remarkable = {0, 1, half - 1, half % (top + 1), top, top - 1}
    else:
        magnitudes = {0, 1, 1 << fmt.mantissa_bits, fmt.max_code, fmt.max_code - 1}
        magnitudes |= {fmt.max_code + 1, (1 << fmt.magnitude_bits) - 1}
        remarkable = magnitudes | {m + fmt.sign_bit for m in magnitudes}
    listed = sorted(code for code in remarkable if 0 <= code <= top)
    return st.one_of(st.integers(0, top), st.sampled_from(listed))


def finite_codes(fmt: Format) -> st.SearchStrategy[int]:
    """Draw any code of an operand except NaN and infinities."""
    if isinstance(fmt, FixedFormat):
        return codes(fmt)
    return codes(fmt).filter(lambda code: bool(np.isfinite(fmt.decode([code])[0])))


def boundary_values(fmt: FloatFormat, special: bool = False) -> st.SearchStrategy[float]:
    """Draw values at and beside the rounding boundaries of a format, of both signs.

    They are values of the format, midpoints, the numbers one float32 and one float64 step beside
    these, the first numbers that overflow, and zeros of both signs; with ``special`` infinities and
    NaN too. Examples shrink to small magnitudes.
    """
    values = critical_values(fmt)
    ordered = values[np.lexsort((np.signbit(values), np.abs(values)))].tolist()
    listed = ordered + ([np.inf, -np.inf, np.nan] if special else [])
    return st.sampled_from(listed)
