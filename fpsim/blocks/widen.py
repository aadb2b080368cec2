# SPDX-License-Identifier: Apache-2.0
"""From storage codes and metadata to a unit's view: wide codes and one plain scale per block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.blocks.fields import Span
from fpsim.blocks.grids import Table
from fpsim.blocks.meaning import has_row_tables, meaning, stored_grids
from fpsim.blocks.quantized import Block, Quantized, check_axis, scales_shape, spread, stored
from fpsim.blocks.scale_rules import RANGE_RULES
from fpsim.formats.floating import FixedFormat, FloatFormat, Format, NanCodes, Subnormals
from fpsim.formats.inputs import check_codes

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = [
    "Wide",
    "check_row_tables",
    "numbers",
    "wide_element",
    "wide_scale",
    "wide_scales",
    "widen",
]

#: Bits of an integer less its zero point: a byte unless the zero point is extreme.
ZERO_POINT_WIDTH = 8


@dataclass(frozen=True)
class Wide:
    """A tensor in the form a unit takes: an element's value is code times scale times ``factor``.

    ``codes`` has the tensor's shape and ``scales`` one code per ``block`` along ``axis`` (with
    tiles of two axes, one per tile in every row; of blocks that are rows or tensors, None).
    ``factor`` is float32: one number or an array with 1 along ``axis``; None: 1.
    """

    element: Format
    codes: NDArray[Any]
    scale: FloatFormat
    scales: NDArray[Any] | None
    block: int
    axis: int
    factor: Any = None


def wide_scale(fmt: BlockFormat) -> FloatFormat:
    """Return the format of the scales that a unit sees."""
    assert fmt.scale is not None
    if fmt.macro is None:
        return fmt.scale
    scale = fmt.scale
    return FloatFormat(
        scale.exponent_bits,
        fmt.macro.bits,
        scale.bias,
        signed=False,
        nan=NanCodes.TOP,
        subnormals=Subnormals.NONE,
    )


def wide_element(fmt: BlockFormat) -> Format:
    """Return the format of the codes that a unit sees."""
    if fmt.is_coded:
        return meaning(fmt).wide
    assert not isinstance(fmt.element, Table)
    if fmt.rule in RANGE_RULES:
        return FixedFormat(ZERO_POINT_WIDTH)
    return fmt.element


def widen(fmt: BlockFormat, quantized: Quantized) -> Wide:
    """Return the wide codes and scales of a tensor in a block format of scaled blocks.

    Raises:
        FpsimError: parts that do not fit the format, real scales, one scale per sign, QRazor, or
            a zero point that leaves 8 bits.
    """
    if fmt.scale is None or fmt.signs or fmt.base_bits:
        raise FpsimError(f"block format: {fmt.name} has no plain scale per block to widen to")
    codes, axis = _checked(fmt, quantized)
    scales = _scale_codes(fmt, quantized, codes.shape, axis)
    divisor = meaning(fmt).divisor if fmt.is_coded else 1
    above = np.float32(1)
    if fmt.tensor_range:
        above = _tensor_scale(fmt, quantized, codes.shape, axis)  # type: ignore[assignment]
    factor: Any = (np.asarray(above, np.float64) / divisor).astype(np.float32)
    if not fmt.tensor_range and divisor == 1:
        factor = None
    wide = _wide_codes(fmt, quantized, codes, axis)
    if isinstance(fmt.block, Span):
        row = fmt.scale.decode(scales).astype(np.float32)
        own = row if factor is None else row * factor
        return Wide(wide_element(fmt), wide, fmt.scale, None, codes.shape[axis], axis, own)
    if fmt.macro is not None:
        scales = _with_macros(fmt, quantized, scales, codes.shape, axis)
    scales = _spread_across(fmt.block, scales, codes, axis)
    block = fmt.block[1] if isinstance(fmt.block, tuple) else fmt.block
    return Wide(wide_element(fmt), wide, wide_scale(fmt), scales, block, axis, factor)


def wide_scales(fmt: BlockFormat, quantized: Quantized) -> NDArray[Any]:
    """Return scale codes of the format's scale, without the number of a variant."""
    codes, axis = _checked(fmt, quantized)
    return _scale_codes(fmt, quantized, codes.shape, axis)


def numbers(fmt: BlockFormat, quantized: Quantized) -> NDArray[np.float64]:
    """Return W s / D s_t, the values of a format with codes of its own."""
    codes, axis = _checked(fmt, quantized)
    what = meaning(fmt)
    assert fmt.scale is not None
    scales = _scale_codes(fmt, quantized, codes.shape, axis)
    scale = fmt.scale
    if fmt.macro is not None:
        scales, scale = _with_macros(fmt, quantized, scales, codes.shape, axis), wide_scale(fmt)
    if fmt.top is not None:
        held = what.wide.decode(_wide_codes(fmt, quantized, codes, axis))
    else:
        held = what.decoded[_where(fmt, quantized, codes, axis)]
    values = held * spread(scale.decode(scales), fmt.block, codes.shape, axis)
    if what.divisor != 1:
        values = values / what.divisor
    if fmt.tensor_range:
        values = values * np.float64(_tensor_scale(fmt, quantized, codes.shape, axis))
    return np.asarray(values)


def _checked(fmt: BlockFormat, quantized: Quantized) -> tuple[NDArray[Any], int]:
    if not isinstance(quantized, Quantized):
        raise FpsimError(f"quantized: {type(quantized).__name__} is not a Quantized")
    codes = check_codes(quantized.codes, fmt.element, "codes")
    return codes, check_axis(quantized.axis, codes.ndim)


def _tensor_scale(
    fmt: BlockFormat, quantized: Quantized, shape: tuple[int, ...], axis: int
) -> NDArray[Any]:
    wanted = () if fmt.outer == "tensor" else scales_shape(fmt.outer, shape, axis)
    return stored(quantized.tensor_scale, "tensor_scale", wanted, "f")


def _stored_variants(fmt: BlockFormat) -> int:
    """Return how many grids there are if their choice is stored in the scale, else 0."""
    count = stored_grids(fmt) if fmt.stored == "scale" else 0
    return count if count > 1 else 0


def _scale_codes(
    fmt: BlockFormat, quantized: Quantized, shape: tuple[int, ...], axis: int
) -> NDArray[Any]:
    """Return scale codes without the number of the variant."""
    assert fmt.scale is not None
    wanted = scales_shape(fmt.block, shape, axis)
    scales = stored(quantized.scales, "scales", wanted, "iu")
    count = _stored_variants(fmt)
    if not count:
        return check_codes(scales, fmt.scale, "scales")
    _below(scales, count << fmt.scale.magnitude_bits, "scales")
    low = (1 << fmt.scale.magnitude_bits) - 1
    return np.asarray(scales & low).astype(fmt.scale.dtype)


def _below(array: NDArray[Any], end: int, name: str) -> NDArray[np.intp]:
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < end:
        raise FpsimError(f"{name}: {int(array.max())} is not in 0..{end - 1}")
    return array.astype(np.intp)


def check_row_tables(fmt: BlockFormat, rows: tuple[int, ...]) -> None:
    """Raise FpsimError unless a format with a table per row has one for each of ``rows``."""
    count = math.prod(rows)
    if isinstance(fmt.element, Table) and fmt.element.rows not in (1, count):
        raise FpsimError(
            f"element: {fmt.name} has tables for {fmt.element.rows} rows, not for the {count} here"
        )


def _where(
    fmt: BlockFormat, quantized: Quantized, codes: NDArray[Any], axis: int
) -> tuple[NDArray[Any], ...]:
    """Return the indices of each element into tables (variants, ratios, codes)."""
    shape = codes.shape
    per_block = scales_shape(fmt.block, shape, axis)
    count = _stored_variants(fmt)
    variant: Any = 0
    if count:
        assert fmt.scale is not None
        scales = stored(quantized.scales, "scales", per_block, "iu")
        variant = spread(scales.astype(np.intp) >> fmt.scale.magnitude_bits, fmt.block, shape, axis)
    elif has_row_tables(fmt):
        rows = (*shape[:axis], 1, *shape[axis + 1 :])
        check_row_tables(fmt, rows)
        variant = np.arange(math.prod(rows)).reshape(rows)
    elif stored_grids(fmt) > 1:
        array = stored(quantized.variants, "variants", per_block, "iu")
        array = _below(array, stored_grids(fmt), "variants")
        variant = spread(array, fmt.block, shape, axis)
    ratio: Any = 0
    if fmt.levels:
        last = fmt.levels[-1].block
        array = stored(quantized.ratios, "ratios", _padded_shape(fmt, shape, axis, last), "iu")
        ratio = _spread_parts(_below(array, len(meaning(fmt).ratios), "ratios"), last, shape, axis)
    return variant, ratio, codes.astype(np.intp)


def _padded_shape(
    fmt: BlockFormat, shape: tuple[int, ...], axis: int, part: int
) -> tuple[int, ...]:
    """Return the shape of parts stored per sub-block, padding of the last block included."""
    groups = scales_shape(fmt.block, shape, axis)
    assert isinstance(fmt.block, int)
    each = fmt.block // part
    return (*groups[:axis], groups[axis] * each, *groups[axis + 1 :])


def _spread_parts(
    array: NDArray[Any], part: int, shape: tuple[int, ...], axis: int
) -> NDArray[Any]:
    if 0 in shape:
        return np.zeros(shape, dtype=array.dtype)
    return np.take(np.repeat(array, part, axis=axis), np.arange(shape[axis]), axis=axis)


def _spread_across(
    block: Block, scales: NDArray[Any], codes: NDArray[Any], axis: int
) -> NDArray[Any]:
    """Return scales of tiles once for every row."""
    if not isinstance(block, tuple):
        return scales
    other = codes.ndim - 1 if axis != codes.ndim - 1 else codes.ndim - 2
    repeated = np.repeat(scales, block[0], axis=other)
    return np.take(repeated, np.arange(codes.shape[other]), axis=other)


def _with_macros(
    fmt: BlockFormat,
    quantized: Quantized,
    scales: NDArray[Any],
    shape: tuple[int, ...],
    axis: int,
) -> NDArray[Any]:
    """Return codes of `wide_scale`: the exponent of the block and the significand of its macro."""
    macro = fmt.macro
    assert macro is not None
    assert fmt.scale is not None
    assert isinstance(fmt.block, int)
    stored_macros = stored(quantized.macros, "macros", scales_shape(macro.block, shape, axis), "iu")
    _below(stored_macros, 1 << macro.bits, "macros")
    each = np.repeat(stored_macros, macro.block // fmt.block, axis=axis)
    each = np.take(each, np.arange(scales.shape[axis]), axis=axis).astype(np.int64)
    wide = wide_scale(fmt)
    codes = (scales.astype(np.int64) << macro.bits) | each
    nan = fmt.scale.nan_code
    if nan is not None:
        codes = np.where(scales == nan, wide.nan_code or 0, codes)
    return np.asarray(codes).astype(wide.dtype)


def _wide_codes(
    fmt: BlockFormat, quantized: Quantized, codes: NDArray[Any], axis: int
) -> NDArray[Any]:
    if not fmt.is_coded:
        return _zero_pointed(fmt, quantized, codes, axis) if fmt.rule in RANGE_RULES else codes
    what = meaning(fmt)
    wide = what.wide_codes[_where(fmt, quantized, codes, axis)]
    if fmt.top is None or not codes.size:
        return np.ascontiguousarray(wide)
    top = fmt.top
    assert isinstance(what.wide, FixedFormat)
    shape = codes.shape
    tops = stored(quantized.tops, "tops", _padded_shape(fmt, shape, axis, top.block), "iu")
    _below(tops, top.block + 1 if top.is_stored else len(top.offsets), "tops")
    moved, signs = np.moveaxis(wide, axis, -1).copy(), np.moveaxis(codes, axis, -1)
    length = moved.shape[-1]
    pad = [(0, 0)] * (codes.ndim - 1) + [(0, -length % top.block)]
    groups = np.pad(moved, pad).reshape(*moved.shape[:-1], -1, top.block)
    plain = np.pad(signs, pad).reshape(groups.shape)
    tops = np.moveaxis(tops, axis, -1)[..., : groups.shape[-2]].astype(np.intp)
    sign_bit = 1 << (fmt.element.bits - 1)
    if top.is_stored:
        at = np.minimum(tops, top.block - 1)[..., None]
        code = np.take_along_axis(plain, at, axis=-1)
        value = what.wide_tops[0][code & (sign_bit - 1)]
        value = np.where(tops[..., None] < top.block, _signed(value, code & sign_bit, what.wide),
                         np.take_along_axis(groups, at, axis=-1))  # fmt: skip
    else:
        at = (plain & (sign_bit - 1)).argmax(axis=-1)[..., None]
        code = np.take_along_axis(plain, at, axis=-1)
        value = what.wide_tops[code & (sign_bit - 1), tops[..., None]]
        value = _signed(value, code & sign_bit, what.wide)
    np.put_along_axis(groups, at, value.astype(groups.dtype), axis=-1)
    flat = groups.reshape(*moved.shape[:-1], -1)[..., :length]
    return np.ascontiguousarray(np.moveaxis(flat, -1, axis))


def _signed(codes: NDArray[Any], negative: NDArray[Any], wide: FixedFormat) -> NDArray[Any]:
    mask = (1 << wide.width) - 1
    return np.where(negative != 0, -codes.astype(np.int64) & mask, codes.astype(np.int64))


def _zero_pointed(
    fmt: BlockFormat, quantized: Quantized, codes: NDArray[Any], axis: int
) -> NDArray[Any]:
    """Return q - z in 8 bits."""
    assert isinstance(fmt.element, FixedFormat)
    shape = codes.shape
    zero = stored(quantized.zero_points, "zero_points", scales_shape(fmt.block, shape, axis), "iu")
    moved = fmt.element.integers(codes) - spread(zero, fmt.block, shape, axis)
    limit = 1 << (ZERO_POINT_WIDTH - 1)
    if moved.size and not -limit <= int(moved.min()) <= int(moved.max()) < limit:
        far = int(zero[np.abs(zero) == np.abs(zero).max()].flat[0])
        raise FpsimError(f"zero_points: {far} leaves no 8-bit integer in {fmt.name}")
    return np.asarray(moved & 0xFF).astype(np.uint8)
