# SPDX-License-Identifier: Apache-2.0
"""Chooses the code for a matrix product: the first step whose lemma holds, with its reason.

Steps that may compute a stage are tried fastest first (`fpsim.compute.lanes.steps`). If no step has
a proof for the operands, exact sums run in limbs, other sums in scalar code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np

from fpsim.compute.bounds import (
    F32_BITS,
    F32_LEAST,
    F32_MOST,
    F64_BITS,
    Bounds,
    Span,
    Start,
    block_bounds,
    block_of_scales,
    element_span,
    float_shift,
    inside,
    product_bounds,
    scale_span,
    used_block_bounds,
)
from fpsim.compute.facts import (
    elements_finite,
    facts_of,
    finite_elements,
    infinite_scales,
    infinities,
    zero_scales,
)
from fpsim.compute.lanes.pack_bytes import WORD, byte_power, pairs_fit
from fpsim.compute.lanes.steps.chain import General, MaskedRandom, Separate, chain_steps
from fpsim.compute.lanes.steps.chunk import ChunkStep, chunk_steps
from fpsim.compute.lanes.steps.fixed import fixed_steps
from fpsim.compute.lanes.steps.step import Step
from fpsim.compute.lanes.steps.sums import PlainSum, Slice, plain_sums, slices_of
from fpsim.compute.lanes.steps.tree import MAX_LEAVES, one_node_steps, tree_steps
from fpsim.compute.lanes.steps.window import window_steps
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.values import MAX_TABLE_BITS, value_table
from fpsim.formats.floating import FloatFormat
from fpsim.formats.random_bits import RandomBits
from fpsim.formats.rounding import Rounding
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.tiles import PRODUCTS, RandomSource, Source, turn
from fpsim.kernels.llvm.vector import Lane
from fpsim.units.spec import MacSpec
from fpsim.units.stages import (
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Joins,
    NanScale,
    ProductRounding,
    Stage,
    Tree,
)

__all__ = [
    "Allowed", "BackEnd", "Plan", "Split", "any_step", "in_lanes", "last_sum", "plan_matmul",
    "steps_of",
]  # fmt: skip

#: Most parts of a term in lanes; with more, scalar code is as fast.
MAX_PARTS = 7
#: Least products with common scales that are summed in a lane before the limbs; and most slices,
#: since each is a product in lanes and with more the limbs are as fast.
MIN_LIMB_BLOCK, MAX_BLOCK_SLICES = 4, 8
#: Most products of a sum of bytes: 2^15 products of 2^7 * 2^8 and a start as large fit 32 bits; and
#: products per block if there are no scales.
MAX_BYTES, FREE_BYTES = 1 << 15, 64
#: Most plans in the cache.
MAX_PLANS = 1 << 12
#: Bits of random integers that a dot instruction adds.
BYTE = 8


class BackEnd(StrEnum):
    """Kind of code that runs a matrix product."""

    LANES = "lanes"  #: vector lanes, by a step
    LIMBS = "limbs"  #: exact sums in a Kulisch accumulator, of terms or of slices summed in lanes
    SCALAR = "scalar"  #: 64-bit integers, one dot product at a time


@dataclass(frozen=True)
class Split:
    """A cut of wide elements of blocks into parts of a few bits each.

    A term is the sum of the products of all pairs of parts, the part of ``b`` running fastest.
    Part i holds the bits from 2^(low + i * bits) up to part i + 1.
    """

    counts: tuple[int, int]
    bits: tuple[int, int]
    lows: tuple[int, int]

    @property
    def parts(self) -> int:
        """Parts of a term: all pairs of a part of ``a`` and a part of ``b``."""
        return prod(self.counts)


@dataclass(frozen=True)
class Plan:
    """The code that computes a matrix product, and why it is exact.

    ``kernel`` is a name for people, made of the source of terms and the step; no code reads it.
    """

    back_end: BackEnd
    why: str
    step: Step | None = field(default=None, compare=False, repr=False)
    source: Source = field(default=PRODUCTS, repr=False)
    #: The cut of elements, if block sums are too wide for a lane.
    split: Split | None = None
    #: (s, w) of the slices that lanes sum before the limbs.
    slices: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    #: Elements of K per chunk, if lanes make chunk results for the limbs; else 0.
    chunk: int = 0
    #: Lanes of a tree over all of K, whose products lane kernels take one lane after another.
    lanes: int = 1
    #: Whether results of zero are computed again in scalar code, for their sign.
    redo_zeros: bool = False
    #: Whether lanes replace NaN and infinite elements by 0; scalar code computes their results.
    redo_infinite: bool = False
    #: Cache of `fpsim.compute.lanes.run` between products of this plan.
    setups: list[Any] = field(default_factory=list, compare=False, repr=False)

    @property
    def of_a_part(self) -> Plan:
        """The plan for a part of the rows or of K, without cached sizes and spans."""
        return replace(self, setups=[])

    @property
    def lane(self) -> Lane | None:
        """The lane of the step, None without a step."""
        return None if self.step is None else self.step.lane

    @property
    def kernel(self) -> str:
        """Name, for people, of the source of terms and the step, or of the back-end."""
        if self.step is None:
            return str(self.back_end)
        block = f"block{self.source.size} " if self.source.block else ""
        random = f"-{self.source.random}" if self.source.random in _SEEDS else ""
        return f"{'bytes ' * self.source.bytes}{block}{self.step.name}{random}"


_SEEDS = (RandomSource.SEEDED, RandomSource.BYTES)
SCALAR = Plan(BackEnd.SCALAR, "64-bit integers, one dot product at a time")
#: Says which steps a plan may use: all, except in tests.
Allowed = Callable[[Step], bool]


def any_step(step: Step) -> bool:
    """Return true: every step is allowed."""
    return True


def plan_matmul(
    spec: MacSpec,
    args: MatmulOperands,
    machine: Machine | None = None,
    allowed: Allowed = any_step,
) -> Plan:
    """Choose the code for a matrix product and say why it is exact.

    Args:
        spec: the unit.
        args: operands of the product.
        machine: the processor to plan for; this one if absent.
        allowed: says which steps a plan may use.

    Returns:
        The plan; operands with equal shapes and facts share a cached plan.
    """
    machine = machine or Machine.host()
    if not in_lanes(spec):
        return SCALAR
    key, a, b = None, facts_of(args.a), facts_of(args.b)
    if args.c is None and allowed is any_step:
        random = args.random.width if isinstance(args.random, RandomBits) else args.random is None
        sizes = args.a.codes.shape, len(args.b.codes), args.paired
        key = spec, machine, sizes, random, a.summary, b.summary
        found = _plans.get(key)
        if found is not None:
            return found
    plan = _of_operands(spec, args, machine, allowed)
    if key is not None and not (a.summed or b.summed):
        if len(_plans) >= MAX_PLANS:
            _plans.clear()
        _plans[key] = plan
    return plan


def in_lanes(spec: MacSpec) -> bool:
    """Return whether lanes can look up the values of a unit's operands."""
    return max(spec.a.bits, spec.b.bits) <= MAX_TABLE_BITS


#: Plans by the facts of `Facts.summary` that they depend on.
_plans: dict[Any, Plan] = {}


def _of_operands(spec: MacSpec, args: MatmulOperands, machine: Machine, allowed: Allowed) -> Plan:
    plan = _plan(spec, args, machine, allowed)
    if plan.back_end is BackEnd.SCALAR and not args.paired:
        plan = _beside_infinities(spec, args, machine, allowed) or plan
    if plan.back_end is BackEnd.SCALAR:
        return plan
    limbs = plan.back_end is BackEnd.LIMBS and plan.step is None
    signed = limbs and not isinstance(spec.accumulate, Block)
    if not signed and _zeros_have_signs(spec.accumulate, args.c):
        why = f"{plan.why}; results of zero are done again as scalar code, for the sign"
        plan = replace(plan, why=why, redo_zeros=True)
    if plan.step is not None and plan.step.random:
        source = _random_source(plan.step, args, machine)
        plan = replace(plan, source=replace(plan.source, random=source))
    return plan


def _beside_infinities(
    spec: MacSpec, args: MatmulOperands, machine: Machine, allowed: Allowed
) -> Plan | None:
    """Return a plan with 0 for NaN and infinite elements, whose results are redone, or None."""
    if elements_finite(args) or not all(value_table(f)[0] == 0 for f in (spec.a, spec.b)):
        return None
    plan = _plan(spec, finite_elements(args), machine, allowed)
    if plan.back_end is BackEnd.SCALAR:
        return None
    why = f"{plan.why}; results of NaN and infinite elements are scalar code"
    return replace(plan, why=why, redo_infinite=True)


def _zeros_have_signs(stage: Stage, start: Any) -> bool:
    """Return whether an exact zero sum depends on the signs of zero terms.

    IEEE 754, section 6.3: the sum is -0 if all terms are -0; toward -infinity, unless all are +0.
    """
    if isinstance(stage, Block):
        return _zeros_have_signs(stage.into, start)
    if isinstance(stage, Chunked):
        return _zeros_have_signs(stage.inner, None) or _zeros_have_signs(stage.outer, start)
    if not isinstance(stage, Exact):
        return False
    first = np.zeros(1) if start is None else stage.format.decode(start)
    return stage.rounding is Rounding.RDN or bool(np.any((first == 0) & np.signbit(first)))


def _random_source(step: Step, args: MatmulOperands, machine: Machine) -> RandomSource:
    """Return the source of random integers; a dot instruction adds bytes times 2^n, n < 7."""
    if not isinstance(args.random, RandomBits):
        return RandomSource.LOADED
    if isinstance(step, MaskedRandom) and step.lane is Lane.F32 and machine.byte_dots:
        below = F32_BITS - 1 - step.stage.format.mantissa_bits - BYTE
        if step.stage.random_bits == args.random.width == BYTE and 0 <= below < BYTE - 1:
            return RandomSource.BYTES
    return RandomSource.SEEDED


# -- candidates --------------------------------------------------------------------------------


def steps_of(stage: Stage, bounds: Bounds, machine: Machine) -> Iterator[Step]:
    """Yield the steps that may compute a stage over terms, fastest first.

    Args:
        stage: a stage of one level, not a block or a chunked stage.
        bounds: bounds of the terms.
        machine: the processor.

    Yields:
        Candidate steps; the planner asks their lemmas.
    """
    if isinstance(stage, Chain):
        nodes = list(one_node_steps(stage, 1, bounds, machine))
        for step in chain_steps(stage, bounds, machine):
            if isinstance(step, General | Separate) and step.lane is Lane.F64:
                # A conversion to float32 is faster than rounding on the bits of float64.
                yield from (step for step in nodes if step.node.converts)
            yield step
        yield from nodes
    elif isinstance(stage, Fixed):
        yield from fixed_steps(stage)
    elif isinstance(stage, Exact):
        yield from plain_sums(stage)
    elif isinstance(stage, Aligned):
        yield from window_steps(stage, bounds)
    elif isinstance(stage, Tree):
        yield from tree_steps(stage, stage.products or bounds.count, bounds, machine)


@dataclass(frozen=True)
class _Sum:
    """A sum in lanes: terms from a source, added by a stage, perhaps in chunks."""

    source: Source
    stage: Stage
    count: int  #: number of terms
    outer: Stage | None = None
    chunk: int = 0  #: terms of a chunk
    block: Block | None = None
    lanes: int = 1  #: a lane's terms are a chunk


def _sum_of(spec: MacSpec, args: MatmulOperands) -> _Sum | None:
    """Return the sum of a unit; None for chunks within chunks."""
    length = args.length
    stage, count, chunk, outer = spec.accumulate, length, 0, None
    if isinstance(stage, Tree) and stage.products is None and length > MAX_LEAVES:
        return _chunks_of_tree(stage, args)
    if isinstance(stage, Chunked):
        chunk, outer, stage = stage.chunk(length), stage.outer, stage.inner
    block = stage if isinstance(stage, Block) else None
    source = PRODUCTS
    if block is not None:
        source = Source(True, block.size, 1 + spec.splits("a"), 1 + spec.splits("b"))
        stage, count = block.into, -(-length // block.size) * spec.quadrants
        if chunk % block.size:
            return None
        chunk = chunk // block.size * spec.quadrants
        if isinstance(stage, Chunked):
            if outer is not None or stage.chunk(count) % spec.quadrants:
                return None
            chunk, outer, stage = stage.chunk(count), stage.outer, stage.inner
    if any(isinstance(part, Chunked | Block) for part in (stage, outer)):
        return None
    if outer is not None and spec.random_bits:
        return None
    return _Sum(source, stage, count, outer, chunk, block)


def _chunks_of_tree(tree: Tree, args: MatmulOperands) -> _Sum | None:
    """Return a tree over all products as a tree over results of equal chunks, or None.

    Each lane is a chunk that a chain sums; without lanes, chunks are subtrees. A subtree's -0
    becomes +0 where it meets the +0 that chunks begin with, except toward -infinity, and an addend
    of -0 would show it.
    """
    if tree.lanes > 1:
        inner: Stage = Chain(tree.format, tree.rounding, tree.overflow, product=tree.product)
        size = args.length // tree.lanes
    else:
        size = 1
        while size * tree.radix <= MAX_LEAVES and args.length % (size * tree.radix) == 0:
            size *= tree.radix
        inner = replace(tree, products=size, addend=Joins.ROOT)
        if tree.rounding is not Rounding.RDN and Start(tree.format, args.c).special:
            return None
    if tree.addend is Joins.LEAF or size == 1 or args.length % tree.lanes:
        return None
    outer = replace(tree, products=args.length // size, lanes=1, product=ProductRounding.FUSED)
    return _Sum(PRODUCTS, inner, args.length, outer, size, lanes=tree.lanes)


def _plan(spec: MacSpec, args: MatmulOperands, machine: Machine, allowed: Allowed) -> Plan:
    made = _sum_of(spec, args)
    if made is None or (made.block is not None and made.block.convert is not None):
        return SCALAR
    plan = _of_sum(spec, args, made, machine, allowed)
    if plan.back_end is BackEnd.SCALAR and isinstance(made.outer, Exact):
        # The limbs add chunk results that no lane adds exactly.
        inner = replace(spec, accumulate=_inside(spec.accumulate), name="")
        size = made.chunk // made.source.quadrants * made.source.size
        one = replace(made, outer=None, count=min(made.chunk, made.count), chunk=0)
        plan = _of_sum(inner, replace(args, c=None), one, machine, allowed)
        if plan.step is None or plan.back_end is BackEnd.LIMBS or plan.source.block:
            return SCALAR
        why = f"chunks of {made.chunk}: {plan.kernel} ({plan.why}); summed in 32-bit limbs"
        return replace(plan, back_end=BackEnd.LIMBS, why=why, chunk=size)
    return plan


def _inside(stage: Stage) -> Stage:
    """Return the stage that makes chunk results, with the blocks around it."""
    if isinstance(stage, Block):
        assert isinstance(stage.into, Chunked)
        return replace(stage, into=stage.into.inner)
    assert isinstance(stage, Chunked)
    return stage.inner


def last_sum(stage: Stage) -> Stage:
    """Return the innermost stage, inside blocks and chunks, whose sum makes the result."""
    while isinstance(stage, Block | Chunked):
        stage = stage.into if isinstance(stage, Block) else stage.outer
    return stage


def _of_sum(
    spec: MacSpec, args: MatmulOperands, made: _Sum, machine: Machine, allowed: Allowed
) -> Plan:
    """Return the plan of a sum in lanes or in limbs."""
    if made.block is None:
        bounds = product_bounds(args)
        if sum(bounds.bits) > F64_BITS and infinities(args):
            return SCALAR  # an infinite product has no rounding error
        plan = _first(spec, args, made, bounds, machine, allowed)
        if plan is None and isinstance(made.stage, Exact) and not made.chunk:
            plan = _in_limbs(spec, args, bounds, machine)
        # Limbs of products take whole matrices only.
        alone = plan is not None and plan.step is None and args.paired
        return SCALAR if plan is None or alone else plan
    size = made.block.size
    bounds = block_bounds(size, args)
    if sum(bounds.bits) > F64_BITS:
        bounds = used_block_bounds(size, args)
    plan = None
    if sum(bounds.bits) > F64_BITS:
        plan = _wide_blocks(spec, args, made, bounds, machine, allowed)
    elif spec.quadrants == 1 or elements_finite(args):
        # Lanes put 0 in place of elements of the other sign, and 0 times infinity is NaN.
        plan = _first(spec, args, made, bounds, machine, allowed)
    if plan is not None:
        why = f"block sums have {bounds.bits[0]} bits and their scales {bounds.bits[1]}"
        return replace(plan, why=f"{why}; {plan.why}")
    flat = _without_blocks(spec)
    return SCALAR if flat is None else _plan(flat, args, machine, allowed)


def _without_blocks(spec: MacSpec) -> MacSpec | None:
    """Return a unit without blocks that has equal results, or None.

    An exact sum of exact sums is an exact sum. An infinite scale is excluded: it makes NaN of a
    product of 0 but an infinity of a nonzero sum. Only signs of exact zeros may differ.
    """
    stage = spec.accumulate
    if not isinstance(stage, Block) or not isinstance(stage.into, Exact):
        return None
    plain = stage.convert is None and stage.nan_scale is NanScale.NAN and spec.quadrants == 1
    scales = (spec.a_scale, spec.b_scale)
    if not plain or any(isinstance(s, FloatFormat) and s.infinity for s in scales):
        return None
    return replace(spec, accumulate=stage.into, name="")


def _candidates(
    made: _Sum, args: MatmulOperands, bounds: Bounds, machine: Machine
) -> Iterator[tuple[Step, str]]:
    """Yield the steps whose lemma holds, with their reasons."""
    if made.outer is None:
        own = replace(bounds, count=made.count, start=Start(made.stage.initial, args.c))
        for step in steps_of(made.stage, own, machine):
            why = step.exact_for(own, machine)
            if why is not None:
                yield step, why
        return
    count = min(made.chunk, made.count)
    inside_chunk = replace(bounds, count=count, start=Start(made.stage.initial, None))
    results = Bounds.of_format(made.stage.result)
    count = -(-made.count // made.chunk)
    results = replace(results, count=count, start=Start(made.outer.initial, args.c))
    yield from chunk_steps(
        made.stage, made.outer, made.chunk, inside_chunk, results, machine, steps_of
    )


def _first(
    spec: MacSpec, args: MatmulOperands, made: _Sum, bounds: Bounds, machine: Machine,
    allowed: Allowed,
) -> Plan | None:  # fmt: skip
    """Return the plan of the first candidate that the loop over K can run, or None."""
    for step, why in _candidates(made, args, bounds, machine):
        if allowed(step) and _runs(step, made, args.length, bounds):
            plan = Plan(BackEnd.LANES, why, step, made.source, lanes=made.lanes)
            return _in_bytes(spec, args, plan, machine)
    return None


def _runs(step: Step, made: _Sum, length: int, bounds: Bounds) -> bool:
    """Return whether the loop over K makes whole steps, and the lane holds block sums."""
    source, inner = made.source, step.levels[0]
    if made.chunk and made.chunk % math.lcm(inner.terms, source.quadrants):
        return False
    if not source.block:
        return True
    if turn(step, source) > MAX_LEAVES * source.size:
        return False
    blocks, per_turn = -(-length // source.size), turn(step, source) // source.size
    padded = -(-blocks // per_turn) * per_turn * source.quadrants
    if padded // inner.terms > -(-blocks * source.quadrants // inner.terms):
        return False  # adding the zeros of an empty step may round once more, or change a sign
    lane = inner.lane
    sums_fit = max(bounds.bits) <= (F64_BITS if lane is Lane.F64 else F32_BITS)
    return sums_fit and (lane is not Lane.F32 or float_shift(bounds.a, bounds.b) == 0)


def _wide_blocks(
    spec: MacSpec, args: MatmulOperands, made: _Sum, bounds: Bounds, machine: Machine,
    allowed: Allowed,
) -> Plan | None:  # fmt: skip
    """Return the plan of a chain over block sums of more than 53 bits, or None.

    All elements are cut at the same powers of two, so that sums of parts are narrow; a sum times
    its scales is a product rounded by the lane, and its error.
    """
    stage, spans = made.stage, [element_span(operand) for operand in args.operands]
    carries = (made.source.size - 1).bit_length()
    # All terms of one pair of signs must be neighbours.
    split = _split(spans, carries, 1 if spec.splits("b") else MAX_PARTS)
    if not isinstance(stage, Chain) or made.chunk or split is None or infinities(args):
        return None
    # A zero scale would make zeros of both signs in place of one.
    if split.parts > 1 and (args.paired or zero_scales(args) or stage.rounding is Rounding.SR):
        return None
    count = made.count * split.parts
    narrow = replace(
        bounds,
        bits=(sum(split.bits) + carries, bounds.bits[1]),
        count=count,
        start=Start(stage.initial, args.c),
    )
    planes = [n * (1 + spec.splits(name)) for n, name in zip(split.counts, "ab", strict=True)]
    source = Source(True, made.source.size, planes[0], planes[1])
    steps: Iterator[Step]
    if split.parts > 1 or stage.rounding is not Rounding.SR:
        steps = one_node_steps(stage, split.parts, narrow, machine)
    else:
        steps = steps_of(stage, narrow, machine)
    for step in steps:
        why = step.exact_for(narrow, machine)
        if why is not None and allowed(step):
            parts = split if split.parts > 1 else None
            if parts:
                why = f"{parts.parts} parts each; {why}"
            return Plan(BackEnd.LANES, why, step, source, parts)
    return None


def _split(spans: list[Span], carries: int, most: int) -> Split | None:
    """Return the cut of elements into the fewest parts that fit, or None.

    Elements of ``a`` get at most ``most`` parts.
    """
    pairs = [(m, n) for m in range(1, most + 1) for n in range(1, MAX_PARTS // m + 1)]
    for counts in sorted(pairs, key=prod):
        bits = (-(-spans[0].bits // counts[0]), -(-spans[1].bits // counts[1]))
        if sum(bits) + carries <= F64_BITS:
            return Split(counts, bits, (spans[0].low, spans[1].low))
    return None


# -- exact sums that no lane holds -------------------------------------------------------------


def _in_limbs(spec: MacSpec, args: MatmulOperands, bounds: Bounds, machine: Machine) -> Plan:
    """Return the plan of an exact sum: slices of block sums or products in lanes, or limbs."""
    stage, size = spec.accumulate, block_of_scales(args)
    fits = size >= MIN_LIMB_BLOCK and spec.quadrants == 1 and not infinite_scales(args)
    if fits:
        blocks = replace(block_bounds(size, args), count=-(-args.length // size))
        found = Slice(stage, Lane.F64, False)
        why = found.exact_for(blocks, machine)
        slices = tuple(slices_of(blocks, False))
        if why is not None and len(slices) <= MAX_BLOCK_SLICES:
            why = f"sums of {size} fit {blocks.bits[0]} bits of double; scaled, {why}"
            return Plan(BackEnd.LIMBS, why, found, Source(True, size), slices=slices)
    products = replace(bounds, count=args.length)
    wide = sum(bounds.bits) > F64_BITS
    found = Slice(stage, Lane.F64, wide)
    why = found.exact_for(products, machine)
    if why is not None:
        why = f"products have {sum(bounds.bits)} bits; {why}"
        return Plan(BackEnd.LIMBS, why, found, slices=tuple(slices_of(products, wide)))
    if wide:
        return SCALAR
    bits = bounds.span.times(args.length).bits
    return Plan(BackEnd.LIMBS, f"partial sums span {bits} bits: summed in 32-bit limbs")


# -- sums of bytes -----------------------------------------------------------------------------


def _in_bytes(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> Plan:
    """Return the plan with sums of products as integers of a byte, if they fit."""
    source, step = plan.source, plan.step
    assert step is not None
    if args.paired or not (machine.byte_dots or machine.byte_pairs):
        return plan
    if not source.block:
        found = _any_order(spec, args, step)
        if found is None:
            return plan
        if isinstance(step, ChunkStep):
            step = replace(step, size=step.size // found.size)
        source = found
    power = byte_power(spec)
    if power is None or source.size % WORD or source.size > MAX_BYTES:
        return plan
    if machine.byte_pairs and not pairs_fit(spec, source):
        return plan
    if step.levels[0].lane is Lane.F32 and not _scales_fit(args, power):
        return plan
    why = f"{plan.why}; products are summed in bytes, {WORD} at a time"
    return replace(plan, why=why, step=step, source=replace(source, bytes=True))


def _any_order(spec: MacSpec, args: MatmulOperands, step: Step) -> Source | None:
    """Return blocks for a sum of products that is exact in any order, or None."""
    if not isinstance(step.levels[0], PlainSum) or infinite_scales(args):
        return None
    size = block_of_scales(args)
    if step.chunk:
        size = math.gcd(size or FREE_BYTES, step.chunk)
        if size % 16 or spec.quadrants > 1:
            return None
    if not block_of_scales(args):
        return Source(True, size or FREE_BYTES)
    return Source(True, size, 1 + spec.splits("a"), 1 + spec.splits("b"))


def _scales_fit(args: MatmulOperands, power: int) -> bool:
    """Return whether float32 holds ``a``'s scales, and products of scales, times 2^power."""
    spans = [scale_span(operand) for operand in args.operands]
    moved = Span(spans[0].low + power, spans[0].high + power)
    return all(inside(span, F32_LEAST, F32_MOST) for span in (moved, moved * spans[1]))
