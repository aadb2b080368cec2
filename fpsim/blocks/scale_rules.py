# SPDX-License-Identifier: Apache-2.0
"""Scale rules: how the scale of a block follows from its values, one float32 operation at a time.

``L`` is the largest element value, ``R`` the range that the tensor scale leaves to block scales
(E4M3: 448, or 256 in Four Over Six), ``A`` the largest magnitude of the tensor, ``amax`` that of a
block, ``fl`` one rounding to float32 and ``Q`` the rounding to the scale format (saturating).

    divide      s_t = fl(A / (L R));  s = Q(fl(amax / fl(L s_t)));  y = fl(x / fl(s s_t))
    reciprocal  s_t = fl(A / (L R));  s = Q(fl(fl(amax / L) / s_t));  y = fl(x fl(fl(1 / s_t) / s))
    ratio       e = fl(L R / A), s_t = fl(1 / e);  s = Q(fl(c fl(fl(amax / L) e)));
                y = fl(x fl(1 / fl(s_t s)))        c: 1, or 1.5 where L = 6 is to become 4

    bf16        s = Q(b(fl(amax b(1 / L))));  y = fl(x b(1 / s)), b: rounded to bfloat16

``divide`` is NVIDIA ModelOpt's order and, without a tensor scale, AMXFP4's: s = Q(fl(amax / L)),
y = fl(x / s). ``reciprocal`` is torchao's, ``ratio`` the Four Over Six repository's and ``bf16``
HiF4's.

A product s s_t or a reciprocal that leaves float32's range flushes its block to zero; a tensor
whose s_t underflows is flushed too, where the recipes' code divides by zero.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpsim.blocks.grids import Table
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.names import E8M0

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = [
    "POWER_RULES",
    "RANGE_RULES",
    "Arithmetic",
    "Divisors",
    "Outer",
    "ScaleEncoder",
    "ScaleRule",
    "ZeroScale",
    "bfloat16",
    "block_scales",
    "element_exponent",
    "outer_scale",
    "power_of_two_codes",
    "range_scales",
]

Floats = NDArray[np.float32]
F32_BIAS = 127
E8M0_MAX = 254
#: Scales worked out at a time.
CHUNK = 1 << 16


class ScaleRule(StrEnum):
    """How the scale follows from a block. m = amax / 2^e is in [1, 2); b is the element's width."""

    FLOOR = "floor"  #: 2^(e - E), E the exponent of the largest element value
    RCEIL = "rceil"  #: 2^(e - E), doubled if m * 2^E > L
    CEIL = "ceil"  #: 2^(e - E), doubled if m > 1
    EVEN = "even"  #: 2^(e - E), doubled if m >= 2 - 2^-(M+1), M the element's mantissa bits
    ABSMAX = "absmax"  #: amax / L, rounded to the scale format
    RANGE = "range"  #: (max - min) / (2^b - 1), rounded to the scale format; with a zero point
    RANGE_FLOOR = "range-floor"  #: 2^floor(log2((max - min) / (2^b - 1))); with a zero point
    RANGE_ROUND = "range-round"  #: 2^round(log2((max - min) / (2^b - 1))); with a zero point
    RAZOR = "razor"  #: bits dropped below the leading one of the OR of all magnitudes


class ScaleEncoder(StrEnum):
    """Who rounds scales."""

    FORMAT = "format"  #: rounds to the scale format, by ``scale_rounding``
    #: ggml's E4M3: ties up, no carry out of the subnormals, and 448 for all that rounds to 256 or
    #: more (llama.cpp, ggml_fp32_to_ue4m3)
    GGML = "ggml"


POWER_RULES = (ScaleRule.FLOOR, ScaleRule.RCEIL, ScaleRule.CEIL, ScaleRule.EVEN)
RANGE_RULES = (ScaleRule.RANGE, ScaleRule.RANGE_FLOOR, ScaleRule.RANGE_ROUND)


class ZeroScale(StrEnum):
    """The scales that can replace a scale that is zero or rounds to zero.

    ModelOpt and AMXFP4's code look for zeros before they round the scale. One that underflows then
    is stored as 0: elements saturate, exact zeros become 0 / 0 = NaN. Here ``one`` covers it too;
    every value that is a number there, +-6 times 0, is the zero that it means.
    """

    ONE = "one"  #: 1 (ModelOpt, AMXFP4); the elements round to zero
    SMALLEST = "smallest"  #: scales are clamped from below: smallest normal (torchao, E8M0)
    KEEP = "keep"  #: stays zero, with zero elements (Four Over Six)
    LEAST = "least"  #: scales are clamped from below: smallest value above zero (RaZeR)


class Arithmetic(StrEnum):
    """Order of the float32 operations; the module has the equations."""

    DIVIDE = "divide"
    RECIPROCAL = "reciprocal"
    RATIO = "ratio"
    BF16 = "bf16"  #: HiF4's code; no tensor scale


class Divisors(NamedTuple):
    """Scale codes and the float32 number that divides (or multiplies) the values of each block."""

    codes: NDArray[Any]
    factor: Floats
    multiply: bool


def element_exponent(element: Format | Table) -> int:
    """Return floor(log2) of the largest element value."""
    return int(np.frexp(element.max_value)[1]) - 1


def power_of_two_codes(
    rule: ScaleRule,
    amax: Floats,
    element: Format | Table,
    limit: float = 0.0,
    scale: FloatFormat = E8M0,
    expansion: float = 1.0,
) -> NDArray[Any]:
    """Return scale codes of a power-of-two rule, from the exponent bits of ``amax``.

    Float32 subnormals are normalised first.

    Args:
        rule: one of `POWER_RULES`.
        amax: largest magnitudes, finite.
        element: element format, of which ``even`` takes the mantissa bits.
        limit: L, the element value that the largest magnitude maps to; 0: the largest.
        scale: format of powers of two.
        expansion: a power of two on the scale.

    Returns:
        Codes of the shape of ``amax``, clamped to codes of finite scales; 0 where ``amax`` is 0.
    """
    fraction, exponent = np.frexp(amax.astype(np.float64))
    significand = 2.0 * fraction
    limit = limit or element.max_value
    top = int(np.frexp(limit)[1]) - 1
    if rule is ScaleRule.RCEIL:
        bump = significand > np.ldexp(limit, -top)
    elif rule is ScaleRule.CEIL:
        bump = significand > 1.0
    elif rule is ScaleRule.EVEN:
        mantissa = element.mantissa_bits if isinstance(element, FloatFormat) else element.bits - 2
        bump = significand >= 2.0 - 2.0 ** -(mantissa + 1)
    else:
        bump = np.zeros(amax.shape, dtype=bool)
    shift = int(np.frexp(expansion)[1]) - 1
    code = exponent - 1 - top + bump + scale.bias + shift
    return np.where(amax > 0, np.clip(code, 0, scale.max_code), 0).astype(scale.dtype)


class Outer(NamedTuple):
    """The scale above block scales: s_t, e of ``ratio``, and the largest magnitude A.

    Scalars or (R, 1), float32. For a given s_t, A is the magnitude whose scale it would be.
    """

    scale: Any
    ratio: Any
    largest: Any


def outer_scale(fmt: BlockFormat, largest: Any, given: Any = None) -> Outer:
    """Return the scale above block scales, of a tensor or of each row.

    Args:
        fmt: the format.
        largest: largest magnitudes of tensors or rows, float32.
        given: a static s_t; None: found from ``largest``.

    Returns:
        s_t, e and A. s_t is 1 without a tensor scale, and 0 if ``largest`` is 0 or if it
        underflows, which flushes the tensor; e is fl(1 / s_t) for a given s_t.
    """
    one = np.float32(1)
    if not fmt.tensor_range:
        return Outer(one, one, largest)
    full = np.float32(fmt.limit * fmt.tensor_range)
    with np.errstate(all="ignore"):
        if given is not None:
            return Outer(given, one / given, given * full)
        ratio = full / largest
        scale = largest / full
        if fmt.arithmetic is Arithmetic.RATIO:
            scale = one / ratio
    zero = np.float32(0)
    return Outer(np.where(largest == 0, zero, scale).astype(np.float32)[()], ratio, largest)


def block_scales(
    fmt: BlockFormat,
    amax: Floats,
    outer: Outer,
    limit: float = 0.0,
    expansion: float = 1.0,
    random: NDArray[Any] | None = None,
    random_bits: int = 0,
) -> Divisors:
    """Return the scales of blocks.

    Args:
        fmt: the format.
        amax: largest magnitudes (R, G), finite.
        outer: the scale above.
        limit: L of block scales; 0: the format's.
        expansion: c.
        random: integers (R, G) for scales that are rounded stochastically.
        random_bits: bits of each of them.

    Returns:
        Scale codes (R, G), and the float32 numbers that divide or multiply the blocks' values.
    """
    if amax.size <= CHUNK or random is not None:
        return _block_scales(fmt, amax, outer, limit, expansion, random, random_bits)
    # Chunks stay in the cache for a dozen passes.
    assert fmt.scale is not None
    flat = amax.reshape(-1)
    codes = np.empty(flat.shape, dtype=fmt.scale.dtype)
    factor = np.empty(flat.shape, dtype=np.float32)
    multiply = False
    for start in range(0, flat.size, CHUNK):
        part = slice(start, start + CHUNK)
        own = outer
        if np.ndim(outer.scale):
            rows = np.arange(start, min(start + CHUNK, flat.size)) // amax.shape[1]
            own = Outer(*(np.ravel(o)[rows] for o in outer))
        codes[part], factor[part], multiply = _block_scales(fmt, flat[part], own, limit, expansion)
    return Divisors(codes.reshape(amax.shape), factor.reshape(amax.shape), multiply)


def _block_scales(
    fmt: BlockFormat,
    amax: Floats,
    outer: Outer,
    limit: float,
    expansion: float,
    random: NDArray[Any] | None = None,
    random_bits: int = 0,
) -> Divisors:
    scale = fmt.scale
    assert scale is not None
    limit = limit or fmt.limit
    if fmt.rule in POWER_RULES:
        codes = power_of_two_codes(fmt.rule, amax, fmt.element, limit, scale, expansion)
        return Divisors(codes, scale.decode(codes).astype(np.float32), False)
    top, one = np.float32(limit), np.float32(1)
    s_t = outer.scale
    with np.errstate(all="ignore"):
        if fmt.arithmetic is Arithmetic.RATIO:
            raw = amax / top * outer.ratio
        elif fmt.arithmetic is Arithmetic.RECIPROCAL:
            raw = amax / top / s_t
        elif fmt.arithmetic is Arithmetic.BF16:
            raw = bfloat16(amax * bfloat16(one / top))
        else:
            raw = amax / (top * s_t)
        if expansion != 1:
            raw = raw * np.float32(expansion)
        # NaN is 0 / 0 or 0 * inf: amax / L and s_t both underflowed, or both are 0.
        np.copyto(raw, np.float32(0), where=~(raw > 0))
        if fmt.zero is ZeroScale.SMALLEST:
            raw = np.maximum(raw, np.float32(2.0**scale.exponent_min))
        elif fmt.zero is ZeroScale.LEAST:
            raw = np.maximum(raw, np.float32(scale.decode([int(scale.has_zero)])[0]))
        # An infinite ratio saturates: only its float32 form overflowed.
        codes = scale_codes(fmt, raw, random, random_bits)
        if fmt.zero is ZeroScale.ONE and not codes.all():
            codes[codes == 0] = scale.encode(1.0)
        value = _decode_scales(scale, codes)
        if fmt.arithmetic is Arithmetic.RECIPROCAL:
            factor = one / s_t / value
        elif fmt.arithmetic is Arithmetic.RATIO:
            factor = one / (s_t * value)
        elif fmt.arithmetic is Arithmetic.BF16:
            factor = bfloat16(one / value)
        else:
            factor = value * s_t if fmt.tensor_range else value
    multiply = fmt.arithmetic is not Arithmetic.DIVIDE
    flush = np.float32(0 if multiply else np.inf)
    np.copyto(factor, flush, where=~((factor > 0) & (factor < np.inf)))
    return Divisors(codes, factor, multiply)


def scale_codes(
    fmt: BlockFormat, raw: Floats, random: NDArray[Any] | None, random_bits: int
) -> NDArray[Any]:
    """Round scales to their format, saturating.

    Args:
        fmt: the format.
        raw: float32 scales.
        random: integers of their shape for stochastic rounding, or None.
        random_bits: bits of each of them.

    Returns:
        Codes of their shape.
    """
    scale = fmt.scale
    assert scale is not None
    if random is not None:
        return scale.encode(raw, "sr", "saturate", random=random, random_bits=random_bits)
    if fmt.scale_encoder is not ScaleEncoder.GGML:
        return scale.encode(raw, fmt.scale_rounding, "saturate")
    # Values below the smallest normal do not carry into it; from 248 on all become 448.
    codes = scale.encode(raw, "rna", "saturate")
    row = 1 << scale.mantissa_bits
    codes = np.where((raw < 2.0**scale.exponent_min) & (codes == row), row - 1, codes)
    last = scale.max_code // row * row
    return np.where(codes >= last, scale.max_code, codes).astype(scale.dtype)


def bfloat16(values: Any) -> Any:
    """Return float32 values rounded to bfloat16, ties to even; finite results only."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)[()]


def range_scales(
    fmt: BlockFormat, largest: Floats, smallest: Floats
) -> tuple[NDArray[Any], Floats]:
    """Return the scales of blocks with a zero point, from the range of their values.

    Zero counts as an element, as in AMXFP4's reductions, so it stays exactly representable. A zero
    scale, and one that rounds to zero, becomes 1.

    Args:
        fmt: the format.
        largest: the largest value of each block or 0, whichever is more.
        smallest: the smallest value of each block or 0, whichever is less.

    Returns:
        Scale codes and their values in float32.
    """
    scale, element = fmt.scale, fmt.element
    assert scale is not None
    assert isinstance(element, FixedFormat)
    with np.errstate(all="ignore"):
        raw = (largest - smallest) / np.float32((1 << element.width) - 1)
    if fmt.rule is ScaleRule.RANGE:
        codes = scale.encode(raw, fmt.scale_rounding, "saturate")
        codes = np.where(codes == 0, scale.encode(np.ones(1), "rne")[0], codes)
    else:
        fraction, exponent = np.frexp(raw.astype(np.float64))
        up = 2.0 * (2.0 * fraction * fraction) >= 2.0 if fmt.rule is ScaleRule.RANGE_ROUND else 0
        power = np.where(np.isfinite(raw), exponent - 1 + up + F32_BIAS, E8M0_MAX)
        codes = np.where(raw > 0, np.clip(power, 0, E8M0_MAX), F32_BIAS).astype(np.uint8)
    return codes, scale.decode(codes).astype(np.float32)


def _decode_scales(scale: FloatFormat, codes: NDArray[Any]) -> Floats:
    """Decode scale codes through a table where the format is small."""
    if scale.bits > 8:
        return scale.decode(codes).astype(np.float32)
    table = scale.decode(np.arange(1 << scale.bits, dtype=scale.dtype)).astype(np.float32)
    return np.take(table, codes)
