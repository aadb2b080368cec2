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
from fpsim.vectors.files.writer import check_dots, write_dots
from fpsim.vectors.plans.planner import plan_dots
from fpsim.vectors.sets.generate import plan_stream
from fpsim.vectors.sets.vector_set import DotSource

RUNS = 5
#: Unit and elements per vector; 0: a stream of single products.
SETS = (
    ("e2m1-chain-e5m10", 1),
    ("e2m1-chain-e5m10", 0),
    ("e2m1-chain-e5m10", 4),
    ("e2m1-fixed24q2", 1),
    ("e2m1-fixed24q2", 0),
    ("fp4-aligned32-f13", 32),
    ("mxfp4-block32-e8m23", 32),
)


def plan(unit: fpsim.MacUnit, elements: int, macs: int) -> DotSource:
    """Return random vectors with about so many multiply-accumulates."""
    if not elements:
        return plan_stream(unit, strategy="random", count=macs)
    return plan_dots(unit, strategy="random", count=max(macs // elements, 1), k=elements)


def make(source: DotSource) -> None:
    """Make every block of a set, one after the other."""
    for job in source.jobs():
        source.block(*job)


def rate(source: DotSource, work: Callable[[], object]) -> float:
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
        for name, elements in SETS:
            print(f"{name}, {elements or 'stream'}, {threads} threads", file=sys.stderr)
            source = plan(fpsim.get_unit(name), elements, args.count)
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "set"
                made = rate(source, lambda source=source: make(source))
                written = rate(source, lambda s=source, t=target: write_dots(s, t, ("readmemh",)))
                checked = rate(source, lambda t=target: check_dots(t))
            figures = (made, made * max(elements, 1), written, checked)
            kind = str(elements) if elements else "1, stream"
            table.add_row(name, kind, str(threads), *(f"{figure:.1f}" for figure in figures))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
