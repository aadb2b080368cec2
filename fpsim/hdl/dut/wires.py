# SPDX-License-Identifier: Apache-2.0
"""Wires of a port: pieces of elements, cut into places and put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fpsim.base.errors import FpsimError
from fpsim.hdl.dut.dut import Place

__all__ = ["MAX_WORD", "Piece", "cut", "filled", "zeros"]

#: Bits of a piece that arithmetic on 64-bit words can hold.
MAX_WORD = 64


@dataclass(frozen=True)
class Piece:
    """Consecutive wires: bits of an element from ``shift`` up, or a constant."""

    width: int
    name: str = ""
    lane: int = 0
    shift: int = 0
    value: int = 0


def cut(places: tuple[Place, ...], runs: list[Piece]) -> Iterator[tuple[Place, list[Piece]]]:
    """Yield (place, its pieces from the low bits up)."""
    whole = all(place.width is None for place in places)
    if len(places) > 1 and whole and len(places) == len(runs):
        yield from ((place, [run]) for place, run in zip(places, runs, strict=True))
        return
    rest = list(runs)
    for i, place in enumerate(places):
        left = sum(piece.width for piece in rest)
        if place.width is None and i + 1 < len(places):
            raise FpsimError(
                f"{place.port}: whole ports in a list carry one element each, but there are "
                f"{len(runs)} elements and {len(places)} places; write slices, such as "
                f"{place.port}[3:0]"
            )
        width = left if place.width is None else place.width
        if width > left or (i + 1 == len(places) and width < left):
            total = sum(piece.width for piece in runs)
            given = sum(p.width or 0 for p in places)
            raise FpsimError(
                f"the places have {given} bits, the elements of a beat {total}; element_bits says "
                "how many wires an element has"
            )
        yield place, _take(rest, width)


def _take(rest: list[Piece], width: int) -> list[Piece]:
    taken = []
    while width:
        piece = rest.pop(0)
        if piece.width > width:
            high = Piece(piece.width - width, piece.name, piece.lane, piece.shift + width)
            rest.insert(0, high)
            piece = Piece(width, piece.name, piece.lane, piece.shift)
        taken.append(piece)
        width -= piece.width
    return taken


def filled(port: str, pieces: list[tuple[int, Piece]]) -> tuple[Piece, ...]:
    """Return the pieces of a port, the most significant first, gaps as 0."""
    out: list[Piece] = []
    at = 0
    for lsb, piece in sorted(pieces, key=lambda x: x[0]):
        if lsb < at:
            raise FpsimError(f"{port}: bit {lsb} is given twice in one beat")
        if lsb > at:
            out += zeros(lsb - at)
        out.append(piece)
        at = lsb + piece.width
    return tuple(reversed(out))


def zeros(width: int) -> tuple[Piece, ...]:
    """Return wires that are 0, in pieces of at most a word."""
    return tuple(Piece(min(MAX_WORD, width - low)) for low in range(0, width, MAX_WORD))
