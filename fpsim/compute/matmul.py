# SPDX-License-Identifier: Apache-2.0
"""Matrix products: runs a plan, stage by stage, and returns accumulator codes.

A composite stage makes terms with one product per chunk or lane and hands them, as an array
(T, M, N), to the stage that adds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.facts import finite_elements, special_results
from fpsim.compute.lanes.add_terms import add_planes, tree_of
from fpsim.compute.lanes.pack import pack_values
from fpsim.compute.lanes.pack_wide import split_values
from fpsim.compute.lanes.padding import begun, from_a_word_on, padded
from fpsim.compute.lanes.run import run_lanes, run_planes, run_slices, run_values
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan.bounds import (
    Span,
    TermBounds,
    block_bounds,
    block_of_scales,
    known_by_formats,
    product_bounds,
)
from fpsim.compute.plan.choose import (
    F64_BITS,
    NO_ADDEND,
    Plan,
    block_subtree,
    chunks_of_blocks,
    plan_matmul,
    plan_subtree,
    slices_of,
    subtree_leaves,
    without_blocks,
)
from fpsim.compute.scalar.dot_products import dot_codes, encode_exact
from fpsim.compute.values import WideResult, result_values, values_of
from fpsim.formats.random_bits import part_of
from fpsim.formats.rounding import Rounding
from fpsim.kernels.scalar import limbs
from fpsim.units.operands import Operand
from fpsim.units.spec import MacSpec
from fpsim.units.stages import (
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Joins,
    Stage,
    Tree,
    random_bits_of,
)

__all__ = ["matmul_codes"]

Array = NDArray[Any]
#: Products computed at a time where a matrix product runs as single dot products.
ROWS_BATCH = 1 << 22
#: Terms (of chunks or lanes) kept at a time.
TERMS_BATCH = 1 << 22
#: Chunks whose results are kept at a time where they are added one after the other.
SERIAL_CHUNKS = 16


def matmul_codes(spec: MacSpec, args: MatmulOperands) -> tuple[Array, Plan]:
    """Return the result codes (M, N) of a matrix product and the plan that made them."""
    if begun(args.random):
        count = spec.roundings(args.length)
        args = replace(args, random=args.random_integers(count, spec.random_bits))
    plan = plan_matmul(spec, args)
    given = finite_elements(args) if plan.redo_infinite else args
    codes = _run(spec, given, plan).astype(spec.result.dtype, copy=False)
    if plan.redo_infinite:
        special = special_results(args)
        _redo(spec, args, codes, lambda part: special[part])
    if plan.redo_zeros:
        _redo(spec, args, codes, lambda part: spec.result.decode(codes[part]) == 0)
    return codes, plan


def _run(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    if plan.flat:
        spec = without_blocks(spec) or spec
    if plan.kernel == "limbs":
        return _run_limbs(spec, args, plan)
    if plan.kernel == "block limbs":
        return _run_block_limbs(spec, args, plan)
    if plan.kernel in ("slices", "block slices"):
        return _run_slices(spec, args, plan)
    if plan.kernel == "rows":
        return _run_rows(spec, args)
    if plan.kernel == "chunks":
        try:
            return _run_chunks(spec, args)
        except WideResult:
            return _run_rows(spec, args)
    if plan.kernel == "lanes":
        return _run_tree_lanes(spec, args)
    if plan.kernel == "subtrees":
        return _run_subtrees(spec, args)
    return run_lanes(spec, args, plan)


def _run_limbs(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    stage = spec.accumulate
    assert isinstance(stage, Exact)
    a, b = pack_values(args)
    if plan.split is not None:
        a, b = split_values(a, b, plan.split, 1)
    start = np.zeros(args.shape) if args.c is None else stage.format.decode(args.c)
    sums = np.empty(args.shape)
    limbs.exact_sums(a, b, start, stage.rounding is Rounding.RDN, sums)
    return encode_exact(stage, sums, args.random_integers(1, stage.random_bits))


def _run_block_limbs(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    """Run an exact sum of scaled products: exact block sums in lanes, scaled, then in limbs."""
    stage = spec.accumulate
    assert isinstance(stage, Exact)
    k, size = args.length, block_of_scales(args)
    parts = range(0, k, size)

    def scales(operand: Operand) -> Array:
        if operand.scales is None:
            return np.ones((len(operand.codes), len(parts)))
        codes = operand.scales.spread(size, k)[..., 0]
        return values_of(np.ascontiguousarray(codes), operand.scales.format)

    b_scale = scales(args.b)

    def terms(rows: MatmulOperands) -> tuple[Array, Array | None]:
        a_scale = scales(rows.a)
        a, b = (replace(operand, scales=None) for operand in rows.operands)
        plain = replace(rows, a=a, b=b, random=None)
        found = np.empty((len(parts), *rows.shape))
        for g, start in enumerate(parts):
            sums = run_values(spec, plain.cut(start, min(start + size, k)), plan)
            with np.errstate(invalid="ignore"):  # zero times infinity is NaN
                found[g] = sums * (a_scale[:, g, None] * b_scale[:, g])
        return found, rows.random_integers(1, stage.random_bits)

    return _in_row_batches(args, len(parts), terms, partial(_add_exactly, stage), spec)


def _run_slices(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    """Run an exact sum of products or block sums: exact sums of their slices, then of those."""
    stage, size = spec.accumulate, plan.source.size
    assert isinstance(stage, Exact)
    bounds = block_bounds(size, args) if plan.source.block else product_bounds(args)
    parts = 1 if plan.split is None else plan.split.parts
    slices = slices_of(bounds.span, -(-args.length // size) * parts)

    def terms(rows: MatmulOperands) -> tuple[Array, Array | None]:
        found = run_slices(spec, replace(rows, c=None, random=None), plan, slices)
        return found, rows.random_integers(1, stage.random_bits)

    span = Span(slices[0][0], slices[-1][0] + F64_BITS)
    return _in_row_batches(args, len(slices), terms, partial(_add_slices, stage, span), spec)


def _add_slices(
    stage: Exact, span: Span, made: tuple[Array, Array | None], c: Array | None
) -> Array:
    """Return the codes (M, N) of the exact sums of a few terms (T, M, N) and initial codes."""
    terms, random = made
    if random is not None:
        return _add_exactly(stage, made, c)
    node = Tree(
        stage.format, stage.rounding, stage.overflow, radix=max(len(terms), 2), addend=Joins.FUSED
    )
    bounds = TermBounds(span, Span(0, 0), (F64_BITS, 0))
    plan = plan_subtree(node, bounds, len(terms), str(Joins.FUSED))
    if plan.step is None:
        return _add_exactly(stage, made, c)
    return run_planes(node, plan, terms, None, c)


def _add_exactly(stage: Exact, made: tuple[Array, Array | None], c: Array | None) -> Array:
    """Return the codes (M, N) of the exact sums of terms (T, M, N) and initial codes, in limbs.

    The terms come with random integers for the one rounding, if there are any.
    """
    terms, random = made
    rows = np.ascontiguousarray(terms.reshape(len(terms), -1).T)
    start = np.zeros(len(rows)) if c is None else stage.format.decode(c).reshape(-1)
    sums = np.empty(len(rows))
    limbs.exact_dots(rows, np.ones(rows.shape), start, False, sums)
    return encode_exact(stage, sums, random).reshape(terms.shape[1:])


def _run_rows(spec: MacSpec, args: MatmulOperands) -> Array:
    """Run a matrix product as M * N dot products, some rows of ``a`` at a time."""
    out = np.empty(args.shape, dtype=spec.result.dtype)
    for part in _dots_parts(args):
        out[part] = dot_codes(spec, args.rows(part).as_dots(spec))
    return out


def _redo(
    spec: MacSpec, args: MatmulOperands, codes: Array, wanted: Callable[[slice], Array]
) -> None:
    """Compute the results that ``wanted`` names in parts of rows again, as single dot products."""
    for part in _dots_parts(args):
        found = np.nonzero(wanted(part))
        if found[0].size:
            codes[part][found] = dot_codes(spec, args.rows(part).as_dots(spec).at(found))


def _dots_parts(args: MatmulOperands) -> Iterator[slice]:
    """Yield parts of the rows of ``a`` whose dot products have a bounded number of products."""
    (m, n), k = args.shape, args.length
    batch = max(1, ROWS_BATCH // (k * n))
    return (slice(row, row + batch) for row in range(0, m, batch))


# -- terms of composite stages -------------------------------------------------------------------


def _run_chunks(spec: MacSpec, args: MatmulOperands) -> Array:
    """Run a product per chunk, then the outer stage; the random integers go along in order."""
    if isinstance(spec.accumulate, Block):
        chunked, args = chunks_of_blocks(spec, args)
        assert chunked is not None
        spec = chunked
    stage, length = spec.accumulate, args.length
    assert isinstance(stage, Chunked)
    inner = replace(spec, accumulate=stage.inner, name="")
    edges = [*range(0, length, stage.chunk(length)), length]
    roundings = [inner.roundings(stop - start) for start, stop in pairwise(edges)]
    taken = [0, *accumulate(roundings)]
    count, bits = len(roundings), random_bits_of(stage.outer)
    group = min(count, SERIAL_CHUNKS) if _is_serial(stage.outer) else count
    plan = None
    if isinstance(stage.inner, Chain) and known_by_formats(args) and args.random is None:
        plan = plan_matmul(inner, args.cut(0, edges[1]))  # as good for fewer products

    def add(rows: MatmulOperands, c: Array | None) -> Array:
        for start in range(0, count, group):
            found = [
                _values(
                    inner,
                    rows.cut(edges[i], edges[i + 1]).drawing(
                        taken[i], roundings[i], inner.random_bits
                    ),
                    plan,
                )
                for i in range(start, min(start + group, count))
            ]
            own = stage.outer.roundings(len(found))
            before = stage.outer.roundings(start) if start else 0
            random = part_of(rows.random, taken[-1] + before, own, bits)
            c = add_planes(stage.outer, np.stack(found), inner.result, c, random)
        assert c is not None
        return c

    return _in_row_batches(args, group, lambda rows: rows, add, spec)


def _is_serial(stage: Stage) -> bool:
    """Return whether a sum may be made of parts of its terms, each going on from the last code."""
    if isinstance(stage, Fixed):
        return stage.convert is None and not stage.sums_first
    return isinstance(stage, Chain)


def _run_tree_lanes(spec: MacSpec, args: MatmulOperands) -> Array:
    stage = spec.accumulate
    assert isinstance(stage, Tree)
    return _in_steps(spec, stage, args, lambda step: _tree_lanes_step(spec, stage, step))


def _tree_lanes_step(spec: MacSpec, stage: Tree, args: MatmulOperands) -> Array:
    chain = Chain(stage.format, stage.rounding, stage.overflow, product=stage.product)
    inner = replace(spec, accumulate=chain, name="")
    tree = replace(stage, lanes=1, products=None)
    leaf = stage.addend is Joins.LEAF

    def sums(rows: MatmulOperands) -> Array:
        starts = [rows.c if leaf and lane == 0 else None for lane in range(stage.lanes)]
        return np.stack([_lane(inner, rows, i, stage.lanes, c) for i, c in enumerate(starts)])

    return _in_row_batches(args, stage.lanes, sums, partial(tree_of, tree), spec)


def _run_subtrees(spec: MacSpec, args: MatmulOperands) -> Array:
    """Run large trees: subtrees, then trees of their results until one node is left."""
    stage = spec.accumulate
    if isinstance(stage, Block):
        return _run_block_subtrees(spec, stage, args)
    assert isinstance(stage, Tree)
    return _in_steps(
        spec,
        stage,
        args,
        lambda step: _in_row_batches(
            step,
            -(-step.length // subtree_leaves(stage)),
            lambda rows: _subtrees(spec, stage, rows),
            lambda terms, c: tree_of(stage, terms, c),
            spec,
        ),
    )


def _subtrees(spec: MacSpec, stage: Tree, args: MatmulOperands) -> Array:
    """Return the results (T, M, N) of the subtrees over products, a leaf being ``c`` or not."""
    length, leaves = args.length, subtree_leaves(stage)
    leaf = stage.addend is Joins.LEAF
    bounds = product_bounds(args)
    edges = [0, *range(leaves - leaf, length, leaves), length]
    results = []
    for start, stop in pairwise(edges):
        part, joins = args.cut(start, stop), NO_ADDEND
        if leaf and start == 0:
            part, joins = replace(part, c=args.c), str(Joins.LEAF)
        plan = plan_subtree(stage, bounds, stop - start, joins)
        results.append(run_values(spec, part, plan))
    return np.stack(results)


def _run_block_subtrees(spec: MacSpec, stage: Block, args: MatmulOperands) -> Array:
    """Do the same for a tree over block sums."""
    tree, count = stage.into, spec.block_terms(args.length)
    assert isinstance(tree, Tree)
    leaves, leaf = subtree_leaves(tree), tree.addend is Joins.LEAF
    edges = [0, *range(leaves - leaf, count, leaves), count]
    # What a subtree without addend starts from leaves it as it is, the sign of a zero too.
    nothing = 0.0 if tree.rounding is Rounding.RDN else -0.0
    neutral = tree.format.encode([nothing], "rtz", str(tree.overflow))

    def subtrees(rows: MatmulOperands) -> Array:
        results = []
        for start, stop in pairwise(edges):
            first = leaf and start == 0
            unit = block_subtree(spec, Joins.LEAF if first else Joins.ROOT)
            c = rows.c if first else np.broadcast_to(neutral, rows.shape)
            part = rows.cut(start * stage.size, stop * stage.size)
            results.append(_values(unit, replace(part, c=c)))
        return np.stack(results)

    return _in_row_batches(args, len(edges) - 1, subtrees, partial(tree_of, tree), spec)


def _in_steps(
    spec: MacSpec, stage: Tree, args: MatmulOperands, run: Callable[[MatmulOperands], Array]
) -> Array:
    """Run a tree step by step, the result of one being the addend of the next."""
    length = args.length
    size = length if stage.products is None else stage.products
    args, length = padded(args, -length % size), -(-length // size) * size
    c = args.c
    for start in range(0, length, size):
        c = run(replace(args.cut(start, min(start + size, length)), c=c))
    assert c is not None
    return c


def _in_row_batches(args: MatmulOperands, count: int, make: Any, add: Any, spec: MacSpec) -> Array:
    """Make ``count`` terms per result and add them, some rows of ``a`` at a time."""
    m, n = args.shape
    out = np.empty((m, n), dtype=spec.result.dtype)
    batch = max(64, TERMS_BATCH // (count * n))
    for row in range(0, m, batch):
        part = slice(row, row + batch)
        rows = args.rows(part)
        out[part] = add(make(rows), rows.c)
    return out


def _values(spec: MacSpec, args: MatmulOperands, plan: Plan | None = None) -> Array:
    """Return the values of a matrix product's codes, in float32 where lanes have them so.

    The plan may be known.
    """
    plan = plan or plan_matmul(spec, args)
    if plan.step is not None and plan.step.seeded and begun(args.random):
        args = from_a_word_on(spec, args)
        plan = plan_matmul(spec, args)
    if plan.redo_infinite:
        return result_values(matmul_codes(spec, args)[0], spec.result)
    stage = spec.accumulate
    stage = stage.into if isinstance(stage, Block) else stage
    if plan.step is not None and isinstance(stage, Chain | Aligned | Tree):
        return run_values(spec, args, plan)
    codes = _run(spec, args, plan).astype(spec.result.dtype, copy=False)
    return result_values(codes, spec.result)


def _lane(spec: MacSpec, args: MatmulOperands, lane: int, lanes: int, c: Array | None) -> Array:
    """Return the values of the products ``lane``, ``lane + lanes``, ... in a chain from ``c``."""
    if lane >= args.length:
        return np.zeros(args.shape)
    return _values(spec, replace(args.every(lane, lanes), c=c))
