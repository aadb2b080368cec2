# SPDX-License-Identifier: Apache-2.0
"""Structs, interfaces, memories, orders of elements, results that are read: by TOML alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from rtl_support import HERE

import fpsim
from fpsim import oracle
from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.verify.verify import Plan, Report, verify_design

DESIGNS = HERE / "designs" / "awkward"
UNIT = "e2m1-fixed10q2"
OUT = '[output]\nacc = "y"\n'
PAIR = '[[input.beats]]\nelements = 1\na = "a"\nb = "b"\n'

#: Top, what its file says, and the unit, if it is another.
MAPPINGS = {
    "on_a_bus": (
        'k = 1\ninterfaces = { port = "beat_bus #(.W(8))" }\n[clock]\nport = "clk"\n'
        '[input]\nvalid = "port.valid"\n[[input.beats]]\nelements = 1\n'
        'a = { port = "port.a", element_bits = 8 }\nb = { port = "port.b", element_bits = 8 }\n'
        '[output]\nacc = "port.sum"\nvalid = "port.done"\n',
        UNIT,
    ),
    "in_structs": (
        'parameters = { TAG = "logic [2:0]" }\n[clock]\nport = "clk"\n'
        '[input]\ntie = { "request.unused" = 17, tag = 5 }\n'
        '[[input.beats]]\nelements = 1\na = "request.work.a"\nb = "request.work.b"\n'
        '[ops]\nidle = { "request.enable" = 0 }\nclear = { "request.work.clear" = 1 }\n'
        'mac = { "request.enable" = 1 }\n[output]\nacc = "answer.sum"\nlatency = 1\n',
        UNIT,
    ),
    "by_table": ('k = 1\nmemories = { products = "products.hex" }\n' + PAIR + OUT, UNIT),
    "by_own_file": ('k = 1\nfiles = ["products.hex"]\n' + PAIR + OUT, UNIT),
    "shifts_out": (
        'k = 1\n[clock]\nport = "clk"\n[reset]\nport = "rst"\nactive = "high"\nkind = "sync"\n'
        '[[input.beats]]\nelements = 1\na = "a"\nb = "b"\nc = "c"\n'
        "[ops]\ndot = { add = 1 }\nread = { shift = 1 }\n"
        '[output]\nacc = "out"\nbeats = 2\nlatency = 1\n',
        UNIT,
    ),
    "by_columns": (
        "k = 6\n[[input.beats]]\nelements = 6\n"
        'a = { port = "a", transpose = [2, 3] }\n'
        'b = { port = "b", order = [5, 4, 3, 2, 1, 0] }\n' + OUT,
        UNIT,
    ),
    "scaled_pair": (
        "k = 2\ngroup = 2\n[[input.beats]]\nelements = 2\n"
        'a = "a"\nb = "b"\nexp = { port = "scale", element_bits = 8, bias = 127 }\n'
        "[domain]\nscales = [68, 180]\n" + OUT,
        "e2m1-exact-e8m23",
    ),
}


def write_products(file: Path) -> None:
    """Write ten-bit products of all pairs of codes in quarters."""
    values = [float(oracle.decode(code, fpsim.get_format("e2m1")).value) for code in range(16)]
    rows = [f"{int(4 * a * b) & 0x3FF:03x}" for a in values for b in values]
    file.write_text("\n".join(rows) + "\n")


def toml(top: str, directory: Path, text: str | None = None) -> Path:
    directory.mkdir(exist_ok=True)
    write_products(directory / "products.hex")
    file = directory / "dut.toml"
    own = "structs.sv" if top in ("on_a_bus", "in_structs") else "mappings.sv"
    sources = [str(DESIGNS / name) for name in (own, "zz_awkward_pkg.sv")]
    file.write_text(f'top = "{top}"\nsources = {sources}\n' + (text or MAPPINGS[top][0]))
    return file


def run(top: str, bench: str, tool: Simulator, directory: Path, text: str | None = None) -> Report:
    dut = read_dut(toml(top, directory, text))
    plan = Plan(count=60, bench=bench, judge=False)
    unit = fpsim.get_unit(MAPPINGS[top][1])
    return verify_design(unit, dut, tool.name, directory / "build", plan, None)


@pytest.mark.sweep
@pytest.mark.parametrize("bench", ["cocotb", "native"])
@pytest.mark.parametrize("top", MAPPINGS)
def test_a_mapping_is_told(top: str, bench: str, verilator: Simulator, tmp_path: Path) -> None:
    report = run(top, bench, verilator, tmp_path)
    assert report.passed, str(report)
    assert report.result.compared > 200


@pytest.mark.parametrize("top", ["by_table", "shifts_out"])
def test_a_mapping_is_told_without_verilator(
    top: str, icarus: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fpsim.hdl.verify.verify.read_ports", lambda dut: None)
    report = run(top, "native", icarus, tmp_path)
    assert report.passed, str(report)


FLAGGED = "k = 1\n" + PAIR + 'c = "c"\n' + OUT


@pytest.mark.parametrize(
    ("flags", "forgets", "said"),
    [
        ('"status"', 0, "flags (inexact, underflow, overflow, infinite, invalid): "),
        ('{ overflow = "status[2]", invalid = "status[4]" }', 0, "results compared, all match"),
        ('{ overflow = "status[2]" }', 1, "expected overflow, seen none"),
    ],
)
def test_status_flags_are_compared(
    flags: str, forgets: int, said: str, icarus: Simulator, tmp_path: Path
) -> None:
    text = f"parameters = {{ FORGETS = {forgets} }}\n{FLAGGED}flags = {flags}\n"
    dut = read_dut(toml("with_flags", tmp_path, text))
    unit = fpsim.get_unit("e2m1-fixed10q2-saturate")
    plan = Plan(count=60, bench="native")
    report = verify_design(unit, dut, icarus.name, tmp_path / "build", plan, None)
    assert report.result.passed and report.flags is not None
    assert report.passed == (not forgets) and said in str(report)
    assert report.flags.compared >= 500
    first = report.to_dict()["flags"]["first"]
    assert bool(first) == bool(forgets)


@pytest.mark.parametrize(
    ("top", "old", "new", "message"),
    [
        ("on_a_bus", '"port.b"', '"port.bb"', "on_a_bus has no port 'port.bb'; did you mean"),
        ("on_a_bus", 'b = { port = "port.b", element_bits = 8 }\n', "", "no beat carries b"),
        ("on_a_bus", '"port.b"', '"port"', "port port of on_a_bus is an interface, which has no"),
        ("in_structs", '"request.unused" = 17, ', "",
         "nothing drives 'request.unused' of in_structs"),
        ("by_table", '"products.hex"', '"nowhere.hex"', "memories.products: 'nowhere.hex' is not"),
        pytest.param(
            "by_own_file", 'files = ["products.hex"]', "", "'products.hex', which is not there",
            marks=pytest.mark.sweep,
        ),
        ("by_own_file", '["products.hex"]', '["dut.toml", "result.txt"]', "'result.txt' is not a"),
        ("by_own_file", '["products.hex"]', "[3]", "files: \\[3\\] is not a list of strings"),
        ("by_columns", "[2, 3]", "[2, 4]", "order: 8 places for 6 elements"),
        ("by_columns", "[5, 4, 3", "[5, 4, 4", "has not each of 0..5 once"),
        ("scaled_pair", "bias = 127", "bias = true", "exp.bias: True is not an integer"),
        ("scaled_pair", 'a = "a"', 'a = { port = "a", bias = 1 }', "bias: only of exp"),
        ("shifts_out", "latency = 1", 'latency = 1\nflags = "out"', "flags: not beside a res"),
        ("by_table", 'acc = "y"', 'acc = "y"\nflags = "y[3:0]"', "'y\\[3:0\\]' has 4 wires, and"),
        ("by_table", 'acc = "y"', 'acc = "y"\nflags = { over = "y" }', "flags: 'over' is not one"),
        ("by_table", 'acc = "y"', 'acc = "y"\nflags = { overflow = "y[1:0]" }', "is not one wire"),
        ("shifts_out", "latency = 1", "latency = 1\nevery_beat = true", "not beside every_beat"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_mapping_is_said(
    top: str, old: str, new: str, message: str, verilator: Simulator, tmp_path: Path
) -> None:
    text = MAPPINGS[top][0]
    assert old in text
    with pytest.raises(FpsimError, match=message):
        run(top, "native", verilator, tmp_path, text.replace(old, new))
