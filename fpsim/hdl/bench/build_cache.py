# SPDX-License-Identifier: Apache-2.0
"""Compiled designs in the user's cache, each under a digest of all that it was compiled from.

A build appears whole: it is made in a folder of its own, which then takes its name. A process that
uses a build holds a lock on it, so that making room never removes one in use. The builds used last
stay.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fpsim.base.cache_dir import cache_dir

__all__ = ["MOST_BUILDS", "MOST_BYTES", "BuildCache"]

#: Limits of the cache.
MOST_BUILDS, MOST_BYTES = 256, 1 << 30
#: Files that a finished simulator does not need.
_MADE_OF = {".o", ".a", ".d", ".cpp", ".h", ".gch", ".mk", ".dat", ".tree"}
_LOCK = "in_use"


class BuildCache:
    """Compiled designs by digest; ``found`` and ``kept`` return the one that this object holds.

    Where the cache cannot be written there is none: ``scratch`` is None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = cache_dir() / "builds" if root is None else root
        self._held: IO[bytes] | None = None

    def found(self, digest: str) -> Path | None:
        """Return the build of a digest and hold it, or None if there is none."""
        self.release()
        place = self.root / digest
        try:
            lock = (place / _LOCK).open("rb")
        except OSError:
            return None
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not (place / _LOCK).exists():  # removed while we waited
            lock.close()
            return None
        self._held = lock
        with suppress(OSError):
            os.utime(place)
        return place

    @contextmanager
    def building(self, digest: str) -> Iterator[None]:
        """Keep other processes from building the same design; later ones wait."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = self.root.with_name(f"{self.root.name}.lock").open("wb")
        except OSError:  # there is no cache
            yield
            return
        with lock:
            with suppress(OSError):  # a file system without locks: both build
                # A byte of the file for each digest.
                fcntl.lockf(lock, fcntl.LOCK_EX, 1, int(digest[:15], 16))
            yield

    def scratch(self) -> Path | None:
        """Return a new folder to build in, None if the cache cannot be written."""
        folder = self.root / f".{os.getpid()}.{secrets.token_hex(4)}"
        try:
            folder.mkdir(parents=True)
        except OSError:
            return None
        return folder

    def kept(self, digest: str, scratch: Path) -> Path:
        """Keep a finished build under its digest, hold it, and return where it is now."""
        for path in scratch.rglob("*"):
            if path.is_file() and path.suffix in _MADE_OF:
                path.unlink()
        (scratch / _LOCK).touch()
        with suppress(OSError):  # another process was first, and its build is as good
            scratch.rename(self.root / digest)
        place = self.found(digest)
        if place is None:  # neither took the name
            return scratch
        shutil.rmtree(scratch, ignore_errors=True)
        self._shrink()
        return place

    def dropped(self, scratch: Path) -> None:
        """Remove a build that failed."""
        shutil.rmtree(scratch, ignore_errors=True)

    def release(self) -> None:
        """Let go of the build that is held."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def _shrink(self) -> None:
        """Remove builds that are too many, used longest ago first, unless a process holds them."""
        entries = []
        for place in self.root.iterdir():
            with suppress(OSError):
                entries.append((place.stat().st_mtime, _size(place), place))
        entries.sort(key=lambda entry: entry[0], reverse=True)
        total = 0
        for i, (_, size, place) in enumerate(entries):
            total += size
            if i >= MOST_BUILDS or total > MOST_BYTES:
                _remove(place)


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def _remove(place: Path) -> None:
    """Remove a build unless it is in use; of ended processes, also unfinished builds."""
    if place.name.startswith("."):
        if _alive(place.name.split(".")[1]):
            return
        shutil.rmtree(place, ignore_errors=True)
        return
    try:
        with (place / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = place.with_name(f".{os.getpid()}.{secrets.token_hex(4)}")
            place.rename(gone)
    except OSError:  # in use, or removed by another process
        return
    shutil.rmtree(gone, ignore_errors=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (OSError, ValueError):
        return False
    return True
