# SPDX-License-Identifier: Apache-2.0
"""The C model in a simulation: called through DPI-C, beside the RTL where a unit has any."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from string import Template

import pytest
from rtl_support import installed

from fpsim import get_unit
from fpsim.cmodel import export_c
from fpsim.hdl.rtl.instantiation import instantiation
from fpsim.hdl.rtl.parameters import rtl_top
from fpsim.vectors.files.writer import write
from fpsim.vectors.plans.planner import plan as plan_set

TOP = Template("""\
module top;
  import $vectors::*;
  logic clk = 1'b0, rst_n = 1'b0;
  always #5 clk = !clk;

  logic [WORD_BITS-1:0] words [COUNT];
  vector_t v;
  bit [$bits:0] model = '0;
  int wrong = 0, beats = 0;

  task automatic judge(input string who, input logic [$bits:0] seen, input int i);
    if (seen !== v.acc) begin
      wrong++;
      $$display("vector %0d: %s gives %h, not %h", i, who, seen, v.acc);
    end
  endtask

  $design
  initial begin
    $$readmemh("$file", words);
    $reset
    for (int i = 0; i < COUNT; i++) begin
      v = words[i];
      case (v.op)
        OP_CLEAR: model = '0;
        OP_LOAD: model = v.c;
        OP_DOT: $call(v.a, v.b, $scales $random v.c, model);
        OP_MAC: $call(v.a, v.b, $scales $random model, model);
        default: ;
      endcase
      judge("the C model", model, i);
      beats++;
      $drive
    end
    $$display("%0d beats, %0d wrong", beats, wrong);
    $$finish;
  end
endmodule
""")
RESET = "ready_i = 1'b1; valid_i = 1'b0; repeat (2) @(negedge clk); rst_n = 1'b1;"
#: One beat at a time, which waits for its result.
DRIVE = """
      op = v.op; a = v.a; b = v.b; a_scale = v.a_scale; b_scale = v.b_scale; c = v.c;
      last = 1'b1; valid_i = 1'b1;
      do @(negedge clk); while (!ready_o);
      valid_i = 1'b0;
      while (!valid_o) @(negedge clk);
      judge("the RTL", acc, i);
      @(negedge clk);
"""


def simulate(name: str, directory: Path, *, count: int, rtl: bool, broken: bool = False) -> str:
    """Return what a Verilator run prints that compares every vector with the C model."""
    tool = installed("verilator")
    unit = get_unit(name)
    files = export_c(unit, directory / "mac.h")
    if broken:
        text = files.header.read_text()
        wrong = text.replace("return half && (rest || odd);", "return half;")
        assert wrong != text
        files.header.write_text(wrong)
    plan = plan_set(unit, strategy="random", count=count)
    folder = write(plan, directory / "set", ("svh",))
    packages = [files.package, folder / "vectors_pkg.svh"]
    model, vectors = (re.search(r"package (\w+);", p.read_text()).group(1) for p in packages)
    design, sources = "", []
    if rtl:
        top = rtl_top(unit.spec)
        design, sources = instantiation(unit.spec, top=top), list(map(str, top.sources))
    scales = "v.a_scale, v.b_scale," if plan.record.group else ""
    text = TOP.substitute(
        vectors=vectors, bits=unit.result.bits - 1, design=design, file=folder / "vectors.hex",
        call=f"{model}::{model.replace('_pkg', '_beat')}", scales=scales,
        random="v.random," if plan.record.roundings else "",
        reset=RESET if rtl else "", drive=DRIVE if rtl else "",
    )  # fmt: skip
    (directory / "top.sv").write_text(text)
    (directory / "dpi.c").write_text('#define FPSIM_DPI\n#include "mac.h"\n')
    environment = os.environ | dict(tool.environment)
    build = ["verilator", "--binary", "--timing", "-Wno-fatal", "--top", "top", "-o", "sim"]
    build += ["-Mdir", str(directory / "obj"), "-CFLAGS", f"-I{directory} -fcoroutines -std=c++20"]
    build += [*sources, *map(str, packages), str(directory / "top.sv"), str(directory / "dpi.c")]
    made = subprocess.run(build, check=False, capture_output=True, text=True, env=environment)
    assert made.returncode == 0, made.stderr
    run = subprocess.run(
        [str(directory / "obj" / "sim")], check=True, capture_output=True, text=True
    )
    return run.stdout


@pytest.mark.sweep
@pytest.mark.rtl
def test_the_c_model_agrees_beside_the_rtl(tmp_path: Path) -> None:
    """Streams of beats and single dot products: file, C model and RTL, every clock."""
    assert "600 beats, 0 wrong" in simulate(
        "e2m1-block8-into-chain-e8m23", tmp_path, count=600, rtl=True
    )


@pytest.mark.slow
@pytest.mark.rtl
def test_the_c_model_takes_random_integers(tmp_path: Path) -> None:
    out = simulate("e2m1-chain-e4m3fn-sr6", tmp_path, count=5000, rtl=False)
    assert "5000 beats, 0 wrong" in out


@pytest.mark.slow
@pytest.mark.rtl
def test_a_wrong_c_model_is_told_from_the_rtl(tmp_path: Path) -> None:
    out = simulate("e2m1-block8-into-chain-e8m23", tmp_path, count=600, rtl=True, broken=True)
    assert "the C model gives" in out and "the RTL gives" not in out
