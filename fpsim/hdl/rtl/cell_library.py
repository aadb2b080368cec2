# SPDX-License-Identifier: Apache-2.0
"""A generic standard-cell library: its areas are the unit that `fpsim.hdl.rtl.synthesis` counts in.

No foundry's cells: areas are stated in two-input NAND gates (NAND2 = 1), rounded from the
transistors of static CMOS, at 4 a NAND2: an inverter has 2, a NOR2 4, an AND2 6, an XOR2 as
transmission gates 9 to 10, a flip-flop some 20, with an asynchronous reset 24. All cells have the
same delay, so depth counts cells.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CELLS", "Cell", "liberty"]


@dataclass(frozen=True)
class Cell:
    """A combinational cell: ``function`` of its inputs (one letter each) in Liberty's notation."""

    name: str
    area: float
    function: str


CELLS = (
    Cell("INV", 0.5, "!A"),
    Cell("BUF", 1.0, "A"),
    Cell("NAND2", 1.0, "!(A&B)"),
    Cell("NOR2", 1.0, "!(A|B)"),
    Cell("AND2", 1.5, "(A&B)"),
    Cell("OR2", 1.5, "(A|B)"),
    Cell("NAND3", 1.5, "!(A&B&C)"),
    Cell("NOR3", 1.5, "!(A|B|C)"),
    Cell("AOI21", 1.5, "!((A&B)|C)"),
    Cell("OAI21", 1.5, "!((A|B)&C)"),
    Cell("AOI22", 2.0, "!((A&B)|(C&D))"),
    Cell("OAI22", 2.0, "!((A|B)&(C|D))"),
    Cell("XOR2", 2.5, "(A^B)"),
    Cell("XNOR2", 2.5, "!(A^B)"),
    Cell("MUX2", 2.5, "((A&!S)|(B&S))"),
)
#: Flip-flops: without reset, cleared or set while R is 0.
FLIPFLOPS = {"DFF": 5.0, "DFFR": 6.0, "DFFS": 6.0}


def liberty() -> str:
    """Return the library in the Liberty format."""
    cells = [_combinational(cell) for cell in CELLS]
    cells += [_flipflop(name, area) for name, area in FLIPFLOPS.items()]
    return "library(fpsim_generic) {\n" + "".join(cells) + "}\n"


def _combinational(cell: Cell) -> str:
    inputs = sorted(set(cell.function) & set("ABCDS"))
    pins = "".join(f"  pin({name}) {{ direction: input; }}\n" for name in inputs)
    output = f'  pin(Y) {{ direction: output; function: "{cell.function}"; }}\n'
    return f" cell({cell.name}) {{ area: {cell.area};\n{pins}{output} }}\n"


def _flipflop(name: str, area: float) -> str:
    control = {"DFFR": ' clear: "!R";', "DFFS": ' preset: "!R";'}.get(name, "")
    pins = ["D"] + ["R"] * bool(control)
    return (
        f" cell({name}) {{ area: {area};\n"
        f'  ff(IQ, IQN) {{ clocked_on: "C"; next_state: "D";{control} }}\n'
        "  pin(C) { direction: input; clock: true; }\n"
        + "".join(f"  pin({pin}) {{ direction: input; }}\n" for pin in pins)
        + '  pin(Q) { direction: output; function: "IQ"; }\n }\n'
    )
