# SPDX-License-Identifier: Apache-2.0
"""Codes of up to 8 bits packed into bytes, along the last axis, and back.

The codes of a row form a string of bits, code 0 first and every code least significant bit first,
that is cut into bytes filled from their least significant bit:

    4 bits  two codes in a byte, the first in the low nibble (as torch.float4_e2m1fn_x2)
    6 bits  four codes in three bytes: byte 0 is code 0 and the low 2 bits of code 1, and so on

Every row starts on a byte of its own; the unused high bits of its last byte are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.inputs import check_int

__all__ = ["pack", "packed_length", "unpack"]


def packed_length(count: int, bits: int = 4) -> int:
    """Return the bytes that a row of ``count`` codes takes."""
    return (count * bits + 7) // 8


def pack(codes: ArrayLike, bits: int = 4) -> NDArray[np.uint8]:
    """Return ``codes`` packed along the last axis; an odd row leaves the last high nibble 0.

    Args:
        codes: unsigned integers below 2^bits, at least one axis.
        bits: width of a code, 1..8.

    Raises:
        FpsimError: a code that is too wide, another type, or no axis.
    """
    from fpsim.kernels.codec import bit_packing

    check_int("bits", bits, 1, 8)
    array = np.asarray(codes)
    _need_axis("codes", array)
    if array.dtype.kind not in "ui":
        raise FpsimError(f"codes: dtype {array.dtype} is not an integer type")
    rows = _rows(array)
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < 1 << bits:
        raise FpsimError(f"codes: {int(rows.min())}..{int(rows.max())} do not fit {bits} bits")
    rows = np.ascontiguousarray(rows, dtype=np.uint8)
    shape = (rows.shape[0], packed_length(rows.shape[1], bits))
    out = np.empty(shape, dtype=np.uint8)
    if bits == 4:
        bit_packing.pack_nibbles(rows, out)
    else:
        bit_packing.pack_bits(rows, out, bits)
    return out.reshape((*array.shape[:-1], shape[1]))


def unpack(packed: ArrayLike, bits: int = 4, count: int | None = None) -> NDArray[np.uint8]:
    """Return the codes (uint8) that `pack` packed.

    Args:
        packed: uint8, at least one axis.
        bits: width of a code, 1..8.
        count: codes in a row, needed where a row does not fill its bytes; default: as many as fit.

    Returns:
        Codes (..., count).

    Raises:
        FpsimError: no uint8 or no axis, or rows of more or fewer bytes than ``count`` codes take.
    """
    from fpsim.kernels.codec import bit_packing

    check_int("bits", bits, 1, 8)
    array = np.asarray(packed)
    _need_axis("packed", array)
    if array.dtype != np.uint8:
        raise FpsimError(f"packed: dtype {array.dtype} is not uint8")
    length = array.shape[-1]
    count = length * 8 // bits if count is None else count
    if count < 0 or packed_length(count, bits) != length:
        raise FpsimError(
            f"count: {count} codes of {bits} bits are {packed_length(count, bits)} bytes, "
            f"not {length}"
        )
    rows = np.ascontiguousarray(_rows(array))
    out = np.empty((rows.shape[0], count), dtype=np.uint8)
    if bits == 4:
        bit_packing.unpack_nibbles(rows, out)
    else:
        bit_packing.unpack_bits(rows, out, bits)
    return out.reshape((*array.shape[:-1], count))


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(int(np.prod(array.shape[:-1])), array.shape[-1])


def _need_axis(field: str, array: NDArray[Any]) -> None:
    if array.ndim == 0:
        raise FpsimError(f"{field}: a single number has no axis to pack along")
