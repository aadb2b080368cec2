# SPDX-License-Identifier: Apache-2.0
"""The SystemVerilog text of a unit: an instantiation, or a package of its parameters."""

from __future__ import annotations

import re

from fpsim.hdl.rtl.parameters import RtlTop, rtl_top
from fpsim.hdl.rtl.quantizer import quantizer_top
from fpsim.hdl.rtl.rtl_codes import TABLE_BITS, is_table, parameter_text
from fpsim.units.spec import MacSpec
from fpsim.vectors.operations.operation import Quantize

__all__ = ["instantiation", "package"]


def instantiation(
    spec: MacSpec | Quantize, instance: str = "u_mac", top: RtlTop | None = None
) -> str:
    """Return an instantiation of the unit's reference RTL, with its signals and source list.

    Args:
        spec: the unit, or the quantizer.
        instance: name of the instance.
        top: another top of the unit than the one `rtl_top` chooses.

    Returns:
        SystemVerilog.

    Raises:
        FpsimError: a unit that the RTL does not implement.
    """
    top = top or _top(spec)
    ports = {top.clock: 1, top.reset: 1} | top.inputs | top.outputs
    signals = {name: name.rsplit("_", 1)[0] for name in ports} | {top.reset: "rst_n"}
    for name in ("valid", "ready"):  # both directions have one
        signals |= {p: p for p in (f"{name}_i", f"{name}_o") if p in ports and "valid_o" in ports}
    width = max(len(name) for name in [*top.parameters, *ports, *top.tied, *top.open])
    lines = _head(spec, top)
    lines += [
        f"logic {_range(ports[name]):<8}{signals[name]};" for name in (*top.inputs, *top.outputs)
    ]
    lines += ["", f"{top.name} #("]
    lines += _connections({k: parameter_text(k, v) for k, v in top.parameters.items()}, width)
    lines += [f") {instance} ("]
    others = dict.fromkeys(top.tied, "'0") | dict.fromkeys(top.open, "")
    lines += _connections(signals | others, width)
    lines += [");"]
    return "\n".join(lines) + "\n"


def package(spec: MacSpec | Quantize, top: RtlTop | None = None) -> str:
    """Return a package with the unit's parameters, and the widths of its ports as ``<PORT>_W``.

    Raises:
        FpsimError: a unit that the RTL does not implement.
    """
    top = top or _top(spec)
    name = f"{re.sub('[^a-z0-9]+', '_', _name(spec))}_pkg"
    if not name[0].isalpha():
        name = f"unit_{name}"
    values = {key: parameter_text(key, value) for key, value in top.parameters.items()}
    ports = top.inputs | top.outputs
    values |= {f"{port.rsplit('_', 1)[0].upper()}_W": str(w) for port, w in ports.items() if w > 1}
    width = max(map(len, values))
    kinds = {key: f"logic [{TABLE_BITS - 1}:0]" if is_table(key) else "int" for key in values}
    lines = [*_head(spec, top), f"package {name};"]
    lines += [f"  localparam {kinds[key]} {key:<{width}} = {values[key]};" for key in values]
    return "\n".join([*lines, "endpackage"]) + "\n"


def _top(spec: MacSpec | Quantize) -> RtlTop:
    return rtl_top(spec) if isinstance(spec, MacSpec) else quantizer_top(spec)


def _name(spec: MacSpec | Quantize) -> str:
    return spec.name if isinstance(spec, MacSpec) else spec.title


def _head(spec: MacSpec | Quantize, top: RtlTop) -> list[str]:
    return [
        f"// {_name(spec)}",
        f"// {spec.equation}",
        *(
            f"// {operand}: codes of {table.name}, looked up in {table.wide.name}"
            for operand, table in top.tables.items()
        ),
        f"// sources: {' '.join(path.name for path in top.sources)}",
    ]


def _range(width: int) -> str:
    return f"[{width - 1}:0]" if width > 1 else ""


def _connections(table: dict[str, str], width: int) -> list[str]:
    rows = [f"    .{name:<{width}} ({value})" for name, value in table.items()]
    return [f"{row}," for row in rows[:-1]] + rows[-1:]
