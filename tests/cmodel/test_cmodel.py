# SPDX-License-Identifier: Apache-2.0
"""The exported C model gives every vector's result, compiled with every warning an error."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fpsim import FpsimError, get_unit
from fpsim.cli import main
from fpsim.cmodel import export_c
from fpsim.vectors.files.writer import write
from fpsim.vectors.plans.planner import plan as plan_set

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
    pytest.mark.usefixtures("one_thread"),
]

FLAGS = ["-std=c99", "-O1", "-pedantic", "-Wall", "-Wextra", "-Werror"]
SANITIZE = ["-fsanitize=undefined", "-fno-sanitize-recover"]
#: Chunks of chunks whose three sums take 3, 6 and 5 bits of their random integers.
NESTED = "e2m1-chunked5-of-chunked2-of-chain-e4m3-sr3-into-fixed12q2-sr6-into-exact-e5m10-sr5"
UNITS = [
    "e2m1-chain-e5m10",
    "e2m1-fixed24q2",
    "e2m1-exact-e8m7",
    "e2m1-aligned4f5-e5m10",
    "e2m1-tree8-e5m10",
    "e2m1-chunked4-of-chain-e5m10-into-chain-e8m23",
    "e2m1.e5m2.split-block4-into-chain-e8m7",
    "e2m1-chain-e4m3fn-sr6",
    "e2m1-fixed12q0-sr1-saturate",
    "e5m2-block4-into-chain-e8m23",
    "e8m23-chain-e8m23",
    NESTED,
]
SLOW = [
    "e8m23-aligned4f24-e8m23",
    "int32-chain-e8m23",
    "int32-fixed64q0",
    "e2m1-chain-e4m3fn-rdn-rounded",
    "e2m1-fixed8q0-rna-saturate-end",
    "e2m1-fixed16q2-to-e5m10",
    "e2m1-aligned8f13-e8m13-late-in.e8m23",
    "e2m1-tree-e5m10-rtz-radix3-lanes4-leaf",
    "e2m1-tree4-e8m7-fused",
    "e2m1-block8-into-chain-e8m23",
    "e2m1-block8-into-chain-e5m2-sr7",
    "e5m2-exact-e3m2-sr5",
    "e2m1.e5m2.split-block2-into-split3-of-chain-e5m2-sr7-into-chunked2-of-tree-e8m7-into-chain-e8m23",
    "e2m1-split2-of-block4-into-chunked3-of-aligned4f9-e8m7-into-chain-e4m3-sr2-into-exact-e8m7-sr9",
    "e4m3fn-fixed20q4-sr12",
    "e2m1.ue4m3fn-block4-to-e5m10-nanzero-into-aligned2f9-e8m7",
    "e5m2.e8m23.split-block4-into-chain-e8m7",
    "e5m2-block4-into-aligned2f15-e8m13-by.rne",
    "e4m3.e8m23-fixed40q10-sr6-saturate",
    "e5m2-block4-into-tree4-e8m7-radix3-leaf",
    "nvidia-b200-nvf4", "amd-cdna3-e4m3", "amd-cdna3-fp16", "intel-amx-bf16", "amd-cdna2",
        "nvidia-l40s-e4m3", "nvidia-b200-mma-e4m3", "nvidia-h100-fp16", "amd-cdna1b"]  # fmt: skip


#: Units of other stages, which the exact model alone evaluates: no kernel is compiled for them.
FLAGGED = [
    "e2m1-chain-e4m3fn-rdn-rounded",
    "e2m1-fixed8q0-rna-saturate-end",
    "e2m1-fixed16q2-to-e5m10",
    "e2m1-aligned8f13-e8m13-late-in.e8m23",
    "e2m1-tree-e5m10-rtz-radix3-lanes4-leaf",
    "e2m1-split2-of-block4-into-chain-e5m10-into-chain-e8m7",
    "e2m1-block2-into-chunked3-of-chain-e4m3-into-exact-e8m7",
    "e2m1.ue4m3fn-block4-to-e5m10-nanzero-into-aligned2f9-e8m7",
    "amd-cdna3-e4m3",
]  # fmt: skip


def run_check(
    name: str, directory: Path, *, count: int = 200, flags: bool = False
) -> subprocess.CompletedProcess[str]:
    strategy = "random" if flags else "mixed"  # the exact model takes milliseconds per vector
    plan = plan_set(get_unit(name), strategy=strategy, count=count, flags=flags)
    write(plan, directory / "set", "readmemh")
    files = export_c(get_unit(name), directory / "mac.h", flags=flags)
    program = directory / "check"
    command = ["gcc", *FLAGS, *SANITIZE, str(files.check), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    arguments = [str(program), str(directory / "set" / "vectors.hex")]
    return subprocess.run(arguments, check=False, capture_output=True, text=True)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", UNITS)
def test_every_vector(name: str, tmp_path: Path) -> None:
    result = run_check(name, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "vectors match" in result.stdout


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", [*UNITS, *FLAGGED])
def test_every_flag(name: str, tmp_path: Path) -> None:
    """The C model raises its flags where its integers lose bits, the oracle by fractions."""
    result = run_check(name, tmp_path, flags=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_flag_of_more_units(name: str, tmp_path: Path) -> None:
    result = run_check(name, tmp_path, flags=True, count=400)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_vector_of_more_units(name: str, tmp_path: Path) -> None:
    result = run_check(name, tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_check_can_fail(tmp_path: Path) -> None:
    run_check("e2m1-chain-e5m10", tmp_path, count=10)
    header = (tmp_path / "mac.h").read_text()
    broken = header.replace("return half && (rest || odd);", "return half;")
    assert broken != header
    (tmp_path / "mac.h").write_text(broken)
    command = ["gcc", *FLAGS, str(tmp_path / "mac_check.c"), "-o", str(tmp_path / "check")]
    subprocess.run(command, check=True)
    arguments = [str(tmp_path / "check"), str(tmp_path / "set" / "vectors.hex")]
    result = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert "expects" in result.stderr


def test_a_word_without_an_operation_is_named(tmp_path: Path) -> None:
    assert run_check("e2m1-chain-e5m10", tmp_path, count=10).returncode == 0
    file = tmp_path / "set" / "vectors.hex"
    lines = file.read_text().splitlines()
    lines[-1] = f"{int(lines[-1], 16) | 7 << 40:011x}"
    file.write_text("\n".join(lines))
    command = [str(tmp_path / "check"), str(file)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert f"vectors.hex:{len(lines)}: its first field is no operation" in result.stderr


def test_a_set_of_another_record_is_named(tmp_path: Path) -> None:
    """Four elements a vector are not what the program checks that `export-c` makes by default."""
    name = "e2m1-chain-e5m10"
    unit = get_unit(name)
    other = write(plan_set(unit, strategy="random", count=50, k=4), tmp_path / "set")
    files, program = export_c(unit, tmp_path / "mac.h"), tmp_path / "check"
    subprocess.run(["gcc", *FLAGS, str(files.check), "-o", str(program)], check=True)
    arguments = [str(program), str(other / "vectors.hex")]
    result = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert result.returncode == 2
    lines = (other / "vectors.hex").read_text().splitlines()
    first = next(i for i, line in enumerate(lines, 1) if not line.startswith("//"))
    assert f"vectors.hex:{first}: not a word of 11 digits" in result.stderr
    assert f"(schema 3) of {name}: K = 1 elements, no scales, no flags" in result.stderr
    command = f"fpsim vectors {name} --k 1 --group 0 --out "
    assert command in result.stderr


@pytest.mark.parametrize("options", [[], ["--format", "csv"], ["--start", "load"]])
@pytest.mark.parametrize("name", ["e2m1-chain-e5m10", "e2m1-fixed24q2", "e2m1-tree8-e5m10"])
def test_what_vectors_makes_by_default_is_checked_by_default(
    name: str, options: list[str], tmp_path: Path
) -> None:
    """Whatever the format of the files and the start of the sums, the words are the same."""
    files, program = export_c(get_unit(name), tmp_path / "mac.h"), tmp_path / "check"
    subprocess.run(["gcc", *FLAGS, str(files.check), "-o", str(program)], check=True)
    out = str(tmp_path / "set")
    command = ["vectors", name, "--count", "20", "--strategy", "random", "--out", out]
    assert main([*command, *options]) == 0
    arguments = [str(program), f"{out}/vectors.hex"]
    assert subprocess.run(arguments, check=False, capture_output=True).returncode == 0


def test_no_floating_point_in_the_header(tmp_path: Path) -> None:
    files = export_c(get_unit("e2m1-block8-into-chain-e8m23"), tmp_path / "mac.h")
    text = files.header.read_text()
    assert "float" not in text.replace("floating", "") and "double" not in text
    assert get_unit("e2m1-block8-into-chain-e8m23").spec.equation in text
    assert 'import "DPI-C"' in files.package.read_text()
    assert "@" not in text


@pytest.mark.parametrize(
    ("name", "out", "words"),
    [
        ("e2m1-chain-e5m10", "mac.c", r"must end in \.h"),
    ],
)
def test_refusals(name: str, out: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(FpsimError, match=words):
        export_c(get_unit(name), tmp_path / out)
    assert not list(tmp_path.iterdir())
