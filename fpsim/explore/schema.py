# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of the TOML of a space: a unit's stages, with lists of choices."""

from __future__ import annotations

from typing import Any

from fpsim.base.json_schema import document, table_schema
from fpsim.explore.space import KEYS
from fpsim.units.schema import unit_schema

__all__ = ["space_schema"]

Schema = dict[str, Any]


def space_schema() -> Schema:
    """Return the schema of the TOML of a space, which `Space.from_toml` reads."""
    definitions = unit_schema()["$defs"]
    for name, stage in definitions.items():
        if name.endswith("-stage"):
            stage["properties"] = {
                key: value if key == "kind" else _or_list(value)
                for key, value in stage["properties"].items()
            }
    whole = table_schema({"unit": _or_list({"type": "string"})}, ["unit"])
    one = {"if": {"required": ["unit"]}, "then": whole, "else": {"$ref": "#/$defs/stage"}}
    values: dict[str, Schema] = {
        "recipes": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "stage": {"type": "array", "items": one, "minItems": 1},
    }
    return document("fpsim space", table_schema({k: values[k] for k in KEYS}, KEYS), definitions)


def _or_list(value: Schema) -> Schema:
    return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}
