# SPDX-License-Identifier: Apache-2.0
"""What one vector exercises, read off the exact model's trace, as names of coverage bins.

Bins of the final rounding follow IBM's B3 (sign, last bit, guard, sticky), B1 (types), B4 and B5
(ends of the range), B12 (drop of the exponent); alignment bins count the places by which a term
lies below the window's exponent; see `fpsim.vectors.coverage` for which bins a unit can have.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from fpsim import oracle
from fpsim.formats import FixedFormat, FloatFormat, Format
from fpsim.oracle import Node, Number
from fpsim.spec import MacSpec
from fpsim.stages import Aligned, Fixed
from fpsim.vectors.shape import Columns, Shape, stages_of
from fpsim.vectors.stream import Op

__all__ = ["bins_of", "type_of"]


def type_of(code: int, fmt: Format) -> str:
    """Return the type of a code: zero, one end of the range, subnormal, infinity, NaN, ..."""
    if isinstance(fmt, FixedFormat):
        integer = code - (1 << fmt.width) if fmt.signed and code >> (fmt.width - 1) else code
        names = {0: "zero", fmt.max_integer: "max", fmt.min_integer: "min"}
        return names.get(integer, "negative" if integer < 0 else "positive")
    number = oracle.decode(code, fmt)
    if number.is_nan:
        return "nan"
    sign = "-" if number.negative else "+"
    if number.infinite:
        return f"{sign}inf"
    magnitude = code & ~fmt.sign_bit
    if not number.magnitude:
        return f"{sign}0"
    if magnitude == fmt.max_code:
        return f"{sign}max"
    if magnitude < 1 << fmt.mantissa_bits and fmt.has_zero:
        return f"{sign}subnormal"
    return f"{sign}normal"


def bins_of(shape: Shape, row: Columns, before: int) -> set[str]:
    """Return the bins that one vector hits; ``before`` is the accumulator that it finds."""
    spec = shape.spec
    op = Op(int(row["op"]))
    bins = {f"op:{op.name.lower()}"}
    if op not in (Op.DOT, Op.MAC):
        return bins
    from fpsim.vectors.explain import trace_row

    trace = trace_row(shape, row, before)
    bins |= {f"result:{type_of(trace.code, spec.result)}"}
    bins |= {f"addend:{type_of(before, spec.initial)}"}
    for operand in "ab":
        fmt = getattr(spec, operand)
        bins |= {f"{operand}:{type_of(int(code), fmt)}" for code in set(row[operand].tolist())}
        if shape.group:
            scale = getattr(spec, f"{operand}_scale")
            codes = set(row[f"{operand}_scale"].tolist())
            bins |= {f"{operand}_scale:{type_of(int(code), scale)}" for code in codes}
    bins |= set(_rounding_bins(trace.nodes, spec))
    bins |= set(_window_bins(trace.nodes, spec))
    bins |= set(_range_bins(trace.nodes, spec, before))
    return bins


def _finals(nodes: list[Node], spec: MacSpec) -> Iterator[tuple[Number, FloatFormat]]:
    """Yield the exact value and the format of every rounding that makes a result."""
    stages = [s for s in stages_of(spec.accumulate) if hasattr(s, "format")]
    if not stages:
        return
    outer = stages[-1] if len(stages) > 1 else stages[0]
    names = ("sum",) if isinstance(outer, Aligned) else ("acc before rounding",)
    for node in nodes:
        if node.name in names and isinstance(node.value, Number):
            yield node.value, outer.format


def _rounding_bins(nodes: list[Node], spec: MacSpec) -> Iterator[str]:
    highest = max(
        (_log2(n.value.magnitude) for n in nodes
         if n.name.startswith("p[") and isinstance(n.value, Number) and n.value.magnitude),
        default=None,
    )  # fmt: skip
    for value, fmt in _finals(nodes, spec):
        if not value.magnitude:
            continue
        lsb, guard, sticky = _tail(value.magnitude, fmt)
        yield f"rounding:{'-' if value.negative else '+'}{lsb}{guard}{sticky}"
        exponent = _log2(value.magnitude)
        if highest is not None:
            drop = highest - exponent
            yield f"drop:{'none' if drop <= 0 else min(drop, fmt.mantissa_bits + 1)}"
        kept = value.magnitude / Fraction(2) ** (exponent - fmt.mantissa_bits)
        ones = int(kept) == (1 << (fmt.mantissa_bits + 1)) - 1
        if ones and guard:
            yield "rounding:full significand with guard"


def _tail(magnitude: Fraction, fmt: FloatFormat) -> tuple[int, int, int]:
    """Return the last kept bit, the bit below it and whether anything lies further below."""
    unit = Fraction(2) ** (max(_log2(magnitude), fmt.exponent_min) - fmt.mantissa_bits)
    kept = int(magnitude / unit)
    rest = (magnitude / unit - kept) * 2
    return kept & 1, int(rest), int(rest != int(rest))


def _log2(value: Fraction) -> int:
    estimate = value.numerator.bit_length() - value.denominator.bit_length()
    return estimate if Fraction(2) ** estimate <= value else estimate - 1


def _window_bins(nodes: list[Node], spec: MacSpec) -> Iterator[str]:
    """Yield how far terms lie below the window, and what was cut off them."""
    stages = [s for s in stages_of(spec.accumulate) if isinstance(s, Aligned)]
    if not stages:
        return
    bits = stages[0].fraction_bits
    window: int | None = None
    order = [n for n in nodes if n.name.startswith("p[")]
    start = 0
    for node in nodes:
        if node.name in ("E", "E0") and isinstance(node.value, int):
            window = node.value
            start = node.step * stages[0].products
        if window is None or not node.name.startswith("t[") or not isinstance(node.value, int):
            continue
        if node.name == "t[c]":
            continue
        index = start + int(node.name[2:-1])
        term = order[index] if index < len(order) else None
        if term is None or term.exponent is None or not isinstance(term.value, Number):
            continue
        magnitude = term.value.magnitude
        if not magnitude:
            continue
        distance = window - term.exponent
        lost = magnitude / Fraction(2) ** (window - bits) != abs(node.value)
        if distance == 0:
            yield "window:a product is the largest"
        for offset in (-1, 0, 1, 2):
            if distance == bits + offset:
                sign = "-" if term.value.negative else "+"
                yield f"window:F{offset:+d} {sign}"
        if lost:
            yield f"window:bits cut {'-' if term.value.negative else '+'}"
            if node.value == 0:
                yield "window:whole term cut"


def _range_bins(nodes: list[Node], spec: MacSpec, addend: int) -> Iterator[str]:
    """Yield crossings of the range of a fixed-point accumulator."""
    stage = next((s for s in stages_of(spec.accumulate) if isinstance(s, Fixed)), None)
    if stage is None:
        return
    before = addend - (1 << stage.width if addend >> (stage.width - 1) else 0)
    if stage is not spec.accumulate:
        return
    term = 0
    for node in nodes:
        if node.name == "t" and isinstance(node.value, int):
            term = node.value
        if node.name == "acc" and isinstance(node.value, int):
            if before + term != node.value:
                yield f"range:{stage.overflow} {'up' if term > 0 else 'down'}"
            before = node.value
