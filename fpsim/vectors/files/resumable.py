# SPDX-License-Identifier: Apache-2.0
"""An unfinished set: a hidden directory beside the target, with which a stopped run goes on.

    .NAME.partial/set.json          description of the set; a run of another set is refused
    .NAME.partial/journal           a line per finished block: vectors so far, SHA-256 of each body
    .NAME.partial/vectors.hex.part  the lines so far, one such file per text format

A run that goes on hashes the lines on disk first; lines that the journal does not confirm are
cut off and made anew. A lock on ``set.json`` keeps two runs apart.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from fpsim.base.errors import FpsimError
from fpsim.vectors.files.file_formats import TEXT_FORMATS, Lines

__all__ = ["PART", "Partial", "difference", "hidden"]

SET, JOURNAL, PART = "set.json", "journal", ".part"
READ_BYTES = 1 << 20


def hidden(target: Path) -> Path:
    """Return the directory in which ``target`` is made."""
    return target.with_name(f".{target.name}.partial")


class Partial:
    """The growing bodies of text formats, written block by block; the module describes the files.

    ``lines`` gives the `Lines` of each format.
    """

    def __init__(self, path: Path, lines: dict[str, Lines]) -> None:
        self.path, self.texts, self._lines = path, tuple(lines), lines
        self.done = 0  #: vectors written
        self.blocks = 0  #: blocks written
        self.found = path.exists()  #: whether an earlier run left the directory
        self._sums: dict[str, Any] = {}
        self._files: dict[str, BinaryIO] = {}
        self._journal: IO[bytes] | None = None

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each body so far, by text format."""
        return {name: digest.hexdigest() for name, digest in self._sums.items()}

    def body(self, name: str) -> Path:
        """Return the file that holds the lines of a format."""
        return self.path / (TEXT_FORMATS[name].file + PART)

    @contextmanager
    def opened(self, identity: dict[str, Any], heads: dict[str, bytes]) -> Iterator[None]:
        """Create or resume the directory while the context lasts.

        ``identity`` describes the set as JSON-ready data; ``heads`` are the bytes before each body.

        Raises:
            FpsimError: the directory holds another set, or another run has locked it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            lock = stack.enter_context((self.path / SET).open("a+b"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FpsimError(f"out: another run is writing {self.path}") from None
            text = (json.dumps(identity, indent=1, sort_keys=True) + "\n").encode()
            lock.seek(0)
            found = lock.read()
            if not text.startswith(found):  # a prefix is left by a run stopped while writing
                raise FpsimError(_other_set(self.path, found, identity))
            for name in self.texts:
                self._files[name] = stack.enter_context(self.body(name).open("a+b"))
            self._journal = stack.enter_context((self.path / JOURNAL).open("a+b"))
            if found != text:
                self._clear()
                lock.truncate(0)
                lock.write(text)
                lock.flush()
            self._resume(heads, fresh=found != text)
            yield

    def _clear(self) -> None:
        """Remove files of an earlier run's last step, in which it was stopped."""
        kept = {SET, JOURNAL, *(self.body(name).name for name in self.texts)}
        for path in self.path.iterdir():
            if path.name not in kept:
                path.unlink()

    def _resume(self, heads: dict[str, bytes], fresh: bool) -> None:
        """Read the blocks on disk, and cut off blocks that the journal does not confirm."""
        assert self._journal is not None
        at = 0
        self._sums = {name: hashlib.sha256() for name in self.texts}
        for name, file in self._files.items():
            file.seek(0)
            fresh = fresh or file.read(len(heads[name])) != heads[name]
        self._journal.seek(0)
        for line in [] if fresh else self._journal.read().splitlines(keepends=True):
            sums = self._next_block(line)
            if sums is None:
                break
            self._sums, self.done = sums, int(line.split()[0])
            self.blocks += 1
            at += len(line)
        self._journal.truncate(at)
        for name, file in self._files.items():
            file.truncate(len(heads[name]) + self._lines[name].size(self.done) if not fresh else 0)
            if fresh:
                file.write(heads[name])
            file.flush()

    def _next_block(self, line: bytes) -> dict[str, Any] | None:
        """Return the digests after the next block, or None if its journal line differs."""
        count, *digests = line.split() if line.endswith(b"\n") else [b""]
        if not count.isdigit() or len(count) > 18 or len(digests) != len(self.texts):
            return None
        sums = {name: digest.copy() for name, digest in self._sums.items()}
        for (name, file), digest in zip(self._files.items(), digests, strict=True):
            left = self._lines[name].size(int(count) - self.done)
            while left > 0 and (piece := file.read(min(left, READ_BYTES))):
                sums[name].update(piece)
                left -= len(piece)
            if left or sums[name].hexdigest() != digest.decode("ascii", "replace"):
                return None
        return sums

    def add(self, count: int, bodies: Sequence[bytes]) -> None:
        """Append a block of ``count`` vectors to every text format, and a line to the journal."""
        assert self._journal is not None
        for (name, file), body in zip(self._files.items(), bodies, strict=True):
            file.write(body)
            file.flush()
            self._sums[name].update(body)
        self.done += count
        self.blocks += 1
        self._journal.write(" ".join([str(self.done), *self.digests.values()]).encode() + b"\n")
        self._journal.flush()

    def finished(self) -> None:
        """Remove the journal and the description of an unfinished set."""
        for name in (JOURNAL, SET):
            (self.path / name).unlink()

    def discard(self) -> None:
        """Remove the hidden directory and all its files."""
        shutil.rmtree(self.path, ignore_errors=True)


def _other_set(path: Path, found: bytes, wanted: dict[str, Any]) -> str:
    """Return a sentence that says which other set a directory holds."""
    try:
        what = f"an unfinished set; {difference(wanted, dict(json.loads(found)))}"
    except (ValueError, TypeError):
        what = "no unfinished set of vectors"
    return f"out: {path} holds {what}; finish that run or delete the directory"


def _text(value: Any) -> str:
    """Return a value as text in which 1, 1.0 and true differ, and orders of keys do not."""
    return json.dumps(value, sort_keys=True)


def difference(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Return in words how two descriptions of sets differ, numbers and names first."""
    keys = [k for k in {**first, **second} if _text(first.get(k)) != _text(second.get(k))]
    if not keys:
        return "its keys stand in another order"
    key = min(keys, key=lambda k: isinstance(first.get(k), dict | list))
    return f"its {key} is {str(second.get(key))[:60]}, not {str(first.get(key))[:60]}"
