# SPDX-License-Identifier: Apache-2.0
"""Small errors put into files of vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def edit(path: Path, line: int, change: Callable[[str], str]) -> None:
    """Replace a line, counted from 1, by ``change`` of it."""
    lines = path.read_text().splitlines(keepends=True)
    lines[line - 1] = change(lines[line - 1])
    path.write_text("".join(lines))


def flip(digit: int) -> Callable[[str], str]:
    """Return a change that flips the lowest bit of a hex digit, counted from 1."""
    return lambda text: text[: digit - 1] + f"{int(text[digit - 1], 16) ^ 1:x}" + text[digit:]
