# SPDX-License-Identifier: Apache-2.0
"""The aligned stage in exact integers; the equations are in `fpsim.units.stages.aligned`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat
from fpsim.formats.rounding import Flag, Overflow, Rounding
from fpsim.oracle import numbers
from fpsim.oracle.numbers import Number, two_to
from fpsim.oracle.terms import Term, exponent_of, floor_log2
from fpsim.oracle.trace import Trace
from fpsim.units.stages import Addend, Aligned

__all__ = ["aligned"]

ZERO = Term(Number(False, Fraction(0)), None)


class _Window(NamedTuple):
    """A sum of aligned integers: ``total`` times 2^(exponent - bits)."""

    total: Number  #: an integer, with the sign of its zero
    exponent: int | None  #: None if no term counts: the total is zero
    bits: int


def aligned(stage: Aligned, terms: Sequence[Term], c: int, trace: Trace) -> list[int]:
    """Add terms in an aligned stage.

    Args:
        stage: the stage; its equations are in `fpsim.units.stages.aligned`.
        terms: terms of the sum, in order; the last step is filled up with zeros.
        c: the initial accumulator code.
        trace: receives every internal node.

    Returns:
        The accumulator codes, one per step of N terms.
    """
    codes = []
    for trace.step, start in enumerate(range(0, len(terms), stage.products)):
        step = list(terms[start : start + stage.products])
        c = _step(stage, step + [ZERO] * (stage.products - len(step)), c, trace)
        codes.append(c)
    return codes


def _step(stage: Aligned, terms: list[Term], code: int, trace: Trace) -> int:
    addend = numbers.decode(code, stage.result)
    c = Term(addend, exponent_of(addend, stage.result))
    terms = [_limited(stage, _normalised(stage, term), trace) for term in terms]
    special = numbers.NAN if addend.is_nan else Number(False, Fraction(0))
    for term in (*terms, c):
        if term.value.magnitude is None:
            arises = not (special.is_nan or term.value.is_nan)
            special = numbers.add(special, term.value, Rounding.RNE)
            trace.flag(Flag.INVALID, arises and special.is_nan)
    if special.is_nan or special.infinite:
        return _finish(stage, special, trace)

    if stage.addend is Addend.JOINED:
        total = _joined(stage, terms, c, trace)
    else:
        early = stage.addend is Addend.EARLY
        window = _window(stage, [*terms, c] if early else terms, early, "", trace)
        total = _value(window)
    if stage.addend is Addend.LATE:
        rounded = _narrow(stage, total, trace)
        value = numbers.decode(rounded, stage.result)
        total = numbers.add(value, addend, stage.late_rounding)
        trace.flag(Flag.INVALID, total.is_nan and not value.is_nan)
        return _finish(stage, total, trace, late=True)
    return _finish(stage, total, trace)


def _normalised(stage: Aligned, term: Term) -> Term:
    if not stage.normalised or not term.value.magnitude:
        return term
    return Term(term.value, floor_log2(term.value.magnitude))


def _limited(stage: Aligned, term: Term, trace: Trace) -> Term:
    magnitude = term.value.magnitude
    if stage.product_limit is None or magnitude is None or magnitude < two_to(stage.product_limit):
        return term
    trace.flag(Flag.OVERFLOW | Flag.INEXACT)
    return Term(Number(term.value.negative, None, infinite=True), None)


def _cut(number: Number, lsb: int, rounding: Rounding, name: str, trace: Trace) -> int:
    """Return a number rounded to an integer multiple of 2^lsb; a lost part is traced as inexact."""
    integer = numbers.to_grid(number, lsb, rounding, round_up=trace.round_up)
    lost = not trace.silent and integer * two_to(lsb) != number.value
    if name:
        trace.add(name, integer, flags=Flag.INEXACT if lost else Flag(0), lsb=lsb)
    else:
        trace.flag(Flag.INEXACT, lost)
    return integer


def _window(
    stage: Aligned, terms: Sequence[Term], has_c: bool, label: str, trace: Trace
) -> _Window:
    """Align terms to their largest exponent and add them."""
    exponents = [t.exponent for t in terms if t.exponent is not None]
    if stage.exponent_floor is not None:
        exponents.append(stage.exponent_floor)
    counted = max(exponents, default=None)
    e = counted or 0
    bits = stage.fraction_bits
    trace.add(f"E{label}", e)
    total = Number(True, Fraction(0)) if stage.signed_zero else Number(False, Fraction(0))
    first = True
    for i, term in enumerate(terms):
        name = "t[c]" if has_c and i == len(terms) - 1 else f"t{label}[{i}]"
        integer = _cut(term.value, e - bits, stage.align, name, trace)
        part = Number(term.value.negative, Fraction(abs(integer)))
        total = part if first else numbers.add(total, part, stage.rounding)
        first = False
    if stage.width is not None:
        fmt = FixedFormat(stage.width, 0) if stage.width <= 64 else None
        assert fmt is not None
        integer = numbers.fit(int(total.value), fmt, stage.width_overflow)
        if integer != total.value:
            trace.flag(Flag.OVERFLOW | Flag.INEXACT)
            total = Number(integer < 0, Fraction(abs(integer)))
    trace.add(f"S{label}", int(total.value), lsb=e - bits)
    return _Window(total, counted, bits)


def _value(window: _Window) -> Number:
    assert window.total.magnitude is not None
    scale = two_to((window.exponent or 0) - window.bits)
    return Number(window.total.negative, window.total.magnitude * scale)


def _joined(stage: Aligned, terms: list[Term], c: Term, trace: Trace) -> Number:
    """Return the sum of AMD CDNA3's second window, of the first sum and the addend."""
    parts = [terms] if stage.lanes == 1 else [terms[0::2], terms[1::2]]
    windows = [
        _window(stage, part, False, "" if stage.lanes == 1 else str(i), trace)
        for i, part in enumerate(parts)
    ]
    counted = [w.exponent for w in windows if w.exponent is not None]
    e = max(counted, default=0)
    total = Number(False, Fraction(0))
    join = stage.join_rounding
    for window in windows:
        if len(windows) == 1:
            total = _value(window)
        else:
            lsb = e - stage.fraction_bits
            integer = _cut(_value(window), lsb, join, "", trace)
            part = Number(integer < 0, abs(integer) * two_to(lsb))
            total = numbers.add(total, part, Rounding.RNE)
    second = max([*counted, *([] if c.exponent is None else [c.exponent])], default=0)
    trace.add("E'", second)
    lsb = second - stage.join_sum_bits
    integer = _cut(total, lsb, join, "S'", trace)
    result = Number(integer < 0, abs(integer) * two_to(lsb))
    reach = stage.join_reach
    if c.exponent is not None and (reach is None or c.exponent >= second - reach):
        lsb = second - stage.join_addend_bits
        integer = _cut(c.value, lsb, join, "t[c]", trace)
        part = Number(integer < 0, abs(integer) * two_to(lsb))
        result = numbers.add(result, part, Rounding.RNE)
    return result


def _narrow(stage: Aligned, number: Number, trace: Trace) -> int:
    """Round to `format` and return the container's code."""
    fmt, outer = stage.format, stage.result
    assert stage.overflow is not None
    trace.add("sum", number)
    settings = (number, fmt, stage.rounding, stage.overflow)
    code = numbers.encode(*settings, ieee=False, round_up=trace.round_up)
    if not trace.silent:
        flags = numbers.flags(*settings, round_up=trace.round_up)
        trace.add("rounded", numbers.decode(code, fmt), None, code, fmt, flags)
    shift = outer.mantissa_bits - fmt.mantissa_bits
    sign = code & fmt.sign_bit and outer.sign_bit
    return ((code & ~fmt.sign_bit) << shift) | sign


def _finish(stage: Aligned, number: Number, trace: Trace, late: bool = False) -> int:
    """Return the result code of a number, which is rounded unless it is a late addend's sum."""
    if number.is_nan:
        if stage.nan is None:
            raise FpsimError(f"result: NaN has no code in {stage.result.name}")
        trace.add("acc", number, None, stage.nan, stage.result)
        return stage.nan
    assert stage.overflow is not None
    if late:
        settings = (number, stage.result, stage.late_rounding, Overflow(stage.overflow))
        code = numbers.encode(*settings, ieee=False, round_up=trace.round_up)
        if not trace.silent:
            flags = numbers.flags(*settings, round_up=trace.round_up)
            trace.add("sum with c", number, flags=flags)
    else:
        code = _narrow(stage, number, trace)
    negative_zero = stage.result.has_negative_zero and code == stage.result.sign_bit
    if negative_zero and not stage.signed_zero:
        code = 0
    trace.add("acc", numbers.decode(code, stage.result), None, code, stage.result)
    return code
