# SPDX-License-Identifier: Apache-2.0
"""An opened directory of vectors: its manifest, sections and vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.kernels.codec.hex_words import read_words
from fpsim.vectors.files.file_formats import TEXT_FORMATS, Lines
from fpsim.vectors.files.manifest import MANIFEST, Header, check_header, read_json, shown
from fpsim.vectors.files.rendering import lines_of
from fpsim.vectors.sets.record import Columns, Record
from fpsim.vectors.sets.vector_set import Section, section_of
from fpsim.vectors.sets.word_layout import WordLayout

__all__ = [
    "MATRIX_FILES",
    "NPZ",
    "SVH",
    "OpenedSet",
    "check_head",
    "check_lines",
    "open_set",
    "opened_file",
]

NPZ, SVH = "vectors.npz", "vectors_pkg.svh"
#: Files of the operands of tiles (`fpsim.vectors.files.tile_matrices`).
MATRIX_FILES = ("a.hex", "b.hex", "c.hex", "d.hex")
#: Vectors read at once.
READ_BLOCK = 1 << 14
#: Characters of a too long line that an error shows.
SHOWN = 8
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class OpenedSet:
    """A directory of vectors whose manifest has been checked."""

    directory: Path
    record: Record
    manifest: dict[str, Any]

    @property
    def strategy(self) -> str:
        """How the vectors were chosen."""
        return str(self.manifest["strategy"])

    @property
    def seed(self) -> int:
        """Seed of the random vectors."""
        return int(self.manifest["seed"])

    @property
    def start(self) -> str:
        """How a sum gets its addend: ``dot``, ``load`` or ``clear``; see `fpsim.vectors.plan`."""
        return str(self.manifest["start"])

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.manifest["count"])

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """Named runs of vectors."""
        return tuple(Section(**s) for s in self.manifest["sections"])

    def section_of(self, index: int) -> str:
        """Return the name of the section of a vector."""
        return section_of(self.sections, index)

    @property
    def hex_file(self) -> Path:
        """Path of ``vectors.hex``, the file for `$readmemh`."""
        return self.directory / TEXT_FORMATS["readmemh"].file

    @cached_property
    def head(self) -> str:
        """The expected header of `vectors.hex`."""
        return TEXT_FORMATS["readmemh"].head(self.header, self.record, self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of the words of ``vectors.hex``, from the manifest."""
        return self.digests[self.hex_file.name]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file, from the manifest."""
        return {name: str(entry["sha256"]) for name, entry in self.manifest["files"].items()}

    @property
    def header(self) -> Header:
        """The manifest without the checksums of files, which headers of files repeat."""
        return {k: v for k, v in self.manifest.items() if k != "files"}

    @property
    def head_lines(self) -> int:
        """Lines of the header; vector i stands on line ``head_lines + i + 1``."""
        return self.head.count("\n")

    @property
    def digits(self) -> int:
        """Hexadecimal digits of a word."""
        return -(-self.record.word_bits // 4)

    def blocks(self) -> Iterator[tuple[int, Columns]]:
        """Yield (index of the first vector, columns) of consecutive parts.

        Raises:
            FpsimError: a header or line that contradicts the manifest, or too few or many lines.
        """
        self.check_ends()
        for start in range(0, self.count, READ_BLOCK):
            yield start, self.rows(start, min(start + READ_BLOCK, self.count))

    def check_ends(self) -> None:
        """Check the header of ``vectors.hex``, and that no line follows the last vector.

        Raises:
            FpsimError: another header, a too long line, or more lines than vectors.
        """
        check_lines(self.hex_file, self.head, lines_of("readmemh", self.record), self.count)

    def rows(self, start: int, stop: int) -> Columns:
        """Return the vectors ``start`` to ``stop - 1``.

        Raises:
            FpsimError: a line that is no word, or a file that ends too early.
        """
        length = self.digits + 1
        with opened_file(self.hex_file) as file:
            file.seek(len(self.head.encode()) + start * length)
            text = file.read((stop - start) * length)
        return self._parse(text, start, stop - start, self.digits)

    def _parse(self, text: bytes, start: int, rows: int, digits: int) -> Columns:
        whole = len(text) // (digits + 1)
        lines = np.frombuffer(text[: whole * (digits + 1)], dtype=np.uint8).reshape(-1, digits + 1)
        elements = np.empty((whole, self.record.widths.size), dtype=np.uint64)
        body = np.ascontiguousarray(lines[:, :-1])
        bad = int(read_words(body, self.record.widths, elements)) if whole else -1
        ends = np.flatnonzero(lines[:, -1] != ord("\n"))
        wrong = [i for i in (bad, *ends[:1].tolist()) if i >= 0]
        if wrong or whole < rows:
            index = min(wrong) if wrong else whole
            where = f"{self.hex_file}:{self.head_lines + start + index + 1}"
            if not wrong:
                raise FpsimError(
                    f"{where}: the file ends after {start + whole} vectors; "
                    f"the manifest says {self.count}"
                )
            line = text[index * (digits + 1) :].split(b"\n")[0][: digits + SHOWN]
            raise FpsimError(
                f"{where}: {line.decode('ascii', 'replace')!r} is not {_word_text(self.record)}"
            )
        return self.record.columns(elements)

    def columns(self) -> Columns:
        """Return all vectors."""
        none = np.empty((0, self.record.widths.size), dtype=np.uint64)
        blocks = [self.record.columns(none), *(columns for _, columns in self.blocks())]
        return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


def open_set(directory: str | Path) -> OpenedSet:
    """Open a directory of vectors by its manifest; the vectors are read later.

    Raises:
        FpsimError: a manifest that is missing, of another schema, or does not fit its unit.
    """
    path = Path(directory)
    file = path / MANIFEST
    manifest = read_json(file)
    record = check_header(manifest, file)
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise FpsimError(f"{file}: files is missing or not of type dict")
    allowed = {form.file for form in TEXT_FORMATS.values()} | {NPZ, SVH, *MATRIX_FILES}
    if TEXT_FORMATS["readmemh"].file not in files or not allowed.issuperset(files):
        raise FpsimError(
            f"{file}: files must hold vectors.hex and else only {', '.join(sorted(allowed))}"
        )
    for name, entry in files.items():
        digest = entry.get("sha256") if isinstance(entry, dict) and len(entry) == 1 else None
        if not isinstance(digest, str) or len(digest) != 64 or set(digest) - _HEX:
            raise FpsimError(
                f"{file}: files: {name} has {shown(entry)}, not a sha256 of 64 hexadecimal digits"
            )
    return OpenedSet(path, record, manifest)


def opened_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes.

    Raises:
        FpsimError: a file that cannot be read, with its path and the reason.
    """
    try:
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise FpsimError(f"{path}: cannot be read ({reason})") from None


def _word_text(record: WordLayout) -> str:
    """Describe a line of `vectors.hex`, for errors about a line that is no word."""
    digits = -(-record.word_bits // 4)
    return f"a word of {digits} lower-case hexadecimal digits, {record.word_bits} bits"


def check_lines(path: Path, head: str, lines: Lines, count: int) -> None:
    """Compare the header of a text file; in a too long file, find the first faulty line.

    Args:
        path: the file.
        head: the expected header.
        lines: the text format.
        count: number of vectors, a line each.

    Raises:
        FpsimError: another header, a line of another length, or a line beyond the last vector.
    """
    with opened_file(path) as file:
        check_head(path, file, head)
        if os.fstat(file.fileno()).st_size <= file.tell() + lines.size(count):
            return
        above = head.count("\n") + 1
        for start in range(0, count, READ_BLOCK):
            odd = _odd_line(file, lines.length, min(READ_BLOCK, count - start))
            if odd is not None:
                index, text = odd
                whole = lines.form.whole
                what = f"a line of {lines.length - 1} characters"
                what = _word_text(lines.record) if whole else what
                raise FpsimError(f"{path}:{above + start + index}: {text!r} is not {what}")
    raise FpsimError(f"{path}:{above + count}: more than the {count} vectors of the manifest")


def _odd_line(file: BinaryIO, length: int, count: int) -> tuple[int, str] | None:
    """Return number and text of the first line with a length other than ``length``, or too many."""
    place = file.tell()
    body = file.read(count * length + SHOWN)
    file.seek(place + count * length)
    ends = np.flatnonzero(np.frombuffer(body, dtype=np.uint8) == ord("\n"))
    ends = np.pad(ends, (0, max(count - ends.size, 0)), constant_values=-1)[:count]
    odd = np.flatnonzero(ends != np.arange(1, count + 1) * length - 1)
    if not odd.size:
        return None
    index = int(odd[0])
    text = body[index * length :].split(b"\n")[0][: length - 1 + SHOWN]
    return index, text.decode("ascii", "replace")


def check_head(path: Path, file: BinaryIO, head: str) -> None:
    """Read the header of an open file and compare it.

    Args:
        path: path of the file, for errors.
        file: the open file, read from its position to the end of the header.
        head: the header that the manifest implies.

    Raises:
        FpsimError: another header; the message names the first line that differs.
    """
    expected = head.encode()
    found = file.read(len(expected))
    if found == expected:
        return
    pairs = zip(
        expected.split(b"\n"), found.split(b"\n") + [b""] * expected.count(b"\n"), strict=False
    )
    number, (wanted, seen) = next(
        ((i, pair) for i, pair in enumerate(pairs, start=1) if pair[0] != pair[1]),
        (expected.count(b"\n"), (b"a line that ends", b"a line without an end")),
    )
    raise FpsimError(
        f"{path}:{number}: {seen[:80].decode('ascii', 'replace')!r} is not the header that the "
        f"manifest asks for, {wanted[:80].decode('ascii', 'replace')!r}"
    )
