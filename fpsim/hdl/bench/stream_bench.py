# SPDX-License-Identifier: Apache-2.0
"""A bench for designs of streams: words go in and come out by valid and ready, and are compared.

It is generated SystemVerilog, for designs that are no MAC: arrays, quantizers. Every input stream
moves on its own, to show a design that wrongly waits for one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.hdl.bench import child_process
from fpsim.hdl.bench.build_dir import SimulationFailed
from fpsim.hdl.bench.simulator import Simulator, environment_of
from fpsim.hdl.rtl.parameters import RtlTop

__all__ = ["Feedback", "InputStream", "OutputStream", "StreamRun", "run_streams"]

SECONDS = 600.0
_TEMPLATE = Path(__file__).parent / "templates" / "stream_bench.sv.in"
_TOP, _SHARES = "stream_bench", 1 << 16


@dataclass(frozen=True)
class Feedback:
    """An input that takes results: the bits of a word from ``lsb`` on are an earlier result.

    The result of ``behind`` words before, unless the word's flag, the bit above its ports, is 1.
    """

    lsb: int
    behind: int


@dataclass(frozen=True)
class InputStream:
    """Words for ports that are taken together; the first port is in a word's low bits."""

    name: str
    valid: str
    ready: str
    ports: Mapping[str, int]  #: width by name
    words: Sequence[int]
    feedback: Feedback | None = None

    @property
    def bits(self) -> int:
        """Width of a word, the flag of a feedback included."""
        return sum(self.ports.values()) + (self.feedback is not None)


@dataclass(frozen=True)
class OutputStream:
    """Words expected from ports, and which of their bits count."""

    valid: str
    ready: str
    ports: Mapping[str, int]
    words: Sequence[int]
    compared: Sequence[int]

    @property
    def bits(self) -> int:
        """Width of a word."""
        return sum(self.ports.values())


@dataclass(frozen=True)
class StreamRun:
    """The outcome of a simulation of streams."""

    results: int  #: words that came
    wanted: int  #: words that should have come
    unexpected: int  #: words that came after those
    mismatches: int
    first: tuple[int, int, str] | None  #: index, expected, seen (hexadecimal, x if unknown)
    clocks: int  #: from the first word in to the last one out, both included

    @property
    def passed(self) -> bool:
        """Whether all expected results came, no others, and all were right."""
        return self.results == self.wanted and not self.mismatches and not self.unexpected


def run_streams(
    top: RtlTop,
    inputs: Sequence[InputStream],
    output: OutputStream,
    tool: Simulator,
    directory: Path,
    *,
    stall: float = 0.0,
    hold: float | None = None,
    seed: int = 1,
    apart: Sequence[str] = (),
) -> StreamRun:
    """Simulate a design with its streams.

    Args:
        top: the design.
        inputs: words for its inputs.
        output: words expected of its output.
        tool: the simulator.
        directory: where bench, words and build go.
        stall: share of clocks, in 0..1, without a word offered.
        hold: share of clocks without a word taken; None: as many as ``stall``.
        seed: of the random choice of both.
        apart: modules that Verilator compiles once, however often they stand in the design.

    Returns:
        The outcome.

    Raises:
        SimulationFailed: the simulator refuses the design, or the simulation does not end well.
    """
    directory = directory.resolve()
    folder = directory / "words"
    for name, words, bits in (
        *((stream.name, stream.words, stream.bits) for stream in inputs),
        ("expected", output.words, output.bits),
        ("compared", output.compared, output.bits),
    ):
        digits = -(-bits // 4)
        text = "".join(f"{word:0{digits}x}\n" for word in words)
        write_atomic(folder / f"{name}.hex", text.encode())
    bench = write_atomic(directory / f"{_TOP}.sv", _bench(top, inputs, output).encode())
    sources = [*map(str, top.sources), str(bench)]
    if apart and tool.name == "verilator":
        blocks = "".join(f'hier_block -module "{module}"\n' for module in apart)
        path = write_atomic(directory / "apart.vlt", f"`verilator_config\n{blocks}".encode())
        sources = ["--hierarchical", str(path), *sources]
    _launch(_build_command(tool, sources, directory), "build", tool, directory)
    shares = {"stall": stall, "hold": stall if hold is None else hold}
    plus = {"folder": str(folder), "seed": str(seed)}
    plus |= {name: str(round(share * _SHARES)) for name, share in shares.items()}
    icarus = tool.name == "icarus"
    command = (
        ["vvp", "-n", str(directory / "bench.vvp")]
        if icarus
        else [str(directory / "native" / "bench")]
    )
    command += [f"+{name}={value}" for name, value in plus.items()]
    log = _launch(command, "run", tool, directory)
    return _parsed(log.read_text(encoding="utf-8").splitlines(), len(output.words))


def _build_command(tool: Simulator, sources: Sequence[str], directory: Path) -> list[str]:
    if tool.name == "icarus":
        return ["iverilog", "-g2012", "-o", str(directory / "bench.vvp"), "-s", _TOP, *sources]
    command = ["verilator", "--binary", "--timing", "-O3", "-Wno-fatal", "-Wno-lint"]
    command += ["--top-module", _TOP, "-Mdir", str(directory / "native"), "-o", "bench"]
    return [*command, "-CFLAGS", "-fcoroutines -std=c++20 -O1", *sources]


def _launch(command: Sequence[str], action: str, tool: Simulator, directory: Path) -> Path:
    log = directory / f"{action}.log"
    try:
        status = child_process.run(
            command, log=log, timeout=SECONDS, cwd=directory, environment=environment_of(tool)
        )
    except child_process.TimeLimitReached:
        raise SimulationFailed(
            f"{action}: {tool} did not end within {SECONDS:.0f} s and was stopped"
        ) from None
    if status:
        errors = child_process.log_errors(log)
        raise SimulationFailed(f"{action}: {tool} failed (status {status}):\n{errors}")
    return log


def _parsed(lines: Sequence[str], wanted: int) -> StreamRun:
    ends = [line.split() for line in lines if line.startswith("END ")]
    if not ends:
        raise SimulationFailed("run: the bench ended without a result: the design stopped it")
    results, unexpected, mismatches, clocks = map(int, ends[0][1:])
    rows = [line.split() for line in lines if line.startswith("MISMATCH ")]
    first = (int(rows[0][1]), int(rows[0][2], 16), rows[0][3]) if rows else None
    return StreamRun(results, wanted, unexpected, mismatches, first, clocks)


# -- the text --------------------------------------------------------------------------------------


def _bench(top: RtlTop, inputs: Sequence[InputStream], output: OutputStream) -> str:
    text = _TEMPLATE.read_text("utf-8")
    told = {
        "title": f"bench of {top.name}",
        "results": str(len(output.words)),
        "result_bits": str(output.bits),
        "declarations": "\n".join(_declared(stream) for stream in inputs),
        "instance": _instance(top, inputs, output),
        "read": "\n".join(_started(stream) for stream in inputs),
        "present": "\n".join(_presented(stream) for stream in inputs),
        "take": "\n".join(_taken(stream) for stream in inputs),
    }
    for key, value in told.items():
        text = text.replace(f"@{key}@", value)
    return text


def _declared(stream: InputStream) -> str:
    name, last = stream.name, stream.bits - 1
    return (
        f"  reg [{last}:0] {name} [0:{len(stream.words) - 1}];\n"
        f"  reg [{last}:0] {name}_word;\n"
        f"  integer {name}_at;\n"
        f"  reg {name}_valid, {name}_taken;\n"
        f"  wire {name}_ready;"
    )


def _started(stream: InputStream) -> str:
    name = stream.name
    return (
        f'    $readmemh({{folder, "/{name}.hex"}}, {name});\n'
        f"    {name}_at = 0;\n    {name}_valid = 0;\n    {name}_taken = 0;\n"
        f"    {name}_word = {stream.bits}'d0;"
    )


def _presented(stream: InputStream) -> str:
    """A word, once shown, stays until it is taken."""
    name, back = stream.name, stream.feedback
    there = f"{name}_at < {len(stream.words)}"
    fill = f"{name}_word = {name}[{name}_at];"
    if back is not None:
        there += f" && ({name}[{name}_at][{stream.bits - 1}] || at + {back.behind} > {name}_at)"
        fill += (
            f"\n        if (!{name}_word[{stream.bits - 1}])"
            f" {name}_word[{back.lsb}+:RESULT_W] = seen[{name}_at-{back.behind}];"
        )
    return (
        f"      if ({name}_taken) {name}_valid = 0;\n"
        f"      {name}_taken = 0;\n"
        f"      roll;\n"
        f"      if (!{name}_valid && {there} && lfsr[31:16] >= stall) begin\n"
        f"        {fill}\n"
        f"        {name}_valid = 1;\n"
        f"      end"
    )


def _taken(stream: InputStream) -> str:
    name = stream.name
    return (
        f"      if ({name}_valid && {name}_ready === 1'b1) begin\n"
        f"        if (first < 0) first = clocks;\n"
        f"        {name}_at = {name}_at + 1;\n"
        f"        {name}_taken = 1;\n"
        f"        quiet = 0;\n"
        f"      end"
    )


def _instance(top: RtlTop, inputs: Sequence[InputStream], output: OutputStream) -> str:
    ports = {top.clock: "clk", top.reset: "rst_n"}
    for stream in inputs:
        name, low = stream.name, 0
        ports |= {stream.valid: f"{name}_valid", stream.ready: f"{name}_ready"}
        for port, width in stream.ports.items():
            ports[port] = f"{name}_word[{low + width - 1}:{low}]"
            low += width
    ports |= {output.valid: "valid", output.ready: "ready"}
    low = 0
    for port, width in output.ports.items():
        ports[port] = f"result[{low + width - 1}:{low}]"
        low += width
    missing = [port for port in (*top.inputs, *top.outputs) if port not in ports]
    if missing:
        raise FpsimError(f"bench: {top.name} has the port {missing[0]}, which no stream drives")
    parameters = ", ".join(f".{name}({value})" for name, value in top.parameters.items())
    connections = ", ".join(f".{name}({wire})" for name, wire in ports.items())
    settings = f"#({parameters}) " if parameters else ""
    return f"  {top.name} {settings}dut ({connections});"
