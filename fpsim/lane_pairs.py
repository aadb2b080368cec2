# SPDX-License-Identifier: Apache-2.0
"""Checked operands of dot products side by side into the arrays that `fpsim.kernels.pairs` reads.

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

from fpsim.formats import FloatFormat
from fpsim.kernels import turned
from fpsim.kernels.pairs import Operand, Randoms, pairs, segment_of
from fpsim.kernels.tiles import AnyStep, Source, Tile, turn
from fpsim.lane_operands import block_scales, lane_table, powers, scale_panels, signed_table
from fpsim.lowering import exponent_table, exponents_of, values_of
from fpsim.operands import MatmulOperands
from fpsim.random_bits import RandomBits, integers_per_word
from fpsim.spans import all_finite
from fpsim.spec import MacSpec
from fpsim.stages import NanScale

__all__ = ["Pairs", "pack_pairs"]

Array = NDArray[Any]
#: Entries of a table in a register.
ENTRIES = 16
_NO_SCALES = np.zeros((0, 0, 1, 1))


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
    """Return the operands of dot products in lanes of ``dtype``; as `fpsim.lane_operands.pack`."""
    operands = []
    for name, moved in (("a", power), ("b", -power)):
        codes = np.ascontiguousarray(args.a if name == "a" else args.b.T)
        scales = _scales(spec, args, name, source, tile, depth, nan_scale)
        found = np.where(np.isnan(scales), 0.0, scales) if nan_scale is NanScale.ZERO else scales
        scale_powers = found
        if aligned and scales.size:
            scale_powers = powers(exponents_of(scales, getattr(spec, f"{name}_scale")))
        operands.append(
            Operand(
                codes.reshape(-1).view(np.uint8),
                codes.itemsize,
                codes.shape[1],
                *_looks(spec, args, name, source, moved, codes.itemsize),
                scales=found.astype(dtype),
                scale_powers=scale_powers.astype(dtype),
                block=getattr(args, f"{name}_block"),
            )
        )
    count, finite = args.a.shape[0], all_finite(spec, args)
    return Pairs(step, source, tile, operands[0], operands[1], count, depth, finite)


def _scales(
    spec: MacSpec, args: MatmulOperands, name: str, source: Source, tile: Tile, depth: int,
    nan_scale: NanScale,
) -> Array:  # fmt: skip
    """Return the scales (panels, G, signs, columns), 1 or 0 beyond; none where there are none."""
    count = args.a.shape[0]
    size = -(-count // tile.columns) * tile.columns
    if source.block:
        groups, used = depth // source.size, -(-args.a.shape[1] // source.size)
        found = block_scales(spec, args, name, source, groups, used, size, lambda x: x)
        return scale_panels(found, tile.columns)
    codes = getattr(args, f"{name}_scale")
    if codes is None:
        return _NO_SCALES
    values = values_of(codes if name == "a" else codes.T, getattr(spec, f"{name}_scale"))
    padded = np.ones((size, values.shape[1], 1))
    padded[:count, :, 0] = values
    return scale_panels(padded, tile.columns)


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
        planes = [signed_table(spec, name, signs, sign, np.float32) for sign in range(signs)]
    else:
        planes = [lane_table(fmt, power, np.float32)]
    tables = np.stack([_padded(plane, entries) for plane in planes])
    none = np.zeros(ENTRIES, np.float32)
    if fmt.bits <= 4 and size == 1:
        return turned.REGISTER, tables, none, table_powers, 0
    if signs == 1 and power == 0 and isinstance(fmt, FloatFormat):
        how, parameters, made = _bits(fmt, size)
        table = lane_table(fmt, 0, np.float32)
        if how and _same(made, table, lambda: args.used[name]):
            return how, tables, parameters, none[:0], fmt.exponent_min
    return turned.GATHER, tables, none, table_powers, 0


def _padded(table: Array, entries: int) -> Array:
    return np.pad(table, (0, entries - len(table))).astype(np.float32)


@lru_cache(maxsize=64)
def _bits(fmt: FloatFormat, size: int) -> tuple[int, Array, Array]:
    """Return how moved bits make values, with what parameters, and what all codes become."""
    codes = np.arange(1 << fmt.bits, dtype=np.uint32)
    parameters = np.zeros(ENTRIES, np.float32)
    if size == 2 and fmt.exponent_bits == 8:
        return turned.BRAIN, parameters, (codes << 16).view(np.float32)
    up, down = 16 - fmt.bits, 5 - fmt.exponent_bits
    if size > 2 or down < 0:
        return 0, parameters, codes.view(np.float32)
    parameters[0] = 2.0 ** (15 - fmt.bias)
    parameters.view(np.int32)[1:3] = up, down
    high = codes << up
    halves = (high & 0x8000 | (high & 0x7FFF) >> down).astype(np.uint16).view(np.float16)
    with np.errstate(invalid="ignore"):  # what float16 calls a signalling NaN
        return turned.HALVES, parameters, halves.astype(np.float32) * parameters[0]


def _same(made: Array, table: Array, used: Callable[[], Array]) -> bool:
    """Return whether two tables hold the same numbers of all codes in use."""
    differs = (made != table) & ~(np.isnan(made) & np.isnan(table))
    differs |= np.signbit(made) != np.signbit(table)
    return not differs.any() or not (differs & used()[: table.size]).any()
