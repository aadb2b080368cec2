# SPDX-License-Identifier: Apache-2.0
"""``fpsim prove``: proves that a design equals a unit for all inputs, or finds a counterexample."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import fpsim
from fpsim.base.progress import bar
from fpsim.cli.output import INCOMPLETE, Commands, print_json
from fpsim.cli.tables import add_tables, no_tables, tables_of

__all__ = ["register"]

#: Exit status if time ran out, or if a simulation did not reach the counterexample.
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
        "prove", _prove, "Prove that a design, or the reference RTL, equals a unit for all inputs",
        examples=[
            "prove e2m1-chain-e5m10",
            "prove own-mac.toml --dut dut.toml --timeout 600 --json",
            "prove e2m1-fixed24q2 --dut rtl_tests/examples/dot4/dut.toml",
        ],
    )  # fmt: skip
    sub.add_argument("unit", help="a name or a .toml file")
    text = "your design; default: prove the reference RTL against the exact model"
    sub.add_argument("--dut", type=Path, metavar="TOML", help=text)
    add_tables(sub)
    text = "time limit of all cases together; cases left undecided are listed"
    sub.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help=text)
    text = "simulator of a counterexample; default: the first that is installed"
    sub.add_argument("--simulator", choices=["verilator", "icarus"], help=text)
    text = "folder of a counterexample's simulation"
    sub.add_argument("--build", type=Path, default=Path("out/rtl"), metavar="DIR", help=text)
    sub.epilog = (sub.epilog or "") + (
        "\n\nexit status: 0 proved; 1 a counterexample; 2 bad input; 3 not decided in the time"
    )
