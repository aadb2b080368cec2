# SPDX-License-Identifier: Apache-2.0
"""Dot products: few as scalar code, many side by side in the lanes of matrix products."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.facts import all_finite
from fpsim.compute.lanes.run import run_steps
from fpsim.compute.matmul import matmul_codes
from fpsim.compute.operands import MatmulOperands
from fpsim.compute.plan import in_lanes, last_sum, plan_matmul
from fpsim.compute.scalar import dot_products
from fpsim.formats.floating import FloatFormat
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.pack.transpose import transpose_rounds
from fpsim.units.operands import DotOperands
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Aligned, Block, Chain, Chunked, Fixed, Stage, Tree, stages_of

__all__ = ["PRODUCTS_MINIMUM", "ROWS_MINIMUM", "dot_codes", "step_codes"]

Array = NDArray[Any]
#: Least count of dot products, and of products in all, that run in lanes: scalar code takes a tenth
#: of a second for so many, and a lane kernel is compiled once per processor.
ROWS_MINIMUM, PRODUCTS_MINIMUM = 1 << 10, 1 << 22
#: Products and rows planned and run at a time.
PRODUCTS_BATCH, ROWS_BATCH = 1 << 21, 1 << 18


def dot_codes(spec: MacSpec, args: DotOperands, machine: Machine | None = None) -> Array:
    """Return the result code of each dot product.

    Args:
        spec: the unit.
        args: operands of the dot products.
        machine: the processor to generate code for; this one if absent.

    Returns:
        Codes of ``spec.result``, in the shape of the dot products.

    Raises:
        FpsimError: a result that the accumulator has no code for, naming the dot product.
    """
    whole = None if _few(spec, args) else MatmulOperands.side_by_side(args)
    if whole is None or _may_lack_codes(spec, whole):
        return dot_products.dot_codes(spec, args)
    out = np.empty(whole.shape[1], dtype=spec.result.dtype)
    for part in _batches(whole):
        out[part] = matmul_codes(spec, whole.columns(part), machine)[0][0]
    return out.reshape(args.shape)


def step_codes(spec: MacSpec, args: DotOperands, machine: Machine | None = None) -> Array:
    """Return the accumulator codes (..., S) after every step of each dot product.

    Args:
        spec: the unit.
        args: operands of the dot products.
        machine: the processor to generate code for; this one if absent.

    Returns:
        Codes of ``spec.result``; the last step's code is the result of the dot product.

    Raises:
        FpsimError: a result that the accumulator has no code for, naming the dot product.
    """
    machine = machine or Machine.host()
    steps = 0 if _few(spec, args) else _steps(spec, args.length)
    # Steps may begin inside a word of a seed's integers.
    whole = MatmulOperands.side_by_side(replace(args, given=args.random)) if steps else None
    if whole is None or _may_lack_codes(spec, whole):
        return dot_products.step_codes(spec, args, args.length)
    found = np.empty((steps, whole.shape[1]), dtype=spec.result.dtype)
    for part in _batches(whole):
        batch = whole.columns(part)
        plan = plan_matmul(spec, batch, machine)
        if plan.step is None or plan.step.terms != _terms_of_step(spec):
            return dot_products.step_codes(spec, args, args.length)
        found[:, part] = run_steps(spec, batch, plan, machine)
    codes = np.empty(found.shape[::-1], dtype=found.dtype)
    transpose_rounds(found[None], codes[None])
    return codes.reshape(*args.shape, steps)


def _few(spec: MacSpec, args: DotOperands) -> bool:
    """Return whether dot products run as scalar code: too few for lanes, or too wide for them."""
    count = math.prod(args.shape)
    return not in_lanes(spec) or count < ROWS_MINIMUM or count * args.length < PRODUCTS_MINIMUM


def _batches(args: MatmulOperands) -> list[slice]:
    """Return slices of dot products side by side, each to be run at a time."""
    batch = min(ROWS_BATCH, max(1, PRODUCTS_BATCH // args.length))
    return [slice(start, start + batch) for start in range(0, args.shape[1], batch)]


def _may_lack_codes(spec: MacSpec, args: MatmulOperands) -> bool:
    """Return whether a sum may be NaN or infinite in a format without such a code.

    Only scalar code tells which dot product is at fault. Sums of finite terms are finite unless a
    float format or a product limit turns a large number into infinity.
    """
    sums = [x for x in stages_of(spec.accumulate) if not isinstance(x, Block | Chunked)]
    if all(_has_nan(stage) for stage in sums):
        return False
    last = last_sum(spec.accumulate)
    # The conversion at the end of a fixed stage is no term of another sum.
    formats = [x.result for x in sums if not (x is last and isinstance(x, Fixed))]
    formats += [None if spec.block is None else spec.block.convert]
    infinite = any(isinstance(fmt, FloatFormat) and fmt.infinity for fmt in formats)
    limited = any(isinstance(x, Aligned) and x.product_limit is not None for x in sums)
    return infinite or limited or not all_finite(args)


def _has_nan(stage: Stage) -> bool:
    """Return whether a sum of a stage can be NaN."""
    if isinstance(stage, Aligned):
        return stage.nan is not None
    if isinstance(stage, Fixed):
        return False
    return isinstance(stage.result, FloatFormat) and stage.result.nan_code is not None


def _steps(spec: MacSpec, length: int) -> int:
    """Return the steps of a dot product that lanes can keep, 0 if they cannot."""
    stage = spec.accumulate
    block = stage if isinstance(stage, Block) else None
    into = stage if block is None else block.into
    if block is not None and (block.convert is not None or spec.quadrants > 1):
        return 0
    if isinstance(into, Chain) or (
        isinstance(into, Fixed) and not into.sums_first and into.convert is None
    ):
        size = 1
    elif isinstance(into, Aligned | Tree) and into.products:
        size = into.products
    else:
        return 0
    return -(-length // (size * (block.size if block else 1)))


def _terms_of_step(spec: MacSpec) -> int:
    stage = spec.accumulate.into if isinstance(spec.accumulate, Block) else spec.accumulate
    return getattr(stage, "products", None) or 1
