# SPDX-License-Identifier: Apache-2.0
"""Stages that add one product after another: chain, exact and fixed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import ClassVar

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.rounding import Overflow, Rounding, parse_overflow, parse_rounding
from fpsim.units.stages import fields

__all__ = ["Chain", "Exact", "Fixed", "ProductRounding"]


class ProductRounding(StrEnum):
    """Whether a product is rounded before it is added."""

    FUSED = "fused"  #: added exactly
    ROUNDED = "rounded"  #: rounded to the accumulator's format first


@dataclass(frozen=True)
class _FloatStage:
    """Base of stages whose accumulator is floating-point: their fields and checks."""

    format: FloatFormat
    rounding: Rounding = Rounding.RNE
    overflow: Overflow | None = None  #: None: `FloatFormat.default_overflow`
    random_bits: int = 0  #: for ``sr``: random bits per rounding

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        fields.set_float(self, stochastic=True)
        # A sum rounded to odd in float64 must keep every random bit and one sticky bit below.
        most = 51 - self.format.mantissa_bits
        fields.random_bits(self.rounding, self.random_bits, most)

    @property
    def result(self) -> FloatFormat:
        """Format of result codes."""
        return self.format

    @property
    def initial(self) -> FloatFormat:
        """Format of the codes of the addend ``c``."""
        return self.format

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name."""
        parts = [self.kind, self.format.name]
        rounding = fields.rounding_name(self.rounding, self.random_bits)
        parts += fields.suffixes((self.rounding, Rounding.RNE, rounding))
        return "-".join(parts + fields.overflow_suffix(self.format, self.overflow))


@dataclass(frozen=True)
class Chain(_FloatStage):
    """``acc = R(acc + p_i)`` for i = 0, 1, ...: one rounding per fused multiply-add, in order.

    With ``product = "rounded"`` each product is rounded to the accumulator's format first, as a
    separate multiplier would: ``acc = R(acc + R(p_i))``.
    """

    product: ProductRounding = ProductRounding.FUSED

    kind: ClassVar[str] = "chain"

    def __post_init__(self) -> None:
        super().__post_init__()
        product = fields.choice(self.product, ProductRounding, "product")
        object.__setattr__(self, "product", product)
        if product is ProductRounding.ROUNDED:
            fields.deterministic(self.rounding, "rounding", "product = 'rounded'")

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name."""
        separate = fields.suffixes((self.product, ProductRounding.FUSED, str(self.product)))
        return "-".join([super().short_name, *separate])

    @property
    def equation(self) -> str:
        """Equation of the stage, in one line."""
        rounded = f"{self.rounding}[{self.format.name}]"
        term = "p_i" if self.product is ProductRounding.FUSED else f"{rounded}(p_i)"
        return f"acc <- {rounded}(acc + {term}), i = 0..K-1"

    def roundings(self, terms: int, quadrants: int = 1) -> int:
        """Return the number of random integers of a sum of ``terms`` terms."""
        return terms if self.rounding is Rounding.SR else 0


@dataclass(frozen=True)
class Exact(_FloatStage):
    """``R(c + sum p_i)``: the exact real sum, rounded once; independent of order."""

    kind: ClassVar[str] = "exact"

    @property
    def equation(self) -> str:
        """Equation of the stage, in one line."""
        return f"d = {self.rounding}[{self.format.name}](c + sum_i p_i)"

    def roundings(self, terms: int, quadrants: int = 1) -> int:
        """Return the number of random integers of a sum, whatever its number of terms."""
        return 1 if self.rounding is Rounding.SR else 0


#: Widest register that is saturated once at the end.
MAX_SUMMED_WIDTH = 52


class OverflowAt(StrEnum):
    """When a fixed-point accumulator overflows."""

    ADD = "add"  #: after every add
    END = "end"  #: once, after the exact sum: the register has enough guard bits


@dataclass(frozen=True)
class Fixed:
    """``acc = O(acc + R(p_i))`` on the grid 2^lsb: a fixed-point (Kulisch-style) accumulator.

    Each product is rounded onto the grid, then added. ``overflow`` (wrap or saturate) acts after
    every add, or once ``overflow_at = "end"``. With ``convert`` the final sum is rounded to that
    float format; ``c`` stays a code of the accumulator.
    """

    width: int
    lsb: int
    overflow: Overflow = Overflow.WRAP
    rounding: Rounding = Rounding.RNE
    random_bits: int = 0  #: for ``sr``: random bits per product
    overflow_at: OverflowAt = OverflowAt.ADD
    convert: FloatFormat | None = None
    convert_rounding: Rounding = Rounding.RNE

    kind: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "overflow", parse_overflow(self.overflow))
        object.__setattr__(self, "rounding", parse_rounding(self.rounding))
        fields.count(self.width, "width", 4, 64)
        if self.overflow not in (Overflow.WRAP, Overflow.SATURATE):
            raise FpsimError(
                f"overflow: {self.overflow.value!r} is not possible in a fixed-point "
                "accumulator; allowed: wrap, saturate"
            )
        fields.random_bits(self.rounding, self.random_bits)
        at = fields.choice(self.overflow_at, OverflowAt, "overflow_at")
        object.__setattr__(self, "overflow_at", at)
        rounding = parse_rounding(self.convert_rounding, "convert_rounding")
        object.__setattr__(self, "convert_rounding", rounding)
        fields.deterministic(rounding, "convert_rounding", "a conversion")
        if self.convert is not None:
            fields.float_format(self.convert, "a conversion", "convert")
        elif rounding is not Rounding.RNE:
            raise FpsimError("convert_rounding: without convert nothing is converted")
        FixedFormat(self.width, self.lsb)
        if self.sums_first and self.width > MAX_SUMMED_WIDTH:
            raise FpsimError(
                f"width: {self.width} with overflow_at = 'end' and saturation; at most "
                f"{MAX_SUMMED_WIDTH} are allowed"
            )

    @property
    def sums_first(self) -> bool:
        """Whether only the final sum is saturated; wrapping at the end is wrapping at each add."""
        return self.overflow_at is OverflowAt.END and self.overflow is Overflow.SATURATE

    @cached_property
    def initial(self) -> FixedFormat:
        """Format of the accumulator, and of the codes of the addend ``c``."""
        return FixedFormat(self.width, self.lsb)

    @property
    def result(self) -> Format:
        """Format of result codes."""
        return self.initial if self.convert is None else self.convert

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name."""
        rounding = fields.rounding_name(self.rounding, self.random_bits)
        parts = fields.suffixes(
            (self.rounding, Rounding.RNE, rounding),
            (self.overflow, Overflow.WRAP, str(self.overflow)),
            (self.overflow_at, OverflowAt.ADD, str(self.overflow_at)),
        )
        if self.convert is not None:
            parts += ["to", self.convert.name]
            suffix = (self.convert_rounding, Rounding.RNE, str(self.convert_rounding))
            parts += fields.suffixes(suffix)
        return "-".join([f"fixed{self.width}q{-self.lsb}", *parts])

    @property
    def equation(self) -> str:
        """Equation of the stage, in one line."""
        term = f"{self.rounding}(p_i / 2^{self.lsb})"
        clip = f"{self.overflow}[{self.width} bits]"
        if self.overflow_at is OverflowAt.ADD:
            text = f"acc <- {clip}(acc + {term}), i = 0..K-1"
        else:
            text = f"acc = {clip}(c + sum_i {term})"
        if self.convert is None:
            return text
        return f"{text};  d = {self.convert_rounding}[{self.convert.name}](acc * 2^{self.lsb})"

    def roundings(self, terms: int, quadrants: int = 1) -> int:
        """Return the number of random integers of a sum of ``terms`` terms."""
        return terms if self.rounding is Rounding.SR else 0
