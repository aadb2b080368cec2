# SPDX-License-Identifier: Apache-2.0
"""Writes files and folders whole or not at all."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from fpsim.base.errors import FpsimError

__all__ = ["new_folder", "write_atomic"]


def write_atomic(path: str | Path, data: bytes, field: str = "out") -> Path:
    """Write a file whole, creating its directory.

    The bytes go to a new file beside ``path``, which is then renamed to ``path``: a reader sees
    the old file or the new one.

    Args:
        path: file to write or replace.
        data: its bytes.
        field: name of the path in an error.

    Returns:
        The path.

    Raises:
        FpsimError: a path that cannot be written, naming ``field``; nothing is left behind.
    """
    target = Path(path)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("xb") as file:
            file.write(data)
        scratch.replace(target)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise FpsimError(f"{field}: {target} cannot be written ({reason})") from None
    finally:
        with contextlib.suppress(OSError, ValueError):
            scratch.unlink()
    return target


@contextlib.contextmanager
def new_folder(path: str | Path, field: str = "folder") -> Iterator[Path]:
    """Yield a scratch folder that takes the name ``path`` when the block ends without an error.

    Args:
        path: of a folder that does not exist yet, or is empty.
        field: name of the path in an error.

    Yields:
        The folder to write into, beside ``path``.

    Raises:
        FpsimError: a path that is there already or cannot be written, naming ``field``; nothing is
            left behind.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and next(target.iterdir(), None) is None):
        raise FpsimError(f"{field}: {target} is there already; name a new folder")
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        scratch.mkdir(parents=True)
        yield scratch
        scratch.replace(target)
    except OSError as error:
        raise FpsimError(f"{field}: {target} cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
