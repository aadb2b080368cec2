# SPDX-License-Identifier: Apache-2.0
"""Parts of every command: declaring itself, tables, JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fpsim.base.errors import FpsimError

__all__ = [
    "INCOMPLETE",
    "Commands",
    "code",
    "console",
    "needs",
    "print_json",
    "rows_table",
    "table",
]

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
        """Add a command.

        Args:
            name: name on the command line.
            run: takes the parsed arguments and returns the exit status.
            text: one line of help.
            reports: whether the command has ``--json``.

        Returns:
            Parser of the command, for its own arguments.
        """
        sub = self._commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if reports:
            sub.add_argument("--json", action="store_true", help="print JSON")
        return sub


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a package that is not installed into one sentence with the line that installs it.

    Raises:
        FpsimError: an import inside the block did not find a package of another project.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "fpsim":
            raise
        raise FpsimError(
            f"{error.name} is not installed, which this command needs: pip install 'fpsim[{extra}]'"
        ) from None


def print_json(data: Any) -> None:
    """Print data as JSON."""
    print(json.dumps(data, indent=1))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table.

    Args:
        title: line above it.
        columns: heads of the columns.
        rows: cells, row by row, as many as columns.
    """
    made = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        made.add_column(column, no_wrap=i == 0)
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))  # t[c] is no markup
    console.print(made)


def rows_table(title: str, rows: Sequence[dict[str, Any]], digits: int = 17) -> None:
    """Print a table of dictionaries; None is left blank.

    Args:
        title: line above it.
        rows: at least one row; all have the same keys, which are the heads.
        digits: significant digits of a float.
    """

    def cell(value: object) -> object:
        if isinstance(value, float) and len(repr(value)) > digits + 1:
            return f"{value:.{digits}g}"
        return "" if value is None else value

    table(title, list(rows[0]), [[cell(value) for value in row.values()] for row in rows])


def code(text: str) -> int:
    """Return an integer such as 7, 0x7 or 0b0111."""
    return int(text, 0)
