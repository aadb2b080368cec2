# SPDX-License-Identifier: Apache-2.0
"""Vectors of a quantizer through its reference RTL: a block in, codes and scales out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.bench.stream_bench import InputStream, OutputStream, StreamRun, run_streams
from fpsim.hdl.rtl.parameters import RtlTop
from fpsim.hdl.rtl.quantizer import quantizer_top
from fpsim.vectors.operations.operation import Quantize
from fpsim.vectors.sets.word_layout import Columns

__all__ = ["run_blocks"]


def run_blocks(
    operation: Quantize,
    columns: Columns,
    tool: Simulator,
    build: Path,
    *,
    pipeline: int = 1,
    stall: float = 0.0,
    top: RtlTop | None = None,
) -> StreamRun:
    """Send blocks through a quantizer in a simulator.

    Args:
        operation: the quantizer.
        columns: inputs and results by field, as a set of the operation has them; ``invalid``, if it
            is there, says which blocks hold NaN or an infinity.
        tool: the simulator.
        build: where the design is compiled.
        pipeline: registers of the quantizer.
        stall: share of clocks, in 0..1, without a block offered, and without one taken.
        top: another top than the reference one.

    Returns:
        What came out.

    Raises:
        FpsimError: a format without RTL; SimulationFailed: a simulation that does not end well.
    """
    top = top or quantizer_top(operation, pipeline)
    x = _packed(columns["x"], operation.source.bits)
    ports = {"x_i": top.inputs["x_i"]}
    if operation.has_tensor_scale:
        given = columns["tensor_scale"].reshape(-1)
        x = [word | int(code) << ports["x_i"] for word, code in zip(x, given, strict=True)]
        ports["tensor_scale_i"] = 32
    assert operation.format.scale is not None
    sides = [columns["scales"]]
    if operation.format.signs:
        sides.append(columns["negative_scales"])
    invalid = columns.get("invalid", np.zeros(len(x), dtype=np.uint8))
    outputs = {name: top.outputs[name] for name in ("codes_o", "scales_o", "invalid_o")}
    parts = [
        (_packed(columns["codes"], operation.format.element.bits), outputs["codes_o"]),
        (_packed(np.concatenate(sides, axis=1), operation.format.scale.bits), outputs["scales_o"]),
        ([int(flag) for flag in invalid], 1),
    ]
    words, low = [0] * len(x), 0
    for column, width in parts:
        words = [word | value << low for word, value in zip(words, column, strict=True)]
        low += width
    stream = InputStream("blocks", "valid_i", "ready_o", ports, x)
    output = OutputStream("valid_o", "ready_i", outputs, words, [(1 << low) - 1] * len(words))
    return run_streams(top, [stream], output, tool, build, stall=stall)


def _packed(codes: NDArray[np.generic], bits: int) -> list[int]:
    """Return an integer per row of codes, the first code in its low bits."""
    return [sum(int(code) << (i * bits) for i, code in enumerate(row)) for row in codes]
