# SPDX-License-Identifier: Apache-2.0
"""Dot products in RTL agree with the model on every bit, with stalls, resets and any pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from faults.faults import Fault, inject
from rtl_units import COMPOSED, DOTS, WIDE, dots, exact, golden, name

from fpsim import get_unit
from fpsim.base.resources import golden_dir
from fpsim.hdl.bench.replay import Options, Simulation, run_source
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.bench.sv_bench import NativeSimulation
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.vector_source import VectorSource, from_directory, from_plan
from fpsim.hdl.verify.verify import BENCHES, Plan, verify_design
from fpsim.units.spec import MacSpec
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.record import natural_k
from fpsim.vectors.sets.vector_set import Section

COUNT = 400
#: Clocks that a bench spends around the beats.
RESET_AND_END = 24
FREELY = Options()
STALLING = Options(stall=0.3, resets=0.05)

#: Published units that Verilator compiles: the largest window, and scales per element.
COMPILED = [
    pytest.param("fp4-aligned32-f13", marks=pytest.mark.sweep),
    "llm-fp4-shift-e5m10",
]


def published(spec: MacSpec) -> VectorSource:
    return from_directory(golden_dir() / spec.name)


def made(spec: MacSpec, count: int, strategy: str = "mixed") -> VectorSource:
    return from_plan(
        plan_set(
            spec, count=count, strategy=strategy, k=natural_k(spec) if natural_k(spec) > 1 else 4
        )
    )


def top_for(source: VectorSource, pipeline: int) -> RtlTop:
    scaled = source.group > 0 and source.spec.block is None
    return rtl_top(source.spec, stream=True, scaled=scaled, pipeline=pipeline)


def run(
    source: VectorSource, pipeline: int, simulator: Simulator, directory: Path, options: Options
) -> None:
    dut = reference_dut(source.spec, top_for(source, pipeline))
    writer = Serialiser(dut, source.spec, source.k, source.group)
    bench = NativeSimulation(dut, simulator, directory, options)
    result = run_source(bench, source, writer)
    assert result.passed, "\n".join([str(result), *map(str, result.mismatches)])
    assert result.compared == source.count and not result.left_out


def pipelined(specs: list[MacSpec]) -> list[tuple[MacSpec, int]]:
    """Return each unit with a depth of its own: 0, 1, 2, 3, 0, ..."""
    return [(spec, i % 4) for i, spec in enumerate(specs)]


def ids(pairs: list[tuple[MacSpec, int]]) -> list[str]:
    return [f"{name(spec)}-pipeline{depth}" for spec, depth in pairs]


PUBLISHED = pipelined(golden())
TYPICAL, OTHERS = pipelined(DOTS[:6]), pipelined(DOTS[6:] + dots())
COMPOSITIONS = pipelined(COMPOSED)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("spec", "pipeline"),
    [
        pytest.param(*pair, marks=[pytest.mark.sweep] * (pair[0].block is not None))
        for pair in PUBLISHED
    ],
    ids=ids(PUBLISHED),
)
def test_published_vectors_match_with_stalls_and_resets(
    spec: MacSpec, pipeline: int, icarus: Simulator, tmp_path: Path
) -> None:
    run(published(spec), pipeline, icarus, tmp_path, STALLING)


@pytest.mark.sweep
@pytest.mark.parametrize("unit", COMPILED)
def test_published_vectors_match_on_verilator(
    unit: str, verilator: Simulator, tmp_path: Path
) -> None:
    spec = MacSpec.from_toml(golden_dir() / f"{unit}.toml")
    run(published(spec), 2, verilator, tmp_path, FREELY)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("spec", "pipeline"), TYPICAL, ids=ids(TYPICAL))
def test_typical_dot_products_match(
    spec: MacSpec, pipeline: int, icarus: Simulator, tmp_path: Path
) -> None:
    run(made(spec, 2 * COUNT, "random"), pipeline, icarus, tmp_path, STALLING)


@pytest.mark.sweep
@pytest.mark.parametrize("bench", BENCHES)
@pytest.mark.parametrize(
    "unit", ["e2m1-chain-e4m3fn-sr6", "int4xfp4-exact-e8m7", "fp4xfp8-chunk16-e8m23"]
)
def test_verify_passes_on_both_benches(
    unit: str, bench: str, icarus: Simulator, tmp_path: Path
) -> None:
    made = get_unit(unit)
    plan = Plan(vectors_dir=golden_dir() / unit, bench=bench, judge=False, options=STALLING)
    report = verify_design(made, reference_dut(made.spec), icarus.name, tmp_path, plan, None)
    assert report.passed and report.result.compared > 150, str(report)


@pytest.mark.sweep
@pytest.mark.parametrize(("spec", "pipeline"), COMPOSITIONS, ids=ids(COMPOSITIONS))
def test_composed_stages_match(
    spec: MacSpec, pipeline: int, icarus: Simulator, tmp_path: Path
) -> None:
    run(made(spec, COUNT, "random"), pipeline, icarus, tmp_path, STALLING)


@pytest.mark.sweep
@pytest.mark.parametrize("spec", WIDE, ids=name)
def test_wide_operands_match(spec: MacSpec, verilator: Simulator, tmp_path: Path) -> None:
    run(made(spec, COUNT), 1, verilator, tmp_path, FREELY)


@pytest.mark.slow
@pytest.mark.parametrize("spec", COMPOSED, ids=name)
def test_composed_stages_match_on_all_classes(
    spec: MacSpec, verilator: Simulator, tmp_path: Path
) -> None:
    run(made(spec, COUNT), 2, verilator, tmp_path, FREELY)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "pipeline"), OTHERS, ids=ids(OTHERS))
def test_every_family_and_rounding_matches(
    spec: MacSpec, pipeline: int, icarus: Simulator, tmp_path: Path
) -> None:
    # Icarus takes some 40 ms a vector of 32 products.
    run(made(spec, 4 * COUNT), pipeline, icarus, tmp_path, replace(STALLING, timeout=600.0))


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", [0, 1, 3])
@pytest.mark.parametrize("spec", golden(), ids=name)
def test_every_published_unit_matches_at_every_depth(
    spec: MacSpec, pipeline: int, simulator: Simulator, tmp_path: Path
) -> None:
    run(published(spec), pipeline, simulator, tmp_path, STALLING)


@pytest.mark.slow
@pytest.mark.parametrize("spec", DOTS, ids=name)
def test_many_dot_products_match_on_verilator(
    spec: MacSpec, verilator: Simulator, tmp_path: Path
) -> None:
    run(made(spec, 50 * COUNT), 2, verilator, tmp_path, FREELY)


@pytest.mark.parametrize("wrong", [False, True])
def test_generated_vectors_have_infinities_of_both_signs_in_one_sum(
    wrong: bool, icarus: Simulator, tmp_path: Path
) -> None:
    spec = exact("e8m7", "e5m2", "e2m1")
    made = plan_set(spec, strategy="directed").made()
    (section,) = (s for s in made.sections if s.name == "infinities")
    rows = slice(section.start, section.start + section.count)
    columns = {name: codes[rows] for name, codes in made.columns.items()}
    sections = (Section("infinities", 0, section.count),)
    source = VectorSource(
        made.record, section.count, "directed", 1, "dot", sections, lambda: iter([(0, columns)])
    )
    top = top_for(source, 1)
    if wrong:
        fault = Fault("both", "stage_exact.sv", "seen[4] | (seen[3] & seen[2])", "seen[4]")
        top = replace(top, sources=inject(fault, top.sources, tmp_path / "faulty"))
    dut = reference_dut(spec, top)
    writer = Serialiser(dut, spec, source.k, source.group)
    result = run_source(NativeSimulation(dut, icarus, tmp_path, FREELY), source, writer)
    assert result.passed is not wrong and result.compared == 4**4
    if wrong:
        assert {m.fields["acc"] for m in result.kept} == {spec.result.nan_code}


def test_a_full_pipeline_takes_a_beat_every_clock(icarus: Simulator, tmp_path: Path) -> None:
    source = published(MacSpec.from_toml(golden_dir() / "nvfp4-block16-e8m23.toml"))
    depth = 3
    dut = reference_dut(source.spec, top_for(source, depth))
    writer = Serialiser(dut, source.spec, source.k, source.group)
    result = run_source(Simulation(dut, icarus, tmp_path, FREELY), source, writer)  # by cocotb
    assert result.passed
    assert result.clocks <= result.beats + depth + RESET_AND_END
