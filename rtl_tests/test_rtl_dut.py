# SPDX-License-Identifier: Apache-2.0
"""`fpsim verify --dut`: designs that are not ours, right ones and broken ones."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rtl_support import HERE

import fpsim
from fpsim.base.errors import SimulatorMissing
from fpsim.cli import main
from fpsim.hdl.bench.replay import Options, SimulationFailed
from fpsim.hdl.bench.simulator import Simulator, find
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.verify import Plan, Report, verify_design
from fpsim.vectors.sets.record import Op

DOT4, FIXED24 = HERE / "examples" / "dot4" / "dut.toml", "e2m1-fixed24q2"
COMB, FIXED16 = HERE / "designs" / "comb_mac.toml", "e2m1-fixed16q2"
SERIAL, MXFP4 = HERE / "designs" / "serial_mx.toml", "mxfp4-block32-e8m23"
SILENT = HERE / "designs" / "silent.toml"
BENCHES = pytest.mark.parametrize("bench", ["cocotb", "native"])


def changed(path: Path, directory: Path, *edits: tuple[str, str]) -> Path:
    """Write a changed copy of a design's TOML beside nothing else, and return it."""
    text = path.read_text(encoding="utf-8")
    for source in ("*.sv", "comb_mac.v", "serial_mx.sv", "silent.sv"):
        text = text.replace(f'"{source}"', f'"{path.parent / source}"')
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    file = directory / "dut.toml"
    file.write_text(text, encoding="utf-8")
    return file


def with_bug(path: Path, directory: Path, bug: str) -> Dut:
    return read_dut(changed(path, directory, ("top =", f"defines = {{ {bug} = 1 }}\ntop =")))


def run(
    unit: str, dut: Dut, simulator: Simulator, directory: Path, bench: str = "cocotb", **plan: Any
) -> Report:
    options = Options(**plan.pop("options", {}))
    chosen = Plan(**({"count": 150, "bench": bench, "options": options, "judge": False} | plan))
    return verify_design(fpsim.get_unit(unit), dut, simulator.name, directory, chosen, None)


# -- designs that are right ------------------------------------------------------------------------


@BENCHES
@pytest.mark.parametrize(
    ("path", "unit"), [(DOT4, FIXED24), (COMB, FIXED16)], ids=["dot4", "comb_mac"]
)
def test_a_right_design_passes(
    path: Path, unit: str, bench: str, icarus: Simulator, tmp_path: Path
) -> None:
    report = run(unit, read_dut(path), icarus, tmp_path, bench)
    assert report.passed, str(report)
    assert report.result.compared > 1000
    assert report.result.left_out < report.result.vectors // 10


@BENCHES
def test_headers_and_serial_elements_with_stalls_and_resets(
    bench: str, icarus: Simulator, tmp_path: Path
) -> None:
    plan = {"strategy": "random", "options": {"stall": 0.3, "resets": 0.1, "seed": 5}}
    report = run(MXFP4, read_dut(SERIAL), icarus, tmp_path, bench, **plan)
    assert report.passed, str(report)
    assert report.result.resets > 5
    assert report.result.clocks > 1.3 * report.result.beats


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("path", "unit", "bench"),
    [(DOT4, FIXED24, "native"), (COMB, FIXED16, "cocotb"), (SERIAL, MXFP4, "native")],
    ids=["dot4", "comb_mac", "serial_mx"],
)
def test_the_same_on_verilator(
    path: Path, unit: str, bench: str, verilator: Simulator, tmp_path: Path
) -> None:
    report = run(unit, read_dut(path), verilator, tmp_path, bench, options={"stall": 0.2})
    assert report.passed, str(report)


def test_ports_may_have_the_names_of_the_bench(icarus: Simulator, tmp_path: Path) -> None:
    names = {"ab": "line", "c": "marks", "y": "out"}
    for file, before in ((COMB, '(?<=")'), (COMB.with_suffix(".v"), r"\b")):
        text = file.read_text(encoding="utf-8")
        for old, new in names.items():
            text = re.sub(rf"{before}{old}\b", new, text)
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    report = run(FIXED16, read_dut(tmp_path / COMB.name), icarus, tmp_path, "native")
    assert report.passed, str(report)


def test_stalls_depend_on_the_seed_alone(icarus: Simulator, tmp_path: Path) -> None:
    plan = {"bench": "native", "strategy": "random", "count": 60}
    clocks = [
        run(MXFP4, read_dut(SERIAL), icarus, tmp_path, **plan, options={"stall": 0.3, "seed": s})
        .result.clocks
        for s in (1, 1, 2)
    ]  # fmt: skip
    assert clocks[0] == clocks[1] != clocks[2]


def test_the_reference_rtl_on_the_native_bench(icarus: Simulator, tmp_path: Path) -> None:
    unit = fpsim.get_unit("e2m1-chain-e5m10")
    report = run(unit.name, reference_dut(unit.spec), icarus, tmp_path, "native")
    assert report.passed
    # The sum of two exponents cannot say that a scale is NaN; all else is told.
    assert report.result.left_out < report.result.vectors // 500


def test_dot_products_on_a_design_that_loads_and_accumulates(
    icarus: Simulator, tmp_path: Path
) -> None:
    """Sets of dot products with scales reach the reference MAC as exponents, beat by beat."""
    unit = fpsim.get_unit("e2m1-chain-e5m10")
    out = tmp_path / "dots"
    assert main(["vectors", unit.name, "--k", "4", "--group", "2", "--out", str(out),
                 "--count", "200", "--strategy", "random"]) == 0  # fmt: skip
    report = run(unit.name, reference_dut(unit.spec), icarus, tmp_path, vectors_dir=out)
    assert report.passed, str(report)
    assert report.result.beats > 4 * report.result.compared


def test_an_adapter_in_python(icarus: Simulator, tmp_path: Path) -> None:
    text = DOT4.read_text(encoding="utf-8")
    head = text[: text.index("[[input.beats]]")].replace("k = 8", "k = 4")
    adapter = HERE / "designs" / "host_adapter.py"
    file = tmp_path / "dut.toml"
    file.write_text(
        f'adapter = "{adapter}:Host"\n'
        + head.replace('"*.sv"', f'"{DOT4.parent / "*.sv"}"')
        + "[output]\nlatency = 3\n"
    )
    report = run(FIXED24, read_dut(file), icarus, tmp_path, strategy="exhaustive")
    assert report.passed, str(report)
    assert report.result.compared == 256
    dut = with_bug(file, tmp_path, "BUG_LANE")
    report = run(FIXED24, dut, icarus, tmp_path, strategy="exhaustive")
    assert not report.passed
    assert report.diagnosis is not None and report.diagnosis.guesses


def test_vhdl_through_ghdl(tmp_path: Path) -> None:
    dut = read_dut(HERE / "designs" / "vhdl_mac.toml")
    try:
        simulator = find("ghdl")
    except SimulatorMissing as missing:
        pytest.skip(str(missing))
    report = run(FIXED16, dut, simulator, tmp_path)
    assert report.passed, str(report)


# -- designs that are wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "unit", "bug", "mistake", "ops"),
    [
        (DOT4, FIXED24, "BUG_SUBNORMAL", "a and b: subnormals read as zero", [Op.CLEAR, Op.MAC]),
        (DOT4, FIXED24, "BUG_LANE", "lane 0 of every beat dropped", [Op.CLEAR, Op.MAC]),
        (COMB, FIXED16, "BUG_SIGN", "sign of a lost", [Op.DOT]),
        pytest.param(
            SERIAL,
            MXFP4,
            "BUG_STICKY",
            "rounding: sticky dropped",
            [Op.DOT],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_bug_is_found_explained_and_shrunk(
    path: Path, unit: str, bug: str, mistake: str, ops: list[Op], icarus: Simulator, tmp_path: Path
) -> None:
    """The shortest is one sum, begun as the design begins one: a clear of its own is a vector."""
    dut = with_bug(path, tmp_path, bug)
    strategy = "directed" if bug == "BUG_STICKY" else "mixed"
    report = run(unit, dut, icarus, tmp_path, "native", strategy=strategy)
    assert not report.passed and report.result.compared == report.result.due
    assert report.diagnosis is not None and report.reproducer is not None
    guess = next(g for g in report.diagnosis.guesses if g.mistake == mistake)
    assert guess.score == report.diagnosis.guesses[0].score > 0.9
    assert f"as if: {mistake}" in str(report)
    assert report.reproducer.alone and report.reproducer.run.columns["op"].tolist() == ops
    again = run(unit, dut, icarus, tmp_path, "native", vectors_dir=report.reproducer_dir)
    assert again.result.mismatch_count == 1 and again.result.compared == len(ops)
    sound = run(unit, read_dut(path), icarus, tmp_path / "sound", "native",
                vectors_dir=report.reproducer_dir)  # fmt: skip
    assert sound.passed


def test_a_wrong_accumulator_is_shrunk_to_what_matters(icarus: Simulator, tmp_path: Path) -> None:
    """Truncation shows late in a long stream; two vectors are left, few operands in them."""
    unit = fpsim.get_unit("e2m1-chain-e4m3")
    dut = reference_dut(fpsim.get_unit("e2m1-chain-e4m3-rtz").spec)
    report = run(unit.name, dut, icarus, tmp_path, "native", strategy="random", count=400)
    assert report.diagnosis is not None and report.reproducer is not None
    assert report.diagnosis.guesses[0].mistake == "rounding rtz"
    assert report.diagnosis.ulps in (-1, 1)
    assert "p[0]" in str(report.diagnosis) and " ulp" in str(report.diagnosis)
    assert report.reproducer.run.count == 2
    again = run(unit.name, dut, icarus, tmp_path, "native", vectors_dir=report.reproducer_dir)
    assert again.result.mismatch_count == 1


def test_vectors_that_do_not_matter_are_dropped(icarus: Simulator, tmp_path: Path) -> None:
    """Without a load the accumulator must be brought to where truncation shows."""
    unit = fpsim.get_unit("e2m1-chain-e5m6")
    top = reference_dut(fpsim.get_unit("e2m1-chain-e5m6-rtz").spec)
    (beats,) = top.input.beats
    fields = {name: wires for name, wires in beats.fields.items() if name not in ("c", "exp")}
    dut = replace(
        top,
        ops={name: code for name, code in top.ops.items() if name != "load"},
        input=replace(top.input, beats=(replace(beats, fields=fields),),
                      tie={"c_i": 0, "exp_i": 0}),
    )  # fmt: skip
    report = run(unit.name, dut, icarus, tmp_path, "native", strategy="random", count=400)
    assert report.reproducer is not None and report.reproducer.alone
    made = report.reproducer.run
    assert 3 <= made.count < report.result.kept[0].index // 2  # one stream, from its clear
    assert made.columns["op"].tolist() == [Op.CLEAR] + [Op.MAC] * (made.count - 1)


@BENCHES
def test_unknown_bits_are_named(bench: str, icarus: Simulator, tmp_path: Path) -> None:
    report = run(MXFP4, with_bug(SERIAL, tmp_path, "BUG_CLEAR"), icarus, tmp_path, bench, count=20,
                 strategy="random", explain=bench == "native")  # fmt: skip
    assert "x" in report.result.mismatches[0].seen
    assert "out_data bit 31 is x" in str(report)
    if report.diagnosis is not None:
        assert report.diagnosis.seen_value == "unknown bits"


@pytest.mark.sweep
def test_a_waveform_of_the_reproducer(icarus: Simulator, tmp_path: Path) -> None:
    dut = with_bug(COMB, tmp_path, "BUG_SIGN")
    for bench in ("cocotb", "native"):
        report = run(FIXED16, dut, icarus, tmp_path, bench, strategy="directed",
                     options={"waves": True}, explain=bench == "native")  # fmt: skip
        assert report.waveform is not None and report.waveform.stat().st_size > 200


# -- designs that cannot be run --------------------------------------------------------------------


@pytest.mark.one_in(2)
@BENCHES
@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ((), r"no answer for 100 clocks; last seen valid=1, ready=0, done=0; 9 beats taken, 0 res"),
        ((("top =", "defines = { UNKNOWN = 1 }\ntop ="),), "handshake: .*done=[xX]; [56] beats"),
        ((("top =", "defines = { NOISE = 1 }\ntop ="),), "a result that nobody expected"),
        ((('b = "b"', 'b = "bb"'),), "port: silent has no port 'bb'"),
        ((('a = "a"', 'a = { port = "a", element_bits = 5 }'),), "a of silent has 4 bits, .* 5"),
        ((('acc = "y"', 'acc = "y[24:1]"'),), "y of silent has 24 bits, the mapping at least 25"),
    ],
)
def test_a_design_that_cannot_go_on_says_why(
    edits: tuple[tuple[str, str], ...],
    message: str,
    bench: str,
    icarus: Simulator,
    tmp_path: Path,
) -> None:
    dut = read_dut(changed(SILENT, tmp_path, *edits))
    options = {"patience": 100}
    try:
        report = run(FIXED24, dut, icarus, tmp_path, bench, options=options, explain=False)
    except fpsim.FpsimError as error:
        said = str(error)
    else:  # it answered wrongly before
        assert report.result.error and not report.passed
        said = str(report)
    assert re.search(message, said)
    assert not re.search(r"\bp_\w", said)  # the bench's own names


@pytest.mark.parametrize("bench", ["native", pytest.param("cocotb", marks=pytest.mark.sweep)])
def test_a_combinational_loop_ends(bench: str, simulator: Simulator, tmp_path: Path) -> None:
    loop = ("comb_mac", "comb_loop")
    dut = read_dut(changed(COMB, tmp_path, loop))
    options = {"timeout": 3.0}
    try:
        report = run(FIXED16, dut, simulator, tmp_path, bench, options=options, explain=False)
    except SimulationFailed as failed:
        said = str(failed)
    else:  # the first vector, which the loop leaves alone, was answered wrongly before
        assert not report.passed and report.result.compared < report.result.due
        said = str(report)
    assert re.search("did not converge|within 3 s and was stopped", said)


def test_the_wrong_language_is_refused(icarus: Simulator, tmp_path: Path) -> None:
    dut = read_dut(HERE / "designs" / "vhdl_mac.toml")
    with pytest.raises(fpsim.FpsimError, match="icarus does not take VHDL; allowed: ghdl"):
        run(FIXED16, dut, icarus, tmp_path)


# -- the command -----------------------------------------------------------------------------------


def test_the_command_reports_in_every_form(
    icarus: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junit = tmp_path / "result.xml"
    common = ["verify", FIXED16, "--simulator", "icarus", "--build", str(tmp_path), "--count", "50",
              "--bench", "native", "--junit", str(junit)]  # fmt: skip
    assert main([*common, "--dut", str(COMB), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] and data["compared"] == data["due"] > 1000 and not data["first"]
    assert data["mistakes"]["unfound"] == [] and data["mistakes"]["found"] > 10
    suite = ET.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "0")
    bad = changed(COMB, tmp_path, ("top =", "defines = { BUG_SIGN = 1 }\ntop ="))
    assert main([*common, "--dut", str(bad), "--json"]) == 1
    first = json.loads(capsys.readouterr().out)["first"][0]
    assert set(first["fields"]) == {"op", "a", "b", "c"} and first["wires"]["y"]
    bundle = tmp_path / "failure.zip"
    assert main([*common, "--dut", str(bad), "--bundle", str(bundle)]) == 1
    assert "as if: sign of a lost" in capsys.readouterr().out
    rerun_without_fpsim(bundle, tmp_path / "elsewhere")
    failure = ET.parse(junit).getroot().find(".//failure")
    assert failure is not None and "as if: sign of a lost" in (failure.text or "")
    assert main([*common, "--dut", str(changed(COMB, tmp_path, ("[output]", "[outputs]")))]) == 2
    assert "did you mean 'output'" in capsys.readouterr().err


def rerun_without_fpsim(bundle: Path, directory: Path) -> None:
    """Run the commands of a bundle's README for Icarus, and see the failure again."""
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(directory)
    readme = (directory / "README.txt").read_text()
    commands = re.search(r"With Icarus Verilog:\n((?:    .*\n)+)", readme)
    assert commands is not None and "mismatches" in readme
    for command in commands[1].splitlines():
        done = subprocess.run(shlex.split(command), cwd=directory, capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"]}, check=True)  # fmt: skip
    assert "1 results compared, 1 mismatches" in done.stdout
    assert (directory / "vectors" / "manifest.json").is_file()


def test_no_vector_is_a_failure(
    icarus: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every vector of this set has an addend, which the design has no port for."""
    out = tmp_path / "vectors"
    assert main(["vectors", FIXED24, "--k", "8", "--strategy", "random", "--count", "1",
                 "--seed", "3", "--out", str(out)]) == 0  # fmt: skip
    arguments = ["verify", FIXED24, "--dut", str(DOT4), "--vectors", str(out),
                 "--simulator", "icarus", "--build", str(tmp_path)]  # fmt: skip
    assert main(arguments) == 2
    assert "nothing would be verified" in capsys.readouterr().err


def test_the_generated_bench_is_a_product(icarus: Simulator, tmp_path: Path) -> None:
    assert main(["testbench", FIXED24, "--dut", str(DOT4), "--out", str(tmp_path), "--count",
                 "100"]) == 0  # fmt: skip
    assert {p.name for p in tmp_path.iterdir()} == {"fpsim_testbench.sv", "stimulus.bin"}
    sources = [str(DOT4.parent / "dot4.sv"), "fpsim_testbench.sv"]
    build = ["iverilog", "-g2012", "-o", "bench.vvp", "-s", "fpsim_testbench", *sources]
    for command in (build, ["vvp", "-n", "bench.vvp"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ", 0 mismatches" in done.stdout
    assert (tmp_path / "result.txt").read_text().startswith("end ")
