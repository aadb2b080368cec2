# SPDX-License-Identifier: Apache-2.0
"""``fpsim recipes``: which operands of a model are cast, and to what; options of a recipe."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from fpsim.cli.output import Commands, print_json, table

if TYPE_CHECKING:
    from fpsim.bridge import Recipe

__all__ = ["register"]


def _recipes(args: argparse.Namespace) -> int:
    from fpsim.bridge import get_recipe, recipe_kinds

    if args.name is not None:
        return _show(get_recipe(args.name), args.json)
    kinds = recipe_kinds()
    if args.json:
        rows = [_row(name, kind) for kind, names in kinds.items() for name in names]
        print_json(sorted(rows, key=lambda row: str(row["name"])))
        return 0
    table(
        "Recipes; block formats, their TOML files and FILE.py:Class are recipes too",
        ["name", "calibration", "what they cast"],
        [
            [", ".join(names), "yes" * kind.needs_calibration, kind.summary()]
            for kind, names in kinds.items()
        ],
    )
    return 0


def _row(name: str, kind: type[Recipe]) -> dict[str, Any]:
    return {
        "name": name, "needs_calibration": kind.needs_calibration, "summary": kind.summary(),
    }  # fmt: skip


def _show(recipe: Recipe, as_json: bool) -> int:
    kind, head = type(recipe), recipe.name.partition(":")[0]
    given = {f.name: getattr(recipe, f.name) for f in fields(recipe) if f.repr and f.name != "name"}
    options = {k: v if isinstance(v, bool | int | float) else str(v) for k, v in given.items()}
    if as_json:
        print_json([_row(recipe.name, kind) | {"options": options}])
        return 0
    print(inspect.getdoc(kind))
    if kind.needs_calibration:
        print("\nIt needs a calibration: `fpsim calibrate`.")
    rows = [[k, str(v).lower() if isinstance(v, bool) else v] for k, v in options.items()]
    table(f"Options, written {head}:OPTION=VALUE,OPTION=VALUE", ["option", "value"], rows)
    return 0


def register(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add(
        "recipes", _recipes, "List recipes, or describe one and its options",
        examples=["recipes", "recipes gptq", "recipes rtn:element=e3m0,block=32 --json"],
    )  # fmt: skip
    sub.add_argument("name", nargs="?", help="a recipe as --recipe takes it; default: list all")
