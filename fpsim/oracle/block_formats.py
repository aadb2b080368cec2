# SPDX-License-Identifier: Apache-2.0
"""The truth about block formats: one block at a time in exact rationals, sharing no kernel code.

Float32 operations of a recipe are rationals rounded by `fl`; codes come from `fpsim.oracle`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from fpsim.blocks.block_format import Arithmetic, BlockFormat, Choice, ScaleRule, ZeroScale
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.oracle import numbers

__all__ = ["Block", "fl", "quantize_block", "tensor_scale"]

INF = math.inf
Real = Fraction | float  #: a rational, or the float infinity


class Block(NamedTuple):
    """A stored block; parts that a format does not have are 0."""

    codes: list[int]
    scale: int
    negative_scale: int = 0
    zero_point: int = 0


def _exponent(magnitude: Fraction) -> int:
    """Return floor(log2) of a positive rational."""
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return exponent if Fraction(2) ** exponent <= magnitude else exponent - 1


def fl(value: Real) -> Real:
    """Round to float32, nearest even; beyond its range infinity."""
    if value in (0, INF, -INF):
        return value
    assert isinstance(value, Fraction)
    unit = Fraction(2) ** (max(_exponent(abs(value)), -126) - 23)
    rounded = round(value / unit) * unit
    if abs(rounded) >= Fraction(2) ** 128:
        return INF if rounded > 0 else -INF
    return Fraction(rounded)


def _divide(a: Real, b: Real) -> Real:
    """Return fl(a / b) of non-negative numbers, infinities as in float; 0 / 0 = 0."""
    if b == INF or a == 0:
        return Fraction(0)
    if b == 0 or a == INF:
        return INF
    return fl(Fraction(a) / Fraction(b))


def _times(a: Real, b: Real) -> Real:
    """Return fl(a b) of non-negative numbers; 0 times infinity is 0."""
    if 0 in (a, b):
        return Fraction(0)
    return INF if INF in (a, b) else fl(Fraction(a) * Fraction(b))


def _encode(value: Real, negative: bool, fmt: Format, rounding: Rounding) -> int:
    """Return the code of a number given by magnitude and sign."""
    infinite = value == INF
    number = numbers.Number(negative, None if infinite else Fraction(value), infinite)
    code = numbers.encode(number, fmt, rounding, Overflow.SATURATE)
    assert code is not None
    return code


def _value(code: int, fmt: Format) -> Fraction:
    return numbers.decode(code, fmt).value


def tensor_scale(fmt: BlockFormat, largest: Fraction) -> Real:
    """Return s_t of `fpsim.blocks.scale_rules` for the largest magnitude of the tensor."""
    if fmt.base_bits:
        return fl(largest / (2 ** (fmt.base_bits - 1) - 1))
    full = Fraction(fmt.limit) * Fraction(fmt.tensor_range)
    if not largest:
        return Fraction(0)
    if fmt.arithmetic is Arithmetic.RATIO:
        return _divide(Fraction(1), _divide(full, largest))
    return _divide(largest, full)


def quantize_block(fmt: BlockFormat, values: list[float], largest: Fraction) -> Block:
    """Quantise one block.

    Args:
        fmt: the block format.
        values: finite float32 values; float64 for MX.
        largest: the largest magnitude of the tensor that the block is part of.

    Returns:
        The codes and scales that are stored.
    """
    if fmt.rule is ScaleRule.RAZOR:
        return _razor(fmt, values, largest)
    if fmt.rule in (ScaleRule.RANGE, ScaleRule.RANGE_FLOOR, ScaleRule.RANGE_ROUND):
        return _zero_point(fmt, values)
    if fmt.scale is None:
        return _real(fmt, values)
    negative = [math.copysign(1.0, v) < 0 for v in values]
    if fmt.signs:
        tops = [
            max(
                (abs(Fraction(v)) for v, n in zip(values, negative, strict=True) if n is side),
                default=Fraction(0),
            )
            for side in (False, True)
        ]
        codes, _, scale = _candidate(fmt, values, tops[0], largest, Fraction(1))
        below, _, other = _candidate(fmt, values, tops[1], largest, Fraction(1))
        mixed = [b if n else a for a, b, n in zip(codes, below, negative, strict=True)]
        return Block(mixed, scale, other)
    top = max(abs(Fraction(v)) for v in values)
    codes, scaled, scale = _candidate(fmt, values, top, largest, Fraction(1))
    if fmt.choice is None:
        return Block(codes, scale)
    s_t = float(tensor_scale(fmt, largest))
    stretch = Fraction(1)
    grid: Format = fmt.element
    if fmt.alternative is None:
        other_codes, _, other_scale = _candidate(fmt, values, top, largest, Fraction(fmt.expansion))
        code_of_scale = other_scale
    else:
        grid = fmt.alternative
        stretch = Fraction(fmt.element.max_value) / Fraction(grid.max_value)
        factor = fl(1 / stretch)
        other_codes = [
            _encode(_times(y, factor), n, grid, fmt.rounding)
            for y, n in zip(scaled, negative, strict=True)
        ]
        code_of_scale, other_scale = scale, scale + fmt.scale.sign_bit
    first = [float(_value(c, fmt.element) * _value(scale, fmt.scale)) for c in codes]
    second = [
        float(_value(c, grid) * _value(code_of_scale, fmt.scale) * stretch) for c in other_codes
    ]
    keep = _error(fmt, first, values, s_t) <= _error(fmt, second, values, s_t)
    return Block(codes, scale) if keep else Block(other_codes, other_scale)


def _candidate(
    fmt: BlockFormat, values: list[float], top: Fraction, largest: Fraction, expansion: Fraction
) -> tuple[list[int], list[Real], int]:
    """Return element codes, scaled magnitudes and the scale code for one largest magnitude."""
    assert fmt.scale is not None
    powers = (ScaleRule.FLOOR, ScaleRule.RCEIL, ScaleRule.CEIL, ScaleRule.EVEN)
    exact = fmt.rule in powers
    multiply = False
    factor: Real
    if exact:
        scale = _power(fmt, top)
        factor = _value(scale, fmt.scale)
    else:
        scale, factor, multiply = _float_scale(fmt, top, largest, expansion)
    codes, scaled = [], []
    for v in values:
        magnitude = abs(Fraction(v))
        y: Real
        if exact:
            y = magnitude / Fraction(factor)
        elif factor in (0, INF):
            y = Fraction(0)
        else:
            y = _times(magnitude, factor) if multiply else _divide(magnitude, factor)
        scaled.append(y)
        codes.append(_encode(y, math.copysign(1.0, v) < 0, fmt.element, fmt.rounding))
    return codes, scaled, scale


def _power(fmt: BlockFormat, top: Fraction) -> int:
    """Return the E8M0 code of OCP MX section 6.3, or of its variants."""
    if not top:
        return 0
    best = Fraction(fmt.element.max_value)
    exponent = _exponent(top) - _exponent(best)
    ratio = top / Fraction(2) ** exponent  # in [2^E, 2^(E+1))
    if fmt.rule is ScaleRule.RCEIL:
        exponent += ratio > best
    elif fmt.rule is ScaleRule.CEIL:
        exponent += ratio > Fraction(2) ** _exponent(best)
    elif fmt.rule is ScaleRule.EVEN:
        bits = (
            fmt.element.mantissa_bits
            if isinstance(fmt.element, FloatFormat)
            else fmt.element.bits - 2
        )
        unit = Fraction(2) ** (_exponent(best) - bits)
        exponent += math.floor(ratio / unit + Fraction(1, 2)) * unit >= 2 ** (_exponent(best) + 1)
    return min(max(exponent + 127, 0), 254)


def _float_scale(
    fmt: BlockFormat, top: Fraction, largest: Fraction, expansion: Fraction
) -> tuple[int, Real, bool]:
    """Return scale code, the float32 number values are divided by or multiplied with, and which."""
    scale = fmt.scale
    assert scale is not None
    limit = Fraction(fmt.limit)
    s_t = tensor_scale(fmt, largest) if fmt.tensor_range else Fraction(1)
    raw: Real
    if not top:
        raw = Fraction(0)
    elif fmt.arithmetic is Arithmetic.RATIO:
        ratio = _divide(limit * Fraction(fmt.tensor_range), largest)
        raw = _times(_times(_divide(top, limit), ratio), expansion)
    elif fmt.arithmetic is Arithmetic.RECIPROCAL:
        raw = _divide(_divide(top, limit), s_t)
    else:
        raw = _divide(top, _times(limit, s_t))
    smallest = Fraction(2) ** (1 - scale.bias)
    if fmt.zero is ZeroScale.SMALLEST and raw < smallest:
        raw = smallest
    code = _encode(raw, False, scale, fmt.scale_rounding)
    if code == 0 and fmt.zero is ZeroScale.ONE:
        code = _encode(Fraction(1), False, scale, fmt.scale_rounding)
    value = _value(code, scale)
    if fmt.arithmetic is Arithmetic.RECIPROCAL:
        return code, _divide(_divide(Fraction(1), s_t), value), True
    if fmt.arithmetic is Arithmetic.RATIO:
        product = _times(s_t, value)
        return code, _divide(Fraction(1), product), True
    return code, _times(value, s_t) if fmt.tensor_range else value, False


def _error(fmt: BlockFormat, decoded: list[float], values: list[float], s_t: float) -> float:
    """Return the error by which a block chooses, in float64 as documented."""
    total = 0.0
    for value, wanted in zip(decoded, values, strict=True):
        deviation = abs(value * s_t - wanted)
        if fmt.choice is Choice.ABS_MAX:
            total = max(total, deviation)
        else:
            total += deviation * deviation if fmt.choice is Choice.MSE else deviation
    return total


def _real(fmt: BlockFormat, values: list[float]) -> Block:
    """LLM-FP4, equations 6 to 9: step = 2^(max(floor(log2|x| + b~), 1) - m - b~), round(x / step).

    Worked on x / s with s = clip / Qmax, which is |x| 2^b~ on the bias-0 grid.
    """
    top = max(abs(Fraction(v)) for v in values)
    codes = []
    for v in values:
        negative = math.copysign(1.0, v) < 0
        scaled = abs(Fraction(v)) * Fraction(fmt.limit) / top if top else Fraction(0)
        if isinstance(fmt.element, FloatFormat) and fmt.rounding is Rounding.RNE:
            e = fmt.element
            row = max(_exponent(scaled), 1 - e.bias) if scaled else 1 - e.bias
            step = Fraction(2) ** (row - e.mantissa_bits)
            scaled = round(scaled / step) * step
        codes.append(_encode(scaled, negative, fmt.element, fmt.rounding))
    return Block(codes, 0)


def _nearest(value: Fraction, rounding: Rounding) -> int:
    if rounding is Rounding.RNE:
        return round(value)
    magnitude = math.floor(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude


def _zero_point(fmt: BlockFormat, values: list[float]) -> Block:
    """AMXINT: s = (max - min) / (2^b - 1), z = -round(min / s) - 2^(b-1), q = round(x / s + z)."""
    element, scale = fmt.element, fmt.scale
    assert isinstance(element, FixedFormat)
    assert scale is not None
    high = max(Fraction(0), *(Fraction(v) for v in values))
    low = min(Fraction(0), *(Fraction(v) for v in values))
    width = fl(high - low)
    step = _divide(width, Fraction(2**element.width - 1))
    if fmt.rule is ScaleRule.RANGE:
        code = _encode(step, False, scale, fmt.scale_rounding)
        code = code or _encode(Fraction(1), False, scale, fmt.scale_rounding)
    elif step == 0:
        code = 127
    elif step == INF:
        code = 254
    else:
        finite = Fraction(step)
        exponent = _exponent(finite)
        if fmt.rule is ScaleRule.RANGE_ROUND and (finite / Fraction(2) ** exponent) ** 2 >= 2:
            exponent += 1
        code = min(max(exponent + 127, 0), 254)
    s = _value(code, scale)
    lowest = fl(low / s)
    far = 32767
    zero = far if lowest == -INF else -_nearest(Fraction(lowest), fmt.rounding)
    zero = max(min(zero - 2 ** (element.width - 1), far), -far)
    codes = []
    for v in values:
        shifted = fl(Fraction(v) / s)
        if abs(shifted) != INF:
            shifted = fl(Fraction(shifted) + zero)
        if abs(shifted) == INF:
            q = far if shifted > 0 else -far
        else:
            q = _nearest(Fraction(shifted), fmt.rounding)
        q = max(min(q, 2 ** (element.width - 1) - 1), -(2 ** (element.width - 1)))
        codes.append(q % 2**element.width)
    return Block(codes, code, 0, zero)


def _razor(fmt: BlockFormat, values: list[float], largest: Fraction) -> Block:
    """QRazor: integers of ``base_bits``; below the top of their OR, ``width - 1`` bits are kept."""
    s_t = Fraction(tensor_scale(fmt, largest))
    top = 2 ** (fmt.base_bits - 1) - 1
    integers = [0 if not s_t else max(min(round(Fraction(v) / s_t), top), -top) for v in values]
    union = 0
    for i in integers:
        union |= abs(i)
    dropped = max(union.bit_length() - (fmt.element.bits - 1), 0)
    codes = [
        _encode(Fraction(abs(i), 2**dropped), i < 0, fmt.element, fmt.rounding) for i in integers
    ]
    return Block(codes, dropped)
