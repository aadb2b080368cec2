# SPDX-License-Identifier: Apache-2.0
"""How does the simulator's own time grow with M, N, K and threads, beside torch?

Time of `MacUnit.matmul`, packing and result codes included, over that of `torch.matmul` in
float32 in the same process, best of a few runs. One side of a 256 x 1024 x 256 product (M x K x N)
varies at a time; then the threads. Measure with nothing else running.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import study
from timing import best

import fpsim
from fpsim.plots.style import SERIES, new_figure, style

NAME = "simulator_time"
UNITS = ("e2m1-chain-e5m10", "e2m1-exact-e8m23", "nvidia-h100-e4m3")
BASE = {"M": 256, "K": 1024, "N": 256}
SIZES = (16, 64, 256, 1024)
RUNS = 3


def measure(run: study.Run) -> list[dict[str, Any]]:
    """Return seconds of unit and torch for every size, and for every number of threads."""
    import numba
    import torch

    rows = []
    before = torch.get_num_threads(), numba.get_num_threads()
    for threads in sorted({1, min(2, os.cpu_count() or 1)}):
        torch.set_num_threads(threads)
        numba.set_num_threads(threads)
        shapes = (
            [BASE | {axis: size} for axis in BASE for size in SIZES] if threads == 1 else [BASE]
        )
        for shape in [dict(s) for s in {tuple(s.items()) for s in shapes}]:
            rows += [_row(unit, shape, threads) for unit in UNITS]
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])
    return sorted(rows, key=lambda r: (r["unit"], r["threads"], r["M"], r["K"], r["N"]))


def _row(name: str, shape: dict[str, int], threads: int) -> dict[str, Any]:
    import torch

    unit = fpsim.get_unit(name)
    rng = np.random.default_rng(1)
    top = 1 << unit.a.bits
    a = rng.integers(0, top, (shape["M"], shape["K"])).astype(np.uint8)
    b = rng.integers(0, top, (shape["K"], shape["N"])).astype(np.uint8)
    x, y = torch.randn(shape["M"], shape["K"]), torch.randn(shape["K"], shape["N"])
    seconds = best(lambda: unit.matmul(a, b), RUNS)
    beside = best(lambda: x @ y, RUNS)
    return {"unit": name, "threads": threads, "seconds": seconds, "torch": beside} | shape


def draw(rows: list[dict[str, Any]]) -> Any:
    """Draw time over torch's against each side, and against threads."""
    with style():
        figure = new_figure(3.6)
        panels = figure.subplots(1, 3, sharey=True)
        for axes, side in zip(panels, BASE, strict=True):
            others = {k: v for k, v in BASE.items() if k != side}
            for i, unit in enumerate(UNITS):
                here = [r for r in rows if r["unit"] == unit and r["threads"] == 1
                        and all(r[k] == v for k, v in others.items())]  # fmt: skip
                here.sort(key=lambda r: r[side])
                axes.plot([r[side] for r in here], [r["seconds"] / r["torch"] for r in here],
                          "osD"[i] + "-", color=SERIES[i], markersize=4, label=unit)  # fmt: skip
            axes.set_xscale("log", base=2)
            axes.set_xticks(SIZES, [str(size) for size in SIZES])
            axes.set_yscale("log")
            axes.set_xlabel(f"{side} (others: {', '.join(f'{k} {v}' for k, v in others.items())})")
            axes.grid()
            axes.tick_params(length=0)
        panels[0].set_title("time, torch.matmul = 1, one thread")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


if __name__ == "__main__":
    sys.exit(study.main(sys.modules[__name__]))
