# SPDX-License-Identifier: Apache-2.0
"""A build directory: compiling a design and running a simulation, in bounded child processes.

Output goes to ``build.log`` and ``run.log``. A compiled design lies in the user's cache
(`fpsim.hdl.bench.build_cache`), so that it is compiled once whatever the directory; with waveforms,
and of VHDL, it lies in the directory itself, with a stamp of its sources. One process at a time
works in a directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.hdl.bench import child_process
from fpsim.hdl.bench.build_cache import BuildCache
from fpsim.hdl.bench.harness import HARNESS_TOP
from fpsim.hdl.bench.simulator import Simulator, environment_of
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.source_digest import source_digest

__all__ = ["Progress", "SimulationFailed", "Work", "ended_by_the_design"]

#: Called with the stage ("build", "run"), the work done and the total (0: unknown).
Progress = Callable[[str, int, int], None]

BUILD_SECONDS = 600.0
# A warning of the user's design is not an error; the reference RTL is linted by tests.
_BUILD_ARGS = {"verilator": ("-Wno-fatal", "-Wno-lint"), "ghdl": ("--std=08",)}
#: Variables that compilers of simulators read.
_COMPILERS = ("CXX", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "VERILATOR_ROOT")
# What Verilator and Icarus say of a file that $readmemh does not find.
_NOT_FOUND = re.compile(
    r"(\S+?):0: \$readmem file not found|\$readmem[hb]: Unable to open (\S+) for reading"
)
_LAUNCHER = Path(__file__).parents[1] / "inside" / "fpsim_launch.py"


class SimulationFailed(FpsimError):
    """A design that does not compile, or a simulation that crashed or did not end."""


def ended_by_the_design(log: Path | None) -> str:
    """Say that a simulation ended before its bench did, and quote the first error in ``log``."""
    why = "" if log is None else child_process.first_error(log)
    return "the design ended the simulation" + f": {why}" * bool(why)


class Work:
    """One design, one simulator, one directory; ``build_dir`` is where the compiled design is.

    Raises:
        FpsimError: a directory that cannot be written, or that another process works in.
    """

    def __init__(self, tool: Simulator, dut: Dut, directory: Path, waves: bool) -> None:
        self.tool, self.dut, self.directory, self.waves = tool, dut, directory, waves
        self.run_dir = directory / "run"
        self.counter = self.run_dir / "progress.txt"
        self.seen = self.run_dir / "mismatches.jsonl"
        self.build_dir = directory
        self._stamp_file = directory / "stamp.txt"
        self._cache = None if waves or dut.vhdl else BuildCache()
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._stamp_file.touch()
            self._lock = (directory / "in_use").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in dut.files:
                (self.run_dir / file.name).unlink(missing_ok=True)
                (self.run_dir / file.name).symlink_to(file.resolve())
        except BlockingIOError:
            raise FpsimError(
                f"build directory: another run works in {directory}; give another one"
            ) from None
        except OSError as error:
            raise FpsimError(
                f"build directory: {directory} cannot be written ({error.strerror})"
            ) from None

    def close(self) -> None:
        """Let other runs use the directory and the compiled design."""
        self._lock.close()
        if self._cache is not None:
            self._cache.release()

    def build(self, harness: str, progress: Progress | None) -> float:
        """Compile unless the stamp says it is done; return the seconds it took.

        ``harness`` is the text of the module around the design, empty for VHDL, which has none.

        Raises:
            SimulationFailed: the simulator refuses the design, with its first complaints.
        """
        sources = [str(path) for path in self.dut.sources]
        if harness:
            path = write_atomic(self.directory / f"{HARNESS_TOP}.sv", harness.encode())
            sources.append(str(path))
        arguments = self.dut.compile_arguments(self.tool.name)

        def job(where: Path) -> dict[str, Any]:
            made = self._job(where)
            return made | {"sources": sources, "build_args": [*made["build_args"], *arguments]}

        return self._build("build", job, harness, progress)

    def build_with(
        self, commands: Callable[[Path], list[list[str]]], text: str, progress: Progress | None
    ) -> float:
        """Compile with the commands of another bench.

        Args:
            commands: given a folder, the command lines that compile into it.
            text: source that the commands compile besides the design.
            progress: called with "build", the work done and the total (0: unknown).

        Returns:
            The seconds it took; 0 if an up-to-date build is there.

        Raises:
            SimulationFailed: the simulator refuses the design, with its first complaints.
        """
        return self._build("commands", lambda where: {"commands": commands(where)}, text, progress)

    def _build(
        self,
        action: str,
        job: Callable[[Path], dict[str, Any]],
        text: str,
        progress: Progress | None,
    ) -> float:
        stamp = self._stamp(f"{action} {text}")
        with nullcontext() if self._cache is None else self._cache.building(stamp):
            found = self._cache.found(stamp) if self._cache is not None else None
            if found is not None:
                self.build_dir = found
                return 0.0
            return self._build_anew(action, job, stamp, progress)

    def _build_anew(
        self,
        action: str,
        job: Callable[[Path], dict[str, Any]],
        stamp: str,
        progress: Progress | None,
    ) -> float:
        scratch = self._cache.scratch() if self._cache is not None else None
        where = self.directory if scratch is None else scratch
        if scratch is None:
            if self._stamp_file.read_text(encoding="ascii") == stamp:
                return 0.0
            self._stamp_file.write_text("", encoding="ascii")
        started = time.perf_counter()
        tell = None if progress is None else lambda: progress("build", 0, 0)
        try:
            status = self._launch("build", job(where), BUILD_SECONDS, tell, action)
            if status:
                errors = child_process.log_errors(self.directory / "build.log")
                raise SimulationFailed(f"build: {self.tool} refuses {self.dut.top}:\n{errors}")
            if scratch is None:
                self._stamp_file.write_text(stamp, encoding="ascii")
            elif self._cache is not None:
                where = self._cache.kept(stamp, scratch)
        except BaseException:
            if scratch is not None and self._cache is not None:
                self._cache.dropped(scratch)
            raise
        self.build_dir = where
        return time.perf_counter() - started

    def run(
        self, job: dict[str, Any], total: int, limit: float, progress: Progress | None
    ) -> dict[str, Any]:
        """Simulate with the cocotb bench.

        Args:
            job: the bench's part of the job file, JSON-ready.
            total: results expected, for ``progress``.
            limit: seconds that the simulation may take.
            progress: called with "run", the results done and the total.

        Returns:
            The bench's result file, or the mismatches noted if the design ended the simulation.

        Raises:
            SimulationFailed: the simulation crashed, or did not end within ``limit`` seconds.
        """
        result = self.run_dir / "result.json"
        for path in (result, self.counter, self.seen):
            path.unlink(missing_ok=True)
        job = self._job(self.build_dir) | job
        job |= {"result": str(result), "progress": str(self.counter), "seen": str(self.seen)}

        def tell() -> None:
            if progress is not None:
                progress("run", self._done(), total)

        status = self._launch("run", job, limit, tell)
        if not result.is_file() and self.seen.is_file():
            log = self.directory / "run.log" if status else None
            return {"error": ended_by_the_design(log)} | self._seen_so_far()
        if status or not result.is_file():
            errors = child_process.log_errors(self.directory / "run.log")
            raise SimulationFailed(
                f"run: {self.tool} ended without a result (status {status}):\n{errors}"
            )
        if progress is not None:
            progress("run", total, total)
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found

    def run_with(
        self, command: list[str], total: int, limit: float, progress: Progress | None
    ) -> tuple[float, SimulationFailed | None]:
        """Simulate with a command line of another bench.

        Args:
            command: the command line.
            total: results expected, for ``progress``.
            limit: seconds that the simulation may take.
            progress: called with "run", the results done and the total.

        Returns:
            The seconds it took, and the failure if the command's status was not 0.

        Raises:
            SimulationFailed: it did not end within ``limit`` seconds.
        """
        started = time.perf_counter()
        tell = None if progress is None else lambda: progress("run", 0, total)
        status = self._launch("run", {"commands": [command]}, limit, tell, "commands")
        seconds = time.perf_counter() - started
        if status:
            errors = child_process.log_errors(self.directory / "run.log")
            failed = SimulationFailed(f"run: {self.tool} failed (status {status}):\n{errors}")
            return seconds, failed
        if progress is not None:
            progress("run", total, total)
        return seconds, None

    def _job(self, where: Path) -> dict[str, Any]:
        return {
            "simulator": self.tool.name,
            "top": self.dut.top if self.dut.vhdl else HARNESS_TOP,
            "language": "vhdl" if self.dut.vhdl else "verilog",
            "parameters": dict(self.dut.parameters) if self.dut.vhdl else {},
            "build_args": list(_BUILD_ARGS.get(self.tool.name, ())),
            "build_dir": str(where),
            "run_dir": str(self.run_dir),
            "waves": self.waves,
        }

    def missing_file(self) -> str:
        """Return the missing file that a memory was to be loaded from; empty if none."""
        text = (self.directory / "run.log").read_text(encoding="utf-8", errors="replace")
        found = _NOT_FOUND.search(text)
        return "" if found is None else next(name for name in found.groups() if name)

    def _launch(
        self,
        action: str,
        job: dict[str, Any],
        limit: float,
        on_wait: Callable[[], None] | None,
        how: str | None = None,
    ) -> int:
        path = self.directory / f"{action}.json"
        path.write_text(json.dumps(job, indent=1), encoding="utf-8")
        try:
            return child_process.run(
                [sys.executable, str(_LAUNCHER), how or action, str(path)],
                log=self.directory / f"{action}.log",
                timeout=limit,
                cwd=self.run_dir,
                environment=environment_of(self.tool),
                on_wait=on_wait,
            )
        except child_process.TimeLimitReached:
            done = self._done() if action == "run" else 0
            hint = "; a loop without delay, or --timeout is short" if action == "run" else ""
            after = f" (at least {done} vectors were done)" if done else ""
            raise SimulationFailed(
                f"{action}: {self.tool} did not end within {limit:.0f} s and was stopped"
                f"{after}{hint}"
            ) from None

    def _seen_so_far(self) -> dict[str, Any]:
        """Return the mismatches that a bench had noted when the design ended the simulation."""
        rows = [json.loads(line) for line in self.seen.read_text(encoding="utf-8").splitlines()]
        done = max(self._done(), 1 + max((int(row[0]) for row in rows), default=-1))
        return {"compared": done, "mismatch_count": len(rows), "mismatches": rows, "clocks": 0,
                "resets": 0, "seconds": 0.0}  # fmt: skip

    def _done(self) -> int:
        try:
            return int(self.counter.read_text(encoding="ascii") or 0)
        except (OSError, ValueError):
            return 0

    def _stamp(self, text: str) -> str:
        """Return one digest of everything that a build depends on."""
        facts = [str(self.tool), version("cocotb"), sys.executable, self.waves, text]
        facts += [os.environ.get(name) for name in _COMPILERS]
        facts += [_BUILD_ARGS, source_digest(self.dut, self.tool.name)]
        return hashlib.sha256(repr(facts).encode()).hexdigest()
