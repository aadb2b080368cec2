# SPDX-License-Identifier: Apache-2.0
"""Verify a design against a unit: vectors in, a verdict with its explanation out."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError, not_one_of
from fpsim.hdl.bench.replay import Options, Progress, ReplayResult, Simulation, run_source
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.simulator import find
from fpsim.hdl.bench.stimulus import BeatWriter
from fpsim.hdl.bench.sv_bench import NativeSimulation
from fpsim.hdl.dut.adapter import adapter_ports, beat_writer
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.port_check import check_ports, with_arrays
from fpsim.hdl.dut.ports import Port, read_ports
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.adequacy import Adequacy, check_waivers, judge
from fpsim.hdl.verify.bundle import write_bundle
from fpsim.hdl.verify.diagnosis import Diagnosis, diagnose
from fpsim.hdl.verify.find_latency import found_latency
from fpsim.hdl.verify.flag_check import FlagReport, check_flags
from fpsim.hdl.verify.operation_diagnosis import diagnose_operation
from fpsim.hdl.verify.shrink import Reproducer, shrink
from fpsim.hdl.verify.vector_source import (
    VectorSource,
    begun_with_products,
    drawn,
    from_directory,
    made_for,
    made_for_operation,
    with_told_codes,
)
from fpsim.hdl.verify.vector_window import REPRODUCER
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec
from fpsim.vectors.operations.operation import Operation

__all__ = ["BENCHES", "Plan", "Report", "vectors_for", "verify", "verify_design"]

BENCHES = {"cocotb": Simulation, "native": NativeSimulation}


@dataclass(frozen=True)
class Plan:
    """The vectors and settings of a verification: a directory of vectors, or a set made for it."""

    vectors_dir: Path | None = None
    strategy: str = "mixed"
    count: int = 4096
    seed: int = 1
    bench: str = "cocotb"
    options: Options = field(default_factory=Options)
    explain: bool = True  #: explain a failure and shrink it
    judge: bool = True  #: ask which mistakes the vectors would have found
    bundle: Path | None = None  #: a zip file that runs the failure again without fpsim


@dataclass(frozen=True)
class Report:
    """The outcome of a verification."""

    result: ReplayResult
    diagnosis: Diagnosis | None = None
    reproducer: Reproducer | None = None
    reproducer_dir: Path | None = None
    waveform: Path | None = None
    adequacy: Adequacy | None = None  #: of vectors that all matched, unless they are a reproducer
    latency: int | None = None  #: found by trying
    bundle: Path | None = None
    flags: FlagReport | None = None  #: where the design has status flags and the results matched

    @property
    def passed(self) -> bool:
        """Whether vectors ran, all matched, and would have found every mistake not waived."""
        right = self.result.passed and (self.flags is None or self.flags.passed)
        return right and not (self.adequacy and self.adequacy.missing)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        result = self.result
        data: dict[str, Any] = {
            "unit": result.unit,
            "simulator": result.simulator,
            "bench": result.bench,
            "vectors": result.vectors,
            "left_out": result.left_out,
            "due": result.due,
            "compared": result.compared,
            "mismatches": result.mismatch_count,
            "first": [m.to_dict() for m in result.mismatches],
            "left_out_reasons": result.reasons,
            "error": result.error or None,
            "compared_as": result.terms or "equal",
            "beats": result.beats,
            "clocks": result.clocks,
            "resets": result.resets,
            "build_seconds": result.build_seconds,
            "run_seconds": result.run_seconds,
            "clocks_per_second": result.clocks_per_second,
            "matched": result.passed,
            "passed": self.passed,
        }
        if self.latency is not None:
            data["latency"] = self.latency
        if self.flags is not None:
            data["flags"] = self.flags.to_dict()
        if self.adequacy is not None:
            data["mistakes"] = self.adequacy.to_dict()
        if self.diagnosis is not None:
            data["diagnosis"] = self.diagnosis.to_dict()
        if self.reproducer is not None:
            data["reproducer"] = {
                "directory": str(self.reproducer_dir),
                "vectors": self.reproducer.run.count,
                "alone": self.reproducer.alone,
            }
        if self.waveform is not None:
            data["waveform"] = str(self.waveform)
        if self.bundle is not None:
            data["bundle"] = str(self.bundle)
        return data

    def __str__(self) -> str:
        lines = [str(self.result), *(f"  {m}" for m in self.result.mismatches)]
        if self.latency is not None:
            lines.append(f"latency found: {self.latency} (write latency = {self.latency})")
        if self.flags is not None:
            lines.append(str(self.flags))
        if self.adequacy is not None:
            lines.append(str(self.adequacy))
        if self.diagnosis is not None:
            lines += ["", "first mismatch:", str(self.diagnosis)]
        if self.reproducer is not None:
            lines += ["", f"reproducer: {self.reproducer_dir} ({self.reproducer})"]
        if self.waveform is not None:
            lines.append(f"waveform: {self.waveform}")
        if self.bundle is not None:
            lines.append(f"bundle: {self.bundle}")
        return "\n".join(lines)


def verify_design(
    unit: MacUnit | Operation, dut: Dut, simulator: str, build: Path, plan: Plan,
    progress: Progress | None,
) -> Report:  # fmt: skip
    """Run vectors of a unit, or of an operation, through a design; explain and shrink a failure.

    Builds land in ``build/<top>-<unit>-<simulator>`` (with the bench's name after it, if it is not
    cocotb) and are used again while nothing changes; the reproducer beside it, with
    ``-reproducer`` after the name.

    Args:
        unit: the unit or operation.
        dut: the design.
        simulator: ``verilator`` or ``icarus``; ``ghdl`` for VHDL.
        build: folder of builds.
        plan: the vectors and settings.
        progress: called with the stage ("build", "run"), the work done and the total (0: unknown).

    Returns:
        The outcome.

    Raises:
        SimulatorMissing: the simulator is not installed.
        SimulationFailed: the design does not compile, or the simulation crashed, hung or stuck.
        FpsimError: an unknown bench, a mapping that the design's ports contradict, vectors that are
            missing, damaged or for another unit, or a waiver that names no mistake.
    """
    if plan.bench not in BENCHES:
        raise not_one_of("bench", plan.bench, BENCHES)
    tool = find(simulator)
    dut, ports = fitted(dut)
    source = vectors_for(unit, dut, plan)
    writer = beat_writer(dut, source)
    if plan.vectors_dir is None and source.operation is None and isinstance(writer, Serialiser):
        source = with_told_codes(source, writer.told_codes())
    name = f"{dut.top}-{source.record.title.replace(':', '-')}-{tool.name}"
    directory = build.resolve() / (name if plan.bench == "cocotb" else f"{name}-{plan.bench}")
    if dut.lfsr is not None and plan.options.resets:
        raise FpsimError("resets: not with an LFSR, which begins again at every reset; allowed: 0")
    check_waivers(dut, source)
    simulation = BENCHES[plan.bench](dut, tool, directory, plan.options, ports)
    with closing(simulation.work):
        return _verified(simulation, source, writer, plan, progress)


def _verified(
    simulation: Simulation,
    source: VectorSource,
    writer: BeatWriter,
    plan: Plan,
    progress: Progress | None,
) -> Report:
    directory, latency = simulation.work.directory, None
    if simulation.dut.find_latency:
        latency = found_latency(simulation, source, writer)
        simulation.dut = simulation.dut.with_latency(latency)
    dut = simulation.dut
    result = run_source(simulation, source, writer, progress)
    # A vector alone would find other random bits in a design that draws them itself.
    if not result.kept or not plan.explain or dut.lfsr is not None:
        judged = plan.judge and result.passed and source.strategy != REPRODUCER
        adequacy = judge(dut, source, writer, directory, simulation.stimulus) if judged else None
        flags = None
        if result.passed and dut.output.flags and plan.judge:
            flags = check_flags(simulation, source)
        report = Report(
            result, waveform=simulation.waveform, adequacy=adequacy, latency=latency, flags=flags
        )
        return _bundled(report, plan, simulation, source, writer)
    lanes = max((beats.elements or 0 for beats in dut.input.beats), default=0)
    explain = diagnose if source.operation is None else diagnose_operation
    diagnosis = explain(source, writer, result, lanes)
    made = shrink(simulation, source, writer, result.kept[0].index)
    reproducer_dir = made.run.write(directory.with_name(f"{directory.name}-reproducer"))
    if plan.options.waves:  # the waveform that stays is that of the reproducer
        run_source(simulation, made.run.source(), writer)
    waveform = simulation.waveform
    report = Report(result, diagnosis, made, reproducer_dir, waveform, latency=latency)
    return _bundled(report, plan, simulation, made.run.source(), writer)


def _bundled(
    report: Report,
    plan: Plan,
    simulation: Simulation,
    source: VectorSource,
    writer: BeatWriter,
) -> Report:
    """Return the report with its bundle, if one is wanted."""
    if plan.bundle is None:
        return report
    folders = {"vectors": report.reproducer_dir, "waveform": report.waveform}
    named = {name if path.is_dir() else path.name: path for name, path in folders.items() if path}
    said = str(report), report.to_dict()
    return replace(
        report,
        bundle=write_bundle(
            plan.bundle, simulation.dut, simulation.ports, source, writer, said, named
        ),
    )


def fitted(dut: Dut) -> tuple[Dut, dict[str, Port] | None]:
    """Return a design with its places in arrays counted in bits, and its ports if they are known.

    Raises:
        FpsimError: a mapped port that is missing or runs the other way, or an input without one.
    """
    ports = read_ports(dut)
    if ports is None:
        return dut, None
    check_ports(dut, ports, *adapter_ports(dut))
    return with_arrays(dut, ports), ports


def vectors_for(unit: MacUnit | Operation, dut: Dut, plan: Plan) -> VectorSource:
    """Return the vectors of a plan: a directory's, or a set made for the design.

    Args:
        unit: the unit or operation.
        dut: the design.
        plan: the directory, or the strategy, count and seed of a set.

    Returns:
        The vectors.

    Raises:
        FpsimError: vectors that are missing, damaged or for another unit or operation.
    """
    wanted = (plan.strategy, plan.count, plan.seed)
    if plan.vectors_dir is None:
        if isinstance(unit, Operation):
            return made_for_operation(dut, unit, *wanted)
        return drawn(dut, made_for(dut, unit.spec, *wanted))
    source = from_directory(plan.vectors_dir)
    held: MacSpec | Operation = source.operation or source.spec
    if held != (unit if isinstance(unit, Operation) else unit.spec):
        names = [x.title if isinstance(x, Operation) else x.canonical_name
                 for x in (held, unit if isinstance(unit, Operation) else unit.spec)]  # fmt: skip
        raise FpsimError(f"vectors: {plan.vectors_dir} is for {names[0]}, not for {names[1]}")
    if source.operation is None:
        source = drawn(dut, begun_with_products(source, dut))
    if not source.count:
        raise FpsimError(f"vectors: {plan.vectors_dir} holds no vectors; nothing would be compared")
    return source


def verify(
    unit: MacUnit,
    simulator: str,
    build: Path,
    vectors_dir: Path | None = None,
    progress: Progress | None = None,
    bench: str = "cocotb",
) -> ReplayResult:
    """Replay vectors of a unit through its reference RTL.

    Args:
        unit: the unit.
        simulator: ``verilator`` or ``icarus``.
        build: folder of builds.
        vectors_dir: the vectors; if absent, a set is made for the design with seed 1.
        progress: called with the stage ("build", "run"), the work done and the total (0: unknown).
        bench: ``cocotb`` or ``native``.

    Returns:
        The outcome of the replay.

    Raises:
        SimulatorMissing: the simulator is not installed.
        SimulationFailed: the RTL does not compile, or the simulation crashed, hung or stuck.
        FpsimError: a unit without reference RTL, or vectors that are damaged or for another unit.
    """
    plan = Plan(vectors_dir=vectors_dir, explain=False, judge=False, bench=bench)
    dut = reference_dut(unit.spec)
    return verify_design(unit, dut, simulator, build, plan, progress).result
