# SPDX-License-Identifier: Apache-2.0
"""Writes directories of vectors, block by block, whole or not at all.

`vectors.hex` is always written, further formats on request (`fpsim.vectors.files.file_formats`),
and `manifest.json` with the unit, the fields, the sections and the SHA-256 of every file's body
(the text after the header, which states the SHA-256 too). An interrupted run goes on
(`fpsim.vectors.files.resumable`); runs on several computers make shards
(`fpsim.vectors.files.shards`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.base.input_files import resolved
from fpsim.base.progress import current
from fpsim.vectors.files.file_formats import (
    DEFAULT_FORMATS,
    FORMATS,
    TEXT_FORMATS,
    TILE_FORMATS,
    json_header,
    package,
)
from fpsim.vectors.files.manifest import MANIFEST, Header, check_target, header_of, manifest_text
from fpsim.vectors.files.opened_set import MATRIX_FILES, NPZ, SVH, OpenedSet
from fpsim.vectors.files.rendering import lines_of, rendered
from fpsim.vectors.files.resumable import PART, Partial, hidden
from fpsim.vectors.files.shards import SHARD_FILE, Shard, open_shards
from fpsim.vectors.files.tile_matrices import matrix_texts
from fpsim.vectors.sets.record import Record
from fpsim.vectors.sets.vector_set import BlockSource, Job, Progress

__all__ = ["WHOLE", "merge_shards", "names_of", "parse_formats", "write"]

#: Most vectors of an npz file, which is made in memory.
MAX_NPZ = 1 << 22
NO_DIGEST = "0" * 64
WHOLE = Shard()


def parse_formats(text: str | Iterable[str]) -> tuple[str, ...]:
    """Return format names from a list or comma-separated text, ``readmemh`` first."""
    names = [n.strip() for n in text.split(",")] if isinstance(text, str) else list(text)
    known = (*FORMATS, *TILE_FORMATS)
    for name in names:
        if name not in known:
            raise not_one_of("format", name, known)
    return tuple(n for n in known if n == "readmemh" or n in names)


def write(
    source: BlockSource,
    directory: str | Path,
    formats: str | Iterable[str] = DEFAULT_FORMATS,
    *,
    jobs: int = 1,
    shard: Shard = WHOLE,
    progress: Progress | None = None,
) -> Path:
    """Write a set, or a shard of it, into a directory, which is replaced if it holds vectors.

    The bytes do not depend on the number of processes, on shards, or on interruptions: a call
    with equal arguments goes on where an interrupted run stopped.

    Args:
        source: a plan, or a set in memory.
        directory: directory of the set; a shard is written beside it.
        formats: names of file formats, or one text with commas; ``readmemh`` is always added.
        jobs: number of processes that make blocks.
        shard: part of the set to write.
        progress: takes vectors done and vectors in all.

    Returns:
        The directory, of the set or of the shard.

    Raises:
        FpsimError: an unknown format, a path that cannot be written, a directory with other files,
            or the unfinished run of another set.
    """
    names = _formats_for(source, formats)
    if not isinstance(jobs, int) or jobs < 1:
        raise FpsimError(f"jobs: {jobs!r} is not a positive integer")
    target = shard.directory(resolved(directory, "out"))
    work = shard.jobs(source)
    lines = {name: lines_of(name, source.record) for name in names if name in TEXT_FORMATS}
    partial = Partial(hidden(target), lines)
    try:
        check_target(target, names_of(shard))
        _write_blocks(partial, source, names, jobs, shard, work, progress)
        if shard.of == 1:
            _finish(partial.path, header_of(source), source.record, names, partial.digests)
        partial.finished()
        _replace(target, partial.path)
    except OSError as error:
        kept = f"; {partial.done} vectors are kept in {partial.path}, the same command goes on"
        if not partial.blocks and not partial.found:
            partial.discard()
            kept = ""
        raise FpsimError(f"out: {target} cannot be written ({error.strerror}){kept}") from None
    return target


def _formats_for(source: BlockSource, formats: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of formats, and refuse formats that the set cannot have."""
    names = parse_formats(formats)
    if "npz" in names and source.count > MAX_NPZ:
        raise FpsimError(f"format: npz holds at most {MAX_NPZ} vectors, not {source.count}")
    if "matrices" in names and "tiles" not in source.extra:
        raise FpsimError("format: matrices are those of tiles, and this set has none")
    if "matrices" in names and source.record.spec.random_bits:
        raise FpsimError("format: matrices have no place for the integers of stochastic rounding")
    return names


def names_of(shard: Shard) -> set[str]:
    """Return the names of files that a replaceable directory may hold."""
    files = {form.file for form in TEXT_FORMATS.values()}
    if shard.of > 1:
        return {f"{name}{PART}" for name in files} | {SHARD_FILE}
    return files | {NPZ, SVH, MANIFEST, *MATRIX_FILES}


def _write_blocks(
    partial: Partial,
    source: BlockSource,
    names: tuple[str, ...],
    jobs: int,
    shard: Shard,
    work: list[tuple[int, Job]],
    progress: Progress | None,
) -> None:
    header, record = header_of(source), source.record
    start, total = work[0][0] if work else 0, sum(source.rows(*job) for _, job in work)
    run = {"formats": list(names), "shard": [shard.index, shard.of]}
    heads = {
        name: _head(name, header, record, NO_DIGEST) if shard.of == 1 else b""
        for name in partial.texts
    }
    with partial.opened(header | run, heads):
        work = work[partial.blocks :]
        progress = current() if progress is None else progress
        try:
            made = rendered(source, partial.texts, [job for _, job in work], jobs)
            for (_, job), bodies in zip(work, made, strict=True):
                partial.add(source.rows(*job), bodies)
                progress(partial.done, total)
        except FpsimError:  # a result without a code: no run can finish this set
            partial.discard()
            raise
        if shard.of > 1:
            data = (
                {"set": header} | run | {"start": start, "count": total, "sha256": partial.digests}
            )
            _write_text(partial.path / SHARD_FILE, json.dumps(data, indent=1) + "\n")


def _head(name: str, header: Header, record: Record, digest: str) -> bytes:
    return TEXT_FORMATS[name].head(header, record, digest).encode()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _finish(
    made: Path,
    header: Header,
    record: Record,
    names: tuple[str, ...],
    sums: dict[str, str],
) -> None:
    """Move the bodies to their names behind headers, and write the manifest and other files."""
    digests: dict[str, str] = {}
    for name, digest in sums.items():
        path = made / TEXT_FORMATS[name].file
        body = path.with_name(path.name + PART)
        with body.open("r+b") as file:
            file.write(_head(name, header, record, digest))
        body.rename(path)
        digests[path.name] = digest
    hex_name = TEXT_FORMATS["readmemh"].file
    if "npz" in names:
        columns = OpenedSet(made, record, header | {"files": _entries(digests)}).columns()
        text = json_header(header, digests[hex_name])
        np.savez(made / NPZ, header=np.array(text), **columns)  # type: ignore[arg-type]
        digests[NPZ] = hashlib.sha256((made / NPZ).read_bytes()).hexdigest()
    if "matrices" in names:
        opened = OpenedSet(made, record, header | {"files": _entries(digests)})
        digests |= _write_matrices(opened)
    if "svh" in names:
        text = package(header, record, digests[hex_name])
        _write_text(made / SVH, text)
        digests[SVH] = hashlib.sha256(text.encode()).hexdigest()
    _write_text(made / MANIFEST, manifest_text(header, digests))


def _write_matrices(opened: OpenedSet) -> dict[str, str]:
    sums = {name: hashlib.sha256() for name in MATRIX_FILES}
    with ExitStack() as stack:
        files = {n: stack.enter_context((opened.directory / n).open("wb")) for n in MATRIX_FILES}
        for name, piece in matrix_texts(opened):
            files[name].write(piece)
            sums[name].update(piece)
    return {name: digest.hexdigest() for name, digest in sums.items()}


def _entries(digests: dict[str, str]) -> dict[str, dict[str, str]]:
    return {name: {"sha256": digest} for name, digest in digests.items()}


def _replace(target: Path, made: Path) -> None:
    """Put ``made`` in the place of ``target``; the old directory is removed only afterwards."""
    if not target.exists():
        made.rename(target)
        return
    old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    target.rename(old)
    try:
        made.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def merge_shards(directory: str | Path, progress: Progress | None = None) -> Path:
    """Join the shards beside ``directory`` into one set, as a single run would have written it.

    The shards are kept. Nothing is recomputed; `fpsim.vectors.check` does that.

    Raises:
        FpsimError: shards that are missing, damaged or of different sets, or a path that cannot
            be written.
    """
    target = resolved(directory, "out")
    shards = open_shards(target)
    header, record, names = shards[0].header, shards[0].record, parse_formats(shards[0].formats)
    made = target.with_name(f".{target.name}.{secrets.token_hex(4)}.merge")
    try:
        check_target(target, names_of(WHOLE))
        made.mkdir()
        sums: dict[str, str] = {}
        texts = [name for name in names if name in TEXT_FORMATS]
        for name in texts:
            head, done = _head(name, header, record, NO_DIGEST), 0
            digest = hashlib.sha256()
            with (made / (TEXT_FORMATS[name].file + PART)).open("wb") as file:
                file.write(head)
                for shard in shards:
                    for piece in shard.pieces(name):
                        file.write(piece)
                        digest.update(piece)
                    done += shard.count
                    if progress is not None:
                        progress(done + header["count"] * len(sums), header["count"] * len(texts))
            sums[name] = digest.hexdigest()
        _finish(made, header, record, names, sums)
        _replace(target, made)
    except OSError as error:
        raise FpsimError(f"out: {target} cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target
