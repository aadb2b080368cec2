# SPDX-License-Identifier: Apache-2.0
"""The manifest of a directory of vectors: content, reading and checks.

The *header* is the manifest without the checksums of files; every file with a header states the
SHA-256 of it. So a changed claim contradicts the files or their checksums.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.units.spec import MacSpec
from fpsim.vectors.operations.operation import operation_from
from fpsim.vectors.sets.choices import STARTS
from fpsim.vectors.sets.record import Record
from fpsim.vectors.sets.vector_set import BlockSource, Section

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "Header",
    "check_header",
    "check_target",
    "header_digest",
    "header_of",
    "manifest_text",
    "read_json",
    "record_of",
    "shown",
]

MANIFEST = "manifest.json"
#: Version of the files. Versions before the first release wrote 1, streams of single products, and
#: 2, sets of dot products.
SCHEMA = 3
#: Most bytes of a JSON file, whose sections and units are short.
MAX_JSON = 1 << 26
#: Most characters of a value in an error.
QUOTED = 60
#: Most characters of a unit's error in an error about a manifest.
SENTENCE = 400

Header = dict[str, Any]
#: Types of the values in a header.
_TYPES = {
    "fields": list, "count": int, "sections": list, "seed": int, "strategy": str,
    "start": str, "generator": str, "equation": str, "canonical": str, "k": int, "group": int,
    "word_bits": int, "ops": dict,
}  # fmt: skip


def shown(value: Any) -> str:
    """Return a value as text for an error, shortened."""
    text = repr(value)
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."


def header_of(source: BlockSource) -> Header:
    """Return the header of a set: its manifest without the checksums of files."""
    record = source.record
    about = record.described()
    ops = about.pop("ops")
    header = {
        "schema": SCHEMA,
        "generator": f"fpsim {fpsim.__version__}",
        **about,
        "strategy": source.strategy,
        "seed": source.seed,
        "start": source.start,
        "count": source.count,
        "k": record.k,
        "group": record.group,
        "ops": ops,
        "fields": [vars(f) for f in record.fields],
        "word_bits": record.word_bits,
        "sections": [vars(s) for s in source.sections],
    }
    return header | source.extra


def header_digest(header: Header) -> str:
    """Return the SHA-256 of a header, which does not depend on the order of keys."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def manifest_text(header: Header, digests: dict[str, str]) -> str:
    """Return the text of a manifest: a header and the SHA-256 of each file."""
    files = {name: {"sha256": digest} for name, digest in digests.items()}
    return json.dumps(header | {"files": files}, indent=1) + "\n"


def record_of(header: Header) -> Record:
    """Return the record of a set from its header, whose values have checked types.

    A set of operations gives a record with the operation's fields and results; its ``spec`` says
    that there is no unit.

    Raises:
        FpsimError: a unit, an operation or lengths that are not allowed.
    """
    if "operation" in header:
        return cast(Record, operation_from(header["operation"]))
    names = {f.get("name") for f in header["fields"] if isinstance(f, dict)}
    try:
        spec = MacSpec.from_dict(header["unit"])
    except FpsimError as error:
        raise FpsimError(f"unit: {error}") from None
    return Record(spec, header["k"], header["group"], "flags" in names)


def check_header(header: Any, where: Path) -> Record:
    """Check a header read from a file, and return its record.

    Args:
        header: content of a JSON file.
        where: the file, for errors.

    Raises:
        FpsimError: another schema, or a value that is missing, of another type, or contradicts the
            unit or other values.
    """
    schema = header.get("schema") if isinstance(header, dict) else None
    if schema != SCHEMA or isinstance(schema, bool):
        raise FpsimError(
            f"{where}: schema {shown(schema)} is not supported; vectors have schema {SCHEMA}, "
            "write the set again"
        )
    what = "operation" if "operation" in header else "unit"
    for key, kind in ({what: dict} | _TYPES).items():
        if not isinstance(header.get(key), kind) or isinstance(header[key], bool):
            raise FpsimError(f"{where}: {key} is missing or not of type {kind.__name__}")
    try:
        record = record_of(header)
    except FpsimError as error:
        text = str(error)
        text = text if len(text) <= SENTENCE else f"{text[:SENTENCE]}..."
        raise FpsimError(f"{where}: {text}") from None
    own = {
        "fields": [vars(f) for f in record.fields],
        "word_bits": record.word_bits,
        **record.described(),
    }
    for key, value in own.items():
        if header[key] != value:
            raise FpsimError(f"{where}: {key} does not match that of {own['canonical']}")
    if header["start"] not in STARTS:
        raise FpsimError(
            f"{where}: start {shown(header['start'])} is not one of {', '.join(STARTS)}"
        )
    _check_sections(header, where)
    return record


def _check_sections(header: Header, where: Path) -> None:
    kinds = {"name": str, "start": int, "count": int}
    sections = []
    for entry in header["sections"]:
        if (
            not isinstance(entry, dict)
            or set(entry) != set(kinds)
            or any(
                not isinstance(entry[k], t) or isinstance(entry[k], bool) for k, t in kinds.items()
            )
        ):
            raise FpsimError(f"{where}: sections are not objects of name, start and count")
        sections.append(Section(**entry))
    place = 0
    for section in sections:
        if section.start != place or section.count < 0:
            break
        place += section.count
    else:
        if place == header["count"]:
            return
    raise FpsimError(f"{where}: sections do not cover the {shown(header['count'])} vectors")


def read_json(file: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        FpsimError: a file that is missing, too large, or not JSON.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_JSON + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise FpsimError(f"{file}: cannot be read ({reason})") from None
    if len(data) > MAX_JSON:
        raise FpsimError(f"{file}: more than {MAX_JSON} bytes")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except ValueError as error:
        raise FpsimError(f"{file}: not valid JSON ({error})") from None
    except RecursionError:
        raise FpsimError(f"{file}: not valid JSON (nested too deeply)") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; a repeated key is an error, because one value would hide another."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def check_target(target: Path, names: set[str]) -> None:
    """Refuse a target that is a file, or a directory with files not in ``names``."""
    if not target.exists():
        return
    if not target.is_dir():
        raise FpsimError(f"out: {target} is a file, not a directory")
    if not {path.name for path in target.iterdir()} <= names:
        raise FpsimError(f"out: {target} holds other files; choose an empty or a vector directory")
