# SPDX-License-Identifier: Apache-2.0
"""Constrained random beats: uniform codes, sparse lanes, addends that cancel, scales near one.

Block ``i`` of a section draws from the Philox stream ``(section << 48) + i`` of the seed, in a
fixed order, so every vector is a function of the seed and its place.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fpsim.vectors.beats import Codes, Palette, finite_codes
from fpsim.vectors.draws import Draw
from fpsim.vectors.shape import Columns, Shape
from fpsim.vectors.stream import Op

__all__ = ["random_dots", "random_streams", "random_tile", "rough_sums"]

_DOTS, _STREAMS, _TILES = 1 << 48, 2 << 48, 3 << 48
#: A stream is one of 1..MAX_BEATS beats after CLEAR or LOAD.
MAX_BEATS = 12


@lru_cache(maxsize=8)
def _palette(shape: Shape) -> Palette:
    return Palette(shape)


def random_dots(shape: Shape, seed: int, block: int, count: int) -> Columns:
    """Return ``count`` independent dot products."""
    draw = Draw(seed, _DOTS + block)
    columns = _operands(shape, draw, count)
    columns["op"] = np.full(count, Op.DOT, dtype=np.uint8)
    columns["c"] = _addends(shape, draw, columns)
    return columns


def random_streams(shape: Shape, seed: int, block: int, count: int) -> Columns:
    """Return beats that accumulate: CLEAR or LOAD, then products with idle clocks between."""
    draw = Draw(seed, _STREAMS + block)
    columns = _operands(shape, draw, count)
    lengths = draw.below(MAX_BEATS, count) + 2
    starts = np.cumsum(lengths) - lengths
    begins = np.isin(np.arange(count), starts)
    idle = draw.below(12, count) == 0
    load = draw.below(4, count) == 0
    op = np.where(idle, Op.IDLE, Op.MAC)
    columns["op"] = np.where(begins, np.where(load, Op.LOAD, Op.CLEAR), op).astype(np.uint8)
    columns["c"] = _addends(shape, draw, columns)
    return columns


def random_tile(
    shape: Shape, seed: int, tile: int, sides: tuple[int, int], length: int
) -> dict[str, Codes]:
    """Return finite operand codes (M, K) and (N, K) of a tile, scales near one, addends (M, N).

    Every second tile has addends; the first has zeros.
    """
    draw, spec, palette = Draw(seed, _TILES + tile), shape.spec, _palette(shape)
    codes: dict[str, Codes] = {}
    for operand, side in zip("ab", sides, strict=True):
        codes[operand] = draw.codes(getattr(palette, operand), side, length)
        if shape.group:
            groups = -(-length // shape.group) * (1 + spec.splits(operand))
            near = _near_one(palette, operand)
            codes[f"{operand}_scale"] = draw.codes(near, side, groups)
    values = (draw.below(1 << 12, *sides) - (1 << 11)) * (tile % 2) / 8.0
    codes["c"] = palette.encode_addend(values)
    return codes


def _operands(shape: Shape, draw: Draw, count: int) -> Columns:
    """Draw operand and scale codes; one row in four is sparse, one in four keeps to few codes."""
    spec, palette = shape.spec, _palette(shape)
    mode = draw.below(8, count)
    columns: Columns = {}
    for operand in "ab":
        dtype = getattr(spec, operand).dtype
        codes = draw.codes(getattr(palette, operand).astype(dtype), count, shape.k)
        corners = draw.codes(palette.corner_codes(operand).astype(dtype), count, shape.k)
        np.copyto(codes, corners, where=(mode == 1)[:, None])
        special = palette.special(operand).astype(dtype)
        if special.size and palette.nan:
            hit = draw.below(64 * shape.k, count, shape.k) == 0
            np.copyto(codes, draw.codes(special, count, shape.k), where=hit)
        columns[operand] = codes
    sparse = draw.below(4, count, shape.k) > 0
    sparse &= ((mode == 2) | (mode == 3))[:, None]
    np.copyto(columns["a"], spec.a.dtype.type(palette.zero("a")), where=sparse)
    if shape.group:
        for operand in "ab":
            name = f"{operand}_scale"
            fmt = getattr(spec, name)
            lanes = next(lane.lanes for lane in shape.lanes if lane.name == name)
            codes = draw.codes(_near_one(palette, operand).astype(fmt.dtype), count, lanes)
            every = np.arange(1 << fmt.bits) if palette.nan else finite_codes(fmt)
            anywhere = draw.codes(every.astype(fmt.dtype), count, lanes)
            np.copyto(codes, anywhere, where=((mode & 3) == 3)[:, None])
            columns[name] = codes
    return columns


def _near_one(palette: Palette, operand: str) -> Codes:
    """Return the scale codes within a few binades of one."""
    fmt = getattr(palette.spec, f"{operand}_scale")
    codes = finite_codes(fmt)
    values = np.abs(fmt.decode(codes))
    near = codes[(values >= 2.0**-6) & (values <= 2.0**6)]
    return near if near.size else codes


def _addends(shape: Shape, draw: Draw, columns: Columns) -> NDArray[np.uint64]:
    """Draw addend codes: zero, any bits, near minus the sum, or with an exponent near the sum's."""
    spec, palette = shape.spec, _palette(shape)
    fmt = spec.initial
    count = columns["a"].shape[0]
    mode = draw.below(4, count)
    low, high = draw.words(count), draw.words(count)
    anything = ((high << np.uint64(32)) | low) >> np.uint64(64 - fmt.bits)
    if not palette.nan:
        finite = fmt.decode(anything.astype(fmt.dtype))
        anything = np.where(np.isfinite(finite), anything, 0).astype(np.uint64)
    step, shift = draw.below(5, count) - 2, draw.below(33, count) - 16
    codes = np.where(mode == 1, anything, np.uint64(0))
    limit, top = fmt.max_value, np.uint64((1 << fmt.bits) - 1)

    rows = np.flatnonzero(mode == 2)
    sums = rough_sums(shape, {name: column[rows] for name, column in columns.items()})
    near = palette.encode_addend(np.clip(-sums, -limit, limit))
    codes[rows] = (near + step[rows]).view(np.uint64) & top

    rows = np.flatnonzero(mode == 3)
    sums = rough_sums(shape, {name: column[rows] for name, column in columns.items()})
    moved = np.clip(np.ldexp(sums, shift[rows]), -limit, limit)
    around = palette.encode_addend(moved).view(np.uint64)
    flip = np.where(anything[rows] & np.uint64(1), np.uint64(0), low[rows] & np.uint64(3))
    codes[rows] = around ^ flip
    if not palette.nan:
        codes = np.where(np.isfinite(fmt.decode(codes.astype(fmt.dtype))), codes, 0)
    return codes.astype(fmt.dtype)


def rough_sums(shape: Shape, columns: Columns) -> NDArray[np.float64]:
    """Return the sums of the scaled products in float64, finite; only to aim at."""
    spec = shape.spec
    values = []
    for operand in "ab":
        part = getattr(spec, operand).decode(columns[operand])
        if shape.group:
            name = f"{operand}_scale"
            scales = getattr(spec, name).decode(columns[name])
            if spec.splits(operand):
                signs = np.signbit(part).astype(np.int64)
                pairs = np.repeat(scales.reshape(-1, shape.groups, 2), shape.group, axis=1)
                pairs = pairs[:, : shape.k]
                scales = np.take_along_axis(pairs, signs[..., None], axis=-1)[..., 0]
            else:
                scales = np.repeat(scales, shape.group, axis=1)[:, : shape.k]
            with np.errstate(invalid="ignore"):
                part = part * scales
        values.append(part)
    sums = np.zeros(values[0].shape[0])
    with np.errstate(all="ignore"):
        products = np.nan_to_num(values[0] * values[1], nan=0.0, posinf=0.0, neginf=0.0)
        for k in range(shape.k):  # one after the other: numpy's own order is not part of its API
            sums += products[:, k]
    return np.nan_to_num(sums, nan=0.0, posinf=0.0, neginf=0.0)
