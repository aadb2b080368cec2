# SPDX-License-Identifier: Apache-2.0
"""Picks the fastest kernel that is provably exact for a unit and its operands, and says why.

Notation for the bounds: P = mantissa bits + 1 of the accumulator, q = significant bits of a term,
L = mantissa bits + 1 of the lane (11, 24 or 53); every nonzero term and every partial exact sum is
a multiple of 2^low and below 2^high in magnitude (`fpsim.spans.Span`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats import FloatFormat, NanCodes, Subnormals
from fpsim.kernels.group_steps import (
    LANES,
    aligned_step,
    joined_step,
    separate_step,
    tree_step,
)
from fpsim.kernels.steps import step_named
from fpsim.kernels.tiles import PRODUCTS, AnyStep, Source, turn
from fpsim.kernels.vector import host_features
from fpsim.operands import MatmulOperands
from fpsim.rounding import Overflow, Rounding
from fpsim.spans import Span, TermBounds, block_bounds, format_span, product_bounds, value_span
from fpsim.spec import MacSpec
from fpsim.stages import (
    Addend,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Joins,
    ProductRounding,
    Stage,
    Tree,
)

__all__ = ["MAX_UNROLLED", "Plan", "float_shift", "half_shift", "plan_matmul", "plan_terms"]

#: Exponent range in which a value and a product of two stay exact, normal numbers of a lane.
F16_LOW, F16_HIGH, F16_BITS = -24, 16, 11
F32_LOW, F32_HIGH, F32_BITS = -126, 127, 24
#: The same without "normal": what a float32 operand can be.
F32_LEAST, F32_MOST = -149, 128
F64_BITS = 53
#: Exponents of aligned terms in float32 lanes: 2^(F - E) and its inverse must be normal too.
ALIGNED32_LOW, ALIGNED32_HIGH = -90, 90
#: Terms whose code is unrolled at most.
MAX_UNROLLED = 64

_NEAREST = (Rounding.RNE, Rounding.RNA)


@dataclass(frozen=True)
class Plan:
    """The kernel chosen for one matrix product and the reason it is exact.

    ``kernel`` names a lane step, or ``limbs`` (a Kulisch accumulator), ``rows`` (scalar code),
    ``chunks`` (a product per chunk, then the outer stage), ``lanes`` (a product per lane, then the
    tree) or ``subtrees`` (a product per subtree, then the tree).
    """

    kernel: str
    why: str
    step: AnyStep | None = field(default=None, compare=False, repr=False)
    source: Source = field(default=PRODUCTS, repr=False)

    @classmethod
    def lane(cls, step: AnyStep, why: str) -> Plan:
        """Return the plan of a lane step."""
        return cls(step.name, why, step)


ROWS = Plan("rows", "64-bit integers, one dot product at a time")


def plan_matmul(spec: MacSpec, args: MatmulOperands) -> Plan:
    """Return the kernel for a matrix product and why it is exact."""
    stage = spec.accumulate
    length = args.a.shape[1]
    if isinstance(stage, Chunked):
        return _plan_chunks(spec, stage, args)
    if isinstance(stage, Tree) and stage.lanes > 1:
        return _plan_tree_lanes(spec, stage, args)
    if isinstance(stage, Tree) and stage.products is None and length > MAX_UNROLLED:
        return _plan_subtrees(spec, stage, args)
    if isinstance(stage, Block):
        return _plan_block(spec, stage, args)
    return plan_terms(stage, product_bounds(spec, args), length, args.c)


def plan_terms(
    stage: Stage, terms: TermBounds, count: int, start: NDArray[Any] | None = None
) -> Plan:
    """Return the kernel that adds ``count`` terms to the codes ``start`` (None: +0)."""
    if isinstance(stage, Chain):
        return _plan_chain(stage, terms)
    if isinstance(stage, Fixed):
        return _plan_fixed(stage, terms, count, start)
    if isinstance(stage, Exact):
        return _plan_exact(stage, terms, count, start)
    if isinstance(stage, Aligned):
        return _plan_aligned(stage, terms, start)
    if isinstance(stage, Tree):
        return _plan_tree(stage, terms, count)
    return ROWS


# -- one rounding per term -----------------------------------------------------------------------


def _plan_chain(stage: Chain, terms: TermBounds) -> Plan:
    if stage.product is ProductRounding.FUSED:
        return _plan_adds(stage, terms)
    node = _plan_node(stage, terms)
    if node is None or stage.rounding is Rounding.RDN:
        return ROWS
    return Plan.lane(separate_step(node.step), f"products rounded first; {node.why}")


def _plan_node(stage: Chain | Tree, terms: TermBounds) -> Plan | None:
    """Return the plan of a lane step that adds terms and accumulators to each other, or None."""
    fmt = stage.format
    chain = Chain(fmt, stage.rounding, stage.overflow)
    q = sum(terms.bits)
    plan = _plan_adds(chain, terms, halves=False)
    # A float32 lane holds a float32 accumulator as it is; a first product must be exact there too.
    if plan.kernel in ("float", "float-saturate", "float-flush"):
        return plan if q <= F32_BITS and _fits_float32(terms.span) else None
    # Any other lane must hold a term that is a product, or an accumulator times one.
    own = format_span(fmt)
    bits = (max(q, fmt.mantissa_bits + 1), 0)
    widest = TermBounds(terms.span.union(own), Span(0, 0), bits)
    plan = _plan_adds(chain, widest, halves=False)
    return plan if plan.step is not None else None


def _plan_adds(stage: Chain, terms: TermBounds, halves: bool = True) -> Plan:
    fmt = stage.format
    p = fmt.mantissa_bits + 1
    q = sum(terms.bits)
    product = terms.span
    native = stage.rounding is Rounding.RNE and stage.overflow in (Overflow.INF, Overflow.SATURATE)
    suffix = "" if stage.overflow is Overflow.INF else "-saturate"
    if native and _is_ieee(fmt, 5, 10, 15):
        narrow = max(terms.bits) <= F16_BITS and half_shift(terms.a, terms.b) is not None
        if halves and "avx512fp16" in host_features() and narrow:
            step = step_named(f"half{suffix}")
            return Plan.lane(step, "float16 fused multiply-add is this unit's step")
        if "f16c" in host_features() and _fits_float32(product) and q <= p:
            step = step_named(f"via-half{suffix}")
            why = f"float32 add then float16: 24 >= 2 * {p} + 2 and q = {q} <= {p}"
            return Plan.lane(step, why)
    in_float32 = _fits_float32(terms.a) and _fits_float32(terms.b) and max(terms.bits) <= F32_BITS
    flushing = replace(fmt, subnormals=Subnormals.GRADUAL)
    if native and in_float32 and _is_ieee(flushing, 8, 23, 127):
        if fmt == flushing:
            step = step_named(f"float{suffix}")
            return Plan.lane(step, "float32 fused multiply-add is this unit's step")
        if stage.overflow is Overflow.INF:
            why = "float32 fused multiply-add, its subnormals flushed, is this unit's step"
            return Plan.lane(step_named("float-flush"), why)
    if in_float32 and _fits_float32(product):
        plan = _plan_by_lane(stage, q)
        if plan is not None:
            return plan
    for width, lane in ((32, F32_BITS), (64, F64_BITS)):
        if width == 32 and not (in_float32 and _fits_float32(product) and _lane32_holds(stage)):
            continue
        if stage.rounding is Rounding.SR and lane < p + stage.random_bits + 1:
            continue
        name = f"lane{width}-{stage.rounding}"
        if stage.rounding in _NEAREST and q <= p and 2 * p <= lane - 1:
            return Plan.lane(
                step_named(name),
                f"nearest with q = {q} <= P = {p} and 2P <= {lane - 1}: no harmful double rounding",
            )
        if lane >= p + 2 and q <= lane:
            why = f"sum rounded to odd in {lane} >= {p} + 2 bits first"
            return Plan.lane(step_named(f"{name}-sticky"), why)
    return ROWS


def _plan_by_lane(stage: Chain, q: int) -> Plan | None:
    """Return a plan that lets float32 lanes do the rounding, or None."""
    fmt, mode = stage.format, stage.rounding
    p = fmt.mantissa_bits + 1
    saturate = stage.overflow is Overflow.SATURATE
    suffix = "-saturate" * saturate
    flush = "-flush" * (fmt.subnormals is Subnormals.FLUSH)
    whole = "float32 fused multiply-add in the unit's direction"
    directed = mode in (Rounding.RTZ, Rounding.RUP, Rounding.RDN) and "avx512f" in host_features()
    if directed and _is_ieee(fmt, 8, 23, 127) and stage.overflow is Overflow.INF:
        return Plan.lane(step_named(f"float-{mode}"), f"{whole} is this unit's step")
    once = mode is Rounding.RNE and q <= p and 2 * p <= F32_BITS - 1
    why = f"nearest with q = {q} <= P = {p} and 2P <= {F32_BITS - 1}: no harmful double rounding"
    if once and _is_ieee(fmt, 8, fmt.mantissa_bits, 127):
        return Plan.lane(step_named(f"masked32{suffix}"), why)
    top = fmt.exponent_max + F32_BITS + 1 - p
    # The last place of a format without mantissa bits is its exponent's, whose parity M ignores.
    reachable = _lane32_holds(stage) and top < F32_HIGH and fmt.mantissa_bits > 0
    if once and reachable:
        return Plan.lane(step_named(f"shifted32-rne{flush}{suffix}"), why)
    if directed and reachable:
        step = step_named(f"shifted32-{mode}{flush}{suffix}")
        return Plan.lane(step, f"{whole}, then again to P = {p} bits: rounding once")
    return None


# -- exact sums ----------------------------------------------------------------------------------


def _plan_fixed(stage: Fixed, terms: TermBounds, length: int, start: Any) -> Plan:
    product = terms.span
    total = product.times(length)
    integers = np.zeros(1, np.int64) if start is None else stage.initial.integers(start)
    first = max(int(integers.max()), -int(integers.min()))
    integer_bits = total.high - stage.lsb
    harmless = stage.overflow is Overflow.WRAP or (
        integer_bits < 63 and (1 << max(integer_bits, 0)) + first <= stage.initial.max_integer
    )
    if product.low >= stage.lsb and integer_bits < 63 and harmless:
        plain = _plain_sum(terms, total)
        if plain is not None:
            why = f"nothing is rounded or clamped; partial sums fit {total.bits} bits of {plain}"
            return Plan.lane(step_named(plain), why)
    rounded = Span(stage.lsb, max(product.high, stage.lsb + 1)).times(length)
    wraps_in_lane = stage.overflow is Overflow.WRAP and rounded.high - stage.lsb < 52
    steppable = wraps_in_lane or (stage.overflow is Overflow.SATURATE and not stage.sums_first)
    narrow = stage.width <= 51 and product.high - stage.lsb < 1000 and sum(terms.bits) <= F64_BITS
    if steppable and narrow and not stage.random_bits:
        step = step_named(f"fixed64-{stage.rounding}-{stage.overflow}")
        return Plan.lane(step, "the grid's integers below 2^52 are exact in float64 lanes")
    return ROWS


def _plan_exact(stage: Exact, terms: TermBounds, length: int, start: Any) -> Plan:
    total = terms.span.times(length)
    first = None if start is None else stage.format.decode(start)
    if first is not None:
        span = value_span(first)
        if span is not None:
            total = total.union(span).times(2)
    signed_zeros = stage.rounding is Rounding.RDN or (
        first is not None and bool(np.any((first == 0) & np.signbit(first)))
    )
    plain = None if signed_zeros else _plain_sum(terms, total)
    if plain is not None:
        why = f"partial sums fit {total.bits} bits of {plain}, in any order"
        return Plan.lane(step_named(plain), why)
    return Plan("limbs", f"partial sums span {total.bits} bits: summed in 32-bit limbs")


def _plain_sum(terms: TermBounds, total: Span) -> str | None:
    """Return the lane whose own adds are exact, or None."""
    if (
        total.bits <= F32_BITS
        and _fits_float32(total)
        and float_shift(terms.a, terms.b) is not None
    ):
        return "float"
    return "double" if total.bits <= F64_BITS else None


# -- windows and trees ---------------------------------------------------------------------------


def _plan_aligned(stage: Aligned, terms: TermBounds, start: Any) -> Plan:
    late = stage.addend is Addend.LATE
    limited = stage.product_limit is not None and terms.span.high > stage.product_limit
    if stage.signed_zero or stage.products > MAX_UNROLLED or sum(terms.bits) > F64_BITS:
        return ROWS
    if stage.addend is Addend.JOINED:
        return _plan_joined(stage, terms, limited)
    if limited or (late and stage.format != stage.container):
        return ROWS
    bits = stage.fraction_bits + terms.headroom + (stage.products + 1).bit_length()
    if stage.width is not None:
        bits = max(bits, stage.width)
    for width, lane in ((32, F32_BITS), (64, F64_BITS)):
        if bits > lane or (width == 32 and not _aligned_in_float32(stage, terms, start)):
            continue
        step = aligned_step(
            LANES[width],
            stage.products,
            str(stage.align),
            str(stage.rounding),
            str(stage.late_rounding) if late else None,
            None if stage.width is None else str(stage.width_overflow),
            stage.normalised,
        )
        return Plan.lane(step, f"the window's {bits} <= {lane} bits are exact integers of a lane")
    return ROWS


def _plan_joined(stage: Aligned, terms: TermBounds, limited: bool) -> Plan:
    """Plan a window joined with c in a second one, whose two grids must fit a lane together."""
    grown = terms.headroom + (stage.products + 1).bit_length()
    finest = max(stage.fraction_bits, stage.join_sum_bits, stage.join_addend_bits)
    bits = finest + grown + 1
    if stage.width is not None or stage.normalised or bits > F64_BITS:
        return ROWS
    modes = (str(stage.align), str(stage.join_rounding), str(stage.rounding))
    reach = stage.join_reach is not None
    step = joined_step(stage.products, stage.lanes, *modes, reach, limited)
    return Plan.lane(step, f"both windows' {bits} <= {F64_BITS} bits are exact in a lane")


def _aligned_in_float32(stage: Aligned, terms: TermBounds, start: Any) -> bool:
    """Return whether every term, window and sum is a normal float32 or zero."""
    span = terms.span
    lowest = span.low - stage.fraction_bits
    if start is not None:
        first = value_span(stage.result.decode(start))
        if first is not None:
            lowest = min(lowest, first.low - stage.fraction_bits)
            span = span.union(first)
    floor = stage.exponent_floor
    return (
        max(terms.bits) <= F32_BITS
        and sum(terms.bits) <= F32_BITS
        and lowest >= ALIGNED32_LOW
        and span.high + stage.fraction_bits <= ALIGNED32_HIGH
        and float_shift(terms.a, terms.b) is not None
        and (floor is None or floor <= ALIGNED32_HIGH)
        and stage.format.exponent_min >= F32_LOW
        and stage.format.mantissa_bits + 1 < F32_BITS
        and stage.addend is Addend.EARLY
    )


def _plan_tree(stage: Tree, terms: TermBounds, count: int) -> Plan:
    size = count if stage.products is None else stage.products
    leaves = size + (stage.addend is Joins.LEAF)
    separate = stage.product is ProductRounding.ROUNDED
    lone = stage.rounding is Rounding.RDN and (separate or leaves & (leaves - 1) or leaves < 2)
    single = stage.lanes == 1 and stage.radix == 2 and stage.addend is not Joins.FUSED
    if not single or lone or size > MAX_UNROLLED:
        return ROWS
    node = _plan_node(stage, terms)
    if node is None or node.step is None or node.step.random:
        return ROWS
    step = tree_step(node.step, size, str(stage.addend), separate)
    return Plan.lane(step, f"every node: {node.why}")


# -- stages made of stages -----------------------------------------------------------------------


def _plan_block(spec: MacSpec, stage: Block, args: MatmulOperands) -> Plan:
    bounds = block_bounds(spec, stage, args)
    count = spec.block_terms(args.a.shape[1])
    into = stage.into
    if stage.convert is not None:
        same = (stage.convert, stage.convert_rounding, stage.convert.default_overflow)
        if not isinstance(into, Chain) or same != (into.format, into.rounding, into.overflow):
            return ROWS
        into = replace(into, product=ProductRounding.ROUNDED)
    plan = plan_terms(into, bounds, count, args.c)
    source = Source(True, stage.size, 1 + spec.splits("a"), 1 + spec.splits("b"))
    if plan.step is None or plan.step.random:
        return ROWS
    wide = str(plan.step.real) == "double"
    sums_fit = max(bounds.bits) <= (F64_BITS if wide else F32_BITS)
    whole = wide or float_shift(bounds.a, bounds.b) == 0
    if not sums_fit or not whole or turn(plan.step, source) > MAX_UNROLLED * stage.size:
        return ROWS
    why = f"block sums have {bounds.bits[0]} bits and their scales {bounds.bits[1]}; {plan.why}"
    return replace(plan, kernel=f"block{stage.size} {plan.kernel}", why=why, source=source)


def _plan_chunks(spec: MacSpec, stage: Chunked, args: MatmulOperands) -> Plan:
    size = stage.chunk(args.a.shape[1])
    inner = plan_matmul(replace(spec, accumulate=stage.inner), args.cut(0, size))
    count = -(-args.a.shape[1] // size)
    outer = plan_terms(stage.outer, TermBounds.of_format(stage.inner.result), count, args.c)
    why = f"chunks of {size}: {inner.kernel} ({inner.why}); promoted: {outer.kernel} ({outer.why})"
    return Plan("chunks", why)


def _plan_tree_lanes(spec: MacSpec, stage: Tree, args: MatmulOperands) -> Plan:
    if stage.addend is not Joins.ROOT:
        return ROWS
    chain = Chain(stage.format, stage.rounding, stage.overflow, product=stage.product)
    inner = plan_matmul(replace(spec, accumulate=chain), args.cut(0, args.a.shape[1]))
    return Plan("lanes", f"every lane: {inner.kernel} ({inner.why})")


def _plan_subtrees(spec: MacSpec, stage: Tree, args: MatmulOperands) -> Plan:
    """Plan a large tree as subtrees of a power of two of leaves, then a tree of their results."""
    inner = plan_terms(stage, product_bounds(spec, args), MAX_UNROLLED)
    if stage.addend is not Joins.ROOT or stage.rounding is Rounding.RDN or inner.step is None:
        return ROWS
    return Plan("subtrees", f"of {MAX_UNROLLED} leaves: {inner.kernel} ({inner.why})")


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
    return _shift(a, b, F16_LOW, F16_HIGH)


def float_shift(a: Span, b: Span) -> int | None:
    """Return the same for float32: 0 where both are already, else what undoes opposite scales."""
    return _shift(a, b, F32_LEAST, F32_MOST)


def _shift(a: Span, b: Span, lowest: int, highest: int) -> int | None:
    low = max(lowest - a.low, b.high - highest)
    high = min(highest - a.high, b.low - lowest)
    return None if low > high else min(max(0, low), high)
