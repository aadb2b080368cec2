# SPDX-License-Identifier: Apache-2.0
"""Rows of codes into columns of values, a vector of rows at a time.

A gather reads the word at the same place of sixteen rows: up to four codes of each, next to each
other along K. What a code stands for is looked up, in a register or in memory, or its bits are
moved to where they make a float. Rows are copied next to each other first, an odd number of cache
lines apart: those of a matrix are often so far apart that they push each other out of the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from fpsim.kernels.lanes.vector import DOUBLE, FLOAT, HALF, host_features, splat

__all__ = [
    "BRAIN",
    "CHUNK",
    "GATHER",
    "HALVES",
    "LANES",
    "LINE",
    "REGISTER",
    "VECTORS",
    "WORD",
    "code_at",
    "convert",
    "copy_rows",
    "scale",
    "stride_of",
    "turn_codes",
    "turn_powers",
    "turned",
]

#: How values of codes are found: in a table of sixteen entries of a register; in a table in memory;
#: as float16 bits after shifts, times a factor; as the upper half of a float32.
REGISTER, GATHER, HALVES, BRAIN = range(4)
#: Rows of a vector, bytes of a word.
LANES, WORD = 16, 4
#: Codes of a row that are copied at a time, and bytes of a line of the cache.
CHUNK, LINE = 128, 64
#: Place of the exponent field, its largest value and the bias, of floats of so many bits.
_EXPONENTS = {32: (23, 255, 127), 64: (52, 2047, 1023)}
_BYTE, _INT = ir.IntType(8), ir.IntType(32)
_WORDS, _REALS = ir.VectorType(_INT, LANES), ir.VectorType(FLOAT, LANES)
#: Whether the processor gathers; without, codes are taken one by one.
VECTORS = "avx512f" in host_features()


@njit
def stride_of(size):
    """Return the bytes from a row of a buffer to the next one, of codes of ``size`` bytes."""
    return CHUNK * size + LINE


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _constant(value: int) -> Any:
    return ir.Constant(_WORDS, [value] * LANES)


def _gathered(builder: Any, base: Any, index: Any, kind: Any, scale: int) -> Any:
    """Load 32-bit elements from sixteen places. Needs AVX-512F (VPGATHERDD, VGATHERDPS)."""
    suffix = "dps" if kind == _REALS else "dpi"
    every = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [1] * LANES)
    arguments = [ir.Constant(kind, None), base, index, every, ir.Constant(_INT, scale)]
    return _call(builder, f"llvm.x86.avx512.mask.gather.{suffix}.512", kind, arguments)


def _halves(builder: Any, codes: Any, table: Any) -> Any:
    """Return the float16 numbers that codes make: a factor, a shift up and one down are given."""
    integers = builder.bitcast(table, _INT.as_pointer())

    def parameter(i: int) -> Any:
        place = builder.gep(integers, [ir.Constant(_INT, i)])
        return splat(builder, builder.load(place), _WORDS)

    high = builder.shl(codes, parameter(1))
    sign = builder.and_(high, _constant(0x8000))
    magnitude = builder.lshr(builder.and_(high, _constant(0x7FFF)), parameter(2))
    shorts = builder.trunc(builder.or_(sign, magnitude), ir.VectorType(ir.IntType(16), LANES))
    values = builder.fpext(builder.bitcast(shorts, ir.VectorType(HALF, LANES)), _REALS)
    return builder.fmul(values, builder.bitcast(parameter(0), _REALS))


def _values(builder: Any, how: int, codes: Any, table: Any) -> Any:
    """Return what sixteen codes stand for, as float32."""
    if how == REGISTER:
        entries = builder.load(builder.bitcast(table, _REALS.as_pointer()), align=4)
        return _call(builder, "llvm.x86.avx512.permvar.sf.512", _REALS, [entries, codes])
    if how == GATHER:
        return _gathered(builder, table, codes, _REALS, 4)
    if how == HALVES:
        return _halves(builder, codes, table)
    return builder.bitcast(builder.shl(codes, _constant(16)), _REALS)


def _as(builder: Any, values: Any, kind: Any) -> Any:
    """Return float32 values as an array of a type holds them: uint16 are the bits of float16."""
    if kind == types.float64:
        return builder.fpext(values, ir.VectorType(DOUBLE, LANES))
    if kind == types.uint16:
        return builder.fptrunc(values, ir.VectorType(HALF, LANES))
    return values


def turned(how: int | None, size: int) -> Any:
    """Return what turns a word of sixteen rows of codes of ``size`` bytes; without ``how``, as is.

    It takes the bytes, a place, a table, the array that is written, a place there and its width.
    """

    @intrinsic
    def turn(
        typingctx: Any, codes: Any, first: Any, table: Any, out: Any, at: Any, width: Any
    ) -> Any:
        result = types.void(codes, first, table, out, at, width)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def pointer(i: int) -> Any:
                array = context.make_array(signature.args[i])(context, builder, args[i])
                return builder.bitcast(array.data, _BYTE.as_pointer())

            rows = ir.Constant(_WORDS, [(CHUNK * size + LINE) * j for j in range(LANES)])
            base = builder.gep(pointer(0), [args[1]])
            words = _gathered(builder, base, rows, _WORDS, 1)
            kind = signature.args[3].dtype
            stored = ir.Constant(args[4].type, kind.bitwidth // 8)
            target, where = pointer(3), args[4]
            for i in range(WORD // size):
                part = builder.lshr(words, _constant(8 * size * i)) if i else words
                if size < WORD and how != REGISTER:  # a register is indexed by the last four bits
                    part = builder.and_(part, _constant((1 << 8 * size) - 1))
                if how is None:
                    part = builder.trunc(part, ir.VectorType(ir.IntType(8 * size), LANES))
                else:
                    part = _as(builder, _values(builder, how, part, pointer(2)), kind)
                place = builder.gep(target, [builder.mul(where, stored)])
                builder.store(part, builder.bitcast(place, part.type.as_pointer()), align=1)
                where = builder.add(where, args[5])
            return context.get_dummy_value()

        return result, codegen

    return turn


_turn_register, _turn_halved_bytes = turned(REGISTER, 1), turned(HALVES, 1)
_turn_bytes, _turn_pairs, _turn_words = (turned(GATHER, size) for size in (1, 2, 4))
_turn_halves, _turn_brain = turned(HALVES, 2), turned(BRAIN, 2)


@intrinsic
def _powers_of(typingctx: Any, values: Any, first: Any, least: Any, out: Any, at: Any) -> Any:
    """Write 2^e of sixteen values; see `turn_powers`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = signature.args[0].dtype.bitwidth
        place, top, bias = _EXPONENTS[bits]
        kind = ir.VectorType(ir.IntType(bits), LANES)

        def constant(value: int) -> Any:
            return ir.Constant(kind, [value] * LANES)

        places = []
        for i, offset in ((0, args[1]), (3, args[4])):
            array = context.make_array(signature.args[i])(context, builder, args[i])
            places.append(builder.bitcast(builder.gep(array.data, [offset]), kind.as_pointer()))
        found = builder.load(places[0], align=bits // 8)
        magnitude = builder.and_(found, constant((1 << bits - 1) - 1))
        power = builder.and_(magnitude, constant(top << place))
        least = builder.trunc(args[2], kind.element) if bits == 32 else args[2]
        lowest = splat(builder, least, kind)
        lowest = builder.shl(builder.add(lowest, constant(bias)), constant(place))
        power = builder.select(builder.icmp_unsigned(">", power, lowest), power, lowest)
        counts = builder.icmp_unsigned(
            "<", builder.sub(magnitude, constant(1)), constant((top << place) - 1)
        )
        power = builder.select(counts, power, constant(0))
        builder.store(power, places[1], align=bits // 8)
        return context.get_dummy_value()

    return types.void(values, first, least, out, at), codegen


@intrinsic
def _converted(typingctx: Any, values: Any, first: Any, out: Any, at: Any) -> Any:
    """Write sixteen float32 values as float64, or as the bits of float16."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = [
            context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2)
        ]
        source, target = (builder.gep(x, [args[i]]) for x, i in zip(arrays, (1, 3), strict=True))
        found = builder.load(builder.bitcast(source, _REALS.as_pointer()), align=4)
        found = _as(builder, found, signature.args[2].dtype)
        builder.store(found, builder.bitcast(target, found.type.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(values, first, out, at), codegen


@intrinsic
def _multiplied(typingctx: Any, values: Any, at: Any, factors: Any) -> Any:
    """Multiply sixteen values of a flat array by the first sixteen of another one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = DOUBLE if signature.args[0].dtype == types.float64 else FLOAT
        kind = ir.VectorType(real, LANES).as_pointer()
        arrays = [context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 2)]
        target = builder.bitcast(builder.gep(arrays[0].data, [args[1]]), kind)
        factor = builder.load(builder.bitcast(arrays[1].data, kind), align=4)
        product = builder.fmul(builder.load(target, align=4), factor)
        builder.store(product, target, align=4)
        return context.get_dummy_value()

    return types.void(values, at, factors), codegen


@njit
def scale(scales, block, first, count, out, start):
    """Multiply values (K, width) in ``out`` (flat) by the scales (G, width) of their blocks.

    The ``count`` values of each row, of products from ``first`` on, begin at ``start``.
    """
    width = scales.shape[1]
    group, left = first // block, block - first % block
    for k in range(count):
        if left == 0:
            group, left = group + 1, block
        left -= 1
        for j in range(0, width, LANES):
            at = start + k * width + j
            _multiplied(out, at, scales[group, j:])  # type: ignore[call-arg]


@njit
def convert(values, size, out, at):
    """Write float32 values into ``out`` from ``at`` on: float64, or float16 that are its bits."""
    for i in range(0, size, LANES):
        _converted(values, i, out, at + i)  # type: ignore[call-arg]


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


@njit
def turn_codes(how, buffer, size, count, table, parameters, out, start, width):
    """Write the values of ``count`` codes of each row of ``buffer`` (rows, bytes).

    They are float32, float64, or bits of float16.

    Those at k go to ``out`` (flat) from ``start`` + k * ``width`` on; whole words of codes are
    turned, so that up to three k more are overwritten. Codes have ``size`` bytes. ``table`` has an
    entry for whatever so many bytes hold, ``parameters`` what `HALVES` needs.
    """
    if not VECTORS:
        scratch = np.empty(width, np.float32)
        for k in range(count):
            for j in range(width):
                scratch[j] = table[code_at(buffer, j, k * size, size)]
            convert(scratch, width, out, start + k * width)
        return
    codes = buffer.reshape(-1)
    for k in range(0, count, WORD // size):
        for j in range(0, width, LANES):
            place, at = j * buffer.shape[1] + k * size, start + k * width + j
            if how == REGISTER:
                _turn_register(codes, place, table, out, at, width)
            elif how == BRAIN:
                _turn_brain(codes, place, table, out, at, width)
            elif how == HALVES and size == 1:
                _turn_halved_bytes(codes, place, parameters, out, at, width)
            elif how == HALVES:
                _turn_halves(codes, place, parameters, out, at, width)
            elif size == 1:
                _turn_bytes(codes, place, table, out, at, width)
            elif size == 2:
                _turn_pairs(codes, place, table, out, at, width)
            else:
                _turn_words(codes, place, table, out, at, width)


@njit
def turn_powers(values, start, size, least, out):
    """Write 2^e of values of a lane: 0 for zeros and what is not finite.

    ``size`` of them, a multiple of sixteen, from ``start`` on go to the same places of ``out``. The
    exponent e is the value's own, or ``least`` if that is larger.
    """
    for i in range(start, start + size, LANES):
        _powers_of(values, i, least, out, i)  # type: ignore[call-arg]
