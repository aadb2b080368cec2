# SPDX-License-Identifier: Apache-2.0
"""Matrix products: runs a plan, stage by stage, and returns accumulator codes.

A composite stage makes terms with one product per chunk or lane and hands them, as an array
(T, M, N), to the stage that adds them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.engine import MAX_UNROLLED, Plan, plan_matmul, plan_terms
from fpsim.formats import Format
from fpsim.kernels import exact
from fpsim.lane_operands import pack_values
from fpsim.lanes import run_lanes, run_planes, run_values
from fpsim.lowering import exponents_of, values_of
from fpsim.operands import MatmulOperands
from fpsim.rounding import Rounding
from fpsim.rows import add_terms, dot_codes, encode_exact
from fpsim.spans import TermBounds, block_of_scales
from fpsim.spec import MacSpec
from fpsim.stages import Aligned, Block, Chain, Chunked, Exact, Stage, Tree

__all__ = ["matmul_codes"]

Array = NDArray[Any]
#: Products computed at a time where a matrix product runs as single dot products.
ROWS_BATCH = 1 << 22
#: Terms (of chunks or lanes) kept at a time.
TERMS_BATCH = 1 << 22


def matmul_codes(spec: MacSpec, args: MatmulOperands) -> tuple[Array, Plan]:
    """Return the result codes (M, N) of a matrix product and the plan that made them."""
    plan = plan_matmul(spec, args)
    return _run(spec, args, plan).astype(spec.result.dtype, copy=False), plan


def _run(spec: MacSpec, args: MatmulOperands, plan: Plan) -> Array:
    if plan.kernel == "limbs":
        return _run_limbs(spec, args)
    if plan.kernel == "block limbs":
        return _run_block_limbs(spec, args, plan)
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
    return encode_exact(stage, sums, args.random)


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

    def terms(rows: MatmulOperands) -> Array:
        a_scale = np.ones((rows.a.shape[0], len(parts)))
        if rows.a_scale is not None:
            a_scale = values_of(rows.a_scale, spec.a_scale).repeat(rows.a_block // size, axis=1)
        plain = replace(rows, a_scale=None, b_scale=None, random=None)
        found = np.empty((len(parts), rows.a.shape[0], n))
        for g, start in enumerate(parts):
            sums = run_values(spec, plain.cut(start, min(start + size, k)), plan)
            found[g] = sums * (a_scale[:, g, None] * b_scale[g])
        return found

    def add(found: Array, c: Array | None) -> Array:
        shape = found.shape[1:]
        rows = np.ascontiguousarray(found.reshape(len(parts), -1).T)
        start = np.zeros(len(rows)) if c is None else stage.format.decode(c).reshape(-1)
        sums = np.empty(len(rows))
        exact.exact_dots(rows, np.ones(rows.shape), start, False, sums)
        return encode_exact(stage, sums, None).reshape(shape)

    return _in_row_batches(args, len(parts), terms, add, spec)


def _run_rows(spec: MacSpec, args: MatmulOperands) -> Array:
    """Run a matrix product as M * N dot products, some rows of ``a`` at a time."""
    (m, k), n = args.a.shape, args.b.shape[1]
    out = np.empty((m, n), dtype=spec.result.dtype)
    batch = max(1, ROWS_BATCH // (k * n))
    for row in range(0, m, batch):
        part = slice(row, row + batch)
        out[part] = dot_codes(spec, args.rows(part).as_dots(spec.initial))
    return out


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
    length = args.a.shape[1]
    size = length if stage.products is None else stage.products
    c = args.c
    for start in range(0, length, size):
        step = replace(args.cut(start, min(start + size, length)), c=c)
        c = _tree_lanes_step(spec, stage, step)
    assert c is not None
    return c


def _tree_lanes_step(spec: MacSpec, stage: Tree, args: MatmulOperands) -> Array:
    chain = Chain(stage.format, stage.rounding, stage.overflow, product=stage.product)
    inner = replace(spec, accumulate=chain, name="")
    tree = replace(stage, lanes=1, products=None)
    return _in_row_batches(
        args,
        stage.lanes,
        lambda rows: np.stack([_lane(inner, rows, j, stage.lanes) for j in range(stage.lanes)]),
        lambda terms, c: _add_terms(tree, terms, stage.format, c),
        spec,
    )


def _run_subtrees(spec: MacSpec, args: MatmulOperands) -> Array:
    """Run a large tree: subtrees of a power of two of leaves are nodes of the whole one.

    A subtree's addend is -0, which changes nothing: -0 + x is x in every mode but toward -infinity.
    """
    stage = spec.accumulate
    assert isinstance(stage, Tree)
    length = args.a.shape[1]
    parts = range(0, length, MAX_UNROLLED)

    def subtrees(rows: MatmulOperands) -> Array:
        nothing = np.full((rows.a.shape[0], rows.b.shape[1]), _negative_zero(stage))
        return np.stack(
            [_values(spec, replace(rows.cut(k, k + MAX_UNROLLED), c=nothing)) for k in parts]
        )

    def tree(terms: Array, c: Array | None) -> Array:
        while len(terms) > MAX_UNROLLED:
            nothing = np.full(terms.shape[1:], _negative_zero(stage))
            codes = [
                _add_terms(stage, terms[i : i + MAX_UNROLLED], stage.format, nothing)
                for i in range(0, len(terms), MAX_UNROLLED)
            ]
            terms = stage.format.decode(np.stack(codes))
        return _add_terms(stage, terms, stage.format, c)

    return _in_row_batches(args, len(parts), subtrees, tree, spec)


def _negative_zero(stage: Tree) -> Any:
    fmt = stage.format
    return fmt.dtype.type(fmt.sign_bit if fmt.has_negative_zero else 0)


def _in_row_batches(args: MatmulOperands, count: int, make: Any, add: Any, spec: MacSpec) -> Array:
    """Make ``count`` terms per result and add them, some rows of ``a`` at a time."""
    m, n = args.a.shape[0], args.b.shape[1]
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


def _lane(spec: MacSpec, args: MatmulOperands, lane: int, lanes: int) -> Array:
    """Return the values of the products ``lane``, ``lane + lanes``, ... in a chain from +0."""
    if lane >= args.a.shape[1]:
        return np.zeros((args.a.shape[0], args.b.shape[1]))
    return _values(spec, args.every(lane, lanes))


def _add_terms(stage: Stage, terms: Array, fmt: Format, c: Array | None) -> Array:
    """Return codes (M, N) of a stage that adds terms (T, M, N), which are values of ``fmt``."""
    plan = plan_terms(stage, TermBounds.of_format(fmt), terms.shape[0], c)
    if plan.step is not None and not plan.step.random:
        return run_planes(stage, plan.step, terms, fmt, c)
    rows = np.ascontiguousarray(terms.reshape(terms.shape[0], -1).T, dtype=np.float64)
    start = np.zeros(rows.shape[0], stage.initial.dtype) if c is None else c.reshape(-1)
    return add_terms(stage, rows, exponents_of(rows, fmt), start).reshape(terms.shape[1:])
