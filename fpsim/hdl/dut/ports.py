# SPDX-License-Identifier: Apache-2.0
"""The ports that a Verilog design has, as Verilator elaborates them: names, directions, widths.

They are read before any vector is planned, to find inputs that are neither mapped nor driven.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fpsim.base.errors import SimulatorMissing
from fpsim.hdl.bench import child_process
from fpsim.hdl.bench.simulator import environment_of, find
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.hdl_values import sv_text
from fpsim.hdl.dut.interfaces import Holder, interface_ports

__all__ = ["Port", "read_ports", "undriven"]

_SECONDS = 60
_PROBE = "fpsim_probe"
#: What Verilator writes for a character of an escaped name, and for the second of two underscores.
_CODED = re.compile(r"__0([0-9A-Fa-f]{2})")
_RANGE = re.compile(r"\[?(-?\d+):(-?\d+)\]?")


@dataclass(frozen=True)
class Port:
    """A port of the elaborated design, or a member of one: ``bus.data``.

    ``ranges`` are the index ranges of an unpacked array, outermost first; empty if packed. A member
    has a ``holder``, of which it is ``select``.
    """

    name: str
    direction: str  #: input, output, inout or, of an interface, interface
    bits: int  #: of the whole port, or of an element of an array; 0: only its members have wires
    ranges: tuple[tuple[int, int], ...] = ()
    kind: str = ""  #: of a port that no wires can reach: an interface, an unpacked struct
    holder: Holder | None = None
    select: str = ""

    @property
    def elements(self) -> int:
        """Elements of an unpacked array; 1 of a packed port."""
        return prod(abs(left - right) + 1 for left, right in self.ranges)

    @property
    def total(self) -> int:
        """Bits in all."""
        return self.bits * self.elements

    def indices(self) -> Iterator[str]:
        """Yield ``[2][0]`` of every element of an array, the last index fastest, lowest first."""
        spans = [range(min(pair), max(pair) + 1) for pair in self.ranges]

        def below(spans: list[range]) -> Iterator[str]:
            if not spans:
                yield ""
                return
            for i in spans[0]:
                yield from (f"[{i}]{rest}" for rest in below(spans[1:]))

        yield from below(spans)


def undriven(ports: Mapping[str, Port], driven: Iterable[str]) -> list[Port]:
    """Return the inputs that nothing drives: ports, and members of ports mapped by members."""
    named = set(driven)
    members = {name for name in named if name not in ports or ports[name].holder is not None}
    opened = {name.partition(".")[0] for name in members if "." in name}
    leaves = [p for p in ports.values() if not any(n.startswith(f"{p.name}.") for n in ports)]
    found = []
    for port in ports.values():
        base = port.name.partition(".")[0]
        if port.direction == "output" or (base in opened) != (port.holder is not None):
            continue
        parts = port.name.split(".")
        covered = any(".".join(parts[: i + 1]) in named for i in range(len(parts)))
        if not covered and (port in leaves or port.holder is None):
            found.append(port)
    return found


def read_ports(dut: Dut) -> dict[str, Port] | None:
    """Return the ports of a design by name, and the members of ports that have any.

    None where they cannot be known: of VHDL, without Verilator, or of sources that it refuses; the
    simulator that runs them reports the reason.

    Raises:
        FpsimError: an array of interfaces.
    """
    if dut.vhdl:
        return None
    try:
        tool = find("verilator")
    except SimulatorMissing:
        return None
    parameters = ", ".join(f".{k}({sv_text(v)})" for k, v in dut.parameters.items())
    given = f"#({parameters})" if parameters else ""
    held = interface_ports(dut)
    made = []
    for h in held:
        ends = ", ".join(f".{pin}(1'b0)" for pin in h.pins)
        made.append(f"{h.type} u_{h.port} ({ends});")
    pins = ", ".join(f".{h.port}(u_{h.port})" for h in held)
    probe = f"module {_PROBE}; {' '.join(made)} {dut.top} {given} u_dut ({pins}); endmodule\n"
    with TemporaryDirectory() as scratch:
        where = Path(scratch)
        (where / "probe.sv").write_text(probe, encoding="utf-8")
        command = ["verilator", "--json-only", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--timing",
                   "--json-only-output", str(where / "tree.json"), "--json-only-meta-output",
                   str(where / "meta.json"), "--top-module", _PROBE]  # fmt: skip
        command += [*dut.compile_arguments("verilator"), *map(str, dut.sources)]
        command.append(str(where / "probe.sv"))
        try:
            status = child_process.run(
                command, log=where / "log", timeout=_SECONDS, cwd=where,
                environment=environment_of(tool),
            )  # fmt: skip
            text = "" if status else (where / "tree.json").read_text(encoding="utf-8")
        except (OSError, child_process.TimeLimitReached):
            return None
    try:
        tree = json.loads(text)
    except ValueError:  # a design that Verilator refuses
        return None
    return _ports(tree, dut.top, {h.port: h for h in held})


def _ports(tree: dict[str, Any], top: str, held: Mapping[str, Holder]) -> dict[str, Port] | None:
    types = {t["addr"]: t for t in _nodes(tree.get("miscsp", [])) if "addr" in t}
    for address, kind in types.items():
        if kind.get("type") == "PARAMTYPEDTYPE":  # a name for what the parameter was given
            types[address] = {"type": "REFDTYPE", "refDTypep": kind.get("dtypep", "")}
    modules = {m["addr"]: m for m in tree.get("modulesp", []) if "addr" in m}
    probe = next((m for m in modules.values() if m.get("name") == _PROBE), None)
    cell = next((n for n in _nodes(probe) if n.get("type") == "CELL"), None)
    module = None if cell is None else modules.get(cell.get("modp", ""))
    if module is None or module.get("origName") != top:
        return None
    found: dict[str, Port] = {}
    for node in module.get("stmtsp", []):
        direction = str(node.get("direction", "NONE")).lower()
        if node.get("type") != "VAR":
            continue
        name = _decoded(node.get("origName", node.get("name", "")))
        if direction in ("input", "output", "inout"):
            port = _port(name, direction, node, types)
            found[name] = port
            found |= {p.name: p for p in _members(port, _resolved(node, types), types)}
        elif name in held:
            found[name] = Port(name, "interface", 0, (), "an interface")
            signals = _signals(held[name], types.get(node.get("dtypep", ""), {}), modules, types)
            found |= {p.name: p for p in signals}
    return found


def _decoded(name: str) -> str:
    """Return a name as the source has it."""
    return _CODED.sub(lambda match: chr(int(match[1], 16)), name)


def _resolved(node: Mapping[str, Any], types: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the type behind the name of one."""
    kind: Mapping[str, Any] = types.get(node.get("dtypep", ""), {})
    while kind.get("type") == "REFDTYPE":
        kind = types.get(kind.get("refDTypep", ""), {})
    return kind


def _members(port: Port, kind: Mapping[str, Any], types: Mapping[str, Any]) -> Iterator[Port]:
    """Yield the members of a struct: of a packed one as slices, of an unpacked one by name."""
    if kind.get("type") != "STRUCTDTYPE":
        return
    packed = bool(kind.get("packed"))
    bits = _bits(kind, types)
    holder = Holder(port.name, f"logic [{bits - 1}:0]" if packed else str(kind.get("name", "")))
    yield from _below(port, kind, types, holder, "", 0)


def _below(
    port: Port, kind: Mapping[str, Any], types: Mapping[str, Any], holder: Holder, at: str, lsb: int
) -> Iterator[Port]:
    packed = bool(kind.get("packed"))
    for member in reversed(kind.get("membersp", [])):  # the last one has the low bits
        name = f"{port.name}.{_decoded(member.get('name', ''))}"
        inner = types.get(member.get("refDTypep", ""), {})
        while inner.get("type") == "REFDTYPE":
            inner = types.get(inner.get("refDTypep", ""), {})
        if packed:
            width, here = _bits(inner, types), at
            select = f"{at}[{lsb + width - 1}:{lsb}]"
            found = Port(name, port.direction, width, (), "", holder, select)
        else:
            width, here = 0, f"{at}.{_decoded(member.get('name', ''))}"
            plain = _port(name, port.direction, {"dtypep": member.get("refDTypep")}, types)
            found = replace(plain, holder=holder, select=here)
        yield found
        if inner.get("type") == "STRUCTDTYPE":
            yield from _below(found, inner, types, holder, here, lsb)
        lsb += width


def _signals(
    holder: Holder,
    kind: Mapping[str, Any],
    modules: Mapping[str, Any],
    types: Mapping[str, Any],
) -> Iterator[Port]:
    """Yield the signals of an interface with the directions of a port's modport."""
    interface = modules.get(kind.get("ifacep", ""), {})
    nodes = interface.get("stmtsp", [])
    signals = {n["addr"]: n for n in nodes if n.get("type") == "VAR" and not n.get("isParam")}
    modport = next((n for n in nodes if n.get("addr") == kind.get("modportp")), None)
    directions = {
        v.get("varp"): str(v.get("direction", "")).lower() for v in (modport or {}).get("varsp", [])
    }
    for address, node in signals.items():
        name = node.get("origName", node.get("name", ""))
        direction = directions.get(address, "inout" if modport is None else "")
        if name in holder.pins or not direction:
            continue
        port = _port(f"{holder.port}.{name}", direction, node, types)
        yield replace(port, holder=holder, select=f".{name}")


def _port(name: str, direction: str, node: Mapping[str, Any], types: Mapping[str, Any]) -> Port:
    ranges: list[tuple[int, int]] = []
    kind: Mapping[str, Any] = types.get(node.get("dtypep", ""), {})
    while kind.get("type") in ("REFDTYPE", "UNPACKARRAYDTYPE"):
        if kind["type"] == "UNPACKARRAYDTYPE":
            match = _RANGE.fullmatch(kind.get("declRange", ""))
            if match is None:
                return Port(name, direction, 0, (), "an array of unknown size")
            ranges.append((int(match[1]), int(match[2])))
        kind = types.get(kind.get("refDTypep", ""), {})
    bits = _bits(kind, types)
    if not bits:
        return Port(name, direction, 0, (), _named(kind))
    return Port(name, direction, bits, tuple(ranges))


def _named(kind: Mapping[str, Any]) -> str:
    return {"STRUCTDTYPE": "an unpacked struct", "UNIONDTYPE": "an unpacked union"}.get(
        kind.get("type", ""), f"of a type that has no wires ({kind.get('type', 'unknown')})"
    )


def _bits(kind: Mapping[str, Any], types: Mapping[str, Any]) -> int:
    """Return the bits of a packed type, 0 if it is none."""
    sort = kind.get("type")
    if sort == "BASICDTYPE":
        match = _RANGE.fullmatch(kind.get("range", "0:0"))
        return abs(int(match[1]) - int(match[2])) + 1 if match else 0
    if sort in ("REFDTYPE", "ENUMDTYPE", "MEMBERDTYPE"):
        return _bits(types.get(kind.get("refDTypep", ""), {}), types)
    if sort == "PACKARRAYDTYPE":
        match = _RANGE.fullmatch(kind.get("declRange", ""))
        inner = _bits(types.get(kind.get("refDTypep", ""), {}), types)
        return inner * (abs(int(match[1]) - int(match[2])) + 1) if match else 0
    if sort in ("STRUCTDTYPE", "UNIONDTYPE") and kind.get("packed"):
        widths = [_bits(member, types) for member in kind.get("membersp", [])]
        return (sum if sort == "STRUCTDTYPE" else max)(widths) if all(widths) else 0
    return 0


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON tree."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
