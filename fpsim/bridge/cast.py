# SPDX-License-Identifier: Apache-2.0
"""Casts: how float rows become the operands of a matrix product on a unit.

A row runs along K, the axis that is summed. Numbers that vary along K go into the unit: codes,
scale codes, integer exponents. A scale that is constant along K (per tensor, token or output
channel) does not affect how sums round, so hardware applies it once, after the product. The bridge
does so too, with one float32 multiplication per operand (`Operand.factor`), activation first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.block_format import BlockFormat, Quantized
from fpsim.blocks.fields import Span
from fpsim.blocks.grids import Table
from fpsim.blocks.unit_view import unit_view
from fpsim.formats.floating import Format
from fpsim.formats.rounding import Rounding
from fpsim.units.operands import Operand, Scales

__all__ = ["BlockCast", "Cast", "block_operand", "same_blocks"]


def same_blocks(a: Operand, b: Operand) -> tuple[Operand, Operand]:
    """Return both operands with scales per equally many elements, if both have scales."""
    if a.scales is None or b.scales is None or a.block == b.block:
        return a, b
    block = math.gcd(a.block, b.block)
    return a.with_block(block), b.with_block(block)


class Cast(Protocol):
    """A cast of one operand; any object with this attribute and method is one."""

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
    """Cast to a `BlockFormat`: block scales go to the unit, row and tensor scales are factors.

    The unit's codes are those of `BlockFormat.widen`. ``tensor_scale`` is a static scale: given,
    not found in the rows. A format with a single scale per tensor takes it as that scale.

    Raises:
        FpsimError: a real scale per block, signs of rows, stochastic rounding, or a static scale
            that is not positive and finite or for which the format has no place.
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
        """Whether the static scale is the only scale."""
        return (
            self.tensor_scale is not None
            and not self.fmt.tensor_range
            and (self.fmt.block is Span.TENSOR and self.fmt.scale is None and not self.fmt.is_coded)
        )

    @property
    def element(self) -> Format:
        """Element format of the unit's codes."""
        return self.fmt.wide

    def quantize(self, rows: NDArray[np.float32]) -> Operand:
        """Return rows (R, K) as an operand; raises FpsimError for NaN and infinities."""
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
        return Operand(codes, self.element, factor=scale)


def block_operand(fmt: BlockFormat, quantized: Quantized) -> Operand:
    """Return rows (R, K), cast along K to a block format, as an operand of a unit."""
    wide = unit_view(fmt, quantized)
    factor = wide.factor
    if factor is not None and factor.ndim == 0:
        factor = factor.reshape(1, 1)
    scales = None
    if wide.scales is not None:
        scales = Scales.of_rows(wide.scales, wide.scale, wide.block)
    return Operand(wide.codes, wide.element, scales, factor)
