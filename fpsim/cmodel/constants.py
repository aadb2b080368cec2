# SPDX-License-Identifier: Apache-2.0
"""C constants: formats, rounding modes and overflow policies."""

from __future__ import annotations

from fpsim.formats.floating import FixedFormat, FloatFormat, Format, NanCodes, Subnormals
from fpsim.formats.rounding import Overflow, Rounding

__all__ = ["constant_of", "mode_of", "overflow_of"]

_OVERFLOWS = {
    Overflow.SATURATE: "@SATURATE",
    Overflow.INF: "@TO_INF",
    Overflow.NAN: "@TO_NAN",
    Overflow.WRAP: "@WRAP",
}
_NANS = {NanCodes.NONE: 0, NanCodes.IEEE: 1, NanCodes.TOP: 2, NanCodes.NEGATIVE_ZERO: 3}
_ROWS = {Subnormals.GRADUAL: 0, Subnormals.NONE: 1, Subnormals.FLUSH: 2}


def constant_of(fmt: Format) -> str:
    """Return the initializer of a format's constant."""
    if isinstance(fmt, FixedFormat):
        top = max(fmt.max_integer, -fmt.min_integer).bit_length() - 1 + fmt.lsb
        return f"{{1, 0, {fmt.width}, {-fmt.lsb}, {int(fmt.signed)}, 0, 0, 0, 0, 0, {top}}}"
    assert isinstance(fmt, FloatFormat)
    nan = fmt.nan_code if fmt.nan_code is not None else 0
    return (
        f"{{0, {fmt.exponent_bits}, {fmt.mantissa_bits}, {fmt.bias}, {int(fmt.signed)}, "
        f"{_NANS[fmt.nan]}, {int(fmt.infinity)}, {_ROWS[fmt.subnormals]}, "
        f"0x{fmt.max_code:x}u, 0x{nan:x}u, 0}}"
    )


def mode_of(rounding: Rounding) -> str:
    """Return a rounding mode's constant."""
    return f"@{rounding.upper()}"


def overflow_of(overflow: Overflow | None) -> str:
    """Return the constant of an overflow policy."""
    assert overflow is not None
    return _OVERFLOWS[overflow]
