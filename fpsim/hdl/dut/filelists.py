# SPDX-License-Identifier: Apache-2.0
"""Lists of source files for simulators' option ``-f``, and packages before their users."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from fpsim.base.errors import FpsimError

__all__ = ["FileList", "packages_first", "read_filelist"]

MAX_DEPTH = 16
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_PACKAGE = re.compile(r"^\s*package\s+(?:automatic\s+|static\s+)?(\w+)", re.MULTILINE)
_USE = re.compile(r"\b(\w+)\s*::")


@dataclass
class FileList:
    """The files, include folders and defines that a list names."""

    sources: list[Path] = field(default_factory=list)
    include: list[Path] = field(default_factory=list)
    defines: dict[str, str] = field(default_factory=dict)


def read_filelist(path: Path, base: Path, depth: int = 0) -> FileList:
    """Read a list of files: sources, ``+incdir+``, ``+define+``, ``-f``, ``-F``.

    Args:
        path: the list.
        base: folder that its paths are relative to, if a path is there; else the list's own folder.
        depth: number of lists that lead to this one.

    Returns:
        Sources in order, folders and defines.

    Raises:
        FpsimError: a list or file that is not there, or an option that is none of these.
    """
    if depth > MAX_DEPTH:
        raise FpsimError(f"filelists: {path} names itself, or lists lie {MAX_DEPTH} deep")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FpsimError(f"filelists: {path} cannot be read ({error})") from None
    lines = [line.partition("#")[0] for line in _COMMENT.sub(" ", text).splitlines()]
    words = iter(shlex.split(os.path.expandvars(" ".join(lines))))
    found = FileList()

    def place(word: str) -> Path:
        near = [root / word for root in (base, path.parent)]
        return next((p for p in near if p.exists()), near[-1]).resolve()

    for word in words:
        if word in ("-f", "-F"):
            inner = place(next(words, ""))
            other = read_filelist(inner, base if word == "-f" else inner.parent, depth + 1)
            found.sources += other.sources
            found.include += other.include
            found.defines |= other.defines
        elif word.startswith("+incdir+"):
            found.include += [place(part) for part in word[8:].split("+") if part]
        elif word.startswith("+define+"):
            pairs = (part.partition("=") for part in word[8:].split("+") if part)
            found.defines |= {name: value for name, _, value in pairs}
        elif word.startswith("-I") and len(word) > 2:
            found.include.append(place(word[2:]))
        elif word.startswith("-D") and len(word) > 2:
            name, _, value = word[2:].partition("=")
            found.defines[name] = value
        elif word.startswith(("-", "+")):
            raise FpsimError(
                f"filelists: {path} has {word!r}; "
                "allowed: files, +incdir+, +define+, -I, -D, -f, -F"
            )
        else:
            source = place(word)
            if not source.is_file():
                raise FpsimError(f"filelists: {path} names {word!r}, which is no file")
            found.sources.append(source)
    return found


def packages_first(sources: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return sources with packages before the files that use them, else in their order."""
    texts = {}
    for path in sources:
        try:
            texts[path] = _COMMENT.sub(" ", path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            texts[path] = ""
    home = {name: path for path in sources for name in _PACKAGE.findall(texts[path])}
    ordered: dict[Path, None] = {}

    def add(path: Path, above: frozenset[Path]) -> None:
        if path in ordered or path in above:
            return
        for name in _USE.findall(texts[path]):
            if name in home and home[name] != path:
                add(home[name], above | {path})
        ordered[path] = None

    for path in sources:
        add(path, frozenset())
    return tuple(ordered)
