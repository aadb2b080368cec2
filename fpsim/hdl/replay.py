# SPDX-License-Identifier: Apache-2.0
"""Replay golden vectors through SystemVerilog: compile, simulate, compare every bit of every clock.

The simulator and cocotb run in child processes with a time limit; their output goes to
``build.log`` and ``run.log`` in the build directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fpsim.errors import FpsimError
from fpsim.hdl import child, manifest
from fpsim.hdl.manifest import RESULT_FIELD, VectorSet
from fpsim.hdl.parameters import RtlTop, rtl_top
from fpsim.hdl.simulator import Simulator, find
from fpsim.spec import MacSpec

__all__ = ["Mismatch", "Progress", "ReplayResult", "SimulationFailed", "replay"]

#: Called with the stage ("build", "run"), what is done and the total (0: unknown).
Progress = Callable[[str, int, int], None]

MAX_MISMATCHES = 10
_LAUNCHER = Path(__file__).parent / "inside" / "fpsim_launch.py"
BUILD_SECONDS = 600.0
#: A run may take this long, plus the time for its vectors at a very slow rate.
RUN_SECONDS = 60.0
RUN_CLOCKS_PER_SECOND = 500.0
# What would change the runner's behaviour behind our back.
_DROPPED_VARIABLES = ("COCOTB_", "PYTEST_", "WAVES", "GUI", "SIM_CMD_", "GPI_", "PYGPI_", "VERILATOR_")


class SimulationFailed(FpsimError):
    """A design that does not compile, or a simulation that crashed or did not end."""


@dataclass(frozen=True)
class Mismatch:
    """One clock after which the accumulator was not what the vector says."""

    index: int  #: of the vector, from 0
    line: int  #: of the file, from 1
    fields: dict[str, int]  #: the vector's fields by name
    expected: str  #: hexadecimal
    seen: str  #: hexadecimal; ``x`` for a digit with an unknown bit

    def __str__(self) -> str:
        values = ", ".join(f"{k} {v:x}" for k, v in self.fields.items() if k != RESULT_FIELD)
        return f"vector {self.index} (line {self.line}; {values}): expected {self.expected}, seen {self.seen}"


@dataclass(frozen=True)
class ReplayResult:
    """What a replay found."""

    unit: str
    simulator: str  #: name and version
    vectors: int  #: in the directory
    compared: int  #: clocks after which the accumulator was compared
    mismatch_count: int
    mismatches: tuple[Mismatch, ...]  #: the first ones
    build_seconds: float  #: 0 when an earlier build could be used
    run_seconds: float  #: the simulation process, start to end
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
        progress: see `Progress`.
        waves: write a waveform into ``build_dir/run``.
        top: what to compile instead of the reference RTL of ``spec``.
        timeout: seconds the simulation may take; None: generous for the number of vectors.

    Raises:
        SimulatorMissing: the simulator is not installed.
        SimulationFailed: the design does not compile, or the simulation crashed or hung.
        FpsimError: vectors that are damaged, empty or for another unit; a unit without RTL.
    """
    vectors = manifest.read(Path(vectors_dir))
    if vectors.unit != spec:
        raise FpsimError(
            f"vectors: {vectors_dir} is for {vectors.unit.canonical_name}, "
            f"not for {spec.canonical_name}"
        )
    tool = find(simulator)
    top = top or rtl_top(spec)
    _check_ports(vectors, top)
    work = _Work(tool, top, Path(build_dir).resolve(), waves)
    build_seconds = work.build(progress)
    started = time.perf_counter()
    result = work.run(vectors, progress, timeout)
    return ReplayResult(
        unit=spec.name,
        simulator=str(tool),
        vectors=vectors.count,
        compared=result["compared"],
        mismatch_count=result["mismatch_count"],
        mismatches=tuple(_mismatch(vectors, *row) for row in result["mismatches"]),
        build_seconds=build_seconds,
        run_seconds=time.perf_counter() - started,
        clocks_per_second=result["compared"] / max(result["seconds"], 1e-9),
        build_dir=work.directory,
    )


class _Work:
    """One build directory: a stamp says what it holds."""

    def __init__(self, tool: Simulator, top: RtlTop, directory: Path, waves: bool) -> None:
        self.tool, self.top, self.directory, self.waves = tool, top, directory, waves
        self.run_dir = directory / "run"
        self.stamp_file = directory / "stamp.txt"
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FpsimError(
                f"build directory: {directory} cannot be written ({error.strerror})"
            ) from None

    def build(self, progress: Progress | None) -> float:
        """Compile unless the stamp says it is done; return the seconds it took."""
        stamp = self._stamp()
        if self.stamp_file.is_file() and self.stamp_file.read_text(encoding="ascii") == stamp:
            return 0.0
        self.stamp_file.unlink(missing_ok=True)
        started = time.perf_counter()
        job = self._job() | {"sources": [str(path) for path in self.top.sources]}
        tell = None if progress is None else lambda: progress("build", 0, 0)
        status = self._launch("build", job, BUILD_SECONDS, tell)
        if status:
            errors = child.log_errors(self.directory / "build.log")
            raise SimulationFailed(f"build: {self.tool} refuses {self.top.name}:\n{errors}")
        self.stamp_file.write_text(stamp, encoding="ascii")
        return time.perf_counter() - started

    def run(
        self, vectors: VectorSet, progress: Progress | None, timeout: float | None
    ) -> dict[str, Any]:
        """Simulate; return what the bench wrote."""
        result, counter = self.run_dir / "result.json", self.run_dir / "progress.txt"
        for path in (result, counter):
            path.unlink(missing_ok=True)
        output = vectors.field(RESULT_FIELD)
        job = self._job() | {
            "vectors": str(vectors.hex_file.resolve()),
            "result": str(result),
            "progress": str(counter),
            "clock": self.top.clock,
            "reset": self.top.reset,
            "inputs": list(self.top.inputs),
            "drives": [
                [f"{f.name}_i", f.lsb, f.mask] for f in vectors.fields if f.name != RESULT_FIELD
            ],
            "output": {"name": f"{RESULT_FIELD}_o", "lsb": output.lsb, "mask": output.mask},
            "max_mismatches": MAX_MISMATCHES,
        }
        limit = RUN_SECONDS + vectors.count / RUN_CLOCKS_PER_SECOND if timeout is None else timeout

        def tell() -> None:
            if progress is not None:
                progress("run", _read_count(counter), vectors.count)

        status = self._launch("run", job, limit, tell)
        if not result.is_file():
            errors = child.log_errors(self.directory / "run.log")
            raise SimulationFailed(
                f"run: {self.tool} ended with status {status} and without a result:\n{errors}"
            )
        if progress is not None:
            progress("run", vectors.count, vectors.count)
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found

    def _job(self) -> dict[str, Any]:
        return {
            "simulator": self.tool.name,
            "top": self.top.name,
            "parameters": self.top.parameters,
            "build_args": _BUILD_ARGS[self.tool.name],
            "build_dir": str(self.directory),
            "run_dir": str(self.run_dir),
            "waves": self.waves,
        }

    def _launch(
        self, action: str, job: dict[str, Any], limit: float, on_wait: Callable[[], None] | None
    ) -> int:
        path = self.directory / f"{action}.json"
        path.write_text(json.dumps(job, indent=1), encoding="utf-8")
        try:
            return child.run(
                [sys.executable, str(_LAUNCHER), action, str(path)],
                log=self.directory / f"{action}.log",
                timeout=limit,
                cwd=self.run_dir,
                environment=_environment(self.tool),
                on_wait=on_wait,
            )
        except child.TimeLimitReached:
            done = _read_count(self.run_dir / "progress.txt") if action == "run" else 0
            after = f" after about {done} vectors" if done else ""
            raise SimulationFailed(
                f"{action}: {self.tool} did not end within {limit:.0f} s{after}; it was stopped"
            ) from None

    def _stamp(self) -> str:
        """What a build depends on, as one digest."""
        digest = hashlib.sha256()
        facts = [str(self.tool), version("cocotb"), sys.executable, self.top.name, self.waves]
        facts += [sorted(self.top.parameters.items()), _BUILD_ARGS[self.tool.name]]
        digest.update(repr(facts).encode())
        for path in self.top.sources:
            digest.update(str(path).encode())
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                raise FpsimError(f"source: {path} cannot be read ({error.strerror})") from None
        return digest.hexdigest()


_BUILD_ARGS: dict[str, list[str]] = {"verilator": [], "icarus": []}


def _environment(tool: Simulator) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED_VARIABLES)}
    return kept | dict(tool.environment)


def _check_ports(vectors: VectorSet, top: RtlTop) -> None:
    for field in vectors.fields:
        port = f"{field.name}_o" if field.name == RESULT_FIELD else f"{field.name}_i"
        width = (top.inputs | top.outputs).get(port)
        if width is None:
            raise FpsimError(f"vectors: field {field.name!r}: {top.name} has no port {port}")
        if width != field.width:
            raise FpsimError(
                f"vectors: field {field.name!r} has {field.width} bits; port {port} has {width}"
            )


def _read_count(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii") or 0)
    except (OSError, ValueError):
        return 0


def _mismatch(vectors: VectorSet, index: int, line: int, word: int, seen: str) -> Mismatch:
    output = vectors.field(RESULT_FIELD)
    digits = -(-output.width // 4)
    fields = {f.name: f.of(word) for f in vectors.fields}
    return Mismatch(index, line, fields, f"{output.of(word):0{digits}x}", seen)
