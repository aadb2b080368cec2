# SPDX-License-Identifier: Apache-2.0
"""The two magnitudes of a format beside a value, and the value's result in each rounding mode.

Magnitudes are counted on the format's grid without upper end, so that overflow can be told apart
from rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat, FloatFormat, Format, Subnormals
from fpsim.formats.rounding import Overflow, Rounding

__all__ = ["Neighbours", "same_values"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def same_values(x: Floats, y: Floats) -> Mask:
    """Return the mask of equal values: NaN equals NaN, -0 differs from +0."""
    both = np.isnan(x) & np.isnan(y)
    return np.asarray(both | ((x == y) & (np.signbit(x) == np.signbit(y))))


@dataclass(frozen=True)
class Neighbours:
    """Values, and the grid steps below and above their magnitudes."""

    fmt: Format
    x: Floats
    low: NDArray[np.int64]  #: step at or below the magnitude
    below: Floats  #: value of that step
    above: Floats  #: value of the next step
    relation: NDArray[np.int8]  #: magnitude against the middle of both steps: -1, 0 or 1

    @classmethod
    def of(cls, fmt: Format, x: NDArray[Any]) -> Neighbours:
        """Return the neighbours of values (n,); infinities and NaN have none (step 0)."""
        with np.errstate(invalid="ignore"):  # signalling NaN
            values = x.astype(np.float64)
        finite = np.isfinite(values)
        magnitude = np.where(finite, np.abs(values), 0.0)
        low, below, above = _steps(fmt, magnitude)
        middle = below + (above - below) / 2
        relation = np.sign(magnitude - middle).astype(np.int8)
        return cls(fmt, values, low, below, above, relation)

    @property
    def negative(self) -> Mask:
        """The mask of values with a sign bit."""
        return np.signbit(self.x)

    @property
    def finite(self) -> Mask:
        """The mask of finite values."""
        return np.isfinite(self.x)

    @property
    def exact(self) -> Mask:
        """The mask of magnitudes that are a step of the grid."""
        return np.asarray(np.abs(self.x) == self.below)

    @property
    def tie(self) -> Mask:
        """The mask of finite magnitudes exactly between two steps."""
        return np.asarray((self.relation == 0) & self.finite & ~self.exact)

    def limit(self, negative: bool = False) -> int:
        """Return the last step of positive or of negative numbers."""
        if isinstance(self.fmt, FixedFormat):
            return -self.fmt.min_integer if negative else self.fmt.max_integer
        return 0 if negative and not self.fmt.signed else self.fmt.max_code

    @property
    def limits(self) -> NDArray[np.int64]:
        """The last step for each value's sign."""
        return np.where(self.negative, self.limit(True), self.limit(False))

    def upward(self, rounding: Rounding) -> Mask:
        """Return the mask of magnitudes that round to the step above (false for exact ones)."""
        odd = self.low % 2 == 1
        up = {
            Rounding.RNE: (self.relation > 0) | ((self.relation == 0) & odd),
            Rounding.RNA: self.relation >= 0,
            Rounding.RTZ: np.zeros(odd.shape, dtype=bool),
            Rounding.RUP: ~self.negative,
            Rounding.RDN: self.negative,
            Rounding.RTO: ~odd,
        }[rounding]
        return np.asarray(up & ~self.exact)

    def rounded(self, up: Mask, overflow: Overflow) -> Floats:
        """Return the results of a rounding decision and an overflow policy.

        Infinities count as beyond the largest value; NaN stays NaN.
        """
        return self.placed(self.low + up, np.where(up, self.above, self.below), overflow)

    def placed(self, steps: NDArray[np.int64], values: Floats, overflow: Overflow) -> Floats:
        """Return signed values for steps, with an overflow policy.

        Args:
            steps: steps of the grid without upper end.
            values: magnitudes of the steps.
            overflow: policy for steps beyond the largest.

        Returns:
            Values of the format.
        """
        negative = self.negative
        too_large = self.finite & (steps > self.limits)
        largest = np.where(negative, self.value(self.limit(True)), self.value(self.limit()))
        if isinstance(self.fmt, FloatFormat) and self.fmt.subnormals is Subnormals.FLUSH:
            values = np.where(steps < 1 << self.fmt.mantissa_bits, 0.0, values)
        beyond = {
            Overflow.SATURATE: largest,
            Overflow.INF: np.full(self.x.shape, np.inf),
            Overflow.NAN: np.full(self.x.shape, np.nan),
            Overflow.WRAP: largest,
        }[overflow]
        out = np.where(too_large, beyond, values)
        if overflow is Overflow.WRAP:
            out = np.where(too_large, self._wrapped(steps), out)
        out = np.where(np.isinf(self.x), largest if overflow is Overflow.WRAP else beyond, out)
        signed = np.where(negative & self.fmt.signed, -out, out)
        if not self._has_negative_zero:
            signed = signed + 0.0
        return np.where(np.isnan(self.x), np.nan, signed)

    def _wrapped(self, steps: NDArray[np.int64]) -> Floats:
        """Return magnitudes whose signed value is that of the low bits of the rounded integers."""
        assert isinstance(self.fmt, FixedFormat)
        integers = np.where(self.negative, -steps, steps)
        width = 1 << self.fmt.width
        low = np.mod(integers, width)
        if self.fmt.signed:
            low = np.where(low >= width // 2, low - width, low)
        value = np.ldexp(low.astype(np.float64), self.fmt.lsb)
        return np.where(self.negative & self.fmt.signed, -value, value)

    @property
    def _has_negative_zero(self) -> bool:
        return isinstance(self.fmt, FloatFormat) and self.fmt.has_negative_zero

    def value(self, step: int) -> float:
        """Return the magnitude of a step."""
        if isinstance(self.fmt, FixedFormat):
            return float(np.ldexp(float(step), self.fmt.lsb))
        first = 1 << self.fmt.mantissa_bits
        if self.fmt.subnormals is Subnormals.NONE:
            step += first
        row = max(step // first, 1)
        unit = self.fmt.exponent_min - self.fmt.mantissa_bits
        return float(np.ldexp(float(step - (row - 1) * first), row - 1 + unit))


def _steps(fmt: Format, magnitude: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return the step at or below each magnitude, its value, and the next step's value."""
    if isinstance(fmt, FixedFormat):
        whole = np.floor(np.ldexp(magnitude, -fmt.lsb))
        below, above = np.ldexp(whole, fmt.lsb), np.ldexp(whole + 1, fmt.lsb)
        return whole.clip(0, 2.0**60).astype(np.int64), below, above
    exponent = np.maximum(np.frexp(magnitude)[1] - 1, fmt.exponent_min)
    exponent[magnitude == 0] = fmt.exponent_min
    unit = exponent - fmt.mantissa_bits
    whole = np.floor(np.ldexp(magnitude, -unit))
    below, above = np.ldexp(whole, unit), np.ldexp(whole + 1, unit)
    low = ((exponent - fmt.exponent_min) << fmt.mantissa_bits) + whole.astype(np.int64)
    if fmt.subnormals is Subnormals.NONE:
        first = 2.0**fmt.exponent_min
        under = magnitude < first  # every rounding gives the smallest value
        low = np.where(under, 0, low - (1 << fmt.mantissa_bits))
        below, above = (np.where(under, first, side) for side in (below, above))
    return low, below, above
