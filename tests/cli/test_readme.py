# SPDX-License-Identifier: Apache-2.0
"""The README runs as printed."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import fpsim
from fpsim.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Commands that take minutes, a model or a simulator are exercised by the demo and other tests.
SLOW = ("fpsim eval", "fpsim explore", "fpsim report", "fpsim size", "fpsim synth", "fpsim train",
        "fpsim verify")  # fmt: skip


def commands() -> list[str]:
    return [line.strip() for line in README.splitlines() if line.startswith("    fpsim ")]


def test_python_examples_print_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    lines = out.getvalue().splitlines()
    assert lines[1] == "[[38.5]]"
    assert "[[38.5]]" in code
    assert lines[2] == "20688"
    assert lines[2] in code
    assert lines[4:6] == ["uint16", "True"]
    assert lines[7] in code
    assert lines[8] == "True"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(c, marks=[pytest.mark.sweep] * c.startswith("fpsim prove"))
        for c in commands()
        if not c.startswith(SLOW)
    ],
)
def test_commands_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rtl_tests").symlink_to(ROOT / "rtl_tests")
    monkeypatch.chdir(tmp_path)
    if "--check" in line:
        assert main(["vectors", "e2m1-chain-e5m10", "--out", line.split()[-1]]) == 0
    if "golden/" in line:
        monkeypatch.chdir(Path(__file__).parents[2])
    if "explain" in line:
        assert main(["vectors", "e2m1-chain-e5m10", "--out", line.split()[2]]) == 0
    assert main(shlex.split(line)[1:]) == 0


def test_files_it_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).parents[2] / link).exists(), link


@pytest.mark.sweep
def test_the_bridge_is_there_without_an_import_of_its_own() -> None:
    """`fpsim.bridge` is imported when it is first used: torch is slow to load."""
    code = "import sys, fpsim; assert 'torch' not in sys.modules; print(fpsim.bridge.convert)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "function convert" in found.stdout
    with pytest.raises(AttributeError, match="no attribute 'brdige'"):
        getattr(fpsim, "brdige")  # noqa: B009
