# SPDX-License-Identifier: Apache-2.0
"""What every command shares: declaring itself, tables, JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["INCOMPLETE", "Commands", "code", "console", "print_json", "table"]

INCOMPLETE = 1
console = Console(highlight=False)


class Commands:
    """The commands of a parser; each is added with its function, which returns the exit status."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(
        self,
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        reports: bool = True,
    ) -> argparse.ArgumentParser:
        """Add a command; one that reports has ``--json``."""
        sub = self._commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if reports:
            sub.add_argument("--json", action="store_true", help="print JSON")
        return sub


def print_json(data: Any) -> None:
    """Print data as JSON."""
    print(json.dumps(data, indent=1))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column)
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))  # t[c] is no markup
    console.print(made)


def code(text: str) -> int:
    """Return an integer such as 7, 0x7 or 0b0111."""
    return int(text, 0)
