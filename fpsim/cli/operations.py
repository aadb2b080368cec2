# SPDX-License-Identifier: Apache-2.0
"""Arguments that name a unit, or an operation in place of a unit: ``UNIT`` and ``--op``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import fpsim
from fpsim.base.errors import FpsimError

if TYPE_CHECKING:
    from fpsim.unit import MacUnit
    from fpsim.vectors.operations.operation import Operation

__all__ = ["add_unit_or_operation", "unit_or_operation"]


def add_unit_or_operation(sub: argparse.ArgumentParser) -> None:
    """Add ``UNIT`` and ``--op``."""
    sub.add_argument("unit", nargs="?", help="a name or a .toml file")
    sub.add_argument(
        "--op", metavar="OP",
        help="an operation in place of a unit: quantize:FORMAT, convert:A:B, mul or add, as in "
        "fpsim vectors",
    )  # fmt: skip


def unit_or_operation(args: argparse.Namespace) -> MacUnit | Operation:
    """Return the unit or the operation that a command line names.

    Raises:
        FpsimError: neither a unit nor an operation is named, or the name is unknown.
    """
    from fpsim.vectors.operations.operation import OPERATIONS, parse_operation

    kind, colon, _ = (args.unit or "").partition(":")
    if args.op is None and colon and kind in OPERATIONS:  # as `fpsim rtl quantize:mxfp4`
        return parse_operation(args.unit)
    unit = None if args.unit is None else fpsim.get_unit(args.unit)
    if args.op is not None:
        return parse_operation(args.op, unit)
    if unit is None:
        raise FpsimError("unit: missing; name one, a .toml file, or an operation with --op")
    return unit
