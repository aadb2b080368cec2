# SPDX-License-Identifier: Apache-2.0
"""The examples run: scripts, cells of notebooks, and the designer's repository in miniature."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fpsim.cli import main

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.sweep


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_runs(path: Path, tmp_path: Path) -> None:
    if "torch" in path.read_text("utf-8"):
        pytest.importorskip("torch")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("\n") >= 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebooks_cells_run_and_show_something(path: Path) -> None:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    names: dict[str, Any] = {}
    shown = 0
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        text = "".join(cell["source"])
        *body, last = text.splitlines()
        exec(compile("\n".join(body), path.name, "exec"), names)
        try:
            value = eval(compile(last, path.name, "eval"), names)
        except SyntaxError:  # a statement, or the end of a loop
            exec(compile(text, path.name, "exec"), names)
            continue
        if hasattr(value, "_repr_html_"):
            assert value._repr_html_().startswith("<table>")
            shown += 1
    assert shown >= 1


@pytest.fixture
def own_mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("cocotb")
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    shutil.copytree(EXAMPLES / "own-mac", tmp_path / "own-mac")
    monkeypatch.chdir(tmp_path / "own-mac")
    return tmp_path / "own-mac"


VERIFY = ["verify", "mac.toml", "--dut", "dut.toml", "--simulator", "icarus", "--count", "500"]


@pytest.mark.rtl
def test_the_own_mac_matches_and_a_wrong_one_does_not(own_mac: Path) -> None:
    assert main(VERIFY) == 0
    design = own_mac / "mac.sv"
    wrong = design.read_text().replace("acc <= 14'sd8191", "acc <= 14'sd8190")
    assert wrong != design.read_text()
    design.write_text(wrong)
    assert main(VERIFY) == 1


@pytest.mark.rtl
def test_the_workflow_that_is_copied_passes(own_mac: Path) -> None:
    """Each line as it stands, with fewer vectors and the simulator that compiles fastest."""
    text = (own_mac / ".github" / "workflows" / "mac.yml").read_text(encoding="utf-8")
    lines = re.findall(r"run: fpsim (.+)", text)
    assert len(lines) == 2
    for line in lines:
        assert main([*line.replace("1000000", "5000").split(), "--simulator", "icarus"]) == 0, line


@pytest.mark.rtl
def test_the_own_macs_bench_runs_and_can_fail(own_mac: Path) -> None:
    command = [sys.executable, "-c", "import test_mac; test_mac.test_mac('icarus')"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(own_mac), str(ROOT)])
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "PASS=1" in run.stdout + run.stderr
    design = own_mac / "mac.sv"
    design.write_text(design.read_text().replace("a[3] ^ b[3]", "a[3] & b[3]"))
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "FAIL=1" in run.stdout + run.stderr
