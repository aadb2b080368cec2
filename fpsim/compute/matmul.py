# SPDX-License-Identifier: Apache-2.0
"""Matrix products: makes a plan, runs its back-end, and returns accumulator codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.facts import finite_elements, special_results
from fpsim.compute.lanes.pack import pack_values
from fpsim.compute.lanes.run import run_lanes, run_slices
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan import Allowed, BackEnd, Plan, any_step, last_sum, plan_matmul
from fpsim.compute.scalar.dot_products import dot_codes, encode_exact
from fpsim.formats.random_bits import RandomBits
from fpsim.formats.rounding import Rounding
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.scalar import limbs
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Exact

__all__ = ["matmul_codes"]

Array = NDArray[Any]
#: Products computed at a time if a matrix product runs as single dot products.
ROWS_BATCH = 1 << 22
#: Sums of slices, or results of chunks, kept at a time.
PLANES_BATCH = 1 << 22


def matmul_codes(
    spec: MacSpec,
    args: MatmulOperands,
    machine: Machine | None = None,
    allowed: Allowed = any_step,
) -> tuple[Array, Plan]:
    """Return the result codes (M, N) of a matrix product and the plan that made them.

    Args:
        spec: the unit.
        args: operands of the product.
        machine: the processor to generate code for; this one if absent.
        allowed: says which steps a plan may use.

    Returns:
        Codes of ``spec.result``, and the plan with its reason.

    Raises:
        FpsimError: a result that the accumulator has no code for.
    """
    machine = machine or Machine.host()
    if isinstance(args.random, RandomBits) and args.random.begun:  # streams begin at whole words
        count = spec.roundings(args.length)
        args = replace(args, random=args.random_integers(count, spec.random_bits))
    plan = plan_matmul(spec, args, machine, allowed)
    given = finite_elements(args) if plan.redo_infinite else args
    if plan.lanes > 1:
        given = given.by_lane(plan.lanes)
    run = {BackEnd.LANES: run_lanes, BackEnd.LIMBS: _run_limbs, BackEnd.SCALAR: _run_scalar}
    codes = run[plan.back_end](spec, given, plan, machine)
    codes = codes.astype(spec.result.dtype, copy=False)
    if plan.redo_infinite:
        special = special_results(args)
        _redo(spec, args, codes, lambda part: special[part])
    if plan.redo_zeros:
        _redo(spec, args, codes, lambda part: spec.result.decode(codes[part]) == 0)
    return codes, plan


def _run_scalar(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> Array:
    """Run a matrix product as M * N dot products, some rows of ``a`` at a time."""
    out = np.empty(args.shape, dtype=spec.result.dtype)
    for part in _parts(args, ROWS_BATCH // args.length):
        out[part] = dot_codes(spec, args.rows(part).as_dots(spec))
    return out


def _run_limbs(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> Array:
    """Run an exact sum in limbs, of products or of slices that lanes have summed."""
    stage = last_sum(spec.accumulate)
    assert isinstance(stage, Exact)
    start = np.zeros(args.shape) if args.c is None else stage.format.decode(args.c)
    random, sums = args.random_integers(1, stage.random_bits), np.empty(args.shape)
    if plan.step is None:
        a, b = pack_values(args)
        limbs.exact_sums(a, b, start, stage.rounding is Rounding.RDN, sums)
        return encode_exact(stage, sums, random)
    planes = len(plan.slices) if plan.slices else -(-args.length // plan.chunk)
    for part in _parts(args, PLANES_BATCH // planes):
        rows = replace(args.rows(part), c=None, random=None)
        make = run_slices if plan.slices else _chunk_results
        found = make(spec, rows, plan.of_a_part, machine)
        terms = found.reshape(len(found), -1).astype(np.float64, copy=False)
        own, down = sums[part].reshape(-1), stage.rounding is Rounding.RDN
        limbs.exact_columns(terms, start[part].reshape(-1), down, own)
    return encode_exact(stage, sums, random)


def _chunk_results(spec: MacSpec, args: MatmulOperands, plan: Plan, machine: Machine) -> Array:
    """Return the results (chunks, M, N) of chunks, as values."""
    assert plan.step is not None
    found, result = [], plan.step.stage.result
    for start in range(0, args.length, plan.chunk):
        part = args.cut(start, min(start + plan.chunk, args.length))
        codes = run_lanes(spec, part, plan.of_a_part, machine)
        found.append(result.decode(codes.astype(result.dtype)))
    return np.stack(found)


def _redo(
    spec: MacSpec, args: MatmulOperands, codes: Array, wanted: Callable[[slice], Array]
) -> None:
    """Compute the results that ``wanted`` marks in a part of rows again, as single dot products."""
    for part in _parts(args, ROWS_BATCH // args.length):
        found = np.nonzero(wanted(part))
        if found[0].size:
            codes[part][found] = dot_codes(spec, args.rows(part).as_dots(spec).at(found))


def _parts(args: MatmulOperands, results: int) -> Iterator[slice]:
    """Yield slices of ``a``'s rows for about ``results`` results; paired operands are one row."""
    batch = max(1, results // args.shape[1])
    return (slice(row, row + batch) for row in range(0, args.shape[0], batch))
