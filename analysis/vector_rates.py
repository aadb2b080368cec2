# SPDX-License-Identifier: Apache-2.0
"""How many golden vectors a second: in memory, written as readmemh text, and checked?

Best of several runs in one process, files in a temporary folder.

    python analysis/vector_rates.py [--threads 1 2] [--count 1048576]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numba
from rich.console import Console
from rich.table import Table
from timing import best

import fpsim
from fpsim import vectors
from fpsim.vectors.files.checker import check
from fpsim.vectors.files.writer import write
from fpsim.vectors.sets.vector_set import BlockSource

RUNS = 5
#: Unit, elements per vector, and how sums start.
SETS = (
    ("e2m1-chain-e5m10", 1, "dot"),
    ("e2m1-chain-e5m10", 1, "load"),
    ("e2m1-chain-e5m10", 4, "dot"),
    ("e2m1-fixed24q2", 1, "dot"),
    ("e2m1-fixed24q2", 1, "load"),
    ("fp4-aligned32-f13", 32, "dot"),
    ("mxfp4-block32-e8m23", 32, "dot"),
)


def plan(unit: fpsim.MacUnit, elements: int, start: str, macs: int) -> BlockSource:
    """Return random vectors with about so many multiply-accumulates."""
    count = max(macs // elements, 1)
    return vectors.plan(unit, strategy="random", count=count, k=elements, start=start)


def make(source: BlockSource) -> None:
    """Make every block of a set, one after the other."""
    for job in source.jobs():
        source.block(*job)


def rate(source: BlockSource, work: Callable[[], object]) -> float:
    """Return millions of vectors a second, best of several runs after one that compiles."""
    return source.count / best(work, RUNS) / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--count", type=int, default=1 << 20, help="products per set")
    args = parser.parse_args()
    table = Table(title="Millions of vectors a second")
    for column in ("unit", "products", "threads", "in memory", "M MAC/s", "written", "checked"):
        table.add_column(column, justify="left" if column == "unit" else "right")
    for threads in args.threads:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        for name, elements, start in SETS:
            print(f"{name}, {elements}, {start}, {threads} threads", file=sys.stderr)
            source = plan(fpsim.get_unit(name), elements, start, args.count)
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "set"
                made = rate(source, lambda source=source: make(source))
                written = rate(source, lambda s=source, t=target: write(s, t, ("readmemh",)))
                checked = rate(source, lambda t=target: check(t))
            figures = (made, made * elements, written, checked)
            kind = str(elements) if start == "dot" else f"{elements}, {start}"
            table.add_row(name, kind, str(threads), *(f"{figure:.1f}" for figure in figures))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
