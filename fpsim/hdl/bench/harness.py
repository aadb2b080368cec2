# SPDX-License-Identifier: Apache-2.0
"""A generated module around a design: plain ports for a bench, whatever ports the design has.

Both benches drive the same text, so parameters mean the same to each. Port ``x`` of the design is
``p_x`` here, a name to which no simulator or library gives a meaning. The module also holds ties,
turns the clock of designs that work on falling edges, joins clocks and resets, takes unpacked
arrays apart, and gathers a result that comes over several clocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.beat_plan import LineField
from fpsim.hdl.bench.stimulus import BeatWriter
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.hdl_values import sv_text
from fpsim.hdl.dut.ports import Port, undriven

__all__ = ["HARNESS_TOP", "TURNS", "Harness", "driven", "escaped", "net", "whole_beat"]

HARNESS_TOP = "fpsim_harness"
#: A name that is not an escaped one.
_WORD = re.compile(r"[A-Za-z_][\w$]*")
#: The port of that module that carries a whole beat.
BEAT = "fpsim_beat"
#: Beats that a bench in Python sets at once, a power of two, where no handshake can come between.
TURNS = 32


def net(port: str) -> str:
    """Return the bench's name for the net of a port: none of the bench's own names."""
    return f"p_{_plain(port.removeprefix('!'))}"


def escaped(port: str) -> str:
    """Return a port's name as it stands in Verilog: an escaped one ends with a space."""
    return port if _WORD.fullmatch(port) else f"\\{port} "


def _plain(port: str) -> str:
    """Return part of a name for a port, a member of one, or one with an escaped name."""
    return re.sub(r"\W", "_", port.replace(".", "__"))


def driven(inputs: Sequence[LineField]) -> tuple[LineField, ...]:
    """Return the fields of a line that a bench in Python sets: one that spans all inputs.

    A call sets a port, and calls take the time. Where some inputs hold a value while no beat is
    there and others do not, the bench sets each.
    """
    quiet = {f.quiet is not None for f in inputs}
    return tuple(inputs) if len(quiet) > 1 else (whole_beat(inputs),)


def whole_beat(fields: Sequence[LineField]) -> LineField:
    """Return one field for the digits of several fields of a line, those between them too."""
    start, stop = min(f.start for f in fields), max(f.stop for f in fields)
    width = 4 * (stop - start)
    held = [(f.quiet or 0) << 4 * (stop - f.stop) for f in fields if f.quiet is not None]
    return LineField(BEAT, width, True, (1 << width) - 1, start, stop, sum(held) if held else None)


class Harness:
    """The text around a design.

    Args:
        dut: the design.
        writer: writes its beats.
        ports: the ports that the design has; None: not known, and none is an array.

    Raises:
        FpsimError: a feature that needs known ports.
    """

    def __init__(self, dut: Dut, writer: BeatWriter, ports: Mapping[str, Port] | None) -> None:
        self.dut, self.writer, self.ports = dut, writer, ports or {}
        if dut.input.tie_rest and ports is None:
            raise FpsimError(
                f"input.tie: 0 for all needs the ports of {dut.top}, which Verilator reads; "
                "install it, or tie them by name"
            )

    def inputs(self) -> dict[str, int]:
        """Return the nets that the bench drives, with their bits."""
        dut = self.dut
        found = {net(f.port): f.width for f in self.writer.inputs}
        for name in (dut.clock, dut.reset and dut.reset.port, dut.input.valid, dut.output.ready):
            if name:
                found[net(name)] = 1
        return found

    def outputs(self) -> dict[str, int]:
        """Return the nets that the bench reads, with their bits."""
        found = {net(f.port): f.width for f in self.writer.outputs}
        for name in (self.dut.input.ready, self.dut.output.valid):
            if name:
                found[net(name)] = 1
        return found

    def widths(self) -> list[tuple[str, int, bool]]:
        """Return (port, bits, exact) of every port, to be compared with the elaborated design."""
        many = self.dut.output.beats
        fields = {f.port: (f.width, f.exact) for f in self.writer.inputs}
        fields |= {f.port: (f.width // many, f.exact) for f in self.writer.outputs}
        dut = self.dut
        flags = (dut.clock, dut.reset and dut.reset.port, dut.input.valid, dut.input.ready,
                 dut.output.valid, dut.output.ready)  # fmt: skip
        fields |= {name.removeprefix("!"): (1, True) for name in flags if name}
        return [(port, width, exact) for port, (width, exact) in fields.items()]

    def instance(self) -> str:
        """Return the statements that connect the design, named ``u_dut``, to the bench's nets."""
        dut = self.dut
        extra: list[str] = []
        pins: dict[str, str] = {}
        for field in self.writer.inputs:
            source = self._delayed(field.port, field.width, extra)
            pins[field.port] = self._in(field.port, field.width, source, extra)
        for field in self.writer.outputs:
            pins[field.port] = self._out(field.port, field.width, extra)
        for name in (dut.input.valid, dut.input.ready, dut.output.valid, dut.output.ready):
            if name:
                pins[name.removeprefix("!")] = net(name)
        if dut.clock:
            level = f"~{net(dut.clock)}" if dut.falling else net(dut.clock)
            pins |= dict.fromkeys((dut.clock, *dut.clocks), level)
        if dut.reset:
            pins[dut.reset.port] = net(dut.reset.port)
            for name in dut.reset.also:
                turned = "~" * (name.startswith("!") != dut.reset.active_low)
                pins[name.removeprefix("!")] = turned + net(dut.reset.port)
        pins |= {port: self._constant(port, value) for port, value in dut.constant_ties().items()}
        if dut.input.tie_rest:
            rest = [p for p in undriven(self.ports, pins) if p.direction == "input"]
            pins |= {
                p.name: self._constant(p.name, 0) for p in rest if p.name not in dut.input.open
            }
        if dut.output.beats > 1:
            extra += self._gathered(pins)
        extra += self._held(pins)
        values = {name: sv_text(value) for name, value in dut.parameters.items()}
        parameters = f" #(\n{_table(values)}\n  )" if values else ""
        loads = []
        for place, path in dut.memories.items():
            task = "$readmemb" if path.suffix == ".bin" else "$readmemh"
            loads.append(f'  initial {task}("{path}", u_dut.{place});')
        pinned = f"  {dut.top}{parameters} u_dut (\n{_table(pins)}\n  );"
        return "\n".join([*extra, pinned, *loads])

    def _held(self, pins: dict[str, str]) -> Iterator[str]:
        """Yield variables and interfaces that hold members of ports; the members leave ``pins``."""
        groups: dict[str, list[str]] = {}
        for name in pins:
            known = self.ports.get(name)
            if "." in name and not (known is not None and known.holder is None):
                groups.setdefault(name.partition(".")[0], []).append(name)
        for base, names in groups.items():
            holder = self.ports[names[0]].holder
            assert holder is not None
            ends = [f".{pin}({self._interface_pin(base, pin)})" for pin in holder.pins]
            yield f"  {holder.type} u_{base}" + f" ({', '.join(ends)})" * holder.interface + ";"
            for name in names:
                port, there = self.ports[name], f"u_{base}{self.ports[name].select}"
                into = port.direction == "input" or name in self._fed
                left, right = (there, pins.pop(name)) if into else (pins.pop(name), there)
                yield f"  assign {left} = {right};"
            pins[base] = f"u_{base}"

    @cached_property
    def _fed(self) -> frozenset[str]:
        """The ports that the bench drives: a signal among them without a direction is an input."""
        return frozenset(self.dut.driven()) | {field.port for field in self.writer.inputs}

    def _interface_pin(self, port: str, pin: str) -> str:
        """Return the net for a port that an interface itself has: a clock or reset, by name."""
        dut = self.dut
        clocks = {name: net(dut.clock) for name in (dut.clock, *dut.clocks) if name and dut.clock}
        resets = {dut.reset.port: net(dut.reset.port)} if dut.reset else {}
        found = (clocks | resets).get(pin)
        if found is None:
            raise FpsimError(
                f"wrapper: the interface of port {port} has a port {pin!r} of its own, which is "
                "no clock or reset of the design; write a module around it and name that in top"
            )
        return f"~{found}" if dut.falling and pin in clocks else found

    def module(self, turns: int = 1) -> str:
        """Return the module for a bench in Python, with the bench's nets as ports.

        Its inputs are the fields of `driven`. Output ``bits_N`` tells the width that the N-th of
        `widths` has in the design. With more than one turn the bench sets as many beats at once,
        `whole_beat` each, the first in the low bits: the design gets one a clock while input
        ``fpsim_go`` is set, and what it answered stands on ``fpsim_seen`` in the same order when
        ``fpsim_last`` falls.
        """
        fields, outputs, body = self.writer.inputs, self.outputs(), []
        inputs = self.inputs()
        if turns > 1:
            seen = whole_beat(self.writer.outputs)
            body += [f"  wire {_range(w)}{name};" for name, w in outputs.items()]
            body += self._turns(turns, whole_beat(fields).width, seen.width)
            outputs = {net("fpsim_seen"): turns * seen.width, net("fpsim_last"): 1}
            outputs[net("fpsim_turn")] = (turns - 1).bit_length()
        whole = (whole_beat(fields),) if turns > 1 else driven(fields)
        if whole != tuple(fields):
            (beat,) = whole
            source = "beat" if turns > 1 else net(BEAT)
            for f in fields:
                width, low = inputs.pop(net(f.port)), 4 * (beat.stop - f.stop)
                part = f"{source}[{low + width - 1}:{low}]"
                body.append(f"  wire {_range(width)}{net(f.port)} = {part};")
            inputs = {net(BEAT): turns * beat.width} | inputs
            inputs |= {net("fpsim_go"): 1} if turns > 1 else {}
        rows = [f"  input  wire {_range(w)}{name}" for name, w in inputs.items()]
        rows += [f"  output wire {_range(w)}{name}" for name, w in outputs.items()]
        known = self.widths()
        rows += [f"  output wire [31:0] bits_{i}" for i in range(len(known))]
        probes = [
            f"  assign bits_{i} = {self._bits(port)};" for i, (port, _, _) in enumerate(known)
        ]
        text = "\n".join([*body, self.instance(), *probes])
        note = "// Generated by fpsim around a design: see fpsim.hdl.bench.harness.\n"
        time = "`timescale 1ns/1ps\n"
        ports = ",\n".join(rows)
        return f"{note}{time}module {HARNESS_TOP} (\n{ports}\n);\n\n{text}\n\nendmodule\n"

    def _turns(self, turns: int, beat: int, seen: int) -> list[str]:
        """Return the statements that give a design several beats in turn and gather its answers.

        Beats change, and answers are read, on the falling edge.
        """
        last = (turns - 1).bit_length() - 1
        digits = [
            f"{{{4 * (f.stop - f.start)}{{1'b0}}}} | {net(f.port)}" for f in self.writer.outputs
        ]
        return [
            f"  reg [{last}:0] turn = 0;",
            f"  reg [{turns * seen - 1}:0] answers;",
            f"  wire [{beat - 1}:0] beat = {net(BEAT)}[turn * {beat} +: {beat}];",
            f"  always @(negedge {net(self.dut.clock or '')}) if ({net('fpsim_go')}) begin",
            f"    answers[turn * {seen} +: {seen}] <= {{{', '.join(digits)}}};",
            "    turn <= turn + 1'b1;",
            "  end",
            f"  assign {net('fpsim_seen')} = answers;",
            f"  assign {net('fpsim_turn')} = turn;",
            f"  assign {net('fpsim_last')} = turn[{last}];",
        ]

    def _bits(self, port: str) -> str:
        known = self.ports.get(port)
        sure = known is not None and (known.ranges or known.holder)
        return str(known.total) if known and sure else f"$bits(u_dut.{escaped(port)})"

    def _delayed(self, port: str, width: int, extra: list[str]) -> str:
        """Return the net of an input, or of registers that hold it for some clocks."""
        clocks, source = self.dut.input.delay.get(port, 0), net(port)
        if not clocks:
            return source
        late, kept = f"{source}_late", (clocks - 1) * width
        older = f"{late}[{kept - 1}:0], " if kept else ""
        clock = net(self.dut.clock or "")
        extra.append(f"  reg {_range(clocks * width)}{late};")
        extra.append(f"  always @(posedge {clock}) {late} <= {{{older}{source}}};")
        shown = f"{late}[{kept + width - 1}:{kept}]" if clocks * width > 1 else late
        extra.append(f"  wire {_range(width)}{source}_then = {shown};")
        return f"{source}_then"

    def _in(self, port: str, width: int, source: str, extra: list[str]) -> str:
        """Return the expression for an input; of an array, a copy whose elements are assigned."""
        array = self.ports.get(port)
        if array is None or not array.ranges:
            return source
        name = f"u_{_plain(port)}"
        extra.append(f"  wire {_range(array.bits)}{name} {_ranges(array)};")
        for i, index in enumerate(array.indices()):
            low = i * array.bits
            part = f"{source}[{low + array.bits - 1}:{low}]"
            there = low + array.bits <= width
            extra.append(f"  assign {name}{index} = {part if there else _zero(array.bits)};")
        return name

    def _out(self, port: str, width: int, extra: list[str]) -> str:
        array = self.ports.get(port)
        if array is None or not array.ranges:
            return net(port)
        name = f"u_{_plain(port)}"
        extra.append(f"  wire {_range(array.bits)}{name} {_ranges(array)};")
        for i, index in enumerate(array.indices()):
            low = i * array.bits
            if low + array.bits <= width:
                extra.append(f"  assign {net(port)}[{low + array.bits - 1}:{low}] = {name}{index};")
        return name

    def _constant(self, port: str, value: int) -> str:
        known = self.ports.get(port)
        if known is None:
            return sv_text(value)
        if known.ranges:
            each = [
                value >> (i * known.bits) & ((1 << known.bits) - 1) for i in range(known.elements)
            ]
            return "'{" + ", ".join(f"{known.bits}'d{part}" for part in each) + "}"
        return f"{known.bits}'d{value}"

    def _gathered(self, pins: dict[str, str]) -> Iterator[str]:
        """Yield a register that gathers the parts of a result; it changes the entry in ``pins``."""
        dut, many = self.dut, self.dut.output.beats
        (field,) = self.writer.outputs
        part = field.width // many
        whole, port = net(field.port), field.port
        kept = (many - 1) * part
        yield f"  wire {_range(part)}part;"
        yield f"  reg {_range(kept)}kept;"
        parts = "{part, kept}" if not dut.output.high_first else "{kept, part}"
        yield f"  assign {whole} = {parts};"
        if dut.output.high_first:
            shifted = "{kept, part}" if many == 2 else f"{{kept[{kept - part - 1}:0], part}}"
            shifted = "part" if many == 2 else shifted
        else:
            shifted = "part" if many == 2 else f"{{part, kept[{kept - 1}:{part}]}}"
        pins[port] = "part"
        clock = net(dut.clock or "")
        if dut.output.valid is None:
            yield f"  always @(posedge {clock}) kept <= {shifted};"
            return
        told = dut.output.valid
        valid = ("!" if told.startswith("!") else "") + "inner_valid"
        shown = ("!" if told.startswith("!") else "") + f"({valid} && count == {many - 1})"
        yield "  wire inner_valid;"
        yield "  reg [7:0] count;"
        yield "  initial count = 0;"
        yield f"  assign {net(told)} = {shown};"
        pins[told.removeprefix("!")] = "inner_valid"
        takes = "1'b1"
        if dut.output.ready is not None:
            low = dut.output.ready.startswith("!")
            given = ("!" if low else "") + net(dut.output.ready)
            takes = f"(count != {many - 1} || {given})"
            pins[dut.output.ready.removeprefix("!")] = ("!" if low else "") + takes
        reset = ""
        if dut.reset is not None:
            on = ("!" if dut.reset.active_low else "") + net(dut.reset.port)
            reset = f"if ({on}) count <= 0;\n    else "
        yield f"  always @(posedge {clock}) begin"
        yield f"    {reset}if ({valid} && {takes}) begin"
        yield f"      count <= count == {many - 1} ? 8'd0 : count + 8'd1;"
        yield f"      kept <= {shifted};"
        yield "    end\n  end"


def _table(rows: Mapping[str, str]) -> str:
    return ",\n".join(f"    .{escaped(name)}({value})" for name, value in rows.items())


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def _ranges(port: Port) -> str:
    return "".join(f"[{left}:{right}]" for left, right in port.ranges)


def _zero(bits: int) -> str:
    return f"{bits}'d0"
