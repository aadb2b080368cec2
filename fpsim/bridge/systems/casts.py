# SPDX-License-Identifier: Apache-2.0
"""Casts of inputs that systems use: symmetric grids, integers with a zero point, QRazor.

A scale is rounded to float32 before values are divided by it, so codes and values agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, nearest
from fpsim.blocks.block_format import BLOCK_FORMATS, get_block_format
from fpsim.bridge.cast import BlockCast, Cast
from fpsim.bridge.systems.hadamard import hadamard
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.names import E8M0, get_format
from fpsim.units.operands import Operand, Scales

__all__ = [
    "GridCast",
    "GroupCast",
    "RangeCast",
    "RazorCast",
    "TurnedCast",
    "check_finite",
    "input_cast",
]

_E8M0_BIAS = 127
#: Values whose scales are searched at once.
SEARCHED_TOGETHER = 1 << 16
#: Largest values of a row whose saturation bounds the error of a scale.
LARGEST = 32
#: OmniQuant's limits of scales and of zero points, from its code.
_SMALLEST, _LARGEST, _FARTHEST = 1e-5, 1e4, 1e4


def check_finite(rows: NDArray[np.float32], element: Format) -> None:
    """Raise `FpsimError` for rows with NaN or infinity."""
    if not np.isfinite(rows).all():
        raise FpsimError(f"NaN or infinity has no value in {element.name}")


@dataclass(frozen=True)
class GridCast:
    """Symmetric: s = clip max|x| / M per row, or one static scale; x / s rounded half to even.

    M is the element's largest value, so ``int4s`` is S(4) of the literature: max / 7. A row of
    zeros has s = 1. Values beyond the grid saturate.
    """

    element: Format
    clip: float = 1.0
    scale: float | None = None  #: static scale of the whole tensor
    search: int = 0  #: number of shares of each row's largest magnitude to try: 1, 0.99, ...

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rows (R, K) as an operand.

        Raises:
            FpsimError: NaN or infinity.
        """
        check_finite(rows, self.element)
        if self.scale is not None:
            scale = np.full((1, 1), self.scale, np.float32)
        else:
            scale = self._scale(np.abs(rows).max(axis=1, keepdims=True) * np.float32(self.clip))
        if self.search:
            # So few rows at a time stay in the processor's cache.
            count = max(1, SEARCHED_TOGETHER // rows.shape[1])
            parts = [slice(i, i + count) for i in range(0, len(rows), count)]
            scale = np.concatenate(
                [self._searched(rows[part].astype(np.float64), scale[part]) for part in parts]
            )
        codes = self.element.encode(rows.astype(np.float64) / scale, "rne", "saturate")
        one = scale.size == 1 and scale[0, 0] == 1
        return Operand(codes, self.element, factor=None if one and self.scale else scale)

    def _scale(self, largest: NDArray[np.float32]) -> NDArray[np.float32]:
        scale = np.asarray(largest / np.float32(self.element.max_value), np.float32)
        return np.where(scale > 0, scale, np.float32(1))

    def _searched(
        self, rows: NDArray[np.float64], scale: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the scale of each row with the least sum of |x^ - x|^2.4, the first of several.

        Scales shrink step by step, so the search of a row ends when saturation of its largest
        values alone costs more than the best scale does in all.
        """
        every = self.element.decode(np.arange(1 << self.element.bits))
        limit = np.abs(every[np.isfinite(every)]).max()
        ends = np.sort(np.abs(rows), axis=1)[:, -LARGEST:]
        best, chosen = np.full(scale.shape, np.inf), scale.copy()
        left, part = np.arange(len(rows)), rows
        for i in range(self.search):
            tried = np.asarray(scale[left] * np.float32(1 - i / 100), np.float32)
            lost = (np.maximum(ends[left] - limit * tried, 0) ** 2.4).sum(axis=1)
            going = lost <= best[left, 0] * (1 + 1e-9)
            if not going.all():
                left, tried = left[going], tried[going]
                part = rows[left]
            if not left.size:
                break
            codes = self.element.encode(part / tried, "rne", "saturate")
            wrong = np.abs(self.element.decode(codes) * tried - part) ** 2.4
            error = wrong.sum(axis=1, keepdims=True)
            chosen[left] = np.where(error < best[left], tried, chosen[left])
            best[left] = np.minimum(best[left], error)
        return chosen


@dataclass(frozen=True)
class RangeCast:
    """Integers with a zero point per row, A(b): s = clip (hi - lo) / (2^b - 1), z = round(-lo / s).

    ``zero_in_range``: lo <= 0 <= hi, as in GPTQ and QUIK; else z may lie outside the integers, as
    in OmniQuant, which clamps s to 1e-5..1e4. The unit's codes are signed integers q - 2^(b-1).
    """

    bits: int = 4
    clip: float = 1.0
    zero_in_range: bool = True

    @property
    def element(self) -> FixedFormat:
        """Two's complement integers of ``bits`` bits."""
        return FixedFormat(self.bits)

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rows (R, K) as an operand with zero points.

        Raises:
            FpsimError: NaN or infinity.
        """
        check_finite(rows, self.element)
        low = rows.min(axis=1, keepdims=True) * np.float32(self.clip)
        high = rows.max(axis=1, keepdims=True) * np.float32(self.clip)
        return self.between(rows, low, high)

    def between(
        self, rows: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> Operand:
        """Cast rows with given ranges.

        Args:
            rows: (R, K).
            low: the lower end of each row's range, (R, 1).
            high: the upper end of each row's range, (R, 1).

        Returns:
            The operand.
        """
        levels, half = (1 << self.bits) - 1, 1 << (self.bits - 1)
        if self.zero_in_range:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        scale = np.asarray((high - low) / np.float32(levels), np.float32)
        if self.zero_in_range:
            scale = np.where(scale > 0, scale, np.float32(2 / levels))  # range -1..1
        else:
            scale = np.clip(scale, np.float32(_SMALLEST), np.float32(_LARGEST))
        zero = np.clip(np.rint(-low.astype(np.float64) / scale), -_FARTHEST, _FARTHEST)
        code = np.clip(np.rint(rows.astype(np.float64) / scale) + zero, 0, levels)
        codes = self.element.encode(code - half)
        return Operand(codes, self.element, factor=scale, zeros=zero.astype(np.int64) - half)


@dataclass(frozen=True)
class RazorCast:
    """QRazor (arXiv 2501.13331): by groups, 4 of ``base_bits`` bits with a static scale.

    In a group, bits of magnitudes below the top three bits of the largest are rounded away, half to
    even as in the code (or half up in magnitude, ``half_up``), and a carry into a fourth bit is
    cut. The number of dropped bits is the exponent of the group's scale.
    """

    base_bits: int = 16
    group: int = 16
    scale: float | None = None  #: static scale of the tensor; None: by its largest magnitude
    half_up: bool = False
    by_row: bool = False  #: whether each row has a base scale

    @property
    def element(self) -> Format:
        """Sign and three bits of magnitude."""
        return get_format("int4s")

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rows (R, K) as an operand.

        Raises:
            FpsimError: NaN or infinity.
        """
        check_finite(rows, self.element)
        top = (1 << (self.base_bits - 1)) - 1
        axis = 1 if self.by_row else None
        found = np.abs(rows).max(axis=axis, keepdims=True, initial=0) / np.float32(top)
        if self.scale is not None:
            found = np.full((1, 1), self.scale)
        return self.under(rows, np.where(found > 0, found, 1).astype(np.float32))

    def under(self, rows: NDArray[np.float32], factor: NDArray[np.float32]) -> Operand:
        """Return rows (R, K) with given scales of the base integers, (R, 1) or (1, 1)."""
        top = (1 << (self.base_bits - 1)) - 1
        base = np.clip(np.rint(rows.astype(np.float64) / factor), -top, top)
        count, length = base.shape
        padded = np.pad(base, ((0, 0), (0, -length % self.group)))
        groups = padded.reshape(count, -1, self.group)
        bits = np.frexp(np.abs(groups).max(axis=2))[1]
        dropped = np.maximum(bits - 3, 0)
        short = np.ldexp(np.abs(groups), -dropped[:, :, None])
        kept = np.floor(short + 0.5) if self.half_up else np.rint(short)
        values = np.copysign(np.minimum(kept, 7), groups).reshape(count, -1)[:, :length]
        scales = Scales.of_rows((dropped + _E8M0_BIAS).astype(np.uint8), E8M0, self.group)
        return Operand(self.element.encode(values), self.element, scales, factor)


@dataclass(frozen=True)
class GroupCast:
    """Integers in groups along a row, each with an FP16 scale and, unless symmetric, a zero point.

    The unit multiplies code minus zero as one integer with one more bit, with the group's scale; so
    keys and values of a cache can be cast this way, even if cast by token and summed over tokens.
    ``group`` 0: the whole row.
    """

    bits: int = 4
    group: int = 0
    clip: float = 1.0
    symmetric: bool = False

    @property
    def element(self) -> FixedFormat:
        """Two's complement integers that hold code minus zero."""
        return FixedFormat(self.bits + (not self.symmetric))

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rows (R, K) as an operand.

        Raises:
            FpsimError: NaN or infinity.
        """
        check_finite(rows, self.element)
        count, length = rows.shape
        size = self.group or length
        scale = get_format("e5m10")
        assert isinstance(scale, FloatFormat)
        groups = np.pad(rows, ((0, 0), (0, -length % size))).reshape(count, -1, size)
        low = np.minimum(groups.min(axis=2, keepdims=True), 0) * np.float64(self.clip)
        high = np.maximum(groups.max(axis=2, keepdims=True), 0) * np.float64(self.clip)
        levels, half = (1 << self.bits) - 1, 1 << (self.bits - 1)
        step = np.maximum(high, -low) / (half - 1) if self.symmetric else (high - low) / levels
        codes = scale.encode(step, "rne", "saturate")
        step = scale.decode(codes)
        codes, step = np.where(step > 0, codes, scale.encode(1.0)), np.where(step > 0, step, 1.0)
        if self.symmetric:
            found = np.clip(np.rint(groups / step), -half, half - 1)
        else:
            zero = np.clip(np.rint(-low / step), 0, levels)
            found = np.clip(np.rint(groups / step) + zero, 0, levels) - zero
        found = found.reshape(count, -1)[:, :length]
        scales = Scales.of_rows(codes[..., 0], scale, size)
        return Operand(self.element.encode(found), self.element, scales)


@dataclass(frozen=True)
class TurnedCast:
    """Another cast of rows multiplied by the Hadamard matrix of their length.

    Applied to queries and keys after their positions, the rotation leaves scores unchanged.
    """

    cast: Cast

    @property
    def element(self) -> Format:
        """Element format of the inner cast."""
        return self.cast.element

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rotated rows (R, K) as an operand; raises the errors of the inner cast."""
        return self.cast.quantize(np.asarray(rows @ hadamard(rows.shape[1]), np.float32))


_NAMED = {"fp16": "e5m10", "bf16": "e8m7"}
_HELP = "float, fp16, bf16, int4, int8, int4-asym, int8-asym, an element (e2m1) or a block format"


def input_cast(text: str, clip: float = 1.0) -> Cast | None:
    """Return the cast of inputs named by a recipe's option.

    Args:
        text: ``float`` (none); ``fp16``, ``bf16`` (no scale); an element format such as ``int4``
            (symmetric, a scale per token) or ``e2m1``; ``int4-asym``; the name of a block format.
        clip: factor of scales per token.

    Returns:
        The cast, or None for ``float``.

    Raises:
        FpsimError: another text.
    """
    if text == "float":
        return None
    if text in _NAMED:
        return GridCast(get_format(_NAMED[text]), scale=1.0)
    if text in BLOCK_FORMATS:
        return BlockCast(get_block_format(text))
    try:
        if text.endswith("-asym") and text[:-5].removeprefix("int").isdecimal():
            return RangeCast(int(text[3:-5]), clip)
        name = f"{text}s" if text.removeprefix("int").isdecimal() else text
        return GridCast(get_format(name), clip)
    except FpsimError:
        raise FpsimError(
            f"recipe: inputs: {text!r} is not one of {_HELP}{nearest(text, BLOCK_FORMATS)}"
        ) from None
