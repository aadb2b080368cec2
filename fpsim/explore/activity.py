# SPDX-License-Identifier: Apache-2.0
"""Switching activity of a mapped netlist on given operands, and its energy.

The netlist is simulated without delays: every cell's output settles once per clock, so glitches do
not count. Energy is in toggles of a NAND2:

    a toggle of a combinational cell's output   the cell's area (a NAND2 is 1)
    a toggle of a flip-flop's output            the flip-flop's area
    a clock edge at a flip-flop                 1

These weights are not from a foundry's library; they follow area, as capacitance does. They are good
for ratios between designs on equal operands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.hdl.rtl.cell_library import CELLS, FLIPFLOPS

__all__ = ["CLOCK_ENERGY", "Activity", "Netlist"]

#: Energy of a clock edge at a flip-flop, in toggles of a NAND2.
CLOCK_ENERGY = 1.0
_AREAS = {cell.name: cell.area for cell in CELLS} | FLIPFLOPS


def _function(text: str) -> tuple[tuple[str, ...], Callable[..., int]]:
    """Return the pins of a cell, and its function of pins and a mask, as integers of bits."""
    pins = tuple(sorted(set(re.findall("[A-Z]", text))))
    code = f"lambda M, {', '.join(pins)}: ({text.replace('!', '~')}) & M"
    return pins, eval(code)


_FUNCTIONS = {cell.name: _function(cell.function) for cell in CELLS}


@dataclass(frozen=True)
class Activity:
    """Toggles by cell type and clock edges at flip-flops, over all streams."""

    clocks: int  #: clocks of one stream
    streams: int
    toggles: Mapping[str, int]
    edges: int

    @property
    def energy(self) -> float:
        """Energy per clock of one stream, in toggles of a NAND2."""
        switched = sum(_AREAS[kind] * count for kind, count in self.toggles.items())
        return (switched + CLOCK_ENERGY * self.edges) / (self.clocks * self.streams)


class Netlist:
    """A flat netlist of the generic library that simulates many streams of operands side by side.

    A net is a Python integer: bit i is the net's level in stream i.

    Args:
        path: a ``netlist.json`` of `fpsim.hdl.rtl.synthesis.synthesise`.
        top: name of the module.

    Raises:
        FpsimError: a file without the module.
    """

    def __init__(self, path: Path, top: str) -> None:
        try:
            module = json.loads(path.read_text(encoding="utf-8"))["modules"][top]
        except (OSError, ValueError, KeyError) as error:
            raise FpsimError(f"netlist: {path} has no module {top} ({error})") from None
        self.ports: dict[str, list[Any]] = {n: p["bits"] for n, p in module["ports"].items()}
        cells = list(module["cells"].values())
        pins = [{pin: bits[0] for pin, bits in cell["connections"].items()} for cell in cells]
        self._registers = [
            (cell["type"], own) for cell, own in zip(cells, pins, strict=True)
            if cell["type"] in FLIPFLOPS
        ]  # fmt: skip
        logic = [
            (cell["type"], own) for cell, own in zip(cells, pins, strict=True)
            if cell["type"] not in FLIPFLOPS
        ]  # fmt: skip
        driver = {own["Y"]: i for i, (_, own) in enumerate(logic)}
        order = TopologicalSorter(
            {
                i: {driver[bit] for pin, bit in own.items() if pin != "Y" and bit in driver}
                for i, (_, own) in enumerate(logic)
            }
        )
        self._logic = []
        for i in order.static_order():
            kind, own = logic[i]
            names, function = _FUNCTIONS[kind]
            self._logic.append((kind, own["Y"], function, [own[name] for name in names]))

    def run(
        self,
        stimuli: Sequence[Mapping[str, Sequence[int]]],
        streams: int,
        output: str,
        skip: int = 1,
    ) -> tuple[list[int], Activity]:
        """Simulate the design from reset, one row of inputs per clock.

        Args:
            stimuli: by port, a word per stream or one for all; missing inputs are 0.
            streams: number of streams side by side.
            output: port to read after the last clock.
            skip: number of first clocks whose toggles do not count.

        Returns:
            The output of each stream after the last clock edge, and the activity.
        """
        mask = (1 << streams) - 1
        nets: dict[Any, int] = {"0": 0, "1": mask, "x": 0}
        for kind, own in self._registers:  # values after the asynchronous reset
            nets[own["Q"]] = mask if kind == "DFFS" else 0
        toggles = dict.fromkeys(_AREAS, 0)
        before: dict[Any, int] = {}
        for clock, row in enumerate(stimuli):
            self._drive(nets, row, streams, mask)
            for kind, out, function, inputs in self._logic:
                level = function(mask, *(nets[bit] for bit in inputs))
                nets[out] = level
                if clock >= skip:
                    toggles[kind] += (level ^ before[out]).bit_count()
                before[out] = level
            state = [nets[own["D"]] for _, own in self._registers]
            for (kind, own), level in zip(self._registers, state, strict=True):
                if clock >= skip:
                    toggles[kind] += (level ^ nets[own["Q"]]).bit_count()
                nets[own["Q"]] = level
        self._settle(nets, mask)
        clocks = len(stimuli) - skip
        edges = clocks * streams * len(self._registers)
        used = {kind: count for kind, count in toggles.items() if count}
        return self._words(nets, output, streams), Activity(clocks, streams, used, edges)

    def _settle(self, nets: dict[Any, int], mask: int) -> None:
        for _, out, function, inputs in self._logic:
            nets[out] = function(mask, *(nets[bit] for bit in inputs))

    def _drive(
        self, nets: dict[Any, int], row: Mapping[str, Sequence[int]], streams: int, mask: int
    ) -> None:
        for port, bits in self.ports.items():
            if port == "rst_ni":
                nets[bits[0]] = mask
                continue
            words = row.get(port)
            if words is None:
                for bit in bits:
                    nets.setdefault(bit, 0)
                continue
            for place, bit in enumerate(bits):
                if len(words) == 1:
                    nets[bit] = mask if words[0] >> place & 1 else 0
                else:
                    nets[bit] = sum((word >> place & 1) << i for i, word in enumerate(words))

    def _words(self, nets: Mapping[Any, int], port: str, streams: int) -> list[int]:
        levels = [nets[bit] for bit in self.ports[port]]
        return [
            sum((level >> stream & 1) << place for place, level in enumerate(levels))
            for stream in range(streams)
        ]
