# SPDX-License-Identifier: Apache-2.0
"""Blocks with a shared power-of-two scale (OCP MX): scale exponents and element codes.

`mx_quantize` handles every case, one element at a time. `mx_quantizer` handles whole blocks of
float32 as one vector each.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fpsim.kernels.cache import inner, kernel
from fpsim.kernels.codec.codec import encode_value
from fpsim.kernels.codec.encode import load_parameters, vector_codes
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.vector import FLOAT, Lanes, Vec
from fpsim.kernels.threads import shared, within

__all__ = ["CEIL", "EVEN", "FLOOR", "RCEIL", "bump_limit", "mx_quantize", "mx_quantizer"]

FLOOR, RCEIL, CEIL, EVEN = range(4)
E8M0_BIAS = 127
E8M0_MAX = 254
E8M0_NAN = 255


@inner
def shared_exponent(amax, rule, exponent_max, largest, mantissa_bits):
    """Return the scale exponent of a block under one of four rules.

    With e = floor(log2 amax) and emax the exponent of the largest element: FLOOR is e - emax (OCP
    MX 1.0, section 6.3); the others add 1, RCEIL if amax / 2^(e - emax) exceeds the largest
    element, CEIL if amax is no power of two, EVEN if amax rounds to 2^(e + 1) at ``mantissa_bits``
    bits.

    Args:
        amax: largest magnitude of the block, finite and above 0.
        rule: FLOOR, RCEIL, CEIL or EVEN.
        exponent_max: emax.
        largest: the largest element.
        mantissa_bits: mantissa bits of an element.

    Returns:
        The exponent, not clamped to the range of E8M0.
    """
    fraction, exponent = math.frexp(amax)
    floor = exponent - 1
    significand = 2.0 * fraction  # in [1, 2)
    bump = False
    if rule == RCEIL:
        bump = significand > math.ldexp(largest, -exponent_max)
    elif rule == CEIL:
        bump = significand > 1.0
    elif rule == EVEN:
        bump = significand >= 2.0 - math.ldexp(1.0, -mantissa_bits - 1)
    return floor - exponent_max + (1 if bump else 0)


@shared(1 << 13)
def mx_quantize(x, block, rule, exponent_max, largest, layout, limits, mode, codes, scales, share):
    """Quantize rows in blocks along K under power-of-two scales (OCP MX).

    An all-zero block has scale code 0; one with a NaN or an infinity scale code 255 and codes 0.

    Args:
        x: float32 or float64 (R, K).
        block: elements of a block; the last one of a row may be shorter.
        rule: FLOOR, RCEIL, CEIL or EVEN, see `shared_exponent`.
        exponent_max: exponent of the largest element.
        largest: the largest element.
        layout: `Layout` of the elements.
        limits: `Limits`, the codes of values that elements do not hold.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`, not stochastic.
        codes: element codes (R, K), filled.
        scales: uint8 (R, G) E8M0 codes, filled: 2^(code - 127), clamped to 0..254.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        The first row with a NaN or an infinity, or -1.
    """
    rows, length = x.shape
    groups = scales.shape[1]
    bad = np.int64(rows)
    for r in within(rows, share):
        for g in range(groups):
            start = g * block
            stop = min(start + block, length)
            amax = 0.0
            finite = True
            for k in range(start, stop):
                magnitude = abs(np.float64(x[r, k]))
                if magnitude > amax:
                    amax = magnitude
                finite = finite and math.isfinite(magnitude)
            if not finite:
                bad = min(bad, r)
                scales[r, g] = E8M0_NAN
                for k in range(start, stop):
                    codes[r, k] = 0
                continue
            code = 0
            if amax > 0.0:
                exponent = shared_exponent(amax, rule, exponent_max, largest, layout.mantissa_bits)
                code = min(max(exponent + E8M0_BIAS, 0), E8M0_MAX)
            scales[r, g] = code
            inverse = math.ldexp(1.0, E8M0_BIAS - code)
            for k in range(start, stop):
                value = np.float64(x[r, k]) * inverse
                if value == 0.0 and x[r, k] != 0.0:  # underflow: directed modes still see it
                    value = np.float64(math.copysign(5e-324, x[r, k]))
                codes[r, k] = encode_value(value, layout, limits, mode, np.int64(0), 0)
    return -1 if bad == rows else bad


def bump_limit(rule: int, largest: float, exponent_max: int, mantissa_bits: int) -> int:
    """Return the float32 mantissa field of ``amax`` from which a rule doubles the scale.

    Args:
        rule: FLOOR, RCEIL, CEIL or EVEN, see `shared_exponent`.
        largest: the largest element.
        exponent_max: its exponent.
        mantissa_bits: mantissa bits of an element.

    Returns:
        An integer from 1 to 2^23; 2^23 never doubles.
    """
    one = 1 << 23
    if rule == RCEIL:
        return int(math.ldexp(largest, 23 - exponent_max)) - one + 1
    if rule == CEIL:
        return 1
    return one - (one >> (mantissa_bits + 1)) if rule == EVEN else one


def _block_intrinsic(block: int, rounding: str) -> Any:
    @intrinsic
    def run(typingctx, x, codes, scales, reals, integers, rule, span):
        """Quantize ``count`` blocks from ``first`` on; span = (first, count)."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(builder, FLOAT, block, Machine.host().register_bits)
            index, word, byte = ir.IntType(64), ir.IntType(32), ir.IntType(8)
            data = [
                context.make_array(kind)(context, builder, value).data
                for kind, value in zip(signature.args[:5], args[:5], strict=True)
            ]
            parameters = load_parameters(lanes, data[3], data[4])
            limit, exponent_max = (builder.extract_value(args[5], i) for i in range(2))
            first, count = (builder.extract_value(args[6], i) for i in range(2))

            def const(value: int) -> Any:
                return ir.Constant(word, value)

            def choose(condition: Any, yes: Any, no: Any) -> Any:
                return builder.select(condition, yes, no)

            with cgutils.for_range(builder, count) as loop:
                at = builder.add(first, loop.index)
                start = builder.mul(at, ir.Constant(index, block))
                where = builder.gep(data[0], [start])
                where = builder.bitcast(where, lanes.real_type.as_pointer())
                values = Vec(lanes, builder.load(where, align=4), False)
                largest = values.magnitude_bits.largest()

                mantissa = builder.and_(largest, const((1 << 23) - 1))
                bump = builder.zext(builder.icmp_unsigned(">=", mantissa, limit), word)
                exponent = builder.add(builder.lshr(largest, const(23)), bump)
                scale = builder.sub(exponent, exponent_max)
                scale = choose(builder.icmp_signed("<", scale, const(0)), const(0), scale)
                scale = choose(builder.icmp_signed(">", scale, const(254)), const(254), scale)
                finite = builder.icmp_unsigned("<", largest, const(0x7F800000))
                # 2^(127 - scale); scale 254 needs the subnormal 2^-127.
                inverse = builder.shl(builder.sub(const(254), scale), const(23))
                last = builder.icmp_signed("==", scale, const(254))
                inverse = choose(last, const(1 << 22), inverse)
                factor = lanes.splat(builder.bitcast(inverse, FLOAT))
                elements = vector_codes(values * factor, rounding, parameters, None)
                zero = lanes.constant(0, True).value
                elements = builder.select(finite, elements.value, zero)
                stored = ir.VectorType(byte, block)
                where = builder.bitcast(builder.gep(data[1], [start]), stored.as_pointer())
                builder.store(builder.trunc(elements, stored), where, align=1)
                scale = choose(finite, scale, const(E8M0_NAN))
                builder.store(builder.trunc(scale, byte), builder.gep(data[2], [at]))
            return context.get_dummy_value()

        return types.void(x, codes, scales, reals, integers, rule, span), codegen

    return run


@cache
def mx_quantizer(block: int, rounding: str) -> Any:
    """Return the compiled quantizer of whole float32 blocks under power-of-two scales (OCP MX).

    It is called as ``run(x, codes, scales, reals, integers, limit, exponent_max)``: flat contiguous
    ``x`` and uint8 ``codes`` of ``block * scales.size`` elements, uint8 ``scales``, the element's
    `encode.format_parameters`, `bump_limit` and the exponent of the element's largest value (at
    least 1). All-zero blocks have scale code 0; blocks with a NaN or an infinity scale code 255 and
    codes 0. ``rounding`` is a mode that is not stochastic.
    """
    run_blocks = _block_intrinsic(block, rounding)
    per_chunk = max((1 << 14) // block, 1)

    @kernel(f"mx {block} {rounding}", parallel=True)
    def run(
        x: Any, codes: Any, scales: Any, reals: Any, integers: Any, limit: Any, exponent_max: Any
    ) -> None:
        chunks = (scales.size + per_chunk - 1) // per_chunk
        rule = (np.int32(limit), np.int32(exponent_max))
        for c in prange(chunks):
            first = c * per_chunk
            span = (np.int64(first), np.int64(min(per_chunk, scales.size - first)))
            run_blocks(x, codes, scales, reals, integers, rule, span)

    return run
