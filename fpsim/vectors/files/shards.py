# SPDX-License-Identifier: Apache-2.0
"""Shards: parts of a set made by separate runs, on any computers, and joined byte for byte.

Shard i of n of ``DIR`` is the directory ``DIR.shard-i-of-n``, with the lines of its blocks in every
text format (``vectors.hex.part``, ...) and ``shard.json``: a description of the whole set, the
range of vectors, and the SHA-256 of each file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fpsim.base.errors import FpsimError
from fpsim.vectors.files.file_formats import FORMATS, TEXT_FORMATS, TILE_FORMATS
from fpsim.vectors.files.manifest import Header, check_header, read_json
from fpsim.vectors.files.resumable import PART, difference
from fpsim.vectors.sets.record import Record
from fpsim.vectors.sets.vector_set import BlockSource, Job

__all__ = ["SHARD_FILE", "Shard", "ShardDirectory", "open_shards"]

SHARD_FILE = "shard.json"
MAX_SHARDS = 1 << 16
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of ``of`` parts of a set."""

    index: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.of <= MAX_SHARDS or not 1 <= self.index <= self.of:
            raise FpsimError(
                f"shard: '{self.index}/{self.of}' is not i/n with 1 <= i <= n <= {MAX_SHARDS}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that ``i/n`` names."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None:
            raise FpsimError(f"shard: {text!r} is not i/n with 1 <= i <= n <= {MAX_SHARDS}")
        return cls(int(found[1]), int(found[2]))

    def jobs(self, source: BlockSource) -> list[tuple[int, Job]]:
        """Return the shard's blocks, each with its first vector; a shard may have none."""
        start, count, mine = 0, source.count, []
        for job in source.jobs():
            if start * self.of // count == self.index - 1:
                mine.append((start, job))
            start += source.rows(*job)
        return mine

    def directory(self, target: Path) -> Path:
        """Return the directory of the shard of ``target``; of the only shard: ``target``."""
        if self.of == 1:
            return target
        return target.with_name(f"{target.name}.shard-{self.index}-of-{self.of}")


@dataclass(frozen=True)
class ShardDirectory:
    """A finished shard on disk: the header of the whole set, and the shard's vectors."""

    path: Path
    header: Header
    record: Record
    formats: tuple[str, ...]
    start: int
    count: int
    digests: dict[str, str]

    @classmethod
    def open(cls, path: Path) -> ShardDirectory:
        """Open a shard; FpsimError if its description is missing or invalid."""
        file = path / SHARD_FILE
        data = read_json(file)
        kinds = {"set": dict, "formats": list, "shard": list, "start": int, "count": int,
                 "sha256": dict}  # fmt: skip
        if not isinstance(data, dict) or any(
            not isinstance(data.get(key), kind) or isinstance(data[key], bool)
            for key, kind in kinds.items()
        ):
            raise FpsimError(f"{file}: not the description of a shard")
        record = check_header(data["set"], file)
        formats, digests = data["formats"], data["sha256"]
        if not all(name in (*FORMATS, *TILE_FORMATS) for name in formats):
            raise FpsimError(f"{file}: formats are not names of formats")
        if set(digests) != {n for n in formats if n in TEXT_FORMATS} or "readmemh" not in digests:
            raise FpsimError(f"{file}: sha256 is not of the formats {', '.join(formats)}")
        if data["start"] < 0 or data["count"] < 0:
            raise FpsimError(f"{file}: start or count is negative")
        digests = {name: str(digest) for name, digest in digests.items()}
        return cls(path, data["set"], record, tuple(formats), data["start"], data["count"], digests)

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a text format, without a header, in pieces of bytes.

        Raises:
            FpsimError: a file that cannot be read, or, after the last piece, a wrong SHA-256.
        """
        path, digest = self.path / (TEXT_FORMATS[name].file + PART), hashlib.sha256()
        try:
            with path.open("rb") as file:
                while piece := file.read(READ_BYTES):
                    digest.update(piece)
                    yield piece
        except OSError as error:
            raise FpsimError(f"{path}: cannot be read ({error.strerror})") from None
        if digest.hexdigest() != self.digests[name]:
            raise FpsimError(
                f"{path}: SHA-256 is {digest.hexdigest()}, {SHARD_FILE} says {self.digests[name]}"
            )


def open_shards(target: Path) -> list[ShardDirectory]:
    """Return all shards of a set, in order.

    Raises:
        FpsimError: no shards, a missing shard, or shards of different sets.
    """
    pattern = re.compile(re.escape(target.name) + r"\.shard-(\d+)-of-(\d+)")
    found: dict[tuple[int, int], Path] = {}
    for path in target.parent.iterdir() if target.parent.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match:
            found[int(match[2]), int(match[1])] = path
    if not found:
        raise FpsimError(f"merge: there is no {target}.shard-1-of-N")
    numbers = sorted({of for of, _ in found})
    if len(numbers) > 1:
        raise FpsimError(f"merge: {target} has shards of {numbers[0]} and of {numbers[1]}")
    missing = [i for i in range(1, numbers[0] + 1) if (numbers[0], i) not in found]
    if missing:
        raise FpsimError(f"merge: {Shard(missing[0], numbers[0]).directory(target)} is missing")
    shards = [ShardDirectory.open(found[key]) for key in sorted(found)]
    whole, at = shards[0], 0
    for shard in shards:
        first, second = (x.header | {"formats": list(x.formats)} for x in (whole, shard))
        # Compared as text: 1, 1.0 and true are equal, but make different files.
        if json.dumps(first) != json.dumps(second):
            raise FpsimError(
                f"merge: {shard.path} is not part of the same set as {whole.path}; "
                f"{difference(first, second)}"
            )
        if shard.count and shard.start != at:
            raise FpsimError(f"merge: {shard.path} starts at vector {shard.start}, not {at}")
        at += shard.count
    if at != whole.header["count"]:
        raise FpsimError(f"merge: the shards of {target} have {at} vectors, not all")
    return shards
