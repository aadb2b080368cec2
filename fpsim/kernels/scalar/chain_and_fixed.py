# SPDX-License-Identifier: Apache-2.0
"""Chain and fixed-point stages in scalar code: one dot product after another, one step at a time.

The general path behind `dot` and the vector generator, which need every intermediate accumulator.
It shares the rounding primitive with the array codec, and nothing with the lane steps of matrix
products: a second opinion on every bit.
"""

from __future__ import annotations

import math

import numpy as np

from fpsim.kernels.cache import inner, kernel
from fpsim.kernels.codec.codec import decode_magnitude, encode_value
from fpsim.kernels.scalar.fixed_point import add, to_grid
from fpsim.kernels.scalar.limbs import LIMBS, sum_to_odd
from fpsim.kernels.threads import shared, within

__all__ = [
    "CLEAR",
    "LOAD",
    "MAC",
    "add_to_odd",
    "chain_steps",
    "chain_stream",
    "decode_code",
    "fixed_steps",
    "fixed_stream",
    "sums_to_odd",
]

#: Operations of a stream; anything else holds the accumulator.
CLEAR, MAC, LOAD = 1, 2, 3


@inner
def decode_code(code, layout):
    """Return the float64 value of an accumulator code; NaN for the code of -0 if there is none."""
    negative = code >= layout.sign_bit
    magnitude = code - layout.sign_bit if negative else code
    if negative and magnitude == 0 and layout.negative_zero == 0:
        return np.nan
    if magnitude > layout.max_code:
        value = np.inf if magnitude == layout.inf_code else np.nan
    else:
        sig, exponent = decode_magnitude(magnitude, layout)
        value = math.ldexp(np.float64(sig), exponent)
    return -value if negative else value


@inner
def add_to_odd(x, y, toward_negative):
    """Return x + y rounded to odd: if inexact, the neighbour of the exact sum whose last bit is 1.

    Args:
        x: float64.
        y: float64.
        toward_negative: whether a sum of zero with addends of unlike signs is -0.

    Returns:
        The sum, float64.
    """
    s = x + y
    if s == 0.0:
        if toward_negative and math.copysign(1.0, x) != math.copysign(1.0, y):
            return -0.0
        return s
    t = s - x
    error = (x - (s - t)) + (y - t)
    bits = np.float64(s).view(np.int64)
    if error == 0.0 or not math.isfinite(s) or bits & 1:
        return s
    if (error < 0.0) != (s < 0.0):
        return np.int64(bits - 1).view(np.float64)
    return np.int64(bits + 1).view(np.float64)


@inner
def _chain_step(code, product, layout, limits, mode, random, random_bits):
    total = add_to_odd(decode_code(code, layout), product, mode[3] == 1)
    return encode_value(total, layout, limits, mode, random, random_bits)


@inner
def _fixed_step(acc, product, grid, mode, random, random_bits):
    magnitude, excess = to_grid(product, grid, mode, random, random_bits)
    return add(acc, magnitude, excess, product < 0.0, grid)


@shared(1 << 12)
def chain_steps(terms, c, layout, limits, mode, random, random_bits, out, share):
    """Accumulate rows of terms in a floating-point format, one rounding per term.

    Args:
        terms: float64 (R, K, P): a term is the exact sum of its P parts.
        c: accumulator codes at the start (R,).
        layout: `Layout` of the accumulator.
        limits: `Limits` of the accumulator.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: integers of ``random_bits`` bits (R, K), or (1, 1) if there are 0.
        random_bits: 0 unless rounding is stochastic.
        out: codes (R, S), filled with the last S accumulators of each row.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        The first row with a result that has no code, or -1.
    """
    rows, length, parts = terms.shape
    keep = out.shape[1]
    bad = np.int64(rows)
    for i in within(rows, share):
        limbs, ones = np.zeros(LIMBS if parts > 1 else 0, dtype=np.int64), np.ones(parts)
        code = np.int64(c[i])
        for k in range(length):
            r = np.int64(random[i, k]) if random_bits else np.int64(0)
            start = decode_code(code, layout)
            if parts == 1:
                total = add_to_odd(start, terms[i, k, 0], mode[3] == 1)
            else:
                total = sum_to_odd(limbs, terms[i, k], ones, start, mode[3] == 1)
            code = encode_value(total, layout, limits, mode, r, random_bits)
            if code < 0:
                bad = min(bad, i)
                code = np.int64(0)
            if k >= length - keep:
                out[i, k - (length - keep)] = code
    return -1 if bad == rows else bad


@shared(1 << 16)
def sums_to_odd(acc, terms, k, toward_negative, out, share):
    """Fill ``out`` with accumulators plus one term each, rounded to odd where inexact.

    Rounding these sums once more, to the accumulator's format, makes a step of `chain_steps`.

    Args:
        acc: float64 (R,).
        terms: float64 (R, K).
        k: column of ``terms`` that is added.
        toward_negative: whether a sum of zero with addends of unlike signs is -0.
        out: float64 (R,), filled.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    for i in within(acc.size, share):
        out[i] = add_to_odd(acc[i], terms[i, k], toward_negative)


@shared(1 << 12)
def fixed_steps(terms, c, grid, mode, random, random_bits, out, share):
    """Accumulate rows of products on a fixed-point grid, each product rounded to it first.

    Args:
        terms: finite float64 (R, K).
        c: accumulators at the start (R,), sign-extended integers.
        grid: `fpsim.kernels.scalar.fixed_point.Grid`, signed.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: integers of ``random_bits`` bits (R, K), or (1, 1) if there are 0.
        random_bits: 0 unless rounding is stochastic.
        out: uint64 (R, S), filled with the codes of the last S accumulators of each row.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    rows, length = terms.shape
    keep = out.shape[1]
    used = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - grid.width)
    for i in within(rows, share):
        acc = np.int64(c[i])
        for k in range(length):
            r = np.int64(random[i, k]) if random_bits else np.int64(0)
            acc = _fixed_step(acc, terms[i, k], grid, mode, r, random_bits)
            if k >= length - keep:
                out[i, k - (length - keep)] = np.uint64(acc) & used


@kernel()
def chain_stream(op, product, c, start, layout, limits, mode, random, random_bits, out):
    """Run a stream of operations on one floating-point accumulator.

    Args:
        op: `CLEAR`, `MAC`, `LOAD` or any other number, which holds the accumulator (T,).
        product: float64 (T,), the exact product that a MAC adds.
        c: codes (T,) that a LOAD takes.
        start: the accumulator's code before the first operation.
        layout: `Layout` of the accumulator.
        limits: `Limits` of the accumulator.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: an integer of ``random_bits`` bits per operation, or one in all if there are 0.
        random_bits: 0 unless rounding is stochastic.
        out: codes (T,), filled with the accumulator after each operation.

    Returns:
        The first operation whose result has no code, where the stream ends; or -1.
    """
    code = np.int64(start)
    for i in range(op.size):
        if op[i] == CLEAR:
            code = np.int64(0)
        elif op[i] == LOAD:
            code = np.int64(c[i])
        elif op[i] == MAC:
            r = np.int64(random[i]) if random_bits else np.int64(0)
            code = _chain_step(code, product[i], layout, limits, mode, r, random_bits)
            if code < 0:
                return i
        out[i] = code
    return -1


@kernel()
def fixed_stream(op, product, c, start, grid, mode, random, random_bits, out):
    """Run a stream of operations on one fixed-point accumulator.

    Args:
        op: `CLEAR`, `MAC`, `LOAD` or any other number, which holds the accumulator (T,).
        product: finite float64 (T,), the product that a MAC rounds to the grid and adds.
        c: sign-extended integers (T,) that a LOAD takes.
        start: the accumulator before the first operation, sign-extended.
        grid: `fpsim.kernels.scalar.fixed_point.Grid`, signed.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: an integer of ``random_bits`` bits per operation, or one in all if there are 0.
        random_bits: 0 unless rounding is stochastic.
        out: uint64 (T,), filled with the accumulator's code after each operation.

    Returns:
        Nothing.
    """
    used = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - grid.width)
    acc = np.int64(start)
    for i in range(op.size):
        if op[i] == CLEAR:
            acc = np.int64(0)
        elif op[i] == LOAD:
            acc = np.int64(c[i])
        elif op[i] == MAC:
            r = np.int64(random[i]) if random_bits else np.int64(0)
            acc = _fixed_step(acc, product[i], grid, mode, r, random_bits)
        out[i] = np.uint64(acc) & used
