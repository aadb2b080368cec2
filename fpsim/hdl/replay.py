# SPDX-License-Identifier: Apache-2.0
"""Replay golden vectors through SystemVerilog: every accumulator bit compared after every clock.

The expected values come from the vector files alone; the simulator and cocotb run in child
processes with a time limit (`fpsim.hdl.work`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpsim import vectors
from fpsim.errors import FpsimError
from fpsim.hdl.parameters import RtlTop, rtl_top
from fpsim.hdl.simulator import find
from fpsim.hdl.work import Progress, SimulationFailed, Work
from fpsim.spec import MacSpec
from fpsim.vectors import Field, VectorSet

__all__ = ["Mismatch", "Progress", "ReplayResult", "SimulationFailed", "replay"]

#: Mismatches that a result carries in full.
MAX_MISMATCHES = 10
#: A run may take this long, plus the time for its vectors at a very slow rate.
RUN_SECONDS = 60.0
RUN_CLOCKS_PER_SECOND = 500.0
#: The field with the accumulator expected after the clock.
RESULT_FIELD = "acc"


@dataclass(frozen=True)
class Mismatch:
    """One clock after which the accumulator was not what the vector says."""

    index: int  #: of the vector, from 0
    line: int  #: of vectors.hex, from 1
    fields: dict[str, int]  #: the vector's fields by name
    expected: str  #: hexadecimal
    seen: str  #: hexadecimal; ``x`` for a digit with an unknown bit

    def __str__(self) -> str:
        values = ", ".join(f"{k} {v:x}" for k, v in self.fields.items() if k != RESULT_FIELD)
        return (
            f"vector {self.index} (line {self.line}; {values}): "
            f"expected {self.expected}, seen {self.seen}"
        )


@dataclass(frozen=True)
class ReplayResult:
    """What a replay found."""

    unit: str
    simulator: str  #: name and version
    vectors: int  #: in the directory
    compared: int  #: clocks after which the accumulator was compared
    mismatch_count: int
    mismatches: tuple[Mismatch, ...]  #: the first `MAX_MISMATCHES`
    build_seconds: float  #: 0 when an earlier build was used again
    run_seconds: float  #: the simulation process from start to end
    clocks_per_second: float  #: inside the simulation
    build_dir: Path

    @property
    def passed(self) -> bool:
        """Every vector was compared, there was at least one, and all matched."""
        return 0 < self.compared == self.vectors and not self.mismatch_count

    def __str__(self) -> str:
        if self.compared != self.vectors:
            verdict = f"only {self.compared} compared"
        else:
            verdict = f"{self.mismatch_count} mismatches" if self.mismatch_count else "all match"
        return f"{self.unit}: {self.vectors} vectors on {self.simulator}, {verdict}"


def replay(
    spec: MacSpec,
    vectors_dir: str | Path,
    simulator: str = "verilator",
    *,
    build_dir: str | Path,
    progress: Progress | None = None,
    waves: bool = False,
    top: RtlTop | None = None,
    timeout: float | None = None,
) -> ReplayResult:
    """Run the vectors in ``vectors_dir`` through the RTL of ``spec`` and return what differed.

    Args:
        spec: the unit; the vectors must be for an equal one.
        simulator: ``verilator`` or ``icarus``.
        build_dir: where to compile; an up-to-date build there is used again.
        progress: called with the stage ("build", "run"), what is done and the total (0: unknown).
        waves: write a waveform (``run/dump.vcd`` or ``<top>.fst`` in the build directory).
        top: what to compile instead of the reference RTL of ``spec``.
        timeout: seconds the simulation may take; None: generous for the number of vectors.

    Raises:
        SimulatorMissing: the simulator is not installed.
        SimulationFailed: the design does not compile, or the simulation crashed or hung.
        FpsimError: vectors that are damaged, empty or for another unit; a unit without RTL.
    """
    stream = vectors.read(vectors_dir)
    if stream.spec != spec:
        raise FpsimError(
            f"vectors: {vectors_dir} is for {stream.spec.canonical_name}, "
            f"not for {spec.canonical_name}"
        )
    if not stream.count:
        raise FpsimError(f"vectors: {vectors_dir} holds no vectors; nothing would be compared")
    top = top or rtl_top(spec)
    _check_ports(stream, top)
    tool = find(simulator)
    work = Work(tool, top, Path(build_dir).resolve(), waves)
    build_seconds = work.build(progress)
    limit = RUN_SECONDS + stream.count / RUN_CLOCKS_PER_SECOND if timeout is None else timeout
    started = time.perf_counter()
    result = work.run(_bench_job(stream, top, Path(vectors_dir)), stream.count, limit, progress)
    return ReplayResult(
        unit=spec.name,
        simulator=str(tool),
        vectors=stream.count,
        compared=result["compared"],
        mismatch_count=result["mismatch_count"],
        mismatches=tuple(_mismatch(stream, *row) for row in result["mismatches"]),
        build_seconds=build_seconds,
        run_seconds=time.perf_counter() - started,
        clocks_per_second=result["compared"] / max(result["seconds"], 1e-9),
        build_dir=work.directory,
    )


def _port(field: Field) -> str:
    return f"{field.name}_o" if field.name == RESULT_FIELD else f"{field.name}_i"


def _bench_job(stream: VectorSet, top: RtlTop, directory: Path) -> dict[str, Any]:
    places = {f.name: [_port(f), f.lsb, (1 << f.width) - 1] for f in stream.fields}
    output = places.pop(RESULT_FIELD)
    return {
        "vectors": str((directory / "vectors.hex").resolve()),
        "clock": top.clock,
        "reset": top.reset,
        "inputs": list(top.inputs),
        "drives": list(places.values()),
        "output": output,
        "max_mismatches": MAX_MISMATCHES,
    }


def _check_ports(stream: VectorSet, top: RtlTop) -> None:
    ports = top.inputs | top.outputs
    for field in stream.fields:
        width = ports.get(_port(field))
        if width is None:
            raise FpsimError(f"vectors: field {field.name}: {top.name} has no port {_port(field)}")
        if width != field.width:
            raise FpsimError(
                f"vectors: field {field.name} has {field.width} bits, "
                f"port {_port(field)} of {top.name} has {width}"
            )


def _mismatch(stream: VectorSet, index: int, line: int, word: int, seen: str) -> Mismatch:
    fields = {f.name: (word >> f.lsb) & ((1 << f.width) - 1) for f in stream.fields}
    digits = -(-stream.spec.result.bits // 4)
    return Mismatch(index, line, fields, f"{fields[RESULT_FIELD]:0{digits}x}", seen)
