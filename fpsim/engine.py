# SPDX-License-Identifier: Apache-2.0
"""Picks the fastest kernel that is provably exact for a unit and its operands, and says why.

Notation for the bounds: P = mantissa bits + 1 of the accumulator, q = significant bits of a
product, L = mantissa bits + 1 of the lane (11, 24 or 53); every nonzero product and every term of
an exact sum is a multiple of 2^low and below 2^high in magnitude (`Span`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats import FloatFormat, Format, NanCodes
from fpsim.kernels.vector import host_features
from fpsim.lowering import value_table
from fpsim.names import E8M0
from fpsim.operands import MatmulOperands
from fpsim.rounding import Overflow, Rounding
from fpsim.spec import MacSpec, exponents, significand_bits
from fpsim.stages import Chain, Exact, Fixed, ProductRounding

__all__ = ["Plan", "Span", "half_shift", "plan_matmul", "scaled_span"]

E8M0_BIAS = 127
E8M0_NAN = 255
#: Exponent range in which a value and a product of two stay exact, normal numbers of a lane.
F16_LOW, F16_HIGH, F16_BITS = -24, 16, 11
F32_LOW, F32_HIGH, F32_BITS = -126, 127, 24

_NEAREST = (Rounding.RNE, Rounding.RNA)


@dataclass(frozen=True)
class Span:
    """Nonzero values are multiples of 2^low and smaller than 2^high."""

    low: int
    high: int

    def __mul__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def union(self, other: Span) -> Span:
        """Return the span that holds both."""
        return Span(min(self.low, other.low), max(self.high, other.high))

    def times(self, count: int) -> Span:
        """Return the span of every partial sum of ``count`` values."""
        return replace(self, high=self.high + (count - 1).bit_length())

    @property
    def bits(self) -> int:
        """Significant bits that hold every value."""
        return self.high - self.low


@dataclass(frozen=True)
class Plan:
    """The kernel chosen for one matrix product and the reason it is exact."""

    kernel: str  #: a step of `fpsim.kernels.steps`, or ``limbs``, ``rows``
    why: str


# -- spans ---------------------------------------------------------------------------------------


def format_span(fmt: Format) -> Span:
    """Return the span of a format's finite values."""
    return Span(*exponents(fmt))


def scaled_span(fmt: Format, scale_format: Format, scale: NDArray[Any] | None) -> Span:
    """Return the span of a format's finite values times the scales in use."""
    span = format_span(fmt)
    if scale is None or not scale.size:
        return span
    if scale_format == E8M0:  # powers of two: tighter than the span of their values
        codes = scale[scale != E8M0_NAN] if scale.max() == E8M0_NAN else scale
        if not codes.size:
            return span
        low, high = int(codes.min()) - E8M0_BIAS, int(codes.max()) - E8M0_BIAS
        return Span(span.low + low, span.high + high)
    factors = _value_span(value_table(scale_format)[np.unique(scale)])
    return span if factors is None else span * factors


def operand_spans(spec: MacSpec, args: MatmulOperands) -> tuple[Span, Span]:
    """Return the spans of both operands with their scales."""
    a = scaled_span(spec.a, spec.a_scale, args.a_scale)
    return a, scaled_span(spec.b, spec.b_scale, args.b_scale)


def operand_bits(spec: MacSpec, args: MatmulOperands) -> tuple[int, int]:
    """Return how many significant bits a scaled element of each operand can have."""
    bits = []
    for name in ("a", "b"):
        scale_format = getattr(spec, f"{name}_scale")
        scaled = getattr(args, f"{name}_scale") is not None and scale_format != E8M0
        scale_bits = significand_bits(scale_format) if scaled else 0
        bits.append(significand_bits(getattr(spec, name)) + scale_bits)
    return bits[0], bits[1]


def _value_span(values: NDArray[np.float64]) -> Span | None:
    """Return the span of the finite nonzero entries of an array, None if there are none."""
    used = np.abs(values[np.isfinite(values) & (values != 0)])
    if not used.size:
        return None
    fraction, exponent = np.frexp(used)
    integers = np.ldexp(fraction, 53).astype(np.int64)
    lowest_bits = np.ldexp((integers & -integers).astype(np.float64), exponent - 53)
    return Span(int(np.frexp(lowest_bits)[1].min()) - 1, int(exponent.max()))


# -- choice --------------------------------------------------------------------------------------


def plan_matmul(spec: MacSpec, args: MatmulOperands) -> Plan:
    """Return the kernel for a matrix product and why it is exact."""
    a, b = operand_spans(spec, args)
    stage = spec.accumulate
    if isinstance(stage, Chain) and stage.product is ProductRounding.FUSED:
        return _plan_chain(stage, a, b, operand_bits(spec, args))
    length = args.a.shape[1]
    if isinstance(stage, Fixed):
        return _plan_fixed(stage, a * b, length, args)
    if isinstance(stage, Exact):
        return _plan_exact(stage, a * b, length, args)
    return Plan("rows", "64-bit integers, one dot product at a time")


def _plan_chain(stage: Chain, a: Span, b: Span, bits: tuple[int, int]) -> Plan:
    fmt = stage.format
    p = fmt.mantissa_bits + 1
    q = sum(bits)
    product = a * b
    native = stage.rounding is Rounding.RNE and stage.overflow in (Overflow.INF, Overflow.SATURATE)
    suffix = "" if stage.overflow is Overflow.INF else "-saturate"
    if native and _is_ieee(fmt, 5, 10, 15):
        narrow = max(bits) <= F16_BITS
        if "avx512fp16" in host_features() and narrow and half_shift(a, b) is not None:
            return Plan(f"half{suffix}", "float16 fused multiply-add is this unit's step")
        if "f16c" in host_features() and _fits_float32(product) and q <= p:
            return Plan(
                f"via-half{suffix}",
                f"float32 add then float16: 24 >= 2 * {p} + 2 and q = {q} <= {p}",
            )
    if (
        native
        and _is_ieee(fmt, 8, 23, 127)
        and _fits_float32(a)
        and _fits_float32(b)
        and max(bits) <= F32_BITS
    ):
        return Plan(f"float{suffix}", "float32 fused multiply-add is this unit's step")
    for width, lane in ((32, 24), (64, 53)):
        if width == 32 and not (_fits_float32(product) and _lane32_holds(stage)):
            continue
        if stage.rounding is Rounding.SR and lane < p + stage.random_bits + 1:
            continue
        name = f"lane{width}-{stage.rounding}"
        if stage.rounding in _NEAREST and q <= p and 2 * p <= lane - 1:
            return Plan(
                name,
                f"nearest with q = {q} <= P = {p} and 2P <= {lane - 1}: no harmful double rounding",
            )
        if lane >= p + 2:
            return Plan(f"{name}-sticky", f"sum rounded to odd in {lane} >= {p} + 2 bits first")
    raise AssertionError(f"no lane holds {fmt.name}")


def _plan_fixed(stage: Fixed, product: Span, length: int, args: MatmulOperands) -> Plan:
    total = product.times(length)
    integers = np.zeros(1, np.int64) if args.c is None else stage.initial.integers(args.c)
    start = max(int(integers.max()), -int(integers.min()))
    integer_bits = total.high - stage.lsb
    harmless = stage.overflow is Overflow.WRAP or (
        integer_bits < 63 and (1 << max(integer_bits, 0)) + start <= stage.initial.max_integer
    )
    if product.low >= stage.lsb and integer_bits < 63 and harmless:
        for bits, name in ((24, "float"), (53, "double")):
            if total.bits <= bits and (bits == 53 or _fits_float32(total)):
                return Plan(
                    name,
                    f"nothing is rounded or clamped; partial sums fit {total.bits} <= {bits} bits",
                )
    rounded = Span(stage.lsb, max(product.high, stage.lsb + 1)).times(length)
    wraps_in_lane = stage.overflow is Overflow.WRAP and rounded.high - stage.lsb < 52
    steppable = wraps_in_lane or (stage.overflow is Overflow.SATURATE and not stage.sums_first)
    narrow = stage.width <= 51 and product.high - stage.lsb < 1000
    if steppable and narrow and not stage.random_bits:
        return Plan(
            f"fixed64-{stage.rounding}-{stage.overflow}",
            "the grid's integers below 2^52 are exact in float64 lanes",
        )
    return Plan("rows", "64-bit integers, one dot product at a time")


def _plan_exact(stage: Exact, product: Span, length: int, args: MatmulOperands) -> Plan:
    total = product.times(length)
    if args.c is not None:
        start = stage.format.decode(args.c)
        span = _value_span(start)
        if span is not None:
            total = total.union(span).times(2)
    signed_zeros = stage.rounding is Rounding.RDN or (
        args.c is not None and bool(np.any((start == 0) & np.signbit(start)))
    )
    if not signed_zeros:
        for bits, name in ((24, "float"), (53, "double")):
            if total.bits <= bits and (bits == 53 or _fits_float32(total)):
                return Plan(name, f"partial sums fit {total.bits} <= {bits} bits, in any order")
    return Plan("limbs", f"partial sums span {total.bits} bits: summed in 32-bit limbs")


def _is_ieee(fmt: FloatFormat, exponent_bits: int, mantissa_bits: int, bias: int) -> bool:
    return fmt == FloatFormat(exponent_bits, mantissa_bits, bias, nan=NanCodes.IEEE, infinity=True)


def _inside(span: Span, low: int, high: int) -> bool:
    return span.low >= low and span.high <= high


def _fits_float32(span: Span) -> bool:
    return _inside(span, F32_LOW, F32_HIGH)


def _lane32_holds(stage: Chain) -> bool:
    """Return whether float32 holds every sum; one that overflows it is as good as infinite."""
    fmt = stage.format
    top = F32_HIGH if stage.rounding in _NEAREST else F32_HIGH - 2
    return fmt.exponent_min >= F32_LOW and fmt.exponent_max <= top


def half_shift(a: Span, b: Span) -> int | None:
    """Return s such that a * 2^s and b * 2^-s are exact in float16, or None."""
    low = max(F16_LOW - a.low, b.high - F16_HIGH)
    high = min(F16_HIGH - a.high, b.low - F16_LOW)
    return None if low > high else min(max(0, low), high)
