# SPDX-License-Identifier: Apache-2.0
"""Replay golden vectors through a design: every bit of every result compared.

The expected values come from the vectors alone; the simulator runs in child processes with a time
limit (`fpsim.hdl.bench.build_dir`) and does nothing but move bits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.beat_plan import LineField
from fpsim.hdl.bench.build_dir import Progress, SimulationFailed, Work
from fpsim.hdl.bench.harness import HARNESS_TOP, TURNS, Harness, driven, net, whole_beat
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.simulator import SIMULATORS, VHDL_SIMULATORS, Simulator, find
from fpsim.hdl.bench.stimulus import (
    LINES,
    BeatWriter,
    Located,
    Stimulus,
    locate,
    write_stimulus,
)
from fpsim.hdl.dut.dut import RESET_OP, Dut
from fpsim.hdl.dut.ports import Port
from fpsim.hdl.rtl.parameters import RtlTop
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.vector_source import VectorSource, from_directory
from fpsim.units.spec import MacSpec
from fpsim.vectors.sets.word_layout import Field

__all__ = [
    "Mismatch",
    "Options",
    "Progress",
    "ReplayResult",
    "Simulation",
    "SimulationFailed",
    "answer_text",
    "kept_by",
    "no_port",
    "replay",
    "run_source",
    "split",
]  # fmt: skip

#: Mismatches that a result shows.
MAX_MISMATCHES = 10
#: Mismatches that are looked at to guess the mistake.
KEPT_MISMATCHES, RELAXED_MISMATCHES = 1 << 14, 1 << 20
# What Icarus and Verilator say of a connection to a port that is not there.
_NO_PORT = re.compile(r"port ``(?=.*is not a port)(?P<icarus>\w+)|Pin not found: '(?P<pin>\w+)'")
#: A run may take this long, plus the time for its beats at a very slow rate.
RUN_SECONDS = 60.0
RUN_CLOCKS_PER_SECOND = 50.0


@dataclass(frozen=True)
class Options:
    """How a design is simulated.

    Raises:
        FpsimError: a share outside 0..0.95, a seed or patience below 0 or 1.
    """

    waves: bool = False  #: write a waveform
    stall: float = 0.0  #: share of clocks without a beat, and of clocks that take no result
    resets: float = 0.0  #: share of vectors before which another one is begun and reset
    seed: int = 1  #: of stalls and resets
    patience: int = 2000  #: clocks without any handshake after which a design is given up
    timeout: float | None = None  #: seconds of simulation; None: generous for the beats

    def __post_init__(self) -> None:
        for name in ("stall", "resets"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 0.95:
                raise FpsimError(f"{name}: {value!r} is not a share in 0..0.95")
        for name, low in (("seed", 0), ("patience", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise FpsimError(f"{name}: {value!r} is not an integer of at least {low}")


@dataclass(frozen=True)
class Mismatch:
    """A vector whose result differs from the vector's accumulator."""

    index: int  #: of the vector, from 0
    line: int | None  #: of vectors.hex, from 1; None: the vectors are in no file
    fields: dict[str, int]  #: the vector's fields by name; element 0 in the low bits
    expected: str  #: hexadecimal
    seen: str  #: hexadecimal; ``x`` for a digit with an unknown bit
    code: int | None = None  #: accumulator code that was seen; None: not all its bits are known
    wires: dict[str, str] = field(default_factory=dict)  #: bits seen per output port
    before: int | None = None  #: index of the vector applied before it
    answers: tuple[str, ...] = ("acc",)  #: fields that are results

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        fields = {n: f"{value:x}" for n, value in self.fields.items() if n not in self.answers}
        return {"vector": self.index, "line": self.line, "fields": fields,
                "expected": self.expected, "seen": self.seen, "wires": self.wires}  # fmt: skip

    def __str__(self) -> str:
        values = ", ".join(f"{k} {v:x}" for k, v in self.fields.items() if k not in self.answers)
        place = "" if self.line is None else f"line {self.line}; "
        unknown = [
            f"{port} bit {len(bits) - 1 - i} is {bit.lower()}"
            for port, bits in self.wires.items()
            for i, bit in enumerate(bits)
            if bit not in "01"
        ]
        note = f" ({', '.join(unknown[:8])}{', ...' * (len(unknown) > 8)})" if unknown else ""
        return (
            f"vector {self.index} ({place}{values}): "
            f"expected {self.expected}, seen {self.seen}{note}"
        )


@dataclass(frozen=True)
class ReplayResult:
    """The outcome of a replay: results compared, mismatches, times."""

    unit: str
    simulator: str  #: name and version
    bench: str  #: cocotb or native
    vectors: int  #: in the set
    left_out: int  #: vectors that the design cannot be told
    due: int  #: results that had to be compared
    compared: int  #: results that were compared
    mismatch_count: int
    mismatches: tuple[Mismatch, ...]  #: the first `MAX_MISMATCHES`
    beats: int
    clocks: int
    resets: int  #: in the middle of a vector
    build_seconds: float  #: 0 when an earlier build was used again
    run_seconds: float  #: the simulation process from start to end
    clocks_per_second: float  #: inside the simulation
    build_dir: Path
    kept: tuple[Mismatch, ...] = field(default=(), repr=False)  #: the first `KEPT_MISMATCHES`
    error: str = ""  #: why the run ended early, after mismatches
    reasons: dict[str, int] = field(default_factory=dict)  #: why vectors were left out
    terms: str = ""  #: differences that do not count, and the domain; empty: none

    @property
    def passed(self) -> bool:
        """Every result that was due was compared, there was at least one, and all matched."""
        return 0 < self.compared == self.due and not self.mismatch_count and not self.error

    def __str__(self) -> str:
        verdict = f"{self.mismatch_count} mismatches" if self.mismatch_count else "all match"
        if self.compared != self.due:
            verdict = f"only {self.compared} of {self.due} results compared"
            verdict += f", {self.mismatch_count} mismatches" * bool(self.mismatch_count)
        applied = self.vectors - self.left_out
        why = "; ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        note = f" ({self.left_out} more cannot be told to the design: {why})"
        lines = [f"{self.unit}: {applied} vectors on {self.simulator}, {verdict}"]
        lines[0] += note if self.left_out else ""
        lines += [f"compared: {self.terms}"] if self.terms else []
        lines += [f"the run ended early: {self.error}"] if self.error else []
        return "\n".join(lines)


class Simulation:
    """A design compiled for a simulator, ready to be run with any vectors of its unit."""

    bench, stimulus = "cocotb", LINES

    def __init__(
        self,
        dut: Dut,
        tool: Simulator,
        directory: Path,
        options: Options,
        ports: Mapping[str, Port] | None = None,
    ) -> None:
        if dut.vhdl and _needs_harness(dut):
            raise FpsimError(
                f"{_needs_harness(dut)}: needs a generated module around the design, "
                "and VHDL has none"
            )
        if dut.vhdl != (tool.name in VHDL_SIMULATORS):
            language = "VHDL" if dut.vhdl else "Verilog"
            takes = ", ".join(VHDL_SIMULATORS if dut.vhdl else SIMULATORS)
            raise FpsimError(f"simulator: {tool.name} does not take {language}; allowed: {takes}")
        self.dut, self.tool, self.options, self.ports = dut, tool, options, ports
        self.work = Work(tool, dut, directory, options.waves)

    def build(self, writer: BeatWriter, progress: Progress | None) -> float:
        """Compile if needed; return the seconds it took."""
        harness = "" if self.dut.vhdl else self._module(writer)
        try:
            return self.work.build(harness, progress)
        except SimulationFailed as failed:
            raise no_port(failed, self.dut) from None

    def _module(self, writer: BeatWriter) -> str:
        turns = TURNS if _every_clock(self.dut, self.options) else 1
        return Harness(self.dut, writer, self.ports).module(turns)

    def play(
        self, stimulus: Stimulus, writer: BeatWriter, progress: Progress | None
    ) -> dict[str, Any]:
        """Run a file of beats.

        Args:
            stimulus: the file.
            writer: the writer of the file.
            progress: called with "run", the results done and the total.

        Returns:
            The bench's result, with ``compared``, ``mismatch_count`` and ``mismatches``.

        Raises:
            SimulationFailed: a simulation that crashed, hung, or could not go on.
        """
        limit = self.options.timeout
        if limit is None:
            limit = RUN_SECONDS + stimulus.beats / RUN_CLOCKS_PER_SECOND
        result = self._run(stimulus, writer, limit, progress)
        missing = self.work.missing_file()
        if missing:
            raise SimulationFailed(
                f"run: {self.dut.top} loads {missing!r}, which is not there; name it in files"
            )
        if result["error"] and not result["mismatch_count"]:
            done = f" ({result['compared']} of {stimulus.compared} results were compared)"
            raise SimulationFailed(f"run: {self.tool}: {result['error']}{done}")
        return result

    def _run(
        self, stimulus: Stimulus, writer: BeatWriter, limit: float, progress: Progress | None
    ) -> dict[str, Any]:
        job = _bench_job(self.dut, stimulus, writer, self.options, self.ports)
        return self.work.run(job, stimulus.compared, limit, progress)

    @property
    def waveform(self) -> Path | None:
        """The file of the waveform, None if none was asked for."""
        if not self.options.waves:
            return None
        names = {"verilator": "run/dump.vcd", "ghdl": f"run/{self.dut.top}.ghw"}
        return self.work.directory / names.get(self.tool.name, f"{HARNESS_TOP}.fst")


def replay(
    spec: MacSpec,
    vectors_dir: str | Path,
    simulator: str = "verilator",
    *,
    build_dir: str | Path,
    progress: Progress | None = None,
    waves: bool = False,
    top: RtlTop | Dut | None = None,
    timeout: float | None = None,
) -> ReplayResult:
    """Run a directory of vectors through a design.

    Args:
        spec: the unit; the vectors must be for an equal one.
        vectors_dir: the directory.
        simulator: ``verilator`` or ``icarus``; ``ghdl`` for VHDL.
        build_dir: where to compile; an up-to-date build there is used again.
        progress: called with the stage ("build", "run"), the work done and the total (0: unknown).
        waves: write a waveform (``run/dump.vcd`` or ``<top>.fst`` in the build directory).
        top: the design; the reference RTL of ``spec`` if None.
        timeout: seconds the simulation may take; None: generous for the number of vectors.

    Returns:
        The outcome, with the first mismatches.

    Raises:
        SimulatorMissing: the simulator is not installed.
        SimulationFailed: the design does not compile, or the simulation crashed, hung or stuck.
        FpsimError: vectors that are damaged, empty or for another unit; a unit without RTL.
    """
    source = from_directory(vectors_dir)
    if source.spec != spec:
        raise FpsimError(
            f"vectors: {vectors_dir} is for {source.spec.canonical_name}, "
            f"not for {spec.canonical_name}"
        )
    if not source.count:
        raise FpsimError(f"vectors: {vectors_dir} holds no vectors; nothing would be compared")
    dut = top if isinstance(top, Dut) else reference_dut(spec, top)
    writer = Serialiser(dut, spec, source.k, source.group)
    options = Options(waves=waves, timeout=timeout)
    simulation = Simulation(dut, find(simulator), Path(build_dir).resolve(), options)
    with closing(simulation.work):
        return run_source(simulation, source, writer, progress)


def run_source(
    simulation: Simulation,
    source: VectorSource,
    writer: BeatWriter,
    progress: Progress | None = None,
) -> ReplayResult:
    """Build a design if needed, and run the vectors of a source through it.

    Args:
        simulation: the design and its simulator.
        source: the vectors.
        writer: writes their beats.
        progress: called with the stage ("build", "run"), the work done and the total (0: unknown).

    Returns:
        The outcome, with the first mismatches.

    Raises:
        FpsimError: no vector that the design can be told.
        SimulationFailed: the design does not compile, or the simulation crashed, hung or stuck.
    """
    work = simulation.work
    path, flush = work.run_dir / simulation.stimulus, simulation.dut.output.flush
    stimulus = write_stimulus(source, writer, path, flush)
    build_seconds = simulation.build(writer, progress)
    started = time.perf_counter()
    result = simulation.play(stimulus, writer, progress)
    run_seconds = time.perf_counter() - started
    rows = result["mismatches"]
    found = locate(source, writer, (ordinal for ordinal, _ in rows))
    answers = source.answers(simulation.dut)
    kept = tuple(_mismatch(source, writer, found[n], answers, seen) for n, seen in rows)
    wrong = tuple(m for m in kept if not _equal(simulation.dut, source, m))
    count = len(wrong) if len(kept) == result["mismatch_count"] else result["mismatch_count"]
    kept = wrong
    return ReplayResult(
        unit=source.record.title,
        simulator=str(simulation.tool),
        bench=simulation.bench,
        vectors=source.count,
        left_out=stimulus.left_out,
        due=stimulus.compared,
        compared=result["compared"],
        mismatch_count=count,
        mismatches=kept[:MAX_MISMATCHES],
        beats=stimulus.beats,
        clocks=result["clocks"],
        resets=result["resets"],
        build_seconds=build_seconds,
        run_seconds=run_seconds,
        clocks_per_second=result["clocks"] / max(result["seconds"], 1e-9),
        build_dir=work.directory,
        kept=kept[:KEPT_MISMATCHES],
        error=result["error"] or "",
        reasons=stimulus.reasons,
        terms=_terms(simulation.dut),
    )


def _terms(dut: Dut) -> str:
    """Name the differences that do not count, and the domain of vectors."""
    parts = [str(dut.comparison)] if dut.comparison or dut.domain else []
    return "; ".join([*parts, str(dut.domain)]) if dut.domain else "".join(parts)


def _equal(dut: Dut, source: VectorSource, mismatch: Mismatch) -> bool:
    """Return whether a result that differs counts as equal."""
    if not dut.comparison or mismatch.code is None:
        return False
    seen = split(mismatch.code, source.answers(dut))
    for name, code in seen.items():
        operation, wanted = source.operation, mismatch.fields[name]
        fmt = source.spec.result if operation is None else operation.outputs.get(name)
        if fmt is None:
            if code != wanted:
                return False
            continue
        first, second = dut.comparison.canonical(fmt, np.array([code, wanted], dtype=fmt.dtype))
        if first != second:
            return False
    return True


def _needs_harness(dut: Dut) -> str:
    """Return the first key that needs more than renamed ports; empty if none does."""
    also = dut.reset is not None and dut.reset.also
    keys = {"clock.edge": dut.falling, "clock.also": dut.clocks, "reset.also": also,
            "output.beats": dut.output.beats > 1, "input.tie": dut.input.tie_rest,
            "input.delay": bool(dut.input.delay),
            "memories": bool(dut.memories)}  # fmt: skip
    return next((key for key, value in keys.items() if value), "")


def no_port(failed: SimulationFailed, dut: Dut) -> SimulationFailed:
    """Return one sentence on a missing port, if a simulator's failure is one; else the failure."""
    missing = _NO_PORT.search(str(failed))
    if missing is None:
        return failed
    port = missing["icarus"] or missing["pin"]
    return SimulationFailed(f"build: port: {dut.top} has no port {port!r}")


def _bench_job(
    dut: Dut,
    stimulus: Stimulus,
    writer: BeatWriter,
    options: Options,
    ports: Mapping[str, Port] | None,
) -> dict[str, Any]:
    reset = dut.reset
    turns = TURNS if _every_clock(dut, options) else 0
    widths = [] if dut.vhdl else Harness(dut, writer, ports).widths()
    inputs = writer.inputs if dut.vhdl else driven(writer.inputs)
    inputs = (whole_beat(writer.inputs),) if turns else inputs
    return {
        "prefix": "" if dut.vhdl else net(""),
        "turns": turns,
        "stimulus": str(stimulus.path),
        "design": dut.top,
        "widths": [[f"bits_{i}", *row] for i, row in enumerate(widths)],
        "clock": dut.clock,
        "reset": None if reset is None else vars(reset),
        "inputs": _ports(inputs),
        "outputs": _ports(writer.outputs),
        "quiet": {f.port: f.quiet for f in inputs if f.quiet is not None},
        "in_valid": dut.input.valid,
        "in_ready": dut.input.ready,
        "out_valid": dut.output.valid,
        "out_ready": dut.output.ready,
        "latency": dut.output.latency,
        "stall": options.stall,
        "resets": options.resets if dut.reset else 0.0,
        "seed": options.seed,
        "patience": options.patience,
        "max_mismatches": kept_by(dut),
    }


def _every_clock(dut: Dut, options: Options) -> bool:
    """Return whether a beat goes in and a result comes out on every clock, whatever was seen."""
    waits = dut.input.valid or dut.output.valid or dut.output.latency != 1
    resets = options.resets or RESET_OP in dut.ops.values() or dut.input.interval != 1
    return bool(dut.clock and not waits and not resets and not dut.vhdl)


def kept_by(dut: Dut) -> int:
    """Return how many mismatches a bench keeps: all of them where some may not count."""
    return RELAXED_MISMATCHES if dut.comparison else KEPT_MISMATCHES


def _ports(fields: Iterable[LineField]) -> list[list[Any]]:
    return [[f.port, f.width, f.exact, f.mask, f.start, f.stop] for f in fields]


def _mismatch(
    source: VectorSource,
    writer: BeatWriter,
    located: Located,
    answers: tuple[Field, ...],
    seen: dict[str, str],
) -> Mismatch:
    told = [f for f in source.record.fields if f in answers or source.operation is None
            or f.name in source.operation.inputs]  # fmt: skip
    fields = {f.name: _packed(f, located.row[f.name]) for f in told}
    code = writer.seen_code(seen)
    shown = _hex("".join(reversed(seen.values())))
    if code is not None:
        shown = answer_text(split(code, answers), answers)
    return Mismatch(
        located.index, source.line_of(located.index), fields, answer_text(fields, answers), shown,
        code, seen, located.before, tuple(f.name for f in answers),
    )  # fmt: skip


def _packed(place: Field, value: Any) -> int:
    """Return a field as one number, element 0 in the low bits."""
    codes = np.atleast_1d(value).tolist()
    return sum(int(code) << (place.lane_width * lane) for lane, code in enumerate(codes))


def split(code: int, answers: Sequence[Field]) -> dict[str, int]:
    """Return the results in a number by field; the last field stands in the low bits."""
    found = {}
    for part in reversed(answers):
        found[part.name] = code & ((1 << part.width) - 1)
        code >>= part.width
    return dict(reversed(found.items()))


def answer_text(codes: Mapping[str, int], answers: Sequence[Field]) -> str:
    """Return results as hexadecimal digits, with their names where there are several."""
    digits = {f.name: f"{codes[f.name]:0{-(-f.width // 4)}x}" for f in answers}
    if len(digits) == 1:
        return next(iter(digits.values()))
    return " ".join(f"{name} {text}" for name, text in digits.items())


def _hex(bits: str) -> str:
    """Return hexadecimal digits of a bit string; a digit with an X or Z in it is ``x``."""
    padded = bits.rjust(-(-len(bits) // 4) * 4, "0")
    digits = (padded[i : i + 4] for i in range(0, len(padded), 4))
    return "".join(f"{int(d, 2):x}" if set(d) <= {"0", "1"} else "x" for d in digits)
