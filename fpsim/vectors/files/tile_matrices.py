# SPDX-License-Identifier: Apache-2.0
"""Operands of tiles as matrices, for an array's testbench: four `$readmemh` files.

    a.hex   a word per tile, row m and beat:     {a_scale, a} of k elements
    b.hex   a word per tile, column n and beat:  {b_scale, b}
    c.hex   a word per tile and output (m, n):   the addend
    d.hex   a word per tile and output (m, n):   the accumulator after the last beat, then flags

Indices run in the order written, the last one fastest; element 0 of a field is in its low bits.
The files repeat content of ``vectors.hex``, from which they are made and against which they are
checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.kernels.codec.hex_words import write_words
from fpsim.vectors.files.opened_set import MATRIX_FILES, OpenedSet
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["matrix_texts"]

_FIELDS = {"a.hex": ("a_scale", "a"), "b.hex": ("b_scale", "b"), "c.hex": ("c",),
           "d.hex": ("acc", "flags")}  # fmt: skip
_INDEX = {"a.hex": "tile, row m, beat", "b.hex": "tile, column n, beat",
          "c.hex": "tile, m, n", "d.hex": "tile, m, n"}  # fmt: skip


def matrix_texts(opened: OpenedSet) -> Iterator[tuple[str, bytes]]:
    """Yield (file, bytes) pieces of the four files, headers first, then tile after tile.

    Raises:
        FpsimError: a set without tiles, or a vector whose operands differ from the tile's.
    """
    tiles = opened.manifest.get("tiles")
    names = ("m", "n", "k", "beats")
    if not isinstance(tiles, dict) or any(
        not isinstance(tiles.get(n), int) or isinstance(tiles[n], bool) or tiles[n] < 1
        for n in names
    ):
        raise FpsimError(f"{opened.directory}: matrices are of tiles; this set has none")
    m, n, beats = tiles["m"], tiles["n"], tiles["beats"]
    if m * n * beats * len(opened.sections) != opened.count:
        raise FpsimError(f"{opened.directory}: {opened.count} vectors are no whole tiles")
    for name in MATRIX_FILES:
        yield name, _head(opened, name, tiles)
    for section in opened.sections:
        columns = opened.rows(section.start, section.start + section.count)
        grid = {key: x.reshape(m, n, beats, -1) for key, x in columns.items()}
        _check_shared(opened, section.start, grid)
        views: dict[str, Any] = {"a.hex": np.s_[:, 0, :], "b.hex": np.s_[0, :, :],
                 "c.hex": np.s_[:, :, 0], "d.hex": np.s_[:, :, -1]}  # fmt: skip
        for name, view in views.items():
            fields = [f for f in _FIELDS[name] if f in grid]
            part = {f: grid[f][view].reshape(-1, grid[f].shape[-1]) for f in fields}
            yield name, _lines(opened.record, part)


def _head(opened: OpenedSet, name: str, tiles: dict[str, Any]) -> bytes:
    record = opened.record
    own = [field for f in _FIELDS[name] for field in record.fields if field.name == f]
    fields = ", ".join(f"{field.name} {field.lanes} x {field.lane_width} bits" for field in own)
    lines = [
        f"{name}: {opened.manifest['canonical']}, {len(opened.sections)} tiles, "
        f"M {tiles['m']}, N {tiles['n']}, K {tiles['k']} in {tiles['beats']} beats of {record.k}",
        f"a word per {_INDEX[name]}, the last index fastest",
        f"from the most significant bits down: {fields}",
    ]
    return "".join(f"// {line}\n" for line in lines).encode()


def _lines(record: Record, columns: Columns) -> bytes:
    """Return words made of some fields, the first field most significant."""
    own = [next(field for field in record.fields if field.name == name) for name in columns]
    codes = [field.lane_width for field in own for _ in range(field.lanes)]
    widths = np.array(codes, dtype=np.int64)
    elements: NDArray[np.uint64] = np.concatenate(
        [column[:, ::-1].astype(np.uint64) for column in columns.values()], axis=1
    )
    digits = -(-int(widths.sum()) // 4)
    out = np.full((elements.shape[0], digits + 1), ord("\n"), dtype=np.uint8)
    alphabet = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    whole = np.array([0, widths.size], dtype=np.int64)
    ends = np.array([digits], dtype=np.int64)
    write_words(np.ascontiguousarray(elements), widths, whole, ends, ends, alphabet, out)
    return out.tobytes()


def _check_shared(opened: OpenedSet, start: int, grid: dict[str, NDArray[Any]]) -> None:
    for name, whole in grid.items():
        if name not in ("a", "b", "a_scale", "b_scale"):
            continue
        first = whole[:, :1] if name[0] == "a" else whole[:1]
        wrong = np.flatnonzero((whole != first).any(axis=-1).reshape(-1))
        if wrong.size:
            i = start + int(wrong[0])
            raise FpsimError(
                f"{opened.hex_file}:{opened.head_lines + i + 1}: vector {i} has another {name} "
                f"than its {'row' if name[0] == 'a' else 'column'} of the tile"
            )
