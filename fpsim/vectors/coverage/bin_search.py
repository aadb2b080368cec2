# SPDX-License-Identifier: Apache-2.0
"""Finds operands for the bins of `vectors.coverage.ibm_models`, or proves that a unit has none.

Terms of one product, moved by scales if there are any, are paired with addends at every distance.
The exact addition sorts pairs into bins, and the exact model of the unit decides which pairs hit
their bins. The vectors found are a directed class, and make up the expected bins of coverage. A bin
without operands is impossible if a bound on exponents proves so; else coverage lists it as open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.oracle import Number
from fpsim.oracle.numbers import add
from fpsim.units.spec import exponents
from fpsim.units.stages import Addend, Aligned, Block, Chunked, Exact, Fixed, Tree
from fpsim.vectors.coverage.additions import Addition, log2, terms_are_codes
from fpsim.vectors.coverage.ibm_models import (
    BOUNDARIES,
    EVENTS,
    addition_bins,
    boundary_bins,
    model_bins,
    shift_reach,
    type_of,
)
from fpsim.vectors.coverage.traced_sums import last_stage
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Op, Record

__all__ = ["Found", "model_expectations", "search"]

#: Pairs tried on the exact model per bin, and bit patterns tried as terms.
TRIES, TERMS = 4, 6


class _Term(NamedTuple):
    """Codes that make a term in the first lane: a product and the scales of all lanes."""

    a: int
    b: int
    scales: tuple[int, int] | None
    value: Number


class Found(NamedTuple):
    """A vector for a bin: columns of one row, and the bins that it is the first to hit."""

    bin: str
    bins: tuple[str, ...]
    row: Columns


@lru_cache(maxsize=64)
def search(record: Record) -> tuple[Found, ...]:
    """Return one vector for every bin that operands were found for, in a fixed order."""
    if record.flags:
        return search(Record(record.spec, record.k, record.group))
    wanted: dict[str, list[tuple[_Term, int]]] = defaultdict(list)
    for term, code, bins in _pairs(record):
        for name in sorted(bins):  # a set's own order changes from run to run
            if len(wanted[name]) < TRIES:
                wanted[name].append((term, code))
    found: list[Found] = []
    hit: set[str] = set()
    tried: set[tuple[_Term, int]] = set()
    for name, pairs in wanted.items():
        for pair in pairs if name not in hit else ():
            if pair in tried:
                continue
            tried.add(pair)
            row = _row(record, *pair)
            fresh = _hits(record, row) - hit
            if name in fresh:
                found.append(Found(name, tuple(sorted(fresh)), row))
                hit |= fresh
                break
    return tuple(found)


def _row(record: Record, term: _Term, code: int) -> Columns:
    palette = Palette(record)
    row: Columns = {
        "op": np.array(Op.DOT, np.uint8),
        "c": np.array(code, record.spec.initial.dtype),
    }
    if record.roundings:
        row["random"] = np.zeros(record.roundings, record.format_of("random").dtype)
    for i, operand in enumerate("ab"):
        codes = np.full(record.k, palette.zero(operand), getattr(record.spec, operand).dtype)
        codes[0] = (term.a, term.b)[i]
        row[operand] = codes
        if term.scales is not None:
            name = f"{operand}_scale"
            lanes = record.lanes_of(name)
            row[name] = np.full(lanes, term.scales[i], record.format_of(name).dtype)
    return row


def _hits(record: Record, row: Columns) -> set[str]:
    before = int(row["c"])
    try:
        trace = record.trace(row, before)
    except FpsimError:  # a result without a code
        return set()
    return set(model_bins(record.spec, trace.nodes, before))


# -- pairs ---------------------------------------------------------------------------------------


def _pairs(record: Record) -> Iterator[tuple[_Term, int, set[str]]]:
    """Yield terms and addend codes with the bins that their exact addition hits."""
    spec, fmt = record.spec, record.spec.initial
    for code in _typical_codes(record):
        for term in _signs(record):
            yield term, code, {f"B1:{type_of(code, fmt)} x {_sign_of(term)}"}
    if not isinstance(fmt, FloatFormat):
        return
    rounded = getattr(last_stage(spec.accumulate), "format", fmt)
    for term in _terms(record):
        for code in _addends(term.value, fmt):
            addend = oracle.decode(code, fmt)
            total = add(addend, term.value, Rounding.RNE)
            bins = set(addition_bins(Addition(addend, term.value, total), spec))
            yield term, code, bins | set(boundary_bins(total, rounded))


def _sign_of(term: _Term) -> str:
    return "0" if not term.value.magnitude else "-" if term.value.negative else "+"


def _typical_codes(record: Record) -> list[int]:
    """Return an addend code of each type."""
    fmt = record.spec.initial
    if isinstance(fmt, FixedFormat):
        half = 1 << (fmt.width - 1)
        return [0, 1, half - 1, half, half + 1]
    row = 1 << fmt.mantissa_bits
    picks = [0, 1, row, fmt.max_code]
    if Palette(record).nan:
        picks += [fmt.max_code + 1, (1 << fmt.magnitude_bits) - 1]
    codes = {code + sign for code in picks for sign in {0, fmt.sign_bit}}
    return sorted(code for code in codes if code < 1 << fmt.bits)


def _signs(record: Record) -> Iterator[_Term]:
    palette = Palette(record)
    for name in ("one", "smallest", "zero"):
        yield _term(record, palette.product(name), 0)


def _term(record: Record, pair: tuple[int, int], exponent: int) -> _Term:
    """Return a product times 2^exponent, a power that the scales can give."""
    spec, scales = record.spec, None
    value = oracle.numbers.multiply(oracle.decode(pair[0], spec.a), oracle.decode(pair[1], spec.b))
    if record.group:
        codes = []
        for operand, part in (("a", exponent // 2), ("b", exponent - exponent // 2)):
            fmt = getattr(spec, f"{operand}_scale")
            power = Number(False, Fraction(2) ** part)
            code = oracle.encode(power, fmt, Rounding.RTZ, Overflow.SATURATE)
            codes.append(code)
            value = oracle.numbers.multiply(value, oracle.decode(code, fmt))
        scales = (codes[0], codes[1])
    return _Term(*pair, scales, value)


def _terms(record: Record) -> Iterator[_Term]:
    """Yield terms: products of many patterns of bits, then the largest moved by scales."""
    palette = Palette(record)
    a, b, values = palette.products
    patterns: dict[tuple[float, int, bool], tuple[int, int]] = {}
    for x, y, value in zip(a.tolist(), b.tolist(), values.tolist(), strict=True):
        if value and np.isfinite(value):
            significand, exponent = np.frexp(abs(value))
            patterns.setdefault((float(significand), int(exponent), value < 0), (x, y))
    keys = sorted(patterns, key=lambda k: (abs(k[1] - 1), k))
    powers = [key for key in keys if key[0] == 0.5]
    others = [key for key in keys if key[0] != 0.5]
    patterned = sorted({key[0]: key for key in reversed(others)}.values())  # nearest to one
    step = max(1, len(patterned) // TERMS)
    chosen = powers[:2] + [f(powers, key=lambda k: k[1]) for f in (min, max) if powers]
    for key in dict.fromkeys(chosen + patterned[::step] + patterned[-1:]):
        yield _term(record, patterns[key], 0)
    if record.group and powers:
        fmt = record.spec.initial
        assert isinstance(fmt, FloatFormat)
        least = fmt.exponent_min - fmt.mantissa_bits
        for place in (fmt.exponent_max - 2, fmt.exponent_max, fmt.exponent_max + 1, least - 1,
                      least + 1, fmt.exponent_min - 1, fmt.exponent_min):  # fmt: skip
            for key in (powers[0], (others or powers)[0]):
                term = _term(record, patterns[key], place - key[1] + 1)
                if term.value.magnitude:
                    yield term


def _addends(term: Number, fmt: FloatFormat) -> Iterator[int]:
    """Yield addend codes at every distance from a term, and codes that cancel it."""
    assert term.magnitude
    m, exponent = fmt.mantissa_bits, log2(term.magnitude)
    one = Fraction(2) ** exponent
    magnitudes = [term.magnitude]
    magnitudes += [abs(term.magnitude - one / (1 << j)) for j in range(m + 2)]
    for shift in range(-shift_reach(fmt), 2 * m + 5):
        power = one * Fraction(2) ** shift
        magnitudes += [power, power * Fraction(3, 2)]
    for magnitude in dict.fromkeys(magnitudes):
        code = _code(magnitude, fmt)
        if code is not None:
            yield code
            if fmt.signed:
                yield code + fmt.sign_bit
    yield from (fmt.max_code, fmt.max_code + fmt.sign_bit)


def _code(magnitude: Fraction, fmt: FloatFormat) -> int | None:
    """Return the code of a magnitude, or None if the format lacks the value."""
    if not 0 < magnitude <= fmt.max_value:
        return None
    exponent = max(log2(magnitude), fmt.exponent_min)
    steps = magnitude / Fraction(2) ** (exponent - fmt.mantissa_bits)
    if steps.denominator != 1:
        return None
    code = ((exponent - fmt.exponent_min) << fmt.mantissa_bits) + int(steps)
    if oracle.decode(code, fmt).magnitude != magnitude:  # subnormals that flush
        return None
    return code


# -- bins that can be hit --------------------------------------------------------------------------


def model_expectations(record: Record) -> tuple[dict[str, str | None], list[str]]:
    """Return the bins of B1 and B7 to B18, and the names of the open bins.

    Bins map to None, or to the reason why no operands hit them. An open bin has neither operands
    nor a proof that there are none.
    """
    found, bins = {name for f in search(record) for name in f.bins}, _all_bins(record)
    return bins, [name for name, why in bins.items() if why is None and name not in found]


def _all_bins(record: Record) -> dict[str, str | None]:
    """Return every bin with the reason why it is impossible, None if no proof says so."""
    spec = record.spec
    fmt = spec.initial
    bins: dict[str, str | None] = {}
    negative = _negative_terms(record)
    special = (
        None if Palette(record).nan else "a NaN could arise, which the accumulator has no code for"
    )
    for kind in dict.fromkeys(type_of(code, fmt) for code in _typical_codes(record)):
        for sign in "+-0":
            none = "no product is negative" if sign == "-" and not negative else None
            odd = kind == "nan" or kind.endswith("inf")
            bins[f"B1:{kind} x {sign}"] = none or (special if odd else None)
    if not isinstance(fmt, FloatFormat):
        return bins | _fixed_bins(record)
    places = range(1, getattr(last_stage(spec.accumulate), "format", fmt).mantissa_bits + 2)
    bins |= {f"B7:bit {place}": _no_tail(record) for place in places}
    bins |= {f"B8:{name}": _no_tail(record) for name in BOUNDARIES}
    codes = terms_are_codes(spec)
    other = ("B14", "B16") if codes else ("B10", "B12")
    why = "every term is rounded before it is added" if codes else "every term is exact"
    bins |= {f"{model}:any": why for model in other}
    shifts, drops = ("B10", "B12") if codes else ("B14", "B16")
    bins |= {f"{shifts}:{name}": reason for name, reason in _shifts(record, fmt).items()}
    names = ["carry", "to zero", *(f"drop {j}" for j in range(fmt.mantissa_bits + 2))]
    return bins | {f"{drops}:{name}": None for name in names} | _event_bins(record, fmt)


def _fixed_bins(record: Record) -> dict[str, str | None]:
    none = "a fixed-point accumulator has no exponent: nothing is aligned or normalised"
    bins: dict[str, str | None] = {f"{m}:any": none for m in ("B10", "B12", "B14", "B16")}
    low, _ = _span(record)
    stage = last_stage(record.spec.accumulate)
    assert isinstance(stage, Fixed)
    if low >= stage.lsb:
        why = f"terms are multiples of 2^{low}, and the grid is 2^{stage.lsb}: none rounds"
        bins |= {f"{model}:any": why for model in ("B3", "B7", "B8")}
    lost = "what a product loses on the grid no addend brings back"
    bins["B18:inexact"] = lost
    bins["B18:underflow"] = "a fixed-point accumulator has no subnormal numbers"
    return bins


def _negative_terms(record: Record) -> bool:
    spec = record.spec
    formats: list[Any] = [spec.a, spec.b]
    if record.group:
        formats += [spec.a_scale, spec.b_scale]
    return any(fmt.signed for fmt in formats)


def _span(record: Record) -> tuple[int, int]:
    """Return (low, high): nonzero terms are multiples of 2^low and below 2^high."""
    spec = record.spec
    formats: list[Any] = [spec.a, spec.b]
    if record.group:
        formats += [spec.a_scale, spec.b_scale]
    low = sum(exponents(fmt)[0] for fmt in formats)
    high = sum(exponents(fmt)[1] for fmt in formats)
    return low, high + (_products(record) - 1).bit_length()


def _products(record: Record) -> int:
    """Return the most products that make a term."""
    stage, last = record.spec.accumulate, last_stage(record.spec.accumulate)
    inner = isinstance(stage, Chunked | Block)
    return record.k if inner or isinstance(last, Exact | Aligned | Tree) else 1


def _no_tail(record: Record) -> str | None:
    """Return why no sum has bits below the last place of a result, or None."""
    last = last_stage(record.spec.accumulate)
    fmt = getattr(last, "format", record.spec.initial)
    assert isinstance(fmt, FloatFormat)
    if isinstance(last, Aligned) and last.addend is Addend.EARLY:
        # N terms and the addend, each below 4 * 2^E where products are not normalised.
        bits = last.fraction_bits + 2 + last.products.bit_length()
        if bits <= fmt.mantissa_bits + 1:
            return f"a window's sum has at most {bits} bits, and {fmt.name} has more"
    low = min(_span(record)[0], fmt.exponent_min - fmt.mantissa_bits)
    top = fmt.exponent_max - fmt.mantissa_bits
    return f"every sum is a multiple of 2^{low}, which every code is too" if low >= top else None


def _shifts(record: Record, fmt: FloatFormat) -> dict[str, str | None]:
    """Return the bins of shifts; a reason says which shifts no term and addend have."""
    low, high = _span(record)
    least, most = fmt.exponent_min - fmt.mantissa_bits, fmt.exponent_max
    reach = shift_reach(fmt)
    why = f"terms lie between 2^{low} and 2^{high}, addends between 2^{least} and 2^{most + 1}"
    bins: dict[str, str | None] = {}
    for shift in range(-reach, reach + 1):
        name = f"shift {shift:+d}"
        below, above = high - 1 + shift < least, low + shift > most
        if abs(shift) == reach:  # the bin of all larger shifts
            name = f"shift {'>= +' if shift > 0 else '<= -'}{reach}"
            below, above = below and shift < 0, above and shift > 0
        bins[name] = why if below or above else None
    return bins


def _event_bins(record: Record, fmt: FloatFormat) -> dict[str, str | None]:
    """Return the bins of B18."""
    low, high = _span(record)
    least = fmt.exponent_min - fmt.mantissa_bits
    bins: dict[str, str | None] = dict.fromkeys(f"B18:{event}" for event in EVENTS)
    if high <= fmt.exponent_max:
        bins["B18:overflow"] = f"no term reaches 2^{high}"
    if low >= fmt.exponent_min:
        bins["B18:underflow"] = f"terms are multiples of 2^{low}: none is below all normal numbers"
    if low >= least and high <= fmt.exponent_max and high - low <= fmt.mantissa_bits + 1:
        bins["B18:inexact"] = f"terms are multiples of 2^{low} below 2^{high}: {fmt.name} has all"
    return bins
