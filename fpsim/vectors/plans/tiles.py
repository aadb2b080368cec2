# SPDX-License-Identifier: Apache-2.0
"""Tiles of matrix products as vectors: D (M, N) = A (M, K) B (K, N) + C.

A tile is a section. Its K elements are cut into ``beats`` words of ``k`` elements, the last one
filled with zeros; output (m, n) takes ``beats`` consecutive vectors, and outputs follow row by row:

    vector = start of the section + (m * N + n) * beats + beat

The first beat of an output is a DOT with addend C[m, n], further beats are MACs; the accumulator
after the last beat is D[m, n]. All vectors of a row m share ``a`` and its scales, all of a column n
share ``b``. The manifest states ``tiles``: m, n, k (the whole K), beats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.vectors.seeded.random_vectors import random_tile, tile_integers
from fpsim.vectors.sets.palette import Codes, Palette
from fpsim.vectors.sets.record import Columns, Op, Record
from fpsim.vectors.sets.vector_set import Job, Section

__all__ = ["MAX_SIDE", "Tile", "TilePlan", "TileSize", "random_tiles"]

MAX_SIDE, MAX_ELEMENTS = 1024, 1 << 20
#: Least K of random tiles without a given K, for records whose vectors accumulate.
LEAST_K = 4


@dataclass(frozen=True)
class TileSize:
    """Rows of A, columns of B, and K (None: the whole K of the operands)."""

    m: int
    n: int
    k: int | None = None

    def __post_init__(self) -> None:
        k = 1 if self.k is None else self.k
        for name, value, most in (
            ("M", self.m, MAX_SIDE), ("N", self.n, MAX_SIDE), ("K", k, MAX_ELEMENTS)
        ):  # fmt: skip
            if not 1 <= value <= most:
                raise FpsimError(f"tile: {name} is {value}, not in 1..{most}")

    @classmethod
    def parse(cls, text: str) -> TileSize:
        """Return the size given as ``MxN`` or ``MxNxK``."""
        parts = text.lower().split("x")
        if len(parts) not in (2, 3) or not all(p.isdecimal() and p.isascii() for p in parts):
            raise FpsimError(f"tile: {text!r} is not MxN or MxNxK, such as 16x16")
        return cls(*map(int, parts))


@dataclass(frozen=True)
class Tile:
    """Codes of one tile: operands in rows along K, (M, K) and (N, K).

    Scales are (M, G) and (N, G), or (..., G, 2) if split by sign, one per ``group`` elements of the
    record; None: all ones. ``c`` (M, N) are addends.
    """

    name: str
    a: NDArray[Any]
    b: NDArray[Any]
    c: NDArray[Any]
    a_scale: NDArray[Any] | None = None
    b_scale: NDArray[Any] | None = None


@dataclass(frozen=True)
class TilePlan:
    """Tiles of one size as a plan: `fpsim.vectors.write` makes a set of it."""

    record: Record
    size: TileSize  #: size with K
    names: tuple[str, ...]
    make: Callable[[int], Tile]
    strategy: str = "tiles"
    seed: int = 0
    start: str = "dot"
    source: dict[str, Any] = field(default_factory=dict)  #: origin of the tiles

    @cached_property
    def beats(self) -> int:
        """Vectors per output of a tile: K over the elements of a vector, rounded up."""
        assert self.size.k is not None
        return -(-self.size.k // self.record.k)

    def __post_init__(self) -> None:
        if self.beats > 1 and self.record.group and self.record.k % self.record.group:
            raise FpsimError(
                f"k: {self.record.k} elements per beat is not a multiple of the "
                f"{self.record.group} that share a scale"
            )
        if self.beats > 1 and not self.record.feeds_back:
            raise FpsimError(
                f"k: a tile of K = {self.size.k} takes {self.beats} vectors of {self.record.k}, "
                f"but results of {self.record.spec.name} are no addends; give --k {self.size.k}"
            )

    @property
    def extra(self) -> dict[str, Any]:
        """Entries of the manifest: size of a tile, beats, and origin of the tiles."""
        size = self.size
        tiles = {"m": size.m, "n": size.n, "k": size.k, "beats": self.beats}
        return {"tiles": tiles} | ({"source": self.source} if self.source else {})

    @property
    def _rows(self) -> int:
        return self.size.m * self.size.n * self.beats

    @property
    def count(self) -> int:
        """Number of vectors."""
        return self._rows * len(self.names)

    @property
    def sections(self) -> tuple[Section, ...]:
        """A section per tile."""
        return tuple(Section(n, i * self._rows, self._rows) for i, n in enumerate(self.names))

    def jobs(self) -> list[Job]:
        """Return a block per tile."""
        return [(i, 0) for i in range(len(self.names))]

    def rows(self, part: int, block: int) -> int:
        """Return the number of vectors of a tile, M N times the beats of an output."""
        return self._rows

    def block(self, part: int, block: int) -> Columns:
        """Return the vectors of tile ``part`` with results; a tile is one block."""
        columns = _tile_columns(self.record, self.make(part), self.beats)
        columns |= tile_integers(self.record, self.seed, part, self._rows)
        return columns | self.record.results(columns)


def _tile_columns(record: Record, tile: Tile, beats: int) -> Columns:
    """Return the vectors of a tile, without results.

    Args:
        record: the unit and its fields.
        tile: operands (M, K) and (N, K), and addends (M, N).
        beats: vectors per output; ``beats * k`` is at least K, and elements beyond K are zeros.

    Returns:
        Columns of M N beats vectors: outputs row by row, each output's beats in order.
    """
    palette = Palette(record)
    m, n = tile.a.shape[0], tile.b.shape[0]
    columns: Columns = {}
    for name, side in (("a", m), ("b", n)):
        fmt = getattr(record.spec, name)
        codes = _beats(getattr(tile, name), beats, record.k, palette.zero(name))
        columns[name] = _spread(codes.astype(fmt.dtype), name, m, n)
        if record.group:
            lanes = record.lanes_of(f"{name}_scale")
            scales = getattr(tile, f"{name}_scale")
            if scales is None:
                scales = np.full((side, beats * lanes), palette.one(name))
            flat = scales.reshape(side, -1)
            codes = _beats(flat, beats, lanes, palette.one(name))
            dtype = record.format_of(f"{name}_scale").dtype
            columns[f"{name}_scale"] = _spread(codes.astype(dtype), name, m, n)
    first = np.tile(np.arange(beats) == 0, m * n)
    columns["op"] = np.where(first, Op.DOT, Op.MAC).astype(np.uint8)
    addends = np.repeat(tile.c.reshape(-1), beats)
    columns["c"] = np.where(first, addends, 0).astype(record.spec.initial.dtype)
    return columns


def _beats(codes: NDArray[Any], beats: int, lanes: int, fill: int) -> NDArray[Any]:
    """Return rows (R, L) as (R, beats, lanes), filled up with ``fill``."""
    out = np.full((codes.shape[0], beats * lanes), fill, dtype=np.int64)
    out[:, : codes.shape[1]] = codes
    return out.reshape(codes.shape[0], beats, lanes)


def _spread(codes: NDArray[Any], name: str, m: int, n: int) -> NDArray[Any]:
    """Return the beats of rows or columns (side, beats, lanes) for every output, in order."""
    beats, lanes = codes.shape[1:]
    every = codes[:, None] if name == "a" else codes[None]
    return np.ascontiguousarray(np.broadcast_to(every, (m, n, beats, lanes))).reshape(-1, lanes)


def random_tiles(
    record: Record,
    size: TileSize,
    count: int,
    seed: int,
    allowed: Mapping[str, Codes] | None = None,
) -> TilePlan:
    """Plan tiles of finite random codes; odd ones have addends, scales are near one.

    Args:
        record: the unit and its fields.
        size: M, N and K; without K it is a vector's, but at least `LEAST_K`.
        count: number of tiles, 1..2^20.
        seed: 0..2^64 - 1.
        allowed: codes that ``a`` and ``b`` may have, ascending, as in a code table; all codes of an
            operand that is not in it.

    Returns:
        The plan, with a section per tile: ``tile-0``, ``tile-1``, ...

    Raises:
        FpsimError: a count or seed out of range, or a K that vectors of the record do not divide.
    """
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 1 << 20:
        raise FpsimError(f"tiles: {count!r} is not an integer in 1..{1 << 20}")
    least = LEAST_K if record.feeds_back else record.k
    whole = TileSize(size.m, size.n, size.k or max(record.k, least))
    names = tuple(f"tile-{i}" for i in range(count))
    return TilePlan(record, whole, names, _Random(record, whole, seed, allowed), seed=seed)


@dataclass(frozen=True)
class _Random:
    record: Record
    size: TileSize
    seed: int
    allowed: Mapping[str, Codes] | None

    def __call__(self, index: int) -> Tile:
        assert self.size.k is not None
        sides = (self.size.m, self.size.n)
        codes = random_tile(self.record, self.seed, index, sides, self.size.k, self.allowed)
        return Tile(f"tile-{index}", **codes)
