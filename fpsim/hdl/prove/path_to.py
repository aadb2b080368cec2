# SPDX-License-Identifier: Apache-2.0
"""Products that lead a unit's accumulator from zero to a code, if a short search finds some."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat
from fpsim.vectors.sets.record import Columns, Op, Record

__all__ = ["path_to"]

#: Accumulators that are searched code by code, and vectors that a path has at most.
SEARCHED_BITS, LONGEST = 16, 1 << 18
#: Codes of an operand that are tried.
MOST_CODES = 64


def path_to(record: Record, code: int) -> Columns | None:
    """Return vectors that add onto zero until the accumulator holds a code; None if none is found.

    Only the first element of a vector is not zero. The search goes breadth first through the codes
    of narrow accumulators; wide fixed-point ones take the largest product many times.
    """
    a, b = _operands(record)
    fmt = record.spec.result
    if isinstance(fmt, FixedFormat):
        steps = _counted(record, code, a, b)
        if steps is not None:
            return _vectors(record, *steps)
    if fmt.bits > SEARCHED_BITS:
        return None
    chosen = _searched(record, code, a, b)
    return None if chosen is None else _vectors(record, a[chosen], b[chosen])


def _operands(record: Record) -> tuple[NDArray[Any], NDArray[Any]]:
    codes = [
        np.unique(np.linspace(0, (1 << fmt.bits) - 1, min(MOST_CODES, 1 << fmt.bits)).astype(int))
        for fmt in (record.spec.a, record.spec.b)
    ]
    pairs = np.meshgrid(*codes, indexing="ij")
    return pairs[0].ravel(), pairs[1].ravel()


def _vectors(record: Record, a: NDArray[Any], b: NDArray[Any]) -> dict[str, Any]:
    """Return ``mac`` vectors whose first elements are these codes, scales one."""
    found: dict[str, Any] = {"op": np.full(a.size, Op.MAC, dtype=np.uint8)}
    for f in record.fields:
        if f.name in ("op", "acc"):
            continue
        single = record.is_single(f.name)
        column = np.zeros((a.size,) if single else (a.size, f.lanes), record.dtype_of(f.name))
        if f.name.endswith("_scale"):
            column[:] = record.format_of(f.name).encode(np.ones(1), "rne", "saturate")
        found[f.name] = column
    found["a"][:, 0], found["b"][:, 0] = a, b
    return found


def _after(
    record: Record, before: NDArray[Any], a: NDArray[Any], b: NDArray[Any]
) -> NDArray[np.int64]:
    vectors = _vectors(record, a, b)
    return record.dot(vectors, before.astype(record.spec.initial.dtype)).astype(np.int64)


def _signed(codes: NDArray[Any], bits: int) -> NDArray[np.int64]:
    out = codes.astype(np.uint64).astype(np.int64)
    return out if bits == 64 else np.where(out >> (bits - 1) & 1, out - (1 << bits), out)


def _counted(
    record: Record, code: int, a: NDArray[Any], b: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return operands whose products, in whole units, add up to a fixed-point code."""
    bits = record.spec.result.bits
    steps = _signed(_after(record, np.zeros(a.size), a, b), bits)
    left = int(_signed(np.array([code], dtype=np.uint64), bits)[0])
    picked: list[NDArray[np.int64]] = []
    total = 0
    while left:
        fits = np.flatnonzero((np.sign(steps) == np.sign(left)) & (np.abs(steps) <= abs(left)))
        if not fits.size:
            return None
        best = int(fits[np.argmax(np.abs(steps[fits]))])
        count = abs(left) // abs(int(steps[best]))
        total += count
        if total > LONGEST:
            return None
        picked.append(np.full(count, best))
        left -= count * int(steps[best])
    rows = np.concatenate(picked) if picked else np.zeros(0, dtype=np.int64)
    return a[rows], b[rows]


def _searched(record: Record, code: int, a: NDArray[Any], b: NDArray[Any]) -> list[int] | None:
    """Return the pairs of operands on a shortest path from zero to a code."""
    count = 1 << record.spec.result.bits
    came = np.full(count, -1, dtype=np.int64)
    by = np.full(count, -1, dtype=np.int64)
    came[0] = 0
    edge = np.zeros(1, dtype=np.int64)
    while edge.size and came[code] < 0:
        reached = _after(
            record, np.repeat(edge, a.size), np.tile(a, edge.size), np.tile(b, edge.size)
        )
        new, first = np.unique(reached, return_index=True)
        fresh = came[new] < 0
        new, first = new[fresh], first[fresh]
        came[new], by[new] = edge[first // a.size], first % a.size
        edge = new
    if came[code] < 0:
        return None
    path = []
    while code:
        path.append(int(by[code]))
        code = int(came[code])
    return path[::-1]
