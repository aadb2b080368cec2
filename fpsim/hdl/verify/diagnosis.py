# SPDX-License-Identifier: Apache-2.0
"""What went wrong: the first mismatch explained, and the mistake that would give such bits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import Format
from fpsim.hdl.bench.replay import Mismatch, ReplayResult
from fpsim.hdl.bench.stimulus import BeatWriter, selected
from fpsim.hdl.verify.guesses import MOST_LATE, Case, Guess, guesses
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.hdl.verify.vector_window import fetch
from fpsim.oracle import Node
from fpsim.vectors.explanation import Explanation, explain_vector
from fpsim.vectors.operations.explanation import OperationExplanation

__all__ = ["Diagnosis", "diagnose", "ulps"]

#: Matching results that guesses are tried on.
MAX_MATCHES = 1024


@dataclass(frozen=True)
class Diagnosis:
    """The first mismatch, step by step, and what it looks like."""

    mismatch: Mismatch
    explanation: Explanation | OperationExplanation
    seen_value: str
    expected_value: str
    ulps: int | None  #: codes between what was seen and what was expected; None: no such order
    guesses: tuple[Guess, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "vector": self.mismatch.index,
            "line": self.mismatch.line,
            "expected": self.mismatch.expected,
            "expected_value": self.expected_value,
            "seen": self.mismatch.seen,
            "seen_value": self.seen_value,
            "ulps": self.ulps,
            "wires": self.mismatch.wires,
            "explanation": self.explanation.to_dict(),
            "none_fits": not any(guess.fits for guess in self.guesses),
            "guesses": [
                vars(guess) | {"score": guess.score, "fits": guess.fits} for guess in self.guesses
            ],
        }

    def __str__(self) -> str:
        distance = "" if self.ulps is None else f", {self.ulps:+d} ulp"
        wrong = self.mismatch
        lines = [
            *self.explanation.steps(),
            f"  expected {wrong.expected} = {self.expected_value}",
            f"  seen     {wrong.seen} = {self.seen_value}{distance}",
        ]
        fitting = [guess for guess in self.guesses if guess.fits]
        if not fitting:
            nearest = "; the nearest:" if self.guesses else ""
            lines.append(f"  none of the known mistakes fits what was seen{nearest}")
        lines += [f"  {guess}" for guess in fitting or self.guesses]
        return "\n".join(lines)


def diagnose(
    source: VectorSource, writer: BeatWriter, result: ReplayResult, lanes: int = 0
) -> Diagnosis:
    """Explain the first mismatch of a result and guess the mistake behind all of them.

    ``lanes``: elements per beat of the design, if known.
    """
    first = result.kept[0]
    states = {m.index: m.code for m in result.kept}
    run = fetch(source, [first.index, *([] if first.before is None else [first.before])])
    row = {name: column[-1] for name, column in run.columns.items()}
    before = 0 if first.before is None else int(run.columns["acc"][0])
    seen_before = states.get(first.before) if first.before is not None else None
    before = before if seen_before is None else seen_before
    place = (first.index, first.line, source.section_of(first.index))
    explanation = explain_vector(source.record, row, before, *place)
    fmt, expected = source.spec.result, int(row["acc"])
    try:
        found = tuple(guesses(replace(_case(source, writer, result), lanes=lanes)))
    except FpsimError:
        found = ()
    return Diagnosis(
        first,
        explanation,
        "unknown bits" if first.code is None else _value(first.code, fmt),
        _value(expected, fmt),
        None if first.code is None else ulps(expected, first.code, fmt),
        found,
    )


def _case(source: VectorSource, writer: BeatWriter, result: ReplayResult) -> Case:
    """Gather the mismatches that are known, and matches between them."""
    wrong = {m.index: m for m in result.kept}
    # Beyond the last mismatch that was kept nobody knows what matched.
    last = max(wrong) if result.mismatch_count > len(wrong) else None
    rows: list[int] = []
    before_of: dict[int, int] = {}
    done = 0
    recent: list[int] = []
    for indices, columns in selected(source, writer):
        compared = writer.compared(columns) if indices.size else indices.astype(bool)
        step = max(1, source.count // MAX_MATCHES)
        for index, judged in zip(indices.tolist(), compared.tolist(), strict=True):
            if judged and (index in wrong or (done % step == 0 and (last is None or index < last))):
                rows.append(index)
                before_of.update(pairwise([index, *reversed(recent)]))
            done += 1
            recent = [*recent[-MOST_LATE:], index]
    wanted = {*rows, *(p for p in before_of.values() if p >= 0)}
    run = fetch(source, wanted)
    position = {int(index): i for i, index in enumerate(run.indices)}
    expected = run.columns["acc"].astype(np.uint64)
    seen = expected.copy()
    known = np.ones(run.count, dtype=bool)
    for index, mismatch in wrong.items():
        if index in position:
            known[position[index]] = mismatch.code is not None
            seen[position[index]] = mismatch.code or 0
    before = np.zeros(run.count, dtype=np.uint64)
    previous_row = np.full(run.count, -1, dtype=np.int64)
    for index, prior in before_of.items():
        if prior >= 0:
            previous_row[position[index]] = position[prior]
            before[position[index]] = seen[position[prior]]
            known[position[index]] &= known[position[prior]]
    judged = np.array([position[index] for index in rows], dtype=np.int64)
    return Case(run, seen, before, previous_row, judged[known[judged]])


def ulps(expected: int, seen: int, fmt: Format) -> int | None:
    """Return how many codes ``seen`` stands above ``expected``, zeros of both signs as one.

    None where one of them is NaN.
    """
    places = [_place(code, fmt) for code in (expected, seen)]
    if places[0] is None or places[1] is None:
        return None
    return places[1] - places[0]


def _place(code: int, fmt: Format) -> int | None:
    number = oracle.decode(code, fmt)
    if number.is_nan:
        return None
    sign = 1 << (fmt.bits - 1)
    if not fmt.signed or not code & sign:
        return code
    twos_complement = not hasattr(fmt, "exponent_bits")
    return code - 2 * sign if twos_complement else -(code & (sign - 1))


def _value(code: int, fmt: Format) -> str:
    return Node(0, "", oracle.decode(code, fmt)).text
