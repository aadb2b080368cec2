# SPDX-License-Identifier: Apache-2.0
"""What a plan is, and the ranges of the lanes that plans are about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

from fpsim.compute.plan.bounds import Span
from fpsim.formats.floating import FloatFormat, NanCodes
from fpsim.kernels.lanes.steps import GroupStep
from fpsim.kernels.lanes.tiles import MAX_UNROLLED, PRODUCTS, AnyStep, Source
from fpsim.units.stages import Tree

__all__ = [
    "MAX_UNROLLED",
    "ROWS",
    "Plan",
    "Split",
    "fits_float32",
    "float_shift",
    "half_shift",
    "inside",
    "is_ieee",
]

#: Exponent range in which a value and a product of two stay exact, normal numbers of a lane.
F16_LOW, F16_HIGH, F16_BITS = -24, 16, 11
F16_NORMAL = -14
F32_LOW, F32_HIGH, F32_BITS = -126, 127, 24
#: The same without "normal": what a float32 operand can be.
F32_LEAST, F32_MOST = -149, 128
F64_BITS = 53
#: Magnitude bits of sums in 64-bit integers, one to spare.
INT64_BITS = 62
#: Exponents whose float64 sums neither overflow nor lose what is below the normal numbers.
F64_RANGE = 960
#: Exponents of aligned terms in float32 lanes: 2^(F - E) and its inverse must be normal too.
ALIGNED32_LOW, ALIGNED32_HIGH = -90, 90


@dataclass(frozen=True)
class Split:
    """How both operands of wide terms are cut: into how many parts, of how many bits each.

    A term is the sum of the products of all pairs of parts, those of ``b`` counting fastest.
    """

    counts: tuple[int, int]
    bits: tuple[int, int]
    #: Elements of blocks are cut at 2^(low + i * bits), scaled ones in their significands.
    lows: tuple[int, int] | None = None

    @property
    def parts(self) -> int:
        """Parts of a term."""
        return prod(self.counts)


@dataclass(frozen=True)
class Plan:
    """The kernel chosen for one matrix product and the reason it is exact.

    ``kernel`` names a lane step (after ``block`` and a size, of scaled sums of so many products,
    after ``bytes``, in integers of a byte), or ``limbs`` (a Kulisch accumulator), ``block limbs``
    (the same for block sums that lanes made), ``slices`` and ``block slices`` (lanes sum the parts
    of all products or block sums that lie between two powers of two), ``rows`` (scalar code),
    ``chunks`` (a product per chunk, then the outer stage), ``lanes`` (a product per lane, then the
    tree) or ``subtrees`` (a product per subtree, then the tree).
    """

    kernel: str
    why: str
    step: AnyStep | None = field(default=None, compare=False, repr=False)
    source: Source = field(default=PRODUCTS, repr=False)
    #: Parameters of the step that depend on the operands.
    constants: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)
    #: Whether results of zero are computed again as scalar code, for the sign.
    redo_zeros: bool = False
    #: Whether lanes take NaN and infinite elements for zeros; their results are scalar code.
    redo_infinite: bool = False
    #: Whether block sums are left out: see `fpsim.compute.plan.choose.without_blocks`.
    flat: bool = False
    #: How terms too wide for a lane are cut.
    split: Split | None = None
    #: What the step adds up as, if that is not the unit's own stage.
    stage: Tree | None = field(default=None, compare=False, repr=False)

    @property
    def aligns(self) -> bool:
        """Whether the lane step reads the terms' powers of two."""
        return isinstance(self.step, GroupStep) and self.step.powers

    @classmethod
    def lane(cls, step: AnyStep, why: str, constants: Mapping[str, float] | None = None) -> Plan:
        """Return the plan of a lane step."""
        return cls(step.name, why, step, constants=constants or {})


ROWS = Plan("rows", "64-bit integers, one dot product at a time")


@lru_cache(maxsize=256)
def is_ieee(fmt: FloatFormat, exponent_bits: int, mantissa_bits: int, bias: int) -> bool:
    """Return whether a format is the IEEE 754 format of these fields."""
    return fmt == FloatFormat(exponent_bits, mantissa_bits, bias, nan=NanCodes.IEEE, infinity=True)


def inside(span: Span, low: int, high: int) -> bool:
    """Return whether a span lies between 2^low and 2^high."""
    return span.low >= low and span.high <= high


def fits_float32(span: Span) -> bool:
    """Return whether values of a span are normal float32 numbers (given few enough bits)."""
    return inside(span, F32_LOW, F32_HIGH)


def half_shift(a: Span, b: Span) -> int | None:
    """Return s such that a * 2^s and b * 2^-s are exact in float16, or None."""
    return _shift(a, b, F16_LOW, F16_HIGH)


def float_shift(a: Span, b: Span) -> int | None:
    """Return the same for float32: 0 where both are already, else what undoes opposite scales."""
    return _shift(a, b, F32_LEAST, F32_MOST)


def _shift(a: Span, b: Span, lowest: int, highest: int) -> int | None:
    low = max(lowest - a.low, b.high - highest)
    high = min(highest - a.high, b.low - lowest)
    return None if low > high else min(max(0, low), high)
