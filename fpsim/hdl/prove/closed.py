# SPDX-License-Identifier: Apache-2.0
"""A design closed for a proof: open inputs are the codes of one vector, and its operation.

The module ``fpsim_closed`` holds the harness of the benches around the design and a driver that
tells it one vector, takes the result, and compares. Pulsing ``fp_start`` tells it the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.beat_plan import Beat, BeatPlan, Mark
from fpsim.hdl.bench.harness import Harness, net
from fpsim.hdl.bench.serialise import Serialiser
from fpsim.hdl.dut.dut import EXPONENT_BITS, Dut, Wires
from fpsim.hdl.dut.ports import Port
from fpsim.hdl.dut.wires import Piece
from fpsim.hdl.prove.encoded import WireText
from fpsim.hdl.prove.netlist import ClockedNetlist, parse_btor
from fpsim.hdl.prove.read_design import read_design
from fpsim.units.spec import MacSpec

__all__ = ["TOP", "ClosedDesign", "closed_design"]

TOP = "fpsim_closed"


@dataclass(frozen=True)
class ClosedDesign:
    """A netlist that tells a design one vector.

    Inputs: ``fp_start`` (the first clock of a vector), ``fp_op`` (index in `ways`), ``fp_reset``,
    the codes of `fields`, and the results ``fp_before`` and ``fp_after`` that count as right.
    Outputs: see `fpsim.hdl.prove.steps`.
    """

    dut: Dut
    plan: BeatPlan
    ways: tuple[str, ...]  #: operations, and detours such as ``load+mac``
    entries: dict[str, int]  #: clocks that a way takes at least
    fields: dict[str, tuple[str, int]]  #: input: the field it is a code of, its bits
    loose: dict[str, int]  #: inputs that the design has while no beat is there, and their bits
    netlist: ClockedNetlist
    watched: tuple[str, ...]  #: outputs that show nets inside the design

    @property
    def latency(self) -> int | None:
        """Clocks after which a result is there; None: the design says when."""
        if self.dut.clock is None:
            return 0
        return self.dut.output.latency if self.dut.output.valid is None else None


def closed_design(
    dut: Dut,
    spec: MacSpec,
    k: int,
    group: int,
    ports: Mapping[str, Port] | None,
    timeout: float,
    watch: tuple[str, ...] = (),
) -> ClosedDesign:
    """Return a design as a netlist that is told one vector.

    Args:
        dut: the design; its latency is known.
        spec: the unit.
        k: elements of a vector.
        group: elements per scale; 0: no scales.
        ports: ports of the design, if they are known.
        timeout: seconds for Yosys.
        watch: ends of names of nets inside that become outputs.

    Returns:
        The netlist, and the meaning of its inputs.

    Raises:
        FpsimError: a design that no proof takes: VHDL, an adapter, several clocks; or sources that
            Yosys refuses.
    """
    if dut.vhdl:
        raise FpsimError("sources: VHDL, which Yosys does not read here; allowed: Verilog")
    if dut.adapter is not None:
        raise FpsimError("adapter: Python makes its beats, which no solver reads; map the ports")
    _check_told(dut)
    writer = Serialiser(dut, spec, k, group)
    text = _Text(dut, writer, ports)
    with TemporaryDirectory(prefix="fpsim-prove-") as scratch:
        found = read_design(dut, TOP, text.module(), Path(scratch), timeout, watch)
    netlist = parse_btor(found)
    watched = tuple(name for name in netlist.outputs if not name.startswith("fp_"))
    return ClosedDesign(
        dut, writer.plan, text.ways, {w: len(e) for w, e in text.entries.items()}, text.fields,
        text.loose, netlist, watched,
    )  # fmt: skip


def _check_told(dut: Dut) -> None:
    """Refuse designs that only a simulation can be told vectors."""
    biased = any(w.bias is not None for b in dut.input.beats for w in b.fields.values())
    alone = dut.carries("a_scale") != dut.carries("b_scale")
    given = {
        "memories": dut.memories,
        "files": dut.files,
        "input.delay": dut.input.delay,
        "output.flush": dut.output.flush,
        "input.beats.exp.bias": biased,
        "input.beats: one scale alone": alone,
    }
    for key, value in given.items():
        if value:
            raise FpsimError(f"{key}: not in a proof yet; `fpsim verify` takes it")


@dataclass(frozen=True)
class _Entry:
    """A clock or more of a vector: a beat, or a wait."""

    kind: str  #: beat, pause, wait, reset
    beat: Beat | None = None


class _Text:
    """The text of ``fpsim_closed``."""

    def __init__(self, dut: Dut, writer: Serialiser, ports: Mapping[str, Port] | None) -> None:
        self.dut, self.plan = dut, writer.plan
        self.harness = Harness(dut, writer, ports)
        plan = writer.plan
        self.entries = {way: list(self._entries(beats)) for way, beats in plan.beats.items()}
        self.ways = tuple(self.entries)
        self.fields: dict[str, tuple[str, int]] = {}
        self.loose: dict[str, int] = {}
        self.wires = WireText("fp_w")
        self._coded: dict[tuple[str, int], str] = {}
        self._fits: list[str] = []

    def _entries(self, beats: list[Beat]) -> Iterator[_Entry]:
        latency = self.dut.output.latency if self.dut.output.valid is None else None
        for beat in beats:
            if beat.marks == Mark.RESET:
                clocks = self.dut.reset.clocks if self.dut.reset else 0
                yield from [_Entry("reset")] * clocks
            elif beat.marks == Mark.WAIT:
                yield from [_Entry("wait")] if latency is None else [_Entry("pause")] * latency
            elif beat.marks == Mark.PAUSE:
                yield _Entry("pause")
            else:
                yield _Entry("beat", beat)

    # -- parts ---------------------------------------------------------------------------------

    def module(self) -> str:
        """Return the whole text."""
        dut, plan = self.dut, self.plan
        cases = self._cases()
        result = self._result()
        harness = self.harness.instance()
        inputs = {"fp_clock": 1, "fp_start": 1, "fp_op": 8, "fp_reset": 1}
        inputs |= {"fp_before": plan.widths["acc"], "fp_after": plan.widths["acc"]}
        inputs |= {name: bits for name, (_, bits) in self.fields.items()} | self.loose
        width = plan.widths["acc"]
        outputs = {"fp_done": 1, "fp_same_before": 1, "fp_same_after": 1, "fp_told": 1,
                   "fp_code_before": width, "fp_code_after": width}  # fmt: skip
        rows = [f"  input  wire [{w - 1}:0] {name}" for name, w in inputs.items()]
        rows += [f"  output wire [{w - 1}:0] {name}" for name, w in outputs.items()]
        nets = self.harness.inputs() | self.harness.outputs()
        lines = [f"module {TOP} (", ",\n".join(rows), ");"]
        lines += [f"  wire [{w - 1}:0] {name};" for name, w in nets.items()]
        lines += self._driver()
        lines += self.wires.lines
        lines += cases
        lines += result
        if dut.clock:
            lines.append(f"  assign {net(dut.clock)} = fp_clock;")
        if dut.reset:
            off = "~" if dut.reset.active_low else ""
            lines.append(f"  assign {net(dut.reset.port)} = {off}(fp_reset | fp_held);")
        if dut.output.ready:
            low = dut.output.ready.startswith("!")
            lines.append(f"  assign {net(dut.output.ready)} = 1'b{int(not low)};")
        return "\n".join([*lines, harness, "endmodule", ""])

    def _driver(self) -> list[str]:
        """Return the registers that say how far the vector is."""
        dut = self.dut
        ready = _level(dut.input.ready) if dut.input.ready else "1'b1"
        lines = [
            "  reg  [15:0] fp_at_q, fp_answers_q, fp_issued_q;",
            "  wire [15:0] fp_at = fp_start ? 16'd0 : fp_at_q;",
            "  wire [15:0] fp_answers = fp_start ? 16'd0 : fp_answers_q;",
            "  wire [15:0] fp_issued = fp_start ? 16'd0 : fp_issued_q;",
            "  reg  fp_present, fp_pause, fp_wait, fp_held, fp_answer, fp_compare;",
            f"  wire fp_ready = {ready};",
            "  wire fp_taken = fp_present & fp_ready;",
            "  wire [15:0] fp_issued_d = fp_issued + (fp_taken & fp_answer);",
        ]
        if dut.input.valid:
            low = "~" if dut.input.valid.startswith("!") else ""
            lines.append(f"  assign {net(dut.input.valid)} = {low}fp_present;")
        return lines

    def _cases(self) -> list[str]:
        """Return the values on every input of the design, for every clock of every operation."""
        inputs = self.plan.inputs
        lines = [f"  reg [{f.width - 1}:0] fp_n{i};" for i, f in enumerate(inputs)]
        lines += [f"  assign {net(f.port)} = fp_n{i};" for i, f in enumerate(inputs)]
        lines += [
            "  always @* begin",
            "    fp_present = 0; fp_pause = 0; fp_wait = 0; fp_held = 0;",
            "    fp_answer = 0; fp_compare = 0;",
        ]
        for i, f in enumerate(inputs):
            if f.quiet is None:
                self.loose[f"fp_loose{i}"] = f.width
            quiet = f"fp_loose{i}" if f.quiet is None else f"{f.width}'d{f.quiet}"
            lines.append(f"    fp_n{i} = {quiet};")
        lines.append("    case (fp_op)")
        for number, (_, entries) in enumerate(self.entries.items()):
            lines.append(f"      8'd{number}: case (fp_at)")
            for at, entry in enumerate(entries):
                lines.append(f"        16'd{at}: begin {self._entry(entry)} end")
            lines.append("        default: ;\n      endcase")
        return [*lines, "      default: ;", "    endcase", "  end"]

    def _entry(self, entry: _Entry) -> str:
        flag = {"pause": "fp_pause", "wait": "fp_wait", "reset": "fp_held"}.get(entry.kind)
        if flag:
            return f"{flag} = 1;"
        assert entry.beat is not None
        parts = ["fp_present = 1;"]
        if Mark.ANSWER in entry.beat.marks:
            parts.append("fp_answer = 1;")
        if Mark.COMPARE in entry.beat.marks:
            parts.append("fp_compare = 1;")
        for i, f in enumerate(self.plan.inputs):
            pieces = entry.beat.ports[f.port]
            if pieces:
                parts.append(f"fp_n{i} = {{{', '.join(self._piece(p) for p in pieces)}}};")
        return " ".join(parts)

    def _piece(self, piece: Piece) -> str:
        if not piece.name:
            return f"{piece.width}'d{piece.value}"
        high = piece.shift + piece.width - 1
        return f"{self._wires_of(piece.name, piece.lane)}[{high}:{piece.shift}]"

    def _wires_of(self, name: str, lane: int) -> str:
        """Return the pattern of an element; its code becomes an input of the module."""
        key = (name, lane)
        if key not in self._coded:
            width, wires = self.plan.widths[name], self.plan.wires[name]
            signed = wires.signed or name == "exp"
            code = f"fp_{name}_{lane}"
            if name == "exp" and not self.plan.group:
                code = self.wires.wire(EXPONENT_BITS, f"{EXPONENT_BITS}'d0")
            else:
                self.fields[code] = (name, width)
            self._fits.append(self.wires.fits(code, width, wires, signed))
            self._coded[key] = self.wires.encoded(code, width, wires, signed)
        return self._coded[key]

    def _result(self) -> list[str]:
        """Return the registers that take results, and the comparison."""
        plan, dut = self.plan, self.dut
        width, wires = plan.widths["acc"], plan.wires["acc"]
        outputs = plan.outputs
        total = sum(f.width for f in outputs)
        seen = ", ".join(f"{net(f.port)}[{f.width - 1}:0] & {f.width}'d{f.mask}" for f in outputs)
        lines = [f"  wire [{total - 1}:0] fp_seen = {{{seen}}};"]
        latency = dut.output.latency if dut.output.valid is None else None
        latency = 0 if dut.clock is None else latency
        if latency is None:
            assert dut.output.valid is not None
            lines += [
                f"  wire fp_came = {_level(dut.output.valid)};",
            ]
            # The result of the n-th answer is compared; a way has one that is.
            lines.append("  reg [15:0] fp_wanted;\n  always @* begin\n    fp_wanted = 16'hffff;")
            lines.append("    case (fp_op)")
            for number, entries in enumerate(self.entries.values()):
                count = 0
                for entry in entries:
                    marks = entry.beat.marks if entry.beat else Mark(0)
                    if Mark.COMPARE in marks:
                        lines.append(f"      8'd{number}: fp_wanted = 16'd{count};")
                    count += Mark.ANSWER in marks
            lines.append("      default: ;\n    endcase\n  end")
            lines.append("  wire fp_takes = fp_came & (fp_answers == fp_wanted);")
            lines.append("  wire fp_stray = fp_came & (fp_answers >= fp_issued_d);")
        elif latency == 0:
            lines += [
                "  wire fp_came = 1'b0;",
                "  wire fp_takes = fp_taken & fp_compare;",
                "  wire fp_stray = 1'b0;",
            ]
        else:
            lines += [
                f"  reg [{latency}:1] fp_due_q;",
                f"  wire [{latency}:1] fp_due = fp_start ? {latency}'d0 : fp_due_q;",
                "  wire fp_came = 1'b0;",
                f"  wire fp_takes = fp_due[{latency}];",
                "  wire fp_stray = 1'b0;",
                f"  wire [{latency}:0] fp_due_d = {{fp_due, fp_taken & fp_compare}};",
                f"  always @(posedge fp_clock) fp_due_q <= fp_due_d[{latency - 1}:0];",
            ]
        early = "fp_count == 16'd" + str((latency or 1) - 1) if latency else "1'b0"
        lines += [
            f"  reg [{total - 1}:0] fp_got_q, fp_first_q;",
            "  reg fp_has_q, fp_bad_q;",
            "  reg [15:0] fp_count_q;",
            "  wire [15:0] fp_count = fp_start ? 16'd0 : fp_count_q;",
            "  wire fp_has = fp_start ? 1'b0 : fp_has_q;",
            "  wire fp_bad = fp_start ? 1'b0 : fp_bad_q;",
            "  wire fp_waited = fp_wait & (fp_answers + fp_came >= fp_issued);",
            "  wire fp_moves = fp_taken | fp_pause | fp_held | fp_waited;",
            "  always @(posedge fp_clock) begin",
            "    fp_at_q <= fp_at + fp_moves;",
            "    fp_answers_q <= fp_answers + fp_came;",
            "    fp_issued_q <= fp_issued_d;",
            "    fp_count_q <= fp_count + 16'd1;",
            "    fp_has_q <= fp_has | fp_takes;",
            "    fp_bad_q <= fp_bad | fp_stray;",
            f"    if (fp_takes) fp_got_q <= fp_seen; else if (fp_start) fp_got_q <= {total}'d0;",
            f"    if ({early}) fp_first_q <= fp_seen;",
            "  end",
        ]
        for side, got in (("before", "fp_first_q"), ("after", "fp_got_q")):
            lines.append(f"  wire [{total - 1}:0] fp_wires_{side} = {got};")
            lines += self._compared(side, width, wires, total)
        told = " & ".join([*self._fits, self.wires.fits("fp_after", width, wires, wires.signed)])
        lines.append(f"  assign fp_told = {told};")
        lines.append("  assign fp_done = fp_has_q;")
        return lines

    def _compared(self, side: str, width: int, wires: Wires, total: int) -> Iterator[str]:
        """Yield the comparison of the wires of a result with a code, and the code on them."""
        pattern = self.wires.encoded(f"fp_{side}", width, wires, wires.signed)
        bits = wires.element_bits or width
        expected, element, at = [], [""] * bits, total
        for f in self.plan.outputs:
            at -= f.width
            pieces = self.plan.results[f.port]
            low = sum(p.width for p in pieces)
            gap = f.width - low
            expected += [f"{gap}'d0"] if gap else []
            place = at + low
            for piece in pieces:
                place -= piece.width
                if not piece.name:
                    expected.append(f"{piece.width}'d0")
                    continue
                high = piece.shift + piece.width - 1
                expected.append(f"{pattern}[{high}:{piece.shift}]")
                for i in range(piece.width):
                    element[piece.shift + i] = f"fp_wires_{side}[{place + i}]"
        yield f"  wire [{bits - 1}:0] fp_element_{side} = {{{', '.join(reversed(element))}}};"
        # Declared after the wires that it reads, so it has a text of its own.
        text = WireText(f"fp_{side}_w")
        code = text.decoded(f"fp_element_{side}", width, wires)
        yield from text.lines
        equal = f"(fp_wires_{side} == {{{', '.join(expected)}}})"
        alike = WireText(f"fp_{side}_v")
        fmt, comparison = self.plan.spec.result, self.dut.comparison
        if comparison.any_nan:
            seen, due = alike.is_nan(code, fmt), alike.is_nan(f"fp_{side}", fmt)
            equal += f" | ({seen} & {due})"
        if comparison.any_zero:
            seen, due = alike.is_zero(code, fmt), alike.is_zero(f"fp_{side}", fmt)
            equal += f" | ({seen} & {due})"
        yield from alike.lines
        bad = " & ~fp_bad_q" if side == "after" else ""
        yield f"  assign fp_same_{side} = ({equal}){bad};"
        yield f"  assign fp_code_{side} = {code};"


def _level(port: str) -> str:
    """Return whether a port that may be active low says yes."""
    return f"~{net(port)}" if port.startswith("!") else net(port)
