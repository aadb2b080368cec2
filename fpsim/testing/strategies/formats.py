# SPDX-License-Identifier: Apache-2.0
"""Strategies for formats, their codes, and values at and beside their rounding boundaries.

They lean towards where hardware goes wrong: zeros, the smallest and largest numbers, ties,
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
    """Any valid `FloatFormat` up to ``max_bits`` bits.

    The bias lies within ``bias_shift`` of its default. With ``accumulator`` the format has a sign
    and a zero, as a chain needs.

    Args:
        draw: draws from other strategies; Hypothesis gives it.
        max_bits: most bits of a code.
        max_exponent_bits: most bits of the exponent.
        max_mantissa_bits: most bits of the mantissa.
        bias_shift: how far the bias may lie from its default.
        accumulator: a sign and a zero, as a chain needs.

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
            continue  # every finite code would flush
        specials.append((nan, infinity))
    nan, infinity = draw(st.sampled_from(specials))
    default = (1 << (e - 1)) - 1 if e else 0
    bias = default + draw(st.one_of(st.just(0), st.integers(-bias_shift, bias_shift)))
    try:
        return FloatFormat(e, m, bias, signed=signed, nan=nan, infinity=infinity, subnormals=row)
    except FpsimError:
        reject()  # too few codes left for a finite number


def fixed_formats(max_width: int = 16, max_lsb: int = 12) -> st.SearchStrategy[FixedFormat]:
    """Any valid `FixedFormat` up to ``max_width`` bits."""
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
    """Any format a multiplier takes, floating or fixed point."""
    floats = float_formats(max_bits=max_bits, max_exponent_bits=5, bias_shift=4)
    return st.one_of(floats, fixed_formats(max_width=max_bits, max_lsb=6))


def roundings(stochastic: bool = True) -> st.SearchStrategy[Rounding]:
    """Any rounding mode."""
    return st.sampled_from([r for r in Rounding if stochastic or r is not Rounding.SR])


def codes(fmt: Format) -> st.SearchStrategy[int]:
    """Any code of a format, the remarkable ones often."""
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
    """Any code of an operand that is neither NaN nor infinite."""
    if isinstance(fmt, FixedFormat):
        return codes(fmt)
    return codes(fmt).filter(lambda code: bool(np.isfinite(fmt.decode([code])[0])))


def boundary_values(fmt: FloatFormat, special: bool = False) -> st.SearchStrategy[float]:
    """Values at and beside the rounding boundaries of a format, both signs.

    Its own values, every midpoint, one float32 and one float64 step beside each, what overflows
    first, and zeros of both signs; with ``special`` infinities and NaN too. Examples shrink towards
    values of small magnitude.
    """
    values = critical_values(fmt)
    ordered = values[np.lexsort((np.signbit(values), np.abs(values)))].tolist()
    listed = ordered + ([np.inf, -np.inf, np.nan] if special else [])
    return st.sampled_from(listed)
