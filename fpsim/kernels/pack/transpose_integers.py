# SPDX-License-Identifier: Apache-2.0
"""Transposes matrices of random integers, sixteen rows at a time.

Words of sixteen rows are transposed as squares, in registers. Of narrower integers, and of those
left over, a gather reads the word at the same place of sixteen rows: up to four integers of each,
next to each other along K. Rows are copied next to each other first, an odd number of cache lines
apart: those of a matrix are often so far apart that they push each other out of the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fpsim.kernels.cache import kernel
from fpsim.kernels.llvm.machine import Machine

__all__ = ["VECTORS", "WORD", "transpose_words"]

#: Rows of a vector, bytes of a word.
LANES, WORD = 16, 4
#: Integers of a row that are copied at a time, and bytes of a line of the cache.
CHUNK, LINE = 128, 64
#: Rows whose integers are transposed at a time.
PANEL = 64
#: Whether the processor gathers; without, integers are taken one by one.
VECTORS = Machine.host().directed
_BYTE, _INT = ir.IntType(8), ir.IntType(32)
_WORDS = ir.VectorType(_INT, LANES)


@njit
def stride_of(size):
    """Return the bytes from a row of a buffer to the next one, of integers of ``size`` bytes."""
    return CHUNK * size + LINE


def _gathered(size: int) -> Any:
    """Build the intrinsic that loads a word of each of sixteen rows and stores its integers.

    It takes the bytes of the rows, a place among them, the flat array that is written, a place
    there and the distance of integers that were side by side. Needs AVX-512F (VPGATHERDD).
    """

    @intrinsic
    def gather(typingctx: Any, codes: Any, first: Any, out: Any, at: Any, width: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def pointer(i: int) -> Any:
                array = context.make_array(signature.args[i])(context, builder, args[i])
                return builder.bitcast(array.data, _BYTE.as_pointer())

            every = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [1] * LANES)
            rows = ir.Constant(_WORDS, [(CHUNK * size + LINE) * j for j in range(LANES)])
            base = builder.gep(pointer(0), [args[1]])
            operands = [ir.Constant(_WORDS, None), base, rows, every, ir.Constant(_INT, 1)]
            kind = ir.FunctionType(_WORDS, [operand.type for operand in operands])
            name = "llvm.x86.avx512.mask.gather.dpi.512"
            words = builder.call(
                cgutils.get_or_insert_function(builder.module, kind, name), operands
            )
            where, part = args[3], ir.VectorType(ir.IntType(8 * size), LANES)
            for i in range(WORD // size):
                shifted = builder.lshr(words, ir.Constant(_WORDS, [8 * size * i] * LANES))
                place = builder.gep(pointer(2), [builder.mul(where, ir.Constant(where.type, size))])
                found = builder.trunc(shifted, part) if size < WORD else shifted
                builder.store(found, builder.bitcast(place, part.as_pointer()), align=1)
                where = builder.add(where, args[4])
            return context.get_dummy_value()

        return types.void(codes, first, out, at, width), codegen

    return gather


_gather_bytes, _gather_pairs, _gather_words = (_gathered(size) for size in (1, 2, 4))


@intrinsic
def _copy(typingctx: Any, codes: Any, place: Any, out: Any, at: Any, length: Any) -> Any:
    """Copy ``length`` bytes between flat arrays of bytes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = []
        for i in (0, 2):
            array = context.make_array(signature.args[i])(context, builder, args[i])
            places.append(builder.gep(array.data, [args[i + 1]]))
        cgutils.raw_memcpy(builder, places[1], places[0], args[4], 1)
        return context.get_dummy_value()

    return types.void(codes, place, out, at, length), codegen


@njit
def copy_rows(codes, first, stride, last, length, out):
    """Copy ``length`` bytes of each row of ``codes`` (flat) into the rows of ``out`` (rows, bytes).

    Row j begins at ``first`` + j * ``stride``, but never beyond ``last``: a row is copied again.
    """
    flat = out.reshape(-1)
    for j in range(out.shape[0]):
        place = min(first + j * stride, last)
        _copy(codes, place, flat, j * out.shape[1], length)  # type: ignore[call-arg]


@njit
def code_at(buffer, row, place, size):
    """Return the code of so many bytes at a place of a row."""
    code = np.int64(buffer[row, place])
    for i in range(1, size):
        code |= np.int64(buffer[row, place + i]) << (8 * i)
    return code


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
def transpose_panel(buffer, size, count, out, start, width, columns):
    """Write ``count`` integers of each row of ``buffer`` (rows, bytes).

    Those at k go to ``out`` (flat) from ``start`` + k * ``columns`` on; whole words are written, so
    that up to three k more are overwritten. Integers have ``size`` bytes.
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
                _gather_bytes(codes, place, out, at, columns)
            elif size == 2:
                _gather_pairs(codes, place, out, at, columns)
            else:
                _gather_words(codes, place, out, at, columns)


@kernel(parallel=True)
def transpose_words(codes, size, count, length, out):
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
            transpose_panel(buffer, size, whole, flat, start, width, columns)
            for i in range(whole, some):
                for j in range(width):
                    flat[start + i * columns + j] = code_at(buffer, j, i * size, size)
