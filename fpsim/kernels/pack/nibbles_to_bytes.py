# SPDX-License-Identifier: Apache-2.0
"""Codes of at most four bits to bytes, a register at a time, in the order of a dot instruction.

One byte shuffle looks 64 codes up in a table of 16 entries.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fpsim.kernels.cache import kernel

__all__ = ["ENTRIES", "GROUP", "pack_nibble_panels", "pack_nibble_rows"]

#: Entries of a table, columns that `pack_nibble_panels` takes at a time, codes of a register.
ENTRIES, GROUP, REGISTER = 16, 16, 64
_BYTE = ir.IntType(8)


def _looked_up(builder: Any, codes: Any, table: Any) -> Any:
    """Return the table's bytes for 64 codes. Needs AVX-512BW (VPSHUFB, Intel SDM volume 2B)."""
    wide = ir.VectorType(_BYTE, REGISTER)
    small = ir.VectorType(_BYTE, ENTRIES)
    lanes = ir.VectorType(ir.IntType(32), REGISTER)
    entries = _load(builder, table, small)
    repeated = ir.Constant(lanes, [i % ENTRIES for i in range(REGISTER)])
    entries = builder.shuffle_vector(entries, ir.Constant(small, ir.Undefined), repeated)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(wide, [wide, wide]), "llvm.x86.avx512.pshuf.b.512"
    )
    return builder.call(function, [entries, codes])


def _load(builder: Any, pointer: Any, kind: Any) -> Any:
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)


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
    """Write the entries of ``table`` at 64 codes from ``first`` on to ``out`` at ``start``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, table, out = _pointers(context, builder, signature, args, {0: 1, 2: -1, 3: 4})
        values = _load(builder, source, ir.VectorType(_BYTE, REGISTER))
        _store(builder, _looked_up(builder, values, table), out)
        return context.get_dummy_value()

    return types.void(codes, first, table, out, start), codegen


@intrinsic
def _look_up_four(typingctx, codes, first, stride, table, out, start):
    """Look up 16 codes of each of four rows; the four entries of a column are stored together."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, table, out = _pointers(context, builder, signature, args, {0: 1, 3: -1, 4: 5})
        rows = []
        for _ in range(4):
            rows.append(_load(builder, source, ir.VectorType(_BYTE, GROUP)))
            source = builder.gep(source, [args[2]])
        index = ir.IntType(32)
        pairs = [
            builder.shuffle_vector(
                rows[i], rows[i + 1], ir.Constant(ir.VectorType(index, 32), list(range(32)))
            )
            for i in (0, 2)
        ]
        order = [16 * row + column for column in range(GROUP) for row in range(4)]
        mask = ir.Constant(ir.VectorType(index, REGISTER), order)
        together = builder.shuffle_vector(pairs[0], pairs[1], mask)
        _store(builder, _looked_up(builder, together, table), out)
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
        out: int8 (M, at least G * size), filled; entries from K on must be 0.
        starts: int32 (M, G), filled with -offset times the sum of each block.

    Returns:
        Nothing.
    """
    rows, length = codes.shape
    whole = length // REGISTER * REGISTER
    flat, target = codes.reshape(-1), out.reshape(-1)
    for m in prange(rows):
        for k in range(0, whole, REGISTER):
            start = m * out.shape[1] + k
            _look_up(flat, m * length + k, table, target, start)  # type: ignore[call-arg]
        for k in range(whole, length):
            out[m, k] = table[codes[m, k]]
        for g in range(starts.shape[1]):
            total = np.int32(0)
            for k in range(g * size, (g + 1) * size):  # zero beyond the codes
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
        vectors = count // GROUP * GROUP
        for w in range(whole):
            for j in range(0, vectors, GROUP):
                first = 4 * w * columns + p * width + j
                start = 4 * ((p * words + w) * width + j)
                _look_up_four(flat, first, columns, table, target, start)  # type: ignore[call-arg]
        for k in range(length):
            first = vectors if k < 4 * whole else 0
            for j in range(first, count):
                out[p, k // 4, j, k % 4] = table[codes[k, p * width + j]]
