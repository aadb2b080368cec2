# SPDX-License-Identifier: Apache-2.0
"""Steps of exact sums: exact stages, and registers that hold every partial sum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fpsim.compute.bounds import (
    F32_BITS,
    F32_HIGH,
    F32_LOW,
    F64_BITS,
    F64_RANGE,
    Bounds,
    Span,
    exact_lane,
)
from fpsim.compute.lanes.steps.step import Numbers, Step, float_parameters
from fpsim.formats.rounding import Overflow
from fpsim.kernels.llvm.exact_add import Sum, round_sum
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.tiles import TermSource
from fpsim.kernels.llvm.vector import Lane, Vec
from fpsim.units.stages import Exact, Fixed

__all__ = ["PlainSum", "Slice", "plain_sums", "slices_of", "with_error"]


def plain_sums(stage: Exact | Fixed) -> Iterator[Step]:
    """Yield sums in the lanes' own arithmetic, the narrower lane first."""
    yield PlainSum(stage, Lane.F32)
    yield PlainSum(stage, Lane.F64)


@dataclass(frozen=True)
class PlainSum(Step):
    """The lane's multiply-adds, all exact; for a register in units of its values."""

    cells = (4, 4)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why the lane holds every partial sum."""
        total = bounds.span.times(bounds.count)
        if isinstance(self.stage, Fixed):
            if not self._register_holds(bounds, total):
                return None
        elif bounds.start.span is not None:
            total = total.union(bounds.start.span).times(2)
        if exact_lane(bounds, total, machine) is not self.lane:
            return None
        held = f"partial sums fit {total.bits} bits of {self.lane}"
        if isinstance(self.stage, Exact):
            return f"{held}, in any order"
        if self.stage.sums_first:
            return f"{held} before they are clamped"
        return f"nothing is rounded or clamped; {held}"

    def _register_holds(self, bounds: Bounds, total: Span) -> bool:
        """Return whether no product is rounded, and no sum clamped before the end."""
        stage, bits = self.stage, total.high - self.stage.lsb
        if bounds.span.low < stage.lsb or bits >= 63:
            return False
        most = (1 << max(bits, 0)) + bounds.start.largest_integer
        at_the_end = stage.overflow is Overflow.WRAP or stage.sums_first
        return bool(at_the_end or most <= stage.initial.max_integer)

    def parameters(self) -> Numbers:
        """Return limits and shifts that round an exact sum at the end; nothing for a register."""
        if isinstance(self.stage, Fixed):
            return {}, {}
        return float_parameters(self.stage, self.lane)

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write a multiply-add.

        Args:
            acc: accumulators, one in each lane.
            source: the term.
            p: not used; the stage's numbers serve `finish` only.
            random: not used; sums are exact.

        Returns:
            The exact sums, one in each lane.
        """
        a, b = source.pair(0)
        return a.intrinsic("fma", b, acc)

    @property
    def _keeps(self) -> bool:
        """Whether the lane's sums are values of the result without rounding."""
        fmt = self.stage.result
        if isinstance(self.stage, Fixed):
            return True
        return bool(self.lane is Lane.F32 and fmt.mantissa_bits >= F32_BITS - 1)

    @property
    def finish_key(self) -> tuple[Any, ...]:
        """The stage's rounding, or ``kept`` if accumulators are results without rounding."""
        return ("kept",) if self._keeps else (self.stage.rounding,)

    def finish(self, acc: Vec, p: Parameters) -> Vec:
        """Write the one rounding of an exact sum."""
        return acc if self._keeps else round_sum(Sum.exact(acc), str(self.stage.rounding), p)

    def finishes_for(self, bounds: Bounds) -> bool:
        """Return whether `finish` gives chunk results: the lane holds sums, none is clamped."""
        stage = self.stage
        if isinstance(stage, Exact):
            fmt = stage.format
            if self.lane is Lane.F64:
                return fmt.mantissa_bits + 3 <= F64_BITS
            widest = fmt.exponent_min <= F32_LOW and fmt.exponent_max >= F32_HIGH
            return fmt.exponent_min >= F32_LOW and (widest or not self._keeps)
        bits = bounds.span.times(bounds.count).high - stage.lsb
        return stage.convert is None and 1 << max(bits, 0) <= stage.initial.max_integer


@dataclass(frozen=True)
class Slice(Step):
    """The part of every product between 2^s and 2^(s + w), as an integer: its sums are exact.

    With R_s(x) the multiple of 2^s nearest x, the slices R_s - R_(s+w) of all levels add up to x.
    One kernel runs once per slice. With ``wide`` a product is its rounded value and the error.
    """

    wide: bool
    last: int = 0  #: s
    width: int = 1  #: w

    kind = "slice"
    cells = (4, 2)

    @property
    def flags(self) -> tuple[Any, ...]:
        """``wide`` if a product is two numbers: the lane's rounded product and its error."""
        return ("wide" * self.wide,)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why float64 holds every term, its slices, and their sums."""
        inside = max(abs(bounds.span.low), abs(bounds.span.high)) <= F64_RANGE // 2
        held = max(bounds.bits) if self.wide else sum(bounds.bits)
        if not inside or held > F64_BITS or not bounds.finite:
            return None
        count = len(slices_of(bounds, self.wide))
        what = "products and their errors" if self.wide else "terms"
        return f"{what} are cut into {count} slices whose sums are exact in float64"

    def parameters(self) -> Numbers:
        """Return 2^-s, and 2^w with its inverse."""
        powers = {"per_last": -self.last, "slice": self.width, "per_slice": -self.width}
        return {name: math.ldexp(1.0, power) for name, power in powers.items()}, {}

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write the addition of one slice of the term.

        Args:
            acc: sums of slices in units of 2^s, one in each lane.
            source: the term.
            p: 2^-s, 2^w and its inverse, in every lane.
            random: not used; slices of a sum are exact.

        Returns:
            The sums after the term.
        """
        x, y = source.pair(0)
        for part in with_error(x, y) if self.wide else [x * y]:
            units = part * p.reals["per_last"]
            above = (units * p.reals["per_slice"]).intrinsic("roundeven")
            acc = acc + (units.intrinsic("roundeven") - above * p.reals["slice"])
        return acc


def slices_of(bounds: Bounds, wide: bool) -> list[tuple[int, int]]:
    """Return (s, w) of slices whose sums over all terms are integers of float64.

    The slice of a product is a multiple of 2^s of at most 2^(w - 1) + 1 units.
    """
    width = F64_BITS - 1 - (bounds.count << wide).bit_length()
    return [(low, width) for low in range(bounds.span.low, bounds.span.high + 1, width)]


def with_error(x: Vec, y: Vec) -> list[Vec]:
    """Return a finite product, rounded by the lane, and its exact rounding error.

    Both are zeros of one sign if the product is zero.
    """
    product = x * y
    error = x.intrinsic("fma", y, x.lanes.constant(-0.0, False) - product)
    return [product, product.equals(0.0).where(product, error)]
