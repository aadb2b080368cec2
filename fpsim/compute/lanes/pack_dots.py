# SPDX-License-Identifier: Apache-2.0
"""Pack many independent dot products into the arrays that `kernels.lanes.dot_driver` reads.

They come as those of a matrix product of one row (`MatmulOperands.paired`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray

from fpsim.compute.lanes.pack import lane_table, plane_table, powers
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.bounds import all_finite
from fpsim.compute.values import compact, exponent_table, exponents_of
from fpsim.formats.floating import FloatFormat
from fpsim.formats.random_bits import RandomBits, integers_per_word
from fpsim.kernels.codec.codec import look_up
from fpsim.kernels.lanes.dot_driver import Operand, Randoms, pairs, segment_of
from fpsim.kernels.lanes.tiles import AnyStep, Source, Tile, turn
from fpsim.kernels.pack import transpose_codes
from fpsim.units.spec import MacSpec
from fpsim.units.stages import NanScale

__all__ = ["Pairs", "pack_pairs"]

Array = NDArray[Any]
#: Entries of a table in a register.
ENTRIES = 16


@dataclass(frozen=True)
class Pairs:
    """The operands of R dot products for a step; K is padded to ``depth``."""

    step: AnyStep
    source: Source
    tile: Tile
    a: Operand
    b: Operand
    count: int
    depth: int
    finite: bool

    @property
    def padded(self) -> tuple[int, int]:
        """One row, and R padded to whole tiles."""
        return 1, -(-self.count // self.tile.columns) * self.tile.columns

    def run(
        self,
        c: Array,
        reals: Array,
        integers: Array,
        random: Array | RandomBits | None,
        bits: int,
        history: bool = False,
    ) -> Array:
        """Replace initial accumulators (1, columns), in the lane's type, by final ones.

        With ``history`` those after every step are returned (steps, columns).
        """
        width = self.tile.columns
        panels = c.reshape(-1, width)
        per_word = integers_per_word(bits) if bits else 1
        given = _randoms(random, self.count, panels.shape, per_word)
        segment = segment_of(self.step, self.source, per_word)
        parts = min(get_num_threads(), len(panels))
        count = self.depth // turn(self.step, self.source) if history else 0
        steps = np.empty((count, *panels.shape), c.dtype)
        driver = pairs(self.step, self.tile, self.source, history)
        driver(
            self.a, self.b, panels, reals, integers, given, self.count, self.depth, segment, parts,
            steps,
        )  # fmt: skip
        return steps.reshape(count, panels.size)


def _randoms(
    random: Array | RandomBits | None, count: int, shape: tuple[int, ...], per_word: int
) -> Randoms:
    none = np.zeros((0, 0), np.uint32)
    if random is None:
        return Randoms(np.zeros(0, np.uint8), 4, 0, none.reshape(-1), none, 1)
    if isinstance(random, RandomBits):
        streams = np.zeros(shape, np.uint32)
        streams.reshape(-1)[:count] = random.streams(count)
        return Randoms(np.zeros(0, np.uint8), 4, 0, none.reshape(-1), streams, per_word)
    integers = np.ascontiguousarray(random)
    size, length = integers.itemsize, integers.shape[-1]
    integers = integers.reshape(-1)
    return Randoms(integers.view(np.uint8), size, length, integers[:0], none, 1)


def pack_pairs(
    spec: MacSpec,
    args: MatmulOperands,
    step: AnyStep,
    source: Source,
    tile: Tile,
    depth: int,
    dtype: Any,
    aligned: bool,
    power: int,
    nan_scale: NanScale,
) -> Pairs:
    """Return the operands of dot products in lanes of ``dtype``, packed as `pack.pack` packs."""
    operands = []
    for name, moved in (("a", power), ("b", -power)):
        codes = np.ascontiguousarray(args.a if name == "a" else args.b.T)
        scales, scale_powers = _scales(spec, args, name, source, tile, depth, dtype, nan_scale)
        operands.append(
            Operand(
                codes.reshape(-1).view(np.uint8),
                codes.itemsize,
                codes.shape[1],
                *_looks(spec, args, name, source, moved, codes.itemsize),
                scales=scales,
                scale_powers=scale_powers if aligned else scales,
                block=getattr(args, f"{name}_block"),
            )
        )
    count, finite = args.a.shape[0], all_finite(spec, args)
    return Pairs(step, source, tile, operands[0], operands[1], count, depth, finite)


def _scales(
    spec: MacSpec, args: MatmulOperands, name: str, source: Source, tile: Tile, depth: int,
    dtype: Any, nan_scale: NanScale,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the scales (panels, G, signs, columns) and their powers, 0 in groups beyond K.

    Terms without blocks and without scales have none.
    """
    count, length, width = args.a.shape[0], args.a.shape[1], tile.columns
    codes, fmt = getattr(args, f"{name}_scale"), getattr(spec, f"{name}_scale")
    signs = source.a_signs if name == "a" else source.b_signs
    panels, groups, used = -(-count // width), depth // source.size, -(-length // source.size)
    if codes is None:
        found = np.ones((panels, groups, signs, width) if source.block else (0, 0, 1, 1), dtype)
        found[:, used:] = 0
        return found, found
    indices, table = compact(codes if name == "a" else np.moveaxis(codes, 1, 0), fmt)
    indices = indices.reshape(count, -1, signs)
    if source.block:
        block = getattr(args, f"{name}_block")
        if block < source.size:  # a part of K that cut a scale's block has its scales per element
            indices = indices[:, :: source.size // block]
        else:
            indices = np.repeat(indices, block // source.size, axis=1)
        indices = indices[:, :used]
    else:
        groups = used = indices.shape[1]
    turned_indices = np.zeros((panels, groups, signs, width), indices.dtype)
    for first, part in ((0, count // width * width), (count // width * width, count)):
        if first < part:
            cut = indices[first:part].reshape(-1, min(width, part - first), used, signs)
            target = turned_indices[first // width : -(-part // width), :used, :, : cut.shape[1]]
            target[:] = cut.transpose(0, 2, 3, 1)
    values = np.where(np.isnan(table), 0.0, table) if nan_scale is NanScale.ZERO else table
    made = []
    for entries in (values, powers(exponents_of(table, fmt))):
        out = np.empty(turned_indices.shape, dtype)
        look_up(turned_indices.reshape(-1), entries.astype(dtype), out.reshape(-1))
        out[:, used:] = 0
        made.append(out)
    return made[0], made[1]


def _looks(
    spec: MacSpec, args: MatmulOperands, name: str, source: Source, power: int, size: int
) -> tuple[int, Array, Array, Array, int]:
    """Return how values are found, tables of them, parameters, powers, and the least exponent.

    Values are times 2^power; entries of tables are there for all that so many bytes hold.
    """
    fmt = getattr(spec, name)
    signs = source.a_signs if name == "a" else source.b_signs
    entries = 1 << 8 * size if size <= 2 else 1 << fmt.bits
    table_powers = _padded(powers(exponent_table(fmt)), entries)
    if signs == 2:
        planes = [plane_table(spec, name, sign).astype(np.float32) for sign in range(signs)]
    else:
        planes = [lane_table(fmt, power, np.float32)]
    tables = np.stack([_padded(plane, entries) for plane in planes])
    none = np.zeros(ENTRIES, np.float32)
    if fmt.bits <= 4 and size == 1:
        return transpose_codes.REGISTER, tables, none, table_powers, 0
    if signs == 1 and power == 0 and isinstance(fmt, FloatFormat):
        how, parameters, made = _bits(fmt, size)
        table = lane_table(fmt, 0, np.float32)
        if how and _same(made, table, lambda: args.used[name]):
            return how, tables, parameters, none[:0], fmt.exponent_min
    return transpose_codes.GATHER, tables, none, table_powers, 0


def _padded(table: Array, entries: int) -> Array:
    return np.pad(table, (0, entries - len(table))).astype(np.float32)


@lru_cache(maxsize=64)
def _bits(fmt: FloatFormat, size: int) -> tuple[int, Array, Array]:
    """Return how moved bits make values, with what parameters, and what all codes become."""
    codes = np.arange(1 << fmt.bits, dtype=np.uint32)
    parameters = np.zeros(ENTRIES, np.float32)
    if size == 2 and fmt.exponent_bits == 8:
        return transpose_codes.BRAIN, parameters, (codes << 16).view(np.float32)
    up, down = 16 - fmt.bits, 5 - fmt.exponent_bits
    if size > 2 or down < 0:
        return 0, parameters, codes.view(np.float32)
    parameters[0] = 2.0 ** (15 - fmt.bias)
    parameters.view(np.int32)[1:3] = up, down
    high = codes << up
    halves = (high & 0x8000 | (high & 0x7FFF) >> down).astype(np.uint16).view(np.float16)
    with np.errstate(invalid="ignore"):  # what float16 calls a signalling NaN
        return transpose_codes.HALVES, parameters, halves.astype(np.float32) * parameters[0]


def _same(made: Array, table: Array, used: Callable[[], Array]) -> bool:
    """Return whether two tables hold the same numbers of all codes in use."""
    differs = (made != table) & ~(np.isnan(made) & np.isnan(table))
    differs |= np.signbit(made) != np.signbit(table)
    return not differs.any() or not (differs & used()[: table.size]).any()
