# SPDX-License-Identifier: Apache-2.0
"""Steps of fixed-point registers, ``acc + R(p / 2^lsb)``, wrapped or clamped after each step.

Accumulators are integers of the grid: float64 numbers below 2^52, or 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsim.compute.bounds import F64_BITS, F64_RANGE, INT64_BITS, Bounds, Span, exact_lane
from fpsim.compute.lanes.steps.step import Numbers, Step
from fpsim.compute.lanes.steps.sums import plain_sums
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.llvm.exact_add import round_integer
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.tiles import TermSource
from fpsim.kernels.llvm.vector import Lane, Vec
from fpsim.units.stages import Fixed

__all__ = ["ClampedSum", "GridSum", "fixed_steps"]


def fixed_steps(stage: Fixed) -> Iterator[Step]:
    """Yield the steps of a fixed-point register, fastest first."""
    yield from plain_sums(stage)
    yield ClampedSum(stage, Lane.F32)
    yield GridSum(stage, Lane.F64, False)
    yield GridSum(stage, Lane.F64, True)


def _wraps(stage: Fixed) -> bool:
    """Return whether too large sums are left alone until the end."""
    return stage.overflow is Overflow.WRAP or stage.sums_first


def _rounded_bits(stage: Fixed, bounds: Bounds) -> int:
    """Return the bits that hold a sum of products rounded onto the grid."""
    high = max(bounds.span.high, stage.lsb + 1)
    return Span(stage.lsb, high).times(bounds.count).bits


@dataclass(frozen=True)
class ClampedSum(Step):
    """Products on the grid, added to a value of the register and clamped: the lane holds sums."""

    kind = "clamped"
    cells = (4, 4)

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why float32 holds sums before clamping."""
        stage = self.stage
        if _wraps(stage) or stage.width > 51 or bounds.span.low < stage.lsb:
            return None
        sums = Span(stage.lsb, stage.lsb + stage.width - 1).union(bounds.span).times(2)
        if exact_lane(bounds, sums, machine) is not self.lane:
            return None
        return f"sums before clamping fit {sums.bits} bits of float32"

    def parameters(self) -> Numbers:
        """Return the least and the largest value of the register."""
        ends = {"low_value": self.stage.initial.min_integer}
        ends["high_value"] = self.stage.initial.max_integer
        return {name: float(np.ldexp(float(end), self.stage.lsb)) for name, end in ends.items()}, {}

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write a multiply-add and two comparisons.

        Args:
            acc: accumulators as values of the register, one in each lane.
            source: the term.
            p: the register's range, in every lane.
            random: not used; products of the grid are not rounded.

        Returns:
            The accumulators after the term, clamped to the range.
        """
        a, b = source.pair(0)
        total = a.intrinsic("fma", b, acc)
        total = (total > p.reals["high_value"]).where(p.reals["high_value"], total)
        return (p.reals["low_value"] > total).where(p.reals["low_value"], total)

    def finishes_for(self, bounds: Bounds) -> bool:
        """Return whether accumulators are values of the result: true without a conversion."""
        return self.stage.convert is None


@dataclass(frozen=True)
class GridSum(Step):
    """Products rounded onto the grid and added, as float64 or (with ``bits``) 64-bit integers."""

    bits: bool

    @property
    def kind(self) -> str:  # type: ignore[override]
        """First word of the printed name."""
        return "integer" if self.bits else "fixed"

    @property
    def random(self) -> bool:
        """Whether rounding is stochastic."""
        return self.stage.rounding is Rounding.SR

    @property
    def random_place(self) -> int:
        """0: random integers are numbers, not bits below the format's last place."""
        return 0

    @property
    def cells(self) -> tuple[int, int]:  # type: ignore[override]
        """Fewer accumulators if random integers take registers too."""
        return (2, 2) if self.random or self.bits else (4, 4)

    @property
    def flags(self) -> tuple[Any, ...]:
        """The rounding mode, and whether too large sums wrap, wait for the end, or saturate."""
        return self.stage.rounding, "wrap" if _wraps(self.stage) else "saturate"

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why float64 holds rounded products, and the accumulator their sums.

        A product beyond 2^62 units clamps a register of 51 bits just as 2^62 does.
        """
        stage, product = self.stage, bounds.span
        if sum(bounds.bits) > F64_BITS or (not _wraps(stage) and stage.width > 51):
            return None
        if self.bits:
            inside = max(abs(product.low), abs(product.high)) + abs(stage.lsb) <= F64_RANGE
            if not inside or (stage.sums_first and _rounded_bits(stage, bounds) > INT64_BITS):
                return None
            how = "modulo 2^64" if _wraps(stage) else "clamped"
            return f"float64 holds what is added; sums are 64-bit integers, {how}"
        most = F64_BITS - 1 - stage.random_bits if stage.random_bits else 1000
        small = not _wraps(stage) or _rounded_bits(stage, bounds) < 52
        if not small or stage.width > 51 or product.high - stage.lsb >= most:
            return None
        return "the grid's integers below 2^52 are exact in float64 lanes"

    def parameters(self) -> Numbers:
        """Return 2^-lsb, the range in units of it, and 2^n and its inverse of n random bits."""
        stage = self.stage
        low, high = stage.initial.min_integer, stage.initial.max_integer
        reals = {
            "per_lsb": float(np.ldexp(1.0, -stage.lsb)),
            "unit": float(np.ldexp(1.0, stage.lsb)),
            "low": float(low),
            "high": float(high),
            "modulus": float(np.ldexp(1.0, stage.width)),
            "per_modulus": float(np.ldexp(1.0, -stage.width)),
            "random_places": float(np.ldexp(1.0, stage.random_bits)),
            "per_random_place": float(np.ldexp(1.0, -stage.random_bits)),
        }
        return reals, {"least": low, "most": high}

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write a rounded product, its sum with the accumulator, and a clamp where sums saturate.

        Args:
            acc: accumulators in units of 2^lsb, one in each lane: float64 numbers, or with ``bits``
                64-bit integers.
            source: the term.
            p: unit and range of the register, in every lane.
            random: integers as numbers, for stochastic rounding; else None.

        Returns:
            The accumulators after the term, clamped or left to wrap at the end.
        """
        a, b = source.pair(0)
        x = a * b * p.reals["per_lsb"]
        if self.random:
            integer = self._random_integer(x, random, p)
        else:
            integer = round_integer(x, str(self.stage.rounding))
        if _wraps(self.stage):
            if self.bits:
                return (acc.as_bits + _modulo(integer).truncated).as_real
            return acc + integer
        if not self.bits:
            return _clamped(acc + integer, p.reals["low"], p.reals["high"])
        large = integer.lanes.constant(2.0**62, False)
        integer = _clamped(integer, integer.lanes.constant(-(2.0**62), False), large)
        total = acc.as_bits.saturating_add(integer.truncated)
        return _clamped(total, p.integers["least"], p.integers["most"]).as_real

    def _random_integer(self, x: Vec, random: Vec, p: Parameters) -> Vec:
        """Write |x| + r 2^-bits, truncated; if that is too long, for the fraction of |x| alone.

        Random integers below the last place of the fraction never carry.
        """
        rest = magnitude = x.magnitude_bits.as_real
        if self.bits:
            rest = magnitude - magnitude.intrinsic("trunc")
        places = (rest * p.reals["random_places"]).intrinsic("trunc")
        carry = ((places + random.unsigned_reals) * p.reals["per_random_place"]).intrinsic("trunc")
        integer = magnitude.intrinsic("trunc") + carry if self.bits else carry
        return integer.intrinsic("copysign", x)

    def finishes_for(self, bounds: Bounds) -> bool:
        """Return whether `finish` gives values of the result: true for float64, unconverted."""
        return not self.bits and self.stage.convert is None

    @property
    def finish_key(self) -> tuple[Any, ...]:
        """Overflow policy, and whether sums are clamped only at the end."""
        return self.stage.overflow, self.stage.sums_first

    def finish(self, acc: Vec, p: Parameters) -> Vec:
        """Write the values of integers, wrapped or clamped now if the step did not do so."""
        if self.stage.sums_first:
            acc = _clamped(acc, p.reals["low"], p.reals["high"])
        elif _wraps(self.stage):
            turns = ((acc - p.reals["low"]) * p.reals["per_modulus"]).intrinsic("floor")
            acc = acc - turns * p.reals["modulus"]
        return acc * p.reals["unit"]


def _clamped(x: Vec, low: Vec, high: Vec) -> Vec:
    x = (x > high).where(high, x)
    return (x < low).where(low, x)


def _modulo(integer: Vec) -> Vec:
    """Return integers modulo 2^64, from -2^63 to 2^63 - 1, by exact operations."""
    turns = (integer * 2.0**-64).intrinsic("roundeven")
    rest = integer - turns * 2.0**64
    return (rest >= 2.0**63).where(rest - 2.0**64, rest)
