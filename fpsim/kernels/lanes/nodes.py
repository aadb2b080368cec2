# SPDX-License-Identifier: Apache-2.0
"""Nodes of trees in vector lanes: the exact sum of some children, rounded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.lanes.exact_add import (
    LANE_REALS,
    Sum,
    exact_sum,
    odd_sum,
    ordered_sum,
    round_sum,
)
from fpsim.kernels.lanes.rounding import LANE_INTEGERS, Parameters
from fpsim.kernels.lanes.steps import Step
from fpsim.kernels.lanes.vector import DOUBLE, FLOAT, Vec

__all__ = [
    "Child",
    "Node",
    "binary_node",
    "exact_node",
    "lane_node",
    "plain_sum",
    "sliced_node",
    "wide_node",
]

#: A child of a node: two factors of a product, or a value and None.
Child = tuple[Vec, Vec | None]


@dataclass(frozen=True)
class Node:
    """How a node is computed: its name, lane type and parameters, and what builds its code.

    ``build`` takes the children, and the accumulator if it is one more child.
    """

    name: str
    real: Any
    reals: tuple[str, ...]
    integers: tuple[str, ...]
    build: Callable[[Sequence[Child], Vec | None, Parameters], Vec]
    cells: tuple[int, int] = (2, 2)  #: as of a step


@cache
def binary_node(step: Step, toward_negative: bool) -> Node:
    """Return the node that a lane step computes: of two children at most."""

    def build(children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        if own is not None:
            children = [(own, None), *children]
        x, y = children[0]
        one = x.lanes.constant(1.0, False)
        if len(children) == 1:
            if step.product is not None:
                return step.product(x, one if y is None else y, p)
            nothing = _nothing(x, toward_negative)
            return step.build(nothing, x, one if y is None else y, p, None)
        second, factor = children[1]
        return step.build(_value(children[0]), second, one if factor is None else factor, p, None)

    return Node(step.name, step.real, step.reals, step.integers, build)


@cache
def lane_node(closed: Step, joining: Step) -> Node:
    """Return the node of children whose sums are exact in the lane, not toward -infinity.

    ``closed`` rounds such a sum, ``joining`` adds one to the accumulator.
    """

    def build(children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        x, factor = children[-1]
        one = x.lanes.constant(1.0, False)
        if own is not None:
            return joining.build(own, plain_sum(children), one, p, None)
        before = plain_sum(children[:-1]) if len(children) > 1 else _nothing(x)
        return closed.build(before, x, one if factor is None else factor, p, None)

    name = "plain-" + "-".join(dict.fromkeys([closed.name, joining.name]))
    reals = tuple(dict.fromkeys(closed.reals + joining.reals))
    integers = tuple(dict.fromkeys(closed.integers + joining.integers))
    return Node(name, closed.real, reals, integers, build)


@cache
def wide_node(
    rounding: str, native: bool, directed: bool, split: bool, special: bool = False
) -> Node:
    """Return the node of children whose sums are exact in float64 lanes, or in two of them.

    The accumulator is added to that sum by rounding to odd, with at least two bits more than the
    result has. ``native`` says that the result is a float32, to nearest even, ``directed`` that the
    processor rounds as it is told. With ``split`` (only where ``native``) each child is cut at a
    power of two into a high and a low part whose sums are exact; no child is NaN or infinite. Only
    with ``special`` may the accumulator be so, or -0, which shows the sign of other zeros.
    """
    any_sign = mode_constants(rounding)[3] == 1

    def build(children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        if split:
            parts = _slices(children, [p.reals["split"]])
            total = _two_sums((parts[0], parts[1]), own, directed)
            if special:
                whole = children if own is None else [*children, (own, None)]
                total = _zero_of_signs(total, whole, False)
            if special and own is not None:
                total = _is_finite(own).where(total, own)
            return total.through(FLOAT)
        total = plain_sum(children)
        if own is not None:
            total = odd_sum(own, total, directed)
        if native:
            return total.through(FLOAT)
        if any_sign:
            total = _zero_of_signs(
                total, [*children, *([] if own is None else [(own, None)])], True
            )
        # No error, but what the sum has beyond subnormal results must not be lost.
        return round_sum(Sum(total, total.lanes.constant(0.0, False)), rounding, p)

    kind = "float" if native else rounding
    name = f"wide-{kind}{'-directed' * directed}{'-split' * split}{'-special' * special}"
    reals = ("split",) if split else () if native else LANE_REALS
    cells = (4, 2) if native else (2, 2)
    return Node(name, DOUBLE, reals, () if native else LANE_INTEGERS, build, cells)


@cache
def exact_node(rounding: str) -> Node:
    """Return the node of any children: their exact sum, rounded, in float64 lanes.

    An expansion of non-overlapping parts is grown child by child (Shewchuk, Discrete Comput. Geom.
    18, 1997, theorem 10) and its parts are added from the smallest on, rounding to odd.
    """

    def build(children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        if own is not None:
            children = [*children, (own, None)]
        values = [_value(child) for child in children]
        return _rounded(_expanded(values), children, rounding, p)

    return Node(f"exact-{rounding}", DOUBLE, LANE_REALS, LANE_INTEGERS, build)


@cache
def sliced_node(rounding: str, cuts: int) -> Node:
    """Return the node of children cut into slices whose sums are exact in float64 lanes.

    The parameters ``slice0``, ... are 1.5 * 2^52 times the powers of two to cut at, the largest
    first. Those few sums and the accumulator make an exact sum as in `exact_node`; fewer children
    do so themselves.
    """
    names = tuple(f"slice{i}" for i in range(cuts))

    def build(children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        values = [_value(child) for child in children]
        if len(children) > cuts + 1:
            values = _slices(children, [p.reals[name] for name in names])
        if own is not None:
            values, children = [*values, own], [*children, (own, None)]
        return _rounded(_expanded(values), children, rounding, p)

    reals = (*LANE_REALS, *names)
    return Node(f"sliced{cuts}-{rounding}", DOUBLE, reals, LANE_INTEGERS, build)


def plain_sum(children: Sequence[Child]) -> Vec:
    """Return the sum of children as the lane adds them, one after another."""
    total = _value(children[0])
    for x, y in children[1:]:
        total = total + x if y is None else x.intrinsic("fma", y, total)
    return total


def _value(child: Child) -> Vec:
    x, y = child
    return x if y is None else x * y


def _nothing(x: Vec, toward_negative: bool = False) -> Vec:
    """Return the zero that added to x is x, whatever x is."""
    return x.lanes.constant(0.0 if toward_negative else -0.0, False)


def _zero_of_signs(total: Vec, children: Sequence[Child], any_sign: bool) -> Vec:
    """Give a zero total the sign that its children's make: of any of them, or of all."""
    signs = [_value(child).as_bits for child in children]
    sign = signs[0]
    for other in signs[1:]:
        sign = sign | other if any_sign else sign & other
    signed = (sign & (1 << (sign.lanes.bits - 1))).as_real
    return total.equals(0.0).where(signed, total)


def _slices(children: Sequence[Child], magics: Sequence[Vec]) -> list[Vec]:
    """Return the sums of the children's slices, the highest first; magics are 1.5 * 2^52 cuts.

    Adding a child to a magic number rounds it to a multiple of the cut, exactly representable.
    """
    sums = []
    for magic in magics:
        high, rest = magic, []
        for x, y in children:
            moved = x + high if y is None else x.intrinsic("fma", y, high)
            part = high - moved
            rest.append((x + part if y is None else x.intrinsic("fma", y, part), None))
            high = moved
        sums.append(high - magic)
        children = rest
    return [*sums, plain_sum(children)]


def _two_sums(sums: tuple[Vec, Vec], own: Vec | None, directed: bool) -> Vec:
    """Return the sum of a high and a low part, and an accumulator, rounded to odd.

    Three numbers are added as Boldo and Melquiond do (IEEE Trans. Comp. 57(4), 2008, section 5).
    """
    if own is None:
        return odd_sum(*sums, directed)
    whole, rest = ordered_sum(*sums)
    top, error = exact_sum(whole, own)
    return odd_sum(top, odd_sum(error, rest, directed), directed)


def _expanded(values: Sequence[Vec]) -> Vec:
    """Return the sum of finite values, rounded to odd."""
    directed = values[0].lanes.directed
    parts = [values[0]]  # from the smallest on
    for value in values[1:]:
        parts = [*parts, value] if len(values) == 2 else _grown(parts, value)
    total = parts[0]
    for part in parts[1:]:
        total = odd_sum(part, total, directed)
    return total


def _grown(parts: Sequence[Vec], value: Vec) -> list[Vec]:
    """Return parts that add up to what the parts and a value do."""
    errors = []
    for part in parts:
        value, error = exact_sum(value, part)
        errors.append(error)
    return [*errors, value]


def _rounded(total: Vec, children: Sequence[Child], rounding: str, p: Parameters) -> Vec:
    """Round the sum of children, which is that of finite ones; others say what comes out."""
    special = plain_sum(children)
    total = _is_finite(special).where(total, special)
    total = _zero_of_signs(total, children, mode_constants(rounding)[3] == 1)
    return round_sum(Sum(total, total.lanes.constant(0.0, False)), rounding, p)


def _is_finite(x: Vec) -> Vec:
    return x.magnitude_bits.as_real < float("inf")
