# SPDX-License-Identifier: Apache-2.0
"""Real offsets of operands, added to a product exactly, for asymmetric weights and inputs.

With w^ = (w s + o_g) f, of which the unit multiplies w s, the product lacks sum_g o_g R_g, where
R_g is the sum of the other operand's values in block g. Both o_g and R_g are integers times a power
of two; they are cut into limbs short enough that float64 holds every sum of products of two limbs.
The limbs' sums and the unit's result are added exactly and rounded to float32 once. If both
operands have offsets, products of offsets are added too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.units.operands import Operand

__all__ = ["add_offsets", "rounded_sum"]

Floats = NDArray[np.float64]
#: Bits of a float64 significand.
_SIGNIFICAND = 53
#: Bits of an int64 magnitude.
_INT64 = 63
#: Bits of a limb of offsets.
_LIMB = 20


def add_offsets(result: Floats, a: Operand, b: Operand) -> NDArray[np.float32]:
    """Return the product of rows a and b, (M, N), with the contribution of offsets.

    Args:
        result: the unit's exact sums of products of codes and scales, with other exact corrections.
        a: rows (M, K).
        b: rows (N, K); ``a`` or ``b`` or both have offsets.

    Returns:
        The exact sums, rounded to float32 once.

    Raises:
        FpsimError: infinite offsets.
    """
    terms = [result]
    for mine, other, turned in ((b, a, False), (a, b, True)):
        if mine.offsets is None:
            continue
        if not np.isfinite(mine.offsets).all():
            raise FpsimError("offsets: NaN or infinity has no place among them")
        parts = [replace(other, offsets=None).values()]
        offsets = other.element_offsets()
        if turned and offsets is not None:
            parts.append(offsets)
        for part in parts:
            found = _products(part, mine)
            terms += [term.T for term in found] if turned else found
    return rounded_sum(terms)


def _products(values: Floats, other: Operand) -> list[Floats]:
    """Return exact arrays whose sum is values (M, K) times the offsets of the other's rows."""
    assert other.offsets is not None
    whole, low = _integers(values)
    padded = np.pad(whole, ((0, 0), (0, -whole.shape[1] % other.block)))
    sums = padded.reshape(whole.shape[0], -1, other.block).sum(axis=2)
    offsets, base = _integers(other.offsets.astype(np.float64))
    width = _SIGNIFICAND - _LIMB - int(offsets.shape[1]).bit_length()
    return [
        np.ldexp(high @ limb.T, low + base + i + j)
        for high, i in _limbs(sums, width)
        for limb, j in _limbs(offsets, _LIMB)
    ]


def _integers(values: Floats) -> tuple[NDArray[Any], int]:
    """Return integers and their common power of two; Python integers if int64 is too narrow."""
    fraction, exponent = np.frexp(values)
    whole = np.ldexp(fraction, _SIGNIFICAND).astype(np.int64)
    least = whole & -whole
    zeros = np.where(whole == 0, 0, np.frexp(least.astype(np.float64))[1] - 1)
    whole >>= zeros
    exponent = exponent - _SIGNIFICAND + zeros
    base = int(exponent[whole != 0].min()) if whole.any() else 0
    shift = np.where(whole == 0, 0, exponent - base)
    bits = int((np.frexp(whole.astype(np.float64))[1] + shift).max(initial=0))
    kind = np.int64 if bits + values.shape[1].bit_length() < _INT64 else object
    return np.asarray(whole.astype(kind) << shift.astype(kind)), base


def _limbs(integers: NDArray[Any], width: int) -> list[tuple[Floats, int]]:
    """Return limbs of ``width`` bits, signed like the integers, and the exponents of the limbs."""
    size, negative = np.abs(integers), integers < 0
    found: list[tuple[Floats, int]] = []
    place = 0
    while not found or size.any():
        limb = (size & ((1 << width) - 1)).astype(np.float64)
        found.append((np.where(negative, -limb, limb), place))
        size, place = size >> width, place + width
    return found


def rounded_sum(terms: list[Floats]) -> NDArray[np.float32]:
    """Return the exact sum of arrays, rounded to float32 once, to nearest even.

    Neighbours are replaced by their sum and its error until no parts overlap: then the last array
    is the sum rounded to float64, and the largest other part shows on which side the sum lies.
    """
    parts = [np.array(term, dtype=np.float64) for term in np.broadcast_arrays(*terms)]
    for _ in range(len(parts)):
        for i in range(len(parts) - 1):
            a, b = parts[i], parts[i + 1]
            total = a + b
            back = total - a
            parts[i], parts[i + 1] = (a - (total - back)) + (b - back), total
    total, side = parts[-1], np.zeros(parts[-1].shape)
    for rest in parts[:-1]:
        side = np.where(rest != 0, np.sign(rest), side)
    # Rounded to odd, a float64 rounds to float32 as the exact sum does.
    even = (total.view(np.int64) & 1) == 0
    moved = np.nextafter(total, np.where(side > 0, np.inf, -np.inf))
    with np.errstate(over="ignore"):
        return np.where((side != 0) & even, moved, total).astype(np.float32)
