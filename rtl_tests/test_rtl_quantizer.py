# SPDX-License-Identifier: Apache-2.0
"""The quantizer in RTL gives the model's codes and scales on every bit; its mistakes are found."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.faults import Fault, inject
from faults.quantizer_faults import QUANTIZER_FAULTS
from rtl_blocks import run_blocks
from rtl_support import HERE, runs_yosys

from fpsim import BlockFormat, get_block_format, get_format
from fpsim.base.errors import FpsimError
from fpsim.cli import main
from fpsim.formats.floating import FloatFormat
from fpsim.hdl.bench.build_dir import SimulationFailed
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.rtl.parameters import RtlTop
from fpsim.hdl.rtl.proof import Leaf, prove
from fpsim.hdl.rtl.quantizer import quantizer_top
from fpsim.hdl.rtl.synthesis import synthesise
from fpsim.oracle.block_formats import quantize_block
from fpsim.vectors.operations.operation import Quantize, parse_operation
from fpsim.vectors.operations.operation_plan import plan_operation
from fpsim.vectors.sets.word_layout import Columns

#: Formats of one's own: smaller blocks, other elements, zero rules and roundings.
OWN: dict[str, dict[str, Any]] = {
    "mx": {"element": "e2m1", "block": 4},
    "rceil": {"element": "e2m1", "block": 4, "rule": "rceil"},
    "ceil": {"element": "e2m1", "block": 4, "rule": "ceil"},
    "even": {"element": "e2m1", "block": 4, "rule": "even"},
    "nv": {"element": "e2m1", "block": 4, "scale": "e4m3fn", "tensor_range": 448, "zero": "one"},
    "tiny": {
        "element": "e2m1",
        "block": 4,
        "scale": "e4m3fn",
        "tensor_range": 8,
        "target": 0.25,
        "zero": "one",
    },
    "smallest": {"element": "e2m1", "block": 8, "scale": "ue5m3fn", "zero": "smallest"},
    "keep": {"element": "e3m2f", "block": 4, "scale": "e4m3fn", "zero": "keep", "rounding": "rna"},
    "least": {
        "element": "e1m2",
        "block": 4,
        "scale": "ue4m3",
        "zero": "least",
        "scale_rounding": "rup",
    },
    "target": {
        "element": "e4m3fn",
        "block": 4,
        "scale": "e4m3fn",
        "tensor_range": 448,
        "target": 256,
    },
    "mx-rtz": {"element": "e3m0f", "block": 8, "rounding": "rtz", "rule": "rceil"},
    "mx-rto": {"element": "e5m2", "block": 4, "rounding": "rto", "rule": "ceil"},
    "signs": {"element": "e2m1", "block": 6, "scale": "ue5m3fn", "signs": True, "zero": "one"},
}
#: Formats with the source of their values, and registers.
PLANNED = [
    ("mxfp4", "e8m23", 0), ("mxfp4-rceil", "e8m7", 1), ("mxfp4-even", "e5m10", 2),
    ("nvfp4", "e8m23", 2), ("nvfp4", "e8m7", 3), ("amxfp4", "e8m7", 1), ("amdfp4", "e8m23", 3),
    *((name, "e8m23", i % 4) for i, name in enumerate(OWN)),
]  # fmt: skip
MORE = [
    ("mxfp4-ceil", "e5m10", 2), ("mxfp4-even", "e8m23", 3), ("mxfp6-e2m3", "e8m7", 4),
    ("mxfp8-e5m2", "e8m23", 1), ("amxfp4", "e8m23", 1), ("amxfp4-rne", "e8m7", 2),
    ("amxfp4-e4m3", "e8m23", 0), ("amxfp4-pot-r", "e8m7", 1),
]  # fmt: skip
TENSOR_SCALES = [1.0, 2.0**-149, 3e-45, 1.1754942e-38, 1.2e-38, 1.9e-5, 0.37, 7.0, 5e37, 3.4e38]


def quantizer(name: str, source: str = "") -> Quantize:
    name, _, own = name.partition(":")
    source = source or own or "e8m23"
    fmt = BlockFormat.from_dict({"name": name, **OWN[name]}) if name in OWN else None
    made = get_format(source)
    assert isinstance(made, FloatFormat)
    return Quantize(fmt or get_block_format(name), made)


def planned(operation: Quantize, count: int = 100) -> Columns:
    """Return the vectors that `fpsim vectors` makes."""
    plan = plan_operation(operation, count=count)
    parts = [plan.block(*job) for job in plan.jobs()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def hard(operation: Quantize, count: int = 120) -> Columns:
    """Return blocks with values beside every tie of their own divisor, judged by the oracle."""
    fmt, rng = operation.format, np.random.default_rng(7)
    assert isinstance(fmt.element, FloatFormat) and isinstance(fmt.block, int)
    grid = fmt.element.decode(np.arange(1 << fmt.element.magnitude_bits))
    grid = np.unique(grid[np.isfinite(grid)])
    ties = np.concatenate([(grid[1:] + grid[:-1]) / 2, grid[-1:]])
    blocks, scales = [], []
    for i in range(count):
        given = TENSOR_SCALES[i % len(TENSOR_SCALES)] if operation.has_tensor_scale else 1.0
        drawn_top = rng.uniform(1, 2) * 2.0 ** rng.integers(-6, 12) * given
        top = np.float32(max(min(drawn_top, 3e38), 1e-45))
        values = np.full(fmt.block, top, dtype=np.float32)
        divisor = divisor_of(fmt, float(top), given)
        with np.errstate(over="ignore"):
            drawn = rng.choice(ties, fmt.block - 1).astype(np.float32) * np.float32(divisor)
        near = np.clip(drawn.view(np.int32) + rng.integers(-2, 3, drawn.size), 0, 0x7F7FFFFF)
        values[1:] = near.astype(np.int32).view(np.float32)
        values[1:] = np.minimum(values[1:], top) * rng.choice([-1, 1], drawn.size)
        blocks.append(values)
        scales.append(np.float32(given))
    x = operation.source.encode(np.array(blocks, dtype=np.float64), "rne", "saturate")
    columns: Columns = {"x": x}
    if operation.has_tensor_scale:
        columns["tensor_scale"] = np.array(scales).view(np.uint32)
    held = operation.source.decode(x)
    found = [
        quantize_block(fmt, row.tolist(), Fraction(1), Fraction(float(scale)))
        for row, scale in zip(held, scales, strict=True)
    ]
    columns["codes"] = np.array([block.codes for block in found])
    columns["scales"] = np.array([[block.scale] for block in found])
    columns["negative_scales"] = np.array([[block.negative_scale] for block in found])
    return columns


def divisor_of(fmt: BlockFormat, top: float, given: float) -> float:
    assert fmt.scale is not None
    block = quantize_block(fmt, [top], Fraction(1), Fraction(given))
    return float(np.float32(fmt.scale.decode(np.array([block.scale]))[0]) * np.float32(given))


def invalid(operation: Quantize) -> Columns:
    """Return blocks with NaN and infinities among blocks without, of one sign and of the other."""
    fmt, source = operation.format, operation.source
    assert isinstance(fmt.block, int) and fmt.scale is not None
    values = np.tile(np.linspace(-2, 3, fmt.block), (5, 1))
    for row, bad in enumerate((np.nan, np.inf, -np.inf)):
        values[row, row] = bad
    good = planned(operation, 2)
    columns: Columns = {
        "x": source.encode(values, "rne", "inf"),
        "codes": np.zeros((5, fmt.block), np.uint8),
    }
    parts = operation.results({"x": columns["x"][3:], "tensor_scale": np.full(2, 0x3F800000)})
    columns["codes"][3:] = parts["codes"]
    nan = fmt.scale.nan_code or 0
    for name in ("scales", "negative_scales"):
        if name in good:
            columns[name] = np.concatenate([np.full((3, 1), nan), parts[name]])
    if operation.has_tensor_scale:
        columns["tensor_scale"] = np.full(5, 0x3F800000)
    return columns | {"invalid": np.array([1, 1, 1, 0, 0])}


def joined(*parts: Columns) -> Columns:
    known = [name for name in parts[0] if all(name in part for part in parts)]
    made = {name: np.concatenate([part[name] for part in parts]) for name in known}
    flags = [part.get("invalid", np.zeros(len(part["x"]), int)) for part in parts]
    return made | {"invalid": np.concatenate(flags)}


@cache
def every(operation: Quantize) -> Columns:
    return joined(planned(operation), hard(operation), invalid(operation))


def test_a_quantizer_matches(icarus: Simulator, tmp_path: Path) -> None:
    operation = quantizer("signs")
    columns = joined(planned(operation, 20), hard(operation, 40), invalid(operation))
    run = run_blocks(operation, columns, icarus, tmp_path, stall=0.3)
    assert run.passed, str(run)


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "source", "pipeline"), PLANNED)
def test_every_format_matches(
    name: str, source: str, pipeline: int, icarus: Simulator, tmp_path: Path
) -> None:
    operation = quantizer(name, source)
    run = run_blocks(operation, every(operation), icarus, tmp_path, pipeline=pipeline, stall=0.2)
    assert run.passed, str(run)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source", "pipeline"), MORE)
def test_more_formats_match(
    name: str, source: str, pipeline: int, icarus: Simulator, tmp_path: Path
) -> None:
    test_every_format_matches(name, source, pipeline, icarus, tmp_path)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["nvfp4", "signs"])
def test_formats_match_on_verilator(name: str, verilator: Simulator, tmp_path: Path) -> None:
    operation = quantizer(name)
    run = run_blocks(operation, every(operation), verilator, tmp_path, pipeline=3)
    assert run.passed, str(run)
    assert run.clocks == run.wanted + 3  # a block every clock


def faulty(operation: Quantize, fault: Fault, directory: Path) -> RtlTop:
    top = quantizer_top(operation)
    return replace(top, sources=inject(fault, top.sources, directory / "faulty"))


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "fault"), QUANTIZER_FAULTS, ids=[f.name for _, f in QUANTIZER_FAULTS]
)
def test_a_fault_of_a_quantizer_is_found(
    name: str, fault: Fault, icarus: Simulator, tmp_path: Path
) -> None:
    operation = quantizer(name)
    try:
        run = run_blocks(
            operation, every(operation), icarus, tmp_path, top=faulty(operation, fault, tmp_path)
        )
    except SimulationFailed as failed:
        assert not str(failed).startswith("build"), str(failed)
    else:
        assert not run.passed


@pytest.mark.parametrize(
    ("name", "fault"), QUANTIZER_FAULTS, ids=[f.name for _, f in QUANTIZER_FAULTS]
)
def test_a_fault_of_a_quantizer_fits_its_source(name: str, fault: Fault, tmp_path: Path) -> None:
    faulty(quantizer(name), fault, tmp_path)


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "source", "pipeline"), PLANNED)
def test_no_tool_warns_of_a_quantizer(
    name: str,
    source: str,
    pipeline: int,
    verilator: Simulator,
    icarus: Simulator,
    tmp_path: Path,
) -> None:
    top = quantizer_top(quantizer(name, source), pipeline)
    given = [f"-G{key}={value}" for key, value in top.parameters.items()]
    assert lint(["verilator", "--lint-only", "-Wall", *given, "--top-module"], top, verilator) == ""
    given = [f"-P{top.name}.{key}={value}" for key, value in top.parameters.items()]
    command = ["iverilog", "-g2012", "-Wall", *given, "-o", str(tmp_path / "out"), "-s"]
    assert lint(command, top, icarus) == ""


def lint(command: list[str], top: RtlTop, tool: Simulator) -> str:
    process = subprocess.run(
        [*command, top.name, *map(str, top.sources)], env=os.environ | dict(tool.environment),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    output = process.stdout + process.stderr
    assert process.returncode == 0, output
    return "\n".join(line for line in output.splitlines() if not line.startswith("- "))


@runs_yosys
@pytest.mark.parametrize("name", ["mx-rtz", "target", "signs"])
def test_a_quantizer_maps_onto_gates(name: str, tmp_path: Path) -> None:
    operation = quantizer(name, "e8m7")
    cost = synthesise(quantizer_top(operation, 0), tmp_path)
    assert cost.flipflops == 0 and cost.area > 1000 and cost.depth > 10
    assert synthesise(quantizer_top(operation, 1), tmp_path).flipflops > operation.k * 16


# -- proofs: every magnitude of a small format, against exact rationals ----------------------------


def scale_leaf(name: str) -> Leaf:
    """Return ``block_scale`` of values of 8 bits without a tensor scale."""
    operation = quantizer(name)
    fmt, source = operation.format, get_format("e4m3")
    assert fmt.scale is not None and isinstance(source, FloatFormat)
    top = quantizer_top(Quantize(fmt, operation.source))
    keys = ("LIMIT", "RULE", "EL_MAN", "S_EXP", "S_MAN", "S_BIAS", "S_SPECIALS", "S_ROUNDING",
            "S_LEAST", "S_ZERO", "TENSOR")  # fmt: skip
    parameters = {"X_EXP": 4, "X_MAN": 3, "X_BIAS": 7} | {k: top.parameters[k] for k in keys}
    values = source.decode(np.arange(128, dtype=np.uint8))
    rows = {
        code: {"scale_o": quantize_block(fmt, [float(value)], Fraction(1)).scale}
        for code, value in enumerate(values)
        if np.isfinite(value)
    }
    width = fmt.scale.exponent_bits + fmt.scale.mantissa_bits
    return Leaf(
        "block_scale", parameters | {"EXP_W": 12}, {"top_i": 7}, {"scale_o": width}, rows,
        ("tensor_scale_i",),
    )  # fmt: skip


@runs_yosys
@pytest.mark.parametrize(
    "name",
    ["mxfp4", "mxfp4-rceil", "mxfp4-ceil", "mxfp4-even", "amxfp4", "amdfp4", "least", "keep"],
)
def test_scales_are_proved(name: str, tmp_path: Path) -> None:
    prove(scale_leaf(name), tmp_path)


@runs_yosys
def test_a_faulty_scale_is_refuted(tmp_path: Path) -> None:
    (fault,) = (f for _, f in QUANTIZER_FAULTS if f.name == "even looks at a bit more")
    leaf = scale_leaf("mxfp4-even")
    sources = inject(fault, quantizer_top(quantizer("mxfp4")).sources, tmp_path / "faulty")
    with pytest.raises(FpsimError, match=r"^proof: block_scale is wrong for top_i = 0x"):
        prove(leaf, tmp_path / "proof", sources)


# -- without a simulator ---------------------------------------------------------------------------


def test_parameters_of_nvfp4() -> None:
    top = quantizer_top(parse_operation("quantize:nvfp4:e8m7"), 2)  # type: ignore[arg-type]
    wanted: dict[str, Any] = {
        "BLOCK": 16, "X_EXP": 8, "X_MAN": 7, "X_BIAS": 127, "EL_EXP": 2, "EL_MAN": 1, "EL_BIAS": 1,
        "EL_SPECIALS": 0, "EL_ROUNDING": 0, "RULE": 4, "LIMIT": 0x40C00000, "S_SIGNED": 1,
        "S_EXP": 4, "S_MAN": 3, "S_BIAS": 7, "S_SPECIALS": 2, "S_ROUNDING": 0, "S_LEAST": 0,
        "S_ZERO": 0x38, "S_NAN": 0x7F, "SIGNS": 0, "TENSOR": 1, "PIPELINE": 2,
    }  # fmt: skip
    assert top.parameters == wanted
    assert (top.inputs["x_i"], top.inputs["tensor_scale_i"]) == (256, 32)
    assert (top.outputs["codes_o"], top.outputs["scales_o"]) == (64, 8)
    source = (HERE / "rtl" / "quantize_block.sv").read_text()
    assert sorted(wanted) == sorted(re.findall(r"^    parameter int (\w+)", source, re.MULTILINE))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"element": "int4"}, "element: int4 has no reference RTL; allowed: signed floating"),
        ({"element": "ue4m3f"}, "element: ue4m3f has no reference RTL; allowed: signed floating"),
        ({"element": "e4m3fnuz"}, "element: .* has no reference RTL; allowed: no special codes"),
        ({"element": "e2m1_flush"}, "element: .* has no reference RTL; allowed: gradual"),
        ({"block": "row"}, "block: .* has no reference RTL; allowed: 1..256 elements"),
        ({"block": 512}, "block: 512 has no reference RTL; allowed: 1..256 elements"),
        (
            {"scale": "e4m3fn", "tensor_range": 448, "arithmetic": "ratio"},
            "arithmetic: 'ratio' has no",
        ),
        ({"scale": "e8m23"}, "scale: e8m23 has no reference RTL; allowed: at most 20 mantissa"),
        ({"scale": "e4m3fn_flush"}, "scale: .* has no reference RTL; allowed: gradual"),
        ({"special": [5, -5], "choice": "mse"}, "format: own has no reference RTL; allowed: ExMy"),
        ({"element": "e2m1b130", "scale": "e4m3fn"}, "element: .* halves of the smallest code"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_format_without_rtl_is_refused(fields: dict[str, Any], message: str) -> None:
    fmt = BlockFormat.from_dict({"name": "own", "element": "e2m1", "block": 32} | fields)
    source = get_format("e8m23")
    assert isinstance(source, FloatFormat)
    with pytest.raises(FpsimError, match=message):
        quantizer_top(Quantize(fmt, source))


def test_a_source_without_rtl_is_refused() -> None:
    with pytest.raises(FpsimError, match=r"source: .* has no reference RTL; allowed: IEEE 754's"):
        quantizer_top(quantizer("mxfp4", "e8m23f"))
    with pytest.raises(FpsimError, match=r"pipeline: 65 is not in 0\.\.64"):
        quantizer_top(quantizer("mxfp4"), 65)


def test_the_command_prints_an_instantiation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rtl", "quantize:amxfp4:e8m7", "--pipeline", "2"]) == 0
    text = capsys.readouterr().out
    assert "quantize_block #(\n" in text and ") u_quantizer (\n" in text
    assert ".RULE           (fpsim_pkg::RULE_ABSMAX)," in text
    assert "logic [15:0]  scales;" in text and ".tensor_scale_i ('0)" in text
    assert main(["rtl", "quantize:mxfp4", "--package"]) == 0
    assert "package quantize_mxfp4_e8m23_pkg;" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["rtl", "quantize:mxfp5"], "block format: 'mxfp5' is not one of"),
        (["rtl", "quantize:mxfp4:e8m7:x"], "op: 'quantize:mxfp4:e8m7:x' is not quantize:"),
        (["rtl", "quantize:mxfp4", "--stream"], "stream: not for a quantizer"),
        (["rtl", "quantize:mxfp4", "--array", "2x2"], "array: not of a quantizer"),
        (["synth", "quantize:nf4"], "format: nf4 has no reference RTL"),
    ],
)
def test_a_wrong_command_is_told_in_a_sentence(
    command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"fpsim: {message}") and shown.err.count("\n") == 1


@runs_yosys
def test_the_command_prints_the_area(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = BlockFormat.from_dict({"name": "mx-rtz", **OWN["mx-rtz"]})
    path = tmp_path / "own.toml"
    path.write_text(own.to_toml(), encoding="utf-8")
    assert main(["synth", f"quantize:{path}:e8m7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top"] == "quantize_block" and found["area"] > found["register_area"] > 0
