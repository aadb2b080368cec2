# SPDX-License-Identifier: Apache-2.0
"""Matrix operands as a unit takes them, and the casts that make them from float rows.

A row runs along K, the axis that is summed. Numbers that vary along K go into the unit: codes,
scale codes, integer exponents. A scale that is constant along K (per tensor, token or output
channel) cannot change which sums round, so hardware applies it once, after the product; so does the
bridge, as one float32 multiplication per operand (`Operand.factor`), activation first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat, Quantized
from fpsim.blocks.fields import Span
from fpsim.blocks.grids import Table
from fpsim.blocks.unit_view import unit_view
from fpsim.compute.operands import Prepared
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.names import E8M0
from fpsim.formats.rounding import Rounding
from fpsim.units.operands import Operand as RowOperand
from fpsim.units.operands import Scales, Side

__all__ = ["BlockCast", "Cast", "Operand", "block_operand", "same_blocks", "scaled_values"]


@dataclass(frozen=True)
class Operand:
    """Rows (R, K) of codes; ``scales`` (R, G) or, split by sign, (R, G, 2), one per ``block``.

    The value of an element is its code times its scale times ``factor`` (R, 1) or (1, 1). Integers
    without scales may have a zero point per row, ``zeros`` (R, 1): the value is then (code - zero)
    times ``factor``. Real ``offsets`` (R, G), one per ``block``, are added to code times scale. The
    unit multiplies the codes; `fpsim.bridge.product` adds the effect of zeros and offsets.
    """

    element: Format
    codes: NDArray[Any]
    scale: FloatFormat = E8M0
    scales: NDArray[Any] | None = None
    block: int = 1
    factor: NDArray[np.float32] | None = None
    zeros: NDArray[np.int64] | None = None
    offsets: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        integers = isinstance(self.element, FixedFormat) and not self.element.lsb
        if self.zeros is not None and not (integers and self.scales is None):
            raise FpsimError(
                f"zeros: a zero point per row needs integers without block scales, not "
                f"{self.element.name}"
            )
        if self.offsets is None:
            return
        groups = -(-self.codes.shape[1] // self.block)
        if self.offsets.shape != (self.codes.shape[0], groups):
            raise FpsimError(
                f"offsets: shape {self.offsets.shape} is not {(self.codes.shape[0], groups)}, one "
                f"per row and block of {self.block}"
            )

    @property
    def split(self) -> bool:
        """Whether elements of either sign have scales of their own."""
        return self.scales is not None and self.scales.ndim == 3

    def values(self) -> NDArray[np.float64]:
        """Return code times scale, or code minus zero, (R, K): exact in float64.

        Offsets are added to them, rounded once to float64.
        """
        values = scaled_values(self)
        if self.offsets is not None:
            values = values + self.spread_offsets
        return values if self.zeros is None else values - self.zeros

    @property
    def spread_offsets(self) -> NDArray[np.float64]:
        """The offset of every element, (R, K)."""
        assert self.offsets is not None
        each = np.repeat(self.offsets.astype(np.float64), self.block, axis=1)
        return each[:, : self.codes.shape[1]]

    def dequantize(self) -> NDArray[np.float64]:
        """Return `values` times ``factor``, rounded once to float64."""
        return self.values() if self.factor is None else self.values() * self.factor

    def rows(self, part: slice | NDArray[np.int64]) -> Operand:
        """Return some of the rows: a slice, or their indices."""
        factor = self.factor
        if factor is not None and factor.shape[0] > 1:
            factor = factor[part]
        scales = None if self.scales is None else self.scales[part]
        zeros = None if self.zeros is None else self.zeros[part]
        offsets = None if self.offsets is None else self.offsets[part]
        return replace(
            self, codes=self.codes[part], scales=scales, factor=factor, zeros=zeros, offsets=offsets
        )

    def with_block(self, block: int) -> Operand:
        """Return equal values with scales spread over smaller blocks that divide this one's."""
        if self.scales is None or block == self.block:
            return self
        groups = -(-self.codes.shape[1] // block)
        parts = self.block // block
        scales = np.ascontiguousarray(np.repeat(self.scales, parts, axis=1)[:, :groups])
        offsets = self.offsets
        if offsets is not None:
            offsets = np.repeat(offsets, parts, axis=1)[:, :groups]
        return replace(self, scales=scales, offsets=offsets, block=block)

    def turned(self) -> Operand:
        """Return equal rows in the order of memory of `prepared`, which then is no further copy."""
        codes = np.asfortranarray(self.codes)
        scales = self.scales
        if scales is not None and not self.split:
            scales = np.asfortranarray(scales)
        return replace(self, codes=codes, scales=scales)

    @cached_property
    def prepared(self) -> Prepared:
        """The rows as a unit takes its second operand, with K before R in memory."""
        scales = self.scales
        if scales is not None and not self.split:
            scales = scales[..., None]
        found = None if scales is None else Scales(scales, self.scale, self.block)
        side = Side("b", self.element, self.scale, self.split)
        return Prepared(RowOperand(self.codes, self.element, found).columns, side, None)


def same_blocks(a: Operand, b: Operand) -> tuple[Operand, Operand]:
    """Return both with scales per as many elements, if both have scales."""
    if a.scales is None or b.scales is None or a.block == b.block:
        return a, b
    block = math.gcd(a.block, b.block)
    return a.with_block(block), b.with_block(block)


def scaled_values(operand: Operand) -> NDArray[np.float64]:
    """Return code times scale of every element, exact in float64."""
    codes = operand.codes
    values = operand.element.decode(codes)
    if operand.scales is None:
        return np.asarray(values)
    scales = operand.scale.decode(np.ascontiguousarray(operand.scales))
    spread = np.repeat(scales, operand.block, axis=1)[:, : codes.shape[1]]
    if operand.split:
        assert isinstance(operand.element, FloatFormat)
        negative = (codes & operand.element.sign_bit) != 0
        spread = np.where(negative, spread[..., 1], spread[..., 0])
    return np.asarray(values * spread)


class Cast(Protocol):
    """How one operand becomes codes. Any object with this attribute and method will do."""

    @property
    def element(self) -> Format:
        """Element format of the codes."""

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rows (R, K) as an operand; all rows are one tensor.

        Raises:
            FpsimError: NaN, infinities, or values without a code.
        """


@dataclass(frozen=True)
class BlockCast:
    """Cast to a `BlockFormat`: scales of blocks for the unit, of rows and tensors as factors.

    The unit sees the wide codes of `BlockFormat.widen`.
    ``tensor_scale`` is static: given instead of found in the rows. A format whose one scale is of
    the whole tensor takes it for that scale.

    Raises:
        FpsimError: a real scale per block, signs of rows, stochastic rounding, or a static scale
            that is not positive and finite or that the format has no place for.
    """

    fmt: BlockFormat
    tensor_scale: float | None = None

    def __post_init__(self) -> None:
        fmt = self.fmt
        if fmt.scale is None and not isinstance(fmt.block, Span):
            raise FpsimError(
                f"recipe: {fmt.name} has a real scale per block; give it a format, such as e8m23"
            )
        if fmt.signs and isinstance(fmt.block, Span):
            raise FpsimError(f"recipe: {fmt.name} has scales by sign, which need blocks along K")
        if Rounding.SR in (fmt.rounding, fmt.scale_rounding):
            raise FpsimError(f"recipe: {fmt.name} rounds by 'sr', which needs random integers")
        if self.tensor_scale is not None:
            scale = np.float32(self.tensor_scale)
            object.__setattr__(self, "tensor_scale", float(scale))
            if not (np.isfinite(scale) and scale > 0):
                raise FpsimError(f"tensor_scale: {scale} is not positive and finite")
            if not (fmt.tensor_range or self._is_static):
                raise FpsimError(f"tensor_scale: {fmt.name} has no scale of the whole tensor")

    @property
    def _is_static(self) -> bool:
        """Whether the static scale is the only one."""
        return (
            self.tensor_scale is not None
            and not self.fmt.tensor_range
            and (self.fmt.block is Span.TENSOR and self.fmt.scale is None and not self.fmt.is_coded)
        )

    @property
    def element(self) -> Format:
        """Element format of the codes that the unit sees."""
        return self.fmt.wide

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rows (R, K) as an operand; raises as `Cast.quantize` does."""
        if self._is_static:
            return self._static(rows)
        given = None if self.tensor_scale is None else np.float32(self.tensor_scale)
        quantized = self.fmt.quantize(rows, axis=1, nan="error", tensor_scale=given)
        return block_operand(self.fmt, quantized)

    def _static(self, rows: NDArray[np.float32]) -> Operand:
        assert self.tensor_scale is not None
        assert not isinstance(self.fmt.element, Table)
        if not np.isfinite(rows).all():
            raise FpsimError("x: NaN and infinities have no code")
        scale = np.full((1, 1), self.tensor_scale, np.float32)
        codes = self.fmt.element.encode(rows / scale, self.fmt.rounding, "saturate")
        return Operand(self.element, codes, factor=scale)


def block_operand(fmt: BlockFormat, quantized: Quantized) -> Operand:
    """Return rows (R, K) in a block format, cast along K, as a unit takes them."""
    wide = unit_view(fmt, quantized)
    factor = wide.factor
    if factor is not None and factor.ndim == 0:
        factor = factor.reshape(1, 1)
    block = 1 if wide.scales is None else wide.block
    return Operand(wide.element, wide.codes, wide.scale, wide.scales, block, factor)
