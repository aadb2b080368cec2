# SPDX-License-Identifier: Apache-2.0
"""A MAC unit as data: operands, their scales and an accumulation stage, from and to TOML.

    schema = 1
    name = "my-mac"                    # optional: the canonical name otherwise
    description = "what it is"         # optional
    evidence = "validated"             # optional: see `Evidence`; source names where it is from

    [operands]
    a = "e2m1"
    b = "e2m1"
    a_scale = "e8m0"                   # default e8m0: format of the scales given at run time
    b_scale = "e8m0"
    sign_split = "none"                # none | a | b | both: operands with one scale per sign

    [accumulate]
    kind = "chain"                     # chain | exact | fixed | aligned | tree | chunked | block
    format = "e5m10"
    rounding = "rne"                   # default rne
    overflow = "inf"                   # default inf where the format has one, else saturate

Every field of a stage (`fpsim.units.stages`) is a key of its table; stages within stages are
sub-tables, such as ``[accumulate.into]`` of a block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.base.hashed_once import hashed_once
from fpsim.base.input_files import read_toml
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.names import E8M0
from fpsim.units.stages import (
    MAX_WINDOW_BITS,
    PRODUCT_BITS,
    Aligned,
    Block,
    Stage,
    block_in,
    check_keys,
    first_sum,
    format_in,
    from_table,
    parse_short_name,
    random_bits_of,
    to_table,
)

__all__ = ["BETWEEN", "SCHEMA", "Evidence", "MacSpec", "SignSplit", "spec_of"]

SCHEMA = 1
#: Required and optional keys of a TOML file, and of its tables without a class.
SPEC_KEYS: tuple[tuple[str, ...], tuple[str, ...]] = (
    ("operands", "accumulate"),
    ("schema", "name", "description", "evidence", "source"),
)
SPEC_TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "operands": (("a", "b"), ("a_scale", "b_scale", "sign_split"))
}
#: Widest operands: float32, and integers of 32 bits.
MAX_OPERAND_BITS = 32
#: Significant bits of a term that the kernels hold exactly.
F64_BITS = 53
#: Exponents between which a product with its scales is a normal float64, with room for a sum.
F64_LOW, F64_HIGH = -1022, 960
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
#: The "x" between two operands, which that of a block format's name, such as mxfp4, is not.
BETWEEN = r"(?<!^m)(?<!xm)x"
# A "-" after "b" or "q" is the sign of a bias or of a count of fraction bits.
_OPERAND = rf"(?:(?!{BETWEEN})[^-]|(?<=[bq])-)+"
_PAIR = re.compile(rf"(?P<a>{_OPERAND})(?:x(?P<b>{_OPERAND}))?-(?P<stage>.+)")


class SignSplit(StrEnum):
    """Operands with two scales per block, for elements with the sign bit clear and set.

    AMXFP4 (arXiv 2411.09909) has such operands."""

    NONE = "none"
    A = "a"
    B = "b"
    BOTH = "both"


class Evidence(StrEnum):
    """Grade of the evidence for a description of hardware."""

    NONE = ""  #: no hardware is described
    VALIDATED = "validated"  #: bit-equal to results recorded from the hardware
    SINGLE_SOURCE = "single source"  #: one publication, not checked against recordings here
    MODELLED = "modelled"  #: a reading of documentation


@hashed_once
@dataclass(frozen=True)
class MacSpec:
    """A multiply-accumulate unit: ``a`` times ``b``, accumulated by the stage ``accumulate``.

    Two specs are equal when all fields but name, description, evidence and source are equal.

    Raises:
        FpsimError: fields that do not fit together; the message names one.
    """

    a: Format
    b: Format
    accumulate: Stage
    name: str = field(default="", compare=False)
    description: str = field(default="", compare=False)
    a_scale: Format = E8M0
    b_scale: Format = E8M0
    sign_split: SignSplit = SignSplit.NONE
    evidence: Evidence = field(default=Evidence.NONE, compare=False)
    source: str = field(default="", compare=False)

    def __repr__(self) -> str:
        return f"<MacSpec {self.name}: {self.equation}>"

    def __post_init__(self) -> None:
        for field_name, fmt in (("a", self.a), ("b", self.b)):
            if fmt.bits > MAX_OPERAND_BITS:
                raise FpsimError(
                    f"operands.{field_name}: {fmt.name} has {fmt.bits} bits; "
                    f"at most {MAX_OPERAND_BITS} are allowed"
                )
        for field_name, kind in (("sign_split", SignSplit), ("evidence", Evidence)):
            value = getattr(self, field_name)
            if value not in list(kind):
                raise not_one_of(field_name, value, [repr(str(k)) for k in kind])
            object.__setattr__(self, field_name, kind(value))
        self._check_scales()
        self._check_exactness()
        if not self.name:
            object.__setattr__(self, "name", self.canonical_name)
        if not _NAME.fullmatch(self.name):
            raise FpsimError(
                f"name: {self.name!r} must be lower-case letters, digits, '.', '_' and '-'"
            )

    def _check_scales(self) -> None:
        for field_name, fmt in (("a", self.a), ("b", self.b)):
            scale = getattr(self, f"{field_name}_scale")
            if not isinstance(scale, FloatFormat):
                name = getattr(scale, "name", repr(scale))
                raise FpsimError(
                    f"operands.{field_name}_scale: {name} is not a floating-point format"
                )
            if self.splits(field_name) and not fmt.signed:
                raise FpsimError(
                    f"operands.sign_split: {str(self.sign_split)!r}, but {fmt.name} has no sign"
                )

    def _check_exactness(self) -> None:
        """Check that float64 numbers and 64-bit integers hold terms: kernels compute in them."""
        factors = [exponents(f) for f in (self.a, self.b, self.a_scale, self.b_scale)]
        lowest, highest = (sum(ends) for ends in zip(*factors, strict=True))
        if lowest < F64_LOW or highest > F64_HIGH:
            raise FpsimError(
                f"operands: products of {self.a.name} x {self.b.name} with their scales reach from "
                f"2^{lowest} to 2^{highest}; allowed is 2^{F64_LOW} to 2^{F64_HIGH}"
            )
        stage = first_sum(self.accumulate)
        if isinstance(stage, Aligned):
            self._check_window(stage)

    def _check_window(self, stage: Aligned) -> None:
        """Check that 64-bit integers hold the sum of aligned terms."""
        bits = stage.window_bits - PRODUCT_BITS + self.headroom
        if bits > MAX_WINDOW_BITS:
            what = "products" if self.block is None else f"sums of {self.block.size} products"
            raise FpsimError(
                f"fraction_bits: {stage.fraction_bits} for {stage.products} scaled {what} of "
                f"{self.a.name} x {self.b.name} need a sum of {bits} bits; at most "
                f"{MAX_WINDOW_BITS} are allowed"
            )

    @property
    def headroom(self) -> int:
        """Bits of a term above 2^e, with e the term's alignment exponent."""
        scales = sum(s != E8M0 and significand_bits(s) > 1 for s in (self.a_scale, self.b_scale))
        block = self.block
        if block is None:
            return PRODUCT_BITS + scales
        high = exponents(self.a)[1] + exponents(self.b)[1]
        high += (block.size - 1).bit_length() + scales
        return high + (block.convert is not None)  # rounding doubles a term at most

    @property
    def term_bits(self) -> int:
        """Significant bits that a scaled product, or a scaled block sum, can have."""
        scales = sum(0 if s == E8M0 else significand_bits(s) for s in (self.a_scale, self.b_scale))
        bits = significand_bits(self.a) + significand_bits(self.b)
        block = self.block
        if block is not None:
            low, high = (sum(e) for e in zip(exponents(self.a), exponents(self.b), strict=True))
            bits = max(bits, high - low + (block.size - 1).bit_length())
        return bits + scales

    @property
    def term_parts(self) -> int:
        """Number of float64 parts that hold a term exactly."""
        return -(-self.term_bits // F64_BITS)

    def splits(self, operand: str) -> bool:
        """Return whether operand ``a`` or ``b`` has a scale per sign."""
        return self.sign_split in (operand, SignSplit.BOTH)

    @property
    def canonical_name(self) -> str:
        """Short name of the whole unit, such as ``e2m1-chain-e5m10``; `from_name` reads it.

        An operand with scales other than E8M0 names their format after a dot, and ``split`` after
        another if there is one per sign: ``e2m1.e5m2.split-block32-into-chain-e8m23``.
        """
        texts = []
        for operand, fmt, scale in (("a", self.a, self.a_scale), ("b", self.b, self.b_scale)):
            split = self.splits(operand)
            parts = [fmt.name] + [scale.name] * (scale != E8M0 or split) + ["split"] * split
            texts.append(".".join(parts))
        pair = texts[0] if texts[0] == texts[1] else "x".join(texts)
        return f"{pair}-{self.accumulate.short_name}"

    @cached_property
    def result(self) -> Format:
        """Format of result codes."""
        return self.accumulate.result

    @cached_property
    def initial(self) -> Format:
        """Format of the codes of ``c``; the result's, unless `Fixed` converts at the end."""
        return self.accumulate.initial

    @cached_property
    def block(self) -> Block | None:
        """The stage that sums blocks of unscaled products, if there is one."""
        return block_in(self.accumulate)

    def roundings(self, length: int) -> int:
        """Return the number of random integers that a dot product of ``length`` products takes.

        The roundings take them in the order in which they happen; see `Chunked`.
        """
        return self.accumulate.roundings(length, self.quadrants)

    @cached_property
    def random_bits(self) -> int:
        """Bits of each random integer; 0 for a unit that takes none.

        If stages differ in their number of random bits, the largest counts: a stage with fewer
        takes the low bits of its integers.
        """
        return random_bits_of(self.accumulate)

    @cached_property
    def quadrants(self) -> int:
        """Sums per block: one, or one per combination of signs if scales differ by sign."""
        return (1 + self.splits("a")) * (1 + self.splits("b"))

    def block_terms(self, length: int) -> int:
        """Return the number of terms that a `Block` stage makes of ``length`` products."""
        assert self.block is not None
        return -(-length // self.block.size) * self.quadrants

    @property
    def equation(self) -> str:
        """Equation of the unit, in one line."""
        return (
            f"p_i = {self.a.name}(a_i) * {self.b.name}(b_i) * {self._scale_equation()};  "
            f"{self.accumulate.equation}"
        )

    def _scale_equation(self) -> str:
        if (self.a_scale, self.b_scale, self.sign_split) == (E8M0, E8M0, SignSplit.NONE):
            return "2^(sa_i + sb_i)"
        signs = [f"{self.a_scale.name}(sa_i", f"{self.b_scale.name}(sb_i"]
        for i, operand in enumerate("ab"):
            signs[i] += f" by sign of {operand}_i)" if self.splits(operand) else ")"
        return " * ".join(signs)

    # -- in ------------------------------------------------------------------------------------

    @classmethod
    def from_name(cls, name: str) -> MacSpec | None:
        """Return the unit that a canonical name describes, or None if the text is no such name."""
        match = _PAIR.fullmatch(name)
        table = parse_short_name(match["stage"]) if match else None
        if match is None or table is None:
            return None
        operands: dict[str, str] = {}
        splits = []
        for operand, text in (("a", match["a"]), ("b", match["b"] or match["a"])):
            fmt, *rest = text.split(".")
            if rest[1:] == ["split"]:
                splits.append(operand)
            elif rest[1:]:
                return None
            operands |= {operand: fmt} | ({f"{operand}_scale": rest[0]} if rest else {})
        if splits:
            operands["sign_split"] = splits[0] if len(splits) == 1 else "both"
        return cls.from_dict({"operands": operands, "accumulate": table})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MacSpec:
        """Build a unit from the tables of a TOML file; every key is checked."""
        check_keys(data, "", *SPEC_KEYS)
        if data.get("schema", SCHEMA) != SCHEMA:
            raise FpsimError(
                f"schema: {data['schema']!r} is not supported; this version reads {SCHEMA}"
            )
        operands = _table(data, "operands")
        check_keys(operands, "operands.", *SPEC_TABLES["operands"])
        formats = {
            key: format_in(f"operands.{key}", value)
            for key, value in operands.items()
            if key != "sign_split"
        }
        return cls(
            **formats,
            sign_split=operands.get("sign_split", SignSplit.NONE),
            accumulate=from_table(data["accumulate"], "accumulate"),
            name=_text(data, "name"),
            description=_text(data, "description"),
            evidence=_text(data, "evidence"),  # type: ignore[arg-type]
            source=_text(data, "source"),
        )

    @classmethod
    def from_toml(cls, path: str | Path) -> MacSpec:
        """Read a unit from a TOML file; errors name the file."""
        data = read_toml(path)
        try:
            return cls.from_dict(data)
        except FpsimError as error:
            raise FpsimError(f"{path}: {error}") from None

    # -- out -----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the tables that `from_dict` reads, with all defaults written out."""
        data: dict[str, Any] = {"schema": SCHEMA, "name": self.name}
        for key in ("description", "evidence", "source"):
            if getattr(self, key):
                data[key] = str(getattr(self, key))
        operands: dict[str, str] = {"a": self.a.name, "b": self.b.name}
        for key, scale in (("a_scale", self.a_scale), ("b_scale", self.b_scale)):
            if scale != E8M0:
                operands[key] = scale.name
        if self.sign_split is not SignSplit.NONE:
            operands["sign_split"] = str(self.sign_split)
        return data | {"operands": operands, "accumulate": to_table(self.accumulate)}

    def to_toml(self) -> str:
        """Return the unit as TOML text."""
        return tomli_w.dumps(self.to_dict())


def significand_bits(fmt: Format) -> int:
    """Return the most significant bits of a value of the format."""
    if isinstance(fmt, FixedFormat):
        return fmt.width - int(fmt.signed)
    return fmt.mantissa_bits + int(fmt.exponent_bits > 0)


def exponents(fmt: Format) -> tuple[int, int]:
    """Return (low, high): nonzero finite values are multiples of 2^low and below 2^high."""
    if isinstance(fmt, FixedFormat):
        return fmt.lsb, fmt.lsb + fmt.width - int(fmt.signed and fmt.symmetric)
    return fmt.exponent_min - fmt.mantissa_bits, fmt.exponent_max + 1


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(data[key], dict):
        raise FpsimError(f"{key}: {data[key]!r} is not a table")
    return dict(data[key])


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise FpsimError(f"{key}: {value!r} is not text")
    return value


def spec_of(unit: Any) -> MacSpec:
    """Return the description of a MacUnit; return a MacSpec unchanged.

    Raises:
        FpsimError: something else, such as a name.
    """
    spec = getattr(unit, "spec", unit)
    if not isinstance(spec, MacSpec):
        raise FpsimError(f"unit: {unit!r} is no unit; fpsim.get_unit makes one of a name or a file")
    return spec
