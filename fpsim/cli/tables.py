# SPDX-License-Identifier: Apache-2.0
"""Options for operands whose numbers come from a code table, such as NF4."""

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
    """Add ``--a-table`` and ``--b-table``; ``what`` is the help text between operand and table."""
    for operand in "ab":
        sub.add_argument(
            f"--{operand}-table", metavar="FORMAT",
            help=f"operand {operand} {what} of a block format's table, such as nf4",
        )  # fmt: skip


def tables_of(args: argparse.Namespace) -> dict[str, CodeTable]:
    """Return the code tables of operands ``a`` and ``b`` for which an option names a format.

    Raises:
        FpsimError: a block format without one code table; the message names the option.
    """
    from fpsim.blocks.code_table import CodeTable

    given = {operand: getattr(args, f"{operand}_table") for operand in "ab"}
    return {n: CodeTable.of(v, f"{n}_table") for n, v in given.items() if v is not None}


def no_tables(args: argparse.Namespace, allowed: str) -> None:
    """Raise FpsimError if ``--a-table`` or ``--b-table`` is given; ``allowed`` says why not."""
    for operand in "ab":
        if getattr(args, f"{operand}_table") is not None:
            raise FpsimError(f"{operand}_table: {allowed}")
