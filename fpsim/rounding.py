# SPDX-License-Identifier: Apache-2.0
"""How a real number becomes a code: rounding modes and overflow policies.

Rounding always means: write ``|x|`` on the format's grid (unbounded above), pick one of the two
neighbouring codes, then look whether that code exists. The names follow RISC-V and P3109.
"""

from __future__ import annotations

from enum import StrEnum

from fpsim.errors import FpsimError, nearest

__all__ = ["MAX_RANDOM_BITS", "Overflow", "Rounding", "parse_overflow", "parse_rounding"]

#: Largest number of random bits that stochastic rounding accepts.
MAX_RANDOM_BITS = 32


class Rounding(StrEnum):
    """Which neighbour a value between two codes goes to (``f`` = fraction of the gap below it)."""

    RNE = "rne"  #: nearest; f = 1/2 goes to the even code
    RNA = "rna"  #: nearest; f = 1/2 goes away from zero
    RTZ = "rtz"  #: toward zero
    RUP = "rup"  #: toward +infinity
    RDN = "rdn"  #: toward -infinity
    RTO = "rto"  #: to odd: f > 0 goes to the neighbour whose code is odd
    SR = "sr"  #: stochastic: away from zero iff floor(f * 2^n) + r >= 2^n for an n-bit random r


class Overflow(StrEnum):
    """What a value beyond the largest finite code becomes."""

    SATURATE = "saturate"  #: the largest finite code of its sign (an infinity too)
    INF = "inf"  #: as IEEE 754: infinity, or the largest finite code when rounding points inward
    NAN = "nan"  #: NaN (an infinity too)
    WRAP = "wrap"  #: modulo 2^width; fixed-point formats only


def parse_rounding(value: str, field: str = "rounding") -> Rounding:
    """Return the mode called ``value``; FpsimError lists the allowed names."""
    try:
        return Rounding(value)
    except ValueError:
        raise _unknown(field, value, [r.value for r in Rounding]) from None


def parse_overflow(value: str, field: str = "overflow") -> Overflow:
    """Return the policy called ``value``; FpsimError lists the allowed names."""
    try:
        return Overflow(value)
    except ValueError:
        raise _unknown(field, value, [o.value for o in Overflow]) from None


def _unknown(field: str, value: object, allowed: list[str]) -> FpsimError:
    hint = nearest(str(value), allowed)
    return FpsimError(f"{field}: {value!r} is not one of {', '.join(allowed)}{hint}")
