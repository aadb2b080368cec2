# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of the TOML of a unit, made from the classes that read the TOML."""

from __future__ import annotations

import typing
from typing import Any

from fpsim.base.json_schema import document, object_schema, table_schema, type_schema
from fpsim.formats.fixed_point import FixedFormat
from fpsim.formats.floating import FloatFormat
from fpsim.units.spec import SCHEMA, SPEC_KEYS, SPEC_TABLES, MacSpec
from fpsim.units.stages import STAGES, Stage

__all__ = ["unit_schema"]

_FORMAT = {"type": "string", "description": "name of a format, such as e2m1 or e5m10"}
_LEAVES: dict[type, dict[str, Any]] = {
    FloatFormat: {"$ref": "#/$defs/format"},
    FixedFormat: {"$ref": "#/$defs/format"},
    typing.cast(type, Stage): {"$ref": "#/$defs/stage"},
}


def unit_schema() -> dict[str, Any]:
    """Return the schema of the TOML of a unit, which `MacSpec.from_toml` reads."""
    stages = {
        f"{name}-stage": object_schema(kind, _LEAVES, more={"kind": {"const": name}})
        for name, kind in STAGES.items()
    }
    stage = {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(STAGES)}},
        # One schema per kind of stage, so that an editor reports faults of the stage's own kind.
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{name}-stage"},
            }
            for name in STAGES
        ],
    }
    hints = typing.get_type_hints(MacSpec)
    values = {name: type_schema(hint, _LEAVES) for name, hint in hints.items()}
    values["schema"] = {"const": SCHEMA}
    required, optional = SPEC_TABLES["operands"]
    values["operands"] = table_schema(
        {key: values[key] for key in (*required, *optional)}, required
    )
    required, optional = SPEC_KEYS
    top = table_schema({key: values[key] for key in (*optional, *required)}, required)
    return document("fpsim unit", top, {"format": _FORMAT, "stage": stage, **stages})
