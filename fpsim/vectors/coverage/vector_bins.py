# SPDX-License-Identifier: Apache-2.0
"""Coverage bins that one vector hits, read off the exact model's trace.

The bins are types of every code, IBM's models on the accumulator
(`fpsim.vectors.coverage.ibm_models`), distances of terms below an alignment window, and crossings
of a fixed-point range; `fpsim.vectors.coverage.set_coverage` says which bins a unit can have.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from fpsim.oracle import Node
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Aligned, Fixed, stages_of
from fpsim.vectors.coverage.ibm_models import model_bins, type_of
from fpsim.vectors.coverage.random_rounding import random_bins
from fpsim.vectors.coverage.traced_sums import TracedSum, sums_of
from fpsim.vectors.sets.record import Columns, Op, Record

__all__ = ["bins_of"]


def bins_of(record: Record, row: Columns, before: int) -> set[str]:
    """Return the bins that one vector hits.

    Args:
        record: the unit and its fields.
        row: codes of the vector by field: one code of ``op``, (lanes,) of operands and scales.
        before: code of the addend: the accumulator before the vector, or the vector's ``c``.

    Returns:
        Names of bins, such as ``a:+max``; without a dot product only the bin of the operation.
    """
    spec = record.spec
    op = Op(int(row["op"]))
    bins = {f"op:{op.name.lower()}"}
    if op not in (Op.DOT, Op.MAC):
        return bins
    trace = record.trace(row, before)
    bins |= {f"result:{type_of(trace.code, spec.result)}"}
    bins |= {f"addend:{type_of(before, spec.initial)}"}
    for operand in "ab":
        fmt = getattr(spec, operand)
        bins |= {f"{operand}:{type_of(int(code), fmt)}" for code in set(row[operand].tolist())}
        if record.group:
            scale = getattr(spec, f"{operand}_scale")
            codes = set(row[f"{operand}_scale"].tolist())
            bins |= {f"{operand}_scale:{type_of(int(code), scale)}" for code in codes}
    bins |= set(model_bins(spec, trace.nodes, before))
    bins |= set(_window_bins(trace.nodes, spec))
    bins |= set(_range_bins(trace.nodes, spec, before))
    bins |= set(random_bins(record, row, trace.nodes))
    return bins


def _window_bins(nodes: list[Node], spec: MacSpec) -> Iterator[str]:
    """Yield the bins of terms' distances below windows, and of cut bits."""
    for found in sums_of(spec, nodes):
        if found.first and isinstance(found.stage, Aligned):
            yield from _sum_bins(found)


def _sum_bins(found: TracedSum) -> Iterator[str]:
    """Yield the bins of one sum's windows, one after another."""
    bits = found.stage.fraction_bits
    window: int | None = None
    start = 0
    for node in found.nodes:
        if node.name in ("E", "E0") and isinstance(node.value, int):
            window = node.value
            start = node.step * found.stage.products
        if window is None or not node.name.startswith("t[") or not isinstance(node.value, int):
            continue
        if node.name == "t[c]":
            continue
        index = start + int(node.name[2:-1])
        term = found.terms[index] if index < len(found.terms) else None
        if term is None or term.exponent is None:
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
