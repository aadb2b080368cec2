# SPDX-License-Identifier: Apache-2.0
"""Status flags of the RTL are those of the exact model, for every result of every stage."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from faults.faults import Fault, inject
from rtl_units import (
    COMPOSED,
    DOTS,
    aligned,
    block,
    blocks,
    chain,
    chunked,
    exact,
    fixed,
    name,
    scaled,
    tree,
)

from fpsim import get_format, get_unit
from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.formats.floating import FloatFormat, Format
from fpsim.formats.rounding import Overflow, Rounding
from fpsim.hdl.bench.replay import Options, ReplayResult, run_source
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.bench.sv_bench import NativeSimulation
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top, sources_of
from fpsim.hdl.rtl.proof import prove, rounder
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.rtl.synthesis import synthesise
from fpsim.hdl.verify.vector_source import VectorSource
from fpsim.hdl.verify.verify import Plan, verify_design
from fpsim.units.spec import MacSpec
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.record import Columns, Op, Record, natural_k
from fpsim.vectors.sets.status_flags import FLAG_CODES
from fpsim.vectors.sets.vector_set import Section

COUNT = 300
SPECIAL_SHARE = 0.08
OPTIONS = Options(stall=0.2, resets=0.05)

#: A unit per stage and policy, with the flags that its vectors must raise.
UNITS = {
    "chain": (chain("e4m3", "e5m2", "e4m3fn"), "inexact underflow overflow invalid"),
    "flushed": (chain("e4m3_flush", "e4m3f", "e2m1", rounding="rdn"), "inexact underflow overflow"),
    "saturated": (chain("e4m3fn", "e5m2", "e2m1", product="rounded"), "inexact overflow invalid"),
    "stochastic": (chain("e4m3", rounding="sr", random_bits=5), "inexact overflow"),
    "fixed": (fixed(6, 0, convert="e8m7"), "inexact overflow"),
    "exact": (exact("e5m2", "e5m2", "e2m1"), "inexact overflow invalid"),
    "aligned": (aligned(4, 5, "e5m2", "e5m2", "e4m3fn"), "inexact overflow invalid"),
    "register": (aligned(4, 5, "e8m7", "e2m1", "e2m1", width=8), "inexact overflow"),
    "limited": (
        aligned(4, 9, "e8m7", "e4m3fn", "e4m3fn", product_limit=9, normalised=True, addend="late"),
        "inexact overflow",
    ),
    "tree": (tree(7, "e4m3", "e5m2", "e2m1", radix=4, addend="fused"), "inexact overflow invalid"),
    "lanes": (tree(8, "e4m3", "e2m1", "e2m1", lanes=3, product="rounded"), "inexact overflow"),
    "chunked": (chunked(6, exact("e5m10", "e5m2", "e2m1"), "e5m2"), "inexact overflow invalid"),
    "block": (
        block(4, "e4m3", "e5m2", "e2m1", ("e5m2", "ue4m3fn"), "a", nan_scale="nan"),
        "inexact overflow invalid",
    ),
    "dropped": (blocks(4, chain("e8m7"), nan_scale="zero", convert="e4m3"), "inexact overflow"),
}
COMPILED = [spec for spec in [*DOTS, *COMPOSED] if natural_k(spec) < 32]


@cache
def vectors(spec: MacSpec) -> VectorSource:
    """Return random vectors with flags, some of whose codes are zeros, infinities or NaN."""
    k = natural_k(spec) if natural_k(spec) > 1 else 4
    made = plan_set(spec, strategy="random", count=COUNT, k=k, flags=True).made()
    columns: Columns = {name: codes.copy() for name, codes in made.columns.items()}
    random = np.random.default_rng(k)
    formats = {"a": spec.a, "b": spec.b, "c": spec.initial}
    for field, fmt in (formats | {"a_scale": spec.a_scale, "b_scale": spec.b_scale}).items():
        if field in columns and isinstance(fmt, FloatFormat):
            special = np.array(specials(fmt), dtype=columns[field].dtype)
            if not isinstance(spec.initial, FloatFormat):  # a fixed accumulator refuses them
                special = special[np.isfinite(fmt.decode(special))]
            chosen = random.random(columns[field].shape) < SPECIAL_SHARE
            columns[field][chosen] = random.choice(special, int(chosen.sum()))
    return source_of(made.record, columns)


@cache
def orders(spec: MacSpec) -> VectorSource:
    """Return one, both infinities and NaN in every order, as an addend and three products."""
    k = max(natural_k(spec), 3)
    record = Record.of(spec, k, flags=True)
    cases = np.array(list(product(range(4), repeat=4)))
    kinds = [np.array(special_codes(fmt), dtype=fmt.dtype) for fmt in (spec.a, spec.initial)]
    a = np.full((len(cases), k), kinds[0][0], dtype=spec.a.dtype)
    a[:, :3] = kinds[0][cases[:, 1:]]
    columns: Columns = {
        "op": np.full(len(cases), Op.DOT, dtype=np.uint8),
        "a": a,
        "b": np.full((len(cases), k), spec.b.encode([1.0])[0], dtype=spec.b.dtype),
        "c": kinds[1][cases[:, 0]],
    }
    if record.group:
        for side, fmt in (("a", spec.a_scale), ("b", spec.b_scale)):
            scales = (len(cases), k // record.group * (1 + spec.splits(side)))
            columns[f"{side}_scale"] = np.full(scales, fmt.encode([1.0])[0], dtype=fmt.dtype)
    return source_of(record, columns)


def special_codes(fmt: Format) -> list[int]:
    """Return one, both infinities and NaN of a format that has them."""
    assert isinstance(fmt, FloatFormat) and fmt.inf_code and fmt.nan_code
    return [fmt.bias << fmt.mantissa_bits, fmt.inf_code, fmt.inf_code | fmt.sign_bit, fmt.nan_code]


def source_of(record: Record, columns: Columns) -> VectorSource:
    """Return vectors of these inputs, with what the model makes of them."""
    count = columns["op"].size
    columns = columns | record.results(columns)
    sections = (Section("flags", 0, count),)
    return VectorSource(record, count, "random", 1, "dot", sections, lambda: iter([(0, columns)]))


def specials(fmt: FloatFormat) -> list[int]:
    """Return zeros, infinities and NaN of a format, as far as it has them, and a one."""
    found = [0, fmt.sign_bit if fmt.has_negative_zero else 0, fmt.bias << fmt.mantissa_bits]
    if fmt.inf_code is not None:
        found += [fmt.inf_code, fmt.inf_code | fmt.sign_bit] * 2
    return found + [fmt.nan_code] * (fmt.nan_code is not None)


def top_for(source: VectorSource, pipeline: int = 1) -> RtlTop:
    scales = source.group > 0 and source.spec.block is None
    return rtl_top(source.spec, stream=True, scaled=scales, pipeline=pipeline, flags=True)


def run(source: VectorSource, top: RtlTop, tool: Simulator, directory: Path) -> ReplayResult:
    dut = reference_dut(source.spec, top)
    writer = Serialiser(dut, source.spec, source.k, source.group, flags=True)
    return run_source(NativeSimulation(dut, tool, directory, OPTIONS), source, writer)


def raised(source: VectorSource) -> set[str]:
    flags = np.concatenate([columns["flags"] for _, columns in source.blocks()])
    return {name for name, code in FLAG_CODES.items() if (flags & code).any()}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("which", UNITS)
def test_flags_match_on_every_vector(which: str, icarus: Simulator, tmp_path: Path) -> None:
    spec, expected = UNITS[which]
    source = vectors(spec)
    assert set(expected.split()) <= raised(source)
    result = run(source, top_for(source, len(which) % 4), icarus, tmp_path)
    assert result.passed, "\n".join([str(result), *map(str, result.mismatches)])
    assert result.compared == source.count


#: Units whose sums can have infinities of both signs, each adding them in its own way.
INFINITE = {
    "chain": chain("e5m2", "e5m2", "e2m1"),
    "exact": exact("e5m2", "e5m2", "e2m1"),
    "early": aligned(4, 5, "e5m2", "e5m2", "e4m3fn"),
    "late": aligned(3, 5, "e5m2", "e5m2", "e2m1", addend="late"),
    "joined": aligned(4, 9, "e8m7", "e5m2", "e2m1", addend="joined", lanes=2),
    "pairs": tree(4, "e5m2", "e5m2", "e2m1"),
    "threes": tree(3, "e5m2", "e5m2", "e2m1", radix=3, addend="leaf"),
    "fused": tree(3, "e5m2", "e5m2", "e2m1", radix=3, addend="fused"),
    "chunked": chunked(2, exact("e5m10", "e5m2", "e2m1"), "e5m2"),
    "block": blocks(4, exact("e5m2", "e5m2", "e2m1")),
}


@pytest.mark.parametrize("which", INFINITE)
def test_infinities_and_nan_in_every_order(which: str, icarus: Simulator, tmp_path: Path) -> None:
    source = orders(INFINITE[which])
    flags = np.concatenate([columns["flags"] for _, columns in source.blocks()])
    assert 0 < np.count_nonzero(flags & FLAG_CODES["invalid"]) < source.count - 16
    result = run(source, top_for(source), icarus, tmp_path)
    assert result.passed and result.compared == source.count == 4**4, str(result)


@pytest.mark.sweep
@pytest.mark.parametrize("spec", COMPILED, ids=name)
def test_flags_of_composed_stages_match(
    spec: MacSpec, verilator: Simulator, tmp_path: Path
) -> None:
    source = vectors(spec)
    result = run(source, top_for(source), verilator, tmp_path)
    assert result.passed and result.compared == source.count, str(result)


#: Mistakes in flags alone: every result stays right.
FAULTS = [
    ("chain", "fp_round_pack.sv", "underflow without loss",
     "else if (inexact) begin", "else if (inexact | tiny) begin"),
    ("chain", "fp_round_pack.sv", "overflow is exact",
     "flags_o = fpsim_pkg::FLAG_OVERFLOW | fpsim_pkg::FLAG_INEXACT",
     "flags_o = fpsim_pkg::FLAG_OVERFLOW"),
    ("chain", "fp_sum.sv", "infinity - infinity is quiet",
     "? fpsim_pkg::FLAG_INVALID : '0", "? '0 : '0"),
    ("chain", "fp_multiply.sv", "NaN times zero is invalid",
     "undefined & ~a_nan_i & ~b_nan_i", "undefined | a_nan_i"),
    ("chain", "acc_stream.sv", "flags stay from vector to vector",
     "(open_q ? flags_q : '0)", "flags_q"),
    ("chain", "acc_stream.sv", "the last beat alone counts", "(open_q ? flags_q : '0)", "'0"),
    ("flushed", "fp_round_pack.sv", "flushing is exact", "| (flushed & ~zero)", "| 1'b0"),
    ("fixed", "fixed_add.sv", "sums that leave the register are quiet",
     "assign over_o       = out_of_range", "assign over_o       = huge_i"),
    ("fixed", "fp_to_grid.sv", "a lost half is exact", "(|jammed[1:0])", "jammed[0]"),
    ("orders", "infinities.sv", "NaN does not quiet what comes after",
     "counts  = inf_i & ~late", "counts  = inf_i"),
    ("orders", "stage_exact.sv", "the addend's infinity is forgotten",
     "(seen[2] | (from_inf & from_sign))", "seen[2]"),
    ("aligned", "align_term.sv", "cut bits are exact below the guard",
     "|jammed[WIDE_W-KEPT_W-1:0]", "jammed[WIDE_W-KEPT_W-1]"),
    ("register", "aligned_window.sv", "a full register is quiet",
     "assign over_o  = over;", "assign over_o  = 1'b0;"),
    ("aligned", "aligned_add.sv", "infinities do not hide what was cut",
     "else if (any_inf) flags_o = narrow_flags;",
     "else if (any_inf) flags_o = narrow_flags | window_flags;"),
    ("limited", "dot.sv", "products beyond the limit are quiet",
     "(too_large[i] ? fpsim_pkg::FLAG_OVERFLOW",
     "(too_large[i] & invalid ? fpsim_pkg::FLAG_OVERFLOW"),
    ("tree", "stage_tree.sv", "lower levels are quiet",
     "assign lower = g_level[l-1].sofar;", "assign lower = '0;"),
    ("lanes", "stage_tree.sv", "lanes are quiet",
     "{product_flags, lane_flags,", "{product_flags, lane_flags & '0,"),
    ("chunked", "dot.sv", "chunks are added in every beat",
     "(closes ? outer_flags : '0)", "outer_flags"),
    ("chunked", "dot.sv", "exact sums round in every beat",
     "(closes | !EXACT) ? stage_flags", "1'b1 ? stage_flags"),
    ("block", "fp_scale.sv", "zero times infinity of scales is quiet",
     "s_invalid | invalid | dropped", "invalid | dropped"),
    ("dropped", "fp_scale.sv", "dropped blocks are quiet",
     "s_invalid | invalid | dropped", "s_invalid | invalid"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("which", "file", "title", "old", "new"),
    [pytest.param(*row, marks=[pytest.mark.sweep] * (i % 4 > 0)) for i, row in enumerate(FAULTS)],
)
def test_a_wrong_flag_is_found(
    which: str, file: str, title: str, old: str, new: str, icarus: Simulator, tmp_path: Path
) -> None:
    source = orders(INFINITE["exact"]) if which == "orders" else vectors(UNITS[which][0])
    top = top_for(source)
    faulty = inject(Fault(title, file, old, new), top.sources, tmp_path / "faulty")
    result = run(source, replace(top, sources=faulty), icarus, tmp_path / "build")
    assert result.mismatch_count, str(result)
    dut = reference_dut(source.spec, top)
    writer = Serialiser(dut, source.spec, source.k, source.group, flags=True)
    assert [m.fields["acc"] for m in result.kept] == [
        writer.seen_code(m.wires) for m in result.kept
    ]


@pytest.mark.sweep
def test_tininess_before_rounding_is_refuted(tmp_path: Path) -> None:
    """No random vector lies so close to the smallest normal number."""
    fmt = get_format("e2m1")
    assert isinstance(fmt, FloatFormat)
    fault = Fault("tiny", "fp_round_pack.sv", "& ~zero & ~reaches_normal", "& ~zero")
    sources = inject(fault, sources_of("fp_round_pack"), tmp_path / "faulty")
    leaf = rounder(fmt, Rounding.RNE, Overflow.SATURATE)
    with pytest.raises(FpsimError, match="proof: fp_round_pack is wrong for"):
        prove(leaf, tmp_path / "proof", sources)


def test_verify_compares_the_flags_of_the_reference(icarus: Simulator, tmp_path: Path) -> None:
    made = get_unit("e2m1-chain-e4m3")
    top = rtl_top(made.spec, flags=True)
    plan = Plan(count=600, bench="native", options=OPTIONS)
    report = verify_design(
        made, reference_dut(made.spec, top), icarus.name, tmp_path / "right", plan, None
    )
    assert report.passed and report.flags is not None and report.flags.compared > 100, str(report)
    raised = "fpsim_pkg::FLAG_OVERFLOW | fpsim_pkg::FLAG_INEXACT"
    fault = Fault("overflow is exact", "fp_round_pack.sv", raised, "fpsim_pkg::FLAG_OVERFLOW")
    top = replace(top, sources=inject(fault, top.sources, tmp_path / "faulty"))
    report = verify_design(
        made, reference_dut(made.spec, top), icarus.name, tmp_path / "wrong", plan, None
    )
    assert not report.passed and report.result.passed
    assert report.flags is not None and report.flags.mismatch_count
    _, due, seen = report.flags.mismatches[0]
    assert (due, seen) == ("inexact, overflow", "overflow")


@pytest.mark.sweep
def test_only_flags_cost_flipflops_and_logic(tmp_path: Path) -> None:
    spec = chain("e4m3")
    without = synthesise(rtl_top(spec, stream=True, pipeline=0), tmp_path / "without")
    flagged = synthesise(rtl_top(spec, flags=True, pipeline=0), tmp_path / "flagged")
    assert without.flipflops == spec.result.bits + 1
    # Inexact, underflow and overflow; whether a vector is open. Finite operands are never invalid.
    assert flagged.flipflops == without.flipflops + 4
    assert flagged.logic_area > without.logic_area


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (fixed(12, 0, overflow_at="end"), {}, "accumulate.overflow_at: 'end' has no reference RTL"),
        (scaled(chain("e8m7"), "e5m2", "e8m0"), {"scaled": True}, "operands.a_scale: e5m2 has no"),
        (
            scaled(chain("e8m7", "e5m2"), "ue4m3fn", "e8m0"),
            {"scaled": True},
            "operands.a_scale: ue4m3fn has no reference RTL; allowed: with status flags",
        ),
    ],
)
def test_flags_that_would_differ_are_refused(
    spec: MacSpec, options: dict[str, bool], message: str
) -> None:
    rtl_top(spec, stream=True, **options)
    with pytest.raises(FpsimError, match=message):
        rtl_top(spec, stream=True, flags=True, **options)


def test_the_command_prints_a_port_of_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rtl", "e2m1-chain-e5m10", "--flags"]) == 0
    text = capsys.readouterr().out
    assert "logic [4:0]   flags;" in text and "(flags)" in text
    assert main(["rtl", "mxfp4-block32-e8m23"]) == 0
    assert "(flags)" not in capsys.readouterr().out
