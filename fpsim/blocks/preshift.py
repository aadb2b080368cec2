# SPDX-License-Identifier: Apache-2.0
"""LLM-FP4's real exponent bias and its pre-shifted integer part per channel (arXiv 2310.16836).

A clip value c of a format ExMy, whose largest value under bias 0 is Qmax = (2 - 2^-m) 2^(2^e - 1),
is the real bias b~ (equation 7)

    b~ = 2^e - log2(c) + log2(2 - 2^-m) - 1,    2^-b~ = c / Qmax

Equations 14 and 15 split one bias per input channel j into a shared real part and a small integer:
b~_j -> rho~ + b_j. An element then means 2^-rho~ * 2^-b_j * P with P on the bias-0 grid, so a unit
needs the integers only as exponents.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.powers import exp2, log2
from fpsim.blocks.casts import encode_by_step
from fpsim.formats.floating import FloatFormat, Format, check_codes
from fpsim.formats.floating_fields import read_enum
from fpsim.formats.inputs import as_floats, as_real
from fpsim.formats.names import get_format
from fpsim.formats.rounding import Rounding

__all__ = ["Preshifted", "Reading", "preshift", "real_bias"]


class Reading(StrEnum):
    """How the integer part is rounded; they differ by at most 1."""

    PAPER = "paper"  #: b_j = clip(round(b~_j - rho~), 0, 2^e - 1)
    CODE = "code"  #: b_j = clip(round(b~_j) - round(rho~), 0, 2^e - 1)


def _largest_unbiased(element: Format) -> float:
    """Return Qmax: the largest value of the format under bias 0 (E2M1: 12)."""
    if not isinstance(element, FloatFormat):
        raise FpsimError(f"element: {element.name} is not a floating-point format")
    if not element.signed or element.infinity or element.nan_code is not None:
        raise FpsimError(
            f"element: {element.name} is not a signed format in which every code is finite"
        )
    if element.exponent_bits < 1:
        raise FpsimError(f"element: {element.name} has no exponent to bias")
    return element.max_value * 2.0**element.bias


def real_bias(element: str | Format, clip: ArrayLike) -> NDArray[np.float64]:
    """Return b~ of clip values (equation 7): the float64 nearest the logarithm of a float64 ratio.

    Raises:
        FpsimError: a clip value that is not positive and finite, or an unsuitable format.
    """
    values = as_real(clip).astype(np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        raise FpsimError("clip: every value must be positive and finite")
    return log2(_largest_unbiased(get_format(element)) / values)


@dataclass(frozen=True)
class Preshifted:
    """The biases of a tensor whose last axis is the channel: ``rho`` and integer ``shifts``."""

    element: FloatFormat
    rho: float
    shifts: NDArray[np.int64]

    def quantize(self, x: ArrayLike) -> NDArray[Any]:
        """Return element codes of ``x`` (..., channels), clipped to each channel's range.

        x 2^(rho~ + b_j) is computed in float64 and rounded half to even of x / step (equations 6
        to 9); infinities clip.

        Raises:
            FpsimError: NaN, a wrong dtype, or another number of channels.
        """
        array = as_floats(x, "x")
        self._check_channels("x", array.shape)
        if np.isnan(array).any():
            raise FpsimError(f"x: NaN has no value in {self.element.name}")
        # Element values lie on 2^-bias times the bias-0 grid.
        exponents = self.shifts - self.element.bias
        scaled = np.ldexp(array.astype(np.float64) * exp2(self.rho), exponents)
        return encode_by_step(self.element, scaled, Rounding.RNE)

    def _check_channels(self, name: str, shape: tuple[int, ...]) -> None:
        if len(shape) < 1 or shape[-1] != self.shifts.size:
            raise FpsimError(f"{name}: shape {shape} does not end in {self.shifts.size} channels")

    def dequantize(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return 2^-rho~ * 2^-b_j * P, rounded once to float64 (2^-rho~ itself is rounded).

        Raises:
            FpsimError: codes wider than the element, or another number of channels.
        """
        values = self.element.decode(check_codes(codes, self.element, "codes"))
        self._check_channels("codes", values.shape)
        exponents = self.element.bias - self.shifts
        return np.asarray(np.ldexp(values, exponents) * exp2(-self.rho))


def preshift(
    element: str | Format, maxima: ArrayLike, reading: str = "paper", rho: float | None = None
) -> Preshifted:
    """Split the biases of channels with the given largest magnitudes (equations 14 and 15).

    Halves round to even; biases are float64 logarithms.

    Args:
        element: signed format without special codes, or its name.
        maxima: the largest magnitude of each channel, positive.
        reading: a `Reading`.
        rho: the shared part; by default the smallest b~_j, where the paper's search starts.

    Returns:
        The shared part and the integers.

    Raises:
        FpsimError: maxima that are not positive and finite, an unknown reading, or a ``rho`` that
            is not finite.
    """
    rule = read_enum("reading", Reading, reading)
    fmt = get_format(element)
    biases = real_bias(fmt, maxima)
    assert isinstance(fmt, FloatFormat)
    if biases.ndim != 1 or not biases.size:
        raise FpsimError(f"maxima: shape {biases.shape} is not one value per channel")
    if rho is not None and (not isinstance(rho, Real) or not np.isfinite(rho)):
        raise FpsimError(f"rho: {rho!r} is not a finite number")
    shared = float(biases.min()) if rho is None else float(rho)
    if rule is Reading.PAPER:
        shifts = np.rint(biases - shared)
    else:
        shifts = np.rint(biases) - np.rint(shared)
    highest = (1 << fmt.exponent_bits) - 1
    return Preshifted(fmt, shared, np.clip(shifts, 0, highest).astype(np.int64))
