# SPDX-License-Identifier: Apache-2.0
"""The cocotb test that replays a vector file; it runs inside the simulator and only moves bits.

Every value it compares with was computed before the simulation. Inputs change on the falling clock
edge, the design works on the rising one, and the next falling edge reads the result: nothing races.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

PROGRESS_EVERY = 2048
RESET_CLOCKS = 2


@cocotb.test()
async def replay(dut: Any) -> None:
    """Apply every word of the file and write what differed to the job's result file."""
    job = json.loads(Path(os.environ["FPSIM_BENCH_JOB"]).read_text(encoding="utf-8"))
    # [handle, LSB, mask, last value driven]; an input without a field stays 0.
    drives = [[getattr(dut, name), lsb, mask, 0] for name, lsb, mask in job["drives"]]
    output_name, expected_lsb, expected_mask = job["output"]
    output = getattr(dut, output_name)
    progress = Path(job["progress"])
    keep = job["max_mismatches"]

    clock, reset = getattr(dut, job["clock"]), getattr(dut, job["reset"])
    for name in job["inputs"]:
        getattr(dut, name).value = 0
    reset.value = 0
    Clock(clock, 10, unit="ns").start(start_high=False)
    falling = FallingEdge(clock)
    for _ in range(RESET_CLOCKS):
        await falling
    reset.value = 1

    compared = count = 0
    mismatches: list[list[Any]] = []
    started = time.perf_counter()
    for line, word in _words(Path(job["vectors"])):
        for drive in drives:
            handle, lsb, mask, last = drive
            value = (word >> lsb) & mask
            if value != last:
                handle.value = value
                drive[3] = value
        await falling
        expected = (word >> expected_lsb) & expected_mask
        seen = output.value
        if not _equal(seen, expected):
            count += 1
            if len(mismatches) < keep:
                mismatches.append([compared, line, word, _hex(str(seen))])
        compared += 1
        if compared % PROGRESS_EVERY == 0:
            _replace(progress, str(compared))
    result = {
        "compared": compared,
        "mismatch_count": count,
        "mismatches": mismatches,
        "seconds": time.perf_counter() - started,
    }
    _replace(Path(job["result"]), json.dumps(result))


def _replace(path: Path, text: str) -> None:
    """Write a file that readers see whole or not at all."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def _words(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (line number from 1, word) of a $readmemh file."""
    with path.open(encoding="ascii") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.partition("//")[0].strip()
            if text:
                yield number, int(text.replace("_", ""), 16)


def _equal(seen: Any, expected: int) -> bool:
    try:
        return int(seen) == expected
    except ValueError:  # X or Z somewhere
        return False


def _hex(bits: str) -> str:
    """Return hexadecimal digits of a bit string; a digit with an X or Z in it is ``x``."""
    padded = bits.rjust(-(-len(bits) // 4) * 4, "0")
    digits = (padded[i : i + 4] for i in range(0, len(padded), 4))
    return "".join(f"{int(d, 2):x}" if set(d) <= {"0", "1"} else "x" for d in digits)
