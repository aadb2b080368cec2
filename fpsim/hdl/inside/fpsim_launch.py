# SPDX-License-Identifier: Apache-2.0
"""The process between `hdl.bench.replay` and a simulator: builds or runs by cocotb's runner.

    python fpsim_launch.py build|run|commands JOB.json

A process of its own, because the runner takes its settings from the environment and prints, and
because it can be ended with every process it started: on Linux also with processes that a simulator
sent to the background in a session of their own. It ends itself if its parent disappears. Like
`fpsim_bench` beside it, it imports nothing of fpsim, so a simulation starts at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

BENCH_MODULE = "fpsim_bench"
#: Names the job file to the bench inside the simulation.
BENCH_JOB_VARIABLE = "FPSIM_BENCH_JOB"
_POLL_SECONDS = 0.5
#: Seconds for which processes that go on starting others are ended.
_END_SECONDS = 2.0
_SET_CHILD_SUBREAPER = 36  # prctl(2)


def main(arguments: list[str]) -> int:
    """Do one step of the job; the exit status is 0 if the step went through."""
    action, job_path = arguments
    job: dict[str, Any] = json.loads(Path(job_path).read_text(encoding="utf-8"))
    _adopt()
    _follow_parent()
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    try:
        return _done(action, job, job_path)
    finally:
        _end_descendants()


def _done(action: str, job: dict[str, Any], job_path: str) -> int:
    if action == "commands":
        statuses = (subprocess.run(command, check=False).returncode for command in job["commands"])
        return next((1 for status in statuses if status), 0)
    # Imported here: cocotb is an optional dependency.
    from cocotb_tools.runner import get_runner

    runner = get_runner(job["simulator"])
    try:
        if action == "build":
            runner.build(
                sources=job["sources"],
                hdl_toplevel=job["top"],
                parameters=job["parameters"],
                build_args=job["build_args"],
                build_dir=job["build_dir"],
                always=True,
                timescale=("1ns", "1ps"),
                waves=job["waves"],
            )
        else:
            if job["simulator"] == "ghdl":  # which takes its generics and standard when it runs
                place = [f"--workdir={job['build_dir']}"]
                settings = {
                    "parameters": job["parameters"],
                    "test_args": [*job["build_args"], *place],
                }
            else:
                settings = {}
            runner.test(
                test_module=BENCH_MODULE,
                hdl_toplevel=job["top"],
                hdl_toplevel_lang=job["language"],
                build_dir=job["build_dir"],
                test_dir=job["run_dir"],
                results_xml=str(Path(job["run_dir"]) / "results.xml"),
                extra_env={BENCH_JOB_VARIABLE: job_path},
                waves=job["waves"],
                **settings,
            )
    except (RuntimeError, ValueError) as error:
        print(f"launch: {error}", file=sys.stderr)
        return 1
    return 0


def _follow_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        _end_descendants()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _leave() -> None:
    """End this process and all of its descendants at once."""
    _end_descendants()
    os._exit(1)


def _adopt() -> None:
    """Become the parent of orphaned descendants, so that they stay descendants (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants() -> list[int]:
    """Return the processes that run below this one, from /proc; none where there is none."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name in parentheses may hold anything; state and parent come after it.
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":  # it has ended, and nobody has asked how
                below.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [os.getpid()]
    while waiting:
        children = below.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _end_descendants() -> None:
    """End the processes below this one, and any that they start meanwhile."""
    until = time.monotonic() + _END_SECONDS
    while (found := _descendants()) and time.monotonic() < until:
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
