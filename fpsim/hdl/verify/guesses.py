# SPDX-License-Identifier: Apache-2.0
"""Which mistake would give the wrong bits that were seen: mutants of the unit, ranked.

A guess says of every mismatch what a design with that mistake would have answered, from the
accumulator that the design itself held, and of results that matched the same. It is as good as the
mismatches it explains less the matches it contradicts; it fits if it explains nearly all of the
first and contradicts next to none of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.hdl.dut.encodings import ENCODINGS, encode
from fpsim.hdl.verify.mistakes import Run, operand_mistakes, result_mistakes
from fpsim.hdl.verify.vector_window import VectorRun
from fpsim.vectors import Op
from fpsim.vectors.mutants.mutants import mutants_of
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["Case", "Guess", "guesses"]

MAX_GUESSES = 3
#: A guess that is less often right than this, or than chance, is none.
LEAST_SCORE = 0.1
#: A guess that explains less, or contradicts more, is not the cause.
LEAST_EXPLAINED, MOST_CONTRADICTED = 0.95, 0.01
#: Clocks by which a result is looked for late.
MOST_LATE = 4
#: Mismatches and matches that a guess is tried on, and one that runs through the exact model.
FAST_ROWS, SLOW_ROWS = 256, 24

Codes = NDArray[np.uint64]
#: Rows to what a design with the mistake answers.
Predict = Callable[[NDArray[np.int64]], NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """Results of a design, some wrong and some right.

    ``before`` is the accumulator that the design held, ``previous`` the row (of ``run``) of the
    vector applied before, -1 if it is not known.
    """

    run: VectorRun
    seen: Codes
    before: Codes
    previous: NDArray[np.int64]
    judged: NDArray[np.int64]  #: rows that were compared and whose seen code is known
    lanes: int = 0  #: elements per beat of the design; 0: not known


@dataclass(frozen=True)
class Guess:
    """A mistake that would explain what was seen."""

    mistake: str
    explained: int  #: mismatches that it would give, bit for bit
    mismatches: int  #: that it was tried on
    contradicted: int  #: results that matched and would not have
    matches: int  #: that it was tried on

    @property
    def fits(self) -> bool:
        """Whether it explains nearly all that was wrong, and contradicts next to nothing."""
        explains = self.explained >= LEAST_EXPLAINED * self.mismatches
        return explains and self.contradicted <= MOST_CONTRADICTED * self.matches

    @property
    def score(self) -> float:
        """Share of mismatches explained less share of matches contradicted."""
        return self.explained / max(1, self.mismatches) - self.contradicted / max(1, self.matches)

    def __str__(self) -> str:
        return (
            f"as if: {self.mistake} (explains {self.explained} of {self.mismatches} mismatches, "
            f"contradicts {self.contradicted} of {self.matches} matches)"
        )


def guesses(case: Case) -> list[Guess]:
    """Return the best guesses, the best first."""
    found = []
    for name, predict, slow in (*_wirings(case), *_mutants(case)):
        guess = _tried(case, name, predict, SLOW_ROWS if slow else FAST_ROWS)
        if guess is not None and guess.score >= LEAST_SCORE:
            found.append(guess)
    found.sort(key=lambda guess: (not guess.fits, -guess.score, len(guess.mistake)))
    return found[:MAX_GUESSES]


def _tried(case: Case, name: str, predict: Predict, limit: int) -> Guess | None:
    expected = case.run.columns["acc"].astype(np.uint64)
    wrong = case.judged[case.seen[case.judged] != expected[case.judged]]
    right = case.judged[case.seen[case.judged] == expected[case.judged]]
    wrong, right = _spread(wrong, limit), _spread(right, limit)
    try:
        explained = int((predict(wrong).astype(np.uint64) == case.seen[wrong]).sum())
        if not explained:
            return None
        contradicted = int((predict(right).astype(np.uint64) != expected[right]).sum())
    except FpsimError:  # a result that has no code: the mistake cannot be this one
        return None
    return Guess(name, explained, wrong.size, contradicted, right.size)


def _spread(rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    if rows.size <= limit:
        return rows
    return rows[np.linspace(0, rows.size - 1, limit).astype(np.int64)]


def _wirings(case: Case) -> Iterator[tuple[str, Predict, bool]]:
    """Yield mistakes at the ports: an encoding, a result of another vector."""
    expected = case.run.columns["acc"].astype(np.uint64)
    width = case.run.like.spec.result.bits

    def coded(rows: NDArray[np.int64], name: str) -> NDArray[Any]:
        return encode(expected[rows], width, (name,))

    for name in ENCODINGS:
        if name != "bytes-swapped" or (width % 8 == 0 and width > 8):
            yield f"the result is {name}", lambda rows, n=name: coded(rows, n), False  # type: ignore[misc]

    def earlier(rows: NDArray[np.int64], late: int) -> NDArray[Any]:
        there = rows
        for _ in range(late):
            there = np.where(there >= 0, case.previous[there], -1)
        return np.where(there >= 0, expected[there], expected[rows])

    yield "the result of the vector before comes again (one late)", partial(earlier, late=1), False
    for late in range(2, MOST_LATE + 1):
        name = f"the result of {late} vectors before comes ({late} late)"
        yield name, partial(earlier, late=late), False
    wrong = case.judged[case.seen[case.judged] != expected[case.judged]]
    if np.unique(case.seen[wrong]).size == 1 < wrong.size:
        stays = case.seen[wrong[0]]

        def constant(rows: NDArray[np.int64]) -> NDArray[Any]:
            return np.full(rows.size, stays)

        yield f"the output stays at {int(stays):x}", constant, False


def _mutants(case: Case) -> Iterator[tuple[str, Predict, bool]]:
    """Yield mistakes in the arithmetic; vectors that do none are as the unit says."""
    record, columns = case.run.like.record, case.run.columns
    op = columns["op"]
    before = np.where(op == Op.MAC, case.before, columns["c"].astype(np.uint64))
    expected = columns["acc"].astype(np.uint64)

    def predicted(rows: NDArray[np.int64], run: Run) -> NDArray[Any]:
        out = expected[rows]
        sums = np.flatnonzero((op[rows] == Op.MAC) | (op[rows] == Op.DOT))
        part = rows[sums]
        if part.size:
            chosen = {name: column[part] for name, column in columns.items()}
            out[sums] = run(chosen, before[part].astype(record.spec.initial.dtype))
        holds = op[rows] == Op.IDLE
        out[holds] = case.before[rows[holds]]
        return out

    def stale(rows: NDArray[np.int64]) -> NDArray[Any]:
        known = rows[case.previous[rows] >= 0]
        out = expected[rows].copy()
        old = {n: columns[n][case.previous[known]] for n in "ab"}
        mixed = {n: column[known] for n, column in columns.items()} | old
        sums = (op[known] == Op.MAC) | (op[known] == Op.DOT)
        if sums.any():
            made = record.dot(
                {n: column[sums] for n, column in mixed.items()},
                before[known[sums]].astype(record.spec.initial.dtype),
            )
            places = np.flatnonzero(case.previous[rows] >= 0)
            out[places[sums]] = made
        return out

    yield "operands of the vector before", stale, False
    wrong = case.judged[case.seen[case.judged] != expected[case.judged]]
    sums = wrong[(op[wrong] == Op.MAC) | (op[wrong] == Op.DOT)]
    part = {name: column[_spread(sums, FAST_ROWS)] for name, column in columns.items()}
    for name, run, slow in _changes(record, part, case.lanes):
        yield name, lambda rows, r=run: predicted(rows, r), slow  # type: ignore[misc]


def _changes(record: Record, wrong: Columns, lanes: int) -> Iterator[tuple[str, Run, bool]]:
    """Yield changed arithmetic: the unit's mutants, the same in both operands, other mistakes."""
    mutants = {m.name: m for m in mutants_of(record) if m.name != "previous products"}
    for mutant in mutants.values():
        yield mutant.name, mutant.run, mutant.slow
    for name, mutant in mutants.items():
        twin = mutants.get(f"b{name[1:]}")
        if name.startswith("a: ") and mutant.spec and twin and twin.spec:
            both = Record(replace(mutant.spec, b=twin.spec.b), record.k, record.group)
            yield f"a and b{name[1:]}", both.dot, False
    for name, run in (*operand_mistakes(record, wrong, lanes), *result_mistakes(record)):
        yield name, run, False
