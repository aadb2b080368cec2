# SPDX-License-Identifier: Apache-2.0
"""The file of beats: lines of text for Python, the digits of those lines in bytes for SystemVerilog."""

from __future__ import annotations

from pathlib import Path

import pytest

import fpsim
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.bench.stimulus import LINES, PACKED, write_stimulus
from fpsim.hdl.rtl.reference import reference_dut
from fpsim.hdl.verify.vector_source import made_for


@pytest.mark.parametrize(
    ("unit", "odd"),
    [("e2m1-chain-e5m10", True), ("e2m1-chain-e4m3", True), ("e2m1xe4m3fn-chain-e5m10", False)],
)
def test_bytes_hold_the_digits_of_lines(unit: str, odd: bool, tmp_path: Path) -> None:
    spec = fpsim.get_unit(unit).spec
    dut = reference_dut(spec)
    source = made_for(dut, spec, count=100)
    writer = Serialiser(dut, spec, source.k, source.group)
    assert (writer.length - 1) % 2 == odd
    text, packed = (write_stimulus(source, writer, tmp_path / name) for name in (LINES, PACKED))
    assert text.beats == packed.beats > 1000
    lines, data = text.path.read_text().split(), packed.path.read_bytes()
    size = -(-(writer.length - 1) // 2)
    assert len(data) == size * len(lines)
    for at, line in enumerate(lines):
        assert int(line, 16) == int.from_bytes(data[at * size : (at + 1) * size], "big")
