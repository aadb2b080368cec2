# SPDX-License-Identifier: Apache-2.0
"""Parts of fpsim that must not need a compiler, torch or matplotlib."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numba", "llvmlite", "torch", "matplotlib", "scipy", "cocotb", "hypothesis")
BLOCKED = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))\n"


def run(code: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_fpsim_loads_nothing_heavy() -> None:
    code = f"import fpsim, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        ("e2m1-chain-e5m10", 0x4E40),
        ("e2m1-fixed24q2", 0x64),
        ("e2m1-exact-e8m23", 0x41C80000),
        ("e2m1-aligned4f24-e8m23", 0x41C80000),
        ("e2m1-tree-e8m23", 0x41C80000),
    ],
)
def test_the_oracle_needs_no_numba(unit: str, code: int) -> None:
    """Units by name, dot products with scales, traces and flags: 4 * 6 + 1 * 1 = 25."""
    found = run(
        BLOCKED
        + "from fpsim import MacSpec, oracle\n"
        + f"spec = MacSpec.from_name({unit!r})\n"
        + "print(int(oracle.dot(spec, [6, 2], [7, 2])), oracle.trace(spec, [6, 2], [7, 2]).code,\n"
        + "      int(oracle.dot_with_flags(spec, [6, 2], [7, 2], None, [127], [127])[0]))"
    )
    assert found == f"{code} {code} {code}"


@pytest.mark.sweep
def test_every_public_name_is_there() -> None:
    found = run("import fpsim; print([n for n in fpsim.__all__ if getattr(fpsim, n) is None])")
    assert found == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert run("import fpsim; print(hasattr(fpsim, 'no_such_name'))") == "False"
