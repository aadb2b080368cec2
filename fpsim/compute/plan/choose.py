# SPDX-License-Identifier: Apache-2.0
"""Picks the fastest kernel that is provably exact for a unit and its operands, and says why.

Notation for the bounds: P = mantissa bits + 1 of the accumulator, q = significant bits of a term,
L = mantissa bits + 1 of the lane (11, 24 or 53); every nonzero term and every partial exact sum is
a multiple of 2^low and below 2^high in magnitude (`fpsim.compute.plan.bounds.Span`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from fpsim.compute.facts import elements_finite, finite_elements
from fpsim.compute.lanes.sign_split import without_split
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.bounds import (
    Span,
    TermBounds,
    block_bounds,
    largest_sum,
    operand_bits,
    product_bounds,
    used_block_bounds,
)
from fpsim.compute.plan.byte_sums import by_bytes
from fpsim.compute.plan.chains import plan_chain, with_seed
from fpsim.compute.plan.exact_and_fixed import (
    plan_exact,
    plan_fixed,
    plan_scaled_blocks,
    plan_slices,
    slices_of,
    zeros_have_signs,
)
from fpsim.compute.plan.plan import (
    F32_BITS,
    F32_HIGH,
    F32_LOW,
    F64_BITS,
    MAX_UNROLLED,
    ROWS,
    Plan,
    Split,
    fits_float32,
    float_shift,
    half_shift,
)
from fpsim.compute.plan.trees import (
    NO_ADDEND,
    plan_subtree,
    plan_subtrees,
    plan_tree,
    subtree_leaves,
    with_addend,
)
from fpsim.compute.plan.wide_terms import (
    by_conversion,
    plan_wide,
    plan_wide_blocks,
    with_conversion,
)
from fpsim.compute.plan.windows import plan_aligned, plan_whole
from fpsim.compute.values import value_table
from fpsim.formats.floating import FloatFormat
from fpsim.formats.random_bits import RandomBits
from fpsim.formats.rounding import Overflow
from fpsim.kernels.lanes.steps_converted import converted_step
from fpsim.kernels.lanes.tiles import AnyStep, Source, turn
from fpsim.units.spec import MacSpec
from fpsim.units.stages import (
    MAX_CHUNK,
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
    "F64_BITS",
    "NO_ADDEND",
    "Plan",
    "Split",
    "block_subtree",
    "chunks_of_blocks",
    "float_shift",
    "half_shift",
    "has_zero",
    "plan_matmul",
    "plan_planes",
    "plan_subtree",
    "slices_of",
    "subtree_leaves",
    "with_addend",
    "with_chunks_of_blocks",
    "with_seed",
    "without_blocks",
]


def plan_matmul(spec: MacSpec, args: MatmulOperands) -> Plan:
    """Return the kernel for a matrix product and why it is exact."""
    plan = _plan(spec, args)
    if args.paired:
        if plan.kernel in ("limbs", "block limbs"):  # they are of whole matrices
            return ROWS
    elif plan.kernel == "rows":
        plan = _plan_beside_infinities(spec, args) or plan
    signed = plan.kernel == "rows" or (plan.kernel == "limbs" and not plan.flat)
    if not signed and zeros_have_signs(spec.accumulate, args.c):
        why = f"{plan.why}; results of zero are done again as scalar code, for the sign"
        plan = replace(plan, why=why, redo_zeros=True)
    loads = plan.step is not None and plan.step.random and not plan.step.seeded
    if loads and isinstance(args.random, RandomBits):
        return with_seed(plan, spec.accumulate, args.random.width)
    return plan


def _plan_beside_infinities(spec: MacSpec, args: MatmulOperands) -> Plan | None:
    """Return the plan of the same elements, but for NaN and infinite ones, or None."""
    if elements_finite(args) or not all(value_table(f)[0] == 0 for f in (spec.a, spec.b)):
        return None
    plan = _plan(spec, finite_elements(args))
    if plan.kernel == "rows":
        return None
    why = f"{plan.why}; results of NaN and infinite elements are scalar code"
    return replace(plan, why=why, redo_infinite=True)


def _plan(spec: MacSpec, args: MatmulOperands) -> Plan:
    stage = spec.accumulate
    length = args.length
    if isinstance(stage, Chunked):
        return _plan_chunks(spec, stage, args)
    if not isinstance(stage, Block) and sum(operand_bits(args)) > F64_BITS:
        return plan_wide(spec, args)
    if isinstance(stage, Tree) and (stage.products or length) > MAX_UNROLLED:
        if stage.products and length % stage.products and not has_zero(spec):
            return ROWS  # a step that is not full is filled with products of zero
        if stage.lanes > 1:
            return _plan_tree_lanes(spec, stage, args)
        return plan_subtrees(stage, product_bounds(args))
    if isinstance(stage, Block) and isinstance(stage.into, Chunked):
        chunked, given = chunks_of_blocks(spec, args)
        return ROWS if chunked is None else _plan(chunked, given)
    if isinstance(stage, Block):
        blocks, flat = _plan_block(spec, stage, args), without_blocks(spec)
        if blocks == ROWS and flat is not None:
            return replace(_plan(flat, args), flat=True)
        return _plan_block_subtrees(spec, stage, args) if blocks == ROWS else blocks
    bounds = product_bounds(args)
    if isinstance(stage, Aligned):
        plan = plan_whole(stage, bounds, length, args.c, lambda: largest_sum(args))
        if plan is not None:
            return plan
    plan = by_conversion(plan_terms(stage, bounds, length, args.c), stage, bounds, args.c)
    plan = by_bytes(spec, args, plan)
    if plan.kernel == "limbs":
        assert isinstance(stage, Exact)
        return plan_scaled_blocks(spec, args) or plan_slices(stage, bounds, length, args) or plan
    return plan


def without_blocks(spec: MacSpec) -> MacSpec | None:
    """Return a unit without block sums, of the same results, or None.

    Exact sums of exact sums are exact sums. An infinite scale would make NaN of each product of 0,
    a sum that is not 0 infinite; only signs of exact zeros may differ.
    """
    stage = spec.accumulate
    if not isinstance(stage, Block) or not isinstance(stage.into, Exact):
        return None
    plain = stage.convert is None and stage.nan_scale is NanScale.NAN and spec.quadrants == 1
    scales = (spec.a_scale, spec.b_scale)
    if not plain or any(isinstance(s, FloatFormat) and s.infinity for s in scales):
        return None
    return replace(spec, accumulate=stage.into, name="")


def with_chunks_of_blocks(spec: MacSpec, length: int) -> MacSpec | None:
    """Return a unit of the same results on ``length`` products whose chunks are cut before blocks.

    Chunks of scaled block sums are chunks of as many blocks, unless they part the sums that a block
    has per combination of signs: then None.
    """
    block = spec.accumulate
    assert isinstance(block, Block) and isinstance(block.into, Chunked)
    terms = spec.block_terms(length)
    size, rest = divmod(min(block.into.chunk(terms), terms), spec.quadrants)
    if rest or size * block.size > MAX_CHUNK:
        return None
    inner = replace(block, into=block.into.inner)
    chunked = Chunked(inner, block.into.outer, size * block.size)
    return replace(spec, accumulate=chunked, name="")


def chunks_of_blocks(spec: MacSpec, args: MatmulOperands) -> tuple[MacSpec | None, MatmulOperands]:
    """Return what `with_chunks_of_blocks` does, with operands whose blocks are not parted."""
    chunked = with_chunks_of_blocks(spec, args.length)
    split = without_split(spec, args) if chunked is None and spec.quadrants > 1 else None
    if split is None:
        return chunked, args
    spec, args = split
    return with_chunks_of_blocks(spec, args.length), args


def has_zero(spec: MacSpec) -> bool:
    """Return whether code 0 of an operand is zero, so that products of codes 0 are."""
    return any(value_table(fmt)[0] == 0 for fmt in (spec.a, spec.b))


def plan_terms(
    stage: Stage, terms: TermBounds, count: int, start: NDArray[Any] | None = None
) -> Plan:
    """Return the kernel that adds ``count`` terms to the codes ``start`` (None: +0)."""
    if isinstance(stage, Chain):
        return plan_chain(stage, terms, count, start)
    if isinstance(stage, Fixed):
        return plan_fixed(stage, terms, count, start)
    if isinstance(stage, Exact):
        return plan_exact(stage, terms, count, start)
    if isinstance(stage, Aligned):
        return plan_aligned(stage, terms, start)
    if isinstance(stage, Tree):
        return plan_tree(stage, terms, count, start)
    return ROWS


def plan_planes(
    stage: Stage, terms: TermBounds, count: int, start: NDArray[Any] | None = None
) -> Plan:
    """Return the same for terms that come as values, which no power of two moves."""
    if isinstance(stage, Chain):
        return plan_chain(stage, terms, count, start, halves=half_shift(terms.a, terms.b) == 0)
    if isinstance(stage, Tree) and (stage.products or count) > MAX_UNROLLED and stage.lanes == 1:
        return plan_subtrees(stage, with_addend(stage, terms))
    return plan_terms(stage, terms, count, start)


def _plan_block(spec: MacSpec, stage: Block, args: MatmulOperands) -> Plan:
    bounds = block_bounds(stage.size, args)
    if sum(bounds.bits) > F64_BITS:
        bounds = used_block_bounds(stage.size, args)
    if sum(bounds.bits) > F64_BITS:
        return plan_wide_blocks(spec, stage, bounds, args)
    if spec.quadrants > 1 and not elements_finite(args):
        return ROWS  # in lanes, what the other sign leaves out is 0, which makes NaN of infinity
    plan = _plan_block_terms(spec, stage, bounds, args)
    source = Source(True, stage.size, 1 + spec.splits("a"), 1 + spec.splits("b"))
    if plan.step is None or turn(plan.step, source) > MAX_UNROLLED * stage.size:
        return ROWS
    if _has_empty_steps(plan.step, source, args.length):
        return ROWS  # adding zeros once more may round, or turn -0 into +0
    lane = str(plan.step.real)
    sums_fit = max(bounds.bits) <= (F64_BITS if lane == "double" else F32_BITS)
    if not sums_fit or (lane == "float" and float_shift(bounds.a, bounds.b) != 0):
        return ROWS
    why = f"block sums have {bounds.bits[0]} bits and their scales {bounds.bits[1]}; {plan.why}"
    plan = replace(plan, kernel=f"block{stage.size} {plan.kernel}", why=why, source=source)
    return by_bytes(spec, args, plan)


def _has_empty_steps(step: AnyStep, source: Source, length: int) -> bool:
    """Return whether whole turns of the loop over K end in steps without a term."""
    blocks, per_turn = -(-length // source.size), turn(step, source) // source.size
    padded = -(-blocks // per_turn) * per_turn * source.quadrants
    return padded // step.terms > -(-blocks * source.quadrants // step.terms)


def _plan_block_terms(
    spec: MacSpec, stage: Block, bounds: TermBounds, args: MatmulOperands
) -> Plan:
    """Return the kernel that adds scaled block sums, which it may convert before."""
    count, into = spec.block_terms(args.length), with_conversion(stage)
    if into is None:
        return _plan_converted(stage, bounds, count, args)
    if isinstance(into, Chain):  # no float16 lanes: their scales would have to fit, too
        plan = plan_chain(into, bounds, count, args.c, halves=False)
        return by_conversion(plan, into, bounds, args.c)
    return plan_terms(into, bounds, count, args.c)


def _plan_converted(stage: Block, bounds: TermBounds, count: int, args: MatmulOperands) -> Plan:
    """Return the kernel that converts terms and adds them, where its lane holds them before.

    A term below 2^h * 2^e with the exponent e of its scales stays so when it is converted, or is at
    most as large, or becomes the smallest value that the conversion has. Multiples of 2^low stay
    such, but for the largest value in place of what overflows.
    """
    into, fmt = stage.into, stage.convert
    assert fmt is not None
    overflows = bounds.span.high > fmt.exponent_max
    if overflows and isinstance(into, Fixed) and fmt.default_overflow is not Overflow.SATURATE:
        return ROWS  # a term may have no code
    headroom = max(fmt.exponent_min + 1 - bounds.b.low, bounds.headroom) + 1
    low = min(bounds.span.low, fmt.exponent_max - fmt.mantissa_bits)
    wide = Span(low, max(bounds.span.high, fmt.exponent_min) + 1).union(bounds.b)
    terms = replace(TermBounds.of_format(fmt), a=wide, headroom=headroom, scaled=True)
    in_range = fits_float32(wide) and fmt.exponent_min >= F32_LOW and fmt.exponent_max <= F32_HIGH
    held = in_range and sum(bounds.bits) <= F32_BITS
    if not held:  # nothing of so many bits has lanes of float32
        terms = replace(terms, bits=(F64_BITS, 0))
    if isinstance(into, Chain):
        plan = plan_chain(into, terms, count, args.c, halves=False)
    else:
        plan = plan_terms(into, terms, count, args.c)
    if plan.step is None or sum(bounds.bits) > F64_BITS:
        return ROWS
    if plan.step.random and isinstance(args.random, RandomBits):
        plan = with_seed(plan, into, args.random.width)
    assert plan.step is not None
    if str(plan.step.real) == "float" and not held:
        return ROWS
    step = converted_step(plan.step, str(stage.convert_rounding))
    why = f"terms are exact before they are rounded to {fmt.name}; {plan.why}"
    return replace(plan, kernel=step.name, why=why, step=step)


def block_subtree(spec: MacSpec, joins: Joins) -> MacSpec:
    """Return a unit of a tree over block sums with another way of joining its addend."""
    stage = spec.accumulate
    assert isinstance(stage, Block) and isinstance(stage.into, Tree)
    tree = replace(stage.into, addend=joins)
    return replace(spec, accumulate=replace(stage, into=tree), name="")


def _plan_block_subtrees(spec: MacSpec, stage: Block, args: MatmulOperands) -> Plan:
    """Plan a tree over more block sums than are unrolled: subtrees, then their tree."""
    tree = stage.into
    if not isinstance(tree, Tree) or tree.products or tree.lanes > 1 or spec.quadrants > 1:
        return ROWS
    leaves = subtree_leaves(tree)
    if spec.block_terms(args.length) <= leaves:
        return ROWS
    inner = _plan(block_subtree(spec, Joins.ROOT), args.cut(0, leaves * stage.size))
    results = plan_subtree(tree, TermBounds.of_format(tree.format), leaves, str(Joins.FUSED))
    if inner.step is None or results.step is None:
        return ROWS
    return Plan("subtrees", f"of {leaves} block sums: {inner.kernel} ({inner.why})")


def _plan_chunks(spec: MacSpec, stage: Chunked, args: MatmulOperands) -> Plan:
    length = args.length
    size = min(stage.chunk(length), length)
    unit = replace(spec, accumulate=stage.inner, name="")
    taken = unit.roundings(size)
    inner = plan_matmul(unit, args.cut(0, size).drawing(0, taken, unit.random_bits))
    count = -(-length // size)
    outer = _plan_promotion(stage.outer, TermBounds.of_format(stage.inner.result), count, args)
    why = f"chunks of {size}: {inner.kernel} ({inner.why}); promoted: {outer.kernel} ({outer.why})"
    return Plan("chunks", why)


def _plan_promotion(stage: Stage, terms: TermBounds, count: int, args: MatmulOperands) -> Plan:
    """Return the plan of adding the results of ``count`` chunks, which may be chunked again."""
    if not isinstance(stage, Chunked):
        plan = plan_planes(stage, terms, count, args.c)
        if plan.step is not None and plan.step.random and isinstance(args.random, RandomBits):
            return with_seed(plan, stage, args.random.width)
        return plan
    size = min(stage.chunk(count), count)
    inner = _plan_promotion(stage.inner, terms, size, replace(args, c=None))
    bounds = TermBounds.of_format(stage.inner.result)
    outer = _plan_promotion(stage.outer, bounds, -(-count // size), args)
    why = f"chunks of {size}: {inner.kernel} ({inner.why}); promoted: {outer.kernel} ({outer.why})"
    return Plan("chunks", why)


def _plan_tree_lanes(spec: MacSpec, stage: Tree, args: MatmulOperands) -> Plan:
    """Plan a tree of lanes that are too long to unroll: a chain per lane, then the tree."""
    leaves = min(stage.lanes, subtree_leaves(stage))
    tree = replace(stage, lanes=1, products=None, product=ProductRounding.FUSED)
    if plan_subtree(tree, TermBounds.of_format(stage.format), leaves).step is None:
        return ROWS
    chain = Chain(stage.format, stage.rounding, stage.overflow, product=stage.product)
    inner = plan_matmul(replace(spec, accumulate=chain), args.cut(0, args.length))
    return Plan("lanes", f"every lane: {inner.kernel} ({inner.why})")
