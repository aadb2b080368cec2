# SPDX-License-Identifier: Apache-2.0
"""The truth: every unit in exact Python integers, slow, short and obviously right.

It knows formats and specs as data and shares no code with the kernels: it decodes, adds and rounds
with `fractions.Fraction`, looks at the two neighbouring codes of a value and picks one.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.errors import FpsimError
from fpsim.formats import FixedFormat, FloatFormat, Format, NanCodes, Subnormals
from fpsim.operands import DotOperands, DotOptions
from fpsim.rounding import Flag, Overflow, Rounding
from fpsim.spec import MacSpec
from fpsim.stages import Chain, Exact, Fixed

__all__ = ["Number", "decode", "dot", "encode", "flags", "steps"]

E8M0_BIAS = 127
E8M0_NAN = 255


class Number(NamedTuple):
    """A real number with a sign on zero, an infinity, or NaN (``magnitude`` None, not infinite)."""

    negative: bool
    magnitude: Fraction | None
    infinite: bool = False

    @property
    def is_nan(self) -> bool:
        """Whether this is NaN."""
        return self.magnitude is None and not self.infinite

    @property
    def value(self) -> Fraction:
        """The signed value of a finite number."""
        assert self.magnitude is not None
        return -self.magnitude if self.negative else self.magnitude


NAN = Number(False, None)


def _two_to(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


# -- one code ------------------------------------------------------------------------------------


def decode(code: int, fmt: Format) -> Number:
    """Return what ``code`` means."""
    if isinstance(fmt, FixedFormat):
        integer = code
        if fmt.signed and code >= 1 << (fmt.width - 1):
            integer -= 1 << fmt.width
        return Number(integer < 0, abs(integer) * _two_to(fmt.lsb))
    negative = bool(fmt.signed and code >> fmt.magnitude_bits)
    magnitude = code & ((1 << fmt.magnitude_bits) - 1)
    if negative and magnitude == 0 and fmt.nan is NanCodes.NEGATIVE_ZERO:
        return NAN
    if magnitude <= fmt.max_code:
        return Number(negative, _magnitude(magnitude, fmt))
    if magnitude == fmt.inf_code:
        return Number(negative, None, infinite=True)
    return NAN


def _magnitude(code: int, fmt: FloatFormat) -> Fraction:
    """Return the value of a magnitude code, beyond the largest one too (as if E had more bits)."""
    field, fraction = divmod(code, 1 << fmt.mantissa_bits)
    unit = _two_to(-fmt.mantissa_bits)
    if field or fmt.subnormals is Subnormals.NONE:
        return (1 + fraction * unit) * _two_to(field - fmt.bias)
    if fmt.subnormals is Subnormals.FLUSH:
        return Fraction(0)
    return fraction * unit * _two_to(1 - fmt.bias)


def encode(
    number: Number,
    fmt: Format,
    rounding: Rounding,
    overflow: Overflow,
    random: int = 0,
    random_bits: int = 0,
) -> int:
    """Return the code of ``number``, rounded once.

    Raises:
        FpsimError: the result has no code (NaN, or what ``overflow`` asks for).
    """
    if isinstance(fmt, FixedFormat):
        return _encode_fixed(number, fmt, rounding, overflow, random, random_bits)
    if number.is_nan:
        return _nan(fmt)
    sign = fmt.sign_bit if number.negative else 0
    if number.infinite:
        return _beyond(number.negative, True, fmt, rounding, overflow)
    assert number.magnitude is not None
    low = _floor_code(number.magnitude, fmt)
    below, above = _grid(low, fmt), _grid(low + 1, fmt)
    if number.magnitude < below:
        code = low  # a format without zero: nothing lies below its smallest value
    else:
        fraction = (number.magnitude - below) / (above - below)
        up = _round_up(fraction, low % 2 == 1, number.negative, rounding, random, random_bits)
        code = low + up
    if fmt.subnormals is Subnormals.FLUSH and code < 1 << fmt.mantissa_bits:
        code = 0
    if code > fmt.max_code:
        return _beyond(number.negative, False, fmt, rounding, overflow)
    unsigned_below = code or (number.magnitude and not fmt.has_zero)
    if number.negative and not fmt.signed and unsigned_below:
        return _beyond(True, False, fmt, rounding, overflow)
    if code == 0 and not fmt.has_negative_zero and fmt.has_zero:
        return 0
    return sign + code


def flags(
    number: Number,
    fmt: Format,
    rounding: Rounding,
    overflow: Overflow,
    random: int = 0,
    random_bits: int = 0,
) -> Flag:
    """Return the status flags of encoding ``number``, as `fpsim.rounding.Flag` defines them.

    NaN into a format without NaN is taken to become a number, which is what the policies other
    than an error do.
    """
    if isinstance(fmt, FixedFormat):
        if number.magnitude is None:
            return Flag.INVALID
        integer = _to_grid(number, fmt.lsb, rounding, random, random_bits)
        if not fmt.min_integer <= integer <= fmt.max_integer:
            return Flag.OVERFLOW | Flag.INEXACT
        return Flag.INEXACT if integer * _two_to(fmt.lsb) != number.value else Flag(0)
    if number.is_nan:
        return Flag(0) if fmt.nan_code is not None else Flag.INVALID
    if number.infinite:
        possible = overflow is Overflow.INF and (fmt.signed or not number.negative)
        return Flag(0) if possible else Flag.INVALID
    exact = number.magnitude
    assert exact is not None
    low = _floor_code(exact, fmt)
    below, above = _grid(low, fmt), _grid(low + 1, fmt)
    if exact > below:
        fraction = (exact - below) / (above - below)
        low += _round_up(fraction, low % 2 == 1, number.negative, rounding, random, random_bits)
    below_zero = bool(number.negative and exact and not fmt.signed)
    if low > fmt.max_code:
        return Flag.OVERFLOW | Flag.INEXACT
    flushed = fmt.subnormals is Subnormals.FLUSH and low < 1 << fmt.mantissa_bits
    result = Fraction(0) if flushed else _magnitude(low, fmt)
    if below_zero and result:
        return Flag.OVERFLOW | Flag.INEXACT
    if result == exact:
        return Flag(0)
    tiny = _is_tiny(exact, number.negative, fmt, rounding, random, random_bits)
    return Flag.INEXACT | Flag.UNDERFLOW if tiny else Flag.INEXACT


def _is_tiny(
    exact: Fraction,
    negative: bool,
    fmt: FloatFormat,
    rounding: Rounding,
    random: int,
    random_bits: int,
) -> bool:
    """Decide tininess after rounding: round to m + 1 bits wherever the exponent may lead."""
    first = 0 if fmt.subnormals is Subnormals.NONE else 1 << fmt.mantissa_bits
    if not exact or first > fmt.max_code:
        return False
    normal = _two_to(fmt.exponent_min)
    exponent = fmt.exponent_min
    while exact < _two_to(exponent):
        exponent -= 1
    while exact >= _two_to(exponent + 1):
        exponent += 1
    unit = _two_to(exponent - fmt.mantissa_bits)
    steps_up = int(exact / unit)
    # What the code would be if codes went on counting downward: its parity decides ties.
    code = first + ((exponent - fmt.exponent_min - 1) << fmt.mantissa_bits) + steps_up
    up = _round_up(exact / unit - steps_up, code % 2 == 1, negative, rounding, random, random_bits)
    return (steps_up + up) * unit < normal


def _floor_code(magnitude: Fraction, fmt: FloatFormat) -> int:
    """Return the largest magnitude code (unbounded) whose grid value is at most ``magnitude``."""
    low, high = 0, 1
    while _grid(high, fmt) <= magnitude:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if _grid(middle, fmt) <= magnitude:
            low = middle
        else:
            high = middle
    return low


def _grid(code: int, fmt: FloatFormat) -> Fraction:
    """Return the rounding grid: the values of codes, with subnormals even where they flush."""
    if fmt.subnormals is Subnormals.FLUSH and code < 1 << fmt.mantissa_bits:
        return code * _two_to(1 - fmt.bias - fmt.mantissa_bits)
    return _magnitude(code, fmt)


def _round_up(
    fraction: Fraction, odd: bool, negative: bool, mode: Rounding, random: int, random_bits: int
) -> bool:
    """Decide whether a value ``fraction`` of the way to the next code goes there."""
    half = Fraction(1, 2)
    if mode is Rounding.RNE:
        return fraction > half or (fraction == half and odd)
    if mode is Rounding.RNA:
        return fraction >= half
    if mode is Rounding.RTZ:
        return False
    if mode is Rounding.RUP:
        return fraction > 0 and not negative
    if mode is Rounding.RDN:
        return fraction > 0 and negative
    if mode is Rounding.RTO:
        return fraction > 0 and not odd
    steps = 1 << random_bits
    return int(fraction * steps) + random >= steps


def _beyond(
    negative: bool, infinite: bool, fmt: FloatFormat, rounding: Rounding, overflow: Overflow
) -> int:
    """Return the code of a value beyond the largest finite one."""
    sign = fmt.sign_bit if negative else 0
    largest = sign + fmt.max_code if fmt.signed or not negative else 0
    if overflow is Overflow.SATURATE:
        return largest
    if overflow is Overflow.NAN or (negative and not fmt.signed):
        return _nan(fmt)
    assert fmt.inf_code is not None
    outward = {
        Rounding.RTZ: False,
        Rounding.RTO: False,
        Rounding.RUP: not negative,
        Rounding.RDN: negative,
    }.get(rounding, True)
    return sign + fmt.inf_code if infinite or outward else largest


def _nan(fmt: FloatFormat) -> int:
    if fmt.nan_code is None:
        raise FpsimError(f"result: NaN has no code in {fmt.name}")
    return fmt.nan_code


def _encode_fixed(
    number: Number,
    fmt: FixedFormat,
    rounding: Rounding,
    overflow: Overflow,
    random: int,
    random_bits: int,
) -> int:
    if number.is_nan:
        raise FpsimError(f"result: NaN has no code in {fmt.name}")
    if number.infinite:
        integer = fmt.min_integer if number.negative else fmt.max_integer
    else:
        integer = _to_grid(number, fmt.lsb, rounding, random, random_bits)
    return _fit(integer, fmt, overflow) % (1 << fmt.width)


def _to_grid(number: Number, lsb: int, rounding: Rounding, random: int, random_bits: int) -> int:
    assert number.magnitude is not None
    scaled = number.magnitude / _two_to(lsb)
    low = int(scaled)
    up = _round_up(scaled - low, low % 2 == 1, number.negative, rounding, random, random_bits)
    return -(low + up) if number.negative else low + up


def _fit(integer: int, fmt: FixedFormat, overflow: Overflow) -> int:
    if overflow is Overflow.SATURATE:
        return min(max(integer, fmt.min_integer), fmt.max_integer)
    wrapped = integer % (1 << fmt.width)
    return wrapped - (1 << fmt.width) if fmt.signed and wrapped > fmt.max_integer else wrapped


# -- one dot product -----------------------------------------------------------------------------


def _product(a: int, b: int, exponent: int | None, spec: MacSpec) -> Number:
    x, y = decode(a, spec.a), decode(b, spec.b)
    if exponent is None or x.is_nan or y.is_nan:
        return NAN
    negative = x.negative != y.negative
    if x.infinite or y.infinite:
        return NAN if 0 in (x.magnitude, y.magnitude) else Number(negative, None, infinite=True)
    assert x.magnitude is not None and y.magnitude is not None
    return Number(negative, x.magnitude * y.magnitude * _two_to(exponent))


def _add(x: Number, y: Number, rounding: Rounding) -> Number:
    if x.is_nan or y.is_nan or (x.infinite and y.infinite and x.negative != y.negative):
        return NAN
    if x.infinite or y.infinite:
        return x if x.infinite else y
    total = x.value + y.value
    if total:
        return Number(total < 0, abs(total))
    negative = x.negative if x.negative == y.negative else rounding is Rounding.RDN
    return Number(negative, Fraction(0))


def steps(
    spec: MacSpec,
    a: Sequence[int],
    b: Sequence[int],
    c: int = 0,
    exponents: Sequence[int | None] | None = None,
    random: Sequence[int] | None = None,
) -> list[int]:
    """Return the accumulator code after each product of one dot product.

    ``exponents`` are added to the products' exponents (None stands for a NaN scale); ``random``
    has one integer per step for ``sr``. An `Exact` unit has one result, so the list has one entry.
    """
    count = len(a)
    shift = [0] * count if exponents is None else exponents
    bits = [0] * count if random is None else random
    products = [_product(x, y, s, spec) for x, y, s in zip(a, b, shift, strict=True)]
    stage = spec.accumulate
    if isinstance(stage, Fixed):
        return _fixed_steps(stage, products, c, bits)
    acc = decode(c, stage.format)
    assert stage.overflow is not None
    if isinstance(stage, Exact):
        for product in products:
            acc = _add(acc, product, stage.rounding)
        r = bits[0] if bits else 0
        return [encode(acc, stage.format, stage.rounding, stage.overflow, r, stage.random_bits)]
    assert isinstance(stage, Chain)
    codes = []
    for product, r in zip(products, bits, strict=True):
        total = _add(acc, product, stage.rounding)
        codes.append(
            encode(total, stage.format, stage.rounding, stage.overflow, r, stage.random_bits)
        )
        acc = decode(codes[-1], stage.format)
    return codes


def _fixed_steps(stage: Fixed, products: list[Number], c: int, random: Sequence[int]) -> list[int]:
    fmt = stage.result
    acc = _fit(c, fmt, Overflow.WRAP)
    codes = []
    for product, r in zip(products, random, strict=True):
        if product.magnitude is None:
            raise FpsimError(
                f"product: {'inf' if product.infinite else 'nan'} has no code in {fmt.name}"
            )
        acc += _to_grid(product, fmt.lsb, stage.rounding, r, stage.random_bits)
        acc = _fit(acc, fmt, stage.overflow)
        codes.append(acc % (1 << fmt.width))
    return codes


def dot(
    unit: Any,
    a: ArrayLike,
    b: ArrayLike,
    c: ArrayLike | None = None,
    a_scale: ArrayLike | None = None,
    b_scale: ArrayLike | None = None,
    **options: Unpack[DotOptions],
) -> NDArray[Any]:
    """Return what `MacUnit.dot` returns, computed exactly.

    Args are those of `MacUnit.dot`; ``unit`` is a MacUnit or a MacSpec.
    """
    spec: MacSpec = getattr(unit, "spec", unit)
    args = DotOperands.check(spec, a, b, c=c, a_scale=a_scale, b_scale=b_scale, **options)
    out = np.empty(args.shape, dtype=spec.result.dtype)
    for index in np.ndindex(*args.shape):
        out[index] = steps(
            spec,
            args.a[index].tolist(),
            args.b[index].tolist(),
            int(args.c[index]),
            _exponents(args, index),
            None if args.random is None else args.random[index].tolist(),
        )[-1]
    return out


def _exponents(args: DotOperands, index: tuple[int, ...]) -> list[int | None]:
    """Return the exponent the scales add to each product of one dot product."""
    total: list[int | None] = [0] * args.length
    for scale, block in ((args.a_scale, args.a_block), (args.b_scale, args.b_block)):
        if scale is None:
            continue
        codes = scale[index].tolist()
        for k, exponent in enumerate(total):
            code = codes[k // block]
            if exponent is not None:
                total[k] = None if code == E8M0_NAN else exponent + code - E8M0_BIAS
    return total
