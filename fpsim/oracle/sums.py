# SPDX-License-Identifier: Apache-2.0
"""The stages, term by term: each function returns the accumulator code after every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.formats.floating import FloatFormat
from fpsim.formats.rounding import Flag, Overflow, Rounding
from fpsim.oracle import numbers
from fpsim.oracle.aligned import aligned
from fpsim.oracle.numbers import Number
from fpsim.oracle.terms import Element, Term, block_terms, exponent_of, product_terms
from fpsim.oracle.trace import Trace
from fpsim.units.spec import MacSpec
from fpsim.units.stages import (
    Aligned,
    Block,
    Chain,
    Chunked,
    Exact,
    Fixed,
    Joins,
    OverflowAt,
    ProductRounding,
    Stage,
    Tree,
)

__all__ = ["run"]

ZERO = Number(False, Fraction(0))
#: Prefix of the names of chunks that an outer stage makes of chunk results.
OUTER = "outer."


def run(
    spec: MacSpec,
    stage: Stage,
    elements: Sequence[Element],
    c: int,
    random: Iterator[int],
    trace: Trace,
) -> list[int]:
    """Compute one dot product.

    Args:
        spec: the unit.
        stage: the unit's stage, or a stage inside it.
        elements: pairs of operand codes with their scales, in order.
        c: the initial accumulator code.
        random: the random integers of the roundings that follow.
        trace: receives every internal node.

    Returns:
        The accumulator codes, one per step of the stage.
    """
    if isinstance(stage, Block):
        terms = block_terms(spec, stage, elements, trace)
        return _add_up(stage.into, terms, c, random, trace)
    if isinstance(stage, Chunked):

        def add(start: int, stop: int) -> int:
            return run(spec, stage.inner, elements[start:stop], 0, random, trace)[-1]

        terms = _chunks(stage, len(elements), trace, "", add)
        return _add_up(stage.outer, terms, c, random, trace, OUTER)
    return _add_up(stage, product_terms(spec, elements, trace), c, random, trace)


def _chunks(
    stage: Chunked, count: int, trace: Trace, where: str, add: Callable[[int, int], int]
) -> list[Term]:
    """Return the results of chunks of ``count`` terms; ``add`` gives the result code of one chunk.

    Names of nodes inside chunk i begin with ``chunk{i}.``, after ``where`` and the outer chunks'
    names.
    """
    terms, around, size = [], trace.prefix, stage.chunk(count)
    for index, start in enumerate(range(0, count, size)):
        trace.prefix = f"{around}{where}chunk{index}."
        value = numbers.decode(add(start, min(start + size, count)), stage.inner.result)
        terms.append(Term(value, exponent_of(value, stage.inner.result)))
    trace.prefix = around
    return terms


def _add_up(
    stage: Stage, terms: list[Term], c: int, random: Iterator[int], trace: Trace, where: str = ""
) -> list[int]:
    if isinstance(stage, Chunked):

        def add(start: int, stop: int) -> int:
            return _add_up(stage.inner, terms[start:stop], 0, random, trace)[-1]

        terms = _chunks(stage, len(terms), trace, where, add)
        return _add_up(stage.outer, terms, c, random, trace, where + OUTER)
    if isinstance(stage, Aligned):
        return aligned(stage, terms, c, trace)
    values = [term.value for term in terms]
    if isinstance(stage, Tree):
        return _tree(stage, values, c, trace)
    if isinstance(stage, Fixed):
        return _fixed(stage, values, c, random, trace)
    if isinstance(stage, Exact):
        return _exact(stage, values, c, random, trace)
    assert isinstance(stage, Chain)
    return _chain(stage, values, c, random, trace)


def _next(random: Iterator[int], bits: int) -> int:
    """Return the low bits of the next random integer; 0, taking none, if ``bits`` is 0."""
    return next(random) % (1 << bits) if bits else 0


def _plus(trace: Trace, rounding: Rounding, *numbers_: Number) -> Number:
    """Return an exact sum; infinities of both signs are an invalid operation."""
    total = numbers_[0]
    for number in numbers_[1:]:
        arises = not (total.is_nan or number.is_nan)
        total = numbers.add(total, number, rounding)
        trace.flag(Flag.INVALID, arises and total.is_nan)
    return total


def _rounded(
    stage: Any, exact: Number, name: str, trace: Trace, random: int = 0, random_bits: int = 0
) -> int:
    """Return the code of a number rounded by a float stage, and trace both."""
    fmt: FloatFormat = stage.format
    settings = (fmt, stage.rounding, stage.overflow, random, random_bits)
    code = numbers.encode(exact, *settings, round_up=trace.round_up)
    if trace.silent:  # computing flags takes longer than rounding
        return code
    trace.add(f"{name} before rounding", exact)
    flags = numbers.flags(exact, *settings, round_up=trace.round_up)
    trace.add(name, numbers.decode(code, fmt), None, code, fmt, flags)
    return code


def _chain(
    stage: Chain, values: list[Number], c: int, random: Iterator[int], trace: Trace
) -> list[int]:
    codes = []
    acc = numbers.decode(c, stage.format)
    for trace.step, value in enumerate(values):
        if stage.product is ProductRounding.ROUNDED:
            value = numbers.decode(_rounded(stage, value, "product", trace), stage.format)
        total = _plus(trace, stage.rounding, acc, value)
        bits = _next(random, stage.random_bits)
        codes.append(_rounded(stage, total, "acc", trace, bits, stage.random_bits))
        acc = numbers.decode(codes[-1], stage.format)
    return codes


def _exact(
    stage: Exact, values: list[Number], c: int, random: Iterator[int], trace: Trace
) -> list[int]:
    total = _plus(trace, stage.rounding, numbers.decode(c, stage.format), *values)
    bits = _next(random, stage.random_bits)
    return [_rounded(stage, total, "acc", trace, bits, stage.random_bits)]


def _fixed(
    stage: Fixed, values: list[Number], c: int, random: Iterator[int], trace: Trace
) -> list[int]:
    fmt = stage.initial
    acc = numbers.fit(c, fmt, Overflow.WRAP)
    sums = []
    for trace.step, value in enumerate(values):
        if value.magnitude is None:
            raise FpsimError(
                f"product: {'inf' if value.infinite else 'nan'} has no code in {fmt.name}"
            )
        bits = _next(random, stage.random_bits)
        settings = (stage.rounding, bits, stage.random_bits, trace.round_up)
        integer = numbers.to_grid(value, fmt.lsb, *settings)
        cut = not trace.silent and integer * numbers.two_to(fmt.lsb) != value.value
        trace.add("t", integer, flags=Flag.INEXACT if cut else Flag(0), lsb=fmt.lsb)
        acc += integer
        if stage.overflow_at is OverflowAt.ADD:
            acc = _fitted(stage, acc, trace)
        sums.append(numbers.fit(acc, fmt, stage.overflow))
        trace.add("acc", sums[-1], None, sums[-1] % (1 << fmt.width), fmt, lsb=fmt.lsb)
    if stage.overflow_at is OverflowAt.END:
        _fitted(stage, acc, trace)
    if stage.sums_first:
        sums = sums[-1:]
    if stage.convert is None:
        return [total % (1 << fmt.width) for total in sums]
    exact = Number(sums[-1] < 0, abs(sums[-1]) * numbers.two_to(fmt.lsb))
    overflow = stage.convert.default_overflow
    conversion = (exact, stage.convert, stage.convert_rounding, overflow)
    code = numbers.encode(*conversion, round_up=trace.round_up)
    if not trace.silent:
        flags = numbers.flags(*conversion, round_up=trace.round_up)
        trace.add("d", numbers.decode(code, stage.convert), None, code, stage.convert, flags)
    return [code]


def _fitted(stage: Fixed, integer: int, trace: Trace) -> int:
    """Return an integer wrapped or saturated to the accumulator, and flag a change."""
    fits = numbers.fit(integer, stage.initial, stage.overflow)
    trace.flag(Flag.OVERFLOW | Flag.INEXACT, fits != integer)
    return fits


def _tree(stage: Tree, values: list[Number], c: int, trace: Trace) -> list[int]:
    size = len(values) if stage.products is None else stage.products
    waiting = iter(values)
    codes = []
    for trace.step, _ in enumerate(range(0, len(values), size)):
        leaves = list(islice(waiting, size))
        leaves += [ZERO] * (size - len(leaves))
        c = _tree_step(stage, leaves, numbers.decode(c, stage.format), trace)
        codes.append(c)
    return codes


def _tree_step(stage: Tree, leaves: list[Number], c: Number, trace: Trace) -> int:
    if stage.product is ProductRounding.ROUNDED:
        leaves = [_node(stage, [leaf], f"product[{i}]", trace) for i, leaf in enumerate(leaves)]
    if stage.lanes > 1:
        nodes = _lanes(stage, leaves, c, trace)
    else:
        nodes = [c, *leaves] if stage.addend is Joins.LEAF else leaves
    level = 0
    while level == 0 or len(nodes) > 1:
        groups = [nodes[i : i + stage.radix] for i in range(0, len(nodes), stage.radix)]
        if len(groups) == 1 and stage.addend is Joins.FUSED:
            groups[0].append(c)
        level += 1
        nodes = [_node(stage, g, f"n{level}[{i}]", trace) for i, g in enumerate(groups)]
    if stage.addend is Joins.ROOT:
        return _rounded(stage, _plus(trace, stage.rounding, c, nodes[0]), "acc", trace)
    return _rounded(stage, nodes[0], "acc", trace)


def _lanes(stage: Tree, leaves: list[Number], c: Number, trace: Trace) -> list[Number]:
    lanes = [ZERO] * stage.lanes
    if stage.addend is Joins.LEAF:
        lanes[0] = c
    for i, leaf in enumerate(leaves):
        j = i % stage.lanes
        lanes[j] = _node(stage, [lanes[j], leaf], f"lane[{j}]", trace)
    return lanes


def _node(stage: Tree, children: list[Number], name: str, trace: Trace) -> Number:
    total = _plus(trace, stage.rounding, *children)
    return numbers.decode(_rounded(stage, total, name, trace), stage.format)
