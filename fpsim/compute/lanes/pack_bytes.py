# SPDX-License-Identifier: Apache-2.0
"""Operand elements as integers of a byte, whose products a dot instruction adds up four at a time.

The instruction multiplies unsigned bytes by signed ones. Elements of ``b`` are raised by an offset
that makes them unsigned, and the sum of a block starts at -offset times the sum of its ``a``; where
``b`` is split by sign they are magnitudes, and the sum of those with the sign bit is negated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.operands import MatmulOperands
from fpsim.compute.values import value_table
from fpsim.formats.floating import Format
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.tiles import Source, Tile
from fpsim.kernels.pack import nibbles_to_bytes, panels
from fpsim.units.spec import MacSpec, exponents

__all__ = ["WORD", "ByteOperands", "byte_power", "pack_bytes"]

Array = NDArray[Any]
#: Bytes of a word along K.
WORD = 4
BITS = 8


@dataclass(frozen=True)
class ByteOperands:
    """``a`` (planes, M, K / 4) and ``b`` (planes, panels, K / 4, columns) as words, and ``starts``
    (planes, M, G); see `fpsim.kernels.llvm.matmul_driver.gemm`."""

    a: Array
    b: Array
    starts: Array


@lru_cache(maxsize=64)
def _integers(fmt: Format) -> tuple[NDArray[np.int64], int] | None:
    """Return (integers, e) with every value integer * 2^e and a signed byte, or None."""
    if fmt.bits > BITS or not np.isfinite(value_table(fmt)).all():
        return None
    power = exponents(fmt)[0]
    integers = np.ldexp(value_table(fmt), -power).astype(np.int64)
    fits = integers.min() >= -(1 << BITS - 1) and integers.max() < 1 << BITS - 1
    return (integers, power) if fits else None


def byte_power(spec: MacSpec) -> int | None:
    """Return e if both operands are integers of a byte, with products times 2^e, or None."""
    a, b = _integers(spec.a), _integers(spec.b)
    return None if a is None or b is None else a[1] + b[1]


def pack_bytes(
    args: MatmulOperands, source: Source, tile: Tile, depth: int, machine: Machine
) -> ByteOperands:
    """Return operands as bytes: M and N padded to whole tiles, K to ``depth``, with zeros of a.

    Args:
        args: operands whose elements are integers of a byte.
        source: the blocks, and which operands are split by sign.
        tile: the rows and columns that a kernel computes at a time.
        depth: K, padded to whole turns of the kernel's loop.
        machine: the processor that packs.

    Returns:
        The kernel's arrays.
    """
    m, n = args.shape
    a_format, b_format = args.a.format, args.b.format
    rows, count = -(-m // tile.rows) * tile.rows, -(-n // tile.columns)
    a = np.zeros((source.a_signs, rows, depth), dtype=np.int8)
    b = np.zeros((source.b_signs, count, depth // WORD, tile.columns, WORD), dtype=np.uint8)
    starts = np.zeros((source.a_signs, rows, depth // source.size), dtype=np.int32)
    left, right = _planes(a_format, source.a_signs), _planes(b_format, source.b_signs)
    offset = 0 if source.b_signs > 1 else max(-int(right[0].min()), 0)
    pack_rows, left_codes = panels.pack_byte_rows, args.a.codes
    if _shuffles(a_format, machine):
        pack_rows, left_codes = nibbles_to_bytes.pack_nibble_rows, np.ascontiguousarray(left_codes)
    for sign, table in enumerate(left):
        integers = table.astype(np.int8)
        pack_rows(left_codes, integers, source.size, offset, a[sign], starts[sign])
    pack_panels, right_codes = panels.pack_byte_panels, args.b.codes.T
    if _shuffles(b_format, machine):
        pack_panels = nibbles_to_bytes.pack_nibble_panels
        right_codes = np.ascontiguousarray(right_codes)
    for sign, table in enumerate(right):
        unsigned = (abs(table) if source.b_signs > 1 else table + offset).astype(np.uint8)
        pack_panels(right_codes, unsigned, b[sign])
    return ByteOperands(a.view(np.int32), b.view(np.int32)[..., 0], starts)


def _shuffles(fmt: Format, machine: Machine) -> bool:
    """Return whether a byte shuffle looks a format's codes up."""
    return 1 << fmt.bits == nibbles_to_bytes.ENTRIES and machine.byte_shuffles


def _planes(fmt: Format, signs: int) -> list[NDArray[np.int64]]:
    """Return the integers of all codes, zero where a plane is for those of the other sign bit."""
    found = _integers(fmt)
    assert found is not None
    integers = found[0]
    if signs == 1:
        return [integers]
    negative = np.arange(integers.size) >> (fmt.bits - 1)
    return [np.where(negative == sign, integers, 0) for sign in range(signs)]
