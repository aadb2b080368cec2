# SPDX-License-Identifier: Apache-2.0
"""Powers of two and logarithms to base 2 with equal bits on every processor.

numpy, torch and the C library each have an ``exp2`` whose last bit depends on the vector
instructions at hand, and a code next to a tie changes with it. These use additions and products of
float64 only, each of which IEEE 754 rounds in one way, on pairs of numbers (head and tail) whose
sum carries about 100 bits (Dekker, "A floating-point technique for extending the available
precision", 1971). The result is therefore the nearest float64 unless the true value is within about
2^-100 of the middle between two; then too it is the same everywhere.
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial, isqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["exp2", "log2"]

Floats = NDArray[np.float64]
#: A number as the exact sum of two.
Pair = tuple[Floats, Floats]

#: log 2 to 50 digits.
_LOG_2 = Fraction(69314718055994530941723212145817656807550013436026, 10**50)
_LOG_TERMS = 24
#: 2^x is looked up for x = j / 64 and summed as a series from there; of the series, terms below
#: 2^-53 of the whole need no pairs.
_STEPS, _EXP_TERMS, _EXP_PAIRS = 64, 13, 7
_SPLIT = 134217729.0  # 2^27 + 1


def _constant(value: Fraction) -> Pair:
    head = float(value)
    return np.float64(head), np.float64(float(value - Fraction(head)))  # type: ignore[return-value]


def _roots() -> tuple[Floats, Floats]:
    """Return 2^(j / 64) for j = -32..32."""
    one = 1 << 256
    root = 2 * one
    for _ in range(6):
        root = isqrt(root * one)
    step = Fraction(root, one)
    pairs = [_constant(step**j) for j in range(-_STEPS // 2, _STEPS // 2 + 1)]
    return np.array([head for head, _ in pairs]), np.array([tail for _, tail in pairs])


_ROOTS = _roots()
_EXP = [_constant(Fraction(1, factorial(k))) for k in range(_EXP_TERMS)]
_ATANH = [_constant(2 / (_LOG_2 * (2 * k + 1))) for k in range(_LOG_TERMS)]
_LN2 = _constant(_LOG_2)


def exp2(x: ArrayLike) -> Floats:
    """Return 2^x of float64 ``x``, whose results are to be normal numbers: -1022 <= x < 1024."""
    values = np.asarray(x, dtype=np.float64)
    whole = np.rint(values)
    rest = values - whole  # exact, and so is the difference to the nearest step
    nearest = np.rint(_STEPS * rest)
    power = _times(_LN2, (rest - nearest / _STEPS, np.zeros_like(rest)))
    tail = np.zeros_like(rest)
    for head, _ in reversed(_EXP[_EXP_PAIRS:]):
        tail = tail * power[0] + head
    series = _horner(_EXP[:_EXP_PAIRS], power, (tail, np.zeros_like(rest)))
    index = nearest.astype(np.int64) + _STEPS // 2
    total = _times((_ROOTS[0][index], _ROOTS[1][index]), series)
    return np.asarray(np.ldexp(total[0], whole.astype(np.int64)))


def log2(x: ArrayLike) -> Floats:
    """Return log2 of positive normal float64 ``x``.

    x = m 2^e with m within a factor sqrt(2) of 1, and log m = 2 atanh((m - 1) / (m + 1)).
    """
    mantissa, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    low = mantissa < 0.70710678
    mantissa, exponent = np.where(low, 2 * mantissa, mantissa), exponent - low
    ratio = _divide(mantissa - 1.0, _sum(mantissa, np.ones_like(mantissa)))  # m - 1 is exact
    zero = np.zeros_like(mantissa)
    series = _times(_horner(_ATANH, _times(ratio, ratio), (zero, zero)), ratio)
    head, tail = _sum(exponent.astype(np.float64), series[0])
    return np.asarray(head + (tail + series[1]))


def _horner(coefficients: list[Pair], x: Pair, rest: Pair) -> Pair:
    """Return c0 + x (c1 + x (... + x rest))."""
    total = rest
    for coefficient in reversed(coefficients):
        total = _plus(_times(total, x), coefficient)
    return total


def _sum(a: Floats, b: Floats) -> Pair:
    """Return a + b exactly (Knuth)."""
    head = a + b
    part = head - a
    return head, (a - (head - part)) + (b - part)


def _halves(a: Floats) -> Pair:
    big = _SPLIT * a
    high = big - (big - a)
    return high, a - high


def _product(a: Floats, b: Floats) -> Pair:
    """Return a b exactly (Dekker)."""
    head = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    rest = ((a_high * b_high - head) + a_high * b_low) + a_low * b_high
    return head, rest + a_low * b_low


def _plus(a: Pair, b: Pair) -> Pair:
    head, tail = _sum(a[0], b[0])
    return _sum(head, tail + (a[1] + b[1]))


def _times(a: Pair, b: Pair) -> Pair:
    head, tail = _product(a[0], b[0])
    return _sum(head, tail + (a[0] * b[1] + a[1] * b[0]))


def _divide(a: Floats, b: Pair) -> Pair:
    first = a / b[0]
    head, tail = _product(first, b[0])
    rest = ((a - head) - tail) - first * b[1]
    return _sum(first, rest / b[0])
