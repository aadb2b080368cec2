# SPDX-License-Identifier: Apache-2.0
"""Everything that shows a failure again, in one file, for a colleague who has no fpsim."""

from __future__ import annotations

import io
import json
import shlex
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fpsim.base.atomic_files import write_atomic
from fpsim.base.errors import FpsimError
from fpsim.hdl.bench.stimulus import PACKED, BeatWriter, write_stimulus
from fpsim.hdl.bench.sv_bench import build_commands, run_command
from fpsim.hdl.bench.testbench import BENCH_TOP, testbench
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.dut.ports import Port
from fpsim.hdl.verify.vector_source import VectorSource

__all__ = ["write_bundle"]

_TIME = (1980, 1, 1, 0, 0, 0)
_README = """\
{headline}

This folder runs the failure again without fpsim. Its bench is plain SystemVerilog ({bench}): it
reads {stimulus}, drives the design in rtl/, compares every result and prints how many differ.

With Icarus Verilog:
    {icarus}

With Verilator:
    {verilator}

Each result that differs stands in result.txt: its number among the results, then the bits that were
seen. Add +waves=dump.vcd to the last command for a waveform.

The unit of arithmetic is {unit}: {equation}
What went wrong, step by step, is in report.txt and report.json; the vectors, with what each field
means, in vectors/.
"""


def write_bundle(
    path: Path,
    dut: Dut,
    ports: Mapping[str, Port] | None,
    source: VectorSource,
    writer: BeatWriter,
    report: tuple[str, Mapping[str, object]],
    folders: Mapping[str, Path],
) -> Path:
    """Write a zip file of a design, its bench, vectors and commands.

    Args:
        path: the file.
        dut: the design; SystemVerilog.
        ports: its ports, where they are known.
        source: the vectors to run again, such as a reproducer.
        writer: writes their beats.
        report: the findings, as text and as JSON-ready data.
        folders: files to add: name in the bundle and folder or file, if it exists.

    Returns:
        The file.

    Raises:
        FpsimError: a VHDL design, or a file that cannot be read or written.
    """
    if dut.vhdl:
        raise FpsimError("bundle: its bench is SystemVerilog; a VHDL design cannot be run by it")
    files: dict[str, bytes] = {}
    sources = []
    for i, original in enumerate(dut.sources):
        name = f"rtl/{original.name}"
        name = f"rtl/{i}_{original.name}" if name in files else name
        files[name] = _read(original)
        sources.append(Path(name))
    include = []
    for i, folder in enumerate(dut.include):
        include.append(Path(f"include{i}"))
        inside = sorted(p for p in folder.rglob("*") if p.is_file())
        files |= {f"include{i}/{p.relative_to(folder).as_posix()}": _read(p) for p in inside}
    memories: dict[str, Path] = {}
    for name, original in dut.memories.items():
        memories[name] = Path(f"memories/{len(memories)}_{original.name}")
        files[str(memories[name])] = _read(original)
    files |= {original.name: _read(original) for original in dut.files}
    for name, place in folders.items():
        inside = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else []
        files |= {f"{name}/{p.relative_to(place).as_posix()}": _read(p) for p in inside}
        if place.is_file():
            files[name] = _read(place)
    moved = replace(dut, sources=tuple(sources), include=tuple(include), memories=memories)
    text, data = report
    headline = text.splitlines()[0]
    files[f"{BENCH_TOP}.sv"] = testbench(moved, writer, headline, ports).encode()
    files[PACKED] = _stimulus(source, writer, dut.output.flush)
    files["report.txt"] = f"{text}\n".encode()
    files["report.json"] = (json.dumps(data, indent=1) + "\n").encode()
    commands = {tool: _commands(tool, moved) for tool in ("icarus", "verilator")}
    readme = _README.format(
        headline=headline, bench=f"{BENCH_TOP}.sv", unit=source.record.title,
        stimulus=PACKED,
        equation=source.equation, **commands,
    )  # fmt: skip
    files["README.txt"] = readme.encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _TIME), files[name], zipfile.ZIP_DEFLATED)
    return write_atomic(path, out.getvalue(), "bundle")


def _commands(tool: str, dut: Dut) -> str:
    build = build_commands(tool, dut, Path(f"{BENCH_TOP}.sv"), Path(), False)
    latency = f"+latency={dut.output.latency or 0}"
    run = [*run_command(tool, Path()), f"+stimulus={PACKED}", "+result=result.txt", latency]
    run[0] = f"./{run[0]}" if "/" in run[0] and not run[0].startswith(("/", ".")) else run[0]
    return "\n    ".join(shlex.join(command) for command in [*build, run])


def _stimulus(source: VectorSource, writer: BeatWriter, flush: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="fpsim-bundle-") as scratch:
        return write_stimulus(source, writer, Path(scratch) / PACKED, flush).path.read_bytes()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FpsimError(f"bundle: {path} cannot be read ({error.strerror})") from None
