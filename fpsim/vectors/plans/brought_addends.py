# SPDX-License-Identifier: Apache-2.0
"""Products that bring a cleared accumulator to a chosen code, for designs that cannot load it.

What is missing is taken from the top: each product is the largest that does not exceed it, each
vector ends with what the unit makes of it, and the next one goes on from there. Only codes that the
unit ends at, bit for bit, are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.formats.floating import FixedFormat, FloatFormat
from fpsim.vectors.corners.chosen_products import powers_of_two
from fpsim.vectors.sets.palette import Palette
from fpsim.vectors.sets.record import Columns, Op, Record

__all__ = ["Brought"]

#: Products of a vector that bring an accumulator nearer to a code, and such vectors.
MOST_PRODUCTS, MOST_VECTORS = 16, 8
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Brought:
    """Vectors of products that bring an accumulator from +0 to each of some codes.

    Args:
        codes: the codes, ascending (n,).
        counts: vectors that sum up to each (n,).
        columns: operands, scales and random integers, (n, vectors, lanes).
    """

    codes: NDArray[Any]
    counts: NDArray[np.int64]
    columns: Columns

    @classmethod
    def to_addends(
        cls, record: Record, columns: Columns, allowed: Mapping[str, NDArray[np.int64]] | None
    ) -> Brought:
        """Return the ways to the addends of dot products and loads, those that there are.

        Args:
            record: the vectors' record.
            columns: the vectors, without results.
            allowed: codes that operands may have, as in `Palette`.

        Returns:
            The ways that were found, by code of the addend.
        """
        op, c = columns["op"], columns["c"]
        wanted = np.unique(c[((op == Op.DOT) | (op == Op.LOAD)) & (c != 0)])
        own = {name: x[(op == Op.DOT) & (c == 0)] for name, x in columns.items()}
        ways = [_met(record, own, wanted)]
        for lay in (_bit_by_bit, _from_a_list):
            left = np.setdiff1d(wanted, np.concatenate([way.codes for way in ways]))
            ways.append(_summed(record, left, Palette(record, allowed), lay))
        codes = np.concatenate([way.codes for way in ways])
        order = np.argsort(codes)
        return cls(
            codes[order],
            np.concatenate([way.counts for way in ways])[order],
            {n: np.concatenate([w.columns[n] for w in ways])[order] for n in ways[0].columns},
        )

    def lengths(self, codes: NDArray[Any]) -> NDArray[np.int64]:
        """Return the vectors that sum up to each of some codes; 0 where there is no way."""
        place, there = self._places(codes)
        out = np.zeros(codes.size, dtype=np.int64)
        out[there] = self.counts[place[there]]
        return out

    def taken(self, codes: NDArray[Any], turns: NDArray[np.int64]) -> Columns:
        """Return the fields of the vector number ``turns`` (n,) on the way to each code (n,)."""
        place, _ = self._places(codes)
        return {name: column[place, turns] for name, column in self.columns.items()}

    def _places(self, codes: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        place = np.searchsorted(self.codes, codes)
        there = place < self.codes.size
        there[there] = self.codes[place[there]] == codes[there]
        return place, there


def _fields(record: Record) -> list[str]:
    return [f.name for f in record.fields if f.name not in ("op", "c", "acc", "flags")]


def _met(record: Record, columns: Columns, wanted: NDArray[Any]) -> Brought:
    """Return the wanted codes that dot products onto +0 end at, as infinities, NaN and -0 are."""
    acc = record.dot(columns, columns["c"])
    codes, first = np.unique(acc, return_index=True)
    met = np.isin(codes, wanted)
    parts = {}
    for name in _fields(record):
        part = columns[name][first[met]]
        parts[name] = np.repeat(part[:, None], MOST_VECTORS, axis=1)
    return Brought(codes[met], np.ones(int(met.sum()), dtype=np.int64), parts)


def _summed(record: Record, codes: NDArray[Any], palette: Palette, lay: Any) -> Brought:
    """Return ways in which products are laid one by one, the largest first."""
    wanted = record.spec.initial.decode(codes)
    codes, wanted = codes[~np.isnan(wanted)], wanted[~np.isnan(wanted)]
    beyond = 2 * record.spec.initial.max_value  # of infinities
    wanted = wanted.clip(-beyond, beyond)
    acc = np.zeros(codes.size, dtype=record.spec.initial.dtype)
    counts = np.zeros(codes.size, dtype=np.int64)
    made: dict[str, list[NDArray[Any]]] = {name: [] for name in _fields(record)}
    for _ in range(MOST_VECTORS):
        reached = record.spec.initial.decode(acc)
        missing = np.where(np.isfinite(reached), wanted - np.nan_to_num(reached), 0.0)
        part, scale = _scales(record, palette, missing)
        part |= lay(record, palette, missing / scale)
        if record.roundings:
            part["random"] = np.zeros((codes.size, record.roundings), dtype=np.int64)
        part = {n: part[n].astype(record.format_of(n).dtype) for n in made}
        found = record.dot(part, acc)
        counts += acc != codes
        acc = np.where(acc == codes, acc, found)
        for name, columns in part.items():
            made[name].append(columns)
    there = acc == codes
    return Brought(
        codes[there], counts[there], {n: np.stack(x, axis=1)[there] for n, x in made.items()}
    )


def _scales(
    record: Record, palette: Palette, missing: Numbers
) -> tuple[dict[str, NDArray[Any]], Numbers]:
    """Return scale codes under which the lanes' sums reach what is missing, and their product."""
    if not record.group:
        return {}, np.ones(missing.size)
    values = np.abs(palette.products[2])
    reach = np.frexp(values.max())[1] + record.group.bit_length() - 3
    wanted = np.frexp(missing)[1] - reach
    part, scale = {}, np.ones(missing.size)
    for name in ("a_scale", "b_scale"):
        fmt: FloatFormat = getattr(record.spec, name)
        power = np.clip(wanted, fmt.exponent_min, fmt.exponent_max)
        wanted = wanted - power
        codes = fmt.encode(np.ldexp(1.0, power), "rtz", "saturate")
        part[name] = np.repeat(codes[:, None], record.lanes_of(name), axis=1)
        scale = scale * fmt.decode(codes)
    return part, scale


def _bit_by_bit(record: Record, palette: Palette, missing: Numbers) -> dict[str, NDArray[Any]]:
    """Lay products of ``a`` and powers of two: leading bits of what is missing, lane by lane."""
    spec = record.spec
    out = _zeros(record, palette, missing.size)
    if palette.allowed:
        return out
    low, high = powers_of_two(spec.b)
    bits = spec.a.bits - 2 if isinstance(spec.a, FixedFormat) else 0
    for lane in range(min(record.k, MOST_PRODUCTS)):
        power = np.clip(np.frexp(missing)[1] - 1 - bits, low, high)
        b = spec.b.encode(np.ldexp(1.0, power), "rtz", "saturate")
        a = spec.a.encode(missing / spec.b.decode(b), "rtz", "saturate")
        product = spec.a.decode(a) * spec.b.decode(b)
        some = product != 0
        out["a"][some, lane], out["b"][some, lane] = a[some], b[some]
        missing = missing - product
    return out


def _from_a_list(record: Record, palette: Palette, missing: Numbers) -> dict[str, NDArray[Any]]:
    """Lay products of the palette: the largest that does not exceed what is missing."""
    out = _zeros(record, palette, missing.size)
    a, b, values = palette.products
    for lane in range(min(record.k, MOST_PRODUCTS)):
        up = np.searchsorted(values, missing, "right") - 1
        down = np.searchsorted(values, missing, "left")
        place = np.where(missing > 0, up, down).clip(0, values.size - 1)
        product = values[place]
        some = (product != 0) & (np.abs(product) <= np.abs(missing)) & (product * missing > 0)
        out["a"][some, lane], out["b"][some, lane] = a[place][some], b[place][some]
        missing = missing - np.where(some, product, 0.0)
    return out


def _zeros(record: Record, palette: Palette, count: int) -> dict[str, NDArray[Any]]:
    return {op: np.full((count, record.k), palette.zero(op), dtype=np.int64) for op in "ab"}
