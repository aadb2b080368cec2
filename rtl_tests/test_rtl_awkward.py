# SPDX-License-Identifier: Apache-2.0
"""Ports and protocols that are awkward: each bench gives the verdict that the other gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rtl_support import HERE

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.replay import Options
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.verify.verify import Plan, Report, verify_design

UNIT = "e2m1-fixed10q2"
AWKWARD = HERE / "designs" / "awkward"
MAC = """
[clock]
port = "clk"
[[input.beats]]
elements = 1
a = "a"
b = "b"
[ops]
clear = { clr = 1 }
mac = {}
[output]
acc = "y"
latency = 1
"""
RESET = '[reset]\nport = "rst"\nactive = "high"\nkind = "sync"\n'
ADDS = MAC.replace("[ops]\nclear = { clr = 1 }\nmac = {}\n", "").replace(
    'b = "b"', 'b = "b"\nc = "c"'
)
PADDED = '[input]\nvalid = "valid"\n[[input.beats]]\nrepeat = 2\ntie = { kind = 3 }\n'
ANSWERS = 'acc = "y"\nvalid = "done"\n'
PUSHED = ANSWERS + "flush = 1\n"

#: What a design needs, beside the TOML of most: (text, options of the run).
DESIGNS: dict[str, tuple[str, dict[str, Any]]] = {
    "wide_parameters": (
        'parameters = { INIT = 550061233784, MASK = 4294967295, LOW = -5, NAME = "abc", '
        "MODE = \"2'd1\" }\n" + MAC,
        {},
    ),
    "odd_names": (
        MAC.replace('"a"', '"_a"').replace('"b"', '"value"').replace('"y"', '"_id"')
        .replace("{ clr", "{ _clr"),
        {},
    ),
    "generated_names": (
        MAC.replace('"a"', '"in.payload.a"').replace('"b"', '"in__b"')
        .replace('"y"', '"out.y"').replace("{ clr", '{ "in.clr"'),
        {},
    ),
    "falling_edges": (
        '[reset]\nport = "rst"\nactive = "high"\nalso = ["!rst_n"]\n'
        + MAC.replace('port = "clk"', 'port = "clk_a"\nedge = "falling"\nalso = ["clk_b"]')
        .replace("latency = 1", "latency = 2"),
        {},
    ),
    "tied_pipe": (
        RESET
        + MAC.replace("[[input", '[input]\nvalid = "valid"\ntie = { flush = 0, mode = 2 }\n[[input')
        .replace('acc = "y"\nlatency = 1\n', ANSWERS),
        {"stall": 0.4},
    ),
    "free_running": (
        '[reset]\nport = "rst"\nactive = "high"\n' + MAC.replace("{ clr = 1 }", '"reset"'), {},
    ),
    "start_done": (
        RESET
        + ADDS.replace("[[input", '[input]\nvalid = "start"\ninterval = "result"\n[[input')
        .replace('acc = "y"\nlatency = 1\n', ANSWERS),
        {},
    ),
    "start_done every five": (
        RESET
        + ADDS.replace("[[input", '[input]\nvalid = "start"\ninterval = 5\n[[input')
        .replace('acc = "y"\nlatency = 1\n', ANSWERS),
        {},
    ),
    "two_halves": (
        RESET
        + ADDS.replace("[[input", '[input]\nvalid = "valid"\nready = "ready"\n[[input').replace(
            'acc = "y"\nlatency = 1\n',
            'acc = "out"\nbeats = 2\nvalid = "out_valid"\nready = "out_ready"\n',
        ),
        {"stall": 0.3},
    ),
    "late_control": (
        MAC.replace("[[input", "[input]\ndelay = { clr = 2 }\n[[input")
        .replace("latency = 1", "latency = 3"),
        {},
    ),
    "pushed_out": (
        RESET
        + ADDS.replace("[[input", PADDED + "[[input").replace('acc = "y"\nlatency = 1\n', PUSHED),
        {"stall": 0.3},
    ),
    "loses_results": (
        RESET
        + ADDS.replace("[[input", '[input]\nvalid = "valid"\n[[input').replace(
            'acc = "y"\nlatency = 1\n', 'acc = "y"\nvalid = "out_valid"\nready = "out_ready"\n'
        ),
        {"stall": 0.3, "patience": 50},
    ),
    "ends_early": (RESET + ADDS, {}),
}  # fmt: skip
#: Designs that are wrong, and what the report says of the end of the run.
WRONG = {"loses_results": "no answer for 50 clocks", "ends_early": "ended the simulation"}


def toml(name: str, directory: Path, text: str = "", sources: str = "awkward.sv") -> Path:
    file = directory / "dut.toml"
    head = f'top = "{name.partition(" ")[0]}"\n'
    head += "k = 1\n" * ('c = "c"' in (text or DESIGNS[name][0]))
    head += f'sources = ["{AWKWARD / sources}", "{AWKWARD / "zz_awkward_pkg.sv"}"]\n'
    file.write_text(head + (text or DESIGNS[name][0]))
    return file


def run(name: str, bench: str, tool: Simulator, directory: Path, **more: Any) -> Report:
    directory.mkdir(exist_ok=True)
    options = Options(**DESIGNS[name][1])
    plan = Plan(**({"count": 60, "bench": bench, "options": options, "judge": False} | more))
    dut = read_dut(toml(name, directory))
    return verify_design(fpsim.get_unit(UNIT), dut, tool.name, directory, plan, None)


def check(report: Report, name: str) -> None:
    said = WRONG.get(name)
    if said is None:
        assert report.passed, str(report)
        assert report.result.compared > 200
        return
    assert not report.passed and report.result.mismatch_count
    assert said in report.result.error and said in str(report)


@pytest.mark.parametrize(
    "name", ["generated_names", "wide_parameters", "falling_edges", "tied_pipe", "two_halves"]
)
def test_awkward_designs_run(name: str, icarus: Simulator, tmp_path: Path) -> None:
    check(run(name, "native", icarus, tmp_path), name)


@pytest.mark.sweep
@pytest.mark.parametrize("name", DESIGNS)
def test_both_benches_give_one_verdict(name: str, simulator: Simulator, tmp_path: Path) -> None:
    seen = [run(name, b, simulator, tmp_path / b, explain=False) for b in ("cocotb", "native")]
    for report in seen:
        check(report, name)
    if name != "loses_results":  # stalls differ, and where a design loses its way with them
        first, second = (report.result for report in seen)
        assert first.compared == second.compared
        assert first.mismatch_count == second.mismatch_count


@pytest.mark.sweep
def test_what_was_seen_before_the_end_is_explained(icarus: Simulator, tmp_path: Path) -> None:
    report = run("ends_early", "native", icarus, tmp_path)
    assert report.diagnosis is not None and report.reproducer is not None
    assert report.result.compared < report.result.due


@pytest.mark.sweep
@pytest.mark.parametrize("bench", ["cocotb", "native"])
def test_arrays_and_structs_are_connected(bench: str, verilator: Simulator, tmp_path: Path) -> None:
    text = (
        'k = 2\nparameters = { MODE = "awkward_pkg::PLAIN" }\n'
        '[clock]\nport = "clk"\n[[input.beats]]\nelements = 2\na = "a"\nb = "b"\n'
        '[output]\nacc = "y"\nlatency = 1\n'
    )
    for way in (text, text.replace('a = "a"', 'a = ["a[0]", "a[1]"]')):
        dut = read_dut(toml("array_ports", tmp_path, way, "arrays.sv"))
        plan = Plan(count=60, bench=bench, judge=False)
        report = verify_design(fpsim.get_unit(UNIT), dut, verilator.name, tmp_path, plan, None)
        assert report.passed, str(report)


PORTS = (
    '[clock]\nport = "clk"\n[[input.beats]]\nelements = 1\na = "a"\nb = "b"\n[output]\nacc = "y"\n'
)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tied_pipe", PORTS + 'valid = "done"\n',
         "nothing drives 'rst', 'flush', 'mode', 'valid', 'clr' of tied_pipe; "
         "name them in .reset., or .*tie = { rst = 0"),
        ("free_running", PORTS.replace('"y"', '"a"') + "latency = 1\n",
         "a of free_running is an input, not an output"),
        ("free_running", PORTS.replace('a = "a"', 'a = "aa"') + "latency = 1\n",
         "free_running has no port 'aa'; did you mean 'a'.* \\(input.beats\\)"),
        ("free_running", "[input]\ntie = { rst = 2 }\n" + PORTS + "latency = 1\n",
         "input.tie.rst: 2 does not fit 1 bits"),
        ("free_running", '[input]\nopen = ["rts"]\n' + PORTS + "latency = 1\n",
         "input.open: free_running has no input 'rts'; did you mean 'rst'"),
        ("array_ports", PORTS.replace('"a"', '"a[2]"') + "latency = 1\n",
         "a is an array \\[0:1\\]; elements 2 to 2 are none of its"),
        ("with_interface", PORTS.replace('"a"', '"port"') + "latency = 1\n",
         "wrapper: port port of with_interface is an interface, which has no wires itself; name"),
    ],
)  # fmt: skip
def test_ports_are_checked_before_vectors_are_planned(
    name: str, text: str, message: str, verilator: Simulator, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("fpsim.hdl.verify.verify.vectors_for", None)
    sources = "arrays.sv" if name in ("array_ports", "with_interface") else "awkward.sv"
    dut = read_dut(toml(name, tmp_path, text, sources))
    with pytest.raises(FpsimError, match=message):
        verify_design(fpsim.get_unit(UNIT), dut, verilator.name, tmp_path, Plan(), None)


def test_inputs_may_be_left_open_or_tied_together(verilator: Simulator) -> None:
    from fpsim.hdl.verify.verify import fitted

    for how in ("tie = 0", 'open = ["rst", "flush", "mode", "valid", "clr"]'):
        text = f"[input]\n{how}\n" + PORTS + 'valid = "done"\n'
        import tempfile

        with tempfile.TemporaryDirectory() as scratch:
            dut, ports = fitted(read_dut(toml("tied_pipe", Path(scratch), text)))
            assert ports is not None and ports["mode"].bits == 2 and dut.top == "tied_pipe"


def test_a_latency_is_found(icarus: Simulator, tmp_path: Path) -> None:
    text = DESIGNS["falling_edges"][0].replace("latency = 2", 'latency = "find"')
    dut = read_dut(toml("falling_edges", tmp_path, text))
    plan = Plan(count=60, bench="native", judge=False)
    report = verify_design(fpsim.get_unit(UNIT), dut, icarus.name, tmp_path, plan, None)
    assert report.passed and report.latency == 2
    assert "latency found: 2" in str(report)
