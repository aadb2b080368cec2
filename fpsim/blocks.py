# SPDX-License-Identifier: Apache-2.0
"""Block formats: elements that share a scale.

OCP MX v1.0: a block of k elements shares one E8M0 scale X, and element i means ``X * P_i``. The
conversion of its section 6.3 divides by a power of two derived from the largest magnitude; which
one is the scale rule. With ``amax = m * 2^e``, 1 <= m < 2, and E, L, M the exponent and value of
the largest element and its mantissa bits (E2M1: 2, 6, 1):

    floor   X = 2^(e - E)                               OCP; magnitudes above L saturate
    rceil   X = 2^(e - E), doubled if m * 2^E > L       nothing saturates
    ceil    X = 2^(e - E), doubled if m > 1             nothing saturates
    even    X = 2^(e - E), doubled if m >= 2 - 2^-(M+1) amax rounded to M bits first
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.errors import FpsimError, nearest
from fpsim.formats import FloatFormat, check_codes
from fpsim.kernels import blocks as kernels
from fpsim.kernels.encode import VECTOR_MINIMUM, fits_float32, format_parameters
from fpsim.kernels.rounding import mode_constants
from fpsim.names import E8M0, get_format
from fpsim.rounding import Overflow, Rounding

__all__ = ["BLOCK_FORMATS", "BlockFormat", "Quantized", "ScaleRule", "get_block_format"]


#: Block sizes that make one vector.
VECTOR_BLOCKS = (16, 32, 64)
E8M0_NAN = 255


class ScaleRule(StrEnum):
    """How the shared power of two follows from the largest magnitude; see the module."""

    FLOOR = "floor"
    RCEIL = "rceil"
    CEIL = "ceil"
    EVEN = "even"


@dataclass(frozen=True)
class Quantized:
    """A tensor in a block format.

    ``codes`` has the tensor's shape; ``scales`` has ceil(K / block) entries along ``axis`` and
    otherwise the same shape.
    """

    codes: NDArray[Any]
    scales: NDArray[Any]
    axis: int


@dataclass(frozen=True)
class BlockFormat:
    """Elements of one format in blocks that share an E8M0 scale.

    Args:
        name: what `get_block_format` knows it by.
        element: element format; finite or not, it is encoded with saturation.
        block: elements per scale; the last block along the axis may be shorter.
        rule: how the scale follows from the block.
        rounding: how elements are rounded; any deterministic mode.
    """

    name: str
    element: FloatFormat
    block: int
    rule: ScaleRule = ScaleRule.FLOOR
    rounding: Rounding = Rounding.RNE
    scale: FloatFormat = field(default=E8M0, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.block, int) or self.block < 1:
            raise FpsimError(f"block: {self.block!r} is not a positive integer")
        if self.rounding is Rounding.SR:
            raise FpsimError("rounding: a block format rounds deterministically, not 'sr'")

    @property
    def bits_per_element(self) -> float:
        """Storage per element, scales included."""
        return self.element.bits + self.scale.bits / self.block

    def with_rule(self, rule: str) -> BlockFormat:
        """Return the same format under another scale rule."""
        try:
            return replace(self, rule=ScaleRule(rule))
        except ValueError:
            allowed = [r.value for r in ScaleRule]
            raise FpsimError(
                f"rule: {rule!r} is not one of {', '.join(allowed)}{nearest(rule, allowed)}"
            ) from None

    def quantize(self, x: ArrayLike, axis: int = -1, nan: str = "scale") -> Quantized:
        """Return codes and scale codes of ``x``.

        A block that holds NaN or an infinity gets the NaN scale (255), as OCP MX allows, with all
        its codes 0; ``nan="error"`` raises instead. An all-zero block gets scale code 0. Scale
        exponents clamp to -127..127. -0 keeps its sign.

        Args:
            x: float16, float32 or float64, at least one dimension.
            axis: the axis blocks run along.
            nan: ``scale`` or ``error``.

        Raises:
            FpsimError: an axis that does not exist, a wrong dtype, or NaN under ``nan="error"``.
        """
        if nan not in ("scale", "error"):
            raise FpsimError(f"nan: {nan!r} is not one of scale, error")
        array = np.asarray(x)
        if array.dtype.kind != "f":
            raise FpsimError(f"x: dtype {array.dtype} is not floating point")
        if array.dtype == np.float16:
            array = array.astype(np.float32)
        axis = _check_axis(axis, array.ndim)
        rows = np.ascontiguousarray(np.moveaxis(array, axis, -1))
        length = rows.shape[-1]
        flat = rows.reshape(-1, length)
        groups = -(-length // self.block)
        codes = np.empty(flat.shape, dtype=self.element.dtype)
        scales = np.empty((flat.shape[0], groups), dtype=np.uint8)
        bad = self._run(flat, codes, scales) if flat.size else -1
        if bad >= 0 and nan == "error":
            raise FpsimError(f"x: NaN or infinity in row {bad} has no value in {self.name}")
        leading = rows.shape[:-1]
        return Quantized(
            codes=np.moveaxis(codes.reshape(*leading, length), -1, axis),
            scales=np.moveaxis(scales.reshape(*leading, groups), -1, axis),
            axis=axis,
        )

    def _run(self, rows: NDArray[Any], codes: NDArray[Any], scales: NDArray[Any]) -> int:
        """Fill ``codes`` and ``scales``; return the first row with NaN or infinity, or -1."""
        element = self.element
        rule = list(ScaleRule).index(self.rule)
        limits = element.limits(self.rounding, Overflow.SATURATE)
        if self._fits_vectors(rows):
            limit = kernels.bump_limit(
                rule, element.max_value, element.exponent_max, element.mantissa_bits
            )
            reals, integers = format_parameters(element.layout, limits, 0, wide=False)
            run = kernels.mx_quantizer(self.block, str(self.rounding))
            flat = (rows.reshape(-1), codes.reshape(-1), scales.reshape(-1))
            run(*flat, reals, integers, limit, element.exponent_max)
            nan_rows = np.flatnonzero((scales == E8M0_NAN).any(axis=1))
            return int(nan_rows[0]) if nan_rows.size else -1
        return int(
            kernels.mx_quantize(
                rows,
                self.block,
                rule,
                element.exponent_max,
                element.max_value,
                element.layout,
                limits,
                mode_constants(self.rounding),
                codes,
                scales,
            )
        )

    def _fits_vectors(self, rows: NDArray[Any]) -> bool:
        """Return whether the vector kernel is exact: whole float32 blocks, rounded to nearest.

        Dividing by the scale is exact in float32 but for values that underflow it, and those
        round to zero in the nearest modes either way.
        """
        return (
            rows.dtype == np.float32
            and rows.shape[1] % self.block == 0
            and self.block in VECTOR_BLOCKS
            and rows.size >= VECTOR_MINIMUM
            and self.rounding in (Rounding.RNE, Rounding.RNA)
            and self.element.exponent_max >= 1
            and self.element.bits <= 8
            and self.element.has_zero
            and fits_float32(self.element.layout, 0)
        )

    def dequantize(self, quantized: Quantized) -> NDArray[np.float64]:
        """Return the values ``X * P_i`` as float64, exact; NaN under a NaN scale."""
        codes = check_codes(quantized.codes, self.element, "codes")
        scales = self.scale.decode(quantized.scales)
        length = codes.shape[quantized.axis]
        spread = np.repeat(scales, self.block, axis=quantized.axis)
        spread = np.take(spread, np.arange(length), axis=quantized.axis)
        return self.element.decode(codes) * spread


def _check_axis(axis: int, ndim: int) -> int:
    if not isinstance(axis, int) or not -ndim <= axis < ndim:
        raise FpsimError(f"axis: {axis!r} does not exist in an array of {ndim} dimensions")
    return axis % ndim


def _mx(name: str, element: str, rule: ScaleRule = ScaleRule.FLOOR) -> BlockFormat:
    fmt = get_format(element)
    assert isinstance(fmt, FloatFormat)
    return BlockFormat(name, fmt, block=32, rule=rule)


#: Named block formats (OCP MX v1.0); ``name-rule`` selects another scale rule.
BLOCK_FORMATS: dict[str, BlockFormat] = {
    fmt.name: fmt
    for fmt in (
        _mx("mxfp4", "e2m1"),
        _mx("mxfp6-e2m3", "e2m3"),
        _mx("mxfp6-e3m2", "e3m2"),
        _mx("mxfp8-e4m3", "e4m3fn"),
        _mx("mxfp8-e5m2", "e5m2"),
    )
}


def get_block_format(name: str | BlockFormat) -> BlockFormat:
    """Return the block format called ``name``, such as ``mxfp4`` or ``mxfp4-rceil``.

    Raises:
        FpsimError: no such format, with the nearest name.
    """
    if isinstance(name, BlockFormat):
        return name
    key = str(name).strip().lower()
    if key in BLOCK_FORMATS:
        return BLOCK_FORMATS[key]
    base, _, rule = key.rpartition("-")
    if base in BLOCK_FORMATS:
        return BLOCK_FORMATS[base].with_rule(rule)
    known = list(BLOCK_FORMATS)
    raise FpsimError(
        f"block format: {name!r} is not one of {', '.join(known)}{nearest(key, known)}"
    )
