# SPDX-License-Identifier: Apache-2.0
"""Directories of dot product vectors: written in a stream, whole or not at all; read and checked.

`vectors.hex` is always there, further formats on request (`fpsim.vectors.formats`), and
`manifest.json` with the unit, the fields, the sections and the SHA-256 of every file's body (what
follows its header, which carries the same digest).
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

import fpsim
from fpsim.errors import FpsimError, nearest
from fpsim.kernels.words import read_words
from fpsim.spec import MacSpec
from fpsim.vectors.files import MANIFEST, _check_target
from fpsim.vectors.formats import FORMATS, OPS, TEXT_FORMATS, Lines, package
from fpsim.vectors.shape import Columns, Shape
from fpsim.vectors.stream import Section

__all__ = [
    "SCHEMA",
    "DotFile",
    "DotSource",
    "check_dots",
    "open_dots",
    "parse_formats",
    "write_dots",
]

SCHEMA = 2
NPZ, SVH = "vectors.npz", "vectors_pkg.svh"
#: An npz file is made in memory.
MAX_NPZ = 1 << 22
#: Vectors read and recomputed at a time.
READ_BLOCK = 1 << 14
NO_DIGEST = "0" * 64

Progress = Callable[[int, int], None]


class DotSource(Protocol):
    """What can be written: `fpsim.vectors.dots.DotPlan`, or a selection."""

    @property
    def shape(self) -> Shape:
        """Unit and lanes."""
        ...

    @property
    def strategy(self) -> str:
        """How the vectors were chosen."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the random ones."""
        ...

    @property
    def count(self) -> int:
        """Number of vectors."""
        ...

    @property
    def sections(self) -> tuple[Section, ...]:
        """Named runs of vectors."""
        ...

    def jobs(self) -> list[tuple[int, int]]:
        """Return the blocks, in order."""
        ...

    def block(self, part: int, block: int) -> Columns:
        """Return one block with its results."""
        ...


def parse_formats(text: str | Iterable[str]) -> tuple[str, ...]:
    """Return format names from a list or comma-separated text, ``readmemh`` first."""
    names = [n.strip() for n in text.split(",")] if isinstance(text, str) else list(text)
    for name in names:
        if name not in FORMATS:
            raise FpsimError(
                f"format: {name!r} is not one of {', '.join(FORMATS)}{nearest(name, FORMATS)}"
            )
    return tuple(n for n in FORMATS if n == "readmemh" or n in names)


def header_of(source: DotSource) -> dict[str, Any]:
    """Return what a header says of a set."""
    shape = source.shape
    return {
        "schema": SCHEMA,
        "generator": f"fpsim {fpsim.__version__}",
        "unit": shape.spec.to_dict(),
        "canonical": shape.spec.canonical_name,
        "equation": shape.spec.equation,
        "strategy": source.strategy,
        "seed": source.seed,
        "count": source.count,
        "k": shape.k,
        "group": shape.group,
        "ops": OPS,
        "fields": [vars(f) for f in shape.fields],
        "word_bits": shape.word_bits,
        "sections": [vars(s) for s in source.sections],
    }


# -- writing -------------------------------------------------------------------------------------


def write_dots(
    source: DotSource,
    directory: str | Path,
    formats: str | Iterable[str] = ("readmemh", "jsonl"),
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Write a set into ``directory`` (replaced if it holds vectors) and return it.

    ``jobs`` processes make the blocks; the bytes do not depend on their number.

    Raises:
        FpsimError: an unknown format, a path that cannot be written, a directory with other files.
    """
    names = parse_formats(formats)
    if not isinstance(jobs, int) or jobs < 1:
        raise FpsimError(f"jobs: {jobs!r} is not a positive integer")
    if "npz" in names and source.count > MAX_NPZ:
        raise FpsimError(f"format: npz holds at most {MAX_NPZ} vectors, not {source.count}")
    target = Path(directory).resolve()
    try:
        _check_target(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise FpsimError(f"out: {target} cannot be written ({error.strerror})") from None
    try:
        _write_into(scratch, source, names, jobs, progress)
        scratch.chmod(0o755)
        if target.exists():
            old = scratch.with_name(scratch.name + ".old")
            target.rename(old)
            try:
                scratch.rename(target)
            except OSError:
                old.rename(target)
                raise
            shutil.rmtree(old)
        else:
            scratch.rename(target)
    except OSError as error:
        raise FpsimError(f"out: {target} cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _write_into(
    scratch: Path, source: DotSource, names: tuple[str, ...], jobs: int, progress: Progress | None
) -> None:
    header, shape = header_of(source), source.shape
    texts = [name for name in names if name in TEXT_FORMATS]
    digests: dict[str, str] = {}
    kept: list[Columns] = []
    with ExitStack() as stack:
        files: list[BinaryIO] = []
        sums = [hashlib.sha256() for _ in texts]
        for name in texts:
            form = TEXT_FORMATS[name]
            file = stack.enter_context((scratch / form.file).open("wb"))
            file.write(form.head(header, shape, NO_DIGEST).encode())
            files.append(file)
        done = 0
        for count, bodies, columns in _bodies(source, texts, jobs, "npz" in names):
            for written, digest, body in zip(files, sums, bodies, strict=True):
                written.write(body)
                digest.update(body)
            kept += [columns] if columns is not None else []
            done += count
            if progress is not None:
                progress(done, source.count)
        for name, written, digest in zip(texts, files, sums, strict=True):
            form = TEXT_FORMATS[name]
            digests[form.file] = digest.hexdigest()
            written.seek(0)
            written.write(form.head(header, shape, digest.hexdigest()).encode())
    if "npz" in names:
        whole = {n: np.concatenate([c[n] for c in kept]) for n in kept[0]}
        np.savez(scratch / NPZ, **whole)  # type: ignore[arg-type]
        digests[NPZ] = hashlib.sha256((scratch / NPZ).read_bytes()).hexdigest()
    if "svh" in names:
        text = package(header, shape).encode()
        (scratch / SVH).write_bytes(text)
        digests[SVH] = hashlib.sha256(text).hexdigest()
    manifest = header | {"files": {name: {"sha256": d} for name, d in digests.items()}}
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


Bodies = tuple[int, list[bytes], Columns | None]


class _Maker:
    """Makes the text of one block; what a worker process holds."""

    def __init__(self, source: DotSource, texts: list[str], keep: bool) -> None:
        self.source, self.keep = source, keep
        self.lines = [Lines(TEXT_FORMATS[name], source.shape) for name in texts]

    def make(self, job: tuple[int, int]) -> Bodies:
        """Return the number of vectors, their lines in every format, and the columns if kept."""
        columns = self.source.block(*job)
        elements = self.source.shape.elements(columns)
        bodies = [lines.text(elements).tobytes() for lines in self.lines]
        return elements.shape[0], bodies, columns if self.keep else None


_maker: _Maker | None = None


def _install(source: DotSource, texts: list[str], keep: bool) -> None:
    global _maker
    _maker = _Maker(source, texts, keep)


def _make(job: tuple[int, int]) -> Bodies:
    assert _maker is not None
    return _maker.make(job)


def _bodies(source: DotSource, texts: list[str], jobs: int, keep: bool) -> Iterator[Bodies]:
    """Yield the blocks in order, made here or by worker processes a few blocks ahead."""
    if jobs == 1:
        yield from map(_Maker(source, texts, keep).make, source.jobs())
        return
    context = multiprocessing.get_context("spawn")
    arguments = (source, texts, keep)
    with ProcessPoolExecutor(jobs, context, initializer=_install, initargs=arguments) as pool:
        waiting: deque[Future[Bodies]] = deque()
        for job in source.jobs():
            waiting.append(pool.submit(_make, job))
            if len(waiting) > 4 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


# -- reading back --------------------------------------------------------------------------------


@dataclass(frozen=True)
class DotFile:
    """A directory of dot product vectors, opened: its manifest is consistent."""

    directory: Path
    shape: Shape
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

    @property
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

    @property
    def head(self) -> str:
        """The header that `vectors.hex` must have."""
        digest = self.manifest["files"][self.hex_file.name]["sha256"]
        return TEXT_FORMATS["readmemh"].head(self._header, self.shape, digest)

    @property
    def _header(self) -> dict[str, Any]:
        return {k: v for k, v in self.manifest.items() if k != "files"}

    @property
    def head_lines(self) -> int:
        """Lines of the header; vector i stands on line ``head_lines + i + 1``."""
        return self.head.count("\n")

    def blocks(self) -> Iterator[tuple[int, Columns]]:
        """Yield (index of the first vector, columns) of consecutive parts.

        Raises:
            FpsimError: a header or line that is not what the manifest says, or too few or many.
        """
        digits = -(-self.shape.word_bits // 4)
        with _opened(self.hex_file) as file:
            _check_head(self.hex_file, file, self.head)
            for start in range(0, self.count, READ_BLOCK):
                rows = min(READ_BLOCK, self.count - start)
                text = file.read(rows * (digits + 1))
                yield start, self._parse(text, start, rows, digits)
            if file.read(1):
                line = self.head_lines + self.count + 1
                raise FpsimError(
                    f"{self.hex_file}:{line}: more than the {self.count} vectors of the manifest"
                )

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
            line = text[index * (digits + 1) :].split(b"\n")[0][: digits + 8]
            raise FpsimError(
                f"{where}: {line.decode('ascii', 'replace')!r} is not a word of {digits} "
                f"lower-case hexadecimal digits, {self.shape.word_bits} bits"
            )
        return self.shape.columns(elements)

    def columns(self) -> Columns:
        """Return all vectors."""
        blocks = [columns for _, columns in self.blocks()]
        return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


def open_dots(directory: str | Path) -> DotFile:
    """Open a directory of dot product vectors by its manifest.

    Raises:
        FpsimError: a manifest that is missing, of another schema, or does not fit its unit.
    """
    path = Path(directory)
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise FpsimError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise FpsimError(f"{file}: not valid JSON ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        raise FpsimError(f"{file}: schema {schema!r} is not supported; dot products have {SCHEMA}")
    types = {"unit": dict, "fields": list, "count": int, "files": dict, "sections": list,
             "seed": int, "strategy": str, "k": int, "group": int, "generator": str,
             "canonical": str, "equation": str}  # fmt: skip
    for key, kind in types.items():
        if not isinstance(manifest.get(key), kind):
            raise FpsimError(f"{file}: {key} is missing or not of type {kind.__name__}")
    try:
        shape = Shape(MacSpec.from_dict(manifest["unit"]), manifest["k"], manifest["group"])
    except FpsimError as error:
        raise FpsimError(f"{file}: {error}") from None
    if [vars(f) for f in shape.fields] != manifest["fields"]:
        raise FpsimError(f"{file}: fields do not match those of {shape.spec.name}")
    if manifest["canonical"] != shape.spec.canonical_name:
        raise FpsimError(
            f"{file}: canonical {manifest['canonical']!r}, but the unit is "
            f"{shape.spec.canonical_name}"
        )
    try:
        digests = [entry["sha256"] for entry in manifest["files"].values()]
        sections = [Section(**entry) for entry in manifest["sections"]]
    except (TypeError, KeyError):
        raise FpsimError(f"{file}: files or sections are not as this version writes them") from None
    known = {form.file for form in TEXT_FORMATS.values()} | {NPZ, SVH}
    if TEXT_FORMATS["readmemh"].file not in manifest["files"] or not known.issuperset(
        manifest["files"]
    ):
        raise FpsimError(
            f"{file}: files must hold vectors.hex and else only {', '.join(sorted(known))}"
        )
    if any(not isinstance(d, str) or len(d) != 64 for d in digests):
        raise FpsimError(f"{file}: a sha256 is not 64 hexadecimal digits")
    ends = [s.start + s.count for s in sections]
    if [0, *ends[:-1]] != [s.start for s in sections] or ends[-1:] not in ([], [manifest["count"]]):
        raise FpsimError(f"{file}: sections do not cover the {manifest['count']} vectors")
    return DotFile(path, shape, manifest)


def check_dots(directory: str | Path, progress: Progress | None = None) -> DotFile:
    """Recompute every result and compare every byte of every file.

    Raises:
        FpsimError: the first wrong line, by file and number.
    """
    opened = open_dots(directory)
    shape, path = opened.shape, opened.directory
    others = {
        name: form
        for name, form in TEXT_FORMATS.items()
        if name != "readmemh" and form.file in opened.manifest["files"]
    }
    digest = hashlib.sha256()
    hex_lines = Lines(TEXT_FORMATS["readmemh"], shape)
    last = 0
    kept: list[Columns] = []
    with ExitStack() as stack:
        files = {}
        for name, form in others.items():
            files[name] = stack.enter_context(_opened(path / form.file))
            head = form.head(opened._header, shape, opened.manifest["files"][form.file]["sha256"])
            _check_head(path / form.file, files[name], head)
        sums = {name: hashlib.sha256() for name in others}
        lines = {name: Lines(form, shape) for name, form in others.items()}
        for start, columns in opened.blocks():
            _compare(opened, start, columns, last)
            last = int(columns["acc"][-1])
            elements = shape.elements(columns)
            digest.update(hex_lines.text(elements).tobytes())
            for name, file in files.items():
                body = lines[name].text(elements).tobytes()
                _same_bytes(path / others[name].file, file, body, lines[name].length, opened, start)
                sums[name].update(body)
            if NPZ in opened.manifest["files"]:
                kept.append(columns)
            if progress is not None:
                progress(start + columns["acc"].size, opened.count)
        for name, file in files.items():
            if file.read(1):
                raise FpsimError(f"{path / others[name].file}: more than {opened.count} vectors")
    found = {TEXT_FORMATS[n].file: s.hexdigest() for n, s in (("readmemh", digest), *sums.items())}
    for name, entry in opened.manifest["files"].items():
        if name in found and found[name] != entry["sha256"]:
            raise FpsimError(
                f"{path / name}: SHA-256 is {found[name]}, the manifest says {entry['sha256']}; "
                "every result is right, so stimuli were changed"
            )
    _check_others(opened, kept)
    return opened


def _check_others(opened: DotFile, kept: list[Columns]) -> None:
    path, files = opened.directory, opened.manifest["files"]
    if SVH in files:
        with _opened(path / SVH) as file:
            _check_head(path / SVH, file, package(opened._header, opened.shape))
    if NPZ in files:
        with _opened(path / NPZ) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != files[NPZ]["sha256"]:
            raise FpsimError(f"{path / NPZ}: SHA-256 is not what the manifest says")
        with np.load(path / NPZ) as arrays:
            for name in kept[0]:
                if not np.array_equal(arrays[name], np.concatenate([c[name] for c in kept])):
                    raise FpsimError(f"{path / NPZ}: array {name} differs from vectors.hex")


def _compare(opened: DotFile, start: int, columns: Columns, before: int) -> None:
    unknown = np.flatnonzero(columns["op"] > max(OPS.values()))
    if unknown.size:
        i = start + int(unknown[0])
        op = int(columns["op"][unknown[0]])
        raise FpsimError(
            f"{opened.hex_file}:{opened.head_lines + i + 1}: vector {i} has no op {op}"
        )
    acc = opened.shape.expected(columns, before)
    wrong = np.flatnonzero(acc != columns["acc"])
    if wrong.size:
        # What follows in a stream starts from what the file says, so look at the first alone.
        row = int(wrong[0])
        i = start + row
        raise FpsimError(
            f"{opened.hex_file}:{opened.head_lines + i + 1}: vector {i} "
            f"({opened.section_of(i)}) expects acc {int(columns['acc'][row]):x}, "
            f"{opened.shape.spec.name} gives {int(acc[row]):x}"
        )


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise FpsimError(f"{path}: cannot be read ({error.strerror})") from None


def _check_head(path: Path, file: BinaryIO, head: str) -> None:
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


def _same_bytes(
    path: Path, file: BinaryIO, body: bytes, length: int, opened: DotFile, start: int
) -> None:
    found = file.read(len(body))
    if found == body:
        return
    size = min(len(found), len(body))
    unequal = np.flatnonzero(
        np.frombuffer(found[:size], np.uint8) != np.frombuffer(body[:size], np.uint8)
    )
    row = (int(unequal[0]) if unequal.size else size) // length
    raise FpsimError(f"{path}: vector {start + row} is not what vectors.hex says")
