# SPDX-License-Identifier: Apache-2.0
"""Casting rows to a block format: one function per family, chosen by the format's data.

Every function takes float rows (R, K) that run along the blocks and returns `Parts`. All families
but MX work in float32 (`fpsim.blocks.scale_rules` states the order of operations).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fpsim.blocks import cast_loops as loops
from fpsim.blocks.chosen import (
    choose,
    cut,
    fits_loops,
    flat,
    in_parts,
    largest_magnitudes,
    macro_codes,
    macro_values,
    pieces_of,
)
from fpsim.blocks.fields import Span
from fpsim.blocks.grids import Table
from fpsim.blocks.parts import Parts, RandomIntegers, Tall
from fpsim.blocks.scale_rules import (
    POWER_RULES,
    RANGE_RULES,
    Divisors,
    Outer,
    ScaleRule,
    block_scales,
    outer_scale,
    range_scales,
)
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.kernels.codec import mx_blocks as mx_kernels
from fpsim.kernels.codec import scaled_blocks as kernels
from fpsim.kernels.codec.encode import VECTOR_MINIMUM, fits_float32, format_parameters
from fpsim.kernels.codec.rounding import mode_constants

if TYPE_CHECKING:
    from fpsim.blocks.block_format import BlockFormat

__all__ = ["VECTOR_BLOCKS", "cast", "spread"]

#: Block sizes that make one vector.
VECTOR_BLOCKS = (16, 32, 64)
E8M0_NAN = 255
#: Zero points saturate here; only scales that saturate far below the data lead here.
ZERO_POINT_LIMIT = (1 << 15) - 1


def cast(
    fmt: BlockFormat,
    rows: NDArray[Any],
    block: int,
    given: Any = None,
    draw: RandomIntegers | None = None,
    tall: Tall | None = None,
) -> Parts:
    """Cast rows to a block format.

    Args:
        fmt: the format.
        rows: float32 or float64 (R, K), K >= 1, along which blocks run.
        block: elements of a block.
        given: float32 tensor scale, or (R, 1) of them; None: found from the values.
        draw: random integers, for stochastic rounding.
        tall: how many rows share the scale of a block, of formats that fit loops and decide
            nothing but scales; every row of them gets it.

    Returns:
        Codes, scales and other parts, and the blocks that hold NaN or infinities.
    """
    plain = not (fmt.is_coded or fmt.macro or draw)
    if plain and fmt.is_mx and isinstance(fmt.element, FloatFormat) and tall is None:
        return _mx(fmt, fmt.element, rows, block)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and handled as such
        x = np.ascontiguousarray(rows, dtype=np.float32)
    if fmt.macro is not None:
        return _under_macros(fmt, x, block, draw)
    if draw is None and fits_loops(fmt, mx=tall is not None):
        return _coded(fmt, x, block, given, tall)
    if fmt.rule in RANGE_RULES:
        return _zero_point(fmt, x, block)
    if fmt.rule is ScaleRule.RAZOR:
        return _razor(fmt, x, block)
    if fmt.scale is None:
        return _real(fmt, x, block)
    return _scaled(fmt, x, block, given, draw)


def spread(per_block: NDArray[Any], block: int, length: int) -> NDArray[Any]:
    """Repeat one entry per block for each element.

    Args:
        per_block: an array (..., G).
        block: elements of a block.
        length: K; the last block may be shorter.

    Returns:
        An array (..., K).
    """
    return np.repeat(per_block, block, axis=-1)[..., :length]


def _mx(fmt: BlockFormat, element: FloatFormat, rows: NDArray[Any], block: int) -> Parts:
    groups = -(-rows.shape[1] // block)
    codes = np.empty(rows.shape, dtype=element.dtype)
    scales = np.empty((rows.shape[0], groups), dtype=np.uint8)
    rule = POWER_RULES.index(fmt.rule)
    limits = element.limits(fmt.rounding, Overflow.SATURATE)
    if _fits_mx_vectors(fmt, element, rows, block):
        limit = mx_kernels.bump_limit(
            rule, element.max_value, element.exponent_max, element.mantissa_bits
        )
        reals, integers = format_parameters(element.layout, limits, 0, wide=False)
        run = mx_kernels.mx_quantizer(block, str(fmt.rounding))
        flat = (rows.reshape(-1), codes.reshape(-1), scales.reshape(-1))
        run(*flat, reals, integers, limit, element.exponent_max)
    else:
        mx_kernels.mx_quantize(
            rows,
            block,
            rule,
            element.exponent_max,
            element.max_value,
            element.layout,
            limits,
            mode_constants(fmt.rounding),
            codes,
            scales,
        )
    return Parts(codes, scales, scales == E8M0_NAN)


def _fits_mx_vectors(
    fmt: BlockFormat, element: FloatFormat, rows: NDArray[Any], block: int
) -> bool:
    """Return whether the vector kernel is exact: whole float32 blocks, rounded to nearest.

    Dividing by the scale is exact in float32 except for values that underflow, and these round to
    zero in the nearest modes either way.
    """
    return (
        rows.dtype == np.float32
        and rows.shape[1] % block == 0
        and _fits_vectors(rows, element, fmt.rounding, block)
        and element.exponent_max >= 1
    )


def _fits_vectors(x: NDArray[Any], element: Format | Table, rounding: Rounding, block: int) -> bool:
    return (
        block in VECTOR_BLOCKS
        and x.size >= VECTOR_MINIMUM
        and rounding in (Rounding.RNE, Rounding.RNA)
        and isinstance(element, FloatFormat)
        and element.bits <= 8
        and element.has_zero
        and fits_float32(element.layout, 0)
    )


def _padded(x: NDArray[Any], block: int) -> NDArray[Any]:
    missing = -x.shape[1] % block
    return np.pad(x, ((0, 0), (0, missing))) if missing else x


def _extremes(
    fmt: BlockFormat, x: NDArray[Any], block: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Return the largest magnitudes (of both signs if ``fmt.signs``) and the bad blocks, as 0."""
    shape = (x.shape[0], x.shape[1] // block)
    if _fits_vectors(x, fmt.element, fmt.rounding, block):
        positive = np.empty(shape, dtype=np.float32)
        negative = np.zeros(shape if fmt.signs else (1, 1), dtype=np.float32)
        run = kernels.block_extremes(block, fmt.signs)
        run(x.reshape(-1), positive.reshape(-1).view(np.int32), negative.reshape(-1).view(np.int32))
    else:
        values = x.reshape(*shape, block)
        below = np.signbit(values) if fmt.signs else np.zeros(values.shape, dtype=bool)
        positive = np.where(below, np.float32(0), np.abs(values)).max(axis=-1)
        negative = np.where(below, np.abs(values), np.float32(0)).max(axis=-1)
    bad = ~np.isfinite(positive)
    if fmt.signs:
        bad |= ~np.isfinite(negative)
    if bad.any():
        positive = np.where(bad, np.float32(0), positive)
        negative = np.where(bad, np.float32(0), negative)
    return positive, negative, bad


def _encode(
    fmt: BlockFormat,
    x: NDArray[Any],
    block: int,
    plus: Divisors,
    minus: Divisors | None,
    draw: RandomIntegers | None,
) -> NDArray[Any]:
    """Return the element codes of whole blocks under their scales."""
    element = fmt.element
    assert not isinstance(element, Table)
    if _fits_vectors(x, element, fmt.rounding, block):
        assert isinstance(element, FloatFormat)
        codes = np.empty(x.shape, dtype=np.uint8)
        limits = element.limits(fmt.rounding, Overflow.SATURATE)
        reals, integers = format_parameters(element.layout, limits, 0, wide=False)
        run = kernels.block_elements(block, str(fmt.rounding), minus is not None, plus.multiply)
        other = (plus if minus is None else minus).factor
        factors = (plus.factor.reshape(-1), other.reshape(-1))
        run(x.reshape(-1), codes.reshape(-1), *factors, reals, integers)
        return codes
    quotients = _quotients(x, block, plus, minus)
    if fmt.rounding is not Rounding.SR:
        return element.encode(quotients, fmt.rounding, "saturate")
    assert draw is not None
    assert draw.elements is not None
    random = np.pad(draw.elements, ((0, 0), (0, x.shape[1] - draw.elements.shape[1])))
    return element.encode(quotients, "sr", "saturate", random=random, random_bits=draw.bits)


def _quotients(
    x: NDArray[Any], block: int, plus: Divisors, minus: Divisors | None = None
) -> NDArray[Any]:
    """Return scaled values in float32; 0 in blocks that hold NaN or an infinity."""
    factor = spread(plus.factor, block, x.shape[1])
    if minus is not None:
        factor = np.where(np.signbit(x), spread(minus.factor, block, x.shape[1]), factor)
    with np.errstate(all="ignore"):
        quotient = x * factor if plus.multiply else x / factor
    return np.where(np.isfinite(x), quotient, np.float32(0))


def _clean(x: NDArray[Any], block: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return whole blocks, with zeros for blocks that hold NaN or an infinity, and which do."""
    magnitude = np.abs(x).reshape(x.shape[0], -1, block).max(axis=-1)
    bad = ~np.isfinite(magnitude)
    return (np.where(spread(bad, block, x.shape[1]), np.float32(0), x) if bad.any() else x), bad


def _outer(fmt: BlockFormat, amax: NDArray[Any], given: Any) -> Outer:
    """Return the tensor's scale, or one per row, from the largest magnitudes of blocks (R, G)."""
    if fmt.outer is Span.ROW:
        return outer_scale(fmt, amax.max(axis=1, keepdims=True), given)
    return outer_scale(fmt, np.float32(amax.max()), given)


def _mark(parts: Parts, nan: int) -> Parts:
    """Set the scales of bad blocks to the code ``nan``, in place."""
    if parts.bad.any():
        for scales in (parts.scales, parts.negative_scales):
            if scales is not None:
                scales[parts.bad] = nan
    return parts


def _coded(
    fmt: BlockFormat, rows: NDArray[Any], block: int, given: Any, tall: Tall | None
) -> Parts:
    """Cast to a format of one scale per block and elements to nearest, with any grids."""
    length = rows.shape[1]
    x = _padded(rows, block)
    if fmt.tensor_range or tall is not None or pieces_of(fmt, x.size // block, block) > 1:
        amax, bad = largest_magnitudes(x, block)
        if tall is not None:
            bad = tall.over(np.logical_or, bad)
            amax = np.where(bad, np.float32(0), tall.over(np.maximum, amax))
        if bad.any():
            x = np.where(spread(bad, block, x.shape[1]), np.float32(0), x)
        outer = _outer(fmt, amax, given)
        chosen = choose(fmt, x, block, outer, amax)
    else:
        one = np.float32(1)
        outer = Outer(one, one, one)
        chosen = choose(fmt, x, block, outer, None)
        bad = chosen.bad
    assert fmt.scale is not None
    codes = chosen.codes
    if bad.any():
        codes[spread(bad, block, x.shape[1])] = 0
    codes = codes if length == x.shape[1] else np.ascontiguousarray(codes[:, :length])
    parts = Parts(codes, chosen.scales, bad)
    if fmt.tensor_range:
        parts.tensor_scale = outer.scale
    several = len(fmt.special) + len(fmt.variants) > (1 if fmt.special else 0)
    if several and fmt.stored == "scale":
        shift = fmt.scale.magnitude_bits
        parts.scales = chosen.scales.astype(np.uint8) | (chosen.variants << shift).astype(np.uint8)
    elif several:
        parts.variants = chosen.variants
    parts.ratios, parts.tops = chosen.ratios, chosen.tops
    return _mark(parts, fmt.scale.nan_code or 0)


def _under_macros(
    fmt: BlockFormat, x: NDArray[Any], block: int, draw: RandomIntegers | None
) -> Parts:
    """Divide by the significands of macro blocks first."""
    macro = fmt.macro
    assert macro is not None
    length = x.shape[1]
    padded = _padded(x, macro.block)
    largest, bad = largest_magnitudes(padded, macro.block)
    if bad.any():  # of what is finite beside NaN and infinities
        finite = np.where(np.isfinite(padded), padded, np.float32(0))
        largest, _ = largest_magnitudes(finite, macro.block)
    codes = macro_codes(macro, largest)
    values = padded.reshape(*codes.shape, macro.block)
    with np.errstate(invalid="ignore"):
        scaled = (values / macro_values(macro, codes)[..., None]).reshape(padded.shape)
    scaled = np.ascontiguousarray(scaled[:, :length])
    parts = cast(replace(fmt, macro=None), scaled, block, None, draw)
    parts.macros = codes
    return parts


def _scaled(
    fmt: BlockFormat, rows: NDArray[Any], block: int, given: Any, draw: RandomIntegers | None
) -> Parts:
    """MX with two scales or fixed-point elements, NVFP4, AMXFP4 and relatives."""
    length = rows.shape[1]
    x = _padded(rows, block)
    positive, negative, bad = _extremes(fmt, x, block)
    above = positive if negative.shape != positive.shape else np.maximum(positive, negative)
    outer = _outer(fmt, above, given)
    random = None if draw is None else draw.scales
    bits = 0 if draw is None else draw.bits
    plus = block_scales(fmt, positive, outer, random=random, random_bits=bits)
    minus = block_scales(fmt, negative, outer) if fmt.signs else None
    # A finite stand-in keeps the encoder of fixed-point elements away from NaN.
    clean = x if not bad.any() else np.where(spread(bad, block, x.shape[1]), np.float32(0), x)
    codes = _encode(fmt, clean, block, plus, minus, draw)
    parts = Parts(np.ascontiguousarray(codes[:, :length]), plus.codes, bad)
    if fmt.tensor_range:
        parts.tensor_scale = outer.scale
    if minus is not None:
        parts.negative_scales = minus.codes
    assert fmt.scale is not None
    return _mark(parts, fmt.scale.nan_code or 0)


def _real(fmt: BlockFormat, x: NDArray[Any], block: int) -> Parts:
    """Real scales, LLM-FP4's equations 5 to 9: x L / amax is rounded, half to even of x / step.

    The scale amax / L is rounded once, to float64: the paper's 2^-b~ is a real number. Through a
    rounded logarithm b~ the largest value could miss itself.
    """
    length = x.shape[1]
    padded = _padded(x, block)
    amax, bad = largest_magnitudes(padded, block)
    wide = amax.astype(np.float64)
    # x L is exact in float64, so the quotient falls on a tie only if the exact one does.
    divisor = np.where(wide > 0, wide, 1.0)
    assert not isinstance(fmt.element, Table)
    if bad.any():
        padded = np.where(spread(bad, block, padded.shape[1]), np.float32(0), padded)
    few = few_magnitudes(fmt.element, fmt.rounding)
    if few is not None:
        codes: NDArray[Any] = np.empty(padded.shape, dtype=np.uint8)
        pieces = cut(amax.size, block)
        own = np.repeat(np.ravel(divisor), pieces)
        size = block // pieces
        work = partial(loops.real_blocks, flat(padded), size, fmt.limit, own, *few, flat(codes))
        in_parts(own.size, size, work)
    else:
        quotient = padded.astype(np.float64) * fmt.limit / spread(divisor, block, padded.shape[1])
        codes = encode_by_step(fmt.element, quotient, fmt.rounding)
    scales = np.where(wide > 0, wide / fmt.limit, 1.0)
    return Parts(np.ascontiguousarray(codes[:, :length]), np.where(bad, np.nan, scales), bad)


@lru_cache(maxsize=64)
def few_magnitudes(
    element: Format, rounding: Rounding
) -> tuple[NDArray[np.float64], NDArray[np.int32]] | None:
    """Return seven thresholds and the codes on both sides of zero; None of grids that need more."""
    if element.bits > 4 or not element.signed:
        return None
    values = np.unique(np.abs(element.decode(np.arange(1 << element.bits))))
    values = values[values <= element.max_value]
    middle = (values[:-1] + values[1:]) / 2
    plus, minus = (
        encode_by_step(element, np.append(s * middle, s * values), rounding) for s in (1, -1)
    )
    up = element.decode(plus[: middle.size]) > middle
    ends = (np.abs(element.decode(codes[middle.size :])) for codes in (plus, minus))
    alike = (np.abs(element.decode(minus[: middle.size])) > middle) == up
    if values.size > 8 or not alike.all() or not all((end == values).all() for end in ends):
        return None
    if abs(element.decode(encode_by_step(element, np.full(1, -1e30), rounding)))[0] != values[-1]:
        return None
    thresholds, outcomes = np.full(7, np.inf), np.zeros(8, dtype=np.int32)
    thresholds[: middle.size] = np.where(up, middle, np.nextafter(middle, np.inf))
    pairs = plus[middle.size :].astype(np.int32) + (minus[middle.size :].astype(np.int32) << 8)
    outcomes[: values.size] = pairs
    outcomes[values.size :] = pairs[-1]
    return thresholds, outcomes


def encode_by_step(
    element: Format, quotient: NDArray[np.float64], rounding: Rounding
) -> NDArray[Any]:
    """Encode scaled values; under ``rne``, ties go to the even multiple of the grid's step at x.

    In a format with mantissa bits that is the even code. Without any, x / step is in [1, 2) and its
    tie 1.5 goes up to 2; only 0.5 in the lowest row goes down to 0.

    Args:
        element: format of the codes.
        quotient: the values, float64.
        rounding: ``rne`` or ``rna``.

    Returns:
        Codes, saturated.
    """
    powers = isinstance(element, FloatFormat) and element.mantissa_bits == 0
    if rounding is not Rounding.RNE or not powers:
        return element.encode(quotient, rounding, "saturate")
    assert isinstance(element, FloatFormat)
    codes = element.encode(quotient, "rna", "saturate")
    lowest = np.abs(quotient) == 2.0 ** (element.exponent_min - 1)
    zero = np.where(np.signbit(quotient), element.sign_bit, 0)
    return np.where(lowest, zero, codes).astype(element.dtype)


def _zero_point(fmt: BlockFormat, rows: NDArray[Any], block: int) -> Parts:
    """AMXINT: q = round(fl(fl(x / s) + z)), z = -round(fl(min / s)) - 2^(b-1), x^ = (q - z) s."""
    element, scale = fmt.element, fmt.scale
    assert isinstance(element, FixedFormat)
    assert scale is not None
    length = rows.shape[1]
    x = _padded(rows, block)
    amax, bad = largest_magnitudes(x, block)
    if bad.any():
        x = np.where(spread(bad, block, x.shape[1]), np.float32(0), x)
    largest, smallest = np.empty_like(amax), np.empty_like(amax)
    ends = (np.ravel(largest), np.ravel(smallest))
    in_parts(amax.size, block, partial(loops.spans, flat(x), block, *ends))
    scales, step = range_scales(fmt, largest, smallest)
    lowest = _round_integers(smallest / step, fmt.rounding)
    zero = np.clip(-lowest + element.min_integer, -ZERO_POINT_LIMIT, ZERO_POINT_LIMIT)
    low, high, mask = element.min_integer, element.max_integer, (1 << element.width) - 1
    if element.width <= 8:
        codes = np.empty(x.shape, dtype=np.uint8)
        shifts = (np.ravel(step), np.ravel(zero).astype(np.float32))
        even = fmt.rounding is Rounding.RNE
        work = partial(
            loops.shift_integers, flat(x), block, *shifts, even, low, high, mask, flat(codes)
        )
        in_parts(amax.size, block, work)
    else:
        values = x.reshape(*amax.shape, block)
        with np.errstate(over="ignore"):
            shifted = values / step[..., None] + zero.astype(np.float32)[..., None]
        integers = np.clip(_round_integers(shifted, fmt.rounding), low, high).astype(np.int64)
        codes = (integers & mask).astype(element.dtype).reshape(x.shape)
    codes = codes[:, :length]
    if bad.any():
        codes[spread(bad, block, length)] = 0
        zero[bad] = 0
    scales = np.where(bad, scale.nan_code or 0, scales).astype(scale.dtype)
    return Parts(np.ascontiguousarray(codes), scales, bad, zero_points=zero.astype(np.int32))


def _round_integers(values: NDArray[Any], rounding: Rounding) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    if rounding is Rounding.RNE:
        return np.asarray(np.rint(wide))
    return np.asarray(np.copysign(np.floor(np.abs(wide) + 0.5), wide))


def _razor(fmt: BlockFormat, rows: NDArray[Any], block: int) -> Parts:
    """QRazor: integers of ``base_bits`` by the tensor's absmax, then the top bits of each block.

    The paper keeps the sign and the bits from the leading one of the OR down, and rounds the rest
    away. Its rounding is read to nearest, halves away from zero, like a rounder that adds the
    first dropped bit; a carry out of the kept bits saturates (int4s: at 7).
    """
    element = fmt.element
    assert isinstance(element, FixedFormat)
    length = rows.shape[1]
    x = _padded(rows, block)
    amax, bad = largest_magnitudes(x, block)
    if bad.any():
        x = np.where(spread(bad, block, x.shape[1]), np.float32(0), x)
    top = (1 << (fmt.base_bits - 1)) - 1
    s_t = amax.max() / np.float32(top)
    divisor = np.float64(s_t) if s_t > 0 else np.inf
    codes = np.empty(x.shape, dtype=element.dtype)
    dropped = np.empty(amax.shape, dtype=np.int64)
    mode = mode_constants(fmt.rounding)
    work = partial(
        loops.razor,
        flat(x),
        block,
        divisor,
        top,
        element.width,
        mode,
        np.ravel(dropped),
        flat(codes),
    )
    in_parts(amax.size, block, work)
    assert fmt.scale is not None
    codes = np.ascontiguousarray(codes[:, :length])
    return Parts(codes, dropped.astype(fmt.scale.dtype), bad, tensor_scale=s_t)
