# SPDX-License-Identifier: Apache-2.0
"""Formats as kernels take them: tuples of integers. This module needs no compiler."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Layout", "Limits"]


class Layout(NamedTuple):
    """The code points of a format, see `fpsim.formats.floating.FloatFormat.layout`."""

    mantissa_bits: int
    exponent_min: int  #: exponent of the lowest row of codes
    hidden_row: int  #: row 0: 0 is subnormal, 1 has the implicit one (no zero), 2 reads as 0
    max_code: int  #: largest finite magnitude code
    inf_code: int  #: magnitude code of infinity, -1 if there is none
    sign_bit: int  #: weight of the sign bit in a code, 0 if unsigned
    negative_zero: int  #: 1 if the sign bit alone is -0, 0 if that code is no zero


class Limits(NamedTuple):
    """Codes for results that a format cannot hold; -1 where the input is an error."""

    over_positive: int
    over_negative: int
    inf_positive: int
    inf_negative: int
    nan: int
