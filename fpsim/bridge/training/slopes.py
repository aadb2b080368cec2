# SPDX-License-Identifier: Apache-2.0
"""Slopes of casts: factors of a gradient on its way back through a cast.

A cast without a slope counts as the identity (straight through). Each slope takes y, the operand in
units of its grid: float32 rows over scales and factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.formats.floating import FloatFormat

__all__ = ["CastSlope", "DifferentiableGradient", "TrustMask", "grid_values", "root"]


class CastSlope(Protocol):
    """A function of the operand in units of its grid; any object with this method is one."""

    def slope(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the factor of the gradient of each element."""


@dataclass(frozen=True)
class TrustMask:
    """1 where |y| < ``limit``, else 0: no gradient through clipped elements (Quartet)."""

    limit: float = 6.0

    def slope(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return 1 or 0 for each element."""
        return (np.abs(y) < np.float32(self.limit)).astype(np.float32)


@dataclass(frozen=True)
class DifferentiableGradient:
    """The differentiable gradient estimator, DGE (2501.17116, equations 7 and 8).

    Between neighbours lo and lo + d of the grid, with u = 2 (y - lo) / d - 1, a cast counts as

        f(y) = lo + d / 2 (1 + sign(u) |u|^(1/k)),     f'(y) = |u|^(1/k - 1) / k

    capped at ``cap``. Beyond the grid f' is ``beyond``: 0 (default), as for a cast that saturates;
    ``last-interval`` is MS-AMP's code, in which every y below the grid's second value counts to the
    lowest interval, and y above the grid has slope 0.

    Raises:
        FpsimError: a k that is no integer from 1 on, a cap that is not positive, or an unknown
            ``beyond``.
    """

    grid: tuple[float, ...]
    k: int = 5
    cap: float = 3.0
    beyond: str = "zero"

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or self.k < 1:
            raise FpsimError(f"recipe: k: {self.k!r} is not a whole number from 1 on")
        if self.cap <= 0:
            raise FpsimError(f"recipe: cap: {self.cap!r} is not positive")
        if self.beyond not in ("zero", "last-interval"):
            raise not_one_of("recipe: beyond", self.beyond, ("zero", "last-interval"))

    def slope(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return f', computed in float64 and rounded once."""
        flat, out = np.ascontiguousarray(y).reshape(-1), np.empty(y.size, dtype=np.float32)
        for start in range(0, y.size, _CHUNK):
            out[start : start + _CHUNK] = self._slope(flat[start : start + _CHUNK])
        return out.reshape(y.shape)

    def _slope(self, y: NDArray[np.float32]) -> NDArray[np.float64]:
        u = np.maximum(np.abs(self._place(y)[2]), _SMALLEST)
        steep = np.minimum(root(u, self.k) / (self.k * u), self.cap)
        outside = y > self.grid[-1]
        if self.beyond == "zero":
            outside |= y < self.grid[0]
        return np.where(outside, 0.0, steep)

    def value(self, y: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return f, the function that stands for the cast."""
        low, step, u = self._place(y)
        return np.asarray(low + step / 2 * (1 + np.sign(u) * np.abs(u) ** (1 / self.k)))

    def _place(
        self, y: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the lower neighbour, the interval's length and u, from -1 to 1."""
        grid = np.array(self.grid)
        index = np.clip(np.searchsorted(grid, y, side="right") - 1, 0, len(grid) - 2)
        low, step = grid[index], np.diff(grid)[index]
        return low, step, 2 * (y.astype(np.float64) - low) / step - 1


#: Elements processed at once, which stay in the cache.
_CHUNK = 1 << 15
#: Replaces a |u| of 0, for which the slope is infinite.
_SMALLEST = 2.0**-100
_NEWTON_STEPS = 5


def root(u: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return u^(1 / k), 0 < u <= 1, by Newton's method.

    It uses only sums, products and quotients, so that every processor gives equal bits; the C
    library's ``pow`` does not.
    """
    mantissa, exponent = np.frexp(u)
    whole, rest = np.divmod(exponent, k)
    # First guess, within a few per cent: tables of 2^(rest / k), a chord for the mantissa's root.
    chord = 1 - (1 - round(0.5 ** (1 / k), 6)) * (2 - 2 * mantissa)
    table = np.array([round(2 ** (i / k), 6) for i in range(k)])
    found = np.ldexp(chord * table[rest], whole)
    for _ in range(_NEWTON_STEPS if k > 1 else 0):
        power = np.ones_like(found)
        for _ in range(k - 1):
            power = power * found
        found = ((k - 1) * found + u / power) / k
    return found if k > 1 else u


def grid_values(element: FloatFormat) -> tuple[float, ...]:
    """Return the values of a small format in order, zero once."""
    codes = np.arange(1 << element.bits, dtype=element.dtype)
    return tuple(float(value) for value in np.unique(element.decode(codes)))
