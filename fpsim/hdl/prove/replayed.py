# SPDX-License-Identifier: Apache-2.0
"""A counterexample replayed in a simulation, with vectors that bring the design to it.

A solver may begin in registers that no vector leaves behind. So its counterexample counts once a
simulation of the design, told vectors from the beginning, gives a wrong result too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.replay import Options, SimulationFailed, run_source
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.bench.sv_bench import NativeSimulation
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.ports import Port
from fpsim.hdl.prove.path_to import path_to
from fpsim.hdl.prove.prove import Wrong
from fpsim.hdl.verify.diagnosis import Diagnosis, diagnose
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.hdl.verify.vector_window import VectorRun
from fpsim.oracle import Node, decode
from fpsim.units.spec import MacSpec
from fpsim.vectors.explanation import Explanation, explain_vector
from fpsim.vectors.sets.record import Columns, Op, Record

__all__ = ["Replayed", "replayed"]

#: The strategy of vectors that a proof makes.
STRATEGY = "counterexample"
#: Vectors ahead of a wrong one that are told again for each of these.
MOST_REPEATED = 4
#: Vectors like the wrong one that are told after it, so that its cause can be guessed.
MORE = 256


@dataclass(frozen=True)
class Replayed:
    """A counterexample and the outcome of its simulation."""

    confirmed: bool | None  #: whether the simulation is wrong too; None: there was none
    told: str  #: the vectors simulated, or why none were
    explanation: Explanation  #: the vector, step by step
    expected: str
    seen: str
    diagnosis: Diagnosis | None = None  #: of the simulation
    directory: Path | None = None  #: vectors that `fpsim verify --vectors` takes

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "confirmed": self.confirmed, "told": self.told, "expected": self.expected,
            "seen": self.seen, "explanation": self.explanation.to_dict(),
            "diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict(),
            "vectors": None if self.directory is None else str(self.directory),
        }  # fmt: skip

    def __str__(self) -> str:
        if self.diagnosis is not None:
            lines = ["counterexample:", str(self.diagnosis)]
        else:
            lines = ["counterexample:", *self.explanation.steps()]
            lines += [f"  expected {self.expected}", f"  seen     {self.seen}"]
        lines.append(f"  {self.told}")
        if self.directory is not None:
            lines.append(f"  vectors: {self.directory}")
        return "\n".join(lines)


def replayed(
    spec: MacSpec,
    dut: Dut,
    ports: Mapping[str, Port] | None,
    wrong: Wrong,
    shape: tuple[int, int],
    tool: Simulator | None,
    build: Path,
) -> Replayed:
    """Explain a counterexample, and replay it if there is a simulator.

    Args:
        spec: the unit.
        dut: the design.
        ports: its ports, if they are known.
        wrong: the counterexample of the solver.
        shape: elements of a vector, and per scale.
        tool: a simulator; None: there is none.
        build: where the design is compiled and the vectors are written.

    Returns:
        The explanation.

    Raises:
        FpsimError: a design that the simulator refuses.
    """
    record = Record(spec, *shape)
    row = _row(record, wrong)
    # A dot product brings its addend; the others find an accumulator.
    before = wrong.before if wrong.before is not None else int(row["c"])
    row["acc"] = np.asarray(wrong.expected, dtype=spec.result.dtype)
    explanation = explain_vector(record, row, before, 0, None, STRATEGY)
    expected = _shown(wrong.expected, spec)
    seen = "no result" if wrong.seen is None else _shown(wrong.seen, spec)
    said = (explanation, expected, seen)
    if tool is None:
        return Replayed(None, "not simulated: no simulator is installed (fpsim simulators)", *said)
    writer = Serialiser(dut, spec, *shape)
    ahead = _ahead(dut, record, wrong)
    if ahead is None:
        return Replayed(
            None, f"not simulated: no short way to accumulator {before:x} is known", *said
        )
    columns = _told(record, ahead, row, dut)
    run = VectorRun(_source(record, dut), columns, np.arange(columns["op"].size)).computed()
    name = f"{dut.top}-{spec.name}-{STRATEGY}"
    simulation = NativeSimulation(dut, tool, build.resolve() / name, Options(), ports)
    source = run.source(STRATEGY)
    try:
        result = run_source(simulation, source, writer)
    except SimulationFailed as failed:
        if not str(failed).startswith("run:"):
            raise
        return Replayed(True, f"simulated on {tool}: {failed}", *said)
    if not result.kept:
        note = (
            f"simulated on {tool} after {_count(ahead)}: right, so the registers in which it is "
            "wrong were not reached"
        )
        return Replayed(False, note, *said)
    lanes = max((beats.elements or 0 for beats in dut.input.beats), default=0)
    diagnosis = diagnose(source, writer, result, lanes)
    directory = build.resolve() / f"{name}-vectors"
    short = run.take(slice(0, int(result.kept[0].index) + 1))
    note = f"simulated on {tool} after {_count(ahead)}: wrong there too"
    return Replayed(True, note, *said, diagnosis, short.write(directory))


def _count(ahead: Columns) -> str:
    count = ahead["op"].size
    return f"{count} vector{'s' * (count != 1)}"


def _shown(code: int, spec: MacSpec) -> str:
    digits = -(-spec.result.bits // 4)
    return f"{code:0{digits}x} = {Node(0, '', decode(code, spec.result)).text}"


def _row(record: Record, wrong: Wrong) -> dict[str, Any]:
    """Return the columns of the wrong vector, without an axis for vectors."""
    name = wrong.operation
    op = Op.DOT if "+" in name else Op[name.upper()]
    row: dict[str, Any] = {"op": np.asarray(int(op), dtype=np.uint8)}
    for f in record.fields:
        if f.name in ("op", "acc"):
            continue
        codes = wrong.codes.get(f.name)
        dtype = record.dtype_of(f.name)
        if record.is_single(f.name):
            row[f.name] = np.asarray(codes[0] if codes else 0, dtype=dtype)
        else:
            neutral = _neutral(record, f.name)
            row[f.name] = np.asarray(codes or [neutral] * f.lanes, dtype=dtype)
    return row


def _neutral(record: Record, name: str) -> int:
    """Return the code of a scale of one, or zero."""
    if not name.endswith("_scale"):
        return 0
    fmt = record.format_of(name)
    return int(fmt.encode(np.ones(1), "rne", "saturate")[0])


def _ahead(dut: Dut, record: Record, wrong: Wrong) -> Columns | None:
    """Return vectors after which the design holds the accumulator; None: none are known."""
    if wrong.before is None:
        return _empty(record)
    if wrong.ahead:
        told = (replace(wrong, operation=op, codes=codes) for op, codes in wrong.ahead)
        rows = [_row(record, one) for one in told]
        return {n: np.stack([row[n] for row in rows]) for n in rows[0]}
    known = dut.known_ops
    one = {n: column[None] for n, column in _row(record, wrong).items()}
    code = np.array([wrong.before], dtype=record.spec.initial.dtype)
    if "load" in known and dut.carries("c"):
        return one | {"op": np.array([Op.LOAD], dtype=np.uint8), "c": code}
    if "dot" in known and dut.carries("c"):
        zeros = {n: np.zeros_like(one[n]) for n in "ab"}
        dot = one | zeros | {"op": np.array([Op.DOT], dtype=np.uint8), "c": code}
        if int(record.dot(dot, code)[0]) == wrong.before:
            return dot
    begin = next((op for op in (Op.CLEAR, Op.DOT) if op.name.lower() in known), None)
    macs = path_to(record, wrong.before) if begin is not None and "mac" in known else None
    if macs is None or begin is None:
        return None
    first = _zeros(record)
    first["op"][0] = begin
    return {n: np.concatenate([first[n], macs[n]]) if n in macs else first[n] for n in first}


def _zeros(record: Record) -> dict[str, Any]:
    """Return one vector of zero codes, with scales of one."""
    found: dict[str, Any] = {"op": np.zeros(1, dtype=np.uint8)}
    for f in record.fields:
        if f.name in ("op", "acc"):
            continue
        shape = (1,) if record.is_single(f.name) else (1, f.lanes)
        found[f.name] = np.full(shape, _neutral(record, f.name), dtype=record.dtype_of(f.name))
    return found


def _empty(record: Record) -> Columns:
    return {name: column[:0] for name, column in _zeros(record).items()}


def _told(record: Record, ahead: Columns, row: Mapping[str, Any], dut: Dut) -> dict[str, Any]:
    """Return the vectors ahead, the wrong one, and where they are few some more like it."""
    wrong = {n: np.asarray(column)[None] for n, column in row.items() if n != "acc"}
    first = {n: np.concatenate([ahead[n], wrong[n]]) for n in wrong}
    if ahead["op"].size > MOST_REPEATED or first["op"][0] in (Op.MAC, Op.IDLE):
        return first
    rng = np.random.default_rng(1)
    copies = [first]
    for _ in range(MORE):
        other = {n: column.copy() for n, column in first.items()}
        for n in "ab":
            fmt = record.format_of(n)
            codes = np.arange(1 << min(fmt.bits, 16), dtype=np.uint64)
            codes = codes[dut.domain.takes(n, fmt, codes)]
            if codes.size:
                other[n][-1] = rng.choice(codes, other[n].shape[1])
        copies.append(other)
    return {n: np.concatenate([copy[n] for copy in copies]) for n in first}


def _source(record: Record, dut: Dut) -> VectorSource:
    def blocks() -> Iterator[tuple[int, Columns]]:
        raise FpsimError("vectors: a counterexample has its own")
        yield  # pragma: no cover

    start = "dot" if "dot" in dut.known_ops else "load" if "load" in dut.known_ops else "clear"
    return VectorSource(record, 0, STRATEGY, 1, start, (), blocks)
