# SPDX-License-Identifier: Apache-2.0
"""Reads a user's files up to a size; an error is one sentence that names the file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError

__all__ = ["MAX_TOML", "read_bounded", "read_toml", "resolved"]

#: Most bytes of a TOML file, and most parts of a dotted key (parsers recurse).
MAX_TOML, MAX_KEYS = 1 << 20, 32
_DEEP_KEY = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{MAX_KEYS}}}""")


def read_bounded(path: str | Path, limit: int) -> bytes:
    """Return the bytes of a file, a pipe or a device.

    Raises:
        FpsimError: a file that is missing, cannot be read, or has more than ``limit`` bytes.
    """
    try:
        with Path(path).open("rb") as opened:
            data = opened.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise FpsimError(f"{path}: cannot be read ({reason})") from None
    if len(data) > limit:
        raise FpsimError(f"{path}: more than {limit} bytes")
    return data


def resolved(path: str | Path, field: str) -> Path:
    """Return a path made absolute.

    Raises:
        FpsimError: a path that no file system has: a NUL in it, or a name that is too long.
    """
    try:
        found = Path(path).resolve()
        found.exists()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FpsimError(f"{field}: {path} is no path ({reason})") from None
    return found


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the table of a TOML file.

    Raises:
        FpsimError: a file that cannot be read, has more than `MAX_TOML` bytes, is not TOML, nests
            too deeply, or has an integer of thousands of digits; the message names the file.
    """
    data = read_bounded(path, MAX_TOML)
    try:
        text = data.decode("utf-8")
        if _DEEP_KEY.search(text):
            raise FpsimError(f"{path}: not valid TOML (a key of more than {MAX_KEYS} parts)")
        return tomllib.loads(text)
    except RecursionError:
        raise FpsimError(f"{path}: not valid TOML (nested too deeply)") from None
    except FpsimError:
        raise
    except ValueError as error:  # of TOML, of UTF-8, or of an integer's digits
        raise FpsimError(f"{path}: not valid TOML ({error})") from None
