# SPDX-License-Identifier: Apache-2.0
"""Inputs that no parser should see: each is one short sentence, at once."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim import FpsimError, vectors
from fpsim.base.errors import MAX_MESSAGE, shortened
from fpsim.base.input_files import MAX_TOML, read_bounded
from fpsim.blocks.block_format import BlockFormat
from fpsim.blocks.grids import Table
from fpsim.cli import main
from fpsim.hdl.dut.dut import Place
from fpsim.hdl.dut.dut_toml import read_dut
from fpsim.vectors.files.shards import Shard
from fpsim.vectors.files.writer import merge_shards

TEXTS: dict[str, bytes] = {
    "nested tables": b"x=" + b"{a=" * 2000 + b"1" + b"}" * 2000,
    "nested lists": b"x=" + b"[" * 5000 + b"]" * 5000,
    "dotted keys": b"a." * 25000 + b"a=1",
    "spaced dots": b"a . " * 25000 + b"a=1",
    "an integer of 6000 digits": b"x=" + b"9" * 6000,
    "a long key": b"k" * 100000 + b"=1",
    "a long value": b"name='" + b"v" * 100000 + b"'",
    "no text": bytes(range(256)) * 20,
    "more than a file may have": b"#" * (MAX_TOML + 1),
}
READERS: dict[str, Callable[[Any], Any]] = {
    "unit": fpsim.get_unit,
    "block format": fpsim.get_block_format,
    "design": read_dut,
}


def refused(call: Callable[[], object]) -> str:
    begun = time.process_time()
    with pytest.raises(FpsimError) as error:
        call()
    assert time.process_time() - begun < 2
    assert len(str(error.value)) <= MAX_MESSAGE + 100
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", TEXTS)
def test_files(reader: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(TEXTS[text])
    assert "x.toml: " in refused(lambda: READERS[reader](file))


@pytest.mark.parametrize("reader", READERS)
def test_paths_that_cannot_be(reader: str, tmp_path: Path) -> None:
    for name in ("a\0b.toml", "a\udc80b.toml", "x" * 5000 + ".toml"):
        assert "cannot be read" in refused(partial(READERS[reader], Path(name)))
    assert "more than" in refused(lambda: read_bounded("/dev/zero", 1 << 16))


@pytest.mark.parametrize("get", [fpsim.get_format, fpsim.get_block_format, fpsim.get_unit])
def test_names(get: Callable[[str], Any]) -> None:
    for name in ("e2m1b" + "9" * 6000, "int" + "9" * 6000, "e2m1-" * 20000, "e2m1-fixed" + "9" * 1900,
                 "e2m1-\n", "e\u0662m\u0661", "e2\0m1", "\udc80"):  # fmt: skip
        refused(partial(get, name))


def test_long_messages_keep_their_ends() -> None:
    text = shortened("unit: '" + "x" * 9000 + "' is no unit")
    assert text.startswith("unit: 'xxx")
    assert text.endswith("' is no unit")
    assert "8702 characters left out" in text
    assert len(shortened("word " * 9000)) < MAX_MESSAGE + 100
    assert shortened("a\x1b[2Jb\0") == r"a\x1b[2Jb\x00"
    assert str(FpsimError("y" * 5000)) == shortened("y" * 5000)


def test_outputs_that_no_file_system_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = vectors.plan(fpsim.get_unit("e2m1-chain-e4m3"), count=1, strategy="random")
    for name in ("a\0b", "x" * 5000):
        assert "out: " in refused(partial(vectors.write, planned, name))
    assert main(["export-c", "e2m1-chain-e4m3", "--out", "x" * 300 + ".h"]) == 2
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["units", "--json\n"], "has a line break"),
        (["un\nits"], "has a line break"),
        (["decode", "e2m1", "x\ny"], "has a line break"),
        (["order", "e2m1-chain-e4m3", "codes.npz\r\n"], "has a line break"),
        (["export-c", "e2m1-chain-e4m3", "--out", "m\udcab.h"], "is not UTF-8"),
    ],
)
def test_command_lines_that_no_file_holds(
    words: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("fpsim: argument ")
    assert said.endswith(f" {fault}\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", ["size", "order"])
@pytest.mark.parametrize("kind", ["zip", "array", "shape", "name"])
def test_operand_files(
    command: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "codes.npz"
    np.savez(file, a=np.ones((2, 4), np.uint8), b=np.ones((4, 2), np.uint8))
    data = file.read_bytes()
    if kind == "zip":
        file.write_bytes(b"PK\3\4" + data[9:])
    elif kind == "array":
        with file.open("wb") as opened:
            np.save(opened, np.ones(3))
    elif kind == "shape":
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000, 4)}\n"
        with zipfile.ZipFile(file, "w") as made:
            made.writestr("a.npy", b"\x93NUMPY\1\0" + bytes([len(header), 0]) + header)
            made.writestr("b.npy", b"")
    else:
        file.write_bytes(data.replace(b"a.npy", b"\xff.npy"))
    assert main([command, "e2m1-chain-e4m3", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fpsim: {file}: ")
    assert said.count("\n") == 1


def test_long_tables_come_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.process_time()
    assert main(["formats", "e5m10"]) == 0
    assert time.process_time() - begun < 5
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (1 << 16) + 2
    assert lines[2 + 0x3C00].split() == ["15360", "0011110000000000", "1.0", "0.0009765625"]


def test_numbers_beyond_float64_are_one_sentence() -> None:
    with pytest.raises(FpsimError, match="table: a value is beyond float64"):
        Table((10**400, *range(15)))
    described = fpsim.get_block_format("mxfp4-div3").to_dict() | {"target": 10**400}
    with pytest.raises(FpsimError, match="target: an integer of 1329 bits is beyond float64"):
        BlockFormat.from_dict(described)


def test_an_index_of_thousands_of_digits_is_one_sentence() -> None:
    with pytest.raises(FpsimError, match="port: .* is not a port such as data"):
        Place.parse(f"ab[3:{'9' * 5000}]", "port")


def test_a_header_without_its_last_line_break_is_named(tmp_path: Path) -> None:
    plan = vectors.plan(fpsim.get_unit("e2m1-chain-e4m3"), count=5, strategy="random")
    made = vectors.write(plan, tmp_path / "set", ("readmemh", "svh"))
    (package,) = made.glob("*.svh")
    package.write_bytes(package.read_bytes()[:-1])
    with pytest.raises(FpsimError, match="without an end"):
        vectors.check(made)


def test_shards_whose_numbers_are_written_differently_do_not_join(tmp_path: Path) -> None:
    """3 and 3.0 are equal in Python and make other files."""
    plan = vectors.plan(fpsim.get_unit("e2m1-chain-e4m3"), count=5, strategy="random")
    for i in (1, 2):
        vectors.write(plan, tmp_path / "set", shard=Shard(i, 2))
    description = tmp_path / "set.shard-1-of-2" / "shard.json"
    text = description.read_text()
    assert '"schema": 3' in text
    description.write_text(text.replace('"schema": 3', '"schema": 3.0', 1))
    with pytest.raises(FpsimError, match="not part of the same set .*; its schema is 3, not 3.0"):
        merge_shards(tmp_path / "set")


@pytest.mark.parametrize(
    "words",
    [
        ["order", "e2m1-chain-e4m3", "codes.npz"],
        ["check", "dot", "of_seeds.py:f", "--unit", "e2m1-chain-e4m3"],
        ["check", "block", "of_seeds.py:f", "--format", "mxfp4"],
        ["plot", "error", "--data", "normal", "--out", "error.svg"],
        ["vectors", "e2m1-chain-e4m3", "--out", "set", "--count", "3"],
    ],
)
def test_seeds_below_zero(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if words[0] == "plot":
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    np.savez("codes.npz", a=np.ones((1, 4), np.uint8), b=np.ones((4, 1), np.uint8))
    Path("of_seeds.py").write_text("def f(x):\n    return x\n")
    assert main([*words, "--seed", "-2"]) == 2
    assert capsys.readouterr().err == "fpsim: seed: -2 is not an integer in 0..2^64 - 1\n"
