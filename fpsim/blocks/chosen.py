# SPDX-License-Identifier: Apache-2.0
"""Casting to grids of arbitrary values: the best variant and scale, ratios of sub-blocks, tops.

All arithmetic is float32 as in `fpsim.blocks.scale_rules`; y = fl(x / d) or fl(x f) under the scale
with its ratio, then fl(y / factor) of the grid, and the nearest value of the grid. Errors are those
of decoded values, in float64 and summed in the order of the elements, sub-block by sub-block.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.blocks.grids import Fit, Macro
from fpsim.blocks.meaning import Meaning, all_variants, meaning
from fpsim.blocks.scale_rules import RANGE_RULES, Outer, block_scales
from fpsim.formats.floating import FloatFormat
from fpsim.kernels.codec import chosen_blocks as kernels

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = ["Chosen", "choose", "macro_codes", "macro_values"]

KINDS = {
    "mse": kernels.MSE,
    "mae": kernels.MAE,
    "abs_max": kernels.ABS_MAX,
}


class Chosen(NamedTuple):
    """The decisions of `choose` for whole blocks of rows (R, K)."""

    codes: NDArray[np.uint8]
    scales: NDArray[Any]  #: (R, G), without the number of the variant
    variants: NDArray[np.uint8]  #: (R, G)
    ratios: NDArray[np.uint8] | None  #: (R, S): index into the products of ratios
    tops: NDArray[np.uint8] | None  #: (R, T): index in its (sub-)block, or index of the offset


def choose(fmt: BlockFormat, x: NDArray[np.float32], block: int, outer: Outer) -> Chosen:
    """Return codes of finite rows (R, K), K a multiple of ``block``."""
    what = meaning(fmt)
    blocks = x.reshape(x.shape[0], -1, block)
    shape = blocks.shape[:2]
    amax, sign = _extremes(fmt, blocks)
    variants = len(what.grids)
    candidates = [(v, e) for v in range(variants) for e in fmt.expansions]
    scales, factors, decoded = [], [], []
    assert fmt.scale is not None
    multiply = False
    for v, expansion in candidates:
        divisors = block_scales(fmt, amax, outer, what.limits[v], expansion)
        factor = divisors.factor if sign is None else np.copysign(divisors.factor, sign)
        multiply = divisors.multiply
        scales.append(divisors.codes)
        factors.append(np.broadcast_to(factor, shape))
        decoded.append(np.copysign(fmt.scale.decode(divisors.codes), 1 if sign is None else sign))
    sub = fmt.levels[-1].block if fmt.levels else block
    searched = bool(fmt.levels) and fmt.levels[-1].by is Fit.MSE
    tops = _largest(fmt, x) if fmt.top is not None and fmt.top.is_stored else None
    if tops is not None:
        tops = np.where(scales[0].repeat(block // fmt.top.block, axis=1) == 0, fmt.top.block, tops)  # type: ignore[union-attr]
    parts = x.shape[1] // sub
    given = np.zeros((len(candidates), x.shape[0], parts), dtype=np.uint8)
    if fmt.levels and not searched:
        for c in range(len(candidates)):
            given[c] = _fitted(fmt, x, block, factors[c], multiply, tops)
    fixed = np.full(shape, -1, dtype=np.int8)
    if fmt.choice == "dialect":
        fixed = _dialects(what, blocks, factors[0])
    elif fmt.rule in RANGE_RULES:
        fixed = _zero_points(fmt, blocks, factors[0])
    kind = KINDS.get(str(fmt.choice), kernels.NO_CHOICE)
    codes = np.empty(x.shape, dtype=np.uint8)
    chosen = np.empty(shape, dtype=np.uint8)
    picked = np.empty((x.shape[0], parts), dtype=np.uint8)
    # Read-only arrays would have the kernel compiled once more.
    above = np.full(x.shape[0], 1.0) * np.ravel(np.asarray(outer.scale, np.float64))
    kernels.choose_blocks(
        x if x.flags.writeable else x.copy(),
        block,
        sub,
        multiply,
        np.ascontiguousarray(np.stack(factors)),
        np.stack(decoded),
        above,
        np.array([v for v, _ in candidates]),
        what.keys,
        what.sizes,
        what.values,
        np.array([float(r) for r in what.ratios], dtype=np.float32),
        given,
        fixed,
        kind,
        kernels.MSE if searched else kernels.NO_CHOICE,
        float(what.divisor),
        what.codes,
        codes,
        chosen,
        picked,
    )
    picks = np.stack(scales)
    scale = np.take_along_axis(picks, chosen[None].astype(np.intp), axis=0)[0]
    if sign is not None:
        scale = np.where(sign < 0, scale | fmt.scale.sign_bit, scale).astype(scale.dtype)
    if fmt.top is not None:
        scaled = _scaled(x, block, factors[0], multiply)
        tops = _top_codes(fmt, scaled, codes, tops)
    variant = (chosen // len(fmt.expansions)).astype(np.uint8)
    return Chosen(codes, scale, variant, picked if fmt.levels else None, tops)


def _extremes(
    fmt: BlockFormat, blocks: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the magnitude (R, G) that sets each scale and, for signed scales, its sign."""
    if fmt.rule in RANGE_RULES:
        zero = np.float32(0)
        return np.maximum(blocks.max(-1), zero) - np.minimum(blocks.min(-1), zero), None
    magnitude = np.abs(blocks)
    if not fmt.signed_max:
        return magnitude.max(axis=-1), None
    at = magnitude.argmax(axis=-1)
    top = np.take_along_axis(blocks, at[..., None], axis=-1)[..., 0]
    return np.abs(top), np.where(top < 0, np.float32(-1), np.float32(1))


def _scaled(
    x: NDArray[np.float32], block: int, factor: NDArray[np.float32], multiply: bool
) -> NDArray[np.float32]:
    spread = np.repeat(factor, block, axis=1)
    with np.errstate(all="ignore"):
        return np.asarray(x * spread if multiply else x / spread)


def _largest(fmt: BlockFormat, x: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the index of the largest magnitude, the first of several, of each top's block."""
    assert fmt.top is not None
    groups = np.abs(x).reshape(x.shape[0], -1, fmt.top.block)
    return np.asarray(groups.argmax(axis=-1)).astype(np.uint8)


def _fitted(
    fmt: BlockFormat,
    x: NDArray[np.float32],
    block: int,
    factor: NDArray[np.float32],
    multiply: bool,
    tops: NDArray[np.uint8] | None,
) -> NDArray[np.uint8]:
    """Return the ratio of each sub-block of the last level: the smallest that fits, per level."""
    magnitude = np.abs(x)
    if tops is not None:
        assert fmt.top is not None
        spots = magnitude.reshape(x.shape[0], -1, fmt.top.block)
        at = np.minimum(tops, fmt.top.block - 1)[..., None].astype(np.intp)
        old = np.take_along_axis(spots, at, axis=-1)
        new = np.where(tops[..., None] < fmt.top.block, np.float32(0), old)
        np.put_along_axis(spots, at, new, axis=-1)
    index = np.zeros((x.shape[0], 1), dtype=np.uint8)
    so_far = np.ones((x.shape[0], 1), dtype=np.float32)
    for level in fmt.levels:
        largest = magnitude.reshape(x.shape[0], -1, level.block).max(axis=-1)
        count = largest.shape[1]
        index = np.repeat(index, count // index.shape[1], axis=1)
        so_far = np.repeat(so_far, count // so_far.shape[1], axis=1)
        scaled = _scaled(largest, block // level.block, factor, multiply) / so_far
        ratios = np.array(level.ratios, dtype=np.float32)
        beyond = scaled[..., None] / ratios[:-1] >= np.float32(level.limit)
        pick = beyond.sum(axis=-1).astype(np.uint8)
        index = (index * len(ratios) + pick).astype(np.uint8)
        so_far = so_far * ratios[pick]
    return index


def _top_codes(
    fmt: BlockFormat,
    scaled: NDArray[np.float32],
    codes: NDArray[np.uint8],
    tops: NDArray[np.uint8] | None,
) -> NDArray[np.uint8]:
    """Write codes of stored top elements into ``codes``; return their indices, or the offsets."""
    top = fmt.top
    assert top is not None
    groups = codes.reshape(codes.shape[0], -1, top.block)
    values = scaled.reshape(groups.shape)
    sign_bit = 1 << (fmt.element.bits - 1)
    if tops is not None:
        at = np.minimum(tops, top.block - 1)[..., None].astype(np.intp)
        value = np.take_along_axis(values, at, axis=-1)
        steps = np.rint((np.abs(value).astype(np.float64) - top.base) / top.step)
        code = np.clip(steps, 0, sign_bit - 1) + np.where(np.signbit(value), sign_bit, 0)
        plain = np.take_along_axis(groups, at, axis=-1)
        stored = np.where(tops[..., None] < top.block, code, plain).astype(np.uint8)
        np.put_along_axis(groups, at, stored, axis=-1)
        return tops
    assert top.element is not None
    assert isinstance(fmt.element, FloatFormat)
    magnitude = groups & (sign_bit - 1)
    at = magnitude.argmax(axis=-1)[..., None]
    value = np.abs(np.take_along_axis(values, at, axis=-1)[..., 0])
    base = np.take_along_axis(magnitude, at, axis=-1)[..., 0].astype(np.int64)
    finer = 1 << (top.element.mantissa_bits - fmt.element.mantissa_bits)
    nearest = top.element.encode(value, "rne", "saturate").astype(np.int64)
    low, high = top.offsets[0], top.offsets[-1]
    offset = np.clip(nearest - finer * base, low, high)
    lowest = np.maximum(offset, -finer * base)  # no code lies below zero
    return np.asarray(lowest - low).astype(np.uint8)


def _dialects(
    what: Meaning, blocks: NDArray[np.float32], factor: NDArray[np.float32]
) -> NDArray[np.int8]:
    """Return BlockDialect's dialect of activations: a pair by the maximum, then A or B by counting.

    Magnitudes are rounded to quarters first (to even, at most 7.75), the maximum again to halves
    (up). Of a pair with the same largest magnitude, A is taken if at least half of the values lie
    from the middle of both second largest magnitudes to that of A's two largest.
    """
    with np.errstate(all="ignore"):
        quarters = np.minimum(np.rint(np.abs(blocks / factor[..., None]) * 4), 31) / 4
    highest = np.array([float(grid.values[-1]) for grid in what.grids])
    second = np.array([float(grid.values[-2]) for grid in what.grids])
    top = np.floor(quarters.max(axis=-1) * 2 + 0.5) / 2
    pair = np.argmin(np.abs(highest[None, None, ::2] - top[..., None]), axis=-1)
    first, other, most = second[2 * pair], second[2 * pair + 1], highest[2 * pair]
    low, high = (first + other) / 2, (first + most) / 2
    inside = ((quarters >= low[..., None]) & (quarters < high[..., None])).sum(axis=-1)
    return np.asarray(2 * pair + (2 * inside < blocks.shape[-1])).astype(np.int8)


def _zero_points(
    fmt: BlockFormat, blocks: NDArray[np.float32], factor: NDArray[np.float32]
) -> NDArray[np.int8]:
    """Return the variant whose zero is at z = round(-min / s), ties to even, clamped."""
    smallest = np.minimum(blocks.min(axis=-1), np.float32(0))
    with np.errstate(all="ignore"):
        z = np.rint(-smallest / factor)
    return np.asarray(np.clip(z, 0, len(all_variants(fmt)) - 1)).astype(np.int8)


# -- macro scales ----------------------------------------------------------------------------------


def macro_codes(macro: Macro, x: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return m of the significands of rows (R, K): (R, ceil(K / block))."""
    missing = -x.shape[1] % macro.block
    padded = np.pad(np.abs(x), ((0, 0), (0, missing)))
    top = padded.reshape(x.shape[0], -1, macro.block).max(axis=-1)
    fraction, _ = np.frexp(top / np.float32(macro.target))
    m = np.rint((2.0 * fraction.astype(np.float64) - 1.0) * 2.0**macro.bits)
    return np.asarray(np.clip(m, 0, 2**macro.bits - 1)).astype(np.uint8)


def macro_values(macro: Macro, codes: NDArray[Any]) -> NDArray[np.float32]:
    """Return 1 + m / 2^bits."""
    return (1.0 + np.ldexp(codes.astype(np.float64), -macro.bits)).astype(np.float32)


def macro_groups(macro: Macro, block: int, groups: int) -> NDArray[np.intp]:
    """Return the index of the macro block that each block of a row belongs to."""
    return np.arange(groups) // math.ceil(macro.block / block)
