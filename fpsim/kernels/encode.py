# SPDX-License-Identifier: Apache-2.0
"""Values to codes at memory speed: the vector counterpart of `kernels.codec.encode_array`.

One kernel per rounding mode, input type and code width serves every format with subnormals or
flush-to-zero whose values the lane holds; `codec` covers the rest and explains errors.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from fpsim.kernels import codec
from fpsim.kernels.cache import kernel
from fpsim.kernels.codec import Layout, Limits
from fpsim.kernels.lanes import LANE_INTEGERS, Parameters, round_magnitude
from fpsim.kernels.rounding import mode_constants
from fpsim.kernels.vector import DOUBLE, FLOAT, Lanes, Vec, vector_bytes

__all__ = [
    "ENCODE_INTEGERS",
    "ENCODE_REALS",
    "encode",
    "encoder",
    "fits_float32",
    "format_parameters",
    "lanes_of",
    "load_parameters",
    "vector_codes",
]

#: Parameters of `vector_codes`: the format's lane, then where codes lie and what replaces them.
ENCODE_REALS = ("smallest_normal",)
ENCODE_INTEGERS = (
    *LANE_INTEGERS,
    "offset",  # lane bits of the smallest normal, less its code
    "hidden",  # 2^mantissa_bits
    "flush_below",  # codes under this become 0
    "max_code",
    "sign_bit",
    "negative_zero",
    *Limits._fields,
)
_INDEX = ir.IntType(64)
#: Elements a thread takes at a time.
CHUNK = 1 << 14
VECTOR_MINIMUM = 1 << 10


def format_parameters(
    layout: Layout, limits: Limits, random_bits: int, wide: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays of `ENCODE_REALS` and `ENCODE_INTEGERS` for a float32 or float64 lane."""
    mantissa, bias = (52, 1023) if wide else (23, 127)
    m = layout.mantissa_bits
    shift = mantissa - m
    values = {
        "shift": shift,
        "random_shift": shift - random_bits,
        "parity": int(m == 0) & (bias + layout.exponent_min - 1),
        "subnormal_parity": int(m == 0),
        "offset": (bias + layout.exponent_min - 1) << m,
        "hidden": 1 << m,
        "flush_below": (1 << m) if layout.hidden_row == 2 else 0,
        "max_code": layout.max_code,
        "sign_bit": layout.sign_bit,
        "negative_zero": layout.negative_zero,
        **limits._asdict(),
    }
    reals = np.array([np.ldexp(1.0, layout.exponent_min)], np.float64 if wide else np.float32)
    integers = [values[name] for name in ENCODE_INTEGERS]
    return reals, np.array(integers, dtype=np.int64 if wide else np.int32)


def vector_codes(x: Vec, rounding: str, p: Parameters, random: Vec | None) -> Vec:
    """Return the codes of a vector of values, negative where `Limits` calls the input an error."""
    top = x.lanes.bits - 1
    integers = p.integers
    zero = x.lanes.constant(0, True)
    negative = x.as_bits >> top
    magnitude = x.magnitude_bits
    rounded = round_magnitude(magnitude, negative, rounding, p, random, sticky=True)
    code = (rounded.bits >> integers["shift"]) - integers["offset"]
    code = code - rounded.subnormal.where(integers["hidden"], zero)
    code = (integers["flush_below"] > code).where(zero, code)

    is_negative = negative.equals(1)
    over = is_negative.where(integers["over_negative"], integers["over_positive"])
    infinity = is_negative.where(integers["inf_negative"], integers["inf_positive"])
    unsigned = is_negative & integers["sign_bit"].equals(0)
    beyond = (code > integers["max_code"]) | (unsigned & (code > 0))
    keeps_sign = is_negative & ((code > 0) | (integers["negative_zero"] > 0))
    code = beyond.where(over, code + keeps_sign.where(integers["sign_bit"], zero))
    real = magnitude.as_real
    code = real.equals(float("inf")).where(infinity, code)
    return real.equals(real).where(code, integers["nan"])


def load_parameters(lanes: Lanes, reals: Any, integers: Any) -> Parameters:
    """Load the parameters of `vector_codes` from pointers to their arrays."""
    builder = lanes.builder

    def element(pointer: Any, index: int, integer: bool) -> Vec:
        where = builder.gep(pointer, [ir.Constant(_INDEX, index)])
        return lanes.splat(builder.load(where), integer)

    return Parameters(
        {name: element(reals, i, False) for i, name in enumerate(ENCODE_REALS)},
        {name: element(integers, i, True) for i, name in enumerate(ENCODE_INTEGERS)},
    )


def _run_intrinsic(rounding: str, wide: bool, lanes_count: int) -> Any:
    real = DOUBLE if wide else FLOAT

    @intrinsic
    def run(typingctx, x, out, reals, integers, random, span):
        """Encode vectors at span = (start, count); return the OR of the codes' error bits."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(builder, real, lanes_count)
            data = [
                context.make_array(kind)(context, builder, value).data
                for kind, value in zip(signature.args[:5], args[:5], strict=True)
            ]
            parameters = load_parameters(lanes, data[2], data[3])
            start, count = (builder.extract_value(args[5], i) for i in range(2))
            stored = ir.VectorType(ir.IntType(signature.args[1].dtype.bitwidth), lanes_count)

            def vector(pointer: Any, index: Any, kind: Any, align: int) -> Any:
                where = builder.gep(pointer, [index])
                return builder.bitcast(where, kind.as_pointer()), align

            before = builder.block
            body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
            builder.branch(body)
            builder.position_at_end(body)
            i = builder.phi(_INDEX)
            i.add_incoming(ir.Constant(_INDEX, 0), before)
            errors = builder.phi(lanes.integer_type)
            errors.add_incoming(lanes.constant(0, True).value, before)
            at = builder.add(start, builder.mul(i, ir.Constant(_INDEX, lanes_count)))
            pointer, align = vector(data[0], at, lanes.real_type, lanes.bits // 8)
            value = Vec(lanes, builder.load(pointer, align=align), False)
            bits = None
            if rounding == "sr":
                words = ir.VectorType(ir.IntType(32), lanes_count)
                pointer, align = vector(data[4], at, words, 4)
                loaded = builder.load(pointer, align=align)
                loaded = builder.zext(loaded, lanes.integer_type) if wide else loaded
                bits = Vec(lanes, loaded, True)
            codes = vector_codes(value, rounding, parameters, bits)
            narrow = codes.value
            if stored.element.width < lanes.bits:
                narrow = builder.trunc(narrow, stored)
            pointer, align = vector(data[1], at, stored, stored.element.width // 8)
            builder.store(narrow, pointer, align=align)
            errors.add_incoming(builder.or_(errors, codes.value), body)
            following = builder.add(i, ir.Constant(_INDEX, 1))
            i.add_incoming(following, body)
            builder.cbranch(builder.icmp_signed("<", following, count), body, after)
            builder.position_at_end(after)
            merged = builder.or_(errors, codes.value)
            total = builder.extract_element(merged, ir.Constant(ir.IntType(32), 0))
            for lane in range(1, lanes_count):
                index = ir.Constant(ir.IntType(32), lane)
                total = builder.or_(total, builder.extract_element(merged, index))
            return builder.sext(total, _INDEX) if not wide else total

        signature = types.int64(x, out, reals, integers, random, span)
        return signature, codegen

    return run


@cache
def encoder(rounding: str, wide: bool) -> Any:
    """Return the compiled encoder of a rounding mode for float32 (or float64, ``wide``) input.

    It is called as ``run(x, out, reals, integers, random)`` with flat contiguous arrays: ``x`` of
    at least `lanes_of` values, ``out`` uint8, uint16 or uint32 codes, ``random`` uint32 as long as
    ``x`` (one entry if unused), parameters from `format_parameters`. It returns a negative number
    if any input was in error.
    """
    count = lanes_of(wide)
    run_vectors = _run_intrinsic(rounding, wide, count)

    @kernel(f"encode {rounding} {wide} {count}", parallel=True)
    def run(x: Any, out: Any, reals: Any, integers: Any, random: Any) -> Any:
        vectors = x.size // count
        chunks = (vectors * count + CHUNK - 1) // CHUNK
        per_chunk = CHUNK // count
        errors = np.zeros(chunks + 1, dtype=np.int64)
        for c in prange(chunks):
            first = c * per_chunk
            span = (np.int64(first * count), np.int64(min(per_chunk, vectors - first)))
            errors[c] = run_vectors(x, out, reals, integers, random, span)
        if x.size % count:  # the last vector overlaps the one before
            span = (np.int64(x.size - count), np.int64(1))
            errors[chunks] = run_vectors(x, out, reals, integers, random, span)
        return errors.min()

    return run


def encode(
    values: np.ndarray,
    out: np.ndarray,
    layout: Layout,
    limits: Limits,
    rounding: str,
    random: np.ndarray,
    random_bits: int,
) -> int:
    """Encode flat float32 or float64 ``values`` with the fastest kernel that holds the format.

    Arguments are those of `codec.encode_array`; returns the index of the first input in error, or
    -1. Arrays too short to be worth a compiled variant of their own go through the scalar codec.
    """
    keeps_random_bits = 52 - layout.mantissa_bits > random_bits
    if values.size >= VECTOR_MINIMUM and layout.hidden_row != 1 and keeps_random_bits:
        wide = values.dtype == np.float64 or not fits_float32(layout, random_bits)
        x = values.astype(np.float64) if wide else values
        reals, integers = format_parameters(layout, limits, random_bits, wide)
        bits = random.astype(np.uint32)
        if encoder(rounding, wide)(x, out, reals, integers, bits) >= 0:
            return -1
    wide_values = values.astype(np.float64, copy=False)
    constants = mode_constants(rounding)
    return int(codec.encode_array(wide_values, out, layout, limits, constants, random, random_bits))


def fits_float32(layout: Layout, random_bits: int) -> bool:
    """Return whether a float32 lane rounds to this format exactly: spare bits, codes < 2^31."""
    spare = 23 - layout.mantissa_bits - max(random_bits, 1)
    in_range = -126 <= layout.exponent_min <= 127
    return spare >= 1 and in_range and layout.sign_bit + layout.max_code < 1 << 31


def lanes_of(wide: bool) -> int:
    """Return how many values one vector holds: the least an input must have."""
    return vector_bytes() // (8 if wide else 4)
