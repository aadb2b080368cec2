# SPDX-License-Identifier: Apache-2.0
"""Plans for stages that round once per term: chains, and the nodes of trees."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.plan.bounds import Span, TermBounds, format_span, value_span
from fpsim.compute.plan.plan import (
    F16_BITS,
    F16_HIGH,
    F16_LOW,
    F16_NORMAL,
    F32_BITS,
    F32_HIGH,
    F32_LOW,
    F64_BITS,
    F64_RANGE,
    ROWS,
    Plan,
    fits_float32,
    half_shift,
    inside,
    is_ieee,
)
from fpsim.formats.floating import FloatFormat, Subnormals
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.lanes.steps import Step, step_named
from fpsim.kernels.lanes.steps_tree import separate_step
from fpsim.kernels.lanes.vector import host_features
from fpsim.units.stages import Block, Chain, ProductRounding, Stage, Tree

__all__ = ["plan_adds", "plan_chain", "plan_node", "start_span", "with_seed"]

BYTE = 8

_NEAREST = (Rounding.RNE, Rounding.RNA)
_DIRECTED = (Rounding.RTZ, Rounding.RUP, Rounding.RDN)


def plan_chain(
    stage: Chain, terms: TermBounds, count: int, start: NDArray[Any] | None, halves: bool = True
) -> Plan:
    """Return the plan of a chain of ``count`` terms that starts at codes (None: +0).

    Without ``halves`` no lane is float16.
    """
    if stage.product is ProductRounding.FUSED:
        random = stage.rounding is Rounding.SR
        plan = (
            _plan_masked_random(stage, terms, count, start)
            if random
            else _plan_magic(stage, terms, start)
        )
        return plan or plan_adds(stage, terms, halves)
    node = _plan_separate(stage, terms) or plan_node(stage, terms)
    if node is None:
        return ROWS
    assert isinstance(node.step, Step)
    step = separate_step(node.step, stage.rounding is Rounding.RDN)
    return Plan.lane(step, f"products rounded first; {node.why}")


def _plan_separate(stage: Chain, terms: TermBounds) -> Plan | None:
    """Return the plan of a step that rounds products which float32 holds, then adds them, or None.

    It rounds once whatever is exact in the lane before; what it adds are values of the format.
    """
    if sum(terms.bits) > F32_BITS or not fits_float32(terms.span):
        return None
    rounded = TermBounds(terms.span, Span(0, 0), (stage.format.mantissa_bits + 1, 0))
    plan = plan_adds(replace(stage, product=ProductRounding.FUSED), rounded, halves=False)
    in_range = fits_float32(terms.a) and fits_float32(terms.b)
    rounds = plan.kernel.startswith(("masked32", "shifted32", "via-half"))
    return plan if in_range and rounds else None


def plan_node(stage: Chain | Tree, terms: TermBounds) -> Plan | None:
    """Return the plan of a lane step that adds terms and accumulators to each other, or None."""
    fmt = stage.format
    chain = Chain(fmt, stage.rounding, stage.overflow)
    q = sum(terms.bits)
    plan = plan_adds(chain, terms, halves=False)
    # A float32 lane holds a float32 accumulator as it is; a first product must be exact there too.
    if plan.kernel in ("float", "float-saturate", "float-flush"):
        return plan if q <= F32_BITS and fits_float32(terms.span) else None
    # Any other lane must hold a term that is a product, or an accumulator times one.
    own = format_span(fmt)
    bits = (max(q, fmt.mantissa_bits + 1), 0)
    widest = TermBounds(terms.span.union(own), Span(0, 0), bits)
    plan = plan_adds(chain, widest, halves=False)
    return plan if plan.step is not None else None


def start_span(fmt: FloatFormat, start: NDArray[Any] | None) -> tuple[Span, bool]:
    """Return a span of the finite initial values, and whether one is -0, infinite or NaN."""
    nothing = Span(0, 0)
    if start is None:
        return nothing, False
    values = fmt.decode(start)
    special = not np.isfinite(values).all() or np.any((values == 0) & np.signbit(values))
    return value_span(values) or nothing, bool(special)


def _plan_magic(stage: Chain, terms: TermBounds, start: NDArray[Any] | None) -> Plan | None:
    """Return the plan of a format with float32's exponents that meets none of their ends, or None.

    An accumulator beyond 2^(P + 1) times the largest product is left as it is by any product.
    """
    fmt, mode = stage.format, stage.rounding
    p, q = fmt.mantissa_bits + 1, sum(terms.bits)
    nearest = mode is Rounding.RNE and q <= p and 2 * p <= F32_BITS - 1
    twice = p <= F32_BITS - 2 and "avx512f" in host_features()
    odd = mode is Rounding.RNE and twice and not nearest
    truncates = mode is Rounding.RTZ and twice
    holds = fits_float32(terms.a) and fits_float32(terms.b) and max(terms.bits) <= F32_BITS
    if not (nearest or odd or truncates) or not holds or not terms.finite or p < 2:
        return None
    first, special = start_span(fmt, start)
    if special or not is_ieee(fmt, 8, fmt.mantissa_bits, 127):
        return None
    sums = replace(terms.span, high=terms.span.high + p + 1).union(first)
    if not fits_float32(replace(sums, high=sums.high + 2 + F32_BITS - p)):
        return None
    why = (
        f"|sums| < 2^{sums.high + 1} are normal float32 numbers, as is what rounds them to P = {p}"
    )
    why += " bits, to odd first" if odd else " bits"
    return Plan.lane(step_named(f"magic32-{mode}{'-odd' * odd}"), why)


def plan_adds(stage: Chain, terms: TermBounds, halves: bool = True) -> Plan:
    """Return the plan of adding terms to an accumulator, each sum rounded."""
    fmt = stage.format
    p = fmt.mantissa_bits + 1
    q = sum(terms.bits)
    product = terms.span
    native = stage.rounding is Rounding.RNE and stage.overflow in (Overflow.INF, Overflow.SATURATE)
    suffix = "" if stage.overflow is Overflow.INF else "-saturate"
    plan = _plan_by_half(stage, terms) if halves else None
    if plan is not None:
        return plan
    converts = "f16c" in host_features() and fits_float32(product) and q <= p
    if native and is_ieee(fmt, 5, 10, 15) and converts:
        step = step_named(f"via-half{suffix}")
        why = f"float32 add then float16: 24 >= 2 * {p} + 2 and q = {q} <= {p}"
        return Plan.lane(step, why)
    in_float32 = fits_float32(terms.a) and fits_float32(terms.b) and max(terms.bits) <= F32_BITS
    flushing = replace(fmt, subnormals=Subnormals.GRADUAL)
    if native and in_float32 and is_ieee(flushing, 8, 23, 127):
        if fmt == flushing:
            step = step_named(f"float{suffix}")
            return Plan.lane(step, "float32 fused multiply-add is this unit's step")
        if stage.overflow is Overflow.INF:
            why = "float32 fused multiply-add, its subnormals flushed, is this unit's step"
            return Plan.lane(step_named("float-flush"), why)
    if in_float32 and fits_float32(product):
        plan = _plan_by_lane(stage, q)
        if plan is not None:
            return plan
    for width, lane in ((32, F32_BITS), (64, F64_BITS)):
        if width == 32 and not (in_float32 and fits_float32(product) and lane32_holds(stage)):
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


def _plan_by_half(stage: Chain, terms: TermBounds) -> Plan | None:
    """Return a plan that lets float16 lanes do the rounding, or None."""
    fmt, mode = stage.format, stage.rounding
    p, q = fmt.mantissa_bits + 1, sum(terms.bits)
    if max(terms.bits) > F16_BITS or half_shift(terms.a, terms.b) is None:
        return None
    if "avx512fp16" not in host_features():
        return None
    if is_ieee(fmt, 5, 10, 15):
        why = "float16 fused multiply-add is this unit's step"
        if mode is Rounding.RNE and stage.overflow in (Overflow.INF, Overflow.SATURATE):
            suffix = "" if stage.overflow is Overflow.INF else "-saturate"
            return Plan.lane(step_named(f"half{suffix}"), why)
        if mode in _DIRECTED and stage.overflow is Overflow.INF:
            return Plan.lane(step_named(f"half-{mode}"), f"{why}, in its direction")
    once = mode is Rounding.RNE and q <= p and 2 * p <= F16_BITS - 1 and fmt.mantissa_bits > 0
    top = fmt.exponent_max + F16_BITS - p
    # Sums below the normal float16 numbers are exact.
    if not once or terms.span.low < F16_LOW or fmt.exponent_min < F16_NORMAL or top >= F16_HIGH:
        return None
    why = f"nearest with q = {q} <= P = {p} and 2P <= {F16_BITS - 1}: no harmful double rounding"
    return Plan.lane(step_named(f"shifted16-rne{_suffix(stage)}"), why)


def _suffix(stage: Chain) -> str:
    flush = stage.format.subnormals is Subnormals.FLUSH
    return "-flush" * flush + "-saturate" * (stage.overflow is Overflow.SATURATE)


def _plan_by_lane(stage: Chain, q: int) -> Plan | None:
    """Return a plan that lets float32 lanes do the rounding, or None."""
    fmt, mode = stage.format, stage.rounding
    p = fmt.mantissa_bits + 1
    saturate = "-saturate" * (stage.overflow is Overflow.SATURATE)
    whole = "float32 fused multiply-add in the unit's direction"
    directed = mode in _DIRECTED and "avx512f" in host_features()
    if directed and is_ieee(fmt, 8, 23, 127) and stage.overflow is Overflow.INF:
        return Plan.lane(step_named(f"float-{mode}"), f"{whole} is this unit's step")
    once = mode is Rounding.RNE and q <= p and 2 * p <= F32_BITS - 1
    why = f"nearest with q = {q} <= P = {p} and 2P <= {F32_BITS - 1}: no harmful double rounding"
    if once and is_ieee(fmt, 8, fmt.mantissa_bits, 127):
        return Plan.lane(step_named(f"masked32{saturate}"), why)
    top = fmt.exponent_max + F32_BITS + 1 - p
    # The last place of a format without mantissa bits is its exponent's, whose parity M ignores.
    # And 1.5 * 2^e * 2^(24 - P) + s must stay in its binade with s up to 2^(e + 1).
    reachable = lane32_holds(stage) and top < F32_HIGH and 1 < p <= F32_BITS - 2
    if once and reachable:
        return Plan.lane(step_named(f"shifted32-rne{_suffix(stage)}"), why)
    if directed and reachable:
        step = step_named(f"shifted32-{mode}{_suffix(stage)}")
        return Plan.lane(step, f"{whole}, then again to P = {p} bits: rounding once")
    if mode is Rounding.RNE and 1 < p <= F32_BITS - 2 and "avx512f" in host_features():
        why = f"sum rounded to odd in {F32_BITS} >= {p} + 2 bits first"
        if is_ieee(fmt, 8, fmt.mantissa_bits, 127):
            return Plan.lane(step_named(f"masked32-odd{saturate}"), why)
        if reachable:
            return Plan.lane(step_named(f"shifted32-rne-odd{_suffix(stage)}"), why)
    return None


def _plan_masked_random(
    stage: Chain, terms: TermBounds, count: int, start: NDArray[Any] | None
) -> Plan | None:
    """Return a plan that adds random bits to those of lanes, or None."""
    fmt, p = stage.format, stage.format.mantissa_bits + 1
    # The last place of a format without mantissa bits is its exponent's.
    if fmt.mantissa_bits == 0 or "avx512f" not in host_features():
        return None
    first = np.zeros(1) if start is None else fmt.decode(start)
    last = fmt.exponent_min - fmt.mantissa_bits
    normal = terms.span.low >= last and fmt.subnormals is not Subnormals.FLUSH
    below = normal and _stays_inside(stage, terms, count, first)
    bits = p + stage.random_bits
    if normal:
        bits = min(bits, _sum_bits(fmt, terms, first))
    in_float32 = bits <= F32_BITS and _random_in_float32(terms, fmt)
    if in_float32 and (below or lane32_holds(stage)):
        width = 32
    elif max(bits, *terms.bits) <= F64_BITS and _in_float64(terms):
        width = 64
    else:
        return None
    why = f"float{width} truncates, random bits are added, and P = {p} bits are kept"
    if not normal:
        return Plan.lane(step_named(f"masked{width}-sr{_suffix(stage)}"), why)
    why = f"{why}; sums are multiples of 2^{last}, so small ones are exact"
    if not below:
        return Plan.lane(step_named(f"masked{width}-sr-normal{_suffix(stage)}"), why)
    why = f"{why}; {count} terms stay below {fmt.max_value:g}"
    return Plan.lane(step_named(f"masked{width}-sr-normal-inside"), why)


def _random_in_float32(terms: TermBounds, fmt: FloatFormat) -> bool:
    """Return whether factors and sums are normal float32 numbers, and the format's smallest one."""
    spans = (terms.a, terms.b, terms.span)
    fits = all(fits_float32(span) for span in spans) and max(terms.bits) <= F32_BITS
    return fits and fmt.exponent_min >= F32_LOW


def _in_float64(terms: TermBounds) -> bool:
    """Return whether factors and products are far from the ends of float64."""
    spans = (terms.a, terms.b, terms.span)
    return all(inside(span, -F64_RANGE, F64_RANGE) for span in spans)


def _stays_inside(stage: Chain, terms: TermBounds, count: int, first: NDArray[np.float64]) -> bool:
    """Return whether no sum is beyond the largest number, whichever way it was rounded.

    With |t| <= T and u = 2^-m, |s_k| <= (|s_(k-1)| + T) (1 + u): a geometric series.
    """
    fmt = stage.format
    unit = 2.0**-fmt.mantissa_bits
    growth = math.exp(min(count * math.log1p(unit), 100.0))
    bound = np.abs(first).max() * growth + terms.largest * (1 + unit) * (growth - 1) / unit
    return terms.finite and bool(bound * (1 + 1e-9) <= fmt.max_value)


def _sum_bits(fmt: FloatFormat, terms: TermBounds, first: NDArray[np.float64]) -> int:
    """Return how many bits hold any accumulator plus a term, exactly."""
    start = value_span(first) or terms.span
    largest = max(fmt.exponent_max + 1, terms.span.high, start.high) + 1
    return largest - min(terms.span.low, start.low)


def with_seed(plan: Plan, stage: Stage, width: int) -> Plan:
    """Return the plan of a step that makes its random integers of a seed, of integers so wide."""
    assert plan.step is not None
    stage = stage.into if isinstance(stage, Block) else stage
    masked = plan.step.name.startswith("masked32")
    by_bytes = masked and isinstance(stage, Chain) and _adds_bytes(stage) and width == BYTE
    suffix = "-seeded-bytes" if by_bytes else "-seeded"
    step = step_named(f"{plan.step.name}{suffix}")
    return replace(plan, kernel=f"{plan.kernel}{suffix}", step=step)


def _adds_bytes(stage: Chain) -> bool:
    """Return whether a dot instruction adds the random integers: bytes times a byte 2^n, n < 7."""
    below = F32_BITS - 1 - stage.format.mantissa_bits - BYTE
    return stage.random_bits == BYTE and 0 <= below < BYTE - 1 and "avx512vnni" in host_features()


def lane32_holds(stage: Chain) -> bool:
    """Return whether float32 holds every sum; one that overflows it is as good as infinite."""
    fmt = stage.format
    top = F32_HIGH if stage.rounding in _NEAREST else F32_HIGH - 2
    return fmt.exponent_min >= F32_LOW and fmt.exponent_max <= top
