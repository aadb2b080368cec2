# SPDX-License-Identifier: Apache-2.0
"""Stochastic rounding in RTL: its random integers come from a port, or from a register inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rtl_support import HERE
from rtl_units import blocks, chain, chunked, exact

from fpsim import get_unit
from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.formats.lfsr import GaloisLfsr
from fpsim.hdl.bench.beat_plan import BeatPlan
from fpsim.hdl.bench.replay import Options
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.dut.dut import Beats, Dut
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.verify import Plan, verify_design
from fpsim.unit import MacUnit
from fpsim.units.spec import MacSpec

SR = {"rounding": "sr", "random_bits": 5}


def integers_of_beats(spec: MacSpec, k: int) -> list[list[int]]:
    """Return which random integers of a vector each beat of its dot product carries."""
    beats = BeatPlan(reference_dut(spec), spec, k, 0 if spec.block is None else spec.block.size)
    return [
        [piece.lane for piece in beat.ports["random_i"] if piece.name == "random"]
        for beat in beats.beats["dot"]
    ]


@pytest.mark.parametrize(
    ("spec", "k", "expected"),
    [
        (chain("e4m3", **SR), 3, [[0], [1], [2]]),
        (exact("e4m3", **SR), 3, [[0], [0], [0]]),
        (chunked(2, exact("e4m3", **SR), "e5m10"), 4, [[0], [0], [1], [1]]),
        (chunked(2, chain("e4m3", **SR), "e5m10"), 4, [[0], [1], [2], [3]]),
        (blocks(4, chain("e4m3", **SR)), 8, [[0], [1]]),
    ],
    ids=["chain", "exact", "chunked exact", "chunked chain", "blocks"],
)
def test_a_beat_carries_the_integers_of_its_roundings(
    spec: MacSpec, k: int, expected: list[list[int]]
) -> None:
    assert integers_of_beats(spec, k) == expected


def test_a_design_without_a_port_for_them_is_refused() -> None:
    spec = chain("e4m3", **SR)
    dut = reference_dut(spec)
    (beats,) = dut.input.beats
    fields = {name: wires for name, wires in beats.fields.items() if name != "random"}
    silent = replace(dut, input=replace(dut.input, beats=(Beats(fields, beats.elements),)))
    with pytest.raises(FpsimError, match=r"random: .* have random integers, but no beat carries"):
        BeatPlan(silent, spec, 4)


def lfsr_dut(spec: MacSpec, seed: int) -> Dut:
    return reference_dut(spec, rtl_top(spec, lfsr=GaloisLfsr(seed)))


@pytest.mark.sweep
@pytest.mark.parametrize(
    "spec",
    [chain("e4m3fn", **SR), exact("e5m2", **SR), blocks(4, chain("e4m3", **SR))],
    ids=["chain", "exact", "blocks"],
)
def test_the_model_follows_the_register_inside(
    spec: MacSpec, icarus: Simulator, tmp_path: Path
) -> None:
    plan = Plan(strategy="random", count=300, bench="native", options=Options(stall=0.3))
    dut = lfsr_dut(spec, 0x80000001)
    report = verify_design(MacUnit(spec), dut, icarus.name, tmp_path, plan, None)
    assert report.result.passed, str(report)
    # Another seed in the design than in the model is seen.
    wrong = replace(dut, lfsr=GaloisLfsr(3))
    report = verify_design(MacUnit(spec), wrong, icarus.name, tmp_path / "wrong", plan, None)
    assert report.result.mismatch_count > 10 and report.reproducer is None


def test_resets_in_between_are_refused(icarus: Simulator, tmp_path: Path) -> None:
    spec = chain("e4m3fn", **SR)
    plan = Plan(count=10, strategy="random", options=Options(resets=0.1))
    with pytest.raises(FpsimError, match=r"resets: not with an LFSR, which begins again"):
        verify_design(MacUnit(spec), lfsr_dut(spec, 1), icarus.name, tmp_path, plan, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rtl", "e2m1-chain-e5m10", "--lfsr", "1"], "lfsr: e2m1-chain-e5m10 takes no random bits"),
        (["rtl", "e2m1-chain-e4m3-sr5", "--lfsr", "0"], "lfsr: 0 is not a seed in 1..4294967295"),
        (["verify", "e2m1-chain-e4m3-sr5", "--lfsr", "1", "--dut", "x.toml"],
         "lfsr: only without --dut"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


OWN = HERE / "designs" / "lfsr16_mac.toml"


def changed(old: str, new: str, directory: Path) -> Path:
    """Return the TOML of the design with its own register, changed in one place."""
    text = OWN.read_text(encoding="utf-8")
    assert text.count(old) == 1
    text = text.replace(old, new).replace('"../rtl', f'"{HERE}/rtl')
    text = text.replace('"lfsr16_mac.sv', f'"{OWN.parent}/lfsr16_mac.sv')
    path = directory / "dut.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_design_with_a_register_of_its_own_is_followed(icarus: Simulator, tmp_path: Path) -> None:
    unit = get_unit("e2m1-chain-e4m3-sr5")
    plan = Plan(
        strategy="random", count=300, bench="native", options=Options(stall=0.3), judge=False
    )
    for old, new, right in (
        ("0xACE1", "44257", True),
        ("0xACE1", "0xACE3", False),
        ("0xB400", "0xB401", False),
        ('"state"', '"bits"', False),
    ):
        dut = read_dut(changed(old, new, tmp_path))
        report = verify_design(unit, dut, icarus.name, tmp_path, plan, None)
        assert report.passed is right and report.result.compared == 300, str(report)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lfsr = 0xACE1", "", "random.lfsr: missing; it is the register's state after a reset"),
        ("0xACE1", "0", r"random.lfsr: 0 is not a seed in 1..65535"),
        ("0xB400", "0x3400", "random.taps: 13312 is not an integer of 16 bits whose highest is 1"),
        ("width = 16", "width = 65", "random.width: 65 is not an integer in 2..64"),
        ('"state"', '"serial"', "random.draw: 'serial' is not one of bits, state"),
        ("taps =", "tap =", "random: 'tap'"),
        ('c = "c"', 'c = "c"\nrandom = "r"', "random.lfsr: not beside a port that carries random"),
    ],
)
def test_a_register_that_cannot_be_is_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(FpsimError, match=message):
        read_dut(changed(old, new, tmp_path))
