# SPDX-License-Identifier: Apache-2.0
"""Block formats in exact rationals, one block at a time, without kernel code.

Float32 operations of a recipe are rationals rounded by `fl`; codes come from `fpsim.oracle`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from fpsim.blocks.block_format import (
    Arithmetic,
    BlockFormat,
    ScaleEncoder,
    ScaleRule,
    Table,
    ZeroScale,
)
from fpsim.blocks.grids import Variant
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.oracle import numbers

__all__ = ["Block", "decoded_grid", "fl", "quantize_block", "tensor_scale"]

INF = math.inf
POWERS = (ScaleRule.FLOOR, ScaleRule.RCEIL, ScaleRule.CEIL, ScaleRule.EVEN)
Real = Fraction | float  #: a rational, or the float infinity


class Block(NamedTuple):
    """A stored block; parts that its format lacks are 0."""

    codes: list[int]
    scale: int
    negative_scale: int = 0
    zero_point: int = 0
    variant: int = 0
    ratios: tuple[int, ...] = ()
    tops: tuple[int, ...] = ()


def _exponent(magnitude: Fraction) -> int:
    """Return floor(log2) of a positive rational."""
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return exponent if Fraction(2) ** exponent <= magnitude else exponent - 1


def fl(value: Real) -> Real:
    """Return a rational rounded to float32, nearest even; infinity beyond float32."""
    if value in (0, INF, -INF):
        return value
    assert isinstance(value, Fraction)
    unit = Fraction(2) ** (max(_exponent(abs(value)), -126) - 23)
    rounded = round(value / unit) * unit
    if abs(rounded) >= Fraction(2) ** 128:
        return INF if rounded > 0 else -INF
    return Fraction(rounded)


def _divide(a: Real, b: Real) -> Real:
    """Return fl(a / b) of non-negative numbers; infinities as in IEEE 754, but 0 / 0 = 0."""
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
    """Return the code of a number with a given magnitude and sign."""
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


def quantize_block(
    fmt: BlockFormat,
    values: list[float],
    largest: Fraction,
    given: Fraction | None = None,
    row: int = 0,
) -> Block:
    """Quantise one block.

    Args:
        fmt: the block format.
        values: finite float32 values; float64 for MX; under macro scales, divided by the macro
            scale.
        largest: the largest magnitude of the block's tensor.
        given: a static tensor scale; None: the scale of ``largest``.
        row: index of the block's row, for formats with a table per row.

    Returns:
        The stored codes and scales.
    """
    if fmt.is_coded:
        return _quantize_coded(fmt, values, largest, given, row)
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
        codes, scale = _candidate(fmt, values, tops[0], largest, given)
        below, other = _candidate(fmt, values, tops[1], largest, given)
        mixed = [b if n else a for a, b, n in zip(codes, below, negative, strict=True)]
        return Block(mixed, scale, other)
    top = max(abs(Fraction(v)) for v in values)
    codes, scale = _candidate(fmt, values, top, largest, given)
    return Block(codes, scale)


def _candidate(
    fmt: BlockFormat,
    values: list[float],
    top: Fraction,
    largest: Fraction,
    given: Fraction | None,
) -> tuple[list[int], int]:
    """Return element codes and the scale code for one largest magnitude."""
    assert fmt.scale is not None
    assert not isinstance(fmt.element, Table)
    limit = Fraction(fmt.limit)
    exact = fmt.rule in POWERS
    multiply = False
    factor: Real
    if exact:
        scale = _power(fmt, top, limit, 0)
        factor = _value(scale, fmt.scale)
    else:
        scale, factor, multiply = _float_scale(fmt, top, largest, given, limit, Fraction(1))
    codes = []
    for v in values:
        magnitude = abs(Fraction(v))
        y: Real
        if exact:
            y = magnitude / Fraction(factor)
        elif factor in (0, INF):
            y = Fraction(0)
        else:
            y = _times(magnitude, factor) if multiply else _divide(magnitude, factor)
        codes.append(_encode(y, math.copysign(1.0, v) < 0, fmt.element, fmt.rounding))
    return codes, scale


def _power(fmt: BlockFormat, top: Fraction, best: Fraction, shift: int) -> int:
    """Return the scale code of OCP MX section 6.3, or of a variant, times 2^shift."""
    scale = fmt.scale
    assert scale is not None
    if not top:
        return 0
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
    last = (1 << scale.exponent_bits) - 1 - (scale.nan_code is not None)
    return min(max(exponent + shift + scale.bias, 0), last)


def _bf16(value: Real) -> Real:
    """Return a number rounded to bfloat16, nearest even."""
    if value in (0, INF):
        return value
    unit = Fraction(2) ** (max(_exponent(Fraction(value)), -126) - 7)
    return round(Fraction(value) / unit) * unit


def _ggml_scale(raw: Real, scale: FloatFormat) -> int:
    """Return ggml's E4M3 code: ties away from zero, by the step of each exponent."""
    if raw == INF or raw >= 248:
        return scale.max_code
    exact = Fraction(raw)
    if exact < Fraction(1, 64):
        return min(math.floor(exact * 512 + Fraction(1, 2)), 7)
    row = _exponent(exact)
    return ((row + 7) << 3) + math.floor((exact / Fraction(2) ** row - 1) * 8 + Fraction(1, 2))


def _float_scale(
    fmt: BlockFormat,
    top: Fraction,
    largest: Fraction,
    given: Fraction | None,
    limit: Fraction,
    expansion: Fraction,
) -> tuple[int, Real, bool]:
    """Return scale code, float32 factor, and whether values are multiplied by it or divided."""
    scale = fmt.scale
    assert scale is not None
    limit = Fraction(fl(limit))
    s_t: Real = Fraction(1)
    if fmt.tensor_range:
        s_t = tensor_scale(fmt, largest) if given is None else given
    raw: Real
    if not top:
        raw = Fraction(0)
    elif fmt.arithmetic is Arithmetic.RATIO:
        full = Fraction(fmt.limit) * Fraction(fmt.tensor_range)
        ratio = _divide(full, largest) if given is None else _divide(Fraction(1), given)
        raw = _times(_divide(top, limit), ratio)
    elif fmt.arithmetic is Arithmetic.RECIPROCAL:
        raw = _divide(_divide(top, limit), s_t)
    elif fmt.arithmetic is Arithmetic.BF16:
        raw = _bf16(_times(top, _bf16(fl(1 / limit))))
    else:
        raw = _divide(top, _times(limit, s_t))
    raw = _times(raw, expansion)
    smallest = Fraction(2) ** (int(scale.has_zero) - scale.bias)
    if fmt.zero is ZeroScale.LEAST:
        least = next(c for c in range(4) if _value(c, scale))
        smallest = _value(least, scale)
    if fmt.zero in (ZeroScale.SMALLEST, ZeroScale.LEAST) and raw < smallest:
        raw = smallest
    if fmt.scale_encoder is ScaleEncoder.GGML:
        code = _ggml_scale(raw, scale)
    else:
        code = _encode(raw, False, scale, fmt.scale_rounding)
    if code == 0 and fmt.zero is ZeroScale.ONE:
        code = _encode(Fraction(1), False, scale, fmt.scale_rounding)
    value = _value(code, scale)
    if fmt.arithmetic is Arithmetic.RECIPROCAL:
        return code, _divide(_divide(Fraction(1), s_t), value), True
    if fmt.arithmetic is Arithmetic.RATIO:
        product = _times(s_t, value)
        return code, _divide(Fraction(1), product), True
    if fmt.arithmetic is Arithmetic.BF16:
        return code, _bf16(_divide(Fraction(1), value)), True
    return code, _times(value, s_t) if fmt.tensor_range else value, False


# -- codes of grids, levels and top elements -------------------------------------------------------


class _Code(NamedTuple):
    code: int
    value: Fraction
    negative_zero: bool


@cache
def _grid(variant: Variant) -> list[_Code]:
    """Return every storage code of a variant, before the variant's factor."""
    element = variant.element
    grid = []
    for code in range(1 << element.bits):
        if isinstance(element, Table):
            given = element.values[code]
            held = numbers.Number(math.copysign(1.0, given) < 0, abs(Fraction(given)), False)
            wide = numbers.encode(held, element.wide_format, Rounding.RNE, Overflow.SATURATE)
            assert wide is not None
            value = _value(wide, element.wide_format)
            minus = not value and math.copysign(1.0, given) < 0
        else:
            symmetric = isinstance(element, FixedFormat) and element.symmetric
            if symmetric and code == 1 << (element.bits - 1):
                continue
            number = numbers.decode(code, element)
            value, minus = number.value, number.negative and not number.value
        grid.append(_Code(code, value, minus))
    if variant.special is not None:
        zeros = [c.code for c in grid if not c.value]
        at = zeros[-1]
        value = Fraction(variant.special / float(variant.factor))
        grid = [_Code(at, value, False) if c.code == at else c for c in grid]
    return grid


def _nearest_code(fmt: BlockFormat, variant: Variant, y: Real, negative: bool) -> _Code:
    """Return the code nearest to a number with a given magnitude and sign."""
    grid = _grid(variant)
    signed = -y if negative else y
    if y == INF:
        ends = [c.value for c in grid]
        wanted = [min(ends) if negative else max(ends)]
    else:
        distance = min(abs(c.value - Fraction(signed)) for c in grid)
        wanted = sorted({c.value for c in grid if abs(c.value - Fraction(signed)) == distance})

    def code_of(value: Fraction) -> _Code:
        found = [c for c in grid if c.value == value]
        by_sign = [c for c in found if not value and c.negative_zero is negative]
        return (by_sign or found)[0]

    choices = [code_of(value) for value in wanted]
    if len(choices) == 1:
        return choices[0]
    low, high = choices
    if fmt.ties is None:
        if variant.special is not None:
            taken = _special_of(variant)
            for choice in choices:
                if choice.code == taken:
                    return choice
        rule = "even" if fmt.rounding is Rounding.RNE else "away"
    else:
        rule = str(fmt.ties)
    if rule == "even":
        return high if high.code % 2 == 0 else low
    if rule in ("up", "down"):
        return high if rule == "up" else low
    outward = low.value + high.value > 0 or (rule == "away" and low.value + high.value == 0)
    if rule == "zero":
        return low if low.value + high.value > 0 else high
    return high if outward else low


@cache
def _special_of(variant: Variant) -> int:
    zeros = [c.code for c in _grid(replace(variant, special=None)) if not c.value]
    return zeros[-1]


def _odd(n: int) -> int:
    while n % 2 == 0:
        n //= 2
    return n


def _quantize_coded(
    fmt: BlockFormat, values: list[float], largest: Fraction, given: Fraction | None, row: int
) -> Block:
    """Return a block of a format with variants or expansions.

    Every candidate (variant, expansion) is cast and decoded, in this order; the smallest error
    wins, the first of equal ones.
    """
    assert fmt.scale is not None
    size = len(values) if isinstance(fmt.block, str) else fmt.block
    if isinstance(size, tuple):
        size = size[0] * size[1]
    if fmt.levels or fmt.top:
        values = values + [0.0] * (size - len(values))
    element = fmt.element
    if isinstance(element, Table) and element.rows > 1:
        element = Table(element.values[16 * row : 16 * (row + 1)], element.wide_format)
    base = [Variant(element, fmt.factor, s, fmt.target) for s in fmt.special or (None,)]
    variants = [*base, *fmt.variants]
    divisor = _divisor(fmt, tuple(variants))
    s_t = 1.0
    if fmt.tensor_range:
        s_t = float(tensor_scale(fmt, largest) if given is None else given)
    tried = [(v, Fraction(e)) for v in range(len(variants)) for e in fmt.expansions]
    only = _by_rule(fmt, variants, values, largest, given)
    best, least = None, 0.0
    for v, expansion in tried:
        if only is not None and v != only:
            continue
        block, error = _coded_candidate(
            fmt, variants[v], values, largest, given, expansion, divisor, s_t
        )
        if best is None or error < least:
            best, least = block._replace(variant=v), error
    assert best is not None
    if len(variants) > 1 and fmt.stored == "scale":
        best = best._replace(scale=best.scale + (best.variant << fmt.scale.magnitude_bits))
    return best


def decoded_grid(variant: Variant) -> dict[int, Fraction]:
    """Return the value of every code of a grid, with the grid's factor and special value."""
    special = None if variant.special is None else Fraction(variant.special)
    taken = None if special is None else _special_of(variant)
    return {
        c.code: special if special is not None and c.code == taken else c.value * variant.factor
        for c in _grid(variant)
    }


@cache
def _divisor(fmt: BlockFormat, variants: tuple[Variant, ...]) -> int:
    """Return D: the least odd number that makes all values, times D, dyadic."""
    values = [v for variant in variants for v in decoded_grid(variant).values()]
    return math.lcm(*(_odd(v.denominator) for v in values))


@cache
def _limit(fmt: BlockFormat, variant: Variant) -> Fraction:
    if variant.target:
        return Fraction(variant.target)
    largest = max(abs(v) for v in decoded_grid(variant).values())
    for level in fmt.levels:
        if level.by == "max":
            largest *= Fraction(max(level.ratios))
    return largest


def _coded_scale(
    fmt: BlockFormat,
    variant: Variant,
    values: list[float],
    largest: Fraction,
    given: Fraction | None,
    expansion: Fraction,
) -> tuple[int, Real, bool, bool]:
    """Return scale code, factor, whether values are multiplied by it, and the scale's sign."""
    assert fmt.scale is not None
    if fmt.rule is ScaleRule.RANGE:
        high = max(Fraction(0), *(Fraction(v) for v in values))
        low = min(Fraction(0), *(Fraction(v) for v in values))
        top = fl(high - low)
        if top == INF:
            top = Fraction(2) ** 200
    else:
        top = max(abs(Fraction(v)) for v in values)
    first = next(v for v in values if abs(Fraction(v)) == top) if fmt.signed_max else 1.0
    minus = fmt.signed_max and first < 0
    limit = _limit(fmt, variant)
    multiply = False
    factor: Real
    if fmt.rule in POWERS:
        code = _power(fmt, Fraction(top), limit, _exponent(expansion))
        factor = _value(code, fmt.scale)
    else:
        code, factor, multiply = _float_scale(fmt, Fraction(top), largest, given, limit, expansion)
    return code, factor, multiply, minus


def _apply(magnitude: Fraction, factor: Real, ratio: Fraction, multiply: bool) -> Real:
    if multiply:
        step = Fraction(0) if factor in (0, INF) else fl(Fraction(factor) / ratio)
        return _times(magnitude, step)
    step = INF if factor in (0, INF) else _times(factor, ratio)
    return Fraction(0) if step in (0, INF) else _divide(magnitude, step)


def _coded_candidate(
    fmt: BlockFormat,
    variant: Variant,
    values: list[float],
    largest: Fraction,
    given: Fraction | None,
    expansion: Fraction,
    divisor: int,
    s_t: float,
) -> tuple[Block, float]:
    """Return a block cast with one variant and expansion, and its error in float64."""
    assert fmt.scale is not None
    scale, factor, multiply, minus = _coded_scale(fmt, variant, values, largest, given, expansion)
    scale_value = _value(scale, fmt.scale)
    tops: list[int] = []
    if fmt.top is not None and fmt.top.is_stored:
        for start in range(0, len(values), fmt.top.block):
            part = [abs(v) for v in values[start : start + fmt.top.block]]
            tops.append(part.index(max(part)) if scale else fmt.top.block)
    plans = _ratio_plans(fmt, values, factor, multiply, tops)
    back = fl(1 / variant.factor)
    codes: list[int] = []
    ratios: list[int] = []
    total = 0.0
    for start, stop, options in plans:
        part = values[start:stop]
        best: tuple[list[int], int, float] | None = None
        least = 0.0
        for index, ratio in options:
            chosen = []
            for v in part:
                y = _apply(abs(Fraction(v)), factor, ratio, multiply)
                scaled = _times(y, back) if back != 1 else y
                chosen.append(
                    _nearest_code(fmt, variant, scaled, (math.copysign(1.0, v) < 0) != minus)
                )
            taken = None if variant.special is None else _special_of(variant)
            decoded = []
            for c in chosen:
                exact = c.value * variant.factor
                if c.code == taken and variant.special is not None:
                    exact = Fraction(variant.special)
                signed_scale = float(scale_value * ratio) * (-1.0 if minus else 1.0)
                decoded.append(float(exact * divisor) * signed_scale / divisor * s_t)
            if fmt.errors == "float32":
                own_scale = -scale_value if minus else scale_value
                pairs = [(c.value * own_scale, v) for c, v in zip(chosen, part, strict=True)]
                own = _float32_error(fmt, pairs, largest if given is None else None, given)
                stored = scale + fmt.scale.sign_bit if minus else scale
                return Block([c.code for c in chosen], stored), own
            searching = len(options) > 1
            order = _error("mse" if searching else str(fmt.choice), decoded, part)
            if best is None or order < least:
                own = _error(str(fmt.choice), decoded, part)
                best, least = ([c.code for c in chosen], index, own), order
        assert best is not None
        codes += best[0]
        ratios.append(best[1])
        total = max(total, best[2]) if fmt.choice == "abs_max" else total + best[2]
    if fmt.top is not None:
        codes, tops = _with_tops(fmt, values, codes, factor, multiply, tops)
    if minus:
        scale += fmt.scale.sign_bit
    return Block(codes, scale, ratios=tuple(ratios) if fmt.levels else (), tops=tuple(tops)), total


def _float32_error(
    fmt: BlockFormat,
    pairs: list[tuple[Fraction, float]],
    largest: Fraction | None,
    given: Fraction | None,
) -> float:
    """Return the error of values W s against x, with every operation rounded to float32.

    The terms are summed in eight parts, of every eighth term each.
    """
    full = Fraction(fl(Fraction(fmt.limit) * Fraction(fmt.tensor_range)))
    amax = fl(Fraction(given or 0) * full) if largest is None else largest
    terms: list[Real] = []
    for held, x in pairs:
        wide = _times(fl(abs(held)), amax)
        back = wide if wide == INF else fl(Fraction(wide) / full)
        if back == INF:
            terms.append(INF)
            continue
        signed = -Fraction(back) if held < 0 else Fraction(back)
        off = fl(signed - Fraction(x))
        off = INF if off in (INF, -INF) else abs(Fraction(off))
        terms.append(_times(off, off) if fmt.choice == "mse" else off)
    if fmt.choice == "abs_max":
        return float(max(terms))
    parts: list[Real] = [Fraction(0)] * 8
    for i, term in enumerate(terms):
        parts[i % 8] = _plus(parts[i % 8], term)
    total: Real = Fraction(0)
    for part in parts:
        total = _plus(total, part)
    return float(total)


def _plus(a: Real, b: Real) -> Real:
    """Return fl(a + b) of non-negative numbers."""
    return INF if INF in (a, b) else fl(Fraction(a) + Fraction(b))


def _error(kind: str, decoded: list[float], values: list[float]) -> float:
    """Return the error by which a block's variant is chosen, in float64 as documented."""
    total = 0.0
    for value, wanted in zip(decoded, values, strict=True):
        deviation = abs(value - wanted)
        if kind == "abs_max":
            total = max(total, deviation)
        else:
            total += deviation * deviation if kind == "mse" else deviation
    return total


def _ratio_plans(
    fmt: BlockFormat, values: list[float], factor: Real, multiply: bool, tops: list[int]
) -> list[tuple[int, int, list[tuple[int, Fraction]]]]:
    """Return, for each sub-block, its ends and the allowed ratios with their indices."""
    if not fmt.levels:
        return [(0, len(values), [(0, Fraction(1))])]
    last = fmt.levels[-1]
    plans = []
    for start in range(0, len(values), last.block):
        stop = start + last.block
        if last.by == "mse":
            options = [(i, Fraction(r)) for i, r in enumerate(last.ratios)]
            plans.append((start, stop, options))
            continue
        index, so_far = 0, Fraction(1)
        for level in fmt.levels:
            first = start // level.block * level.block
            inside = []
            for k in range(first, first + level.block):
                is_top = (
                    bool(tops)
                    and fmt.top is not None
                    and (tops[k // fmt.top.block] == k % fmt.top.block)
                )
                inside.append(Fraction(0) if is_top else abs(Fraction(values[k])))
            scaled = _apply(max(inside), factor, Fraction(1), multiply)
            pick = len(level.ratios) - 1
            for i in reversed(range(len(level.ratios))):
                if scaled != INF and scaled / so_far / Fraction(level.ratios[i]) < level.limit:
                    pick = i
            index = index * len(level.ratios) + pick
            so_far *= Fraction(level.ratios[pick])
        plans.append((start, stop, [(index, so_far)]))
    return plans


def _with_tops(
    fmt: BlockFormat,
    values: list[float],
    codes: list[int],
    factor: Real,
    multiply: bool,
    tops: list[int],
) -> tuple[list[int], list[int]]:
    top, element = fmt.top, fmt.element
    assert top is not None
    assert isinstance(element, FloatFormat)
    codes, found = list(codes), []
    for group, start in enumerate(range(0, len(values), top.block)):
        if top.is_stored:
            found.append(tops[group])
            at = start + tops[group]
            if tops[group] == top.block:
                continue
            y = _apply(abs(Fraction(values[at])), factor, Fraction(1), multiply)
            most = element.sign_bit - 1
            steps = (
                most if y == INF else round((Fraction(y) - Fraction(top.base)) / Fraction(top.step))
            )
            code = min(max(steps, 0), most)
            codes[at] = code + (element.sign_bit if math.copysign(1.0, values[at]) < 0 else 0)
            continue
        sizes = [c % element.sign_bit for c in codes[start : start + top.block]]
        at = start + sizes.index(max(sizes))
        assert top.element is not None
        y = _apply(abs(Fraction(values[at])), factor, Fraction(1), multiply)
        wanted = _encode(y, False, top.element, Rounding.RNE)
        finer = 2 ** (top.element.mantissa_bits - element.mantissa_bits)
        allowed = [finer * max(sizes) + o for o in top.offsets]
        usable = [a for a in allowed if a >= 0]
        nearest = min(usable, key=lambda a: abs(a - wanted))
        found.append(allowed.index(nearest))
    return codes, found


def _by_rule(
    fmt: BlockFormat,
    variants: list[Variant],
    values: list[float],
    largest: Fraction,
    given: Fraction | None,
) -> int | None:
    """Return the variant chosen by a named rule, or None."""
    if fmt.choice not in ("dialect", "zero-point"):
        return None
    _, factor, multiply, _ = _coded_scale(fmt, variants[0], values, largest, given, Fraction(1))
    assert not multiply
    if fmt.choice == "zero-point":
        low = min(Fraction(0), *(Fraction(v) for v in values))
        z = _divide(-low, factor)
        return len(variants) - 1 if z == INF else min(round(Fraction(z)), len(variants) - 1)
    size = fmt.block
    assert isinstance(size, int)
    padded = values + [0.0] * (size - len(values))
    quarters = []
    for v in padded:
        y = _apply(abs(Fraction(v)), factor, Fraction(1), False)
        quarters.append(
            Fraction(31, 4)
            if y == INF
            else min(Fraction(round(Fraction(y) * 4), 4), Fraction(31, 4))
        )
    tops = [sorted(c.value for c in _grid(v))[-2:] for v in variants]
    rounded = Fraction(math.floor(max(quarters) * 2 + Fraction(1, 2)), 2)
    pairs = [abs(tops[2 * p][1] - rounded) for p in range(len(variants) // 2)]
    pair = pairs.index(min(pairs))
    a, b, most = tops[2 * pair][0], tops[2 * pair + 1][0], tops[2 * pair][1]
    inside = sum((a + b) / 2 <= q < (a + most) / 2 for q in quarters)
    return 2 * pair + int(2 * inside < len(quarters))


def _real(fmt: BlockFormat, values: list[float]) -> Block:
    """LLM-FP4, equations 6 to 9: step = 2^(max(floor(log2|x| + b~), 1) - m - b~), round(x / step).

    The function works on x / s with s = clip / Qmax, which is |x| 2^b~ on the bias-0 grid.
    """
    assert not isinstance(fmt.element, Table)
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
    """QRazor: integers of ``base_bits``; ``width - 1`` bits are kept below the top of their OR."""
    assert not isinstance(fmt.element, Table)
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
