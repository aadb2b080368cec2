# SPDX-License-Identifier: Apache-2.0
"""Streams of single products in memory, to and from a directory (`fpsim.vectors.dotfiles`).

vectors.hex     one word per line, fields from the most significant bits down; // header
vectors.jsonl   a header object, then one object per vector with hexadecimal bit patterns
manifest.json   unit, fields, seed, counts per section, SHA-256 of the other files
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpsim.vectors.checked import check_digests, check_dots
from fpsim.vectors.clocked import ClockShape
from fpsim.vectors.dotfiles import write_dots
from fpsim.vectors.opened import DotFile, open_stream
from fpsim.vectors.sources import Job
from fpsim.vectors.stream import Section, VectorSet
from fpsim.vectors.words import Columns

__all__ = ["check", "digests", "head_lines", "read", "write"]

#: Vectors written at a time.
BLOCK = 1 << 16


@dataclass(frozen=True)
class _Stored:
    """Vectors in memory, as `fpsim.vectors.sources.DotSource` has them."""

    vectors: VectorSet

    @property
    def shape(self) -> ClockShape:
        columns = self.vectors.columns
        return ClockShape(self.vectors.spec, "exp" in columns, "flags" in columns)

    @property
    def strategy(self) -> str:
        return self.vectors.strategy

    @property
    def seed(self) -> int:
        return self.vectors.seed

    @property
    def count(self) -> int:
        return self.vectors.count

    @property
    def sections(self) -> tuple[Section, ...]:
        return self.vectors.sections

    @property
    def extra(self) -> dict[str, Any]:
        return {}

    def jobs(self) -> list[Job]:
        return [(0, b) for b in range(-(-self.count // BLOCK))]

    def rows(self, part: int, block: int) -> int:
        return min(BLOCK, self.count - block * BLOCK)

    def block(self, part: int, block: int) -> Columns:
        start = block * BLOCK
        return {name: c[start : start + BLOCK] for name, c in self.vectors.columns.items()}


def write(vectors: VectorSet, directory: str | Path) -> Path:
    """Write a stream into ``directory`` (replaced if it holds vectors) and return it.

    Raises:
        FpsimError: as `fpsim.vectors.dotfiles.write_dots`.
    """
    target = write_dots(_Stored(vectors), directory)
    return target if Path(directory).is_absolute() else Path(directory)


def read(directory: str | Path) -> VectorSet:
    """Read a stream from its manifest and `$readmemh` file.

    Raises:
        FpsimError: files that are missing, of another schema, damaged, or do not match their
            checksums, naming the file and line.
    """
    opened = open_stream(directory)
    vectors = _vectors(opened)
    check_digests(opened)
    return vectors


def check(directory: str | Path) -> VectorSet:
    """Read a stream and recompute every expected value.

    Raises:
        FpsimError: as `read`, or the first vector whose accumulator the unit does not give.
    """
    opened = open_stream(directory)
    check_dots(directory)
    return _vectors(opened)


def _vectors(opened: DotFile[ClockShape]) -> VectorSet:
    columns = opened.columns()
    return VectorSet(opened.shape.spec, opened.seed, opened.strategy, columns, opened.sections)


def digests(directory: str | Path) -> dict[str, str]:
    """Return the SHA-256 of each vector file, as the manifest states it."""
    files = open_stream(directory).manifest["files"]
    return {name: str(entry["sha256"]) for name, entry in files.items()}


def head_lines(directory: str | Path) -> int:
    """Return the lines of the header of a directory's ``vectors.hex``."""
    return open_stream(directory).head_lines
