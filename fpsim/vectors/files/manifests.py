# SPDX-License-Identifier: Apache-2.0
"""The manifest of a directory of vectors, and what else such a directory may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError

__all__ = ["MANIFEST", "check_target", "read_json", "schema_of"]

MANIFEST = "manifest.json"


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


def schema_of(path: Path) -> int:
    """Return the schema that a directory's manifest states.

    Raises:
        FpsimError: a manifest that is missing or not JSON.
    """
    manifest = read_json(path / MANIFEST)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    return schema if isinstance(schema, int) else 1


def check_target(target: Path, names: set[str]) -> None:
    """Refuse a place to write to that is a file, or a directory with files of other ``names``."""
    if not target.exists():
        return
    if not target.is_dir():
        raise FpsimError(f"out: {target} is a file, not a directory")
    if not {path.name for path in target.iterdir()} <= names:
        raise FpsimError(f"out: {target} holds other files; choose an empty or a vector directory")
