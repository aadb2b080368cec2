# SPDX-License-Identifier: Apache-2.0
"""A build directory: compiling a design and running a simulation in it, in bounded child processes.

Output goes to ``build.log`` and ``run.log``; a stamp says what the compiled design was built from,
so that an up-to-date one is used again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.hdl.bench import child_process
from fpsim.hdl.bench.harness import HARNESS_TOP
from fpsim.hdl.bench.simulator import Simulator, environment_of
from fpsim.hdl.dut.dut import Dut

__all__ = ["Progress", "SimulationFailed", "Work", "ended_by_the_design"]

#: Called with the stage ("build", "run"), what is done and the total (0: unknown).
Progress = Callable[[str, int, int], None]

BUILD_SECONDS = 600.0
# A warning of the user's design is not an error; the reference RTL is linted by tests.
_BUILD_ARGS = {"verilator": ("-Wno-fatal", "-Wno-lint"), "ghdl": ("--std=08",)}
_LAUNCHER = Path(__file__).parents[1] / "inside" / "fpsim_launch.py"


class SimulationFailed(FpsimError):
    """A design that does not compile, or a simulation that crashed or did not end."""


def ended_by_the_design(log: Path | None) -> str:
    """Say that a simulation ended before its bench did, and what ``log`` first complains of."""
    why = "" if log is None else child_process.first_error(log)
    return "the design ended the simulation" + f": {why}" * bool(why)


class Work:
    """One design, one simulator, one directory.

    Raises:
        FpsimError: a directory that cannot be written.
    """

    def __init__(self, tool: Simulator, dut: Dut, directory: Path, waves: bool) -> None:
        self.tool, self.dut, self.directory, self.waves = tool, dut, directory, waves
        self.run_dir = directory / "run"
        self.counter = self.run_dir / "progress.txt"
        self.seen = self.run_dir / "mismatches.jsonl"
        self._stamp_file = directory / "stamp.txt"
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._stamp_file.touch()
        except OSError as error:
            raise FpsimError(
                f"build directory: {directory} cannot be written ({error.strerror})"
            ) from None

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
        job = self._job()
        job |= {"sources": sources, "build_args": [*job["build_args"], *arguments]}
        return self._build("build", job, harness, progress)

    def build_with(self, commands: list[list[str]], text: str, progress: Progress | None) -> float:
        """Compile with commands of one's own; ``text`` is what they compile besides the design.

        Raises:
            SimulationFailed: as `build`.
        """
        return self._build("commands", {"commands": commands}, text, progress)

    def _build(
        self, action: str, job: dict[str, Any], text: str, progress: Progress | None
    ) -> float:
        stamp = self._stamp(text)
        if self._stamp_file.read_text(encoding="ascii") == stamp:
            return 0.0
        self._stamp_file.write_text("", encoding="ascii")
        started = time.perf_counter()
        tell = None if progress is None else lambda: progress("build", 0, 0)
        if self._launch("build", job, BUILD_SECONDS, tell, action):
            errors = child_process.log_errors(self.directory / "build.log")
            raise SimulationFailed(f"build: {self.tool} refuses {self.dut.top}:\n{errors}")
        self._stamp_file.write_text(stamp, encoding="ascii")
        return time.perf_counter() - started

    def run(
        self, job: dict[str, Any], total: int, limit: float, progress: Progress | None
    ) -> dict[str, Any]:
        """Simulate with the bench's part of the job; return what the bench wrote.

        Raises:
            SimulationFailed: the simulation crashed, or did not end within ``limit`` seconds.
        """
        result = self.run_dir / "result.json"
        for path in (result, self.counter, self.seen):
            path.unlink(missing_ok=True)
        job = self._job() | job
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
        """Simulate with a command of one's own; return the seconds it took, and how it failed.

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

    def _job(self) -> dict[str, Any]:
        return {
            "simulator": self.tool.name,
            "top": self.dut.top if self.dut.vhdl else HARNESS_TOP,
            "language": "vhdl" if self.dut.vhdl else "verilog",
            "parameters": dict(self.dut.parameters) if self.dut.vhdl else {},
            "build_args": list(_BUILD_ARGS.get(self.tool.name, ())),
            "build_dir": str(self.directory),
            "run_dir": str(self.run_dir),
            "waves": self.waves,
        }

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
        """Return what a bench had noted of mismatches when the simulation ended under it."""
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
        """What a build depends on, as one digest."""
        facts = [str(self.tool), version("cocotb"), sys.executable, self.waves, text]
        facts += [self.dut.top, sorted(self.dut.parameters.items())]
        facts += [self.dut.compile_arguments(self.tool.name)]
        digest = hashlib.sha256(repr(facts).encode())
        included = (f for i in self.dut.include for f in sorted(i.glob("*")) if f.is_file())
        for path in (*self.dut.sources, *included):
            digest.update(str(path).encode())
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                raise FpsimError(f"source: {path} cannot be read ({error.strerror})") from None
        return digest.hexdigest()
