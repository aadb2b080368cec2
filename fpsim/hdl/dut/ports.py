# SPDX-License-Identifier: Apache-2.0
"""The ports that a Verilog design has, as Verilator elaborates them: names, directions, widths.

Known before any vector is planned, they tell inputs that nothing drives from those that are mapped.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fpsim.base.errors import FpsimError, SimulatorMissing
from fpsim.hdl.bench.simulator import environment_of, find
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.hdl_values import sv_text

__all__ = ["Port", "read_ports"]

_SECONDS = 60
_PROBE = "fpsim_probe"
_INTERFACE = b"Interfaced port on top level module"
_RANGE = re.compile(r"\[?(-?\d+):(-?\d+)\]?")


@dataclass(frozen=True)
class Port:
    """A port of the elaborated design.

    ``ranges`` are those of an unpacked array, outermost first, empty for a packed port.
    """

    name: str
    direction: str  #: input, output or inout
    bits: int  #: of the whole port, or of an element of an array; 0: unknown, as of an interface
    ranges: tuple[tuple[int, int], ...] = ()
    kind: str = ""  #: of a port that no wires can reach: interface, unpacked struct

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


def read_ports(dut: Dut) -> dict[str, Port] | None:
    """Return the ports of a design by name.

    None where they cannot be known: of VHDL, without Verilator, or of sources that it refuses; the
    simulator that is to run them says why.

    Raises:
        FpsimError: a port that is an interface.
    """
    if dut.vhdl:
        return None
    try:
        tool = find("verilator")
    except SimulatorMissing:
        return None
    parameters = ", ".join(f".{k}({sv_text(v)})" for k, v in dut.parameters.items())
    given = f"#({parameters})" if parameters else ""
    probe = f"module {_PROBE}; {dut.top} {given} u_dut (); endmodule\n"
    with TemporaryDirectory() as scratch:
        where = Path(scratch)
        (where / "probe.sv").write_text(probe, encoding="utf-8")
        command = ["verilator", "--json-only", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--timing",
                   "--json-only-output", str(where / "tree.json"), "--json-only-meta-output",
                   str(where / "meta.json"), "--top-module", _PROBE]  # fmt: skip
        command += [*dut.compile_arguments("verilator"), *map(str, dut.sources)]
        command.append(str(where / "probe.sv"))
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_SECONDS, cwd=where, check=False,
                env=environment_of(tool), stdin=subprocess.DEVNULL,
            )  # fmt: skip
            text = "" if done.returncode else (where / "tree.json").read_text(encoding="utf-8")
        except (OSError, subprocess.TimeoutExpired):
            return None
    if _INTERFACE in done.stderr:
        raise FpsimError(
            f"wrapper: {dut.top} has a port that is an interface, which no generated wrapper "
            "connects; write a module around it and name that in top"
        )
    try:
        tree = json.loads(text)
    except ValueError:  # a design that Verilator refuses
        return None
    return _ports(tree, dut.top)


def _ports(tree: dict[str, Any], top: str) -> dict[str, Port] | None:
    types = {t["addr"]: t for t in _nodes(tree.get("miscsp", [])) if "addr" in t}
    modules = {m["addr"]: m for m in tree.get("modulesp", []) if "addr" in m}
    probe = next((m for m in modules.values() if m.get("name") == _PROBE), None)
    cell = next((n for n in _nodes(probe) if n.get("type") == "CELL"), None)
    module = None if cell is None else modules.get(cell.get("modp", ""))
    if module is None or module.get("origName") != top:
        return None
    found = {}
    for node in module.get("stmtsp", []):
        direction = str(node.get("direction", "NONE")).lower()
        if node.get("type") != "VAR":
            continue
        name = node.get("origName", node.get("name", ""))
        if direction in ("input", "output", "inout"):
            found[name] = _port(name, direction, node, types)
    return found


def _port(name: str, direction: str, node: Mapping[str, Any], types: Mapping[str, Any]) -> Port:
    ranges: list[tuple[int, int]] = []
    kind = types.get(node.get("dtypep", ""), {})
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
