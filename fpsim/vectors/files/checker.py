# SPDX-License-Identifier: Apache-2.0
"""Checks a directory of vectors: every result anew, every byte of every file."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.vectors.files.formats import OPS, TextFormat, formats_of, json_header, package
from fpsim.vectors.files.matrices import matrix_texts
from fpsim.vectors.files.reader import (
    MATRIX_FILES,
    NPZ,
    SVH,
    DotFile,
    check_head,
    check_lines,
    open_set,
    opened_file,
)
from fpsim.vectors.files.rendering import in_order, lines_of
from fpsim.vectors.sets.sources import Progress
from fpsim.vectors.sets.words import Columns, Words, keep_freed_memory

__all__ = ["check_digests", "check_dots"]

#: Vectors recomputed at a time, and bytes hashed at a time.
CHECK_BLOCK, READ_BYTES = 1 << 16, 1 << 20


def check_dots(
    directory: str | Path, progress: Progress | None = None, *, jobs: int = 1
) -> DotFile[Words]:
    """Recompute every result and compare every byte of every file, in ``jobs`` processes.

    Raises:
        FpsimError: the first wrong line, by file and number.
    """
    if not isinstance(jobs, int) or jobs < 1:
        raise FpsimError(f"jobs: {jobs!r} is not a positive integer")
    opened = open_set(directory)
    opened.check_ends()
    for name in _others(opened):
        form = formats_of(opened.shape)[name]
        lines = lines_of(name, opened.shape)
        check_lines(opened.directory / form.file, _head(opened, form), lines, opened.count)
    for done in in_order(_check_slice, opened, range(0, opened.count, CHECK_BLOCK), jobs):
        if progress is not None:
            progress(done, opened.count)
    check_digests(opened)
    _check_package(opened)
    _check_arrays(opened)
    _check_matrices(opened)
    return opened


def check_digests(opened: DotFile[Words]) -> None:
    """Compare the SHA-256 of every text file with the manifest; FpsimError names the file."""
    for name in ("readmemh", *_others(opened)):
        _check_digest(opened, formats_of(opened.shape)[name])


def _others(opened: DotFile[Words]) -> list[str]:
    """Return the text formats that are there besides ``vectors.hex``."""
    files = opened.manifest["files"]
    forms = formats_of(opened.shape)
    return [n for n, form in forms.items() if n != "readmemh" and form.file in files]


def _head(opened: DotFile[Words], form: TextFormat) -> str:
    return form.head(opened.header, opened.shape, opened.manifest["files"][form.file]["sha256"])


def _check_slice(opened: DotFile[Words], start: int) -> int:
    """Check the vectors from ``start`` on, in every file; return where they end."""
    keep_freed_memory()
    stop = min(start + CHECK_BLOCK, opened.count)
    columns = opened.rows(start, stop)
    before = int(opened.rows(start - 1, start)["acc"][0]) if start else 0
    _compare(opened, start, columns, before)
    if others := _others(opened):
        elements = opened.shape.elements(columns)
        for name in others:
            body = lines_of(name, opened.shape).text(elements, start)
            _same_bytes(opened, name, body, start)
    return stop


def _compare(opened: DotFile[Words], start: int, columns: Columns, before: int) -> None:
    unknown = np.flatnonzero(columns["op"] > max(OPS.values()))
    if unknown.size:
        i = start + int(unknown[0])
        op = int(columns["op"][unknown[0]])
        raise FpsimError(
            f"{opened.hex_file}:{opened.head_lines + i + 1}: vector {i} has no op {op}"
        )
    found = opened.shape.results(columns, before)
    # What follows a wrong result in a stream starts from what the file says: the first counts.
    wrong = np.flatnonzero(np.logical_or.reduce([columns[n] != found[n] for n in found]))
    if wrong.size:
        row = int(wrong[0])
        i = start + row
        name = next(n for n in found if columns[n][row] != found[n][row])
        raise FpsimError(
            f"{opened.hex_file}:{opened.head_lines + i + 1}: vector {i} "
            f"({opened.section_of(i)}) expects {name} {int(columns[name][row]):x}, "
            f"{opened.shape.spec.name} gives {int(found[name][row]):x}"
        )


def _same_bytes(opened: DotFile[Words], name: str, body: bytes, start: int) -> None:
    form, lines = formats_of(opened.shape)[name], lines_of(name, opened.shape)
    path = opened.directory / form.file
    with opened_file(path) as file:
        file.seek(len(_head(opened, form).encode()) + lines.size(0, start))
        found = file.read(len(body))
    if found == body:
        return
    size = min(len(found), len(body))
    unequal = np.flatnonzero(
        np.frombuffer(found[:size], np.uint8) != np.frombuffer(body[:size], np.uint8)
    )
    vector, place = start, int(unequal[0]) if unequal.size else size
    while lines.size(start, vector + 1) <= place:
        vector += 1
    line = _head(opened, form).count("\n") + vector + 1
    raise FpsimError(f"{path}:{line}: vector {vector} is not what vectors.hex says")


def _check_digest(opened: DotFile[Words], form: TextFormat) -> None:
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


def _check_package(opened: DotFile[Words]) -> None:
    if SVH not in opened.manifest["files"]:
        return
    path = opened.directory / SVH
    text = package(opened.header, opened.shape, opened.digest)
    with opened_file(path) as file:
        check_head(path, file, text)
        if file.read(1):
            raise FpsimError(f"{path}: more than the package of {opened.shape.spec.name}")


def _check_arrays(opened: DotFile[Words]) -> None:
    if NPZ not in opened.manifest["files"]:
        return
    path = opened.directory / NPZ
    with opened_file(path) as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != opened.manifest["files"][NPZ]["sha256"]:
        raise FpsimError(f"{path}: SHA-256 is not what the manifest says")
    columns = opened.columns()
    with np.load(path) as arrays:
        if str(arrays.get("header")) != json_header(opened.header, opened.digest):
            raise FpsimError(f"{path}: array header is not what the manifest says")
        for name, column in columns.items():
            if name not in arrays.files or not np.array_equal(arrays[name], column):
                raise FpsimError(f"{path}: array {name} differs from vectors.hex")


def _check_matrices(opened: DotFile[Words]) -> None:
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
