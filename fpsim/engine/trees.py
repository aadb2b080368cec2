# SPDX-License-Identifier: Apache-2.0
"""Plans for trees: whole steps in lanes, or lanes and subtrees with products of their own."""

from __future__ import annotations

from fpsim.engine.adds import plan_node
from fpsim.engine.plan import F64_BITS, F64_RANGE, MAX_UNROLLED, ROWS, Plan
from fpsim.kernels.tree_steps import Node, binary_node, exact_node, tree_step
from fpsim.rounding import Rounding
from fpsim.spans import TermBounds
from fpsim.stages import Joins, ProductRounding, Tree

__all__ = ["NO_ADDEND", "plan_subtree", "plan_subtrees", "plan_tree", "subtree_leaves"]

#: Children of a node whose exact sum is grown as an expansion: n (n - 1) / 2 two-term sums.
MAX_EXPANSION = 16
#: How a subtree ends.
NO_ADDEND = "none"


def plan_tree(stage: Tree, terms: TermBounds, count: int) -> Plan:
    """Return the plan of a tree over ``count`` terms, or steps of its own number of them."""
    size = count if stage.products is None else stage.products
    return plan_subtree(stage, terms, size, str(stage.addend))


def plan_subtree(stage: Tree, terms: TermBounds, size: int, joins: str = NO_ADDEND) -> Plan:
    """Return the plan of a tree over ``size`` terms, with its own way of joining an addend."""
    if size > MAX_UNROLLED:
        return ROWS
    found = _binary(stage, terms, size, joins) or _exact(stage, terms, size, joins)
    if found is None:
        return ROWS
    node, why = found
    separate = stage.product is ProductRounding.ROUNDED
    step = tree_step(node, size, joins, separate, stage.radix, stage.lanes)
    return Plan.lane(step, f"every node: {why}")


def plan_subtrees(stage: Tree, terms: TermBounds, length: int) -> Plan:
    """Return the plan of a tree of more leaves than are unrolled: subtrees, then their tree."""
    whole = stage.products is None or length % stage.products == 0
    leaves = subtree_leaves(stage)
    inner = plan_subtree(stage, terms, leaves)
    results = plan_subtree(stage, TermBounds.of_format(stage.format), leaves, str(Joins.FUSED))
    if not whole or inner.step is None or results.step is None:
        return ROWS
    return Plan("subtrees", f"of {leaves} leaves: {inner.kernel} ({inner.why})")


def subtree_leaves(stage: Tree) -> int:
    """Return the leaves of the largest complete subtree whose code is unrolled."""
    leaves = stage.radix
    while leaves * stage.radix <= MAX_UNROLLED:
        leaves *= stage.radix
    return leaves


def _binary(stage: Tree, terms: TermBounds, size: int, joins: str) -> tuple[Node, str] | None:
    """Return a node of a lane's own multiply-add and why, or None."""
    if stage.radix > 2 or joins == Joins.FUSED:
        return None
    leaves = size + (joins == Joins.LEAF)
    separate = stage.product is ProductRounding.ROUNDED
    lone = separate or (stage.lanes == 1 and leaves & (leaves - 1)) or leaves < 2
    if stage.rounding is Rounding.RDN and (lone or stage.lanes & (stage.lanes - 1)):
        return None  # a node of one child adds it to -0, which is -0 toward -infinity
    plan = plan_node(stage, terms)
    if plan is None or plan.step is None or plan.step.random:
        return None
    return binary_node(plan.step), plan.why


def _exact(stage: Tree, terms: TermBounds, size: int, joins: str) -> tuple[Node, str] | None:
    """Return a node that rounds an exact sum of float64 numbers and why, or None."""
    children = min(stage.radix, size) + (joins != NO_ADDEND)
    total = terms.span.times(children)
    plain = total.bits <= F64_BITS and stage.product is ProductRounding.FUSED
    inside = max(abs(total.low), abs(total.high)) <= F64_RANGE
    if sum(terms.bits) > F64_BITS or not inside or children > MAX_EXPANSION:
        return None
    why = f"an exact sum in parts of float64, rounded to odd in {F64_BITS} bits first"
    if plain:
        why = f"products add up in {total.bits} <= {F64_BITS} bits; else {why}"
    return exact_node(str(stage.rounding), plain), why
