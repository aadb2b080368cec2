# SPDX-License-Identifier: Apache-2.0
"""``fpsim simulators`` and ``completion``: the HDL simulators found, and a shell's completion."""

from __future__ import annotations

import argparse
import os
import shlex

from fpsim.base.errors import SimulatorMissing
from fpsim.cli.output import Commands, print_json, table

__all__ = ["register"]


def _simulators(args: argparse.Namespace) -> int:
    from fpsim.hdl.bench.simulator import SIMULATORS, VHDL_SIMULATORS, find

    if args.env:
        for name, value in find("verilator").environment.items():
            before = os.environ.get(name, "")
            if name == "PATH" and value.endswith(f"{os.pathsep}{before}"):
                first = value.removesuffix(before)
                print(f'export PATH={shlex.quote(first)}"$PATH"')
            else:
                print(f"export {name}={shlex.quote(value)}")
        return 0
    rows = []
    for name in (*SIMULATORS, *VHDL_SIMULATORS):
        row = {"name": name, "version": None, "how": ""}
        try:
            row["version"] = find(name).version
        except SimulatorMissing as error:
            row["how"] = str(error).removeprefix("simulator: ")
        rows.append(row)
    if args.json:
        print_json(rows)
        return 0
    cells = [[r["name"], r["version"] or "missing", r["how"] or ""] for r in rows]
    table("Simulators", ["name", "version", "how to get it"], cells)
    return 0


def _completion(args: argparse.Namespace) -> int:
    import shtab

    from fpsim.cli import parser

    print(shtab.complete(parser(), shell=args.shell))
    return 0


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "simulators", _simulators, "List HDL simulators found, and how to install the others",
        examples=["simulators", 'simulators --env   # eval "$(fpsim simulators --env)"'],
    )  # fmt: skip
    sub.add_argument(
        "--env", action="store_true",
        help="print shell commands that put the installed Verilator on the path of cocotb's runner "
        "and of makefiles",
    )  # fmt: skip

    sub = commands.add(
        "completion", _completion, "Print a script that completes commands in a shell",
        reports=False,
        examples=[
            "completion bash > ~/.local/share/bash-completion/completions/fpsim",
            "completion zsh > ~/.zfunc/_fpsim",
        ],
    )  # fmt: skip
    sub.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell")
