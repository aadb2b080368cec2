# SPDX-License-Identifier: Apache-2.0
"""``fpsim verify``: the RTL of a unit, replayed against its golden vectors."""

from __future__ import annotations

import argparse
from pathlib import Path

import fpsim
from fpsim.cli.output import INCOMPLETE, Commands, print_json
from fpsim.progress import bar

__all__ = ["register"]


def _verify(args: argparse.Namespace) -> int:
    from fpsim.hdl.verify import verify

    unit = fpsim.get_unit(args.unit)
    with bar(f"{unit.name} on {args.simulator}") as update:
        result = verify(
            unit,
            args.simulator,
            args.build,
            args.vectors,
            lambda stage, done, total: update(done, total),
        )
    if args.json:
        print_json(
            {
                "unit": result.unit,
                "simulator": result.simulator,
                "vectors": result.vectors,
                "compared": result.compared,
                "mismatches": result.mismatch_count,
                "first": [str(m) for m in result.mismatches],
                "passed": result.passed,
            }
        )
    else:
        print(result)
        for mismatch in result.mismatches:
            print(f"  {mismatch}")
    return 0 if result.passed else INCOMPLETE


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "verify", _verify, "Replay golden vectors through the unit's RTL in a simulator"
    )
    sub.add_argument("unit")
    sub.add_argument("--simulator", default="verilator", choices=["verilator", "icarus"])
    sub.add_argument("--vectors", type=Path, metavar="DIR", help="default: generated, seed 1")
    sub.add_argument("--build", type=Path, default=Path("out/rtl"), metavar="DIR")
