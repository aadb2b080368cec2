# SPDX-License-Identifier: Apache-2.0
"""Steps of trees: one rounding per node, of an exact sum of children.

A node is a value that holds its code and its lemma, as a step does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fpsim.compute.bounds import (
    F32_BITS,
    F32_HIGH,
    F32_LEAST,
    F64_BITS,
    F64_RANGE,
    Bounds,
    Span,
    fits_float32,
    float_shift,
)
from fpsim.compute.lanes.steps.chain import add_pair, adder, adding_steps, round_pair
from fpsim.compute.lanes.steps.step import (
    Numbers,
    Step,
    first_exact,
    float_parameters,
    is_ieee,
)
from fpsim.compute.lanes.steps.sums import with_error
from fpsim.formats.floating import FloatFormat, Subnormals
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.llvm.exact_add import Sum, exact_sum, odd_sum, ordered_sum, round_sum
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.rounding import Parameters
from fpsim.kernels.llvm.tiles import TermSource
from fpsim.kernels.llvm.vector import FLOAT, Lane, Vec
from fpsim.units.stages import Chain, Joins, ProductRounding, Tree

__all__ = ["MAX_LEAVES", "TreeStep", "one_node_steps", "tree_steps"]

#: Most leaves of a tree in unrolled code, and most children of a node in lanes.
MAX_LEAVES, MAX_CHILDREN = 64, 4
#: Most children of a node whose exact sum is grown as an expansion: n (n - 1) / 2 two-term sums.
MAX_EXPANSION = 16
#: Least children of a one-node tree: with 2 the planner would plan a step of a chain again.
MIN_RADIX = 3
#: A child of a node: two factors of a product, or a value and None.
Child = tuple[Vec, Vec | None]


@dataclass(frozen=True)
class _Node:
    """How a node of a tree is computed."""

    tree: Tree
    lane: Lane

    cells: ClassVar[tuple[int, int]] = (2, 2)

    @property
    def converts(self) -> bool:
        """Whether the processor's conversion to float32 rounds the node's sums."""
        return False

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything on which the code depends."""
        return (type(self).__name__, self.tree.rounding)

    @property
    def name(self) -> str:
        """The name that plans print."""
        raise NotImplementedError

    def exact_for(
        self, size: int, free: int, wide: bool, bounds: Bounds, machine: Machine
    ) -> str | None:
        """Return why the nodes of a tree of ``size`` leaves are exact, or None."""
        raise NotImplementedError

    def parameters(self) -> Numbers:
        """Return the numbers that the code reads."""
        return float_parameters(self.tree, self.lane)

    def build(self, children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        """Write a node over children, with the accumulator as one more child if there is one."""
        raise NotImplementedError

    def rounded(self, total: Sum, p: Parameters) -> Vec:
        """Write the rounding of a node's sum."""
        return round_sum(total, str(self.tree.rounding), p)


def tree_steps(tree: Tree, size: int, bounds: Bounds, machine: Machine) -> Iterator[TreeStep]:
    """Yield the steps of a tree, fastest first.

    Args:
        tree: any tree.
        size: leaves of the tree; trees of more than `MAX_LEAVES` have no steps.
        bounds: bounds of the terms.
        machine: the processor.

    Yields:
        Candidate steps; the planner asks their lemmas.
    """
    if size > MAX_LEAVES or min(tree.radix, size) > MAX_CHILDREN:
        return
    bounds, wide = bounds.without_halves(), sum(bounds.bits) > F64_BITS
    free = _free_leaves(tree, bounds.span, size) if _may_be_free(tree, bounds) else 1
    found = [_lane_sums(tree, size, bounds, machine), _WideNode(tree, Lane.F64, machine.directed)]
    for node in filter(None, found):
        yield TreeStep(tree, node.lane, node, size, free, False)
    pair = adder(tree, bounds, machine)
    if pair and not pair[0].random:
        yield TreeStep(tree, pair[0].lane, _BinaryNode(tree, pair[0].lane, pair[0]), size, 1, False)
    cut = bounds.span.low + F64_BITS - (size - 1).bit_length()
    two = _TwoSums(tree, Lane.F64, machine.directed, cut, bounds.start.special)
    yield TreeStep(tree, Lane.F64, two, size, 1, False)
    yield TreeStep(tree, Lane.F64, _ExactNode(tree, Lane.F64), size, 1, wide)


def one_node_steps(
    chain: Chain, parts: int, bounds: Bounds, machine: Machine
) -> Iterator[TreeStep]:
    """Yield the steps of a chain as trees of one node over the parts of a term.

    Args:
        chain: a chain; one that rounds at random has no such steps.
        parts: float64 numbers whose sum is a term.
        bounds: bounds of the terms.
        machine: the processor.

    Yields:
        Candidate steps; the planner asks their lemmas.
    """
    rounded = chain.product is ProductRounding.ROUNDED
    joins, radix = Joins.ROOT if rounded else Joins.FUSED, max(parts, MIN_RADIX)
    inside = max(abs(bounds.span.low), abs(bounds.span.high)) <= F64_RANGE
    if chain.rounding is Rounding.SR or not inside:
        return
    tree = Tree(chain.format, chain.rounding, chain.overflow, parts, radix=radix, addend=joins)
    yield from tree_steps(tree, parts, bounds, machine)


@dataclass(frozen=True)
class TreeStep(Step):
    """A tree over ``size`` products; see `fpsim.units.stages.tree`.

    Nodes over each group of ``free`` neighbours (a power of the radix) round nothing and are plain
    sums. With ``wide`` no lane holds a product: the product and its error are two leaves.
    """

    node: _Node
    size: int
    free: int
    wide: bool

    @property
    def terms(self) -> int:
        """The tree's leaves."""
        return self.size

    @property
    def cells(self) -> tuple[int, int]:  # type: ignore[override]
        """More accumulators if most sums are plain."""
        return (4, 4) if self.free > 1 else self.node.cells

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything on which the code depends."""
        tree = self.stage
        shape = (self.size, tree.radix, tree.lanes, tree.addend, tree.product)
        return ("tree", self.lane, *shape, self.free, self.wide, self.node.key)

    @property
    def name(self) -> str:
        """The name that plans print."""
        tree, radix = self.stage, self.stage.radix * (1 + self.wide)
        shape = f"{self.size}{f'-radix{radix}' * (radix > 2)}"
        shape += f"-lanes{tree.lanes}" * (tree.lanes > 1) + f"-free{self.free}" * (self.free > 1)
        separate = "-separate" * (tree.product is ProductRounding.ROUNDED)
        return f"tree-{shape}{'-wide' * self.wide}-{tree.addend}{separate}-{self.node.name}"

    def exact_for(self, bounds: Bounds, machine: Machine) -> str | None:
        """Return why every node rounds an exact sum."""
        bounds = bounds.without_halves()
        if self.free > 1 and not (
            _may_be_free(self.stage, bounds)
            and _represents(self.stage.format, bounds.span.times(self.free))
        ):
            return None
        why = self.node.exact_for(self.size, self.free, self.wide, bounds, machine)
        return None if why is None else f"every node: {why}"

    def parameters(self) -> Numbers:
        """Return the run-time numbers of the nodes."""
        return self.node.parameters()

    def build(self, acc: Vec, source: TermSource, p: Parameters, random: Any) -> Vec:
        """Write the tree: its leaves, its nodes, and the accumulator's join.

        Args:
            acc: accumulators, one in each lane.
            source: the terms.
            p: run-time numbers of the nodes, in every lane.
            random: not used; nodes do not round at random.

        Returns:
            The accumulators after the step.
        """
        tree, node, joins = self.stage, self.node, self.stage.addend
        radix = tree.radix * (1 + self.wide)

        def level(leaves: list[Child]) -> list[Child]:
            groups = [leaves[i : i + radix] for i in range(0, len(leaves), radix)]
            return [(node.build(group, None, p), None) for group in groups]

        leaves: list[Child] = [source.pair(i) for i in range(self.size)]
        if self.wide:
            leaves = [(half, None) for x, y in leaves if y for half in with_error(x, y)]
        if tree.product is ProductRounding.ROUNDED:
            leaves = [(node.build([leaf], None, p), None) for leaf in leaves]
        if self.free > 1:
            groups = range(0, self.size, self.free)
            leaves = [(_plain_sum(leaves[i : i + self.free]), None) for i in groups]
        if tree.lanes > 1:
            zero = acc.lanes.constant(0.0, False)
            sums = [acc if j == 0 and joins is Joins.LEAF else zero for j in range(tree.lanes)]
            for i, leaf in enumerate(leaves):
                sums[i % tree.lanes] = node.build([(sums[i % tree.lanes], None), leaf], None, p)
            leaves = [(value, None) for value in sums]
        elif joins is Joins.LEAF:
            total = acc
            while leaves:
                total = node.build(leaves[: radix - 1], total, p)
                leaves = level(leaves[radix - 1 :])
            return total
        if joins is Joins.FUSED:
            while len(leaves) > radix:
                leaves = level(leaves)
            return node.build(leaves, acc, p)
        if self.free == 1:
            leaves = level(leaves)
        while len(leaves) > 1:
            leaves = level(leaves)
        root = leaves[0][0]
        return node.build([(root, None)], acc, p) if joins is Joins.ROOT else root


def _may_be_free(tree: Tree, bounds: Bounds) -> bool:
    """Return whether nodes whose sums are values of the format may be plain sums."""
    fused = tree.product is ProductRounding.FUSED and tree.lanes == 1
    plain = fused and tree.addend is not Joins.LEAF
    return plain and bounds.finite and tree.rounding is not Rounding.RDN


def _free_leaves(tree: Tree, span: Span, size: int) -> int:
    """Return the leaves of the largest subtrees that round nothing; 1 if there are none."""
    free = 1
    while free < size and _represents(tree.format, span.times(min(free * tree.radix, size))):
        free *= tree.radix
    return min(free, size)


def _represents(fmt: FloatFormat, span: Span) -> bool:
    """Return whether every multiple of 2^low below 2^high is a value of a format."""
    gradual = fmt.subnormals is not Subnormals.FLUSH
    least = fmt.exponent_min - fmt.mantissa_bits * gradual
    largest = math.ldexp(1.0, span.high) - math.ldexp(1.0, span.low)
    return span.bits <= fmt.mantissa_bits + 1 and span.low >= least and largest <= fmt.max_value


def _total(tree: Tree, bounds: Bounds, size: int) -> Span | None:
    """Return the span of all sums of a tree if float64 holds them in any order, else None.

    A rounded sum is a multiple of 2^low unless it overflows, and at most 2^high unless all values
    are zeros or the smallest of the format. An infinite term that is saturated would lie far above
    the finite ones.
    """
    total, fmt = bounds.span.times(size), tree.format
    if total.high > fmt.exponent_max:
        total = replace(total, low=min(total.low, fmt.exponent_max - fmt.mantissa_bits))
    inside = max(abs(total.low), abs(total.high)) <= F64_RANGE
    large = tree.overflow is Overflow.SATURATE and not bounds.finite
    if tree.lanes > 1 or large or not inside or total.bits > F64_BITS:
        return None
    return total


def _plain_why(lane: Lane, total: Span, free: int) -> str:
    why = f"products add up in {total.bits} bits of {lane}"
    return f"{why}, {free} of them without any rounding" if free > 1 else why


def _lane_sums(tree: Tree, size: int, bounds: Bounds, machine: Machine) -> _LaneNode | None:
    """Return the node whose sums are exact in float32 lanes, or None."""
    total = _total(tree, bounds, size)
    if total is None or tree.rounding is Rounding.RDN or tree.rounding is Rounding.SR:
        return None
    held = total.bits <= machine.float32_bits and max(bounds.bits) <= machine.float32_bits
    if not held or not fits_float32(total) or float_shift(bounds.a, bounds.b) is None:
        return None
    chain = Chain(tree.format, tree.rounding, tree.overflow)
    # A sum that the lane holds is rounded once, however many bits it has.
    sums = [bounds.of_values(total, bits) for bits in (1, total.bits)]
    found = [first_exact(adding_steps(chain), each, machine) for each in sums]
    steps = [each[0] for each in found if each and each[0].lane is Lane.F32]
    return _LaneNode(tree, Lane.F32, *steps) if len(steps) == 2 else None


@dataclass(frozen=True)
class _LaneNode(_Node):
    """Children with exact float32 sums; one step rounds a sum, one adds the accumulator."""

    closed: Step
    joining: Step

    @property
    def key(self) -> tuple[Any, ...]:
        """Keys of both steps."""
        return ("plain", self.closed.key, self.joining.key)

    @property
    def name(self) -> str:
        """The name that plans print."""
        return "plain-" + "-".join(dict.fromkeys([self.closed.name, self.joining.name]))

    def exact_for(
        self, size: int, free: int, wide: bool, bounds: Bounds, machine: Machine
    ) -> str | None:
        """Return why float32 holds every sum before rounding."""
        binary = self.tree.radix == 2 and self.tree.addend is not Joins.FUSED
        if (binary and free == 1) or _lane_sums(self.tree, size, bounds, machine) != self:
            return None  # one multiply-add per node costs no more
        total = _total(self.tree, bounds, size)
        return None if total is None else _plain_why(self.lane, total, free)

    def build(self, children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        """Write plain sums and one step."""
        if own is not None:
            return add_pair(self.joining, own, _plain_sum(children), None, p)
        if len(children) == 1:
            return round_pair(self.closed, *children[0], p)
        return add_pair(self.closed, _plain_sum(children[:-1]), *children[-1], p)


@dataclass(frozen=True)
class _WideNode(_Node):
    """Children with exact float64 sums; the accumulator is added with rounding to odd."""

    directed: bool

    @property
    def converts(self) -> bool:
        """Whether the processor's conversion to float32 rounds its sums."""
        nearest = self.tree.rounding is Rounding.RNE and self.tree.overflow is Overflow.INF
        return nearest and is_ieee(self.tree.format, 8, 23, 127)

    @property
    def cells(self) -> tuple[int, int]:  # type: ignore[override]
        """More accumulators if a conversion, which takes few registers, rounds."""
        return (4, 2) if self.converts else (2, 2)

    @property
    def key(self) -> tuple[Any, ...]:
        """The way sums are rounded."""
        return (type(self).__name__, self._kind, self.directed)

    @property
    def _kind(self) -> str:
        return "float" if self.converts else str(self.tree.rounding)

    @property
    def name(self) -> str:
        """The name that plans print."""
        return f"wide-{self._kind}{'-directed' * self.directed}"

    def exact_for(
        self, size: int, free: int, wide: bool, bounds: Bounds, machine: Machine
    ) -> str | None:
        """Return why float64 holds every sum before rounding."""
        total = _total(self.tree, bounds, size)
        binary = self.tree.radix == 2 and self.tree.addend is not Joins.FUSED
        return None if binary or total is None else _plain_why(self.lane, total, free)

    def build(self, children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        """Write plain sums, and their sum with the accumulator."""
        total = _plain_sum(children)
        if own is not None:
            total = odd_sum(own, total, self.directed and total.lanes.directed)
        if self.converts:
            return total.through(FLOAT)
        if self.tree.rounding is Rounding.RDN:
            more = [] if own is None else [(own, None)]
            total = _zero_of_signs(total, [*children, *more], True)
        # The sum is exact; its bits below a subnormal result's last place must not be lost.
        return self.rounded(Sum.exact(total), p)


@dataclass(frozen=True)
class _TwoSums(_WideNode):
    """Products cut at 2^cut: upper and lower parts add up exactly in float64; results are float32.

    No child is NaN or infinite. The accumulator may be so, or -0, only with ``special``: a -0 shows
    the sign of other zeros.
    """

    cut: int
    special: bool

    @property
    def key(self) -> tuple[Any, ...]:
        """Whether rounding is directed, and whether the accumulator may be special."""
        return ("two", self.directed, self.special)

    @property
    def name(self) -> str:
        """The name that plans print."""
        return f"wide-float{'-directed' * self.directed}-split{'-special' * self.special}"

    def exact_for(
        self, size: int, free: int, wide: bool, bounds: Bounds, machine: Machine
    ) -> str | None:
        """Return why the sums of both parts are exact.

        Of n products, multiples of 2^low below 2^high, the parts below 2^c add up below
        n * 2^(c - 1), those above to multiples of 2^c, and to less than half the magic number.
        Zeros lose their sign, which only an addend of -0 shows; an addend beyond P + 1 bits above
        the sum of products does not change.
        """
        tree, span, carries = self.tree, bounds.span, (size - 1).bit_length()
        cut, first = span.low + F64_BITS - carries, bounds.start.span or Span(0, 0)
        fused = tree.product is ProductRounding.FUSED and tree.lanes == 1
        whole = bounds.finite and max(bounds.bits) <= F64_BITS  # float64 holds the factors
        top = max(first.high, span.high + carries + F32_BITS + 1)
        inside = span.low >= F32_LEAST and top < F32_HIGH
        exact = span.high + carries + 1 <= cut + F64_BITS - 2
        held = self.cut == cut and self.special >= bounds.start.special
        if not (fused and whole and inside and exact and held and self.converts):
            return None
        return f"products are cut at 2^{cut}: both their parts add up exactly in float64"

    def parameters(self) -> Numbers:
        """Return 1.5 * 2^52 times 2^cut: adding this number rounds to a multiple of 2^cut."""
        return {"split": float(np.ldexp(1.5, self.cut + F64_BITS - 1))}, {}

    def build(self, children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        """Write both sums, and their sum with the accumulator, rounded to odd."""
        directed = self.directed and p.reals["split"].lanes.directed
        high, rest = p.reals["split"], []
        for x, y in children:
            moved = x + high if y is None else x.intrinsic("fma", y, high)
            part = high - moved
            rest.append((x + part if y is None else x.intrinsic("fma", y, part), None))
            high = moved
        high, low = high - p.reals["split"], _plain_sum(rest)
        if own is None:
            total = odd_sum(high, low, directed)
        else:  # three numbers as Boldo and Melquiond add them (see `chain`, their section 5)
            whole, left = ordered_sum(high, low)
            top, error = exact_sum(whole, own)
            total = odd_sum(top, odd_sum(error, left, directed), directed)
        if self.special:
            more = [] if own is None else [(own, None)]
            total = _zero_of_signs(total, [*children, *more], False)
            if own is not None:
                total = _is_finite(own).where(total, own)
        return total.through(FLOAT)


@dataclass(frozen=True)
class _BinaryNode(_Node):
    """The lane's own step, for nodes of at most two children."""

    step: Step

    @property
    def key(self) -> tuple[Any, ...]:
        """Key of the step."""
        return ("binary", self.step.key)

    @property
    def name(self) -> str:
        """The name that plans print."""
        return self.step.name

    def exact_for(
        self, size: int, free: int, wide: bool, bounds: Bounds, machine: Machine
    ) -> str | None:
        """Return why the step adds products and accumulators to each other."""
        tree = self.tree
        if tree.radix > 2 or tree.addend is Joins.FUSED or sum(bounds.bits) > F64_BITS:
            return None
        found = adder(tree, bounds, machine)
        return found[1] if found and found[0] == self.step else None

    def parameters(self) -> Numbers:
        """Return the parameters of the lane's step."""
        return self.step.parameters()

    def build(self, children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        """Write one step."""
        if own is not None:
            children = [(own, None), *children]
        if len(children) == 1:
            return round_pair(self.step, *children[0], p)
        return add_pair(self.step, _value(children[0]), *children[1], p)


@dataclass(frozen=True)
class _ExactNode(_Node):
    """Any children: their exact sum as an expansion of float64 numbers, rounded.

    An expansion of non-overlapping parts is grown child by child (Shewchuk, Discrete Comput. Geom.
    18, 1997, theorem 10) and its parts are added from the smallest on, rounding to odd.
    """

    @property
    def name(self) -> str:
        """The name that plans print."""
        return f"exact-{self.tree.rounding}"

    def exact_for(
        self, size: int, free: int, wide: bool, bounds: Bounds, machine: Machine
    ) -> str | None:
        """Return why float64 holds children, or products and their errors."""
        tree, more = self.tree, sum(bounds.bits) > F64_BITS
        children = min(tree.radix, size) * (1 + more) + 1
        total = bounds.span.times(children)
        inside = max(abs(total.low), abs(total.high)) <= F64_RANGE
        one_node = size <= tree.radix and tree.lanes == 1 and tree.addend is not Joins.LEAF
        held = max(bounds.bits) <= F64_BITS and (not more or one_node) and wide == more
        if not held or not inside or children > MAX_EXPANSION or free > 1:
            return None
        why = f"an exact sum in parts of float64, rounded to odd in {F64_BITS} bits first"
        return f"products and their errors: {why}" if wide else why

    def build(self, children: Sequence[Child], own: Vec | None, p: Parameters) -> Vec:
        """Write the exact sum; a NaN or infinite child decides the result."""
        if own is not None:
            children = [*children, (own, None)]
        total, special = _expanded([_value(child) for child in children]), _plain_sum(children)
        total = _is_finite(special).where(total, special)
        total = _zero_of_signs(total, children, mode_constants(str(self.tree.rounding))[3] == 1)
        return self.rounded(Sum.exact(total), p)


def _plain_sum(children: Sequence[Child]) -> Vec:
    """Return the sum of children in the lane's arithmetic, one after another."""
    total = _value(children[0])
    for x, y in children[1:]:
        total = total + x if y is None else x.intrinsic("fma", y, total)
    return total


def _value(child: Child) -> Vec:
    x, y = child
    return x if y is None else x * y


def _zero_of_signs(total: Vec, children: Sequence[Child], any_sign: bool) -> Vec:
    """Give a zero total the sign of any negative child, or of all children."""
    signs = [_value(child).as_bits for child in children]
    sign = signs[0]
    for other in signs[1:]:
        sign = sign | other if any_sign else sign & other
    return total.equals(0.0).where((sign & sign.lanes.sign_mask).as_real, total)


def _expanded(values: Sequence[Vec]) -> Vec:
    """Return the sum of finite values, rounded to odd."""
    directed = values[0].lanes.directed
    parts = [values[0]]  # from the smallest on
    for value in values[1:]:
        if len(values) == 2:
            parts = [*parts, value]
            continue
        errors = []
        for part in parts:
            value, error = exact_sum(value, part)
            errors.append(error)
        parts = [*errors, value]
    total = parts[0]
    for part in parts[1:]:
        total = odd_sum(part, total, directed)
    return total


def _is_finite(x: Vec) -> Vec:
    return x.magnitude_bits.as_real < float("inf")
