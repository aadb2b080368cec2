# SPDX-License-Identifier: Apache-2.0
"""Values to codes at memory speed: the vector counterpart of `kernels.codec.encode_array`.

One kernel per rounding mode, lane, input type and code width serves every format whose values the
lane holds; `codec` encodes into all others, and finds the value in error.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fpsim.kernels.codec import codec
from fpsim.kernels.codec.flags import FLAG_INTEGERS, flag_parameters, float_flags, vector_flags
from fpsim.kernels.codec.layout import Layout, Limits
from fpsim.kernels.codec.rounding import mode_constants
from fpsim.kernels.llvm.machine import Machine
from fpsim.kernels.llvm.rounding import LANE_INTEGERS, Parameters, round_magnitude
from fpsim.kernels.llvm.vector import DOUBLE, FLOAT, Lanes, Vec
from fpsim.kernels.threads import shared, within

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

#: Parameters of `vector_codes`: of the format in its lane, of the place and range of codes, the
#: codes of `Limits`, and the parameters of flags.
ENCODE_REALS = ("smallest_normal",)
ENCODE_INTEGERS = (
    *LANE_INTEGERS,
    "random_shift",  # lane bits below the random ones
    "offset",  # lane bits of the smallest normal, less its code
    "hidden",  # 2^mantissa_bits
    "flush_below",  # codes under this become 0
    "max_positive",  # largest magnitude code of values above zero
    "max_negative",  # of values below zero; -1: even values that round to zero are beyond
    "sign_bit",
    "negative_zero",
    *Limits._fields,
    *FLAG_INTEGERS,
)
_INDEX = ir.IntType(64)
_REALS = {32: FLOAT, 64: DOUBLE}
VECTOR_MINIMUM = 1 << 10


@lru_cache(maxsize=256)
def format_parameters(
    layout: Layout, limits: Limits, random_bits: int, wide: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the run-time parameters of a format in a float32 or float64 lane.

    Args:
        layout: `Layout` of the format.
        limits: `Limits`, the codes of values that the format does not hold.
        random_bits: width of the random integers, 0 unless rounding is stochastic.
        wide: float64 lanes; else float32.

    Returns:
        The values of `ENCODE_REALS` (float32 or float64) and of `ENCODE_INTEGERS` (int32 or int64),
        read-only.
    """
    mantissa, bias = (52, 1023) if wide else (23, 127)
    m = layout.mantissa_bits
    shift = mantissa - m
    no_zero = layout.hidden_row == 1
    first = bias + layout.exponent_min - 1 + int(no_zero)  # exponent field whose code would be 0
    values = {
        "shift": shift,
        "random_shift": shift - random_bits,
        "parity": int(m == 0) & first,
        "subnormal_parity": int(m == 0),
        "offset": first << m,
        # Without a zero, values below the smallest normal come out at 0 or below and go up to 0.
        "hidden": 1 << m,
        "flush_below": (1 << m) if layout.hidden_row == 2 else 0,
        "max_positive": layout.max_code,
        "max_negative": layout.max_code if layout.sign_bit else -int(no_zero),
        "sign_bit": layout.sign_bit,
        "negative_zero": layout.negative_zero,
        **limits._asdict(),
        **flag_parameters(layout, limits, mantissa, bias),
    }
    reals = np.array([np.ldexp(1.0, layout.exponent_min)], np.float64 if wide else np.float32)
    integers = np.array(
        [values[name] for name in ENCODE_INTEGERS], dtype=np.int64 if wide else np.int32
    )
    reals.flags.writeable = integers.flags.writeable = False
    return reals, integers


def vector_codes(x: Vec, rounding: str, p: Parameters, random: Vec | None) -> Vec:
    """Emit the code that encodes a vector of values.

    Args:
        x: float lanes.
        rounding: mode, ``"rne"`` for example.
        p: `format_parameters` of the format, loaded by `load_parameters`.
        random: random integers in integer lanes, or None unless rounding is stochastic.

    Returns:
        Codes in integer lanes; negative where `Limits` calls the value an error.
    """
    return _encode(x, rounding, p, random, False)[0]


def _encode(
    x: Vec, rounding: str, p: Parameters, random: Vec | None, flags: bool
) -> tuple[Vec, Vec]:
    """Return codes and flags of a vector of values; without ``flags``, the codes twice."""
    top = x.lanes.bits - 1
    integers = p.integers
    zero = x.lanes.constant(0, True)
    negative = x.as_bits >> top
    magnitude = x.magnitude_bits
    if random is not None:
        random = random << integers["random_shift"]
    rounded = round_magnitude(magnitude, negative, rounding, p, random, sticky=True)
    code = (rounded.bits >> integers["shift"]) - integers["offset"]
    code = code - rounded.subnormal.where(integers["hidden"], zero)
    flushed = integers["flush_below"] > code
    code = flushed.where(zero, code)

    is_negative = negative.equals(1)
    over = is_negative.where(integers["over_negative"], integers["over_positive"])
    infinity = is_negative.where(integers["inf_negative"], integers["inf_positive"])
    beyond = code > (x < 0.0).where(integers["max_negative"], integers["max_positive"])
    keeps_sign = is_negative & ((code > 0) | (integers["negative_zero"] > 0))
    code = beyond.where(over, code + keeps_sign.where(integers["sign_bit"], zero))
    real = magnitude.as_real
    code = real.equals(float("inf")).where(infinity, code)
    code = real.equals(real).where(code, integers["nan"])
    if not flags:
        return code, code
    return code, vector_flags(magnitude, negative, rounding, p, random, rounded, flushed, beyond)


def load_parameters(lanes: Lanes, reals: Any, integers: Any) -> Parameters:
    """Load a format's parameters from memory into all lanes.

    Args:
        lanes: float32 or float64 lanes.
        reals: LLVM pointer to the first array of `format_parameters`.
        integers: LLVM pointer to the second.

    Returns:
        Vectors by the names in `ENCODE_REALS` and `ENCODE_INTEGERS`.
    """
    builder = lanes.builder

    def element(pointer: Any, index: int, integer: bool) -> Vec:
        where = builder.gep(pointer, [ir.Constant(_INDEX, index)])
        return lanes.splat(builder.load(where), integer)

    return Parameters(
        {name: element(reals, i, False) for i, name in enumerate(ENCODE_REALS)},
        {name: element(integers, i, True) for i, name in enumerate(ENCODE_INTEGERS)},
    )


def _run_intrinsic(rounding: str, wide: bool, flags: bool, lanes_count: int) -> Any:
    real = DOUBLE if wide else FLOAT

    @intrinsic
    def run(typingctx, x, out, raised, reals, integers, random, span):
        """Encode vectors at span = (start, count); return the OR of the codes' error bits."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(builder, real, lanes_count, Machine.host().register_bits)
            data = [
                context.make_array(kind)(context, builder, value).data
                for kind, value in zip(signature.args[:6], args[:6], strict=True)
            ]
            parameters = load_parameters(lanes, data[3], data[4])
            start, count = (builder.extract_value(args[6], i) for i in range(2))

            def place(argument: int, at: Any) -> tuple[Any, Any, int]:
                """Return the pointer to a vector of an array, its type and its alignment."""
                kind = signature.args[argument].dtype
                integer = ir.IntType(kind.bitwidth)
                element = integer if isinstance(kind, types.Integer) else _REALS[kind.bitwidth]
                vector = ir.VectorType(element, lanes_count)
                where = builder.gep(data[argument], [at])
                return builder.bitcast(where, vector.as_pointer()), vector, kind.bitwidth // 8

            def store(argument: int, at: Any, integers: Vec) -> None:
                pointer, kind, align = place(argument, at)
                same = kind.element.width == lanes.bits
                value = integers.value if same else builder.trunc(integers.value, kind)
                builder.store(value, pointer, align=align)

            before = builder.block
            body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
            builder.branch(body)
            builder.position_at_end(body)
            i = builder.phi(_INDEX)
            i.add_incoming(ir.Constant(_INDEX, 0), before)
            errors = builder.phi(lanes.integer_type)
            errors.add_incoming(lanes.constant(0, True).value, before)
            at = builder.add(start, builder.mul(i, ir.Constant(_INDEX, lanes_count)))
            pointer, kind, align = place(0, at)
            loaded = builder.load(pointer, align=align)
            if kind != lanes.real_type:
                loaded = builder.fpext(loaded, lanes.real_type)
            bits = None
            if rounding == "sr":
                pointer, kind, align = place(5, at)
                words = builder.load(pointer, align=align)
                if kind.element.width != lanes.bits:
                    narrower = kind.element.width < lanes.bits
                    resize = builder.zext if narrower else builder.trunc
                    words = resize(words, lanes.integer_type)
                bits = Vec(lanes, words, True)
            codes, statuses = _encode(Vec(lanes, loaded, False), rounding, parameters, bits, flags)
            store(1, at, codes)
            if flags:
                store(2, at, statuses)
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

        signature = types.int64(x, out, raised, reals, integers, random, span)
        return signature, codegen

    return run


@cache
def encoder(rounding: str, wide: bool, flags: bool = False) -> Any:
    """Return the compiled encoder of a rounding mode.

    It is called as ``run(x, out, raised, reals, integers, random)`` with flat contiguous arrays:
    ``x`` of at least `lanes_of` values, ``out`` uint8, uint16 or uint32 codes of the same length,
    ``raised`` uint8 flags of the same length (anything, without ``flags``), ``reals`` and
    ``integers`` from `format_parameters`, ``random`` unsigned integers, one per value (one entry if
    unused). It returns 0 if a value was in error, else -1.

    Args:
        rounding: mode, ``"rne"`` for example.
        wide: ``x`` is float32 or float64 and computed in float64 lanes; else float32 in float32
            lanes.
        flags: whether the status flags of each value are stored too.

    Returns:
        The function ``run``.
    """
    count = lanes_of(wide)
    run_vectors = _run_intrinsic(rounding, wide, flags, count)

    @shared(1 << 17, f"encode {rounding} {wide} {flags} {count}")
    def run(
        x: Any, out: Any, raised: Any, reals: Any, integers: Any, random: Any, share: Any
    ) -> Any:
        errors = np.int64(0)
        vectors = within(x.size // count, share)
        if len(vectors):
            span = (np.int64(vectors.start * count), np.int64(len(vectors)))
            errors |= run_vectors(x, out, raised, reals, integers, random, span)
        if x.size % count and share[0] == 0:  # the last vector overlaps the one before
            span = (np.int64(x.size - count), np.int64(1))
            errors |= run_vectors(x, out, raised, reals, integers, random, span)
        return 0 if errors < 0 else -1

    return run


def encode(
    values: np.ndarray,
    out: np.ndarray,
    raised: np.ndarray | None,
    layout: Layout,
    limits: Limits,
    rounding: str,
    random: np.ndarray,
    random_bits: int,
) -> int:
    """Encode values with the fastest kernel that holds the format.

    Arrays too short to be worth a compiled variant of their own go through the scalar codec.

    Args:
        values: float32 or float64, flat.
        out: uint8, uint16 or uint32 codes of the same length, filled.
        raised: uint8, filled with `fpsim.formats.rounding.Flag` bits, or None.
        layout: `Layout` of the format.
        limits: `Limits`, the codes of values that the format does not hold.
        rounding: mode, ``"rne"`` for example.
        random: unsigned integers, one per value; one entry if ``random_bits`` is 0.
        random_bits: width of the random integers, 0 unless rounding is stochastic.

    Returns:
        Index of the first value that ``limits`` calls an error, or -1. If there is one, ``raised``
        is not meaningful.
    """
    flags = raised is not None
    target = np.empty(1, dtype=np.uint8) if raised is None else raised
    lane = _lane(layout, random_bits, values.dtype, flags)
    if values.size >= VECTOR_MINIMUM and lane is not None:
        reals, integers = format_parameters(layout, limits, random_bits, lane)
        run = encoder(rounding, lane, flags)
        if run(values, out, target, reals, integers, random) < 0:
            return -1
    constants = mode_constants(rounding)
    wide, bits = values.astype(np.float64, copy=False), random.astype(np.int64)
    bad = int(codec.encode_array(wide, out, layout, limits, constants, bits, random_bits))
    if flags and bad < 0:
        float_flags(wide, out, target, layout, constants, bits, random_bits)
    return bad


def _lane(layout: Layout, random_bits: int, dtype: Any, flags: bool) -> bool | None:
    """Return whether values need a float64 lane, or None if not even that rounds them exactly."""
    # Flags are decided one binade below the smallest normal number.
    above = -126 + int(flags)
    if dtype == np.float32 and fits_float32(layout, random_bits) and layout.exponent_min >= above:
        return False
    spare = 52 - layout.mantissa_bits > max(random_bits, 1)
    return True if spare and layout.exponent_min >= -1022 + int(flags) else None


def fits_float32(layout: Layout, random_bits: int) -> bool:
    """Return whether a float32 lane rounds to a format exactly: spare bits, codes < 2^31."""
    spare = 23 - layout.mantissa_bits - max(random_bits, 1)
    in_range = -126 <= layout.exponent_min <= 127
    return spare >= 1 and in_range and layout.sign_bit + layout.max_code < 1 << 31


def lanes_of(wide: bool) -> int:
    """Return how many values one vector holds: the least that an input must have."""
    return Machine.host().register_bits // (64 if wide else 32)
