# SPDX-License-Identifier: Apache-2.0
"""Reading a vector directory: its manifest, checked before anything is simulated."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpsim.errors import FpsimError
from fpsim.spec import MacSpec

__all__ = ["RESULT_FIELD", "Field", "VectorSet", "read"]

SCHEMA = 1
HEX_FILE = "vectors.hex"
#: The field that holds what the accumulator must be after the clock.
RESULT_FIELD = "acc"


@dataclass(frozen=True)
class Field:
    """Some bits of a vector word."""

    name: str
    lsb: int
    width: int

    @property
    def mask(self) -> int:
        """Ones over the field's width."""
        return (1 << self.width) - 1

    def of(self, word: int) -> int:
        """Return the field's value in ``word``."""
        return (word >> self.lsb) & self.mask


@dataclass(frozen=True)
class VectorSet:
    """A directory of golden vectors for one unit."""

    unit: MacSpec
    fields: tuple[Field, ...]
    count: int
    hex_file: Path

    def field(self, name: str) -> Field:
        """Return the field called ``name``."""
        return next(f for f in self.fields if f.name == name)


def read(directory: Path) -> VectorSet:
    """Return the vector set in ``directory``.

    Raises:
        FpsimError: a missing or damaged file, a manifest that is not one, or no vectors.
    """
    path = directory / "manifest.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FpsimError(f"vectors: {path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise FpsimError(f"vectors: {path} is not valid JSON ({error})") from None
    try:
        if data["schema"] != SCHEMA:
            raise FpsimError(
                f"vectors: {path} has schema {data['schema']!r}; this version reads {SCHEMA}"
            )
        fields = tuple(_field(path, entry) for entry in data["fields"])
        count, digest = int(data["count"]), str(data["files"][HEX_FILE]["sha256"])
        unit = MacSpec.from_dict(data["unit"])
    except FpsimError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FpsimError(
            f"vectors: {path} is not a vector manifest ({type(error).__name__}: {error})"
        ) from None
    if RESULT_FIELD not in {f.name for f in fields}:
        raise FpsimError(f"vectors: {path} has no field {RESULT_FIELD!r}")
    if count < 1:
        raise FpsimError(f"vectors: {path} holds no vectors; nothing would be compared")
    hex_file = directory / HEX_FILE
    _check_digest(hex_file, digest)
    return VectorSet(unit, fields, count, hex_file)


def _field(path: Path, entry: dict[str, Any]) -> Field:
    field = Field(str(entry["name"]), int(entry["lsb"]), int(entry["width"]))
    if field.lsb < 0 or field.width < 1:
        raise FpsimError(f"vectors: {path}: field {field.name!r} has no bits")
    return field


def _check_digest(path: Path, digest: str) -> None:
    try:
        seen = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FpsimError(f"vectors: {path} cannot be read ({error.strerror})") from None
    if seen != digest:
        raise FpsimError(
            f"vectors: {path} is damaged: its SHA-256 is {seen}, the manifest says {digest}"
        )
