# SPDX-License-Identifier: Apache-2.0
"""The SystemVerilog of a systolic array: a module with the unit's MACs between cells and edges.

Ports of an output-stationary array, besides clk_i and rst_ni:

    valid_i, ready_o, last_i    a beat of every row and column is taken, and ends its tile
    a_i, b_i                    beats of the rows of A, of the columns of B; row and column 0 low
    a_scale_i, b_scale_i        their scales, where the unit has them
    valid_o, ready_i, acc_o     a row of the tile, column 0 low; row 0 comes first

A weight-stationary array takes weights apart from the rows of A:

    b_valid_i, b_ready_o        a row of weights is taken: the last row of a strip first, row 0 last
    b_use_i                     0: this row passes its sums on as they are
    b_i, b_scale_i              a beat of each column
    valid_i, ready_o, last_i    a row of A is taken, the last one for its strip: the next one meets
                                the next weights
    a_i, a_scale_i              a beat for each row of MACs
    c_i                         the sums that it adds to, column 0 low
    valid_o, ready_i, acc_o     its sums, in the order of the rows of A

Rows are not to be skewed outside: the array delays them itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fpsim.base.atomic_files import write_atomic
from fpsim.formats.names import E8M0
from fpsim.hdl.rtl.array import Dataflow, SystolicArray
from fpsim.hdl.rtl.parameters import RtlTop, sources_of
from fpsim.hdl.rtl.rtl_codes import parameter_text

__all__ = [
    "ArrayPorts",
    "array_name",
    "array_parts",
    "array_ports",
    "array_sources",
    "array_text",
    "array_top",
]

_TEMPLATES = Path(__file__).parent / "templates"
_CELLS = {
    Dataflow.OUTPUT_STATIONARY: ("array_cell", "array_drain"),
    Dataflow.WEIGHT_STATIONARY: ("array_cell", "array_weight"),
}
_INDENT = " " * 8


@dataclass(frozen=True)
class ArrayPorts:
    """Widths of the ports of an array by name, without clock and reset."""

    inputs: dict[str, int]
    outputs: dict[str, int]


def array_name(array: SystolicArray) -> str:
    """Return the name of the array's module."""
    words = re.sub("[^a-z0-9]+", "_", array.spec.name.lower()).strip("_")
    kind = {"output-stationary": "os", "weight-stationary": "ws"}[array.dataflow]
    name = f"{words}_{kind}_{array.size}"
    return name if name[0].isalpha() else f"unit_{name}"


def array_parts(array: SystolicArray) -> tuple[str, ...]:
    """Return the modules that stand in every cell of an array, its MAC first."""
    return (array.mac.name, *_CELLS[array.dataflow])


def array_ports(array: SystolicArray) -> ArrayPorts:
    """Return the ports of an array."""
    mac, rows, columns = array.mac.inputs, array.rows, array.columns
    acc = array.mac.outputs["acc_o"]
    scales = ("a_scale_i", "b_scale_i") if array.has_scales else ()
    west = {name: rows * mac[name] for name in ("a_i", *scales[:1])}
    north = {name: columns * mac[name] for name in ("b_i", *scales[1:])}
    inputs = {"valid_i": 1, "last_i": 1} | west
    outputs = {"ready_o": 1, "valid_o": 1, "acc_o": columns * acc}
    if array.dataflow is Dataflow.OUTPUT_STATIONARY:
        return ArrayPorts(inputs | north | {"ready_i": 1}, outputs)
    inputs |= {"c_i": columns * acc, "b_valid_i": 1, "b_use_i": 1} | north | {"ready_i": 1}
    return ArrayPorts(inputs, outputs | {"b_ready_o": 1})


def array_sources(array: SystolicArray) -> tuple[Path, ...]:
    """Return the files that an array needs beside its own module, in compile order."""
    sources = list(array.mac.sources)
    for part in _CELLS[array.dataflow]:
        sources += [source for source in sources_of(part) if source not in sources]
    return tuple(sources)


def array_top(array: SystolicArray, directory: Path) -> RtlTop:
    """Write the module of an array.

    Args:
        array: the array.
        directory: where ``NAME.sv`` goes; made if needed.

    Returns:
        The module, ready to compile.
    """
    name, ports = array_name(array), array_ports(array)
    path = write_atomic(directory / f"{name}.sv", array_text(array).encode())
    return RtlTop(name, {}, (*array_sources(array), path), ports.inputs, ports.outputs)


def array_text(array: SystolicArray) -> str:
    """Return the SystemVerilog of an array's module; its other sources are static."""
    mac, flow = array.mac, array.dataflow
    stationary = flow is Dataflow.WEIGHT_STATIONARY
    scaled = int(array.has_scales)
    widths = {"A_W": mac.inputs["a_i"], "B_W": mac.inputs["b_i"]}
    if scaled:
        widths |= {"SA_W": mac.inputs["a_scale_i"], "SB_W": mac.inputs["b_scale_i"]}
    west, north = ["A_W", *["SA_W"] * scaled], ["B_W", *["SB_W"] * scaled]
    marks = (1, 1) if stationary else (2, 0)
    constants: dict[str, object] = {"ROWS": array.rows, "COLUMNS": array.columns}
    constants |= widths | {"ACC_W": mac.outputs["acc_o"]}
    constants |= {"W_W": " + ".join([str(marks[0]), *west])}
    constants |= {"N_W": " + ".join([str(marks[1])] * bool(marks[1]) + north)}
    if stationary:
        constants["PIPELINE"] = array.pipeline
    slices = _slices(array)
    body = (_TEMPLATES / f"array_{flow.replace('-', '_')}.sv.in").read_text("utf-8")
    told = {
        "west": ", ".join(["first_q"] + ["last_i"] * (not stationary) + slices["west"]),
        "north": ", ".join(["b_use_i"] * stationary + slices["north"]),
        "mac": _mac(array),
    }
    for key, text in told.items():
        body = body.replace(f"@{key}@", text)
    lines = [
        "// SPDX-License-Identifier: Apache-2.0",
        "//",
        f"// {array.size} MACs of {array.spec.name}, {flow}",
        f"// {array.spec.equation}",
        f"// sources: {' '.join(path.name for path in array_sources(array))}",
        "// Generated by fpsim rtl; its ports: docs/how-to/systolic-arrays.md of fpsim",
        f"module {array_name(array)} (",
        *_port_lines(array_ports(array)),
        ");",
        "",
        *(f"  localparam int {name} = {value};" for name, value in constants.items()),
        "",
    ]
    return "\n".join(lines) + "\n" + body


def _port_lines(ports: ArrayPorts) -> list[str]:
    every = [("input ", name, width) for name, width in {"clk_i": 1, "rst_ni": 1}.items()]
    every += [("input ", name, width) for name, width in ports.inputs.items()]
    every += [("output", name, width) for name, width in ports.outputs.items()]
    ranges = [f"[{width - 1}:0]" if width > 1 else "" for *_, width in every]
    wide = max(map(len, ranges))
    lines = [
        f"    {way} logic {text:<{wide}} {name}"
        for (way, name, _), text in zip(every, ranges, strict=True)
    ]
    return [f"{line}," for line in lines[:-1]] + lines[-1:]


def _slices(array: SystolicArray) -> Mapping[str, list[str]]:
    """Return the slices of the ports at the edges: west for row i, north for column j."""
    found = {"west": ["a_i[i*A_W+:A_W]"], "north": ["b_i[j*B_W+:B_W]"]}
    if array.has_scales:
        found["west"].append("a_scale_i[i*SA_W+:SA_W]")
        found["north"].append("b_scale_i[j*SB_W+:SB_W]")
    return found


def _mac(array: SystolicArray) -> str:
    """Return the MAC of a cell."""
    mac, stationary = array.mac, array.dataflow is Dataflow.WEIGHT_STATIONARY
    weight = "weight" if stationary else "n_data"
    scaled = array.has_scales
    first, last = "w_data[W_W-1]", "w_data[W_W-2]"
    op = f"{first} ? fpsim_pkg::OP_DOT : fpsim_pkg::OP_MAC"
    if stationary:
        op, last = f"{weight}[N_W-1] ? fpsim_pkg::OP_DOT : fpsim_pkg::OP_LOAD", "1'b1"
    ports = {
        "clk_i": "clk_i",
        "rst_ni": "rst_ni",
        "valid_i": "m_valid",
        "ready_o": "m_ready",
        "op_i": op,
        "last_i": last,
        "a_i": "w_data[SA_W+:A_W]" if scaled else "w_data[A_W-1:0]",
        "b_i": f"{weight}[SB_W+:B_W]" if scaled else f"{weight}[B_W-1:0]",
    }
    if scaled:
        ports |= {"a_scale_i": "w_data[SA_W-1:0]", "b_scale_i": f"{weight}[SB_W-1:0]"}
    # Scales that a unit leaves out are E8M0, as by default; of random bits there is one then.
    ports |= {port: f"{E8M0.bits if 'scale' in port else 1}'d0" for port in mac.tied}
    ports |= {
        "c_i": "n_data" if stationary else "{ACC_W{1'b0}}",
        "valid_o": "r_valid",
        "ready_i": "r_ready",
        "acc_o": "result",
    }
    ports |= dict.fromkeys(mac.open, "open")
    parameters = [f".{k}({parameter_text(k, v)})" for k, v in mac.parameters.items()]
    lines = [
        "logic [4:0] open;",
        "logic unused_open;",
        "assign unused_open = &{1'b0, open};",
    ] * bool(mac.open)
    lines += [f"{mac.name} #("]
    lines += [f"    {', '.join(parameters[i : i + 4])}," for i in range(0, len(parameters), 4)]
    lines[-1] = lines[-1].removesuffix(",")
    lines += [") u_mac ("]
    lines += [f"    .{name}({value})," for name, value in ports.items()]
    lines[-1] = lines[-1].removesuffix(",")
    return "\n".join(_INDENT + line for line in [*lines, ");"])
