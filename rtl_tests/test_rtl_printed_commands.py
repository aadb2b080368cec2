# SPDX-License-Identifier: Apache-2.0
"""What `fpsim testbench` prints runs as printed, from any folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rtl_support import installed

from fpsim.cli import main

DUT = Path(__file__).parent / "examples" / "dot4" / "dut.toml"


@pytest.mark.rtl
@pytest.mark.parametrize(
    "simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.sweep)]
)
def test_printed_commands_run_from_any_folder(
    simulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    installed(simulator)
    monkeypatch.chdir(tmp_path)
    out = ["--out", "a bench", "--count", "100", "--json"]
    assert main(["testbench", "e2m1-fixed24q2", "--dut", str(DUT), *out]) == 0
    commands = json.loads(capsys.readouterr().out)["commands"]
    other = ("iverilog", "vvp") if simulator == "verilator" else ("verilator", "native/")
    script = "\n".join(line for line in commands if not line.startswith(other))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = subprocess.run(
        ["bash", "-ec", script], cwd="/", env=os.environ | {"PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert ", 0 mismatches" in found.stdout
