# SPDX-License-Identifier: Apache-2.0
"""The TOML of a block format as JSON Schema, from the class that reads it."""

from __future__ import annotations

from dataclasses import Field
from typing import Any

from fpsim.base.json_schema import document, object_schema
from fpsim.blocks.block_format import NEEDED_FIELDS, BlockFormat
from fpsim.blocks.fields import LISTS_OF_NUMBERS
from fpsim.blocks.grids import Table
from fpsim.formats.fixed_point import FixedFormat
from fpsim.formats.floating import FloatFormat

__all__ = ["block_schema"]

_FORMAT = {"type": "string", "description": "name of a format, such as e2m1; a scale: or real"}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_CODES = _NUMBERS | {"minItems": 16, "maxItems": 16}
_LEAVES: dict[type, dict[str, Any]] = {
    FloatFormat: {"$ref": "#/$defs/format"},
    FixedFormat: {"$ref": "#/$defs/format"},
    Table: {"$ref": "#/$defs/table"},
}
_TABLE = {
    "type": "object",
    "description": "16 numbers in the order of codes, or lists of 16 per row, and what holds them",
    "properties": {
        "table": {"anyOf": [_CODES, {"type": "array", "items": _CODES, "minItems": 2}]},
        "wide": {"$ref": "#/$defs/format"},
    },
    "required": ["table"],
    "additionalProperties": False,
}


def _change(field: Field[Any], schema: dict[str, Any]) -> dict[str, Any]:
    if field.name in LISTS_OF_NUMBERS:
        return {"anyOf": [{"type": "number"}, schema]}
    return schema


def block_schema() -> dict[str, Any]:
    """Return the schema of the TOML of a block format, which `BlockFormat.from_toml` reads."""
    top = object_schema(BlockFormat, _LEAVES, required=NEEDED_FIELDS, change=_change)
    return document("fpsim block format", top, {"format": _FORMAT, "table": _TABLE})
