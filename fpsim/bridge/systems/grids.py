# SPDX-License-Identifier: Apache-2.0
"""Grids of weights for GPTQ: any cast with fixed scales, or integers in groups whose scale and
zero point are fitted at the group's first column."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat
from fpsim.bridge.cast import BlockCast, Cast, block_operand
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.names import get_format
from fpsim.units.operands import Operand, Scales

__all__ = ["FrozenGrid", "GroupGrid", "fit_range", "shrunk_scale"]

Matrix = NDArray[np.float64]
#: Format of scales that vary along K.
GROUP_SCALE = "e5m10"
#: Most bits of elements whose values are listed, for blocks that choose a grid.
LISTED_BITS = 4


@dataclass(frozen=True)
class _Nearest:
    """The values of an element in order, the midpoints between them, and their codes."""

    values: Matrix
    halfway: Matrix
    codes: NDArray[Any]

    @classmethod
    def of(cls, element: Format) -> _Nearest:
        every = np.arange(1 << element.bits)
        held = element.decode(every)
        finite = np.isfinite(held) & ~(np.signbit(held) & (held == 0))
        values, at = np.unique(held[finite], return_index=True)
        codes = every[finite][at].astype(element.dtype)
        return cls(values, (values[1:] + values[:-1]) / 2, codes)

    def __call__(self, x: Matrix) -> tuple[NDArray[Any], Matrix]:
        """Return codes and values; a midpoint rounds down."""
        at = np.searchsorted(self.halfway, x)
        return self.codes[at], self.values[at]


class FrozenGrid:
    """The grid of any cast, with the scales that the cast gives the original weight.

    A column unchanged by GPTQ gets exactly the codes of the cast: with H the identity the result is
    rounding to nearest.

    Args:
        cast: a cast of weights (N, K), with scales per row, per tensor or per block.
        weight: (N, K).

    Raises:
        FpsimError: a block format in which the largest element has codes of its own.
    """

    group = 0

    def __init__(self, cast: Cast, weight: NDArray[np.floating]) -> None:
        rows = np.asarray(weight, np.float32)
        self.nearest = cast.quantize(rows)
        # Columns are processed one by one.
        self.weight, self.codes = np.asfortranarray(rows), np.array(self.nearest.codes, order="F")
        self.zeros = 0 if self.nearest.zeros is None else self.nearest.zeros[:, 0]
        self._codes: NDArray[Any] | None = None  #: (choices, N, K)
        self._values: NDArray[np.float32] | None = None
        self._scales: Matrix | None = None
        fmt = cast.fmt if isinstance(cast, BlockCast) else None
        if fmt is not None and (fmt.is_coded or fmt.signs):
            if fmt.top is not None or fmt.element.bits > LISTED_BITS:
                raise FpsimError(
                    f"gptq: {fmt.name} has codes by the largest element of a block, or too many; "
                    "its scales cannot be frozen"
                )
            assert isinstance(cast, BlockCast)
            self._list(cast, fmt)
        else:
            unit = replace(self.nearest, codes=self._ones(), zeros=None)
            self._scales = np.asfortranarray(unit.dequantize() / self._one_value())
            self._grid = _Nearest.of(self.nearest.format)

    def _one_value(self) -> float:
        element = self.nearest.format
        return float(element.decode(element.encode(np.ones(1)))[0])

    def _ones(self) -> NDArray[np.unsignedinteger]:
        one = self.nearest.format.encode(np.ones(1))[0]
        return np.full_like(self.nearest.codes, one)

    def _list(self, cast: BlockCast, fmt: BlockFormat) -> None:
        """Keep code and value of every place for each storage code."""
        stored = fmt.quantize(self.weight, axis=1, nan="error", tensor_scale=cast.tensor_scale)
        operands = [
            block_operand(fmt, replace(stored, codes=np.full_like(stored.codes, code)))
            for code in range(1 << fmt.element.bits)
        ]
        self._codes = np.stack([operand.codes for operand in operands])
        self._values = np.stack([x.dequantize().astype(np.float32) for x in operands])

    def start(self, first: int, values: Matrix, importance: Matrix) -> None:
        """Do nothing: scales are fixed.

        Args:
            first: the group's first column.
            values: the group's updated columns, (N, g).
            importance: 1 / U_jj^2 of the columns, (g,).
        """

    def round(self, column: int, values: Matrix) -> Matrix:
        """Return the nearest values of the grid."""
        same = values == self.weight[:, column]
        if self._values is not None:
            assert self._codes is not None
            table = self._values[:, :, column].astype(np.float64)
            distance = np.abs(table - values)
            best = np.where(np.isfinite(distance), distance, np.inf).argmin(axis=0)[None]
            found = np.take_along_axis(self._codes[:, :, column], best, axis=0)[0]
            self.codes[:, column] = np.where(same, self.nearest.codes[:, column], found)
            chosen = np.take_along_axis(table, best, axis=0)[0]
            return np.where(same, self._nearest[:, column], chosen)
        assert self._scales is not None
        scale = self._scales[:, column]
        moved = values / scale
        if self.nearest.zeros is not None:
            moved = np.rint(moved) + self.zeros
        codes, found = self._grid(moved)
        self.codes[:, column] = np.where(same, self.nearest.codes[:, column], codes)
        return np.where(same, self._nearest[:, column], (found - self.zeros) * scale)

    @cached_property
    def _nearest(self) -> Matrix:
        """The weight cast without GPTQ, (N, K)."""
        return np.asfortranarray(self.nearest.dequantize())

    def operand(self) -> Operand:
        """Return the codes with the fixed scales."""
        return replace(self.nearest, codes=np.ascontiguousarray(self.codes))


# -- integers in groups --------------------------------------------------------------------------


def shrunk_scale(
    values: Matrix, low: Matrix, high: Matrix, levels: Matrix | int, steps: int, smallest: float
) -> tuple[Matrix, Matrix]:
    """Search the range that rounds best: shares p = 1 .. smallest, error |x^ - x|^2.4.

    The first of equal ones wins. It is the search of GPTQ's code (80 steps down to 0.2), with
    rounded zero points and the given range.

    Args:
        values: (N, g).
        low: lower end of each row's range, (N, 1).
        high: upper end of each row's range, (N, 1).
        levels: steps in a range, 2^b - 1; a number or (N, 1).
        steps: number of shares, 1 included.
        smallest: the smallest share.

    Returns:
        The ends of the range.
    """
    best = np.full(low.shape, np.inf)
    ends = low.copy(), high.copy()
    for share in 1 - np.arange(steps) * (1 - smallest) / steps:
        scale = _positive((high - low) * share / levels)
        zero = np.rint(-low * share / scale)
        code = np.clip(np.rint(values / scale) + zero, 0, levels)
        error = (np.abs((code - zero) * scale - values) ** 2.4).sum(axis=1, keepdims=True)
        better = error < best
        best = np.where(better, error, best)
        ends = np.where(better, low * share, ends[0]), np.where(better, high * share, ends[1])
    return ends


def _positive(scale: Matrix) -> Matrix:
    return np.where(scale > 0, scale, 1.0)


def fit_range(values: Matrix, symmetric: bool) -> tuple[Matrix, Matrix]:
    """Return the ends of each row's range (N, 1), with zero inside, or symmetric."""
    low = np.minimum(values.min(axis=1, keepdims=True), 0)
    high = np.maximum(values.max(axis=1, keepdims=True), 0)
    if symmetric:
        high = np.maximum(high, -low)
        low = -high
    return low, high


class GroupGrid:
    """Integers in groups along K, each with an FP16 scale and, unless symmetric, a zero point.

    The unit multiplies code minus zero as one wider integer, with the group's scale.

    Args:
        shape: shape of the weight, (N, K).
        group: columns per scale.
        bits: bits of all groups, or of each.
        symmetric: S(b) of the literature, max / (2^(b-1) - 1), without zero points.
        search: steps of `shrunk_scale`; 0: none.
        special: dINT4: 2^b - 3 steps, and two codes for plus and minus half a step.

    Raises:
        FpsimError: a group that does not divide the columns.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        group: int,
        bits: int | NDArray[np.int64],
        symmetric: bool = False,
        search: int = 0,
        special: bool = False,
    ) -> None:
        if group < 1 or shape[1] % group:
            raise FpsimError(f"recipe: group: {group} columns do not divide the layer's {shape[1]}")
        self.group, self.symmetric, self.search, self.special = group, symmetric, search, special
        count = shape[1] // group
        self.bits = np.broadcast_to(np.asarray(bits), (count,))
        self.scale = np.ones((shape[0], count))
        self.zero = np.zeros((shape[0], count), np.int64)
        #: In half steps with ``special``, else in steps.
        self.integers = np.zeros(shape, np.int64, order="F")
        self.format = get_format(GROUP_SCALE)

    def start(self, first: int, values: Matrix, importance: Matrix) -> None:
        """Fit a group's scale and zero point.

        Args:
            first: the group's first column.
            values: the group's updated columns, (N, g).
            importance: 1 / U_jj^2 of the columns, (g,).
        """
        at = first // self.group
        levels = (1 << int(self.bits[at])) - (3 if self.special else 1)
        low, high = fit_range(values, self.symmetric)
        if self.search:
            low, high = shrunk_scale(values, low, high, levels, self.search, 0.2)
        self.fix(at, low, high)

    def fix(self, at: int, low: Matrix, high: Matrix) -> None:
        """Set a group's range: round the scale to FP16, then choose the zero point for it.

        Args:
            at: number of the group.
            low: lower end of each row's range, (N, 1).
            high: upper end of each row's range, (N, 1).
        """
        levels = (1 << int(self.bits[at])) - (3 if self.special else 1)
        if self.symmetric:
            step = high / ((1 << (int(self.bits[at]) - 1)) - 1)
        else:
            step = (high - low) / levels
        rounded = self.format.decode(self.format.encode(step, "rne", "saturate"))
        scale = np.where(rounded > 0, rounded, 1.0)
        self.scale[:, at : at + 1] = scale
        if not self.symmetric:
            self.zero[:, at] = np.clip(np.rint(-low / scale), 0, levels)[:, 0]

    def round(self, column: int, values: Matrix) -> Matrix:
        """Return the nearest values of the group's grid."""
        return self.round_part(column, values[:, None])[:, 0]

    def round_part(self, first: int, values: Matrix) -> Matrix:
        """Return columns (N, m) of one group, rounded; ``first`` is the first of them."""
        at = first // self.group
        bits, scale = int(self.bits[at]), self.scale[:, at : at + 1]
        zero = self.zero[:, at : at + 1]
        quotient = values / scale
        if self.symmetric:
            half = 1 << (bits - 1)
            found = np.clip(np.rint(quotient), -half, half - 1).astype(np.int64)
        else:
            levels = (1 << bits) - (3 if self.special else 1)
            found = (np.clip(np.rint(quotient) + zero, 0, levels) - zero).astype(np.int64)
        if self.special:
            found = 2 * found
            found = np.where((quotient > 0.25) & (quotient <= 0.75), 1, found)
            found = np.where((quotient >= -0.75) & (quotient < -0.25), -1, found)
            scale = scale / 2
        self.integers[:, first : first + values.shape[1]] = found
        return np.asarray(found * scale)

    def round_all(self, weight: Matrix) -> Matrix:
        """Fit and round every group of a weight (N, K) without GPTQ, and return the values."""
        parts = []
        for first in range(0, weight.shape[1], self.group):
            part = weight[:, first : first + self.group]
            self.start(first, part, np.ones(part.shape[1]))
            parts.append(self.round_part(first, part))
        return np.concatenate(parts, axis=1)

    @property
    def element(self) -> Format:
        """Two's complement integers that hold code minus zero of every group, in (half) steps."""
        width = int(self.bits.max()) + (0 if self.symmetric else 1) + self.special
        return FixedFormat(width, -1 if self.special else 0)

    def operand(self) -> Operand:
        """Return the rounded weight for a unit."""
        element = self.element
        integers = np.ascontiguousarray(self.integers)
        codes = element.encode(integers / (2 if self.special else 1))
        scale = self.format
        assert isinstance(scale, FloatFormat)
        if self.group == self.integers.shape[1]:
            return Operand(codes, element, factor=self.scale.astype(np.float32))
        return Operand(codes, element, Scales.of_rows(scale.encode(self.scale), scale, self.group))
