# SPDX-License-Identifier: Apache-2.0
"""Stages from and to the tables of a TOML file."""

from __future__ import annotations

from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any

from fpsim.base.errors import FpsimError, nearest, not_one_of
from fpsim.blocks.block_format import get_element
from fpsim.formats.floating import FloatFormat, Format
from fpsim.units.stages.aligned import Aligned
from fpsim.units.stages.composite import Block, Chunked
from fpsim.units.stages.fields import Stage
from fpsim.units.stages.simple import Chain, Exact, Fixed
from fpsim.units.stages.tree import Tree

__all__ = ["STAGES", "check_keys", "format_in", "from_table", "to_table"]

#: Stage classes by their ``kind`` in TOML.
STAGES: dict[str, type[Stage]] = {
    stage.kind: stage for stage in (Chain, Exact, Fixed, Aligned, Tree, Chunked, Block)
}
#: Fields written to TOML even if they have the default value.
_ALWAYS = ("rounding", "overflow")


def format_in(where: str, name: object) -> Format:
    """Return the format called ``name``; errors name its place ``where`` in the file."""
    try:
        return get_element(name)  # type: ignore[arg-type]
    except FpsimError as error:
        raise FpsimError(f"{where}: {error}") from None


def check_keys(table: dict[str, Any], prefix: str, required: Any, optional: Any = ()) -> None:
    """Check that a table has all required keys and no unknown one.

    Args:
        table: a TOML table.
        prefix: path of the table in the file, before a key's name in an error: ``accumulate.``.
        required: keys that must be there.
        optional: keys that may be there.

    Raises:
        FpsimError: an unknown key (with the nearest known one), or a missing key.
    """
    known = [*required, *optional]
    for key in table:
        if key not in known:
            raise FpsimError(
                f"{prefix}{key}: unknown key; allowed: {', '.join(known)}{nearest(key, known)}"
            )
    for key in required:
        if key not in table:
            raise FpsimError(f"{prefix}{key}: missing")


def from_table(table: object, where: str) -> Stage:
    """Return the stage that a table describes; errors name the field with its path."""
    if not isinstance(table, dict):
        raise FpsimError(f"{where}: {table!r} is not a table")
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in STAGES:
        raise not_one_of(f"{where}.kind", kind, STAGES)
    known = [f for f in fields(STAGES[kind]) if f.init]  # type: ignore[arg-type]
    required = [f.name for f in known if f.default is MISSING]
    optional = [f.name for f in known if f.default is not MISSING]
    check_keys(table, f"{where}.", required=("kind", *required), optional=optional)
    values = {key: value for key, value in table.items() if key != "kind"}
    for f in known:
        if f.name not in values:
            continue
        if f.type == "Stage":
            values[f.name] = from_table(values[f.name], f"{where}.{f.name}")
        elif str(f.type).startswith("FloatFormat"):
            values[f.name] = format_in(f"{where}.{f.name}", values[f.name])
    try:
        return STAGES[kind](**values)
    except FpsimError as error:
        raise FpsimError(f"{where}.{error}") from None


def to_table(stage: Stage) -> dict[str, Any]:
    """Return the TOML table of a stage; `from_table` reads it."""
    table: dict[str, Any] = {"kind": stage.kind}
    for f in fields(stage):  # type: ignore[arg-type]
        value = getattr(stage, f.name)
        implied = f.name == "container" and value == stage.result == getattr(stage, "format", None)
        if implied or value is None or (value == f.default and f.name not in _ALWAYS):
            continue
        if f.type == "Stage":
            value = to_table(value)
        elif isinstance(value, FloatFormat):
            value = value.name
        elif isinstance(value, StrEnum):
            value = str(value)
        table[f.name] = value
    return table
