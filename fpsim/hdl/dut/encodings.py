# SPDX-License-Identifier: Apache-2.0
"""Encodings of codes on a design's wires.

Encodings are names; a list applies in order, from the code to the wires. Every one can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError, not_one_of

__all__ = ["ENCODINGS", "check_encodings", "decode", "encodable", "encode", "widened"]

Codes = NDArray[np.uint64]


def _ones(width: int) -> np.uint64:
    return np.uint64((1 << width) - 1)


def _top(width: int) -> np.uint64:
    return np.uint64(1 << (width - 1))


def _inverted(codes: Codes, width: int) -> Codes:
    return codes ^ _ones(width)


def _offset(codes: Codes, width: int) -> Codes:
    return codes ^ _top(width)


def _negated(codes: Codes, width: int) -> Codes:
    """Two's complement to a sign and a magnitude, and back: the same step both ways."""
    magnitude = (~codes + np.uint64(1)) & (_top(width) - np.uint64(1))
    return np.where(codes & _top(width), _top(width) | magnitude, codes)


def _ones_complement(codes: Codes, width: int) -> Codes:
    return np.where(codes & _top(width), codes - np.uint64(1), codes)


def _from_ones_complement(codes: Codes, width: int) -> Codes:
    return np.where(codes & _top(width), (codes + np.uint64(1)) & _ones(width), codes)


def _reversed(codes: Codes, width: int) -> Codes:
    out = np.zeros_like(codes)
    for bit in range(width):
        out |= ((codes >> np.uint64(bit)) & np.uint64(1)) << np.uint64(width - 1 - bit)
    return out


def _swapped(codes: Codes, width: int) -> Codes:
    out = np.zeros_like(codes)
    for low in range(0, width, 8):
        out |= ((codes >> np.uint64(low)) & np.uint64(255)) << np.uint64(width - 8 - low)
    return out


Step = Callable[[Codes, int], Codes]
#: Name: (code to wires, wires to code).
ENCODINGS: dict[str, tuple[Step, Step]] = {
    "inverted": (_inverted, _inverted),  #: every bit
    "offset-binary": (_offset, _offset),  #: two's complement with its top bit inverted
    "sign-magnitude": (_negated, _negated),  #: of a two's complement code
    "ones-complement": (_ones_complement, _from_ones_complement),  #: of a two's complement code
    "bits-reversed": (_reversed, _reversed),
    "bytes-swapped": (_swapped, _swapped),
}
#: Encodings without a pattern for the most negative two's complement code.
_SYMMETRIC = {"sign-magnitude", "ones-complement"}


def check_encodings(value: object, field: str) -> tuple[str, ...]:
    """Return names of encodings from one name or a list.

    Raises:
        FpsimError: an unknown name.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence):
        raise FpsimError(f"{field}: {value!r} is not a name or a list of names")
    for name in names:
        if not isinstance(name, str) or name not in ENCODINGS:
            raise not_one_of(field, name, ENCODINGS)
    return tuple(names)


def widened(codes: NDArray[Any], width: int, bits: int, signed: bool) -> Codes:
    """Widen or narrow codes.

    Args:
        codes: unsigned integers of ``width`` bits.
        width: bits of a code.
        bits: bits of a result; fewer cut the high ones off.
        signed: whether further bits repeat the top bit; else they are 0.

    Returns:
        uint64 of the same shape.
    """
    out = codes.astype(np.uint64)
    if bits > width and signed:
        high = np.uint64(((1 << bits) - 1) ^ ((1 << width) - 1))
        out = np.where(out >> np.uint64(width - 1) & np.uint64(1), out | high, out)
    return out & _ones(bits)


def encode(codes: NDArray[Any], width: int, names: Sequence[str]) -> Codes:
    """Return the patterns on the wires.

    Args:
        codes: unsigned integers of ``width`` bits.
        width: bits of a code and of its pattern.
        names: encodings, applied in order.

    Returns:
        uint64 of the same shape.
    """
    out = codes.astype(np.uint64)
    for name in names:
        out = ENCODINGS[name][0](out, width)
    return out


def decode(wires: int, width: int, names: Sequence[str]) -> int:
    """Return the code of a pattern.

    Args:
        wires: the pattern.
        width: bits of the pattern and of the code.
        names: encodings, undone in reverse order.

    Returns:
        The code.
    """
    out = np.array([wires], dtype=np.uint64)
    for name in reversed(names):
        out = ENCODINGS[name][1](out, width)
    return int(out[0])


def encodable(codes: NDArray[Any], width: int, names: Sequence[str]) -> NDArray[np.bool_]:
    """Find the codes that have a pattern.

    Args:
        codes: unsigned integers of ``width`` bits.
        width: bits of a code.
        names: encodings; ``sign-magnitude`` and ``ones-complement`` have no pattern for the most
            negative two's complement code.

    Returns:
        Booleans of the same shape.
    """
    if not _SYMMETRIC & set(names):
        return np.ones(codes.shape, dtype=bool)
    return np.asarray(codes.astype(np.uint64) != _top(width))
