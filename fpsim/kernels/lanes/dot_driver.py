# SPDX-License-Identifier: Apache-2.0
"""Dot products side by side: column j of a result of one row is row j of ``a`` times that of ``b``.

    for each panel of columns:
        acc = c panel
        for each segment of K:  turn its codes into values;  acc = steps(acc, values)
        c panel = acc

Codes become values a segment at a time: K before columns, as a tile reads them, in a thread's
cache. The tile is that of `fpsim.kernels.lanes.matmul_driver`, with a source whose columns have
their own ``a``.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from fpsim.kernels.cache import kernel
from fpsim.kernels.lanes.matmul_driver import tile_intrinsic
from fpsim.kernels.lanes.steps import GroupStep
from fpsim.kernels.lanes.tiles import AnyStep, Source, Tile, turn
from fpsim.kernels.pack.transpose_codes import (
    CHUNK,
    convert,
    copy_rows,
    scale,
    stride_of,
    turn_codes,
    turn_powers,
)
from fpsim.kernels.pack.transpose_integers import turn_integers

__all__ = ["SEGMENT", "Operand", "Randoms", "pairs", "segment_of"]

#: Products of a segment, if a step takes no more: their values fit the second cache.
SEGMENT = 128
#: What random words count on by; see `fpsim.formats.random_bits`.
STEP, WORDS = 0x9E3779B9, 1 << 32


class Operand(NamedTuple):
    """Rows of codes and what they stand for."""

    codes: Any  #: their bytes, flat
    size: int  #: bytes of a code
    length: int  #: codes of a row
    how: int  #: see `fpsim.kernels.pack.transpose_codes.turn_codes`
    tables: Any  #: (planes, entries) float32
    parameters: Any  #: float32
    powers: Any  #: 2^e of every code, float32; empty where `turn_powers` finds them
    least: int  #: the exponent of the smallest one
    scales: Any  #: (panels, G, signs, columns); of terms without blocks, perhaps empty
    scale_powers: Any  #: the same for 2^e
    block: int  #: elements of a scale


class Randoms(NamedTuple):
    """Random integers of every row: bytes as in `Operand`, or streams (panels, columns)."""

    codes: Any
    size: int
    length: int
    integers: Any  #: an array of the integers' type
    streams: Any
    per_word: int  #: integers that a word of a stream makes


def segment_of(step: AnyStep, source: Source, per_word: int) -> int:
    """Return how many products are turned at a time: whole turns, and whole words of streams."""
    size = turn(step, source)
    if step.seeded:
        size = math.lcm(size, per_word * source.size)
    return size * max(1, SEGMENT // size)


@cache
def _filler(real: str, width: int, blocks: bool, element_powers: bool) -> Any:
    """Return what turns one operand's codes of a segment into values of a lane, and powers.

    They are flat: (planes, padded, width) and (padded, width).
    """

    @kernel(f"fill {real} {width} {blocks} {element_powers}")
    def fill(
        operand: Any, p: int, rows: int, first: int, count: int, padded: int, buffer: Any,
        narrow: Any, out: Any, powers: Any,
    ) -> None:  # fmt: skip
        how, size, parameters = operand.how, operand.size, operand.parameters
        row_bytes = operand.length * size
        room = buffer[: width * stride_of(size)].reshape(width, -1)
        scaled = not blocks and operand.scales.shape[0] > 0
        for plane in range(operand.tables.shape[0]):
            table = operand.tables[plane]
            for k in range(0, count, CHUNK):
                some = min(CHUNK, count - k)
                place, at = (first + k) * size, (plane * padded + k) * width
                here, last = p * width * row_bytes + place, (rows - 1) * row_bytes + place
                copy_rows(operand.codes, here, row_bytes, last, some * size, room)
                if real == "half" and scaled:  # float16 holds products, not always both factors
                    turn_codes(how, room, size, some, table, parameters, narrow, 0, width)
                    scale(operand.scales[p, :, 0], operand.block, first + k, some, narrow, 0)
                    convert(narrow, some * width, out, at)
                else:
                    turn_codes(how, room, size, some, table, parameters, out, at, width)
                if element_powers and operand.powers.size:
                    turn_codes(how, room, size, some, operand.powers, parameters, powers, at, width)
                elif element_powers:
                    turn_powers(out, at, some * width, operand.least, powers)
            out[(plane * padded + count) * width : (plane + 1) * padded * width] = 0
        if element_powers:
            powers[count * width : padded * width] = 0
        if scaled and real != "half":
            scale(operand.scales[p, :, 0], operand.block, first, count, out, 0)
            if element_powers:
                scale(operand.scale_powers[p, :, 0], operand.block, first, count, powers, 0)

    return fill


@cache
def pairs(step: AnyStep, tile: Tile, source: Source, history: bool) -> Any:
    """Return the compiled driver of a step over the pairs of two operands.

    It is called as ``run(a, b, c, reals, integers, random, rows, depth, segment, parts, steps)``
    with `Operand` and `Randoms`, ``c`` (panels, columns) in the lane type (float16 as its bits),
    which holds the initial accumulators and receives the results, K padded to ``depth``, the
    products of `segment_of` and as many parts as threads. With ``history`` it writes accumulators
    after every turn into ``steps`` (turns, panels, columns); no step is seeded then.
    """
    run_tile = tile_intrinsic(step, source, tile)
    real, width = str(step.real), tile.columns
    stored = {"half": np.uint16, "float": np.float32, "double": np.float64}[real]
    blocks, size, quadrants = source.block, source.size, source.quadrants
    a_planes, b_planes = source.a_signs, source.b_signs
    loads, seeded = step.random and not step.seeded, step.seeded
    powers = isinstance(step, GroupStep) and step.powers
    span = turn(step, source)
    terms_of_turn = span // size * quadrants
    fill = _filler(real, width, blocks, powers and not blocks)

    @kernel(f"pairs {step.name} {source} {tile} {history}", parallel=True)
    def run(
        a: Any, b: Any, c: Any, reals: Any, integers: Any, random: Any, rows: int, depth: int,
        segment: int, parts: int, steps: Any,
    ) -> None:  # fmt: skip
        panels = c.shape[0]
        for part in prange(parts):
            # Up to three codes more than a segment has are turned.
            room = (segment + 3) * width
            buffer = np.empty(width * stride_of(4), np.uint8)
            narrow = np.empty((CHUNK + 3) * width if real == "half" else 1, np.float32)
            x, y = np.empty(a_planes * room, stored), np.empty(b_planes * room, stored)
            x_powers, y_powers = np.empty(room, stored), np.empty(room, stored)
            drawn = np.empty(quadrants * room if loads else width, random.integers.dtype)
            starts = np.empty(1, np.int32)  # nothing is summed in bytes
            for p in range(part * panels // parts, (part + 1) * panels // parts):
                for first in range(0, depth, segment):
                    padded = min(segment, depth - first)
                    count = max(0, min(padded, a.length - first))
                    fill(a, p, rows, first, count, padded, buffer, narrow, x, x_powers)
                    fill(b, p, rows, first, count, padded, buffer, narrow, y, y_powers)
                    group, terms = first // size, padded // size * quadrants
                    term = group * quadrants
                    if loads:
                        draw(random, p, rows, term, terms, buffer, drawn, width)
                    if seeded:
                        advanced = np.uint64(term // random.per_word * STEP)
                        for j in range(width):
                            drawn[j] = np.uint32(np.uint64(random.streams[p, j]) + advanced)
                    done = span if history else padded
                    for start in range(0, padded, done):
                        at = start * width
                        own = x[at:], y[at:], c[p], reals, integers
                        bits = drawn[start // span * terms_of_turn * width :] if loads else drawn
                        sizes = (np.int64(0), np.int64(0), np.int64(done), np.int64(width),
                                 np.int64(1))  # fmt: skip
                        if blocks:
                            here = slice(group + start // size, group + (start + done) // size)
                            run_tile(
                                (*own, bits, a.scales[p, here], b.scales[p, here],
                                 a.scale_powers[p, here], b.scale_powers[p, here], starts),
                                sizes,
                            )  # fmt: skip
                        else:
                            run_tile(
                                (*own, bits, x, y, x_powers[at:], y_powers[at:], starts), sizes
                            )
                        if history:
                            steps[(first + start) // span, p] = c[p]

    return run


@njit
def draw(random, p, rows, first, count, buffer, out, width):
    """Write ``count`` random integers of each row of a panel; 0 where it has none."""
    have = max(0, min(count, random.length - first))
    stride = random.length * random.size
    room = buffer[: width * stride_of(random.size)].reshape(width, -1)
    for k in range(0, have, CHUNK):
        some = min(CHUNK, have - k)
        place = (first + k) * random.size
        here, last = p * width * stride + place, (rows - 1) * stride + place
        copy_rows(random.codes, here, stride, last, some * random.size, room)
        turn_integers(room, random.size, some, out, k * width, width, width)
    out[have * width : count * width] = 0
