# SPDX-License-Identifier: Apache-2.0
"""Blocks whose scales are not powers of two: extremes of blocks, and elements under given scales.

The scales are a sixteenth or less of the data and are computed in between in numpy
(`fpsim.blocks.scale_rules`), where each float32 operation of a recipe can be read. Both kernels
take whole blocks of float32, one block per vector.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fpsim.kernels.cache import kernel
from fpsim.kernels.codec.encode import load_parameters, vector_codes
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.vector import FLOAT, Lanes, Vec

__all__ = ["block_elements", "block_extremes"]

_INDEX, _BYTE = ir.IntType(64), ir.IntType(8)
#: Elements a thread takes at a time.
CHUNK = 1 << 14


def _pointers(context: Any, builder: Any, signature: Any, args: Any, count: int) -> list[Any]:
    return [
        context.make_array(kind)(context, builder, value).data
        for kind, value in zip(signature.args[:count], args[:count], strict=True)
    ]


def _load(lanes: Lanes, pointer: Any, start: Any) -> Vec:
    builder = lanes.builder
    where = builder.bitcast(builder.gep(pointer, [start]), lanes.real_type.as_pointer())
    return Vec(lanes, builder.load(where, align=4), False)


def _extremes_intrinsic(block: int, split: bool) -> Any:
    @intrinsic
    def run(typingctx, x, positive, negative, span):
        """Store the float32 bits of the largest magnitudes of blocks at span = (first, count)."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(builder, FLOAT, block, Machine.host().register_bits)
            data = _pointers(context, builder, signature, args, 3)
            first, count = (builder.extract_value(args[3], i) for i in range(2))
            zero = lanes.constant(0, True)
            with cgutils.for_range(builder, count) as loop:
                at = builder.add(first, loop.index)
                values = _load(lanes, data[0], builder.mul(at, ir.Constant(_INDEX, block)))
                magnitude = values.magnitude_bits
                if split:
                    below = values.as_bits < 0
                    largest = below.where(zero, magnitude).largest()
                    builder.store(
                        below.where(magnitude, zero).largest(), builder.gep(data[2], [at])
                    )
                else:
                    largest = magnitude.largest()
                builder.store(largest, builder.gep(data[1], [at]))
            return context.get_dummy_value()

        return types.void(x, positive, negative, span), codegen

    return run


def _elements_intrinsic(block: int, rounding: str, split: bool, multiply: bool) -> Any:
    @intrinsic
    def run(typingctx, x, codes, positive, negative, reals, integers, span):
        """Store the codes of scaled blocks at span = (first, count)."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(builder, FLOAT, block, Machine.host().register_bits)
            data = _pointers(context, builder, signature, args, 6)
            parameters = load_parameters(lanes, data[4], data[5])
            first, count = (builder.extract_value(args[6], i) for i in range(2))
            with cgutils.for_range(builder, count) as loop:
                at = builder.add(first, loop.index)
                start = builder.mul(at, ir.Constant(_INDEX, block))
                values = _load(lanes, data[0], start)
                scale = lanes.splat(builder.load(builder.gep(data[2], [at])))
                if split:
                    other = lanes.splat(builder.load(builder.gep(data[3], [at])))
                    scale = (values.as_bits < 0).where(other, scale)
                operation = builder.fmul if multiply else builder.fdiv
                quotient = Vec(lanes, operation(values.value, scale.value), False)
                elements = vector_codes(quotient, rounding, parameters, None)
                stored = ir.VectorType(_BYTE, block)
                where = builder.bitcast(builder.gep(data[1], [start]), stored.as_pointer())
                builder.store(builder.trunc(elements.value, stored), where, align=1)
            return context.get_dummy_value()

        return types.void(x, codes, positive, negative, reals, integers, span), codegen

    return run


@cache
def block_extremes(block: int, split: bool) -> Any:
    """Return the compiled search for the largest magnitudes of whole blocks of float32.

    It is called as ``run(x, positive, negative)``: flat contiguous ``x`` of ``block *
    positive.size`` elements; the results are the bits of float32 in int32 arrays. With ``split``
    ``positive`` receives the largest magnitude of elements whose sign bit is clear and ``negative``
    that of elements whose sign bit is set (0 where there are none); else ``positive`` receives that
    of all elements and ``negative`` stays untouched. NaN counts above infinity.
    """
    run_blocks = _extremes_intrinsic(block, split)
    per_chunk = max(CHUNK // block, 1)

    @kernel(f"extremes {block} {split}", parallel=True)
    def run(x: Any, positive: Any, negative: Any) -> None:
        chunks = (positive.size + per_chunk - 1) // per_chunk
        for c in prange(chunks):
            first = c * per_chunk
            span = (np.int64(first), np.int64(min(per_chunk, positive.size - first)))
            run_blocks(x, positive, negative, span)

    return run


@cache
def block_elements(block: int, rounding: str, split: bool, multiply: bool) -> Any:
    """Return the compiled encoder of whole blocks of float32 under given float32 scales.

    It is called as ``run(x, codes, positive, negative, reals, integers)``: flat contiguous ``x``
    and uint8 ``codes``, float32 scales one per block, and the element's `encode.format_parameters`.

    Args:
        block: elements of a block.
        rounding: a mode that is not stochastic.
        split: elements with the sign bit set take their scale from ``negative``, all others from
            ``positive``; else all take it from ``positive``.
        multiply: elements are multiplied by their scale in float32; else divided.

    Returns:
        The function ``run``.
    """
    run_blocks = _elements_intrinsic(block, rounding, split, multiply)
    per_chunk = max(CHUNK // block, 1)

    @kernel(f"elements {block} {rounding} {split} {multiply}", parallel=True)
    def run(x: Any, codes: Any, positive: Any, negative: Any, reals: Any, integers: Any) -> None:
        chunks = (positive.size + per_chunk - 1) // per_chunk
        for c in prange(chunks):
            first = c * per_chunk
            span = (np.int64(first), np.int64(min(per_chunk, positive.size - first)))
            run_blocks(x, codes, positive, negative, reals, integers, span)

    return run
