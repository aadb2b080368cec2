# SPDX-License-Identifier: Apache-2.0
"""Runs a plan: operands into lanes, the kernel, accumulators back into codes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.engine import (
    E8M0_BIAS,
    E8M0_NAN,
    Plan,
    float_shift,
    half_shift,
    plan_matmul,
    scaled_span,
)
from fpsim.errors import FpsimError
from fpsim.formats import Format, Subnormals
from fpsim.kernels import exact, gemm, mac
from fpsim.kernels.rounding import mode_constants
from fpsim.kernels.steps import FIXED_REALS, Step, step_named
from fpsim.operands import DotOperands, MatmulOperands
from fpsim.spec import MacSpec
from fpsim.stages import Chain, Exact, Fixed

__all__ = ["dot_codes", "matmul_codes", "step_codes"]

Array = NDArray[Any]
_NO_RANDOM = np.zeros((1, 1), dtype=np.int64)


@lru_cache(maxsize=64)
def _table(fmt: Format) -> NDArray[np.float64]:
    """Return the value of every code."""
    table = fmt.decode(np.arange(1 << fmt.bits, dtype=fmt.dtype))
    table.flags.writeable = False
    return table


@lru_cache(maxsize=1)
def _scale_table() -> NDArray[np.float64]:
    """Return 2^(code - 127) of every E8M0 code, NaN for 255."""
    table = np.ldexp(1.0, np.arange(256) - E8M0_BIAS)
    table[E8M0_NAN] = np.nan
    table.flags.writeable = False
    return table


# -- dot products, one row at a time -------------------------------------------------------------


def _row_values(spec: MacSpec, args: DotOperands) -> tuple[Array, Array]:
    """Return the operands as float64 rows (R, K), scales applied."""
    rows = []
    for codes, fmt, scale, block in (
        (args.a, spec.a, args.a_scale, args.a_block),
        (args.b, spec.b, args.b_scale, args.b_block),
    ):
        values = _table(fmt)[codes]
        if scale is not None:
            values = values * np.repeat(_scale_table()[scale], block, axis=-1)[..., : args.length]
        rows.append(np.ascontiguousarray(values.reshape(-1, args.length)))
    return rows[0], rows[1]


def step_codes(spec: MacSpec, args: DotOperands, keep: int) -> Array:
    """Return the last ``keep`` accumulator codes of each dot product, shape (..., keep).

    Raises:
        FpsimError: a result that the accumulator has no code for.
    """
    a, b = _row_values(spec, args)
    stage = spec.accumulate
    c = np.ascontiguousarray(args.c.reshape(-1))
    random = _NO_RANDOM
    if args.random is not None:
        random = args.random.reshape(-1, args.random.shape[-1]).astype(np.int64)
    mode = mode_constants(stage.rounding)
    if isinstance(stage, Fixed):
        _require_finite(spec, a, b)
        start = stage.result.integers(c)
        out = np.empty((a.shape[0], keep), dtype=np.uint64)
        grid = stage.result.grid(stage.overflow)
        mac.fixed_steps(a, b, start, grid, mode, random, stage.random_bits, out)
    elif isinstance(stage, Chain):
        assert stage.overflow is not None
        limits = stage.format.limits(stage.rounding, stage.overflow)
        out = np.empty((a.shape[0], keep), dtype=spec.result.dtype)
        layout = stage.format.layout
        bad = mac.chain_steps(a, b, c, layout, limits, mode, random, stage.random_bits, out)
        if bad >= 0:
            raise FpsimError(
                f"result: dot product {bad} is NaN, which has no code in {spec.result.name}"
            )
    else:
        sums = np.empty(a.shape[0])
        exact.exact_dots(a, b, stage.format.decode(c), mode[3] == 1, sums)
        out = _encode_exact(stage, sums[:, None], args.random)
    return out.astype(spec.result.dtype, copy=False).reshape(*args.shape, -1)


def dot_codes(spec: MacSpec, args: DotOperands) -> Array:
    """Return the accumulator code at the end of each dot product."""
    return step_codes(spec, args, 1)[..., 0]


def _encode_exact(stage: Exact, sums: Array, random: Array | None) -> Array:
    bits = None if random is None else random.reshape(sums.shape)
    return stage.format.encode(
        sums, stage.rounding, str(stage.overflow), random=bits, random_bits=stage.random_bits
    )


def _require_finite(spec: MacSpec, *operands: Array) -> None:
    if not all(np.isfinite(values).all() for values in operands):
        raise FpsimError(
            f"operands: a NaN or infinite operand or scale has no code in {spec.result.name}"
        )


# -- matrix products -----------------------------------------------------------------------------


def matmul_codes(spec: MacSpec, args: MatmulOperands) -> tuple[Array, Plan]:
    """Return the accumulator codes (M, N) of a matrix product and the plan that made them."""
    plan = plan_matmul(spec, args)
    if plan.kernel == "limbs":
        codes = _run_limbs(spec, args)
    elif plan.kernel == "scalar":
        codes = _run_scalar(spec, args)
    else:
        codes = _run_lanes(spec, args, step_named(plan.kernel))
    return codes.astype(spec.result.dtype, copy=False), plan


def _no_scale(shape: tuple[int, int]) -> Array:
    return np.zeros(shape, dtype=np.uint8)


def _packing_tables(fmt: Format, power: int, dtype: Any) -> tuple[Array, Array]:
    """Return the values of every code times 2^power, and of every scale.

    Where a power moves, a value and a scale may be out of float32's range although their product
    is not: those are multiplied in float64.
    """
    if power:
        return np.ldexp(_table(fmt), power), np.array(_scale_table())
    return _table(fmt).astype(dtype), _scale_table().astype(dtype)


def _pack_a(spec: MacSpec, args: MatmulOperands, out: Array, power: int = 0) -> Array:
    """Fill ``out`` (padded M, K) with the values of ``a`` times 2^power."""
    table, scales = _packing_tables(spec.a, power, out.dtype)
    scale = _no_scale((1, 0)) if args.a_scale is None else args.a_scale
    gemm.pack_rows(args.a, table, scale, scales, args.a_block, out)
    return out


def _pack_b(spec: MacSpec, args: MatmulOperands, out: Array, power: int = 0) -> Array:
    """Fill ``out`` (panels, K, columns) with the values of ``b`` times 2^power."""
    table, scales = _packing_tables(spec.b, power, out.dtype)
    scale = _no_scale((0, 1)) if args.b_scale is None else args.b_scale
    gemm.pack_panels(args.b, table, scale, scales, args.b_block, out)
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
    return _encode_exact(stage, sums, args.random)


def _run_scalar(spec: MacSpec, args: MatmulOperands) -> Array:
    """Run a matrix product as M * N dot products, a block of rows at a time."""
    m, n = args.a.shape[0], args.b.shape[1]
    b, b_scale = args.b.T, None if args.b_scale is None else args.b_scale.T[None]
    c = np.zeros((m, n), dtype=spec.result.dtype) if args.c is None else args.c
    out = np.empty((m, n), dtype=spec.result.dtype)
    for row in range(m):
        part = slice(row, row + 1)
        shape = (1, n)
        dots = DotOperands(
            a=np.broadcast_to(args.a[part, None], (*shape, args.a.shape[1])),
            b=b[None],
            c=c[part],
            a_scale=None
            if args.a_scale is None
            else np.repeat(args.a_scale[part, None], n, axis=1),
            b_scale=b_scale,
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
        return _encode_exact(stage, values.astype(np.float64), args.random)
    start = None if args.c is None else stage.result.integers(args.c)
    if step.reals == FIXED_REALS:
        first = None if start is None else start.astype(np.float64)
        integers = _lane_values(spec, args, step, first).astype(np.int64)
    else:  # plain sums of values that the grid holds
        sums = _lane_values(spec, args, step, None).astype(np.float64)
        integers = np.ldexp(sums, -stage.lsb).astype(np.int64)
        integers = integers if start is None else integers + start
    return integers.view(np.uint64) & np.uint64((1 << stage.width) - 1)


def _decoded(spec: MacSpec, c: Array | None) -> Array | None:
    return None if c is None else spec.result.decode(c)


def _lane_values(spec: MacSpec, args: MatmulOperands, step: Step, start: Array | None) -> Array:
    """Return the final accumulators (M, N) as lane values; ``start`` holds the initial ones."""
    tile = gemm.tile_of(step)
    (m, k), n = args.a.shape, args.b.shape[1]
    rows, panels = -(-m // tile.rows) * tile.rows, -(-n // tile.columns)
    half = str(step.real) == "half"
    dtype = np.float64 if str(step.real) == "double" else np.float32
    shift = _operand_shift(spec, args, half) if dtype == np.float32 else 0
    a = _pack_a(spec, args, np.zeros((rows, k), dtype=dtype), shift)
    b = _pack_b(spec, args, np.empty((panels, k, tile.columns), dtype=dtype), -shift)
    if isinstance(spec.accumulate, Fixed):
        _require_finite(spec, a, b)
    c = np.zeros((rows, panels * tile.columns), dtype=dtype)
    if start is not None:
        c[:m, :n] = start
    reals, integers = _parameters(spec.accumulate, step, dtype)
    if half:
        a, b, c, reals = (_half_bits(x) for x in (a, b, c, reals))
    random = _pack_random(args.random, c.shape) if step.random else np.zeros((1, 1, 1), np.uint32)
    gemm.gemm(step.name)(a, b, c, reals, integers, random)
    return (c.view(np.float16) if half else c)[:m, :n]


def _operand_shift(spec: MacSpec, args: MatmulOperands, half: bool) -> int:
    """Return the power of two that moves from one operand to the other so that lanes hold both."""
    a, b = scaled_span(spec.a, args.a_scale), scaled_span(spec.b, args.b_scale)
    shift = half_shift(a, b) if half else float_shift(a, b)
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
            "low": float(stage.result.min_integer),
            "high": float(stage.result.max_integer),
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
