# SPDX-License-Identifier: Apache-2.0
"""Lists of a format's codes: all or a choice, the number of finite codes, the i-th of them.

Formats of up to `LISTED_BITS` bits are listed whole. A list of a wider format, such as a float32
scale or a 32-bit integer, holds codes that show errors: both ends, zero, subnormals, and in every
row of exponents the significands next to powers of two, halves, all ones, alternating bits, and
some irregular ones.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.values import MAX_TABLE_BITS
from fpsim.formats.floating import FixedFormat, FloatFormat, Format, NanCodes

__all__ = ["LISTED_BITS", "Codes", "all_codes", "finite_codes", "finite_count", "nth_finite"]

Codes = NDArray[np.int64]
#: Bits of the widest format listed whole.
LISTED_BITS = MAX_TABLE_BITS
#: Irregular significands in every row of a wide format: multiples of 2^64 / golden ratio.
UNPATTERNED, WEYL = 8, 0x9E3779B97F4A7C15


def finite_count(fmt: Format) -> int:
    """Return the number of codes with finite values."""
    if isinstance(fmt, FixedFormat):
        return 1 << fmt.bits
    signs = 1 + fmt.signed
    return signs * (fmt.max_code + 1) - (fmt.nan is NanCodes.NEGATIVE_ZERO)


def nth_finite(fmt: Format, index: Codes) -> Codes:
    """Return the finite codes at places ``index`` (any shape) in ascending order of codes."""
    if isinstance(fmt, FixedFormat):
        return index
    hole = int(fmt.nan is NanCodes.NEGATIVE_ZERO)
    below = index - (fmt.max_code + 1)
    return np.where(below < 0, index, fmt.sign_bit + hole + below)


@lru_cache(maxsize=32)
def finite_codes(fmt: Format) -> Codes:
    """Return the finite codes, ascending; of a wide format a choice (see the module).

    All callers share one array; do not write to it.
    """
    if fmt.bits <= LISTED_BITS:
        return nth_finite(fmt, np.arange(finite_count(fmt), dtype=np.int64))
    if isinstance(fmt, FixedFormat):
        near = {s * (1 << i) + j for i in range(fmt.bits) for s in (1, -1) for j in (-1, 0, 1)}
        some = {code for row in range(fmt.bits) for code in _significands(fmt.bits, row)}
        return np.array(sorted({code % (1 << fmt.bits) for code in near | some}), dtype=np.int64)
    m, rows = fmt.mantissa_bits, range((fmt.max_code >> fmt.mantissa_bits) + 1)
    found = {(row << m) | s for row in rows for s in _significands(m, row)}
    finite = {code for code in found if code < fmt.max_code} | {fmt.max_code}
    codes = finite | {code | fmt.sign_bit for code in finite}
    if fmt.nan is NanCodes.NEGATIVE_ZERO:
        codes.discard(fmt.sign_bit)
    return np.array(sorted(codes), dtype=np.int64)


@lru_cache(maxsize=32)
def all_codes(fmt: Format) -> Codes:
    """Return all codes; of a wide format `finite_codes` and some special codes.

    All callers share one array; do not write to it.
    """
    if fmt.bits <= LISTED_BITS:
        return np.arange(1 << fmt.bits, dtype=np.int64)
    if isinstance(fmt, FixedFormat):
        return finite_codes(fmt)
    return np.union1d(finite_codes(fmt), _special_codes(fmt))


def _special_codes(fmt: Format) -> Codes:
    """Return codes without a finite value: both ends, and payloads around powers of two."""
    assert isinstance(fmt, FloatFormat)
    low, high = fmt.max_code + 1, (1 << fmt.magnitude_bits) - 1
    near = (1 << i for i in range(fmt.magnitude_bits))
    some = {low + p + step for p in near for step in (-1, 0)} | {high - 1, high}
    some = {code for code in some if low <= code <= high}
    codes = {code | sign for code in some for sign in (0, fmt.sign_bit)}
    if fmt.nan is NanCodes.NEGATIVE_ZERO:
        codes.add(fmt.sign_bit)
    return np.array(sorted(codes), dtype=np.int64)


def _significands(bits: int, row: int) -> set[int]:
    """Return significands of a row, or integers without a row, below 2^bits."""
    top = 1 << bits
    patterns = [0, 1, 2, 3, top // 2 - 1, top // 2, top // 2 + 1, top - 3, top - 2, top - 1]
    patterns += [(top - 1) // 3, (top - 1) // 3 * 2]
    numbers = (WEYL * (UNPATTERNED * row + i + 1) % (1 << 64) for i in range(UNPATTERNED))
    return {p for p in patterns if 0 <= p < top} | {n >> (64 - bits) for n in numbers}
