# SPDX-License-Identifier: Apache-2.0
"""Lemmas about trees of adders: where no node but the last one rounds, their shape shows nowhere.

A sum of zeros is -0 only where all of them are (rounding down apart), whatever the shape; lanes
start from +0.
"""

from __future__ import annotations

import numpy as np

from fpsim.formats.rounding import Rounding
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Exact, Joins, ProductRounding, Tree
from fpsim.vectors.mutants.reach import Addends, Reach
from fpsim.vectors.sets.code_lists import finite_codes
from fpsim.vectors.sets.record import Record

__all__ = ["ROUNDED", "exact_parts", "is_mirrored", "one_node", "trees_agree"]

#: Settings of the rounding of a sum.
ROUNDED = ("format", "rounding", "overflow")
#: Most bits of operands whose sums of two products are tried one by one.
TRIED_BITS = 5
#: Leaves of trees whose nodes of four are pairs of pairs, but for the last node.
PAIRED_LEAVES = 8


def trees_agree(record: Record, stage: Tree, changed: Tree) -> str | None:
    """Prove that two trees of different shapes agree.

    Args:
        record: the unit, and how many elements a vector has.
        stage: the unit's tree.
        changed: a tree that differs from it.

    Returns:
        The proof in one sentence, or None.
    """
    names = (*ROUNDED, "product", "addend")
    if any(getattr(stage, n) != getattr(changed, n) for n in names):
        return None
    return exact_parts(record, stage, changed) or _pairs_of_pairs(record, stage, changed)


def one_node(record: Record, stage: Tree, changed: Exact) -> str | None:
    """Prove that one node adds all products and the addend, as an exact sum does.

    Args:
        record: the unit, and how many elements a vector has.
        stage: the unit's tree.
        changed: an exact sum.

    Returns:
        The proof in one sentence, or None.
    """
    whole = stage.products in (None, record.k) and stage.lanes == 1
    leaves = record.k + (stage.addend is Joins.LEAF)
    joined = stage.addend is not Joins.ROOT and leaves <= stage.radix
    plain = stage.product is ProductRounding.FUSED and not record.roundings
    if not (whole and joined and plain):
        return None
    if any(getattr(stage, n) != getattr(changed, n) for n in ROUNDED):
        return None
    return f"one node adds all {record.k} products and the addend exactly"


def exact_parts(record: Record, *stages: Tree) -> str | None:
    """Prove that the nodes before the last one are exact, in any order and shape."""
    for stage in stages:
        if stage.products not in (None, record.k) or stage.addend is Joins.LEAF:
            return None
        if stage.rounding is Rounding.RDN:
            return None
    if len({stage.lanes > 1 for stage in stages}) > 1:
        return None
    part = max(_largest_part(record.k, stage) for stage in stages)
    reach = Reach(Record(record.spec, part, record.group), Addends.ZERO)
    if not reach.finite or not reach.sums.fit(stages[0].format):
        return None
    return f"sums of up to {part} products are exact: only the last node of {record.k} rounds"


def _largest_part(products: int, stage: Tree) -> int:
    """Return the most products below one child of a tree's last node."""
    parts = [1] * products
    if stage.lanes > 1:
        parts = [len(range(lane, products, stage.lanes)) for lane in range(stage.lanes)]
    while len(parts) > stage.radix:
        parts = [sum(parts[i : i + stage.radix]) for i in range(0, len(parts), stage.radix)]
    return max(parts)


def _pairs_of_pairs(record: Record, stage: Tree, changed: Tree) -> str | None:
    """Prove that nodes of four add what pairs of exact pairs add."""
    plain = stage.lanes == changed.lanes == 1 and stage.products == changed.products
    radixes = {stage.radix, changed.radix} == {2, 4}
    if not plain or not radixes or stage.addend is Joins.LEAF or stage.rounding is Rounding.RDN:
        return None
    if (stage.products or record.k) > PAIRED_LEAVES or record.group:
        return None
    return "sums of two products are exact" if _pairs_fit(record.spec, stage) else None


def _pairs_fit(spec: MacSpec, stage: Tree) -> bool:
    """Return whether every product, and every sum of two, is a number of the sum's format."""
    values = []
    for fmt in (spec.a, spec.b):
        if fmt.bits > TRIED_BITS or finite_codes(fmt).size < 1 << fmt.bits:
            return False
        values.append(fmt.decode(finite_codes(fmt)))
    products = np.unique(np.append(np.outer(*values), 0.0))
    sums = np.unique(np.add.outer(products, products))
    return np.array_equal(stage.format.decode(stage.format.encode(sums)), sums)


def is_mirrored(stage: Tree, terms: int) -> bool:
    """Return whether a tree of some terms has the same shape with its terms reversed."""
    if stage.lanes > 1 or stage.addend is Joins.LEAF or stage.products not in (None, terms):
        return False
    while terms > stage.radix and terms % stage.radix == 0:
        terms //= stage.radix
    return terms <= stage.radix
