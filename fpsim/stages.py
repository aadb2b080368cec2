# SPDX-License-Identifier: Apache-2.0
"""The accumulation stages a unit is composed of, as frozen data.

A stage knows its parameters, its validity, its short name and its equation; it computes nothing.
Products are exact everywhere: ``p_i = a_i * b_i * 2^(sa_i + sb_i)``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

from fpsim.errors import FpsimError
from fpsim.formats import FixedFormat, FloatFormat, Format
from fpsim.names import get_format
from fpsim.rounding import (
    MAX_RANDOM_BITS,
    Overflow,
    Rounding,
    parse_overflow,
    parse_rounding,
)

__all__ = ["STAGES", "Chain", "Exact", "Fixed", "Stage"]

# A float accumulator is computed in float64 lanes, which must hold it with room to spare.
MAX_MANTISSA_BITS = 23
MAX_EXPONENT = 400


def _float_accumulator(fmt: Format, name: str) -> FloatFormat:
    if not isinstance(fmt, FloatFormat):
        raise FpsimError(f"accumulate.format: {fmt.name} is not a floating-point format")
    if not fmt.signed or not fmt.has_zero:
        raise FpsimError(
            f"accumulate.format: {fmt.name} has no sign or no zero; a {name} needs both"
        )
    if fmt.exponent_max > MAX_EXPONENT or fmt.exponent_min < -MAX_EXPONENT:
        raise FpsimError(
            f"accumulate.format: {fmt.name} reaches beyond 2^+-{MAX_EXPONENT}; choose another bias"
        )
    return fmt


@dataclass(frozen=True)
class _FloatStage:
    """What the stages that end in a floating-point format share."""

    format: FloatFormat
    rounding: Rounding = Rounding.RNE
    overflow: Overflow | None = None  #: None: `FloatFormat.default_overflow`
    random_bits: int = 0  #: for ``sr``: random bits per rounding

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        _float_accumulator(self.format, self.kind)
        overflow = self.format.default_overflow if self.overflow is None else self.overflow
        object.__setattr__(self, "overflow", parse_overflow(overflow, "accumulate.overflow"))
        object.__setattr__(self, "rounding", parse_rounding(self.rounding, "accumulate.rounding"))
        assert self.overflow is not None
        self.format.limits(self.rounding, self.overflow)
        # A sum rounded to odd in float64 must keep every random bit and one sticky bit below.
        _check_random_bits(self.rounding, self.random_bits, 51 - self.format.mantissa_bits)

    @property
    def result(self) -> Format:
        """Format of the accumulator codes that go in as ``c`` and come out."""
        return self.format

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name."""
        parts = [self.kind, self.format.name]
        parts += _rounding_suffix(self.rounding, self.random_bits)
        if self.overflow is not self.format.default_overflow:
            parts.append(str(self.overflow))
        return "-".join(parts)


@dataclass(frozen=True)
class Chain(_FloatStage):
    """``acc = R(acc + p_i)`` for i = 0, 1, ...: one rounding per fused multiply-add, in order."""

    kind: ClassVar[str] = "chain"

    @property
    def equation(self) -> str:
        """What the stage computes, in one line."""
        return f"acc <- {self.rounding}[{self.format.name}](acc + p_i), i = 0..K-1"


@dataclass(frozen=True)
class Exact(_FloatStage):
    """``R(c + sum p_i)``: the exact real sum, rounded once; independent of order."""

    kind: ClassVar[str] = "exact"

    @property
    def equation(self) -> str:
        """What the stage computes, in one line."""
        return f"d = {self.rounding}[{self.format.name}](c + sum_i p_i)"


@dataclass(frozen=True)
class Fixed:
    """``acc = O(acc + R(p_i))`` on the grid 2^lsb: a fixed-point (Kulisch-style) accumulator.

    Each product is rounded onto the grid, then added; ``overflow`` (wrap or saturate) acts after
    every add.
    """

    width: int
    lsb: int
    overflow: Overflow = Overflow.WRAP
    rounding: Rounding = Rounding.RNE
    random_bits: int = 0  #: for ``sr``: random bits per product
    result: FixedFormat = field(init=False, repr=False, compare=False)

    kind: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "overflow", parse_overflow(self.overflow, "accumulate.overflow"))
        object.__setattr__(self, "rounding", parse_rounding(self.rounding, "accumulate.rounding"))
        if not isinstance(self.width, int) or not 4 <= self.width <= 64:
            raise FpsimError(f"accumulate.width: {self.width!r} is not an integer in 4..64")
        if self.overflow not in (Overflow.WRAP, Overflow.SATURATE):
            raise FpsimError(
                f"accumulate.overflow: {self.overflow.value!r} is not possible in a fixed-point "
                "accumulator; allowed: wrap, saturate"
            )
        _check_random_bits(self.rounding, self.random_bits)
        object.__setattr__(self, "result", FixedFormat(self.width, self.lsb))

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name."""
        parts = [f"fixed{self.width}q{-self.lsb}"]
        parts += _rounding_suffix(self.rounding, self.random_bits)
        if self.overflow is not Overflow.WRAP:
            parts.append(str(self.overflow))
        return "-".join(parts)

    @property
    def equation(self) -> str:
        """What the stage computes, in one line."""
        return (
            f"acc <- {self.overflow}[{self.width} bits]"
            f"(acc + {self.rounding}(p_i / 2^{self.lsb})), i = 0..K-1"
        )


Stage = Chain | Exact | Fixed

#: Stage kinds by the name TOML uses.
STAGES: dict[str, type[Stage]] = {stage.kind: stage for stage in (Chain, Exact, Fixed)}


def parse_short_name(text: str) -> dict[str, object] | None:
    """Return the table that a stage's `short_name` stands for, or None if it is not one."""
    head, *rest = re.split(r"(?<![bq])-", text)
    table: dict[str, object]
    if head in (Chain.kind, Exact.kind):
        if not rest:
            return None
        table = {"kind": head, "format": rest.pop(0)}
    elif head.startswith(Fixed.kind) and "q" in head:
        width, _, fraction = head.removeprefix(Fixed.kind).partition("q")
        try:
            table = {"kind": Fixed.kind, "width": int(width), "lsb": -int(fraction)}
        except ValueError:
            return None
    else:
        return None
    for word in rest:
        if word in list(Rounding):
            table["rounding"] = word
        elif word in list(Overflow):
            table["overflow"] = word
        elif word.startswith("sr") and word[2:].isdecimal():
            table |= {"rounding": "sr", "random_bits": int(word[2:])}
        else:
            return None
    return table


def _rounding_suffix(rounding: Rounding, random_bits: int) -> list[str]:
    if rounding is Rounding.RNE:
        return []
    return [f"sr{random_bits}" if rounding is Rounding.SR else str(rounding)]


def _check_random_bits(rounding: Rounding, random_bits: int, most: int = MAX_RANDOM_BITS) -> None:
    most = min(most, MAX_RANDOM_BITS)
    allowed = range(1, most + 1) if rounding is Rounding.SR else range(1)
    is_integer = isinstance(random_bits, int) and not isinstance(random_bits, bool)
    if not is_integer or random_bits not in allowed:
        raise FpsimError(
            f"accumulate.random_bits: {random_bits!r} with rounding {rounding.value!r}; allowed: "
            f"{allowed.start}..{allowed.stop - 1}"
        )


def float_format(name: str) -> FloatFormat:
    """Return the floating-point format called ``name``."""
    return _float_accumulator(get_format(name), "stage")
