# SPDX-License-Identifier: Apache-2.0
"""`fpsim check`: every kind, its exit status, JSON, and one sentence for bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fpsim.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")

FUNCTIONS = """
import numpy as np
from fpsim import RandomBits, get_block_format, get_format, get_unit

E2M1, MX = get_format("e2m1"), get_block_format("mxfp4")

def even(x):
    return E2M1.encode(x)

def away(x):
    return E2M1.encode(x, "rna")

def block(x):
    quantized = MX.quantize(x)
    return quantized.codes, quantized.scales

def gemm(a, b):
    return get_unit("e2m1-chain-e4m3").matmul(a, b)

def exact(a, b):
    return get_unit("e2m1-exact-e4m3").matmul(a, b)

def batched(a, b, c):
    unit = get_unit("e2m1-chain-e4m3")
    return np.stack([unit.matmul(*args) for args in zip(a, b, c)])

def coin(x, r):
    return E2M1.encode(x, "sr", random=r.astype(np.uint32), random_bits=4)

def fewer(x, r):
    return E2M1.encode(x, "sr", random=(r >> 1).astype(np.uint32), random_bits=3)

def raises(x):
    raise ValueError("no\\nway")

nothing = 3
"""
MAC = """#include <stdint.h>
uint8_t mac(uint8_t a, uint8_t b, uint8_t c) { return c; }
uint8_t convert(float x) { return 0; }
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    (tmp_path / "mac.c").write_text(MAC)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        "rounding mine.py:even --format e2m1 --inputs e4m3fn",
        "rounding mine.py:even --format e2m1 --inputs e4m3fn --mode any --any-zero",
        "block mine.py:block --format mxfp4",
        "dot mine.py:gemm --unit e2m1-chain-e4m3 --k 2 --count 50",
        "dot mine.py:batched --unit e2m1-chain-e4m3 --k 2 --count 50 --form batched --addend",
        "stochastic mine.py:coin --format e2m1 --random-bits 4",
    ],
)
def test_what_holds_ends_with_0(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *command.split()]) == 0
    assert ": held\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rounding mine.py:away --format e2m1 --inputs e4m3fn", "as if ties went away from zero"),
        (
            "rounding mine.py:away --format e2m1 --inputs e4m3fn --mode rtz",
            "FAILED    never across",
        ),
        ("block mine.py:block --format mxfp4-rceil", "simplest counterexample"),
        (
            "dot mine.py:exact --unit e2m1-chain-e4m3 --k 8 --count 50",
            "as if the sum were exact and",
        ),
        ("stochastic mine.py:fewer --format e2m1 --random-bits 4", "one random bit fewer"),
    ],
)
def test_what_fails_ends_with_1(
    command: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *command.split()]) == 1
    assert words in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_c_functions(capsys: pytest.CaptureFixture[str]) -> None:
    command = "check c mac.c --function convert --format e2m1 --json"
    assert main(command.split()) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["held"] is False
    assert found["failed"] > 0
    assert found["counterexample"]["line"]["seen"] == "0.0"
    assert main(["check", "c", "mac.c", "--function", "mac", "--unit", "e2m1-chain-e4m3"]) == 1
    assert "of mac.c:mac against e2m1-chain-e4m3: FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rounding mine:even --format e9", "format: "),
        ("rounding even --format e2m1", "is not MODULE:NAME"),
        ("rounding nowhere.py:even --format e2m1", "nowhere.py cannot be imported"),
        ("rounding mine.py:absent --format e2m1", "mine.py has no 'absent'"),
        ("rounding mine.py:nothing --format e2m1", "is not a function"),
        ("rounding mine.py:raises --format e2m1", "raises raised ValueError (no way)"),
        ("rounding mine.py:even --format e2m1 --inputs e8m23", "inputs: e8m23 has 32 bits"),
        ("block mine.py:even --format mxfp4", "codes need their scales beside them"),
        ("dot mine.py:gemm --unit nobody", "unit: "),
        ("dot mine.py:gemm --unit e2m1-chain-e4m3 --tolerance 1", "needs a reason"),
        ("stochastic mine.py:coin --format e2m1 --random-bits 99", "random_bits: 99"),
        ("c nowhere.c --function f --format e2m1", "nowhere.c does not exist"),
        ("c mac.c --function f", "give either a unit"),
    ],
)
def test_bad_input_is_one_sentence(
    command: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *command.split()]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1
