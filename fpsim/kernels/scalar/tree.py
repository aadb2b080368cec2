# SPDX-License-Identifier: Apache-2.0
"""The tree stage in scalar code: one rounding per node, of the exact sum of its children."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fpsim.kernels.cache import inner
from fpsim.kernels.codec.codec import encode_value
from fpsim.kernels.codec.layout import Layout, Limits
from fpsim.kernels.codec.rounding import ModeConstants
from fpsim.kernels.scalar.chain_and_fixed import add_to_odd, decode_code
from fpsim.kernels.scalar.limbs import LIMBS, sum_to_odd
from fpsim.kernels.threads import shared, within

__all__ = ["FUSED", "LEAF", "ROOT", "Shape", "TreeSettings", "tree_steps"]

ROOT, LEAF, FUSED = 0, 1, 2


class Shape(NamedTuple):
    """The integers among the settings of `fpsim.units.stages.Tree`."""

    products: int  #: terms per step
    fill: int  #: 1: a partial last step is filled with +0
    radix: int
    lanes: int
    addend: int  #: ROOT, LEAF or FUSED
    parts: int = 1  #: float64 numbers that make a term: the node above adds them exactly


class TreeSettings(NamedTuple):
    """All settings of a tree stage; a parallel loop takes its fields one by one, not nested."""

    shape: Shape
    mode: ModeConstants
    layout: Layout
    limits: Limits


@inner
def _rounded(value, s):
    """Return (value, code) of a number rounded to the node format; code -1 if it has none."""
    code = encode_value(value, s.layout, s.limits, s.mode, np.int64(0), 0)
    return (decode_code(code, s.layout) if code >= 0 else np.nan), code


@inner
def _node(children, count, extra, has_extra, limbs, s):
    """Return the rounded exact sum of ``count`` children and perhaps one more."""
    toward_negative = s.mode[3] == 1
    if count + has_extra == 1:
        return _rounded(children[0], s)
    if count + has_extra == 2:
        second = extra if has_extra else children[1]
        return _rounded(add_to_odd(children[0], second, toward_negative), s)
    ones = np.ones(count)
    start = extra if has_extra else children[0]
    first = 0 if has_extra else 1
    total = sum_to_odd(limbs, children[first:count], ones[first:], start, toward_negative)
    return _rounded(total, s)


@inner
def _into_lanes(terms, nodes, c, limbs, s):
    """Accumulate terms in turn into the lanes; return how many there are, -1 for a missing code."""
    nodes[: s.shape.lanes] = 0.0
    if s.shape.addend == LEAF:
        nodes[0] = c
    parts = s.shape.parts
    added = np.empty(parts + 1)
    for i in range(terms.size // parts):
        j = i % s.shape.lanes
        added[0] = nodes[j]
        added[1:] = terms[i * parts : (i + 1) * parts]
        nodes[j], code = _node(added, parts + 1, 0.0, False, limbs, s)
        if code < 0:
            return -1
    return s.shape.lanes


@inner
def _step(terms, c_code, nodes, limbs, s):
    """Return the code after one step, or -1."""
    c = decode_code(c_code, s.layout)
    parts = s.shape.parts
    if s.shape.lanes > 1:
        count = _into_lanes(terms, nodes, c, limbs, s)
        if count < 0:
            return np.int64(-1)
        parts = 1
    else:
        count = 0
        if s.shape.addend == LEAF:
            nodes[:parts] = c if c == 0.0 else 0.0  # a sum of zeros keeps their sign
            nodes[0] = c
            count = 1
        nodes[count * parts : count * parts + terms.size] = terms
        count += terms.size // parts
    code = np.int64(0)
    level = 0
    while level == 0 or count > 1:
        groups = (count + s.shape.radix - 1) // s.shape.radix
        fused = groups == 1 and s.shape.addend == FUSED
        for g in range(groups):
            first = g * s.shape.radix * parts
            size = min(s.shape.radix * parts, count * parts - first)
            nodes[g], code = _node(nodes[first : first + size], size, c, fused, limbs, s)
            if code < 0:
                return np.int64(-1)
        count = groups
        parts = 1
        level += 1
    if s.shape.addend == ROOT:
        _, code = _rounded(add_to_odd(c, nodes[0], s.mode[3] == 1), s)
    return code


@shared(1 << 12)
def tree_steps(terms, c, shape, mode, layout, limits, out, share):
    """Add rows of terms in trees, each node rounded once.

    Args:
        terms: float64 (R, T); a term may be ``shape.parts`` neighbours, T counts all of them.
        c: accumulator codes at the start (R,).
        shape: `Shape`.
        mode: `fpsim.kernels.codec.rounding.ModeConstants`.
        layout: `Layout` of the nodes.
        limits: `Limits` of the nodes.
        out: codes (R, S), filled with the accumulators after the last S steps.
        share: the thread's share, from `fpsim.kernels.threads.shared`.

    Returns:
        The first row with a result that has no code, or -1.
    """
    rows, length = terms.shape
    products = shape.products * shape.parts
    steps = (length + products - 1) // products
    keep = out.shape[1]
    bad = np.int64(rows)
    for r in within(rows, share):
        s = TreeSettings(shape, mode, layout, limits)
        nodes = np.empty(max(products + shape.parts, shape.lanes + 1))
        limbs = np.zeros(LIMBS, dtype=np.int64)
        filled = np.zeros(products)
        code = np.int64(c[r])
        for step in range(steps):
            first = step * products
            last = min(first + products, length)
            if last - first < products and shape.fill:
                filled[:] = 0.0
                filled[: last - first] = terms[r, first:last]
                code = _step(filled, code, nodes, limbs, s)
            else:
                code = _step(terms[r, first:last], code, nodes, limbs, s)
            if code < 0:
                bad = min(bad, r)
                code = np.int64(0)
            if step >= steps - keep:
                out[r, step - (steps - keep)] = code
    return -1 if bad == rows else bad
