# SPDX-License-Identifier: Apache-2.0
"""Constrained random vectors: uniform codes, sparse lanes, addends that cancel, scales near one.

Block ``i`` of a section draws from the Philox stream ``(section << 48) + i`` of the seed, in a
fixed order, so a vector depends only on the seed and its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.values import decoded
from fpsim.formats.floating import FixedFormat, NanCodes
from fpsim.vectors.seeded import column_kernels as fills
from fpsim.vectors.seeded.philox_draws import Draw
from fpsim.vectors.sets.code_lists import Codes, all_codes, finite_codes
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Op, Record

__all__ = ["random_dots", "random_streams", "random_tile", "rough_sums", "tile_integers"]

_DOTS, _STREAMS, _TILES, _TILE_INTEGERS = 1 << 48, 2 << 48, 3 << 48, 4 << 48
#: A sum has at most MAX_VECTORS vectors after its CLEAR or LOAD, and at most MAX_PRODUCTS products.
MAX_VECTORS, MAX_PRODUCTS = 12, 64
#: Changes of an addend's exponent against the sum's.
POWERS = np.ldexp(1.0, np.arange(-16, 17))


@lru_cache(maxsize=8)
def _palette(record: Record) -> Palette:
    return Palette(record)


def random_dots(record: Record, seed: int, block: int, count: int, load: bool = True) -> Columns:
    """Return dot products that stand alone, without results.

    Args:
        record: the unit and its fields.
        seed: 0..2^64 - 1.
        block: number of the block in its section.
        count: vectors of the block.
        load: not used; `random_streams` has it.

    Returns:
        Columns of ``count`` vectors: every ``op`` is DOT.
    """
    del load
    draw = Draw(seed, _DOTS + block)
    columns = _operands(record, draw, count)
    columns["op"] = np.full(count, Op.DOT, dtype=np.uint8)
    columns["c"] = _addends(record, draw, columns)
    return columns | _random_integers(record, draw, count)


def random_streams(record: Record, seed: int, block: int, count: int, load: bool = True) -> Columns:
    """Return vectors that accumulate, without results: products with idle clocks between.

    Args:
        record: the unit and its fields.
        seed: 0..2^64 - 1.
        block: number of the block in its section.
        count: vectors of the block.
        load: whether some sums start with a LOAD; else all start with a CLEAR, and ``c`` is 0.

    Returns:
        Columns of ``count`` vectors; the first starts a sum, and the last sum may be cut short.
    """
    draw = Draw(seed, _STREAMS + block)
    columns = _operands(record, draw, count)
    lengths, idle, loads = draw.words(count), draw.words(count), draw.words(count)
    most = max(MAX_VECTORS, MAX_PRODUCTS // record.k)
    ops = (int(Op.CLEAR), int(Op.LOAD), int(Op.MAC), int(Op.IDLE), most)
    columns["op"] = np.empty(count, dtype=np.uint8)
    fills.stream_ops(lengths, idle, loads, ops, load, columns["op"])
    columns["c"] = (
        _addends(record, draw, columns) if load else np.zeros(count, record.spec.initial.dtype)
    )
    return columns | _random_integers(record, draw, count)


def random_tile(
    record: Record, seed: int, tile: int, sides: tuple[int, int], length: int,
    allowed: Mapping[str, Codes] | None = None,
) -> dict[str, Codes]:  # fmt: skip
    """Draw the operands of one tile of a matrix product, all of them finite.

    Args:
        record: the unit and its fields.
        seed: 0..2^64 - 1.
        tile: number of the tile, which selects the random stream; even tiles have addends of +0.
        sides: M and N.
        length: K.
        allowed: codes that ``a`` and ``b`` may have, ascending; all codes of an operand not in it.

    Returns:
        Codes: ``a`` (M, K), ``b`` (N, K), ``c`` (M, N), multiples of 1/8 in -256..256 cut to the
        format, and for a record with scales ``a_scale`` (M, G) and ``b_scale`` (N, G) within
        2^-6..2^6, 2 G scales if split by sign.
    """
    draw, spec = Draw(seed, _TILES + tile), record.spec
    palette = Palette(record, allowed) if allowed else _palette(record)
    codes: dict[str, Codes] = {}
    for operand, side in zip("ab", sides, strict=True):
        codes[operand] = draw.codes(getattr(palette, operand), side, length)
        if record.group:
            groups = -(-length // record.group) * (1 + spec.splits(operand))
            near = _near_one(palette, operand)
            codes[f"{operand}_scale"] = draw.codes(near, side, groups)
    values = (draw.below(1 << 12, *sides) - (1 << 11)) * (tile % 2) / 8.0
    codes["c"] = palette.encode_addend(values)
    return codes


def tile_integers(record: Record, seed: int, tile: int, count: int) -> Columns:
    """Draw the random integers of the stochastic roundings of one tile.

    Args:
        record: the unit and its fields.
        seed: 0..2^64 - 1.
        tile: number of the tile, which selects the random stream.
        count: vectors of the tile.

    Returns:
        ``random`` (count, roundings of a vector); empty for a unit without random bits.
    """
    return _random_integers(record, Draw(seed, _TILE_INTEGERS + tile), count)


def _operands(record: Record, draw: Draw, count: int) -> Columns:
    """Draw operand and scale codes; one row in four is sparse, one in four has few codes."""
    spec, palette = record.spec, _palette(record)
    mode = draw.below(8, count, dtype=np.uint8)
    columns: Columns = {}
    for operand in "ab":
        dtype = getattr(spec, operand).dtype
        size = (count, record.k)
        codes = np.empty(size, dtype=dtype)
        _choose(draw, codes, mode, (7, 1), getattr(palette, operand), palette.corner_codes(operand))
        special = palette.special(operand)
        if special.size and palette.nan:
            fills.sprinkle(draw.words(*size), draw.words(*size), 64 * record.k, special, codes)
        columns[operand] = codes
    zero = columns["a"].dtype.type(palette.zero("a"))
    fills.thin(draw.words(count * record.k), mode, zero, columns["a"].reshape(-1))
    if record.group:
        for operand in "ab":
            name = f"{operand}_scale"
            fmt = getattr(spec, name)
            size = (count, record.lanes_of(name))
            codes = np.empty(size, dtype=fmt.dtype)
            every = all_codes(fmt) if palette.nan else finite_codes(fmt)
            _choose(draw, codes, mode, (3, 3), _near_one(palette, operand), every)
            columns[name] = codes
    return columns


def _choose(
    draw: Draw, out: NDArray[Any], mode: NDArray[Any], where: tuple[int, int], table: Codes,
    other: Codes,
) -> None:  # fmt: skip
    """Draw codes of one table, or of another in rows whose mode & where[0] is where[1]."""
    words, others = draw.words(out.size), draw.words(out.size)
    tables = np.concatenate([table, other]).astype(out.dtype)
    fills.choose(words, others, mode, *map(np.uint8, where), tables, table.size, out.reshape(-1))


def _near_one(palette: Palette, operand: str) -> Codes:
    """Return the scale codes within a few binades of one."""
    fmt = getattr(palette.spec, f"{operand}_scale")
    codes = finite_codes(fmt)
    values = np.abs(fmt.decode(codes))
    near = codes[(values >= 2.0**-6) & (values <= 2.0**6)]
    return near if near.size else codes


def _addends(record: Record, draw: Draw, columns: Columns) -> NDArray[Any]:
    """Draw addend codes: zero, any bits, near minus the sum, or with an exponent near the sum's."""
    fmt, count = record.spec.initial, columns["a"].shape[0]
    mode = draw.below(4, count, dtype=np.uint8)
    low, high = draw.words(count), draw.words(count)
    steps, shifts = draw.words(count), draw.words(count)
    aims = np.empty(count)
    fills.aims(mode, rough_sums(record, columns), shifts, POWERS, float(fmt.max_value), aims)
    near = fmt.encode(aims, "rtz", "saturate")
    codes = np.empty(count, dtype=fmt.dtype)
    fills.addends(mode, low, high, steps, near, fmt.bits, _finite(_palette(record)), codes)
    return codes


def _random_integers(record: Record, draw: Draw, count: int) -> Columns:
    """Draw the integers of stochastic roundings; one in eight is 0, one all ones."""
    if not record.roundings:
        return {}
    size, fmt = (count, record.roundings), record.format_of("random")
    mode = draw.below(8, *size, dtype=np.uint8)
    codes = (draw.words(*size) >> np.uint32(32 - fmt.bits)).astype(fmt.dtype)
    codes[mode == 0] = 0
    codes[mode == 1] = (1 << fmt.bits) - 1
    return {"random": codes}


def _finite(palette: Palette) -> NDArray[np.uint64]:
    """Return the finite addend codes in the form that `addends` takes."""
    fmt = palette.spec.initial
    if palette.nan or isinstance(fmt, FixedFormat):
        return np.zeros(3, dtype=np.uint64)
    magnitude = (1 << fmt.magnitude_bits) - 1
    hole = fmt.sign_bit if fmt.nan is NanCodes.NEGATIVE_ZERO else 1 << fmt.bits
    return np.array([magnitude, fmt.max_code, hole], dtype=np.uint64)


def rough_sums(record: Record, columns: Columns) -> NDArray[np.float64]:
    """Return finite float64 sums of the scaled products, near which addends are drawn."""
    spec = record.spec
    a, b = (decoded(columns[operand], getattr(spec, operand)) for operand in "ab")
    scales = [np.ones((1, 1)), np.ones((1, 1))]
    if record.group:
        names = ("a_scale", "b_scale")
        scales = [decoded(columns[name], getattr(spec, name)) for name in names]
    sums = np.empty(a.shape[0])
    fills.rough_sums(a, b, *scales, record.group, spec.splits("a"), spec.splits("b"), sums)
    return sums
