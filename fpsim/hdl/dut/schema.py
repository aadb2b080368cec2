# SPDX-License-Identifier: Apache-2.0
"""The ``dut.toml`` of a design as JSON Schema, with the keys that `read_dut` checks."""

from __future__ import annotations

from typing import Any

from fpsim.base.json_schema import document, table_schema
from fpsim.hdl.dut.dut import FIELDS, OPS, RESULTS, VECTOR_OPS, WAITS
from fpsim.hdl.dut.dut_toml import KEYS, WORDS
from fpsim.hdl.dut.encodings import ENCODINGS
from fpsim.vectors.sets.status_flags import FLAG_CODES

__all__ = ["dut_schema"]

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_SETTINGS: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["integer", "number", "string", "boolean"]},
}
_TIE: Schema = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}
_CODES: Schema = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0},
    "minItems": 2,
    "maxItems": 2,
}
_PLACES: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_RANGES: Schema = {"anyOf": [_CODES, {"type": "array", "items": _CODES, "minItems": 1}]}
_WIRES: Schema = {"$ref": "#/$defs/wires"}
_PORTS: Schema = {"anyOf": [_TEXT, _TEXTS | {"minItems": 1}]}
_ENCODING: Schema = {"enum": list(ENCODINGS)}
_OP: Schema = {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "reset"}, _TIE]}

#: What each key takes, by table.
_VALUES: dict[str, dict[str, Schema]] = {
    "key": {
        "top": _TEXT, "sources": _TEXTS, "include": _TEXTS, "filelists": _TEXTS, "waive": _TEXTS,
        "defines": _SETTINGS, "parameters": _SETTINGS, "adapter": _TEXT,
        "k": _COUNT, "group": {"type": "integer", "minimum": 0},
        "files": _TEXTS, "memories": {"type": "object", "additionalProperties": _TEXT},
        "interfaces": {"type": "object", "additionalProperties": _TEXT},
        "ops": table_schema(dict.fromkeys(OPS, _OP)),
        "domain": {
            "type": "object",
            "properties": {"without": _TEXTS},
            "additionalProperties": _RANGES,
        },
    },
    "clock": {"port": _TEXT, "also": _TEXTS},
    "reset": {"port": _TEXT, "clocks": {"type": "integer", "minimum": 0}, "also": _TEXTS},
    "input": {
        "valid": _TEXT, "ready": _TEXT, "first": _TEXT, "last": _TEXT, "open": _TEXTS,
        "tie": {"anyOf": [_TIE, {"const": 0}]}, "interval": {"anyOf": [_COUNT, {"const": WAITS}]},
        "beats": {"type": "array", "items": {"$ref": "#/$defs/beats"}},
    },
    "beats": {"elements": _COUNT, "scales": _COUNT, "tie": _TIE, **dict.fromkeys(FIELDS, _WIRES)},
    "wires": {
        "port": _PORTS, "element_bits": _COUNT, "signed": _FLAG,
        "encoding": {"anyOf": [_ENCODING, {"type": "array", "items": _ENCODING}]},
        "table": {
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "minimum": -1}, "minItems": 1},
                _TEXT,
            ]
        },
        "order": _PLACES, "transpose": _CODES, "bias": {"type": "integer"},
    },
    "output": {
        "acc": _WIRES, "valid": _TEXT, "ready": _TEXT, "every_beat": _FLAG, "beats": _COUNT,
        "latency": {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "find"}]},
        "answers": {"type": "array", "items": {"enum": list(VECTOR_OPS)}},
        **dict.fromkeys(RESULTS, _WIRES),
        "flags": {"anyOf": [_WIRES, table_schema(dict.fromkeys(FLAG_CODES, _TEXT))]},
    },
    "simulator": {"arguments": _TEXTS},
    "compare": {},
    "random": {"lfsr": _COUNT, "width": _COUNT, "taps": _COUNT},
}  # fmt: skip
_REQUIRED = {
    "key": ("top", "output"),
    "clock": ("port",),
    "reset": ("port", "active"),
    "wires": ("port",),
    "random": ("lfsr",),
}


def dut_schema() -> Schema:
    """Return the schema of a design's TOML, which `fpsim.hdl.dut.dut_toml.read_dut` reads."""
    tables = {name: _table(name) for name in KEYS}
    inner = {
        name: tables[name] for name in ("clock", "reset", "input", "output", "compare", "random")
    }
    words = WORDS["simulator"]
    inner["simulator"] = table_schema(dict.fromkeys(words, tables["simulator"]))
    top = tables["key"]
    top["properties"] = {key: inner.get(key) or top["properties"][key] for key in KEYS["key"]}
    wires = {"anyOf": [_TEXT, _TEXTS | {"minItems": 1}, tables["wires"]]}
    return document("fpsim dut", top, {"wires": wires, "beats": tables["beats"]})


def _table(name: str) -> Schema:
    """Return the schema of a table with exactly the keys that are checked."""
    values = _VALUES[name]

    def value(key: str) -> Schema:
        words = WORDS.get(f"{name}.{key}") or (WORDS["compare"] if name == "compare" else None)
        return {"enum": list(words)} if words else values.get(key, {})

    return table_schema({key: value(key) for key in KEYS[name]}, _REQUIRED.get(name, ()))
