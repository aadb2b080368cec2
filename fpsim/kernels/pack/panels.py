# SPDX-License-Identifier: Apache-2.0
"""Operand codes into the arrays that the tile kernels read: rows, panels, powers of two."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from fpsim.kernels.cache import inner, kernel
from fpsim.kernels.llvm.vector import HALF
from fpsim.kernels.pack.transpose import EDGE, turn

__all__ = [
    "mark_used",
    "pack_byte_panels",
    "pack_byte_rows",
    "pack_columns",
    "pack_panels",
    "pack_rows",
    "to_half",
]


@kernel()
def mark_used(codes, used):
    """Set ``used[code]`` for every code of a row."""
    for code in codes:
        used[code] = True


@inner
def _look_up(codes, table, out):
    """Write ``table[codes]`` of one row."""
    for j in range(codes.size):
        out[j] = table[codes[j]]


@inner
def _look_up_scaled(codes, table, factors, sign_shift, out):
    """Write ``table[codes] * factors`` of one row; bit ``sign_shift`` of a code selects."""
    if factors.shape[0] == 1:
        for j in range(codes.size):
            out[j] = table[codes[j]] * factors[0, j]
    else:
        for j in range(codes.size):
            out[j] = table[codes[j]] * factors[codes[j] >> sign_shift, j]


@kernel(parallel=True)
def pack_rows(codes, table, scale, sign_shift, scale_table, block, out):
    """Write the values of rows of codes, times their scales if there are any.

    Args:
        codes: unsigned integers (M, K).
        table: the value of each code.
        scale: scale codes (M, G, 1); (M, G, 2), where a code's sign bit selects; or an empty array.
        sign_shift: place of the sign bit in a code.
        scale_table: the value of each scale code.
        block: elements of K to a scale.
        out: of the table's type, (at least M, at least K), filled; the rest stays as it is.

    Returns:
        Nothing.
    """
    length, signs = codes.shape[1], scale.shape[2] if scale.shape[0] else 0
    for m in prange(codes.shape[0]):
        if not signs:
            _look_up(codes[m], table, out[m])
            continue
        factors = np.empty((signs, length), scale_table.dtype)
        for sign in range(signs):
            for first in range(0, length, block):
                factor = scale_table[scale[m, first // block, sign]]
                for k in range(first, min(first + block, length)):
                    factors[sign, k] = factor
        _look_up_scaled(codes[m], table, factors, sign_shift, out[m])


@kernel(parallel=True)
def pack_panels(codes, table, scale, sign_shift, scale_table, block, out):
    """Write the values of codes, times their scales if there are any, into panels of columns.

    Args:
        codes: unsigned integers (K, N).
        table: the value of each code.
        scale: scale codes (G, N, 1); (G, N, 2), where a code's sign bit selects; or an empty array.
        sign_shift: place of the sign bit in a code.
        scale_table: the value of each scale code.
        block: elements of K to a scale.
        out: of the table's type, (panels, K, width), filled: column n is in panel n // width;
            entries beyond the codes stay as they are.

    Returns:
        Nothing.
    """
    width, signs = out.shape[2], scale.shape[2] if scale.shape[0] else 0
    for p in prange(out.shape[0]):
        start = p * width
        count = min(width, codes.shape[1] - start)
        factors, group = np.empty((signs, count), scale_table.dtype), -1
        for k in range(codes.shape[0]):
            row, target = codes[k, start : start + count], out[p, k]
            if not signs:
                _look_up(row, table, target)
                continue
            if k // block != group:
                group = k // block
                for sign in range(signs):
                    for j in range(count):
                        factors[sign, j] = scale_table[scale[group, start + j, sign]]
            _look_up_scaled(row, table, factors, sign_shift, target)


@kernel(parallel=True)
def pack_columns(codes, table, scale, sign_shift, scale_table, block, out):
    """Write the values of rows of codes into panels of columns: `pack_panels` of the transpose.

    Args:
        codes: unsigned integers (N, K).
        table: the value of each code.
        scale: scale codes (N, G, 1); (N, G, 2), where a code's sign bit selects; or an empty array.
        sign_shift: place of the sign bit in a code.
        scale_table: the value of each scale code.
        block: elements of K to a scale.
        out: of the table's type, (panels, K, width), filled: row n of the codes is in panel
            n // width; entries beyond the codes stay as they are.

    Returns:
        Nothing.
    """
    length, width, signs = codes.shape[1], out.shape[2], scale.shape[2] if scale.shape[0] else 0
    flat = codes.reshape(-1)
    for p in prange(out.shape[0]):
        start = p * width
        count = min(width, codes.shape[0] - start)
        turned = np.empty((EDGE, count), codes.dtype)
        factors, group = np.empty((signs, count), scale_table.dtype), -1
        for first in range(0, length, EDGE):
            some = min(EDGE, length - first)
            place = start * length + first
            turn(flat, place, length, count, some, turned.reshape(-1), 0, count)
            for k in range(first, first + some):
                row, target = turned[k - first], out[p, k]
                if not signs:
                    _look_up(row, table, target)
                    continue
                if k // block != group:
                    group = k // block
                    for sign in range(signs):
                        for j in range(count):
                            factors[sign, j] = scale_table[scale[start + j, group, sign]]
                _look_up_scaled(row, table, factors, sign_shift, target)


@kernel(parallel=True)
def pack_byte_rows(codes, table, size, offset, out, starts):
    """Write the bytes of codes in rows, and the integers at which their block sums start.

    A dot instruction takes unsigned elements of ``b``, which are raised by ``offset``; the start
    takes the product of that offset with the elements of ``a`` off again.

    Args:
        codes: unsigned integers (M, K).
        table: int8, the element of each code.
        size: elements of a block.
        offset: number added to the other operand's elements to make them unsigned.
        out: int8 (M, at least K), filled; the rest stays as it is.
        starts: int32 (M, G), filled with -offset times the sum of each block.

    Returns:
        Nothing.
    """
    for m in prange(codes.shape[0]):
        for g in range(starts.shape[1]):
            total = np.int32(0)
            for k in range(g * size, min((g + 1) * size, codes.shape[1])):
                value = table[codes[m, k]]
                out[m, k] = value
                total += np.int32(value)
            starts[m, g] = -offset * total


@kernel(parallel=True)
def pack_byte_panels(codes, table, out):
    """Write the bytes of codes in panels of columns, four elements along K to a word.

    Args:
        codes: unsigned integers (K, N).
        table: uint8, the element of each code.
        out: uint8 (panels, ceil(K / 4), width, 4), filled: column n is in panel n // width;
            entries beyond the codes stay as they are.

    Returns:
        Nothing.
    """
    width = out.shape[2]
    for p in prange(out.shape[0]):
        start = p * width
        count = min(width, codes.shape[1] - start)
        for k in range(codes.shape[0]):
            row, target = codes[k, start : start + count], out[p, k // 4, :, k % 4]
            for j in range(count):
                target[j] = table[row[j]]


@intrinsic
def _half_bits(typingctx, value):
    """Return the float16 bits of a float32 that float16 holds exactly."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = builder.fptrunc(args[0], HALF)
        return builder.bitcast(half, ir.IntType(16))

    return types.uint16(types.float32), codegen


@kernel(parallel=True)
def to_half(values, out):
    """Write the float16 bits of flat float32 ``values`` that float16 holds into uint16 ``out``."""
    for i in prange(values.size):
        out[i] = _half_bits(values[i])  # type: ignore[call-arg]
