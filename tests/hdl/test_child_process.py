# SPDX-License-Identifier: Apache-2.0
"""Nothing that a simulation starts outlives it, not even what it sends to the background."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fpsim.hdl.bench import child_process

LAUNCHER = Path(child_process.__file__).parents[1] / "inside" / "fpsim_launch.py"
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")


def running(mark: str) -> list[int]:
    """Return the processes whose arguments hold ``mark``, this one apart."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words and int(entry.parent.name) != os.getpid():
            found.append(int(entry.parent.name))
    return found


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


def job(directory: Path, mark: str, then: str) -> list[str]:
    """Return a command that leaves a process in a session of its own, and goes on with ``then``."""
    script = directory / "simulator.sh"
    script.write_text(
        f"#!/bin/sh\nsetsid sh -c 'sleep {mark} & sleep {mark}' < /dev/null &\n"
        f"while [ $(ls /proc/*/cmdline | xargs grep -l {mark} 2>/dev/null | wc -l) -lt 2 ]; do\n"
        f"  sleep 0.05\ndone\n{then}\n"
    )
    script.chmod(0o755)
    file = directory / "job.json"
    file.write_text(json.dumps({"commands": [[str(script)]]}))
    return [sys.executable, str(LAUNCHER), "commands", str(file)]


@pytest.mark.parametrize(
    ("then", "mark"), [("exit 0", "311.7"), ("kill -SEGV $$", "312.7"), ("sleep 60", "313.7")]
)
def test_what_forks_is_ended_too(then: str, mark: str, tmp_path: Path) -> None:
    command = job(tmp_path, mark, then)
    arguments = {"log": tmp_path / "log", "cwd": tmp_path, "environment": dict(os.environ)}
    if "60" in then:
        with pytest.raises(child_process.TimeLimitReached):
            child_process.run(command, timeout=3.0, **arguments)  # type: ignore[arg-type]
    else:
        status = child_process.run(command, timeout=60.0, **arguments)  # type: ignore[arg-type]
        assert (status == 0) == (then == "exit 0")
    assert wait_until(lambda: not running(mark)), "something is still running"


def test_what_is_started_while_processes_are_ended_is_ended_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = importlib.util.spec_from_file_location("fpsim_launch", LAUNCHER)
    assert spec is not None and spec.loader is not None
    launcher = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launcher)
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    counts = iter([[started[0].pid], [started[1].pid], []])
    monkeypatch.setattr(launcher, "_descendants", lambda: next(counts))
    launcher._end_descendants()
    assert [process.wait(5) for process in started] == [-signal.SIGKILL] * 2


@pytest.mark.parametrize(("how", "mark"), [(signal.SIGINT, "314.7"), (signal.SIGKILL, "315.7")])
def test_nothing_stays_of_a_run_that_is_interrupted(
    how: signal.Signals, mark: str, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from fpsim.hdl.bench import child_process\n"
        # What runs the tests in the background may have told its children to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "child_process.run(sys.argv[1:], log=Path('log'), timeout=60, cwd=Path(), "
        "environment=dict(os.environ))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *job(tmp_path, mark, "sleep 60")], cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert wait_until(lambda: len(running(mark)) >= 2), "it did not start"
        parent.send_signal(how)
        parent.wait(timeout=20)
    finally:
        parent.kill()
    assert wait_until(lambda: not running(mark)), "something is still running"
