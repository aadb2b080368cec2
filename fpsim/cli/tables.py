# SPDX-License-Identifier: Apache-2.0
"""Arguments for operands that come into the reference RTL as codes of a table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fpsim.base.errors import FpsimError

if TYPE_CHECKING:
    from fpsim.blocks.code_table import CodeTable

__all__ = ["add_tables", "no_tables", "tables_of"]


def add_tables(
    sub: argparse.ArgumentParser, what: str = "of the reference RTL comes in as codes"
) -> None:
    """Add ``--a-table`` and ``--b-table``; ``what`` says what they do to an operand."""
    for operand in "ab":
        sub.add_argument(
            f"--{operand}-table", metavar="FORMAT",
            help=f"operand {operand} {what} of a block format's table, such as nf4",
        )  # fmt: skip


def tables_of(args: argparse.Namespace) -> dict[str, CodeTable]:
    """Return the tables of the operands that have one.

    Raises:
        FpsimError: a block format without one table, naming the option.
    """
    from fpsim.blocks.code_table import CodeTable

    given = {operand: getattr(args, f"{operand}_table") for operand in "ab"}
    return {n: CodeTable.of(v, f"{n}_table") for n, v in given.items() if v is not None}


def no_tables(args: argparse.Namespace, allowed: str) -> None:
    """Raise FpsimError if an operand has a table; ``allowed`` says where one may."""
    for operand in "ab":
        if getattr(args, f"{operand}_table") is not None:
            raise FpsimError(f"{operand}_table: {allowed}")
