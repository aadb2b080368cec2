# SPDX-License-Identifier: Apache-2.0
"""The module around a design: what it connects to what, and results that come over several clocks."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.beat_plan import LineField
from fpsim.hdl.bench.harness import Harness, driven
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.dut.interfaces import Holder
from fpsim.hdl.dut.ports import Port

#: A design that shows the numbers from 0 on, one after the other, as its ports allow.
COUNTER = """
module mac (input clk, input rst_n, input also, input ready, input [3:0] a, output valid, output [7:0] y);
  reg [7:0] n;
  assign y = n;
  assign valid = rst_n && !also;
  always @(posedge clk)
    if (!rst_n) n <= 0;
    else if (!VALID || ready) n <= n + 1;
endmodule
"""
BENCH = """
module bench;
  reg clk = 0, rst_n = 0, ready = 0;
  reg [3:0] a = 0;
  wire valid;
  wire [WIDTH-1:0] y;
  fpsim_harness h (.p_clk(clk), .p_rst_n(rst_n), .p_fpsim_beat(a), .p_y(y)STREAM);
  always #5 clk = ~clk;
  integer i;
  initial begin
    repeat (2) @(negedge clk);
    rst_n = 1;
    for (i = 0; i < 24; i = i + 1) begin
      ready = i >= 8 && i % 3 != 0;
      #1 if (SHOWN) $display("%h", y);
      @(negedge clk);
    end
    $finish;
  end
endmodule
"""
STREAM = ", .p_valid(valid), .p_ready(ready)"


def harness(
    tmp_path: Path, text: str, fields: dict[str, int], ports: dict[str, Port] | None = None
) -> Harness:
    """Return the harness of a design whose output is ``y``; fields have their bits."""
    (tmp_path / "mac.v").write_text("")
    (tmp_path / "dut.toml").write_text(f'top = "mac"\nsources = ["mac.v"]\n{text}')
    made, at = [], 1
    for name, width in fields.items():
        stop = at - -width // 4
        made.append(LineField(name, width, True, (1 << width) - 1, at, stop))
        at = stop
    writer: Any = SimpleNamespace(inputs=made[:-1], outputs=made[-1:])
    return Harness(read_dut(tmp_path / "dut.toml"), writer, ports)


def design(output: str, head: str = "", clock: str = 'port = "clk"') -> str:
    return f"""{head}
[clock]
{clock}
[reset]
port = "rst_n"
active = "low"
also = ["also"]
[[input.beats]]
elements = 1
a = "a[1:0]"
b = "a[3:2]"
[output]
acc = "y"
{output}
"""


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus is not installed")
@pytest.mark.parametrize("beats", [2, 3])
@pytest.mark.parametrize("high_first", [False, True])
@pytest.mark.parametrize("valid", [False, True])
def test_a_result_over_several_clocks_is_gathered(
    beats: int, high_first: bool, valid: bool, tmp_path: Path
) -> None:
    flow = 'valid = "valid"\nready = "ready"' if valid else "latency = 1"
    first = 'first_beat = "high"\n' if high_first else ""
    made = harness(tmp_path, design(f"beats = {beats}\n{first}{flow}"), {"a": 4, "y": 8 * beats})
    assert ("y", 8, True) in made.widths()  # the port has a part of the result
    (tmp_path / "harness.sv").write_text(made.module())
    (tmp_path / "counter.sv").write_text(COUNTER.replace("VALID", str(int(valid))))
    bench = BENCH.replace("WIDTH", str(8 * beats)).replace("STREAM", STREAM if valid else "")
    shown = "valid && ready" if valid else f"i >= {beats - 1}"
    (tmp_path / "bench.sv").write_text(bench.replace("SHOWN", shown))
    program = tmp_path / "bench.vvp"
    files = [str(tmp_path / f"{name}.sv") for name in ("bench", "harness", "counter")]
    subprocess.run(["iverilog", "-g2012", "-s", "bench", "-o", program, *files], check=True)
    ran = subprocess.run(["vvp", "-n", program], check=True, capture_output=True, text=True)
    step = beats if valid else 1
    seen = ran.stdout.split()
    assert len(seen) > 3
    for i, word in enumerate(seen):
        parts = list(range(i * step, i * step + beats))
        wanted = "".join(f"{part:02x}" for part in (parts if high_first else parts[::-1]))
        assert word == wanted, (i, seen)


def test_clocks_resets_ties_and_parameters_are_pinned(tmp_path: Path) -> None:
    made = harness(
        tmp_path,
        design(
            "latency = 1",
            "parameters = { W = 8, MODE = \"4'h2\" }",
            'port = "clk"\nedge = "falling"\nalso = ["clk2"]',
        ).replace('also = ["also"]', 'also = ["rst", "!rst2_n"]')
        .replace("[[input", "[input]\ntie = { mode = 5, lut = 0x1234 }\n[[input"),
        {"a": 4, "y": 16},
        {"mode": Port("mode", "input", 3), "lut": Port("lut", "input", 8, ((0, 1),))},
    )  # fmt: skip
    text = made.module()
    for line in (
        ".W(8)", ".MODE(4'h2)", ".clk(~p_clk)", ".clk2(~p_clk)", ".rst_n(p_rst_n)", ".rst(~p_rst_n)",
        ".rst2_n(p_rst_n)", ".mode(3'd5)", ".lut('{8'd52, 8'd18})", ".a(p_a)", ".y(p_y)",
    ):  # fmt: skip
        assert line in text, line
    assert made.inputs() == {"p_a": 4, "p_clk": 1, "p_rst_n": 1}
    assert made.outputs() == {"p_y": 16}
    assert "  assign bits_1 = $bits(u_dut.y);" in text


def test_elements_of_arrays_are_assigned_from_their_wires(tmp_path: Path) -> None:
    ports = {
        "a": Port("a", "input", 4, ((0, 2),)), "y": Port("y", "output", 8, ((1, 0),)),
        "clk": Port("clk", "input", 1), "rst_n": Port("rst_n", "input", 1),
        "also": Port("also", "input", 1),
    }  # fmt: skip
    made = harness(tmp_path, design("latency = 1"), {"a": 8, "y": 16}, ports)
    text = made.module()
    for line in (
        "  wire [3:0] u_a [0:2];",
        "  assign u_a[0] = p_a[3:0];",
        "  assign u_a[1] = p_a[7:4];",
        "  assign u_a[2] = 4'd0;",  # no beat has as many elements
        "  wire [7:0] u_y [1:0];",
        "  assign p_y[7:0] = u_y[0];",
        "  assign p_y[15:8] = u_y[1];",
        "    .a(u_a)", "    .y(u_y)",
        "  assign bits_0 = 12;",
    ):  # fmt: skip
        assert line in text, line


def test_members_of_an_interface_are_reached_through_a_variable(tmp_path: Path) -> None:
    holder = Holder("bus", "bus_if", ("clk", "rst_n"), True)
    ports = {
        "bus.a": Port("bus.a", "input", 4, holder=holder, select=".a"),
        "bus.y": Port("bus.y", "output", 8, holder=holder, select=".y"),
    }
    text = design("latency = 1").replace('"a[', '"bus.a[').replace('"y"', '"bus.y"')
    made = harness(tmp_path, text, {"bus.a": 4, "bus.y": 8}, ports)
    shown = made.module()
    for line in (
        "  bus_if u_bus (.clk(p_clk), .rst_n(p_rst_n));",
        "  assign u_bus.a = p_bus__a;",
        "  assign p_bus__y = u_bus.y;",
        "    .bus(u_bus)",
    ):
        assert line in shown, line
    strange = Holder("bus", "bus_if", ("tick",), True)
    ports = {n: Port(p.name, p.direction, p.bits, holder=strange, select=p.select)
             for n, p in ports.items()}  # fmt: skip
    with pytest.raises(FpsimError, match="wrapper: the interface of port bus has a port 'tick' of"):
        harness(tmp_path, text, {"bus.a": 4, "bus.y": 8}, ports).module()


def test_what_is_not_named_is_tied_where_ports_are_known(tmp_path: Path) -> None:
    text = design("latency = 1").replace("[[input", '[input]\ntie = 0\nopen = ["spare"]\n[[input')
    names = {"clk": 1, "rst_n": 1, "also": 1, "a": 4, "debug": 7, "spare": 2}
    ports = {name: Port(name, "input", bits) for name, bits in names.items()}
    ports |= {"y": Port("y", "output", 8), "more": Port("more", "output", 9)}
    shown = harness(tmp_path, text, {"a": 4, "y": 8}, ports).module()
    assert ".debug(7'd0)" in shown
    assert ".spare(" not in shown and ".more(" not in shown
    with pytest.raises(
        FpsimError, match=r"input.tie: 0 for all needs the ports of mac, which Veri"
    ):
        harness(tmp_path, text, {"a": 4, "y": 8})


def test_inputs_of_a_bench_in_python_are_one_port(tmp_path: Path) -> None:
    """Each begins a digit, as in a line; those that stay quiet beside others are set alone."""
    made = harness(tmp_path, design("latency = 1"), {"a": 6, "b": 1, "c": 33, "y": 8})
    inputs = made.writer.inputs
    (beat,) = driven(inputs)
    assert (beat.width, beat.start, beat.stop, beat.quiet) == (48, 1, 13, None)
    text = made.module()
    assert "  input  wire [47:0] p_fpsim_beat,\n" in text
    for name, bits, low in (("a", 6, 40), ("b", 1, 36), ("c", 33, 0)):
        assert f"p_{name} = p_fpsim_beat[{low + bits - 1}:{low}];" in text
    quiet = [replace(field, quiet=i + 1) for i, field in enumerate(inputs)]
    assert driven(quiet)[0].quiet == 1 << 40 | 2 << 36 | 3
    assert driven([*quiet[:2], inputs[2]]) == (*quiet[:2], inputs[2])
