# SPDX-License-Identifier: Apache-2.0
"""Faults planted in the reference RTL: the right cause is guessed first, or none fits."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from faults.faults import FAULTS, inject

import fpsim
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.verify import Plan, Report, verify_design

CHAIN, FIXED = "e2m1-chain-e5m6", "e2m1-fixed12q1-saturate"
#: Unit, file, fault, and the causes that are right: none of the table was written for these faults.
PLANTED = [
    (CHAIN, "fpsim_pkg.sv", "ties round up", "ties up|rounding rna"),
    (CHAIN, "fpsim_pkg.sv", "ties round down", "ties down"),
    (CHAIN, "fpsim_pkg.sv", "ties look at the last bit alone", "sticky"),
    (CHAIN, "shift_right_jam.sv", "bits shifted out are forgotten", "sticky"),
    (CHAIN, "shift_right_jam.sv", "a shift drops one bit more", ""),
    (CHAIN, "fp_round_pack.sv", "results are truncated", "rounding rtz|guard ignored"),
    (CHAIN, "fp_round_pack.sv", "rounding up does not carry", "without a carry"),
    (CHAIN, "fp_round_pack.sv", "the largest number overflows", ""),
    (CHAIN, "fp_round_pack.sv", "overflow wraps", ""),
    (CHAIN, "fp_decode.sv", "the sign is ignored", ""),
    (CHAIN, "fp_decode.sv", "subnormals are zero", "a and b: subnormals read as zero"),
    (CHAIN, "fp_decode.sv", "subnormals have a hidden bit", "a and b: (code|subnormals)"),
    (CHAIN, "fp_multiply.sv", "signs are or-ed", ""),
    # A product is half as large: as if an operand's bias were one more.
    (CHAIN, "fp_multiply.sv", "a product's carry is forgotten", "bias"),
    (CHAIN, "fp_multiply.sv", "a product loses its last bit", ""),
    (CHAIN, "fp_align_add.sv", "equal exponents are not compared further", ""),
    (CHAIN, "fp_align_add.sv", "a difference is a sum", ""),
    (CHAIN, "fp_align_add.sv", "the sum's carry is forgotten", ""),
    (CHAIN, "fp_align_add.sv", "the smaller number has no guard bits", ""),
    (FIXED, "fp_to_grid.sv", "right shifts are one too short", ""),
    # Products of E3M0 are powers of two: only a tie is seen, and it goes up.
    ("e3m0-fixed12q4", "fp_to_grid.sv", "right shifts are one too short", "rounding rna|ties up"),
    (FIXED, "fixed_add.sv", "the accumulator is not sign-extended", ""),
    (FIXED, "fixed_add.sv", "a difference is a sum", ""),
]


def run(unit: str, file: str, fault: str, tool: Simulator, directory: Path) -> Report:
    made = fpsim.get_unit(unit)
    top = rtl_top(made.spec)
    chosen = next(f for f in FAULTS if (f.file, f.name) == (file, fault))
    faulty = replace(top, sources=inject(chosen, top.sources, directory / "faulty"))
    plan = Plan(count=2000, bench="native")
    dut = reference_dut(made.spec, faulty)
    return verify_design(made, dut, tool.name, directory, plan, None)


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "file", "fault", "right"), PLANTED)
def test_a_planted_fault_is_named_or_none_fits(
    unit: str, file: str, fault: str, right: str, icarus: Simulator, tmp_path: Path
) -> None:
    report = run(unit, file, fault, icarus, tmp_path)
    assert report.diagnosis is not None and not report.passed
    fitting = [guess for guess in report.diagnosis.guesses if guess.fits]
    if fitting:
        named = ", ".join((fitting[0].mistake, *fitting[0].also))
        assert right and re.search(right, named), str(report.diagnosis)
    else:
        assert "none of the known mistakes fits" in str(report)


@pytest.mark.sweep
def test_a_wrong_block_design_is_explained_in_seconds(verilator: Simulator, tmp_path: Path) -> None:
    """From vectors to a reproducer, whatever the compiler takes: some four seconds."""
    started = time.monotonic()
    fault = ("nvfp4-block16-e8m23", "block_sum.sv", "the last element is left out")
    report = run(*fault, verilator, tmp_path)
    seconds = time.monotonic() - started - report.result.build_seconds
    assert report.result.mismatch_count and report.diagnosis and report.reproducer
    assert "last lane dropped" in str(report.diagnosis.guesses[0])
    assert report.reproducer.run.count == 1 and report.reproducer.alone
    assert seconds < 10
