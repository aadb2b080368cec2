# SPDX-License-Identifier: Apache-2.0
"""Vector files: `$readmemh` words, JSON lines, and a manifest with checksums.

A directory holds one unit's vectors and appears whole or not at all:

    vectors.hex     one word per line, fields from the most significant bits down; // header
    vectors.jsonl   a header object, then one object per vector with hexadecimal bit patterns
    manifest.json   unit, fields, seed, counts per section, SHA-256 of the other files
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fpsim
from fpsim.errors import FpsimError
from fpsim.spec import MacSpec
from fpsim.vectors.flags import FLAG_TEXT, stream_flags
from fpsim.vectors.stream import Field, Section, VectorSet, expected, word_fields

__all__ = ["MANIFEST", "SCHEMA", "check", "digests", "read", "read_json", "write"]

SCHEMA = 1
HEX, JSONL, MANIFEST = "vectors.hex", "vectors.jsonl", "manifest.json"


def write(vectors: VectorSet, directory: str | Path) -> Path:
    """Write the three files into ``directory`` (replaced if it holds vectors) and return it.

    Raises:
        FpsimError: a path that cannot be written, or a directory with other files in it.
    """
    target = Path(directory)
    try:
        target = target.resolve()  # "." has no name to rename to
        _check_target(target, {HEX, JSONL, MANIFEST})
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise FpsimError(f"out: {target} cannot be written ({error.strerror})") from None
    try:
        made = scratch / "new"
        made.mkdir()
        files = {HEX: _hex_lines(vectors), JSONL: _json_lines(vectors)}
        digests = {name: _write_lines(made / name, lines) for name, lines in files.items()}
        text = json.dumps(_manifest(vectors, digests), indent=1) + "\n"
        (made / MANIFEST).write_text(text, encoding="utf-8")
        _replace(target, made, scratch / "old")
    except OSError as error:
        raise FpsimError(f"out: {target} cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target if Path(directory).is_absolute() else Path(directory)


def _replace(target: Path, made: Path, aside: Path) -> None:
    """Put ``made`` in the place of ``target``; what was there goes only when that has worked."""
    before = target.exists()
    if before:
        target.rename(aside)
    try:
        made.rename(target)
    except BaseException:
        if before:
            aside.rename(target)
        raise


def _check_target(target: Path, names: set[str]) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise FpsimError(f"out: {target} is a file, not a directory")
    if not {path.name for path in target.iterdir()} <= names:
        raise FpsimError(f"out: {target} holds other files; choose an empty or a vector directory")


def _write_lines(path: Path, lines: Iterator[str]) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for line in lines:
            data = f"{line}\n".encode()
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def _header(vectors: VectorSet) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "generator": f"fpsim {fpsim.__version__}",
        "unit": vectors.spec.to_dict(),
        "equation": vectors.spec.equation,
        "strategy": vectors.strategy,
        "seed": vectors.seed,
        "count": vectors.count,
        "ops": {"idle": 0, "clear": 1, "mac": 2, "load": 3},
        "fields": [vars(f) for f in vectors.fields],
        "word_bits": _word_bits(vectors.fields),
        "sections": [vars(s) for s in vectors.sections],
    }


def _manifest(vectors: VectorSet, digests: dict[str, str]) -> dict[str, Any]:
    files = {name: {"sha256": digest} for name, digest in digests.items()}
    return {**_header(vectors), "files": files}


def _word_bits(fields: tuple[Field, ...]) -> int:
    return sum(f.width for f in fields)


def _hex_lines(vectors: VectorSet) -> Iterator[str]:
    header = _header(vectors)
    name = vectors.spec.name
    yield f"// {header['generator']}: {vectors.count} vectors of {name}, schema {SCHEMA}"
    yield f"// {vectors.spec.equation}"
    bits = header["word_bits"]
    yield f"// strategy {vectors.strategy}, seed {vectors.seed}, {bits} bits per word"
    yield "// op: 0 idle (hold), 1 clear (+0), 2 mac, 3 load (c); acc is expected after the clock"
    if "flags" in vectors.columns:
        yield f"// {FLAG_TEXT}"
    for f in vectors.fields:
        yield f"// {f.name:3s} [{f.lsb + f.width - 1}:{f.lsb}]"
    digits = -(-bits // 4)
    for vector in vectors:
        word = 0
        for f in vectors.fields:
            word |= vector[f.name] << f.lsb
        yield f"{word:0{digits}x}"


def _json_lines(vectors: VectorSet) -> Iterator[str]:
    yield json.dumps(_header(vectors))
    digits = {f.name: -(-f.width // 4) for f in vectors.fields}
    for i, vector in enumerate(vectors):
        row = ", ".join(f'"{name}": "{vector[name]:0{n}x}"' for name, n in digits.items())
        yield f'{{"i": {i}, {row}}}'


# -- reading back --------------------------------------------------------------------------------


def read(directory: str | Path) -> VectorSet:
    """Read a vector directory from its manifest and `$readmemh` file.

    Raises:
        FpsimError: files that are missing, of another schema, damaged, or do not match their
            checksums, naming the file and line.
    """
    path = Path(directory)
    manifest = _read_manifest(path)
    for name, digest in manifest["files"].items():
        _check_digest(path / name, digest)
    try:
        spec = MacSpec.from_dict(manifest["unit"])
    except FpsimError as error:
        raise FpsimError(f"{path / MANIFEST}: unit: {error}") from None
    for exponents, flags in product((False, True), repeat=2):
        fields = word_fields(spec, exponents, flags)
        if [vars(f) for f in fields] == manifest["fields"]:
            break
    else:
        raise FpsimError(f"{path / MANIFEST}: fields do not match those of {spec.name}")
    words = _read_words(path / HEX, _word_bits(fields))
    if len(words) != manifest["count"]:
        raise FpsimError(
            f"{path / HEX}: {len(words)} vectors, but the manifest says {manifest['count']}"
        )
    columns = {
        f.name: np.array([(w >> f.lsb) & ((1 << f.width) - 1) for w in words], dtype=np.uint64)
        for f in fields
    }
    return VectorSet(spec, manifest["seed"], manifest["strategy"], columns, manifest["sections"])


def digests(directory: str | Path) -> dict[str, str]:
    """Return the SHA-256 of each vector file, as the manifest states it."""
    return dict(_read_manifest(Path(directory))["files"])


def check(directory: str | Path) -> VectorSet:
    """Read a vector directory and recompute every expected value.

    Raises:
        FpsimError: as `read`, or the first vector whose accumulator the unit does not give.
    """
    vectors = read(directory)
    acc = _recompute(vectors)
    wrong = np.flatnonzero(acc != vectors.columns["acc"])
    if wrong.size:
        i = int(wrong[0])
        line = 1 + head_lines(directory) + i
        raise FpsimError(
            f"{Path(directory) / HEX}:{line}: vector {i} expects acc "
            f"{int(vectors.columns['acc'][i]):x}, {vectors.spec.name} gives {int(acc[i]):x} "
            f"({wrong.size} vectors differ)"
        )
    if "flags" in vectors.columns:
        _check_flags(vectors, Path(directory) / HEX)
    return vectors


def _check_flags(vectors: VectorSet, path: Path) -> None:
    flags = stream_flags(vectors)
    wrong = np.flatnonzero(flags != vectors.columns["flags"])
    if wrong.size:
        i = int(wrong[0])
        line = 1 + head_lines(path.parent) + i
        raise FpsimError(
            f"{path}:{line}: vector {i} expects flags {int(vectors.columns['flags'][i]):x}, "
            f"{vectors.spec.name} gives {int(flags[i]):x} ({wrong.size} vectors differ)"
        )


def _recompute(vectors: VectorSet) -> NDArray[np.uint64]:
    columns = {name: values.view(np.int64) for name, values in vectors.columns.items()}
    args = (columns["op"], columns["a"], columns["b"], vectors.exponents, vectors.columns["c"])
    return expected(vectors.spec, *args)


def read_json(file: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FpsimError: a file that is missing or not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise FpsimError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise FpsimError(f"{file}: not valid JSON ({error})") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest, its shape checked: ``files`` as digests, ``sections`` as a tuple."""
    file = path / MANIFEST
    manifest = read_json(file)
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise FpsimError(f"{file}: not a vector manifest of schema {SCHEMA}")
    missing = {"unit", "fields", "count", "files", "sections", "seed", "strategy"} - set(manifest)
    if missing:
        raise FpsimError(f"{file}: {', '.join(sorted(missing))} missing")
    for key, kind in (("seed", int), ("count", int), ("strategy", str), ("unit", dict)):
        if not isinstance(manifest[key], kind) or isinstance(manifest[key], bool):
            raise FpsimError(f"{file}: {key} is {manifest[key]!r}, not {kind.__name__}")
    try:
        files = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
    except (AttributeError, TypeError, KeyError):
        files = {}
    if set(files) != {HEX, JSONL}:
        raise FpsimError(f"{file}: files does not give the SHA-256 of {HEX} and {JSONL}")
    try:
        sections = tuple(Section(**entry) for entry in manifest["sections"])
    except TypeError:
        raise FpsimError(f"{file}: sections is not a list of name, start and count") from None
    return {**manifest, "files": files, "sections": sections}


def _check_digest(file: Path, expected_digest: str) -> None:
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise FpsimError(f"{file}: cannot be read ({error.strerror})") from None
    if digest != expected_digest:
        raise FpsimError(f"{file}: SHA-256 is {digest}, the manifest says {expected_digest}")


def head_lines(directory: str | Path) -> int:
    """Return the lines of the header of a directory's ``vectors.hex``."""
    with (Path(directory) / HEX).open(encoding="ascii", errors="backslashreplace") as lines:
        return sum(1 for _ in takewhile(lambda line: line.startswith("//"), lines))


def _read_words(file: Path, bits: int) -> list[int]:
    words = []
    # Words are ASCII; what is not shows up as an escape in the message about its line.
    text = file.read_text(encoding="ascii", errors="backslashreplace")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("//"):
            continue
        try:
            word = int(line, 16)
        except ValueError:
            raise FpsimError(f"{file}:{number}: {line[:40]!r} is not a hexadecimal word") from None
        if word >> bits:
            raise FpsimError(f"{file}:{number}: {line[:40]!r} has more than {bits} bits")
        words.append(word)
    return words
