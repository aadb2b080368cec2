# SPDX-License-Identifier: Apache-2.0
"""Codes of at most four bits to bytes, a register at a time, in the order of a dot instruction.

One byte shuffle looks 16 codes up in a table of 16 entries.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fpsim.kernels.cache import kernel

__all__ = ["ENTRIES", "pack_nibble_panels", "pack_nibble_rows"]

#: Entries of a table, and codes of a register.
ENTRIES = 16
_BYTE, _WORD = ir.IntType(8), ir.IntType(32)
_REGISTER = ir.VectorType(_BYTE, ENTRIES)


def _looked_up(builder: Any, codes: Any, table: Any) -> Any:
    """Return the table's bytes for 16 codes. Needs SSSE3 (PSHUFB, Intel SDM volume 2B)."""
    kind = ir.FunctionType(_REGISTER, [_REGISTER, _REGISTER])
    shuffle = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.ssse3.pshuf.b.128")
    return builder.call(shuffle, [table, codes])


def _load(builder: Any, pointer: Any) -> Any:
    return builder.load(builder.bitcast(pointer, _REGISTER.as_pointer()), align=1)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=1)


def _pointers(context: Any, builder: Any, signature: Any, args: Any, at: dict[int, int]) -> Any:
    """Return the addresses of arrays, moved on by the index arguments that ``at`` names."""
    found = []
    for i, offset in at.items():
        array = context.make_array(signature.args[i])(context, builder, args[i])
        pointer = builder.bitcast(array.data, _BYTE.as_pointer())
        found.append(pointer if offset < 0 else builder.gep(pointer, [args[offset]]))
    return found


@intrinsic
def _look_up(typingctx, codes, first, table, out, start):
    """Write the entries of ``table`` at 16 codes from ``first`` on to ``out`` at ``start``.

    The sum of the entries, which are signed, is the intrinsic's value.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, table, out = _pointers(context, builder, signature, args, {0: 1, 2: -1, 3: 4})
        entries = _looked_up(builder, _load(builder, source), _load(builder, table))
        _store(builder, entries, out)
        # Sums of unsigned bytes are one instruction (PSADBW).
        raised = builder.xor(entries, ir.Constant(_REGISTER, [0x80] * ENTRIES))
        wide = ir.VectorType(_WORD, ENTRIES)
        add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_WORD, [wide]), "llvm.vector.reduce.add.v16i32"
        )
        total = builder.call(add, [builder.zext(raised, wide)])
        return builder.sub(total, ir.Constant(_WORD, 0x80 * ENTRIES))

    return types.int32(codes, first, table, out, start), codegen


@intrinsic
def _look_up_four(typingctx, codes, first, stride, table, out, start):
    """Look up 16 codes of each of four rows; the four entries of a column are stored together."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, table, out = _pointers(context, builder, signature, args, {0: 1, 3: -1, 4: 5})
        entries, rows = _load(builder, table), []
        for _ in range(4):
            rows.append(_looked_up(builder, _load(builder, source), entries))
            source = builder.gep(source, [args[2]])

        def joined(first: Any, second: Any, order: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(_WORD, len(order)), order)
            return builder.shuffle_vector(first, second, mask)

        halves = [joined(rows[i], rows[i + 1], list(range(2 * ENTRIES))) for i in (0, 2)]
        order = [ENTRIES * row + column for column in range(ENTRIES) for row in range(4)]
        _store(builder, joined(halves[0], halves[1], order), out)
        return context.get_dummy_value()

    return types.void(codes, first, stride, table, out, start), codegen


@kernel(parallel=True)
def pack_nibble_rows(codes, table, size, offset, out, starts):
    """Write the bytes of codes of at most four bits in rows, and the starts of block sums.

    The vector form of `fpsim.kernels.pack.panels.pack_byte_rows`.

    Args:
        codes: contiguous uint8 (M, K), below 16.
        table: int8 (16,), the element of each code.
        size: elements of a block.
        offset: number added to the other operand's elements to make them unsigned.
        out: int8 (M, at least K), filled; the rest stays as it is.
        starts: int32 (M, G), filled with -offset times the sum of each block.

    Returns:
        Nothing.
    """
    rows, length = codes.shape
    flat, target = codes.reshape(-1), out.reshape(-1)
    for m in prange(rows):
        for g in range(starts.shape[1]):
            first, end = g * size, min((g + 1) * size, length)
            whole = first + max(end - first, 0) // ENTRIES * ENTRIES
            total = np.int32(0)
            for k in range(first, whole, ENTRIES):
                place = m * out.shape[1] + k
                total += _look_up(flat, m * length + k, table, target, place)  # type: ignore[call-arg]
            for k in range(whole, end):
                out[m, k] = table[codes[m, k]]
                total += np.int32(out[m, k])
            starts[m, g] = -offset * total


@kernel(parallel=True)
def pack_nibble_panels(codes, table, out):
    """Write the bytes of codes of at most four bits in panels of columns.

    The vector form of `fpsim.kernels.pack.panels.pack_byte_panels`.

    Args:
        codes: contiguous uint8 (K, N), below 16.
        table: uint8 (16,), the element of each code.
        out: uint8 (panels, ceil(K / 4), width, 4): column n is in panel n // width; entries beyond
            the codes stay as they are.

    Returns:
        Nothing.
    """
    length, columns = codes.shape
    words, width = out.shape[1:3]
    flat, target = codes.reshape(-1), out.reshape(-1)
    whole = length // 4
    for p in prange(out.shape[0]):
        count = min(width, columns - p * width)
        vectors = count // ENTRIES * ENTRIES
        for w in range(whole):
            for j in range(0, vectors, ENTRIES):
                first = 4 * w * columns + p * width + j
                start = 4 * ((p * words + w) * width + j)
                _look_up_four(flat, first, columns, table, target, start)  # type: ignore[call-arg]
        for k in range(length):
            first = vectors if k < 4 * whole else 0
            for j in range(first, count):
                out[p, k // 4, j, k % 4] = table[codes[k, p * width + j]]
