# SPDX-License-Identifier: Apache-2.0
"""Matrix products of block stages that no lane step runs as a whole: as planes of terms.

Lanes make the exact sums of a block for all results at once; scales and the conversion follow in
float64 arrays, and the stage that adds the terms takes them as planes (T, M, N).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.engine import plan_block_terms, plan_plain_blocks
from fpsim.formats import FloatFormat
from fpsim.lane_operands import powers, scales_per_block
from fpsim.lanes import run_planes, run_values
from fpsim.lowering import decoded, exponents_of
from fpsim.operands import MatmulOperands
from fpsim.spec import MacSpec
from fpsim.stages import Block, Exact, NanScale

__all__ = ["run_block_planes"]

Array = NDArray[Any]
#: Terms kept at a time.
TERMS_BATCH = 1 << 22
#: A format for the sums' stage to have: they are not rounded to it.
SUMS = FloatFormat(8, 23, 127)


def run_block_planes(spec: MacSpec, args: MatmulOperands) -> Array:
    """Return the codes (M, N) of a block stage, some rows of ``a`` at a time."""
    stage = spec.accumulate
    assert isinstance(stage, Block)
    (m, k), n = args.a.shape, args.b.shape[1]
    plan = plan_block_terms(spec, stage, args)
    out = np.empty((m, n), dtype=spec.result.dtype)
    batch = max(16, TERMS_BATCH // (spec.block_terms(k) * n))
    for row in range(0, m, batch):
        part = slice(row, row + batch)
        rows = args.rows(part)
        factors = [_Factors.of(spec, stage, rows, name) for name in "ab"]
        terms = _terms(spec, stage, rows, factors)
        term_powers = _powers(factors) if plan.aligns else None
        out[part] = run_planes(stage.into, plan, terms, term_powers, rows.c, rows.random)
    return out


@dataclass(frozen=True)
class _Factors:
    """The scales of an operand's blocks: values and 2^e, (M or N, blocks, signs)."""

    values: Array
    powers: Array

    @classmethod
    def of(cls, spec: MacSpec, stage: Block, args: MatmulOperands, name: str) -> _Factors:
        """Return an operand's factors, ones where it has no scales."""
        (m, k), n = args.a.shape, args.b.shape[1]
        count = -(-k // stage.size)
        values = scales_per_block(spec, args, name, stage.size, count)
        if values is None:
            ones = np.ones((m if name == "a" else n, count, 1 + spec.splits(name)))
            return cls(ones, ones)
        return cls(values, powers(exponents_of(values, getattr(spec, f"{name}_scale"))))


def _terms(
    spec: MacSpec, stage: Block, args: MatmulOperands, factors: list[_Factors]
) -> NDArray[np.float64]:
    """Return the terms (T, M, N): block after block, the combinations of signs of each."""
    x, y = (factor.values for factor in factors)
    count, signs = x.shape[1], [(i, j) for i in range(x.shape[2]) for j in range(y.shape[2])]
    terms = np.empty((count, len(signs), x.shape[0], y.shape[0]))
    for q, (i, j) in enumerate(signs):
        part = replace(
            args,
            a=_of_sign(args.a, spec.a.bits, i) if spec.splits("a") else args.a,
            b=_of_sign(args.b, spec.b.bits, j) if spec.splits("b") else args.b,
        )
        sums = _block_sums(spec, stage.size, part)
        for g in range(count):
            terms[g, q] = _scaled(stage, next(sums), x[:, g, i, None] * y[:, g, j])
    return terms.reshape(-1, *terms.shape[2:])


def _powers(factors: list[_Factors]) -> NDArray[np.float64]:
    """Return 2^e of the terms' scales (T, M, N), 0 where a scale does not count."""
    x, y = (factor.powers for factor in factors)
    found: Array = np.einsum("mgi,ngj->gijmn", x, y)
    return found.reshape(-1, *found.shape[3:])


def _of_sign(codes: Array, bits: int, sign: int) -> Array:
    """Return codes with 0 in place of those of the other sign."""
    return np.where(codes >> (bits - 1) == sign, codes, 0).astype(codes.dtype)


def _block_sums(spec: MacSpec, size: int, args: MatmulOperands) -> Iterator[Array]:
    """Yield the exact sums (M, N) of one block after another, without scales."""
    plan, stage = plan_plain_blocks(spec, size), Exact(SUMS)
    assert plan is not None
    inner = replace(spec, accumulate=stage, name="")
    plain = replace(args, c=None, a_scale=None, b_scale=None, random=None)
    for start in range(0, args.a.shape[1], size):
        yield run_values(inner, plain.cut(start, start + size), plan)


def _scaled(stage: Block, sums: Array, scale: Array) -> NDArray[np.float64]:
    """Return block sums times the products of their scales, converted."""
    if stage.nan_scale is NanScale.ZERO:
        none = np.isnan(scale)
        sums, scale = np.where(none, 0.0, sums), np.where(none, 0.0, scale)
    with np.errstate(invalid="ignore"):  # zero times infinity
        terms = np.asarray(sums * scale, dtype=np.float64)
    fmt = stage.convert
    if fmt is None:
        return terms
    codes = fmt.encode(terms, stage.convert_rounding, str(fmt.default_overflow))
    return decoded(codes, fmt)
