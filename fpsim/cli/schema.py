# SPDX-License-Identifier: Apache-2.0
"""``fpsim schema``: JSON Schema of the TOML files, for editors that complete and check."""

from __future__ import annotations

import argparse
from typing import Any

from fpsim.cli.output import Commands, print_json

__all__ = ["KINDS", "register"]


def _unit() -> dict[str, Any]:
    from fpsim.units.schema import unit_schema

    return unit_schema()


def _block() -> dict[str, Any]:
    from fpsim.blocks.schema import block_schema

    return block_schema()


def _dut() -> dict[str, Any]:
    from fpsim.hdl.dut.schema import dut_schema

    return dut_schema()


def _space() -> dict[str, Any]:
    from fpsim.explore.schema import space_schema

    return space_schema()


#: Kinds of files, each with the function that returns its schema.
KINDS = {"unit": _unit, "block": _block, "dut": _dut, "space": _space}


def _schema(args: argparse.Namespace) -> int:
    print_json(KINDS[args.kind]())
    return 0


def register(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add(
        "schema", _schema, "Print the JSON Schema of a TOML: unit, block format, design or space",
        reports=False,
        examples=["schema unit > unit.schema.json", "schema block", "schema dut"],
    )  # fmt: skip
    sub.add_argument("kind", choices=list(KINDS), help="kind of TOML file")
