# SPDX-License-Identifier: Apache-2.0
"""Command lines that were damaged: an exit status, one sentence, and nothing half written."""

from __future__ import annotations

import contextlib
import io
from functools import cache
from pathlib import Path

import pytest
from support.fuzzing import fuzz

import fpsim
from fpsim import cli

pytestmark = pytest.mark.fuzz

#: Between the words of a command line in an input.
GAP = "\x1f"
LINES = (
    "formats", "formats e2m1", "formats nvfp4", "formats e4m3fn --json",
    "encode e2m1 2.5 -0.3 7 --rounding rna", "encode e4m3fn 1e9 nan --nan zero --flags --json",
    "encode e2m1 0.3 --rounding sr --random 3 --random-bits 4", "decode e2m1 0x7 15 --json",
    "decode e4m3fn 0b111 --daz", "units", "units grammar", "units e2m1-chain-e5m10",
    "units nvidia-h100-e4m3 --json", "units unit.toml", "size e2m1-chain-e4m3 codes.npz",
    "order e2m1-chain-e4m3 codes.npz --result 0 0 --random-orders 3 --seed 2",
    "vectors e2m1-chain-e4m3 --out out/set --count 3 --strategy random --seed 5 --k 1",
    "vectors --check out/set", "explain out/set --line 2", "coverage out/set",
    "export-c e2m1-chain-e4m3 --out out/mac.h", "check rounding mine.py:f --format e2m1",
)  # fmt: skip


def test_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np = pytest.importorskip("numpy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "parser", cache(cli.parser))  # most of the time goes into making it
    np.savez("codes.npz", a=np.ones((2, 4), np.uint8), b=np.ones((4, 2), np.uint8))
    Path("unit.toml").write_text(fpsim.get_unit("e2m1-chain-e5m10").spec.to_toml())
    Path("mine.py").write_text("def f(x):\n    return x[:3]\n")

    def feed(data: bytes) -> None:
        words = [word for word in data.decode("utf-8", "surrogateescape").split(GAP) if word]
        if any("\0" in word for word in words) or any(
            len(word) > 4 and word.isdigit() for word in words
        ):
            raise fpsim.FpsimError("no shell passes NUL; large counts are large tasks")
        out, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
            try:
                status = cli.main(words)
            except SystemExit as stop:  # argparse
                status = stop.code
        left = [
            path for path in tmp_path.rglob(".*") if path.suffix in (".tmp", ".partial", ".old")
        ]
        assert not left, left
        assert status in (0, 1, 2), status
        if status == 2 and not said.getvalue().startswith("usage:"):
            sentence = said.getvalue().removeprefix("fpsim: ").removesuffix("\n")
            raise fpsim.FpsimError(sentence) if "\n" not in sentence else AssertionError(sentence)

    fuzz([GAP.join(line.split()).encode() for line in LINES], feed)
