# SPDX-License-Identifier: Apache-2.0
"""Streams of single products in memory, to and from a directory (`fpsim.vectors.files.writer`).

vectors.hex     one word per line, fields from the most significant bits down; // header
vectors.jsonl   a header object, then one object per vector with hexadecimal bit patterns
manifest.json   unit, fields, seed, counts per section, SHA-256 of what follows either header
"""

from __future__ import annotations

from pathlib import Path

from fpsim.vectors.files.checker import check_digests, check_dots
from fpsim.vectors.files.reader import DotFile, open_stream
from fpsim.vectors.files.writer import write_dots
from fpsim.vectors.sets.clocked import ClockShape
from fpsim.vectors.sets.plans import Stored
from fpsim.vectors.sets.stream import VectorSet

__all__ = ["check", "digests", "head_lines", "read", "write"]


def write(vectors: VectorSet, directory: str | Path) -> Path:
    """Write a stream into ``directory`` (replaced if it holds vectors) and return it.

    Raises:
        FpsimError: as `fpsim.vectors.files.writer.write_dots`.
    """
    spec, columns = vectors.spec, vectors.columns
    shape = ClockShape(spec, "exp" in columns, "flags" in columns)
    stored = Stored(shape, vectors.strategy, vectors.seed, columns, vectors.sections)
    target = write_dots(stored, directory)
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
