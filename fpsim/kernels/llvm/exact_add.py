# SPDX-License-Identifier: Apache-2.0
"""Sums in lanes and their rounding, for steps of every kind."""

from __future__ import annotations

from typing import NamedTuple

from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.llvm.rounding import Parameters, round_magnitude, to_odd
from fpsim.kernels.llvm.vector import Vec

__all__ = [
    "Sum",
    "clamped",
    "exact_sum",
    "fused_to_odd",
    "odd_sum",
    "ordered_sum",
    "round_integer",
    "round_sum",
]


class Sum(NamedTuple):
    """A rounded sum and its error, the exact value minus it; None if the error cannot matter."""

    value: Vec
    error: Vec | None

    @classmethod
    def exact(cls, value: Vec) -> Sum:
        """Return a sum without error, all of whose bits count."""
        return cls(value, value.lanes.constant(0.0, False))


def exact_sum(x: Vec, y: Vec) -> tuple[Vec, Vec]:
    """Return x + y and its error, exactly (Knuth's TwoSum)."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


def ordered_sum(x: Vec, y: Vec) -> tuple[Vec, Vec]:
    """Return x + y and its error, exactly, for ordered addends (Dekker's FastTwoSum).

    Needs |x| >= |y|, or x a multiple of y's last place (Boldo, Graillat and Muller, ACM TOMS 44(1),
    2017).
    """
    s = x + y
    return s, y - (s - x)


def odd_sum(x: Vec, y: Vec, directed: bool) -> Vec:
    """Return x + y rounded to odd: the odd one of the lane's neighbours around the exact sum.

    Args:
        x: floats.
        y: floats.
        directed: round down and up by AVX-512F instructions; else the error of the sum decides.

    Returns:
        Floats.
    """
    if directed:
        down, up = x.add_toward(y, "rdn"), x.add_toward(y, "rup")
        return (down.as_bits & 1).differs(0).where(down, up)
    s, error = exact_sum(x, y)
    sign_shift = s.lanes.bits - 1
    negative = s.as_bits >> sign_shift
    magnitude = to_odd(s.magnitude_bits, negative, error)
    return (magnitude | (negative << sign_shift)).as_real


def fused_to_odd(a: Vec, b: Vec, acc: Vec) -> Vec:
    """Return a * b + acc rounded to odd. Needs AVX-512F and vectors of 64 bytes.

    Args:
        a: floats.
        b: floats.
        acc: floats.

    Returns:
        Floats.
    """
    down, up = a.fma_toward(b, acc, "rdn"), a.fma_toward(b, acc, "rup")
    return (down.as_bits & 1).differs(0).where(down, up)


def clamped(result: Vec, p: Parameters) -> Vec:
    """Return values with all beyond the largest finite one replaced by it."""
    largest, lowest = p.reals["largest"], p.reals["over_negative"]
    result = (result > largest).where(largest, result)
    return (lowest > result).where(lowest, result)


def round_sum(
    total: Sum,
    rounding: str,
    p: Parameters,
    random: Vec | None = None,
    *,
    opposite: Vec | None = None,
    ieee: bool = True,
) -> Vec:
    """Round a sum to a format.

    Args:
        total: the sum and its error.
        rounding: mode, ``"rne"`` for example.
        p: parameters of the format, with ``largest``, ``flush_below`` and the values that replace
            overflows and infinities.
        random: random integers, the first bit just below the kept ones, or None.
        opposite: integers whose sign bit is set where a sum of zero is to be -0; None if none is.
        ieee: whether a value beyond the largest may round to a finite one in directed modes, as in
            IEEE 754: then infinite sums are replaced apart.

    Returns:
        Floats; NaN stays NaN.
    """
    s, error = total
    nearest = mode_constants(rounding)[0]
    inward = ieee and not nearest and rounding != "sr"  # infinities must not become finite
    sign_shift = s.lanes.bits - 1
    negative = s.as_bits >> sign_shift
    magnitude = s.magnitude_bits
    if error is not None:
        magnitude = to_odd(magnitude, negative, error)
    rounded = round_magnitude(magnitude, negative, rounding, p, random, error is not None)
    value = rounded.bits.as_real - rounded.base
    zero = s.lanes.constant(0.0, False)
    value = (p.reals["flush_below"] > value).where(zero, value)
    sign = negative << sign_shift
    if opposite is not None:
        cancelled = s.equals(0.0).one_where_set() & (opposite >> sign_shift)
        sign = sign | (cancelled << sign_shift)
    signed = (value.as_bits | sign).as_real
    is_negative = negative.equals(1)
    over = is_negative.where(p.reals["over_negative"], p.reals["over_positive"])
    result = (value > p.reals["largest"]).where(over, signed)
    if inward:
        infinity = is_negative.where(p.reals["inf_negative"], p.reals["inf_positive"])
        result = magnitude.as_real.equals(float("inf")).where(infinity, result)
    # A NaN's bits must survive the integer arithmetic above.
    return s.equals(s).where(result, s)


def round_integer(x: Vec, rounding: str) -> Vec:
    """Round to an integer; ``x`` is exact and the result below 2^52."""
    if rounding == "rne":
        return x.intrinsic("roundeven")
    if rounding == "rna":
        return x.intrinsic("round")
    if rounding == "rup":
        return x.intrinsic("ceil")
    if rounding == "rdn":
        return x.intrinsic("floor")
    truncated = x.intrinsic("trunc")
    if rounding == "rtz":
        return truncated
    one = x.lanes.constant(1.0, False)
    half = truncated * 0.5
    even = half.intrinsic("trunc").equals(half)
    away = truncated + one.intrinsic("copysign", x)
    nudged = even.where(away, truncated)
    return truncated.differs(x).where(nudged, truncated)  # to odd
