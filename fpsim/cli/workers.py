# SPDX-License-Identifier: Apache-2.0
"""Options of commands whose work is made of independent points."""

from __future__ import annotations

import argparse

__all__ = ["add_workers"]


def add_workers(sub: argparse.ArgumentParser) -> None:
    """Add the options that say where points run."""
    sub.add_argument("--workers", type=int, default=0, help="processes (default: this one)")
    sub.add_argument("--dask", action="store_true", help="make them workers of a Dask cluster")
    sub.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is there")
