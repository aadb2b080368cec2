# SPDX-License-Identifier: Apache-2.0
"""Which mutants a set of vectors leaves alive, found as cheaply as may be.

Vectors come block by block. A mutant is dropped with the first batch that kills it, so nearly all
are gone after the operand pairs and corner classes with which a set begins; what is left alone
meets the rest. Mutants of the rounding decision run through the exact model, so they are shown only
vectors in which something is rounded at all: those first in which a part that rounds up, or a tie,
decides the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.formats.rounding import Rounding
from fpsim.units.spec import MacSpec
from fpsim.vectors.mutants.mutants import Mutant
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["rounding_rows", "survivors"]

#: Vectors of a batch, and of one through the exact model.
BATCH, SLOW_BATCH = 1 << 10, 1 << 6
#: Vectors of either kind that a mutant of the rounding decision is shown.
MOST_SLOW = 1 << 12
_NEAREST = frozenset({Rounding.RNE, Rounding.RNA})

Codes = NDArray[Any]


def survivors(
    record: Record,
    blocks: Iterable[tuple[Columns, Codes]],
    mutants: Iterable[Mutant],
    canonical: Callable[[Codes], Codes] = lambda codes: codes,
) -> list[Mutant]:
    """Return the mutants that no vector kills.

    Args:
        record: the unit, and how many elements a vector has.
        blocks: (columns, addends): vectors that sum products, with their results, and the
            accumulator that each finds.
        mutants: units with a mistake, none of them equivalent to the unit.
        canonical: maps result codes that count as equal to one of them.

    Returns:
        Mutants with the unit's result for every vector, in their order. A mutant of the
        rounding decision is one, too, if 4096 vectors in which it is likely to show, and 4096
        others that round, do not kill it.
    """
    alive = list(mutants)
    left = [MOST_SLOW, MOST_SLOW]
    for columns, before in blocks:
        for start in range(0, before.size, BATCH):
            rows = slice(start, start + BATCH)
            part = {name: column[rows] for name, column in columns.items()}
            alive = [m for m in alive if m.slow or not _differs(m, part, before[rows], canonical)]
            slow = [m for m in alive if m.slow]
            if slow and any(left):
                rounds = rounding_rows(record, part, before[rows])
                likely = rounds & _decided_rows(record, part, before[rows])
                for kind, wanted in enumerate((likely, rounds & ~likely)):
                    picked = _distinct(part, before[rows], wanted)[: left[kind]]
                    left[kind] -= picked.size
                    killed = _killed_slow(slow, part, before[rows], picked, canonical)
                    alive = [m for m in alive if m.name not in killed]
                    slow = [m for m in slow if m.name not in killed]
            if not alive:
                return []
    return alive


def _killed_slow(
    mutants: list[Mutant],
    part: Columns,
    before: Codes,
    picked: NDArray[np.int64],
    canonical: Callable[[Codes], Codes],
) -> set[str]:
    killed: set[str] = set()
    for start in range(0, picked.size, SLOW_BATCH):
        rows = picked[start : start + SLOW_BATCH]
        some = {name: column[rows] for name, column in part.items()}
        left = [m for m in mutants if m.name not in killed]
        killed |= {m.name for m in left if _differs(m, some, before[rows], canonical)}
    return killed


def _distinct(part: Columns, before: Codes, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the wanted rows, one of those that sum equal products onto equal addends."""
    rows = np.flatnonzero(wanted)
    if not rows.size:
        return rows
    names = [name for name in part if name not in ("op", "c", "acc", "flags")]
    facts = [part[name][rows].reshape(rows.size, -1).astype(np.uint64) for name in names]
    whole = np.concatenate([before[rows, None].astype(np.uint64), *facts], axis=1)
    _, first = np.unique(whole, axis=0, return_index=True)
    return rows[np.sort(first)]


def _differs(
    mutant: Mutant, part: Columns, before: Codes, canonical: Callable[[Codes], Codes]
) -> bool:
    try:
        found = mutant.run(part, before).astype(part["acc"].dtype, copy=False)
        return bool((canonical(found) != canonical(part["acc"])).any())
    except FpsimError:  # a result without a code: not what the unit gives
        return True


def rounding_rows(record: Record, part: Columns, before: Codes) -> NDArray[np.bool_]:
    """Return which vectors round: with all roundings up they end elsewhere than with all down.

    An upper bound and a lower bound of a sum that once differ go on differing, because adding and
    rounding keep their order; where they end at one code (saturated, NaN) no mistake in between
    is seen either.

    Args:
        record: the unit and its fields.
        part: columns of vectors with a dot product (n, lanes).
        before: codes of their addends (n,).

    Returns:
        Booleans (n,); all true where a result of a directed rounding has no code.
    """
    found = []
    for mode in (Rounding.RUP, Rounding.RDN):
        spec = _rounded(record.spec, mode)
        try:
            found.append(Record(spec, record.k, record.group).dot(part, before))
        except FpsimError:
            return np.ones(before.size, dtype=bool)
    return np.asarray(found[0] != found[1])


def _decided_rows(record: Record, part: Columns, before: Codes) -> NDArray[np.bool_]:
    """Return which vectors end elsewhere where rounding to nearest cuts, or ties go away from zero.

    All true where such a result has no code.
    """
    found = np.zeros(before.size, dtype=bool)
    for mode in (Rounding.RTZ, Rounding.RNA):
        spec = _rounded(record.spec, mode, _NEAREST)
        try:
            found |= Record(spec, record.k, record.group).dot(part, before) != part["acc"]
        except FpsimError:
            return np.ones(before.size, dtype=bool)
    return found


def _rounded(
    spec: MacSpec, mode: Rounding, turns: frozenset[Rounding] = frozenset(Rounding)
) -> MacSpec:
    """Return a unit that rounds in one direction where it rounds by one of some modes."""

    def turned(stage: Any) -> Any:
        for field in fields(stage):
            value = getattr(stage, field.name)
            if isinstance(value, Rounding) and value in turns:
                changes: dict[str, Any] = {field.name: mode}
                if value is Rounding.SR:
                    changes["random_bits"] = 0
                with suppress(FpsimError):  # a rounding that the stage does not do
                    stage = replace(stage, **changes)
            elif field.name in ("inner", "outer", "into") and is_dataclass(value):
                stage = replace(stage, **{field.name: turned(value)})
        return stage

    return replace(spec, accumulate=turned(spec.accumulate))
