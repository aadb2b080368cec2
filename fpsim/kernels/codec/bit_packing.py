# SPDX-License-Identifier: Apache-2.0
"""Codes into bytes and back, row by row; `fpsim.formats.packing` defines the order of bits."""

from __future__ import annotations

import numpy as np
from numba import prange

from fpsim.kernels.cache import kernel

__all__ = ["pack_bits", "pack_nibbles", "unpack_bits", "unpack_nibbles"]

#: Bytes a thread takes at a time.
CHUNK = 1 << 14


@kernel(parallel=True)
def pack_nibbles(codes, out):
    """Pack codes of four bits (R, K) into bytes ``out`` (R, ceil(K / 2)), low nibble first."""
    count, length = codes.shape[1], out.shape[1]
    pairs = count // 2
    chunks = (length + CHUNK - 1) // CHUNK
    for task in prange(codes.shape[0] * chunks):
        row, chunk = task // chunks, task % chunks
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, pairs)):
            out[row, i] = codes[row, 2 * i] | (codes[row, 2 * i + 1] << np.uint8(4))
        if chunk == chunks - 1 and count % 2:
            out[row, pairs] = codes[row, count - 1]


@kernel(parallel=True)
def unpack_nibbles(packed, out):
    """Write the codes (R, K) that `pack_nibbles` packed into bytes (R, ceil(K / 2)) to ``out``."""
    count, length = out.shape[1], packed.shape[1]
    pairs = count // 2
    chunks = (length + CHUNK - 1) // CHUNK
    for task in prange(out.shape[0] * chunks):
        row, chunk = task // chunks, task % chunks
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, pairs)):
            out[row, 2 * i] = packed[row, i] & np.uint8(15)
            out[row, 2 * i + 1] = packed[row, i] >> np.uint8(4)
        if chunk == chunks - 1 and count % 2:
            out[row, count - 1] = packed[row, pairs] & np.uint8(15)


@kernel(parallel=True)
def pack_bits(codes, out, bits):
    """Pack the codes of each row into bytes, the first code in the lowest bits of the first byte.

    Args:
        codes: unsigned integers (R, K) below 2^bits.
        out: uint8 (R, ceil(K * bits / 8)), filled; unused high bits of the last byte are 0.
        bits: width of a code, 1..8.

    Returns:
        Nothing.
    """
    count, length = codes.shape[1], out.shape[1]
    groups = (count + 7) // 8
    for task in prange(codes.shape[0] * groups):
        row, group = task // groups, task % groups
        word = np.uint64(0)
        for k in range(min(8, count - 8 * group)):
            word |= np.uint64(codes[row, 8 * group + k]) << np.uint64(k * bits)
        for k in range(min(bits, length - bits * group)):
            out[row, bits * group + k] = np.uint8((word >> np.uint64(8 * k)) & np.uint64(255))


@kernel(parallel=True)
def unpack_bits(packed, out, bits):
    """Write the codes that `pack_bits` packed to ``out``.

    Args:
        packed: uint8 (R, ceil(K * bits / 8)).
        out: unsigned integers (R, K), filled.
        bits: width of a code, 1..8.

    Returns:
        Nothing.
    """
    count, length = out.shape[1], packed.shape[1]
    groups = (count + 7) // 8
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    for task in prange(out.shape[0] * groups):
        row, group = task // groups, task % groups
        word = np.uint64(0)
        for k in range(min(bits, length - bits * group)):
            word |= np.uint64(packed[row, bits * group + k]) << np.uint64(8 * k)
        for k in range(min(8, count - 8 * group)):
            out[row, 8 * group + k] = np.uint8((word >> np.uint64(k * bits)) & mask)
