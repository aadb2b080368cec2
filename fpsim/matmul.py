# SPDX-License-Identifier: Apache-2.0
"""Matrix products: runs a plan, stage by stage, and returns accumulator codes.

A composite stage makes terms with one product per chunk or lane and hands them, as an array
(T, M, N), to the stage that adds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.engine import (
    F64_BITS,
    NO_ADDEND,
    Plan,
    block_subtree,
    plan_matmul,
    plan_planes,
    plan_subtree,
    slices_of,
    subtree_leaves,
    without_blocks,
)
from fpsim.formats import Format
from fpsim.kernels import exact
from fpsim.lane_operands import pack_values, powers
from fpsim.lanes import run_lanes, run_planes, run_slices, run_values
from fpsim.lowering import exponents_of, values_of
from fpsim.operands import MatmulOperands
from fpsim.rounding import Rounding
from fpsim.rows import add_terms, dot_codes, encode_exact
from fpsim.spans import Span, TermBounds, block_bounds, block_of_scales, product_bounds
from fpsim.spec import MacSpec
from fpsim.stages import (
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Joins,
    ProductRounding,
    Stage,
    Tree,
)

__all__ = ["matmul_codes"]

Array = NDArray[Any]
#: Products computed at a time where a matrix product runs as single dot products.
ROWS_BATCH = 1 << 22
#: Terms (of chunks or lanes) kept at a time.
TERMS_BATCH = 1 << 22


def matmul_codes(spec: MacSpec, args: MatmulOperands) -> tuple[Array, Plan]:
    """Return the result codes (M, N) of a matrix product and the plan that made them."""
    plan = plan_matmul(spec, args)
    codes = _run(spec, args, plan).astype(spec.result.dtype, copy=False)
    if plan.redo_zeros:
        _redo_zeros(spec, args, codes)
    return codes, plan


def _run(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    if plan.flat:
        spec = without_blocks(spec) or spec
    if plan.kernel == "limbs":
        return _run_limbs(spec, args)
    if plan.kernel == "block limbs":
        return _run_block_limbs(spec, args, plan)
    if plan.kernel in ("slices", "block slices"):
        return _run_slices(spec, args, plan)
    if plan.kernel == "rows":
        return _run_rows(spec, args)
    if plan.kernel == "chunks":
        return _run_chunks(spec, args)
    if plan.kernel == "lanes":
        return _run_tree_lanes(spec, args)
    if plan.kernel == "subtrees":
        return _run_subtrees(spec, args)
    return run_lanes(spec, args, plan)


def _run_limbs(spec: MacSpec, args: MatmulOperands) -> Array:
    stage = spec.accumulate
    assert isinstance(stage, Exact)
    shape = (args.a.shape[0], args.b.shape[1])
    a, b = pack_values(spec, args)
    start = np.zeros(shape) if args.c is None else stage.format.decode(args.c)
    sums = np.empty(shape)
    exact.exact_sums(a, np.ascontiguousarray(b.T), start, stage.rounding is Rounding.RDN, sums)
    return encode_exact(stage, sums, args.random_integers(1, stage.random_bits))


def _run_block_limbs(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    """Run an exact sum of scaled products: exact block sums in lanes, scaled, then in limbs."""
    stage = spec.accumulate
    assert isinstance(stage, Exact)
    n, k = args.b.shape[1], args.a.shape[1]
    size = block_of_scales(args)
    parts = range(0, k, size)
    b_scale = np.ones((len(parts), n))
    if args.b_scale is not None:
        b_scale = values_of(args.b_scale, spec.b_scale).repeat(args.b_block // size, axis=0)

    def terms(rows: MatmulOperands) -> tuple[Array, Array | None]:
        a_scale = np.ones((rows.a.shape[0], len(parts)))
        if rows.a_scale is not None:
            a_scale = values_of(rows.a_scale, spec.a_scale).repeat(rows.a_block // size, axis=1)
        plain = replace(rows, a_scale=None, b_scale=None, random=None)
        found = np.empty((len(parts), rows.a.shape[0], n))
        for g, start in enumerate(parts):
            sums = run_values(spec, plain.cut(start, min(start + size, k)), plan)
            found[g] = sums * (a_scale[:, g, None] * b_scale[g])
        return found, rows.random_integers(1, stage.random_bits)

    return _in_row_batches(args, len(parts), terms, partial(_add_exactly, stage), spec)


def _run_slices(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    """Run an exact sum of products or block sums: exact sums of their slices, then of those."""
    stage, size = spec.accumulate, plan.source.size
    assert isinstance(stage, Exact)
    bounds = block_bounds(spec, size, args) if plan.source.block else product_bounds(spec, args)
    slices = slices_of(bounds.span, -(-args.a.shape[1] // size))

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
    exact.exact_dots(rows, np.ones(rows.shape), start, False, sums)
    return encode_exact(stage, sums, random).reshape(terms.shape[1:])


def _run_rows(spec: MacSpec, args: MatmulOperands) -> Array:
    """Run a matrix product as M * N dot products, some rows of ``a`` at a time."""
    out = np.empty(args.shape, dtype=spec.result.dtype)
    for part in _dots_parts(args):
        out[part] = dot_codes(spec, args.rows(part).as_dots(spec))
    return out


def _redo_zeros(spec: MacSpec, args: MatmulOperands, codes: Array) -> None:
    """Compute the results that are zero again, as single dot products."""
    for part in _dots_parts(args):
        zeros = np.nonzero(spec.result.decode(codes[part]) == 0)
        if zeros[0].size:
            codes[part][zeros] = dot_codes(spec, args.rows(part).as_dots(spec).at(zeros))


def _dots_parts(args: MatmulOperands) -> Iterator[slice]:
    """Yield parts of the rows of ``a`` whose dot products have a bounded number of products."""
    (m, n), k = args.shape, args.a.shape[1]
    batch = max(1, ROWS_BATCH // (k * n))
    return (slice(row, row + batch) for row in range(0, m, batch))


# -- terms of composite stages -------------------------------------------------------------------


def _run_chunks(spec: MacSpec, args: MatmulOperands) -> Array:
    stage = spec.accumulate
    assert isinstance(stage, Chunked)
    size = stage.chunk(args.a.shape[1])
    inner = replace(spec, accumulate=stage.inner, name="")
    parts = range(0, args.a.shape[1], size)
    return _in_row_batches(
        args,
        len(parts),
        lambda rows: np.stack([_values(inner, rows.cut(k, k + size)) for k in parts]),
        lambda terms, c: _add_terms(stage.outer, terms, inner.result, c),
        spec,
    )


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

    return _in_row_batches(args, stage.lanes, sums, partial(_tree_of, tree), spec)


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
            -(-step.a.shape[1] // subtree_leaves(stage)),
            lambda rows: _subtrees(spec, stage, rows),
            lambda terms, c: _tree_of(stage, terms, c),
            spec,
        ),
    )


def _subtrees(spec: MacSpec, stage: Tree, args: MatmulOperands) -> Array:
    """Return the results (T, M, N) of the subtrees over products, a leaf being ``c`` or not."""
    length, leaves = args.a.shape[1], subtree_leaves(stage)
    leaf = stage.addend is Joins.LEAF
    bounds = product_bounds(spec, args)
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
    tree, count = stage.into, spec.block_terms(args.a.shape[1])
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

    return _in_row_batches(args, len(edges) - 1, subtrees, partial(_tree_of, tree), spec)


def _tree_of(stage: Tree, terms: Array, c: Array | None) -> Array:
    """Return the codes (M, N) of a tree whose leaves (T, M, N) are results of subtrees."""
    leaves = subtree_leaves(stage)
    tree = replace(stage, product=ProductRounding.FUSED, products=None)
    bounds = TermBounds.of_format(stage.format)

    def node(planes: Array, joins: str, c: Array | None) -> Array:
        plan = plan_subtree(tree, bounds, len(planes), joins)
        assert plan.step is not None
        return run_planes(tree, plan, planes, None, c)

    while len(terms) > leaves:
        parts = [terms[i : i + leaves] for i in range(0, len(terms), leaves)]
        terms = stage.format.decode(np.stack([node(part, NO_ADDEND, None) for part in parts]))
    joins = NO_ADDEND if stage.addend is Joins.LEAF else str(stage.addend)
    return node(terms, joins, c)


def _in_steps(
    spec: MacSpec, stage: Tree, args: MatmulOperands, run: Callable[[MatmulOperands], Array]
) -> Array:
    """Run a tree step by step, the result of one being the addend of the next."""
    length = args.a.shape[1]
    size = length if stage.products is None else stage.products
    args, length = _padded(spec, args, -length % size), -(-length // size) * size
    c = args.c
    for start in range(0, length, size):
        c = run(replace(args.cut(start, min(start + size, length)), c=c))
    assert c is not None
    return c


def _padded(spec: MacSpec, args: MatmulOperands, more: int) -> MatmulOperands:
    """Return operands with ``more`` products of +0 at the end of K."""
    if not more:
        return args
    found: dict[str, Any] = {}
    for axis, name in ((1, "a"), (0, "b")):
        codes, scale = getattr(args, name), getattr(args, f"{name}_scale")
        found[name] = _extended(codes, axis, more, 0)
        if scale is not None:
            groups = -(-(codes.shape[axis] + more) // getattr(args, f"{name}_block"))
            one = int(getattr(spec, f"{name}_scale").encode(1.0, "rtz", "saturate"))
            found[f"{name}_scale"] = _extended(scale, axis, groups - scale.shape[axis], one)
    return replace(args, **found)


def _extended(array: Array, axis: int, more: int, value: Any) -> Array:
    widths = [(0, more if i == axis else 0) for i in range(array.ndim)]
    return np.pad(array, widths, constant_values=value)


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


def _values(spec: MacSpec, args: MatmulOperands) -> Array:
    """Return the values of a matrix product's codes, in float32 where lanes have them so."""
    plan = plan_matmul(spec, args)
    stage = spec.accumulate
    stage = stage.into if isinstance(stage, Block) else stage
    if plan.step is not None and isinstance(stage, Chain | Aligned | Tree):
        return run_values(spec, args, plan)
    return spec.result.decode(_run(spec, args, plan).astype(spec.result.dtype, copy=False))


def _lane(spec: MacSpec, args: MatmulOperands, lane: int, lanes: int, c: Array | None) -> Array:
    """Return the values of the products ``lane``, ``lane + lanes``, ... in a chain from ``c``."""
    if lane >= args.a.shape[1]:
        return np.zeros(args.shape)
    return _values(spec, replace(args.every(lane, lanes), c=c))


def _add_terms(stage: Stage, terms: Array, fmt: Format, c: Array | None) -> Array:
    """Return codes (M, N) of a stage that adds terms (T, M, N), which are values of ``fmt``."""
    plan = plan_planes(stage, TermBounds.of_format(fmt), terms.shape[0], c)
    if plan.step is not None and not plan.step.random:
        term_powers = powers(exponents_of(terms, fmt)) if plan.aligns else None
        return run_planes(stage, plan, terms, term_powers, c)
    rows = np.ascontiguousarray(terms.reshape(terms.shape[0], -1).T, dtype=np.float64)
    start = np.zeros(rows.shape[0], stage.initial.dtype) if c is None else c.reshape(-1)
    return add_terms(stage, rows, exponents_of(rows, fmt), start).reshape(terms.shape[1:])
