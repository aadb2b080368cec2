# SPDX-License-Identifier: Apache-2.0
"""Parts of a set made by separate runs, on any machines, and joined byte for byte.

Shard i of n of ``DIR`` is the directory ``DIR.shard-i-of-n``, with the lines of its blocks in
every text format (``vectors.hex.part``, ...) and ``shard.json``: what the whole set is, which
vectors these are, SHA-256 of each file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.vectors.files.formats import TEXT_FORMATS
from fpsim.vectors.files.manifests import read_json
from fpsim.vectors.files.resumable import PART, difference
from fpsim.vectors.sets.sources import DotSource, Job

__all__ = ["SHARD_FILE", "Shard", "ShardDirectory", "open_shards"]

SHARD_FILE = "shard.json"
MAX_SHARDS = 1 << 16
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``of``, from 1."""

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

    def jobs(self, source: DotSource) -> list[tuple[int, Job]]:
        """Return the blocks, each after its first vector; some shards may have none."""
        start, count, mine = 0, source.count, []
        for job in source.jobs():
            if start * self.of // count == self.index - 1:
                mine.append((start, job))
            start += source.rows(*job)
        return mine

    def directory(self, target: Path) -> Path:
        """Return where this part of ``target`` goes; the whole: ``target``."""
        if self.of == 1:
            return target
        return target.with_name(f"{target.name}.shard-{self.index}-of-{self.of}")


@dataclass(frozen=True)
class ShardDirectory:
    """A finished shard."""

    path: Path
    data: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> ShardDirectory:
        """Open a shard; FpsimError where its description is missing or not one."""
        file = path / SHARD_FILE
        data = read_json(file)
        kinds = {"set": dict, "formats": list, "shard": list, "start": int, "count": int,
                 "sha256": dict}  # fmt: skip
        if not isinstance(data, dict) or any(
            not isinstance(data.get(key), kind) for key, kind in kinds.items()
        ):
            raise FpsimError(f"{file}: not the description of a shard")
        if not set(data["formats"]) >= set(data["sha256"]) >= {"readmemh"}:
            raise FpsimError(f"{file}: sha256 is not of the formats {data['formats']}")
        return cls(path, data)

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the body of a format; FpsimError at its end if it is not what was written."""
        path, digest = self.path / (TEXT_FORMATS[name].file + PART), hashlib.sha256()
        try:
            with path.open("rb") as file:
                while piece := file.read(READ_BYTES):
                    digest.update(piece)
                    yield piece
        except OSError as error:
            raise FpsimError(f"{path}: cannot be read ({error.strerror})") from None
        if digest.hexdigest() != self.data["sha256"][name]:
            raise FpsimError(
                f"{path}: SHA-256 is {digest.hexdigest()}, {SHARD_FILE} says "
                f"{self.data['sha256'][name]}"
            )


def open_shards(target: Path) -> list[ShardDirectory]:
    """Return all shards of a set, in order.

    Raises:
        FpsimError: no shards, one that is missing, or shards of different sets.
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
    at = 0
    for shard in shards:
        first, second = (x.data["set"] | {"formats": x.data["formats"]} for x in (shards[0], shard))
        if first != second:
            raise FpsimError(
                f"merge: {shard.path} is not part of the same set as {shards[0].path}; "
                f"{difference(first, second)}"
            )
        if shard.data["count"] and shard.data["start"] != at:
            raise FpsimError(
                f"merge: {shard.path} starts at vector {shard.data['start']}, not {at}"
            )
        at += shard.data["count"]
    if at != shards[0].data["set"].get("count"):
        raise FpsimError(f"merge: the shards of {target} have {at} vectors, not all")
    return shards
