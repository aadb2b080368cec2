# SPDX-License-Identifier: Apache-2.0
"""Designs of operations as data: which fields their beats and results may carry, and the lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fpsim import FpsimError
from fpsim.hdl.bench.operation_beats import OperationSerialiser
from fpsim.hdl.bench.stimulus import selected
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.hdl.rtl.reference import quantizer_dut
from fpsim.hdl.verify.operation_diagnosis import adequacy_of_operation
from fpsim.hdl.verify.vector_source import made_for_operation
from fpsim.vectors.operations.operation import parse_operation

TEXT = """
top = "q"
sources = ["q.sv"]
[clock]
port = "clk"
[[input.beats]]
elements = 8
x = "x"
[output]
codes = { port = "codes", first = "high" }
scales = "scale"
latency = 2
"""
NVFP4 = "quantize:nvfp4:e8m7"


def design(text: str, directory: Path) -> Dut:
    (directory / "q.sv").write_text("")
    (directory / "dut.toml").write_text(text)
    return read_dut(directory / "dut.toml")


def test_lines_carry_what_the_vector_says(tmp_path: Path) -> None:
    """Two beats of eight bfloat16 values; results in the last, elements from the high bits down."""
    dut, operation = design(TEXT, tmp_path), parse_operation(NVFP4)
    writer = OperationSerialiser(dut, operation)
    source = made_for_operation(dut, operation, count=3)
    (_, columns), *_ = source.blocks()
    lines = writer.lines({name: column[:1] for name, column in columns.items()})
    text = [bytes(line).decode().strip() for line in lines]
    values = "".join(f"{code:04x}" for code in columns["x"][0][::-1].tolist())
    codes = "".join(f"{code:x}" for code in columns["codes"][0].tolist())
    scale = f"{columns['scales'][0][0]:02x}"
    assert [line[1:33] for line in text] == [values[32:], values[:32]]
    assert text[0][33:] == "0" * 18 and text[1][33:] == codes + scale
    assert [line[0] for line in text] == ["4", "3"]
    seen = {"codes": f"{int(codes, 16):064b}", "scale": f"{int(scale, 16):08b}"}
    whole = sum(int(code) << (4 * lane) for lane, code in enumerate(columns["codes"][0]))
    assert writer.seen_code(seen) == whole << 8 | int(scale, 16)
    assert writer.seen_code(seen | {"scale": "0000x000"}) is None


def test_a_design_without_tensor_scale_is_told_one_of_1(tmp_path: Path) -> None:
    operation = parse_operation(NVFP4)
    source = made_for_operation(design(TEXT, tmp_path), operation, count=20)
    (_, columns), *_ = source.blocks()
    assert set(columns["tensor_scale"].tolist()) == {0x3F800000}
    inputs = {name: columns[name] for name in operation.inputs}
    assert np.array_equal(operation.results(inputs)["codes"], columns["codes"])


def test_a_domain_and_missing_results_are_respected(tmp_path: Path) -> None:
    text = TEXT.replace("[output]", "[domain]\nx = [0, 32639]\n[output]").replace(
        'scales = "scale"\n', ""
    )
    dut, operation = design(text, tmp_path), parse_operation("quantize:mxfp4:e8m7")
    source, writer = made_for_operation(dut, operation), OperationSerialiser(dut, operation)
    told = [columns["x"] for rows, columns in selected(source, writer) if rows.size]
    assert told and all((x <= 32639).all() for x in told)
    found = adequacy_of_operation(dut, source, writer)
    assert "sign of x lost" in found["unfound"]  # no negative value is told
    assert not any(name.startswith("scales:") for name in found["unfound"])


@pytest.mark.parametrize(
    ("old", "new", "op", "message"),
    [
        ('x = "x"', 'a = "x"', NVFP4, "input.beats: 'a' is not one of x, tensor_scale"),
        ('x = "x"', 'tensor_scale = "x"', NVFP4, "input.beats: no beat carries x"),
        ("elements = 8", "elements = 5", NVFP4, "elements: 5 per beat do not fill 16 elements"),
        ('codes = { port = "codes", first = "high" }', 'y = "y"', NVFP4, "output: 'y' is not one of codes, scales"),
        ("latency = 2", "latency = 2\nbeats = 2", NVFP4, "output.beats: not of an operation"),
        ("[clock]", "k = 8\n[clock]", NVFP4, "k: not of an operation, whose vectors have 16 elements"),
        ('scales = "scale"', 'scales = "scale[3:0]"', NVFP4, "output.scales: the places have 4 bits"),
    ],
)  # fmt: skip
def test_a_mapping_that_does_not_fit_is_named(
    old: str, new: str, op: str, message: str, tmp_path: Path
) -> None:
    assert old in TEXT
    with pytest.raises(FpsimError) as caught:
        OperationSerialiser(design(TEXT.replace(old, new), tmp_path), parse_operation(op))
    assert message in str(caught.value)


def test_the_reference_quantizer_maps_scales_of_both_signs() -> None:
    operation = parse_operation("quantize:amxfp4:e8m7")
    writer = OperationSerialiser(quantizer_dut(operation), operation)
    places = {name: wires.places[0].lsb for name, wires in writer.dut.output.parts.items()}
    assert places == {"codes": 0, "scales": 0, "negative_scales": 8}
