# SPDX-License-Identifier: Apache-2.0
"""Rows of integers into columns of them, as `fpsim.kernels.pack.transpose_codes` turns codes.

Words of sixteen rows are transposed as squares, in registers; what is narrower, or left, is
gathered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

from fpsim.kernels.cache import kernel
from fpsim.kernels.pack.transpose_codes import (
    CHUNK,
    LANES,
    VECTORS,
    WORD,
    code_at,
    copy_rows,
    stride_of,
    turned,
)

__all__ = ["turn_integers", "turn_rounds"]

#: Rows whose integers are turned at a time.
PANEL = 64
_BYTE, _WORDS = ir.IntType(8), ir.VectorType(ir.IntType(32), LANES)
_copy_bytes, _copy_pairs, _copy_words = (turned(None, size) for size in (1, 2, 4))


def _exchanged(builder: Any, rows: list[Any], step: int) -> list[Any]:
    """Exchange the parts of vectors ``step`` apart that a transposition moves across."""

    def mixed(x: Any, y: Any, moved: int) -> Any:
        order = [
            t + moved * step if not t & step else LANES + t - (1 - moved) * step
            for t in range(LANES)
        ]
        return builder.shuffle_vector(x, y, ir.Constant(_WORDS, order))

    out = list(rows)
    for i in range(LANES):
        if not i & step:
            x, y = rows[i], rows[i + step]
            out[i], out[i + step] = mixed(x, y, 0), mixed(x, y, 1)
    return out


@intrinsic
def _square(
    typingctx: Any, codes: Any, first: Any, stride: Any, out: Any, at: Any, width: Any
) -> Any:
    """Transpose sixteen words of sixteen rows that are ``stride`` bytes apart."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def pointer(i: int) -> Any:
            array = context.make_array(signature.args[i])(context, builder, args[i])
            return builder.bitcast(array.data, _BYTE.as_pointer())

        def at_byte(base: Any, offset: Any) -> Any:
            return builder.bitcast(builder.gep(base, [offset]), _WORDS.as_pointer())

        rows, place = [], args[1]
        for _ in range(LANES):
            rows.append(builder.load(at_byte(pointer(0), place), align=1))
            place = builder.add(place, args[2])
        for step in (1, 2, 4, 8):
            rows = _exchanged(builder, rows, step)
        where = args[4]
        for row in rows:
            offset = builder.mul(where, ir.Constant(where.type, WORD))
            builder.store(row, at_byte(pointer(3), offset), align=1)
            where = builder.add(where, args[5])
        return context.get_dummy_value()

    return types.void(codes, first, stride, out, at, width), codegen


@njit
def turn_integers(buffer, size, count, out, start, width, columns):
    """Write ``count`` integers of each row of ``buffer``, as wide as they are; as `turn_codes`.

    Those at k go to ``out`` from ``start`` + k * ``columns`` on.
    """
    if not VECTORS:
        for k in range(count):
            for j in range(width):
                out[start + k * columns + j] = code_at(buffer, j, k * size, size)
        return
    codes, squares = buffer.reshape(-1), 0
    if size == WORD:
        squares = count // LANES * LANES
        for k in range(0, squares, LANES):
            for j in range(0, width, LANES):
                place, at = j * buffer.shape[1] + k * size, start + k * columns + j
                _square(codes, place, buffer.shape[1], out, at, columns)  # type: ignore[call-arg]
    for k in range(squares, count, WORD // size):
        for j in range(0, width, LANES):
            place, at = j * buffer.shape[1] + k * size, start + k * columns + j
            if size == 1:
                _copy_bytes(codes, place, codes, out, at, columns)
            elif size == 2:
                _copy_pairs(codes, place, codes, out, at, columns)
            else:
                _copy_words(codes, place, codes, out, at, columns)


@kernel(parallel=True)
def turn_rounds(codes, size, count, length, out):
    """Write integers (M, N, T) of ``size`` bytes (``codes``, flat) into ``out`` (M, T, N).

    N is ``count`` and T ``length``; both axes of ``out`` may be longer; what stands in
    columns beyond N does not matter.
    """
    row_bytes, rounds, columns = length * size, out.shape[1], out.shape[2]
    panels = (columns + PANEL - 1) // PANEL
    flat = out.reshape(-1)
    for task in prange(out.shape[0] * panels):
        m, first = task // panels, task % panels * PANEL
        width = min(PANEL, columns - first)
        stride = stride_of(size)
        buffer = np.empty((PANEL, stride), np.uint8)
        here, last = (m * count + first) * row_bytes, (m * count + count - 1) * row_bytes
        squares = 0
        if VECTORS and size == WORD and width % LANES == 0 and first + width <= count:
            squares = length // LANES * LANES
            for j in range(0, width, LANES):
                for k in range(0, squares, LANES):
                    place = here + j * row_bytes + k * size
                    at = (m * rounds + k) * columns + first + j
                    _square(codes, place, row_bytes, flat, at, columns)  # type: ignore[call-arg]
        for k in range(squares, length, CHUNK):
            some, place = min(CHUNK, length - k), k * size
            copy_rows(codes, here + place, row_bytes, last + place, some * size, buffer)
            start = (m * rounds + k) * columns + first
            whole = some // (WORD // size) * (WORD // size) if width % LANES == 0 else 0
            turn_integers(buffer, size, whole, flat, start, width, columns)
            for i in range(whole, some):
                for j in range(width):
                    flat[start + i * columns + j] = code_at(buffer, j, i * size, size)
