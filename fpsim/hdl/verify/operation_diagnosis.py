# SPDX-License-Identifier: Apache-2.0
"""A failure of a converter, multiplier, adder or quantizer diagnosed, and mistakes that show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.replay import Mismatch, ReplayResult, split
from fpsim.hdl.bench.stimulus import BeatWriter, selected
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.encodings import ENCODINGS, encode
from fpsim.hdl.verify.diagnosis import Diagnosis, ulps
from fpsim.hdl.verify.guesses import LEAST_SCORE, MAX_GUESSES, Guess
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.hdl.verify.vector_window import fetch
from fpsim.vectors.operations.explanation import explain_operation
from fpsim.vectors.operations.operation import Operation
from fpsim.vectors.operations.operation_mutants import (
    OperationMutant,
    every_input,
    mutants_of_operation,
    operation_survivors,
)
from fpsim.vectors.sets.record import Columns
from fpsim.vectors.sets.word_layout import Field

__all__ = ["adequacy_of_operation", "diagnose_operation", "mutants_shown"]

#: Mismatches and matches that a guess is tried on.
FAST_ROWS = 256


def mutants_shown(source: VectorSource, dut: Dut) -> list[OperationMutant]:
    """Return the mutants of an operation whose results a design answers."""
    assert source.operation is not None
    return mutants_of_operation(source.operation, [f.name for f in source.answers(dut)])


def adequacy_of_operation(dut: Dut, source: VectorSource, writer: BeatWriter) -> dict[str, Any]:
    """Count the mistakes that the vectors told to a design find.

    A mistake is excused where the design was told every input that it can be told.

    Args:
        dut: the design.
        source: vectors for it.
        writer: tells them to the design.

    Returns:
        ``found`` and ``excused`` counts, and names that are ``unfound``.
    """
    operation = source.operation
    assert operation is not None
    names = [f.name for f in source.answers(dut)]
    formats = operation.outputs

    def canonical(name: str, codes: NDArray[Any]) -> NDArray[Any]:
        return dut.comparison.canonical(formats[name], codes) if name in formats else codes

    mutants = mutants_shown(source, dut)
    told = (columns for rows, columns in selected(source, writer) if rows.size)
    alive = operation_survivors(operation, told, mutants, names, canonical)
    excused = len(alive) if alive and _told_all(operation, source, writer) else 0
    unfound = [] if excused else [mutant.name for mutant in alive]
    return {"found": len(mutants) - len(alive), "excused": excused, "unfound": unfound}


def _told_all(operation: Operation, source: VectorSource, writer: BeatWriter) -> bool:
    """Return whether a design is told every input that it can be told."""
    every = every_input(operation)
    if every is None:
        return False
    zeros = np.zeros(len(next(iter(every.values()))), dtype=np.uint8)
    whole = every | operation.results(every) | {"op": zeros + np.uint8(4), "c": zeros}
    possible, _ = writer.select(whole, True)
    missing = set(_keys(operation, {n: c[possible] for n, c in every.items()}).tolist())
    for rows, columns in selected(source, writer):
        if rows.size:
            missing -= set(_keys(operation, columns).tolist())
    return not missing


def _keys(operation: Operation, columns: Columns) -> NDArray[np.int64]:
    key = np.zeros(len(next(iter(columns.values()))), dtype=np.int64)
    for name, fmt in operation.inputs.items():
        key = key << fmt.bits | columns[name].astype(np.int64)
    return key


def diagnose_operation(
    source: VectorSource, writer: BeatWriter, result: ReplayResult, lanes: int = 0
) -> Diagnosis:
    """Explain the first mismatch of a result and guess the mistake behind all of them.

    Args:
        source: vectors of an operation.
        writer: told them to the design.
        result: the outcome of the replay, with a mismatch.
        lanes: not used; vectors of operations are told whole.

    Returns:
        The explanation and the best guesses.
    """
    operation = source.operation
    assert operation is not None
    first = result.kept[0]
    row = {n: c[0] for n, c in fetch(source, [first.index]).columns.items() if n in _names(source)}
    answers = tuple(f for f in source.record.fields if f.name in first.answers)
    place = (first.index, first.line, source.section_of(first.index))
    explanation = explain_operation(operation, row, *place)
    seen = None if first.code is None else split(first.code, answers)
    formats = operation.outputs
    single = len(answers) == 1 and answers[0].name in formats
    return Diagnosis(
        first,
        explanation,
        "unknown bits" if seen is None else _values(operation, answers, seen),
        _values(operation, answers, first.fields),
        ulps(first.fields[answers[0].name], seen[answers[0].name], formats[answers[0].name])
        if single and seen is not None
        else None,
        tuple(_guesses(source, writer, result, answers)),
    )


def _names(source: VectorSource) -> set[str]:
    return {f.name for f in source.record.fields}


def _lanes(field: Field, code: int) -> NDArray[np.uint64]:
    mask = (1 << field.lane_width) - 1
    found = [code >> (field.lane_width * lane) & mask for lane in range(field.lanes)]
    return np.array(found, dtype=np.uint64)


def _values(operation: Operation, answers: Sequence[Field], codes: dict[str, int]) -> str:
    """Return results as numbers, where they are numbers."""
    parts = []
    for field in answers:
        lanes = _lanes(field, codes[field.name]).astype(operation.dtype_of(field.name))
        texts = [text for text in operation.texts(field.name, lanes) if text]
        if texts:
            parts.append(f"{field.name} " * (len(answers) > 1) + " ".join(texts))
    return "; ".join(parts) or "no number"


def _guesses(
    source: VectorSource, writer: BeatWriter, result: ReplayResult, answers: Sequence[Field]
) -> list[Guess]:
    """Return the mistakes that explain the mismatches best, the best first."""
    operation = source.operation
    assert operation is not None
    known = [m for m in result.kept if m.code is not None]
    wrong = known[:: max(1, len(known) // FAST_ROWS)]
    if not wrong:
        return []
    right = _matches(source, writer, result)
    bad = fetch(source, [m.index for m in wrong]).columns
    good = fetch(source, list(right)).columns if right else {}
    codes = [m.code for m in sorted(wrong, key=lambda m: m.index) if m.code is not None]
    seen = _split(codes, answers)
    found = []
    wirings = _wirings(source, answers, wrong, bad, right)
    for name, run in (*wirings, *_runs(operation, answers)):
        try:
            explained = int(_equal(run(bad), seen).sum())
            contradicted = int((~_equal(run(good), _right(good, answers))).sum()) if right else 0
        except FpsimError:  # a result that has no code
            continue
        found.append(Guess(name, explained, len(codes), contradicted, len(right)))
    found = [g for g in found if g.explained and g.score >= LEAST_SCORE]
    found.sort(key=lambda g: (not g.fits, -g.score, len(g.mistake)))
    return found[:MAX_GUESSES]


def _matches(source: VectorSource, writer: BeatWriter, result: ReplayResult) -> dict[int, int]:
    """Return some vectors that were compared and right, with the vector told before each."""
    wrong = {m.index for m in result.kept}
    # Beyond the last mismatch that was kept nobody knows what matched.
    last = max(wrong) if result.mismatch_count > len(wrong) else source.count
    told = [int(i) for rows, _ in selected(source, writer) for i in rows]
    pairs = [(i, before) for before, i in pairwise(told) if i not in wrong and i < last]
    return dict(pairs[:: max(1, len(pairs) // FAST_ROWS)])


def _split(codes: Sequence[int], answers: Sequence[Field]) -> Columns:
    rows = [split(code, answers) for code in codes]
    return {f.name: np.array([_lanes(f, row[f.name]) for row in rows]) for f in answers}


def _right(columns: Columns, answers: Sequence[Field]) -> Columns:
    return {f.name: columns[f.name] for f in answers}


def _equal(found: Columns, wanted: Columns) -> NDArray[np.bool_]:
    same = []
    for name, codes in wanted.items():
        made = found[name].astype(np.uint64).reshape(codes.shape[0], -1)
        same.append((made == codes.astype(np.uint64).reshape(made.shape)).all(axis=1))
    return np.asarray(np.logical_and.reduce(same))


def _runs(
    operation: Operation, answers: Sequence[Field]
) -> Iterator[tuple[str, Callable[[Columns], Columns]]]:
    for mutant in mutants_of_operation(operation, [f.name for f in answers]):
        yield mutant.name, lambda columns, run=mutant.run: columns | run(columns)  # type: ignore[misc]


def _wirings(
    source: VectorSource,
    answers: Sequence[Field],
    wrong: Sequence[Mismatch],
    bad: Columns,
    right: Mapping[int, int],
) -> Iterator[tuple[str, Callable[[Columns], Columns]]]:
    """Yield mistakes at the ports: results in another encoding, or of the vector before."""
    for name in ENCODINGS:

        def coded(columns: Columns, name: str = name) -> Columns:
            return {
                f.name: encode(columns[f.name].astype(np.uint64), f.lane_width, (name,))
                for f in answers
            }

        if name != "bytes-swapped" or all(f.lane_width % 8 == 0 for f in answers):
            yield f"results {name}", coded
    before = {m.index: m.before for m in wrong if m.before is not None}
    if len(before) < len(wrong):
        return

    def previous(columns: Columns) -> Columns:
        chosen = before if columns is bad else right
        wanted = [chosen[i] for i in sorted(chosen)]
        earlier = fetch(source, sorted(set(wanted)))
        place = {int(index): row for row, index in enumerate(earlier.indices)}
        return {f.name: earlier.columns[f.name][[place[i] for i in wanted]] for f in answers}

    yield "the result of the vector before", previous
