# SPDX-License-Identifier: Apache-2.0
"""Runs mutants on a set of vectors: the vectors that kill each, and the cost in random vectors.

A vector kills a mutant if the mutant's result, from the expected accumulator before the vector,
differs from the vector's result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.base.progress import counted
from fpsim.vectors.mutants.equivalence import equivalent
from fpsim.vectors.mutants.mutants import Mutant, mutants_of
from fpsim.vectors.plans.planner import plan
from fpsim.vectors.sets.record import Columns, Op, Record, accumulators_before

__all__ = ["Kill", "kills", "random_costs"]

#: Random vectors tried per mutant, and per mutant that runs through the exact model.
RANDOM, SLOW_RANDOM = 1 << 12, 32
#: Rows of a slow mutant run at once.
SLOW_ROWS = 16


@dataclass(frozen=True)
class Kill:
    """The fate of a mutant: first vector that kills it, number of them, or proof of equivalence."""

    mutant: str
    vector: int | None  #: the first vector that kills it; None: it lives
    killers: int  #: number of vectors that kill it (for slow mutants: 1)
    random: int | None = None  #: random vectors until the first kill; None: more than were tried
    equivalent: str | None = None  #: proof that no vector can kill it

    @property
    def alive(self) -> bool:
        """Whether no vector kills the mutant and no proof shows it equivalent."""
        return self.vector is None and self.equivalent is None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready data."""
        return dict(vars(self))


def kills(record: Record, columns: Columns, mutants: list[Mutant] | None = None) -> list[Kill]:
    """Return the fate of every mutant under a set of vectors.

    Args:
        record: the unit and its fields.
        columns: the vectors with their results; vectors with a dot product are run.
        mutants: mutants to run; None: all mutants of the unit.

    Returns:
        A fate per mutant, in their order, without the cost of random vectors.

    Raises:
        FpsimError: a vector kills a mutant that was proved equal to the unit.
    """
    rows = np.flatnonzero((columns["op"] == Op.DOT) | (columns["op"] == Op.MAC))
    part = {name: column[rows] for name, column in columns.items()}
    before = accumulators_before(columns)[rows]
    found = []
    for mutant in counted(mutants_of(record) if mutants is None else mutants):
        reason = equivalent(record, mutant)
        skip = reason is not None and mutant.slow  # tracing every row would show nothing
        killers = np.empty(0, np.int64) if skip else _killers(mutant, part, before)
        if reason is not None and killers.size:
            raise FpsimError(f"mutant: {mutant.name} was killed, but it was proved equal: {reason}")
        first = int(rows[killers[0]]) if killers.size else None
        found.append(Kill(mutant.name, first, int(killers.size), None, reason))
    return found


def _killers(mutant: Mutant, part: Columns, before: NDArray[Any]) -> NDArray[np.int64]:
    """Return the rows that kill a mutant; of a slow mutant, only the first."""
    total = before.size
    step = SLOW_ROWS if mutant.slow else total
    for start in range(0, total, max(step, 1)):
        cut = slice(start, start + step)
        rows = {name: column[cut] for name, column in part.items()}
        try:
            wrong = mutant.run(rows, before[cut]) != part["acc"][cut]
        except FpsimError:  # some row has a result without a code: find it
            wrong = _raising(mutant, rows, before[cut])
        if wrong.any():
            return np.flatnonzero(wrong) + start
    return np.empty(0, dtype=np.int64)


def _raising(mutant: Mutant, rows: Columns, before: NDArray[Any]) -> NDArray[np.bool_]:
    wrong = np.zeros(before.size, dtype=bool)
    for i in range(before.size):
        row = {name: column[i : i + 1] for name, column in rows.items()}
        try:
            wrong[i] = bool((mutant.run(row, before[i : i + 1]) != row["acc"]).any())
        except FpsimError:
            wrong[i] = True
        if wrong.sum() > 4:
            break
    return wrong


def random_costs(
    record: Record, mutants: list[Mutant], found: list[Kill], seed: int = 1
) -> list[Kill]:
    """Return fates with the number of random dot products until the first kill.

    Args:
        record: the unit and its fields.
        mutants: the mistakes.
        found: fates of the mutants, in order.
        seed: seed of the random vectors, 0..2^64 - 1.

    Returns:
        The fates with ``random``: None where no vector of the set kills the mutant, or none of
        `RANDOM` random ones (`SLOW_RANDOM` of a mutant that runs through the exact model).
    """
    columns = plan(
        record.spec, strategy="random", count=RANDOM, seed=seed, k=record.k, group=record.group
    ).columns()
    dots = np.flatnonzero(columns["op"] == Op.DOT)
    priced = []
    for mutant, kill in counted(list(zip(mutants, found, strict=True))):
        cost = None
        if kill.vector is not None:
            rows = dots[:SLOW_RANDOM] if mutant.slow else dots
            part = {name: column[rows] for name, column in columns.items()}
            killers = _killers(mutant, part, part["c"])
            cost = int(killers[0]) + 1 if killers.size else None
        priced.append(replace(kill, random=cost))
    return priced
