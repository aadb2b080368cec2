# SPDX-License-Identifier: Apache-2.0
"""Numbers and codes: decoding, and rounding by comparison with the two neighbouring codes.

Decoded codes, and the codes below magnitudes, are cached, up to `REMEMBERED` answers of each kind:
they depend only on a code or magnitude and a format, and the oracle asks for them again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat, Format, NanCodes, Subnormals
from fpsim.formats.rounding import Flag, Overflow, Rounding

__all__ = [
    "NAN",
    "Number",
    "RoundUp",
    "add",
    "decode",
    "encode",
    "fit",
    "flags",
    "multiply",
    "round_up",
    "to_grid",
    "two_to",
]

#: Most cached answers of each kind.
REMEMBERED = 1 << 17
#: Decides whether a value is rounded away from zero, with the arguments of `round_up`.
RoundUp = Callable[[Fraction, bool, bool, Rounding, int, int], bool]


class Number(NamedTuple):
    """A real number with a sign on zero, an infinity, or NaN (``magnitude`` None, not infinite)."""

    negative: bool
    magnitude: Fraction | None
    infinite: bool = False

    @property
    def is_nan(self) -> bool:
        """Whether the number is NaN."""
        return self.magnitude is None and not self.infinite

    @property
    def value(self) -> Fraction:
        """The signed value of a finite number."""
        assert self.magnitude is not None
        return -self.magnitude if self.negative else self.magnitude


NAN = Number(False, None)


def two_to(exponent: int) -> Fraction:
    """Return 2^exponent."""
    return Fraction(2) ** exponent


def round_up(
    fraction: Fraction, odd: bool, negative: bool, mode: Rounding, random: int, random_bits: int
) -> bool:
    """Decide whether a magnitude between two neighbouring codes goes to the larger one.

    Args:
        fraction: place of the magnitude from the smaller to the larger code, from 0 to below 1.
        odd: whether the smaller code is odd.
        negative: the sign of the number.
        mode: the rounding mode.
        random, random_bits: for ``sr``, an integer r of n bits: up if floor(fraction 2^n) + r is at
            least 2^n.

    Returns:
        True for the larger neighbour.
    """
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


# -- one code ------------------------------------------------------------------------------------


@lru_cache(maxsize=REMEMBERED)
def decode(code: int, fmt: Format) -> Number:
    """Return the number of a code."""
    if isinstance(fmt, FixedFormat):
        integer = code
        if fmt.signed and code >= 1 << (fmt.width - 1):
            integer -= 1 << fmt.width
        return Number(integer < 0, abs(integer) * two_to(fmt.lsb))
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
    """Return the value of a magnitude code; beyond the largest, as if E had more bits."""
    field, fraction = divmod(code, 1 << fmt.mantissa_bits)
    unit = two_to(-fmt.mantissa_bits)
    if field or fmt.subnormals is Subnormals.NONE:
        return (1 + fraction * unit) * two_to(field - fmt.bias)
    if fmt.subnormals is Subnormals.FLUSH:
        return Fraction(0)
    return fraction * unit * two_to(1 - fmt.bias)


def encode(
    number: Number,
    fmt: Format,
    rounding: Rounding,
    overflow: Overflow,
    random: int = 0,
    random_bits: int = 0,
    *,
    ieee: bool = True,
    round_up: RoundUp = round_up,
) -> int:
    """Return the code of ``number``, rounded once.

    Args:
        number: any number, an infinity or NaN.
        fmt: the format of the code.
        rounding: the rounding mode.
        overflow: the result for values beyond the format.
        random, random_bits: for ``sr``, an integer and its width.
        ieee: whether directed modes may keep a number beyond the format finite, as in IEEE 754;
            else every such number follows ``overflow``.
        round_up: decides between two neighbouring codes.

    Returns:
        The code.

    Raises:
        FpsimError: the format has no code for the result: NaN, or the result of ``overflow``.
    """
    if isinstance(fmt, FixedFormat):
        if number.is_nan:
            raise FpsimError(f"result: NaN has no code in {fmt.name}")
        if number.infinite:
            integer = fmt.min_integer if number.negative else fmt.max_integer
        else:
            integer = to_grid(number, fmt.lsb, rounding, random, random_bits, round_up)
        return fit(integer, fmt, overflow) % (1 << fmt.width)
    if number.is_nan:
        return _nan(fmt)
    sign = fmt.sign_bit if number.negative else 0
    if number.infinite:
        return _beyond(number.negative, True, fmt, rounding, overflow)
    assert number.magnitude is not None
    low = _floor_code(number.magnitude, fmt)
    below, above = _grid(low, fmt), _grid(low + 1, fmt)
    if number.magnitude < below:
        code = low  # a format without zero has no value below its smallest
    else:
        fraction = (number.magnitude - below) / (above - below)
        up = round_up(fraction, low % 2 == 1, number.negative, rounding, random, random_bits)
        code = low + up
    if fmt.subnormals is Subnormals.FLUSH and code < 1 << fmt.mantissa_bits:
        code = 0
    if code > fmt.max_code:
        outward = rounding if ieee else Rounding.RNE
        return _beyond(number.negative, False, fmt, outward, overflow)
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
    round_up: RoundUp = round_up,
) -> Flag:
    """Return the status flags of encoding ``number``, defined in `formats.rounding.Flag`.

    For NaN and a format without NaN, a policy other than an error is assumed: NaN becomes a number.

    Args:
        number: any number, an infinity or NaN.
        fmt: the format of the code.
        rounding: the rounding mode.
        overflow: the result for values beyond the format.
        random, random_bits: an integer and its width, for ``sr``.
        round_up: decides between two neighbouring codes.

    Returns:
        The flags raised by this rounding alone.
    """
    if isinstance(fmt, FixedFormat):
        if number.magnitude is None:
            return Flag.INVALID
        integer = to_grid(number, fmt.lsb, rounding, random, random_bits, round_up)
        if not fmt.min_integer <= integer <= fmt.max_integer:
            return Flag.OVERFLOW | Flag.INEXACT
        return Flag.INEXACT if integer * two_to(fmt.lsb) != number.value else Flag(0)
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
        low += round_up(fraction, low % 2 == 1, number.negative, rounding, random, random_bits)
    below_zero = bool(number.negative and exact and not fmt.signed)
    if low > fmt.max_code:
        return Flag.OVERFLOW | Flag.INEXACT
    flushed = fmt.subnormals is Subnormals.FLUSH and low < 1 << fmt.mantissa_bits
    result = Fraction(0) if flushed else _magnitude(low, fmt)
    if below_zero and result:
        return Flag.OVERFLOW | Flag.INEXACT
    if result == exact:
        return Flag(0)
    tiny = _is_tiny(exact, number.negative, fmt, rounding, random, random_bits, round_up)
    return Flag.INEXACT | Flag.UNDERFLOW if tiny else Flag.INEXACT


def _is_tiny(
    exact: Fraction,
    negative: bool,
    fmt: FloatFormat,
    rounding: Rounding,
    random: int,
    random_bits: int,
    round_up: RoundUp,
) -> bool:
    """Decide tininess after rounding: round to m + 1 bits without a limit on the exponent."""
    first = 0 if fmt.subnormals is Subnormals.NONE else 1 << fmt.mantissa_bits
    if not exact or first > fmt.max_code:
        return False
    normal = two_to(fmt.exponent_min)
    if exact >= normal:
        return False  # the rounded number is not tiny either
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    if exact < two_to(exponent):
        exponent -= 1
    unit = two_to(exponent - fmt.mantissa_bits)
    steps_up = int(exact / unit)
    # The code below zero, if codes went on: its parity decides ties.
    code = first + ((exponent - fmt.exponent_min - 1) << fmt.mantissa_bits) + steps_up
    up = round_up(exact / unit - steps_up, code % 2 == 1, negative, rounding, random, random_bits)
    return (steps_up + up) * unit < normal


@lru_cache(maxsize=REMEMBERED)
def _floor_code(magnitude: Fraction, fmt: FloatFormat) -> int:
    """Return the largest magnitude code, without upper limit, of value at most ``magnitude``."""
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


@lru_cache(maxsize=REMEMBERED)
def _grid(code: int, fmt: FloatFormat) -> Fraction:
    """Return the format as a rounding grid, with gradual subnormals even if it flushes."""
    if fmt.subnormals is Subnormals.FLUSH and code < 1 << fmt.mantissa_bits:
        return code * two_to(1 - fmt.bias - fmt.mantissa_bits)
    return _magnitude(code, fmt)


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


def to_grid(
    number: Number,
    lsb: int,
    rounding: Rounding,
    random: int = 0,
    random_bits: int = 0,
    round_up: RoundUp = round_up,
) -> int:
    """Return a finite number rounded to an integer multiple of 2^lsb.

    Args:
        number: a finite number.
        lsb: exponent of the grid's unit.
        rounding: the rounding mode.
        random, random_bits: an integer and its width, for ``sr``.
        round_up: decides between two neighbouring multiples.

    Returns:
        The multiple of 2^lsb, as an integer.
    """
    assert number.magnitude is not None
    scaled = number.magnitude / two_to(lsb)
    low = int(scaled)
    up = round_up(scaled - low, low % 2 == 1, number.negative, rounding, random, random_bits)
    return -(low + up) if number.negative else low + up


def fit(integer: int, fmt: FixedFormat, overflow: Overflow) -> int:
    """Return an integer wrapped or saturated to a fixed-point format.

    Args:
        integer: any integer, in units of the format.
        fmt: the format.
        overflow: saturate or wrap.

    Returns:
        An integer in the format's range.
    """
    if overflow is Overflow.SATURATE:
        return min(max(integer, fmt.min_integer), fmt.max_integer)
    wrapped = integer % (1 << fmt.width)
    return wrapped - (1 << fmt.width) if fmt.signed and wrapped > fmt.max_integer else wrapped


# -- arithmetic ----------------------------------------------------------------------------------


def multiply(x: Number, y: Number) -> Number:
    """Return the exact product; NaN for NaN and for zero times infinity."""
    if x.is_nan or y.is_nan:
        return NAN
    negative = x.negative != y.negative
    if x.infinite or y.infinite:
        return NAN if 0 in (x.magnitude, y.magnitude) else Number(negative, None, infinite=True)
    assert x.magnitude is not None and y.magnitude is not None
    return Number(negative, x.magnitude * y.magnitude)


def add(x: Number, y: Number, rounding: Rounding) -> Number:
    """Return the exact sum of two numbers.

    Args:
        x, y: numbers, infinities or NaN.
        rounding: decides the sign of the zero x - x: negative toward -infinity (IEEE 754, 6.3).

    Returns:
        The sum; NaN for NaN and for infinities of both signs.
    """
    if x.is_nan or y.is_nan or (x.infinite and y.infinite and x.negative != y.negative):
        return NAN
    if x.infinite or y.infinite:
        return x if x.infinite else y
    total = x.value + y.value
    if total:
        return Number(total < 0, abs(total))
    negative = x.negative if x.negative == y.negative else rounding is Rounding.RDN
    return Number(negative, Fraction(0))
