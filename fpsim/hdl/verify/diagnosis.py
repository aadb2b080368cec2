# SPDX-License-Identifier: Apache-2.0
"""A failure diagnosed: the first mismatch explained, and the mistake that would give such bits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.formats.floating import Format
from fpsim.hdl.bench.replay import Mismatch, ReplayResult
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.stimulus import BeatWriter, selected
from fpsim.hdl.verify.guesses import MOST_LATE, Case, Guess, guesses
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.hdl.verify.vector_window import fetch
from fpsim.oracle import Node
from fpsim.vectors import Op
from fpsim.vectors.explanation import Explanation, explain_vector
from fpsim.vectors.operations.explanation import OperationExplanation

__all__ = ["Diagnosis", "diagnose", "ulps"]

#: Matching results that guesses are tried on: most operands, fewest results, and how many times
#: rarer than sums other operations are drawn.
MATCHES, LEAST_MATCHES, OTHERS = 1 << 16, 1 << 11, 8


@dataclass(frozen=True)
class Diagnosis:
    """The first mismatch, step by step, and the mistakes that would explain it."""

    mismatch: Mismatch
    explanation: Explanation | OperationExplanation
    seen_value: str
    expected_value: str
    ulps: int | None  #: codes from the expected to the seen result; None: not in one order
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

    Args:
        source: the vectors.
        writer: told them to the design.
        result: the outcome of the replay, with a mismatch.
        lanes: elements per beat of the design; 0: not known.

    Returns:
        The explanation and the best guesses.
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
    judged, pairs = _judged(source, writer, result, np.array(sorted(wrong), dtype=np.int64))
    run = fetch(source, np.concatenate([judged, pairs[pairs >= 0]]))
    expected = run.columns["acc"].astype(np.uint64)
    seen, known = expected.copy(), np.ones(run.count, dtype=bool)
    at = np.searchsorted(run.indices, judged)
    for place, index in zip(at.tolist(), judged.tolist(), strict=True):
        mismatch = wrong.get(index)
        if mismatch is not None:
            known[place] = mismatch.code is not None
            seen[place] = mismatch.code or 0
    before, previous = np.zeros(run.count, dtype=np.uint64), np.full(run.count, -1, dtype=np.int64)
    rows, prior = np.searchsorted(run.indices, pairs[pairs[:, 1] >= 0]).T
    previous[rows] = prior
    before[rows] = seen[prior]
    known[rows] &= known[prior]
    wires = writer.plan.wires if isinstance(writer, Serialiser) else {}
    tables = {name: wires[name].table for name in "ab" if name in wires and wires[name].table}
    return Case(run, seen, before, previous, at[known[at]], tables=tables)


def _judged(
    source: VectorSource, writer: BeatWriter, result: ReplayResult, wrong: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of results to look at, and (index, the one applied before it, or -1).

    All wrong results are looked at, and some right ones, mostly sums.
    """
    # Beyond the last mismatch that was kept nobody knows what matched.
    last = int(wrong[-1]) if result.mismatch_count > wrong.size else source.count
    share = max(MATCHES // source.k, LEAST_MATCHES) / max(1, result.compared)
    random = np.random.default_rng(1)
    tail = np.full(MOST_LATE + 1, -1, dtype=np.int64)
    judged, pairs = [], []
    for indices, columns in selected(source, writer):
        if not indices.size:
            continue
        op = columns["op"]
        sums = (op == Op.MAC) | (op == Op.DOT)
        drawn = random.random(indices.size) < np.where(sums, share, share / OTHERS)
        chosen = np.isin(indices, wrong) | (drawn & (indices < last))
        places = np.flatnonzero(chosen & writer.compared(columns))
        applied = np.concatenate([tail, indices])
        judged.append(indices[places])
        for back in range(MOST_LATE):
            after = applied[places + tail.size - back]
            pair = np.stack([after, applied[places + tail.size - back - 1]], axis=1)
            pairs.append(pair[after >= 0])
        tail = applied[-tail.size :]
    return np.concatenate(judged), np.concatenate(pairs)


def ulps(expected: int, seen: int, fmt: Format) -> int | None:
    """Return the distance between two codes in the order of their values.

    Args:
        expected: a code.
        seen: a code.
        fmt: their format.

    Returns:
        How many codes ``seen`` stands above ``expected``, zeros of both signs counted as one; None
        where one of them is NaN.
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
