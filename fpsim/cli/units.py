# SPDX-License-Identifier: Apache-2.0
"""``fpsim units`` and ``trace``: descriptions of units, and one dot product node by node."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from typing import Any

import fpsim
from fpsim.base.errors import FpsimError
from fpsim.cli.output import Commands, code, print_json, table
from fpsim.oracle.trace_lines import trace_lines
from fpsim.units.grammar import GRAMMAR
from fpsim.units.spec import MacSpec

__all__ = ["register"]

# -- units ---------------------------------------------------------------------------------------


def _unit_row(spec: MacSpec) -> dict[str, str]:
    return {
        "name": spec.name,
        "canonical": spec.canonical_name,
        "evidence": str(spec.evidence),
        "source": spec.source,
        "equation": spec.equation,
        "description": spec.description,
    }


def _units(args: argparse.Namespace) -> int:
    if args.name == "grammar" and args.shown is None:
        return _grammar(args.json)
    if args.name == "show" and args.shown is None:
        raise FpsimError("units: show needs the name of a unit or a path ending in .toml")
    if args.name is not None and args.name != "show" and args.shown is not None:
        raise FpsimError(f"units: {args.shown!r} after {args.name!r}; one unit at a time")
    name = args.shown if args.name == "show" else args.name
    if name is not None:
        return _show(fpsim.get_unit(name).spec, args.json)
    published = [fpsim.get_unit(n).spec for n in fpsim.unit_names()]
    silicon = [fpsim.get_unit(n).spec for n in fpsim.preset_names()]
    if args.json:
        print_json([_unit_row(spec) for spec in (*published, *silicon)])
        return 0
    rows = [[s.name, s.description] for s in published]
    table("Published units; any canonical name works too", ["name", "what it is"], rows)
    rows = [[s.name, str(s.evidence), s.description] for s in silicon]
    table("Units of real silicon", ["name", "evidence", "what it is"], rows)
    return 0


def _grammar(as_json: bool) -> int:
    if as_json:
        print_json([asdict(part) for part in GRAMMAR])
        return 0
    print("OPERANDS-STAGE[-SETTING...], such as e2m1-chain-e5m10-rtz")
    rows = [[part.part, part.form, part.meaning, part.example] for part in GRAMMAR]
    table("Canonical names of units", ["part", "form", "what it says", "example"], rows)
    return 0


def _show(spec: MacSpec, as_json: bool) -> int:
    row = _unit_row(spec)
    if as_json:
        print_json([row | {"toml": spec.to_toml()}])
        return 0
    print(spec.equation)
    for key in ("evidence", "source"):
        if row[key]:
            print(f"{key}: {row[key]}")
    print(f"\n{spec.to_toml()}", end="")
    return 0


# -- trace ---------------------------------------------------------------------------------------


def _trace(args: argparse.Namespace) -> int:
    unit = fpsim.get_unit(args.unit)
    spec = unit.spec
    given: dict[str, Any] = {"a": args.a, "b": args.b}
    for name in ("a_scale", "b_scale"):
        codes = getattr(args, name)
        if codes is None:
            continue
        if spec.splits(name[0]):
            if len(codes) % 2:
                raise FpsimError(
                    f"{name}: {len(codes)} codes; {spec.name} takes pairs, for the element "
                    "codes without the sign bit and with it"
                )
            codes = list(zip(codes[::2], codes[1::2], strict=True))
        given[name] = codes
    if args.c is not None:
        given["c"] = args.c
    if args.block is not None:
        given["block"] = args.block
    if args.random is not None:
        given["random"] = args.random
    trace = unit.trace(**given)
    value = float(unit.result.decode([trace.code])[0])
    if args.json:
        shown = value if math.isfinite(value) else str(value)
        data = {"unit": spec.name, "equation": spec.equation, "value": shown}
        print_json(data | trace.to_dict())
        return 0
    start = args.c or 0
    first = [0, "acc before", float(spec.initial.decode([start])[0]), "", "", f"0x{start:x}", ""]
    columns = ["step", "node", "value", "on its grid", "exponent", "code", "flags"]
    rows = [first, *map(list, trace_lines(trace.nodes, args.all))]
    table(f"{spec.name}: {value} (0x{trace.code:x})", columns, rows)
    return 0


def register(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add(
        "units",
        _units,
        "List units with their evidence, show one (equation, source, TOML), or print the grammar "
        "of their names",
        examples=["units", "units show nvidia-h100-e4m3", "units e2m1-fixed14q4", "units grammar"],
    )
    sub.add_argument(
        "name",
        nargs="?",
        metavar="[show] NAME | grammar",
        help="name or .toml file of a unit to show; grammar: how names are built",
    )
    sub.add_argument("shown", nargs="?", help=argparse.SUPPRESS)

    sub = commands.add(
        "trace", _trace, "Show every internal node of one dot product",
        examples=[
            "trace e2m1-chain-e5m10 --a 7 2 --b 7 0xF",
            "trace nvidia-h100-e4m3 --a 0x38 0x01 --b 0x38 0x38 --c 0x3f800000",
            "trace mxfp4-block32-e8m23 --a 2 2 --b 2 2 --a-scale 128 --b-scale 126 --block 32",
        ],
    )  # fmt: skip
    sub.add_argument("unit", help="a name or a .toml file")
    for option in ("--a", "--b"):
        sub.add_argument(option, nargs="+", type=code, required=True, help="codes, such as 7 0xF")
    sub.add_argument("--c", type=code, help="code of the initial accumulator; +0 if absent")
    for option in ("--a-scale", "--b-scale"):
        sub.add_argument(
            option,
            nargs="+",
            type=code,
            help="scale codes, one per block; two if the scale format is split by sign",
        )
    sub.add_argument(
        "--block", type=int, help="elements per scale, if scales do not divide K evenly"
    )
    sub.add_argument(
        "--random", nargs="+", type=code, help="for sr: random integers, in order of use"
    )
    sub.add_argument("--all", action="store_true", help="do not shorten long sums")
