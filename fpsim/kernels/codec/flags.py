# SPDX-License-Identifier: Apache-2.0
"""Status flags of encoded values, as `fpsim.formats.rounding.Flag` defines them.

`vector_flags` raises them while the vector encoder rounds. `float_flags` and `fixed_flags` find
them afterwards from the values and their codes: they serve formats that no lane holds, and check
`vector_flags`. Encoding without flags pays for neither.
"""

from __future__ import annotations

import math

import numpy as np

from fpsim.kernels.cache import inner, kernel
from fpsim.kernels.codec.codec import (
    F64_BIAS,
    F64_MANTISSA,
    decode_magnitude,
    round_to_code,
)
from fpsim.kernels.codec.layout import Layout, Limits
from fpsim.kernels.llvm.rounding import Parameters, Rounded, round_bits
from fpsim.kernels.llvm.vector import Vec
from fpsim.kernels.scalar.fixed_point import to_grid
from fpsim.kernels.threads import shared, within

__all__ = ["FLAG_INTEGERS", "fixed_flags", "flag_parameters", "float_flags", "vector_flags"]

INEXACT, UNDERFLOW, OVERFLOW, INVALID = 1, 2, 4, 16


#: Parameters of `vector_flags`.
FLAG_INTEGERS = (
    "normal_bits",  # lane bits of the smallest normal value, 0 if the format has none
    "zero_is",  # 0 if the format has zero, else -1
    "nan_flags",
    "inf_positive_flags",
    "inf_negative_flags",
)


@inner
def _split(value):
    """Return (significand, exponent of its last bit) of a finite |float64|."""
    bits = np.float64(value).view(np.int64) & np.int64(0x7FFFFFFFFFFFFFFF)
    field = bits >> F64_MANTISSA
    sig = bits & ((np.int64(1) << F64_MANTISSA) - 1)
    if field > 0:
        sig |= np.int64(1) << F64_MANTISSA
    return sig, max(field, np.int64(1)) - F64_BIAS - F64_MANTISSA


@inner
def _special_flags(value, code, layout):
    """Return the flags of NaN or an infinity that became ``code``."""
    negative = layout.sign_bit != 0 and code >= layout.sign_bit
    magnitude = code - layout.sign_bit if negative else code
    finite = magnitude <= layout.max_code
    if negative and magnitude == 0 and layout.negative_zero == 0 and layout.hidden_row != 1:
        finite = False
    infinite = magnitude == layout.inf_code
    if math.isnan(value):
        return INVALID if finite or infinite else 0
    return 0 if infinite and negative == (value < 0.0) else INVALID


@inner
def _is_tiny(sig, lsb, negative, layout, mode, random, random_bits):
    """Return whether the value, rounded with no lower end of exponents, is below all normals.

    Two more rows of codes below the lowest one are enough: in the first the grid is that of an
    unbounded exponent, and an even number of rows keeps the parity of codes without mantissa bits.
    """
    implicit = np.int64(layout.hidden_row == 1)
    finer = Layout(
        layout.mantissa_bits,
        layout.exponent_min - 2,
        implicit,  # type: ignore[arg-type]
        layout.max_code,
        layout.inf_code,
        layout.sign_bit,
        layout.negative_zero,
    )
    rows = 3 - implicit
    code = round_to_code(sig, lsb, negative, finer, mode, random, random_bits)
    return code < (rows << layout.mantissa_bits)


@inner
def _float_flags(value, code, layout, mode, random, random_bits):
    if not math.isfinite(value):
        return _special_flags(value, code, layout)
    sig, lsb = _split(value)
    if sig == 0 and layout.hidden_row != 1:
        return 0
    negative = value < 0.0
    rounded = round_to_code(sig, lsb, negative, layout, mode, random, random_bits)
    below_zero = negative and layout.sign_bit == 0 and (rounded > 0 or layout.hidden_row == 1)
    if rounded > layout.max_code or below_zero:
        return OVERFLOW | INEXACT
    result, exponent = decode_magnitude(rounded, layout)
    if np.ldexp(np.float64(result), exponent) == abs(value):
        return 0
    has_normals = layout.hidden_row == 1 or layout.max_code >> layout.mantissa_bits > 0
    if has_normals and sig and _is_tiny(sig, lsb, negative, layout, mode, random, random_bits):
        return INEXACT | UNDERFLOW
    return INEXACT


def _has_normals(layout: Layout) -> bool:
    return layout.hidden_row == 1 or layout.max_code >> layout.mantissa_bits > 0


def flag_parameters(layout: Layout, limits: Limits, mantissa: int, bias: int) -> dict[str, int]:
    """Return the values of `FLAG_INTEGERS` for a format in a lane.

    Args:
        layout: `Layout` of the format.
        limits: `Limits`, the codes of values that the format does not hold.
        mantissa: mantissa bits of the lane.
        bias: exponent bias of the lane.

    Returns:
        Integers by name.
    """
    special = _special_flags.py_func
    return {
        "normal_bits": (layout.exponent_min + bias) << mantissa if _has_normals(layout) else 0,
        "zero_is": -int(layout.hidden_row == 1),
        "nan_flags": special(math.nan, limits.nan, layout),
        "inf_positive_flags": special(math.inf, limits.inf_positive, layout),
        "inf_negative_flags": special(-math.inf, limits.inf_negative, layout),
    }


def vector_flags(
    magnitude: Vec,
    negative: Vec,
    rounding: str,
    p: Parameters,
    random: Vec | None,
    rounded: Rounded,
    flushed: Vec,
    beyond: Vec,
) -> Vec:
    """Emit the code that raises the flags of a vector of values that was rounded.

    Args:
        magnitude: bits of |x|.
        negative: sign bits of x, 0 or 1.
        rounding: mode, ``"rne"`` for example.
        p: `fpsim.kernels.codec.encode.format_parameters`, loaded.
        random: random integers at the place where they are added, or None.
        rounded: the magnitudes as `fpsim.kernels.llvm.rounding.round_magnitude` rounded them.
        flushed: mask of results replaced by the smallest code.
        beyond: mask of results outside of the format's range.

    Returns:
        Flags in integer lanes; tininess is detected after rounding.
    """
    integers = p.integers
    zero = magnitude.lanes.constant(0, True)
    inexact = rounded.inexact | (flushed & (magnitude > integers["zero_is"]))
    # On the grid that goes on below the smallest normal value: tiny after rounding.
    own, _ = round_bits(magnitude, negative, rounding, p, random, integers["parity"])
    tiny = inexact & (integers["normal_bits"] > own) & (magnitude > 0)
    flags = inexact.one_where_set() | (tiny.one_where_set() << UNDERFLOW.bit_length() - 1)
    flags = beyond.where(zero + (OVERFLOW | INEXACT), flags)
    special = negative.equals(1).where(
        integers["inf_negative_flags"], integers["inf_positive_flags"]
    )
    real = magnitude.as_real
    flags = real.equals(float("inf")).where(special, flags)
    return real.equals(real).where(flags, integers["nan_flags"])


@shared(1 << 13)
def float_flags(values, codes, out, layout, mode, random, random_bits, share):
    """Fill ``out`` with the flags of values that were encoded.

    Args:
        values: float64, flat.
        codes: their codes.
        out: uint8 of the same length, filled with `fpsim.formats.rounding.Flag` bits.
        layout: `Layout` of the format.
        mode: `fpsim.kernels.codec.rounding.ModeConstants` that the codes were rounded in.
        random: integers of ``random_bits`` bits, one per value; one entry in all if there are 0.
        random_bits: 0 unless rounding is stochastic.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        Nothing.
    """
    for i in within(values.size, share):
        r = np.int64(random[i]) if random_bits else np.int64(0)
        code = np.int64(codes[i])
        out[i] = _float_flags(np.float64(values[i]), code, layout, mode, r, random_bits)


@kernel()
def fixed_flags(values, out, grid, mode, random, random_bits):
    """Fill ``out`` with the flags that values raise on their way onto a fixed-point grid.

    Args:
        values: float64, flat; NaN and infinities are invalid.
        out: uint8 of the same length, filled with `fpsim.formats.rounding.Flag` bits.
        grid: `fpsim.kernels.scalar.fixed_point.Grid`.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        random: integers of ``random_bits`` bits, one per value; one entry in all if there are 0.
        random_bits: 0 unless rounding is stochastic.

    Returns:
        Nothing.
    """
    unsigned_top = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - grid.width)
    for i in range(values.size):
        value = values[i]
        if not math.isfinite(value):
            out[i] = INVALID
            continue
        r = np.int64(random[i]) if random_bits else np.int64(0)
        magnitude, excess = to_grid(value, grid, mode, r, random_bits)
        if value < 0.0:
            limit = np.uint64(-(grid.low + 1)) + np.uint64(1) if grid.low else np.uint64(0)
        else:
            limit = np.uint64(grid.high) if grid.low else unsigned_top
        sig, lsb = _split(value)
        dropped = grid.lsb - lsb
        below = (np.int64(1) << min(dropped, np.int64(62))) - 1 if dropped > 0 else np.int64(0)
        flags = INEXACT if sig & below else 0
        out[i] = OVERFLOW | INEXACT if excess or magnitude > limit else flags
