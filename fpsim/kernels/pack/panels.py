# SPDX-License-Identifier: Apache-2.0
"""Operand codes into the arrays that the tile kernels read: rows, panels, powers of two."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from fpsim.kernels.cache import kernel
from fpsim.kernels.llvm.vector import HALF

__all__ = [
    "mark_used",
    "pack_byte_panels",
    "pack_byte_rows",
    "pack_columns",
    "pack_panels",
    "pack_rows",
    "to_half",
    "transpose_rounds",
]


#: Edge of the squares that a transposition moves at a time: they stay in the first cache.
EDGE = 64


@kernel(parallel=True)
def transpose_rounds(integers, out):
    """Write integers (M, N, T) into ``out`` (M, T, N), both perhaps padded."""
    for m in prange(integers.shape[0]):
        for n0 in range(0, integers.shape[1], EDGE):
            for t0 in range(0, integers.shape[2], EDGE):
                for t in range(t0, min(t0 + EDGE, integers.shape[2])):
                    for n in range(n0, min(n0 + EDGE, integers.shape[1])):
                        out[m, t, n] = integers[m, n, t]


@kernel()
def mark_used(codes, used):
    """Set ``used[code]`` of every code of an array (M, N)."""
    for m in range(codes.shape[0]):
        for n in range(codes.shape[1]):
            used[codes[m, n]] = True


@kernel(parallel=True)
def pack_rows(codes, table, scale, sign_shift, scale_table, block, out):
    """Write ``table[codes] * scale_table[scale]`` of (M, K) codes into ``out`` (padded rows).

    ``scale`` is (M, G, 1), (M, G, 2) to select by the bit ``sign_shift`` of a code, or empty.
    """
    scaled = scale.shape[0] > 0
    split = scale.shape[2] == 2
    for m in prange(codes.shape[0]):
        for k in range(codes.shape[1]):
            code = codes[m, k]
            value = table[code]
            if scaled:
                sign = np.int64(code) >> sign_shift if split else np.int64(0)
                value = value * scale_table[scale[m, k // block, sign]]
            out[m, k] = value


@kernel(parallel=True)
def pack_panels(codes, table, scale, sign_shift, scale_table, block, out):
    """Write ``table[codes] * scale_table[scale]`` of (K, N) codes into panels (P, K, width).

    ``scale`` is (G, N, 1), (G, N, 2) to select by the bit ``sign_shift`` of a code, or empty.
    """
    scaled = scale.shape[0] > 0
    split = scale.shape[2] == 2
    width = out.shape[2]
    for p in prange(out.shape[0]):
        start = p * width
        count = min(width, codes.shape[1] - start)
        for k in range(codes.shape[0]):
            if scaled:
                group = k // block
                for j in range(count):
                    code = codes[k, start + j]
                    sign = np.int64(code) >> sign_shift if split else np.int64(0)
                    out[p, k, j] = table[code] * scale_table[scale[group, start + j, sign]]
            else:
                for j in range(count):
                    out[p, k, j] = table[codes[k, start + j]]
            for j in range(count, width):
                out[p, k, j] = 0


@kernel(parallel=True)
def pack_columns(codes, table, scale, sign_shift, scale_table, block, out):
    """Write ``table[codes] * scale_table[scale]`` of rows (N, K) into panels (P, K, width).

    ``scale`` is (N, G, 1), (N, G, 2) to select by the bit ``sign_shift`` of a code, or empty. Each
    row is read front to back, `EDGE` codes at a time, so that what is written stays in the cache.
    """
    scaled = scale.shape[0] > 0
    split = scale.shape[2] == 2
    length, width = codes.shape[1], out.shape[2]
    for p in prange(out.shape[0]):
        start = p * width
        count = min(width, codes.shape[0] - start)
        for first in range(0, length, EDGE):
            some = min(EDGE, length - first)
            panel = out[p, first : first + some]
            for j in range(count):
                row, column = codes[start + j, first : first + some], panel[:, j]
                if not scaled:
                    for k in range(some):
                        column[k] = table[row[k]]
                    continue
                group, k = first // block, 0
                while k < some:
                    stop = min((group + 1) * block - first, some)
                    factors = scale[start + j, group]
                    part, values = row[k:stop], column[k:stop]
                    if split:
                        for i in range(part.size):
                            factor = scale_table[factors[np.int64(part[i]) >> sign_shift]]
                            values[i] = table[part[i]] * factor
                    else:
                        factor = scale_table[factors[0]]
                        for i in range(part.size):
                            values[i] = table[part[i]] * factor
                    group, k = group + 1, stop
            panel[:, count:] = 0


@kernel(parallel=True)
def pack_byte_rows(codes, table, size, offset, out, starts):
    """Write ``table[codes]`` of (M, K) codes into ``out`` (M, K), and -offset times block sums.

    ``table`` and ``out`` are int8; ``starts`` (M, G) int32 has one entry per ``size`` elements.
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
    """Write ``table[codes]`` of (K, N) codes into panels (P, K / 4, width, 4) of unsigned bytes."""
    width = out.shape[2]
    for p in prange(out.shape[0]):
        start = p * width
        count = min(width, codes.shape[1] - start)
        for k in range(codes.shape[0]):
            for j in range(count):
                out[p, k // 4, j, k % 4] = table[codes[k, start + j]]


@intrinsic
def _half_bits(typingctx, value):
    """Return the float16 bits of a float32 that float16 holds exactly."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = builder.fptrunc(args[0], HALF)
        return builder.bitcast(half, ir.IntType(16))

    return types.uint16(types.float32), codegen


@kernel(parallel=True)
def to_half(values, out):
    """Write the float16 bits of float32 ``values`` (flat) into ``out`` (uint16, flat)."""
    for i in prange(values.size):
        out[i] = _half_bits(values[i])  # type: ignore[call-arg]
