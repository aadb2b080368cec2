# SPDX-License-Identifier: Apache-2.0
"""The additions into an accumulator, read off the exact model's trace.

An `Addition` is one step of a unit's last stage: the accumulator, the term added to it (a product,
a scaled block, a chunk's result, all products of a step), and the sum before rounding. Terms are
exact, or codes if rounded before.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from fpsim import oracle
from fpsim.formats.floating import FloatFormat
from fpsim.formats.rounding import Rounding
from fpsim.oracle import Node, Number
from fpsim.oracle.numbers import NAN, add
from fpsim.units.spec import MacSpec
from fpsim.units.stages import (
    Addend,
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Joins,
    ProductRounding,
    Tree,
)
from fpsim.vectors.coverage.traced_sums import last_stage, sums_of

__all__ = ["BEFORE", "Addition", "additions", "log2", "roundings", "terms_are_codes"]

ZERO = Number(False, Fraction(0))
BEFORE = " before rounding"


class Addition(NamedTuple):
    """One addition: ``total`` is ``addend + term`` before rounding; None is a special value."""

    addend: Number
    term: Number
    total: Number | None


def log2(value: Fraction) -> int:
    """Return floor(log2(value)) of a positive number."""
    estimate = value.numerator.bit_length() - value.denominator.bit_length()
    return estimate if Fraction(2) ** estimate <= value else estimate - 1


def terms_are_codes(spec: MacSpec) -> bool:
    """Whether the last stage adds terms that have been rounded to a format."""
    stage, last = spec.accumulate, last_stage(spec.accumulate)
    block = stage if isinstance(stage, Block) else None
    if isinstance(last, Tree):
        return last.addend is Joins.ROOT or last.product is ProductRounding.ROUNDED
    if isinstance(last, Aligned):
        return last.addend is Addend.LATE
    if isinstance(stage if block is None else block.into, Chunked):
        return True
    if block is not None and block.convert is not None:
        return True
    return isinstance(last, Chain) and last.product is ProductRounding.ROUNDED


def roundings(spec: MacSpec, nodes: list[Node]) -> Iterator[tuple[Number, FloatFormat]]:
    """Yield the exact value and the format of every rounding in the last stage."""
    last = last_stage(spec.accumulate)
    fmt = getattr(last, "format", None)
    if not isinstance(fmt, FloatFormat):
        return
    for node in nodes:
        wanted = node.name == "sum" if isinstance(last, Aligned) else node.name.endswith(BEFORE)
        if wanted and "." not in node.name and isinstance(node.value, Number):
            yield node.value, fmt


def additions(spec: MacSpec, nodes: list[Node], before: int) -> Iterator[Addition]:
    """Yield the additions of one dot product into its accumulator, in their order.

    Args:
        spec: the unit.
        nodes: nodes of the dot product's trace.
        before: code of the accumulator before the dot product, in the format ``spec.initial``.

    Yields:
        The additions, each with addend, term and exact sum.
    """
    *_, (last, added, own, _) = sums_of(spec, nodes)
    start = oracle.decode(before, spec.initial)
    terms = [term.value for term in added]
    if isinstance(last, Fixed):
        yield from _into_fixed(last, terms, own, start)
    elif isinstance(last, Exact):
        yield Addition(start, _sum(terms), _first(own, f"acc{BEFORE}"))
    elif isinstance(last, Chain):
        if last.product is ProductRounding.ROUNDED:
            terms = [_number(n) for n in own if n.name == "product"]
        yield from _into_chain(terms, own, start)
    else:
        assert isinstance(last, Aligned | Tree)
        yield from _steps(last, terms, own, start)


def _number(node: Node) -> Number:
    assert isinstance(node.value, Number)
    return node.value


def _first(nodes: list[Node], name: str) -> Number | None:
    return next((_number(n) for n in nodes if n.name == name), None)


def _sum(terms: list[Number]) -> Number:
    total = ZERO
    for term in terms:
        total = add(total, term, Rounding.RNE)
    return total


def _into_fixed(
    stage: Fixed, terms: list[Number], nodes: list[Node], acc: Number
) -> Iterator[Addition]:
    unit = Fraction(2) ** stage.lsb
    results = [n.value for n in nodes if n.name == "acc"]
    for term, result in zip(terms, results, strict=False):
        yield Addition(acc, term, None)
        assert isinstance(result, int)
        acc = Number(result < 0, abs(result) * unit)


def _into_chain(terms: list[Number], nodes: list[Node], acc: Number) -> Iterator[Addition]:
    totals = [_number(n) for n in nodes if n.name == f"acc{BEFORE}"]
    results = [_number(n) for n in nodes if n.name == "acc"]
    for term, total, result in zip(terms, totals, results, strict=True):
        yield Addition(acc, term, total)
        acc = result


def _steps(
    stage: Aligned | Tree, terms: list[Number], nodes: list[Node], acc: Number
) -> Iterator[Addition]:
    """Yield an addition per step of N terms."""
    size = stage.products or max(len(terms), 1)
    steps = max((n.step for n in nodes), default=0) + 1
    for step in range(steps):
        part = [n for n in nodes if n.step == step]
        added = terms[step * size : (step + 1) * size]
        if isinstance(stage, Aligned):
            yield _into_window(stage, added, part, acc)
        else:
            yield _into_tree(stage, part, acc)
        acc = next((_number(n) for n in reversed(part) if n.name == "acc"), NAN)


def _into_window(stage: Aligned, terms: list[Number], nodes: list[Node], acc: Number) -> Addition:
    if stage.addend is not Addend.LATE:
        return Addition(acc, _sum(terms), _first(nodes, "sum"))
    total, rounded = _first(nodes, "sum with c"), _first(nodes, "rounded")
    if total is None or rounded is None:  # a special value: no bins of numbers
        return Addition(acc, _sum(terms), None)
    return Addition(acc, rounded, total)


def _into_tree(stage: Tree, nodes: list[Node], acc: Number) -> Addition:
    joined = [n for n in nodes if n.name.startswith("n") and n.name.endswith(f"[0]{BEFORE}")]
    if stage.addend is Joins.ROOT:
        root = joined[-1].name.removesuffix(BEFORE)
        term = next(_number(n) for n in reversed(nodes) if n.name == root)
        return Addition(acc, term, _first(nodes, f"acc{BEFORE}"))
    if stage.addend is Joins.FUSED:
        total = _number(joined[-1])
    else:
        name = f"lane[0]{BEFORE}" if stage.lanes > 1 else joined[0].name
        total = next(_number(n) for n in nodes if n.name == name)
    minus = acc._replace(negative=not acc.negative)
    return Addition(acc, add(total, minus, Rounding.RNE), total)
