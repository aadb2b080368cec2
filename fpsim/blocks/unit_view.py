# SPDX-License-Identifier: Apache-2.0
"""A quantized tensor of any block format in the form a unit takes: codes, scales, a factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.blocks.fields import Span
from fpsim.blocks.quantized import Quantized, check_axis
from fpsim.blocks.scale_rules import ScaleRule
from fpsim.blocks.widen import Wide, widen
from fpsim.formats.names import E8M0

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = ["unit_view"]

_E8M0_BIAS = 127


def unit_view(fmt: BlockFormat, quantized: Quantized) -> Wide:
    """Return a tensor in the form a unit takes.

    Scales of rows and tensors become the ``factor``. With a scale per sign, ``scales`` have one
    more, last axis of two; QRazor's powers of two become E8M0 codes.

    Raises:
        FpsimError: parts that do not fit the format, or a real scale per block.
    """
    if fmt.scale is not None and not (fmt.signs or fmt.base_bits):
        return widen(fmt, quantized)
    codes = quantized.codes
    axis = check_axis(quantized.axis, codes.ndim)
    outer = quantized.tensor_scale
    if isinstance(fmt.block, Span):
        scales = quantized.scales if fmt.scale is None else fmt.scale.decode(quantized.scales)
        own = scales.astype(np.float32)
        own = own if outer is None else own * outer
        return Wide(fmt.wide, codes, E8M0, None, codes.shape[axis], axis, own)
    if fmt.scale is None:
        raise FpsimError(
            f"block format: {fmt.name} has a real scale per block, which no unit takes"
        )
    assert isinstance(fmt.block, int)
    scale, codes_of_scales = fmt.scale, quantized.scales
    if fmt.rule is ScaleRule.RAZOR:  # powers of two 2^0..2^15 in a format of their own
        exponents = codes_of_scales.astype(np.int64) + scale.exponent_min
        scale, codes_of_scales = E8M0, (exponents + _E8M0_BIAS).astype(np.uint8)
    if quantized.negative_scales is not None:
        codes_of_scales = np.stack([codes_of_scales, quantized.negative_scales], axis=-1)
    factor: Any = None if outer is None else np.asarray(outer, np.float32)
    return Wide(fmt.wide, codes, scale, codes_of_scales, fmt.block, axis, factor)
