# SPDX-License-Identifier: Apache-2.0
"""The SystemVerilog text that instantiates a unit."""

from __future__ import annotations

from fpsim.hdl.parameters import PARAMETER_NAMES, rtl_top
from fpsim.spec import MacSpec

__all__ = ["instantiation"]


def instantiation(spec: MacSpec, instance: str = "u_mac") -> str:
    """Return an instantiation of the unit's reference RTL, with its signals and source list.

    Raises:
        FpsimError: a unit that the RTL does not implement.
    """
    top = rtl_top(spec)
    ports = {top.clock: 1, top.reset: 1} | top.inputs | top.outputs
    signals = {name: name.rsplit("_", 1)[0] for name in ports} | {top.reset: "rst_n"}
    width = max(len(name) for name in [*top.parameters, *ports])
    lines = [
        f"// {spec.name}",
        f"// {spec.equation}",
        f"// sources: {' '.join(path.name for path in top.sources)}",
    ]
    lines += [
        f"logic {_range(ports[name]):<8}{signals[name]};" for name in (*top.inputs, *top.outputs)
    ]
    lines += ["", f"{top.name} #("]
    lines += _connections({k: _value(k, v) for k, v in top.parameters.items()}, width)
    lines += [f") {instance} ("]
    lines += _connections(signals, width)
    lines += [");"]
    return "\n".join(lines) + "\n"


def _value(name: str, value: int) -> str:
    """Return the package's name of a coded parameter, else the number."""
    if name not in PARAMETER_NAMES:
        return str(value)
    return f"fpsim_pkg::{PARAMETER_NAMES[name][value]}"


def _range(width: int) -> str:
    return f"[{width - 1}:0]" if width > 1 else ""


def _connections(table: dict[str, str], width: int) -> list[str]:
    rows = [f"    .{name:<{width}} ({value})" for name, value in table.items()]
    return [f"{row}," for row in rows[:-1]] + rows[-1:]
