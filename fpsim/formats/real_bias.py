# SPDX-License-Identifier: Apache-2.0
"""A real-valued exponent bias (LLM-FP4, arXiv 2310.16836): a format and a real scale in one.

Codes are the element format's with bias 0; code value v means v * 2^(-b~), b~ real:

    x   <- clip(x, -Qmax, Qmax)              Qmax = largest code value * 2^(-b~)       (eq. 5, 6)
    b~   = 2^e - log2(Qmax) + log2(2 - 2^-m) - 1                                       (eq. 7)
    p    = max(floor(log2 |x| + b~), 1)      step = 2^(p - m - b~)                     (eq. 8)
    x_q  = step * round_half_even(x / step)                                            (eq. 9)

The scale 2^(-b~) is the float64 nearest to it; from there on codes are exact: a tie is a tie of the
real numbers x and scale, whatever the quotient rounds to, and no logarithm decides an exponent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat, NanCodes, Subnormals
from fpsim.formats.inputs import as_real
from fpsim.formats.names import get_format

__all__ = ["ScaledFormat"]

#: Ends of b~ and of the largest exponent: every product below is then a normal float64.
LIMIT = 900


@dataclass(frozen=True)
class ScaledFormat:
    """An element format at bias 0 whose code values are multiplied by 2^(-b_tilde).

    Rounding is the paper's: half to even of x / step. With mantissa bits that is ``rne`` of the
    code. Without (E3M0), x / step lies in [1, 2) and its only tie, 1.5, goes up; the tie below the
    smallest value goes to 0.

    Raises:
        FpsimError: an element that is not signed ExMy with e >= 1, bias 0, subnormals and no
            special codes, or a bias that is not finite or out of range.
    """

    element: FloatFormat
    b_tilde: float

    def __post_init__(self) -> None:
        element = get_format(self.element)
        if not isinstance(element, FloatFormat):
            raise FpsimError(f"element: {element.name} is not a floating-point format")
        object.__setattr__(self, "element", element)
        if not isinstance(self.b_tilde, Real):
            raise FpsimError(f"b_tilde: {self.b_tilde!r} is not a number")
        plain = element.nan is NanCodes.NONE and not element.infinity
        gradual = element.subnormals is Subnormals.GRADUAL and element.exponent_bits
        if element.bias or not (plain and gradual and element.signed):
            raise FpsimError(
                f"element: {element.name} is not a signed format with bias 0, an exponent field, "
                "subnormals and no special codes, such as e2m1b0"
            )
        top = element.exponent_max
        if not math.isfinite(self.b_tilde) or not -LIMIT <= self.b_tilde <= LIMIT:
            raise FpsimError(f"b_tilde: {self.b_tilde!r} is not a number in -{LIMIT}..{LIMIT}")
        if top - self.b_tilde > LIMIT or top > LIMIT:
            raise FpsimError(
                f"b_tilde: {self.b_tilde!r} puts the largest value of {element.name} too high"
            )

    @classmethod
    def from_max(cls, element: str | FloatFormat, qmax: float) -> ScaledFormat:
        """Return the format whose largest value is ``qmax`` (equation 7), to the last bit of b~.

        Raises:
            FpsimError: ``qmax`` is not a positive finite number.
        """
        if not isinstance(qmax, Real) or not (qmax > 0 and math.isfinite(qmax)):
            raise FpsimError(f"qmax: {qmax!r} is not a positive finite number")
        fmt = get_format(element)
        # Equation 7 is log2 of a quotient; fractions keep it exact for subnormal qmax too.
        top, top_exponent = math.frexp(fmt.max_value)
        fraction, exponent = math.frexp(qmax)
        return cls(fmt, math.log2(top / fraction) + (top_exponent - exponent))

    @cached_property
    def scale(self) -> float:
        """2^(-b_tilde) as a float64; exact where b_tilde is an integer."""
        whole = math.floor(self.b_tilde)
        return math.ldexp(math.exp2(whole - self.b_tilde), -whole)

    @property
    def max_value(self) -> float:
        """Largest value; inputs are clipped to it."""
        return self.element.max_value * self.scale

    def decode(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return code value times scale, rounded once to float64.

        Raises:
            FpsimError: codes that are no codes of the element format.
        """
        return self.element.decode(codes) * self.scale

    def encode(
        self, values: ArrayLike, *, nan: str = "error", inf: str = "overflow"
    ) -> NDArray[Any]:
        """Return the codes of ``values``, clipped and rounded once.

        Args:
            values: any floating-point numpy, ml_dtypes or (on the processor) torch type, and
                integers; see `fpsim.formats.inputs.as_real`.
            nan: the code that replaces NaN, one of `NanPolicy`.
            inf: whether an infinity may become a number, one of `InfPolicy`.

        Returns:
            Codes in the shape of ``values``.

        Raises:
            FpsimError: a NaN or an infinity that the policies forbid.
        """
        given = as_real(values)
        x = np.atleast_1d(given.astype(np.float64, copy=False))
        with np.errstate(over="ignore", under="ignore"):
            quotient = self._beside_ties(x, x / self.scale)
        if self.element.mantissa_bits:
            return self.element.encode(quotient.reshape(given.shape), "rne", nan=nan, inf=inf)
        codes = self.element.encode(quotient, "rna", nan=nan, inf=inf)
        smallest = math.ldexp(1.0, self.element.exponent_min)
        codes[np.abs(quotient) == smallest / 2] &= self.element.sign_bit
        return codes.reshape(given.shape)

    def _beside_ties(
        self, x: NDArray[np.float64], quotient: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Move quotients that rounded to where a tie may be to the side of the real quotient.

        Rounding a quotient is monotone, so one that is not itself a midpoint is on the right side
        of all of them. A midpoint q has few bits: with the scale in two halves, q * half is exact,
        so is x - q * high (the two are neighbours), and one comparison gives the sign of x - q * s.
        """
        short = quotient.view(np.int64) & ((1 << (51 - self.element.mantissa_bits)) - 1)
        maybe = (short == 0) & np.isfinite(quotient) & (quotient != 0)
        q, at = quotient[maybe], x[maybe]
        whole = np.array([self.scale]).view(np.int64)
        high = float((whole & ~np.int64((1 << 27) - 1)).view(np.float64)[0])
        left, right = at - q * high, q * (self.scale - high)
        q = np.where(left > right, np.nextafter(q, np.inf), q)
        quotient[maybe] = np.where(left < right, np.nextafter(q, -np.inf), q)
        return quotient
