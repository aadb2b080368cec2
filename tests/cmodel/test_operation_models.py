# SPDX-License-Identifier: Apache-2.0
"""The C model of converters, adders, multipliers and quantizers gives every vector's result."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fpsim.cli import main
from fpsim.cmodel import export_operation
from fpsim.vectors.files.writer import write
from fpsim.vectors.operations.operation import parse_operation
from fpsim.vectors.operations.operation_plan import plan_operation

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

FLAGS = ["-std=c99", "-O1", "-pedantic", "-Wall", "-Wextra", "-Werror"]
SANITIZE = ["-fsanitize=undefined", "-fno-sanitize-recover"]
FEW = ["convert:e4m3fn:e2m1:rtz", "convert:e4m3fn:int4:rtz:wrap", "mul:e2m1:e4m3fn:e5m10",
       "add:e4m3fn:e2m1:e4m3fn:rdn", "quantize:nvfp4", "quantize:nvfp4-torchao", "quantize:nvfp4-ggml",
       "quantize:amxfp4", "quantize:mxfp4-rceil", "quantize:mxfp4-ceil", "quantize:mxfp4-even",
       "quantize:mxint8", "quantize:nf4", "quantize:bof4-s", "quantize:fp4-bnb", "quantize:amdfp4",
       "quantize:fouroversix-static-4"]  # fmt: skip
MANY = ["convert:e8m23:e2m1", "convert:e5m10:int8:rtz:wrap", "convert:e8m7:e8m0", "convert:e5m10:e4m3fn:rna:nan",
        "convert:e5m10:ue4m3fn", "mul:e5m10:e5m10:e5m10", "add:e5m10:e5m10:e5m10:rdn",
        "add:e8m23:e8m7:e8m23", "quantize:mxfp4", "quantize:amxfp4-fp32", "quantize:mxfp4-div3",
        "quantize:mxfp8-e5m2:e8m7"]  # fmt: skip
Capture = pytest.CaptureFixture[str]


def checked(text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    operation = parse_operation(text)
    write(plan_operation(operation, count=100), directory / "set", "readmemh")
    files = export_operation(operation, directory / "model.h")
    program = directory / "check"
    command = ["gcc", *FLAGS, *SANITIZE, str(files.check), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    arguments = [str(program), str(directory / "set" / "vectors.hex")]
    return subprocess.run(arguments, check=False, capture_output=True, text=True)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("text", [*FEW, *(pytest.param(t, marks=pytest.mark.sweep) for t in MANY)])
def test_every_vector(text: str, tmp_path: Path) -> None:
    result = checked(text, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "vectors match" in result.stdout


def test_a_wrong_vector_is_named(tmp_path: Path) -> None:
    checked(FEW[0], tmp_path)
    words = tmp_path / "set" / "vectors.hex"
    text = words.read_text()
    last = text.splitlines()[-1]
    words.write_text(text[: -len(last) - 1] + f"{int(last, 16) ^ 1 << 5:0{len(last)}x}\n")
    again = subprocess.run([tmp_path / "check", words], capture_output=True, text=True, check=False)
    assert again.returncode == 1 and ": y[0] expects" in again.stderr
    words.write_text("12\n")
    again = subprocess.run([tmp_path / "check", words], capture_output=True, text=True, check=False)
    assert again.returncode == 2 and "fpsim vectors --op convert:e4m3fn:e2m1:rtz" in again.stderr


def test_the_command_and_its_refusals(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "q.h"
    assert main(["export-c", "--op", "quantize:mxfp4", "--out", str(out)]) == 0
    assert "q_pkg.sv" in capsys.readouterr().out
    package = (tmp_path / "q_pkg.sv").read_text()
    assert "input  bit [1023:0] x" in package and "output bit [127:0] codes" in package
    out.unlink()
    for argv, message in [
        (["--op", "quantize:hif4", "--out", str(out)], "op: hif4 cannot be exported; it has levels"),
        (["--op", "quantize:mxfp4", "--k", "4", "--out", str(out)], "k: not for an operation"),
        (["--out", str(out)], "unit: missing; name one, a .toml file, or an operation with --op"),
        (["--op", "mul", "--out", str(out)], "op: 'mul' is not mul:A:B:RESULT"),
        (["--op", "convert:e5m10:e2m1", "--out", "x.c"], "out: x.c must end in .h"),
    ]:  # fmt: skip
        assert main(["export-c", *argv]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert not out.exists()
