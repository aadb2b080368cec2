# SPDX-License-Identifier: Apache-2.0
"""How proofs write codes on wires, and what a domain leaves out, for every code."""

from __future__ import annotations

import subprocess
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest

from fpsim import get_format
from fpsim.formats.floating import FloatFormat
from fpsim.hdl.bench.simulator import Simulator
from fpsim.hdl.dut.domain import KINDS, Domain
from fpsim.hdl.dut.dut import Place, Wires
from fpsim.hdl.dut.encodings import ENCODINGS, encodable, encode, widened
from fpsim.hdl.prove import domain_bits
from fpsim.hdl.prove.encoded import WireText

PORT = (Place("x"),)
#: Code width, wires, and whether wider wires repeat the top bit.
WIRES = [
    *((8, Wires(PORT, encoding=(name,)), False) for name in ENCODINGS),
    *((4, Wires(PORT, element_bits=8, encoding=(name,)), True) for name in ENCODINGS),
    (5, Wires(PORT, encoding=("bits-reversed", "inverted")), False),
    (6, Wires(PORT, element_bits=8), False),
    (6, Wires(PORT, element_bits=8, signed=True), True),
    (6, Wires(PORT, element_bits=4), False),
    (6, Wires(PORT, element_bits=4, signed=True), True),
    (2, Wires(PORT, element_bits=3, table=(5, 0, -1, 7)), False),
]
FORMATS = ("e4m3fn", "e5m2", "e4m3fnuz", "e2m1", "ue4m3fn", "e3m2")


def test_encodings_in_proofs_are_those_of_the_bench(icarus: Simulator, tmp_path: Path) -> None:
    """The pattern of every code, whether it has one, and the code of that pattern."""
    lines, shown, wanted = [], [], []
    for i, (width, wires, signed) in enumerate(WIRES):
        text, bits = WireText(f"w{i}_"), wires.element_bits or width
        code = text.wire(width, "code[" + f"{width - 1}:0]")
        pattern = text.encoded(code, width, wires, signed)
        back = text.decoded(pattern, width, wires)
        lines += text.lines
        fits = WireText(f"f{i}_")
        shown += [pattern, back, fits.fits(code, width, wires, signed)]
        lines += fits.lines
        codes = np.arange(1 << width)
        if wires.table:
            table = np.array(wires.table)
            wanted.append((table & 7, np.where(table < 0, 0, codes), table >= 0))
        else:
            wide = widened(codes, width, bits, signed)
            there = encodable(wide, bits, wires.encoding)
            if bits < width:
                there = widened(wide, bits, width, signed) == codes
            wanted.append((encode(wide, bits, wires.encoding), codes, there))
    steps = "".join(
        f'    for (n = 0; n < 256; n = n + 1) begin code = n; #1 $display("{form}"'
        f", {', '.join(shown)}); end\n"
        for form in [" ".join(["%0d"] * len(shown))]
    )
    (tmp_path / "t.sv").write_text(
        "module t;\n  reg [7:0] code;\n  integer n;\n" + "\n".join(lines)
        + f"\n  initial begin\n{steps}  end\nendmodule\n"
    )  # fmt: skip
    for command in (["iverilog", "-g2012", "-o", "t.vvp", "t.sv"], ["vvp", "-n", "t.vvp"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = np.array([line.split() for line in done.stdout.splitlines()], dtype=np.int64)
    assert rows.shape == (256, 3 * len(WIRES))
    for i, (pattern_of, code_of, there) in enumerate(wanted):
        found = rows[: code_of.size, 3 * i : 3 * i + 3].T
        assert np.array_equal(found[2].astype(bool), there), WIRES[i]
        assert np.array_equal(found[0][there], pattern_of[there]), WIRES[i]
        assert np.array_equal(found[1][there], code_of[there]), WIRES[i]


@pytest.mark.parametrize("name", FORMATS)
def test_ranges_of_wide_formats_are_found_as_those_of_narrow_ones(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes asked one by one, and the arithmetic on ranges that stands in where they are many."""
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    last = (1 << fmt.bits) - 1
    some: tuple[tuple[int, int], ...] = ((1, last // 3), (last // 2, last - 1))
    kinds = list(chain.from_iterable(combinations(KINDS, n) for n in range(len(KINDS) + 1)))
    domains = [Domain(given, kind) for kind in kinds for given in ({}, {"a": some})]
    listed = [domain_bits.ranges_of(domain, "a", fmt) for domain in domains]
    monkeypatch.setattr(domain_bits, "LISTED_BITS", 0)
    for domain, one_by_one in zip(domains, listed, strict=True):
        assert _codes(domain_bits.ranges_of(domain, "a", fmt)) == _codes(one_by_one), domain


def _codes(ranges: list[tuple[int, int]]) -> list[int]:
    return [code for low, high in ranges for code in range(low, high + 1)]
