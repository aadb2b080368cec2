# SPDX-License-Identifier: Apache-2.0
"""Which mistake would give the wrong bits that were seen: mutants of the unit, ranked.

A guess predicts, for every mismatch and for some results that matched, the answer of a design with
that mistake, from the accumulator that the design itself held. Its score is the share of mismatches
it explains less the share of matches it contradicts; it fits if it explains at least 99 of a
hundred mismatches, and contradicts at most one match for every hundred mismatches explained. A
mistake in rounding is compared with matches that round. Mistakes with equal answers to every result
are one guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.hdl.dut.encodings import ENCODINGS, encode
from fpsim.hdl.verify.mistakes import Run, operand_mistakes, result_mistakes, table_mistakes
from fpsim.hdl.verify.vector_window import VectorRun
from fpsim.vectors import Op
from fpsim.vectors.mutants.mutants import Mutant, mutants_of, spec_mutants
from fpsim.vectors.mutants.survivors import rounding_rows
from fpsim.vectors.sets.record import Columns, Record

__all__ = ["Case", "Guess", "guesses"]

MAX_GUESSES = 3
#: Scores below this are no guess.
LEAST_SCORE = 0.1
#: Share of mismatches that a fitting guess explains at least, and matches that it contradicts at
#: most for each.
LEAST_EXPLAINED, MOST_CONTRADICTED = 0.99, 0.01
#: Vectors by which a result is looked for late or early.
MOST_LATE = 4
#: Mismatches that a guess is tried on, step by step while it explains them, and matches.
MISMATCHES, MATCHES = (256,), 1 << 13
#: Mismatches and matches that a guess is tried on if it runs through the exact model.
SLOW_MISMATCHES, SLOW_MATCHES = (24, 192), 192

#: Most changes of a unit in a joint guess, the fewest mismatches that it needs, and the least that
#: each change adds to its score.
MOST_CHANGES, LEAST_COMBINED, LEAST_GAIN = 4, 128, 0.02

Codes = NDArray[np.uint64]
#: From rows to the answers of a design with the mistake.
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
    #: By operand that comes in through a table: the pattern of each code on the wires, -1: none.
    tables: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Guess:
    """A mistake that would explain mismatches."""

    mistake: str
    explained: int  #: mismatches that it would give, bit for bit
    mismatches: int  #: mismatches that it was tried on
    contradicted: int  #: results that matched and would not have
    matches: int  #: matches that it was tried on
    also: tuple[str, ...] = ()  #: other mistakes with equal answers to all of these

    @property
    def fits(self) -> bool:
        """Whether it explains nearly all mismatches, and contradicts next to no match."""
        explains = self.explained >= LEAST_EXPLAINED * self.mismatches
        return explains and self.contradicted <= MOST_CONTRADICTED * self.explained

    @property
    def score(self) -> float:
        """Share of mismatches explained less share of matches contradicted."""
        return self.explained / max(1, self.mismatches) - self.contradicted / max(1, self.matches)

    def __str__(self) -> str:
        named = ", or ".join((self.mistake, *self.also))
        return (
            f"as if: {named} (explains {self.explained} of {self.mismatches} mismatches, "
            f"contradicts {self.contradicted} of {self.matches} matches)"
        )


def guesses(case: Case) -> list[Guess]:
    """Return the best guesses, the best first."""
    sample = _Sample(case)
    alike: dict[bytes, Guess] = {}
    for name, predict, slow in (*_wirings(case), *_mutants(case, sample.wrong)):
        tried = sample.tried(name, predict, slow)
        if tried is None or tried[0].score < LEAST_SCORE:
            continue
        guess, answers = tried
        twin = alike.get(answers)
        if twin is not None:
            guess = replace(twin, also=(*twin.also, name))
        alike[answers] = guess
    found = list(alike.values())
    if not any(guess.fits for guess in found):
        found += _combined(case, sample)
    found.sort(key=lambda guess: (not guess.fits, -guess.score, len(guess.mistake)))
    return found[:MAX_GUESSES]


def _combined(case: Case, sample: _Sample) -> list[Guess]:
    """Return the joint guess of several changes of the unit, one after the other, if it fits.

    Each is the change that leaves the least unexplained after those before it. So flexible a guess
    needs many mismatches, and each change has to explain its part of them.
    """
    if sample.wrong.size < LEAST_COMBINED:
        return []
    record, names = case.run.like.record, ""
    best: Guess | None = None
    for _ in range(MOST_CHANGES):
        changes = []
        for mutant in _with_twins(record):
            name = f"{names}{mutant.name}"
            tried = sample.tried(name, partial(_predicted, case, run=mutant.run), False)
            if tried is not None and mutant.spec is not None:
                changes.append((tried[0], mutant.spec))
        guess, spec = max(changes, key=lambda change: change[0].score, default=(best, record.spec))
        if guess is None or (best and guess.score < best.score + LEAST_GAIN):
            break
        if guess.fits:
            return [guess]
        best, names = guess, f"{guess.mistake}, and "
        record = replace(record, spec=spec)
    return []


def _with_twins(record: Record) -> Iterator[Mutant]:
    """Yield the mutants that change the unit's data, and such changes of both operands at once."""
    mutants = {mutant.name: mutant for mutant in spec_mutants(record)}
    yield from mutants.values()
    for name, mutant in mutants.items():
        twin = mutants.get(f"b{name[1:]}")
        if name.startswith("a: ") and mutant.spec and twin and twin.spec:
            spec = replace(mutant.spec, b=twin.spec.b)
            run = Record(spec, record.k, record.group).dot
            yield Mutant(f"a and b{name[1:]}", run, spec=spec)


class _Sample:
    """Results that guesses are compared with, some wrong and some right.

    Wrong is a result that the unit does not give from the accumulator that the design held: a sum
    that goes on rightly from a wrong accumulator says nothing of the mistake.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        due = case.run.columns["acc"].astype(np.uint64)[case.judged]
        seen = case.seen[case.judged]
        with suppress(FpsimError):  # a sum from what the design held that has no code
            due = _predicted(case, case.judged, case.run.like.record.dot)
        differs = seen != due.astype(np.uint64)
        self.wrong, self.right = case.judged[differs], case.judged[~differs]

    def tried(self, name: str, predict: Predict, slow: bool) -> tuple[Guess, bytes] | None:
        """Return a guess with its answers, None if it explains nothing."""
        steps, limit = (SLOW_MISMATCHES, SLOW_MATCHES) if slow else (MISMATCHES, MATCHES)
        wrong, explained = self.wrong, 0
        try:
            for step in steps:
                wrong = _some(self.wrong, step)
                answers = predict(wrong).astype(np.uint64)
                explained = int((answers == self.case.seen[wrong]).sum())
                if explained < LEAST_EXPLAINED * wrong.size:
                    limit = step
                    break
            if not explained:
                return None
            right = _some(self._rounded if slow else self.right, limit)
            others = predict(right).astype(np.uint64)
        except FpsimError:  # a result that has no code: the mistake cannot be this one
            return None
        contradicted = int((others != self.case.seen[right]).sum())
        key = b"".join(part.tobytes() for part in (wrong, answers, right, others))
        return Guess(name, explained, wrong.size, contradicted, right.size), key

    @cached_property
    def _rounded(self) -> NDArray[np.int64]:
        """The matches in which a mistake of rounding could show."""
        columns, record = self.case.run.columns, self.case.run.like.record
        op = columns["op"][self.right]
        rows = np.asarray(self.right[(op == Op.MAC) | (op == Op.DOT)])
        if not rows.size:
            return rows
        before = np.where(columns["op"] == Op.MAC, self.case.before, columns["c"])[rows]
        part = {name: column[rows] for name, column in columns.items()}
        shown = rounding_rows(record, part, before.astype(record.spec.initial.dtype))
        return np.asarray(rows[shown])


def _some(rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return some of the rows, chosen at random: streams repeat, so every n-th of them is like."""
    if rows.size <= limit:
        return rows
    return np.sort(np.random.default_rng(rows.size).choice(rows, limit, replace=False))


def _wirings(case: Case) -> Iterator[tuple[str, Predict, bool]]:
    """Yield mistakes at the ports: an encoding, a result of another vector."""
    expected = case.run.columns["acc"].astype(np.uint64)
    width = case.run.like.spec.result.bits

    def coded(rows: NDArray[np.int64], name: str) -> NDArray[Any]:
        return encode(expected[rows], width, (name,))

    for name in ENCODINGS:
        if name != "bytes-swapped" or (width % 8 == 0 and width > 8):
            yield f"the result is {name}", lambda rows, n=name: coded(rows, n), False  # type: ignore[misc]

    following = np.full(case.previous.size, -1, dtype=np.int64)
    later = np.flatnonzero(case.previous >= 0)
    following[case.previous[later]] = later

    def moved(rows: NDArray[np.int64], to: NDArray[np.int64], steps: int) -> NDArray[Any]:
        there = rows
        for _ in range(steps):
            there = np.where(there >= 0, to[there], -1)
        return np.where(there >= 0, expected[there], expected[rows])

    ways = (("before", case.previous, "late", "small"), ("after", following, "early", "large"))
    for steps in range(1, MOST_LATE + 1):
        what = "vector" if steps == 1 else f"{steps} vectors"
        for side, to, when, how in ways:
            name = f"the result of the {what} {side} comes ({steps} {when}"
            name += f", as under a latency {steps} too {how})"
            yield name, partial(moved, to=to, steps=steps), False
    wrong = case.judged[case.seen[case.judged] != expected[case.judged]]
    if np.unique(case.seen[wrong]).size == 1 < wrong.size:
        stays = case.seen[wrong[0]]

        def constant(rows: NDArray[np.int64]) -> NDArray[Any]:
            return np.full(rows.size, stays)

        yield f"the output stays at {int(stays):x}", constant, False


def _predicted(
    case: Case, rows: NDArray[np.int64], run: Run, columns: Columns | None = None
) -> NDArray[Any]:
    """Return the results of other arithmetic for vectors that sum, of the unit for all others."""
    columns, initial = columns or case.run.columns, case.run.like.record.spec.initial
    op = columns["op"]
    out = columns["acc"].astype(np.uint64)[rows]
    sums = np.flatnonzero((op[rows] == Op.MAC) | (op[rows] == Op.DOT))
    part = rows[sums]
    if part.size:
        chosen = {name: column[part] for name, column in columns.items()}
        before = np.where(chosen["op"] == Op.MAC, case.before[part], chosen["c"].astype(np.uint64))
        out[sums] = run(chosen, before.astype(initial.dtype))
    holds = op[rows] == Op.IDLE
    out[holds] = case.before[rows[holds]]
    return out


def _mutants(case: Case, wrong: NDArray[np.int64]) -> Iterator[tuple[str, Predict, bool]]:
    """Yield mistakes in the arithmetic; ``wrong``: rows that show one."""
    record, columns = case.run.like.record, case.run.columns
    op = columns["op"]

    def stale(rows: NDArray[np.int64]) -> NDArray[Any]:
        known = rows[case.previous[rows] >= 0]
        old = {name: columns[name].copy() for name in "ab"}
        for name in "ab":
            old[name][known] = columns[name][case.previous[known]]
        return _predicted(case, rows, record.dot, columns | old)

    yield "operands of the vector before", stale, False
    sums = wrong[(op[wrong] == Op.MAC) | (op[wrong] == Op.DOT)]
    part = {name: column[_some(sums, MISMATCHES[0])] for name, column in columns.items()}
    for name, run, slow in _changes(case, part):
        yield name, partial(_predicted, case, run=run), slow


def _changes(case: Case, wrong: Columns) -> Iterator[tuple[str, Run, bool]]:
    """Yield changed arithmetic: the unit's mutants, changes of both operands, other mistakes."""
    record = case.run.like.record
    mutants = {mutant.name: mutant for mutant in (*mutants_of(record), *_with_twins(record))}
    for mutant in mutants.values():
        if mutant.name != "previous products":
            yield mutant.name, mutant.run, mutant.slow
    for name, run in (
        *table_mistakes(record, wrong, case.tables),
        *operand_mistakes(record, wrong, case.lanes),
        *result_mistakes(record),
    ):
        yield name, run, False
