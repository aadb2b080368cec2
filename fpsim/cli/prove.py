# SPDX-License-Identifier: Apache-2.0
"""``fpsim prove``: a design equal to a unit for all inputs, or an input for which it is not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import fpsim
from fpsim.base.progress import bar
from fpsim.cli.output import INCOMPLETE, Commands, print_json
from fpsim.cli.tables import add_tables, no_tables, tables_of

__all__ = ["register"]

#: Exit status where the time was too short, or a counterexample was not reached in a simulation.
UNDECIDED = 3


def _prove(args: argparse.Namespace) -> int:
    from fpsim.hdl.prove.report import ProofTask, prove_reference, prove_your_design

    unit = fpsim.get_unit(args.unit)
    task = ProofTask(args.timeout, args.simulator, args.build)
    with bar(unit.name):
        if args.dut is None:
            found: Any = prove_reference(unit.spec, task, tables=tables_of(args))
        else:
            no_tables(args, "only without --dut, for the unit's own RTL")
            found = prove_your_design(unit.spec, args.dut, task)
    if args.json:
        print_json(found.to_dict())
    else:
        print(found)
    return {"proved": 0, "counterexample": INCOMPLETE}.get(found.outcome, UNDECIDED)


def register(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add(
        "prove", _prove, "Prove a design equal to a unit for all inputs, or its reference RTL",
        examples=[
            "prove e2m1-chain-e5m10",
            "prove own-mac.toml --dut dut.toml --timeout 600 --json",
            "prove e2m1-fixed24q2 --dut rtl_tests/examples/dot4/dut.toml",
        ],
    )  # fmt: skip
    sub.add_argument("unit", help="a name or a .toml file")
    text = "your design; default: the reference RTL, against the exact model"
    sub.add_argument("--dut", type=Path, metavar="TOML", help=text)
    add_tables(sub)
    text = "for all of it; what is not decided then is said"
    sub.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help=text)
    text = "for a counterexample; default: the first that is installed"
    sub.add_argument("--simulator", choices=["verilator", "icarus"], help=text)
    text = "where a counterexample is simulated"
    sub.add_argument("--build", type=Path, default=Path("out/rtl"), metavar="DIR", help=text)
    sub.epilog = (sub.epilog or "") + (
        "\n\nexit status: 0 proved; 1 a counterexample; 2 bad input; 3 not decided in the time"
    )
