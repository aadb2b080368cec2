# SPDX-License-Identifier: Apache-2.0
"""The cost of a design: cells, area, logic depth and flip-flops, mapped by Yosys.

Area is in NAND2 equivalents of the generic library `fpsim.hdl.rtl.cell_library`: good for ratios
between designs, not for square micrometres. Depth is the longest path of cells between registers
or ports.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.hdl.rtl import yosys
from fpsim.hdl.rtl.cell_library import CELLS, FLIPFLOPS, liberty
from fpsim.hdl.rtl.parameters import RtlTop
from fpsim.hdl.rtl.rtl_codes import TABLE_BITS, is_table

__all__ = ["Cost", "synthesise"]

_LIBRARY, _NETLIST = "cells.lib", "netlist.json"
_AREAS = {cell.name: cell.area for cell in CELLS} | FLIPFLOPS


@dataclass(frozen=True)
class Cost:
    """A mapped design."""

    top: str
    cells: int  #: all of them
    area: float  #: NAND2 equivalents, flip-flops included
    register_area: float  #: of it, flip-flops
    depth: int  #: cells on the longest combinational path
    flipflops: int

    @property
    def logic_area(self) -> float:
        """NAND2 equivalents of the combinational cells."""
        return self.area - self.register_area


def synthesise(top: RtlTop, directory: Path | None = None, apart: Sequence[str] = ()) -> Cost:
    """Map a design to cells and count them.

    Args:
        top: the design with its parameters.
        directory: where Yosys works and leaves its log; a scratch directory if None.
        apart: modules that are mapped once, however often they stand in the design, and not
            optimised into the logic around them.

    Returns:
        The cost.

    Raises:
        YosysMissing: no Yosys.
        FpsimError: a design that Yosys refuses, warns about, or that has latches.
    """
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="fpsim-synth-") as scratch:
            return synthesise(top, Path(scratch), apart)
    output = yosys.run(_script(top, apart), top.sources, directory, {_LIBRARY: liberty()})
    warnings = [line for line in output.splitlines() if line.startswith("Warning")]
    if warnings:
        raise FpsimError(f"synthesis: {top.name}: {warnings[0]}")
    netlist = json.loads((directory / _NETLIST).read_text(encoding="utf-8"))
    cells: list[dict[str, Any]] = list(netlist["modules"][top.name]["cells"].values())
    counts = Counter(cell["type"] for cell in cells)
    unmapped = sorted(counts.keys() - _AREAS)
    if unmapped:
        raise FpsimError(f"synthesis: {top.name}: no cell of the library is {unmapped[0]}")
    return Cost(
        top=top.name,
        cells=len(cells),
        area=sum(_AREAS[name] * count for name, count in counts.items()),
        register_area=sum(area * counts[name] for name, area in FLIPFLOPS.items()),
        depth=_depth([cell for cell in cells if cell["type"] not in FLIPFLOPS]),
        flipflops=sum(counts[name] for name in FLIPFLOPS),
    )


def _depth(cells: list[dict[str, Any]]) -> int:
    """Return the number of cells on the longest path; every cell drives pin Y."""
    driver = {cell["connections"]["Y"][0]: i for i, cell in enumerate(cells)}
    inputs = [
        {driver[bits[0]] for pin, bits in cell["connections"].items()
         if pin != "Y" and bits[0] in driver}
        for cell in cells
    ]  # fmt: skip
    depths: dict[int, int] = {}
    for i in TopologicalSorter(dict(enumerate(inputs))).static_order():
        depths[i] = 1 + max((depths[j] for j in inputs[i]), default=0)
    return max(depths.values(), default=0)


def _constant(name: str, value: int) -> str:
    """Return a parameter's value as Yosys reads it, without names of the package."""
    return f"{TABLE_BITS}'h{value:x}" if is_table(name) else f"32'sh{value % (1 << 32):08x}"


def _script(top: RtlTop, apart: Sequence[str]) -> list[str]:
    sets = [f"-set {name} {_constant(name, value)}" for name, value in top.parameters.items()]
    return [
        f"read_verilog -sv -defer {' '.join(path.name for path in top.sources)}",
        *([f"chparam {' '.join(sets)} {top.name}"] if sets else []),
        f"hierarchy -check -top {top.name}",
        *(f"setattr -mod -set keep_hierarchy 1 *{module}*" for module in apart),
        "check -assert",
        "synth -flatten -noalumacc",  # every operator on its own: merged ones come out larger
        f"dfflibmap -liberty {_LIBRARY}",
        f"abc -liberty {_LIBRARY}",
        *(["setattr -mod -unset keep_hierarchy *", "flatten"] if apart else []),
        "opt_clean -purge",
        f"write_json {_NETLIST}",
    ]
