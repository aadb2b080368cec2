# SPDX-License-Identifier: Apache-2.0
"""The kernel cache where disks are full, and where processes are killed or start together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fpsim

pytestmark = pytest.mark.sweep

MODULE = """
import resource, sys
if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from fpsim.kernels.cache import kernel

def make(number):
    @kernel(f"add {number}")
    def add(x):
        return x + number
    return add

adders = [make(n) for n in (1, 2, 3)]
print([add(100) for add in adders], sum(sum(a.stats.cache_hits.values()) for a in adders))
"""
RIGHT = "[101, 102, 103]"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "adders.py"
    file.write_text(MODULE)
    return file


def started(program: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(fpsim.__file__).parent.parent)}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, str(program), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def printed(program: Path, *arguments: str) -> str:
    process = started(program, *arguments)
    out = process.communicate()[0].strip()
    assert process.returncode == 0
    return out


@pytest.mark.parametrize("size", ["0", "200", "4000"])
def test_a_full_disk(size: str, program: Path) -> None:
    """Kernels run; what was kept of them by then is never taken for whole."""
    assert printed(program, size) == f"{RIGHT} 0"
    assert printed(program).startswith(RIGHT)
    assert printed(program) == f"{RIGHT} 3"


def test_two_processes_and_one_cold_cache(program: Path) -> None:
    both = [started(program) for _ in range(2)]
    for process in both:
        assert process.communicate()[0].startswith(RIGHT)
        assert process.returncode == 0
    assert printed(program).startswith(RIGHT)
    assert printed(program) == f"{RIGHT} 3"


@pytest.mark.parametrize("pattern", ["*.nbi*", "*.nbc"])
def test_a_process_killed_while_it_compiles(pattern: str, program: Path) -> None:
    process = started(program)
    while process.poll() is None and not list(program.parent.rglob(pattern)):
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    assert printed(program).startswith(RIGHT)
    assert printed(program) == f"{RIGHT} 3"
