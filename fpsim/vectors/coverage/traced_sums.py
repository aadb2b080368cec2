# SPDX-License-Identifier: Apache-2.0
"""The sums in the trace of a dot product, inside chunks and over chunk results, in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from fpsim import oracle
from fpsim.oracle import Node, Number
from fpsim.oracle.sums import OUTER
from fpsim.oracle.terms import Term, exponent_of
from fpsim.units.spec import MacSpec
from fpsim.units.stages import Block, Chunked, Stage

__all__ = ["TracedSum", "last_stage", "sums_of"]

ZERO = Number(False, Fraction(0))
#: Nodes whose names have lost the chunk's prefix, by that prefix.
Nodes = dict[str, list[Node]]


class TracedSum(NamedTuple):
    """One stage of a trace that adds terms: the terms, nodes of the sum and of its terms."""

    stage: Any
    terms: list[Term]
    nodes: list[Node]
    first: bool  #: whether the terms are products or scaled block sums, not chunk results


def last_stage(stage: Any) -> Any:
    """Return the stage that makes the result: the outer one of chunks, or that of block sums."""
    while isinstance(stage, Chunked | Block):
        stage = stage.outer if isinstance(stage, Chunked) else stage.into
    return stage


def sums_of(spec: MacSpec, nodes: list[Node]) -> Iterator[TracedSum]:
    """Yield the sums of a traced dot product; the last one makes the result."""
    inside: Nodes = defaultdict(list)
    for node in nodes:
        where, dot, name = node.name.rpartition(".")
        inside[where + dot].append(node._replace(name=name))
    return _of_elements(spec.accumulate, dict(inside), "")


def _of_elements(stage: Stage, inside: Nodes, where: str) -> Iterator[TracedSum]:
    """Yield the sums of a stage that takes products."""
    if not isinstance(stage, Chunked):
        terms = _terms(inside.get(where, []), isinstance(stage, Block))
        into = stage.into if isinstance(stage, Block) else stage
        yield from _of_terms(into, terms, inside, where, "", True)
        return
    results: list[Term] = []
    while (chunk := f"{where}chunk{len(results)}.") in inside:
        yield from _of_elements(stage.inner, inside, chunk)
        results.append(_result(stage, inside[chunk]))
    yield from _of_terms(stage.outer, results, inside, where, OUTER, False)


def _of_terms(
    stage: Stage, terms: list[Term], inside: Nodes, where: str, outer: str, first: bool
) -> Iterator[TracedSum]:
    """Yield the sums of a stage that takes terms."""
    if not isinstance(stage, Chunked):
        yield TracedSum(stage, terms, inside.get(where, []), first)
        return
    results: list[Term] = []
    size = stage.chunk(len(terms))
    for index, start in enumerate(range(0, len(terms), size)):
        chunk = f"{where}{outer}chunk{index}."
        yield from _of_terms(stage.inner, terms[start : start + size], inside, chunk, "", first)
        results.append(_result(stage, inside[chunk]))
    yield from _of_terms(stage.outer, results, inside, where, outer + OUTER, False)


def _result(stage: Chunked, nodes: list[Node]) -> Term:
    """Return the result of a chunk as a term: the last code of its nodes."""
    fmt = stage.inner.result
    code = next(node.code for node in reversed(nodes) if node.code is not None)
    value = oracle.decode(code, fmt)
    return Term(value, exponent_of(value, fmt))


def _terms(nodes: list[Node], blocks: bool) -> list[Term]:
    """Return the products, or the scaled block sums, among nodes."""
    terms: list[Term] = []
    for node in nodes:
        if not isinstance(node.value, Number):
            continue
        if blocks and node.name.startswith("s["):
            terms.append(Term(ZERO, None))  # a block dropped by its NaN scale
        elif blocks and node.name.startswith(("p[", "r[")):
            terms[-1] = Term(node.value, node.exponent)
        elif node.name.startswith("p["):
            terms.append(Term(node.value, node.exponent))
    return terms
