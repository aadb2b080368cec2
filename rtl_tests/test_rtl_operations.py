# SPDX-License-Identifier: Apache-2.0
"""`fpsim verify --op`: a multiplier and a quantizer that are not ours, right and broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rtl_support import HERE

from fpsim.cli import main
from fpsim.hdl.bench.simulator import Simulator
from fpsim.vectors.files.checker import check

MULTIPLIER, QUANTIZER = (HERE / "designs" / name for name in ("fp4_mul.toml", "mx_quantizer.toml"))
MUL, MXFP4 = "mul:e2m1:e2m1:e4m3", "quantize:mxfp4:e8m7"
Capture = pytest.CaptureFixture[str]


def verify(
    op: str,
    dut: Path,
    tool: Simulator,
    directory: Path,
    *options: str,
    bug: str = "",
    edit: str = "",
) -> int:
    text = dut.read_text(encoding="utf-8")
    for suffix in (".v", ".sv"):
        text = text.replace(f'["{dut.stem}{suffix}"]', f'["{dut.parent / dut.stem}{suffix}"]')
    text = f"{f'defines = {{ {bug} = 1 }}' if bug else ''}\n{edit}\n{text}"
    file = directory / "dut.toml"
    file.write_text(text, encoding="utf-8")
    command = ["verify", "--op", op, "--dut", str(file), "--simulator", tool.name]
    return main([*command, "--build", str(directory / "build"), *options])


@pytest.mark.parametrize("bench", ["native", pytest.param("cocotb", marks=pytest.mark.sweep)])
def test_a_multiplier(bench: str, simulator: Simulator, tmp_path: Path, capsys: Capture) -> None:
    assert verify(MUL, MULTIPLIER, simulator, tmp_path, "--bench", bench, "--count", "50") == 0
    shown = capsys.readouterr().out
    assert "306 vectors on" in shown and "all match" in shown
    assert "mistakes that these vectors would find" in shown


@pytest.mark.sweep
def test_a_sign_that_is_lost_is_explained_and_guessed(
    simulator: Simulator, tmp_path: Path, capsys: Capture
) -> None:
    options = ("--count", "50", "--json")
    assert verify(MUL, MULTIPLIER, simulator, tmp_path, *options, bug="SIGN_LOST") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["mismatches"] > 100
    first = found["first"][0]
    assert set(first["fields"]) == {"a", "b"}
    assert found["diagnosis"]["explanation"]["way"][0].startswith("exact")
    assert found["diagnosis"]["ulps"] is not None
    reproducer = Path(found["reproducer"]["directory"])
    assert found["reproducer"]["vectors"] == 1 and check(reproducer).count == 1
    options = ("--vectors", str(reproducer))
    assert verify(MUL, MULTIPLIER, simulator, tmp_path, *options, bug="SIGN_LOST") == 1
    assert verify(MUL, MULTIPLIER, simulator, tmp_path, *options) == 0


def test_a_quantizer_of_several_beats(icarus: Simulator, tmp_path: Path, capsys: Capture) -> None:
    assert verify(MXFP4, QUANTIZER, icarus, tmp_path, "--count", "300", "--bench", "native") == 0
    shown = capsys.readouterr().out
    assert "all match" in shown and "not found" not in shown


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("bug", "guess"),
    [("TIES_AWAY", "rounding: rna"), ("NO_CLAMP", "codes: elements beyond the largest wrap")],
)
def test_a_broken_quantizer(
    bug: str, guess: str, simulator: Simulator, tmp_path: Path, capsys: Capture
) -> None:
    options = ("--count", "200", "--bench", "native", "--json")
    assert verify(MXFP4, QUANTIZER, simulator, tmp_path, *options, bug=bug) == 1
    found = json.loads(capsys.readouterr().out)
    best = found["diagnosis"]["guesses"][0]
    assert best["mistake"] == guess and best["fits"]
    assert found["reproducer"]["vectors"] == 1 and found["reproducer"]["alone"]


def test_what_vectors_do_not_show_needs_a_waiver(
    simulator: Simulator, tmp_path: Path, capsys: Capture
) -> None:
    """Three random blocks hold no tie."""
    few = ("--strategy", "random", "--count", "3", "--bench", "native")
    assert verify(MXFP4, QUANTIZER, simulator, tmp_path, *few) == 1
    names = capsys.readouterr().out.split("would pass: ")[1].split("; give more")[0]
    assert "'rounding: rna'" in names
    waive = f"waive = [{names}]"
    assert verify(MXFP4, QUANTIZER, simulator, tmp_path, *few, edit=waive) == 0
    assert "waived: " in capsys.readouterr().out
    wrong = 'waive = ["rounding: rnx"]'
    assert verify(MXFP4, QUANTIZER, simulator, tmp_path, *few, edit=wrong) == 2
    assert "waive: 'rounding: rnx' is no mistake of quantize:mxfp4:e8m7" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["quantize:nvfp4", pytest.param("quantize:amxfp4:e8m7", marks=pytest.mark.sweep)],
)
def test_the_reference_quantizer(
    text: str, icarus: Simulator, tmp_path: Path, capsys: Capture
) -> None:
    command = ["verify", text, "--simulator", icarus.name, "--bench", "native", "--count", "40"]
    assert main([*command, "--build", str(tmp_path)]) == 0
    assert "all match" in capsys.readouterr().out
