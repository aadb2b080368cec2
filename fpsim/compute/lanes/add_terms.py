# SPDX-License-Identifier: Apache-2.0
"""Adds terms that come as planes (T, M, N): results of chunks, of lanes, of subtrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.compute.lanes.pack import powers
from fpsim.compute.lanes.run import run_planes
from fpsim.compute.plan.bounds import TermBounds
from fpsim.compute.plan.choose import (
    NO_ADDEND,
    plan_planes,
    plan_subtree,
    subtree_leaves,
    with_addend,
    with_seed,
)
from fpsim.compute.scalar.dot_products import add_terms
from fpsim.compute.values import exponents_of, result_values
from fpsim.formats.floating import Format
from fpsim.formats.random_bits import Random, RandomBits, part_of
from fpsim.units.stages import Chunked, Joins, ProductRounding, Stage, Tree, random_bits_of

__all__ = ["add_planes", "tree_of"]

Array = NDArray[Any]


def add_planes(
    stage: Stage, terms: Array, fmt: Format, c: Array | None, random: Random = None
) -> Array:
    """Return codes (M, N) of a stage that adds terms (T, M, N), which are values of ``fmt``.

    Its random integers are (M, N, roundings), if it takes any.
    """
    if isinstance(stage, Chunked):
        return _add_chunks(stage, terms, fmt, c, random)
    plan = plan_planes(stage, TermBounds.of_format(fmt), terms.shape[0], c)
    if plan.kernel == "subtrees":
        assert isinstance(stage, Tree)
        return _add_in_trees(stage, terms, fmt, c)
    if isinstance(random, RandomBits) and (plan.step is None or random.begun):
        random = _integers(random, terms.shape[1:], stage.roundings(len(terms)), stage)
    if plan.step is not None:
        if plan.step.random and isinstance(random, RandomBits):
            plan = with_seed(plan, stage, random.width)
        term_powers = powers(exponents_of(terms, fmt)) if plan.aligns else None
        return run_planes(stage, plan, terms, term_powers, c, random)
    rows = np.ascontiguousarray(terms.reshape(terms.shape[0], -1).T, dtype=np.float64)
    start = np.zeros(rows.shape[0], stage.initial.dtype) if c is None else c.reshape(-1)
    integers = random.reshape(len(rows), -1) if isinstance(random, np.ndarray) else None
    codes = add_terms(stage, rows, exponents_of(rows, fmt), start, integers)
    return codes.reshape(terms.shape[1:])


def _integers(random: RandomBits, shape: tuple[int, ...], count: int, stage: Stage) -> Array:
    """Return a seed's integers (M, N, ``count``) for a stage."""
    found = random.integers(int(np.prod(shape)), count, random_bits_of(stage))
    return found.reshape(*shape, count)


def _add_chunks(
    stage: Chunked, terms: Array, fmt: Format, c: Array | None, random: Random
) -> Array:
    """Return the same of a stage that adds chunks of the terms first."""
    size, taken, found, bits = stage.chunk(len(terms)), 0, [], random_bits_of(stage.inner)
    for start in range(0, len(terms), size):
        part = terms[start : start + size]
        count = stage.inner.roundings(len(part))
        codes = add_planes(stage.inner, part, fmt, None, part_of(random, taken, count, bits))
        found.append(result_values(codes, stage.inner.result))
        taken += count
    left = part_of(random, taken, stage.outer.roundings(len(found)), random_bits_of(stage.outer))
    return add_planes(stage.outer, np.stack(found), stage.inner.result, c, left)


def tree_of(stage: Tree, terms: Array, c: Array | None, bounds: TermBounds | None = None) -> Array:
    """Return the codes (M, N) of a tree of leaves (T, M, N): results of subtrees, or of ``bounds``.

    An addend that is the first leaf is among them.
    """
    leaves, tree = subtree_leaves(stage), replace(stage, product=ProductRounding.FUSED)
    own = TermBounds.of_format(stage.format)
    stage, known = (tree, own) if bounds is None else (stage, bounds)

    def node(planes: Array, joins: str, c: Array | None) -> Array:
        whole = replace(stage, products=None)
        plan = plan_subtree(whole, known, len(planes), joins)
        assert plan.step is not None
        return run_planes(whole, plan, planes, None, c)

    while len(terms) > leaves:
        parts = [terms[i : i + leaves] for i in range(0, len(terms), leaves)]
        terms = stage.format.decode(np.stack([node(part, NO_ADDEND, None) for part in parts]))
        stage, known = tree, own
    joins = NO_ADDEND if stage.addend is Joins.LEAF else str(stage.addend)
    return node(terms, joins, c)


def _add_in_trees(stage: Tree, terms: Array, fmt: Format, c: Array | None) -> Array:
    """Return codes (M, N) of trees of more leaves (T, M, N) than are unrolled, step by step."""
    size = stage.products or len(terms)
    bounds = with_addend(stage, TermBounds.of_format(fmt))
    for start in range(0, len(terms), size):
        leaves = terms[start : start + size]
        fill = [np.zeros((size - len(leaves), *leaves.shape[1:]), leaves.dtype)]
        first = []
        if stage.addend is Joins.LEAF:
            zero = np.zeros(leaves.shape[1:])
            first, c = [(zero if c is None else stage.format.decode(c))[None]], None
        c = tree_of(stage, np.concatenate([*first, leaves, *fill]), c, bounds)
    assert c is not None
    return c
