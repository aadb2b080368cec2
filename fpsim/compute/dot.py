# SPDX-License-Identifier: Apache-2.0
"""Dot products: few as scalar code, many side by side in the lanes of matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.compute.lanes.random import transpose
from fpsim.compute.lanes.run import run_steps
from fpsim.compute.matmul import matmul_codes
from fpsim.compute.operands import DotOperands, MatmulOperands
from fpsim.compute.plan.choose import plan_matmul
from fpsim.compute.scalar import dot_products
from fpsim.formats.floating import FloatFormat, Format
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Aligned, Block, Chain, Fixed, Tree

__all__ = ["PRODUCTS_MINIMUM", "ROWS_MINIMUM", "dot_codes", "step_codes"]

Array = NDArray[Any]
#: Dot products, and products in all, from which on they run in lanes: scalar code takes a tenth of
#: a second for so many, and a lane kernel is compiled once per machine.
ROWS_MINIMUM, PRODUCTS_MINIMUM = 1 << 10, 1 << 22
#: Products and rows that are planned and run at a time.
PRODUCTS_BATCH, ROWS_BATCH = 1 << 24, 1 << 18


def dot_codes(spec: MacSpec, args: DotOperands) -> Array:
    """Return the result code of each dot product; raises as the scalar `dot_codes` does."""
    if _few(args):
        return dot_products.dot_codes(spec, args)
    try:
        return _in_lanes(spec, args, 1, lambda part: matmul_codes(spec, part)[0]).reshape(
            args.shape
        )
    except FpsimError:  # scalar code says which dot product has no code
        return dot_products.dot_codes(spec, args)


def step_codes(spec: MacSpec, args: DotOperands) -> Array:
    """Return the accumulator codes (..., S) after every step, as the scalar `step_codes` does."""
    steps = 0 if _few(args) else _steps(spec, args.length)
    if not steps:
        return dot_products.step_codes(spec, args, args.length)
    whole = replace(args, given=args.random)  # words of a seed would be cut by steps
    try:
        found = _in_lanes(spec, whole, steps, lambda part: _history(spec, part))
    except (FpsimError, _NoLanes):
        return dot_products.step_codes(spec, args, args.length)
    codes = np.empty(found.shape[::-1], dtype=found.dtype)
    transpose(found[None], codes[None])
    return codes.reshape(*args.shape, steps)


class _NoLanes(Exception):
    """There is no lane kernel whose turns are a unit's steps."""


def _few(args: DotOperands) -> bool:
    count = math.prod(args.shape)
    return count < ROWS_MINIMUM or count * args.length < PRODUCTS_MINIMUM


def _steps(spec: MacSpec, length: int) -> int:
    """Return how many steps a dot product has that lanes may tell apart, 0 if they do not."""
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


def _history(spec: MacSpec, part: MatmulOperands) -> Array:
    """Return the codes (steps, R) of dot products after every step."""
    plan = plan_matmul(spec, part)
    if plan.step is None or plan.step.terms != _terms_of_step(spec):
        raise _NoLanes
    return run_steps(spec, part, plan)


def _terms_of_step(spec: MacSpec) -> int:
    stage = spec.accumulate.into if isinstance(spec.accumulate, Block) else spec.accumulate
    return getattr(stage, "products", None) or 1


def _in_lanes(
    spec: MacSpec, args: DotOperands, steps: int, run: Callable[[MatmulOperands], Array]
) -> Array:
    """Return what ``run`` makes of some dot products after the other, (steps, R)."""
    count = math.prod(args.shape)
    whole = _paired(spec, args, count)
    out = np.empty((steps, count), dtype=spec.result.dtype)
    batch = min(ROWS_BATCH, max(1, PRODUCTS_BATCH // args.length))
    for start in range(0, count, batch):
        part = slice(start, start + batch)
        out[:, part] = run(whole.columns(part))
    return out


def _paired(spec: MacSpec, args: DotOperands, count: int) -> MatmulOperands:
    """Return the same dot products as operands of a matrix product of one row."""

    def flat(array: Array | None) -> Any:
        axes = len(args.shape)
        return None if array is None else array.reshape(count, *array.shape[axes:])

    b_scale, c, random = flat(args.b_scale), flat(args.c), args.given
    return MatmulOperands(
        a=flat(args.a),
        b=flat(args.b).T,
        c=c[None],
        a_scale=flat(args.a_scale),
        b_scale=None if b_scale is None else np.moveaxis(b_scale, 0, 1),
        a_block=args.a_block,
        b_block=args.b_block,
        random=flat(random)[None] if isinstance(random, np.ndarray) else random,
        paired=True,
        signs=(_sign_bit(spec.a), _sign_bit(spec.b)),
    )


def _sign_bit(fmt: Format) -> int:
    """Return the bit that says of a float whether it is negative, 0 where none does."""
    return 1 << fmt.bits - 1 if isinstance(fmt, FloatFormat) and fmt.signed else 0
