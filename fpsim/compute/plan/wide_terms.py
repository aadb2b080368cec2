# SPDX-License-Identifier: Apache-2.0
"""Plans for terms of more than 53 bits: lanes add several narrower ones in place of each.

A product is the sum of the products of its factors' parts. Elements of blocks are cut at powers of
two, the same for all, so that the sums of the parts are narrow; a product of two lanes, such as one
of a sum and its scales, is what the lane rounds it to and an error.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from fpsim.compute.facts import infinities, zero_scales
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.bounds import (
    TermBounds,
    element_span,
    product_bounds,
)
from fpsim.compute.plan.chains import plan_chain, start_span
from fpsim.compute.plan.exact_and_fixed import plan_slices
from fpsim.compute.plan.plan import F64_BITS, F64_RANGE, ROWS, Plan, Split
from fpsim.compute.plan.trees import converts_to_float32, plan_subtree
from fpsim.formats.rounding import Rounding
from fpsim.kernels.lanes.tiles import Source
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Block, Chain, Exact, Joins, ProductRounding, Stage, Tree

__all__ = ["by_conversion", "plan_wide", "plan_wide_blocks", "with_conversion"]

#: Parts of a term beyond which scalar code is as fast.
MAX_PARTS = 7
#: With 2 a node would be planned as a step of a chain again.
MIN_RADIX = 3


def plan_wide(spec: MacSpec, args: MatmulOperands) -> Plan:
    """Return the plan of a stage over products of more than 53 bits."""
    stage, bounds = spec.accumulate, product_bounds(args)
    if infinities(args):  # a part of the other factor may be zero
        return ROWS
    why = f"products have {sum(bounds.bits)} bits"
    if isinstance(stage, Exact):
        return ROWS if args.paired else _exact(stage, bounds, args, why)
    return _chain(stage, bounds, 1, args, why)


def plan_wide_blocks(spec: MacSpec, stage: Block, bounds: TermBounds, args: MatmulOperands) -> Plan:
    """Return the plan of a stage over scaled block sums of more than 53 bits."""
    spans = [element_span(operand) for operand in args.operands]
    carries = (stage.size - 1).bit_length()
    # The terms of one pair of signs must follow one another.
    only_b = spec.splits("b")
    split = _split((spans[0].bits, spans[1].bits), carries, 1 if only_b else MAX_PARTS)
    into = with_conversion(stage)
    if into is None or split is None or infinities(args):
        return ROWS
    # A zero scale would make zeros of both signs in place of one.
    if split.parts > 1 and (args.paired or zero_scales(args)):
        return ROWS
    split = replace(split, lows=(spans[0].low, spans[1].low))
    parts = replace(bounds, bits=(sum(split.bits) + carries, bounds.bits[1]))
    why = f"scaled block sums have {sum(bounds.bits)} bits"
    plan = _chain(into, parts, split.parts, args, why)
    if plan.step is None:
        return ROWS
    planes = [n * (1 + spec.splits(name)) for n, name in zip(split.counts, "ab", strict=True)]
    source = Source(True, stage.size, planes[0], planes[1])
    kernel = f"block{stage.size} {plan.kernel}"
    return replace(plan, kernel=kernel, source=source, split=split if split.parts > 1 else None)


def _exact(stage: Exact, bounds: TermBounds, args: MatmulOperands, why: str) -> Plan:
    """Plan exact sums of products as those of products of parts, in slices or in limbs."""
    split = _split((bounds.bits[0], bounds.bits[1]), 0, MAX_PARTS)
    assert split is not None
    why = f"{why}: {split.parts} parts each"
    parts = replace(bounds, bits=(split.bits[0], split.bits[1]))
    plan = plan_slices(stage, parts, args.length * split.parts, args)
    plan = plan or Plan("limbs", "summed in 32-bit limbs")
    return replace(plan, why=f"{why}; {plan.why}", split=split)


def _chain(stage: Stage, terms: TermBounds, parts: int, args: MatmulOperands, why: str) -> Plan:
    """Plan a chain whose terms are sums of parts."""
    if not isinstance(stage, Chain):
        return ROWS
    if stage.rounding is not Rounding.SR:
        plan = plan_node_chain(stage, terms, parts, args.c)
    elif parts == 1:  # truncated as one multiply-add, however wide the product
        plan = plan_chain(stage, terms, args.length, args.c)
    else:
        return ROWS
    if parts > 1:
        why = f"{why}: {parts} parts each"
    return replace(plan, why=f"{why}; {plan.why}") if plan.step is not None else ROWS


def plan_node_chain(stage: Chain, terms: TermBounds, parts: int, start: Any) -> Plan:
    """Return the plan of a chain whose steps are trees of one node, over the parts of a term."""
    rounded = stage.product is ProductRounding.ROUNDED
    joins = Joins.ROOT if rounded else Joins.FUSED
    radix = max(parts, MIN_RADIX)
    tree = Tree(stage.format, stage.rounding, stage.overflow, parts, radix=radix, addend=joins)
    if max(abs(terms.span.low), abs(terms.span.high)) > F64_RANGE:
        return ROWS
    plan = plan_subtree(tree, terms, parts, str(joins), *start_span(stage.format, start))
    return replace(plan, stage=tree) if plan.step is not None else ROWS


def by_conversion(plan: Plan, stage: Stage, terms: TermBounds, start: Any) -> Plan:
    """Return a faster plan of sums that float64 lanes round to float32, or the plan as it is."""
    slow = plan.kernel.startswith(("lane64", "separate-lane64"))
    if not slow or not isinstance(stage, Chain) or not converts_to_float32(stage):
        return plan
    found = plan_node_chain(stage, terms, 1, start)
    return found if found.step is not None and "wide-float" in found.kernel else plan


def with_conversion(stage: Block) -> Stage | None:
    """Return the stage that adds block sums, which it rounds as it rounds products, or None."""
    into = stage.into
    if stage.convert is None:
        return into
    same = (stage.convert, stage.convert_rounding, stage.convert.default_overflow)
    if isinstance(into, Chain) and same == (into.format, into.rounding, into.overflow):
        return replace(into, product=ProductRounding.ROUNDED)
    return None


def _split(factors: tuple[int, int], carries: int, most: int) -> Split | None:
    """Return how to cut two factors of so many bits into the fewest parts that fit, or None.

    The first has at most ``most`` parts.
    """
    pairs = [(m, n) for m in range(1, most + 1) for n in range(1, MAX_PARTS // m + 1)]
    for counts in sorted(pairs, key=prod):
        bits = (-(-factors[0] // counts[0]), -(-factors[1] // counts[1]))
        if sum(bits) + carries <= F64_BITS:
            return Split(counts, bits)
    return None
