# SPDX-License-Identifier: Apache-2.0
"""JSON Schemas (draft 2020-12) from the fields of dataclasses.

The dataclass that reads a TOML file is the only list of its keys; the schema follows from the
fields. Editors complete and check with it; rules between fields are checked by the class alone.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

__all__ = ["DIALECT", "document", "object_schema", "table_schema", "type_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
#: Schemas of types that a TOML file spells otherwise, such as formats by name.
Leaves = Mapping[type, Schema]
_PLAIN: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    # A number, or text such as "6/7".
    Fraction: {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]},
}


def document(title: str, schema: Schema, definitions: Schema | None = None) -> Schema:
    """Return a whole schema.

    Args:
        title: title of the file described.
        schema: schema of the file's top table.
        definitions: schemas referred to, by name.

    Returns:
        A schema that stands alone.
    """
    more = {"$defs": definitions} if definitions else {}
    return {"$schema": DIALECT, "title": title, **schema, **more}


def type_schema(hint: Any, leaves: Leaves) -> Schema:
    """Return the schema of values of an annotated type.

    Raises:
        TypeError: a type that TOML cannot hold.
    """
    if hint in leaves:
        return leaves[hint]
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        every = [type_schema(kind, leaves) for kind in inside if kind is not type(None)]
        unique = [one for i, one in enumerate(every) if one not in every[:i]]
        return unique[0] if len(unique) == 1 else {"anyOf": unique}
    if origin is tuple:
        items = [type_schema(kind, leaves) for kind in inside if kind is not Ellipsis]
        if Ellipsis in inside:
            return {"type": "array", "items": items[0]}
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        # None has no spelling: a file leaves the key out.
        return {"enum": [str(member) for member in hint if str(member)]}
    if is_dataclass(hint) and isinstance(hint, type):
        return object_schema(hint, leaves)
    raise TypeError(f"{hint!r} has no JSON Schema")


def object_schema(
    kind: Any,
    leaves: Leaves,
    *,
    required: Collection[str] | None = None,
    change: Callable[[Field[Any], Schema], Schema] = lambda _, schema: schema,
    more: Mapping[str, Schema] | None = None,
) -> Schema:
    """Return the schema of a table whose keys are the fields of a dataclass.

    Args:
        kind: the dataclass.
        leaves: schemas of types that a file spells otherwise, such as formats by name.
        required: required keys; by default the fields without a default.
        change: function from a field and its type's schema to the field's schema.
        more: schemas of keys that are no fields.

    Returns:
        An object that has no other keys.
    """
    hints = typing.get_type_hints(kind)
    known = [f for f in fields(kind) if f.init]
    properties: dict[str, Schema] = dict(more or {})
    for f in known:
        schema = change(f, type_schema(hints[f.name], leaves))
        if isinstance(f.default, bool | int | float | str) and str(f.default):
            schema = schema | {"default": f.default}
        properties[f.name] = schema
    if required is None:
        required = [f.name for f in known if f.default is MISSING and f.default_factory is MISSING]
        required = [*(more or {}), *required]
    first = (kind.__doc__ or "").strip().partition("\n\n")[0]
    return {"description": " ".join(first.split()), **table_schema(properties, required)}


def table_schema(properties: Mapping[str, Schema], required: Collection[str] = ()) -> Schema:
    """Return the schema of a table with the keys of ``properties`` and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
