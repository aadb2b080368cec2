# SPDX-License-Identifier: Apache-2.0
"""Trees and separate multipliers in vector lanes: several roundings per step, one per node."""

from __future__ import annotations

from functools import cache

from fpsim.kernels.lanes.nodes import Child, Node, binary_node, plain_sum
from fpsim.kernels.lanes.rounding import Parameters
from fpsim.kernels.lanes.steps import GroupStep, Step, TermSource
from fpsim.kernels.lanes.vector import Vec

__all__ = ["separate_step", "tree_step"]


@cache
def tree_step(
    node: Node,
    terms: int,
    joins: str,
    separate: bool,
    radix: int = 2,
    lanes: int = 1,
    free: int = 1,
    wide: bool = False,
) -> GroupStep:
    """Return the step of a tree over ``terms`` products; see `fpsim.units.stages.tree`.

    ``joins`` is ``root``, ``leaf``, ``fused``, or ``none`` for a subtree without addend; with
    ``separate`` each product is rounded first. The nodes over every ``free`` neighbours (a power of
    the radix) round nothing, so that their sums are plain; not with lanes or an addend as leaf.
    With ``wide`` no lane holds a product: it and its error are two leaves.
    """

    def level(leaves: list[Child], p: Parameters) -> list[Child]:
        groups = [leaves[i : i + radix] for i in range(0, len(leaves), radix)]
        return [(node.build(group, None, p), None) for group in groups]

    def in_lanes(leaves: list[Child], first: Vec, p: Parameters) -> list[Child]:
        """Return the sums of every ``lanes``-th leaf, those of lane 0 from ``first`` on."""
        zero = first.lanes.constant(0.0, False)
        sums = [first if j == 0 else zero for j in range(lanes)]
        for i, leaf in enumerate(leaves):
            sums[i % lanes] = node.build([(sums[i % lanes], None), leaf], None, p)
        return [(value, None) for value in sums]

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        leaves: list[Child] = [source.pair(i) for i in range(terms)]
        if wide:
            leaves = [half for leaf in leaves for half in _with_error(leaf)]
        if separate:
            leaves = [(node.build([leaf], None, p), None) for leaf in leaves]
        if free > 1:
            leaves = [(plain_sum(leaves[i : i + free]), None) for i in range(0, terms, free)]
        if lanes > 1:
            start = acc if joins == "leaf" else acc.lanes.constant(0.0, False)
            leaves = in_lanes(leaves, start, p)
        elif joins == "leaf":
            total = acc
            while leaves:
                total = node.build(leaves[: radix - 1], total, p)
                leaves = level(leaves[radix - 1 :], p)
            return total
        if joins == "fused":
            while len(leaves) > radix:
                leaves = level(leaves, p)
            return node.build(leaves, acc, p)
        if free == 1:
            leaves = level(leaves, p)
        while len(leaves) > 1:
            leaves = level(leaves, p)
        root = leaves[0][0]
        return node.build([(root, None)], acc, p) if joins == "root" else root

    shape = f"{terms}{f'-radix{radix}' * (radix > 2)}{f'-lanes{lanes}' * (lanes > 1)}"
    shape += f"-free{free}" * (free > 1) + "-wide" * wide
    name = f"tree-{shape}-{joins}{'-separate' * separate}-{node.name}"
    cells = (4, 4) if free > 1 else node.cells
    return GroupStep(name, node.real, terms, step, node.reals, node.integers, cells=cells)


def _with_error(leaf: Child) -> list[Child]:
    """Return a finite product as the lane rounds it, and what that misses.

    Both are zeros of one sign where the product is.
    """
    x, y = leaf
    assert y is not None
    product = x * y
    error = x.intrinsic("fma", y, x.lanes.constant(-0.0, False) - product)
    return [(product, None), (product.equals(0.0).where(product, error), None)]


@cache
def separate_step(step: Step, toward_negative: bool) -> GroupStep:
    """Return a chain step that rounds the product before it adds it."""
    node = binary_node(step, toward_negative)

    def build(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        product = node.build([source.pair(0)], None, p)
        return node.build([(product, None)], acc, p)

    return GroupStep(f"separate-{step.name}", step.real, 1, build, step.reals, step.integers)
