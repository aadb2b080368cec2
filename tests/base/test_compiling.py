# SPDX-License-Identifier: Apache-2.0
"""The line about compiling: said once, only for work that takes long, never for what is loaded."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fpsim.base import compiling

LINE = "compiling a kernel, once"


@pytest.mark.parametrize(
    ("works", "seconds", "lines"), [(True, 0.3, 1), (False, 0.3, 0), (True, 0.0, 0)]
)
def test_only_long_work_is_announced(
    works: bool, seconds: float, lines: int,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(compiling, "PATIENCE", 0.05)
    seen = compiling._Compiling()
    for _ in range(2):
        seen.begin()
        seen.begin()  # a function that the kernel calls
        if works:
            seen.work()
        seen.end()
        time.sleep(seconds)
        seen.end()
    time.sleep(0.1)
    assert capsys.readouterr().err.count(LINE) == lines


def test_numba_is_watched() -> None:
    code = """
import numba
from fpsim.base import compiling
compiling.PATIENCE = 0.02
compiling.announce_compiling()
@numba.njit
def total(n):
    s = 0.0
    for i in range(n):
        s += i**0.5
    return s
total(3)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert LINE in found.stderr
