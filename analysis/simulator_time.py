# SPDX-License-Identifier: Apache-2.0
"""How does the simulator's own time grow with M, N, K and threads, beside torch?

CPU time of `MacUnit.matmul`, packing and result codes included, and of `torch.matmul` in float32 in
the same process, least of a few runs: CPU time, so that other work on the machine counts little.
One side of a 256 x 1024 x 256 product (M x K x N) varies at a time, then the threads.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import study
from timing import processor

import fpsim
from fpsim.plots.style import MUTED, SERIES, caption, new_figure, style

NAME = "simulator_time"
UNITS = ("e2m1-chain-e5m10", "e2m1-exact-e8m23", "mxfp4-block32-e8m23", "nvidia-h100-e4m3")
BASE = {"M": 256, "K": 1024, "N": 256}
SIZES = (16, 64, 256, 1024)
#: Runs of which the least counts, and CPU seconds that a run lasts at least.
RUNS, LEAST = 5, 0.02
THREADS = (1, 2)


def measure(run: study.Run) -> dict[str, Any]:
    """Return CPU and wall seconds of units and torch for every size and number of threads."""
    shapes = [BASE | {axis: size} for axis in BASE for size in SIZES]
    points = [{"threads": 1, "shape": dict(s)} for s in {tuple(s.items()) for s in shapes}]
    points += [{"threads": n, "shape": BASE} for n in THREADS[1:] if n <= (os.cpu_count() or 1)]
    points.sort(key=lambda p: (p["threads"], *p["shape"].values()))
    rows = [row for found in run.points("shapes", times, points) for row in found]
    return {"about": study.about(processor=processor()), "rows": rows}


def times(point: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure all units and torch on one shape, as work for an executor.

    Args:
        point: ``threads`` and ``shape``.

    Returns:
        Rows of ``unit``, ``cpu`` and ``wall`` seconds, those of torch, and the shape.
    """
    import numba
    import torch

    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(point["threads"])
    numba.set_num_threads(min(point["threads"], numba.config.NUMBA_NUM_THREADS))
    try:
        return [_row(unit, point["shape"], point["threads"]) for unit in UNITS]
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def _row(name: str, shape: dict[str, int], threads: int) -> dict[str, Any]:
    import torch

    unit = fpsim.get_unit(name)
    rng = np.random.default_rng(1)
    top = 1 << unit.a.bits
    a = rng.integers(0, top, (shape["M"], shape["K"])).astype(np.uint8)
    b = rng.integers(0, top, (shape["K"], shape["N"])).astype(np.uint8)
    more: dict[str, Any] = {}
    if unit.spec.block is not None:
        more["block"] = unit.spec.block.size
        groups = -(-shape["K"] // unit.spec.block.size)
        more["a_scale"] = rng.integers(120, 134, (shape["M"], groups)).astype(np.uint8)
        more["b_scale"] = rng.integers(120, 134, (groups, shape["N"])).astype(np.uint8)
    x, y = torch.randn(shape["M"], shape["K"]), torch.randn(shape["K"], shape["N"])
    cpu, wall = least(lambda: unit.matmul(a, b, **more))
    beside, beside_wall = least(lambda: x @ y)
    return {
        "unit": name, "threads": threads, "cpu": cpu, "wall": wall, "torch_cpu": beside,
        "torch_wall": beside_wall,
    } | shape  # fmt: skip


def least(work: Callable[[], object]) -> tuple[float, float]:
    """Return least CPU and wall seconds of one call, after one that compiles."""
    work()
    calls, found = 1, []
    while True:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            work()
        used = time.process_time() - cpu
        if used < LEAST:
            calls *= 4
            continue
        found.append((used / calls, (time.perf_counter() - wall) / calls))
        if len(found) == RUNS:
            return min(c for c, _ in found), min(w for _, w in found)


def draw(data: dict[str, Any]) -> Any:
    """Draw CPU time against each side, torch's among them."""
    rows = data["rows"]
    with style():
        figure = new_figure(3.9)
        panels = figure.subplots(1, 3, sharey=True)
        for axes, side in zip(panels, BASE, strict=True):
            others = {k: v for k, v in BASE.items() if k != side}
            one = [r for r in rows if r["threads"] == 1]
            one = [r for r in one if all(r[k] == v for k, v in others.items())]
            for i, unit in enumerate(UNITS):
                here = sorted((r for r in one if r["unit"] == unit), key=lambda r: r[side])
                x = [r[side] for r in here]
                axes.plot(x, [1e3 * r["cpu"] for r in here], "osD^"[i] + "-", color=SERIES[i],
                          markersize=4, label=unit)  # fmt: skip
            axes.plot(x, [1e3 * r["torch_cpu"] for r in here], color=MUTED, linestyle="dashed",
                      label="torch.matmul, float32")  # fmt: skip
            axes.set_xscale("log", base=2)
            axes.set_xticks(SIZES, [str(size) for size in SIZES])
            axes.set_yscale("log")
            axes.set_title(side)
            axes.set_xlabel(", ".join(f"{k} = {v}" for k, v in others.items()))
            axes.grid()
            axes.tick_params(length=0)
        panels[0].set_ylabel("CPU time of a product (ms)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False,
                      fontsize=8.5)  # fmt: skip
        note = data["about"]
        caption(figure, f"one thread, least of {RUNS} runs on a shared machine; "
                        f"{note['processor']}; fpsim {note['version']}")  # fmt: skip
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
