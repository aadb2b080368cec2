# SPDX-License-Identifier: Apache-2.0
"""A child process that cannot outlive its purpose.

It runs in a process group of its own with its output in a log file. A time limit, an interrupt or
an error here asks it to end, so that it can end what it started, and then ends the whole group: a
simulator that hangs, or forks, leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["TimeLimitReached", "first_error", "log_errors", "run"]

_POLL_SECONDS = 0.05
#: Seconds that a child has to end its own children.
_GRACE_SECONDS = 1.0
#: Lines of a log that an error message shows.
MAX_LOG_LINES = 6
_ERRORS = ("%error", "error:", "sorry:", "syntax error", "fatal", "traceback")
_WARNINGS = ("%warning", "warning:")


class TimeLimitReached(Exception):
    """The child was ended because it ran too long."""


def run(
    command: Sequence[str],
    *,
    log: Path,
    timeout: float,
    cwd: Path,
    environment: Mapping[str, str],
    on_wait: Callable[[], None] | None = None,
) -> int:
    """Run a command to its end.

    Args:
        command: the command line.
        log: file that takes its output and errors.
        timeout: seconds it may take.
        cwd: its working directory.
        environment: its environment variables, all of them.
        on_wait: called again and again while it runs.

    Returns:
        Its exit status.

    Raises:
        TimeLimitReached: it did not end within ``timeout`` seconds; it has been killed.
    """
    deadline = time.monotonic() + timeout
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=_POLL_SECONDS)
                if on_wait is not None:
                    on_wait()
                if time.monotonic() > deadline:
                    raise TimeLimitReached
        finally:
            _end_group(process)


def log_errors(log: Path) -> str:
    """Return the lines of a log that report errors, trimmed; the last lines if none does."""
    lines = _lines(log)
    marked = _marked(lines, _ERRORS) or _marked(lines, _WARNINGS)
    shown = marked[:MAX_LOG_LINES] if marked else lines[-MAX_LOG_LINES:]
    return "\n".join(f"    {line[:200]}" for line in shown)


def first_error(log: Path) -> str:
    """Return the first line of a log that reports an error, empty if none does."""
    return next(iter(_marked(_lines(log), _ERRORS)), "").strip()


def _lines(log: Path) -> list[str]:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _marked(lines: Sequence[str], marks: Sequence[str]) -> list[str]:
    return [line for line in lines if any(mark in line.lower() for mark in marks)]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_SECONDS)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
