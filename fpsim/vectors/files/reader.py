# SPDX-License-Identifier: Apache-2.0
"""A directory of vectors, opened: its manifest, its sections, its vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Generic

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.kernels.codec.hex_words import read_words
from fpsim.vectors.files.formats import TEXT_FORMATS, Lines, formats_of
from fpsim.vectors.files.manifests import MANIFEST, read_json
from fpsim.vectors.files.rendering import lines_of
from fpsim.vectors.sets.clocked import ClockShape
from fpsim.vectors.sets.record import Shape
from fpsim.vectors.sets.sources import CLOCK_SCHEMA, SCHEMA, shape_of
from fpsim.vectors.sets.stream import Section
from fpsim.vectors.sets.words import Columns, Words, WordsT

__all__ = [
    "MATRIX_FILES",
    "NPZ",
    "SVH",
    "DotFile",
    "check_head",
    "check_lines",
    "open_dots",
    "open_set",
    "open_stream",
    "opened_file",
]

NPZ, SVH = "vectors.npz", "vectors_pkg.svh"
#: Files of the operands of tiles (`fpsim.vectors.files.matrices`).
MATRIX_FILES = ("a.hex", "b.hex", "c.hex", "d.hex")
#: Vectors read at a time.
READ_BLOCK = 1 << 14
#: Characters shown of a line beyond those it may have.
SHOWN = 8


@dataclass(frozen=True)
class DotFile(Generic[WordsT]):
    """A directory of vectors, opened: its manifest is consistent."""

    directory: Path
    shape: WordsT
    manifest: dict[str, Any]

    @property
    def strategy(self) -> str:
        """How the vectors were chosen."""
        return str(self.manifest["strategy"])

    @property
    def seed(self) -> int:
        """Seed of the random ones."""
        return int(self.manifest["seed"])

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.manifest["count"])

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """Named runs of vectors."""
        return tuple(Section(**s) for s in self.manifest["sections"])

    def section_of(self, index: int) -> str:
        """Return the name of the section a vector stands in."""
        return next((s.name for s in self.sections if s.start <= index < s.start + s.count), "")

    @property
    def hex_file(self) -> Path:
        """The `$readmemh` file."""
        return self.directory / TEXT_FORMATS["readmemh"].file

    @cached_property
    def head(self) -> str:
        """The header that `vectors.hex` must have."""
        return formats_of(self.shape)["readmemh"].head(self.header, self.shape, self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of the words of the `$readmemh` file, as the manifest states it."""
        return str(self.manifest["files"][self.hex_file.name]["sha256"])

    @property
    def header(self) -> dict[str, Any]:
        """What headers say: the manifest without the files."""
        return {k: v for k, v in self.manifest.items() if k != "files"}

    @property
    def head_lines(self) -> int:
        """Lines of the header; vector i stands on line ``head_lines + i + 1``."""
        return self.head.count("\n")

    @property
    def digits(self) -> int:
        """Hexadecimal digits of a word."""
        return -(-self.shape.word_bits // 4)

    def blocks(self) -> Iterator[tuple[int, Columns]]:
        """Yield (index of the first vector, columns) of consecutive parts.

        Raises:
            FpsimError: a header or line that is not what the manifest says, or too few or many.
        """
        self.check_ends()
        for start in range(0, self.count, READ_BLOCK):
            yield start, self.rows(start, min(start + READ_BLOCK, self.count))

    def check_ends(self) -> None:
        """Look at what is before and after the vectors of the `$readmemh` file.

        Raises:
            FpsimError: another header, a line that is too long, or more lines than vectors.
        """
        check_lines(self.hex_file, self.head, lines_of("readmemh", self.shape), self.count)

    def rows(self, start: int, stop: int) -> Columns:
        """Return the vectors ``start`` to ``stop - 1``.

        Raises:
            FpsimError: a line that is no word, or a file that ends before.
        """
        length = self.digits + 1
        with opened_file(self.hex_file) as file:
            file.seek(len(self.head.encode()) + start * length)
            text = file.read((stop - start) * length)
        return self._parse(text, start, stop - start, self.digits)

    def _parse(self, text: bytes, start: int, rows: int, digits: int) -> Columns:
        whole = len(text) // (digits + 1)
        lines = np.frombuffer(text[: whole * (digits + 1)], dtype=np.uint8).reshape(-1, digits + 1)
        elements = np.empty((whole, self.shape.widths.size), dtype=np.uint64)
        body = np.ascontiguousarray(lines[:, :-1])
        bad = int(read_words(body, self.shape.widths, elements)) if whole else -1
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
                f"{where}: {line.decode('ascii', 'replace')!r} is not {word_text(self.shape)}"
            )
        return self.shape.columns(elements)

    def columns(self) -> Columns:
        """Return all vectors."""
        none = np.empty((0, self.shape.widths.size), dtype=np.uint64)
        blocks = [self.shape.columns(none), *(columns for _, columns in self.blocks())]
        return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


def open_dots(directory: str | Path) -> DotFile[Shape]:
    """Open a directory of dot product vectors by its manifest.

    Raises:
        FpsimError: a manifest that is missing, of another schema, or does not fit its unit.
    """
    return _open(Path(directory), (SCHEMA,))


def open_stream(directory: str | Path) -> DotFile[ClockShape]:
    """Open a directory of a stream of single products; raises as `open_dots` does."""
    return _open(Path(directory), (CLOCK_SCHEMA,))


def open_set(directory: str | Path) -> DotFile[Words]:
    """Open a directory of vectors of either kind; raises as `open_dots` does."""
    return _open(Path(directory), (CLOCK_SCHEMA, SCHEMA))


_KINDS = {CLOCK_SCHEMA: "streams of single products", SCHEMA: "dot products"}


def _open(path: Path, schemas: tuple[int, ...]) -> DotFile[Any]:
    file = path / MANIFEST
    manifest = read_json(file)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema not in schemas:
        known = ", ".join(f"{_KINDS[s]} have schema {s}" for s in schemas)
        raise FpsimError(f"{file}: schema {schema!r} is not supported; {known}")
    types = {"unit": dict, "fields": list, "count": int, "files": dict, "sections": list,
             "seed": int, "strategy": str, "generator": str, "equation": str}  # fmt: skip
    if schema == SCHEMA:
        types |= {"k": int, "group": int, "canonical": str}
    for key, kind in types.items():
        if not isinstance(manifest.get(key), kind) or isinstance(manifest[key], bool):
            raise FpsimError(f"{file}: {key} is missing or not of type {kind.__name__}")
    try:
        shape = shape_of(manifest)
    except FpsimError as error:
        raise FpsimError(f"{file}: unit: {error}") from None
    if [vars(f) for f in shape.fields] != manifest["fields"]:
        raise FpsimError(f"{file}: fields do not match those of {shape.spec.name}")
    if manifest.get("canonical", shape.spec.canonical_name) != shape.spec.canonical_name:
        raise FpsimError(
            f"{file}: canonical {manifest['canonical']!r}, but the unit is "
            f"{shape.spec.canonical_name}"
        )
    try:
        digests = [entry["sha256"] for entry in manifest["files"].values()]
        sections = [Section(**entry) for entry in manifest["sections"]]
    except (TypeError, KeyError):
        raise FpsimError(f"{file}: files or sections are not as this version writes them") from None
    allowed = {form.file for form in TEXT_FORMATS.values()} | {NPZ, SVH, *MATRIX_FILES}
    if TEXT_FORMATS["readmemh"].file not in manifest["files"] or not allowed.issuperset(
        manifest["files"]
    ):
        raise FpsimError(
            f"{file}: files must hold vectors.hex and else only {', '.join(sorted(allowed))}"
        )
    if any(not isinstance(d, str) or len(d) != 64 for d in digests):
        raise FpsimError(f"{file}: a sha256 is not 64 hexadecimal digits")
    ends = [s.start + s.count for s in sections]
    if [0, *ends][:-1] != [s.start for s in sections] or ends[-1:] not in ([], [manifest["count"]]):
        raise FpsimError(f"{file}: sections do not cover the {manifest['count']} vectors")
    return DotFile(path, shape, manifest)


def opened_file(path: Path) -> BinaryIO:
    """Open a file to read; FpsimError names it."""
    try:
        return path.open("rb")
    except OSError as error:
        raise FpsimError(f"{path}: cannot be read ({error.strerror})") from None


def word_text(shape: Words) -> str:
    """Say what a line of `vectors.hex` must be."""
    digits = -(-shape.word_bits // 4)
    return f"a word of {digits} lower-case hexadecimal digits, {shape.word_bits} bits"


def check_lines(path: Path, head: str, lines: Lines, count: int) -> None:
    """Compare the header of a text file, and if it is too long find why; shorter ones may pass.

    Raises:
        FpsimError: another header; the first line of another length, or the first one too many.
    """
    with opened_file(path) as file:
        check_head(path, file, head)
        if os.fstat(file.fileno()).st_size <= file.tell() + lines.size(0, count):
            return
        above = head.count("\n") + 1
        for start in range(0, count, READ_BLOCK):
            odd = _odd_line(file, lines.ends(start, min(start + READ_BLOCK, count)))
            if odd is not None:
                index, length, text = odd
                whole = lines.form.whole
                what = word_text(lines.shape) if whole else f"a line of {length} characters"
                raise FpsimError(f"{path}:{above + start + index}: {text!r} is not {what}")
    raise FpsimError(f"{path}:{above + count}: more than the {count} vectors of the manifest")


def _odd_line(file: BinaryIO, ends: NDArray[np.int64]) -> tuple[int, int, str] | None:
    """Read lines that should end where ``ends`` says; the first that does not: index, length, text.

    The text is that of the line found, the length the one it should have.
    """
    place, size = file.tell(), int(ends[-1]) + 1
    body = file.read(size + SHOWN)
    file.seek(place + size)
    found = np.flatnonzero(np.frombuffer(body, dtype=np.uint8) == ord("\n"))
    found = np.pad(found, (0, max(ends.size - found.size, 0)), constant_values=-1)
    odd = np.flatnonzero(found[: ends.size] != ends)
    if not odd.size:
        return None
    index = int(odd[0])
    first = int(ends[index - 1]) + 1 if index else 0
    length = int(ends[index]) - first
    text = body[first:].split(b"\n")[0][: length + SHOWN]
    return index, length, text.decode("ascii", "replace")


def check_head(path: Path, file: BinaryIO, head: str) -> None:
    """Read a header; FpsimError names the first line that is not as it should be."""
    expected = head.encode()
    found = file.read(len(expected))
    if found == expected:
        return
    pairs = zip(
        expected.split(b"\n"), found.split(b"\n") + [b""] * expected.count(b"\n"), strict=False
    )
    number, (wanted, seen) = next(
        (i, pair) for i, pair in enumerate(pairs, start=1) if pair[0] != pair[1]
    )
    raise FpsimError(
        f"{path}:{number}: {seen[:80].decode('ascii', 'replace')!r} is not the header that the "
        f"manifest asks for, {wanted[:80].decode('ascii', 'replace')!r}"
    )
