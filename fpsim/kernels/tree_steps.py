# SPDX-License-Identifier: Apache-2.0
"""Trees and separate multipliers in vector lanes: several roundings per step, one per node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fpsim.kernels.lanes import LANE_INTEGERS, Parameters, to_odd
from fpsim.kernels.rounding import mode_constants
from fpsim.kernels.steps import GroupStep, Step, TermSource
from fpsim.kernels.sums import LANE_REALS, Sum, exact_sum, round_sum
from fpsim.kernels.vector import DOUBLE, Vec

__all__ = ["Node", "binary_node", "exact_node", "separate_step", "tree_step"]

#: A child of a node: two factors of a product, or a value and None.
Child = tuple[Vec, Vec | None]


@dataclass(frozen=True)
class Node:
    """How a node is computed: its name, lane type and parameters, and what builds its code."""

    name: str
    real: Any
    reals: tuple[str, ...]
    integers: tuple[str, ...]
    build: Callable[[Sequence[Child], Parameters], Vec]


@cache
def binary_node(step: Step) -> Node:
    """Return the node that a lane step computes: of two children at most, not toward -infinity."""

    def build(children: Sequence[Child], p: Parameters) -> Vec:
        x, y = children[0]
        one = x.lanes.constant(1.0, False)
        if len(children) == 1:
            nothing = x.lanes.constant(-0.0, False)  # -0 + x is x, whatever x is
            return step.build(nothing, x, one if y is None else y, p, None)
        first = x if y is None else x * y
        second, factor = children[1]
        return step.build(first, second, one if factor is None else factor, p, None)

    return Node(step.name, step.real, step.reals, step.integers, build)


@cache
def exact_node(rounding: str, plain: bool) -> Node:
    """Return the node of any number of children: their exact sum, rounded, in float64 lanes.

    With ``plain`` a sum of products is exact as it is. Else an expansion of non-overlapping parts
    is grown child by child (Shewchuk, Discrete Comput. Geom. 18, 1997, theorem 10) and its parts
    are added from the smallest on, rounding to odd.
    """
    any_sign = mode_constants(rounding)[3] == 1

    def build(children: Sequence[Child], p: Parameters) -> Vec:
        values = [x if y is None else x * y for x, y in children]
        sign = values[0].as_bits
        for value in values[1:]:
            sign = sign | value.as_bits if any_sign else sign & value.as_bits
        products = [v for v, (_, y) in zip(values, children, strict=True) if y is not None]
        if plain and products:
            values = [_plain(products), *(x for x, y in children if y is None)]
        total, error = _exact(values)
        signed = (sign & (1 << (sign.lanes.bits - 1))).as_real
        total = total.equals(0.0).where(signed, total)
        return round_sum(Sum(total, error), rounding, p)

    name = f"exact-{rounding}{'-plain' * plain}"
    return Node(name, DOUBLE, LANE_REALS, LANE_INTEGERS, build)


def _plain(values: Sequence[Vec]) -> Vec:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _exact(values: Sequence[Vec]) -> tuple[Vec, Vec]:
    """Return the sum of values and, of the sign of what it missed, something smaller."""
    zero = values[0].lanes.constant(0.0, False)
    if len(values) == 1:
        return values[0], zero
    if len(values) == 2:
        return exact_sum(*values)
    parts = [values[0]]  # from the smallest on
    for value in values[1:]:
        grown = []
        top = value
        for part in parts:
            top, error = exact_sum(top, part)
            grown.append(error)
        parts = [*grown, top]
    total = parts[0]
    for part in parts[1:-1]:
        total = _odd(*exact_sum(part, total))
    total, error = exact_sum(parts[-1], total)
    # Of an infinity or a NaN, errors are NaN: the plain sum says what comes out.
    special = _plain(values)
    finite = special.magnitude_bits.as_real < float("inf")
    return finite.where(total, special), finite.where(error, zero)


def _odd(total: Vec, error: Vec) -> Vec:
    """Return a sum with an error rounded to odd."""
    sign_shift = total.lanes.bits - 1
    negative = total.as_bits >> sign_shift
    magnitude = to_odd(total.magnitude_bits, negative, error)
    return (magnitude | (negative << sign_shift)).as_real


@cache
def tree_step(
    node: Node, terms: int, joins: str, separate: bool, radix: int = 2, lanes: int = 1
) -> GroupStep:
    """Return the step of a tree over ``terms`` products; see `fpsim.stages.tree`.

    ``joins`` is ``root``, ``leaf``, ``fused``, or ``none`` for a subtree without addend; with
    ``separate`` each product is rounded first.
    """

    def step(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        own: Child = (acc, None)
        leaves: list[Child] = [source.pair(i) for i in range(terms)]
        if separate:
            leaves = [(node.build([leaf], p), None) for leaf in leaves]
        if lanes > 1:
            zero: Child = (acc.lanes.constant(0.0, False), None)
            sums = [own if joins == "leaf" and j == 0 else zero for j in range(lanes)]
            for i, leaf in enumerate(leaves):
                sums[i % lanes] = (node.build([sums[i % lanes], leaf], p), None)
            leaves = sums
        elif joins == "leaf":
            leaves = [own, *leaves]
        level = 0
        while level == 0 or len(leaves) > 1:
            last = len(leaves) <= radix
            extra = [own] if last and joins == "fused" else []
            groups = [leaves[i : i + radix] for i in range(0, len(leaves), radix)]
            leaves = [(node.build([*group, *extra], p), None) for group in groups]
            level += 1
        total = leaves[0][0]
        return node.build([own, (total, None)], p) if joins == "root" else total

    shape = f"{terms}{f'-radix{radix}' * (radix > 2)}{f'-lanes{lanes}' * (lanes > 1)}"
    name = f"tree-{shape}-{joins}{'-separate' * separate}-{node.name}"
    return GroupStep(name, node.real, terms, step, node.reals, node.integers)


@cache
def separate_step(step: Step) -> GroupStep:
    """Return a chain step that rounds the product before it adds it."""
    node = binary_node(step)

    def build(acc: Vec, source: TermSource, p: Parameters) -> Vec:
        product = node.build([source.pair(0)], p)
        return node.build([(acc, None), (product, None)], p)

    return GroupStep(f"separate-{step.name}", step.real, 1, build, step.reals, step.integers)
