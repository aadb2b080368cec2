# SPDX-License-Identifier: Apache-2.0
"""Mutants of a unit: the ways designers err, as changed stage data, operands or rounding.

A mutant takes beats (operands, scales, the addend each one finds) and returns result codes. Most
are units that differ in one setting and run on the kernels; a few change the exact model's rounding
decision itself and are slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.names import E8M0
from fpsim.formats.rounding import Rounding
from fpsim.oracle.numbers import RoundUp, round_up
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Addend, stages_of
from fpsim.vectors.mutants.random_edits import first_group, integer_edits, masked, next_group
from fpsim.vectors.mutants.spec_changes import spec_changes
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["FRACTIONS", "Mutant", "mutants_of", "rounded_after", "spec_mutants"]

Codes = NDArray[Any]
Run = Callable[[Columns, Codes], Codes]


@dataclass(frozen=True)
class Mutant:
    """A unit with an error: ``run(columns, addends)`` gives its result codes.

    ``slow`` ones go through the exact model, row by row. ``spec`` is the mutated unit of those that
    are a change of data.
    """

    name: str
    run: Run
    slow: bool = False
    spec: MacSpec | None = None


def mutants_of(record: Record) -> list[Mutant]:
    """Return every mutant that the unit can have, each different from it as data."""
    return spec_mutants(record) + _operand_mutants(record) + _rounding_mutants(record)


def spec_mutants(record: Record) -> list[Mutant]:
    """Return the mutants that are a change of data, each different from the unit and the others."""
    found: list[Mutant] = []
    seen = {record.spec}
    for name, spec in spec_changes(record.spec, scales=bool(record.group)):
        if spec in seen or (
            spec.result != record.spec.result and not _same_codes(spec, record.spec)
        ):
            continue
        try:
            run = _runner(record, spec)
        except FpsimError:
            continue
        seen.add(spec)
        found.append(Mutant(name, run, spec=spec))
    return found


def _same_codes(first: MacSpec, second: MacSpec) -> bool:
    return first.result.bits == second.result.bits and first.initial.bits == second.initial.bits


def _runner(record: Record, spec: MacSpec) -> Run:
    changed = Record(spec, record.k, record.group)
    if not changed.roundings:
        return lambda columns, c: changed.dot(columns, c)
    more = max(changed.roundings - record.roundings, 0)
    fewer = record.spec.random_bits - spec.random_bits

    def run(columns: Columns, c: Codes) -> Codes:
        random = columns["random"][:, : changed.roundings] >> fewer
        return changed.dot(columns | {"random": np.pad(random, ((0, 0), (0, more)))}, c)

    return run


# -- changed operands and results ----------------------------------------------------------------


def _operand_mutants(record: Record) -> list[Mutant]:
    zero = {op: record.spec and _zero(getattr(record.spec, op)) for op in "ab"}

    def change(name: str, edit: Callable[[Columns], Columns]) -> Mutant:
        return Mutant(name, lambda columns, c: record.dot(columns | edit(columns), c))

    def lane(columns: Columns, index: int) -> Columns:
        a = columns["a"].copy()
        a[:, index] = zero["a"]
        return {"a": a}

    found = [
        change("first lane dropped", lambda x: lane(x, 0)),
        change("last lane dropped", lambda x: lane(x, -1)),
        Mutant("addend ignored", lambda x, c: record.dot(x, np.zeros_like(c))),
        Mutant("previous products", lambda x, c: record.dot(_previous(x), c)),
    ]
    if record.k > 1:
        found += [
            change("order reversed", lambda x: _reversed(record, x)),
            change("b rotated by a lane", lambda x: {"b": np.roll(x["b"], 1, axis=1)}),
            change("first lane doubled", lambda x: {op: _doubled(x[op]) for op in "ab"}),
        ]
    for operand in "ab":
        fmt = getattr(record.spec, operand)
        if fmt.signed:
            kept = np.array((1 << (fmt.bits - 1)) - 1, dtype=fmt.dtype)
            found.append(change(f"sign of {operand} lost", _edit(operand, partial(masked, kept))))
    result = record.spec.result
    if isinstance(result, FloatFormat) and result.has_negative_zero:
        sign = np.array(result.sign_bit, dtype=result.dtype)
        found.append(Mutant("-0 lost", lambda x, c: _without(record.dot(x, c), sign)))
        found.append(Mutant("-0 lost in the addend", lambda x, c: record.dot(x, _without(c, sign))))
        found.append(Mutant("zeros negative", lambda x, c: _negative(record.dot(x, c), sign)))
    if record.group:
        found += _scale_mutants(record, change)
    if record.roundings:
        found += [
            change(what, _edit("random", edit)) for what, edit in integer_edits(record).items()
        ]
    if _overflows(record):
        found.append(Mutant("overflow over an infinite addend", partial(_overflowing, record)))
        found.append(Mutant("infinite addend as a power of two", partial(_cancelling, record)))
    return found


def _overflows(record: Record) -> bool:
    """Return whether scaled products alone can exceed an accumulator that has infinities."""
    spec, result = record.spec, record.spec.result
    if not (record.group and isinstance(result, FloatFormat) and result.infinity):
        return False
    if spec.a_scale != E8M0:
        return False
    largest = spec.a_scale.max_value * spec.b_scale.max_value * record.group
    return spec.initial == result and largest > result.max_value


def _overflowing(record: Record, columns: Columns, c: Codes) -> Codes:
    """Return results where a sum that is infinite by itself replaces an infinite addend."""
    alone, result = record.dot(columns, np.zeros_like(c)), record.spec.result
    both = np.isinf(result.decode(c)) & np.isinf(result.decode(alone))
    return np.where(both, alone, record.dot(columns, c))


def _cancelling(record: Record, columns: Columns, c: Codes) -> Codes:
    """Return results where an infinite addend, read as 2^(emax + 1), is cancelled by a sum."""
    result = record.spec.result
    assert isinstance(result, FloatFormat)
    scale = columns["a_scale"]
    halves = columns | {"a_scale": np.where((scale > 0) & (scale < 255), scale - 1, scale)}
    half = result.decode(record.dot(halves, np.zeros_like(c)))
    addend = result.decode(c)
    cancels = np.isinf(addend) & (half == -np.copysign(2.0**result.exponent_max, addend))
    return np.where(cancels, 0, record.dot(columns, c)).astype(c.dtype)


def _scale_mutants(
    record: Record, change: Callable[[str, Callable[[Columns], Columns]], Mutant]
) -> list[Mutant]:
    palette = Palette(record)
    found = []
    for operand in "ab":
        name, one = f"{operand}_scale", palette.one(operand)
        edits: dict[str, Callable[[Codes], Codes]] = {
            f"{name} ignored": partial(np.full_like, fill_value=one)
        }
        fmt = getattr(record.spec, name)
        if fmt.mantissa_bits:
            low = np.array((1 << fmt.mantissa_bits) - 1, dtype=fmt.dtype)
            edits[f"mantissa of {name} ignored"] = partial(masked, ~low)
        if record.spec.splits(operand):
            edits[f"{name} by the other sign"] = _swap
            edits[f"{name} not split"] = _unsplit
        elif record.groups > 1:
            edits[f"{name} of the next group"] = next_group
            edits[f"first {name} for all"] = first_group
        found += [change(what, _edit(name, edit)) for what, edit in edits.items()]
    return found


def _edit(name: str, edit: Callable[[Codes], Codes]) -> Callable[[Columns], Columns]:
    return lambda columns: {name: edit(columns[name])}


def _unsplit(codes: Codes) -> Codes:
    return np.repeat(codes[:, ::2], 2, axis=1)


def _zero(fmt: Format) -> int:
    codes = np.arange(min(1 << fmt.bits, 1 << 16))
    values = np.nan_to_num(np.abs(fmt.decode(codes)), nan=np.inf)
    return int(values.argmin())


def _previous(columns: Columns) -> Columns:
    return columns | {op: np.roll(columns[op], 1, axis=0) for op in "ab"}


def _doubled(codes: Codes) -> Codes:
    out = codes.copy()
    out[:, -1] = codes[:, 0]
    return out


def _swap(codes: Codes) -> Codes:
    return codes.reshape(codes.shape[0], -1, 2)[:, :, ::-1].reshape(codes.shape)


def _reversed(record: Record, columns: Columns) -> Columns:
    """Reverse the elements with their scales; whole groups only."""
    if record.group and record.k % record.group:
        return {}
    out = {op: columns[op][:, ::-1] for op in "ab"}
    for op in "ab" if record.group else "":
        name = f"{op}_scale"
        per = 2 if record.spec.splits(op) else 1
        groups = columns[name].reshape(columns[name].shape[0], -1, per)
        out[name] = groups[:, ::-1].reshape(columns[name].shape)
    return out


def _without(codes: Codes, sign: Codes) -> Codes:
    return np.where(codes == sign, np.zeros_like(codes), codes)


def _negative(codes: Codes, sign: Codes) -> Codes:
    return np.where(codes == 0, sign, codes)


# -- changed rounding ----------------------------------------------------------------------------


def _rounding_mutants(record: Record) -> list[Mutant]:
    """Return mutants of the rounding decision; directed modes do not look at these bits."""
    modes: set[Any] = set()
    for stage in stages_of(record.spec.accumulate):
        modes |= {getattr(stage, "rounding", None), getattr(stage, "align", None)}
        if getattr(stage, "addend", None) is Addend.LATE:
            modes.add(getattr(stage, "late_rounding", None))
        if getattr(stage, "convert", None) is not None:
            modes.add(getattr(stage, "convert_rounding", None))
    found: dict[str, RoundUp] = {}
    if modes & {Rounding.RNE, Rounding.RNA}:
        found |= {name: partial(rounded_after, edit) for name, edit in FRACTIONS.items()}
    if Rounding.SR in modes:
        found |= {name: partial(_stochastic, decide) for name, decide in _DECISIONS.items()}
    return [Mutant(f"rounding: {n}", _rounded_by(record, f), slow=True) for n, f in found.items()]


def _twice(fraction: Fraction) -> Fraction:
    """Round to two more bits, ties to even, before the rounding proper."""
    scaled = fraction * 4
    low = int(scaled)
    rest = scaled - low
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2)
    return Fraction(low + int(up), 4)


#: Changes of the fraction that is rounded to nearest.
FRACTIONS: dict[str, Callable[[Fraction], Fraction]] = {
    "sticky dropped": lambda f: Fraction(int(f * 2), 2),
    "sticky is one bit": lambda f: Fraction(int(f * 4), 4),
    "ties down": lambda f: f - Fraction(1, 1 << 40) if f == Fraction(1, 2) else f,
    "ties up": lambda f: f + Fraction(1, 1 << 40) if f == Fraction(1, 2) else f,
    "guard ignored": lambda f: f - Fraction(1, 2) if f >= Fraction(1, 2) else f,
    "rounded twice": _twice,
}
#: Decisions on x = f 2^n, 2^n, the sign and the integer r; the unit's is floor(x) + r >= 2^n.
_DECISIONS: dict[str, Callable[[Fraction, int, bool, int], bool]] = {
    "> instead of >=": lambda x, steps, negative, r: floor(x) + r > steps,
    "bits below the random ones count": lambda x, steps, negative, r: ceil(x) + r >= steps,
    "carry in": lambda x, steps, negative, r: floor(x) + r + 1 >= steps,
    "random bits subtracted from negatives": lambda x, steps, negative, r: (
        floor(x) > r if negative else floor(x) + r >= steps
    ),
    "half added to the random bits": lambda x, steps, negative, r: floor(x) + r >= steps // 2,
}


def rounded_after(
    edit: Callable[[Fraction], Fraction], fraction: Fraction, odd: bool, negative: bool,
    mode: Rounding, *random: int,
) -> bool:  # fmt: skip
    """Decide a rounding with an edited fraction where the mode rounds to nearest.

    Args:
        edit: maps a fraction from 0 to below 1 to a wrong one.
        fraction: how far a magnitude is on the way from a code to the next larger one.
        odd: whether the smaller code is odd.
        negative: the sign of the number.
        mode: the rounding mode.
        *random: the integer and its width, for ``sr``.

    Returns:
        Whether the magnitude goes to the larger code; in directed modes and ``sr`` as
        `fpsim.oracle.numbers.round_up` decides.
    """
    fraction = edit(fraction) if mode in (Rounding.RNE, Rounding.RNA) else fraction
    return round_up(fraction, odd, negative, mode, *random)


def _stochastic(
    decide: Callable[[Fraction, int, bool, int], bool], fraction: Fraction, odd: bool,
    negative: bool, mode: Rounding, random: int, random_bits: int,
) -> bool:  # fmt: skip
    """Add random bits in another way."""
    if mode is not Rounding.SR:
        return round_up(fraction, odd, negative, mode, random, random_bits)
    steps = 1 << random_bits
    return decide(fraction * steps, steps, negative, random)


def _rounded_by(record: Record, decision: RoundUp) -> Run:
    def run(columns: Columns, c: Codes) -> Codes:
        addends = c.astype(record.spec.initial.dtype, copy=False)
        options = record.options(columns)
        return oracle.dot(
            record.spec, columns["a"], columns["b"], addends, round_up=decision, **options
        )

    return run
