# SPDX-License-Identifier: Apache-2.0
"""Sets of dot products: every stage kind against the oracle, files, checks, one vector explained."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.text_edits import edit, flip

from fpsim import FpsimError, get_unit, oracle
from fpsim.base.philox import Philox
from fpsim.cli import main
from fpsim.kernels.codec.hex_words import philox_words
from fpsim.vectors.explanation import explain
from fpsim.vectors.files.checker import check
from fpsim.vectors.files.file_formats import FORMATS
from fpsim.vectors.files.opened_set import open_set
from fpsim.vectors.files.writer import parse_formats, write
from fpsim.vectors.plans.planner import plan as plan_set
from fpsim.vectors.sets.record import Columns, Op, Record
from fpsim.vectors.sets.vector_set import VectorPlan

pytestmark = pytest.mark.usefixtures("one_thread")

UNITS = [
    "e2m1-chain-e5m10",
    "e2m1-fixed24q2",
    "e2m1-exact-e8m7",
    "e2m1-aligned4f5-e5m10",
    "e2m1-tree8-e5m10",
    "e2m1-chunked4-of-chain-e5m10-into-chain-e8m23",
    "e2m1-block8-into-chain-e8m23",
    "e2m1.e5m2.split-block4-into-chain-e8m7",
    "e2m1.ue4m3fn-block4-into-aligned2f9-e8m7",
    "e2m1-fixed16q2-to-e5m10",
]


def oracle_acc(record: Record, columns: Columns, rows: range) -> list[int]:
    """Return what the oracle says after each vector, from the accumulator the set says before."""
    out = []
    for i in rows:
        row = {name: column[i] for name, column in columns.items()}
        before = int(columns["acc"][i - 1]) if i else 0
        op = Op(int(row["op"]))
        if op in (Op.DOT, Op.MAC):
            c = row["c"] if op is Op.DOT else np.asarray(before, record.spec.initial.dtype)
            before = int(oracle.dot(record.spec, row["a"], row["b"], c, **record.scales(row)))
        elif op is not Op.IDLE:
            before = int(row["c"]) if op is Op.LOAD else 0
        out.append(before)
    return out


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", UNITS)
def test_vectors_are_the_oracles(name: str) -> None:
    """A few of each section; all of the streams, whose state goes from line to line."""
    plan = plan_set(get_unit(name), count=64)
    columns = plan.columns()
    for section in plan.sections:
        count = section.count if section.name.endswith("streams") else 6
        rows = range(section.start, section.start + min(count, section.count, 40))
        assert columns["acc"][rows.start : rows.stop].tolist() == oracle_acc(
            plan.record, columns, rows
        ), section.name


def test_streams_only_where_results_are_addends() -> None:
    assert "streams" in {s.name for s in plan_set(get_unit(UNITS[0])).sections}
    converted = plan_set(get_unit("e2m1-fixed16q2-to-e5m10"))
    assert not {"streams", "random-streams"} & {s.name for s in converted.sections}


def test_every_operand_pair_is_there() -> None:
    plan = plan_set(get_unit("e2m1-aligned4f5-e5m10"), strategy="exhaustive")
    columns = plan.columns()
    lanes = np.arange(plan.count)
    pairs = set(zip(columns["a"][lanes, lanes % 4], columns["b"][lanes, lanes % 4], strict=True))
    assert len(pairs) == 256


def test_blocks_do_not_depend_on_each_other() -> None:
    """Any process can make any block: the second alone is the second of all."""
    plan = plan_set(get_unit("e2m1-fixed24q2"), strategy="random", count=70000, k=2)
    part = max(range(len(plan.parts)), key=lambda i: plan.parts[i].blocks)
    assert plan.parts[part].blocks > 1 or plan.count > 70000 // 2
    again = plan_set(get_unit("e2m1-fixed24q2"), strategy="random", count=70000, k=2)
    for name, column in plan.block(part, 0).items():
        assert np.array_equal(column, again.block(part, 0)[name]), name


@pytest.mark.sweep
def test_bytes_do_not_depend_on_pythons_hashes() -> None:
    """Sets and dicts of strings have another order in every process; corner classes have not."""
    code = (
        "import hashlib; from fpsim import get_unit; from fpsim.vectors import plan; "
        "columns = plan(get_unit('e2m1-chain-e4m3fn'), strategy='directed').columns(); "
        "print(hashlib.sha256(b''.join(c.tobytes() for c in columns.values())).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


def test_compiled_philox_is_philox() -> None:
    out = np.empty(23, dtype=np.uint32)
    philox_words(np.uint64(0xFEDCBA9876543210), np.uint64(5), 8, out)
    stream = Philox(0xFEDCBA9876543210, 5)
    stream.words(8)
    assert out.tolist() == stream.words(23).tolist()


# -- files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan() -> VectorPlan:
    return plan_set(get_unit("e2m1-block8-into-chain-e8m23"), strategy="random", count=200)


@pytest.fixture
def written(plan: VectorPlan, tmp_path: Path) -> Path:
    return write(plan, tmp_path / "set", FORMATS)


def test_files_hold_the_set(plan: VectorPlan, written: Path) -> None:
    opened = check(written)
    columns, again = plan.columns(), opened.columns()
    for name, column in columns.items():
        assert np.array_equal(column, again[name]), name
    lines = (written / "vectors.hex").read_text().splitlines()[opened.head_lines :]
    first = int(lines[0], 16)
    fields = {f.name: (first >> f.lsb) & ((1 << f.width) - 1) for f in opened.record.fields}
    assert fields["acc"] == columns["acc"][0]
    assert [fields["a"] >> (4 * i) & 15 for i in range(8)] == columns["a"][0].tolist()
    row = json.loads((written / "vectors.jsonl").read_text().splitlines()[1])
    assert {k: int(v, 16) for k, v in row.items()} == fields
    names, values = (written / "vectors.csv").read_text().splitlines()[1:3]
    assert dict(zip(names.split(","), values.split(","), strict=True)) == row
    upper = (written / "vectors.txt").read_text().splitlines()[0]
    assert upper == " ".join(row.values()).upper()
    text = (written / "vectors_pkg.svh").read_text()
    assert "logic [7:0][3:0] a;" in text
    assert f"WORD_BITS = {opened.record.word_bits};" in text


@pytest.mark.parametrize("file", ["vectors.hex", "vectors.csv", "vectors_pkg.svh"])
def test_headers_state_what_they_must(written: Path, file: str) -> None:
    """Unit, schema, seed, count, field positions and SHA-256."""
    opened = open_set(written)
    lines = (written / file).read_text().splitlines()
    head = " ".join(line for line in lines if line.startswith(("//", "#")))
    digest = opened.manifest["files"][file if file != "vectors_pkg.svh" else "vectors.hex"]
    assert f"sha256 {digest['sha256']}" in head
    assert opened.record.spec.canonical_name in head
    assert "schema 3" in head and "seed 1" in head
    assert "count 200" in head or "200 vectors" in head
    for f in opened.record.fields:
        assert f"[{f.lsb + f.width - 1}:{f.lsb}]" in head, f.name


def test_arrays_have_a_header(written: Path) -> None:
    opened = open_set(written)
    with np.load(written / "vectors.npz") as arrays:
        header = json.loads(str(arrays["header"]))
        others = {name: arrays[name] for name in arrays.files if name != "header"}
    digest = opened.manifest["files"]["vectors.hex"]["sha256"]
    assert header == opened.header | {"sha256": digest}
    np.savez(written / "vectors.npz", header=np.array(json.dumps(header | {"seed": 2})), **others)
    manifest = json.loads((written / "manifest.json").read_text())
    data = (written / "vectors.npz").read_bytes()
    manifest["files"]["vectors.npz"]["sha256"] = hashlib.sha256(data).hexdigest()
    (written / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FpsimError, match=r"vectors\.npz: array header is not"):
        check(written)


@pytest.mark.sweep
def test_processes_do_not_change_bytes(plan: VectorPlan, written: Path, tmp_path: Path) -> None:
    other = write(plan, tmp_path / "other", FORMATS, jobs=2)
    for file in written.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes(), file.name


def test_a_wrong_result_is_named(written: Path) -> None:
    edit(written / "vectors.hex", 60, lambda text: flip(len(text) - 1)(text))
    with pytest.raises(FpsimError, match=r"vectors\.hex:60: vector \d+ \(random\) expects acc"):
        check(written)


@pytest.mark.parametrize(
    ("file", "line", "change", "words"),
    [
        ("vectors.hex", 60, flip(3), r"vectors\.hex:60|SHA-256"),
        ("vectors.hex", 40, lambda _: "xyz\n", r"vectors\.hex:40"),
        ("vectors.hex", 40, lambda text: text.upper().replace("0", "G"), r"vectors\.hex:40"),
        ("vectors.hex", 2, lambda _: "// unit other\n", r"vectors\.hex:2: .*other"),
        ("vectors.hex", 40, lambda _: "", r"vectors\.hex:\d+"),
        ("vectors.jsonl", 40, lambda text: text.replace("0", "1"), r"vectors\.jsonl:40: vector 38"),
        ("vectors.csv", 1, lambda text: text.replace("seed 1", "seed 2"), r"vectors\.csv:1"),
        ("vectors.txt", 5, lambda text: text.lower(), r"vectors\.txt:5: vector 4"),
        ("vectors_pkg.svh", 5, lambda text: text + "//\n", r"vectors_pkg\.svh:\d"),
    ],
)
def test_edited_files(written: Path, file: str, line: int, change: Any, words: str) -> None:
    edit(written / file, line, change)
    with pytest.raises(FpsimError, match=words):
        check(written)


@pytest.mark.parametrize("file", ["vectors.hex", "vectors.jsonl", "vectors.csv", "vectors.txt"])
@pytest.mark.parametrize("line", [30, 200])
def test_a_longer_line_is_named(written: Path, file: str, line: int) -> None:
    edit(written / file, line, lambda text: text.replace("\n", "zz\n"))
    with pytest.raises(FpsimError, match=rf"{file}:{line}: .*zz' is not a (word|line) of \d+ "):
        check(written)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 4}, "schema 4"),
        ({"count": 7}, "count|sections|vectors"),
        ({"k": 16}, "fields"),
        ({"k": "8"}, "k is missing"),
        ({"group": 3}, "multiple"),
        ({"canonical": "e2m1-chain-e5m10"}, "canonical"),
        ({"files": {}}, "vectors.hex"),
        ({"unit": {}}, "operands"),
        ({"sections": [{"name": "x"}]}, "sections"),
    ],
    ids=str,
)
def test_manifests_that_do_not_fit(written: Path, change: dict[str, Any], words: str) -> None:
    path = written / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FpsimError, match=words):
        check(written)


def test_truncated(written: Path) -> None:
    data = (written / "vectors.hex").read_bytes()
    (written / "vectors.hex").write_bytes(data[: len(data) // 2])
    with pytest.raises(FpsimError, match=r"vectors\.hex:\d+: .*(ends after|not a word)"):
        check(written)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_that_looks_complete_is_left_behind(
    plan: VectorPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("fpsim.vectors.files.writer.package", fail)
    kind = FpsimError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(kind):
        write(plan, tmp_path / "set", ("svh",))
    assert [p.name for p in tmp_path.iterdir()] == [".set.partial"]
    assert not (tmp_path / ".set.partial" / "manifest.json").exists()
    with pytest.raises(FpsimError, match="cannot be read"):
        open_set(tmp_path / "set")
    monkeypatch.undo()
    check(write(plan, tmp_path / "set", ("svh",)))
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "count: 0"),
        ({"count": "9"}, "count: '9'"),
        ({"seed": -1}, "seed: -1"),
        ({"strategy": "some"}, "strategy: 'some'"),
        ({"k": 0}, "k: 0"),
        ({"k": 5000}, "k: 5000"),
        ({"group": 3}, "group: 3"),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(FpsimError, match=words):
        plan_set(get_unit("e2m1-block8-into-chain-e8m23"), **arguments)


def test_formats_are_named() -> None:
    assert parse_formats("npz, csv") == ("readmemh", "csv", "npz")
    with pytest.raises(FpsimError, match="format: 'cvs'.*csv"):
        parse_formats("cvs")


# -- one vector ----------------------------------------------------------------------------------


def test_explain_ends_in_the_expected_result(written: Path) -> None:
    opened = open_set(written)
    found = explain(written, opened.head_lines + 3)
    assert found.right and found.index == 2
    names = {node.name for node in found.nodes}
    assert {"s[g0]", "p[g0]", "acc"} <= names
    assert f"result 0x{found.computed:x}, flags none, as expected" in str(found)
    for line in (1, opened.head_lines, opened.head_lines + opened.count + 1, 0):
        with pytest.raises(FpsimError, match="line"):
            explain(written, line)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "set")
    assert main(["vectors", "e2m1-tree8-e5m10", "--out", out, "--strategy", "directed"]) == 0
    assert main(["vectors", "--check", out]) == 0
    assert main(["explain", out, "--line", "100"]) == 0
    assert "n3[0]" in capsys.readouterr().out
    path = Path(out) / "vectors.hex"
    edit(path, 100, lambda text: flip(len(text) - 1)(text))
    assert main(["explain", out, "--line", "100"]) == 1
    assert "BUT THE FILE EXPECTS" in capsys.readouterr().out
    stream = str(tmp_path / "stream")
    command = ["vectors", "e2m1-fixed24q2", "--out", stream, "--group", "1", "--start", "load"]
    assert main(command) == 0
    assert main(["explain", stream, "--line", "5000"]) == 0
    assert main(["vectors", "e2m1-fixed16q2-to-e5m10", "--out", out, "--start", "clear"]) == 2
    assert "start: 'clear' accumulates, but results of" in capsys.readouterr().err
