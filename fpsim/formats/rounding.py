# SPDX-License-Identifier: Apache-2.0
"""Rounding modes, overflow policies and status flags of the conversion of numbers to codes.

Rounding always means: write ``|x|`` on the format's grid (unbounded above), pick one of the two
neighbouring codes, then look whether that code exists. The names follow RISC-V and P3109.
"""

from __future__ import annotations

from enum import IntFlag, StrEnum

from fpsim.base.errors import not_one_of

__all__ = [
    "MAX_RANDOM_BITS",
    "Flag",
    "InfPolicy",
    "NanPolicy",
    "Overflow",
    "Rounding",
    "parse_inf",
    "parse_nan",
    "parse_overflow",
    "parse_rounding",
]

#: Most random bits per stochastic rounding.
MAX_RANDOM_BITS = 32


class Rounding(StrEnum):
    """Neighbour that a value between two codes becomes (``f`` = fraction of the gap below it)."""

    RNE = "rne"  #: nearest; f = 1/2 goes to the even code
    RNA = "rna"  #: nearest; f = 1/2 goes away from zero
    RTZ = "rtz"  #: toward zero
    RUP = "rup"  #: toward +infinity
    RDN = "rdn"  #: toward -infinity
    RTO = "rto"  #: to odd: f > 0 goes to the neighbour whose code is odd
    SR = "sr"  #: stochastic: away from zero iff floor(f * 2^n) + r >= 2^n for an n-bit random r


class Overflow(StrEnum):
    """Codes for values beyond the largest finite one."""

    SATURATE = "saturate"  #: the largest finite code of its sign (an infinity too)
    INF = "inf"  #: as IEEE 754: infinity, or the largest finite code when rounding points inward
    NAN = "nan"  #: NaN (for an infinity too)
    WRAP = "wrap"  #: modulo 2^width; fixed-point formats only


class NanPolicy(StrEnum):
    """Codes for NaN in a format without NaN; in other formats NaN stays NaN."""

    ERROR = "error"  #: an error that names the first index
    SATURATE = "saturate"  #: the largest value, whatever the sign of the NaN, as RISC-V converts
    ZERO = "zero"  #: +0, as Arm converts


class InfPolicy(StrEnum):
    """Whether an infinite input may become a number."""

    OVERFLOW = "overflow"  #: by the overflow policy
    ERROR = "error"  #: an error that names the first index, if the overflow policy gives a number


class Flag(IntFlag):
    """Status of one encoded value, with the bits of TestFloat and Berkeley SoftFloat.

    ========= ===================================================================================
    INEXACT   The input is finite and the code means something else.
    UNDERFLOW Tiny and inexact. Tiny is decided after rounding: the input, rounded in the same
              mode (and with the same random bits) to the format's precision with no lower end of
              the exponent range, lies strictly between 0 and the smallest normal value. Never set
              together with OVERFLOW, and never in fixed point or a format without an exponent
              field, which have no normal values to fall below.
    OVERFLOW  The input is finite and rounds, on a grid without upper end, beyond the largest
              finite value (or, unsigned, to below zero). INEXACT is set as well. Fixed point too,
              saturating or wrapping, where IEEE 754's conversions to integers signal invalid.
    INFINITE  Never set by encoding; the bit of a division by zero.
    INVALID   NaN became a number, or an infinity became anything but an infinity of its sign.
              No other flag is set. All NaNs count as quiet: NaN that stays NaN sets no flag.
    ========= ===================================================================================
    """

    INEXACT = 1
    UNDERFLOW = 2
    OVERFLOW = 4
    INFINITE = 8
    INVALID = 16


def parse_rounding(value: str, field: str = "rounding") -> Rounding:
    """Return the mode called ``value``; FpsimError lists the allowed names."""
    try:
        return Rounding(value)
    except ValueError:
        raise not_one_of(field, value, [r.value for r in Rounding]) from None


def parse_overflow(value: str, field: str = "overflow") -> Overflow:
    """Return the policy called ``value``; FpsimError lists the allowed names."""
    try:
        return Overflow(value)
    except ValueError:
        raise not_one_of(field, value, [o.value for o in Overflow]) from None


def parse_nan(value: str, field: str = "nan") -> NanPolicy:
    """Return the policy called ``value``; FpsimError lists the allowed names."""
    try:
        return NanPolicy(value)
    except ValueError:
        raise not_one_of(field, value, [p.value for p in NanPolicy]) from None


def parse_inf(value: str, field: str = "inf") -> InfPolicy:
    """Return the policy called ``value``; FpsimError lists the allowed names."""
    try:
        return InfPolicy(value)
    except ValueError:
        raise not_one_of(field, value, [p.value for p in InfPolicy]) from None
