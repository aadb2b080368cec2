# SPDX-License-Identifier: Apache-2.0
"""Matrix products: runs a plan, operands into lanes, the kernel, accumulators back into codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.engine import Plan, half_shift, operand_spans, plan_matmul
from fpsim.errors import FpsimError
from fpsim.formats import Subnormals
from fpsim.kernels import exact, gemm
from fpsim.kernels.steps import FIXED_REALS, Step, step_named
from fpsim.lowering import value_table
from fpsim.operands import DotOperands, MatmulOperands
from fpsim.rows import convert_fixed, dot_codes, encode_exact
from fpsim.spec import MacSpec
from fpsim.stages import Chain, Exact, Fixed

__all__ = ["matmul_codes"]

Array = NDArray[Any]
#: Products computed at a time where a matrix product runs as single dot products.
SCALAR_BATCH = 1 << 22

# -- matrix products -----------------------------------------------------------------------------


def matmul_codes(spec: MacSpec, args: MatmulOperands) -> tuple[Array, Plan]:
    """Return the accumulator codes (M, N) of a matrix product and the plan that made them."""
    plan = plan_matmul(spec, args)
    if plan.kernel == "limbs":
        codes = _run_limbs(spec, args)
    elif plan.kernel == "rows":
        codes = _run_rows(spec, args)
    else:
        codes = _run_lanes(spec, args, step_named(plan.kernel))
    return codes.astype(spec.result.dtype, copy=False), plan


def _scale_cube(spec: MacSpec, operand: str, args: MatmulOperands) -> tuple[Array, int]:
    """Return scale codes with a last axis of signs (empty without scales), and the sign's place."""
    scale = getattr(args, f"{operand}_scale")
    if scale is None:
        return np.zeros((0, 0, 1), dtype=np.uint8), 0
    return (scale if spec.splits(operand) else scale[..., None]), getattr(spec, operand).bits - 1


def _pack_a(spec: MacSpec, args: MatmulOperands, out: Array, power: int = 0) -> Array:
    """Fill ``out`` (padded M, K) with the values of ``a`` times 2^power."""
    table = np.ldexp(value_table(spec.a), power).astype(out.dtype)
    scales = value_table(spec.a_scale).astype(out.dtype)
    gemm.pack_rows(args.a, table, *_scale_cube(spec, "a", args), scales, args.a_block, out)
    return out


def _pack_b(spec: MacSpec, args: MatmulOperands, out: Array, power: int = 0) -> Array:
    """Fill ``out`` (panels, K, columns) with the values of ``b`` times 2^power."""
    table = np.ldexp(value_table(spec.b), power).astype(out.dtype)
    scales = value_table(spec.b_scale).astype(out.dtype)
    gemm.pack_panels(args.b, table, *_scale_cube(spec, "b", args), scales, args.b_block, out)
    return out


def _run_limbs(spec: MacSpec, args: MatmulOperands) -> Array:
    stage = spec.accumulate
    assert isinstance(stage, Exact)
    shape = (args.a.shape[0], args.b.shape[1])
    a = _pack_a(spec, args, np.empty(args.a.shape))
    b = _pack_b(spec, args, np.empty((1, *args.b.shape)))[0]
    start = np.zeros(shape) if args.c is None else stage.format.decode(args.c)
    sums = np.empty(shape)
    exact.exact_sums(a, np.ascontiguousarray(b.T), start, str(stage.rounding) == "rdn", sums)
    return encode_exact(stage, sums, args.random)


def _run_rows(spec: MacSpec, args: MatmulOperands) -> Array:
    """Run a matrix product as M * N dot products, some rows of ``a`` at a time."""
    (m, k), n = args.a.shape, args.b.shape[1]
    c = np.zeros((m, n), dtype=spec.initial.dtype) if args.c is None else args.c
    b_scale = None if args.b_scale is None else np.moveaxis(args.b_scale, 1, 0)[None]
    out = np.empty((m, n), dtype=spec.result.dtype)
    batch = max(1, SCALAR_BATCH // (k * n))
    for row in range(0, m, batch):
        part = slice(row, min(row + batch, m))
        shape = (part.stop - row, n)
        spread = None
        if args.a_scale is not None:
            groups = args.a_scale[part, None]
            spread = np.broadcast_to(groups, (*shape, *groups.shape[2:]))
        dots = DotOperands(
            a=np.broadcast_to(args.a[part, None], (*shape, k)),
            b=np.broadcast_to(args.b.T[None], (*shape, k)),
            c=c[part],
            a_scale=spread,
            b_scale=None
            if b_scale is None
            else np.broadcast_to(b_scale, (*shape, *b_scale.shape[2:])),
            a_block=args.a_block,
            b_block=args.b_block,
            random=None if args.random is None else args.random[part],
        )
        out[part] = dot_codes(spec, dots)
    return out


def _run_lanes(spec: MacSpec, args: MatmulOperands, step: Step) -> Array:
    """Run a lane step over padded, packed operands and return codes."""
    stage = spec.accumulate
    if isinstance(stage, Chain):
        values = _lane_values(spec, args, step, _decoded(spec, args.c))
        return stage.format.encode(values, "rtz", str(stage.overflow))
    if isinstance(stage, Exact):
        values = _lane_values(spec, args, step, _decoded(spec, args.c))
        return encode_exact(stage, values.astype(np.float64), args.random)
    assert isinstance(stage, Fixed)
    start = None if args.c is None else stage.initial.integers(args.c)
    if step.reals == FIXED_REALS:
        first = None if start is None else start.astype(np.float64)
        integers = _lane_values(spec, args, step, first).astype(np.int64)
    else:  # plain sums of values that the grid holds
        sums = _lane_values(spec, args, step, None).astype(np.float64)
        integers = np.ldexp(sums, -stage.lsb).astype(np.int64)
        integers = integers if start is None else integers + start
    codes = (integers.view(np.uint64) & np.uint64((1 << stage.width) - 1)).astype(
        stage.initial.dtype
    )
    return codes if stage.convert is None else convert_fixed(stage, codes)


def _decoded(spec: MacSpec, c: Array | None) -> Array | None:
    return None if c is None else spec.initial.decode(c)


def _lane_values(spec: MacSpec, args: MatmulOperands, step: Step, start: Array | None) -> Array:
    """Return the final accumulators (M, N) as lane values; ``start`` holds the initial ones."""
    tile = gemm.tile_of(step)
    (m, k), n = args.a.shape, args.b.shape[1]
    rows, panels = -(-m // tile.rows) * tile.rows, -(-n // tile.columns)
    half = str(step.real) == "half"
    dtype = np.float64 if str(step.real) == "double" else np.float32
    shift = _half_shift(spec, args) if half else 0
    a = _pack_a(spec, args, np.zeros((rows, k), dtype=dtype), shift)
    b = _pack_b(spec, args, np.empty((panels, k, tile.columns), dtype=dtype), -shift)
    if isinstance(spec.accumulate, Fixed):
        _require_finite(spec, a, b)
    c = np.zeros((rows, panels * tile.columns), dtype=dtype)
    if start is not None:
        c[:m, :n] = start
    stage = spec.accumulate
    assert isinstance(stage, Chain | Exact | Fixed)
    reals, integers = _parameters(stage, step, dtype)
    if half:
        a, b, c, reals = (_half_bits(x) for x in (a, b, c, reals))
    random = _pack_random(args.random, c.shape) if step.random else np.zeros((1, 1, 1), np.uint32)
    gemm.gemm(step.name)(a, b, c, reals, integers, random)
    return (c.view(np.float16) if half else c)[:m, :n]


def _require_finite(spec: MacSpec, *operands: Array) -> None:
    if not all(np.isfinite(values).all() for values in operands):
        raise FpsimError(
            f"operands: a NaN or infinite operand or scale has no code in {spec.initial.name}"
        )


def _half_shift(spec: MacSpec, args: MatmulOperands) -> int:
    shift = half_shift(*operand_spans(spec, args))
    assert shift is not None
    return shift


def _half_bits(values: Array) -> Array:
    out = np.empty(values.shape, dtype=np.uint16)
    gemm.to_half(np.ascontiguousarray(values, dtype=np.float32).reshape(-1), out.reshape(-1))
    return out


def _pack_random(random: Array | None, shape: tuple[int, int]) -> Array:
    """Return random integers (M, N, K) as (padded M, K, padded N) uint32."""
    assert random is not None
    m, n, k = random.shape
    out = np.zeros((shape[0], k, shape[1]), dtype=np.uint32)
    out[:m, :, :n] = random.transpose(0, 2, 1)
    return out


def _parameters(stage: Chain | Exact | Fixed, step: Step, dtype: Any) -> tuple[Array, Array]:
    """Return the step's run-time parameters as arrays."""
    if not step.reals:
        return np.zeros(1, dtype=dtype), np.zeros(1, dtype=np.int64)
    if isinstance(stage, Fixed):
        numbers = {
            "per_lsb": np.ldexp(1.0, -stage.lsb),
            "low": float(stage.initial.min_integer),
            "high": float(stage.initial.max_integer),
        }
        assert tuple(numbers) == FIXED_REALS
        return np.array([numbers[name] for name in step.reals], dtype=dtype), np.zeros(1, np.int64)
    fmt = stage.format
    assert stage.overflow is not None
    limits = fmt.limits(stage.rounding, stage.overflow)
    flush = fmt.subnormals is Subnormals.FLUSH
    codes = np.array(limits[:4], dtype=fmt.dtype)
    over_positive, over_negative, inf_positive, inf_negative = fmt.decode(codes)
    numbers = {
        "smallest_normal": np.ldexp(1.0, fmt.exponent_min),
        "flush_below": np.ldexp(1.0, fmt.exponent_min) if flush else 0.0,
        "largest": fmt.max_value,
        "over_positive": over_positive,
        "over_negative": over_negative,
        "inf_positive": inf_positive,
        "inf_negative": inf_negative,
    }
    lane_mantissa, lane_bias = (23, 127) if dtype == np.float32 else (52, 1023)
    shift = lane_mantissa - fmt.mantissa_bits
    exponent_is_last = int(fmt.mantissa_bits == 0)
    values = {
        "shift": shift,
        "random_shift": shift - stage.random_bits,
        "parity": exponent_is_last & (lane_bias + fmt.exponent_min - 1),
        "subnormal_parity": exponent_is_last,
    }
    width = np.int32 if dtype == np.float32 else np.int64
    return (
        np.array([numbers[name] for name in step.reals], dtype=dtype),
        np.array([values[name] for name in step.integers] or [0], dtype=width),
    )
