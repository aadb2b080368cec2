# SPDX-License-Identifier: Apache-2.0
"""A netlist is switched as its cells say, and its toggles are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fpsim.base.errors import FpsimError
from fpsim.explore.activity import CLOCK_ENERGY, Netlist
from fpsim.hdl.rtl.cell_library import CELLS

#: Outputs of the cells for pins A, B, C, D, S = the bits of 0..31, by another way than Liberty's.
TRUTH: dict[str, Any] = {
    "INV": lambda a, b, c, d, s: not a,
    "BUF": lambda a, b, c, d, s: a,
    "NAND2": lambda a, b, c, d, s: not (a and b),
    "NOR2": lambda a, b, c, d, s: not (a or b),
    "AND2": lambda a, b, c, d, s: a and b,
    "OR2": lambda a, b, c, d, s: a or b,
    "NAND3": lambda a, b, c, d, s: not (a and b and c),
    "NOR3": lambda a, b, c, d, s: not (a or b or c),
    "AOI21": lambda a, b, c, d, s: not ((a and b) or c),
    "OAI21": lambda a, b, c, d, s: not ((a or b) and c),
    "AOI22": lambda a, b, c, d, s: not ((a and b) or (c and d)),
    "OAI22": lambda a, b, c, d, s: not ((a or b) and (c or d)),
    "XOR2": lambda a, b, c, d, s: a != b,
    "XNOR2": lambda a, b, c, d, s: a == b,
    "MUX2": lambda a, b, c, d, s: b if s else a,
}


def written(folder: Path, ports: dict[str, Any], cells: dict[str, Any]) -> Path:
    path = folder / "netlist.json"
    path.write_text(json.dumps({"modules": {"top": {"ports": ports, "cells": cells}}}))
    return path


def test_every_cell_of_the_library_computes_its_function(tmp_path: Path) -> None:
    inputs = dict(zip("ABCDS", range(2, 7), strict=True))
    ports: dict[str, Any] = {name: {"bits": [bit]} for name, bit in inputs.items()}
    cells = {}
    for i, cell in enumerate(CELLS):
        pins = {p: [b] for p, b in inputs.items() if p in cell.function}
        cells[cell.name] = {"type": cell.name, "connections": pins | {"Y": [10 + i]}}
    ports["out"] = {"bits": [10 + i for i in range(len(CELLS))]}
    netlist = Netlist(written(tmp_path, ports, cells), "top")
    words = {name: [n >> i & 1 for n in range(32)] for i, name in enumerate("ABCDS")}
    seen, _ = netlist.run([words], 32, "out")
    for stream in range(32):
        bits = [bool(words[name][stream]) for name in "ABCDS"]
        wanted = sum(bool(TRUTH[cell.name](*bits)) << i for i, cell in enumerate(CELLS))
        assert seen[stream] == wanted


def test_toggles_and_clock_edges_become_energy(tmp_path: Path) -> None:
    """A flip-flop that inverts itself toggles once a clock, and so does its inverter."""
    cells = {
        "inv": {"type": "INV", "connections": {"A": [3], "Y": [4]}},
        "ff": {"type": "DFFR", "connections": {"D": [4], "C": [2], "R": [5], "Q": [3]}},
    }
    ports = {"clk_i": {"bits": [2]}, "rst_ni": {"bits": [5]}, "q": {"bits": [3]}}
    netlist = Netlist(written(tmp_path, ports, cells), "top")
    seen, activity = netlist.run([{}] * 5, 2, "q")
    assert seen == [1, 1]
    assert activity.toggles == {"INV": 8, "DFFR": 8}
    assert (activity.clocks, activity.streams, activity.edges) == (4, 2, 8)
    assert activity.energy == pytest.approx(0.5 + 6.0 + CLOCK_ENERGY)


def test_a_netlist_without_the_module_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FpsimError, match="netlist: .* has no module other"):
        Netlist(written(tmp_path, {}, {}), "other")
