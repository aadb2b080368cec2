# SPDX-License-Identifier: Apache-2.0
"""Operands that come in as codes of a table, such as nf4, are looked up as the format says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rtl_support import compile_only, runs_yosys, verilator_command
from rtl_units import blocks, chain, exact, fixed, scaled

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.blocks.code_table import CodeTable
from fpsim.cli import main
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.rtl.instantiation import instantiation
from fpsim.hdl.rtl.parameters import rtl_top, sources_of
from fpsim.hdl.rtl.proof import lookup, prove
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.rtl.rtl_codes import TABLE_ENTRY
from fpsim.hdl.rtl.synthesis import synthesise
from fpsim.hdl.verify.verify import Plan, Report, verify_design
from fpsim.units.spec import MacSpec

#: Units and the tables of their operands: one for each top, and for what can differ.
NF4 = chain("e5m10", "e5m10", "e2m1"), {"a": "nf4"}
BNB = fixed(24, -8, "int9q6s", "e2m1"), {"a": "fp4-bnb"}
BLOCK = blocks(4, chain("e8m7", "e5m10", "e5m10")), {"a": "nf4", "b": "af4"}
UNITS = [
    NF4,
    BNB,
    BLOCK,
    (chain("e8m23", "e5m10", "e4m3fn"), {"a": "sf4"}),
    (fixed(32, -16, "e2m1", "e5m10", overflow="saturate"), {"b": "bof4"}),
    (scaled(exact("e8m23", "e5m10", "e5m10"), "ue4m3fn", "ue4m3fn"), {"b": "bof4-s"}),
    (blocks(16, scaled(chain("e8m23", "e5m10", "e2m1"), "ue4m3fn", "e8m0")), {"a": "nf4"}),
    (chain("e4m3"), {"a": "mxfp4-ggml"}),
]

Case = tuple[MacSpec, dict[str, str]]


def tables_of(names: dict[str, str]) -> dict[str, CodeTable]:
    return {operand: CodeTable.of(name) for operand, name in names.items()}


def names_of(case: Case) -> str:
    return f"{case[0].canonical_name} {' '.join(case[1].values())}"


def run(
    case: Case,
    tool: Simulator,
    directory: Path,
    count: int = 300,
    edit: dict[str, int] | None = None,
) -> Report:
    spec, names = case
    top = rtl_top(spec, tables=tables_of(names))
    top = replace(top, parameters=top.parameters | (edit or {}))
    plan = Plan(count=count, bench="native")
    unit = fpsim.get_unit(spec.canonical_name)
    return verify_design(unit, reference_dut(spec, top), tool.name, directory, plan, None)


@pytest.mark.sweep
@pytest.mark.parametrize("case", [NF4, BNB, BLOCK], ids=names_of)
def test_what_is_looked_up_is_what_the_unit_multiplies(
    case: Case, icarus: Simulator, tmp_path: Path
) -> None:
    report = run(case, icarus, tmp_path)
    assert report.passed, str(report)


@pytest.mark.sweep
@pytest.mark.parametrize("case", UNITS, ids=names_of)
def test_every_kind_of_unit_takes_tables(case: Case, simulator: Simulator, tmp_path: Path) -> None:
    report = run(case, simulator, tmp_path, count=4096)
    assert report.passed, str(report)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("case", "entry", "wrong", "named"),
    [
        (NF4, 5, 0xB1EB, "a: entry 5 of the table is b1eb, not b1ea"),  # rounded the other way
        (NF4, 0, 0x3C00, "a: entry 0 of the table is 3c00, not bc00"),  # the sign
        (BNB, 3, 0x0C4, "a: entry 3 of the table is 0c4, not 0c0"),  # one bit
        (BLOCK, 14, 0x3880, "a: entry 14 of the table is 3880, not 39c9"),  # another entry
    ],
)
def test_a_wrong_entry_of_a_table_is_named(
    case: Case, entry: int, wrong: int, named: str, icarus: Simulator, tmp_path: Path
) -> None:
    own = rtl_top(case[0], tables=tables_of(case[1])).parameters["A_TABLE"]
    at = entry * TABLE_ENTRY
    held = own >> at & (1 << TABLE_ENTRY) - 1
    report = run(case, icarus, tmp_path, edit={"A_TABLE": own ^ (held ^ wrong) << at})
    assert not report.passed and report.diagnosis is not None
    assert report.diagnosis.guesses[0].fits
    assert report.diagnosis.guesses[0].mistake == named


@pytest.mark.sweep
@pytest.mark.parametrize("entry", range(16))
def test_every_entry_counts(entry: int, icarus: Simulator, tmp_path: Path) -> None:
    own = rtl_top(NF4[0], tables=tables_of(NF4[1])).parameters["A_TABLE"]
    report = run(NF4, icarus, tmp_path, edit={"A_TABLE": own ^ 1 << entry * TABLE_ENTRY})
    assert not report.passed and report.diagnosis is not None
    assert report.diagnosis.guesses[0].mistake.startswith(f"a: entry {entry} of the table is")


@pytest.mark.parametrize("case", [NF4, BNB, BLOCK], ids=names_of)
def test_no_tool_warns(case: Case, verilator: Simulator, icarus: Simulator, tmp_path: Path) -> None:
    top = rtl_top(case[0], tables=tables_of(case[1]))
    assert compile_only(verilator_command(top), verilator) == ""
    # Icarus takes no parameters of more than 64 bits from its command line.
    user = tmp_path / "user.sv"
    text = instantiation(case[0], top=top)
    user.write_text(f"module user;\nlogic clk, rst_n;\n{text}endmodule\n")
    command = ["iverilog", "-g2012", "-Wall", "-o", str(tmp_path / "out"), "-s", "user"]
    assert compile_only([*command, *map(str, top.sources), str(user)], icarus) == ""


@runs_yosys
@pytest.mark.parametrize("case", [NF4, BNB], ids=names_of)
def test_a_look_up_maps_onto_gates_alone(case: Case, tmp_path: Path) -> None:
    own = synthesise(rtl_top(case[0], tables=tables_of(case[1])), tmp_path / "own")
    assert own.flipflops == case[0].result.bits and own.logic_area > own.depth > 5


@runs_yosys
@pytest.mark.parametrize("name", ["nf4", "af4", "fp4-bnb", "mxfp4-ggml"])
def test_a_look_up_is_proved(name: str, tmp_path: Path) -> None:
    prove(lookup(CodeTable.of(name)), tmp_path)


@runs_yosys
def test_a_wrong_look_up_is_refuted(tmp_path: Path) -> None:
    leaf = lookup(CodeTable.of("nf4"))
    (text,) = [p.read_text() for p in sources_of("code_lookup") if p.stem == "code_lookup"]
    assert text.count("TABLE[7*") == 1
    faulty = tmp_path / "code_lookup.sv"
    faulty.write_text(text.replace("TABLE[7*", "TABLE[6*"))
    sources = (sources_of("code_lookup")[0], faulty)
    with pytest.raises(FpsimError, match="proof: code_lookup is wrong for code_i = 0x7"):
        prove(leaf, tmp_path / "proof", sources)


def test_operands_by_table_have_codes_of_four_bits() -> None:
    assert rtl_top(NF4[0]).inputs["a_i"] == NF4[0].a.bits
    assert rtl_top(NF4[0], tables=tables_of(NF4[1])).inputs["a_i"] == 4
    assert rtl_top(BLOCK[0], tables=tables_of(BLOCK[1])).inputs["b_i"] == 4 * 4


@pytest.mark.parametrize(
    ("unit", "table", "message"),
    [
        ("e4m3fn-chain-e8m7", "nf4", "a_table: the numbers of nf4 stand in e5m10, and operand a "
         "of the unit is e4m3fn; allowed: a unit whose operand a is e5m10"),
        ("e5m10-chain-e8m7", "razer", "a_table: razer has 4 grids per block; allowed"),
        ("e2m1-chain-e8m7", "mxfp4", "a_table: mxfp4 has e2m1 and no table; allowed"),
        ("e2m1-chain-e8m7", "nf44", "a_table: block format: 'nf44' is not one of"),
        ("quantize:mxfp4", "nf4", "a_table: not for a quantizer"),
    ],
)  # fmt: skip
def test_what_has_no_table_is_refused(
    unit: str, table: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rtl", unit, "--a-table", table]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fpsim: {message}") and error.count("\n") == 1


def test_an_array_takes_codes_of_a_table(
    icarus: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tiles of NF4's numbers enter as its codes; a relative build directory is where it says."""
    monkeypatch.chdir(tmp_path)
    unit = NF4[0].canonical_name
    tiles = ["vectors", unit, "--tile", "3x4x5"]
    assert main([*tiles, "--a-table", "nf4", "--out", "tiles"]) == 0
    assert main([*tiles, "--out", "others"]) == 0
    run = ["verify", unit, "--a-table", "nf4", "--array", "2x3", "--simulator", icarus.name]
    run += ["--build", "build", "--vectors"]
    assert main([*run, "tiles"]) == 0
    assert "8 of 8 rows of results" in capsys.readouterr().out
    (module,) = (tmp_path / "build").glob("*_os_2x3.sv")
    text = module.read_text()
    assert "localparam int A_W = 4;" in text and "A_TABLE" in text
    assert main([*run, "others"]) == 2
    assert "a: tile-0 has the code 0x" in (error := capsys.readouterr().err)
    assert "which nf4 has not" in error
    assert main([*tiles, "--b-table", "nf4", "--out", "wrong"]) == 2
    assert "b_table: the numbers of nf4 stand in e5m10" in capsys.readouterr().err
    assert main(["vectors", unit, "--a-table", "nf4", "--out", "wrong"]) == 2
    assert "a_table: only with --tile" in capsys.readouterr().err


def test_own_designs_have_no_option_for_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "e5m10-chain-e8m7", "--dut", "dut.toml", "--b-table", "nf4"]) == 2
    assert "b_table: only without --dut" in capsys.readouterr().err


OWN = """
top = "own"
sources = [{sources}]
[clock]
port = "clk"
[[input.beats]]
elements = 1
a = {{ port = "a", table = "{table}" }}
b = {{ port = "b", table = "{table}" }}
[ops]
clear = {{ clr = 1 }}
mac = {{}}
[output]
acc = "acc"
latency = 1
"""
OWN_MAC = """
module own(input clk, input clr, input [3:0] a, input [3:0] b, output [15:0] acc);
  mac_chain #({settings}) u_mac (
    .clk_i(clk), .rst_ni(1'b1), .op_i(clr ? 2'd1 : 2'd2), .a_i(a), .b_i(b), .c_i(16'd0),
    .exp_i(9'd0), .acc_o(acc));
endmodule
"""


def own_design(tmp_path: Path, table: str) -> Path:
    """Write a MAC that looks up the codes of nf4 itself, clears and accumulates."""
    top = rtl_top(chain("e8m7", "e5m10", "e5m10"), tables=tables_of({"a": "nf4", "b": "nf4"}))
    settings = instantiation(chain("e8m7", "e5m10", "e5m10"), top=top)
    settings = settings.partition("#(")[2].partition(") u_mac")[0]
    (tmp_path / "own.sv").write_text(OWN_MAC.format(settings=settings))
    sources = ", ".join(json.dumps(str(path)) for path in [*top.sources, tmp_path / "own.sv"])
    (tmp_path / "dut.toml").write_text(OWN.format(sources=sources, table=table))
    return tmp_path / "dut.toml"


@pytest.mark.sweep
def test_a_design_of_ones_own_may_look_codes_up(icarus: Simulator, tmp_path: Path) -> None:
    """No code of the format is left for mistakes in infinities, subnormals and overflow."""
    unit, plan = fpsim.get_unit("e5m10-chain-e8m7"), Plan(count=300, bench="native")
    right = read_dut(own_design(tmp_path, "nf4"))
    report = verify_design(unit, right, icarus.name, tmp_path / "right", plan, None)
    assert report.passed, str(report)
    other = read_dut(own_design(tmp_path, "af4"))
    report = verify_design(unit, other, icarus.name, tmp_path / "other", plan, None)
    assert not report.passed and report.result.mismatch_count > 100


def test_a_table_has_a_pattern_for_every_code(icarus: Simulator, tmp_path: Path) -> None:
    unit, dut = fpsim.get_unit("e4m3fn-chain-e8m7"), read_dut(own_design(tmp_path, "nf4"))
    with pytest.raises(FpsimError, match="a: table: 65536 patterns for the 256 codes of a"):
        verify_design(unit, dut, icarus.name, tmp_path, Plan(), None)
    text = own_design(tmp_path, "nope").read_text()
    (tmp_path / "dut.toml").write_text(text)
    with pytest.raises(FpsimError, match=r"input.beats\[0\].a.table: block format: 'nope' is not"):
        read_dut(tmp_path / "dut.toml")
