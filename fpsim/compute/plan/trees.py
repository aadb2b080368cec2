# SPDX-License-Identifier: Apache-2.0
"""Plans for trees: whole steps in lanes, or lanes and subtrees with products of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from fpsim.compute.plan.bounds import Span, TermBounds
from fpsim.compute.plan.chains import plan_adds, plan_node, start_span
from fpsim.compute.plan.plan import (
    F32_BITS,
    F32_HIGH,
    F32_LEAST,
    F64_BITS,
    F64_RANGE,
    MAX_UNROLLED,
    ROWS,
    Plan,
    fits_float32,
    float_shift,
    is_ieee,
)
from fpsim.formats.floating import FloatFormat, Subnormals
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.lanes.nodes import (
    Node,
    binary_node,
    exact_node,
    lane_node,
    sliced_node,
    wide_node,
)
from fpsim.kernels.lanes.steps import Step
from fpsim.kernels.lanes.steps_tree import tree_step
from fpsim.kernels.lanes.vector import host_features
from fpsim.units.stages import Chain, Joins, ProductRounding, Tree

__all__ = [
    "NO_ADDEND",
    "converts_to_float32",
    "plan_subtree",
    "plan_subtrees",
    "plan_tree",
    "subtree_leaves",
    "with_addend",
]

#: Children of a node whose exact sum is grown as an expansion: n (n - 1) / 2 two-term sums.
MAX_EXPANSION = 16
#: Cuts that make slices of children: their sums are added as an expansion.
MAX_SLICES = 12
#: How a subtree ends.
NO_ADDEND = "none"


@dataclass(frozen=True)
class _Found:
    """A way to compute nodes, and why."""

    node: Node
    why: str
    free: int = 1
    wide: bool = False  #: whether a product is two children: as the lane rounds it, and the error
    constants: Mapping[str, float] = field(default_factory=dict)


def plan_tree(
    stage: Tree, terms: TermBounds, count: int, start: NDArray[Any] | None = None
) -> Plan:
    """Return the plan of a tree over ``count`` terms, or steps of its own number of them."""
    size = count if stage.products is None else stage.products
    return plan_subtree(stage, terms, size, str(stage.addend), *start_span(stage.format, start))


def plan_subtree(
    stage: Tree,
    terms: TermBounds,
    size: int,
    joins: str = NO_ADDEND,
    first: Span | None = None,
    special: bool = False,
) -> Plan:
    """Return the plan of a tree over ``size`` terms, with its own way of joining an addend.

    ``first`` is the span of finite initial addends, if it is known; ``special`` says that one is
    -0, infinite or NaN.
    """
    if size > MAX_UNROLLED:
        return ROWS
    found = (
        _plain(stage, terms, size, joins)
        or _binary(stage, terms, joins)
        or _cut(stage, terms, size, first, special)
        or _sliced(stage, terms, size, few=True)
        or _exact(stage, terms, size, joins)
        or _sliced(stage, terms, size)
    )
    if found is None:
        return ROWS
    separate = stage.product is ProductRounding.ROUNDED
    radix = stage.radix * (1 + found.wide)
    step = tree_step(found.node, size, joins, separate, radix, stage.lanes, found.free, found.wide)
    return Plan.lane(step, f"every node: {found.why}", found.constants)


def plan_subtrees(stage: Tree, terms: TermBounds) -> Plan:
    """Return the plan of a tree of more leaves than are unrolled: subtrees, then their tree."""
    leaves = subtree_leaves(stage)
    inner = plan_subtree(stage, terms, leaves)
    results = plan_subtree(stage, TermBounds.of_format(stage.format), leaves, str(Joins.FUSED))
    if inner.step is None or results.step is None:
        return ROWS
    return Plan("subtrees", f"of {leaves} leaves: {inner.kernel} ({inner.why})")


def with_addend(stage: Tree, terms: TermBounds) -> TermBounds:
    """Return the bounds of terms among which the addend is where it is a leaf."""
    if stage.addend is not Joins.LEAF:
        return terms
    own = TermBounds.of_format(stage.format)
    bits = (max(sum(terms.bits), *own.bits), 0)
    return TermBounds(terms.span.union(own.span), Span(0, 0), bits, terms.headroom)


def subtree_leaves(stage: Tree) -> int:
    """Return the leaves of the largest complete subtree whose code is unrolled."""
    leaves = stage.radix
    while leaves * stage.radix <= MAX_UNROLLED:
        leaves *= stage.radix
    return leaves


def _plain(stage: Tree, terms: TermBounds, size: int, joins: str) -> _Found | None:
    """Return nodes over sums that a lane holds exactly, whatever their order, or None.

    A rounded sum is a multiple of 2^low too, unless it overflows, and not beyond 2^high unless all
    are zeros or the smallest value of the format.
    """
    total = terms.span.times(size)
    if total.high > stage.format.exponent_max:
        total = replace(total, low=min(total.low, _last_place(stage.format)))
    inside = max(abs(total.low), abs(total.high)) <= F64_RANGE
    large = _saturates_infinities(stage, terms)
    if stage.lanes > 1 or large or not inside or total.bits > F64_BITS:
        return None
    free = 1
    fused = stage.product is ProductRounding.FUSED
    if fused and joins != Joins.LEAF and terms.finite and stage.rounding is not Rounding.RDN:
        free = _free_leaves(stage, terms.span, size)
    binary = stage.radix == 2 and joins != Joins.FUSED
    if binary and free == 1:
        return None  # one multiply-add per node is as good
    lane = _lane_node(stage, terms, total)
    if lane is None and binary:
        return None
    node = lane or _wide_node(stage)
    name = "float64" if lane is None else "float32"
    why = f"products add up in {total.bits} bits of {name}"
    return _Found(node, f"{why}, {free} of them without any rounding" if free > 1 else why, free)


def _last_place(fmt: FloatFormat) -> int:
    """Return the exponent of the last place of the largest value."""
    return fmt.exponent_max - fmt.mantissa_bits


def _saturates_infinities(stage: Tree, terms: TermBounds) -> bool:
    """Return whether an infinite term becomes the largest value, far above the finite terms."""
    return stage.overflow is Overflow.SATURATE and not terms.finite


def _free_leaves(stage: Tree, span: Span, size: int) -> int:
    """Return how many neighbours make the largest subtrees that round nothing: 1 if none do."""
    free = 1
    while free < size and _represents(stage.format, span.times(min(free * stage.radix, size))):
        free *= stage.radix
    return min(free, size)


def _represents(fmt: FloatFormat, span: Span) -> bool:
    """Return whether every multiple of 2^low below 2^high is a value of a format."""
    gradual = fmt.subnormals is not Subnormals.FLUSH
    least = fmt.exponent_min - fmt.mantissa_bits * gradual
    largest = math.ldexp(1.0, span.high) - math.ldexp(1.0, span.low)
    return span.bits <= fmt.mantissa_bits + 1 and span.low >= least and largest <= fmt.max_value


def _lane_node(stage: Tree, terms: TermBounds, total: Span) -> Node | None:
    """Return the node that float32 lanes compute, or None."""
    holds = total.bits <= F32_BITS and fits_float32(total) and max(terms.bits) <= F32_BITS
    if not holds or float_shift(terms.a, terms.b) is None or stage.rounding is Rounding.RDN:
        return None
    chain = Chain(stage.format, stage.rounding, stage.overflow)
    one = Span(0, 0)
    # A sum that the lane holds is rounded once, whatever its bits.
    closed = plan_adds(chain, TermBounds(total, one, (1, 0)), halves=False).step
    joining = plan_adds(chain, TermBounds(total, one, (total.bits, 0)), halves=False).step
    if not isinstance(closed, Step) or not isinstance(joining, Step):
        return None
    if {str(closed.real), str(joining.real)} != {"float"}:
        return None
    return lane_node(closed, joining)


def _wide_node(stage: Tree, split: bool = False, special: bool = False) -> Node:
    """Return the node that float64 lanes compute."""
    directed = "avx512f" in host_features()
    return wide_node(str(stage.rounding), converts_to_float32(stage), directed, split, special)


def converts_to_float32(stage: Chain | Tree) -> bool:
    """Return whether results are float32 numbers, rounded as conversions do."""
    nearest = stage.rounding is Rounding.RNE and stage.overflow is Overflow.INF
    return nearest and is_ieee(stage.format, 8, 23, 127)


def _cut(
    stage: Tree, terms: TermBounds, size: int, first: Span | None, special: bool
) -> _Found | None:
    """Return nodes over products cut in two, or None.

    Of n products, multiples of 2^low below 2^high, the parts below 2^c add up below
    n * 2^(c - 1), those above to multiples of 2^c, and to less than half the magic number. Zeros
    lose their sign, which only an addend of -0 shows; an addend beyond P + 1 bits above the sum of
    products stays as it is. Where an addend is -0, infinite or NaN (``special``), the node looks.
    """
    low, high, carries = terms.span.low, terms.span.high, (size - 1).bit_length()
    fused = stage.product is ProductRounding.FUSED and stage.lanes == 1
    cut = low + F64_BITS - carries
    whole = terms.finite and max(terms.bits) <= F64_BITS  # a product is cut as it is made
    top = max(first.high, high + carries + F32_BITS + 1) if first else F32_HIGH
    inside = low >= F32_LEAST and top < F32_HIGH
    exact = high + carries + 1 <= cut + F64_BITS - 2
    if not (fused and whole and inside and exact and converts_to_float32(stage)):
        return None
    why = f"products are cut at 2^{cut}: both their parts add up exactly in float64"
    node = _wide_node(stage, True, special)
    return _Found(node, why, constants={"split": math.ldexp(1.5, cut + F64_BITS - 1)})


def _sliced(stage: Tree, terms: TermBounds, size: int, few: bool = False) -> _Found | None:
    """Return nodes over children cut into slices, each with exact sums in float64, or None.

    A rounded sum is at most twice as large, or the smallest value of the format; it is a multiple
    of 2^low too, unless it overflows. Of n children the parts below the lowest cut 2^c add up
    below n * 2^(c - 1), and those of the slice above to less than half its magic number, being
    at most half of the next cut. With ``few`` there are at most half as many slices as children.
    """
    fmt, fused = stage.format, stage.product is ProductRounding.FUSED
    children = min(stage.radix, size)
    carries, all_carries = (children - 1).bit_length(), (size - 1).bit_length()
    top = max(terms.span.high, fmt.exponent_min + 1) + 2 * all_carries + 1
    low = min(terms.span.low, _last_place(fmt))
    cuts = [low + F64_BITS - carries]
    while top + carries + 1 > cuts[0] + F64_BITS - 2:
        cuts.insert(0, cuts[0] + F64_BITS - 3 - carries)
    whole = sum(terms.bits) <= F64_BITS and stage.lanes == 1
    whole = whole and not _saturates_infinities(stage, terms)
    inside = max(abs(low), abs(cuts[0] + F64_BITS)) <= F64_RANGE
    if not (whole and inside) or len(cuts) > (children // 2 - 1 if few else MAX_SLICES):
        return None
    node = sliced_node(str(stage.rounding), len(cuts))
    magic = {f"slice{i}": math.ldexp(1.5, cut + F64_BITS - 1) for i, cut in enumerate(cuts)}
    first = "children" if fused else "rounded children"
    why = f"{first} are cut into {len(cuts) + 1} slices that add up exactly in float64"
    return _Found(node, why, constants=magic)


def _binary(stage: Tree, terms: TermBounds, joins: str) -> _Found | None:
    """Return a node of a lane's own multiply-add and why, or None."""
    if stage.radix > 2 or joins == Joins.FUSED or sum(terms.bits) > F64_BITS:
        return None
    plan = plan_node(stage, terms)
    if plan is None or not isinstance(plan.step, Step) or plan.step.random:
        return None
    return _Found(binary_node(plan.step, stage.rounding is Rounding.RDN), plan.why)


def _exact(stage: Tree, terms: TermBounds, size: int, joins: str) -> _Found | None:
    """Return a node that rounds an exact sum of float64 numbers and why, or None."""
    wide = sum(terms.bits) > F64_BITS
    children = min(stage.radix, size) * (1 + wide) + (joins != NO_ADDEND)
    total = terms.span.times(children)
    inside = max(abs(total.low), abs(total.high)) <= F64_RANGE
    one_node = size <= stage.radix and stage.lanes == 1
    held = max(terms.bits) <= F64_BITS and (not wide or (one_node and joins != Joins.LEAF))
    if not held or not inside or children > MAX_EXPANSION:
        return None
    why = f"an exact sum in parts of float64, rounded to odd in {F64_BITS} bits first"
    if wide:
        why = f"products and their errors: {why}"
    return _Found(exact_node(str(stage.rounding)), why, wide=wide)
