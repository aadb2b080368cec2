# SPDX-License-Identifier: Apache-2.0
"""Writes a set shard by shard on an executor and joins the shards: the bytes of a single run."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from fpsim.base.errors import FpsimError
from fpsim.base.executor import Executor
from fpsim.base.input_files import resolved
from fpsim.vectors.files.file_formats import DEFAULT_FORMATS
from fpsim.vectors.files.manifest import check_target, header_of
from fpsim.vectors.files.shards import Shard, ShardDirectory
from fpsim.vectors.files.writer import WHOLE, merge_shards, names_of, parse_formats, write
from fpsim.vectors.sets.vector_set import BlockSource, Progress

__all__ = ["write_sharded"]

#: A point of work: the set, the target directory, formats, and the shard.
_Point = tuple[BlockSource, str, tuple[str, ...], Shard]


def write_sharded(
    source: BlockSource,
    directory: str | Path,
    shards: int,
    pool: Executor,
    formats: str | Iterable[str] = DEFAULT_FORMATS,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Write a set as shards on an executor, join them, and remove the shards.

    Shards lie beside the directory, on a disk that all workers see. Finished shards of an
    interrupted run are used.

    Args:
        source: a plan, or a set in memory.
        directory: directory of the set.
        shards: number of shards, at least one.
        pool: executor that makes them.
        formats: file formats, as in `fpsim.vectors.files.writer.write`.
        progress: takes shards done and shards in all.

    Returns:
        The directory.

    Raises:
        FpsimError: an unknown format, a path that cannot be written, a directory with other files,
            or shards that are damaged or of another set.
    """
    names, target = parse_formats(formats), resolved(directory, "out")
    if shards == 1:
        return write(source, target, names, progress=progress)
    wanted = [Shard(i, shards) for i in range(1, max(shards, 1) + 1)]
    check_target(target, names_of(WHOLE))
    left = [shard for shard in wanted if not _is_there(shard, target, source, names)]
    progress(shards - len(left), shards)
    points: list[_Point] = [(source, str(target), names, shard) for shard in left]
    for done, _ in enumerate(pool.run(_make, points), shards - len(left) + 1):
        progress(done, shards)
    made = merge_shards(target)
    for shard in wanted:
        shutil.rmtree(shard.directory(target))
    return made


def _make(point: _Point) -> str:
    source, directory, names, shard = point
    return str(write(source, directory, names, shard=shard))


def _is_there(shard: Shard, target: Path, source: BlockSource, names: tuple[str, ...]) -> bool:
    try:
        found = ShardDirectory.open(shard.directory(target))
    except FpsimError:
        return False
    return found.header == header_of(source) and found.formats == names
