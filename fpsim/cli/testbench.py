# SPDX-License-Identifier: Apache-2.0
"""``fpsim vectors``, ``rtl``, ``verify``: golden vectors and the RTL they are for."""

from __future__ import annotations

import argparse
from pathlib import Path

import fpsim
from fpsim import vectors
from fpsim.cli.output import INCOMPLETE, Commands, print_json, table
from fpsim.errors import FpsimError
from fpsim.progress import bar

__all__ = ["register"]


def _vectors(args: argparse.Namespace) -> int:
    if args.check is not None:
        checked = vectors.check(args.check)
        print(
            f"{args.check}: {checked.count} vectors of {checked.spec.name}, "
            "each as the unit gives it"
        )
        return 0
    if args.unit is None or args.out is None:
        raise FpsimError("vectors: give a unit and --out DIR, or --check DIR")
    made = vectors.generate(
        fpsim.get_unit(args.unit),
        strategy=args.strategy,
        count=args.count,
        seed=args.seed,
        exponents=args.exponents,
        load=not args.no_load,
    )
    path = vectors.write(made, args.out)
    rows = [[s.name, s.count] for s in made.sections]
    if args.json:
        print_json(
            {
                "unit": made.spec.name,
                "count": made.count,
                "out": str(path),
                "sections": {s.name: s.count for s in made.sections},
            }
        )
    else:
        table(f"{made.count} vectors of {made.spec.name} in {path}", ["section", "vectors"], rows)
    return 0


def _rtl(args: argparse.Namespace) -> int:
    from fpsim.hdl.instantiation import instantiation

    print(instantiation(fpsim.get_unit(args.unit).spec), end="")
    return 0


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
        "vectors", _vectors, "Write golden vectors of a unit, or check a directory of them"
    )
    sub.add_argument("unit", nargs="?")
    sub.add_argument("--out", type=Path, metavar="DIR")
    sub.add_argument("--check", type=Path, metavar="DIR", help="recompute every value and checksum")
    sub.add_argument("--strategy", default="mixed", choices=vectors.STRATEGIES)
    sub.add_argument("--count", type=int, default=4096, help="least number of random vectors")
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--exponents", action="store_true", help="drive the run-time exponent too")
    sub.add_argument("--no-load", action="store_true", help="only clear and mac, no load")

    sub = commands.add(
        "rtl", _rtl, "Print the SystemVerilog instantiation of a unit", reports=False
    )
    sub.add_argument("unit")

    sub = commands.add(
        "verify", _verify, "Replay golden vectors through the unit's RTL in a simulator"
    )
    sub.add_argument("unit")
    sub.add_argument("--simulator", default="verilator", choices=["verilator", "icarus"])
    sub.add_argument("--vectors", type=Path, metavar="DIR", help="default: generated, seed 1")
    sub.add_argument("--build", type=Path, default=Path("out/rtl"), metavar="DIR")
