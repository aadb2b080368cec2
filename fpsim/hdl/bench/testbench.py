# SPDX-License-Identifier: Apache-2.0
"""A self-checking SystemVerilog bench of a design: it reads the file of beats by itself.

The text runs in any simulator that has delays, `$fread` and plusargs; it is written for Icarus
Verilog and Verilator (``--binary --timing``):

    +stimulus=FILE   beats, as `fpsim.hdl.bench.stimulus` packs them
    +result=FILE     mismatches, and a last line ``end COMPARED MISMATCHES CLOCKS RESETS``
    +stall=N +resets=N   of 65536: clocks without a beat or result; vectors cut off by a reset
    +latency=N       clock edges to a result, where no port says when
    +seed=N +patience=N +keep=N   as `fpsim.hdl.bench.replay.Options`; mismatches that are written
    +waves=FILE      a waveform

Inputs change just after the falling clock edge, everything is read just before the rising one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.beat_plan import LineField
from fpsim.hdl.bench.harness import Harness, escaped, net
from fpsim.hdl.bench.stimulus import PACKED, BeatWriter
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.ports import Port

__all__ = ["BENCH_TOP", "testbench"]

BENCH_TOP = "fpsim_testbench"
_TEMPLATES = Path(__file__).parent / "templates"
#: Results under way that the bench can remember.
DEPTH = 4096
#: Clocks after the last result in which no other may come.
TAIL = 16


def testbench(
    dut: Dut, writer: BeatWriter, title: str, ports: Mapping[str, Port] | None = None
) -> str:
    """Return the text of the bench.

    Args:
        dut: the design.
        writer: writes its beats.
        title: first line of the text.
        ports: the ports that the design has, where they are known.

    Returns:
        SystemVerilog.

    Raises:
        FpsimError: a VHDL design.
    """
    if dut.vhdl:
        raise FpsimError("bench: a generated bench is SystemVerilog; VHDL needs the cocotb bench")
    digits, harness = writer.length - 1, Harness(dut, writer, ports)
    main = "testbench_combinational" if dut.clock is None else "testbench_clocked"
    body = "\n".join((_TEMPLATES / f"{n}.sv.in").read_text("utf-8") for n in ("testbench", main))
    fields = {
        "title": title,
        "module": BENCH_TOP,
        "digits": digits,
        "stimulus": PACKED,
        "depth": DEPTH,
        "tail": TAIL,
        "expected_bits": sum(f.width for f in writer.outputs),
        "declarations": "\n".join(_declarations(harness)),
        "instance": harness.instance(),
        "checks": "\n".join(_checks(dut, harness)),
        "drive": _assignments(writer, lambda f: _slice(f, digits)),
        "scramble": _assignments(writer, _while_no_beat),
        "zero": _assignments(writer, lambda f: _number(f.quiet or 0, f.width)),
        "hold": _assignments(writer, lambda f: _number(f.quiet or 0, f.width), quiet=True),
        "expect": ", ".join(_slice(f, digits) for f in writer.outputs),
        "differs": " || ".join(_differs(writer.outputs)),
        "seen_format": " ".join("%b" for _ in writer.outputs),
        "seen": ", ".join(net(f.port) for f in writer.outputs),
    }
    fields |= _protocol(dut)
    for name, text in fields.items():
        body = body.replace(f"@{name}@", str(text))
    return body


def _assignments(writer: BeatWriter, value: Callable[[LineField], str], quiet: bool = False) -> str:
    chosen = [f for f in writer.inputs if f.quiet is not None or not quiet]
    return "\n".join(f"      {net(f.port)} = {value(f)};" for f in chosen)


def _while_no_beat(f: LineField) -> str:
    return f"{{{-(-f.width // 32)}{{lfsr}}}}" if f.quiet is None else _number(f.quiet, f.width)


def _number(value: int, width: int) -> str:
    return f"{width}'h{value:x}"


def _slice(f: LineField, digits: int) -> str:
    low = 4 * (digits - f.stop)
    return f"line[{low + f.width - 1}:{low}]"


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def _declarations(harness: Harness) -> Iterable[str]:
    yield from (f"  reg {_range(width)}{name};" for name, width in harness.inputs().items())
    yield from (f"  wire {_range(width)}{name};" for name, width in harness.outputs().items())


def _checks(dut: Dut, harness: Harness) -> Iterable[str]:
    """Yield statements that compare the widths of ports with the elaborated design."""
    for port, width, exact in harness.widths():
        known = harness.ports.get(port)
        if known is not None and (known.ranges or known.holder):
            continue  # the elements were counted
        wrong = "!=" if exact else "<"
        need = "" if exact else "at least "
        bits = f"$bits(u_dut.{escaped(port)})"
        yield (
            f"    if ({bits} {wrong} {width}) begin\n"
            f'      $fdisplay(out, "error port: {port} of {dut.top} has %0d bits, '
            f'the mapping {need}{width}", {bits});\n'
            "      stuck = 1;\n    end"
        )


def _differs(outputs: Iterable[LineField]) -> Iterable[str]:
    """Yield comparisons with ``wanted``; only the bits that the masks select."""
    outputs = list(outputs)
    low = sum(f.width for f in outputs)
    for f in outputs:
        low -= f.width
        part = f"wanted[{low + f.width - 1}:{low}]"
        if f.mask == (1 << f.width) - 1:
            yield f"{net(f.port)} !== {part}"
        else:
            mask = f"{f.width}'h{f.mask:x}"
            yield f"({net(f.port)} & {mask}) !== ({part} & {mask})"


def _protocol(dut: Dut) -> dict[str, str]:
    """Return the expressions and statements of handshakes, reset and latency."""

    def flag(name: str | None) -> str:
        return "1'b1" if name is None else "!" * name.startswith("!") + net(name)

    def assign(name: str | None, value: str) -> str:
        if name is None:
            return ""
        return f"{net(name)} = !({value});" if name.startswith("!") else f"{net(name)} = {value};"

    timed = dut.output.valid is None
    handshake = (dut.input.valid, dut.input.ready, dut.output.valid, dut.output.ready)
    flags = [name.removeprefix("!") for name in handshake if name is not None]
    reset = dut.reset
    unknown = [
        f"(^{net(name)} === 1'bx)"
        for name in (dut.input.ready, dut.output.valid)
        if name is not None
    ]
    return {
        "clock": net(dut.clock or ""),
        "no_valid": str(int(dut.input.valid is None)),
        "no_ready": str(int(dut.output.ready is None)),
        "in_ready": flag(dut.input.ready),
        "set_valid": assign(dut.input.valid, "present"),
        "clear_valid": assign(dut.input.valid, "1'b0"),
        "raise_valid": assign(dut.input.valid, "1'b1"),
        "set_ready": assign(dut.output.ready, "takes"),
        "raise_ready": assign(dut.output.ready, "1'b1"),
        "answered": (
            "waiting != 0 && due[tail_at] == clocks"
            if timed
            else f"{flag(dut.output.valid)} && takes"
        ),
        "latency": str(dut.output.latency or 0),
        "unknown": " || ".join(unknown) or "1'b0",
        "flag_formats": ", ".join(f"{name}=%b" for name in flags) or "no handshake",
        "flag_values": "".join(f"{net(name)}, " for name in flags),
        "has_reset": str(int(reset is not None)),
        "reset_on": f"{net(reset.port)} = 1'b{int(not reset.active_low)};" if reset else "",
        "reset_off": f"{net(reset.port)} = 1'b{int(reset.active_low)};" if reset else "",
        "reset_clocks": str(reset.clocks if reset else 0),
    }  # fmt: skip
