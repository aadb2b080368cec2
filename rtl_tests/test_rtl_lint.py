# SPDX-License-Identifier: Apache-2.0
"""The sources compile without a single complaint, in both tools, for parameters at their limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rtl_support import compile_only, verilator_command
from rtl_units import (
    COMPOSED,
    DOTS,
    TYPICAL,
    WIDE,
    aligned,
    block,
    chain,
    fixed,
    golden,
    macs,
    name,
    tree,
)

from fpsim.base.resources import rtl_dir
from fpsim.blocks.code_table import CodeTable
from fpsim.formats.lfsr import GaloisLfsr
from fpsim.formats.names import E8M0
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.rtl.array import Dataflow, SystolicArray
from fpsim.hdl.rtl.array_text import array_sources
from fpsim.hdl.rtl.parameters import RtlTop, rtl_top
from fpsim.hdl.rtl.quantizer import quantizer_top
from fpsim.units.spec import MacSpec
from fpsim.vectors.operations.operation import parse_operation

EXTREMES = [
    chain("e1m2"),
    chain("e8m0f", a="e1m0", b="e1m0", rounding="rto"),
    chain("e8m23b300", a="e5m10b-900f", b="e5m10b900f"),
    fixed(4, -512),
    fixed(64, 512, overflow="saturate"),
]
#: Streams: small and wide sums, no scales and large ones, every subnormal and special layout.
STREAMS = [
    *((spec, {}) for spec in [*macs(), *DOTS, *WIDE]),
    (chain("e1m2"), {"pipeline": 0}),
    (chain("e8m23", a="e5m2", b="e4m3fnuz"), {"scaled": True, "pipeline": 5}),
    (fixed(64, -512, a="int16"), {"pipeline": 0}),
    (aligned(1, 1, "e1m2", "e1m0", "e1m0"), {"pipeline": 0}),
    (aligned(33, 50, "e8m23", "e5m2", "e5m10", width=56, addend="late"), {}),
    (aligned(2, 2, "e8m0f", "int2", "e2m1", exponent_floor=-400), {}),
    (block(1, "e8m0f", "e1m0", "e1m0"), {"pipeline": 0}),
    (block(32, "e8m23", "e4m3fn", "e4m3fn", ("e8m7i", "ue5m3f"), "both"), {"pipeline": 7}),
    (tree(2, "e8m0f", "e1m0", "e1m0"), {"pipeline": 0}),
    (tree(33, "e3m0f", "e2m1", "int8"), {}),
    (chain("e8m0f", "uint2", "ue1m0", rounding="sr", random_bits=32), {"lfsr": GaloisLfsr(3)}),
    (chain("e8m0f", "e1m0", "e1m0", rounding="sr", random_bits=1), {"flags": True}),
    (fixed(64, -512, a="int16"), {"pipeline": 0, "flags": True}),
    (aligned(33, 50, "e8m23", "e5m2", "e5m10", width=56, addend="late"), {"flags": True}),
    (tree(33, "e3m0f", "e2m1", "int8"), {"flags": True}),
    (block(1, "e8m0f", "e1m0", "e1m0"), {"pipeline": 0, "flags": True}),
]


def stream_top(spec: MacSpec, options: dict[str, Any]) -> RtlTop:
    return rtl_top(spec, stream=True, **options)


def icarus_command(top: RtlTop, tmp_path: Path) -> list[str]:
    parameters = [f"-P{top.name}.{key}={value}" for key, value in top.parameters.items()]
    command = ["iverilog", "-g2012", "-Wall", "-o", str(tmp_path / "out"), "-s", top.name]
    return [*command, *parameters, *map(str, top.sources)]


@pytest.mark.one_in(6)
@pytest.mark.parametrize("spec", [*golden(), *TYPICAL, *EXTREMES], ids=name)
def test_verilator_warns_of_nothing(spec: MacSpec, verilator: Simulator) -> None:
    top = rtl_top(spec)
    assert compile_only(verilator_command(top), verilator) == ""
    # As the bench compiles it, where signals cannot be split.
    public = verilator_command(top, "--vpi", "--public-flat-rw", "--timing")
    assert compile_only(public, verilator) == ""


@pytest.mark.parametrize("spec", [*golden(), *EXTREMES], ids=name)
def test_icarus_warns_of_nothing(spec: MacSpec, icarus: Simulator, tmp_path: Path) -> None:
    assert compile_only(icarus_command(rtl_top(spec), tmp_path), icarus) == ""


@pytest.mark.one_in(6)
@pytest.mark.parametrize(("spec", "options"), STREAMS)
def test_no_tool_warns_of_a_stream(
    spec: MacSpec, options: dict[str, Any], verilator: Simulator, icarus: Simulator, tmp_path: Path
) -> None:
    top = stream_top(spec, options)
    assert compile_only(verilator_command(top), verilator) == ""
    assert compile_only(icarus_command(top, tmp_path), icarus) == ""


@pytest.mark.sweep
@pytest.mark.parametrize("spec", COMPOSED, ids=name)
def test_no_tool_warns_of_composed_stages(
    spec: MacSpec, verilator: Simulator, icarus: Simulator, tmp_path: Path
) -> None:
    scaled = spec.block is None and (spec.a_scale, spec.b_scale) != (E8M0, E8M0)
    for flags in (False, True):
        options = {"scaled": scaled, "flags": flags}
        test_no_tool_warns_of_a_stream(spec, options, verilator, icarus, tmp_path)


@pytest.mark.parametrize("spec", macs(), ids=name)
def test_no_warning_without_the_exponent_input(spec: MacSpec, verilator: Simulator) -> None:
    top = rtl_top(spec)
    top = replace(top, parameters=top.parameters | {"SCALE_W": 0})
    assert compile_only(verilator_command(top), verilator) == ""


def test_every_source_says_its_licence_and_is_used() -> None:
    sources = {path.name for path in rtl_dir().glob("*.sv")}
    units = [*golden(), *COMPOSED]
    tops = [rtl_top(spec, stream=stream) for spec in units for stream in (False, True)]
    tops += [rtl_top(chain("e4m3", rounding="sr", random_bits=4), lfsr=GaloisLfsr(1))]
    tops += [quantizer_top(parse_operation("quantize:nvfp4"))]
    tops += [rtl_top(chain("e4m3", "e5m10"), tables={"a": CodeTable.of("nf4")})]
    arrays = [SystolicArray(golden()[0], 2, 2, flow) for flow in Dataflow]
    paths = [path for top in tops for path in top.sources]
    paths += [path for array in arrays for path in array_sources(array)]
    assert sources == {path.name for path in paths}
    for path in rtl_dir().glob("*.sv"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first == "// SPDX-License-Identifier: Apache-2.0"
