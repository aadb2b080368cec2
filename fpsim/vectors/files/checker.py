# SPDX-License-Identifier: Apache-2.0
"""Reads a directory of vectors; checks it by recomputing results and comparing all bytes."""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.progress import current
from fpsim.vectors.files.file_formats import TEXT_FORMATS, TextFormat, json_header, package
from fpsim.vectors.files.opened_set import (
    MATRIX_FILES,
    NPZ,
    SVH,
    OpenedSet,
    check_head,
    check_lines,
    open_set,
    opened_file,
)
from fpsim.vectors.files.rendering import in_order, lines_of
from fpsim.vectors.files.tile_matrices import matrix_texts
from fpsim.vectors.sets.record import OPS, Columns
from fpsim.vectors.sets.vector_set import Progress, VectorSet, keep_freed_memory

__all__ = ["check", "read"]

_NONE = np.empty(0, dtype=np.int64)
#: Vectors recomputed at once, and bytes hashed at once.
CHECK_BLOCK, READ_BYTES = 1 << 16, 1 << 20


def read(directory: str | Path) -> VectorSet:
    """Read a directory of vectors into memory; checksums are compared, results not computed.

    Raises:
        FpsimError: files that are missing, damaged, of another schema, or that do not match their
            checksums; the message names file and line.
    """
    opened = open_set(directory)
    columns = opened.columns()
    _check_digests(opened)
    header = opened.header
    extra: dict[str, Any] = {key: header[key] for key in ("tiles", "source") if key in header}
    return VectorSet(
        opened.record, columns, opened.sections, opened.strategy, opened.seed, opened.start, extra
    )


def check(directory: str | Path, progress: Progress | None = None, *, jobs: int = 1) -> OpenedSet:
    """Recompute every result of a directory and compare every byte of every file.

    Args:
        directory: a directory that `write` made.
        progress: takes vectors done and vectors in all; None: the open progress bar.
        jobs: processes that compute.

    Returns:
        The opened directory: ``count``, ``record``, ``sections``, and ``blocks()`` of vectors.

    Raises:
        FpsimError: the first wrong line, by file and number.
    """
    if not isinstance(jobs, int) or jobs < 1:
        raise FpsimError(f"jobs: {jobs!r} is not a positive integer")
    opened = open_set(directory)
    opened.check_ends()
    for name in _others(opened):
        form, lines = TEXT_FORMATS[name], lines_of(name, opened.record)
        check_lines(opened.directory / form.file, _head(opened, form), lines, opened.count)
    progress = current() if progress is None else progress
    for done in in_order(_check_slice, opened, range(0, opened.count, CHECK_BLOCK), jobs):
        progress(done, opened.count)
    _check_digests(opened)
    _check_package(opened)
    _check_arrays(opened)
    _check_matrices(opened)
    return opened


def _check_digests(opened: OpenedSet) -> None:
    """Compare the SHA-256 of every text file with the manifest; FpsimError names the file."""
    for name in ("readmemh", *_others(opened)):
        _check_digest(opened, TEXT_FORMATS[name])


def _others(opened: OpenedSet) -> list[str]:
    """Return the text formats of a directory besides ``vectors.hex``."""
    files = opened.manifest["files"]
    return [n for n, form in TEXT_FORMATS.items() if n != "readmemh" and form.file in files]


def _head(opened: OpenedSet, form: TextFormat) -> str:
    return form.head(opened.header, opened.record, opened.manifest["files"][form.file]["sha256"])


def _check_slice(opened: OpenedSet, start: int) -> int:
    """Check the vectors of one slice in every file; return where the slice ends."""
    keep_freed_memory()
    stop = min(start + CHECK_BLOCK, opened.count)
    columns = opened.rows(start, stop)
    streams = "acc" in columns
    before = int(opened.rows(start - 1, start)["acc"][0]) if start and streams else 0
    _compare(opened, start, columns, before)
    if others := _others(opened):
        elements = opened.record.elements(columns)
        for name in others:
            body = lines_of(name, opened.record).text(elements)
            _same_bytes(opened, name, body, start)
    return stop


def _compare(opened: OpenedSet, start: int, columns: Columns, before: int) -> None:
    unknown = np.flatnonzero(columns["op"] > max(OPS.values())) if "op" in columns else _NONE
    if unknown.size:
        i = start + int(unknown[0])
        op = int(columns["op"][unknown[0]])
        raise FpsimError(
            f"{opened.hex_file}:{opened.head_lines + i + 1}: vector {i} has no op {op}"
        )
    found = opened.record.results(columns, before)
    # A wrong result is the addend of the next vector, so only the first wrong one counts.
    wrong = np.flatnonzero(np.logical_or.reduce([_differ(columns[n], found[n]) for n in found]))
    if wrong.size:
        row = int(wrong[0])
        i = start + row
        name = next(n for n in found if np.any(columns[n][row] != found[n][row]))
        raise FpsimError(
            f"{opened.hex_file}:{opened.head_lines + i + 1}: vector {i} "
            f"({opened.section_of(i)}) expects {name} {_hex(columns[name][row])}, "
            f"{opened.record.title} gives {_hex(found[name][row])}"
        )


def _differ(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask of vectors that differ in a field."""
    unequal: NDArray[np.bool_] = np.asarray(a != b)
    return np.asarray(unequal.reshape(len(a), -1).any(axis=1))


def _hex(codes: Any) -> str:
    """Return the codes of a field as hexadecimal digits, element 0 first."""
    return " ".join(f"{int(code):x}" for code in np.atleast_1d(codes))


def _same_bytes(opened: OpenedSet, name: str, body: bytes, start: int) -> None:
    form, lines = TEXT_FORMATS[name], lines_of(name, opened.record)
    path = opened.directory / form.file
    with opened_file(path) as file:
        file.seek(len(_head(opened, form).encode()) + lines.size(start))
        found = file.read(len(body))
    if found == body:
        return
    size = min(len(found), len(body))
    unequal = np.flatnonzero(
        np.frombuffer(found[:size], np.uint8) != np.frombuffer(body[:size], np.uint8)
    )
    vector = start + (int(unequal[0]) if unequal.size else size) // lines.length
    line = _head(opened, form).count("\n") + vector + 1
    raise FpsimError(f"{path}:{line}: vector {vector} is not what vectors.hex says")


def _check_digest(opened: OpenedSet, form: TextFormat) -> None:
    path, wanted = opened.directory / form.file, opened.manifest["files"][form.file]["sha256"]
    with opened_file(path) as file:
        file.seek(len(_head(opened, form).encode()))
        digest = hashlib.sha256()
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    if digest.hexdigest() != wanted:
        raise FpsimError(
            f"{path}: SHA-256 is {digest.hexdigest()}, the manifest says {wanted}; "
            "every result is right, so stimuli were changed"
        )


def _check_package(opened: OpenedSet) -> None:
    if SVH not in opened.manifest["files"]:
        return
    path = opened.directory / SVH
    text = package(opened.header, opened.record, opened.digest)
    if hashlib.sha256(text.encode()).hexdigest() != opened.manifest["files"][SVH]["sha256"]:
        raise FpsimError(f"{path}: SHA-256 is not what the manifest says")
    with opened_file(path) as file:
        check_head(path, file, text)
        if file.read(1):
            raise FpsimError(f"{path}: more than the package of {opened.record.title}")


def _check_arrays(opened: OpenedSet) -> None:
    if NPZ not in opened.manifest["files"]:
        return
    path = opened.directory / NPZ
    with opened_file(path) as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != opened.manifest["files"][NPZ]["sha256"]:
        raise FpsimError(f"{path}: SHA-256 is not what the manifest says")
    columns = opened.columns()
    try:
        with np.load(path) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError, OSError) as error:
        raise FpsimError(f"{path}: not arrays that NumPy reads ({str(error)[:80]})") from None
    if str(found.pop("header", None)) != json_header(opened.header, opened.digest):
        raise FpsimError(f"{path}: array header is not what the manifest says")
    if set(found) != set(columns):
        raise FpsimError(f"{path}: arrays are {', '.join(found)}, not {', '.join(columns)}")
    for name, column in columns.items():
        if found[name].dtype != column.dtype or not np.array_equal(found[name], column):
            raise FpsimError(f"{path}: array {name} differs from vectors.hex")


def _check_matrices(opened: OpenedSet) -> None:
    files = opened.manifest["files"]
    names = [name for name in MATRIX_FILES if name in files]
    if not names:
        return
    if len(names) != len(MATRIX_FILES):
        raise FpsimError(f"{opened.directory}: matrices are {', '.join(MATRIX_FILES)}, all of them")
    sums = {name: hashlib.sha256() for name in names}
    with ExitStack() as stack:
        opens = {n: stack.enter_context(opened_file(opened.directory / n)) for n in names}
        for name, piece in matrix_texts(opened):
            if opens[name].read(len(piece)) != piece:
                raise FpsimError(f"{opened.directory / name}: not the operands of vectors.hex")
            sums[name].update(piece)
        for name, file in opens.items():
            if file.read(1) or sums[name].hexdigest() != files[name]["sha256"]:
                raise FpsimError(
                    f"{opened.directory / name}: not what vectors.hex and manifest say"
                )
