# SPDX-License-Identifier: Apache-2.0
"""The run of mutants notices a change that a test notices, and only that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys
from pathlib import Path
root = Path.cwd()
sys.path[:0] = [str(root), str(root / "tests"), str(root / "tests/support")]
import mutation
file = root / "fpsim/units/stages/tree.py"
line = 1 + next(i for i, t in enumerate(file.read_text().splitlines()) if '"radix", 2, 64' in t)
changed = next(m for m in mutation.mutants_of(file) if (m.line, m.after) == (line, "3"))
tests = ["tests/units/test_bad_units.py", "-k", "tree"]
for mutant in (None, changed):
    passed, _, killer = mutation.run(mutant, tests, 120)
    print(passed, killer)
"""


@pytest.mark.sweep
def test_a_change_is_in_force_while_tests_run() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    right, wrong = done.stdout.splitlines()
    assert right.strip() == "True"
    assert wrong.startswith("False tests/units/test_bad_units.py::")
