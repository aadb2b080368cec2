# SPDX-License-Identifier: Apache-2.0
"""A MAC unit as data: operands and an accumulation stage, from and to TOML.

    schema = 1
    name = "my-mac"                    # optional: the canonical name otherwise
    description = "what it is"         # optional

    [operands]
    a = "e2m1"
    b = "e2m1"

    [accumulate]
    kind = "chain"                     # chain | exact | fixed
    format = "e5m10"                   # chain, exact: a floating-point format
    rounding = "rne"                   # default rne
    overflow = "inf"                   # default inf where the format has one, else saturate

A `fixed` stage takes ``width``, ``lsb``, ``overflow`` (wrap or saturate) and ``rounding``.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w

from fpsim.errors import FpsimError, nearest
from fpsim.formats import FixedFormat, FloatFormat, Format
from fpsim.names import get_format
from fpsim.rounding import parse_overflow, parse_rounding
from fpsim.stages import STAGES, Stage, parse_short_name

__all__ = ["SCHEMA", "MacSpec"]

SCHEMA = 1
#: Operands are looked up in tables of their values; a product then has at most 30 bits.
MAX_OPERAND_BITS = 16
#: Products beyond 2^+-768 leave float64 under the scales at the ends of E8M0, 2^-127 twice.
MAX_PRODUCT_EXPONENT = 768
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
# A "-" after "b" or "q" is the sign of a bias or of a count of fraction bits.
_OPERAND = r"(?:[^x-]|(?<=[bq])-)+"
_PAIR = re.compile(rf"(?P<a>{_OPERAND})(?:x(?P<b>{_OPERAND}))?-(?P<stage>.+)")


@dataclass(frozen=True)
class MacSpec:
    """A multiply-accumulate unit: ``a`` times ``b``, accumulated as ``accumulate`` says.

    Two specs are equal when they compute the same; name and description do not count.

    Raises:
        FpsimError: a combination that no unit can have, naming the field.
    """

    a: Format
    b: Format
    accumulate: Stage
    name: str = field(default="", compare=False)
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for field_name, fmt in (("a", self.a), ("b", self.b)):
            if fmt.bits > MAX_OPERAND_BITS:
                raise FpsimError(
                    f"operands.{field_name}: {fmt.name} has {fmt.bits} bits; "
                    f"at most {MAX_OPERAND_BITS} are allowed"
                )
        ends = zip(value_exponents(self.a), value_exponents(self.b), strict=True)
        low, high = (a + b for a, b in ends)
        if low < -MAX_PRODUCT_EXPONENT or high > MAX_PRODUCT_EXPONENT:
            raise FpsimError(
                f"operands: products of {self.a.name} and {self.b.name} reach from 2^{low} to "
                f"2^{high}; allowed is 2^-{MAX_PRODUCT_EXPONENT} to 2^{MAX_PRODUCT_EXPONENT}"
            )
        if not self.name:
            object.__setattr__(self, "name", self.canonical_name)
        if not _NAME.fullmatch(self.name):
            raise FpsimError(
                f"name: {self.name!r} must be lower-case letters, digits, '.', '_' and '-'"
            )

    @property
    def canonical_name(self) -> str:
        """Short name that says everything, such as ``e2m1-chain-e5m10``; see `from_name`."""
        pair = self.a.name if self.a == self.b else f"{self.a.name}x{self.b.name}"
        return f"{pair}-{self.accumulate.short_name}"

    @property
    def result(self) -> Format:
        """Format of accumulator codes."""
        return self.accumulate.result

    @property
    def equation(self) -> str:
        """What the unit computes, in one line."""
        return (
            f"p_i = {self.a.name}(a_i) * {self.b.name}(b_i) * 2^(sa_i + sb_i);  "
            f"{self.accumulate.equation}"
        )

    # -- in ------------------------------------------------------------------------------------

    @classmethod
    def from_name(cls, name: str) -> MacSpec | None:
        """Return the unit a canonical name describes, or None if it is not of that form."""
        match = _PAIR.fullmatch(name)
        table = parse_short_name(match["stage"]) if match else None
        if match is None or table is None:
            return None
        operands = {"a": match["a"], "b": match["b"] or match["a"]}
        return cls.from_dict({"operands": operands, "accumulate": table})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MacSpec:
        """Build a unit from the tables of a TOML file; every key is checked."""
        _check_keys(
            data,
            "",
            required=("operands", "accumulate"),
            optional=("schema", "name", "description"),
        )
        if data.get("schema", SCHEMA) != SCHEMA:
            raise FpsimError(
                f"schema: {data['schema']!r} is not supported; this version reads {SCHEMA}"
            )
        operands = _table(data, "operands")
        _check_keys(operands, "operands.", required=("a", "b"))
        return cls(
            a=_in_field("operands.a", operands["a"]),
            b=_in_field("operands.b", operands["b"]),
            accumulate=_stage(_table(data, "accumulate"), "accumulate."),
            name=_text(data, "name"),
            description=_text(data, "description"),
        )

    @classmethod
    def from_toml(cls, path: str | Path) -> MacSpec:
        """Read a unit from a TOML file; errors name the file."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FpsimError(f"{path}: cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FpsimError(f"{path}: not valid TOML ({error})") from None
        try:
            return cls.from_dict(data)
        except FpsimError as error:
            raise FpsimError(f"{path}: {error}") from None

    # -- out -----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the tables that `from_dict` reads back; all defaults are written out."""
        stage: dict[str, Any] = {"kind": self.accumulate.kind}
        for f in fields(self.accumulate):
            if f.init:
                value = getattr(self.accumulate, f.name)
                stage[f.name] = value.name if isinstance(value, FloatFormat) else value
        for key in ("rounding", "overflow"):
            stage[key] = str(stage[key])
        if not stage["random_bits"]:
            del stage["random_bits"]
        data: dict[str, Any] = {"schema": SCHEMA, "name": self.name}
        if self.description:
            data["description"] = self.description
        return data | {"operands": {"a": self.a.name, "b": self.b.name}, "accumulate": stage}

    def to_toml(self) -> str:
        """Return the unit as TOML text."""
        return tomli_w.dumps(self.to_dict())


def value_exponents(fmt: Format) -> tuple[int, int]:
    """Return (low, high): nonzero values are multiples of 2^low and at most 2^high."""
    if isinstance(fmt, FixedFormat):
        return fmt.lsb, fmt.lsb + fmt.width
    return fmt.exponent_min - fmt.mantissa_bits, fmt.exponent_max + 1


def significand_bits(fmt: Format) -> int:
    """Return how many significant bits a value of the format can have."""
    if isinstance(fmt, FixedFormat):
        return fmt.width - int(fmt.signed)
    return fmt.mantissa_bits + int(fmt.exponent_bits > 0)


def _stage(table: dict[str, Any], prefix: str) -> Stage:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in STAGES:
        raise FpsimError(
            f"{prefix}kind: {kind!r} is not one of {', '.join(STAGES)}{nearest(str(kind), STAGES)}"
        )
    stage = STAGES[kind]
    known = [f for f in fields(stage) if f.init]
    required = [f.name for f in known if f.name in ("format", "width", "lsb")]
    optional = [f.name for f in known if f.name not in required]
    _check_keys(table, prefix, required=("kind", *required), optional=optional)
    values = {key: value for key, value in table.items() if key != "kind"}
    if "format" in values:
        values["format"] = _in_field(f"{prefix}format", values["format"])
    if "rounding" in values:
        values["rounding"] = parse_rounding(values["rounding"], f"{prefix}rounding")
    if "overflow" in values:
        values["overflow"] = parse_overflow(values["overflow"], f"{prefix}overflow")
    return stage(**values)


def _in_field(where: str, name: object) -> Format:
    try:
        return get_format(name)  # type: ignore[arg-type]
    except FpsimError as error:
        raise FpsimError(f"{where}: {error}") from None


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(data[key], dict):
        raise FpsimError(f"{key}: {data[key]!r} is not a table")
    return dict(data[key])


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise FpsimError(f"{key}: {value!r} is not text")
    return value


def _check_keys(table: dict[str, Any], prefix: str, required: Any, optional: Any = ()) -> None:
    known = [*required, *optional]
    for key in table:
        if key not in known:
            raise FpsimError(
                f"{prefix}{key}: unknown key; allowed: {', '.join(known)}{nearest(key, known)}"
            )
    for key in required:
        if key not in table:
            raise FpsimError(f"{prefix}{key}: missing")
