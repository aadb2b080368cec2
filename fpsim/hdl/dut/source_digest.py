# SPDX-License-Identifier: Apache-2.0
"""One digest of the contents of every file that a compiler reads; their folder does not count."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from fpsim.base.errors import FpsimError
from fpsim.hdl.dut.dut import Dut

__all__ = ["source_digest"]

_INCLUDE = re.compile(rb"`include\s*(\"[^\"\n]*\"|<[^>\n]*>|`\w+|\S)")
#: Bytes of a file beside the sources that may be included by a name that a macro makes.
_MOST_BYTES = 1 << 20


def source_digest(dut: Dut, simulator: str) -> str:
    """Return a digest of sources, included files, parameters, defines and compiler arguments.

    A file that could be included counts even if it is not: where an ``include`` names its file by a
    macro, every file beside the sources does.

    Raises:
        FpsimError: a source that cannot be read.
    """
    facts = [dut.top, sorted(dut.parameters.items()), sorted(dut.defines.items())]
    digest = hashlib.sha256(repr(facts).encode())
    for path in dut.sources:
        _add(digest, path.name, _read(path))
    for name, path in _included(dut):
        _add(digest, name, _read(path))
    for word in dut.arguments.get(simulator, ()):
        digest.update(f"\n{word}\n".encode())
        for path in _named(word):
            _add(digest, path.name, path.read_bytes())
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, content: bytes) -> None:
    digest.update(f"{name} {len(content)}\n".encode())
    digest.update(content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FpsimError(f"source: {path} cannot be read ({error.strerror})") from None


def _included(dut: Dut) -> Iterator[tuple[str, Path]]:
    """Yield (name, file) of the files that sources include, and of the files that those include."""
    folders = list(dict.fromkeys([*dut.include, *(path.parent for path in dut.sources)]))
    seen: set[Path] = set()
    waiting = list(dut.sources)
    while waiting:
        path = waiting.pop()
        for word in _INCLUDE.findall(_read(path)):
            quoted = word[:1] in (b'"', b"<")
            name = word[1:-1].decode(errors="replace") if quoted else ""
            places = [path.parent, *folders]
            found = [place / name for place in places] if quoted else _files(places)
            for file in found:
                if file.is_file() and file not in seen:
                    seen.add(file)
                    waiting.append(file)
                    yield name or file.name, file


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.stat().st_size <= _MOST_BYTES:
                yield path


def _named(word: str) -> Iterator[Path]:
    """Yield files that an argument names, by itself or after an option: ``-Ilib``, ``+x+lib.v``."""
    for text in (word, word[2:], word.rpartition("+")[2], word.rpartition("=")[2]):
        place = Path(text) if text else None
        if place is not None and place.is_file():
            yield place
        elif place is not None and place.is_dir() and place.is_absolute():
            yield from _files([place])
