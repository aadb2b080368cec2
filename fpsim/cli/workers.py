# SPDX-License-Identifier: Apache-2.0
"""Options of commands that work on independent points: processes and Dask."""

from __future__ import annotations

import argparse

__all__ = ["add_workers"]


def add_workers(sub: argparse.ArgumentParser) -> None:
    """Add ``--workers``, ``--dask`` and ``--scheduler``: where points run."""
    sub.add_argument("--workers", type=int, default=0, help="processes (default: only this one)")
    sub.add_argument("--dask", action="store_true", help="make the processes Dask workers")
    sub.add_argument("--scheduler", metavar="ADDRESS", help="address of a running Dask scheduler")
