# SPDX-License-Identifier: Apache-2.0
"""Errors in the use of random integers: other bits of them, other ones, another order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.units.stages import Block, Chunked, Stage
from fpsim.vectors.sets.record import Record

__all__ = ["first_group", "integer_edits", "masked", "next_group"]

Codes = NDArray[Any]


def integer_edits(record: Record) -> dict[str, Callable[[Codes], Codes]]:
    """Return changes of the random integers of a vector."""
    bits = record.spec.random_bits
    top = np.array((1 << bits) - 1, dtype=record.format_of("random").dtype)
    edits: dict[str, Callable[[Codes], Codes]] = {
        "random bits ignored": np.zeros_like,
        "random bits always ones": partial(np.full_like, fill_value=top),
        "random bits inverted": partial(np.bitwise_xor, top),
        "top random bit lost": partial(masked, top >> 1),
        "last random bit lost": partial(masked, top - 1),
    }
    if bits > 1:
        edits["random bits a place too low"] = lambda codes: codes >> 1
        edits["random bits a place too high"] = lambda codes: codes << 1 & top
        edits["random bits reversed"] = partial(_bits_reversed, bits)
    if record.roundings > 1:
        edits["random integers in reverse order"] = lambda codes: codes[:, ::-1]
        edits["first random integer for all"] = first_group
        edits["random integer of the next rounding"] = next_group
        edits |= _orders(record)
    return edits


def _orders(record: Record) -> dict[str, Callable[[Codes], Codes]]:
    """Return other ways to hand out the random integers among the stages of a vector."""
    stage, terms, quadrants = record.spec.accumulate, record.k, record.spec.quadrants
    edits: dict[str, Callable[[Codes], Codes]] = {}
    own = np.array(_own_bits(stage, terms, quadrants))
    if own.min() < record.spec.random_bits:
        drops = (record.spec.random_bits - own).astype(record.format_of("random").dtype)
        edits["high bits of wider random integers"] = lambda codes: codes >> drops
    if isinstance(stage, Block):
        stage, terms, quadrants = stage.into, record.spec.block_terms(terms), 1
    if not isinstance(stage, Chunked):
        return edits
    edges = [*range(0, terms, stage.chunk(terms)), terms]
    inside = [stage.inner.roundings(stop - start, quadrants) for start, stop in pairwise(edges)]
    first = sum(inside)
    outer = own.size - first
    if first and outer:
        edits["outer stage's random integers first"] = partial(np.roll, shift=-outer, axis=1)
    if first and outer == len(inside) > 1:  # one per chunk
        order = np.empty(own.size, dtype=np.intp)
        ends = np.cumsum(np.array(inside) + 1) - 1
        order[first:] = ends
        order[:first] = np.delete(np.arange(own.size), ends)
        edits["every chunk followed by its outer random integer"] = lambda codes: codes[:, order]
    return edits


def _own_bits(stage: Stage, terms: int, quadrants: int = 1) -> list[int]:
    """Return how many bits each random integer of a sum is used with."""
    if isinstance(stage, Block):
        return _own_bits(stage.into, -(-terms // stage.size) * quadrants)
    if isinstance(stage, Chunked):
        edges = [*range(0, terms, stage.chunk(terms)), terms]
        inside = [_own_bits(stage.inner, y - x, quadrants) for x, y in pairwise(edges)]
        return [*chain.from_iterable(inside), *_own_bits(stage.outer, len(inside))]
    return [getattr(stage, "random_bits", 0)] * stage.roundings(terms)


def _bits_reversed(bits: int, codes: Codes) -> Codes:
    out = np.zeros_like(codes)
    for bit in range(bits):
        out |= ((codes >> bit) & 1) << (bits - 1 - bit)
    return out


def masked(mask: Codes, codes: Codes) -> Codes:
    """Return codes without the bits that a mask lacks."""
    return codes & mask


def next_group(codes: Codes) -> Codes:
    """Return the codes (n, lanes) of the lanes beside."""
    return np.roll(codes, 1, axis=1)


def first_group(codes: Codes) -> Codes:
    """Return the codes (n, lanes) of the first lane in all."""
    return np.repeat(codes[:, :1], codes.shape[1], axis=1)
