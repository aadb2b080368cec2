# SPDX-License-Identifier: Apache-2.0
"""Stages made of stages: chunked sums and block dot products.

Inside, a stage adds *terms*. The outermost stage adds products; a `Chunked` stage passes on the
results of its chunks, a `Block` stage its scaled block sums. Stages nest to any depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.rounding import Rounding, parse_rounding
from fpsim.units.stages import fields
from fpsim.units.stages.aligned import Aligned
from fpsim.units.stages.fields import Stage
from fpsim.units.stages.simple import Chain, Exact, Fixed
from fpsim.units.stages.tree import Tree

__all__ = ["MAX_CHUNK", "Block", "Chunked", "NanScale", "block_in", "first_sum"]

#: Stages that add one term after another.
_SUMS = (Chain, Exact, Fixed, Aligned, Tree)
#: Most terms of a chunk, and most parts.
MAX_CHUNK = 1 << 20


@dataclass(frozen=True)
class Chunked:
    """``inner`` over chunks of the terms, each from +0; ``outer`` adds the chunks and ``c``.

    Chunks have ``size`` terms, or there are ``parts`` chunks (split-K: ceil(T / parts) of T terms
    each, rounded up to whole blocks); the last chunk may be shorter. Terms are products, scaled
    block sums (one per quadrant where scales differ by sign), or results of inner chunks. An outer
    chain is a serial promotion, as in DeepSeek-V3 (a float32 add every 128 products); an outer tree
    is a pairwise split-K.

    Either stage may be chunked too. A chunked ``inner`` cuts every chunk into smaller chunks, the
    last of which may be shorter; a chunked ``outer`` cuts the row of chunk results.

    Stochastic roundings take the random integers of a dot product in order: all roundings of
    ``inner``, chunk after chunk, then the roundings of ``outer``.

    Raises:
        FpsimError: ``size`` and ``parts`` both given or both missing, or an ``inner`` or ``outer``
            that cannot add terms.
    """

    inner: Stage
    outer: Stage
    size: int | None = None
    parts: int | None = None

    kind: ClassVar[str] = "chunked"

    def __post_init__(self) -> None:
        if (self.size is None) == (self.parts is None):
            raise FpsimError("size: give either size or parts")
        for name in ("size", "parts"):
            if getattr(self, name) is not None:
                fields.count(getattr(self, name), name, 1, MAX_CHUNK)
        fields.stage(self.inner, "inner", (*_SUMS, Block, Chunked), "a chunk can have")
        _adds_terms(self.outer, "outer", "adds chunks")
        if self.size is not None and self.size % self._step:
            raise FpsimError(f"size: {self.size} is not a multiple of the block of {self._step}")

    @property
    def _step(self) -> int:
        block = block_in(self.inner)
        return 1 if block is None else block.size

    def chunk(self, terms: int) -> int:
        """Return the number of terms in a chunk of ``terms`` terms; of products, whole blocks."""
        if self.size is not None:
            return self.size
        assert self.parts is not None
        return -(-terms // (self.parts * self._step)) * self._step

    @property
    def result(self) -> Format:
        """Format of result codes."""
        return self.outer.result

    @property
    def initial(self) -> Format:
        """Format of the codes of the addend ``c``."""
        return self.outer.initial

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name."""
        head = f"chunked{self.size}" if self.parts is None else f"split{self.parts}"
        return f"{head}-of-{self.inner.short_name}-into-{self.outer.short_name}"

    @property
    def equation(self) -> str:
        """Equation of the stage, in one line."""
        head = (
            f"per {self.size} products"
            if self.parts is None
            else f"for each of {self.parts} parts of K"
        )
        return (
            f"{head}, from 0: [{self.inner.equation}];  over the results: [{self.outer.equation}]"
        )

    def roundings(self, terms: int, quadrants: int = 1) -> int:
        """Return the number of random integers of a sum: all chunks' plus ``outer``'s."""
        whole, rest = divmod(terms, self.chunk(terms))
        inside = whole * self.inner.roundings(self.chunk(terms), quadrants)
        if rest:
            inside += self.inner.roundings(rest, quadrants)
        return inside + self.outer.roundings(whole + (rest > 0))


def block_in(stage: Stage) -> Block | None:
    """Return the stage that sums blocks of products, if a stage has one."""
    found: Any = stage
    while isinstance(found, Chunked):
        found = found.inner
    return found if isinstance(found, Block) else None


def first_sum(stage: Stage) -> Stage:
    """Return the stage that adds products or scaled block sums, inside all others."""
    while isinstance(stage, Block | Chunked):
        stage = stage.into if isinstance(stage, Block) else stage.inner
    return stage


def _adds_terms(stage: Stage, field: str, does: str) -> None:
    """Check that a stage adds terms; a `Block` stage takes products and their scales instead."""
    fields.stage(stage, field, (*_SUMS, Chunked), does)
    if block_in(stage) is not None:
        raise FpsimError(
            f"{field}: a block stage sums products, and nothing that {does} has any; allowed is a "
            "block as a unit's first stage, chunked or not"
        )


class NanScale(StrEnum):
    """Effect of a NaN scale on its block."""

    NAN = "nan"  #: the block's term is NaN (OCP MX v1.0, section 5.1)
    ZERO = "zero"  #: the block is dropped


@dataclass(frozen=True)
class Block:
    """Exact sums of ``size`` products without their scales; scaled, they are ``into``'s terms.

    Scales apply early: ``into`` gets the exact ``s_g * sa_g * sb_g`` and rounds once. With
    ``convert`` they apply late: the scaled sum is rounded to that format before ``into`` adds it.
    Its exponent for an `Aligned` stage is e(sa_g) + e(sb_g): the size of s_g does not count, nor
    does it have to be nonzero. Where a unit's scales differ by sign (`MacSpec.sign_split`) there is
    a sum per combination of signs, in the order ++, +-, -+, --. ``into`` may be chunked: it cuts
    the row of scaled sums.

    Raises:
        FpsimError: an ``into`` that cannot add block sums, or a size or format out of range.
    """

    size: int
    into: Stage
    convert: FloatFormat | None = None
    convert_rounding: Rounding = Rounding.RNE
    nan_scale: NanScale = NanScale.NAN

    kind: ClassVar[str] = "block"

    def __post_init__(self) -> None:
        fields.count(self.size, "size", 1, 1 << 16)
        _adds_terms(self.into, "into", "adds block sums")
        rounding = parse_rounding(self.convert_rounding, "convert_rounding")
        object.__setattr__(self, "convert_rounding", rounding)
        fields.deterministic(rounding, "convert_rounding", "a conversion")
        if self.convert is not None:
            fields.float_format(self.convert, "a conversion", "convert")
        elif rounding is not Rounding.RNE:
            raise FpsimError("convert_rounding: without convert nothing is converted")
        object.__setattr__(self, "nan_scale", fields.choice(self.nan_scale, NanScale, "nan_scale"))

    @property
    def result(self) -> Format:
        """Format of result codes."""
        return self.into.result

    @property
    def initial(self) -> Format:
        """Format of the codes of the addend ``c``."""
        return self.into.initial

    @property
    def short_name(self) -> str:
        """Part of the unit's canonical name."""
        parts = [f"block{self.size}"]
        if self.convert is not None:
            parts += ["to", self.convert.name]
            suffix = (self.convert_rounding, Rounding.RNE, str(self.convert_rounding))
            parts += fields.suffixes(suffix)
        parts += fields.suffixes((self.nan_scale, NanScale.NAN, f"nan{self.nan_scale}"))
        return "-".join([*parts, "into", self.into.short_name])

    @property
    def equation(self) -> str:
        """Equation of the stage, in one line."""
        term = "s_g sa_g sb_g"
        if self.convert is not None:
            term = f"{self.convert_rounding}[{self.convert.name}]({term})"
        return f"s_g = sum of {self.size} unscaled p_i, p_g = {term}:  [{self.into.equation}]"

    def roundings(self, terms: int, quadrants: int = 1) -> int:
        """Return the number of random integers that a sum of ``terms`` products takes."""
        return self.into.roundings(-(-terms // self.size) * quadrants)
