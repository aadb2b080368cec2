# SPDX-License-Identifier: Apache-2.0
"""IBM's floating-point coverage models on the accumulator, as bins of single vectors.

Aharoni et al., "FPgen - a test generation framework for datapath floating-point verification",
HLDVT 2003, with their numbers. Sets hold all operands of 4 bits anyway, so the models look at
the addition of a term to the accumulator:

    B1   types of addend and term                      B1:-subnormal x +
    B3   sign, last bit, guard bit, sticky bit         B3:+101
    B7   a sticky bit that is a single bit, by place   B7:bit 3
    B8   values beside a rounding boundary             B8:just below half
    B10  shifts of addend against a rounded term       B10:shift -4
    B12  cancellation against a rounded term           B12:drop 3
    B14  as B10, the term an exact product or sum      B14:shift -4
    B16  as B12, the term an exact product or sum      B16:drop 3
    B18  a term that overflows, is below all normal    B18:overflow
         numbers or is inexact alone, but not the sum

A shift is the exponent of the addend minus that of the term; a drop, the larger of both
exponents minus the sum's. A unit has B10 and B12, or B14 and B16, by the kind of its terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from fpsim import oracle
from fpsim.formats.floating import FixedFormat, FloatFormat, Format
from fpsim.oracle import Node, Number
from fpsim.units.spec import MacSpec
from fpsim.vectors.coverage.additions import Addition, additions, log2, roundings, terms_are_codes

__all__ = [
    "BOUNDARIES",
    "EVENTS",
    "MODELS",
    "MODEL_SECTIONS",
    "addition_bins",
    "boundary_bins",
    "model_bins",
    "shift_reach",
    "type_of",
]

MODELS = {
    "B1": "types of addend and term",
    "B3": "sign, last bit, guard and sticky",
    "B7": "sticky bits of a single bit",
    "B8": "values beside a rounding boundary",
    "B10": "shifts against rounded terms",
    "B12": "cancellation against rounded terms",
    "B14": "shifts against exact terms",
    "B16": "cancellation against exact terms",
    "B18": "exceptions of the term that the addend cancels",
}
#: Names of the sections with vectors of `fpsim.vectors.coverage.bin_search`: ``b14-shifts``.
MODEL_SECTIONS = {
    "B1": "types",
    "B3": "rounding-bits",
    "B7": "sticky",
    "B8": "boundaries",
    "B10": "shifts",
    "B12": "cancellation",
    "B14": "shifts",
    "B16": "cancellation",
    "B18": "exceptions",
}
BOUNDARIES = (
    "just above a value",
    "just below half",
    "half",
    "just above half",
    "just below the next value",
)
EVENTS = ("overflow", "underflow", "inexact")


def type_of(code: int, fmt: Format) -> str:
    """Return the type of a code: zero, an end of the range, subnormal, infinity, NaN, ..."""
    if isinstance(fmt, FixedFormat):
        integer = code - (1 << fmt.width) if fmt.signed and code >> (fmt.width - 1) else code
        names = {0: "zero", fmt.max_integer: "max", fmt.min_integer: "min"}
        return names.get(integer, "negative" if integer < 0 else "positive")
    return _type(oracle.decode(code, fmt), fmt)


def _type(number: Number, fmt: FloatFormat) -> str:
    if number.is_nan:
        return "nan"
    sign = "-" if number.negative else "+"
    if number.magnitude is None:
        return f"{sign}inf"
    if not number.magnitude:
        return f"{sign}0"
    if number.magnitude == fmt.max_value:
        return f"{sign}max"
    subnormal = fmt.has_zero and number.magnitude < Fraction(2) ** fmt.exponent_min
    return f"{sign}{'subnormal' if subnormal else 'normal'}"


def shift_reach(fmt: FloatFormat) -> int:
    """Return the least shift at which all bits are sticky; larger shifts share its bin."""
    return fmt.mantissa_bits + 3


def model_bins(spec: MacSpec, nodes: list[Node], before: int) -> Iterator[str]:
    """Yield the bins of IBM's models that a traced dot product hits.

    Args:
        spec: the unit.
        nodes: nodes of the dot product's trace.
        before: code of the accumulator before the dot product, in the format ``spec.initial``.

    Yields:
        Names of bins, such as ``B14:shift -4``; a name may come more than once.
    """
    for value, fmt in roundings(spec, nodes):
        yield from boundary_bins(value, fmt)
    kind = type_of(before, spec.initial)
    for addition in additions(spec, nodes, before):
        if isinstance(spec.initial, FloatFormat):
            kind = _type(addition.addend, spec.initial)
        yield f"B1:{kind} x {_sign(addition.term)}"
        yield from addition_bins(addition, spec)


def _sign(number: Number) -> str:
    if number.is_nan or (number.magnitude is not None and not number.magnitude):
        return "nan" if number.is_nan else "0"
    return "-" if number.negative else "+"


def boundary_bins(value: Number, fmt: Format) -> Iterator[str]:
    """Yield the bins of B3, B7 and B8 that rounding a value to a format hits."""
    if not value.magnitude:
        return
    if isinstance(fmt, FixedFormat):
        unit = Fraction(2) ** fmt.lsb
    else:
        unit = Fraction(2) ** (max(log2(value.magnitude), fmt.exponent_min) - fmt.mantissa_bits)
    kept = int(value.magnitude / unit)
    rest = value.magnitude / unit - kept
    sticky = rest * 2 - int(rest * 2)
    yield f"B3:{'-' if value.negative else '+'}{kept & 1}{int(rest * 2)}{int(sticky != 0)}"
    if sticky and sticky.numerator == 1:
        place = sticky.denominator.bit_length() - 1
        if place <= _places(fmt):
            yield f"B7:bit {place}"
    eighths = int(rest * 8)
    if rest == Fraction(1, 2):
        yield "B8:half"
    elif rest and eighths in (0, 3, 4, 7):
        yield f"B8:{BOUNDARIES[(0, 1, 3, 4)[(0, 3, 4, 7).index(eighths)]]}"


def _places(fmt: Format) -> int:
    """Return the number of places below the guard bit that B7 distinguishes."""
    return fmt.mantissa_bits + 1 if isinstance(fmt, FloatFormat) else 4


def addition_bins(addition: Addition, spec: MacSpec) -> Iterator[str]:
    """Yield the bins of B10 to B18 that an addition hits."""
    addend, term, total = addition
    fmt = spec.initial
    if total is None or not isinstance(fmt, FloatFormat):
        return
    if addend.magnitude is None or term.magnitude is None or total.magnitude is None:
        return
    yield from _events(term, total, fmt)
    if not addend.magnitude or not term.magnitude:
        return
    shifts, drops = ("B10", "B12") if terms_are_codes(spec) else ("B14", "B16")
    shift, reach = log2(addend.magnitude) - log2(term.magnitude), shift_reach(fmt)
    if abs(shift) < reach:
        yield f"{shifts}:shift {shift:+d}"
    else:
        yield f"{shifts}:shift {'>= +' if shift > 0 else '<= -'}{reach}"
    if not total.magnitude:
        yield f"{drops}:to zero"
        return
    drop = max(log2(addend.magnitude), log2(term.magnitude)) - log2(total.magnitude)
    if drop < 0:
        yield f"{drops}:carry"
    elif drop <= fmt.mantissa_bits + 1:
        yield f"{drops}:drop {drop}"


def _events(term: Number, total: Number, fmt: FloatFormat) -> Iterator[str]:
    """Yield B18: events of the term alone (overflow, tiny, inexact) that the sum does not have."""
    assert term.magnitude is not None and total.magnitude is not None
    top, normal = Fraction(fmt.max_value), Fraction(2) ** fmt.exponent_min
    if term.magnitude > top >= total.magnitude:
        yield "B18:overflow"
    if 0 < term.magnitude < normal <= total.magnitude:
        yield "B18:underflow"
    if not _is_value(term, fmt) and _is_value(total, fmt):
        yield "B18:inexact"


def _is_value(number: Number, fmt: FloatFormat) -> bool:
    if not number.magnitude or number.magnitude > fmt.max_value:
        return not number.magnitude
    exponent = max(log2(number.magnitude), fmt.exponent_min) - fmt.mantissa_bits
    return (number.magnitude / Fraction(2) ** exponent).denominator == 1
