# SPDX-License-Identifier: Apache-2.0
"""Dot products: few as scalar code, many side by side in the lanes of a matrix product's kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import rows
from fpsim.errors import FpsimError
from fpsim.formats import FloatFormat, Format
from fpsim.matmul import matmul_codes
from fpsim.operands import DotOperands, MatmulOperands
from fpsim.spec import MacSpec

__all__ = ["PRODUCTS_MINIMUM", "ROWS_MINIMUM", "dot_codes"]

Array = NDArray[Any]
#: Dot products, and products in all, from which on they run in lanes: scalar code takes a tenth of
#: a second for so many, and a lane kernel is compiled once per machine.
ROWS_MINIMUM, PRODUCTS_MINIMUM = 1 << 10, 1 << 22
#: Products and rows that are planned and run at a time.
PRODUCTS_BATCH, ROWS_BATCH = 1 << 24, 1 << 18


def dot_codes(spec: MacSpec, args: DotOperands) -> Array:
    """Return the result code of each dot product; raises as `fpsim.rows.dot_codes`."""
    count = math.prod(args.shape)
    if count < ROWS_MINIMUM or count * args.length < PRODUCTS_MINIMUM:
        return rows.dot_codes(spec, args)
    try:
        return _in_lanes(spec, args, count)
    except FpsimError:  # scalar code says which dot product has no code
        return rows.dot_codes(spec, args)


def _in_lanes(spec: MacSpec, args: DotOperands, count: int) -> Array:
    whole = _paired(spec, args, count)
    out = np.empty(count, dtype=spec.result.dtype)
    batch = min(ROWS_BATCH, max(1, PRODUCTS_BATCH // args.length))
    for start in range(0, count, batch):
        part = slice(start, start + batch)
        out[part] = matmul_codes(spec, whole.columns(part))[0][0]
    return out.reshape(args.shape)


def _paired(spec: MacSpec, args: DotOperands, count: int) -> MatmulOperands:
    """Return the same dot products as operands of a matrix product of one row."""

    def flat(array: Array | None) -> Any:
        axes = len(args.shape)
        return None if array is None else array.reshape(count, *array.shape[axes:])

    b_scale, c, random = flat(args.b_scale), flat(args.c), args.random
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
