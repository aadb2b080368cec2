# SPDX-License-Identifier: Apache-2.0
"""The bench without Python in the simulator: generated SystemVerilog, for millions of vectors."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fpsim.base.atomic_files import write_atomic
from fpsim.hdl.bench.build_dir import Progress, SimulationFailed, ended_by_the_design
from fpsim.hdl.bench.replay import Simulation, kept_by, no_port
from fpsim.hdl.bench.stimulus import PACKED, BeatWriter, Stimulus
from fpsim.hdl.bench.testbench import BENCH_TOP, testbench
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.ports import Port

__all__ = ["NativeSimulation", "build_commands", "write_testbench"]

_SHARES = 1 << 16
_FILE = f"{BENCH_TOP}.sv"


def build_commands(
    simulator: str, dut: Dut, bench: Path, directory: Path, waves: bool
) -> list[list[str]]:
    """Return the command lines that compile a bench with its design.

    Args:
        simulator: ``verilator`` or ``icarus``.
        dut: the design.
        bench: file of the bench.
        directory: where the compiled bench goes.
        waves: whether Verilator's bench can write a waveform.

    Returns:
        Command lines, to be run in order.
    """
    sources = [str(path) for path in (*dut.sources, bench)]
    if simulator == "icarus":
        command = ["iverilog", "-g2012", "-o", str(directory / "bench.vvp"), "-s", BENCH_TOP]
        return [[*command, *dut.compile_arguments(simulator), *sources]]
    command = ["verilator", "--binary", "--timing", "-O3", "-Wno-fatal", "-Wno-lint"]
    command += ["--top-module", BENCH_TOP, "-Mdir", str(directory / "native"), "-o", "bench"]
    command += ["-CFLAGS", "-fcoroutines -std=c++20 -O2"]
    command += ["--trace"] if waves else []
    return [[*command, *dut.compile_arguments(simulator), *sources]]


def run_command(simulator: str, directory: Path) -> list[str]:
    """Return the command that runs a compiled bench; plusargs follow."""
    if simulator == "icarus":
        return ["vvp", "-n", str(directory / "bench.vvp")]
    return [str(directory / "native" / "bench")]


class NativeSimulation(Simulation):
    """A design compiled with its generated bench."""

    bench, stimulus = "native", PACKED

    def build(self, writer: BeatWriter, progress: Progress | None) -> float:
        """Write the bench and compile it if needed; return the seconds it took."""
        text = testbench(self.dut, writer, f"bench of {self.dut.top}", self.ports)
        path = write_atomic(self.work.directory / _FILE, text.encode())

        def commands(where: Path) -> list[list[str]]:
            return build_commands(self.tool.name, self.dut, path, where, self.options.waves)

        try:
            return self.work.build_with(commands, text, progress)
        except SimulationFailed as failed:
            raise no_port(failed, self.dut) from None

    def _run(
        self, stimulus: Stimulus, writer: BeatWriter, limit: float, progress: Progress | None
    ) -> dict[str, Any]:
        options, result = self.options, self.work.run_dir / "result.txt"
        result.unlink(missing_ok=True)
        shares = {"stall": options.stall, "resets": options.resets if self.dut.reset else 0.0}
        plus = {name: str(round(share * _SHARES)) for name, share in shares.items()}
        plus |= {"stimulus": str(stimulus.path), "result": str(result), "seed": str(options.seed)}
        plus |= {"patience": str(options.patience), "keep": str(kept_by(self.dut))}
        plus["latency"] = str(self.dut.output.latency or 0)
        if options.waves:
            plus["waves"] = str(self.waveform)
        command = run_command(self.tool.name, self.work.build_dir)
        command += [f"+{name}={value}" for name, value in plus.items()]
        seconds, failed = self.work.run_with(command, stimulus.compared, limit, progress)
        lines = result.read_text(encoding="utf-8").splitlines() if result.is_file() else []
        log = self.work.directory / "run.log" if failed else None
        try:
            found = _parsed(lines, [f.port for f in writer.outputs], log)
        except SimulationFailed as unfinished:
            raise failed or unfinished from None
        if failed is not None and not found["error"]:
            raise failed
        return found | {"seconds": seconds}

    @property
    def waveform(self) -> Path | None:
        """The file of the waveform, None if none was asked for."""
        return self.work.run_dir / "dump.vcd" if self.options.waves else None


def _parsed(lines: Sequence[str], ports: Sequence[str], log: Path | None) -> dict[str, Any]:
    """Return the bench's lines as the cocotb bench's result file; ``log``: of a failed run."""
    rows = [line.split()[1:] for line in lines if line.startswith("mismatch ")]
    if not lines or not lines[-1].startswith("end "):
        if not rows:
            raise SimulationFailed("run: the bench ended without a result: the design stopped it")
        done = 1 + int(rows[-1][0])
        error = f"error {ended_by_the_design(log)}"
        lines = [*lines, error, f"end {done} {len(rows)} 0 0"]
    compared, mismatches, clocks, resets = (int(word) for word in lines[-1].split()[1:])
    errors = [line.partition(" ")[2] for line in lines if line.startswith("error ")]
    states = [f"last seen {line[6:]}" for line in lines if line.startswith("state ")]
    return {
        "compared": compared,
        "mismatch_count": mismatches,
        "mismatches": [[int(row[0]), dict(zip(ports, row[1:], strict=True))] for row in rows],
        "clocks": clocks,
        "resets": resets,
        "error": "; ".join([*errors[:1], *states[:1]]) or None,
    }


def write_testbench(
    dut: Dut,
    writer: BeatWriter,
    directory: Path,
    title: str,
    ports: Mapping[str, Port] | None = None,
) -> tuple[Path, list[str]]:
    """Write the bench of a design.

    Args:
        dut: the design.
        writer: writes its beats.
        directory: where the bench goes.
        title: first line of the bench.
        ports: the ports that the design has, where they are known.

    Returns:
        The file, and shell commands of both simulators.
    """
    path = write_atomic(directory / _FILE, testbench(dut, writer, title, ports).encode())
    commands = []
    for simulator in ("verilator", "icarus"):
        build = build_commands(simulator, dut, path, Path(), False)
        commands += [shlex.join(command) for command in build]
        commands.append(shlex.join([*run_command(simulator, Path()), f"+stimulus={PACKED}"]))
    return path, commands
