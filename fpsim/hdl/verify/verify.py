# SPDX-License-Identifier: Apache-2.0
"""Verify a design against a unit: vectors in, a verdict with its explanation out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.replay import Options, Progress, ReplayResult, Simulation, run_source
from fpsim.hdl.bench.simulator import find
from fpsim.hdl.bench.sv_bench import NativeSimulation
from fpsim.hdl.dut.adapter import beat_writer
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.diagnosis import Diagnosis, diagnose
from fpsim.hdl.verify.shrink import Reproducer, shrink
from fpsim.hdl.verify.vector_source import VectorSource, from_directory, made_for
from fpsim.unit import MacUnit

__all__ = ["BENCHES", "Plan", "Report", "vectors_for", "verify", "verify_design"]

BENCHES = {"cocotb": Simulation, "native": NativeSimulation}


@dataclass(frozen=True)
class Plan:
    """What to verify a design with: a directory of vectors, or a set made for it."""

    vectors_dir: Path | None = None
    strategy: str = "mixed"
    count: int = 4096
    seed: int = 1
    bench: str = "cocotb"
    options: Options = field(default_factory=Options)
    explain: bool = True  #: explain a failure and shrink it


@dataclass(frozen=True)
class Report:
    """What a verification found."""

    result: ReplayResult
    diagnosis: Diagnosis | None = None
    reproducer: Reproducer | None = None
    reproducer_dir: Path | None = None
    waveform: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether vectors ran and all matched."""
        return self.result.passed

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
            "first": [str(m) for m in result.mismatches],
            "beats": result.beats,
            "clocks": result.clocks,
            "resets": result.resets,
            "build_seconds": result.build_seconds,
            "run_seconds": result.run_seconds,
            "clocks_per_second": result.clocks_per_second,
            "passed": result.passed,
        }
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
        return data

    def __str__(self) -> str:
        lines = [str(self.result), *(f"  {m}" for m in self.result.mismatches)]
        if self.diagnosis is not None:
            lines += ["", "first mismatch:", str(self.diagnosis)]
        if self.reproducer is not None:
            lines += ["", f"reproducer: {self.reproducer_dir} ({self.reproducer})"]
        if self.waveform is not None:
            lines.append(f"waveform: {self.waveform}")
        return "\n".join(lines)


def verify_design(
    unit: MacUnit, dut: Dut, simulator: str, build: Path, plan: Plan, progress: Progress | None
) -> Report:
    """Run vectors of ``unit`` through a design; explain and shrink a failure.

    Builds land in ``build/<top>-<simulator>`` and are used again while nothing changes; the
    reproducer in ``build/<top>-<simulator>-reproducer``.

    Raises:
        FpsimError: as `fpsim.hdl.bench.replay.replay` and `fpsim.vectors.plan`.
    """
    source = vectors_for(unit, dut, plan)
    writer = beat_writer(dut, source)
    if plan.bench not in BENCHES:
        raise FpsimError(f"bench: {plan.bench!r} is not one of {', '.join(BENCHES)}")
    tool = find(simulator)
    name = f"{dut.top}-{unit.name}-{tool.name}"
    directory = build.resolve() / (name if plan.bench == "cocotb" else f"{name}-{plan.bench}")
    simulation = BENCHES[plan.bench](dut, tool, directory, plan.options)
    result = run_source(simulation, source, writer, progress)
    if not result.kept or not plan.explain:
        return Report(result, waveform=simulation.waveform)
    lanes = max((beats.elements or 0 for beats in dut.input.beats), default=0)
    diagnosis = diagnose(source, writer, result, lanes)
    made = shrink(simulation, source, writer, result.kept[0].index)
    reproducer_dir = made.run.write(directory.with_name(f"{directory.name}-reproducer"))
    if plan.options.waves:  # the waveform that stays is that of the reproducer
        run_source(simulation, made.run.source(), writer)
    return Report(result, diagnosis, made, reproducer_dir, simulation.waveform)


def vectors_for(unit: MacUnit, dut: Dut, plan: Plan) -> VectorSource:
    """Return the vectors of a plan: a directory's, or a set made for the design.

    Raises:
        FpsimError: none, damaged ones, or those of another unit.
    """
    if plan.vectors_dir is None:
        return made_for(dut, unit.spec, plan.strategy, plan.count, plan.seed)
    source = from_directory(plan.vectors_dir)
    if source.spec != unit.spec:
        raise FpsimError(
            f"vectors: {plan.vectors_dir} is for {source.spec.canonical_name}, "
            f"not for {unit.spec.canonical_name}"
        )
    if not source.count:
        raise FpsimError(f"vectors: {plan.vectors_dir} holds no vectors; nothing would be compared")
    return source


def verify(
    unit: MacUnit,
    simulator: str,
    build: Path,
    vectors_dir: Path | None = None,
    progress: Progress | None = None,
) -> ReplayResult:
    """Replay vectors of ``unit`` through its reference RTL, made (seed 1) if none are given.

    Raises:
        FpsimError: as `verify_design`, and a unit without reference RTL.
    """
    plan = Plan(vectors_dir=vectors_dir, explain=False)
    dut = reference_dut(unit.spec)
    return verify_design(unit, dut, simulator, build, plan, progress).result
