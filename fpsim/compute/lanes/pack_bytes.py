# SPDX-License-Identifier: Apache-2.0
"""Elements as integers of a byte, four products of which a dot instruction adds up at a time.

The instruction multiplies unsigned bytes by signed ones. Elements of ``b`` are raised by an offset
that makes them unsigned, and the sum of a block starts at -offset times the sum of its ``a``. If
``b`` is split by sign, its bytes are magnitudes, and sums of negative elements are negated.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.values import value_table
from fpsim.formats.floating import Format
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.tiles import Source
from fpsim.kernels.pack import nibbles_to_bytes, panels
from fpsim.units.operands import Operand
from fpsim.units.spec import MacSpec, exponents

__all__ = ["WORD", "byte_offset", "byte_panels", "byte_power", "byte_rows", "pairs_fit"]

Array = NDArray[Any]
#: Bytes of a word along K.
WORD = 4
BITS = 8


@lru_cache(maxsize=64)
def _integers(fmt: Format) -> tuple[NDArray[np.int64], int] | None:
    """Return integers and e such that every value is integer * 2^e, for signed bytes, or None."""
    if fmt.bits > BITS or not np.isfinite(value_table(fmt)).all():
        return None
    power = exponents(fmt)[0]
    integers = np.ldexp(value_table(fmt), -power).astype(np.int64)
    fits = integers.min() >= -(1 << BITS - 1) and integers.max() < 1 << BITS - 1
    return (integers, power) if fits else None


def byte_power(spec: MacSpec) -> int | None:
    """Return e if products are byte * byte * 2^e, or None if an operand is not bytes."""
    a, b = _integers(spec.a), _integers(spec.b)
    return None if a is None or b is None else a[1] + b[1]


def byte_offset(b_format: Format, source: Source) -> int:
    """Return the offset that makes elements of ``b`` unsigned bytes; 0 if split by sign."""
    return 0 if source.b_signs > 1 else max(-int(_planes(b_format, 1)[0].min()), 0)


def pairs_fit(spec: MacSpec, source: Source) -> bool:
    """Return whether 16 bits hold the sum of every other pair of products of a block."""
    (a,), (b,) = (_planes(fmt, 1) for fmt in (spec.a, spec.b))
    largest = int(abs(a.astype(np.int64)).max())
    unsigned = int(abs(b.astype(np.int64) + byte_offset(spec.b, source)).max())
    return source.size // 2 * largest * unsigned < 1 << 15


def byte_rows(
    operand: Operand, source: Source, rows: int, depth: int, offset: int, machine: Machine
) -> tuple[Array, Array]:
    """Return ``a`` as bytes, and the integers at which sums of blocks start.

    Args:
        operand: rows (M, K) whose elements are integers of a byte.
        source: the blocks, and which operands are split by sign.
        rows: rows of a tile; M is padded to a multiple with zeros.
        depth: K, padded to whole turns of the kernel's loop.
        offset: added to bytes of ``b``.
        machine: the processor that packs.

    Returns:
        Words (planes, M, K / 4), and starts (planes, M, G).
    """
    count = -(-len(operand.codes) // rows) * rows
    out = np.zeros((source.a_signs, count, depth), dtype=np.int8)
    starts = np.zeros((source.a_signs, count, depth // source.size), dtype=np.int32)
    pack_rows, codes = panels.pack_byte_rows, operand.codes
    if _shuffles(operand.format, machine):
        pack_rows, codes = nibbles_to_bytes.pack_nibble_rows, np.ascontiguousarray(codes)
    for sign, table in enumerate(_planes(operand.format, source.a_signs)):
        pack_rows(codes, table, source.size, offset, out[sign], starts[sign])
    return out.view(np.int32), starts


def byte_panels(
    operand: Operand, source: Source, columns: int, depth: int, machine: Machine
) -> Array:
    """Return ``b`` as bytes, in panels of words.

    Args:
        operand: rows (N, K) whose elements are integers of a byte.
        source: the blocks, and which operands are split by sign.
        columns: columns of a panel.
        depth: K, padded to whole turns of the kernel's loop.
        machine: the processor that packs.

    Returns:
        Words (planes, panels, K / 4, columns), int32, of four bytes along K in order of address.
        Bytes are unsigned: magnitudes where ``b`` is split by sign, else integers plus
        `byte_offset`.
    """
    count = -(-len(operand.codes) // columns)
    out = np.zeros((source.b_signs, count, depth // WORD, columns, WORD), dtype=np.uint8)
    pack_panels, codes = panels.pack_byte_panels, operand.codes.T
    if _shuffles(operand.format, machine):
        pack_panels, codes = nibbles_to_bytes.pack_nibble_panels, np.ascontiguousarray(codes)
    offset = byte_offset(operand.format, source)
    for sign, table in enumerate(_planes(operand.format, source.b_signs)):
        wide = table.astype(np.int64)  # -128 has no magnitude of a byte
        unsigned = (abs(wide) if source.b_signs > 1 else wide + offset).astype(np.uint8)
        pack_panels(codes, unsigned, out[sign])
    return out.view(np.int32)[..., 0]


def _shuffles(fmt: Format, machine: Machine) -> bool:
    """Return whether a byte shuffle can look up the codes of a format."""
    return 1 << fmt.bits == nibbles_to_bytes.ENTRIES and machine.byte_shuffles


@lru_cache(maxsize=64)
def _planes(fmt: Format, signs: int) -> list[NDArray[np.int8]]:
    """Return the integers of all codes, one plane per sign; codes of the other sign give zero."""
    found = _integers(fmt)
    assert found is not None
    integers = found[0].astype(np.int8)
    if signs == 1:
        return [integers]
    negative = np.arange(integers.size) >> (fmt.bits - 1)
    return [np.where(negative == sign, integers, np.int8(0)) for sign in range(signs)]
